//! What sbatch is given.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SlurmError;
use super::command::run;
use super::order::shell;

/// Most steps of one array: Slurm's own default allows 1001 (slurm.conf(5), MaxArraySize).
pub const MOST_TASKS: usize = 500;
/// How often it is tried where Slurm is busy.
const TRIES: u64 = 5;

/// One submission: a job, or an array of jobs that ask for the same, and wait for the same ones or each for its own in
/// other arrays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    pub name: String,
    /// What tells it from all others.
    pub mark: String,
    pub cpus: usize,
    /// Memory of each, in MiB.
    pub mebibytes: u64,
    /// Time limit of each, in minutes.
    pub minutes: Option<u64>,
    /// Numbers of its tasks, ascending; a single one is no array.
    pub tasks: Vec<usize>,
    /// Jobs that must have ended well before.
    pub after: After,
    pub output: PathBuf,
    pub script: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct After {
    /// Jobs that all of its tasks wait for: ids, with the task's of an array.
    pub all: Vec<String>,
    /// Arrays of whose tasks each of its own waits for the one of its number.
    pub same_task: Vec<String>,
}

impl After {
    /// From the jobs that each task waits for. None where no dependency of an array says that.
    pub fn of(waits: &BTreeMap<usize, BTreeSet<String>>) -> Option<Self> {
        let mut sets = waits.values();
        let first = sets.next().cloned().unwrap_or_default();
        let all = sets.fold(first, |all, one| all.intersection(one).cloned().collect());
        let arrays = |(task, jobs): (&usize, &BTreeSet<String>)| -> Option<BTreeSet<String>> {
            let array = |job: &String| Some(job.strip_suffix(&format!("_{task}"))?.to_owned());
            jobs.difference(&all).map(array).collect()
        };
        let mut same = waits.iter().map(arrays);
        let same_task = same.next().unwrap_or_default()?;
        same.all(|one| one.as_ref() == Some(&same_task))
            .then(|| Self { all: all.iter().cloned().collect(), same_task: same_task.into_iter().collect() })
    }

    /// As sbatch has it; none where it waits for nothing. Source: sbatch(1), --dependency.
    fn word(&self) -> Option<String> {
        let kinds = [("afterok", &self.all), ("aftercorr", &self.same_task)];
        let kinds = kinds.iter().filter(|(_, jobs)| !jobs.is_empty());
        let kinds: Vec<String> = kinds.map(|(kind, jobs)| format!("{kind}:{}", jobs.join(":"))).collect();
        (!kinds.is_empty()).then(|| format!("--dependency={}", kinds.join(",")))
    }
}

/// Numbers as sbatch takes them: `0-2,5`.
fn ranges(tasks: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for task in tasks {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *task => *last = *task,
            _ => ranges.push((*task, *task)),
        }
    }
    let text = |(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

impl Submission {
    pub fn is_array(&self) -> bool {
        self.tasks.len() > 1
    }

    fn alone(&self) -> Option<usize> {
        self.tasks.first().copied().filter(|_| !self.is_array())
    }

    pub fn words(&self, options: &[String]) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let mut add = |text: String| words.push(text.into());
        add("--parsable".to_owned());
        add(format!("--job-name={}", self.name));
        add(format!("--comment={}", self.mark));
        add("--nodes=1".to_owned());
        add("--ntasks=1".to_owned());
        add(format!("--cpus-per-task={}", self.cpus));
        add(format!("--mem={}M", self.mebibytes));
        if let Some(minutes) = self.minutes {
            add(format!("--time={minutes}"));
        }
        if self.is_array() {
            add(format!("--array={}", ranges(&self.tasks)));
        }
        if let Some(word) = self.after.word() {
            add(word);
            add("--kill-on-invalid-dep=yes".to_owned());
        }
        add("--requeue".to_owned());
        // Nothing of this machine is there: neither its variables and limits, nor its directories.
        add("--export=NIL".to_owned());
        add("--propagate=NONE".to_owned());
        add("--chdir=/".to_owned());
        add("--open-mode=append".to_owned());
        words.extend(options.iter().map(OsString::from));
        let file = self.alone().map_or("%a.out".to_owned(), |task| format!("{task}.out"));
        let mut output = OsString::from("--output=");
        // `%` begins what Slurm replaces, and a backslash ends that for the whole path.
        output.push(self.output.to_string_lossy().replace('%', "%%"));
        output.push(format!("/{file}"));
        words.push(output);
        words.push(self.script.clone().into());
        words.extend(self.alone().map(|task| task.to_string().into()));
        words
    }

    pub fn ids(&self, job: &str) -> Vec<String> {
        match self.is_array() {
            false => vec![job.to_owned()],
            true => self.tasks.iter().map(|task| format!("{job}_{task}")).collect(),
        }
    }

    /// Submits it; gives the job's number. `stopped` says whether to give up.
    /// Errors: [`SlurmError`]: there is no sbatch, or it says no.
    pub fn submit(&self, options: &[String], stopped: &dyn Fn() -> bool) -> Result<String, SlurmError> {
        let words = self.words(options);
        for again in 1.. {
            let answer = run("sbatch", &words)?;
            if let Some(job) = number(&answer.out).filter(|_| answer.is_good) {
                return Ok(job);
            }
            if is_busy(&answer.said) {
                std::thread::sleep(Duration::from_secs(again * 2));
                // It may have been taken all the same: nothing is submitted twice for want of an answer.
                match self.find()? {
                    Ok(Some(job)) => return Ok(job),
                    Ok(None) if again < TRIES && !stopped() => continue,
                    Ok(None) => {}
                    Err(said) => return Err(SlurmError::Refused { name: self.name.clone(), said }),
                }
            }
            let said = if answer.said.is_empty() { answer.out.trim().to_owned() } else { answer.said };
            return Err(SlurmError::Refused { name: self.name.clone(), said });
        }
        Err(SlurmError::Refused { name: self.name.clone(), said: String::new() })
    }

    /// Looks for it by its mark; as text, why squeue does not answer.
    fn find(&self) -> Result<Result<Option<String>, String>, SlurmError> {
        let words = ["-h", "--me", "-t", "all", "-o", "%A|%F|%k"].map(OsString::from);
        let mut said = String::new();
        for again in 0..TRIES {
            std::thread::sleep(Duration::from_secs(again * 2));
            let answer = run("squeue", &words)?;
            if answer.is_good {
                let line = answer.out.lines().find(|line| line.ends_with(&format!("|{}", self.mark)));
                return Ok(Ok(line.and_then(|line| line.split('|').nth(1)).map(str::to_owned)));
            }
            said = answer.said;
        }
        Ok(Err(said))
    }
}

/// The number that `sbatch --parsable` prints: before it, a site's own filter may say something.
pub fn number(out: &str) -> Option<String> {
    let line = out.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let number = line.split(';').next()?;
    (!number.is_empty() && number.bytes().all(|one| one.is_ascii_digit())).then(|| number.to_owned())
}

/// Whether Slurm takes no array of so many jobs.
pub fn is_too_many(error: &SlurmError) -> bool {
    matches!(error, SlurmError::Refused { said, .. } if said.to_ascii_lowercase().contains("array"))
}

/// Whether sbatch got no answer, rather than a bad one.
fn is_busy(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    ["timed out", "temporarily", "try again", "zero bytes were transmitted"].iter().any(|word| said.contains(word))
}

/// The script of a submission: the program, in its part of the order.
pub fn script(program: &Path, round: &Path, submission: usize) -> Result<String, String> {
    let text = |path: &Path| match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => Ok(shell(text)),
        _ => Err(format!("`{}` is not a path that a script can name", path.display())),
    };
    let (program, round) = (text(program)?, text(round)?);
    Ok(format!(
        "#!/bin/sh\n\
         umask 022\n\
         PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C\n\
         export PATH LC_ALL\n\
         unset SLURM_JWT SLURM_CONF SLURM_CONF_SERVER\n\
         exec {program} away job {round} {submission} \"${{SLURM_ARRAY_TASK_ID:-${{1:-0}}}}\"\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submission() -> Submission {
        Submission {
            name: "tiny/rootfs/base".to_owned(),
            mark: "imgbuild-x-1".to_owned(),
            cpus: 2,
            mebibytes: 1024,
            minutes: Some(15),
            tasks: vec![0, 1, 2, 5],
            after: After { all: vec!["7".to_owned(), "8_1".to_owned()], same_task: vec!["9".to_owned()] },
            output: "/shared/100% of it/a b".into(),
            script: "/shared/s".into(),
        }
    }

    #[test]
    fn words_of_sbatch() {
        let words = submission().words(&["--partition=p".to_owned()]);
        let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
        for word in [
            "--mem=1024M",
            "--time=15",
            "--array=0-2,5",
            "--dependency=afterok:7:8_1,aftercorr:9",
            "--requeue",
            "--partition=p",
            "--output=/shared/100%% of it/a b/%a.out",
        ] {
            assert!(words.contains(&word), "{word} {words:?}");
        }
        assert_eq!(words.last(), Some(&"/shared/s"));
        assert_eq!(submission().ids("9"), ["9_0", "9_1", "9_2", "9_5"]);
        let one = Submission { tasks: vec![5], ..submission() };
        assert_eq!(one.ids("9"), ["9"]);
        let words = one.words(&[]);
        let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
        assert!(!words.iter().any(|word| word.starts_with("--array")), "{words:?}");
        assert_eq!(words[words.len() - 2..], ["/shared/s", "5"]);
        assert!(words[words.len() - 3].ends_with("/5.out"), "{words:?}");
    }

    #[test]
    fn arrays_wait_for_jobs_or_each_task_for_its_own() {
        let of = |waits: &[(usize, &[&str])]| {
            let jobs = |jobs: &[&str]| jobs.iter().map(|job| (*job).to_owned()).collect();
            After::of(&waits.iter().map(|(task, waits)| (*task, jobs(waits))).collect())
        };
        let after = |all: &[&str], same_task: &[&str]| {
            let own = |jobs: &[&str]| jobs.iter().map(|job| (*job).to_owned()).collect();
            Some(After { all: own(all), same_task: own(same_task) })
        };
        assert_eq!(of(&[(0, &[]), (1, &[])]), after(&[], &[]));
        assert_eq!(of(&[(0, &["7", "8_1"]), (1, &["7", "8_1"])]), after(&["7", "8_1"], &[]));
        assert_eq!(of(&[(0, &["7", "8_0", "9_0"]), (3, &["7", "8_3", "9_3"])]), after(&["7"], &["8", "9"]));
        // All jobs of a single task are common.
        assert_eq!(of(&[(3, &["8_3", "9_4"])]), after(&["8_3", "9_4"], &[]));
        // The numbers differ, one waits for less, or they were submitted one by one.
        assert_eq!(of(&[(0, &["8_1"]), (1, &["8_0"])]), None);
        assert_eq!(of(&[(0, &["8_0"]), (1, &["8_1", "9_1"])]), None);
        assert_eq!(of(&[(0, &["8"]), (1, &["9"])]), None);
    }

    #[test]
    fn numbers_of_sbatch() {
        assert_eq!(number("12\n").as_deref(), Some("12"));
        assert_eq!(number("your quota is low\n12;cluster\n").as_deref(), Some("12"));
        assert_eq!(number("Submitted batch job 12\n"), None);
        assert_eq!(number(""), None);
        assert!(is_busy("Batch job submission failed: Socket timed out on send/recv operation"));
        assert!(!is_busy("Batch job submission failed: Invalid partition name specified"));
    }
}

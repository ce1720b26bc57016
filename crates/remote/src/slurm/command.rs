//! Slurm's commands: with a clean environment, and not for ever.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::SlurmError;

/// How long a command may take; Slurm's own time limits are shorter, as a rule.
const PATIENCE: Duration = Duration::from_secs(100);
/// How often it is looked whether it has ended.
const TICK: Duration = Duration::from_millis(10);
/// So much is kept of what it says, in bytes: squeue has a line for each of some ten thousand jobs.
const MOST: u64 = 16 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether it says that it did what it was to do.
    pub is_good: bool,
    pub out: String,
    /// Its complaint, without the names of programs before it.
    pub said: String,
}

/// Runs a command of Slurm.
/// Errors: [`SlurmError::NoCommand`].
pub fn run(program: &str, words: &[OsString]) -> Result<Answer, SlurmError> {
    let failed = |problem: String| SlurmError::NoCommand { program: program.to_owned(), problem };
    let mut command = Command::new(program);
    command.args(words).current_dir("/");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if !is_kept(&text) {
            command.env_remove(&name);
        }
    }
    // Their words are read.
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Ctrl-C is for imgbuild: a job that was submitted while sbatch was killed would have no number.
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let (out, errors) = (child.stdout.take(), child.stderr.take());
    let read = |from: Option<Box<dyn Read + Send>>| {
        let mut bytes = Vec::new();
        let _ = from.map(|from| from.take(MOST).read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let began = Instant::now();
    let (out, said, status) = std::thread::scope(|scope| {
        let out = scope.spawn(move || read(out.map(|out| Box::new(out) as Box<dyn Read + Send>)));
        let said = scope.spawn(move || read(errors.map(|one| Box::new(one) as Box<dyn Read + Send>)));
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if began.elapsed() < PATIENCE => std::thread::sleep(TICK),
                _ => {
                    // A site's own script around it is in the same group as what it started.
                    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
                    let _ =
                        group.map(|group| rustix::process::kill_process_group(group, rustix::process::Signal::KILL));
                    let _ = child.kill();
                    let _ = child.wait();
                    break None;
                }
            }
        };
        (out.join().unwrap_or_default(), said.join().unwrap_or_default(), status)
    });
    let mut said = plain(&said);
    if status.is_none() {
        said = format!("it timed out after {} s", PATIENCE.as_secs());
    }
    // A squeue that got no answer may still say that all is well.
    let is_good = status.is_some_and(|status| status.success()) && !said.contains("slurm_load_jobs error");
    Ok(Answer { is_good, out, said })
}

/// Variables that change how sbatch submits and answers.
const ODD: [&str; 10] = [
    "SBATCH_WAIT",
    "SBATCH_ARRAY_INX",
    "SBATCH_EXPORT",
    "SBATCH_TEST_ONLY",
    "SBATCH_GET_USER_ENV",
    "SBATCH_OUTPUT",
    "SBATCH_ERROR",
    "SBATCH_DEPENDENCY",
    "SBATCH_CLUSTERS",
    "SBATCH_NO_REQUEUE",
];

/// Whether a variable is for Slurm's commands: those of a job that imgbuild may run in are not, nor what changes how sbatch submits
/// and answers.
fn is_kept(name: &str) -> bool {
    let of_job = name.starts_with("SLURM_") && !["SLURM_CONF", "SLURM_JWT", "SLURM_CONF_SERVER"].contains(&name);
    !of_job && !ODD.contains(&name) && !name.starts_with("SQUEUE_") && !name.starts_with("SCANCEL_")
}

/// What was complained, in one line.
fn plain(said: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in said.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let line = ["sbatch: ", "squeue: ", "scancel: ", "sinfo: "]
            .iter()
            .fold(line, |line, name| line.strip_prefix(name).unwrap_or(line));
        let line = ["error: ", "fatal: "].iter().fold(line, |line, name| line.strip_prefix(name).unwrap_or(line));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_imgbuild_runs_in_is_not_inherited() {
        for kept in ["PATH", "HOME", "SLURM_CONF", "SLURM_JWT", "SBATCH_PARTITION", "SBATCH_ACCOUNT"] {
            assert!(is_kept(kept), "{kept}");
        }
        for odd in [
            "SLURM_ARRAY_TASK_ID",
            "SLURM_EXPORT_ENV",
            "SLURM_MEM_PER_CPU",
            "SBATCH_WAIT",
            "SBATCH_CLUSTERS",
            "SQUEUE_FORMAT",
        ] {
            assert!(!is_kept(odd), "{odd}");
        }
    }

    #[test]
    fn complaints_are_one_line() {
        let said = "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed: Invalid partition name specified\n";
        let line = "invalid partition specified: x; Batch job submission failed: Invalid partition name specified";
        assert_eq!(plain(said), line);
        assert!(matches!(run("/no/such/sbatch", &[]), Err(SlurmError::NoCommand { .. })));
        assert!(!run("false", &[]).unwrap().is_good && run("true", &[]).unwrap().is_good);
        let odd: Vec<OsString> = ["-c".into(), "echo slurm_load_jobs error: Socket timed out >&2".into()].into();
        assert!(!run("sh", &odd).unwrap().is_good);
    }
}

//! Where jobs are, as squeue says it.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::SlurmError;
use super::command::{Answer, run};

/// Most jobs that one squeue is asked for: its command line has an end.
const AT_ONCE: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It waits, for resources or for others.
    Waits,
    Runs,
    /// It ended well, as far as Slurm knows.
    Completed,
    /// Its script ended with an error, or could not be started.
    Failed,
    TimedOut,
    OutOfMemory,
    /// Its node died, or another one took its place, and Slurm does not run it again.
    Lost,
    Cancelled,
}

impl State {
    /// As squeue's %T has it. Source: squeue(1), JOB STATE CODES.
    fn of(word: &str) -> Self {
        match word {
            "PENDING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => Self::Waits,
            "RUNNING" | "CONFIGURING" | "COMPLETING" | "SUSPENDED" | "STOPPED" | "SIGNALING" | "RESIZING"
            | "STAGE_OUT" => Self::Runs,
            "COMPLETED" => Self::Completed,
            "FAILED" => Self::Failed,
            "TIMEOUT" | "DEADLINE" => Self::TimedOut,
            "OUT_OF_MEMORY" => Self::OutOfMemory,
            "NODE_FAIL" | "BOOT_FAIL" | "PREEMPTED" | "REVOKED" => Self::Lost,
            "CANCELLED" => Self::Cancelled,
            // One that is not known here does not mean that the job is over.
            _ if fault::planted("slurm-unknown-is-over") => Self::Failed,
            _ => Self::Runs,
        }
    }

    pub fn is_over(self) -> bool {
        !matches!(self, Self::Waits | Self::Runs)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub state: State,
    pub node: String,
    pub reason: String,
}

/// Reads lines of `squeue -h -r -o %i|%T|%N|%r`. What is no such line is passed over.
pub fn parse(text: &str) -> BTreeMap<String, Seen> {
    let line = |line: &str| {
        let mut fields = line.trim().splitn(4, '|');
        let (id, state, node, reason) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let state = State::of(state);
        Some((id.to_owned(), Seen { state, node: node.to_owned(), reason: reason.trim_matches(['(', ')']).to_owned() }))
    };
    text.lines().filter_map(line).collect()
}

/// Whether squeue's complaint only says that no such job is known any longer.
pub fn knows_none(answer: &Answer) -> bool {
    answer.said.to_ascii_lowercase().contains("invalid job id specified")
}

/// Asks for jobs by their ids. Those that Slurm has forgotten are not in the answer.
/// Errors: There is no squeue; as text, what it complained of: that is no sign of any job's end.
pub fn ask(ids: &[String]) -> Result<Result<BTreeMap<String, Seen>, String>, SlurmError> {
    let mut all = BTreeMap::new();
    for some in ids.chunks(AT_ONCE) {
        let words = ["-h", "-r", "-t", "all", "-o", "%i|%T|%N|%r", "-j"].map(OsString::from);
        let words: Vec<OsString> = words.into_iter().chain([some.join(",").into()]).collect();
        let answer = run("squeue", &words)?;
        if !answer.is_good && !knows_none(&answer) {
            return Ok(Err(answer.said));
        }
        all.extend(parse(&answer.out));
    }
    Ok(Ok(all))
}

/// Those of jobs whose comment begins so: numbers are given out again when Slurm's state is lost.
/// Errors: There is no squeue.
pub fn marked(ids: &[String], mark: &str) -> Result<Vec<String>, SlurmError> {
    let mut all = Vec::new();
    for some in ids.chunks(AT_ONCE) {
        let words = ["-h", "-o", "%A|%F|%k", "-j"].map(OsString::from);
        let words: Vec<OsString> = words.into_iter().chain([some.join(",").into()]).collect();
        let answer = run("squeue", &words)?;
        all.extend(own(&answer.out, mark).filter(|id| some.contains(id)));
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// Numbers of jobs in lines of `squeue -o %A|%F|%k` whose comment begins so.
fn own<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = String> + 'a {
    let line = move |line: &'a str| {
        let mut fields = line.trim().splitn(3, '|');
        let (_, number, comment) = (fields.next()?, fields.next()?, fields.next()?);
        (comment.starts_with(mark) || fault::planted("slurm-jobs-of-others")).then(|| number.to_owned())
    };
    text.lines().filter_map(line)
}

pub fn is_down(node: &str) -> bool {
    let words = ["-h", "-N", "-o", "%T", "-n", node].map(OsString::from);
    let answer = run("sinfo", &words).unwrap_or_default();
    answer.out.lines().any(|state| state.starts_with("down") || state.trim_end().ends_with('*'))
}

/// Ends jobs; those that are over are no error. Gives the complaint, where there is one.
/// Errors: There is no scancel.
pub fn cancel(ids: &[String]) -> Result<Option<String>, SlurmError> {
    let mut problem = None;
    for some in ids.chunks(AT_ONCE) {
        let words: Vec<OsString> = some.iter().map(OsString::from).collect();
        let answer = run("scancel", &words)?;
        let is_known = knows_none(&answer) || answer.said.contains("already completing or completed");
        if !answer.is_good && !is_known {
            problem = Some(answer.said);
        }
    }
    Ok(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_squeue() {
        let text = "12|RUNNING|cn1|None\n13_2|PENDING||Dependency\n13_3|PENDING||(launch failed requeued held)\n\
                    14|NODE_FAIL|cn2|NodeDown\n15|COMPLETED|cn1|None\nCLUSTER: a\n16|NEW_STATE|cn1|None\n\
                    17|TIMEOUT|cn1|TimeLimit\n18|OUT_OF_MEMORY|cn1|OutOfMemory\n19|PREEMPTED|cn1|None\n";
        let seen = parse(text);
        let of = |id: &str| seen.get(id).map(|one| (one.state, one.node.as_str(), one.reason.as_str()));
        assert_eq!(of("12"), Some((State::Runs, "cn1", "None")));
        assert_eq!(of("13_2"), Some((State::Waits, "", "Dependency")));
        assert_eq!(of("13_3"), Some((State::Waits, "", "launch failed requeued held")));
        assert_eq!(of("14"), Some((State::Lost, "cn2", "NodeDown")));
        assert_eq!(of("19").map(|one| one.0), Some(State::Lost));
        assert!(of("15").unwrap().0.is_over() && of("17").unwrap().0.is_over() && of("18").unwrap().0.is_over());
        assert_eq!((of("16").map(|one| one.0), seen.len()), (Some(State::Runs), 9));
    }

    #[test]
    fn jobs_of_others_with_the_same_number_are_left_alone() {
        let text = "12|12|imgbuild-login-7-ab-1-0\n13|12|imgbuild-login-7-ab-1-0\n14|14|their own\n15|15|imgbuild-login-7-abc-1\n16|16|\n";
        assert_eq!(own(text, "imgbuild-login-7-ab-").collect::<Vec<_>>(), ["12", "12"]);
    }

    #[test]
    fn a_job_that_is_forgotten_is_no_failure_of_squeue() {
        let answer = |said: &str| Answer { said: said.to_owned(), ..Answer::default() };
        assert!(knows_none(&answer("slurm_load_jobs error: Invalid job id specified")));
        assert!(!knows_none(&answer("slurm_load_jobs error: Socket timed out on send/recv operation")));
    }
}

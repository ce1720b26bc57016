//! Failures that ask for a remedy of their own: threads, memory, disk, limits, a damaged store. Who meets one notes it with the words
//! that it makes of it ([`Failure::met`]); what a message tells of is looked up, across processes too, and never guessed from
//! words of a script or a file's name.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use serde::{Deserialize, Serialize};

pub const DAMAGED: &str = "the store is damaged";
/// The C library's words for ENOSPC.
pub const NO_SPACE: &str = "No space left on device";
pub const NOT_STARTED: &str = "cannot start another thread or process";
pub const TOO_LONG: &str = "a command timed out";
/// A command took more of something than it may.
pub const OVER_LIMIT: &str = "a command went over a limit";
pub const OUT_OF_MEMORY: &str = "out of memory";

pub const START_REMEDY: &str = "the thread and process limit of this user, control group or machine is reached: raise \
     `ulimit -u` or TasksMax= of the unit, stop other processes, or use -j 1";
pub const MEMORY_REMEDY: &str = "raise `ulimit -v` or MemoryMax= of the unit, or run on a machine with more memory; -j 1 needs less. Nothing was published; finished work is kept";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    Damaged,
    NoSpace,
    NotStarted,
    OutOfMemory,
    TooLong,
    OverLimit,
    /// A program is not there.
    NoProgram,
    /// A program cannot be run.
    NotRun,
    /// A file of others is no archive that can be unpacked.
    NotUnpacked,
    /// Another command stood in for the operation's own, and ended with this status.
    StoodIn(i32),
}

/// What this process met, with the words for it.
static MET: Mutex<Vec<(String, Failure)>> = Mutex::new(Vec::new());
/// How many are kept: a process ends with one of its last.
const KEPT: usize = 64;

/// The operating system's errors as std and rustix print them. Source: errno(3).
const NUMBERS: [(&str, Failure); 2] = [("(os error 28)", Failure::NoSpace), ("(os error 12)", Failure::OutOfMemory)];
/// Ends of what libraries say: the C library, liblzma, libzstd.
const OF_LIBRARIES: [(&str, Failure); 4] = [
    (NO_SPACE, Failure::NoSpace),
    ("Cannot allocate memory", Failure::OutOfMemory),
    ("can't allocate memory", Failure::OutOfMemory),
    ("Allocation error : not enough memory", Failure::OutOfMemory),
];

impl Failure {
    /// Notes it with the words that a message of it will have; gives the words.
    pub fn met(self, words: String) -> String {
        let mut met = MET.lock().unwrap_or_else(PoisonError::into_inner);
        if met.iter().all(|(known, _)| *known != words) {
            let over = (met.len() + 1).saturating_sub(KEPT);
            met.drain(..over);
            met.push((words.clone(), self));
        }
        words
    }

    /// What an error message of this process tells of.
    pub fn of(message: &str) -> Option<Self> {
        let met = MET.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = met.iter().rev().find(|(words, _)| message.contains(words)).map(|(_, failure)| *failure);
        let number = || NUMBERS.iter().find(|(number, _)| message.contains(number)).map(|(_, failure)| *failure);
        let words = || OF_LIBRARIES.iter().find(|(words, _)| message.ends_with(words)).map(|(_, failure)| *failure);
        noted.or_else(number).or_else(words)
    }

    /// What a library's panic tells of, by std's words.
    pub fn of_panic(text: &str) -> Option<Self> {
        let own = text.contains(NOT_STARTED) || text.contains("failed to spawn thread");
        own.then_some(Self::NotStarted)
    }
}

/// Starts a thread in a scope.
/// Errors: That it cannot be started, in words that [`Failure::of`] knows.
pub fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> std::io::Result<ScopedJoinHandle<'scope, T>> {
    Builder::new().spawn_scoped(scope, work).map_err(not_started)
}

/// Starts the threads that share work on many files: as many as CPUs where no number is given.
/// Errors: As [`start`].
pub fn start_pool(threads: Option<usize>) -> std::io::Result<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0));
    pool.build_global().map_err(|error| match std::error::Error::source(&error) {
        Some(source) => std::io::Error::other(Failure::NotStarted.met(format!("{NOT_STARTED}: {source}"))),
        None => std::io::Error::other(Failure::NotStarted.met(format!("{NOT_STARTED}: {error}"))),
    })
}

/// Whether something could not be started for want of threads, processes or memory. EAGAIN: too many; ENOMEM: no memory for another
/// one. Source: fork(2), pthread_create(3).
pub fn is_not_started(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::OutOfMemory)
}

/// Says of an error of starting something what it is, where it is for want of threads, processes or memory.
pub fn not_started(error: std::io::Error) -> std::io::Error {
    let is_said = error.get_ref().is_some_and(|inner| inner.to_string().starts_with(NOT_STARTED));
    if !is_not_started(&error) || is_said {
        return error;
    }
    std::io::Error::new(error.kind(), Failure::NotStarted.met(format!("{NOT_STARTED}: {error}")))
}

/// Makes a panic in any thread end the process, so that no one waits for a thread that is gone. `say` tells the person what
/// happened and gives the exit status.
pub fn end_at_panics(say: fn(&str) -> i32) {
    std::panic::set_hook(Box::new(move |info| {
        if IS_CONTAINED.get() {
            return;
        }
        let text = info.payload_as_str().unwrap_or("a panic without a message");
        let place = info.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
        std::process::exit(say(&format!("{text}{place}")));
    }));
}

thread_local! {
    /// Whether a panic of this thread is an error of what it does.
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Does work of a library that may panic on odd input; a panic is an error then.
/// Errors: The panic's words.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let was = IS_CONTAINED.replace(true);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    IS_CONTAINED.set(was);
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_library_is_an_error_of_its_work() {
        assert_eq!(contained(|| 7), Ok(7));
        assert_eq!(contained(|| -> u8 { panic!("odd {}", 1) }), Err("odd 1".to_owned()));
        assert!(!IS_CONTAINED.get());
    }

    #[test]
    fn failures_are_known_by_who_met_them_and_not_by_words_of_others() {
        let said = not_started(std::io::Error::from_raw_os_error(11)).to_string();
        assert_eq!(Failure::of(&format!("the helper: {said}, so no")), Some(Failure::NotStarted));
        let full = std::io::Error::from_raw_os_error(28);
        assert_eq!(Failure::of(&format!("cannot write `a`: {full}; stopped")), Some(Failure::NoSpace));
        for text in ["cpio: cannot be read: can't allocate memory", "fork: Cannot allocate memory"] {
            assert_eq!(Failure::of(text), Some(Failure::OutOfMemory), "{text}");
        }
        // Names of files, and what scripts print.
        for text in ["cannot read `out of memory`: denied", "`a command timed out.service` failed", "dpkg: exit 1"] {
            assert_eq!(Failure::of(text), None, "{text}");
        }
        let words = Failure::OverLimit.met("a command went over a limit: `dpkg` wrote".to_owned());
        assert_eq!(Failure::of(&format!("{words} and more\nits last lines: No space")), Some(Failure::OverLimit));
        for number in 0..KEPT + 9 {
            Failure::Damaged.met(format!("<{number}>"));
        }
        assert!(MET.lock().unwrap().len() <= KEPT);
    }
}

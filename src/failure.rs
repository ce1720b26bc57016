//! Failures recognised by message prefix across processes: threads, memory, disk, damaged store, panics. They are
//! known by their first words, because an operation inside the sandbox answers with a text, and a library with a
//! panic.

use std::cell::Cell;
use std::thread::{Builder, Scope, ScopedJoinHandle};

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    Damaged,
    NoSpace,
    NotStarted,
    OutOfMemory,
    TooLong,
    OverLimit,
}

impl Failure {
    pub fn told_by(text: &str) -> Option<Self> {
        let known = [
            // Before what the command itself printed.
            (TOO_LONG, Self::TooLong),
            (OVER_LIMIT, Self::OverLimit),
            (DAMAGED, Self::Damaged),
            (NO_SPACE, Self::NoSpace),
            (NOT_STARTED, Self::NotStarted),
            // std's words, in a panic of a library.
            ("failed to spawn thread", Self::NotStarted),
            (OUT_OF_MEMORY, Self::OutOfMemory),
            // The C library's words for ENOMEM, liblzma's and libzstd's.
            ("Cannot allocate memory", Self::OutOfMemory),
            ("can't allocate memory", Self::OutOfMemory),
            ("Allocation error : not enough memory", Self::OutOfMemory),
        ];
        known.into_iter().find(|(words, _)| text.contains(words)).map(|(_, failure)| failure)
    }
}

/// Starts a thread in a scope.
/// Errors: That it cannot be started, in words that [`Failure::told_by`] knows.
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
        Some(source) => std::io::Error::other(format!("{NOT_STARTED}: {source}")),
        None => std::io::Error::other(format!("{NOT_STARTED}: {error}")),
    })
}

/// Says of an error of starting something what it is, where it is for want of threads, processes or memory.
pub fn not_started(error: std::io::Error) -> std::io::Error {
    // EAGAIN: too many; ENOMEM: no memory for another one. Source: fork(2), pthread_create(3).
    match error.kind() {
        _ if error.to_string().contains(NOT_STARTED) => error,
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::OutOfMemory => {
            std::io::Error::new(error.kind(), format!("{NOT_STARTED}: {error}"))
        }
        _ => error,
    }
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
    fn failures_are_known_by_their_words() {
        let said = not_started(std::io::Error::from_raw_os_error(11)).to_string();
        assert_eq!(Failure::told_by(&said), Some(Failure::NotStarted));
        assert_eq!(Failure::told_by("dpkg: error: No space left on device"), Some(Failure::NoSpace));
        for text in ["cpio: cannot be read: can't allocate memory", "fork: Cannot allocate memory"] {
            assert_eq!(Failure::told_by(text), Some(Failure::OutOfMemory), "{text}");
        }
        assert_eq!(Failure::told_by("dpkg: error: exit 1"), None);
    }
}

//! Work in a process of its own: whatever ends that, this one goes on. The first process must not end.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::Duration;

use super::check;

/// A process that works, and what it tells.
pub(crate) struct Worker {
    process: libc::pid_t,
    output: File,
    ended: Option<Ended>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself.
    Exit(i32),
    /// By a signal.
    Signal(i32),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "the exit code {code}"),
            Self::Signal(libc::SIGABRT) => write!(f, "signal {}: it found an error of its own", libc::SIGABRT),
            Self::Signal(libc::SIGKILL) => write!(f, "signal {}: was the memory used up?", libc::SIGKILL),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl Worker {
    /// Starts the work; it gets the end of a pipe that it tells things by.
    ///
    /// # Errors
    /// The kernel's: no memory, too many processes.
    pub(crate) fn start(work: impl FnOnce(File)) -> io::Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: room for two numbers.
        check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
        // SAFETY: the descriptors were just made and belong to no one else.
        let (output, tell) = unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) };
        // SAFETY: this process has one thread, so the child's heap and locks are whole.
        match check(unsafe { libc::fork() })? {
            0 => {
                // What it starts belongs to its group.
                // SAFETY: no pointers.
                unsafe { libc::setpgid(0, 0) };
                drop(output);
                work(tell);
                std::process::exit(0);
            }
            process => Ok(Self { process, output, ended: None }),
        }
    }

    /// Waits for something that it tells, for its end, or for a second; gives what it reported, and when that is all, how it ended.
    pub(crate) fn wait(&mut self) -> (Vec<u8>, Option<Ended>) {
        self.look();
        let mut bytes = vec![0; 1 << 16];
        let wait = if self.ended.is_some() { 0 } else { 1000 };
        let mut ready = libc::pollfd { fd: self.output.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live pollfd.
        let count = unsafe { libc::poll(&raw mut ready, 1, wait) };
        let read = if count > 0 { self.output.read(&mut bytes).unwrap_or(0) } else { 0 };
        bytes.truncate(read);
        if read > 0 {
            return (bytes, None);
        }
        if count > 0 && self.ended.is_none() {
            // It closed the pipe, and is about to end.
            std::thread::sleep(Duration::from_millis(10));
            self.look();
        }
        (bytes, self.ended)
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        super::end(self.process);
    }

    /// Ends it with all that it started.
    pub(crate) fn end_all(&self) {
        super::end(-self.process);
        super::end(self.process);
    }

    /// Notes whether it has ended. All others that ended are waited for too: the kernel hands them to the first process.
    fn look(&mut self) {
        while self.ended.is_none() {
            let mut status = 0;
            // SAFETY: `status` is live.
            let found = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
            if found <= 0 {
                return;
            }
            if found == self.process {
                self.ended = Some(match libc::WIFSIGNALED(status) {
                    true => Ended::Signal(libc::WTERMSIG(status)),
                    false => Ended::Exit(libc::WEXITSTATUS(status)),
                });
            }
        }
    }
}

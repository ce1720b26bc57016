//! Which server answers for the nodes of a state: one at a time, and no dnsmasq of one that is gone.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::Places;
use super::machine::cannot_write;
use super::process::{ENDS_WITHIN, conf_argument};
use crate::Say;
use crate::error::ServeError;
use nodes::State;

/// Held as long as the server runs: the kernel lets go of it whatever ends the process.
pub(super) struct Lock {
    #[allow(dead_code, reason = "what counts is that it is open")]
    file: File,
}

impl Lock {
    /// Takes it for a server at an address, and says who has it otherwise.
    /// Errors: Another server answers for the same nodes, or the file cannot be made.
    pub(super) fn take(places: &Places, address: &str) -> Result<Self, ServeError> {
        let path = places.home.join("serving");
        let failed = |error: std::io::Error| cannot_write("its lock", &error);
        std::fs::create_dir_all(&places.home).map_err(failed)?;
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(taken(&mut file, &path));
        }
        let text = format!("{address} (process {})\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(failed)?;
        Ok(Self { file })
    }
}

fn taken(file: &mut File, path: &Path) -> ServeError {
    let mut text = String::new();
    let _ = file.take(200).read_to_string(&mut text);
    let who = text
        .lines()
        .next()
        .filter(|line| !line.is_empty())
        .unwrap_or("it has not yet said where")
        .escape_debug()
        .to_string();
    ServeError::dhcp_machine(
        format!("another server already answers for these nodes by dnsmasq: {who}"),
        format!(
            "end that one first, or serve files and boot scripts alone: `imgbuild serve` without --dnsmasq, with another --listen; {} is held by it",
            path.display()
        ),
    )
}

/// Ends one that a server left behind which was killed: nothing else would ever end it.
pub(super) fn end_orphan(state: &State, say: &Say) {
    let places = Places::of(state, PathBuf::new());
    let Some(pid) = fs::read_to_string(places.pid()).ok().and_then(|text| text.trim().parse::<i32>().ok()) else {
        return;
    };
    let is_ours = || {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == conf_argument(&places).as_bytes())
    };
    // Opened before its command line is read: the number is then its own, whatever ends meanwhile.
    let open = |pid| pidfd_open(pid, PidfdFlags::empty()).ok();
    let Some(process) = Pid::from_raw(pid).and_then(open).filter(|_| is_ours()) else { return };
    say("a dnsmasq of a server that was killed still ran: it is ended");
    for signal in [Signal::TERM, Signal::KILL] {
        let _ = pidfd_send_signal(&process, signal);
        // Its command line is gone before its sockets are; this waits for both.
        if has_ended(&process, ENDS_WITHIN) {
            return;
        }
    }
}

/// Waits until a process has ended and let go of its ports.
fn has_ended(process: &impl AsFd, within: Duration) -> bool {
    let mut polled = [PollFd::new(process, PollFlags::IN)];
    let within = Timespec { tv_sec: within.as_secs() as i64, tv_nsec: i64::from(within.subsec_nanos()) };
    matches!(poll(&mut polled, Some(&within)), Ok(ready) if ready > 0)
}

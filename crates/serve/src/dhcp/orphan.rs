//! A dnsmasq that outlived its server.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::Places;
use super::process::{ENDS_WITHIN, conf_argument};
use crate::Say;
use nodes::State;

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

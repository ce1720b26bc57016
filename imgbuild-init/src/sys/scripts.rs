//! Processes that scripts start and leave behind.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::check;

/// Makes this process the parent of all that its children leave behind. Source: prctl(2), `PR_SET_CHILD_SUBREAPER`.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// Reaps one child that has ended, if there is one: its number and its status, as wait(2) has it.
pub(crate) fn reap() -> Option<(libc::pid_t, i32)> {
    let mut status = 0;
    // SAFETY: `status` is live.
    let found = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (found > 0).then_some((found, status))
}

/// Sends a signal to a process.
pub(crate) fn signal(process: libc::pid_t, signal: libc::c_int) {
    // SAFETY: no pointers.
    unsafe { libc::kill(process, signal) };
}

/// The processes below this one that have not ended.
pub(crate) fn descendants() -> Vec<libc::pid_t> {
    let mut children: BTreeMap<libc::pid_t, Vec<libc::pid_t>> = BTreeMap::new();
    let mut ended = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Source: proc_pid_stat(5). A name may hold anything, a closing parenthesis too.
        let Ok(text) = std::fs::read(entry.path().join("stat")) else { continue };
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut words = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let (state, parent) = (words.next(), words.next().and_then(|word| word.parse().ok()));
        if matches!(state, Some("Z" | "X")) {
            ended.insert(process);
        }
        children.entry(parent.unwrap_or(0)).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut next = vec![std::process::id().cast_signed()];
    while let Some(parent) = next.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            next.push(process);
            if !ended.contains(&process) {
                found.push(process);
            }
        }
    }
    found
}

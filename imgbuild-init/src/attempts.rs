//! An attempt to get the image, in a process of its own: a panic, a lack of memory or a hang of it is a problem like any other,
//! and this process, which is the machine's first, tries again.

use std::io::Write;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::network::lease::Lease;
use crate::node::selinux::Mode;
use crate::node::statelite;
use crate::sys::{self, Worker};
use crate::{image, say};

/// What an attempt tells, a line each.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// What the network gave.
    Lease(Box<Lease>),
    /// The process that keeps the lease.
    Keeper(i32),
    /// So many bytes of the image were fetched and checked.
    Fetched(u64),
    /// How it ended: SELinux's mode, where it is on; or the problem.
    Ended(Result<Option<Mode>, String>),
}

/// Tells something.
pub(crate) type Tell<'a> = &'a (dyn Fn(&Message) + Sync);

/// What is known of all attempts.
pub(crate) struct Found {
    /// What the network gave last.
    pub lease: Option<Lease>,
    /// When the last progress was made.
    pub since: Instant,
    /// Most bytes of the image that any attempt had.
    most: u64,
}

impl Default for Found {
    fn default() -> Self {
        Self { lease: None, since: Instant::now(), most: 0 }
    }
}

impl Found {
    fn fetched(&mut self, bytes: u64) {
        // Only what no attempt had before: a server that always breaks off at the same place gives none.
        if bytes > self.most {
            self.most = bytes;
            self.since = Instant::now();
        }
    }
}

/// Makes one attempt; none takes longer without progress than patience says.
///
/// # Errors
/// The attempt's problem, or what ended it.
pub(crate) fn one(
    found: &mut Found,
    patience: Option<Duration>,
    work: impl FnOnce(Tell<'_>),
) -> Result<Option<Mode>, String> {
    let started = Worker::start(|file| {
        work(&|message: &Message| {
            // A line in one write: threads of the attempt tell things too.
            let mut line = serde_json::to_vec(message).unwrap_or_default();
            line.push(b'\n');
            let _ = (&file).write_all(&line);
        });
    });
    let mut worker = started.map_err(|error| format!("no process can be started: {error}"))?;
    let (mut keeper, mut outcome, mut text) = (None, None, Vec::new());
    let ended = loop {
        let (bytes, ended) = worker.wait();
        text.extend_from_slice(&bytes);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(Message::Lease(lease)) => found.lease = Some(*lease),
                Ok(Message::Keeper(process)) => keeper = Some(process),
                Ok(Message::Fetched(bytes)) => found.fetched(bytes),
                Ok(Message::Ended(result)) => outcome = Some(result),
                Err(_) => {}
            }
        }
        if let Some(ended) = ended {
            break ended;
        }
        if outcome.is_none() && patience.is_some_and(|patience| found.since.elapsed() > patience) {
            say!("no progress for {} seconds: this attempt is given up", found.since.elapsed().as_secs());
            worker.end();
        }
    };
    match outcome {
        Some(outcome) => outcome,
        None => {
            if let Some(keeper) = keeper {
                sys::end(keeper);
            }
            image::unmount_all();
            statelite::unmount_all();
            Err(format!("the attempt ended early, with {ended}"))
        }
    }
}

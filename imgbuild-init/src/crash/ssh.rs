//! Sends a dump by the image's ssh.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use super::collect::{
    MESSAGES, Programs, UNFINISHED, VMCORE, command, ended, errors_of, finish, processor_time, read_full,
};
use super::dump::Moved;
use crate::kdump::{KEY, KNOWN_HOSTS, SSH};
use crate::say;

/// Where the kernel's messages lie until they are sent.
const OWN_MESSAGES: &str = "/run/vmcore-dmesg.txt";
/// What is sent at once.
const CHUNK: usize = 1 << 18;

/// An account of a host.
pub(super) struct Login<'a> {
    pub user: &'a str,
    pub host: &'a str,
    pub port: u16,
}

impl Login<'_> {
    /// ssh with a command of the server. Nothing of it asks, and a server without its key in the recipe gets nothing.
    fn run(&self, script: &str) -> Command {
        let mut ssh = command(SSH);
        ssh.args(["-F", "none", "-T", "-i", &format!("/{KEY}"), "-p", &self.port.to_string(), "-l", self.user]);
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=yes",
            "GlobalKnownHostsFile=/dev/null",
            "ConnectTimeout=30",
            "ServerAliveInterval=15",
            "ServerAliveCountMax=8",
            "LogLevel=ERROR",
        ] {
            ssh.args(["-o", option]);
        }
        ssh.arg("-o").arg(format!("UserKnownHostsFile=/{KNOWN_HOSTS}"));
        ssh.arg("--").arg(self.host).arg(script);
        ssh.stdin(Stdio::null());
        ssh
    }
}

/// Sends messages and memory into a directory, which is made; gives the dump's file name and size.
pub(super) fn send(
    login: &Login<'_>,
    directory: &str,
    programs: &Programs,
    moved: Moved<'_>,
) -> Result<(&'static str, u64), String> {
    finish(&mut login.run(&format!("mkdir -p '{directory}'")))?;
    if programs.messages(Path::new(OWN_MESSAGES)) {
        let file = std::fs::File::open(OWN_MESSAGES).map_err(|error| format!("{OWN_MESSAGES}: {error}"))?;
        let sent = finish(login.run(&format!("cat >'{directory}/{MESSAGES}'")).stdin(Stdio::from(file)));
        match sent {
            Ok(()) => say!("the kernel's messages are in {directory}/{MESSAGES}"),
            Err(problem) => say!("the kernel's messages were not sent: {problem}"),
        }
    }
    // As other tools call what makedumpfile writes into a stream: `makedumpfile -R` makes a usual dump of it.
    let name = if programs.has_filter() { "vmcore.flat" } else { "vmcore" };
    let mut ssh = login.run(&format!("cat >'{directory}/{UNFINISHED}'"));
    ssh.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut ssh = ssh.spawn().map_err(|error| format!("{SSH} cannot be started: {error}"))?;
    let of_ssh = errors_of(&mut ssh);
    let mut to = ssh.stdin.take().ok_or("ssh has no input")?;
    let size = match programs.has_filter() {
        true => {
            let mut child = programs.stream()?;
            let child_id = child.id();
            let errors = errors_of(&mut child);
            let sent = child.stdout.take().ok_or("makedumpfile has no output".to_owned());
            let (sender, pieces) = std::sync::mpsc::sync_channel(2);
            let sent = sent.and_then(|from| {
                std::thread::spawn(move || read_all(from, &sender));
                pump(&pieces, &mut to, moved, &|| processor_time(child_id))
            });
            if sent.is_err() {
                let _ = child.kill();
            }
            let status = child.wait().map_err(|error| format!("makedumpfile cannot be waited for: {error}"))?;
            sent.and_then(|size| {
                ended(crate::kdump::MAKEDUMPFILE, status, &errors.join().unwrap_or_default()).map(|()| size)
            })
        }
        false => std::fs::File::open(VMCORE).map_err(|error| format!("{VMCORE}: {error}")).and_then(|from| {
            let (sender, pieces) = std::sync::mpsc::sync_channel(2);
            std::thread::spawn(move || read_all(from, &sender));
            pump(&pieces, &mut to, moved, &|| 0)
        }),
    };
    drop(to);
    let status = ssh.wait().map_err(|error| format!("{SSH} cannot be waited for: {error}"))?;
    // What ssh says is the cause of a pipe that broke.
    ended(SSH, status, &of_ssh.join().unwrap_or_default())?;
    let size = size?;
    // One of before is not written over.
    let rename = format!(
        "n='{name}'; i=1; while [ -e '{directory}/'\"$n\" ]; do i=$((i+1)); n='{name}'.$i; done; mv '{directory}/{UNFINISHED}' '{directory}/'\"$n\" && sync"
    );
    finish(&mut login.run(&rename))?;
    Ok((name, size))
}

/// What was read of a dump, or why no more could be.
type Piece = Result<Vec<u8>, String>;

/// Reads all of it; an end without an error is that of the channel.
fn read_all(mut from: impl std::io::Read, to: &SyncSender<Piece>) {
    loop {
        let mut buffer = vec![0; CHUNK];
        let piece = match read_full(&mut from, &mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                buffer.truncate(read);
                Ok(buffer)
            }
            Err(error) => Err(format!("the dump cannot be read: {error}")),
        };
        let is_last = piece.is_err();
        if to.send(piece).is_err() || is_last {
            return;
        }
    }
}

/// Sends what comes. Before it writes, makedumpfile looks at all of memory, which may take minutes: that is progress too, as `work` has it.
fn pump(from: &Receiver<Piece>, to: &mut impl Write, moved: Moved<'_>, work: &dyn Fn() -> u64) -> Result<u64, String> {
    let mut total = 0;
    loop {
        match from.recv_timeout(Duration::from_millis(500)) {
            Ok(piece) => {
                let piece = piece?;
                to.write_all(&piece).map_err(|error| format!("the dump cannot be sent: {error}"))?;
                total += piece.len() as u64;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(total),
        }
        moved(total + work());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_dump_is_sent_and_an_error_is_none_of_its_end() {
        let bytes: Vec<u8> = (0..3 * CHUNK + 5).map(|at| at as u8).collect();
        let (sender, pieces) = std::sync::mpsc::sync_channel(2);
        let copy = bytes.clone();
        std::thread::spawn(move || read_all(&copy[..], &sender));
        let mut sent = Vec::new();
        assert_eq!(pump(&pieces, &mut sent, &|_| {}, &|| 0), Ok(bytes.len() as u64));
        assert!(sent == bytes);
        let (sender, pieces) = std::sync::mpsc::sync_channel(2);
        sender.send(Ok(vec![1])).unwrap();
        sender.send(Err("no memory".to_owned())).unwrap();
        drop(sender);
        assert_eq!(pump(&pieces, &mut Vec::new(), &|_| {}, &|| 0), Err("no memory".to_owned()));
    }
}

//! Sends a dump by the image's ssh.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::collect::{MESSAGES, Programs, UNFINISHED, VMCORE, command, ended, errors_of, finish, read_full};
use super::dump::Moved;
use crate::kdump::{KEY, KNOWN_HOSTS, SSH};
use crate::say;

/// Where the kernel's messages lie until they are sent.
const OWN_MESSAGES: &str = "/run/vmcore-dmesg.txt";
/// What is sent at once.
const CHUNK: usize = 1 << 18;

/// An account of a host.
pub struct Login<'a> {
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
pub fn send(
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
            let errors = errors_of(&mut child);
            let sent = child.stdout.take().ok_or("makedumpfile has no output".to_owned());
            let sent = sent.and_then(|mut from| pump(&mut from, &mut to, moved));
            if sent.is_err() {
                let _ = child.kill();
            }
            let status = child.wait().map_err(|error| format!("makedumpfile is lost: {error}"))?;
            sent.and_then(|size| {
                ended(crate::kdump::MAKEDUMPFILE, status, &errors.join().unwrap_or_default()).map(|()| size)
            })
        }
        false => std::fs::File::open(VMCORE)
            .map_err(|error| format!("{VMCORE}: {error}"))
            .and_then(|mut from| pump(&mut from, &mut to, moved)),
    };
    drop(to);
    let status = ssh.wait().map_err(|error| format!("{SSH} is lost: {error}"))?;
    // What ssh says is the cause of a pipe that broke.
    ended(SSH, status, &of_ssh.join().unwrap_or_default())?;
    let size = size?;
    finish(&mut login.run(&format!("mv '{directory}/{UNFINISHED}' '{directory}/{name}' && sync")))?;
    Ok((name, size))
}

fn pump(from: &mut impl std::io::Read, to: &mut impl Write, moved: Moved<'_>) -> Result<u64, String> {
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    loop {
        let read = read_full(from, &mut buffer).map_err(|error| format!("the dump cannot be read: {error}"))?;
        if read == 0 {
            return Ok(total);
        }
        to.write_all(&buffer[..read]).map_err(|error| format!("the dump cannot be sent: {error}"))?;
        total += read as u64;
        moved(total);
    }
}

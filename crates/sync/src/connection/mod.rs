//! One ssh to one node, and what comes back.

mod keys;
mod place;
mod purse;

use std::hash::BuildHasher;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) use self::keys::{advice, known};
pub(crate) use self::place::options;
pub(crate) use self::purse::Pool;
use self::purse::Purse;
use super::words::{from_base64, quoted};

const SCRIPT: &str = include_str!("../scripts/node.sh");
/// More than this no node has to say.
const MOST_SAID: u64 = 256 << 20;
/// No line that a node of ours sends is longer; names are in base64.
const LONGEST_LINE: u64 = 64 << 10;
/// What a line costs that is kept, whatever it says.
const LINE_COSTS: u64 = 64;
/// So much is kept of what a script said.
const MOST_OUTPUT: usize = 4 << 10;
/// No line that is read in words has more of them.
const MOST_WORDS: usize = 16;
/// So much is kept of what ssh and the node's programs complain.
const MOST_COMPLAINT: usize = 4096;

pub(crate) struct Connection {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<std::io::Take<ChildStdout>>,
    complaint: Arc<Mutex<Vec<u8>>>,
    ended: Receiver<()>,
    nonce: String,
    node: String,
    known_hosts: Option<PathBuf>,
    /// What may be kept of its answers.
    purse: Purse,
    /// Where the node keeps what a sync has to know later.
    pub state: String,
    pub process: String,
}

pub(crate) struct Way<'a> {
    /// The command, in words.
    pub ssh: &'a [String],
    /// Seconds until a node that does not answer is given up.
    pub connect: u64,
    /// Seconds until what runs on the node ends by itself.
    pub seconds: u64,
    /// The host keys that nodes reported.
    pub known_hosts: Option<&'a Path>,
}

impl Connection {
    /// Starts ssh; nothing is known of the node yet.
    /// Errors: ssh cannot be started.
    pub(crate) fn start(node: &str, address: Option<IpAddr>, way: &Way<'_>, purse: Purse) -> Result<Self, String> {
        let mut words = way.ssh.iter();
        let program = words.next().map_or("ssh", String::as_str);
        let nonce = format!("{:016x}", std::collections::hash_map::RandomState::new().hash_one(node));
        let script = format!("nonce={nonce}\nseconds={}\nnode={}\n{SCRIPT}", way.seconds, quoted(node));
        // No line feed and no backslash: the login shell may be any. The node's shell reads exactly the script, and then answers.
        let command = format!("sh -c ': imgbuild-sync; eval \"$(dd bs=1 count={} 2>/dev/null)\"'", script.len());
        let mut child = Command::new(program)
            .args(words)
            // The first value counts: those of --ssh, then these, then those of the site's ssh_config.
            .args(["-T", "-o", "BatchMode=yes", "-o", &format!("ConnectTimeout={}", way.connect)])
            .args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=4"])
            .args(["-o", "ClearAllForwardings=yes", "-o", "LogLevel=ERROR"])
            .args(place::options(way.ssh, node, address, way.known_hosts))
            .args(["--", node, &command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for imgbuild, which ends what it started.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("`{program}` cannot be started: {error}"))?;
        let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let complaint = Arc::new(Mutex::new(Vec::new()));
        let (over, ended) = channel();
        let kept = Arc::clone(&complaint);
        // Not waited for: a master connection of ssh may hold it open for hours.
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            let mut errors = errors;
            while let Some(read) =
                errors.as_mut().and_then(|errors| errors.read(&mut buffer).ok()).filter(|read| *read > 0)
            {
                if let Ok(mut kept) = kept.lock() {
                    kept.extend_from_slice(&buffer[..read]);
                    let surplus = kept.len().saturating_sub(MOST_COMPLAINT);
                    kept.drain(..surplus);
                }
            }
            drop(over);
        });
        let output = output.ok_or("ssh has no output")?;
        let mut connection = Self {
            child,
            input,
            output: BufReader::new(output.take(MOST_SAID)),
            complaint,
            ended,
            nonce: String::new(),
            node: node.to_owned(),
            known_hosts: way.known_hosts.map(Path::to_owned),
            purse,
            state: String::new(),
            process: String::new(),
        };
        // A node that is not there takes nothing: what ssh says then tells why.
        let _ = connection.send(&script);
        connection.nonce = nonce;
        Ok(connection)
    }

    /// Waits for the node's script; what its login shell prints comes before that.
    /// Errors: What keeps the node from taking part.
    pub(crate) fn greet(&mut self) -> Result<(), String> {
        let mark = format!("imgbuild-sync 1 {} ", self.nonce);
        let hello = loop {
            let line = self.line()?;
            if let Some(at) = line.windows(mark.len()).position(|window| window == mark.as_bytes()) {
                break String::from_utf8_lossy(&line[at + mark.len()..]).into_owned();
            }
        };
        let words: Vec<&str> = hello.split(' ').collect();
        let [user, state, process] = words.as_slice() else { return Err(unclear(&hello)) };
        if *user != "0" {
            return Err("ssh logs in as an ordinary user: only root may write these files".to_owned());
        }
        (self.state, self.process) = ((*state).to_owned(), (*process).to_owned());
        match self.words()?.as_slice() {
            [word] if word == "ready" => Ok(()),
            [word, tool] if word == "x" => Err(format!("the node has no `{tool}`")),
            other => Err(unclear(&other.join(" "))),
        }
    }

    /// Sends a text.
    /// Errors: The connection is gone.
    pub(crate) fn send(&mut self, text: &str) -> Result<(), String> {
        self.write(|input| input.write_all(text.as_bytes()).and_then(|()| input.flush()))
    }

    /// Sends what someone writes.
    /// Errors: The connection is gone, or what the other says of itself.
    pub(crate) fn write(&mut self, with: impl FnOnce(&mut ChildStdin) -> std::io::Result<()>) -> Result<(), String> {
        let Some(input) = &mut self.input else { return Err("the connection is closed".to_owned()) };
        let written = with(input);
        written.map_err(|error| match error.kind() {
            std::io::ErrorKind::BrokenPipe => self.ended_early(),
            _ => error.to_string(),
        })
    }

    /// Sends a text while the node answers; both may be longer than what a pipe holds.
    /// Errors: The connection is gone, or what the reader says.
    pub(crate) fn ask<T>(
        &mut self,
        text: String,
        read: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        let Some(mut input) = self.input.take() else { return Err("the connection is closed".to_owned()) };
        let writer = std::thread::spawn(move || {
            let _ = input.write_all(text.as_bytes()).and_then(|()| input.flush());
            input
        });
        let read = read(self);
        if read.is_ok() {
            self.input = writer.join().ok();
        }
        read
    }

    /// The next line.
    /// Errors: The connection ended.
    pub(crate) fn line(&mut self) -> Result<Vec<u8>, String> {
        let mut line = Vec::new();
        match self.output.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(_) if line.ends_with(b"\n") => {
                line.pop();
                Ok(line)
            }
            Ok(read) if read as u64 == LONGEST_LINE => {
                Err(format!("a line of the node's answer is longer than the limit of {} KiB", LONGEST_LINE >> 10))
            }
            _ => Err(self.ended_early()),
        }
    }

    /// The next line, in words.
    /// Errors: The connection ended.
    pub(crate) fn words(&mut self) -> Result<Vec<String>, String> {
        let line = self.line()?;
        Ok(String::from_utf8_lossy(&line).split(' ').take(MOST_WORDS).map(str::to_owned).collect())
    }

    /// Lines up to one that is a dot.
    /// Errors: The connection ended.
    pub(crate) fn lines(&mut self) -> Result<Vec<Vec<u8>>, String> {
        let mut lines = Vec::new();
        loop {
            match self.line()? {
                line if line == b"." => return Ok(lines),
                line => {
                    self.spend(line.len())?;
                    lines.push(line);
                }
            }
        }
    }

    /// Counts a text that is kept, with what keeping it costs.
    /// Errors: The node has said too much.
    pub(crate) fn spend(&mut self, bytes: usize) -> Result<(), String> {
        self.purse.spend(3 * bytes as u64 + LINE_COSTS)
    }

    /// Counts what is kept of an answer when the node is done.
    /// Errors: All nodes together have said too much.
    pub(crate) fn keep(&self, bytes: u64) -> Result<(), String> {
        self.purse.keep(bytes)
    }

    /// Bytes in base64 up to a dot.
    /// Errors: The connection ended, or the node has said too much.
    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, String> {
        let mut text = Vec::new();
        loop {
            let line = self.line()?;
            if line == b"." {
                return from_base64(&text);
            }
            self.spend(line.len())?;
            text.extend_from_slice(&line);
        }
    }

    /// The end of what a script said: it is kept until all nodes are done.
    /// Errors: As [`Connection::bytes`].
    pub(crate) fn output(&mut self) -> Result<String, String> {
        Ok(last_of(&self.bytes()?))
    }

    /// What ssh or the node's programs said, the last line.
    pub(crate) fn complaint(&self) -> Option<String> {
        // What is on its way.
        let _ = self.ended.recv_timeout(Duration::from_millis(300));
        let kept = self.complaint.lock().map(|kept| kept.clone()).unwrap_or_default();
        let text = String::from_utf8_lossy(&kept).into_owned();
        // Once it is let in, the node itself is heard here.
        let advice = keys::advice(&text, &self.node, self.known_hosts.as_deref()).filter(|_| self.state.is_empty());
        if advice.is_some() {
            return advice;
        }
        let text = text
            .trim()
            .lines()
            .map(str::trim)
            .rfind(|line| !(line.is_empty() || line.ends_with("due to previous errors")))?
            .to_owned();
        Some(text)
    }

    /// Why there is no more to read.
    fn ended_early(&mut self) -> String {
        drop(self.input.take());
        let said = self.complaint();
        said.unwrap_or_else(|| "the connection ended before the node had answered".to_owned())
    }

    /// Says goodbye; ssh ends then by itself.
    pub(crate) fn close(&mut self) {
        let _ = self.send("z\n");
        drop(self.input.take());
    }

    /// Waits a while for ssh to end; it stays known until [`Connection::wait`].
    pub(crate) fn wait_at_most(&mut self, time: Duration) {
        drop(self.input.take());
        let until = Instant::now() + time;
        while !self.has_ended() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether ssh has ended; its number is still its own.
    pub(crate) fn has_ended(&self) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        state.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
    }

    pub(crate) fn wait(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// The end of what a script said, as far as it is kept.
pub(crate) fn last_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(MOST_OUTPUT)..]).into_owned()
}

/// What is said of an answer that no node of ours gives.
pub(crate) fn unclear(text: &str) -> String {
    format!("the node's answer cannot be understood: {}", text.chars().take(80).collect::<String>())
}

impl Connection {
    /// The process, to end it.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection to what a shell prints.
    fn says(script: &str, pool: &Pool) -> (Connection, tempfile::TempDir) {
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("ssh");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        let ssh = ["sh".to_owned(), program.display().to_string()];
        let connection =
            Connection::start("n1", None, &Way { ssh: &ssh, connect: 1, seconds: 9, known_hosts: None }, pool.purse())
                .unwrap();
        (connection, place)
    }

    fn end((mut connection, _): (Connection, tempfile::TempDir)) {
        let _ = connection.child.kill();
        connection.wait();
    }

    #[test]
    fn a_node_that_never_stops_fails_alone() {
        let pool = Pool::of(4);
        let mut empty = says("exec yes ''", &pool);
        assert!(empty.0.lines().unwrap_err().contains("longer than the limit for all nodes"));
        // While it holds what it took.
        let mut other = says("printf 'aGk=\\n.\\n'; cat >/dev/null", &pool);
        assert_eq!(other.0.bytes().unwrap().len(), 2);
        let mut wide = says("exec tr '\\0' a </dev/zero", &pool);
        assert!(wide.0.line().unwrap_err().contains("the limit of 64 KiB"));
        [empty, other, wide].into_iter().for_each(end);
    }
}

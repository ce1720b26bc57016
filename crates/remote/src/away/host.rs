//! The other machine, over ssh.

use std::io::{BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

/// What ssh exits with when it is ssh that failed. Source: ssh(1), EXIT STATUS.
const OF_SSH: i32 = 255;
/// So much is kept of what ssh and the other machine complain, in bytes.
const MOST_COMPLAINT: usize = 8192;
/// How often it is looked whether someone wants to stop.
const TICK: Duration = Duration::from_millis(50);

/// A machine that builds, as `ssh://[USER@]HOST[:PORT][/DIRECTORY]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// As it was given.
    pub shown: String,
    /// `USER@HOST`, or the host.
    login: String,
    port: Option<u16>,
    /// Where things are kept there; none for a directory that is removed.
    pub directory: Option<String>,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum AwayError {
    #[error("`{program}` cannot be started: {problem}")]
    #[diagnostic(code(on::no_ssh), help("install openssh-client, or name another command: IMGBUILD_SSH"))]
    NoSsh { program: String, problem: String },
    #[error("{host} cannot be reached: {problem}")]
    #[diagnostic(
        code(on::unreachable),
        help(
            "`ssh {login} true` must work without a question: log in by key, and have the host's key in known_hosts; options of ssh go into ~/.ssh/config or IMGBUILD_SSH"
        )
    )]
    Unreachable { host: String, login: String, problem: String },
    #[error("{host} cannot be used: {problem}")]
    #[diagnostic(
        code(on::unusable),
        help("it must be Linux with a shell, and its directory one that this user may write to")
    )]
    Unusable { host: String, problem: String },
    #[error("{host} has another CPU ({machine}), and there is no imgbuild for it here{}", tried(problem))]
    #[diagnostic(code(on::no_program), help("a release has an imgbuild for each CPU: name that one, {variable}=FILE"))]
    NoProgram { host: String, machine: String, variable: String, problem: String },
    #[error("{lock} has tools for {of}, and {host} is {machine}")]
    #[diagnostic(
        code(on::tools),
        help(
            "the lock's packages of the tools root are for the CPU on which it was made: remove {lock} and build with --on, which locks there, or build without --on"
        )
    )]
    Tools { host: String, lock: String, of: String, machine: String },
    #[error("{host}: {problem}")]
    #[diagnostic(code(on::failed), help("nothing was published: run the same command again, or build without --on"))]
    Failed { host: String, problem: String },
    #[error("the connection to {host} is lost: {problem}")]
    #[diagnostic(
        code(on::lost),
        help("the build goes on there for a while; run the same command to follow it and to fetch what it made")
    )]
    Lost { host: String, problem: String },
    #[error("{problem}")]
    #[diagnostic(code(on::unsent), help("{remedy}"))]
    Unsent { problem: String, remedy: String },
}

fn tried(problem: &str) -> String {
    if problem.is_empty() { String::new() } else { format!(": {problem}") }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    Connection(String),
    /// The command ended with this exit code and these last words.
    Command(i32, String),
    Stopped,
    NoSsh(String),
    Unclear(String),
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "an address has the form ssh://[USER@]HOST[:PORT][/DIRECTORY]";
        let rest = text.strip_prefix("ssh://").ok_or(form)?;
        let (login, directory) = match rest.split_once('/') {
            Some((login, directory)) if !directory.trim_matches('/').is_empty() => {
                (login, Some(format!("/{directory}")))
            }
            Some((login, _)) => (login, None),
            None => (rest, None),
        };
        let (user, host) = login.rsplit_once('@').map_or((None, login), |(user, host)| (Some(user), host));
        let (host, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or(form)?)),
            None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(|text| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or("the port is no number"));
        let is_name = |text: &str| {
            let plain = |one: u8| one.is_ascii_alphanumeric() || b"._-:%+".contains(&one);
            !text.is_empty() && !text.starts_with('-') && text.bytes().all(plain)
        };
        if !is_name(host) || !user.is_none_or(is_name) {
            return Err(form.to_owned());
        }
        let is_plain = |one: u8| one.is_ascii_alphanumeric() || b"/._-+".contains(&one);
        if let Some(directory) = &directory
            && (!directory.bytes().all(is_plain) || directory.split('/').any(|part| part == ".."))
        {
            return Err("a directory on the other machine has letters, digits and / . _ - + alone".to_owned());
        }
        let login = user.map_or_else(|| host.to_owned(), |user| format!("{user}@{host}"));
        let port = port.transpose()?;
        Ok(Self { shown: text.trim_end_matches('/').to_owned(), login, port, directory })
    }
}

impl Host {
    pub fn login(&self) -> &str {
        &self.login
    }

    /// Runs a command there and talks to it. `command` must mean the same to any login shell.
    pub fn talk<T>(
        &self,
        ssh: &[String],
        command: &str,
        stopped: &(dyn Fn() -> bool + Sync),
        with: impl FnOnce(ChildStdin, BufReader<ChildStdout>) -> Result<T, String>,
    ) -> Result<T, Failed> {
        let mut words = ssh.iter();
        let program = words.next().map_or("ssh", String::as_str);
        let mut start = Command::new(program);
        // The first value counts: those of IMGBUILD_SSH, then these, then those of the site's ssh_config.
        start.args(words).args(["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]);
        start.args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=4"]);
        // A master that stays would hold the error stream open; one that is there is used.
        start.args(["-o", "ClearAllForwardings=yes", "-o", "LogLevel=ERROR", "-o", "ControlMaster=no"]);
        if let Some(port) = self.port {
            start.args(["-p", &port.to_string()]);
        }
        start.args(["--", &self.login, command]);
        start.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for imgbuild, which ends what it started.
        start.process_group(0);
        let mut child = start.spawn().map_err(|error| Failed::NoSsh(error.to_string()))?;
        let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = (input, output, errors) else {
            return Err(Failed::NoSsh("it has no pipes".to_owned()));
        };
        let is_done = AtomicBool::new(false);
        let complaint = Mutex::new(Vec::new());
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let end = || {
            let _ = group.map(|group| kill_process_group(group, Signal::KILL));
        };
        let (outcome, status) = std::thread::scope(|scope| {
            scope.spawn(|| collect(errors, &complaint));
            scope.spawn(|| {
                while !is_done.load(Ordering::SeqCst) {
                    if stopped() {
                        end();
                        return;
                    }
                    std::thread::sleep(TICK);
                }
            });
            let outcome = with(input, BufReader::new(output));
            let status = ended(&mut child, &end);
            is_done.store(true, Ordering::SeqCst);
            (outcome, status)
        });
        if stopped() {
            return Err(Failed::Stopped);
        }
        let said = complaint.into_inner().unwrap_or_else(PoisonError::into_inner);
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        match (outcome, status) {
            (Ok(value), Some(0)) => Ok(value),
            (_, None | Some(OF_SSH)) => Err(Failed::Connection(last_line(&said, "ssh ended"))),
            (_, Some(code)) if code != 0 => Err(Failed::Command(code, said)),
            (Err(problem), _) => Err(Failed::Unclear(problem)),
            (Ok(_), Some(code)) => Err(Failed::Command(code, said)),
        }
    }
}

/// Waits for ssh, which has nothing more to say.
fn ended(child: &mut Child, end: &dyn Fn()) -> Option<i32> {
    for _ in 0..100 {
        match child.try_wait() {
            Ok(Some(status)) => return status.code(),
            Ok(None) => std::thread::sleep(TICK),
            Err(_) => return None,
        }
    }
    end();
    child.wait().ok()?.code()
}

fn collect(mut errors: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 1024];
    while let Ok(read) = errors.read(&mut buffer) {
        if read == 0 {
            return;
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let surplus = kept.len().saturating_sub(MOST_COMPLAINT);
        kept.drain(..surplus);
    }
}

/// The last line of what was said.
pub fn last_line(said: &str, otherwise: &str) -> String {
    said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or(otherwise).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let of = |text: &str| Host::from_str(text).map(|host| (host.login, host.port, host.directory));
        let good =
            |login: &str, port, directory: Option<&str>| Ok((login.to_owned(), port, directory.map(str::to_owned)));
        assert_eq!(of("ssh://arm1"), good("arm1", None, None));
        assert_eq!(of("ssh://build@arm1:2222/"), good("build@arm1", Some(2222), None));
        assert_eq!(of("ssh://arm1/var/tmp/imgbuild"), good("arm1", None, Some("/var/tmp/imgbuild")));
        assert_eq!(of("ssh://a@[fd00::1]:22"), good("a@fd00::1", Some(22), None));
        for bad in [
            "arm1",
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://a b",
            "ssh://h:0",
            "ssh://h:x",
            "ssh://h/a;b",
            "ssh://h/../x",
            "ssh://-l@h",
            "http://h",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_command_that_is_not_ssh_is_one_that_fails() {
        let host = Host::from_str("ssh://nowhere").unwrap();
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let read = |_: ChildStdin, mut output: BufReader<ChildStdout>| {
            let mut text = String::new();
            output.read_to_string(&mut text).map_err(|error| error.to_string())?;
            Ok(text)
        };
        let talk = |ssh: &str, stopped: bool| host.talk(&words(ssh), "true", &|| stopped, read);
        assert!(matches!(talk("/no/such/program", false), Err(Failed::NoSsh(_))));
        assert_eq!(talk("false", false), Err(Failed::Command(1, String::new())));
        assert_eq!(talk("true", true), Err(Failed::Stopped));
        assert!(talk("echo x", false).unwrap().ends_with("nowhere true\n"));
    }
}

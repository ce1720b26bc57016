//! A few lines of shell on many nodes at once, by the same ssh as a sync.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::NamedTempFile;

use super::connection::{advice, known, last_of, options};
use super::fan::Settings;
use super::wanted::Job;

/// So much is read of what a node says, in bytes.
const MOST: usize = 64 << 10;
const TICK: Duration = Duration::from_millis(10);
/// So often a pipe is read at once: more than it can hold.
const READS: usize = 128;

/// What a node's shell said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its exit status.
    pub status: i32,
    /// What it printed, at most 64 KiB.
    pub out: String,
    /// The last line that it complained, or printed.
    pub last: String,
}

/// Runs lines of shell as the user of ssh on each node, in the order of the jobs: `script` makes them.
/// Errors: As text: a node was not reached, its time was over, or it was interrupted.
pub fn each(
    jobs: &[Job],
    settings: &Settings,
    script: &(dyn Fn(&Job) -> String + Sync),
    stopped: &(dyn Fn() -> bool + Sync),
) -> Vec<Result<Said, String>> {
    let hosts = known(jobs);
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<Said, String>>>> = Mutex::new(jobs.iter().map(|_| None).collect());
    let work = || {
        while let Some((index, job)) = {
            let index = next.fetch_add(1, Ordering::SeqCst);
            jobs.get(index).map(|job| (index, job))
        } {
            let hosts = hosts.as_ref().map_err(String::clone);
            let said = hosts.and_then(|hosts| one(job, settings, hosts.as_ref(), &script(job), stopped));
            if let Ok(mut results) = results.lock() {
                results[index] = Some(said);
            }
        }
    };
    let count = settings.fanout.clamp(1, 4096).min(jobs.len());
    std::thread::scope(|scope| {
        let started = (0..count)
            .filter(|_| std::thread::Builder::new().stack_size(1 << 20).spawn_scoped(scope, work).is_ok())
            .count();
        if started == 0 {
            work();
        }
    });
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.into_iter().map(|result| result.unwrap_or_else(|| Err("it was not tried".to_owned()))).collect()
}

fn one(
    job: &Job,
    settings: &Settings,
    hosts: Option<&NamedTempFile>,
    script: &str,
    stopped: &dyn Fn() -> bool,
) -> Result<Said, String> {
    let hosts = hosts.map(NamedTempFile::path);
    let program = settings.ssh.first().map_or("ssh", String::as_str);
    let mut child = Command::new(program)
        .args(settings.ssh.iter().skip(1))
        .args(["-T", "-o", "BatchMode=yes", "-o", &format!("ConnectTimeout={}", settings.connect.as_secs().max(1))])
        .args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=4"])
        .args(["-o", "ClearAllForwardings=yes", "-o", "LogLevel=ERROR"])
        .args(options(&settings.ssh, &job.node, job.address, hosts))
        // The login shell may be any.
        .args(["--", &job.node, "sh"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("`{program}` cannot be started: {error}"))?;
    let mut heard = [Heard::of(child.stdout.take()), Heard::of(child.stderr.take())];
    // A node that is not there takes nothing: what ssh says then tells why.
    if let Some(mut input) = child.stdin.take() {
        let _ = input.write_all(script.as_bytes());
    }
    let status = waited(&mut child, &mut heard, Instant::now() + settings.timeout, stopped)?;
    let [out, complaint] = heard.map(|heard| String::from_utf8_lossy(&heard.kept).into_owned());
    let lines = |text: &str| text.trim().lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned);
    let last = lines(&complaint).or_else(|| lines(&out)).map(|line| last_of(line.as_bytes())).unwrap_or_default();
    // Source: ssh(1), EXIT STATUS.
    match status.code() {
        Some(255) => Err(advice(&complaint, &job.node, hosts).unwrap_or(match last.is_empty() {
            true => "ssh ended without a word".to_owned(),
            false => last,
        })),
        Some(status) => Ok(Said { status, out, last }),
        None => Err("ssh was killed".to_owned()),
    }
}

/// What comes out of a pipe, as far as it is there: without waiting.
struct Heard {
    from: Option<File>,
    kept: Vec<u8>,
}

impl Heard {
    fn of(from: Option<impl Into<OwnedFd>>) -> Self {
        let from = from.map(|from| File::from(from.into())).filter(|from| ioctl_fionbio(from, true).is_ok());
        Self { from, kept: Vec::new() }
    }

    /// Reads what is there, but not for ever; what is more than is kept is thrown away, so that the node does not wait.
    fn hear(&mut self) {
        let mut buffer = [0; 16 << 10];
        for _ in 0..READS {
            let Some(from) = &mut self.from else { return };
            match from.read(&mut buffer) {
                Ok(0) => self.from = None,
                Ok(read) => {
                    let room = MOST.saturating_sub(self.kept.len()).min(read);
                    self.kept.extend_from_slice(&buffer[..room]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.from = None,
            }
        }
    }
}

/// Waits until a child has ended. All that it said is in its pipes then, even if another process, as a master connection, holds them open.
fn waited(
    child: &mut Child,
    heard: &mut [Heard],
    until: Instant,
    stopped: &dyn Fn() -> bool,
) -> Result<std::process::ExitStatus, String> {
    loop {
        let ended = child.try_wait();
        heard.iter_mut().for_each(Heard::hear);
        match ended {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < until && !stopped() => std::thread::sleep(TICK),
            _ => break,
        }
    }
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
    Err(if stopped() { "interrupted".to_owned() } else { "it did not answer in time".to_owned() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_node_runs_its_lines_and_says_how_they_ended() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("wrapper");
        let text = "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\n[ \"$2\" != cn3 ] || { echo no route >&2; exit 255; }\n[ \"$2\" != cn4 ] || sleep 60\nNODE=$2 exec \"$3\"\n";
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
        let settings = Settings {
            ssh: vec![program.display().to_string()],
            fanout: 4,
            timeout: Duration::from_secs(3),
            connect: Duration::from_secs(1),
        };
        let jobs: Vec<Job> = ["cn1", "cn2", "cn3", "cn4"].iter().map(|name| Job::of(name, "compute")).collect();
        let script = |job: &Job| format!("echo \"$NODE is {}\"; echo woe >&2; exit {}", job.node, &job.node[2..]);
        let all = each(&jobs, &settings, &script, &|| false);
        let said =
            |status: i32, node: &str| Said { status, out: format!("{node} is {node}\n"), last: "woe".to_owned() };
        assert_eq!(all[0], Ok(said(1, "cn1")));
        assert_eq!(all[1], Ok(said(2, "cn2")));
        assert_eq!(all[2], Err("no route".to_owned()));
        assert_eq!(all[3], Err("it did not answer in time".to_owned()));
        assert_eq!(each(&jobs[3..], &settings, &script, &|| true), [Err("interrupted".to_owned())]);
    }

    #[test]
    fn an_answer_ends_with_its_command_whoever_holds_its_pipes() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("wrapper");
        // As the master connection that ssh leaves: it holds the pipes of the first command.
        let text = "#!/bin/sh\nsleep 20 &\necho $! >\"$0.pid\"\nwhile [ \"$1\" != -- ]; do shift; done\nexec \"$3\"\n";
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
        let settings = Settings {
            ssh: vec![program.display().to_string()],
            fanout: 1,
            timeout: Duration::from_secs(60),
            connect: Duration::from_secs(1),
        };
        let began = Instant::now();
        let script = |_: &Job| "head -c 300000 /dev/zero | tr '\\0' x; echo woe >&2; exit 3".to_owned();
        let all = each(&[Job::of("cn1", "compute")], &settings, &script, &|| false);
        let said = all[0].as_ref().unwrap();
        // More than a pipe holds and than is kept; nothing before the end is missing.
        assert_eq!((said.status, said.out.len(), said.last.as_str()), (3, MOST, "woe"));
        // Far less than the other holds them open; how far depends on the machine.
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        let holder = std::fs::read_to_string(folder.path().join("wrapper.pid")).unwrap();
        let holder = holder.trim().parse().ok().and_then(Pid::from_raw).unwrap();
        rustix::process::kill_process(holder, Signal::KILL).unwrap();
    }
}

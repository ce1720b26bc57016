//! The process of dnsmasq: checked, started, started again when it ends, and ended with the server.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::lock::{Lock, end_orphan};
use super::machine::{PROGRAM, cannot_write, free, is_installed};
use super::own_lines::OwnLines;
use super::signed::Behind;
use super::{Places, Plan, conf, leases, loaders};
use crate::Say;
use crate::error::ServeError;
use crate::files::Roots;
use crate::site::desk::Desk;
use files::sweep::Held;
use files::{Aside, Durability};
use nodes::Nodes;

const STARTS_WITHIN: Duration = Duration::from_secs(15);
/// How often it may end within [`WITHIN`] before the pauses stay as they are: files and boot scripts are served whatever happens to it.
const MANY_ENDS: usize = 5;
const WITHIN: Duration = Duration::from_secs(60);
/// Between two tries when it has ended so often.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
pub(super) const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// How often nodes.toml is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// What it says when it runs.
const STARTED: &str = "started, version";
const KEPT_LINES: usize = 6;

pub(crate) struct Dnsmasq {
    end: Sender<()>,
    watch: Option<JoinHandle<()>>,
    files: PathBuf,
    readable: Readable,
    #[allow(dead_code, reason = "held as long as it runs")]
    lock: Lock,
}

/// A directory that goes with the server.
enum Readable {
    Named(PathBuf),
    Temporary(Held),
}

impl Readable {
    fn path(&self) -> &Path {
        match self {
            Self::Named(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}

impl Drop for Readable {
    fn drop(&mut self) {
        if let Self::Named(path) = self {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Where root's server keeps what dnsmasq reads as its own user: below the workspace it might not come there.
pub(super) fn readable_of_root(interface: &str) -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    // Cards of two network namespaces may have the same name.
    let network = fs::metadata("/proc/self/ns/net").map_or(0, |found| found.ino());
    PathBuf::from(format!("/run/imgbuild-dnsmasq-{interface}-{network}"))
}

fn readable(interface: &str) -> std::io::Result<Readable> {
    use std::os::unix::fs::PermissionsExt;
    let of_service = std::env::var_os("RUNTIME_DIRECTORY").map(|all| {
        let all = all.to_string_lossy().into_owned();
        Path::new(all.split(':').next().unwrap_or_default()).join(PROGRAM)
    });
    let named = match of_service {
        None if rustix::process::geteuid().is_root() => Some(readable_of_root(interface)),
        other => other,
    };
    let Some(path) = named else {
        let directory = Held::below(&std::env::temp_dir(), "imgbuild-dnsmasq-")?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        return Ok(Readable::Temporary(directory));
    };
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    loaders::make_directory(&path)?;
    Ok(Readable::Named(path))
}

impl Dnsmasq {
    /// Writes its files, and starts it; returns when it runs.
    /// Errors: It is missing, refuses its configuration, or cannot have its ports.
    pub(super) fn start(
        (plan, notes): (Plan, Vec<String>),
        desk: Arc<Desk>,
        roots: Arc<Roots>,
        say: Say,
        is_verbose: bool,
    ) -> Result<Self, ServeError> {
        is_installed()?;
        let state = desk.state();
        let lock = Lock::take(&Places::of(state, PathBuf::new()), &plan.url())?;
        end_orphan(state, &say);
        free(&plan)?;
        let readable = readable(&plan.interface).map_err(|error| cannot_write("its directory", &error))?;
        let places = Places::of(state, readable.path().to_owned());
        let nodes = desk.nodes();
        let hosts = write(&plan, &places, &nodes).map_err(|error| cannot_write("its files", &error))?;
        let mut behind = Behind::new(&plan, roots, places.tftp());
        behind.look(&desk, &say);
        let own_lines = OwnLines::first(plan.own_lines.clone(), &plan, &places)?;
        let (end, ended) = channel();
        let ends = VecDeque::new();
        let renewed = Instant::now();
        let unwritten = None;
        let watch = Watch {
            plan,
            places,
            desk,
            say,
            is_verbose,
            ends,
            renewed,
            hosts,
            nodes,
            own_lines,
            notes,
            unwritten,
            behind,
        };
        let files = watch.places.tftp();
        let child = watch.spawn()?;
        let thread = std::thread::Builder::new().name(PROGRAM.to_owned());
        let thread = thread.spawn(move || watch.run(child, &ended)).map_err(ServeError::Machine)?;
        Ok(Self { end, watch: Some(thread), files, readable, lock })
    }

    /// The directory of TFTP.
    pub(crate) fn files(&self) -> &Path {
        debug_assert!(self.files.starts_with(self.readable.path()));
        &self.files
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.end.send(());
        if let Some(watch) = self.watch.take() {
            let _ = watch.join();
        }
    }
}

/// Writes all that it reads; the text of the hosts.
fn write(plan: &Plan, places: &Places, nodes: &Nodes) -> std::io::Result<String> {
    fs::create_dir_all(&places.home)?;
    let tftp = places.tftp();
    loaders::make_directory(&tftp)?;
    loaders::gather(&plan.offers, plan.loaders.as_deref(), &tftp)?;
    // GRUB looks where its image says: Debian's below grub, that of grub-mknetdir below boot/grub, Red Hat's where it came from.
    for name in ["grub/grub.cfg", "boot/grub/grub.cfg", "grub.cfg"] {
        let path = tftp.join(name);
        if !path.exists() {
            path.parent().map_or(Ok(()), loaders::make_directory)?;
            write_readable(&path, &plan.grub())?;
        }
    }
    let hosts = conf::hosts(nodes);
    write_aside(&places.hosts(), &hosts)?;
    Ok(hosts)
}

pub(super) fn write_readable(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

/// Writes a file that dnsmasq reads, the whole of it or nothing.
pub(super) fn write_aside(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    let mut aside = Aside::of(path, 0o644)?;
    aside.write_all(text.as_bytes())?;
    // Its own user reads it, whatever this server's umask is.
    aside.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    aside.replace(Durability::Kill)
}

pub(super) fn conf_argument(places: &Places) -> String {
    format!("--conf-file={}", places.conf().display())
}

struct Watch {
    plan: Plan,
    places: Places,
    desk: Arc<Desk>,
    say: Say,
    is_verbose: bool,
    /// When it ended by itself, or could not be started.
    ends: VecDeque<Instant>,
    /// When it was given the nodes last.
    renewed: Instant,
    hosts: String,
    nodes: Arc<Nodes>,
    own_lines: OwnLines,
    /// What was said of nodes that are not answered.
    notes: Vec<String>,
    /// Why the nodes could not be written, as it was said last.
    unwritten: Option<String>,
    behind: Behind,
}

impl Watch {
    fn spawn(&self) -> Result<Child, ServeError> {
        leases::settle(&self.places.leases(), &self.nodes).map_err(|error| cannot_write("its leases", &error))?;
        let mut command = Command::new(PROGRAM);
        command.args(["--keep-in-foreground", "--log-facility=-", &conf_argument(&self.places)]);
        command.arg(format!("--pid-file={}", self.places.pid().display()));
        if self.is_verbose {
            command.arg("--log-dhcp");
        }
        // Ctrl-C at a terminal is this server's, which ends it.
        command.env("LC_ALL", "C").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(ServeError::Machine)?;
        let (started, starts) = channel();
        let kept: Arc<Mutex<VecDeque<String>>> = Arc::default();
        if let Some(stderr) = child.stderr.take() {
            let (say, kept) = (Arc::clone(&self.say), Arc::clone(&kept));
            std::thread::spawn(move || tell(stderr, &say, &kept, &started));
        }
        if starts.recv_timeout(STARTS_WITHIN).is_ok() {
            return Ok(child);
        }
        let _ = child.kill();
        let _ = child.wait();
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        // What it ends with is its last line.
        let said = kept.back().cloned().unwrap_or_else(|| "it does not say why".to_owned());
        Err(ServeError::dhcp_machine(
            format!("{PROGRAM} does not start: {said}"),
            "`ss -lunp` names who has ports 67 and 69, `ip address` the addresses of this machine".to_owned(),
        ))
    }

    fn run(mut self, child: Child, ended: &Receiver<()>) {
        let mut child = Some(child);
        let mut again = Instant::now();
        let mut looked = Instant::now();
        loop {
            // A server that is gone has dropped its end.
            if !matches!(ended.recv_timeout(Duration::from_millis(200)), Err(RecvTimeoutError::Timeout)) {
                return end(child);
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.behind.look(&self.desk, &self.say);
            }
            if let Some(running) = &mut child {
                if let Ok(Some(status)) = running.try_wait() {
                    (self.say)(&format!("{PROGRAM} ended: {status}"));
                    child = None;
                    again = Instant::now() + self.pause();
                } else if self.renew() {
                    // A hangup would not do: dnsmasq 2.90 dies of it when there is a lease, and it keeps to leases of before.
                    end(child.take());
                    again = Instant::now();
                }
            }
            if child.is_none() && Instant::now() >= again {
                self.renew();
                match self.spawn() {
                    Ok(running) => {
                        (self.say)(&format!("{PROGRAM} runs again"));
                        child = Some(running);
                    }
                    Err(error) => {
                        (self.say)(&error.to_string());
                        again = Instant::now() + self.pause();
                    }
                }
            }
        }
    }

    /// Notes that it ended without being asked to; how long to wait before it is started again.
    fn pause(&mut self) -> Duration {
        self.ends.retain(|at| at.elapsed() < WITHIN);
        self.ends.push_back(Instant::now());
        let count = self.ends.len();
        if count == MANY_ENDS {
            (self.say)(&format!(
                "{PROGRAM} ended {MANY_ENDS} times within a minute: the lines above are what it said; it is started again every {} s, and nodes \
                 that boot meanwhile get no address from it; files and boot scripts are served",
                LONGEST_PAUSE.as_secs()
            ));
        }
        Duration::from_secs(1 << (count - 1).min(10)).min(LONGEST_PAUSE)
    }

    /// Writes the nodes and the site's own lines where their files have changed; whether dnsmasq has to read them.
    fn renew(&mut self) -> bool {
        if self.renewed.elapsed() < LOOK {
            return false;
        }
        self.renewed = Instant::now();
        let nodes = self.desk.nodes();
        self.desk.say_errors(&self.say);
        let has_lines = self.own_lines.again(&self.plan, &self.places).unwrap_or_else(|error| {
            (self.say)(&format!("{error}; {PROGRAM} runs with what they said before"));
            false
        });
        if has_lines {
            (self.say)("loaders/dnsmasq.conf has changed: dnsmasq is started again with its lines");
        }
        let has_nodes = !Arc::ptr_eq(&nodes, &self.nodes) && self.write_nodes(&nodes);
        if has_lines || has_nodes {
            self.say_notes(&nodes);
        }
        has_lines || has_nodes
    }

    /// Writes the nodes; whether that is something else than before. What cannot be written is tried again.
    fn write_nodes(&mut self, nodes: &Arc<Nodes>) -> bool {
        let hosts = conf::hosts(nodes);
        let is_new = hosts != self.hosts;
        if is_new && let Err(error) = write_aside(&self.places.hosts(), &hosts) {
            let problem = format!("{PROGRAM} does not get the new nodes: {error}; this is tried again");
            if self.unwritten.as_ref() != Some(&problem) {
                (self.say)(&problem);
                self.unwritten = Some(problem);
            }
            return false;
        }
        self.unwritten = None;
        self.nodes = Arc::clone(nodes);
        self.hosts = hosts;
        if is_new {
            (self.say)("nodes.toml has changed: dnsmasq is started again with its nodes");
        } else {
            self.say_notes(nodes);
        }
        is_new
    }

    /// Says which nodes are not answered, or only in part, where that was not said before.
    fn say_notes(&mut self, nodes: &Nodes) {
        let notes = self.plan.notes(nodes, self.own_lines.has_any());
        notes.iter().filter(|note| !self.notes.contains(note)).for_each(|note| (self.say)(&format!("note: {note}")));
        self.notes = notes;
    }
}

fn end(child: Option<Child>) {
    let Some(mut child) = child else { return };
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let began = Instant::now();
    while began.elapsed() < ENDS_WITHIN {
        if let Ok(Some(_)) = child.try_wait() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Its lines, as lines of this server.
fn tell(stderr: impl Read, say: &Say, kept: &Mutex<VecDeque<String>>, started: &Sender<()>) {
    for line in BufReader::new(stderr).split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line).into_owned();
        // Without the time in front: this server's lines have none either.
        let text = line.find(PROGRAM).map_or(line.as_str(), |at| &line[at..]).trim_end();
        let text = without_number(text);
        if text.trim().is_empty() {
            continue;
        }
        say(&text);
        if text.contains(STARTED) {
            let _ = started.send(());
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(text);
        if kept.len() > KEPT_LINES {
            kept.pop_front();
        }
    }
}

/// `dnsmasq-dhcp[123]: text` without the number.
fn without_number(text: &str) -> String {
    match (text.find('['), text.find("]: ")) {
        (Some(open), Some(close)) if open < close && text[open + 1..close].bytes().all(|one| one.is_ascii_digit()) => {
            format!("{}{}", &text[..open], &text[close + 1..])
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod own_tests {
    use super::*;

    #[test]
    fn lines_of_dnsmasq_are_told_without_time_and_number() {
        let kept = Mutex::default();
        let (started, starts) = channel();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&said);
        let say: Say = Arc::new(move |line: &str| heard.lock().unwrap().push(line.to_owned()));
        let text = b"Nov 27 08:55:09 dnsmasq[12]: started, version 2.90 DNS disabled\n\n\
            Nov 27 08:55:10 dnsmasq-dhcp[12]: DHCPACK(eth1) 10.0.0.11 52:54:00:00:00:01 cn[1]\n\
            dnsmasq: bad option at line 3 of x\n\xff\n";
        tell(&text[..], &say, &kept, &started);
        assert_eq!(
            *said.lock().unwrap(),
            [
                "dnsmasq: started, version 2.90 DNS disabled",
                "dnsmasq-dhcp: DHCPACK(eth1) 10.0.0.11 52:54:00:00:00:01 cn[1]",
                "dnsmasq: bad option at line 3 of x",
                "\u{fffd}",
            ]
        );
        assert!(starts.try_recv().is_ok() && starts.try_recv().is_err());
    }
}

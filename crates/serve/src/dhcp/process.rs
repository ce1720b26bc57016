//! The process of dnsmasq: checked, started, and ended with the server.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::lock::Lock;
use super::orphan::end_orphan;
use super::own::OwnLines;
use super::signed::Behind;
use super::watch::Watch;
use super::{Answers, Places, Plan, conf, loaders};
use crate::Say;
use crate::error::ServeError;
use crate::files::Roots;
use crate::site::desk::Desk;
use crate::sockets::system;
use files::sweep::Held;
use files::{Aside, Durability};
use nodes::Nodes;

pub(super) const PROGRAM: &str = "dnsmasq";
pub(super) const ENDS_WITHIN: Duration = Duration::from_secs(5);
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
        (plan, own, noted): (Plan, OwnLines, Vec<String>),
        directory: Option<&Path>,
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
        let hosts = write(&plan, &places, &nodes, directory).map_err(|error| cannot_write("its files", &error))?;
        let mut behind = Behind::new(&plan, roots, places.tftp());
        behind.look(&desk, &say);
        own.install(&plan, &places)?;
        let (end, ended) = channel();
        let files = places.tftp();
        let watch = Watch::new((plan, own, places), (desk, say, is_verbose), (nodes, hosts, noted), behind);
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

fn is_installed() -> Result<(), ServeError> {
    match Command::new(PROGRAM).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(_) => Ok(()),
        Err(error) => Err(ServeError::dhcp_machine(
            format!("{PROGRAM} cannot be run: {error}"),
            "install it: apt install dnsmasq-base, or dnf install dnsmasq; it is looked for in PATH, which needs /usr/sbin"
                .to_owned(),
        )),
    }
}

pub(super) fn cannot_write(what: &str, error: &std::io::Error) -> ServeError {
    ServeError::dhcp_machine(
        format!("cannot write {what}: {error}"),
        "the state's directory (--state) and /run have to be writable, and loaders' files readable".to_owned(),
    )
}

/// Writes all that it reads but its configuration; the text of the hosts.
fn write(plan: &Plan, places: &Places, nodes: &Nodes, directory: Option<&Path>) -> std::io::Result<String> {
    fs::create_dir_all(&places.home)?;
    let tftp = places.tftp();
    loaders::make_directory(&tftp)?;
    loaders::gather(&plan.offers, directory, &tftp)?;
    // GRUB looks where its image says: Debian's below grub, that of grub-mknetdir below boot/grub, Red Hat's where it came from.
    for name in ["grub/grub.cfg", "boot/grub/grub.cfg", "grub.cfg"] {
        let path = tftp.join(name);
        if !path.exists() {
            path.parent().map_or(Ok(()), loaders::make_directory)?;
            write_readable(&path, &plan.grub())?;
        }
    }
    let hosts = conf::hosts(nodes);
    write_aside(&places.hosts(), hosts.as_bytes())?;
    Ok(hosts)
}

pub(super) fn write_readable(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

/// Writes a file that dnsmasq reads, the whole of it or nothing.
pub(super) fn write_aside(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    let mut aside = Aside::of(path, 0o644)?;
    aside.write_all(bytes)?;
    // Its own user reads it, whatever this server's umask is.
    aside.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    aside.replace(Durability::Kill)
}

pub(super) fn conf_argument(places: &Places) -> String {
    format!("--conf-file={}", places.conf().display())
}

/// Lets it check a configuration: its message names the line of a mistake in the site's own lines, which it reads as a copy.
/// Errors: It refuses it, or cannot be run.
pub(super) fn check(conf: &Path, copy: &Path, own: Option<&Path>) -> Result<(), ServeError> {
    let mut command = Command::new(PROGRAM);
    command.arg("--test").arg(format!("--conf-file={}", conf.display())).env("LC_ALL", "C").stdin(Stdio::null());
    let output = command.output().map_err(ServeError::Machine)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = match own {
        Some(own) => said.replace(&copy.display().to_string(), &own.display().to_string()),
        None => said,
    };
    let said = said.trim().trim_start_matches("dnsmasq: ").escape_debug().to_string();
    Err(ServeError::dhcp_input(
        format!("{PROGRAM} refuses its configuration: {said}"),
        "mend that line of loaders/dnsmasq.conf; `imgbuild serve --dnsmasq --print-dnsmasq` prints the rest",
    ))
}

/// Whether its ports can be had. dnsmasq shares that of DHCP with others, so that two would answer the same nodes.
fn free(plan: &Plan) -> Result<(), ServeError> {
    let mut ports = vec![(67, "DHCP", Ipv4Addr::UNSPECIFIED), (69, "TFTP", plan.address)];
    if plan.answers == Answers::Proxy {
        ports.push((4011, "proxy DHCP", Ipv4Addr::UNSPECIFIED));
    }
    for (port, what, address) in ports {
        let interface = address.is_unspecified().then_some(plan.interface.as_str());
        if let Err(errno) = system::probe(SocketAddrV4::new(address, port), interface) {
            use rustix::io::Errno;
            let help = match errno {
                Errno::ADDRINUSE => format!(
                    "another program answers there: `ss -lunp 'sport = :{port}'` names it (libvirt, tftpd-hpa, a dnsmasq of the system)"
                ),
                Errno::ACCESS | Errno::PERM => {
                    "start the server as root, or with the capabilities that docs/serve.md names".to_owned()
                }
                _ => "`ip address` lists the addresses of this machine".to_owned(),
            };
            let problem = format!("port {port} ({what}) cannot be had on {}: {errno}", plan.interface);
            return Err(ServeError::dhcp_machine(problem, help));
        }
    }
    Ok(())
}

pub(super) fn end(child: Option<Child>) {
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
pub(super) fn tell(stderr: impl Read, say: &Say, kept: &Mutex<VecDeque<String>>, started: &Sender<()>) {
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

//! Machines under test, and servers that misbehave.

use std::cell::OnceCell;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use boot::{Board, Machine, Running};

use super::Built;
use super::namespaced::Lan;

/// How long any machine of these tests may take: software emulation on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// What the kernel does against spying neighbours is not what is tested, and is a tenth of the emulator's work.
pub const QUICK: &str = "mitigations=off";

/// One host key is enough for a test: to look for the primes of an RSA key takes an emulated node ten seconds and more. systemd
/// before 252 and images without it do not know the word. Source: systemd-tmpfiles(8), credentials.
const ONE_KEY: &str = "\"systemd.set_credential=tmpfiles.extra:f- /etc/ssh/sshd_config.d/test.conf - - - - \
                       HostKey /etc/ssh/ssh_host_ed25519_key\"";

/// What a server does with the n-th request for a file: gives its bytes, or none for no answer.
pub type Misdeed = dyn Fn(&str, usize, Vec<u8>) -> Option<Vec<u8>> + Send + Sync;

/// A server whose answers can be corrupt; without ranges, as some servers are.
pub struct Server {
    pub port: u16,
}

impl Server {
    /// Serves files of a directory on a port (0: a free one) of the loopback.
    pub fn start(directory: &Path, port: u16, misdeed: Arc<Misdeed>) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), directory, port, misdeed)
    }

    /// The same on all addresses of a cable's end.
    pub fn start_in(lan: &Lan, directory: &Path, port: u16, misdeed: Arc<Misdeed>) -> Self {
        // Of both kinds.
        lan.enter(|| Self::start_on(Ipv6Addr::UNSPECIFIED.into(), directory, port, misdeed))
    }

    fn start_on(address: IpAddr, directory: &Path, port: u16, misdeed: Arc<Misdeed>) -> Self {
        let listener = TcpListener::bind((address, port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let directory = directory.to_owned();
        let count = Arc::new(AtomicUsize::new(0));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (directory, misdeed, count) = (directory.clone(), Arc::clone(&misdeed), Arc::clone(&count));
                std::thread::spawn(move || drop(serve(stream, &directory, misdeed.as_ref(), &count)));
            }
        });
        Self { port }
    }
}

fn serve(mut stream: TcpStream, directory: &Path, misdeed: &Misdeed, count: &AtomicUsize) -> std::io::Result<()> {
    let mut line = String::new();
    let mut input = BufReader::new(stream.try_clone()?);
    input.read_line(&mut line)?;
    let name = line.split_whitespace().nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    while line.trim() != "" {
        line.clear();
        input.read_line(&mut line)?;
    }
    let Ok(bytes) = std::fs::read(directory.join(&name)) else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let announced = bytes.len();
    let number =
        if name.ends_with(".index") || name.ends_with(".sha256") { 0 } else { count.fetch_add(1, Ordering::Relaxed) };
    let Some(bytes) = misdeed(&name, number, bytes) else { return Ok(()) };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {announced}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(&bytes)
}

/// Words of the command line that build.json asks for, with the server's address.
pub fn cmdline(built: &Built, image: &str, url: &str) -> String {
    let text = std::fs::read(built.space.artefact(image, "build.json")).unwrap();
    let info: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let words: Vec<String> =
        info["cmdline"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().replace("{url}", url)).collect();
    words.join(" ")
}

/// The same of another form of the image than the first.
pub fn cmdline_of(built: &Built, image: &str, rootimg: &str, url: &str) -> String {
    let ran = built.space.run(&["boot-entry", image, "--url", url, "--rootimg", rootimg, "--format", "json"]).good();
    let entry: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let words: Vec<&str> = entry["cmdline"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert!(words[0].ends_with(rootimg), "{words:?}");
    words.join(" ")
}

pub fn start(built: &Built, image: &str, cmdline: String, change: impl FnOnce(&mut Machine)) -> Running {
    let artefact = |name: &str| -> PathBuf { built.space.artefact(image, name).canonicalize().unwrap() };
    // A word without a dot is a variable of the first process. Source: Linux, init/main.c, unknown_bootoption.
    let planted =
        std::env::var("IMGBUILD_PLANTED").map_or_else(|_| String::new(), |name| format!(" IMGBUILD_PLANTED={name}"));
    let mut machine = Machine {
        kernel: artefact("kernel"),
        initrd: artefact("initrd-stateless"),
        cmdline: format!("{cmdline} {QUICK} {ONE_KEY}{planted}"),
        memory_mib: 1024,
        // A second one costs a quarter more processor time, and waits for the first; `imgbuild boot` has two.
        cpus: 1,
        board: Board::of("x86_64"),
        processor: Machine::MODERN,
        firmware: None,
        network: vec![Machine::user_network("52:54:00:12:34:56", None)],
        disks: Vec::new(),
    };
    change(&mut machine);
    let running = machine.start().unwrap();
    if !stands_still_early(&running) {
        return running;
    }
    // Written past the test harness, which would keep it to itself.
    let said =
        format!("\n*** the emulator stopped before its guest's first program; one more try:\n{}\n", running.console());
    std::io::stderr().write_all(said.as_bytes()).unwrap();
    drop(running);
    machine.start().unwrap()
}

/// How long a kernel may say nothing in its first second.
const STANDSTILL: Duration = Duration::from_secs(40);

/// Whether the emulated kernel stands still before it has started a program, or unpacked the initrd that is under test:
/// seen once in some hundred boots of QEMU 7.2 without KVM on a loaded machine, about 0.45 s into the boot.
fn stands_still_early(running: &Running) -> bool {
    let mut length = 0;
    let mut moved = std::time::Instant::now();
    loop {
        let console = running.console();
        let last = console.lines().rev().find_map(|line| line.strip_prefix('[')?.split_once(']'));
        let seconds = last.and_then(|(time, _)| time.trim().parse::<f64>().ok());
        if console.contains("unpack rootfs") || seconds.is_some_and(|time| time >= 1.0) {
            return false;
        }
        if console.len() != length {
            (length, moved) = (console.len(), std::time::Instant::now());
        }
        if moved.elapsed() > STANDSTILL {
            return seconds.is_some();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits for a text on the console, and shows the console when it does not come.
#[track_caller]
pub fn expect(running: &Running, text: &str) {
    let came = running.wait_for(Some(text), Some(PATIENCE), &mut |_| true);
    let console = running.console();
    assert!(!console.contains("Initramfs unpacking failed"), "{console}");
    assert!(came, "the console did not show `{text}`:\n{console}");
}

pub struct Node {
    /// Program and arguments in front of ssh, for instance to enter a network namespace.
    prefix: Vec<String>,
    host: String,
    port: u16,
    /// File with the private key.
    key: PathBuf,
    connection: OnceCell<Connection>,
}

/// A connection that all commands use: to agree upon keys for each would be most of what an emulated node does for them.
struct Connection {
    /// With ssh's socket.
    directory: tempfile::TempDir,
    ssh: Child,
}

impl Connection {
    fn socket(directory: &tempfile::TempDir) -> PathBuf {
        directory.path().join("s")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}

impl Node {
    pub fn forwarded(port: u16, key: &Path) -> Self {
        Self::new(&[], "127.0.0.1", port, key)
    }

    /// A node at an address, reached by a program that is put in front of ssh.
    pub fn new(prefix: &[&str], host: &str, port: u16, key: &Path) -> Self {
        let prefix = prefix.iter().map(|&word| word.to_owned()).collect();
        Self { prefix, host: host.to_owned(), port, key: key.to_owned(), connection: OnceCell::new() }
    }

    fn ssh(&self) -> Command {
        let mut words = self.prefix.clone();
        words.push("ssh".to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=10",
            "BatchMode=yes",
        ] {
            command.arg("-o").arg(option);
        }
        command.arg("-i").arg(&self.key).args(["-p", &self.port.to_string()]);
        command
    }

    /// Tries to connect; whether the node answers.
    pub fn connect(&self) -> bool {
        if self.connection.get().is_some() {
            return true;
        }
        let directory = tempfile::tempdir().unwrap();
        let socket = Connection::socket(&directory);
        let mut command = self.ssh();
        command.args(["-M", "-N", "-S"]).arg(&socket).arg(format!("root@{}", self.host));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut connection = Connection { directory, ssh: command.spawn().unwrap() };
        // ssh makes its socket when it is let in, and ends when it is not.
        while !socket.exists() {
            if connection.ssh.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.connection.set(connection).is_ok()
    }

    /// Runs a shell command; its output, or none where the node does not answer or the command fails.
    pub fn try_run(&self, script: &str) -> Option<String> {
        let mut command = self.ssh();
        if let Some(connection) = self.connection.get() {
            command.arg("-S").arg(Connection::socket(&connection.directory));
        }
        let output = command.arg(format!("root@{}", self.host)).arg(script).output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    #[track_caller]
    pub fn wait(&self, running: &Running) {
        let began = std::time::Instant::now();
        while !self.connect() {
            assert!(began.elapsed() < PATIENCE, "no ssh answer:\n{}", running.console());
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Runs a shell command that must succeed.
    #[track_caller]
    pub fn run(&self, script: &str) -> String {
        self.try_run(script).unwrap_or_else(|| panic!("`{script}` failed on the node"))
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

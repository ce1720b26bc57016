//! QEMU, always with software emulation (TCG): it works everywhere, and the same everywhere.

use std::ffi::OsString;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::card::{CARDS, Card};
use super::error::BootError;
use super::firmware::Firmware;

use files::sweep;

#[derive(Debug, Clone)]
pub struct Machine {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    /// The kernel's command line.
    pub cmdline: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    pub cpus: u32,
    pub board: &'static Board,
    /// Which processor: a name that QEMU's `-cpu` takes, with what it has more or less.
    pub processor: &'static str,
    pub firmware: Option<Firmware>,
    pub network: Vec<(String, String)>,
    pub disks: Vec<PathBuf>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Board {
    /// CPU as `uname -m` prints it.
    pub machine: &'static str,
    program: &'static str,
    /// What its packages are called, by distribution.
    packages: &'static str,
    /// What `-M` takes.
    model: &'static str,
    /// Which processor: a name that `-cpu` takes, with what it has more or less.
    pub processor: &'static str,
    /// The kernel's name of the serial line that QEMU shows.
    pub console: &'static str,
}

const BOARDS: [Board; 3] = [
    Board {
        machine: "x86_64",
        program: "qemu-system-x86_64",
        packages: "`qemu-system-x86` of Debian and Ubuntu, `qemu-system-x86-core` of Fedora, `qemu-x86` of SUSE",
        model: "pc",
        // All that QEMU can emulate, but for what only takes time: page tables of five levels, and `rep movsb`, which QEMU does
        // byte by byte and kernels prefer for copying and clearing where a processor is said to be fast at it (a tenth of a boot).
        processor: "max,la57=off,erms=off,fsrm=off",
        console: "ttyS0",
    },
    Board {
        machine: "aarch64",
        program: "qemu-system-aarch64",
        packages: "`qemu-system-arm` of Debian and Ubuntu, `qemu-system-aarch64-core` of Fedora, `qemu-arm` of SUSE",
        model: "virt",
        // The newest signs pointers, which takes most of the time.
        processor: "cortex-a72",
        console: "ttyAMA0",
    },
    Board {
        machine: "ppc64le",
        program: "qemu-system-ppc64",
        packages: "`qemu-system-ppc` of Debian and Ubuntu, `qemu-system-ppc-core` of Fedora, `qemu-ppc` of SUSE",
        // Without what QEMU cannot do in software.
        model: "pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off",
        processor: "power9",
        console: "hvc0",
    },
];

impl Board {
    /// That of a CPU, as `uname -m` prints it; the PC's where it is another one.
    pub fn of(machine: &str) -> &'static Self {
        BOARDS.iter().find(|board| board.machine == machine).unwrap_or(&BOARDS[0])
    }
}

impl Machine {
    /// The processor of [`Board`] for x86-64.
    pub const MODERN: &str = BOARDS[0].processor;

    /// A device on QEMU's own network, where the host is 10.0.2.2; `forward` leads a port of the loopback to the
    /// machine's ssh.
    pub fn user_network(mac: &str, forward: Option<u16>) -> (String, String) {
        Self::user_network_by(&CARDS[0], mac, forward)
    }

    /// The same with another card.
    pub fn user_network_by(card: &Card, mac: &str, forward: Option<u16>) -> (String, String) {
        let forward = forward.map(|port| format!(",hostfwd=tcp:127.0.0.1:{port}-:22")).unwrap_or_default();
        (format!("user,id=net0{forward}"), format!("{},netdev=net0,mac={mac}", card.device))
    }

    /// `variables` is the firmware's own copy.
    fn arguments(&self, variables: Option<&Path>) -> Vec<OsString> {
        let mut list: Vec<OsString> =
            ["-accel", "tcg", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"]
                .iter()
                .map(OsString::from)
                .collect();
        let mut more = |name: &str, value: OsString| {
            list.push(name.into());
            list.push(value);
        };
        more("-M", self.board.model.into());
        more("-cpu", self.processor.into());
        more("-m", format!("{}M", self.memory_mib).into());
        more("-smp", self.cpus.to_string().into());
        more("-kernel", self.kernel.clone().into());
        more("-initrd", self.initrd.clone().into());
        more("-append", self.cmdline.clone().into());
        more("-device", "virtio-rng-pci".into());
        if let (Some(firmware), Some(variables)) = (self.firmware, variables) {
            more("-drive", format!("if=pflash,format=raw,readonly=on,file={}", firmware.code).into());
            more("-drive", format!("if=pflash,format=raw,file={}", in_a_list(variables)).into());
        }
        for (network, device) in &self.network {
            more("-netdev", network.into());
            more("-device", device.into());
        }
        for disk in &self.disks {
            more("-drive", format!("file={},format=raw,if=virtio", in_a_list(disk)).into());
        }
        list
    }

    pub fn start(&self) -> Result<Running, BootError> {
        let program = self.board.program;
        let variables = self.firmware.map(own_variables).transpose()?;
        let mut child = Command::new(program)
            .args(self.arguments(variables.as_ref().map(tempfile::NamedTempFile::path)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    BootError::NoQemu { program: program.to_owned(), packages: self.board.packages }
                }
                _ => BootError::Start(error),
            })?;
        let console = Arc::new((Mutex::new(Console::default()), Condvar::new()));
        for stream in [child.stdout.take().map(boxed), child.stderr.take().map(boxed)].into_iter().flatten() {
            let console = Arc::clone(&console);
            std::thread::spawn(move || read_console(stream, &console));
        }
        Ok(Running { child, console, _variables: variables })
    }
}

/// A path in a list of QEMU's: a comma in a value is written twice.
fn in_a_list(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// A machine's own copy of its firmware's variables.
fn own_variables(firmware: Firmware) -> Result<tempfile::NamedTempFile, BootError> {
    let failed = |source| BootError::Variables { path: firmware.variables, source };
    let mut copy = sweep::file_in(&std::env::temp_dir(), "imgbuild-uefi-", 0o600).map_err(failed)?;
    let mut from = std::fs::File::open(firmware.variables).map_err(failed)?;
    std::io::copy(&mut from, &mut copy).map_err(failed)?;
    Ok(copy)
}

fn boxed(stream: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    Box::new(stream)
}

#[derive(Debug, Default)]
struct Console {
    text: String,
    ended: usize,
}

fn read_console(stream: Box<dyn Read + Send>, console: &(Mutex<Console>, Condvar)) {
    let mut stream = BufReader::new(stream);
    let mut buffer = [0u8; 4096];
    let mut pending = Vec::new();
    loop {
        let read = stream.read(&mut buffer).unwrap_or(0);
        let Ok(mut state) = console.0.lock() else { return };
        if read == 0 {
            state.ended += 1;
            console.1.notify_all();
            return;
        }
        pending.extend_from_slice(&buffer[..read]);
        let text = plain_text(&mut pending);
        state.text.push_str(&text);
        console.1.notify_all();
    }
}

/// Takes whole characters from the front, without escape sequences and carriage returns: what a guest prints must not
/// steer the caller's terminal. What is not whole yet stays.
fn plain_text(pending: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut at = 0;
    while at < pending.len() {
        let rest = &pending[at..];
        if rest[0] == 0x1b {
            match escape_length(rest) {
                Some(length) => at += length,
                None => break,
            }
            continue;
        }
        let most = &rest[..rest.len().min(4)];
        let (character, length) = match std::str::from_utf8(most) {
            Ok(whole) => (whole.chars().next(), whole.chars().next().map_or(1, char::len_utf8)),
            Err(error) if error.valid_up_to() > 0 => {
                let whole = std::str::from_utf8(&most[..error.valid_up_to()]).unwrap_or_default();
                (whole.chars().next(), whole.chars().next().map_or(1, char::len_utf8))
            }
            Err(error) if error.error_len().is_none() && rest.len() < 4 => break,
            Err(_) => (Some(char::REPLACEMENT_CHARACTER), 1),
        };
        text.extend(
            character.filter(|c| fault::planted("boot-console-steers") || !c.is_control() || *c == '\n' || *c == '\t'),
        );
        at += length;
    }
    pending.drain(..at);
    text
}

/// Length of an escape sequence, if it is whole. Source: ECMA-48, control sequences.
fn escape_length(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'[' => {
            let end = bytes[2..].iter().position(|byte| (0x40..=0x7e).contains(byte))?;
            Some(end + 3)
        }
        b']' => {
            let end = bytes[2..].iter().position(|byte| *byte == 7 || *byte == 0x1b)?;
            Some(end + 3)
        }
        _ => Some(2),
    }
}

/// A machine that runs; it is stopped when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    console: Arc<(Mutex<Console>, Condvar)>,
    /// Removed with it.
    _variables: Option<tempfile::NamedTempFile>,
}

impl Running {
    pub fn console(&self) -> String {
        self.console.0.lock().map(|state| state.text.clone()).unwrap_or_default()
    }

    /// Waits until the console shows a text, the machine ends, or the time is over; whether the text came.
    ///
    /// `show` gets what is new; what it returns says whether to go on.
    pub fn wait_for(&self, text: Option<&str>, timeout: Option<Duration>, show: &mut dyn FnMut(&str) -> bool) -> bool {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut shown = 0;
        let Ok(mut state) = self.console.0.lock() else { return false };
        loop {
            if !show(&state.text[shown..]) {
                return false;
            }
            shown = state.text.len();
            if text.is_some_and(|text| state.text.contains(text)) {
                return true;
            }
            if state.ended >= 2 {
                return false;
            }
            let wait = match deadline {
                None => Duration::from_secs(1),
                Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                    Some(left) => left.min(Duration::from_secs(1)),
                    None => return false,
                },
            };
            match self.console.1.wait_timeout(state, wait) {
                Ok((next, _)) => state = next,
                Err(_) => return false,
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Memory for a machine: the unpacked image, a packed frame or two, and what an idle system needs.
pub fn memory_for(image_memory: u64) -> u64 {
    let wanted = ((image_memory * 10 / 9) >> 20) + 512;
    wanted.div_ceil(256) * 256
}

/// Whether something that speaks ssh answers on a port of the loopback.
pub fn ssh_answers(port: u16) -> bool {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let Ok(mut stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(3)));
    let mut banner = [0u8; 4];
    stream.read_exact(&mut banner).is_ok() && &banner == b"SSH-"
}

/// A file that a machine boots from, or the reason why it is missing.
pub fn artefact(directory: &Path, name: &str) -> Result<PathBuf, std::io::Error> {
    let path = directory.join(name);
    std::fs::metadata(&path).map(|_| path)
}

#[cfg(test)]
mod tests {
    use super::plain_text;

    #[test]
    fn escapes_and_split_characters_are_put_right() {
        let mut pending = b"[\x1b[0;32m  OK  \x1b[0m] a\r\n\xe2\x80".to_vec();
        assert_eq!(plain_text(&mut pending), "[  OK  ] a\n");
        pending.extend_from_slice(b"\xa6b\xff\x1b[");
        assert_eq!(plain_text(&mut pending), "\u{2026}b\u{fffd}");
        pending.extend_from_slice(b"1mc");
        assert_eq!(plain_text(&mut pending), "c");
    }
}

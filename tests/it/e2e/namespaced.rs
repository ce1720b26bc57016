//! Nodes without a machine: imgbuild-init as the first process of its own process, mount, network and user namespaces, with the
//! files of a real initrd and the words of a command line, one end of a cable, and what a test serves at the other end.
//!
//! What a node does before its image's init runs is tested here in a second, where an emulated processor takes ten. What it cannot
//! show is a kernel's part: drivers, loop devices, disks. Those tests have a machine (`machine.rs`).

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::leases::Leases;

/// How long a text may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// The node's card.
pub const MAC: &str = "52:54:00:12:34:56";

/// Host and node ids differ by this much: the node's root is nobody here.
const FIRST_ID: u32 = 1_500_000_000;

/// Mounts what a kernel would have, becomes the first process of the initrd. Standard input is the initrd, without compression.
const START: &str = r#"set -e
mount -t tmpfs node /mnt
cd /mnt
# Its modules are another kernel's, and its devices nobody here may make.
cpio -idm --quiet -f '*/modules/*' 'dev/*' 2>/dev/null || test -x init
mkdir -p proc sys dev run old tmp
mount -t proc proc proc
printf '%s\n' "$1" >given-cmdline
mount --bind given-cmdline proc/cmdline
printf 'MemAvailable: %s kB\n' "$2" >given-meminfo
mount --bind given-meminfo proc/meminfo
mount -t sysfs sysfs sys
# No device of this machine is the node's.
mount -t tmpfs none sys/bus
mount -t tmpfs -o mode=755 dev dev
for name in null zero full random urandom; do
    : >dev/$name
    mount --bind /dev/$name dev/$name
done
# What lies there can be seen from the node until its image covers it, by nobody's rights.
pivot_root . old
exec /init
"#;

fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|error| panic!("{words:?}: {error}"));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A cable whose one end is a server's, 10.0.2.2; the other one becomes a node's card. It goes with this value.
pub struct Lan {
    name: String,
    leases: Leases,
}

impl Lan {
    /// One with a DHCP server whose leases last an hour.
    pub fn new() -> Self {
        Self::with_leases(3600)
    }

    /// One with a DHCP server; its leases last so many seconds.
    pub fn with_leases(seconds: u32) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("ib{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        run(&["ip", "netns", "add", &name]);
        let lan = Self { name, leases: Leases::of([10, 0, 2, 2], [10, 0, 2, 15], seconds) };
        lan.ip(&["link", "set", "lo", "up"]);
        lan
    }

    /// `ip` on the server's end.
    pub fn ip(&self, words: &[&str]) {
        run(&[&["ip", "-n", &self.name], words].concat());
    }

    /// Runs something in a thread whose sockets are on the server's end.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        std::thread::scope(|scope| {
            let entered = scope.spawn(move || {
                let namespace = std::fs::File::open(Path::new(&path)).unwrap();
                let kind = Some(rustix::thread::LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).unwrap();
                work()
            });
            entered.join().unwrap()
        })
    }

    /// A program on the server's end.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// How many leases were given or renewed.
    pub fn acknowledged(&self) -> usize {
        self.leases.acknowledged()
    }

    /// Whether the node answers at its address.
    pub fn answers(&self) -> bool {
        let mut ping = Command::new("ip");
        ping.args(["netns", "exec", &self.name, "ping", "-c", "1", "-W", "5", "10.0.2.15"]);
        ping.stdout(Stdio::null()).status().unwrap().success()
    }

    /// Plugs a node in: the other end of the cable is its `eth0`.
    fn plug(&self, node: u32) {
        let node = node.to_string();
        let end = ["link", "add", "served", "type", "veth", "peer", "name", "eth0", "address", MAC, "netns", &node];
        self.ip(&end);
        self.ip(&["address", "add", "10.0.2.2/24", "dev", "served"]);
        self.ip(&["link", "set", "served", "up"]);
        // Answers go to all: the node has no address yet.
        self.ip(&["route", "add", "255.255.255.255", "dev", "served"]);
        self.enter(|| self.leases.serve());
    }

    /// Starts a node from an image's initrd with a command line; free memory is what it is told that it has.
    pub fn start(&self, initrd: &Path, cmdline: &str, memory_mib: u64) -> Node {
        let mut holder = Command::new("unshare")
            .args(["--user", "--net", "--uts", "--ipc", "sleep", "1000"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = holder.id();
        // Until it has left this process's namespaces nothing can be said about its ids.
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/uts")).ok();
        let began = Instant::now();
        while namespace(&pid.to_string()) == namespace("self") {
            assert!(began.elapsed() < PATIENCE && holder.try_wait().unwrap().is_none(), "no user namespace");
            std::thread::sleep(Duration::from_millis(2));
        }
        for file in ["uid_map", "gid_map"] {
            std::fs::write(format!("/proc/{pid}/{file}"), format!("0 {FIRST_ID} 65536")).unwrap();
        }
        self.plug(pid);
        let packed = std::fs::File::open(initrd).unwrap();
        let mut unpack =
            Command::new(unpacker(initrd)).arg("-dc").stdin(packed).stdout(Stdio::piped()).spawn().unwrap();
        let mut child = Command::new("nsenter")
            .args(["-t", &pid.to_string(), "--user", "--net", "--uts", "--ipc", "-S", "0", "-G", "0"])
            .args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", START, "start", cmdline])
            .arg((memory_mib * 1024).to_string())
            .stdin(unpack.stdout.take().unwrap())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        unpack.wait().unwrap();
        let console = Arc::new(Mutex::new(String::new()));
        let (mut output, text) = (child.stdout.take().unwrap(), Arc::clone(&console));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                text.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        Node { holder, child, console }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// The program that undoes a file's compression, by its first bytes.
fn unpacker(file: &Path) -> &'static str {
    let mut start = [0; 2];
    std::fs::File::open(file).unwrap().read_exact(&mut start).unwrap();
    if start == [0x1f, 0x8b] { "gzip" } else { "zstd" }
}

/// A node that runs. It ends with this value.
pub struct Node {
    /// Has the namespaces until the node is in them.
    holder: Child,
    child: Child,
    console: Arc<Mutex<String>>,
}

impl Node {
    pub fn console(&self) -> String {
        self.console.lock().unwrap().clone()
    }

    /// Waits for a text on the console, and shows the console when it does not come.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let began = Instant::now();
        loop {
            // Asked first: what it printed last is there when it has ended.
            let ended = self.child.try_wait().unwrap().is_some();
            if self.console().contains(text) {
                return;
            }
            let over = ended && began.elapsed() > Duration::from_secs(1) || began.elapsed() > PATIENCE;
            assert!(
                !over,
                "the console did not show `{text}`{}:\n{}",
                if ended { ", and the node ended" } else { "" },
                self.console()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the process that tries to get the image by a signal, as a panic or a lack of memory would.
    #[track_caller]
    pub fn strike(&self, signal: rustix::process::Signal) {
        let child = |of: u32| -> Option<u32> {
            let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).ok()?;
            children.split_whitespace().next()?.parse().ok()
        };
        let began = Instant::now();
        loop {
            let worker =
                child(self.child.id()).and_then(child).and_then(|id| rustix::process::Pid::from_raw(id as i32));
            if let Some(worker) = worker {
                rustix::process::kill_process(worker, signal).unwrap();
                return;
            }
            assert!(began.elapsed() < PATIENCE, "nothing tries to get the image:\n{}", self.console());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a text stands there so many times.
    #[track_caller]
    pub fn expect_times(&mut self, text: &str, times: usize) {
        let began = Instant::now();
        while self.console().matches(text).count() < times {
            let ended = self.child.try_wait().unwrap().is_some();
            assert!(!ended && began.elapsed() < PATIENCE, "not {times} times `{text}`:\n{}", self.console());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the machine would start again.
    #[track_caller]
    pub fn expect_restart(&mut self) {
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "the node did not start again:\n{}", self.console());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for process in [&mut self.child, &mut self.holder] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

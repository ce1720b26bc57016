//! Leases that are shorter than any site's: a DHCP server of the tests, and a node with two cards, of which BOOTIF names the
//! second, that is still there after several of them.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use boot::{Board, FileServer, Machine};

use super::machine::{Node, PATIENCE, QUICK};
use super::{Built, mini};

/// A DHCP server with one address: whoever asks gets it. dnsmasq makes two minutes of any shorter lease.
pub struct Leases(Arc<Given>);

struct Given {
    server: [u8; 4],
    address: [u8; 4],
    name: Option<&'static str>,
    seconds: u32,
    acknowledged: AtomicUsize,
    stop: AtomicBool,
}

/// Bytes before the options, and what stands at their end. Source: RFC 2131, section 2 and 3.
const HEADER: usize = 240;
const MAGIC: [u8; 4] = [99, 130, 83, 99];

/// Value of an option. Source: RFC 2132, section 2.
fn option(message: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = message.get(HEADER..)?;
    while let [code, length, tail @ ..] = rest {
        match code {
            0 => rest = &rest[1..],
            255 => return None,
            _ if *code == wanted => return tail.get(..usize::from(*length)),
            _ => rest = tail.get(usize::from(*length)..)?,
        }
    }
    None
}

impl Leases {
    /// One at an address, which gives another for so many seconds.
    pub fn of(server: [u8; 4], address: [u8; 4], seconds: u32) -> Self {
        Self::named(server, address, seconds, None)
    }

    fn named(server: [u8; 4], address: [u8; 4], seconds: u32, name: Option<&'static str>) -> Self {
        let (acknowledged, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self(Arc::new(Given { server, address, name, seconds, acknowledged, stop }))
    }

    /// How many leases were given or renewed.
    pub fn acknowledged(&self) -> usize {
        self.0.acknowledged.load(Ordering::Relaxed)
    }

    /// Serves in the network namespace of the caller.
    pub fn serve(&self) {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67)).unwrap();
        socket.set_broadcast(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let given = Arc::clone(&self.0);
        std::thread::spawn(move || given.answer(&socket));
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Given {
    fn answer(&self, socket: &UdpSocket) {
        let mut buffer = [0; 1500];
        while !self.stop.load(Ordering::Relaxed) {
            let Ok((length, _)) = socket.recv_from(&mut buffer) else { continue };
            let asked = &buffer[..length];
            if asked.get(HEADER - 4..HEADER) != Some(&MAGIC) || asked[0] != 1 {
                continue;
            }
            // Discover is answered by an offer, a request by an acknowledgement. Source: RFC 2132, 9.6.
            let kind = match option(asked, 53) {
                Some([1]) => 2,
                Some([3]) => 5,
                _ => continue,
            };
            let mut answer = vec![0; HEADER];
            answer[..3].copy_from_slice(&[2, 1, 6]);
            // Transaction, flags and the card's address are the client's.
            answer[4..8].copy_from_slice(&asked[4..8]);
            answer[10..12].copy_from_slice(&asked[10..12]);
            answer[16..20].copy_from_slice(&self.address);
            answer[28..44].copy_from_slice(&asked[28..44]);
            answer[HEADER - 4..].copy_from_slice(&MAGIC);
            answer.extend([53, 1, kind, 1, 4, 255, 255, 255, 0, 51, 4]);
            answer.extend(self.seconds.to_be_bytes());
            // Who says so, the router, the name server.
            for code in [54, 3, 6] {
                answer.extend([code, 4]);
                answer.extend(self.server);
            }
            if let Some(name) = self.name {
                answer.extend([12, name.len() as u8]);
                answer.extend(name.as_bytes());
            }
            answer.push(255);
            if socket.send_to(&answer, (Ipv4Addr::BROADCAST, 68)).is_ok() && kind == 5 {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// A network namespace with two bridges: one with nobody on it, one with a DHCP server.
struct Network {
    name: String,
    leases: Leases,
}

fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|error| panic!("{words:?}: {error}"));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Network {
    fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        run(&["ip", "netns", "add", &name]);
        let leases = Leases::named([10, 77, 0, 1], [10, 77, 0, 52], LEASE, Some("node2"));
        let network = Self { name: name.clone(), leases };
        let inside = |words: &[&str]| run(&[&["ip", "netns", "exec", &name], words].concat());
        inside(&["ip", "link", "set", "lo", "up"]);
        for (bridge, tap) in [("silent", "tap0"), ("served", "tap1")] {
            inside(&["ip", "link", "add", bridge, "type", "bridge"]);
            inside(&["ip", "tuntap", "add", tap, "mode", "tap"]);
            inside(&["ip", "link", "set", tap, "master", bridge]);
            inside(&["ip", "link", "set", tap, "up"]);
            inside(&["ip", "link", "set", bridge, "up"]);
        }
        inside(&["ip", "address", "add", "10.77.0.1/24", "dev", "served"]);
        // Answers go to all: the node has no address yet.
        inside(&["ip", "route", "add", "255.255.255.255", "dev", "served"]);
        network.enter(|| network.leases.serve());
        network
    }

    /// Runs something in a thread that is in the namespace.
    fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    use std::os::fd::AsFd;
                    let namespace = std::fs::File::open(Path::new(&path)).unwrap();
                    rustix::thread::move_into_link_name_space(
                        namespace.as_fd(),
                        Some(rustix::thread::LinkNameSpaceType::Network),
                    )
                    .unwrap();
                    work()
                })
                .join()
                .unwrap()
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

fn machine(built: &Built, image: &str, port: u16) -> Machine {
    let artefact = |name: &str| built.space.artefact(image, name).canonicalize().unwrap();
    let words = super::machine::cmdline(built, image, &format!("http://10.77.0.1:{port}"));
    let tap = |name: &str, mac: &str| {
        (
            format!("tap,id={name},ifname={name},script=no,downscript=no"),
            format!("virtio-net-pci,netdev={name},mac={mac}"),
        )
    };
    Machine {
        kernel: artefact("kernel"),
        initrd: artefact("initrd-stateless"),
        cmdline: format!("{words} BOOTIF=01-52-54-00-00-00-02 {QUICK}"),
        memory_mib: 1024,
        cpus: 1,
        // The oldest of 64 bits, without a generator of random numbers, as virtual machines often have it.
        board: Board::of("x86_64"),
        processor: "qemu64",
        firmware: None,
        network: vec![tap("tap0", "52:54:00:00:00:01"), tap("tap1", "52:54:00:00:00:02")],
        disks: Vec::new(),
    }
}

/// Seconds; half of it is when a lease is renewed.
const LEASE: u32 = 20;

#[test]
fn privileged_boot_leases_are_renewed_by_the_network_manager_of_the_image() {
    // systemd-networkd. Where an image has nothing at all imgbuild-init keeps the lease: boot_failures.rs.
    let (built, image) = (mini(), "mini");
    let network = Network::new("ibm");
    let (_server, running) = network.enter(|| {
        let server =
            FileServer::start_on([10, 77, 0, 1].into(), &built.space.artefact(image, ".").canonicalize().unwrap())
                .unwrap();
        let running = machine(built, image, server.port()).start().unwrap();
        (server, running)
    });
    let ping = || {
        network.enter(|| {
            Command::new("ping")
                .args(["-c", "1", "-W", "5", "10.77.0.52"])
                .stdout(Stdio::null())
                .status()
                .unwrap()
                .success()
        })
    };
    assert!(running.wait_for(Some("the image is complete"), Some(PATIENCE), &mut |_| true), "{}", running.console());
    assert!(running.console().contains("eth1 (52:54:00:00:00:02) has 10.77.0.52/24"), "{}", running.console());
    let node = Node::new(&["ip", "netns", "exec", &network.name], "10.77.0.52", 22, &built.key);
    node.wait(&running);
    assert_eq!(node.run("hostname"), "node2");
    assert!(node.run("cat /run/systemd/netif/leases/*").contains("ADDRESS=10.77.0.52"));
    // udev gave the image's own name.
    assert!(node.run("ls /sys/class/net").contains("ens"), "{}", node.run("ls /sys/class/net"));
    // What renews them now is the image's.
    let first = network.leases.acknowledged();
    let began = Instant::now();
    while network.leases.acknowledged() < first + 3 {
        assert!(began.elapsed() < PATIENCE, "{} leases\n{}", network.leases.acknowledged(), running.console());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(ping() || ping(), "{image} is gone:\n{}", running.console());
}

//! Two cards, BOOTIF names the second, leases of 60 seconds: still reachable after three minutes.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use imgbuild::boot::{FileServer, Machine};

use super::machine::{Node, PATIENCE, QUICK};
use super::{Built, mini, tiny};

/// A network namespace with two bridges: one with nobody on it, one with a DHCP server.
struct Network {
    name: String,
    log: tempfile::NamedTempFile,
    dnsmasq: Option<Child>,
}

fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|error| panic!("{words:?}: {error}"));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Network {
    fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        run(&["ip", "netns", "add", &name]);
        let log = tempfile::NamedTempFile::new().unwrap();
        let facility = format!("--log-facility={}", log.path().display());
        // One of its own: of two that start at once with the same file one gives up.
        let pid = format!("--pid-file={}.pid", log.path().display());
        let mut network = Self { name: name.clone(), log, dnsmasq: None };
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
        let child = Command::new("ip")
            .args([
                "netns",
                "exec",
                &name,
                "dnsmasq",
                "--keep-in-foreground",
                "--port=0",
                "--interface=served",
                "--bind-interfaces",
                "--no-resolv",
            ])
            .args([
                "--conf-file=/dev/null",
                "--leasefile-ro",
                "--dhcp-range=10.77.0.50,10.77.0.60,60s",
                "--dhcp-authoritative",
                "--user=root",
                "--log-dhcp",
                &facility,
                &pid,
            ])
            .args(["--dhcp-host=52:54:00:00:00:02,10.77.0.52,node2", "--dhcp-option=option:dns-server,10.77.0.1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq is there");
        network.dnsmasq = Some(child);
        network
    }

    /// How many leases the second card was given or had renewed.
    fn acknowledged(&self) -> usize {
        let text = std::fs::read_to_string(self.log.path()).unwrap_or_default();
        text.lines().filter(|line| line.contains("DHCPACK(") && line.contains("52:54:00:00:00:02")).count()
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
        if let Some(mut child) = self.dnsmasq.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(format!("{}.pid", self.log.path().display()));
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
        processor: "qemu64",
        network: vec![tap("tap0", "52:54:00:00:00:01"), tap("tap1", "52:54:00:00:00:02")],
        disks: Vec::new(),
    }
}

#[test]
fn privileged_boot_leases_are_renewed_by_whatever_the_image_has() {
    // systemd-networkd in one image, nothing at all in the other: imgbuild-init keeps that lease.
    std::thread::scope(|scope| {
        scope.spawn(|| stays_reachable("ibm", mini(), "mini", true));
        scope.spawn(|| stays_reachable("ibt", tiny(), "tiny", false));
    });
}

fn stays_reachable(name: &str, built: &Built, image: &str, ssh: bool) {
    let network = Network::new(name);
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
    assert!(running.wait_for(Some("the image is whole"), Some(PATIENCE), &mut |_| true), "{}", running.console());
    assert!(running.console().contains("eth1 (52:54:00:00:00:02) has 10.77.0.52/24"), "{}", running.console());
    let node = Node::new(&["ip", "netns", "exec", &network.name], "10.77.0.52", 22, &built.key);
    if ssh {
        node.wait(&running);
        assert_eq!(node.run("hostname"), "node2");
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(180) {
        std::thread::sleep(Duration::from_secs(15));
        assert!(
            ping() || ping(),
            "{image} is gone after {} seconds:\n{}",
            began.elapsed().as_secs(),
            running.console()
        );
    }
    // dnsmasq makes two minutes of anything shorter, and half of that is when a lease is renewed: in three minutes
    // there are the first and two renewals at least.
    let count = network.acknowledged();
    assert!(count >= 3, "{image}: {count} leases\n{}", running.console());
    if ssh {
        assert!(node.run("cat /run/systemd/netif/leases/*").contains("ADDRESS=10.77.0.52"));
        // udev gave the image's own name.
        assert!(node.run("ls /sys/class/net").contains("ens"), "{}", node.run("ls /sys/class/net"));
    }
}

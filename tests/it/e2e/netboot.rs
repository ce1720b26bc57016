//! Machines that have nothing but a network card boot from `nodes.toml`, `nodeset` and `serve --dnsmasq` alone, as far as `up` and
//! a login: each kind of firmware, each loader; and a build that is no good goes to a few of them and back.
//!
//! The programs of firmware and loaders are those of Debian's packages ovmf, ipxe, grub-efi-amd64-bin, pxelinux, syslinux-common.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::machine::Node;
use super::net::{Net, Serving};
use super::store;
use crate::support::{Ran, Space};

/// How long an emulated node may take from switching it on to `up`, with other tests beside it.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// Firmware of a machine.
#[derive(Clone, Copy, PartialEq)]
pub enum Firmware {
    /// SeaBIOS, with iPXE in the card's memory.
    Bios,
    /// OVMF, which loads by TFTP.
    Uefi,
    UefiHttp,
    /// OVMF with iPXE in the card's memory.
    UefiIpxe,
    /// OVMF with Microsoft's keys and Secure Boot on, which loads by TFTP.
    Secure,
}

/// `examples/cluster` with three compute nodes, built, and its management node.
pub struct Cluster {
    pub space: Space,
    key: PathBuf,
    pub net: Net,
    scratch: tempfile::TempDir,
}

impl Cluster {
    pub fn new(loader: &str) -> Self {
        let space = Space::example("cluster").with_store(&store());
        let key = space.path().join("admin");
        super::net::run(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]);
        std::fs::copy(key.with_extension("pub"), space.path().join("base/keys/admin.pub")).unwrap();
        space.edit("nodes.toml", "loader = \"ipxe\"", &format!("loader = \"{loader}\""));
        space.run(&["build", "compute"]).good();
        Self { space, key, net: Net::new("10.0.0.1/24"), scratch: tempfile::tempdir().unwrap() }
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.space.run(arguments)
    }

    pub fn serve(&self) -> Serving {
        let files = self.space.path().join("files");
        let own = if files.is_dir() { vec!["--loaders", files.to_str().unwrap()] } else { Vec::new() };
        self.net.serve(self.space.path(), &[&["--dnsmasq", "--listen", "10.0.0.1:80"], &own[..]].concat())
    }

    fn console(&self, number: u8) -> PathBuf {
        self.scratch.path().join(format!("console{number}"))
    }

    /// Switches a node on; what ends it.
    pub fn start(&mut self, number: u8, firmware: Firmware) -> usize {
        let tap = format!("tap{number}");
        if !Path::new(&format!("/sys/class/net/{tap}")).exists() && !self.console(number).exists() {
            self.net.tap(&tap);
        }
        let serial = format!("file:{}", self.console(number).display());
        let vars = self.scratch.path().join(format!("vars{number}"));
        let mut words = format!(
            "qemu-system-x86_64 -accel tcg -cpu max -m 1536 -smp 1 -display none -monitor none -no-reboot \
             -netdev tap,id=n,ifname={tap},script=no,downscript=no"
        );
        let mut device = format!("virtio-net-pci,netdev=n,mac=52:54:00:00:00:{number:02},bootindex=1");
        if firmware != Firmware::Bios {
            let is_secure = firmware == Firmware::Secure;
            let (code, keys, machine) = match is_secure {
                true => (".secboot", ".ms", "q35,smm=on -global driver=cfi.pflash01,property=secure,value=on"),
                false => ("", "", "q35"),
            };
            std::fs::copy(format!("/usr/share/OVMF/OVMF_VARS_4M{keys}.fd"), &vars).expect("Debian's package ovmf");
            words.push_str(&format!(
                " -machine {machine} -drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M{code}.fd \
                 -drive if=pflash,format=raw,file={} -object rng-random,filename=/dev/urandom,id=r -device virtio-rng-pci,rng=r",
                vars.display()
            ));
            if firmware != Firmware::UefiIpxe {
                // The firmware's own driver and loader.
                device.push_str(",romfile=");
            }
        }
        if firmware == Firmware::UefiHttp {
            // Firmware that knows these words leaves PXE out, and with it a minute of waiting.
            for name in ["IPv4PXESupport", "IPv6PXESupport"] {
                words.push_str(&format!(" -fw_cfg name=opt/org.tianocore/{name},string=n"));
            }
        }
        words.push_str(&format!(" -device {device} -serial {serial}"));
        self.net.start(&words.split_whitespace().collect::<Vec<_>>())
    }

    /// What a node's console has.
    pub fn text(&self, number: u8) -> String {
        std::fs::read(self.console(number))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn report(&self, number: u8) -> serde_json::Value {
        let json: serde_json::Value =
            serde_json::from_str(&self.run(&["nodes", &format!("cn{number:03}"), "--json"]).out).unwrap();
        json["nodes"][0]["report"].clone()
    }

    /// Waits until a node has reported a state since some time.
    #[track_caller]
    pub fn wait_for(&self, number: u8, state: &str, since: u64, serving: &Serving) -> serde_json::Value {
        let began = Instant::now();
        loop {
            let report = self.report(number);
            if report["state"] == state && report["time"].as_u64() >= Some(since) {
                return report;
            }
            let tail: String =
                self.text(number).chars().rev().take(6000).collect::<Vec<_>>().into_iter().rev().collect();
            assert!(began.elapsed() < PATIENCE, "cn{number:03} is {report}\n{}\n{tail}", serving.said());
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    pub fn node(&self, number: u8) -> Node {
        Node::new(&["ip", "netns", "exec", &self.net.name], &format!("10.0.0.{}", 10 + number), 22, &self.key)
    }
}

fn now() -> u64 {
    u64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Boots one node, and logs in; what the server said.
fn boots(loader: &str, firmware: Firmware, changed: impl FnOnce(&Cluster)) -> String {
    let mut cluster = Cluster::new(loader);
    changed(&cluster);
    cluster.run(&["nodeset", "@compute"]).good();
    let serving = cluster.serve();
    let began = Instant::now();
    cluster.start(1, firmware);
    let report = cluster.wait_for(1, "up", 0, &serving);
    eprintln!("{loader}: up after {} s", began.elapsed().as_secs());
    assert_eq!(report["image"], "compute");
    let node = cluster.node(1);
    let began = Instant::now();
    while !node.connect() {
        assert!(began.elapsed() < PATIENCE, "the node does not answer:\n{}", cluster.text(1));
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(node.run("hostname"), "cn001");
    // What the loader said of the card that it came from is in force.
    let words = node.run("cat /proc/cmdline");
    // GRUB writes the address with colons.
    assert!(words.replace(':', "-").contains("BOOTIF=01-52-54-00-00-00-01"), "{words}");
    assert!(words.contains(&format!("/.builds/compute/{}/", report["build"].as_str().unwrap())), "{words}");
    let is_uefi = node.run("test -d /sys/firmware/efi && echo UEFI || echo BIOS");
    assert_eq!(is_uefi, if firmware == Firmware::Bios { "BIOS" } else { "UEFI" });
    serving.said()
}

#[test]
fn network_privileged_boot_ipxe_of_a_bios_card_boots_from_the_nodes_file() {
    let said = boots("ipxe", Firmware::Bios, |_| {});
    // iPXE is not sent iPXE.
    assert!(!said.contains("undionly.kpxe"), "{said}");
}

#[test]
fn network_privileged_boot_uefi_loads_ipxe_by_tftp() {
    let said = boots("ipxe", Firmware::Uefi, |_| {});
    assert!(said.contains("/tftp/snponly.efi to 10.0.0.11"), "{said}");
    // The firmware asks for its size before it loads it.
    assert!(said.matches("/tftp/snponly.efi to ").count() <= 2, "a loop: {said}");
}

#[test]
fn network_privileged_boot_uefi_loads_ipxe_by_http() {
    // PXE's own requests are not answered, so that the firmware goes on to HTTP.
    let said = boots("ipxe", Firmware::UefiHttp, |cluster| {
        cluster.space.write("loaders/dnsmasq.conf", "dhcp-ignore=tag:efi64,tag:!ipxe\n");
    });
    assert!(!said.contains("/tftp/snponly.efi"), "{said}");
}

#[test]
fn network_privileged_boot_ipxe_of_a_uefi_card_boots_from_the_nodes_file() {
    let said = boots("ipxe", Firmware::UefiIpxe, |_| {});
    assert!(!said.contains("/tftp/snponly.efi"), "{said}");
}

#[test]
fn network_privileged_boot_uefi_loads_grub_by_tftp() {
    let said = boots("grub", Firmware::Uefi, |_| {});
    assert!(said.contains("/tftp/grubnetx64.efi to 10.0.0.11") && said.contains("/tftp/grub/grub.cfg"), "{said}");
}

#[test]
fn network_privileged_boot_uefi_loads_grub_by_http() {
    let said = boots("grub", Firmware::UefiHttp, |cluster| {
        cluster.space.write("loaders/dnsmasq.conf", "dhcp-ignore=tag:efi64\n");
        // Debian 12's own image cannot fetch by HTTP: one is made as docs/serve.md says.
        let page = std::fs::read_to_string(crate::support::project().join("docs/serve.md")).unwrap();
        let line =
            page.lines().find(|line| line.starts_with("grub-mkimage ")).expect("a command that makes GRUB's image");
        let files = cluster.space.path().join("files");
        std::fs::create_dir_all(&files).unwrap();
        super::net::run(&["sh", "-c", &line.replace(" DIR/", &format!(" {}/", files.display()))]);
    });
    assert!(!said.contains("/tftp/grubnetx64.efi"), "{said}");
}

#[test]
fn network_privileged_boot_bios_loads_lpxelinux_and_that_the_kernel_by_http() {
    let said = boots("pxelinux", Firmware::Bios, |_| {});
    assert!(said.contains("/tftp/lpxelinux.0 to 10.0.0.11"), "{said}");
    // All else came by HTTP.
    assert!(!said.contains("/tftp/ldlinux.c32"), "{said}");
}

#[test]
fn network_privileged_boot_a_bad_build_goes_to_a_canary_and_back() {
    let mut cluster = Cluster::new("ipxe");
    cluster.space.edit("nodes.toml", "nodes = \"cn[001-040]\"", "nodes = \"cn[001-003]\"");
    cluster.space.edit(
        "nodes.toml",
        "[node.\"cn[001-040]\"]\nmac = \"52:54:00:00:00:[01-40]\"\nip = \"10.0.0.[11-50]\"",
        "[node.\"cn[001-003]\"]\nmac = \"52:54:00:00:00:[01-03]\"\nip = \"10.0.0.[11-13]\"",
    );
    cluster.run(&["nodeset", "@compute"]).good();
    let serving = cluster.serve();
    let machines: Vec<usize> = (1..=3).map(|number| cluster.start(number, Firmware::Bios)).collect();
    let first =
        (1..=3).map(|number| cluster.wait_for(number, "up", 0, &serving)).collect::<Vec<_>>()[0]["build"].clone();
    assert_eq!(cluster.run(&["nodes", "@compute", "--watch"]).code, 0);
    // The next build never comes as far as its services: a word for the kernel that no test of a build sees.
    let recipe = "images/compute/image.toml";
    let text = std::fs::read_to_string(cluster.space.path().join(recipe)).unwrap();
    cluster.space.write(recipe, &format!("{text}\n[boot]\ncmdline = [\"systemd.unit=rescue.target\"]\n"));
    cluster.run(&["build", "compute"]).good();
    let ran = cluster.run(&["nodeset", "@compute", "compute", "--canary", "1"]).good();
    let few = ran.err.split("restart ").nth(1).unwrap().split(';').next().unwrap().to_owned();
    let number: u8 = few.trim_start_matches("cn").parse().unwrap();
    // It restarts, and the others would boot what they had.
    cluster.net.end(machines[usize::from(number) - 1]);
    let restarted = now();
    let machine = cluster.start(number, Firmware::Bios);
    let report = cluster.wait_for(number, "image", restarted, &serving);
    assert_ne!(report["build"], first);
    let ran = cluster.run(&["nodeset", "--continue"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains(&format!("{few} (not up yet)")), "{}", ran.err);
    cluster.run(&["nodeset", "--abort"]).good();
    cluster.net.end(machine);
    let restarted = now();
    cluster.start(number, Firmware::Bios);
    assert_eq!(cluster.wait_for(number, "up", restarted, &serving)["build"], first);
    let stat = cluster.run(&["nodeset", "@compute", "stat"]).good().out;
    let pinned = format!("netboot compute@{}", first.as_str().unwrap());
    assert_eq!(stat.matches(&pinned).count(), 3, "{stat}");
}

//! `imgbuild serve --dnsmasq` on a network: what each firmware is sent, and what is done when dnsmasq ends or cannot start.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::net::{Net, run};
use crate::support::server::published;
use crate::support::{Ran, Space, project};

const NODES: &str = "[group.compute]\nnodes = \"cn[1-6]\"\nimage = \"compute\"\n\n\
    [node.\"cn[1-6]\"]\nmac = \"52:54:00:00:00:[01-06]\"\nip = \"10.77.0.[11-16]\"\n\n\
    [node.cn2]\nloader = \"grub\"\n[node.cn3]\nloader = \"pxelinux\"\n[node.cn4]\nloader = \"petitboot\"\narch = \"ppc64le\"\n\
    [node.cn5]\nloader = \"xnba\"\n";

/// A workspace with nodes and loaders' files that no package of this machine has.
fn site() -> Space {
    let space = Space::new();
    published(&space);
    space.write("imgbuild.toml", "out = \"out\"\nimages = []\n").write("nodes.toml", NODES);
    for name in ["undionly.kpxe", "snponly.efi", "snponly-arm64.efi", "grubnetx64.efi", "lpxelinux.0", "ldlinux.c32"] {
        space.write(&format!("files/{name}"), &format!("the file {name}"));
    }
    // One that can fetch by HTTP has the words of a request in it.
    space.write("files/grubnetx64.efi", "GET /x HTTP/1.1");
    space
}

/// The management node's network, with another machine at the end of a cable.
struct Lan {
    net: Net,
    far: String,
}

impl Lan {
    fn new() -> Self {
        let net = Net::new("10.77.0.1/24");
        let far = format!("{}-far", net.name);
        run(&["ip", "netns", "add", &far]);
        net.ip(&format!("link add cable type veth peer name eth0 netns {far}"));
        net.ip("link set cable master head");
        net.ip("link set cable up");
        run(&["ip", "-n", &far, "link", "set", "eth0", "up"]);
        Self { net, far }
    }

    fn ask(&self, node: u8, words: &[&str]) -> Value {
        let mac = format!("52:54:00:00:00:{node:02}");
        let script = project().join("tests/fixtures/dhcp-client.py");
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", &self.far, "python3"]).arg(script).args(["eth0", &mac]).args(words);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Asks for a node's address, again and again.
    fn gap(&self, node: u8) -> Asking {
        let mac = format!("52:54:00:00:00:{node:02}");
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", &self.far, "python3"]).arg(project().join("tests/fixtures/dhcp-client.py"));
        command.args(["eth0", &mac, "arch=0", BIOS, "gap"]);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        // It has had its first answer.
        output.read_line(&mut String::new()).unwrap();
        Asking { child, output }
    }

    /// What the server answers to a request from its own machine.
    fn get(&self, url: &str) -> String {
        let program =
            "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())";
        let output = self.net.command("python3").args(["-c", program, url]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn refused(&self, space: &Space, more: &[&str]) -> Ran {
        let mut command = self.net.command(env!("CARGO_BIN_EXE_imgbuild"));
        command.env("NO_COLOR", "1").env("COLUMNS", "300").arg("-C").arg(space.path()).arg("serve").args(more);
        command.output().unwrap().into()
    }
}

/// A client that asks again and again.
struct Asking {
    child: std::process::Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Asking {
    /// The longest time between two answers until now.
    fn longest(mut self) -> Duration {
        drop(self.child.stdin.take());
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        Duration::from_secs_f64(line.trim().parse().unwrap())
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["netns", "delete", &self.far]).status();
    }
}

/// Processes that run with a workspace's configuration.
fn dnsmasqs(space: &Space) -> Vec<u32> {
    let wanted = format!(
        "--conf-file={}",
        space.path().canonicalize().unwrap().join(".imgbuild/nodes/dnsmasq/dnsmasq.conf").display()
    );
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == wanted.as_bytes())
        })
        .collect()
}

fn within(what: &str, seconds: u64, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(seconds), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

const PXE: &str = "class=PXEClient:Arch:00007:UNDI:003016";
const BIOS: &str = "class=PXEClient:Arch:00000:UNDI:002001";
const HTTP: &str = "class=HTTPClient:Arch:00016:UNDI:003001";

#[test]
fn privileged_each_firmware_is_sent_its_loader_and_no_loader_itself() {
    let space = site();
    let lan = Lan::new();
    let files = space.path().join("files");
    let own = ["--dnsmasq", "--listen", "10.77.0.1:80", "--loaders", files.to_str().unwrap()];
    let mut serving = lan.net.serve(space.path(), &own);
    let conf = std::fs::read_to_string(space.path().join(".imgbuild/nodes/dnsmasq/dnsmasq.conf")).unwrap();
    let tftp = conf.lines().find_map(|line| line.strip_prefix("tftp-root=")).unwrap().to_owned();
    assert!(tftp.starts_with("/run/imgbuild-dnsmasq-head-") && Path::new(&tftp).is_dir(), "{tftp}");
    let said = serving.said();
    assert!(said.contains("dnsmasq: started, version"), "{said}");
    let file = |node: u8, words: &[&str]| lan.ask(node, words)["file"].as_str().unwrap_or("none").to_owned();
    let script = "http://10.77.0.1/-/boot/ipxe?mac=${mac}";
    for (node, words, expected) in [
        (1, &["arch=0", BIOS][..], "undionly.kpxe"),
        (1, &["arch=7", PXE], "snponly.efi"),
        (1, &["arch=9", PXE], "snponly.efi"),
        (1, &["arch=16", HTTP], "http://10.77.0.1/snponly.efi"),
        (1, &["arch=11", "class=PXEClient:Arch:00011:UNDI:003000"], "snponly-arm64.efi"),
        (1, &["arch=19", "class=HTTPClient:Arch:00019:UNDI:003000"], "http://10.77.0.1/snponly-arm64.efi"),
        // Firmware that does not say its architecture but in its vendor class.
        (1, &["class=PXEClient:Arch:00011:UNDI:003000"], "snponly-arm64.efi"),
        // iPXE, by its options or by its user class, on any firmware.
        (1, &["arch=0", BIOS, "ipxe", "user=iPXE"], script),
        (1, &["arch=7", PXE, "user=iPXE"], script),
        (1, &["arch=7", PXE, "ipxe"], script),
        (2, &["arch=7", PXE], "grubnetx64.efi"),
        (2, &["arch=7", PXE, "ipxe"], "grubnetx64.efi"),
        (2, &["arch=16", HTTP], "http://10.77.0.1/grubnetx64.efi"),
        (2, &["arch=0", BIOS], ""),
        (3, &["arch=0", BIOS, "ipxe"], "lpxelinux.0"),
        (5, &["arch=0", BIOS], "undionly.kpxe"),
        (5, &["arch=0", BIOS, "ipxe"], "http://10.77.0.1/-/boot/xnba?mac=${mac}"),
        (5, &["arch=7", PXE, "ipxe"], "http://10.77.0.1/-/boot/xnba?mac=${mac}&uefi=1"),
        // An operating system boots nothing.
        (1, &["class=udhcp 1.36"], ""),
    ] {
        assert_eq!(file(node, words), expected, "cn{node} {words:?}\n{}", serving.said());
    }
    let http = lan.ask(1, &["arch=16", HTTP]);
    assert_eq!((http["class"].as_str(), http["address"].as_str()), (Some("HTTPClient"), Some("10.77.0.11")));
    assert_eq!(lan.ask(3, &["arch=0", BIOS])["prefix"], "http://10.77.0.1/");
    assert_eq!(lan.ask(4, &["arch=14"])["petitboot"], "http://10.77.0.1/-/boot/petitboot");
    // Who is not in nodes.toml gets nothing at all.
    assert_eq!(lan.ask(9, &["arch=0", BIOS, "wait=3"]), Value::Null);
    // What it sends them to is there, by TFTP and by HTTP.
    let fetched = |words: &[&str]| {
        let output = lan.net.command(words[0]).args(&words[1..]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let http = |path: &str| {
        fetched(&[
            "python3",
            "-c",
            "import sys, urllib.request as r; print(r.urlopen('http://10.77.0.1' + sys.argv[1]).read().decode(), end='')",
            path,
        ])
    };
    assert_eq!(http("/snponly.efi"), "the file snponly.efi");
    assert_eq!(http("/ldlinux.c32"), "the file ldlinux.c32");
    assert!(http("/grub/grub.cfg").contains("configfile (http,10.77.0.1)/-/boot/grub/$net_default_mac"));
    assert!(http("/pxelinux.cfg/01-52-54-00-00-00-03").contains("KERNEL http://10.77.0.1/"));
    assert!(http("/-/boot/grub/52:54:00:00:00:02").contains("menuentry"));
    let tftp = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(10)\n\
                s.sendto(b'\\0\\1undionly.kpxe\\0octet\\0', ('10.77.0.1', 69))\nprint(s.recv(2000)[4:].decode(), end='')";
    assert_eq!(fetched(&["python3", "-c", tftp]), "the file undionly.kpxe");
    // A node more, without a restart.
    space.edit(
        "nodes.toml",
        "cn[1-6]\"]\nmac = \"52:54:00:00:00:[01-06]\"\nip = \"10.77.0.[11-16]",
        "cn[1-7]\"]\nmac = \"52:54:00:00:00:[01-07]\"\nip = \"10.77.0.[11-17]",
    );
    space.edit("nodes.toml", "nodes = \"cn[1-6]\"", "nodes = \"cn[1-7]\"");
    serving.wait_for("nodes.toml has changed");
    assert_eq!(lan.ask(7, &["arch=0", BIOS])["address"], "10.77.0.17");
    // An address that changes counts at once, whatever the lease says.
    assert_eq!(lan.ask(7, &["arch=0", BIOS, "ack"])["address"], "10.77.0.17");
    space.edit("nodes.toml", "10.77.0.[11-17]", "10.77.0.[21-27]");
    within("the address does not change", 20, || lan.ask(7, &["arch=0", BIOS])["address"] == "10.77.0.27");
    // Nothing of it stays.
    assert_eq!(dnsmasqs(&space).len(), 1);
    serving.signal("TERM");
    assert_eq!(serving.wait(), Some(0), "{}", serving.said());
    assert_eq!(dnsmasqs(&space), Vec::<u32>::new());
    assert!(!Path::new(&tftp).parent().unwrap().exists(), "{tftp}");
}

#[test]
fn privileged_beside_another_server_nodes_are_told_what_to_boot_alone() {
    let space = site();
    let lan = Lan::new();
    space.edit("nodes.toml", "loader = \"pxelinux\"", "loader = \"ipxe\"");
    let files = space.path().join("files");
    let serving =
        lan.net.serve(space.path(), &["--dnsmasq=proxy", "--interface", "head", "--loaders", files.to_str().unwrap()]);
    let ask = |node, words: &[&str]| lan.ask(node, words);
    let script = "http://10.77.0.1/-/boot/ipxe?mac=${mac}";
    let ipxe = ask(1, &["arch=7", PXE, "ipxe"]);
    assert_eq!(
        (ipxe["address"].as_str(), ipxe["file"].as_str()),
        (Some("0.0.0.0"), Some(script)),
        "{ipxe}\n{}",
        serving.said()
    );
    // UEFI is told to ask for it on another port.
    run(&["ip", "-n", &lan.far, "address", "add", "10.77.0.250/24", "dev", "eth0"]);
    let firmware = ask(1, &["arch=7", PXE]);
    assert_eq!((firmware["address"].as_str(), firmware["class"].as_str()), (Some("0.0.0.0"), Some("PXEClient")));
    assert_eq!(ask(1, &["arch=7", PXE, "pxe=10.77.0.250"])["file"], "snponly.efi");
    assert_eq!(ask(2, &["arch=7", PXE, "pxe=10.77.0.250"])["file"], "grubnetx64.efi");
    // BIOS takes it from the list of services.
    let bios = ask(1, &["arch=0", BIOS]);
    assert!(bios["options"]["43"].as_str().is_some_and(|list| !list.is_empty()), "{bios}");
    // Others are the other server's.
    assert_eq!(ask(9, &["arch=7", PXE, "wait=3"]), Value::Null);
    assert_eq!(ask(9, &["arch=0", BIOS, "wait=3"]), Value::Null);
    assert_eq!(ask(1, &["class=udhcp 1.36", "wait=3"]), Value::Null);
}

#[test]
fn privileged_a_range_is_for_all_and_boots_for_nodes_alone() {
    let space = site();
    let lan = Lan::new();
    space.edit("nodes.toml", "ip = \"10.77.0.[11-16]\"\n", "");
    space.write("loaders/dnsmasq.conf", "dhcp-option=option:router,10.77.0.254\n");
    let files = space.path().join("files");
    let own = ["--dnsmasq=10.77.0.100,10.77.0.110", "--loaders", files.to_str().unwrap(), "--interface", "head"];
    // As an account of its own: what dnsmasq needs is kept for it, and nothing else.
    run(&["chmod", "-R", "a+rX", space.path().to_str().unwrap()]);
    run(&["mkdir", "-p", space.path().join(".imgbuild/nodes").to_str().unwrap()]);
    run(&["chown", "-R", "nobody", space.path().join(".imgbuild").to_str().unwrap()]);
    run(&["chmod", "755", space.path().to_str().unwrap()]);
    let serving = lan.net.serve(space.path(), &[&own[..], &["--user", "nobody"]].concat());
    let status = std::fs::read_to_string(format!("/proc/{}/status", serving.id())).unwrap();
    assert!(status.contains("CapPrm:\t0000000000003400\n") && status.contains("Uid:\t65534\t"), "{status}");
    let node = lan.ask(1, &["arch=0", BIOS, "ack"]);
    assert!(
        node["address"].as_str().unwrap().starts_with("10.77.0.1") && node["file"] == "undionly.kpxe",
        "{node}\n{}",
        serving.said()
    );
    // A site's own line goes before what dnsmasq would say.
    assert_eq!(node["options"]["3"], "0a4d00fe", "{node}");
    let other = lan.ask(9, &["arch=0", BIOS]);
    assert!(other["address"].as_str().unwrap().starts_with("10.77.0.1") && other["file"] == "", "{other}");
}

#[test]
fn privileged_it_is_started_again_when_it_ends_and_files_are_served_whatever_happens_to_it() {
    let space = site();
    let lan = Lan::new();
    let files = space.path().join("files");
    let own = ["--dnsmasq", "--listen", "10.77.0.1:80", "--loaders", files.to_str().unwrap()];
    let mut serving = lan.net.serve(space.path(), &own);
    let first = dnsmasqs(&space);
    run(&["kill", "-s", "KILL", &first[0].to_string()]);
    serving.wait_for("dnsmasq runs again");
    assert_eq!(lan.ask(1, &["arch=0", BIOS])["file"], "undionly.kpxe");
    // A server that is killed leaves one; the next one ends it.
    serving.signal("KILL");
    serving.wait();
    assert_eq!(dnsmasqs(&space).len(), 1);
    let mut serving = lan.net.serve(space.path(), &own);
    assert!(serving.said().contains("a dnsmasq of a server that was killed still ran"), "{}", serving.said());
    assert_eq!(dnsmasqs(&space).len(), 1);
    // It ends whenever it is started: the server says so, and goes on with files and boot scripts.
    for _ in 0..5 {
        within("it does not come back", 30, || {
            dnsmasqs(&space).first().is_some_and(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok())
        });
        for pid in dnsmasqs(&space) {
            let _ = std::process::Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status();
            within("it does not go", 30, || !dnsmasqs(&space).contains(&pid));
        }
    }
    serving.wait_for("dnsmasq ended 5 times within a minute");
    assert!(lan.get("http://10.77.0.1/-/boot/ipxe?mac=52:54:00:00:00:01").contains("kernel "), "{}", serving.said());
    // It comes back after a pause all the same.
    within("it does not come back", 30, || !dnsmasqs(&space).is_empty());
    serving.signal("TERM");
    assert_eq!(serving.wait(), Some(0), "{}", serving.said());
}

#[test]
fn privileged_each_edit_of_the_nodes_has_its_address_at_once_and_the_server_lives() {
    edits(None);
}

/// The same by dnsmasq of another release of Debian, as sites have it.
fn edits_with(suite: &str, version: &str) {
    let place = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("sh");
    command.arg(project().join("tests/fixtures/dnsmasq-of-suite.sh")).arg(suite).arg(place.path());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) {
        return crate::support::skip(&format!("the mirror has no dnsmasq of {suite}: {text}"));
    }
    assert!(output.status.success() && text.contains(&format!("version {version}")), "{text}");
    edits(Some(&place.path().join("bin")));
}

#[test]
fn network_privileged_dnsmasq_of_debian_11_follows_each_edit() {
    edits_with("bullseye", "2.85");
}

#[test]
fn network_privileged_dnsmasq_of_debian_13_follows_each_edit() {
    edits_with("trixie", "2.91");
}

/// `programs`: the directory of another dnsmasq than the host's.
fn edits(programs: Option<&Path>) {
    let space = site();
    let lan = Lan::new();
    let files = space.path().join("files");
    let mut serving = lan.net.serve_by(
        programs,
        space.path(),
        &["--dnsmasq", "--listen", "10.77.0.1:80", "--loaders", files.to_str().unwrap()],
    );
    let lease = |node: u8| lan.ask(node, &["ack", "arch=0", BIOS, "wait=5", "again=0.2"])["address"].clone();
    assert_eq!(lease(1), "10.77.0.11");
    // A machine that is appended, with a lease before each edit: dnsmasq 2.90 dies of a hangup then. An address comes within three
    // seconds of each edit, and who has one already gets an answer meanwhile but for the moment of the restart.
    let (mut times, mut gaps) = (Vec::new(), Vec::new());
    for number in 21..27 {
        let gap = lan.gap(1);
        let began = Instant::now();
        let nodes = std::fs::read_to_string(space.path().join("nodes.toml")).unwrap();
        let table = format!("\n[node.new{number}]\nmac = \"52:54:00:00:00:{number}\"\nip = \"10.77.0.{number}\"\n");
        space.write("nodes.toml", &(nodes + &table));
        assert_eq!(lease(number), format!("10.77.0.{number}"), "{}", serving.said());
        times.push(began.elapsed());
        gaps.push(gap.longest());
        assert!(!serving.said().contains("dnsmasq ended"), "{}", serving.said());
    }
    println!(
        "from an edit to the new node's lease: {times:?}\nlongest time without an answer to a node of before: {gaps:?}"
    );
    assert!(times.iter().all(|time| *time < Duration::from_secs(3)), "{times:?}");
    gaps.sort_unstable();
    // It is about 40 ms; another program may have the processor for a while.
    assert!(gaps[2] < Duration::from_millis(250) && gaps[5] < Duration::from_secs(1), "{gaps:?}");
    // Addresses that are swapped, changed, and a removed node's that is given to another, all of them with leases.
    assert_eq!((lease(2), lease(6)), ("10.77.0.12".into(), "10.77.0.16".into()));
    let edited = |nodes: &str, asked: &[(u8, &str)]| {
        let at = serving.said().matches("dnsmasq runs again").count();
        space.write("nodes.toml", nodes);
        within("it does not take the nodes", 20, || serving.said().matches("dnsmasq runs again").count() > at);
        for (node, address) in asked {
            assert_eq!(lease(*node), *address, "{node}: {}", serving.said());
        }
    };
    let node = |name: &str, mac: u8, ip: u8| {
        format!("[node.{name}]\nmac = \"52:54:00:00:00:{mac:02}\"\nip = \"10.77.0.{ip}\"\nimage = \"compute\"\n")
    };
    let two = |first: String, second: String| first + &second;
    edited(&two(node("cn1", 1, 12), node("cn2", 2, 11)), &[(1, "10.77.0.12"), (2, "10.77.0.11")]);
    edited(&two(node("cn1", 1, 13), node("cn6", 8, 11)), &[(1, "10.77.0.13"), (8, "10.77.0.11")]);
    // A new card in the same node.
    edited(&node("cn1", 9, 13), &[(9, "10.77.0.13")]);
    // Another server of the same nodes is refused, and takes nothing away from this one.
    let running = dnsmasqs(&space);
    let ran = lan.refused(&space, &["--dnsmasq", "--listen", "10.77.0.1:8080", "--loaders", files.to_str().unwrap()]);
    assert!(
        ran.code == 3 && ran.err.contains("another server already answers for these nodes"),
        "{} {}",
        ran.code,
        ran.err
    );
    assert!(ran.err.contains("http://10.77.0.1 (process "), "{}", ran.err);
    assert_eq!(dnsmasqs(&space), running);
    assert_eq!(lease(9), "10.77.0.13");
    serving.signal("TERM");
    assert_eq!(serving.wait(), Some(0), "{}", serving.said());
}

/// How often the server has said something.
fn count(serving: &super::net::Serving, text: &str) -> usize {
    serving.said().matches(text).count()
}

#[test]
fn privileged_own_lines_of_the_site_count_once_they_are_good_and_never_take_the_addresses_away() {
    let space = site();
    let lan = Lan::new();
    let files = space.path().join("files");
    let own = ["--dnsmasq", "--listen", "10.77.0.1:80", "--loaders", files.to_str().unwrap()];
    let mut serving = lan.net.serve(space.path(), &own);
    let router = || lan.ask(1, &["arch=0", BIOS])["options"]["3"].clone();
    let (ours, theirs, last) = ("0a4d0001", "0a4d00fe", "0a4d00fd");
    assert_eq!(router(), ours);
    // A file that comes, and one that is changed.
    space.write("loaders/dnsmasq.conf", "dhcp-option=option:router,10.77.0.254\n");
    within("a new file does not count", 20, || router() == theirs);
    // A mistake: what was there before counts on, also when the nodes change and when dnsmasq has to be started again.
    let running = dnsmasqs(&space);
    space.write("loaders/dnsmasq.conf", "\ndhcp-option=option:rooter,10.77.0.254\n");
    serving.wait_for("loaders/dnsmasq.conf is not used as it is now");
    assert_eq!(dnsmasqs(&space), running, "it was ended for a mistake");
    let said = serving.said();
    assert!(said.contains("line 2 of") && said.contains("what it said before is used further"), "{said}");
    let append = |number: u8| {
        let nodes = std::fs::read_to_string(space.path().join("nodes.toml")).unwrap();
        let table = format!("\n[node.new{number}]\nmac = \"52:54:00:00:00:{number}\"\nip = \"10.77.0.{number}\"\n");
        space.write("nodes.toml", &(nodes + &table));
        let address = format!("10.77.0.{number}");
        within("the new node has no address", 20, || {
            lan.ask(number, &["arch=0", BIOS, "wait=1"])["address"] == address
        });
    };
    append(21);
    assert_eq!(router(), theirs);
    let ended = count(&serving, "dnsmasq runs again");
    run(&["kill", "-s", "KILL", &dnsmasqs(&space)[0].to_string()]);
    within("it does not come back", 20, || count(&serving, "dnsmasq runs again") > ended);
    assert_eq!(router(), theirs);
    assert_eq!(count(&serving, "is not used as it is now"), 1, "{}", serving.said());
    // What only shows when dnsmasq starts: it is started as it was.
    space.write("loaders/dnsmasq.conf", "dhcp-option=option:router,10.77.0.253\nuser=no-such-account\n");
    serving.wait_for("dnsmasq does not start: ");
    within("it does not come back", 20, || lan.ask(1, &["arch=0", BIOS, "wait=1"])["options"]["3"] == theirs);
    append(22);
    assert_eq!(
        (router().as_str(), count(&serving, "is not used as it is now")),
        (Some(theirs), 2),
        "{}",
        serving.said()
    );
    // Mended, and removed.
    space.write("loaders/dnsmasq.conf", "dhcp-option=option:router,10.77.0.253\n");
    within("a mended file does not count", 20, || router() == last);
    std::fs::remove_file(space.path().join("loaders/dnsmasq.conf")).unwrap();
    within("a removed file counts", 20, || router() == ours);
    append(23);
    serving.signal("TERM");
    assert_eq!(serving.wait(), Some(0), "{}", serving.said());
}

#[test]
fn privileged_nodes_that_could_not_be_written_come_when_they_can() {
    let space = site();
    let lan = Lan::new();
    let files = space.path().join("files");
    let own = ["--dnsmasq", "--listen", "10.77.0.1:80", "--loaders", files.to_str().unwrap()];
    let mut serving = lan.net.serve(space.path(), &own);
    let conf = std::fs::read_to_string(space.path().join(".imgbuild/nodes/dnsmasq/dnsmasq.conf")).unwrap();
    let readable = Path::new(conf.lines().find_map(|line| line.strip_prefix("dhcp-hostsfile=")).unwrap());
    let readable = readable.parent().unwrap().to_owned();
    let aside = readable.with_extension("aside");
    // Nothing can be written there, as where /run is full.
    std::fs::rename(&readable, &aside).unwrap();
    std::fs::write(&readable, "").unwrap();
    let nodes = std::fs::read_to_string(space.path().join("nodes.toml")).unwrap();
    space.write("nodes.toml", &(nodes + "\n[node.new]\nmac = \"52:54:00:00:00:21\"\nip = \"10.77.0.21\"\n"));
    let cannot = "dnsmasq does not get the new nodes";
    serving.wait_for(cannot);
    assert_eq!(lan.ask(21, &["arch=0", BIOS, "wait=3"]), Value::Null);
    assert_eq!(lan.ask(1, &["arch=0", BIOS])["address"], "10.77.0.11");
    assert_eq!(count(&serving, cannot), 1, "{}", serving.said());
    std::fs::remove_file(&readable).unwrap();
    std::fs::rename(&aside, &readable).unwrap();
    within("the new node has no address", 10, || lan.ask(21, &["arch=0", BIOS, "wait=1"])["address"] == "10.77.0.21");
}

#[test]
fn privileged_nodes_that_are_appended_and_not_answered_are_named() {
    let space = site();
    let lan = Lan::new();
    let files = space.path().join("files");
    let own = ["--dnsmasq", "--listen", "10.77.0.1:80", "--loaders", files.to_str().unwrap()];
    let mut serving = lan.net.serve(space.path(), &own);
    assert!(!serving.said().contains("they are not answered"), "{}", serving.said());
    let append = |text: &str| {
        let nodes = std::fs::read_to_string(space.path().join("nodes.toml")).unwrap();
        space.write("nodes.toml", &(nodes + "\n" + text));
    };
    append("[node.bare]\nip = \"10.77.0.31\"\n");
    serving.wait_for("note: bare: no MAC address");
    append("[node.homeless]\nmac = \"52:54:00:00:00:32\"\n");
    serving.wait_for("note: homeless: no address");
    append("[node.far]\nmac = \"52:54:00:00:00:33\"\nip = \"10.78.0.33\"\n");
    serving.wait_for("note: far: addresses outside 10.77.0.0/24, the network of head");
    // An edit that changes nothing of it says nothing of it.
    append("[node.good]\nmac = \"52:54:00:00:00:34\"\nip = \"10.77.0.34\"\n");
    within("the good node has no address", 20, || lan.ask(34, &["arch=0", BIOS, "wait=1"])["address"] == "10.77.0.34");
    assert_eq!(count(&serving, "they are not answered"), 3, "{}", serving.said());
    // Networks behind a relay are the site's own lines.
    space.write("loaders/dnsmasq.conf", "dhcp-range=10.78.0.0,static,255.255.255.0,1h\n");
    let ended = count(&serving, "dnsmasq runs again");
    within("the site's own lines do not count", 20, || count(&serving, "dnsmasq runs again") > ended);
    append("[node.further]\nmac = \"52:54:00:00:00:35\"\nip = \"10.78.0.35\"\n[node.also]\n");
    serving.wait_for("note: also,bare: no MAC address");
    assert_eq!(count(&serving, "addresses outside"), 1, "{}", serving.said());
}

#[test]
fn privileged_what_it_cannot_have_is_told_before_a_node_is_served() {
    let space = site();
    let mut lan = Lan::new();
    let files = space.path().join("files");
    let told = |lan: &Lan, more: &[&str], code: i32, words: &[&str]| {
        let own = ["--dnsmasq", "--loaders", files.to_str().unwrap()];
        let ran = lan.refused(&space, &[&own[..], more].concat());
        assert_eq!(ran.code, code, "{more:?}: {}{}", ran.out, ran.err);
        for word in words {
            assert!(ran.err.contains(word), "{more:?} does not say `{word}`: {}", ran.err);
        }
        assert!(!ran.out.contains("serving"), "{}", ran.out);
    };
    let listen = ["--listen", "10.77.0.1:80"];
    told(&lan, &["--interface", "eth7"], 1, &["there is no network card `eth7`", "head 10.77.0.0/24"]);
    told(&lan, &["--interface", "cable"], 3, &["`cable` has no IPv4 address", "ip address add"]);
    told(
        &lan,
        &["--listen", "127.0.0.1:80", "--interface", "head"],
        1,
        &["nodes would be sent to 10.77.0.1", "--listen 10.77.0.1:80"],
    );
    space.write("loaders/dnsmasq.conf", "\ndhcp-option=option:rooter,10.77.0.254\n");
    told(&lan, &listen, 1, &["refuses its configuration", "line 2 of", "loaders/dnsmasq.conf"]);
    std::fs::remove_file(space.path().join("loaders/dnsmasq.conf")).unwrap();
    // Another DHCP server on the card: dnsmasq would share the port with it.
    let taken = lan.net.start(&[
        "dnsmasq",
        "--keep-in-foreground",
        "--user=root",
        "--port=0",
        "--interface=head",
        "--except-interface=lo",
        "--bind-interfaces",
        "--dhcp-range=10.77.0.200,10.77.0.210",
        "--leasefile-ro",
        "--pid-file=",
    ]);
    within("the other one does not start", 20, || {
        let table = lan.net.command("cat").arg("/proc/net/udp").output().unwrap().stdout;
        String::from_utf8_lossy(&table).contains(":0043 ")
    });
    told(&lan, &listen, 3, &["port 67 (DHCP) cannot be had on head", "ss -lunp 'sport = :67'"]);
    lan.net.end(taken);
    // A TFTP server.
    let taken = lan.net.start(&["python3", "-c", "import socket, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('0.0.0.0', 69))\ntime.sleep(1000)"]);
    within("the other one does not start", 20, || {
        let table = lan.net.command("cat").arg("/proc/net/udp").output().unwrap().stdout;
        String::from_utf8_lossy(&table).contains(":0045 ")
    });
    told(&lan, &listen, 3, &["port 69 (TFTP) cannot be had on head"]);
    lan.net.end(taken);
    lan.net.ip("link set head down");
    told(&lan, &["--interface", "head"], 3, &["`head` is down", "ip link set head up"]);
}

/// Publishes a build with a kernel; `initrd` is its digest in build.json.
fn publish(space: &Space, name: &str, kernel: &[u8], initrd: &[u8]) {
    let digest = |bytes: &[u8]| base::digest::Sha256::of(bytes).to_string();
    let build = space.path().join("out/.builds/compute").join(name);
    std::fs::create_dir_all(&build).unwrap();
    std::fs::write(build.join("kernel"), kernel).unwrap();
    std::fs::write(build.join("initrd-stateless"), b"an initrd").unwrap();
    let file = |name: &str, size: usize, bytes: &[u8]| serde_json::json!({"name": name, "size": size, "sha256": digest(bytes)});
    let info = serde_json::json!({
        "format_version": "1.0", "name": "compute", "target": "debian bookworm x86_64", "epoch": 1, "kernel_release": "6.1",
        "cmdline": ["imgurl={url}/rootimg.cpio.zst"], "memory": 1, "layers": [], "not_reproducible": [],
        "artefacts": [file("initrd-stateless", 9, initrd), file("kernel", kernel.len(), kernel)],
    });
    std::fs::write(build.join("build.json"), format!("{info:#}\n")).unwrap();
    let (link, aside) = (space.path().join("out/compute"), space.path().join("out/aside"));
    std::os::unix::fs::symlink(format!(".builds/compute/{name}"), &aside).unwrap();
    std::fs::rename(aside, link).unwrap();
}

#[test]
fn privileged_what_nodes_behind_shim_load_is_where_they_look_for_it() {
    let space = site();
    space.write(
        "nodes.toml",
        "[defaults]\nloader = \"shim\"\n\n[node.cn1]\nmac = \"52:54:00:00:00:01\"\nip = \"10.77.0.11\"\nimage = \"compute\"\n\n\
         [node.cn2]\nmac = \"52:54:00:00:00:02\"\nip = \"10.77.0.12\"\n",
    );
    let signed = std::fs::read(project().join("tests/fixtures/efi/signed.efi")).unwrap();
    for name in ["shimx64.efi", "grubx64.efi"] {
        std::fs::write(space.path().join("files").join(name), &signed).unwrap();
    }
    publish(&space, "1111", &signed, b"an initrd");
    let lan = Lan::new();
    let files = space.path().join("files");
    let own = ["--dnsmasq", "--listen", "10.77.0.1:80", "--loaders", files.to_str().unwrap()];
    let mut serving = lan.net.serve(space.path(), &own);
    assert!(
        serving.said().contains("grubx64.efi` has no http module: firmware that boots by HTTP gets nothing"),
        "{}",
        serving.said()
    );
    let file = |words: &[&str]| lan.ask(1, words)["file"].as_str().unwrap_or("none").to_owned();
    assert_eq!(file(&["arch=7", PXE]), "shimx64.efi");
    assert_eq!((file(&["arch=16", HTTP]), file(&["arch=0", BIOS])), (String::new(), String::new()));
    let conf = std::fs::read_to_string(space.path().join(".imgbuild/nodes/dnsmasq/dnsmasq.conf")).unwrap();
    let tftp = Path::new(conf.lines().find_map(|line| line.strip_prefix("tftp-root=")).unwrap());
    let text = |name: &str| std::fs::read_to_string(tftp.join(name)).unwrap_or_default();
    let of_node = |number: u8| text(&format!("grub/mac/52:54:00:00:00:0{number}"));
    assert!(
        text("grub/grub.cfg").starts_with("if [ -s /grub/mac/$net_default_mac ]; then\n"),
        "{}",
        text("grub/grub.cfg")
    );
    let first = of_node(1);
    assert!(
        first.contains("    linux /.builds/compute/1111/kernel imgurl=http://10.77.0.1/.builds/compute/1111/rootimg"),
        "{first}"
    );
    assert!(first.contains("imgbuild.report=http://10.77.0.1/-/report/cn1/"), "{first}");
    assert!(first.contains("    initrd /.builds/compute/1111/initrd-stateless\n"), "{first}");
    assert_eq!(std::fs::read(tftp.join(".builds/compute/1111/kernel")).unwrap(), signed);
    assert_eq!(text(".builds/compute/1111/initrd-stateless"), "an initrd");
    assert_eq!(of_node(2), "echo 'cn2: nodes.toml names no image for cn2'\nsleep 30\nexit 1\n");
    // The next build is there within moments, without a restart.
    publish(&space, "2222", &signed, b"an initrd");
    within("the next build does not come", 20, || of_node(1).contains("/2222/kernel"));
    assert_eq!(std::fs::read(tftp.join(".builds/compute/2222/kernel")).unwrap(), signed);
    assert!(tftp.join(".builds/compute/1111/kernel").exists(), "one may be loading it");
    // What the node would refuse, or what is not what was published, is refused here.
    publish(&space, "3333", b"a kernel", b"an initrd");
    serving.wait_for("the kernel of compute@3333 is not a UEFI program");
    within("the node is not told", 20, || of_node(1).starts_with("echo 'cn1: the kernel of compute@3333 is not a"));
    assert!(!tftp.join(".builds/compute/3333").exists());
    publish(&space, "4444", &signed, b"another initrd");
    serving.wait_for("`initrd-stateless` of compute@4444 was changed after it was published");
    assert!(!tftp.join(".builds/compute/4444/initrd-stateless").exists());
    // A node that is no longer behind shim.
    space.edit("nodes.toml", "image = \"compute\"", "image = \"compute\"\nloader = \"ipxe\"");
    within("its file stays", 20, || !tftp.join("grub/mac/52:54:00:00:00:01").exists());
    assert!(!of_node(2).is_empty());
}

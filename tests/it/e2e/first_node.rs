//! From a published image to a node by PXE, with what docs/first-node.md says: dnsmasq, a file server, an empty machine.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::tiny;
use crate::support::Space;

/// A network namespace with a bridge, as the network of the nodes.
struct Net {
    name: String,
    children: Vec<Child>,
}

fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|error| panic!("{words:?}: {error}"));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Net {
    fn new() -> Self {
        let name = format!("ibpxe-{}", std::process::id());
        run(&["ip", "netns", "add", &name]);
        let net = Self { name, children: Vec::new() };
        for words in [
            "link set lo up",
            "link add head type bridge",
            "tuntap add tap0 mode tap",
            "link set tap0 master head",
            "link set tap0 up",
            "link set head up",
            "address add 10.79.0.1/24 dev head",
        ] {
            let words: Vec<&str> = words.split(' ').collect();
            run(&[&["ip", "netns", "exec", &net.name, "ip"], &words[..]].concat());
        }
        net
    }

    fn start(&mut self, words: &[&str]) {
        let child = Command::new("ip")
            .args(["netns", "exec", &self.name])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.children.push(child.unwrap_or_else(|error| panic!("{words:?}: {error}")));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

fn entry(space: &Space, arguments: &[&str]) -> String {
    space.run(&[&["boot-entry"], arguments].concat()).good().out
}

#[test]
fn each_loader_is_told_the_same() {
    let space = &tiny().space;
    let url = "http://10.79.0.1/images/tiny/";
    let digest = |text: &str| {
        let at = text.find("imgdigest=sha256:").unwrap_or_else(|| panic!("{text}"));
        text[at..at + 17 + 64].to_owned()
    };
    let json: serde_json::Value = serde_json::from_str(&entry(space, &["--url", url, "--format", "json"])).unwrap();
    assert_eq!(json["kernel"], "http://10.79.0.1/images/tiny/kernel");
    let all =
        json["cmdline"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(" ");
    assert!(all.contains("imgurl=http://10.79.0.1/images/tiny/rootimg.cpio.zst"), "{all}");
    for (format, words) in [
        ("ipxe", "kernel http://10.79.0.1/images/tiny/kernel initrd=initrd-stateless imgurl="),
        ("grub", "linux (http,10.79.0.1)/images/tiny/kernel imgurl="),
        ("pxelinux", "KERNEL http://10.79.0.1/images/tiny/kernel"),
    ] {
        let text = entry(space, &["--url", url, "--format", format, "--append", "rootlimit=80%"]);
        assert!(text.contains(words) && text.contains("rootlimit=80%"), "{text}");
        assert_eq!(digest(&text), digest(&all));
    }
    let ran = space.run(&["boot-entry", "--url", "10.79.0.1/x"]);
    assert!(ran.code == 64 && ran.err.contains("no address that nodes can use"), "{}", ran.err);
    let ran = space.run(&["boot-entry", "--url", "https://x/y", "--format", "grub"]);
    assert!(ran.code == 64 && ran.err.contains("http only"), "{}", ran.err);
}

#[test]
fn privileged_boot_an_empty_machine_becomes_a_node_by_pxe() {
    let built = &tiny().space;
    let served = tempfile::tempdir().unwrap();
    let directory = served.path().join("tiny");
    crate::support::copy_tree(&built.artefact("tiny", "").canonicalize().unwrap(), &directory);
    let url = "http://10.79.0.1/tiny";
    std::fs::write(directory.join("boot.ipxe"), entry(built, &["--url", url])).unwrap();
    // As the command prints it, with the network of this test.
    let mut conf = entry(built, &["--url", url, "--format", "dnsmasq"]);
    for (from, to) in [("interface=eth0", "interface=head"), ("10.0.0.100,10.0.0.199", "10.79.0.100,10.79.0.199")] {
        assert!(conf.contains(from), "{conf}");
        conf = conf.replace(from, to);
    }
    let file = served.path().join("dnsmasq.conf");
    std::fs::write(&file, conf).unwrap();
    let console = served.path().join("console");
    let mut net = Net::new();
    let (conf, pid) = (format!("--conf-file={}", file.display()), format!("--pid-file={}.pid", file.display()));
    net.start(&["dnsmasq", "--keep-in-foreground", "--user=root", "--leasefile-ro", &conf, &pid]);
    net.start(&["python3", "-m", "http.server", "80", "--bind", "10.79.0.1", "-d", served.path().to_str().unwrap()]);
    let serial = format!("file:{}", console.display());
    // Nothing but a card with iPXE in its memory, as most servers' firmware leads to: no disk, no kernel.
    net.start(&[
        "qemu-system-x86_64",
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-m",
        "1024",
        "-smp",
        "2",
        "-display",
        "none",
        "-monitor",
        "none",
        "-no-reboot",
        "-serial",
        &serial,
        "-netdev",
        "tap,id=n,ifname=tap0,script=no,downscript=no",
        "-device",
        "virtio-net-pci,netdev=n,mac=52:54:00:00:00:09,bootindex=1",
    ]);
    let began = Instant::now();
    let text = || std::fs::read(&console).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    while !text().contains("ROOT IS TMPFS") && began.elapsed() < Duration::from_secs(600) {
        std::thread::sleep(Duration::from_millis(300));
    }
    let text = text();
    assert!(text.contains("NODE IS UP") && text.contains("ROOT IS TMPFS"), "{text}");
}

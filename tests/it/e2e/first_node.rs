//! The walk of a new administrator: from `init`, with the mistakes that one makes and mends, to a node that boots by PXE with
//! what docs/first-node.md says: dnsmasq, a file server, an empty machine.

use std::time::{Duration, Instant};

use super::machine::Node;
use super::net::{Net, run};
use super::{store, tiny};
use crate::support::{Ran, Space, imgbuild};

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
    assert!(ran.code == 64 && ran.err.contains("not a URL that nodes can use"), "{}", ran.err);
    for (format, words) in [("grub", "http only"), ("pxelinux", "http and TFTP only")] {
        let ran = space.run(&["boot-entry", "--url", "https://x/y", "--format", format]);
        assert!(ran.code == 64 && ran.err.contains(words), "{}", ran.err);
    }
    // A node without a keyboard waits for nobody.
    assert!(entry(space, &["--url", url, "--format", "grub"]).contains("\nset timeout=0\n"));
}

/// A new administrator: a home of their own with a key, and a directory with a recipe.
struct Administrator {
    home: tempfile::TempDir,
    space: Space,
}

impl Administrator {
    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = imgbuild();
        command.env("HOME", self.home.path()).arg("-C").arg(self.space.path()).arg("--store").arg(store());
        command.args(arguments).output().unwrap().into()
    }

    /// A step that fails: with this exit code, at this place, with words that say what to do.
    #[track_caller]
    fn fails(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let ran = self.run(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.err);
        // As it was written, wherever the line was broken.
        let said = ran.err.replace(['\n', '│', '·'], " ").split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(said.contains(word), "{arguments:?} does not say `{word}`: {}", ran.err);
        }
        assert!(!self.space.path().join("out").exists(), "{arguments:?} published something");
    }
}

#[test]
fn network_privileged_boot_a_new_administrator_walks_from_init_to_a_node_by_pxe() {
    let one = Administrator { home: tempfile::tempdir().unwrap(), space: Space::new() };
    let key = one.home.path().join(".ssh/id_ed25519");
    std::fs::create_dir_all(key.parent().unwrap()).unwrap();
    run(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]);
    let space = &one.space;
    let ran = one.run(&["init", "compute"]).good();
    assert!(ran.err.contains("keys/admin.pub") && ran.err.contains("next: imgbuild build"), "{}", ran.err);
    one.run(&["check"]).good();

    // The release by its number, a package that is nearly one, a bracket that is forgotten.
    one.fails(
        &["set", ".", "image.release=12"],
        1,
        &["image.toml:6:11", "release = \"bookworm\"", "image.toml was not changed"],
    );
    // Virtual machines are the first nodes.
    one.run(&["set", ".", "kernel.package=linux-image-cloud-amd64", "packages.install+=chronny"]).good();
    one.fails(&["build"], 1, &["no repository has `chronny`", "image.toml:16:", "did you mean chrony"]);
    space.edit("image.toml", "[\"chronny\"]", "[\"chrony\"");
    one.fails(&["build"], 1, &["this list is not closed", "image.toml:16:11", "add `]` at the end of line 16"]);
    space.edit("image.toml", "[\"chrony\"", "[\"chrony\"]");
    // A script from a colleague's Windows, a key that lost its second half.
    space.write("compute.postinstall", "#!/bin/sh\r\nset -e\r\necho node >$1/etc/role\r\n");
    one.fails(
        &["set", ".", "postinstall.script=compute.postinstall"],
        1,
        &["has Windows line endings", "sed -i 's/\\r$//' compute.postinstall"],
    );
    space.write("compute.postinstall", "#!/bin/sh\nset -e\necho node >$1/etc/role\n");
    one.fails(
        &["set", ".", "postinstall.script=compute.postinstall"],
        1,
        &["is not executable", "chmod +x compute.postinstall"],
    );
    run(&["chmod", "+x", space.path().join("compute.postinstall").to_str().unwrap()]);
    one.run(&["set", ".", "postinstall.script=compute.postinstall"]).good();
    space.write("keys/colleague.pub", "ssh-ed25519 AAAA colleague\n");
    one.fails(
        &["set", ".", "system.authorized_keys+=keys/colleague.pub"],
        1,
        &["keys/colleague.pub:1:1", "truncated or damaged"],
    );
    // A driver with a letter too many, and an exclude pattern that takes init away.
    one.run(&["set", ".", "kernel.drivers+=+virtio_nett"]).good();
    one.fails(&["build"], 1, &["no driver `virtio_nett`", "image.toml:25:12", "did you mean virtio_net"]);
    one.run(&["set", ".", "kernel.drivers-=+virtio_nett", "kernel.drivers+=+virtio_net"]).good();
    let exlist = std::fs::read_to_string(space.path().join("compute.exlist")).unwrap();
    space.write("compute.exlist", &format!("{exlist}./usr/lib/systemd/*\n"));
    one.fails(&["build"], 1, &["no node could boot the image", "compute.exlist:7:1", "`+./usr/lib/systemd/systemd`"]);
    space.write("compute.exlist", &exlist);
    // A file that is to go below another one.
    space.write("site/motd", "welcome\n").write("compute.synclist", "site/motd -> /usr/sbin/sshd/\n");
    one.run(&["set", ".", "sync.lists+=compute.synclist"]).good();
    one.fails(&["build"], 1, &["compute.synclist:1:1", "`/usr/sbin/sshd` is a file in the image"]);
    space.write("compute.synclist", "site/motd -> /etc/motd\n");

    // Now it is right; nothing is done twice, and one edit runs what it must.
    let ran = one.run(&["build"]).good();
    assert!(ran.err.contains("published in"), "{}", ran.err);
    assert_eq!(one.run(&["plan", "--detailed-exitcode"]).code, 0);
    space.write("site/motd", "welcome to the cluster\n");
    let plan = one.run(&["plan"]).good().out;
    assert!(plan.contains("site/motd") && plan.contains("kernel   keep") && plan.contains("initrd   keep"), "{plan}");
    let ran = one.run(&["build", "--locked"]).good();
    assert!(ran.err.contains("ran rootfs/sync, pack/rootimg"), "{}", ran.err);

    // An empty machine.
    let url = "http://10.79.0.1/compute";
    let served = tempfile::tempdir().unwrap();
    let directory = served.path().join("compute");
    crate::support::copy_tree(&space.artefact("compute", "").canonicalize().unwrap(), &directory);
    std::fs::write(directory.join("boot.ipxe"), one.run(&["boot-entry", "--url", url]).good().out).unwrap();
    // As the command prints it, with the network of this test.
    let mut conf = one.run(&["boot-entry", "--url", url, "--format", "dnsmasq"]).good().out;
    for (from, to) in [("interface=eth0", "interface=head"), ("10.0.0.100,10.0.0.199", "10.79.0.100,10.79.0.100")] {
        assert!(conf.contains(from), "{conf}");
        conf = conf.replace(from, to);
    }
    let file = served.path().join("dnsmasq.conf");
    std::fs::write(&file, conf).unwrap();
    let console = served.path().join("console");
    let mut net = Net::new("10.79.0.1/24");
    net.tap("tap0");
    let (conf, pid) = (format!("--conf-file={}", file.display()), format!("--pid-file={}.pid", file.display()));
    net.start(&["dnsmasq", "--keep-in-foreground", "--user=root", "--leasefile-ro", &conf, &pid]);
    net.start(&["python3", "-m", "http.server", "80", "--bind", "10.79.0.1", "-d", served.path().to_str().unwrap()]);
    let serial = format!("file:{}", console.display());
    // Nothing but a card with iPXE in its memory, as most servers' firmware leads to: no disk, no kernel.
    let machine = "qemu-system-x86_64 -accel tcg -cpu max -m 2048 -smp 2 -display none -monitor none -no-reboot \
                   -netdev tap,id=n,ifname=tap0,script=no,downscript=no \
                   -device virtio-net-pci,netdev=n,mac=52:54:00:00:00:09,bootindex=1 -serial";
    net.start(&machine.split_whitespace().chain([serial.as_str()]).collect::<Vec<_>>());
    let text = || std::fs::read(&console).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let node = Node::new(&["ip", "netns", "exec", &net.name], "10.79.0.100", 22, &key);
    let began = Instant::now();
    while !node.connect() {
        assert!(began.elapsed() < Duration::from_secs(900), "the node does not answer:\n{}", text());
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(node.run("cat /etc/motd /etc/role"), "welcome to the cluster\nnode");
    assert_eq!(node.run("findmnt -no FSTYPE /"), "tmpfs");
    assert_eq!(node.run("systemctl is-active chrony"), "active");
    assert_eq!(node.run("systemctl is-system-running --wait; true"), "running", "{}", node.run("systemctl --failed"));
}

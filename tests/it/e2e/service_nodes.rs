//! A service node with a disk: it copies images, gives its own nodes addresses and images, and goes on with what it has
//! after a reboot, when the server that it copies from has lost them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::machine::Node;
use super::net::{Net, Serving, run};
use super::{store, tiny};
use crate::support::{Ran, Space, copy_tree, project};

/// How long an emulated node may take from switching it on to `up`, with other tests beside it.
const PATIENCE: Duration = Duration::from_secs(600);

/// A node of the service node: its image says when it is up.
const OWN_NODES: &str =
    "[node.c1]\nmac = \"52:54:00:01:00:01\"\nip = \"10.1.0.11\"\nimage = \"tiny\"\nconsole = [\"ttyS0\"]\n";

const NODES: &str = "[node.sn1]\nmac = \"52:54:00:00:00:02\"\nip = \"10.0.0.2\"\nimage = \"service-statelite\"\n\
    variables = { IMAGES = \"tiny\", CARD = \"52:54:00:00:00:03\", ADDRESS = \"10.1.0.1/24\" }\n";

/// A management node with both examples, the service node's network card in its network, and the other in one of its own.
struct Site {
    space: Space,
    key: PathBuf,
    net: Net,
}

impl Site {
    fn new() -> Self {
        let space = Space::new().with_store(&store());
        for example in ["service", "service-statelite"] {
            copy_tree(&project().join("examples").join(example), &space.path().join(example));
        }
        let own = |name: &str| space.path().join(name);
        let key = own("admin");
        run(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]);
        std::fs::copy(key.with_extension("pub"), own("service/keys/admin.pub")).unwrap();
        let packages = own("service/make-packages").display().to_string();
        run(&[&packages]);
        // Without what a debugger reads, a twentieth of which the node's memory has to hold.
        let program = own("program").display().to_string();
        run(&["strip", "-o", &program, env!("CARGO_BIN_EXE_imgbuild")]);
        run(&[&packages, "imgbuild", &program]);
        let list = std::fs::read_to_string(own("service/service.otherpkgs.pkglist")).unwrap();
        space.write("service/service.otherpkgs.pkglist", &format!("{list}xcat-core/imgbuild\n"));
        space.write("service/site/nodes.toml", OWN_NODES);
        // As it lies in the examples, and as one of a site's images.
        let alone = own("service-statelite").display().to_string();
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_imgbuild"));
        let checked = Ran::from(check.args(["-C", &alone, "check"]).output().unwrap()).good();
        assert!(checked.err.contains("(0 warnings"), "{}", checked.err);
        std::fs::remove_file(own("service-statelite/imgbuild.toml")).unwrap();
        space.write("imgbuild.toml", "images = [\"service-statelite\"]\nout = \"out\"\n").write("nodes.toml", NODES);
        space.run(&["build"]).good();
        let site = Self { space, key, net: Net::new("10.0.0.1/24") };
        site.publish_tiny();
        for words in ["link add lower type bridge", "link set lower up"] {
            site.net.ip(words);
        }
        for (name, bridge) in [("upper1", "head"), ("lower1", "lower"), ("lower2", "lower")] {
            site.net.tap(name);
            site.net.ip(&format!("link set {name} master {bridge}"));
        }
        site
    }

    /// Where the origin has the nodes' image.
    fn origin(&self) -> PathBuf {
        self.space.path().join("out/tiny")
    }

    fn publish_tiny(&self) {
        let built = tiny().space.artefact("tiny", ".").canonicalize().unwrap();
        let build = self.space.path().join("out/.builds/tiny/0123456789ab");
        std::fs::create_dir_all(&build).unwrap();
        for entry in std::fs::read_dir(&built).unwrap().flatten() {
            std::fs::copy(entry.path(), build.join(entry.file_name())).unwrap();
        }
        std::os::unix::fs::symlink(".builds/tiny/0123456789ab", self.origin()).unwrap();
    }

    fn console(&self, name: &str) -> PathBuf {
        self.space.path().join(format!("{name}.console"))
    }

    fn text(&self, name: &str) -> String {
        let bytes = std::fs::read(self.console(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Switches a machine on: the cards' taps and addresses, and what else it has. It boots from the first.
    fn start(&mut self, name: &str, memory: u32, cards: &[(&str, &str)], more: &[&str]) -> usize {
        let mut words: Vec<String> =
            "qemu-system-x86_64 -accel tcg -cpu max -smp 1 -display none -monitor none -no-reboot"
                .split(' ')
                .map(str::to_owned)
                .collect();
        words.extend(["-m".to_owned(), memory.to_string()]);
        words.extend(["-serial".to_owned(), format!("file:{}", self.console(name).display())]);
        for (number, (tap, mac)) in cards.iter().enumerate() {
            words.extend(["-netdev".to_owned(), format!("tap,id=n{number},ifname={tap},script=no,downscript=no")]);
            let boots = if number == 0 { "bootindex=1" } else { "romfile=" };
            words.extend(["-device".to_owned(), format!("virtio-net-pci,netdev=n{number},mac={mac},{boots}")]);
        }
        words.extend(more.iter().map(|&word| word.to_owned()));
        self.net.start(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn node(&self) -> Node {
        Node::new(&["ip", "netns", "exec", &self.net.name], "10.0.0.2", 22, &self.key)
    }

    #[track_caller]
    fn within(&self, what: &str, serving: &Serving, mut is_so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is_so() {
            let tail = |name: &str| {
                let text = self.text(name);
                text.chars().skip(text.chars().count().saturating_sub(3000)).collect::<String>()
            };
            assert!(began.elapsed() < PATIENCE, "{what}\n{}\n{}\n{}", serving.said(), tail("sn1"), tail("c1"));
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// What the management node knows of the service node.
    fn report(&self) -> serde_json::Value {
        let nodes = self.space.run(&["nodes", "sn1", "--json"]);
        let json: serde_json::Value =
            serde_json::from_str(&nodes.out).unwrap_or_else(|error| panic!("{error}: {}", nodes.err));
        json["nodes"][0]["report"].clone()
    }

    /// Boots the service node with its disk, and one node from it.
    fn boots(&mut self, serving: &Serving, disk: &str) -> (usize, usize, Node) {
        let since = now();
        for name in ["sn1", "c1"] {
            let _ = std::fs::remove_file(self.console(name));
        }
        let drive = format!("file={disk},format=raw,if=virtio");
        let cards = [("upper1", "52:54:00:00:00:02"), ("lower1", "52:54:00:00:00:03")];
        let service = self.start("sn1", 2560, &cards, &["-drive", &drive]);
        self.within("sn1 is not up", serving, || {
            let report = self.report();
            assert_ne!(report["state"], "failed", "{report}");
            assert!(!serving.said().contains("service-node: exit status"), "{}", serving.said());
            report["state"] == "up" && report["time"].as_u64() >= Some(since)
        });
        let node = self.node();
        self.within("sn1 does not answer", serving, || node.connect());
        self.within("sn1 does not serve", serving, || {
            node.try_run("journalctl -u site-serve -b --no-pager | grep -F 'serving '").is_some()
        });
        let client = self.start("c1", 1024, &[("lower2", "52:54:00:01:00:01")], &[]);
        self.within("c1 is not up", serving, || self.text("c1").contains("NODE IS UP: c1"));
        assert!(self.text("c1").contains("fetching http://10.1.0.1/"), "{}", self.text("c1"));
        (service, client, node)
    }
}

fn now() -> u64 {
    u64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn network_privileged_boot_a_service_node_with_a_disk_boots_its_nodes_also_when_its_origin_has_nothing() {
    let mut site = Site::new();
    let disk = site.space.path().join("disk");
    std::fs::File::create(&disk).unwrap().set_len(1 << 30).unwrap();
    let disk = disk.display().to_string();
    run(&["mkfs.ext4", "-q", "-L", "state", &disk]);
    let serving = site.net.serve(site.space.path(), &["--dnsmasq", "--listen", "10.0.0.1:80"]);
    let (service, client, node) = site.boots(&serving, &disk);
    // Its own nodes report to it.
    let nodes = "imgbuild -C /srv/site nodes c1";
    let known = node.run(nodes);
    assert!(known.contains("tiny") && known.contains("image"), "{known}");
    let published = "sha256sum </srv/site/out/tiny/build.json";
    let build = node.run(published);
    let host_key = "sha256sum </etc/ssh/ssh_host_ed25519_key";
    let first_key = node.run(host_key);
    // What the origin has now is another image, whole.
    site.net.end(client);
    let _ = node.try_run("sync; systemctl stop systemd-journald.socket systemd-journald; sync");
    drop(node);
    site.net.end(service);
    std::fs::remove_file(site.origin()).unwrap();
    let (_service, _client, node) = site.boots(&serving, &disk);
    let said = node.run("systemctl is-failed site-mirror; journalctl -u site-mirror -b --no-pager");
    assert!(said.starts_with("failed") && said.contains("404"), "{said}");
    assert_eq!((node.run(published), node.run(host_key)), (build, first_key));
    let known = node.run(nodes);
    assert!(known.contains("tiny") && known.contains("image"), "{known}");
    assert!(site.text("sn1").contains("what persists is kept in LABEL=state/sn1"), "{}", site.text("sn1"));
}

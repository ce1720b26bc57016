//! `sync` with a real sshd for each node, in a root of its own: what nodes get, what they keep, and what is left on them.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Ran, Space, imgbuild, project};

/// Nodes that answer; besides them one refuses, one hangs, one is slow.
const GOOD: usize = 6;

/// A node with a real sshd in a root of its own.
pub struct Node {
    pub name: String,
    sshd: Child,
    port: u16,
}

impl Node {
    /// Starts one in a directory that has keys, with more lines for its sshd.
    pub fn start(directory: &Path, name: &str, lines: &[&str]) -> Self {
        // Free when it was asked for.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let sshd = Command::new("unshare")
            .arg("-m")
            .arg(project().join("tests/fixtures/sync/node"))
            .arg(directory)
            .args([name, "127.0.0.1", &port.to_string()])
            .args(lines)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(directory.join(format!("{name}.log"))).unwrap())
            .spawn()
            .unwrap();
        Self { name: name.to_owned(), sshd, port }
    }

    pub fn wait(&self, directory: &Path) {
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = std::fs::read_to_string(directory.join(format!("{}.log", self.name))).unwrap_or_default();
            assert!(Instant::now() < until, "{}: {log}", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its root directory, as it sees it.
    fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.sshd.id()))
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap_or_default()
    }

    /// What a sync put aside or keeps.
    pub fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for place in ["etc", "srv", "var", "run", "tmp", "root"] {
            for entry in walkdir::WalkDir::new(self.at(place)).into_iter().flatten() {
                let path = entry.path().display().to_string();
                if path.contains(".imgbuild-sync") || path.contains("/imgbuild/sync/") {
                    left.push(path);
                }
            }
        }
        left
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

/// Makes the directory of nodes: a key of hosts, and one of the administrator.
pub fn make_keys(directory: &Path) {
    std::fs::create_dir(directory).unwrap();
    for key in ["key", "admin"] {
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(directory.join(key)).status();
        assert!(made.unwrap().success());
    }
}

/// What ssh needs to know to find nodes.
pub fn ssh_config(directory: &Path, nodes: &[Node]) -> String {
    // The first value counts, so what is for one node stands before what is for all.
    let hosts = nodes.iter().map(|node| format!("Host {}\n  Port {}\n", node.name, node.port));
    let hosts: String = hosts.collect();
    format!(
        "{hosts}Host *\n  HostName 127.0.0.1\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n",
        directory.join("admin").display()
    )
}

/// A workspace, its nodes, and how ssh finds them.
struct Site {
    space: Space,
    nodes: Vec<Node>,
    _hangs: TcpListener,
}

impl Site {
    fn new() -> Self {
        let space = Space::new();
        let directory = space.path().join("nodes");
        make_keys(&directory);
        // Login shells say something, and one is set up by those who do not know better.
        std::fs::write(directory.join("cn3.rc"), "echo Welcome; printf 'no line feed'\n").unwrap();
        std::fs::write(directory.join("cn6.busybox"), "").unwrap();
        let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
        let slow = "ForceCommand sleep 1; eval \"$SSH_ORIGINAL_COMMAND\"";
        let lines = |number: usize| if number > GOOD { vec![slow] } else { Vec::new() };
        let start = |number: usize| Node::start(&directory, &format!("cn{number}"), &lines(number));
        let nodes: Vec<Node> = (1..=GOOD + 1).map(start).collect();
        let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let hang = hangs.local_addr().unwrap().port();
        let config = ssh_config(&directory, &nodes);
        space.write("ssh_config", &format!("Host cn8\n  Port {refused}\nHost cn9\n  Port {hang}\n{config}"));
        nodes.iter().for_each(|node| node.wait(&directory));
        space.write("imgbuild.toml", "images = [\"compute\", \"bare\"]\n");
        space.write("compute/image.toml", RECIPE);
        space.write("bare/image.toml", "[image]\nname = \"bare\"\nrelease = \"bookworm\"\n");
        space.write(
            "nodes.toml",
            "[group.compute]\nnodes = \"cn[1-9]\"\nimage = \"compute\"\n[node.\"cn[1-9]\"]\n[node.other]\nimage = \"bare\"\n[node.lost]\n",
        );
        for (name, text, mode) in [
            ("motd", "a node\n", 0o664),
            ("special", "cn2 alone\n", 0o644),
            ("secret", "munge\n", 0o600),
            ("odd/two words", "1\n", 0o644),
            ("odd/-rf", "2\n", 0o755),
            ("odd/quo'te\"s`$(reboot)`;", "3\n", 0o644),
            ("odd/line\nfeed\n", "4\n", 0o644),
            ("odd/back\\0101slash", "5\n", 0o644),
            ("odd/empty/keep", "", 0o644),
            ("motd.post", "#!/bin/sh -e\necho \"$NODE: $0\" >>/root/ran\n", 0o644),
            ("always.sh", "echo always >>/root/always\n", 0o644),
            ("more", "from the site\n", 0o644),
            ("users", "slurm:x:64030:64030::/srv/slurm:/bin/false\nann.b:x:2001:2001::/home/ann:/bin/bash\n", 0o644),
            ("compute.synclist", LIST, 0o644),
        ] {
            space.write(&format!("compute/{name}"), text);
            let path = space.path().join("compute").join(name);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        Self { space, nodes, _hangs: hangs }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = imgbuild();
        command.arg("-C").arg(self.space.path()).arg("sync").args(words).args(["--connect-timeout", "2"]);
        command.env("IMGBUILD_SSH", format!("ssh -F {}", self.space.path().join("ssh_config").display()));
        command
    }

    fn sync(&self, words: &[&str]) -> Ran {
        self.command(words).output().unwrap().into()
    }

    fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).unwrap()
    }

    fn json(&self, words: &[&str], code: i32) -> serde_json::Value {
        let mut all = words.to_vec();
        all.push("--json");
        let ran = self.sync(&all);
        assert_eq!(ran.code, code, "{}{}", ran.out, ran.err);
        let json = serde_json::from_str(&ran.out).unwrap();
        crate::schemas::assert_valid("sync", &json);
        json
    }
}

const RECIPE: &str = "[image]\nname = \"compute\"\nrelease = \"bookworm\"\n[sync]\nlists = [\"compute.synclist\"]\n\
                      [sync.owner]\n\"/etc/site/deep/secret\" = \"root:42 0400\"\n\"/srv/odd/empty\" = \"root:7 1770\"\n";

const LIST: &str = "motd -> /etc/motd
secret -> /etc/site/deep/secret
odd -> /srv/odd
special -> (cn2) /etc/motd
EXECUTE:
motd.post
EXECUTEALWAYS:
always.sh
APPEND:
more -> /etc/setup
MERGE:
users -> /etc/passwd
";

/// Waits until something is so; a test that waits in vain fails.
#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn running_nodes_get_what_differs_and_keep_nothing_else() {
    let site = Site::new();
    looks_change_nothing(&site);
    all_nodes_get_their_files(&site);
    nothing_is_sent_twice(&site);
    drift_is_reported_and_mended(&site);
    what_stands_in_the_way_is_said_of_the_node(&site);
    an_interrupted_sync_leaves_no_half_file(&site);
}

fn looks_change_nothing(site: &Site) {
    let began = Instant::now();
    let ran = site.sync(&["@compute", "--plan"]);
    assert_eq!(ran.code, 4, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("cn[1,3-7]: would change\n"), "{}", ran.out);
    assert!(ran.out.contains("cn2: would change\n"), "{}", ran.out);
    assert!(ran.out.contains("/etc/site/deep/secret") && ran.out.contains("# compute.synclist:2:1"), "{}", ran.out);
    let refused = "cn8: failed: ssh: connect to host 127.0.0.1 port";
    assert!(ran.out.contains(refused) && ran.out.contains("Connection refused"), "{}", ran.out);
    assert!(ran.out.contains("cn9: failed: Connection timed out"), "{}", ran.out);
    assert!(ran.err.contains("9 nodes: 7 would change, 2 failed"), "{}", ran.err);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    for node in &site.nodes {
        assert!(!node.at("etc/motd").exists() && !node.at("root/always").exists() && node.left().is_empty());
        assert_eq!(node.read("etc/setup"), "base\n");
    }
    assert_eq!(site.sync(&["cn[1-7]", "--check"]).code, 2);
}

fn all_nodes_get_their_files(site: &Site) {
    let json = site.json(&["@compute"], 4);
    let state = |name: &str| {
        let node = json["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name).unwrap();
        node["state"].as_str().unwrap().to_owned()
    };
    assert_eq!((state("cn1"), state("cn7"), state("cn8"), state("cn9")).0, "changed");
    assert_eq!((state("cn7").as_str(), state("cn8").as_str(), state("cn9").as_str()), ("changed", "failed", "failed"));
    for node in &site.nodes {
        let motd = if node.name == "cn2" { "cn2 alone\n" } else { "a node\n" };
        assert_eq!(node.read("etc/motd"), motd, "{}", node.name);
        // As in the image: by the source, or as the recipe says.
        assert_eq!(mode(&node.at("etc/motd")), if node.name == "cn2" { 0o644 } else { 0o664 });
        let secret = std::fs::metadata(node.at("etc/site/deep/secret")).unwrap();
        assert_eq!((secret.mode() & 0o7777, secret.uid(), secret.gid()), (0o400, 0, 42));
        assert_eq!(mode(&node.at("etc/site")), 0o755);
        let folder = std::fs::metadata(node.at("srv/odd/empty")).unwrap();
        assert_eq!((folder.mode() & 0o7777, folder.uid(), folder.gid()), (0o1770, 0, 7));
        for (name, text) in [
            ("two words", "1\n"),
            ("-rf", "2\n"),
            ("quo'te\"s`$(reboot)`;", "3\n"),
            ("line\nfeed\n", "4\n"),
            ("back\\0101slash", "5\n"),
            ("empty/keep", ""),
        ] {
            assert_eq!(std::fs::read_to_string(node.at("srv/odd").join(name)).unwrap(), text, "{name}");
        }
        // The line for cn2 alone takes the place of motd there, so its script does not run.
        let ran = node.read("root/ran");
        assert_eq!(ran.lines().count(), usize::from(node.name != "cn2"), "{ran}");
        assert_eq!(node.read("root/always"), "always\n");
        assert_eq!(node.read("etc/setup"), "base\nfrom the site\n");
        let passwd = node.read("etc/passwd");
        assert!(passwd.contains("slurm:x:64030:64030::/srv/slurm:") && passwd.contains("\nann.b:"), "{passwd}");
        assert_eq!(passwd.matches("slurm").count(), 2, "{passwd}");
        let left = node.left();
        assert!(left.iter().all(|path| path.contains("/imgbuild/sync/append")), "{left:?}");
    }
    assert!(site.node("cn1").read("root/ran").starts_with("cn1: "));
}

fn nothing_is_sent_twice(site: &Site) {
    let inode = |node: &Node| std::fs::metadata(node.at("etc/motd")).unwrap().ino();
    let before: Vec<u64> = site.nodes.iter().map(inode).collect();
    let ran = site.sync(&["cn[1-7]"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("cn[1-7]: up to date\n") && ran.out.contains("always.sh"), "{}", ran.out);
    assert_eq!(site.nodes.iter().map(inode).collect::<Vec<_>>(), before);
    assert_eq!(site.node("cn4").read("root/always"), "always\nalways\n");
    assert_eq!(site.node("cn4").read("etc/setup"), "base\nfrom the site\n");
    assert_eq!(site.sync(&["cn[1-7]", "--check"]).code, 0);
    // An image without lists: no connection at all. A node without an image: which lists would it get?
    let ran = site.sync(&["other"]);
    assert!(ran.code == 0 && ran.out.contains("other: up to date"), "{}{}", ran.out, ran.err);
    let ran = site.sync(&["lost"]);
    assert!(ran.code == 1 && ran.err.contains("nodes without an image: lost"), "{}", ran.err);
}

fn drift_is_reported_and_mended(site: &Site) {
    let (one, two) = (site.node("cn1"), site.node("cn3"));
    std::fs::write(one.at("etc/motd"), "edited\n").unwrap();
    // A link leads to the file; what it leads to is written.
    std::fs::rename(two.at("etc/motd"), two.at("etc/motd.real")).unwrap();
    std::os::unix::fs::symlink("motd.real", two.at("etc/motd")).unwrap();
    std::fs::set_permissions(two.at("etc/motd.real"), std::fs::Permissions::from_mode(0o666)).unwrap();
    std::fs::write(one.at("etc/setup"), "base\nfrom the site\nedited\n").unwrap();
    let ran = site.sync(&["cn[1-7]", "--check"]);
    assert_eq!(ran.code, 2, "{}", ran.out);
    assert!(ran.out.contains("cn[2,4-7]: up to date") && ran.out.contains("cn1: differs"), "{}", ran.out);
    assert!(ran.out.contains("/etc/motd.real") && ran.out.contains("  mode"), "{}", ran.out);
    site.space.write("compute/more", "from the site, again\n");
    let ran = site.sync(&["cn[1-7]"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert_eq!((one.read("etc/motd").as_str(), mode(&two.at("etc/motd.real"))), ("a node\n", 0o664));
    assert!(two.at("etc/motd").is_symlink());
    assert_eq!(one.read("etc/setup"), "base\nfrom the site, again\nedited\n");
    // The content of one changed, the mode of the other.
    assert_eq!(one.read("root/ran").lines().count(), 2);
    assert_eq!(two.read("root/ran").lines().count(), 1);
}

fn what_stands_in_the_way_is_said_of_the_node(site: &Site) {
    let node = site.node("cn4");
    std::fs::remove_file(node.at("etc/motd")).unwrap();
    std::fs::remove_dir_all(node.at("etc/site")).unwrap();
    std::fs::write(node.at("etc/site"), "").unwrap();
    let ran = site.sync(&["cn[4-5]"]);
    assert_eq!(ran.code, 4, "{}", ran.out);
    assert!(ran.out.contains("cn4: failed: `/etc/site` is not a directory on the node"), "{}", ran.out);
    assert!(!node.at("etc/motd").exists());
    std::fs::remove_file(node.at("etc/site")).unwrap();
    // A script that fails is said with its words, and runs again.
    site.space.write("compute/motd.post", "#!/bin/sh\necho no such service >&2\nexit 3\n");
    let ran = site.sync(&["cn[4-5]"]);
    assert!(ran.code == 4 && ran.out.contains("motd.post exited with 3: no such service"), "{}", ran.out);
    assert_eq!(node.read("etc/motd"), "a node\n");
    let ran = site.sync(&["cn[4-5]", "--check"]);
    assert!(ran.code == 2 && ran.out.contains("script not finished"), "{}", ran.out);
    // One that leaves a daemon does not hold the sync up.
    site.space.write("compute/motd.post", "#!/bin/sh\nsleep 300 &\necho $! >/root/daemon\n");
    let began = Instant::now();
    assert_eq!(site.sync(&["cn[4-5]"]).code, 0);
    assert!(began.elapsed() < Duration::from_secs(150), "{:?}", began.elapsed());
    let daemon: i32 = node.read("root/daemon").trim().parse().unwrap();
    assert!(Path::new(&format!("/proc/{daemon}")).exists());
    let _ = Command::new("kill").arg(daemon.to_string()).status();
    // A file that the lists name and no one has is an error before any node is reached.
    std::fs::rename(site.space.path().join("compute/special"), site.space.path().join("compute/gone")).unwrap();
    let ran = site.sync(&["@compute"]);
    assert!(ran.code == 1 && ran.err.contains("compute.synclist:4") && ran.err.contains("special"), "{}", ran.err);
    std::fs::rename(site.space.path().join("compute/gone"), site.space.path().join("compute/special")).unwrap();
    site.space.write("compute/compute.synclist", &LIST.replace("(cn2)", "(cn77)"));
    let ran = site.sync(&["@compute"]);
    assert!(ran.code == 1 && ran.err.contains("compute.synclist:4") && ran.err.contains("cn77"), "{}", ran.err);
    site.space.write("compute/compute.synclist", LIST);
}

fn an_interrupted_sync_leaves_no_half_file(site: &Site) {
    let path = site.space.path().join("compute/motd");
    std::fs::File::create(&path).unwrap().set_len(200 << 20).unwrap();
    let node = site.node("cn5");
    let is_aside = || node.left().iter().any(|path| path.contains(".imgbuild-sync"));
    let before = node.read("etc/motd");
    for signal in ["INT", "KILL"] {
        let mut child = site.command(&["cn[5-6]"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("a file is put aside", is_aside);
        Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        let status = child.wait().unwrap();
        if signal == "INT" {
            assert_eq!(status.code(), Some(130));
        }
        // The node takes it away by itself, some time after its input has ended.
        let is_kept = |path: &String| path.contains("/sync/append") || path.contains("/sync/pending");
        until("what was put aside is gone", || node.left().iter().all(is_kept));
        assert_eq!(node.read("etc/motd"), before);
    }
    // What a node that lost its power kept is removed by the next run.
    let state = node.at("var/lib/imgbuild/sync/run.999999");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("aside"), "/etc/.imgbuild-sync.999999.0\n").unwrap();
    std::fs::write(node.at("etc/.imgbuild-sync.999999.0"), "half").unwrap();
    site.space.write("compute/motd", "after\n");
    assert_eq!(site.sync(&["cn[5-6]"]).code, 0);
    assert!(!is_aside() && !state.exists());
    assert_eq!(node.read("etc/motd"), "after\n");
}

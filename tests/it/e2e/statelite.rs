//! Nodes with paths of their own: in memory, from trees, and kept on a disk over a reboot.

use std::collections::BTreeSet;
use std::sync::Arc;

use boot::FileServer;

use super::cache::disk;
use super::machine::{Server, cmdline, expect, start};
use super::namespaced::{Lan, Node};
use super::offline::vendored;
use super::{Built, store, tiny};
use crate::support::{Space, copy_locked};

/// What the image's init does: it says what it finds, and writes to it.
const INIT: &str = r#"grep -q . /proc/mounts
for file in /etc/hosts /etc/both /etc/own /root/note /srv/note /etc/dpkg/note /var/backups/note; do
    echo "HAS $file: $(cat $file 2>&1 | tr '\n' ' ')"
    echo changed >$file 2>/dev/null && echo "WRITTEN $file" || echo "REFUSED $file"
done
echo "LINK $(readlink /root) $(cd /root && pwd -P)"
echo "MOUNTS $(grep -c ' /etc/hosts ' /proc/mounts) $(grep -c ' /etc/own ' /proc/mounts)"
sync; echo "ALL IS SAID"
while :;"#;

/// The tiny image with trees in it and a list.
fn image(table: &str) -> Built {
    let space = Space::new().with_store(&store());
    copy_locked(tiny().space.path(), space.path());
    space.edit("tiny.postinstall", "while :;", INIT);
    let script = std::fs::read_to_string(space.path().join("tiny.postinstall")).unwrap();
    let trees = "for tree in one two; do\nmkdir -p \"$1/opt/$tree/etc\"\necho \"both of $tree\" >\"$1/opt/$tree/etc/both\"\ndone\n\
                 echo 'hosts of one' >\"$1/opt/one/etc/hosts\"\necho 'own of one' >\"$1/opt/one/etc/own\"\n\
                 mkdir -p \"$1/etc/dpkg\" \"$1/srv\" \"$1/root\" \"$1/var/backups\"\n\
                 for folder in root srv etc/dpkg var/backups; do echo 'of the image' >\"$1/$folder/note\"; done\n\
                 echo 'of the image' >\"$1/etc/own\"\necho 'of the image' >\"$1/etc/both\"\n";
    space.write("tiny.postinstall", &format!("{script}{trees}"));
    let built = Built { space, key: tiny().key.clone() };
    with_list(&built, table);
    built
}

/// Builds it with another list.
fn with_list(built: &Built, table: &str) -> String {
    let recipe = std::fs::read_to_string(tiny().space.path().join("image.toml")).unwrap();
    built.space.write("image.toml", &format!("{recipe}\n{table}"));
    built.space.run(&["build", "--locked", "--vendor", vendored().to_str().unwrap()]).good().err
}

const IN_MEMORY: &str = "[statelite]\ntrees = [\"/opt/one\", \"/opt/two\"]\n\n[statelite.files]\n\"/etc/hosts\" = \"tmpfs\"\n\
    \"/etc/both\" = \"con\"\n\"/etc/own\" = \"ro\"\n\"/root/\" = \"link\"\n\"/srv/\" = \"overlay\"\n\"/etc/dpkg/\" = \"tmpfs\"\n\
    \"/nosuch\" = \"tmpfs\"\n";

const ON_A_DISK: &str = "[statelite]\nstate = \"LABEL=nodecache\"\n\n[statelite.files]\n\"/srv/\" = \"persistent\"\n\
    \"/root/note\" = \"link,persistent\"\n\"/var/backups/\" = \"overlay,persistent\"\n\"/etc/dpkg/\" = \"tmpfs\"\n\"/etc/own\" = \"link\"\n";

fn directory(built: &Built) -> std::path::PathBuf {
    built.space.artefact("tiny", ".").canonicalize().unwrap()
}

/// A node in namespaces, with its cable and what serves it.
struct Plugged {
    node: Node,
    _lan: Lan,
}

/// Starts one from the initrd for statelite nodes.
fn node_of(built: &Built, change: impl FnOnce(String) -> String) -> Plugged {
    let lan = Lan::new();
    let server = Server::start_in(&lan, &directory(built), 0, Arc::new(|_: &str, _, bytes| Some(bytes)));
    let words = change(cmdline(built, "tiny", &format!("http://10.0.2.2:{}", server.port)));
    let node = lan.start(&directory(built).join("initrd-statelite"), &words, 1024);
    Plugged { node, _lan: lan }
}

#[test]
fn privileged_paths_of_a_node_are_its_own_and_what_is_not_there_is_said_and_never_made_up() {
    let built = image(IN_MEMORY);
    let there = directory(&built);
    assert!(there.join("initrd-stateless").is_file() && there.join("initrd-statelite").is_file());
    let list = std::fs::read_to_string(there.join("statelite.json")).unwrap();
    assert!(list.contains("\"path\": \"/etc/both\",\n      \"way\": \"con\""), "{list}");

    let mut node = node_of(&built, |words| words);
    node.node.expect("ALL IS SAID");
    let console = node.node.console();
    for line in [
        "statelite: /nosuch is neither in a tree nor in the image: nothing is done",
        "HAS /etc/hosts: hosts of one",
        "WRITTEN /etc/hosts",
        "HAS /etc/both: both of one both of two",
        "WRITTEN /etc/both",
        "HAS /etc/own: own of one",
        "REFUSED /etc/own",
        "HAS /root/note: of the image",
        "WRITTEN /root/note",
        "LINK .statelite/tmpfs/root /.statelite/tmpfs/root",
        "HAS /srv/note: of the image",
        "WRITTEN /srv/note",
        "WRITTEN /etc/dpkg/note",
        "MOUNTS 1 1",
    ] {
        assert!(console.contains(line), "{line}: {console}");
    }
    drop(node);

    // Another list than the command line asks for.
    let mut node = node_of(&built, |words| words.replace("imgbuild.statelite=sha256:", "imgbuild.statelite=sha256:0"));
    node.node.expect_times("wrong digest: http://10.0.2.2", 2);
    assert!(!node.node.console().contains("NODE IS UP"), "{}", node.node.console());
    drop(node);

    // Something persists: initrd and list are made again, and no layer. A state on a server cannot hold an overlay.
    let said = with_list(&built, ON_A_DISK);
    let ran = said.lines().find(|line| line.starts_with("ran ")).unwrap();
    let ran: BTreeSet<&str> = ran.trim_start_matches("ran ").split(';').next().unwrap().split(", ").collect();
    // The store of all tests may have both already.
    let known = BTreeSet::from(["initrd/statelite", "pack/statelite", "nothing"]);
    assert!(ran.is_subset(&known), "{ran:?}");
    let mut node = node_of(&built, |words| format!("{words} STATEMNT=10.0.2.2:/state NODE=n01"));
    node.node.expect("is `overlay,persistent`, but the state is on a server");
    drop(node);

    // A server that is not there is said and tried again, and nothing is begun.
    let plain = ON_A_DISK
        .replace("\"/var/backups/\" = \"overlay,persistent\"\n", "")
        .replace("LABEL=nodecache", "10.0.2.2:/state");
    with_list(&built, &plain);
    let mut node = node_of(&built, |words| format!("{words} NODE=n01"));
    node.node
        .expect_times("statelite: the state of this node, 10.0.2.2:/state: no NFS server answers at 10.0.2.2:2049", 2);
    let console = node.node.console();
    assert!(!console.contains("fetching") && !console.contains("NODE IS UP"), "{console}");
}

#[test]
fn privileged_a_published_tree_is_the_image_and_is_replaced_as_a_whole() {
    use std::os::unix::fs::MetadataExt;
    let built = image(IN_MEMORY);
    let target = built.space.path().join("nfs");
    let publish = || built.space.run(&["publish", &format!("nfs:{}", target.display()), "tiny"]);
    let said = publish().good();
    assert!(said.err.contains("*(ro,no_root_squash,no_subtree_check)"), "{}", said.err);
    let tree = target.join("rootimg");
    assert_eq!(std::fs::read_to_string(tree.join("opt/one/etc/hosts")).unwrap(), "hosts of one\n");
    let list = std::fs::read(tree.join(".statelite/statelite.json")).unwrap();
    assert_eq!(list, std::fs::read(directory(&built).join("statelite.json")).unwrap());
    let shadow = tree.join("etc/shadow").metadata().unwrap();
    assert_eq!((shadow.uid(), shadow.gid(), shadow.mode() & 0o7777), (0, 42, 0o640));
    // A node that runs from the one before keeps its files.
    let held = std::fs::File::open(tree.join("opt/one/etc/hosts")).unwrap();
    let before = tree.metadata().unwrap().ino();
    std::fs::create_dir(target.join(".new-killed")).unwrap();
    for _ in 0..4 {
        publish().good();
    }
    assert_ne!(tree.metadata().unwrap().ino(), before);
    assert_eq!(std::io::read_to_string(held).unwrap(), "hosts of one\n");
    let names = |start: &str| {
        let entries = std::fs::read_dir(&target).unwrap().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(start)).count()
    };
    assert_eq!((names(".before-"), names(".new-")), (2, 0));
    // A file that is not what was built is never put there.
    let rootimg = directory(&built).join("rootimg.cpio.zst");
    let mut bytes = std::fs::read(&rootimg).unwrap();
    let last = bytes.len() - 2000;
    bytes[last] ^= 1;
    std::fs::write(&rootimg, bytes).unwrap();
    let good = tree.metadata().unwrap().ino();
    let said = publish();
    assert!(said.code == 3 && said.err.contains("wrong digest: bytes"), "{}", said.err);
    assert_eq!((tree.metadata().unwrap().ino(), names(".new-")), (good, 0));
}

#[test]
fn boot_what_persists_stays_over_a_reboot_and_the_rest_is_the_images() {
    let built = image(ON_A_DISK);
    let place = disk(&built.space, "state", 64);
    let boots = |disks: Vec<std::path::PathBuf>, seconds: u32| {
        let server = FileServer::start(&directory(&built)).unwrap();
        let words = cmdline(&built, "tiny", &format!("http://10.0.2.2:{}", server.port()));
        let words = format!("{words} NODE=n01 imgbuild.reboot_after={seconds}");
        let running = start(&built, "tiny", words, |machine| {
            machine.initrd = directory(&built).join("initrd-statelite");
            machine.disks = disks;
        });
        (running, server)
    };
    for (number, [srv, root, backups]) in [["of the image"; 3], ["changed"; 3]].into_iter().enumerate() {
        let (running, _server) = boots(vec![place.clone()], 1800);
        expect(&running, "ALL IS SAID");
        let console = running.console();
        for line in [
            "statelite: what persists is kept in LABEL=nodecache/n01".to_owned(),
            format!("HAS /srv/note: {srv}"),
            format!("HAS /root/note: {root}"),
            format!("HAS /var/backups/note: {backups}"),
            // In memory: as the image has them at each boot.
            "HAS /etc/dpkg/note: of the image".to_owned(),
            "HAS /etc/own: of the image".to_owned(),
            "WRITTEN /srv/note".to_owned(),
            "WRITTEN /etc/own".to_owned(),
        ] {
            assert!(console.contains(&line), "{number}: {line}: {console}");
        }
    }
    // Without its disk the node does not start: what it would write would be lost.
    // A controller has twenty seconds to show it.
    let (running, _server) = boots(Vec::new(), 45);
    expect(&running, "statelite: the state of this node, LABEL=nodecache: no ext4, xfs or btrfs disk has that name");
    expect(&running, "rebooting");
    assert!(!running.console().contains("NODE IS UP"), "{}", running.console());
}

/// nfs-ganesha on the loopback: a tree for reading, and a directory for states. The kernel of these machines may have no server.
pub struct Ganesha {
    server: std::process::Child,
    pub port: u16,
}

impl Ganesha {
    pub fn start(space: &Space, tree: &std::path::Path, state: &std::path::Path) -> Self {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let export = |number: u8, path: &std::path::Path, name: &str, access: &str| {
            format!(
                "EXPORT {{ Export_Id = {number}; Path = {}; Pseudo = {name}; Access_Type = {access}; Squash = No_Root_Squash; \
                 SecType = sys; Protocols = 4; Transports = TCP; FSAL {{ Name = VFS; }} }}\n",
                path.display()
            )
        };
        let text = format!(
            "NFS_CORE_PARAM {{ Protocols = 4; NFS_Port = {port}; Bind_addr = 127.0.0.1; Enable_NLM = false; Enable_RQUOTA = false; \
             Enable_UDP = false; }}\nNFSv4 {{ Graceless = true; Only_Numeric_Owners = true; RecoveryBackend = fs; }}\n{}{}",
            export(1, tree, "/tree", "RO"),
            export(2, state, "/state", "RW")
        );
        space.write("ganesha.conf", &text);
        let beside = |name: &str| space.path().join(name);
        let server = std::process::Command::new("ganesha.nfsd")
            .arg("-F")
            .arg("-f")
            .arg(beside("ganesha.conf"))
            .arg("-L")
            .arg(beside("ganesha.log"))
            .arg("-p")
            .arg(beside("ganesha.pid"))
            .spawn()
            .expect("nfs-ganesha and nfs-ganesha-vfs are installed (tests/run)");
        let ganesha = Self { server, port };
        let began = std::time::Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = std::fs::read_to_string(beside("ganesha.log")).unwrap_or_default();
            assert!(began.elapsed() < std::time::Duration::from_secs(60), "{log}");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        ganesha
    }
}

impl Drop for Ganesha {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn privileged_boot_a_node_with_its_root_and_state_over_nfs_keeps_what_persists_and_nothing_else() {
    let list = "[statelite]\nroot = \"10.0.2.2:/tree\"\nstate = \"10.0.2.2:/state\"\n\n[statelite.files]\n\"/srv/\" = \"persistent\"\n\
                \"/root/note\" = \"link,persistent\"\n\"/var/backups/\" = \"overlay\"\n\"/etc/own\" = \"tmpfs\"\n";
    let built = image(list);
    let (tree, state) = (built.space.path().join("tree"), built.space.path().join("state"));
    std::fs::create_dir(&state).unwrap();
    built.space.run(&["publish", &format!("nfs:{}", tree.display()), "tiny"]).good();
    let ganesha = Ganesha::start(&built.space, &tree, &state);
    let boots = || {
        let server = FileServer::start(&directory(&built)).unwrap();
        let words = cmdline(&built, "tiny", &format!("http://10.0.2.2:{}", server.port()));
        let port = ganesha.port;
        let words = words.replace("rootimg:ro", &format!("rootimg:ro,port={port}"));
        let words = format!("{words} NODE=n01 STATEMNT=10.0.2.2:/state MNTOPTS=port={port}");
        let running =
            start(&built, "tiny", words, |machine| machine.initrd = directory(&built).join("initrd-statelite"));
        expect(&running, "ALL IS SAID");
        running.console()
    };
    for (number, [srv, root]) in [["of the image"; 2], ["changed"; 2]].into_iter().enumerate() {
        let console = boots();
        for line in [
            "the root is 10.0.2.2:/tree/rootimg, over NFS".to_owned(),
            "statelite: what persists is kept in 10.0.2.2:/state/n01".to_owned(),
            format!("HAS /srv/note: {srv}"),
            format!("HAS /root/note: {root}"),
            "HAS /var/backups/note: of the image".to_owned(),
            "HAS /etc/own: of the image".to_owned(),
            "WRITTEN /srv/note".to_owned(),
            "WRITTEN /var/backups/note".to_owned(),
            "WRITTEN /etc/own".to_owned(),
            // What the list does not name is the tree's, for reading.
            "REFUSED /etc/dpkg/note".to_owned(),
        ] {
            assert!(console.contains(&line), "{number}: {line}: {console}");
        }
        assert!(!console.contains("fetching http"), "{console}");
    }
    assert_eq!(std::fs::read_to_string(state.join("n01/srv/note")).unwrap(), "changed\n");
    assert_eq!(std::fs::read_to_string(tree.join("rootimg/srv/note")).unwrap(), "of the image\n");
}

//! Nodes that are captured and built again: a running one over ssh, and a tree of RPM packages. Trees of images, as xCAT's rootimg, that a
//! person edits.

use std::path::Path;
use std::process::Command;

use boot::FileServer;

use super::machine::{Node, cmdline, expect, free_port, start};
use super::rpm_distro::distribution;
use super::{Built, compute, mini, store};
use crate::support::{Space, copy_locked};

const CHANGES: &str = r#"set -e
echo 'Site of captured nodes' >>/etc/issue
mkdir -p /opt/site/bin '/opt/site/odd name'
printf '#!/bin/sh\necho from the overlay\n' >/opt/site/bin/tool
chmod 755 /opt/site/bin/tool
ln /opt/site/bin/tool /opt/site/bin/same
ln -s ../../opt/site/bin/tool /usr/bin/site-tool
printf 'x' >"/opt/site/$(printf 'latin\351')"
rm /usr/bin/factor
groupadd -g 1500 site
useradd -u 1501 -g 1500 -G adm -d /home/anna -m -s /bin/sh anna
chmod 2750 /home/anna
echo 'tmpfs /scratch tmpfs size=1m 0 0' >>/etc/fstab
systemctl disable ssh.service systemd-networkd.service >/dev/null 2>&1
systemctl enable systemd-networkd.service >/dev/null 2>&1
printf -- '-----BEGIN PRIVATE KEY-----\n' >/etc/site.key
mkdir -p /mnt/memory && mount -t tmpfs none /mnt/memory && echo no >/mnt/memory/no
"#;

/// The command that reaches a node of these tests.
fn ssh(key: &Path) -> String {
    format!(
        "ssh -i {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes",
        key.display()
    )
}

/// Unpacks a published image with GNU cpio, as root; the index has what cpio has no place for.
fn unpack(rootimg: &Path, into: &Path) {
    std::fs::create_dir_all(into).unwrap();
    let script = format!("zstd -dc {} | cpio -idm --quiet", rootimg.canonicalize().unwrap().display());
    assert!(Command::new("sh").args(["-c", &script]).current_dir(into).status().unwrap().success());
}

/// Files that two trees have otherwise, but for those of a list.
#[track_caller]
fn differences(space: &Space, a: &str, b: &str) -> Vec<String> {
    let ran = space.run(&["diff", a, b, "--json"]);
    let found: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}", ran.err));
    let files = &found["files"];
    let mut paths = Vec::new();
    for kind in ["added", "removed", "changed"] {
        let of_kind = files[kind].as_array().unwrap().iter();
        paths.extend(of_kind.map(|file| format!("{kind} {}", file["path"].as_str().unwrap())));
    }
    paths
}

#[test]
fn boot_a_running_node_is_captured_and_built_again() {
    let built = mini();
    let server = FileServer::start(&built.space.artefact("mini", ".").canonicalize().unwrap()).unwrap();
    let port = free_port();
    let words = cmdline(built, "mini", &format!("http://10.0.2.2:{}", server.port()));
    let running = start(built, "mini", words, |machine| {
        machine.network = vec![boot::Machine::user_network("52:54:00:00:00:31", Some(port))];
    });
    expect(&running, "imgbuild: the image is complete");
    let node = Node::forwarded(port, &built.key);
    expect(&running, "node-525400000031 login:");
    node.wait(&running);
    node.run(CHANGES);

    let space = Space::new().with_store(&store());
    let source = format!("ssh://root@127.0.0.1:{port}");
    let words = ["capture", &source, "--into", ".", "--name", "again", "--ssh", &ssh(&built.key)];
    let ran = space.run(&words).good();
    assert!(ran.err.contains("imgbuild check finds no error in 1 images"), "{}", ran.err);
    assert!(ran.out.contains("disabled units: ssh.service\n"), "{}", ran.out);
    let read = |name: &str| std::fs::read_to_string(space.path().join("images/again").join(name)).unwrap();
    let list = read("overlay.list");
    assert!(
        list.contains("/etc/issue   base-files: content") && list.contains("/usr/bin/factor   coreutils"),
        "{list}"
    );
    for gone in ["/mnt/memory/no", "/etc/site.key", "ssh_host_", "/var/lib/dpkg/status", "/proc/"] {
        assert!(!list.contains(gone), "{gone}: {list}");
    }
    // Before the lock is there plan says so, and afterwards what a rebuild would change: nothing.
    let plan = space.run(&["plan"]).good().out;
    assert!(plan.contains("differences from the captured node are shown once image.lock exists"), "{plan}");
    space.run(&["build", "--progress", "plain"]).good();
    let plan = space.run(&["plan"]).good().out;
    assert!(plan.contains("packages match the captured node"), "{plan}");
    // The rebuilt image against the node as it is now, by another way out of it, without ciphers.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let tar = format!(
        "tar -C / --numeric-owner --xattrs --one-file-system --exclude=./mnt/memory/no -cf - \
         bin etc home lib lib64 opt root sbin usr >/dev/tcp/10.0.2.2/{}",
        listener.local_addr().unwrap().port()
    );
    let here = space.path().join("tree");
    std::fs::create_dir(&here).unwrap();
    let mut unpacking = Command::new("tar");
    unpacking.args(["--numeric-owner", "--xattrs", "-xf", "-"]).current_dir(&here);
    let unpacked = std::thread::spawn(move || {
        let stream = std::os::fd::OwnedFd::from(listener.accept().unwrap().0);
        unpacking.stdin(stream).status().unwrap()
    });
    node.run(&format!("bash -c '{tar}'"));
    assert!(unpacked.join().unwrap().success());
    unpack(&space.artefact("again", "rootimg.cpio.zst"), &space.path().join("image"));
    let own: Vec<String> =
        differences(&space, &here.display().to_string(), &space.path().join("image").display().to_string())
            .into_iter()
            .filter(|line| {
                let path = line.split_once(' ').unwrap().1;
                // What a node makes, what the recipe says itself, and modules that the example left out.
                let expected = [
                    "etc/machine-id",
                    "etc/ssh/ssh_host_",
                    "etc/shadow",
                    "etc/gshadow",
                    "etc/passwd",
                    "etc/group",
                    "etc/fstab",
                    "etc/resolv.conf",
                    "etc/hostname",
                    "etc/site.key",
                    "etc/mtab",
                    "etc/subuid",
                    "etc/subgid",
                    "etc/.pwd.lock",
                    "etc/rc",
                    "usr/lib/modules",
                    "usr/share/info",
                    "usr/share/lintian",
                    "boot",
                    "var",
                    "root/.ssh",
                    "etc/ld.so.cache",
                    "etc/systemd/network",
                    "etc/udev/hwdb.bin",
                    "tmp",
                    "run",
                    "proc",
                    "sys",
                    "dev",
                    "mnt",
                    "media",
                    "srv",
                    "initrd.img",
                    "vmlinuz",
                    "etc/adjtime",
                ];
                path != "." && !expected.iter().any(|start| path.starts_with(start))
            })
            .collect();
    assert!(own.is_empty(), "{own:#?}");
    let shell = |script: &str| space.run(&["shell", "--", "/bin/sh", "-c", script]).good().out;
    assert_eq!(
        shell("/usr/bin/site-tool; stat -c %U:%G:%a /home/anna; id -nG anna"),
        "from the overlay\nanna:site:2750\nsite adm\n"
    );
    assert_eq!(
        shell("stat -c %h /opt/site/bin/same; systemctl is-enabled ssh.service systemd-networkd.service; true"),
        "2\ndisabled\nenabled\n"
    );
    assert_eq!(shell("grep -c scratch /etc/fstab; test ! -e /usr/bin/factor && dpkg --audit"), "1\n");

    // And it boots, though nobody can log in: ssh is off.
    let captured = Built { space, key: built.key.clone() };
    let server = FileServer::start(&captured.space.artefact("again", ".").canonicalize().unwrap()).unwrap();
    let words = cmdline(&captured, "again", &format!("http://10.0.2.2:{}", server.port()));
    let running = start(&captured, "again", format!("{words} console=ttyS0"), |_| {});
    expect(&running, "Site of captured nodes");
}

#[test]
fn a_tree_of_rpm_packages_is_captured_and_built_again() {
    let built = super::rpm_node::node();
    let space = Space::new().with_store(&store());
    let tree = space.path().join("tree");
    unpack(&built.space.artefact("node", "rootimg.cpio.zst"), &tree);
    // Its own name is one that nobody else has; the repository is where the test made it.
    space.write("release", "ID=rocky\nVERSION_ID=\"1.0\"\n");
    let place = distribution().repository("distro");
    let key = std::fs::read_to_string(&distribution().key).unwrap();
    space.write("key", &key);
    let script = format!(
        "set -e; rm -f etc/os-release; cp ../release etc/os-release
        mkdir -p etc/yum.repos.d etc/pki/rpm-gpg; cp ../key etc/pki/rpm-gpg/KEY
        printf '[distro]\\nname=d\\nbaseurl=file:{place}\\ngpgkey=file:///etc/pki/rpm-gpg/KEY\\ngpgcheck=0\\nrepo_gpgcheck=1\\n' >etc/yum.repos.d/d.repo
        printf '[site]\\nname=s\\nbaseurl=file:{own}/site-packages\\ngpgcheck=0\\n[other]\\nname=o\\nbaseurl=file:{own}/otherpkgs\\ngpgcheck=0\\n' >etc/yum.repos.d/s.repo
        chmod 600 etc/ssh/moduli; echo '# ours' >>etc/bashrc; chown 1:1 usr/bin/figlet; rm usr/bin/less 2>/dev/null || rm usr/bin/figlist
        echo other >opt/other",
        place = place.display(),
        own = built.space.path().display(),
    );
    let made = Command::new("sh").args(["-c", &script]).current_dir(&tree).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // A capability, an attribute of the site's own, an ACL. Source of their forms: linux/capability.h, linux/posix_acl_xattr.h.
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1u16, 6u16, u32::MAX), (2, 4, 1), (4, 4, u32::MAX), (0x10, 4, u32::MAX), (0x20, 4, u32::MAX)]
    {
        acl.extend([&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    let capability = [&[1, 0, 0, 2, 0, 0x20][..], &[0; 14]].concat();
    let attributes =
        [("security.capability", &capability), ("user.site", &b"ours".to_vec()), ("system.posix_acl_access", &acl)];
    for (name, value) in attributes {
        rustix::fs::setxattr(tree.join("opt/other"), name, value, rustix::fs::XattrFlags::empty()).unwrap();
    }
    let ran = space.run(&["capture", "tree", "--into", ".", "--name", "again"]).good();
    assert!(ran.err.contains("imgbuild check finds no error in 1 images"), "{}\n{}", ran.out, ran.err);
    let list = std::fs::read_to_string(space.path().join("images/again/overlay.list")).unwrap();
    // rpm's database knows modes, owners and links too.
    for line in ["mode 600, was 644", "owner 1:1, was root:root", "/opt/other"] {
        assert!(list.contains(line), "{line}: {list}");
    }
    // What imgbuild itself put into the node is made again.
    assert!(tree.join("usr/lib/imgbuild/ssh-host-keys").exists());
    let recipe = std::fs::read_to_string(space.path().join("images/again/image.toml")).unwrap();
    for text in [&list, &recipe] {
        assert!(!text.contains("imgbuild-ssh-host-keys") && !text.contains("usr/lib/imgbuild"), "{text}");
    }
    let pkglist = std::fs::read_to_string(space.path().join("images/again/captured.pkglist")).unwrap();
    assert!(pkglist.contains("@greeting:1\n"), "{pkglist}");
    space.run(&["build", "--progress", "plain"]).good();
    // The node has an old package out of a folder; a rebuild takes the newest, and plan says so.
    let plan = space.run(&["plan"]).good().out;
    let note = "note: packages against the captured node: 1 newer (site-tool 2.0-9 -> 2.1-3); 1 only in the image (site-data 1.5-1)";
    assert!(plan.contains(note), "{plan}");
    unpack(&space.artefact("again", "rootimg.cpio.zst"), &space.path().join("image"));
    let index = std::fs::read(space.artefact("again", "rootimg.cpio.zst.index")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let found: Vec<&str> = index["xattrs"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one[0] == "opt/other")
        .map(|one| one[1].as_str().unwrap())
        .collect();
    assert_eq!(found, ["security.capability", "system.posix_acl_access", "user.site"]);
    let said = space.run(&["shell", "--", "/bin/sh", "-c", "getcap /opt/other"]).good().out;
    assert!(said.contains("cap_net_raw"), "{said}");
    let image = space.path().join("image");
    let own: Vec<String> = differences(&space, &tree.display().to_string(), &image.display().to_string())
        .into_iter()
        .filter(|line| {
            let expected = [
                "boot/",
                "opt/site-tool",
                // cpio has its attributes in the index.
                "opt/other",
                "usr/share/fixture/",
                "etc/group",
                "etc/gshadow",
                "etc/passwd",
                "etc/shadow",
                "var/lib/rpm/",
            ];
            !expected.iter().any(|start| line.split_once(' ').unwrap().1.starts_with(start))
        })
        .collect();
    assert!(own.is_empty(), "{own:#?}");
    let verified = space.run(&["shell", "--", "/bin/sh", "-c", "rpm -V openssh-server figlet; true"]).good().out;
    assert!(verified.contains(".M.......  ") && verified.contains(".....UG.."), "{verified}");
}

/// Files of a tree that are no one's but a person's, in the order in which they are shown.
fn edited(space: &Space, image: &str) -> Vec<String> {
    let ran = space.run(&["capture", "tree", "--into", ".", "--overlay", image, "--dry-run"]).good();
    let paths = ran.out.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().nth(1));
    paths.filter(|path| path.starts_with('/')).map(str::to_owned).collect()
}

/// An image's tree, in a copy of its recipe's directory: as genimage leaves one for packimage.
fn tree_of(built: &Built, image: &str) -> Space {
    let space = Space::new().with_store(&built.space.store());
    copy_locked(built.space.path(), space.path());
    unpack(&built.space.artefact(image, "rootimg.cpio.zst"), &space.path().join("tree"));
    space
}

/// What a person edits comes first, whatever else someone unpacked; `before` files were reported without.
#[track_caller]
fn assert_edits_are_first(space: &Space, image: &str, before: usize) {
    let add = |path: &str, line: &str| {
        let place = space.path().join("tree").join(path);
        let text = std::fs::read_to_string(&place).unwrap_or_default();
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(place, format!("{text}{line}\n")).unwrap();
    };
    for number in 0..3 {
        add(&format!("etc/aaa/{number}"), "x");
        add(&format!("opt/app/{number}"), "x");
    }
    add("etc/fstab", "server:/home /home nfs defaults 0 0");
    add("root/.ssh/authorized_keys", "ssh-ed25519 AAAA person");
    add("etc/login.defs", "# by hand");
    let found = edited(space, image);
    let first = ["/etc/fstab", "/root/.ssh/authorized_keys", "/etc/login.defs"];
    assert!(found.starts_with(&first.map(str::to_owned)) && found.len() == before + 9, "{found:?}");
}

#[test]
fn of_an_untouched_debian_tree_nothing_is_reported_and_edits_come_first() {
    let space = tree_of(compute(), "compute");
    assert_eq!(edited(&space, "compute"), Vec::<String>::new());
    assert_edits_are_first(&space, "compute", 0);
}

#[test]
fn of_an_untouched_rpm_tree_nothing_is_reported_and_edits_come_first() {
    let space = tree_of(super::rpm_node::node(), "node");
    // Its own name is one that no release has.
    let release = space.path().join("tree/usr/lib/os-release");
    let text = std::fs::read_to_string(&release).unwrap();
    std::fs::write(&release, text.replace("ID=fixture", "ID=rocky").replace("VERSION_ID=\"1\"", "VERSION_ID=\"1.0\""))
        .unwrap();
    assert_eq!(edited(&space, "node"), ["/usr/lib/os-release"]);
    assert_edits_are_first(&space, "node", 1);
}

//! The tree of xCAT's genimage that somebody changed by hand: it is listed, and offered as an overlay.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::support::{Ran, Space, imgbuild};

const COMPUTE: &str = "debian12-x86_64-netboot-compute";
const TREE: &str = "install/netboot/debian12/x86_64/compute/rootimg";

const RELEASE: &str = "ID=debian\nVERSION_ID=\"12\"\n";

fn md5(text: &str) -> String {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), text).unwrap();
    let output = Command::new("md5sum").arg(path.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..32].to_owned()
}

/// The example's site with a tree as genimage and packimage leave it: packages, xCAT's own files, synced ones.
fn site() -> Space {
    let space = Space::example("xcat-site");
    std::fs::create_dir_all(space.path().join("install/post/otherpkgs/debian12/x86_64")).unwrap();
    let motd = std::fs::read_to_string(space.path().join("install/custom/files/motd")).unwrap();
    let profile = std::fs::read_to_string(space.path().join("install/custom/files/profile/site.sh")).unwrap();
    let package = "Package: tool\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n";
    let conffiles = format!("Conffiles:\n /etc/tool.conf {}\n\n", md5("packaged\n"));
    for (name, text) in [
        ("etc/os-release", RELEASE),
        ("var/lib/dpkg/status", &format!("{package}{conffiles}")),
        (
            "var/lib/dpkg/info/tool.list",
            "/.\n/etc\n/etc/os-release\n/etc/tool.conf\n/usr\n/usr/bin\n/usr/bin/tool\n/usr/bin/tool2\n",
        ),
        (
            "var/lib/dpkg/info/tool.md5sums",
            &format!("{0}  usr/bin/tool\n{0}  usr/bin/tool2\n{1}  etc/os-release\n", md5("tool\n"), md5(RELEASE)),
        ),
        ("usr/bin/tool", "tool\n"),
        ("usr/bin/tool2", "tool\n"),
        ("etc/tool.conf", "packaged\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
        ("etc/shadow", "root:$6$x$y:1::::::\n"),
        ("etc/fstab", "proc /proc proc rw 0 0\n"),
        ("etc/resolv.conf", "#dummy\n"),
        ("opt/xcat/xcatinfo", "IMAGENAME='x'\n"),
        ("opt/xcat/xcatdsklspost", "#!/bin/sh\n"),
        ("xcatpost/syslog", "#!/bin/sh\n"),
        ("etc/systemd/system/xcatpostinit1.service", "[Service]\n"),
        ("etc/motd", &motd),
        ("etc/profile.d/site.sh", &profile),
    ] {
        space.write(&format!("{TREE}/{name}"), text);
    }
    let wants = space.path().join(TREE).join("etc/systemd/system/multi-user.target.wants");
    std::fs::create_dir_all(&wants).unwrap();
    symlink("../xcatpostinit1.service", wants.join("xcatpostinit1.service")).unwrap();
    // Folders of the tree are as a package's umask makes them.
    for folder in ["opt", "xcatpost"] {
        let path = space.path().join(TREE).join(folder);
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    space
}

/// What somebody did between genimage and packimage.
fn edit(space: &Space) {
    for (name, text) in [
        ("etc/tool.conf", "by hand\n"),
        ("etc/motd", "another one\n"),
        ("srv/by-hand/data", "x\n"),
        ("usr/bin/own", "#!/bin/sh\n"),
    ] {
        space.write(&format!("{TREE}/{name}"), text);
    }
    std::fs::remove_file(space.path().join(TREE).join("usr/bin/tool2")).unwrap();
}

fn import(space: &Space, more: &[&str]) -> Ran {
    space.run(&[&["import", "xcat", ".", "--into", "new"], more].concat())
}

#[test]
fn a_tree_as_genimage_leaves_it_is_no_news() {
    let space = site();
    let ran = import(&space, &[]).good();
    assert!(!ran.out.contains("that differ from packages"), "{}", ran.out);
}

#[test]
fn a_tree_that_somebody_edited_is_told_and_offered() {
    let space = site();
    edit(&space);
    for more in [&["--dry-run"][..], &["--json", "--dry-run"], &[]] {
        let ran = import(&space, more).good();
        for said in [
            "/etc/tool.conf",
            "/etc/motd",
            "/srv/by-hand/data",
            "/usr/bin/own",
            "/usr/bin/tool2",
            "is lost unless captured",
        ] {
            assert!(ran.out.contains(said), "{said}: {}", ran.out);
        }
        for own in ["xcatinfo", "xcatpostinit1", "/etc/shadow", "/etc/fstab", "profile.d/site.sh", "resolv.conf"] {
            assert!(!ran.out.contains(own), "{own}: {}", ran.out);
        }
    }
    // genimage and packimage tell of it too, and do not use it.
    let workspace = space.path().join("new");
    let bin = space.path().join("bin");
    assert!(imgbuild().arg("-C").arg(&workspace).arg("install-xcat-names").arg(&bin).status().unwrap().success());
    let named = |words: &[&str]| -> Ran {
        let mut command = Command::new(bin.join(words[0]));
        command
            .args(&words[1..])
            .env("IMGBUILD_STORE", space.store())
            .env_remove("IMGBUILD_WORKSPACE")
            .output()
            .unwrap()
            .into()
    };
    let ran = named(&["genimage", "--dryrun", COMPUTE]).good();
    assert!(ran.err.contains("is not used: images are built from packages"), "{}", ran.err);
    assert!(
        ran.out.contains("unpackaged /srv/by-hand/data") && ran.out.contains("removed    /usr/bin/tool2"),
        "{}",
        ran.out
    );
    // So does a build that publishes beside it, before anything else.
    let tree = space.path().join(TREE);
    let publish = |name: &str| -> Ran {
        let target = format!("xcat:{}", tree.parent().unwrap().display());
        let mut command = imgbuild();
        command.arg("-C").arg(&workspace).args(["build", name, "--publish", &target]);
        command.args(["--mirror", "http://127.0.0.1:9/debian"]).env("IMGBUILD_STORE", space.store());
        command.output().unwrap().into()
    };
    let said = |ran: &Ran| ran.err.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    let told = said(&publish(COMPUTE));
    for word in ["publish::rootimg", "/etc/tool.conf", "/srv/by-hand/data", "is lost unless captured: imgbuild capture"]
    {
        assert!(told.contains(word), "{word}: {told}");
    }
    // Taken as it is offered.
    let ran = space.run(&["capture", tree.to_str().unwrap(), "--into", "new", "--overlay", COMPUTE]).good();
    let set =
        ran.out.lines().find_map(|line| line.split_once(&format!(" set {COMPUTE} ")).map(|(_, words)| words)).unwrap();
    let words: Vec<&str> = set.split(' ').collect();
    assert_eq!(
        words,
        [
            "postinstall.scripts+=overlay.postinstall",
            "postinstall.inputs+=overlay.tar",
            "postinstall.inputs+=overlay.removed"
        ]
    );
    let run = |words: &[&str]| -> Ran { imgbuild().arg("-C").arg(&workspace).args(words).output().unwrap().into() };
    run(&[&["set", COMPUTE], words.as_slice()].concat()).good();
    let checked = run(&["check", COMPUTE]).good();
    assert!(!checked.err.contains("overlay"), "{}", checked.err);
    let directory = workspace.join("images").join(COMPUTE);
    let listed = Command::new("tar").arg("-tf").arg(directory.join("overlay.tar")).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for name in ["etc/tool.conf", "etc/motd", "srv/by-hand/data", "usr/bin/own"] {
        assert!(listed.lines().any(|line| line.trim_end_matches('/') == name), "{name}: {listed}");
    }
    assert!(!listed.contains("xcat") && !listed.contains("shadow"), "{listed}");
    assert_eq!(std::fs::read_to_string(directory.join("overlay.removed")).unwrap(), "usr/bin/tool2\n");
    // The recipe is the image's own still, and nothing is said twice.
    assert!(std::fs::read_to_string(directory.join("image.toml")).unwrap().contains("compute.postinstall"));
    assert!(!import(&space, &[]).good().out.contains("that differ from packages"));
    assert!(!named(&["genimage", "--dryrun", COMPUTE]).good().err.contains("is not used"));
    assert!(!said(&publish(COMPUTE)).contains("publish::rootimg"));
    let again = space.run(&["capture", tree.to_str().unwrap(), "--into", "new", "--overlay", COMPUTE]);
    assert!(again.code == 1 && again.err.contains("overlay.list`"), "{}", again.err);
    space.run(&["capture", tree.to_str().unwrap(), "--into", "new", "--overlay", COMPUTE, "--force"]).good();
    assert!(directory.join("overlay.list.ORIG").is_file() && !directory.join("image.toml.ORIG").exists());
}

#[test]
fn a_tree_that_cannot_be_compared_is_no_silence() {
    let space = site();
    std::fs::remove_dir_all(space.path().join(TREE).join("var/lib/dpkg")).unwrap();
    let ran = import(&space, &[]).good();
    assert!(ran.out.contains("cannot be compared with them: cannot create a recipe from it"), "{}", ran.out);
    let tree = space.path().join(TREE);
    let ran = space.run(&["capture", tree.to_str().unwrap(), "--into", "new", "--overlay", "nothing"]);
    assert!(ran.code == 1 && ran.err.contains("no image is called `nothing`"), "{}", ran.err);
}

/// What scripts and triggers of packages write is nobody's edit; what people edit is named first.
#[test]
fn of_a_tree_full_of_what_scripts_write_the_edits_are_named_first() {
    let space = site();
    let tree = space.path().join(TREE);
    let write = |name: &str, text: &str| {
        space.write(&format!("{TREE}/{name}"), text);
    };
    // Alternatives, links of init scripts and of units, copies of packaged examples, empty files, certificates.
    let link = |target: &str, name: &str| {
        std::fs::create_dir_all(tree.join(name).parent().unwrap()).unwrap();
        symlink(target, tree.join(name)).unwrap();
    };
    for number in 0..40 {
        link(&format!("/usr/bin/tool{number}"), &format!("etc/alternatives/a{number:02}"));
        link(&format!("/etc/alternatives/a{number:02}"), &format!("usr/bin/a{number:02}"));
        link(&format!("../init.d/s{number}"), &format!("etc/rc2.d/S01s{number}"));
        link(&format!("/usr/share/ca/{number}"), &format!("etc/ssl/certs/c{number}.pem"));
    }
    link("/lib/systemd/system/tool.service", "etc/systemd/system/multi-user.target.wants/tool.service");
    write("var/lib/systemd/deb-systemd-helper-enabled/multi-user.target.wants/tool.service", "");
    write("etc/copied.conf", "tool\n");
    write("etc/environment", "");
    write("etc/shells", "/bin/sh\n");
    // As in an image that imgbuild made of Debian's packages alone.
    write("etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    write("etc/hosts.allow", "# see hosts_access(5)\n");
    link("/lib/systemd/system/getty@.service", "etc/systemd/system/getty.target.wants/getty@tty1.service");
    for folder in ["usr/local/games", "etc/opt", "media", "mnt"] {
        std::fs::create_dir_all(tree.join(folder)).unwrap();
    }
    write("etc/pam.d/common-auth", "auth\n");
    let ran = import(&space, &["--dry-run"]).good();
    assert!(!ran.out.contains("that differ from packages"), "{}", ran.out);

    // A lot of files, and a few edits among them.
    for number in 0..60 {
        write(&format!("etc/aaa/file{number:02}"), &format!("{number}\n"));
        write(&format!("opt/app/lib/file{number:02}"), &format!("{number}\n"));
    }
    write("etc/fstab", "proc /proc proc rw 0 0\ntmpfs /tmp tmpfs size=10m 0 2\nserver:/home /home nfs defaults 0 0\n");
    write("root/.ssh/authorized_keys", "ssh-ed25519 AAAA admin\n");
    write("etc/tool.conf", "by hand\n");
    write("etc/sysctl.d/99-site.conf", "vm.swappiness = 1\n");
    write("etc/munge/munge.key", "secret\n");
    write("etc/hosts", "127.0.0.1 localhost\n10.0.0.1 mn\n");
    // A unit that no package started.
    link("/lib/systemd/system/other.service", "etc/systemd/system/multi-user.target.wants/other.service");
    let ran = import(&space, &["--dry-run"]).good();
    let note = ran.out.lines().find(|line| line.contains("that differ from packages")).unwrap();
    let named = note.split("): ").nth(1).unwrap().split(", ..").next().unwrap();
    let named: Vec<&str> = named.split(", ").collect();
    assert_eq!(named.len(), 8, "{named:?}");
    for path in [
        "/etc/fstab",
        "/root/.ssh/authorized_keys",
        "/etc/tool.conf",
        "/etc/sysctl.d/99-site.conf",
        "/opt/app/lib/file00",
    ] {
        assert!(named.contains(&path), "{path}: {named:?}");
    }
    assert!(note.contains("/etc/munge/munge.key may be secret"), "{note}");
    // They are taken with the rest.
    import(&space, &[]).good();
    space.run(&["capture", tree.to_str().unwrap(), "--into", "new", "--overlay", COMPUTE]).good();
    let listed = Command::new("tar")
        .arg("-tf")
        .arg(space.path().join("new/images").join(COMPUTE).join("overlay.tar"))
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for name in [
        "etc/fstab",
        "etc/hosts",
        "root/.ssh/authorized_keys",
        "etc/systemd/system/multi-user.target.wants/other.service",
    ] {
        assert!(listed.lines().any(|line| line == name), "{name}: {listed}");
    }
    for made in ["alternatives", "rc2.d", "certs", "wants/tool.service", "copied.conf", "munge.key"] {
        assert!(!listed.contains(made), "{made}: {listed}");
    }
}

#[test]
fn what_a_script_of_a_package_names_is_not_a_persons_work_until_it_is_newer() {
    let space = site();
    let tree = space.path().join(TREE);
    let write = |name: &str, text: &str| {
        space.write(&format!("{TREE}/{name}"), text);
    };
    let link = |target: &str, name: &str| symlink(target, tree.join(name)).unwrap();
    // Files that a script names, below a folder that it names, that ucf installed; a mode that a script gives, a link to a file two folders
    // deep, a link of ldconfig, a state without a digest, a program of several versions.
    write(
        "var/lib/dpkg/info/tool.postinst",
        "#!/bin/sh\ncat >/etc/tool/made <<EOF\nx\nEOF\ndpkg-statoverride --update --add root adm 4750 /usr/bin/tool\n\
         chown tool /var/lib/tool\n",
    );
    write("etc/tool/made", "x\n");
    write("var/lib/dpkg/statoverride", "root adm 4750 /usr/bin/tool\n");
    let list = std::fs::read_to_string(tree.join("var/lib/dpkg/info/tool.list")).unwrap();
    write(
        "var/lib/dpkg/info/tool.list",
        &format!(
            "{list}/etc/tool-release\n/var/lib/tool\n/var/lib/tool/state\n/usr/bin/munge\n/usr/bin/pdb3\n/usr/lib/libtool.so.1.2\n"
        ),
    );
    let other = "Package: other\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n";
    let status = std::fs::read_to_string(tree.join("var/lib/dpkg/status")).unwrap();
    write("var/lib/dpkg/status", &format!("{status}{other}"));
    write("var/lib/dpkg/info/other.list", "/usr/lib/python3.11/pdb.py\n");
    let digests = std::fs::read_to_string(tree.join("var/lib/dpkg/info/tool.md5sums")).unwrap();
    write(
        "var/lib/dpkg/info/tool.md5sums",
        &format!("{digests}{0}  usr/bin/munge\n{0}  usr/lib/libtool.so.1.2\n", md5("munge\n")),
    );
    write("usr/bin/munge", "munge\n");
    write("usr/lib/python3.11/pdb.py", "pdb\n");
    write("var/lib/tool/state", "");
    write("var/lib/tool/data.db", "x\n");
    write("etc/default/tool", "ENABLED=yes\n");
    write("var/lib/ucf/hashfile", &format!("{}  /etc/default/tool\n", md5("ENABLED=yes\n")));
    write("usr/lib/libtool.so.1.2", "munge\n");
    link("libtool.so.1.2", "usr/lib/libtool.so.1");
    link("../lib/python3.11/pdb.py", "usr/bin/pdb3");
    link("os-release", "etc/tool-release");
    // Scripts ran before the last package was there; a person comes later.
    let packaged = 4_000_000_000;
    let written = |name: &str, seconds: u64| {
        let file = std::fs::File::options().write(true).open(tree.join(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
    };
    for entry in
        walkdir::WalkDir::new(tree.join("var/lib/dpkg")).into_iter().flatten().filter(|one| one.path().is_file())
    {
        written(entry.path().strip_prefix(&tree).unwrap().to_str().unwrap(), packaged);
    }
    let ran = import(&space, &["--dry-run"]).good();
    assert!(!ran.out.contains("that differ from packages"), "{}", ran.out);
    written("etc/tool/made", packaged + 10);
    let ran = import(&space, &["--dry-run"]).good();
    assert!(ran.out.contains("that differ from packages") && ran.out.contains("/etc/tool/made"), "{}", ran.out);
}

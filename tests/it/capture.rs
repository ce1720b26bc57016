//! `capture`: what becomes of a node's packages, changed files, accounts and secrets; and what a hostile archive gets.

use std::os::unix::fs::{PermissionsExt, symlink};
#[cfg(feature = "e2e")]
use std::path::Path;

use crate::support::{Ran, Space, without_paths};

/// Digests as dpkg records them.
fn md5(text: &str) -> String {
    let output = std::process::Command::new("md5sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes())?;
            child.wait_with_output()
        });
    String::from_utf8(output.unwrap().stdout).unwrap()[..32].to_owned()
}

/// A node with three packages and what an administrator does to one in ten years.
fn node() -> Space {
    let space = Space::new();
    let write = |path: &str, text: &str| {
        space.write(&format!("node/{path}"), text);
    };
    write("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n");
    let package = |name: &str, more: &str| {
        format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.0-1\n{more}\n")
    };
    let conffiles = format!("Conffiles:\n /etc/tool.conf {}\n", md5("as packaged\n"));
    let status = [
        package("tool", &conffiles),
        package("tzdata", ""),
        package("linux-image-6.1.0-9-amd64", ""),
        package("grub-pc", ""),
        package("site-local", "").replace("amd64", "i386"),
        package("gone", "").replace("install ok installed", "deinstall ok config-files"),
    ];
    write("var/lib/dpkg/status", &status.concat());
    let man: String = (0..30).map(|at| format!("/usr/share/man/man{at}.gz\n")).collect();
    write(
        "var/lib/dpkg/info/tool.list",
        &format!("/.\n/etc\n/etc/tool.conf\n/bin\n/bin/tool\n/bin/tool2\n/usr/bin/kept\n/usr/share/man\n{man}"),
    );
    let own = md5("tool\n");
    let man: String = (0..30).map(|at| format!("{own}  usr/share/man/man{at}.gz\n")).collect();
    write("var/lib/dpkg/info/tool.md5sums", &format!("{own}  bin/tool\n{own}  bin/tool2\n{own}  usr/bin/kept\n{man}"));
    write("var/lib/dpkg/statoverride", "root adm 4750 /usr/bin/kept\n");
    write("var/lib/apt/extended_states", "Package: tzdata\nArchitecture: amd64\nAuto-Installed: 1\n");
    let info = "var/lib/dpkg/info/linux-image-6.1.0-9-amd64";
    write(&format!("{info}.list"), "/boot/vmlinuz-6.1.0-9-amd64\n/lib/modules/6.1.0-9-amd64/a.ko\n");
    write(&format!("{info}.md5sums"), &format!("{own}  lib/modules/6.1.0-9-amd64/a.ko\n"));
    write("usr/bin/tool", "tool\n");
    write("usr/bin/kept", "tool\n");
    symlink("usr/bin", space.path().join("node/bin")).unwrap();
    write("etc/tool.conf", "as the site has it\n");
    write(
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\nslurm:x:900:901::/var/lib/slurm:/bin/false\nanna:x:1000:1000::/home/anna:/bin/sh\nanna2:x:1000:1000::/:/bin/sh\nbad name:x:5000:1::/:/bin/sh\n",
    );
    write("etc/group", "root:x:0:\nadm:x:4:anna\nslurm:x:901:\nanna:x:1000:\n");
    write("etc/shadow", "root:$6$x$y:1::::::\n");
    write("etc/fstab", "UUID=1 / ext4 defaults 0 1\nfs:/home /home nfs4 rw,nofail 0 0\nnone /scratch tmpfs size=1g\n");
    symlink("/usr/share/zoneinfo/Europe/Berlin", space.path().join("node/etc/localtime")).unwrap();
    write("etc/default/locale", "LANG=\"C.UTF-8\"\n");
    write(
        "etc/default/grub",
        "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"console=ttyS0 root=UUID=1 mitigations=off\"\n",
    );
    write(
        "etc/apt/sources.list",
        "deb cdrom:[x]/ bookworm main\ndeb [signed-by=/etc/apt/keyrings/site.gpg] http://mirror.example/debian bookworm main\n",
    );
    write("etc/apt/keyrings/site.gpg", "no key");
    write(
        "root/.ssh/authorized_keys",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty admin@site\nnonsense\n",
    );
    write("etc/ssh/ssh_host_rsa_key", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    write("etc/site/tls.key", "-----BEGIN PRIVATE KEY-----\n");
    write("etc/machine-id", "0123\n");
    write("opt/site/run.sh", "#!/bin/sh\n");
    std::fs::set_permissions(space.path().join("node/opt/site/run.sh"), PermissionsExt::from_mode(0o750)).unwrap();
    std::fs::hard_link(space.path().join("node/opt/site/run.sh"), space.path().join("node/opt/site/second")).unwrap();
    write("lib/modules/6.1.0-9-amd64/updates/own.ko", "\x7fELF");
    write("tmp/junk", "x");
    write("var/cache/big", "x");
    write("var/lib/systemd/deb-systemd-helper-enabled/multi-user.target.wants/tool.service", "");
    write("usr/lib/systemd/system/tool.service", "[Install]\nWantedBy=multi-user.target\n");
    space
}

fn capture(space: &Space, more: &[&str]) -> Ran {
    space.run(&[&["capture", "node", "--into", "new"], more].concat())
}

fn text(space: &Space, name: &str) -> String {
    std::fs::read_to_string(space.path().join("new/images/node").join(name)).unwrap()
}

#[test]
fn a_tree_becomes_a_recipe_and_an_overlay_with_reasons() {
    let space = node();
    let ran = capture(&space, &[]);
    insta::assert_snapshot!("capture_report", without_paths(&ran.out, &space));
    insta::assert_snapshot!("captured_recipe", text(&space, "image.toml"));
    // Owners are those of whoever runs the test.
    insta::assert_snapshot!("overlay_list", text(&space, "overlay.list"));
    insta::assert_snapshot!("overlay_script", text(&space, "overlay.postinstall"));
    assert_eq!(
        text(&space, "captured.pkglist"),
        "# The node's packages, except its kernel.\ntool\n\n# Installed as dependencies or recommendations.\ntzdata\n"
    );
    assert_eq!(text(&space, "captured.exlist").lines().last(), Some("./usr/share/man/*"));
    assert_eq!(text(&space, "overlay.removed"), "usr/bin/tool2\n");
    assert_eq!(
        text(&space, "repos/sources.list"),
        "deb [signed-by=../keys/site.gpg] http://mirror.example/debian bookworm main\n"
    );
    assert!(text(&space, "drivers/6.1.0-9-amd64/own.ko").ends_with("ELF"));
    // An independent reader of the overlay.
    let listed = std::process::Command::new("tar")
        .args(["-tvf", "overlay.tar"])
        .current_dir(space.path().join("new/images/node"))
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().any(|line| line.starts_with("-rwxr-x---") && line.ends_with("opt/site/run.sh")), "{listed}");
    assert!(!listed.contains("PRIVATE") && !listed.contains("tls.key") && !listed.contains("shadow"), "{listed}");
    // What was captured is written for no other reader than git: nothing of a secret is in any file.
    for entry in walkdir::WalkDir::new(space.path().join("new"))
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file())
    {
        let bytes = std::fs::read(entry.path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("$6$x$y"), "{}", entry.path().display());
    }
}

#[test]
fn what_dpkg_has_no_record_of_is_kept_where_a_person_changed_it() {
    let space = Space::new();
    let at = |path: &str| space.path().join("node").join(path);
    let file = |path: &str, mode: u32| {
        space.write(&format!("node/{path}"), "x\n");
        std::fs::set_permissions(at(path), PermissionsExt::from_mode(mode)).unwrap();
    };
    let link = |path: &str, target: &str| {
        std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
        symlink(target, at(path)).unwrap();
    };
    space
        .write("node/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n")
        .write(
            "node/etc/passwd",
            "root:x:0:0:Charlie Root:/root:/bin/sh\nbin:x:2:2:bin:/bin:/bin/sh\nanna:x:1000:1000:Anna O'Hara \\& Co,Room 7/2,,:/home/anna:/bin/sh\nplain:x:1001:1000::/:/bin/sh\n",
        )
        .write("node/etc/group", "anna:x:1000:\n");
    let package =
        |name: &str| format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n");
    space.write("node/var/lib/dpkg/status", &(package("tool") + &package("other")));
    let files = [
        ("usr/bin/su", 0o755),
        ("usr/bin/sudo", 0o4755),
        ("usr/bin/plain", 0o755),
        ("usr/bin/raised", 0o4755),
        ("usr/bin/own", 0o755),
    ];
    let mut sums = String::new();
    for (path, mode) in files {
        file(path, mode);
        sums.push_str(&format!("{}  {path}\n", md5("x\n")));
    }
    // Links: as packaged, turned to the site's own, to another package's program, to one of kin; and a file in the place of one.
    link("usr/bin/linked", "own");
    link("usr/bin/to-site", "../../opt/site/to-site");
    link("usr/lib/far", "/gpfs/far");
    link("usr/bin/editor", "theirs");
    link("usr/bin/theirs2", "theirs2.11");
    link("usr/share/doc-link", "../nowhere");
    file("usr/lib/was-link", 0o644);
    file("opt/site/to-site", 0o755);
    file("usr/bin/theirs", 0o755);
    file("usr/bin/theirs2.11", 0o755);
    std::fs::create_dir_all(at("srv/shared")).unwrap();
    std::fs::set_permissions(at("srv/shared"), PermissionsExt::from_mode(0o2775)).unwrap();
    let list: String = files.iter().map(|(path, _)| format!("/{path}\n")).collect();
    space
        .write(
            "node/var/lib/dpkg/info/tool.list",
            &format!("/.\n/usr\n/usr/bin\n{list}/usr/bin/linked\n/usr/bin/to-site\n/usr/lib\n/usr/lib/far\n/usr/bin/editor\n/usr/bin/theirs2\n/usr/share\n/usr/share/doc-link\n/usr/lib/was-link\n/srv/shared\n"),
        )
        .write("node/var/lib/dpkg/info/tool.md5sums", &sums)
        .write("node/var/lib/dpkg/info/other.list", "/.\n/usr/bin/theirs\n/usr/bin/theirs2.11\n")
        .write("node/var/lib/dpkg/info/other.md5sums", &format!("{0}  usr/bin/theirs\n{0}  usr/bin/theirs2.11\n", md5("x\n")));
    capture(&space, &[]).good();
    let list = text(&space, "overlay.list");
    let changed: Vec<&str> =
        list.lines().filter(|line| line.starts_with("changed")).map(|line| line.split_once(" /").unwrap().1).collect();
    assert_eq!(
        changed,
        [
            "srv/shared   tool: mode 2775, with set-id bits",
            "usr/bin/editor   tool: points to theirs",
            "usr/bin/raised   tool: mode 4755, with set-id bits",
            "usr/bin/su   tool: mode 755, without set-id bits",
            "usr/bin/to-site   tool: points to ../../opt/site/to-site",
            "usr/lib/far   tool: points to /gpfs/far",
            "usr/lib/was-link   tool: a file instead of a link",
        ],
        "{list}"
    );
    let modes = text(&space, "overlay.modes");
    assert!(modes.contains(" usr/bin/su\n") && modes.contains(" usr/bin/raised\n"), "{modes}");
    // The script itself puts the comments where they were.
    let script = text(&space, "overlay.postinstall");
    let gecos = &script[script.find("gecos() {").unwrap()..script.find("\n# Libraries").unwrap()];
    space.write(
        "image/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nanna:x:1000:1000::/home/anna:/bin/sh\nannabell:x:3:3:b:/:/x\n",
    );
    let root = space.path().join("image").display().to_string();
    let done =
        std::process::Command::new("sh").arg("-c").arg(format!("set -e\nroot={root}\n{gecos}")).status().unwrap();
    assert!(done.success());
    assert_eq!(
        std::fs::read_to_string(space.path().join("image/etc/passwd")).unwrap(),
        "root:x:0:0:Charlie Root:/root:/bin/sh\nanna:x:1000:1000:Anna O'Hara \\& Co,Room 7/2,,:/home/anna:/bin/sh\nannabell:x:3:3:b:/:/x\n"
    );
    assert!(
        !space.path().join("image/etc/passwd.gecos").exists() && !gecos.contains("plain") && !gecos.contains("bin:")
    );
}

#[test]
fn a_node_of_another_cpu_is_captured_for_it() {
    let space = node();
    let status = std::fs::read_to_string(space.path().join("node/var/lib/dpkg/status")).unwrap();
    space.write("node/var/lib/dpkg/status", &status.replace("amd64", "arm64"));
    capture(&space, &[]).good();
    assert!(text(&space, "image.toml").contains("\narch = \"aarch64\"\n"));
}

#[test]
fn what_is_written_has_no_errors() {
    let space = node();
    capture(&space, &[]).good();
    std::fs::remove_dir_all(space.path().join("node/etc/apt")).unwrap();
    std::fs::remove_dir_all(space.path().join("node/lib")).unwrap();
    let ran = capture(&space, &["--force"]).good();
    assert!(ran.err.contains("imgbuild check finds no error in 1 images"), "{}", ran.err);
    assert!(
        text(&space, "image.toml").contains("source = \"host\"")
            && text(&space, "image.toml.ORIG").contains("repos/sources.list")
    );
}

#[test]
fn nothing_that_is_there_is_lost_and_a_dry_run_writes_nothing() {
    let space = node();
    let dry = capture(&space, &["--dry-run"]).good();
    assert!(!space.path().join("new").exists() && dry.out.starts_with("would write images/node"), "{}", dry.out);
    let document: serde_json::Value =
        serde_json::from_str(&capture(&space, &["--dry-run", "--json"]).good().out).unwrap();
    crate::schemas::assert_valid("capture", &document);
    assert_eq!(document["overlay"]["removed"][0], 1);
    let wet = capture(&space, &[]).good();
    assert_eq!(dry.out.replace("would write", "wrote"), wet.out);
    space.write("new/images/node/image.toml", "# mine\n");
    let again = capture(&space, &[]);
    assert_eq!((again.code, again.err.contains("already exists; nothing was written")), (1, true), "{}", again.err);
    assert_eq!(text(&space, "image.toml"), "# mine\n");
    capture(&space, &["--force"]).good();
    assert_eq!(text(&space, "image.toml.ORIG"), "# mine\n");
    // Nothing is left of what was made beside.
    let names = std::fs::read_dir(space.path().join("new")).unwrap().map(|one| one.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with(".capture")));
}

#[test]
#[cfg(feature = "e2e")] // cpio and zstd are what tests/run installs
fn archives_of_any_form_give_the_same_recipe() {
    let space = node();
    // The order of an archive is not that of the paths: the database may come last.
    let script = "cd node && tar --numeric-owner --xattrs -cf ../a.tar $(ls -A | sort -r) && tar -czf ../b.tgz . \
                  && find . | sort | cpio -o -H newc --quiet | zstd -q >../c.cpio.zst";
    let made = std::process::Command::new("sh").args(["-c", script]).current_dir(space.path()).status().unwrap();
    assert!(made.success());
    capture(&space, &[]).good();
    for file in ["a.tar", "b.tgz", "c.cpio.zst"] {
        space.run(&["capture", file, "--into", file.split('.').next().unwrap(), "--name", "node"]).good();
        let there = space.path().join(file.split('.').next().unwrap()).join("images/node");
        for name in ["overlay.list", "captured.pkglist", "overlay.postinstall", "overlay.removed"] {
            let own = std::fs::read_to_string(there.join(name)).unwrap();
            assert_eq!(own, text(&space, name), "{file}: {name}");
        }
        let listed = |path: &Path| {
            let listed = std::process::Command::new("tar").arg("-tvf").arg(path.join("overlay.tar")).output().unwrap();
            let text = String::from_utf8(listed.stdout).unwrap();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let names = |lines: Vec<String>| -> Vec<String> {
            lines
                .iter()
                .map(|line| line.split(" link to ").next().unwrap().rsplit(' ').next().unwrap().to_owned())
                .collect()
        };
        let mut both = [names(listed(&there)), names(listed(&space.path().join("new/images/node")))];
        both.iter_mut().for_each(|one| one.sort());
        assert_eq!(both[0], both[1], "{file}");
    }
}

#[test]
fn options_of_the_administrator_count() {
    let space = node();
    space.write("list", "# ours\n  ./opt/*\n./tmp/*\n./proc/*\n");
    let ran = capture(&space, &["--exclude-list", "list", "--pin", "--secrets", "--name", "node"]).good();
    assert!(ran.out.contains("note: overlay.tar contains the node's secrets"), "{}", ran.out);
    let list = text(&space, "overlay.list");
    assert!(!list.contains("/opt/site") && list.contains("/etc/site/tls.key"), "{list}");
    assert!(text(&space, "captured.pkglist").contains("tool=1.0-1\n"));
    assert_eq!(text(&space, "keys/root.hash"), "$6$x$y\n");
    let mode = std::fs::metadata(space.path().join("new/images/node/keys/root.hash")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!list.contains("ssh_host_rsa_key"), "{list}");
}

#[test]
fn what_is_no_node_is_refused_with_a_reason() {
    let space = node();
    let refused = |words: &[&str], said: &str| {
        let ran = space.run(&[&["capture"], words, &["--into", "other"]].concat());
        let message: Vec<&str> = ran.err.split_whitespace().filter(|word| *word != "│").collect();
        assert!(ran.code == 1 && message.join(" ").contains(said), "{words:?} {}: {}", ran.code, ran.err);
        assert!(!space.path().join("other/images").exists());
    };
    space.write("empty/x", "");
    refused(&["empty"], "no dpkg or rpm database");
    refused(&["gone"], "No such file");
    refused(&["node", "--name", "../x"], "is not a valid image name");
    refused(&["http://x/y.tar"], "fetch an archive first");
    space.write("text", "hello");
    refused(&["text"], "neither an archive in tar or cpio, nor squashfs or erofs");
    space.edit("node/etc/os-release", "ID=debian", "ID=slackware");
    refused(&["node"], "is not a distribution whose images imgbuild builds");
    space.edit("node/etc/os-release", "ID=slackware", "ID=rocky");
    refused(&["node"], "the package database of another distribution");
    space.edit("node/etc/os-release", "ID=rocky", "ID=debian");
    let status = std::fs::read_to_string(space.path().join("node/var/lib/dpkg/status")).unwrap();
    space.write("node/var/lib/dpkg/status", &status.replace("Architecture: amd64", "Architecture: s390x"));
    refused(&["node"], "its packages are for s390x");
    space.write("node/var/lib/dpkg/status", "");
    space.write("node/var/lib/rpm/Packages", "damaged");
    refused(&["node"], "the package database /var/lib/rpm/Packages");
}

/// A tar archive of one member beside a whole node.
fn hostile(space: &Space, name: &str, kind: tar::EntryType, link: &str, content: &[u8]) -> String {
    let made =
        std::process::Command::new("tar").args(["-cf", "h.tar", "-C", "node", "."]).current_dir(space.path()).status();
    assert!(made.unwrap().success());
    let path = space.path().join("h.tar");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
    bytes.truncate(end.next_multiple_of(512));
    let mut builder = tar::Builder::new(bytes);
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(kind);
    header.set_cksum();
    // The archive's own bytes were put in front.
    let inner = builder.get_mut();
    let start = inner.len();
    builder.append(&header, content).unwrap();
    let all = builder.into_inner().unwrap();
    assert!(all.len() > start);
    std::fs::write(&path, all).unwrap();
    "h.tar".to_owned()
}

#[test]
fn hostile_archives_write_nothing_outside() {
    use tar::EntryType as Kind;
    let space = node();
    let canary = space.path().join("canary");
    for (name, kind, link) in [
        ("../canary", Kind::Regular, ""),
        ("opt/../../canary", Kind::Regular, ""),
        ("/../canary", Kind::Regular, ""),
        ("lib/modules/6.1.0-9-amd64/updates/../../../../../../canary.ko", Kind::Regular, ""),
    ] {
        let file = hostile(&space, name, kind, link, b"x");
        let ran = space.run(&["capture", &file, "--into", "new", "--name", "h", "--force"]);
        assert!(ran.code == 1 && ran.err.contains("points outside the tree"), "{name}: {} {}", ran.code, ran.err);
        assert!(!canary.exists() && !space.path().join("canary.ko").exists());
    }
    // Links and devices are data: nothing here follows them, and devices are left out.
    for (name, kind, link) in [
        ("opt/l", Kind::Symlink, "/etc"),
        ("opt/h", Kind::Link, "/etc/passwd"),
        ("opt/h", Kind::Link, "gone"),
        ("opt/d", Kind::Block, ""),
        ("etc/passwd", Kind::Symlink, "/etc/passwd"),
        ("etc/os-release", Kind::Symlink, "/etc/os-release"),
        ("usr/bin/tool", Kind::Directory, ""),
        ("repos", Kind::Symlink, "/tmp"),
    ] {
        let file = hostile(&space, name, kind, link, b"");
        let ran = space.run(&["capture", &file, "--into", "new", "--name", "h", "--force"]);
        assert!([0, 1].contains(&ran.code), "{name}: {} {}", ran.code, ran.err);
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
    }
    // An archive that is truncated.
    let file = hostile(&space, "opt/x", Kind::Regular, "", &[7; 5000]);
    let bytes = std::fs::read(space.path().join(&file)).unwrap();
    std::fs::write(space.path().join(&file), &bytes[..bytes.len() / 2]).unwrap();
    let ran = space.run(&["capture", &file, "--into", "cut"]);
    assert!(ran.code != 0 && !space.path().join("cut/images").exists(), "{}", ran.err);
}

#[test]
fn a_node_that_does_not_answer_leaves_nothing() {
    let space = Space::new();
    let ran = space.run(&[
        "capture",
        "ssh://nobody@127.0.0.1:1",
        "--into",
        "new",
        "--ssh",
        "ssh -o BatchMode=yes -o ConnectTimeout=5",
    ]);
    assert!(ran.code == 3 && ran.err.contains("could not log in"), "{} {}", ran.code, ran.err);
    let ran = space.run(&["capture", "ssh://n", "--into", "new", "--ssh", "no-such-program"]);
    assert!(ran.code == 3 && ran.err.contains("cannot be started"), "{} {}", ran.code, ran.err);
    // What is on the way says nothing, or gives an error after some of it.
    space.write("half", "#!/bin/sh\ncat >/dev/null\nhead -c 100000 /dev/zero\nexit 2\n");
    std::fs::set_permissions(space.path().join("half"), PermissionsExt::from_mode(0o755)).unwrap();
    let half = format!("sh {}", space.path().join("half").display());
    let ran = space.run(&["capture", "ssh://n", "--into", "new", "--ssh", &half]);
    assert!(ran.code == 3 && ran.err.contains("the node could not pack its files"), "{} {}", ran.code, ran.err);
    assert!(!space.path().join("new").exists());
}

#[test]
fn what_a_node_may_hold_does_no_harm() {
    let space = node();
    let root = space.path().join("node");
    let add = |text: &str| {
        let path = root.join("var/lib/dpkg/status");
        let own = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{own}{text}")).unwrap();
    };
    // Names that would be directives of a list, a conffile that its package no longer brings, a package on its way.
    for name in ["#ENV:LD_PRELOAD=/x#", "#INCLUDE:../other#", "-bash", "a b"] {
        add(&format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n"));
    }
    add(
        "Package: late\nStatus: install ok triggers-pending\nArchitecture: amd64\nVersion: 1\nConffiles:\n /etc/late.old 00 obsolete\n\n",
    );
    space
        .write("node/var/lib/dpkg/info/late.list", "/etc\n/etc/late.old\n/home\n")
        .write("node/etc/late.old", "ours\n");
    // A folder that is a link, secrets under other names and in other files, ids twice and too large.
    space.write("node/data/home/anna/x", "x\n");
    symlink("/data/home", root.join("home")).unwrap();
    space.write(
        "node/etc/haproxy/all.pem",
        &format!("-----BEGIN CERTIFICATE-----\n{}\n-----BEGIN RSA PRIVATE KEY-----\n", "x".repeat(9000)),
    );
    std::fs::create_dir_all(root.join("opt/app")).unwrap();
    std::fs::hard_link(root.join("etc/site/tls.key"), root.join("opt/app/copy")).unwrap();
    std::fs::hard_link(root.join("etc/shadow"), root.join("etc/a-copy")).unwrap();
    space.write("node/root/anaconda-ks.cfg", "rootpw --iscrypted x\n");
    let passwd = std::fs::read_to_string(root.join("etc/passwd")).unwrap();
    space.write("node/etc/passwd", &format!("{passwd}anna:x:1001:1000::/:/bin/sh\nbig:x:100001:100001::/:/bin/sh\n"));
    std::fs::create_dir_all(root.join("lib/modules/6.1.0-10-amd64/extra")).unwrap();
    space.write("node/lib/modules/6.1.0-10-amd64/extra/new.ko", "\x7fELF new");
    symlink("../extra/new.ko", root.join("lib/modules/6.1.0-10-amd64/linked.ko")).unwrap();
    // Another name of a module, whichever of them tar meets first.
    std::fs::hard_link(root.join("lib/modules/6.1.0-10-amd64/extra/new.ko"), root.join("opt/app/module")).unwrap();
    std::fs::remove_dir_all(root.join("etc/apt")).unwrap();
    let made =
        std::process::Command::new("tar").args(["-cf", "n.tar", "-C", "node", "."]).current_dir(space.path()).status();
    assert!(made.unwrap().success());
    let ran = space.run(&["capture", "n.tar", "--into", "new", "--name", "node"]).good();
    assert!(ran.err.contains("imgbuild check finds no error in 1 images"), "{}\n{}", ran.out, ran.err);
    assert_eq!(
        text(&space, "captured.pkglist"),
        "# The node's packages, except its kernel.\nlate\ntool\n\n# Installed as dependencies or recommendations.\ntzdata\n"
    );
    let list = text(&space, "overlay.list");
    for there in ["/etc/late.old", "/home   late: a link instead of a folder", "/data/home/anna/x", "linked.ko"] {
        assert!(list.contains(there), "{there}: {list}");
    }
    for secret in ["all.pem", "opt/app/copy", "etc/a-copy", "anaconda-ks.cfg", "tls.key"] {
        assert!(!list.contains(secret), "{secret}: {list}");
    }
    assert!(text(&space, "drivers/6.1.0-10-amd64/new.ko").ends_with("new"), "the newest by its number");
    assert!(list.contains("/opt/app/module"), "{list}");
    assert!(text(&space, "image.toml").contains("\"big\" = { uid = 100001"), "{}", text(&space, "image.toml"));
    assert!(text(&space, "overlay.postinstall").contains("move_folder 'home' 'data/home'\n"));
    for note in ["the user anna (1001) is left out", "packages with invalid names or versions"] {
        assert!(ran.out.contains(note), "{note}: {}", ran.out);
    }
    // A second --force keeps what the first one kept.
    for round in 0..2 {
        space.write("new/images/node/image.toml", &format!("# {round}\n"));
        space.run(&["capture", "n.tar", "--into", "new", "--name", "node", "--force"]).good();
    }
    assert_eq!(
        (text(&space, "image.toml.ORIG"), text(&space, "image.toml.ORIG.1")),
        ("# 0\n".to_owned(), "# 1\n".to_owned())
    );
}

#[test]
fn a_damaged_package_database_is_said_where_trees_are_compared() {
    let space = node();
    space.write("other/var/lib/rpm/Packages", "damaged");
    let path = |name: &str| space.path().join(name).display().to_string();
    let ran = space.run(&["diff", &path("node"), &path("other"), "--json"]);
    let found: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}", ran.err));
    let said = found["not_compared"].to_string();
    assert!(said.contains("the package database /var/lib/rpm/Packages is neither SQLite"), "{said}");
    assert!(found["packages"].is_null() && found["files"].is_object(), "{said}");
}

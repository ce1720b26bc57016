//! Builds that fail: what is said, the exit code, and that nothing published is touched.

use super::built_copy as copy;
use super::store;
use crate::support::Space;

/// Runs a build that must fail, and checks that what was published stays.
#[track_caller]
fn fails(space: &Space, code: i32) -> String {
    let before = std::fs::read(space.artefact("tiny", "build.json")).unwrap();
    let lock = std::fs::read(space.path().join("image.lock")).unwrap();
    let ran = space.run(&["build"]);
    assert_eq!(ran.code, code, "{}", ran.err);
    assert_eq!(before, std::fs::read(space.artefact("tiny", "build.json")).unwrap());
    assert_eq!(lock, std::fs::read(space.path().join("image.lock")).unwrap(), "a failed build changed the lock");
    assert!(space.artefact("tiny", "rootimg.cpio.zst").exists());
    ran.err
}

#[test]
fn network_an_unknown_package_has_its_line_and_near_names() {
    let space = copy();
    space.write("a.pkglist", "# tools\nopenssh-sever\n");
    space.edit("image.toml", "base = \"essential\"", "base = \"essential\"\nlists = [\"a.pkglist\"]");
    let said = fails(&space, 1);
    for text in ["a.pkglist:2:1", "no repository has `openssh-sever`", "openssh-server"] {
        assert!(said.contains(text), "{text}\n{said}");
    }
}

#[test]
fn network_packages_that_cannot_live_together_have_the_solvers_words() {
    let space = copy();
    space.edit(
        "image.toml",
        "base = \"essential\"",
        "base = \"essential\"\ninstall = [\"systemd-sysv\", \"sysvinit-core\"]",
    );
    let said = fails(&space, 1);
    assert!(said.contains("cannot be installed together") && said.contains("Conflicts: "), "{said}");
}

#[test]
fn network_a_release_signed_by_others_is_refused() {
    let space = copy();
    let home = tempfile::tempdir().unwrap();
    let gpg = |arguments: &[&str]| {
        let output = std::process::Command::new("gpg")
            .args(["--batch", "--homedir"])
            .arg(home.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    gpg(&[
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "",
        "--quick-generate-key",
        "site@example.invalid",
        "ed25519",
        "sign",
        "never",
    ]);
    std::fs::write(space.path().join("site.gpg"), gpg(&["--export"])).unwrap();
    let text = "[[repo]]\nsource = \"host\"\nsigned-by = \"site.gpg\"\n\n[packages]";
    space.edit("image.toml", "[packages]", text);
    space.edit("image.toml", "base = \"essential\"", "base = \"essential\"\ninstall = [\"less\"]");
    let said = fails(&space, 4);
    assert!(said.contains("the signature of `InRelease`") && said.contains("is not in the keyring"), "{said}");
}

#[test]
fn a_failing_postinstall_has_its_status_and_last_lines() {
    let space = copy();
    space.edit("tiny.postinstall", "set -e\n", "set -e\necho about to fail >&2\nexit 3\n");
    let said = fails(&space, 4);
    for text in ["`tiny.postinstall` exited with status 3", "about to fail", "full log:"] {
        assert!(said.contains(text), "{text}\n{said}");
    }
}

#[test]
fn a_postinstall_sees_its_inputs_and_nothing_else() {
    let space = copy();
    space.write("site/a.conf", "a\n").write("site/b.conf", "b\n").write("secret", "s\n");
    space.edit(
        "image.toml",
        "script = \"tiny.postinstall\"",
        "script = \"tiny.postinstall\"\ninputs = [\"site/*.conf\"]\narguments = [\"extra\"]",
    );
    space.edit(
        "tiny.postinstall",
        "set -e\n",
        "set -e\ntest \"$(cat site/a.conf site/b.conf)\" = \"a\nb\"\ntest ! -e secret\ntest ! -e /etc/shadow\ntest ! -e /etc/hosts\n\
         test \"$3\" = x86_64\ntest \"$4\" = tiny\ntest \"$5\" = extra\ntest \"$IMG_ROOTIMGDIR\" = \"$1\"\ntest \"$(chroot $1 uname -r)\" = \"$IMG_KERNELVERSION\"\n\
         if touch site/new 2>/dev/null; then exit 9; fi\nif env | grep IMGBUILD_PLANTED; then exit 8; fi\n",
    );
    space.run_with(&["build"], &[("IMGBUILD_PLANTED", "none"), ("IMGBUILD_PLANTED_REACHED", "/nonexistent")]).good();
}

#[test]
fn a_postinstall_that_changes_modules_or_declared_mounts_is_stopped() {
    let space = copy();
    space.edit(
        "tiny.postinstall",
        "set -e\n",
        "set -e\nmkdir -p $1/usr/lib/modules/$IMG_KERNELVERSION/updates\necho x >$1/usr/lib/modules/$IMG_KERNELVERSION/updates/a.ko\n",
    );
    let said = fails(&space, 4);
    assert!(
        said.replace([' ', '\n', '│'], "").contains("amd64/updates/a.ko") && said.contains("modules_from = \"rootfs\""),
        "{said}"
    );
    space.edit(
        "tiny.postinstall",
        "mkdir -p $1/usr/lib/modules/$IMG_KERNELVERSION/updates\necho x >$1/usr/lib/modules/$IMG_KERNELVERSION/updates/a.ko\n",
        "echo none >$1/etc/fstab\n",
    );
    space.edit("image.toml", "[boot]", "[boot]\ntmpfs = { \"/tmp\" = \"50m\" }");
    let said = fails(&space, 4);
    assert!(said.contains("/tmp with 50m"), "{said}");
}

#[test]
fn a_driver_that_the_kernel_lacks_has_near_names() {
    let space = copy();
    space.edit("image.toml", "[kernel]", "[kernel]\ndrivers = [\"+virtionet\"]");
    let said = fails(&space, 1);
    assert!(said.contains("has no driver `virtionet`") && said.contains("virtio_net"), "{said}");
    assert!(said.contains("image.toml:") && said.contains("drivers = [\"+virtionet\"]"), "{said}");
}

#[test]
fn synced_files_are_appended_merged_and_put_into_folders() {
    let space = copy();
    space
        .write("s/passwd", "daemon:x:1:1:changed:/:/bin/false\nnewone:x:999:999::/:/bin/false\n")
        .write("s/more", "more\n")
        .write("s/plain", "plain\n");
    space.write("a.synclist", "s/plain -> /etc\nAPPEND:\ns/more -> /etc/issue\nMERGE:\ns/passwd -> /etc/passwd\n");
    space.write("b.synclist", "s/plain -> /opt/x\ns/more -> /opt/x\n");
    space.edit("image.toml", "[exclude]", "[sync]\nlists = [\"a.synclist\", \"b.synclist\"]\n\n[exclude]");
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("`/etc` is a folder in the image"), "{}", ran.err);
    let twice = ["/opt/x is the destination twice", "b.synclist:1:1", "b.synclist:2:1"];
    assert!(twice.iter().all(|text| ran.err.contains(text)), "{}", ran.err);
    let script = "cat /etc/plain; tail -n 1 /etc/issue; grep -c . /etc/passwd; grep ^daemon: /etc/passwd; tail -n 1 /etc/passwd; stat -c %a /etc/passwd";
    let shown = space.run(&["shell", "--", "/bin/sh", "-c", script]).good().out;
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!((lines[0], lines[1]), ("plain", "more"));
    assert_eq!(&lines[3..], ["daemon:x:1:1:changed:/:/bin/false", "newone:x:999:999::/:/bin/false", "644"]);
}

#[test]
fn synced_files_keep_owners_and_modes_and_homes_are_their_users() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let space = copy();
    space.write(
        "a.synclist",
        "s/shadow -> /srv/shadow\ns/tree -> /srv/tree\ns/rc -> /home/ann/.config/app/rc\ns/home -> /home/ann/home\n\
         s/local -> /var/local\ns/mail -> /var/mail\ns/named -> /srv/named\nMERGE:\ns/passwd -> /etc/passwd\n",
    );
    // An account that a list brings.
    space.write("s/passwd", "guest:x:777:777::/:/bin/false\n").write("s/named", "x\n");
    for (name, mode) in [("local/ours", 0o644), ("mail/ours", 0o644)] {
        space.write(&format!("s/{name}"), "x\n");
        std::fs::set_permissions(space.path().join("s").join(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    space.write("s/rc", "rc\n").write("s/home/in/file", "x\n").write("s/shadow", "x\n");
    let modes = [("private/file", 0o600), ("spool/file", 0o664), ("shared/file", 0o2755), ("closed/file", 0o444)];
    for (name, mode) in modes {
        space.write(&format!("s/tree/{name}"), "x\n");
        std::fs::set_permissions(space.path().join("s/tree").join(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    for (name, mode) in [("private", 0o700), ("spool", 0o1777), ("shared", 0o2775), ("closed", 0o555)] {
        std::fs::set_permissions(space.path().join("s/tree").join(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        chown(space.path().join("s/shadow"), Some(0), Some(42)).unwrap();
        chown(space.path().join("s/tree/private/file"), Some(900), Some(901)).unwrap();
    }
    let owners = "\"/srv/tree/closed/file\" = \"games:shadow 0640\"\n\"/srv/tree/shared\" = \"7:8\"\n\"/opt\" = \"0751\"\n\
                  \"/var/local\" = \"0750\"\n\"/var/mail\" = \"games\"\n\"/srv/named\" = \"guest 0600\"\n";
    let user = "[users]\nann = { uid = 2001, gid = 2001, home = \"/home/ann\" }\n\n";
    let tables = format!("{user}[sync]\nlists = [\"a.synclist\"]\n\n[sync.owner]\n{owners}\n[exclude]");
    space.edit("image.toml", "[exclude]", &tables);
    let ran = space.run(&["check"]);
    assert!(ran.code == 1 && ran.err.contains("no synclist copies a file to `/opt`"), "{}", ran.err);
    space.edit("image.toml", "\"/opt\" = \"0751\"\n", "");
    space.run(&["build"]).good();
    let script = "stat -c '%n %a %u:%g' /srv/shadow $(find /srv/tree /home/ann | sort)";
    let shown = space.run(&["shell", "--", "/bin/sh", "-c", script]).good().out;
    let (shadow, private) = if is_root { ("0:42", "900:901") } else { ("0:0", "0:0") };
    let expected = format!(
        "/srv/shadow 644 {shadow}\n/home/ann 755 2001:2001\n/home/ann/.config 755 2001:2001\n/home/ann/.config/app 755 2001:2001\n\
         /home/ann/.config/app/rc 644 0:0\n/home/ann/home 755 2001:2001\n/home/ann/home/in 755 2001:2001\n/home/ann/home/in/file 644 0:0\n\
         /srv/tree 755 0:0\n/srv/tree/closed 555 0:0\n/srv/tree/closed/file 640 5:42\n/srv/tree/private 700 0:0\n\
         /srv/tree/private/file 600 {private}\n/srv/tree/shared 2775 7:8\n/srv/tree/shared/file 2755 0:0\n\
         /srv/tree/spool 1777 0:0\n/srv/tree/spool/file 664 0:0\n"
    );
    assert_eq!(shown, expected);
    // A folder of the image keeps what the recipe does not say: these are 2775, and of the groups staff and mail.
    let shown =
        space.run(&["shell", "--", "/bin/sh", "-c", "stat -c '%a %u:%g' /var/local /var/mail /srv/named"]).good();
    assert_eq!(shown.out, "750 0:50\n2775 5:8\n600 777:0\n");
    // What no account of the image is has the line that names it.
    space.edit("image.toml", "games:shadow", "gamester:shadow");
    let ran = space.run(&["build"]);
    assert!(ran.code == 1 && ran.err.contains("cannot belong to `gamester`: /etc/passwd"), "{}", ran.err);
    assert!(ran.err.contains("\"/srv/tree/closed/file\" = \"gamester"), "{}", ran.err);
}

#[test]
fn a_destination_that_cannot_be_is_refused_with_the_synclists_line() {
    let space = copy();
    space.write("s/motd", "hello\n");
    space.edit("image.toml", "[exclude]", "[sync]\nlists = [\"a.synclist\"]\n\n[exclude]");
    for (list, expected) in [
        ("# first\ns/motd -> /etc/passwd/\n", "`/etc/passwd` is a file in the image"),
        ("# first\ns/motd -> /bin/sh/a/b\n", "`/bin/sh` is a file in the image"),
        ("s/motd -> /opt/one\ns/motd -> /opt/one/two\n", "`/opt/one` is a file in the image"),
        ("# first\nAPPEND:\ns/motd -> /etc/nosuch\n", "`/etc/nosuch` is not in the image"),
    ] {
        space.write("a.synclist", list);
        let ran = space.run(&["build"]);
        let line = list.lines().count();
        assert_eq!(ran.code, 1, "{list}: {}", ran.err);
        assert!(ran.err.contains(expected) && ran.err.contains(&format!("a.synclist:{line}:1")), "{list}: {}", ran.err);
    }
    // A link to a directory is one.
    space.write("a.synclist", "s/motd -> /lib/motd\n");
    space.run(&["build"]).good();
}

#[test]
fn files_of_a_directory_that_is_made_anew_are_kept() {
    let space = copy();
    // Equal files with equal times in a directory that overlayfs marks opaque.
    space.edit(
        "tiny.postinstall",
        "set -e\n",
        "set -e\ncp -a $1/etc/skel /tmp/skel\nrm -rf $1/etc/skel\nmkdir $1/etc/skel\ncp -p /tmp/skel/.profile $1/etc/skel/\n",
    );
    space.run(&["build"]).good();
    let shown = space.run(&["shell", "--", "/bin/sh", "-c", "ls -A /etc/skel"]).good().out;
    assert_eq!(shown.trim(), ".profile");
    let info: serde_json::Value =
        serde_json::from_slice(&std::fs::read(space.artefact("tiny", "build.json")).unwrap()).unwrap();
    let layer = info["layers"].as_array().unwrap().iter().find(|layer| layer[0] == "rootfs/postinstall").unwrap()[1]
        .as_str()
        .unwrap();
    let text = std::fs::read_to_string(store().join("v1/manifests").join(layer)).unwrap();
    assert!(!text.contains("etc/skel/.profile\tw"), "{text}");
    assert!(text.contains("etc/skel/.bashrc\tw"), "{text}");
}

#[test]
fn process_one_of_a_command_has_nothing_of_the_host_in_sight() {
    let space = copy();
    let looks = concat!(
        "set -e\n",
        "test \"$(stat -L -c %d:%i /proc/1/root)\" = \"$(stat -L -c %d:%i /dev)\" || exit 9\n",
        "case $(readlink /proc/1/exe) in /memfd:*) ;; *) exit 10;; esac\n",
        "test -z \"$(cat /proc/1/environ)\" || exit 11\n",
        "test \"$(ls /proc/1/fd | tr '\\n' ' ')\" = '0 1 2 ' || exit 12\n",
        "test ! -e /proc/1/root/proc/1/root/v1 || exit 13\n",
    );
    space.edit("tiny.postinstall", "set -e\n", looks);
    space.run(&["build"]).good();
}

#[test]
fn holes_of_synced_files_stay_holes_in_the_store() {
    use std::os::unix::fs::MetadataExt;
    let space = super::offline::warm();
    std::fs::File::create(space.path().join("disk.img")).unwrap().set_len(300 << 20).unwrap();
    space.write("a.synclist", "disk.img -> /opt/disk.img\n");
    space.edit("image.toml", "[exclude]", "[sync]\nlists = [\"a.synclist\"]\n\n[exclude]");
    super::offline::build(&space).good();
    let said = space.run(&["shell", "--", "/bin/sh", "-c", "stat -c %s /opt/disk.img"]).good().out;
    assert_eq!(said.trim(), (300u64 << 20).to_string());
    let large = walkdir::WalkDir::new(space.store()).into_iter().flatten().filter_map(|entry| {
        let metadata = entry.metadata().ok().filter(|metadata| metadata.is_file())?;
        (metadata.len() == 300 << 20).then(|| metadata.blocks() * 512)
    });
    let taken: Vec<u64> = large.collect();
    assert!(!taken.is_empty() && taken.iter().all(|bytes| *bytes < 1 << 20), "{taken:?}");
}

#[test]
fn what_a_script_leaves_running_is_ended_before_the_layer_is_made() {
    let space = copy();
    space.edit(
        "tiny.postinstall",
        "set -e\n",
        "set -e\n(while :; do date >>$1/etc/never-ends; done) >/dev/null 2>&1 &\n",
    );
    let began = std::time::Instant::now();
    space.run(&["build"]).good();
    assert!(began.elapsed() < std::time::Duration::from_secs(60));
}

#[test]
fn a_build_until_a_stage_publishes_nothing() {
    let space = copy();
    space.edit("tiny.postinstall", "set -e\n", "set -e\n: changed\n");
    let before = std::fs::read_link(space.path().join("out/tiny")).unwrap();
    let ran = space.run(&["build", "--until", "rootfs"]).good();
    assert!(ran.err.contains("rootfs/postinstall") && !ran.err.contains("pack/rootimg"), "{}", ran.err);
    assert_eq!(before, std::fs::read_link(space.path().join("out/tiny")).unwrap());
    space.run(&["build"]).good();
}

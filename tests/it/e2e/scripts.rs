//! What scripts of sites and packages count on: root's files are root's, modes and links are as they are, a chroot is found as
//! one, `uname` tells the image's kernel, and directories can be renamed.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::offline::{build, vendored, warm};
use super::private_archive::Deb;
use super::service;
use crate::support::{Ran, Space};

/// Runs a command in the image that was built.
fn inside(space: &Space, command: &str) -> String {
    space.run(&["shell", "--", "/bin/sh", "-c", command]).good().out
}

fn with_script(lines: &str) -> Space {
    let space = warm();
    let script = std::fs::read_to_string(space.path().join("tiny.postinstall")).unwrap();
    space.write("tiny.postinstall", &format!("{script}\n{lines}"));
    space
}

fn with_inputs(space: &Space, inputs: &str) {
    let more = format!("script = \"tiny.postinstall\"\ninputs = {inputs}");
    space.edit("image.toml", "script = \"tiny.postinstall\"", &more);
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Adds packages of the site's own to the image.
fn with_packages(space: &Space, packages: &[Deb]) {
    for package in packages {
        package.write(&space.path().join("otherpkgs"));
    }
    let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    space.write("o.pkglist", &names.join("\n"));
    space.edit("image.toml", "[kernel]", "[otherpkgs]\ndir = \"otherpkgs\"\nlists = [\"o.pkglist\"]\n\n[kernel]");
}

/// A build that may resolve, without network.
fn resolve(space: &Space, variables: &[(&str, &str)]) -> Ran {
    let mut command = crate::support::imgbuild();
    command.arg("-C").arg(space.path()).arg("--store").arg(space.store());
    command.args(["build", "--vendor", vendored().to_str().unwrap()]).envs(variables.iter().copied());
    command.output().unwrap().into()
}

#[test]
fn what_a_script_copies_belongs_to_root_and_is_as_it_is() {
    let space = with_script("cp -a site/. \"$1\"/\nls -lnR site >\"$1/listing\"\n");
    space.write("site/etc/site.conf", "a\n").write("site/opt/own/data", "b\n");
    let at = |name: &str| space.path().join("site").join(name);
    std::fs::create_dir_all(at("opt/own/empty")).unwrap();
    // As a checkout with umask 077 has them.
    chmod(&at("etc/site.conf"), 0o600);
    chmod(&at("opt/own"), 0o750);
    chmod(&space.path().join("tiny.postinstall"), 0o700);
    symlink("data", at("opt/own/link")).unwrap();
    symlink("/etc/passwd", at("opt/own/absolute")).unwrap();
    assert!(Command::new("mkfifo").arg(at("opt/own/pipe")).status().unwrap().success());
    with_inputs(&space, "[\"site/**\"]");
    let ran = build(&space).good();
    assert!(!ran.err.contains("postinstall::"), "{}", ran.err);
    let names = "/ /etc /opt /etc/site.conf /opt/own /opt/own/empty /opt/own/link /opt/own/absolute /opt/own/pipe";
    let said = inside(&space, &format!("stat -c '%a %u:%g %F %N' {names}"));
    let expected = "755 0:0 directory '/'\n\
                    755 0:0 directory '/etc'\n\
                    755 0:0 directory '/opt'\n\
                    600 0:0 regular file '/etc/site.conf'\n\
                    750 0:0 directory '/opt/own'\n\
                    755 0:0 directory '/opt/own/empty'\n\
                    777 0:0 symbolic link '/opt/own/link' -> 'data'\n\
                    777 0:0 symbolic link '/opt/own/absolute' -> '/etc/passwd'\n\
                    644 0:0 fifo '/opt/own/pipe'\n";
    assert_eq!(said, expected);
    // Each of them is in the key.
    std::fs::remove_file(at("opt/own/link")).unwrap();
    symlink("elsewhere", at("opt/own/link")).unwrap();
    assert!(space.to_do().contains(&"rootfs/postinstall run".to_owned()));
    let plan = space.run(&["plan"]).good().out;
    assert!(plan.contains("site/opt/own/link"), "{plan}");
}

#[test]
fn what_no_script_can_be_shown_is_refused_and_a_link_that_leads_nowhere_is_told() {
    let space = with_script("");
    space.write("site/a", "a\n").write("elsewhere", "b\n");
    symlink("../elsewhere", space.path().join("site/link")).unwrap();
    with_inputs(&space, "[\"site/**\"]");
    let ran = space.run(&["check"]).good();
    assert!(ran.err.contains("`site/link` -> ../elsewhere is a dangling link"), "{}", ran.err);
    let _socket = std::os::unix::net::UnixListener::bind(space.path().join("site/socket")).unwrap();
    let ran = space.run(&["check"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("`site/socket` is a device or a socket"), "{}", ran.err);
}

#[test]
fn lines_that_look_like_failures_are_told_although_the_script_succeeded() {
    let space = with_script("set +e\ncat /install/custom/issue >\"$1/etc/issue\"\nfrobnicate\ntrue\n");
    let count = std::fs::read_to_string(space.path().join("tiny.postinstall")).unwrap().lines().count();
    let ran = build(&space).good();
    // Long lines are broken anywhere.
    let without = |text: &str| text.replace([' ', '\n', '│'], "");
    let text = without(&ran.err);
    assert!(text.contains("postinstall::printed") && text.contains("exitedwith0"), "{text}");
    for said in [
        &format!("line {}: `cat: /install/custom/issue: No such file or directory`", count - 2),
        &format!("line {}:", count - 1),
        "frobnicate: not found",
        "tools = [\"frobnicate\"]",
        "set -e",
    ] {
        assert!(text.contains(&without(said)), "{said}: {text}");
    }
}

#[test]
fn several_scripts_run_in_order_and_each_is_a_cause_of_its_own() {
    let space = warm();
    space.write("more/one", "#!/bin/sh\nset -e\necho \"one $6\" >>\"$1/etc/order\"\n");
    space.write("more/two", "#!/bin/sh\nset -e\ntest -f \"$1/etc/order\"\necho \"two $6 $7\" >>\"$1/etc/order\"\n");
    chmod(&space.path().join("more/one"), 0o755);
    chmod(&space.path().join("more/two"), 0o755);
    let more = "script = \"tiny.postinstall\"\nscripts = [\"more/one\", \"more/two a b\"]";
    space.edit("image.toml", "script = \"tiny.postinstall\"", more);
    build(&space).good();
    // The fifth argument of a script is the first of its own; its number is 5 as xCAT gives four before it.
    assert_eq!(inside(&space, "cat /etc/order"), "one \ntwo b \n");
    let text = std::fs::read_to_string(space.path().join("more/two")).unwrap();
    space.write("more/two", &format!("{text}exit 3\n"));
    let plan = space.run(&["plan"]).good().out;
    assert!(plan.contains("more/two content changed") && !plan.contains("more/one"), "{plan}");
    let ran = build(&space);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("the postinstall script `more/two` exited with status 3"), "{}", ran.err);
}

#[test]
fn a_sites_own_host_keys_stay_and_those_that_a_script_made_are_told() {
    let space = with_script(
        "mkdir -p \"$1/etc/ssh\"\ncp site/ssh_host_a_key \"$1/etc/ssh/\"\ndate +%N >\"$1/etc/ssh/ssh_host_b_key\"\n",
    );
    space.write("site/ssh_host_a_key", "a key of all nodes\n");
    with_inputs(&space, "[\"site/*\"]");
    let ran = build(&space).good();
    assert!(ran.err.contains("postinstall::host_keys") && ran.err.contains("ssh_host_b_key"), "{}", ran.err);
    assert_eq!(inside(&space, "ls /etc/ssh"), "ssh_host_a_key\n");
}

#[test]
fn identities_that_a_script_makes_are_taken_out_and_secrets_are_told() {
    let space = with_script(
        "set -e\nid() { od -An -N16 -tx1 /dev/urandom | tr -d ' \\n'; }\nid >\"$1/etc/machine-id\"\nmkdir -p \"$1/etc/munge\" \"$1/etc/nvme\" \"$1/var/lib/systemd\"\n\
         id >\"$1/var/lib/systemd/random-seed\"\nhead -c 1024 /dev/urandom >\"$1/etc/munge/munge.key\"\nid >\"$1/etc/site-token\"\nid >\"$1/etc/site-kept\"\n\
         cp site/token \"$1/etc/site-own\"\necho nqn.2014-08.org.site:node >\"$1/etc/nvme/hostnqn\"\n\
         chmod 600 \"$1\"/etc/site-* \"$1/etc/munge/munge.key\"\n",
    );
    space.write("site/token", "q8Zr1vT0xKp5WmYc3LdJ7uHbEa9G\n");
    with_inputs(&space, "[\"site/*\"]");
    space.edit("image.toml", "[image]\n", "[image]\nkeep = [\"/etc/site-kept\"]\n");
    let ran = build(&space).good();
    let text = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("and it was removed: /etc/machine-id and 1 more"), "{}", ran.err);
    assert!(text.contains("created what looks like a secret: /etc/munge/munge.key and 1 more"), "{}", ran.err);
    let made = inside(
        &space,
        "stat -c '%s' /etc/machine-id; ls /var/lib/systemd/random-seed /etc/munge /etc/nvme /etc/site-* 2>/dev/null; true",
    );
    assert_eq!(
        made,
        "0\n/etc/site-kept\n/etc/site-own\n/etc/site-token\n\n/etc/munge:\nmunge.key\n\n/etc/nvme:\nhostnqn\n"
    );
    // Named as a file to look for: what to write silences it.
    space.edit("image.toml", "keep = [", "keep = [\"etc/munge/munge.key\", \"/etc/site-t*\", ");
    let ran = build(&space).good();
    assert!(!ran.err.contains("looks like a secret"), "{}", ran.err);
}

#[test]
fn accounts_of_a_directory_service_own_their_homes() {
    let space = with_script("chroot \"$1\" useradd -m -u 150123 person\n");
    let ran = build(&space).good();
    assert!(!ran.err.contains("gate::home"), "{}", ran.err);
    assert_eq!(inside(&space, "stat -c %u /home/person /home/person/.profile"), "150123\n150123\n");
    // Somebody else's home is told.
    let space = with_script("chroot \"$1\" useradd -m -u 4711 person\nchown 0:0 \"$1/home/person\"\n");
    let ran = build(&space).good();
    let text = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("/home/person belongs to 0, not to `person` (4711)"), "{text}");
}

#[test]
fn package_scripts_find_a_chroot_and_the_images_kernel() {
    let space = warm();
    let script = "set -e\nischroot\nuname -r >/etc/asked\ncat /proc/sys/kernel/osrelease >>/etc/asked\n\
                  perl -MPOSIX -e 'print((POSIX::uname())[2], \"\\n\")' >>/etc/asked\n\
                  grep -q \"$(uname -r)\" /proc/version\nmkdir -p /usr/lib/site\ntest -z \"$(tr -d '\\n' </proc/cmdline)\"\n";
    with_packages(&space, &[Deb::new("site-asks").script("postinst", script)]);
    let ran = resolve(&space, &[]).good();
    let said = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("scripts of otherpkgs-1 ask for the kernel's release"), "{said}");
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    assert!(lock.contains("asks_release = true"), "{lock}");
    let info: serde_json::Value =
        serde_json::from_slice(&std::fs::read(space.artefact("tiny", "build.json")).unwrap()).unwrap();
    let release = info["kernel_release"].as_str().unwrap();
    assert_eq!(inside(&space, "cat /etc/asked"), format!("{release}\n{release}\n{release}\n"));
    assert_eq!(inside(&space, "ls -A / | grep imgbuild || true"), "");
    // Nothing more is done, and whoever has the lock builds without being told again.
    let ran = space.run(&["build", "--locked", "--vendor", vendored().to_str().unwrap()]).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);
    // A lock that does not say so is refused where it may not be renewed.
    space.edit("image.lock", "asks_release = true\n", "");
    let ran = build(&space);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("does not record that scripts of otherpkgs-1 ask"), "{}", ran.err);
}

/// Scripts of real kernels, drivers and boot loaders start these by path.
#[test]
fn what_stands_in_for_programs_of_kernels_does_so_by_any_path_and_their_files_stay() {
    const NAMES: [&str; 7] =
        ["dracut", "grubby", "installkernel", "kernel-install", "new-kernel-pkg", "update-grub", "mkinitrd"];
    let own = "#!/bin/sh\necho \"$0 $*\" >>/opt/ran\nexit 7\n";
    let mut programs = Deb::new("site-programs");
    programs.files.extend(NAMES.map(|name| (format!("usr/sbin/{name}"), own.as_bytes().to_vec())));
    programs.links.push(("usr/sbin/site-link".to_owned(), "update-grub".to_owned()));
    let script = format!(
        "set -e\nfor name in {}; do\n$name by-name\n/usr/sbin/$name by path\n/usr/bin/../sbin/$name\n(cd /usr/sbin && ./$name relative)\n\
         env -i /usr/sbin/$name\nperl -e 'system({{$ARGV[0]}} @ARGV) and die' /usr/sbin/$name\ntest \"$(tail -n1 /usr/sbin/$name)\" = 'exit 7'\ndone\n\
         /usr/sbin/site-link\nPATH=/usr/sbin:/usr/bin dracut\n\
         for number in 1 2 3 4 5 6 7 8 9; do /usr/sbin/dracut $number || touch /opt/failed & done\nwait\n\
         mv /usr/sbin/dracut /usr/sbin/dracut.aside\nmv /usr/sbin/dracut.aside /usr/sbin/dracut\n\
         /usr/bin/uname -r >/etc/asked\nif grep covers /proc/self/mountinfo; then exit 9; fi\n",
        NAMES.join(" ")
    );
    let calls = Deb::new("site-calls").fields("Depends: site-programs\n").script("postinst", &script);
    let mut layers = Vec::new();
    for assembly in ["overlay", "copy"] {
        let space = warm();
        with_packages(&space, &[programs.clone(), calls.clone()]);
        resolve(&space, &[("IMGBUILD_ASSEMBLE", assembly)]).good();
        let info: serde_json::Value =
            serde_json::from_slice(&std::fs::read(space.artefact("tiny", "build.json")).unwrap()).unwrap();
        layers.push(info["layers"].clone());
        assert_eq!(
            inside(&space, "ls /opt; cat /etc/asked"),
            format!("site-calls\nsite-programs\n{}\n", info["kernel_release"].as_str().unwrap())
        );
        for name in NAMES {
            assert_eq!(inside(&space, &format!("cat /usr/sbin/{name}")), own, "{name}");
        }
    }
    assert_eq!(layers[0], layers[1]);
}

#[test]
fn systemds_tools_do_nothing_and_succeed_as_in_any_chroot() {
    let commands = "set -e\nsystemctl daemon-reload\nsystemctl restart ssh.service\nudevadm control --reload\n\
                    udevadm trigger\nsystemd-detect-virt --chroot\nuname -r\n";
    let ran = service().space.run(&["shell", "--", "/bin/sh", "-c", commands]).good();
    assert!(!ran.err.contains("not been booted"), "{}{}", ran.out, ran.err);
}

#[test]
fn directories_of_earlier_layers_can_be_renamed_with_the_same_bytes_either_way() {
    let renames = "rename('/usr/share/doc', '/usr/share/doc.was') or die \"doc: $!\"; \
                   symlink('doc.was', '/usr/share/doc') or die; chdir('/usr/share'); \
                   rename('base-passwd', 'passwd.was') or die \"relative: $!\"; \
                   rename('/usr/share/doc.was/adduser', '/opt/adduser') or die \"below: $!\"; \
                   mkdir('/opt/a'); rename('/opt/a', '/opt/b') or die \"new: $!\"; \
                   rename('/etc/hostname-x', '/x') and die 'what is not there';";
    let package = Deb::new("site-renames")
        .script("preinst", &format!("set -e\nperl -e \"{}\"\n", renames.replace('"', "\\\"").replace('$', "\\$")));
    let script = "chroot \"$1\" perl -e \"rename('/var/lib/dpkg/info', '/opt/info') or die\"\nmv \"$1/opt/info\" \"$1/var/lib/dpkg/info\"\n";
    let mut layers = Vec::new();
    for assembly in ["overlay", "copy"] {
        let space = with_script(script);
        with_packages(&space, std::slice::from_ref(&package));
        resolve(&space, &[("IMGBUILD_ASSEMBLE", assembly)]).good();
        let info: serde_json::Value =
            serde_json::from_slice(&std::fs::read(space.artefact("tiny", "build.json")).unwrap()).unwrap();
        layers.push(info["layers"].clone());
        if assembly == "overlay" {
            let said = inside(
                &space,
                "ls -d /usr/share/doc.was/dpkg /usr/share/doc/dpkg /opt/adduser /usr/share/passwd.was /opt/b; ls -A /usr/share /opt | grep imgbuild || true",
            );
            let expected =
                "/opt/adduser\n/opt/b\n/usr/share/doc.was/dpkg\n/usr/share/doc/dpkg\n/usr/share/passwd.was\n";
            assert_eq!(said, expected);
        }
    }
    assert_eq!(layers[0], layers[1]);
}

#[test]
fn microcode_of_a_package_in_a_list_stands_in_front_of_the_initrd() {
    let space = warm();
    let mut package = Deb::new("intel-microcode");
    for (name, text) in [("06-01-02", "one"), ("06-01-01", "two"), ("06-02-01.initramfs", "three")] {
        package.files.push((format!("lib/firmware/intel-ucode/{name}"), text.as_bytes().to_vec()));
    }
    with_packages(&space, &[package]);
    resolve(&space, &[]).good();
    let initrd = space.artefact("tiny", "initrd-stateless");
    let place = tempfile::tempdir().unwrap();
    // GNU cpio stops at the first archive's end, as the kernel's search for microcode does.
    let script = format!("cpio -i --quiet <{} 2>&1; find . -type f", initrd.display());
    let ran: Ran = Command::new("sh").args(["-c", &script]).current_dir(place.path()).output().unwrap().into();
    assert_eq!(ran.out, "./kernel/x86/microcode/GenuineIntel.bin\n", "{}", ran.err);
    let bytes = std::fs::read(place.path().join("kernel/x86/microcode/GenuineIntel.bin")).unwrap();
    assert_eq!(bytes, b"twoonethree");
    // The rest is the initrd as ever.
    let all = std::fs::read(&initrd).unwrap();
    let start = all.windows(4).position(|bytes| bytes == [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
    assert_eq!(start % 512, 0);
    assert!(zstd::decode_all(&all[start..]).unwrap().starts_with(b"070701"));
}

#[test]
fn a_script_that_spins_is_ended_and_named() {
    let space = warm();
    let script = std::fs::read_to_string(space.path().join("tiny.postinstall")).unwrap();
    space.write("tiny.postinstall", &format!("{script}\necho spinning\nsh -c 'while :; do :; done' spinner\n"));
    let ran = space.run(&["--script-minutes", "0.05", "build", "--locked", "--vendor", vendored().to_str().unwrap()]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    let said: String = ran.err.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    for words in ["did not finish within 1 min", "tiny.postinstall", "done spinner", "spinning", "--script-minutes"] {
        assert!(said.contains(words), "{words}: {}", ran.err);
    }
    // Endless output, a fork bomb, all memory: each is ended and named, whatever it waits for.
    for (line, limits, words) in [
        ("yes endless", "output=3M", "printed more than"),
        ("bomb() { bomb & bomb; }; bomb; wait", "processes=60", "has more than 60 processes"),
        ("tail /dev/zero", "memory=100M", "takes more than"),
    ] {
        space.write("tiny.postinstall", &format!("{script}\n{line}\n"));
        let vendored = vendored();
        let build = ["--script-limits", limits, "build", "--locked", "--vendor", vendored.to_str().unwrap()];
        let ran = space.run(&build);
        let said: String = ran.err.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert_eq!(ran.code, 4, "{line}: {said}");
        for words in ["went over a limit", words, "tiny.postinstall", "--script-limits"] {
            assert!(said.contains(words), "{words}: {}", ran.err);
        }
    }
    space.write("tiny.postinstall", &script);
    space.run(&["build", "--locked", "--vendor", vendored().to_str().unwrap()]).good();
}

#[test]
fn device_nodes_of_packages_and_scripts_are_left_out_by_name() {
    let makes = "set -e\numask 022\nd=/opt/site/dev\nmkdir -p $d\nmknod -m 666 $d/null c 1 3\nmknod $d/zero c 1 5\n\
                 chown 1:1 $d/zero\nmv $d/zero $d/moved\ncd $d\nmknod random c 1 8\nmknod ../dev/console c 5 1\nmkfifo $d/pipe\n\
                 test -e $d/null\n! mknod $d/null c 1 3 2>/dev/null\n\
                 for other in 'disk b 8 0' 'mem c 1 1' 'port c 1 4' 'kvm c 10 232'; do ! mknod $other 2>/dev/null; done\n\
                 chmod 777 $d\n! setpriv --reuid 65534 --clear-groups mknod $d/theirs c 1 3 2>/dev/null\nchmod 755 $d\n";
    let space = with_script("mknod -m 600 \"$1/opt/site/dev/tty\" c 5 0\n");
    with_packages(&space, &[Deb::new("site-chroot").script("postinst", makes)]);
    let ran = resolve(&space, &[]).good();
    for words in [
        "rootfs/otherpkgs-1 makes device nodes",
        "/opt/site/dev/console, /opt/site/dev/moved, /opt/site/dev/null, /opt/site/dev/random",
        "c /opt/site/dev/console 0644 0 0 - 5:1",
        "rootfs/postinstall makes device nodes, which images do not have: /opt/site/dev/tty",
        "c /opt/site/dev/tty 0600 0 0 - 5:0",
    ] {
        assert!(ran.err.contains(words), "{words}\n{}", ran.err);
    }
    assert_eq!(inside(&space, "ls /opt/site/dev; test -p /opt/site/dev/pipe"), "pipe\n");
}

#[test]
fn a_package_that_disappears_is_no_failure() {
    let file = |text: &str| vec![("opt/site/shared".to_owned(), text.as_bytes().to_vec())];
    let old = Deb { files: file("old\n"), ..Deb::new("site-aold") };
    let new = Deb { files: file("new\n"), ..Deb::new("site-new") }.fields("Replaces: site-aold\n");
    // In one transaction, and in one after the other: there it has no file left.
    for (list, is_gone) in [("site-aold\nsite-new\n", false), ("site-aold\n#NEW_INSTALL_LIST#\nsite-new\n", true)] {
        let space = warm();
        with_packages(&space, &[old.clone(), new.clone()]);
        space.write("o.pkglist", list);
        resolve(&space, &[]).good();
        assert_eq!(inside(&space, "cat /opt/site/shared; dpkg --audit"), "new\n");
        let state =
            "dpkg-query -W -f '${db:Status-Status}\\n' site-new site-aold 2>/dev/null | grep -c '^installed' || true";
        assert!(!is_gone || inside(&space, state) == "1\n");
    }
}

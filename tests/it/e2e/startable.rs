//! Images that no node could start are refused before anything is packed, with the line at fault.

use super::offline::{build, warm};
use crate::support::Space;

/// Lets the script end with some more lines.
fn script(space: &Space, text: &str) {
    let path = space.path().join("tiny.postinstall");
    let plain = std::fs::read_to_string(&path).unwrap();
    let plain = plain.split("\n# more\n").next().unwrap();
    std::fs::write(&path, format!("{plain}\n# more\n{text}\n")).unwrap();
}

#[track_caller]
fn refused(space: &Space, words: &[&str]) {
    let ran = build(space);
    assert_eq!(ran.code, 1, "{}", ran.err);
    // Lines are folded, also within words.
    let flat = |text: &str| text.split_whitespace().filter(|word| *word != "│").collect::<String>();
    let said = flat(&ran.err);
    for word in ["no node could boot the image"].iter().chain(words) {
        assert!(said.contains(&flat(word)), "{word}: {}", ran.err);
    }
    assert!(!space.path().join("out/tiny").exists(), "published");
}

#[test]
fn an_image_that_no_node_could_start_is_refused_with_the_line_at_fault() {
    let space = warm();
    let exlist = std::fs::read_to_string(space.path().join("tiny.exlist")).unwrap();
    let lines = exlist.lines().count();
    let exclude = |line: &str| space.write("tiny.exlist", &format!("{exlist}{line}\n")).path().to_owned();
    let at = format!("(tiny.exlist:{}:1)", lines + 1);

    exclude("./usr/sbin/init*");
    refused(&space, &["it has no init", "`./usr/sbin/init*`", &at, "+./usr/sbin/init"]);
    exclude("./usr/lib/*/libc.so.6");
    refused(&space, &["libc.so.6", "`./usr/lib/*/libc.so.6`", &at]);
    exclude("./usr/bin/dash");
    refused(&space, &["/usr/sbin/init needs /bin/sh", "leaves out /usr/bin/dash"]);
    exclude("./etc/passwd*");
    refused(&space, &["it has no accounts: `./etc/passwd*`", &at, "+./etc/passwd"]);
    // Brought back, it starts.
    exclude("./usr/bin/da*\n+./usr/bin/dash");
    build(&space).good();
    std::fs::remove_dir_all(space.path().join("out")).unwrap();
    space.write("tiny.exlist", &exlist);

    script(&space, "rm \"$1/sbin/init\"");
    refused(&space, &["it has no init that can be executed", "/usr/lib/systemd/systemd", "systemd-sysv"]);
    script(&space, "chmod 644 \"$1/sbin/init\"");
    refused(&space, &["it has no init that can be executed"]);
    script(&space, "sed -i '1s,.*,#!/usr/bin/python3,' \"$1/sbin/init\"");
    refused(&space, &["/usr/sbin/init needs /usr/bin/python3, which the image does not have"]);
    script(&space, "cp \"$1/bin/dash\" \"$1/sbin/init\"; rm -f \"$1\"/lib64/ld-linux*");
    refused(&space, &["/usr/sbin/init needs /lib64/ld-linux-x86-64.so.2, which the image does not have"]);
    script(&space, "sed -i '/^root:/s,[^:]*$,/bin/zsh,' \"$1/etc/passwd\"");
    refused(&space, &["root's shell is /bin/zsh, which the image does not have"]);
    // Who may not log in is meant so; an init behind links is one, and a static one needs nothing.
    script(
        &space,
        "sed -i '/^root:/s,[^:]*$,/usr/sbin/nologin,' \"$1/etc/passwd\"; mv \"$1/sbin/init\" \"$1/opt/init\"; \
         ln -s /opt/../opt/init \"$1/opt/other\"; ln -s ../../opt/other \"$1/sbin/init\"",
    );
    build(&space).good();
}

#[test]
fn a_service_whose_program_is_left_out_is_told_with_the_line_at_fault() {
    let space = warm();
    let exlist = std::fs::read_to_string(space.path().join("tiny.exlist")).unwrap();
    let lines = exlist.lines().count();
    script(
        &space,
        "wants=\"$1/etc/systemd/system/multi-user.target.wants\"; mkdir -p \"$wants\" \"$1/usr/lib/systemd/system\"\n\
         for name in thing other; do\n\
         printf '[Service]\\nExecStart=/usr/local/sbin/%s -x\\n' $name >\"$1/usr/lib/systemd/system/$name.service\"\n\
         printf '#!/bin/sh\\n' >\"$1/usr/local/sbin/$name\"; chmod 755 \"$1/usr/local/sbin/$name\"\n\
         done\n\
         ln -s /usr/lib/systemd/system/thing.service \"$wants/\"",
    );
    let said = |text: &str| text.split_whitespace().filter(|word| *word != "│").collect::<String>();
    let ran = build(&space).good();
    assert!(!ran.err.contains("cannot start"), "{}", ran.err);
    // The other one is not enabled.
    space.write("tiny.exlist", &format!("{exlist}./usr/local/sbin/*\n"));
    let ran = build(&space).good();
    let told = said(&ran.err);
    for word in [
        "`thing.service` is enabled and cannot start",
        &format!("`./usr/local/sbin/*` (tiny.exlist:{}:1) leaves out /usr/local/sbin/thing", lines + 1),
        "[services] disable = [\"thing\"]",
    ] {
        assert!(told.contains(&said(word)), "{word}: {}", ran.err);
    }
    assert!(!ran.err.contains("other.service"), "{}", ran.err);
    space.write("tiny.exlist", &format!("{exlist}./usr/local/sbin/*\n+./usr/local/sbin/thing\n"));
    let ran = build(&space).good();
    assert!(!ran.err.contains("cannot start"), "{}", ran.err);
}

#[test]
fn a_mount_that_a_node_cannot_make_is_refused_unless_it_may_fail() {
    let space = warm();
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let with = |line: &str| {
        let text = recipe.replacen("[system]\n", &format!("[system]\nfstab = [\n    \"{line}\",\n]\n"), 1);
        let at = text.lines().position(|other| other.contains(line)).unwrap() + 1;
        space.write("image.toml", &text);
        at
    };
    let said = |text: &str| text.split_whitespace().filter(|word| *word != "│").collect::<String>();
    for (line, words) in [
        ("head:/home /home nfs defaults 0 0", ["/home(nfs),whichneeds/sbin/mount.nfs", "addthepackage`nfs-common`"]),
        ("LABEL=x /data zfs defaults 0 0", ["/data(zfs),whichneedsthekernel'smodule`zfs`", "anotherkernel"]),
    ] {
        let at = with(line);
        let ran = build(&space);
        assert_eq!(ran.code, 1, "{}", ran.err);
        let told = said(&ran.err);
        assert!(
            told.contains(&format!("image.toml:{at}:")) && words.iter().all(|word| told.contains(word)),
            "{}",
            ran.err
        );
        assert!(!space.path().join("out/tiny").exists(), "published");
    }
    with("head:/home /home nfs nofail 0 0");
    let ran = build(&space).good();
    assert!(said(&ran.err).contains("addthepackage`nfs-common`"), "{}", ran.err);
    with("LABEL=x /data ext4 defaults 0 0");
    let ran = build(&space).good();
    assert!(!ran.err.contains("/data"), "{}", ran.err);
}

#[test]
fn an_interface_without_its_module_is_told_with_the_file_that_makes_it() {
    let space = warm();
    space.write("net/ib0.netdev", "[NetDev]\nName=ib0.8001\nKind=ipoib\n");
    space.write("net/bond0.netdev", "[NetDev]\nName=bond0\nKind=bond\n");
    space.write(
        "a.synclist",
        "net/ib0.netdev -> /etc/systemd/network/ib0.netdev\nnet/bond0.netdev -> /etc/systemd/network/bond0.netdev\n",
    );
    space.edit("image.toml", "[exclude]", "[sync]\nlists = [\"a.synclist\"]\n\n[exclude]");
    let exlist = std::fs::read_to_string(space.path().join("tiny.exlist")).unwrap();
    space.write("tiny.exlist", &format!("{exlist}./usr/lib/modules/*/bonding.ko*\n"));
    let ran = build(&space).good();
    let said = ran.err.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    assert!(said.contains("/etc/systemd/network/bond0.netdev makes an interface of kind bond"), "{}", ran.err);
    assert!(said.contains("bonding.ko is left out by an exclude list"), "{}", ran.err);
    assert!(said.contains("/etc/systemd/network/ib0.netdev makes an interface of kind ipoib"), "{}", ran.err);
    assert!(said.contains("module `ib_ipoib`: the image does not have it"), "{}", ran.err);
}

/// What a node does not have as the recipe, the lock or its programs want it: the node starts, and the build says so.
#[test]
fn what_a_node_has_otherwise_than_it_is_wanted_is_told() {
    let space = warm();
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    let made = |table: &str| -> String {
        let from = lock.find(&format!("{table} = [")).unwrap_or_else(|| panic!("no {table}: {lock}"));
        let name = lock[from..].split("name = \"").nth(1).unwrap();
        name.split('"').next().unwrap().to_owned()
    };
    let (group, exlist) = (made("groups"), std::fs::read_to_string(space.path().join("tiny.exlist")).unwrap());
    space
        .write("site/shadow", "root:*:19000:0:99999:7:::\n")
        .write("site/group", &format!("root:x:0:\n{group}:x:4999:\n"))
        .write("site/motd", "site\n")
        .write("a.synclist", "site/shadow -> /etc/shadow\nsite/group -> /etc/group\nsite/motd -> /opt/site/motd\n")
        .write("tiny.exlist", &format!("{exlist}./opt/site*\n"));
    crate::support::cluster::chmod(&space.path().join("site/shadow"), 0o644);
    space.edit(
        "image.toml",
        "[boot]\n",
        "[sync]\nlists = [\"a.synclist\"]\n\n[boot]\ntmpfs = { \"/var/lib\" = \"10m\", \"/srv\" = \"1m\" }\n",
    );
    space.edit("image.toml", "[system]\n", "[system]\nexports = [\"/srv/nfs *(ro)\", \"/export/x *(ro)\"]\n");
    let ran = build(&space).good();
    let flat = |text: &str| text.split_whitespace().filter(|word| *word != "│").collect::<String>();
    let said = flat(&ran.err);
    for words in [
        "/etc/shadow has mode 0644: every user of a node can read the password hashes",
        "run `chmod 0640` on it",
        "a.synclist:1:1",
        &format!("/etc/group gives `{group}` the id 4999, but the packages were installed with"),
        &format!("groups.{group} = 4999"),
        "/etc/group is missing accounts that the image's packages created (image.lock):",
        "the tmpfs on /var/lib hides",
        "/etc/exports exports /export/x, which does not exist in the image",
        "/opt/site/motd comes from the recipe but is excluded by `./opt/site*`",
    ] {
        assert!(said.contains(&flat(words)), "{words}: {}", ran.err);
    }
    // What is empty, and what is mounted over, is as it should be.
    for words in ["the tmpfs on /srv", "exports /srv/nfs"] {
        assert!(!said.contains(&flat(words)), "{words}: {}", ran.err);
    }
}

#[test]
fn a_locale_that_is_left_out_is_told_with_the_line_at_fault() {
    let space = warm();
    let exlist = std::fs::read_to_string(space.path().join("tiny.exlist")).unwrap();
    space.edit("image.toml", "[system]\n", "[system]\nlocale = \"xx_XX.UTF-8\"\n");
    script(&space, "mkdir -p \"$1/usr/lib/locale/xx_XX.utf8\"; echo x >\"$1/usr/lib/locale/xx_XX.utf8/LC_CTYPE\"");
    build(&space).good();
    space.write("tiny.exlist", &format!("{exlist}./usr/lib/locale*\n"));
    let ran = build(&space);
    let flat = |text: &str| text.split_whitespace().filter(|word| *word != "│").collect::<String>();
    assert_eq!(ran.code, 1, "{}", ran.err);
    for words in [
        "not provide the locale `xx_XX.UTF-8`",
        "`./usr/lib/locale*` (tiny.exlist:",
        "+./usr/lib/locale/xx_XX.utf8/LC_CTYPE",
    ] {
        assert!(flat(&ran.err).contains(&flat(words)), "{words}: {}", ran.err);
    }
}

#[test]
fn a_misspelt_time_zone_has_near_names() {
    let space = warm();
    script(
        &space,
        "mkdir -p \"$1/usr/share/zoneinfo/Europe\"; for town in Berlin Madrid; do echo x >\"$1/usr/share/zoneinfo/Europe/$town\"; done",
    );
    for (zone, near) in [("Europe/Brlin", "Europe/Berlin"), ("berlin", "Europe/Berlin"), ("Madrid", "Europe/Madrid")] {
        let text = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
        let plain: String =
            text.lines().filter(|line| !line.starts_with("timezone")).map(|line| format!("{line}\n")).collect();
        space.write("image.toml", &plain.replace("[system]\n", &format!("[system]\ntimezone = \"{zone}\"\n")));
        let ran = build(&space);
        assert!(ran.code == 1 && ran.err.contains(&format!("did you mean {near}")), "{zone}: {}", ran.err);
    }
}

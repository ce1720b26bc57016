//! Profiles of Confluent's imgutil.

use super::{all_files, assert_row, imported, rows, text};
use crate::support::Space;

/// After the shape of a profile of EL 9.
fn profile(name: &str) -> Space {
    let space = Space::new();
    let write = |file: &str, text: &str| {
        space.write(&format!("{name}/{file}"), text);
    };
    write(
        "profile.yaml",
        "label: Rocky Linux 9.4 (Blue Onyx) (Diskless Boot)\nkernelargs: quiet console=ttyS0 rd.iscsi.password=made-up confluent_imagemethod=untethered # a comment\nsurprise: 1\n",
    );
    write(
        "pkglist",
        "system-release\nchrony kernel net-tools   # several\n<more.list>\n%onlyarch x86_64\nshim-x64.x86_64 grub2-efi-x64\n%onlyarch aarch64\nshim-aa64.aarch64\n%onlyversions 8\nold\n",
    );
    write("pkglist.aarch64", "x\n");
    write("more.list", "openssh-server\n@core\n");
    write("build-info", "PACKEDFROM=/x\n");
    write("scripts/onboot.sh", "run_remote onboot.custom\n");
    write("scripts/onboot.d/10-mount", "#!/bin/sh\nmount /scratch\n");
    write("scripts/onboot.d/20-fetch", "#!/bin/sh\n. /etc/confluent/functions\n");
    write("scripts/firstboot.d/01-x.sh", "echo root:made-up | chpasswd\ntrue\n");
    write("scripts/post.d/x", "grub2-install\n");
    write("scripts/onboot.custom", "# nothing\n");
    write("ansible/onboot.d/x.yml", "");
    write("odd.txt", "");
    space
}

#[test]
fn profiles_become_recipes() {
    let space = profile("rocky-9.4-x86_64-diskless");
    let name = "rocky-9.4-x86_64-diskless";
    let report = imported(&space, &["import", "confluent", name]);
    let recipe: toml::Table = text(&space, name, "image.toml").parse().unwrap();
    assert_eq!((recipe["image"]["distro"].as_str(), recipe["image"]["release"].as_str()), (Some("rocky"), Some("9")));
    assert_eq!(recipe["boot"]["cmdline"].to_string(), "[\"quiet\", \"console=ttyS0\"]");
    assert_eq!(
        recipe["node"]["postscripts"].to_string(),
        "[\"scripts/firstboot.d-01-x.sh\", \"scripts/onboot.d-10-mount\"]"
    );
    let list = text(&space, name, &format!("{name}.pkglist"));
    let names: Vec<&str> = list.lines().skip(1).collect();
    assert_eq!(
        names,
        [
            "system-release",
            "chrony",
            "kernel",
            "net-tools",
            "openssh-server",
            "@core",
            "shim-x64.x86_64",
            "grub2-efi-x64"
        ]
    );
    assert!(!all_files(&space).contains("made-up") && !report.to_string().contains("made-up"));
    for (key, verdict, word) in [
        ("surprise", "decide", "no field"),
        ("kernelargs", "stays", "Confluent boots"),
        ("kernelargs", "decide", "/proc/cmdline"),
        ("pkglist", "stays", "for another CPU"),
        ("pkglist", "stays", "for another release"),
        ("scripts/onboot.sh", "stays", "Confluent's own"),
        ("scripts/onboot.d/20-fetch", "decide", "`/etc/confluent`"),
        ("scripts/firstboot.d/01-x.sh", "differs", "at each boot"),
        ("scripts/firstboot.d/01-x.sh", "decide", "a password"),
        ("scripts/post.d/x", "decide", "written to a disk"),
        ("scripts/onboot.custom", "stays", "no commands"),
        ("ansible", "decide", "playbooks"),
        ("odd.txt", "decide", "not read"),
        ("build-info", "stays", "made by imgutil"),
    ] {
        assert_row(&report, key, verdict, word);
    }
    assert!(rows(&report, "surprise").iter().all(|row| row.1 == 3));
}

#[test]
fn syncfiles_become_synclists() {
    let space = profile("el9");
    let path = space.path().canonicalize().unwrap();
    let path = path.to_str().unwrap();
    space
        .write("srv/hosts", "127.0.0.1 localhost\n")
        .write("srv/motd", "x\n")
        .write("srv/users", "")
        .write("srv/shadow", "root:$6$abcdefgh$0123456789ab:1::::::\n");
    space.write("el9/more", format!("{path}/srv/motd -> /etc/motd (owner=root,group=adm,permissions=640)\n").as_str());
    let lines = format!(
        "# comment\n<more>\n{path}/srv/hosts -> /etc/hosts\n{path}/srv/hosts -> n1-n8:/etc/hosts2\n{path}/srv/missing -> /etc/missing\n{path}/srv/shadow -> /etc/shadow\n\
         APPENDONCE:\n{path}/srv/users -> /etc/motd\n{path}/srv/users -> /etc/issue\nMERGE:\n{path}/srv/users -> /etc/passwd\nODD:\nbad$ -> /x\n"
    );
    space.write("el9/syncfiles", &lines);
    let arguments = ["import", "confluent", "el9", "--packages", "el9/more.list", "--distro", "alma", "--release", "9"];
    let report = imported(&space, &[&arguments[..], &["--files", path]].concat());
    let list = text(&space, "el9", "el9.synclist");
    let below = "el9.d/synced/srv";
    let expected = format!(
        "{below}/motd -> /etc/motd\n{below}/hosts -> /etc/hosts\n{below}/hosts -> (n1-n8) /etc/hosts2\nAPPEND:\n{below}/users -> /etc/issue\nMERGE:\n{below}/users -> /etc/passwd\n"
    );
    assert_eq!(list.split_once('\n').unwrap().1, expected);
    let recipe: toml::Table = text(&space, "el9", "image.toml").parse().unwrap();
    assert_eq!(recipe["sync"]["owner"]["/etc/motd"].as_str(), Some("root:adm 0640"));
    assert_eq!(text(&space, "el9", "el9.pkglist").lines().skip(1).collect::<Vec<_>>(), ["openssh-server", "@core"]);
    let workspace = std::fs::read_to_string(space.path().join("new/imgbuild.toml")).unwrap();
    assert!(!workspace.contains("srv/"), "{workspace}");
    assert_eq!(text(&space, "el9", "el9.d/synced/srv/hosts"), "127.0.0.1 localhost\n");
    assert!(!all_files(&space).contains("0123456789ab"));
    assert_row(&report, "syncfiles", "decide", "/etc/motd is both copied and added to");
    assert_row(&report, "syncfiles", "decide", "`srv/missing` is not read");
    assert_row(&report, "syncfiles", "decide", "the hash of a password");
    assert_row(&report, "syncfiles", "decide", "no meaning in a synclist");
    assert_row(&report, "syncfiles", "decide", "a section that Confluent does not have");
    assert_row(&report, "syncfiles", "differs", "for some nodes");
    // Nothing of this host is read without --files.
    let report = imported(&space, &[&arguments[..], &["--name", "other"]].concat());
    assert!(!all_files(&space).contains("other.d/synced"), "{report:#}");
    assert_row(&report, "syncfiles", "decide", "pass --files DIR");
}

#[test]
fn profiles_of_other_distributions_are_known_by_their_names() {
    for (name, distro, release) in [
        ("alma-8.10-x86_64-diskless", "alma", "8"),
        ("rhel-9.2-x86_64-default", "rhel", "9"),
        ("sles-15.5-x86_64-diskless", "sles", "15.5"),
        ("ubuntu-22.04-x86_64-diskless", "ubuntu", "jammy"),
        ("centos_stream-9-x86_64-diskless", "centos", "9"),
    ] {
        let space = Space::new();
        space.write(&format!("{name}/pkglist"), "vim\n");
        let ran = space.run(&["import", "confluent", name, "--into", "new"]).good();
        let recipe: toml::Table =
            text(&space, name, "image.toml").parse().unwrap_or_else(|error| panic!("{error}: {}", ran.out));
        assert_eq!(
            (recipe["image"]["distro"].as_str(), recipe["image"]["release"].as_str()),
            (Some(distro), Some(release))
        );
    }
}

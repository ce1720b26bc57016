//! The service example: booted, one of its repositories updated; and what is said of units that cannot be.

use std::process::Command;

use boot::{FileServer, Machine};

use super::machine::{Node, cmdline, expect, free_port, start};
use super::{service, store, tiny};
use crate::support::{Space, copy_locked};

#[test]
fn boot_service_node_starts_what_the_recipe_says_and_nothing_else() {
    let built = service();
    let server = FileServer::start(&built.space.artefact("service", ".").canonicalize().unwrap()).unwrap();
    let port = free_port();
    let words = cmdline(built, "service", &format!("http://10.0.2.2:{}", server.port()));
    let running = start(built, "service", words, |machine| {
        machine.network = vec![Machine::user_network("52:54:00:00:00:04", Some(port))];
    });
    expect(&running, "imgbuild: the image is complete");
    let node = Node::forwarded(port, &built.key);
    node.wait(&running);
    // Until all that boot starts has started: only then does it mean something that a service has not.
    assert_eq!(
        node.run("systemctl is-system-running --wait || true; systemctl --failed --plain --no-legend"),
        "running"
    );
    let ask = |question: &str, unit: &str| node.run(&format!("systemctl {question} {unit} 2>/dev/null || true"));
    // Disabled, as an init script and as a unit of its own; no preset brings them back on a node that starts with an
    // empty machine-id.
    for unit in ["isc-dhcp-server", "fstrim.timer"] {
        assert_eq!(ask("is-enabled", unit), "disabled", "{unit}");
        assert_eq!(ask("is-active", unit), "inactive", "{unit}");
    }
    assert_eq!(node.run("pgrep -x dhcpd || echo none"), "none");
    assert_eq!(node.run("test -s /etc/machine-id && test -x /usr/sbin/dhcpd && echo both"), "both");
    for unit in ["apt-daily.timer", "apt-daily-upgrade.timer"] {
        assert_eq!(ask("is-enabled", unit), "masked", "{unit}");
        assert_eq!(ask("is-active", unit), "inactive", "{unit}");
    }
    assert_eq!(ask("is-enabled", "site-sn"), "enabled");
    assert_eq!(ask("is-active", "site-sn"), "active");
    assert_eq!(node.run("cat /run/site-sn"), "site-sn 1.0");
    // A disabled unit can still be started by hand: it is not masked.
    assert_eq!(ask("start", "fstrim.timer"), "");
    assert_eq!(ask("is-active", "fstrim.timer"), "active");
    // Exports, and the server that serves them.
    assert_eq!(node.run("grep -v '^#' /etc/exports"), "/install *(ro,no_root_squash,sync,fsid=13)");
    let exported = node.run("exportfs -s");
    assert!(exported.starts_with("/install") && exported.contains("fsid=13") && exported.contains("ro"), "{exported}");
    // Mounts: those of [boot] tmpfs, then the recipe's lines in their order.
    let fstab = node.run("grep -v '^#' /etc/fstab");
    let points: Vec<&str> = fstab.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(points, ["/tmp", "/proc", "/sys", "/dev/pts", "/", "/var/tmp"]);
    assert_eq!(node.run("findmnt -no FSTYPE,SIZE /var/tmp | tr -s ' '"), "tmpfs 10M");
    assert!(node.run("findmnt -no OPTIONS /dev/pts").contains("gid=5"));
    // Packages of both repositories.
    let packages = node.run("dpkg-query -W site-sn site-console");
    assert_eq!(packages.split_whitespace().collect::<Vec<_>>(), ["site-console", "1.0", "site-sn", "1.0"]);
}

/// A copy of the built example with the same lock.
fn copy() -> Space {
    let built = service();
    let space = Space::new().with_store(&store());
    copy_locked(built.space.path(), space.path());
    let ran = space.run(&["build", "--locked"]).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);
    space
}

#[track_caller]
fn make(space: &Space, package: &str, version: &str) {
    let made = Command::new(space.path().join("make-packages")).args([package, version]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn versions(space: &Space) -> String {
    space
        .run(&["shell", "--", "dpkg-query", "-W", "-f", "${Package} ${Version}\n", "site-sn", "site-console"])
        .good()
        .out
}

#[test]
fn network_an_update_of_one_repository_runs_otherpkgs_and_what_lies_below() {
    let space = copy();
    make(&space, "site-sn", "1.1");
    // The plan says which file, and that base, packages, kernel and initrd stay.
    insta::assert_snapshot!(crate::support::without_estimate(&space.run(&["plan", "-v"]).good().out), @r"
    service
      rootfs   run
        lock           run
          image.toml:14 package file of site-sn: otherpkgs/xcat-core/site-sn_1.0_all.deb -> otherpkgs/xcat-core/site-sn_1.1_all.deb
        tools          keep
        base           keep
        tools-postinstall keep
        packages-1     keep
        otherpkgs-1    depends
          image.toml:14 package file of site-sn: otherpkgs/xcat-core/site-sn_1.0_all.deb -> otherpkgs/xcat-core/site-sn_1.1_all.deb (through rootfs/lock)
        kernel         depends
          image.toml:14 package file of site-sn: otherpkgs/xcat-core/site-sn_1.0_all.deb -> otherpkgs/xcat-core/site-sn_1.1_all.deb (through rootfs/lock)
        system         depends
          image.toml:14 package file of site-sn: otherpkgs/xcat-core/site-sn_1.0_all.deb -> otherpkgs/xcat-core/site-sn_1.1_all.deb (through rootfs/lock)
        postinstall    depends
          image.toml:14 package file of site-sn: otherpkgs/xcat-core/site-sn_1.0_all.deb -> otherpkgs/xcat-core/site-sn_1.1_all.deb (through rootfs/lock)
        services       depends
          image.toml:14 package file of site-sn: otherpkgs/xcat-core/site-sn_1.0_all.deb -> otherpkgs/xcat-core/site-sn_1.1_all.deb (through rootfs/lock)
        gate           depends
          image.toml:14 package file of site-sn: otherpkgs/xcat-core/site-sn_1.0_all.deb -> otherpkgs/xcat-core/site-sn_1.1_all.deb (through rootfs/lock)
        postscripts    depends
          image.toml:14 package file of site-sn: otherpkgs/xcat-core/site-sn_1.0_all.deb -> otherpkgs/xcat-core/site-sn_1.1_all.deb (through rootfs/lock)
      kernel   keep
        payload        keep
      initrd   keep
        stateless      keep
      pack     depends
        rootimg        depends
          image.toml:14 package file of site-sn: otherpkgs/xcat-core/site-sn_1.0_all.deb -> otherpkgs/xcat-core/site-sn_1.1_all.deb (through rootfs/lock)
    ");
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("image.lock: site-sn 1.0 -> 1.1"), "{}", ran.err);
    let below = "ran rootfs/otherpkgs-1, rootfs/kernel, rootfs/system, rootfs/postinstall, rootfs/services, rootfs/gate, rootfs/postscripts, pack/rootimg; kept 6 of 14";
    assert!(ran.err.contains(below), "{}", ran.err);
    assert_eq!(versions(&space), "site-console 1.0\nsite-sn 1.1\n");
    assert_eq!(space.to_do(), Vec::<String>::new());
    // A newer file beside the older one is an update as well: only the distribution's versions are held.
    let older = space.path().join("otherpkgs/xcat-dep/site-console_1.0_all.deb");
    let aside = space.path().join("aside.deb");
    std::fs::copy(&older, &aside).unwrap();
    make(&space, "site-console", "1.1");
    std::fs::copy(&aside, &older).unwrap();
    assert!(space.run(&["plan"]).good().out.contains("image.toml:14 otherpkgs/ gained, lost or changed package files"));
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("image.lock: site-console 1.0 -> 1.1") && ran.err.contains(below), "{}", ran.err);
}

#[test]
fn a_change_of_services_runs_the_services_layer_and_what_lies_below() {
    let space = copy();
    let own = "\"site-mirror.timer\", \"site-serve\"]";
    let more = format!("[\"site-sn\", \"systemd-udevd\", \"sshd\", \"dbus-org.freedesktop.network1\", {own}");
    space.edit("image.toml", &format!("enable = [\"site-sn\", {own}"), &format!("enable = {more}"));
    space.edit("image.toml", "\"fstrim.timer\",  ", "\"fstrim.timer\", \"dpkg-db-backup\", \"nfs-kernel-server\",  ");
    assert_eq!(
        space.to_do(),
        ["rootfs/services run", "rootfs/gate depends", "rootfs/postscripts depends", "pack/rootimg depends"]
    );
    let plan = space.run(&["plan"]).good().out;
    assert!(plan.contains("image.toml:42 services.enable += \"sshd.service\""), "{plan}");
    let ran = space.run(&["build"]).good();
    // A static unit is warned of, and one that its timer starts; aliases are their units.
    for text in [
        "`systemd-udevd.service` cannot be enabled: it has no [Install] section",
        "image.toml:42:22",
        "`dpkg-db-backup.service` is disabled, but `dpkg-db-backup.timer` is enabled and starts it",
        "image.toml:40:21",
    ] {
        assert!(ran.err.contains(text), "{text}\n{}", ran.err);
    }
    assert_eq!(ran.err.matches("services::unit").count(), 3, "{}", ran.err);
    let asked = "systemctl is-enabled nfs-server.service ssh.service systemd-networkd.service dpkg-db-backup.timer";
    let states = space.run(&["shell", "--", "/bin/sh", "-c", &format!("{asked} || true")]).good().out;
    assert_eq!(states, "disabled\nenabled\nenabled\nenabled\n");
    // A name with its suffix, and another order, are the same.
    let other = format!("[\"sshd.service\", \"dbus-org.freedesktop.network1\", \"systemd-udevd\", \"site-sn\", {own}");
    space.edit("image.toml", &more, &other);
    assert_eq!(space.to_do(), Vec::<String>::new());
}

#[test]
fn a_unit_that_the_image_lacks_has_its_line_and_near_names() {
    let space = copy();
    // Another distribution's word for it: nothing is disabled in silence.
    space.edit("image.toml", "\"isc-dhcp-server\"", "\"dhcpd\"");
    space.edit("image.toml", "\"apt-daily.timer\"", "\"apt-dayly.timer\"");
    let failed = space.run(&["build"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    for text in [
        "image.toml:39:5",
        "the image has no unit `dhcpd.service`",
        "did you mean `isc-dhcp-server.service`",
        "image.toml:43:9",
        "the image has no unit `apt-dayly.timer`",
        "did you mean `apt-daily.timer`",
    ] {
        assert!(failed.err.contains(text), "{text}\n{}", failed.err);
    }
    // The history has the line of the recipe as it is written there.
    let log = space.run(&["log", "-v"]).good().out;
    assert!(log.contains("[services] cannot be applied"), "{log}");
    // What a synced file brings comes too late.
    space.write("site/late.service", "[Service]\nExecStart=/bin/true\n");
    space.write("service.synclist", "site/late.service -> /etc/systemd/system/late.service\n");
    space.edit("image.toml", "[exclude]", "[sync]\nlists = [\"service.synclist\"]\n\n[exclude]");
    space.edit("image.toml", "\"dhcpd\"", "\"late\"").edit("image.toml", "dayly", "daily");
    let failed = space.run(&["build"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    assert!(failed.err.contains("let the postinstall script install"), "{}", failed.err);
    // Two names of one unit cannot be both.
    space.edit("image.toml", "\"late\"", "\"ssh\"").edit("image.toml", "\"site-serve\"]", "\"site-serve\", \"sshd\"]");
    let failed = space.run(&["build"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    assert!(failed.err.contains("`ssh.service` is `enabled` after `systemctl disable`"), "{}", failed.err);
}

#[test]
fn a_script_that_removes_declared_lines_is_stopped() {
    let space = copy();
    for (line, said) in [
        (
            "sed -i /devpts/d \"$root/etc/fstab\"",
            "from /etc/fstab: `devpts /dev/pts devpts rw,gid=5,mode=620 0 0` (image.toml:",
        ),
        (
            "echo '/other *(rw)' >\"$root/etc/exports\"",
            "from /etc/exports: `/install *(ro,no_root_squash,sync,fsid=13)` (image.toml:",
        ),
    ] {
        space.edit("service.postinstall", "root=$1\n", &format!("root=$1\n{line}\n"));
        let failed = space.run(&["build"]);
        assert_eq!(failed.code, 4, "{}", failed.err);
        // Long lines are wrapped.
        let flat = |text: &str| text.replace(['│', ' ', '\n'], "");
        assert!(flat(&failed.err).contains(&flat(said)), "{}", failed.err);
        space.edit("service.postinstall", &format!("{line}\n"), "");
    }
    assert_eq!(space.to_do(), Vec::<String>::new());
    // A synced file comes after the gate, and is looked at by itself.
    space.write("site/exports", "/other *(rw)\n").write("service.synclist", "site/exports -> /etc/exports\n");
    space.edit("image.toml", "[exclude]", "[sync]\nlists = [\"service.synclist\"]\n\n[exclude]");
    let failed = space.run(&["build"]);
    assert_eq!(failed.code, 4, "{}", failed.err);
    assert!(failed.err.contains("`site/exports` removes exports"), "{}", failed.err);
}

#[test]
fn without_systemd_init_scripts_are_enabled_and_disabled_and_never_masked() {
    let space = Space::new().with_store(&store());
    copy_locked(tiny().space.path(), space.path());
    let script = "#!/bin/sh\n### BEGIN INIT INFO\n# Provides: NAME\n# Required-Start:\n# Required-Stop:\n# Default-Start: 2 3 4 5\n# Default-Stop: 0 1 6\n# Short-Description: x\n### END INIT INFO\n";
    for name in ["site-a", "site-b"] {
        space.edit(
            "tiny.postinstall",
            "set -e\n",
            &format!(
                "set -e\nmkdir -p $1/etc/init.d\ncat >$1/etc/init.d/{name} <<'SCRIPT'\n{}SCRIPT\nchmod 755 $1/etc/init.d/{name}\n",
                script.replace("NAME", name)
            ),
        );
    }
    space.edit("image.toml", "[exclude]", "[services]\nenable = [\"site-a\"]\ndisable = [\"site-b\"]\n\n[exclude]");
    space.run(&["build"]).good();
    let links = space.run(&["shell", "--", "/bin/sh", "-c", "ls -d /etc/rc[25].d/*site-*"]).good().out;
    let links: Vec<&str> = links.lines().collect();
    assert_eq!(links, ["/etc/rc2.d/K01site-b", "/etc/rc2.d/S01site-a", "/etc/rc5.d/K01site-b", "/etc/rc5.d/S01site-a"]);
    space.edit("image.toml", "disable = [\"site-b\"]", "mask = [\"site-b\"]");
    let failed = space.run(&["build"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    for text in ["image.toml:19:9", "`site-b.service` cannot be masked", "use `disable`"] {
        assert!(failed.err.contains(text), "{text}\n{}", failed.err);
    }
}

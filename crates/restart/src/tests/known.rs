//! What is known of services, units and places, and what asks for the next larger restart because it is not.

use super::*;

/// The answer for two images of which both have something, and the second a change.
fn with(both: impl Fn(&mut Image), change: impl Fn(&mut Image)) -> Answer {
    let (mut was, mut now) = (image(), image());
    both(&mut was);
    both(&mut now);
    change(&mut now);
    between(&was, &now, &|_| {})
}

fn unit(image: &mut Image, name: &str, text: &str) {
    image.own("site", &format!("usr/lib/systemd/system/{name}"), text, 0o644);
}

fn enable(image: &mut Image, name: &str) {
    let link = format!("etc/systemd/system/multi-user.target.wants/{name}");
    image.put(&link, format!("->/usr/lib/systemd/system/{name}"), 0);
}

#[test]
fn libraries_that_only_name_themselves_are_plugins() {
    let both = |image: &mut Image| {
        image.library("libnss-sss", "usr/lib/libnss_sss.so.2", &["libc.so.6"]);
        image.library("odd", "usr/lib/things/libodd.so", &["libc.so.6"]);
        image.own("named", "usr/bin/named-it", elf(&["libnss_sss.so.2"]), 0o755);
        image.own("sized", "usr/lib/libsized.so.6.4", library("libsized.so.6", &["libc.so.6"]), 0o644);
        image.own("sized", "usr/lib/libsized.so.6", "->libsized.so.6.4", 0);
        image.own("sized", "usr/bin/sized", elf(&["libsized.so.6"]), 0o755);
    };
    for (package, path, text) in [
        ("libnss-sss", "usr/lib/libnss_sss.so.2", "not known: which running programs look up names"),
        ("odd", "usr/lib/things/libodd.so", "not known: which running programs have loaded it"),
    ] {
        let answer = with(both, |image| image.move_package(package, &[path]));
        assert_answer(&answer, Restart::SoftReboot, &[], text);
    }
    // A program of users needs it by the name of a link.
    let answer = with(both, |image| image.move_package("sized", &["usr/lib/libsized.so.6.4"]));
    assert_answer(&answer, Restart::Sync, &[], "no service has it open");
}

#[test]
fn all_units_that_are_not_masked_may_run() {
    let text = "[Service]\nExecStart=/usr/sbin/other\n[Install]\nWantedBy=multi-user.target\n";
    let both = |image: &mut Image| {
        unit(image, "other.service", text);
        image.own("other", "usr/sbin/other", elf(&["libother.so.1"]), 0o755);
        image.library("libother", "usr/lib/libother.so.1", &["libc.so.6"]);
    };
    let answer = with(both, |image| image.move_package("libother", &["usr/lib/libother.so.1"]));
    assert_answer(&answer, Restart::Services, &["other.service"], "has it open");
    // Another message bus, by its other name.
    let bus = |image: &mut Image| {
        both(image);
        image.files.remove("usr/lib/systemd/system/dbus.service");
        image.put("etc/systemd/system/dbus.service", "->/usr/lib/systemd/system/other.service", 0);
    };
    let answer = with(bus, |image| image.move_package("libother", &["usr/lib/libother.so.1"]));
    assert_answer(&answer, Restart::SoftReboot, &[], "others lose it");
}

#[test]
fn what_runs_once_or_refuses_does_not_start_again_alone() {
    let once = "it runs once when a node starts";
    let script = |image: &mut Image, more: &str| {
        unit(image, "setup.service", &format!("[Service]\nType=oneshot\n{more}ExecStart=/opt/setup.sh\n[Install]\n"));
        image.put("opt/setup.sh", "#!/bin/sh\ncp /etc/setup.list /run\n", 0o755);
        image.put("etc/setup.list", "x", 0o644);
        image.synced.extend(["opt/setup.sh", "etc/setup.list"].map(str::to_owned));
    };
    for more in ["", "RemainAfterExit=yes\n"] {
        let both = |image: &mut Image| {
            script(image, more);
            enable(image, "setup.service");
        };
        let changes: [&dyn Fn(&mut Image); 2] =
            [&|image| image.edit("opt/setup.sh"), &|image| image.move_package("site", &[SETUP])];
        for change in changes {
            assert_answer(&with(both, change), Restart::SoftReboot, &[], once);
        }
    }
    let both = |image: &mut Image| {
        script(image, "");
        enable(image, "setup.service");
    };
    assert_answer(&with(both, |image| image.edit("etc/setup.list")), Restart::SoftReboot, &[], once);
    // A timer runs it again.
    let timed = |image: &mut Image| {
        both(image);
        unit(image, "setup.timer", "[Timer]\nOnCalendar=daily\n");
        enable(image, "setup.timer");
    };
    let answer = with(timed, |image| image.move_package("site", &[SETUP]));
    assert_answer(&answer, Restart::Services, &[], "daemon-reload");
    let refusing = |image: &mut Image| {
        unit(image, "audit.service", "[Unit]\nRefuseManualStop=yes\n[Service]\nExecStart=/usr/sbin/audit\n");
        image.own("audit", "usr/sbin/audit", elf(&["libc.so.6"]), 0o755);
    };
    let answer = with(refusing, |image| image.move_package("audit", &["usr/sbin/audit"]));
    assert_answer(&answer, Restart::SoftReboot, &[], "refuses to be stopped or started");
}

const SETUP: &str = "usr/lib/systemd/system/setup.service";

#[test]
fn a_new_unit_of_a_sync_list_is_started_by_no_restart() {
    let path = "etc/systemd/system/new.service";
    let answer = of(|image| {
        image.put(path, "[Service]\nExecStart=/usr/bin/htop\n", 0o644);
        image.synced.push(path.to_owned());
    });
    assert_answer(&answer, Restart::SoftReboot, &[], "`systemctl try-restart` does not start it");
    // A new drop-in of a service that runs counts when that starts again.
    let path = "etc/systemd/system/cron.service.d/site.conf";
    let answer = of(|image| {
        image.put(path, "[Service]\nNice=5\n", 0o644);
        image.synced.push(path.to_owned());
    });
    assert_answer(&answer, Restart::Services, &["cron.service"], "as its unit");
}

#[test]
fn what_no_rule_is_about_is_not_known() {
    let both = |image: &mut Image| {
        image.put("opt/agent/bin/agent", "#!/bin/sh\n", 0o755);
        unit(image, "agent.service", "[Service]\nExecStart=/opt/agent/bin/agent --below /etc/things/d\n");
        for path in ["etc/things/d/one", "opt/agent/bin/part", "srv/any", "etc/pam.d/any", "opt/x/lib/x.jar"] {
            image.put(path, "x", 0o644);
            image.synced.push(path.to_owned());
        }
        image.own("java", "usr/lib/jvm/bin/java", elf(&["libc.so.6"]), 0o755);
        image.put("etc/alternatives/java", "->/usr/lib/jvm/bin/java", 0);
        image.put("usr/bin/java", "->/etc/alternatives/java", 0);
        unit(image, "solver.service", "[Service]\nExecStart=/usr/bin/java -jar /srv/solver.jar\n");
    };
    for (path, services) in [
        ("etc/things/d/one", ["agent.service"]),
        ("opt/agent/bin/part", ["agent.service"]),
        ("opt/x/lib/x.jar", ["solver.service"]),
    ] {
        assert_answer(&with(both, |image| image.edit(path)), Restart::Services, &services, "");
    }
    let answer = with(both, |image| image.edit("srv/any"));
    assert!(!assert_answer(&answer, Restart::SoftReboot, &[], "which running programs read it").known);
    assert_answer(&with(both, |image| image.edit("etc/pam.d/any")), Restart::Sync, &[], "a sync list has it");
    // A link in the middle of those that a service has open.
    let answer = with(both, |image| {
        image.own("java", "usr/lib/jvm/bin/java2", elf(&["libc.so.6"]), 0o755);
        image.move_package("java", &[]);
        image.put("etc/alternatives/java", "->/usr/lib/jvm/bin/java2", 0);
    });
    let reason = assert_answer(&answer, Restart::Services, &["solver.service"], "has it open");
    assert_eq!(reason.paths, ["etc/alternatives/java"]);
}

#[test]
fn new_settings_of_the_kernel_count_at_once_unless_they_hide_others() {
    let both = |image: &mut Image| {
        image.put("usr/lib/sysctl.d/50-x.conf", "x", 0o644);
        image.synced.push("usr/lib/sysctl.d/50-x.conf".to_owned());
    };
    let add = |path: &'static str| {
        move |image: &mut Image| {
            image.put(path, "y", 0o644);
            image.synced.push(path.to_owned());
        }
    };
    let answer = with(both, add("etc/sysctl.d/60-x.conf"));
    assert_answer(&answer, Restart::Services, &["systemd-sysctl.service"], "applies it");
    assert_answer(&with(both, add("etc/sysctl.d/50-x.conf")), Restart::Reboot, &[], "kernel setting");
    // A list brings files that count at boot, or that are read once.
    for (path, restart) in [
        ("etc/fstab", Restart::Reboot),
        ("etc/hostname", Restart::Reboot),
        ("etc/krb5.conf", Restart::SoftReboot),
        ("etc/passwd", Restart::SoftReboot),
        ("usr/lib/tmpfiles.d/site.conf", Restart::SoftReboot),
    ] {
        assert_answer(&of(add(path)), restart, &[], "");
    }
}

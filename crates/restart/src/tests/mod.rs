//! Each kind of change between two builds, and the restart that it asks for.

mod built;
mod known;
mod sync;

use std::collections::{BTreeMap, BTreeSet};

use self::built::{Image, image};
pub(crate) use self::built::{elf, elf_of, library};
use super::answer::{Answer, Reason, Restart};
use super::bring::Means;
use super::decide::answer;
use build::diff::{Package, compare};

/// The answer for two images, where `sync` brings what the lists of the second and its packages have.
fn between(was: &Image, now: &Image, change_means: &dyn Fn(&mut Means)) -> Answer {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (a, was_facts) = was.side("a", directories[0].path());
    let (b, now_facts) = now.side("b", directories[1].path());
    let nodes = &b.tree.as_ref().unwrap().nodes;
    let files = now.synced.iter().map(|path| (path.clone(), Some(nodes[path].content.clone()))).collect();
    let contents = nodes.iter().filter(|(_, node)| node.kind != "directory");
    let contents = contents.map(|(path, node)| (path.clone(), node.content.clone())).collect();
    let difference = compare(&a, &b);
    let brought = now_facts.brought_of_directory(directories[1].path(), &difference).unwrap();
    let mut means = Means { files: Ok(files), packages: Ok(now.lock()), contents, brought };
    change_means(&mut means);
    answer(&difference, &was_facts, &now_facts, &means)
}

fn of(change: impl Fn(&mut Image)) -> Answer {
    let (was, mut now) = (image(), image());
    change(&mut now);
    between(&was, &now, &|_| {})
}

#[track_caller]
fn assert_answer(answer: &Answer, restart: Restart, services: &[&str], text: &str) -> Reason {
    assert_eq!(
        (answer.restart, &answer.services[..]),
        (restart, &services.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()[..]),
        "{answer:#?}"
    );
    let reason = answer.reasons.iter().find(|reason| reason.restart == restart && reason.text.contains(text));
    reason.unwrap_or_else(|| panic!("no reason has `{text}`: {answer:#?}")).clone()
}

#[test]
fn what_is_the_same_or_differs_in_times_caches_and_bytes_of_the_packed_image_needs_nothing() {
    assert_eq!(of(|_| {}), Answer::of(Vec::new()));
    let answer = of(|image| {
        image.edit("var/log/x");
        image.put("usr/lib/python3/__pycache__/yaml.pyc", "x", 0o644);
        image.artefacts.insert("rootimg.sfs".to_owned(), (2, "other".to_owned()));
    });
    assert_eq!(answer.restart, Restart::Nothing, "{answer:#?}");
}

#[test]
fn files_of_sync_lists_and_packages_without_a_daemon_come_by_sync() {
    let answer = of(|image| image.edit("etc/motd"));
    let reason = assert_answer(&answer, Restart::Sync, &[], "a sync list has it");
    assert_eq!((reason.paths, answer.sync), (vec!["etc/motd".to_owned()], vec!["files".to_owned()]));
    let answer = of(|image| image.move_package("htop", &["usr/bin/htop", "usr/share/doc/htop/changelog"]));
    let reason = assert_answer(&answer, Restart::Sync, &[], "no service has it open");
    let package = reason.package.unwrap();
    assert_eq!((package.name.as_str(), package.was.as_deref(), package.now.as_deref()), ("htop", Some("1"), Some("2")));
    assert_eq!((reason.paths.len(), answer.sync), (2, vec!["packages".to_owned()]));
    // A library that only a program of users has; the loader's cache comes with it.
    let answer = of(|image| {
        image.move_package("libncurses6", &["usr/lib/libncurses.so.6"]);
        image.edit("etc/ld.so.cache");
    });
    assert_answer(&answer, Restart::Sync, &[], "no service has it open");
    // A version alone.
    let answer = of(|image| image.move_package("htop", &[]));
    assert_answer(&answer, Restart::Sync, &[], "no file of it");
    // A module of a language that no service is written in, and a synced file among caches.
    let answer = of(|image| {
        image.own("perl-x", "usr/lib/perl5/auto/x.so", elf(&[]), 0o644);
        image.move_package("perl-y", &["usr/lib/perl5/auto/y.so"]);
    });
    assert_answer(&answer, Restart::Sync, &[], "no service has it open");
    let (was, mut now) = (image(), image());
    now.put("var/cache/site", "x", 0o644);
    now.synced.push("var/cache/site".to_owned());
    assert_answer(&between(&was, &now, &|_| {}), Restart::Sync, &[], "a sync list has it");
    // A new package, and the mode of a synced file.
    let answer = of(|image| {
        image.own("jq", "usr/bin/jq", elf(&[]), 0o755);
        image.files.get_mut("etc/motd").unwrap().1 = 0o600;
    });
    assert_answer(&answer, Restart::Sync, &[], "a sync list has it");
    assert_eq!(answer.sync, ["files", "packages"]);
}

#[test]
fn services_whose_files_differ_start_again() {
    for (change, services, text) in [
        (
            &(|image: &mut Image| image.move_package("cron", &["usr/sbin/cron"])) as &dyn Fn(&mut Image),
            &["cron.service"][..],
            "has it open",
        ),
        (
            &|image| image.move_package("cron", &["usr/lib/systemd/system/cron.service"]),
            &["cron.service"],
            "as its unit",
        ),
        // By a library of a library, and not the masked one.
        (
            &|image| image.move_package("libssl3", &["usr/lib/libcrypto.so.3.0.1"]),
            &["slurmd.service", "ssh.service"],
            "has it open",
        ),
        (&|image| image.move_package("libcurl4", &["usr/lib/libcurl.so.4"]), &["slurmd.service"], "has it open"),
        (&|image| image.move_package("libwrapped", &["usr/lib/libwrapped.so.1"]), &["wrapped.service"], "has it open"),
        // A plugin of the same name.
        (
            &|image| image.move_package("slurm-plugins", &["usr/lib/slurm/task_cgroup.so"]),
            &["slurmd.service"],
            "may have loaded it",
        ),
        (&|image| image.edit("etc/slurm/slurm.conf"), &["slurmd.service"], "is configured by it"),
        (
            &|image| image.move_package("python3-yaml", &["usr/lib/python3/dist-packages/yaml.py"]),
            &["exporter.service"],
            "interpreted",
        ),
        (&|image| image.move_package("python3", &["usr/bin/python3.11"]), &["exporter.service"], "has it open"),
        // systemd has it open, too.
        (&|image| image.move_package("libseccomp2", &["usr/lib/libseccomp.so.2"]), &["init.scope"], "has it open"),
        (
            &|image| {
                image.daemon("chrony", "chrony.service", "usr/sbin/chronyd", &["libc.so.6"]);
            },
            &["chrony.service"],
            "is enabled",
        ),
    ] {
        assert_answer(&of(change), Restart::Services, services, text);
    }
    let (mut was, mut now) = (image(), image());
    for image in [&mut was, &mut now] {
        image.synced.push("etc/site/exporter.env".to_owned());
    }
    now.edit("etc/site/exporter.env");
    let answer = between(&was, &now, &|_| {});
    assert_answer(&answer, Restart::Services, &["exporter.service"], "names it in its unit");
    assert_eq!(answer.sync, ["files"]);
}

#[test]
fn what_a_masked_unit_has_needs_no_restart() {
    let answer =
        of(|image| image.move_package("masked", &["usr/sbin/maskedd", "usr/lib/systemd/system/masked.service"]));
    assert_answer(&answer, Restart::Sync, &[], "no service has it open");
    // Its unmasking comes by no list.
    let answer = of(|image| drop(image.files.remove("etc/systemd/system/masked.service")));
    assert_answer(&answer, Restart::SoftReboot, &[], "removes nothing");
}

#[test]
fn what_all_have_open_or_nothing_brings_asks_for_a_soft_reboot() {
    for (change, text) in [
        (
            &(|image: &mut Image| image.move_package("libc6", &["usr/lib/libc.so.6"])) as &dyn Fn(&mut Image),
            "every running program has it open",
        ),
        (&|image| image.move_package("libc6", &["usr/lib/libc/ld-linux.so"]), "every running program has it open"),
        (&|image| image.move_package("systemd", &["usr/lib/systemd/systemd"]), "first process"),
        (&|image| image.move_package("systemd", &["usr/lib/systemd/libsystemd-shared-257.so"]), "first process"),
        (&|image| image.move_package("dbus", &["usr/bin/dbus-daemon"]), "message bus"),
        (&|image| image.move_package("libexpat1", &["usr/lib/libexpat.so.1"]), "dbus.service has it open"),
        (&|image| image.edit("etc/site.txt"), "no sync list and no package"),
        (&|image| image.put("etc/new/file", "x", 0o644), "no sync list and no package"),
        (&|image| image.drop_package("htop"), "removes no package"),
        // What an exclude list leaves out.
        (&|image| drop(image.files.remove("usr/share/doc/htop/changelog")), "removes nothing"),
        (&|image| image.move_package("plugins", &["usr/lib/things/odd.so"]), "not known: which running programs"),
        // A script of the recipe edited it: no version moves.
        (&|image| image.edit("usr/sbin/cron"), "no sync list and no package"),
    ] {
        let reason = assert_answer(&of(change), Restart::SoftReboot, &[], text);
        assert_eq!(reason.known, !text.starts_with("not known"));
    }
}

#[test]
fn what_the_kernel_has_asks_for_a_reboot() {
    for (change, text) in [
        (
            &(|image: &mut Image| "6.12.1".clone_into(&mut image.release)) as &dyn Fn(&mut Image),
            "kernel 6.12.0 -> 6.12.1",
        ),
        (
            &|image| drop(image.artefacts.insert("kernel".to_owned(), (1, "other".to_owned()))),
            "kernel has other content",
        ),
        (
            &|image| drop(image.artefacts.insert("initrd-stateless".to_owned(), (1, "x".to_owned()))),
            "initrd-stateless has",
        ),
        (&|image| image.words.push("mitigations=off".to_owned()), "`mitigations=off` is new"),
        (&|image| image.words.clear(), "`quiet` is no longer there"),
        (&|image| image.words.push("crashkernel=256M".to_owned()), "crash kernel is reserved"),
        (&|image| image.words.push("imgbuild.statelite=sha256:1".to_owned()), "statelite"),
        (&|image| image.edit("usr/lib/modules/6.12.0/kernel/lustre.ko"), "drivers stay"),
        (&|image| image.edit("etc/modprobe.d/site.conf"), "options of drivers"),
        (&|image| image.edit("etc/sysctl.d/site.conf"), "kernel setting"),
    ] {
        let reason = assert_answer(&of(change), Restart::Reboot, &[], text);
        assert!(reason.known, "{reason:?}");
    }
    let word = of(|image| image.words.push("nosmt".to_owned())).reasons[0].word.clone();
    assert_eq!(word.as_deref(), Some("nosmt"));
}

#[test]
fn a_soft_reboot_needs_systemd_254_on_both_sides_and_an_image_that_stays_packed() {
    let old = |image: &mut Image| {
        let shared = image.files.remove("usr/lib/systemd/libsystemd-shared-257.so").unwrap();
        image.files.insert("usr/lib/systemd/libsystemd-shared-252.so".to_owned(), shared);
    };
    let (mut was, mut now) = (image(), image());
    old(&mut was);
    now.edit("etc/site.txt");
    let reason =
        assert_answer(&between(&was, &now, &|_| {}), Restart::Reboot, &[], "systemd 252 of a has no soft reboot");
    assert!(reason.known);
    old(&mut now);
    assert_answer(&between(&image(), &now, &|_| {}), Restart::Reboot, &[], "systemd 252 of b");
    // What comes by `sync` does not ask for it.
    let mut synced = was.clone();
    synced.edit("etc/motd");
    assert_answer(&between(&was, &synced, &|_| {}), Restart::Sync, &[], "a sync list has it");
    now = image();
    now.edit("etc/site.txt");
    now.put("etc/systemd/system/soft-reboot.target", "->/dev/null", 0);
    assert_answer(&between(&image(), &now, &|_| {}), Restart::Reboot, &[], "b has no soft-reboot.target, or masks it");
    for (word, text) in [
        ("imgbuild.statelite=sha256:1", "only the initrd mounts"),
        ("root=nfs:10.0.0.1:/x", "only the initrd mounts"),
        ("imgbuild.root=lazy", "only the initrd starts"),
    ] {
        let (mut was, mut now) = (image(), image());
        was.words.push(word.to_owned());
        now.words.push(word.to_owned());
        now.edit("etc/site.txt");
        assert_answer(&between(&was, &now, &|_| {}), Restart::Reboot, &[], text);
    }
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut now = image();
    now.edit("etc/site.txt");
    let ((a, was_facts), (b, mut now_facts)) =
        (image().side("a", directories[0].path()), now.side("b", directories[1].path()));
    now_facts.cmdline = vec!["imgurl={url}/rootimg.cpio.zst".to_owned()];
    now_facts.memory = 900 << 20;
    let (contents, brought) = (BTreeMap::new(), BTreeSet::new());
    let means = Means { files: Ok(BTreeMap::new()), packages: Ok(now.lock()), contents, brought };
    let answer = answer(&compare(&a, &b), &was_facts, &now_facts, &means);
    let reason = assert_answer(&answer, Restart::Reboot, &[], "memory for the running image and 900 MiB");
    assert!(!reason.known && reason.text.starts_with("not known: "), "{reason:?}");
}

#[test]
fn what_sync_would_bring_now_is_what_the_build_has() {
    let mut now = image();
    now.edit("etc/motd");
    now.move_package("htop", &["usr/bin/htop"]);
    let is = |change: &dyn Fn(&mut Means), text: &str| {
        assert_answer(&between(&image(), &now, change), Restart::SoftReboot, &[], text);
    };
    let moved =
        |means: &mut Means| drop(means.files.as_mut().unwrap().insert("etc/motd".to_owned(), Some("x".to_owned())));
    is(&moved, "the file that the sync list names has changed since the build");
    is(&|means| means.files = Err("the recipe has errors".to_owned()), "the recipe has errors");
    is(&|means| means.packages = Err("no lock".to_owned()), "no lock");
    // The lock went on.
    let other = |means: &mut Means, name: &str, version: &str| {
        let one = Package { name: name.to_owned(), arch: "all".to_owned(), version: version.to_owned() };
        means.packages.as_mut().unwrap().all.insert(one, Some("x".to_owned()));
    };
    is(&|means| other(means, "jq", "1"), "image.lock has `jq` 1, but the build does not");
    is(&|means| means.packages = Ok(image().lock()), "image.lock does not have `htop` 2");
    let of_base =
        |means: &mut Means| means.packages.as_mut().unwrap().all.values_mut().for_each(|digest| *digest = None);
    is(&of_base, "comes from the container image");
    let answer = between(&image(), &now, &|_| {});
    assert_eq!((answer.restart, answer.sync.len()), (Restart::Sync, 2));
    // Packages that other means refuse may still be the reason alone.
    let mut alone = image();
    alone.move_package("htop", &[]);
    let answer = between(&image(), &alone, &|means| means.packages = Err("no lock".to_owned()));
    assert_answer(&answer, Restart::SoftReboot, &[], "no lock");
}

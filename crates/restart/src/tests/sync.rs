//! What `sync` brings, and what it only seems to bring.

use super::*;

#[test]
fn a_file_of_a_package_comes_if_it_is_as_the_package_brings_it() {
    let soft = |change: &dyn Fn(&mut Image), text: &str| assert_answer(&of(change), Restart::SoftReboot, &[], text);
    // A script has changed it since.
    let reason = soft(
        &|image| {
            image.move_package("htop", &[]);
            image.edit("usr/bin/htop");
        },
        "other content than the package",
    );
    assert!(reason.known);
    let (mut was, mut now) = (image(), image());
    for image in [&mut was, &mut now] {
        image.own("openssh-server", "etc/ssh/sshd_config", "Port 22", 0o600);
    }
    now.move_package("openssh-server", &["etc/ssh/sshd_config"]);
    assert_answer(&between(&was, &now, &|_| {}), Restart::SoftReboot, &[], "nodes may keep their file");
    // A new file of it comes.
    let answer = of(|image| {
        image.move_package("htop", &[]);
        image.own("htop", "etc/htoprc", "x", 0o644);
    });
    assert_answer(&answer, Restart::Sync, &[], "the package comes by `sync`");
    // Its new version has it, but the image does not.
    let left_out = |image: &mut Image| {
        image.move_package("htop", &[]);
        image.files.remove("usr/share/doc/htop/changelog");
    };
    soft(&left_out, "removes nothing");
    // Without a digest it is not known.
    let (was, mut now) = (image(), image());
    now.move_package("htop", &["usr/bin/htop"]);
    now.undigested.insert("usr/bin/htop".to_owned());
    let answer = between(&was, &now, &|_| {});
    assert!(!assert_answer(&answer, Restart::SoftReboot, &[], "whether the package brings it").known);
}

#[test]
fn links_come_with_the_package_that_they_lead_to() {
    let (mut was, mut now) = (image(), image());
    for image in [&mut was, &mut now] {
        image.own("htop", "usr/bin/htop.small", elf(&["libc.so.6"]), 0o755);
        image.put("etc/alternatives/top", "->/usr/bin/htop", 0);
    }
    now.put("etc/alternatives/top", "->/usr/bin/htop.small", 0);
    now.move_package("libncurses6", &["usr/lib/libncurses.so.6"]);
    assert_answer(&between(&was, &now, &|_| {}), Restart::SoftReboot, &[], "no sync list and no package");
    now.move_package("htop", &["usr/bin/htop"]);
    assert_answer(&between(&was, &now, &|_| {}), Restart::Sync, &[], "the package comes by `sync`");
    // What a library is called by moves with it.
    let (was, mut now) = (image(), image());
    now.own("libssl3", "usr/lib/libcrypto.so.3.0.2", library("libcrypto.so.3", &["libc.so.6"]), 0o644);
    now.own("libssl3", "usr/lib/libcrypto.so.3", "->libcrypto.so.3.0.2", 0);
    now.move_package("libssl3", &[]);
    let services = ["slurmd.service", "ssh.service"];
    assert_answer(&between(&was, &now, &|_| {}), Restart::Services, &services, "has it open");
    // A certificate that a script writes while another package moves.
    let answer = of(|image| {
        image.move_package("htop", &["usr/bin/htop"]);
        image.put("etc/ssl/certs/site.pem", "x", 0o644);
    });
    assert_answer(&answer, Restart::SoftReboot, &[], "no sync list and no package");
}

#[test]
fn a_new_file_of_a_sync_list_is_compared_with_its_source() {
    let (was, mut now) = (image(), image());
    now.put("etc/motd.d/site", "x", 0o644);
    now.synced.push("etc/motd.d/site".to_owned());
    assert_answer(&between(&was, &now, &|_| {}), Restart::Sync, &[], "a sync list has it");
    let moved = |means: &mut Means| {
        means.files.as_mut().unwrap().insert("etc/motd.d/site".to_owned(), Some("other".to_owned()));
    };
    assert_answer(&between(&was, &now, &moved), Restart::SoftReboot, &[], "has changed since the build");
    let unknown = |means: &mut Means| drop(means.contents.remove("etc/motd.d/site"));
    let answer = between(&was, &now, &unknown);
    assert!(!assert_answer(&answer, Restart::SoftReboot, &[], "whether the file of the sync list").known);
    // The mode alone differs in the builds, but the source has moved on.
    let (was, mut now) = (image(), image());
    now.files.get_mut("etc/motd").unwrap().1 = 0o600;
    let moved = |means: &mut Means| {
        means.files.as_mut().unwrap().insert("etc/motd".to_owned(), Some("other".to_owned()));
    };
    assert_answer(&between(&was, &now, &moved), Restart::SoftReboot, &[], "has changed since the build");
}

#[test]
fn packages_that_the_lock_lacks_are_refused_as_sync_does() {
    let mut now = image();
    now.move_package("htop", &["usr/bin/htop"]);
    let lacks = |means: &mut Means| means.packages.as_mut().unwrap().all.retain(|one, _| one.name != "cron");
    let text = "the build has `cron`, but image.lock does not";
    assert_answer(&between(&image(), &now, &lacks), Restart::SoftReboot, &[], text);
    // Keys of rpm are no packages that a lock has.
    let (mut was, mut now) = (image(), image());
    for image in [&mut was, &mut now] {
        image.own("gpg-pubkey", "usr/share/doc/key", "x", 0o644);
    }
    now.move_package("htop", &["usr/bin/htop"]);
    let lacks = |means: &mut Means| means.packages.as_mut().unwrap().all.retain(|one, _| one.name != "gpg-pubkey");
    assert_answer(&between(&was, &now, &lacks), Restart::Sync, &[], "the package comes by `sync`");
}

#[test]
fn a_soft_reboot_needs_a_running_image_that_is_packed_too() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut now = image();
    now.edit("etc/site.txt");
    let ((a, mut was_facts), (b, now_facts)) =
        (image().side("a", directories[0].path()), now.side("b", directories[1].path()));
    was_facts.cmdline = vec!["imgurl={url}/rootimg.tar.gz".to_owned()];
    let (contents, brought) = (BTreeMap::new(), BTreeSet::new());
    let means = Means { files: Ok(BTreeMap::new()), packages: Ok(now.lock()), contents, brought };
    let answer = answer(&compare(&a, &b), &was_facts, &now_facts, &means);
    let reason = assert_answer(&answer, Restart::Reboot, &[], "the running unpacked rootimg.tar.gz");
    assert!(!reason.known);
}

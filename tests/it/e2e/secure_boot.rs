//! A node with Secure Boot and Microsoft's keys boots by network what Debian signs: shim, GRUB, the kernel. What was changed is refused, by
//! `nodeset` before it is given to nodes, and by the node's own loaders where it came to them by other ways.
//!
//! shim and GRUB are those of Debian's packages shim-signed and grub-efi-amd64-signed, which tests/run unpacks and does not install.

use std::time::{Duration, Instant};

use super::netboot::{Cluster, Firmware, PATIENCE};
use crate::support::project;

/// Where firmware and shim find what; and where it comes from.
const SIGNED: [(&str, &str); 2] = [
    ("shimx64.efi", "usr/lib/shim/shimx64.efi.signed"),
    ("grubx64.efi", "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"),
];

/// Gives a cluster's server what Debian signs.
fn with_signed_loaders(cluster: &Cluster) {
    let (from, to) = (project().join("target/signed-loaders"), cluster.space.path().join("files"));
    std::fs::create_dir_all(&to).unwrap();
    for (name, path) in SIGNED {
        let path = from.join(path);
        std::fs::copy(&path, to.join(name)).unwrap_or_else(|error| {
            panic!("{}: {error}: tests/run unpacks shim-signed and grub-efi-amd64-signed there", path.display())
        });
    }
}

/// Changes one byte in the middle of a file.
fn change(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn network_privileged_boot_secure_boot_starts_what_is_signed_and_nothing_else() {
    let mut cluster = Cluster::new("shim");
    with_signed_loaders(&cluster);
    // The signer is said; a kernel that was changed goes to no node.
    let ran = cluster.run(&["nodeset", "@compute"]).good();
    assert!(ran.err.contains(" is signed by `Debian Secure Boot Signer 2022 - linux`"), "{}", ran.err);
    let kernel = cluster.space.path().join("out/compute/kernel");
    let good = std::fs::read(&kernel).unwrap();
    change(&kernel);
    let ran = cluster.run(&["nodeset", "@compute"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("was changed after it was signed"), "{}", ran.err);
    std::fs::write(&kernel, good).unwrap();

    let serving = cluster.serve();
    // Nothing is signed by strangers, and what is missing for other firmware concerns no node.
    assert!(!serving.said().contains("mokutil") && !serving.said().contains("no file of shim"), "{}", serving.said());
    let began = Instant::now();
    let machine = cluster.start(1, Firmware::Secure);
    let report = cluster.wait_for(1, "up", 0, &serving);
    eprintln!("shim: up after {} s", began.elapsed().as_secs());
    let node = cluster.node(1);
    while !node.connect() {
        assert!(began.elapsed() < PATIENCE, "the node does not answer:\n{}", cluster.text(1));
        std::thread::sleep(Duration::from_secs(1));
    }
    let said = serving.said();
    let build = report["build"].as_str().unwrap();
    for name in [
        "shimx64.efi",
        "grubx64.efi",
        "grub/grub.cfg",
        "grub/mac/52:54:00:00:00:01",
        &format!(".builds/compute/{build}/kernel"),
    ] {
        assert!(said.contains(&format!("/tftp/{name} to 10.0.0.11")), "{name}: {said}");
    }
    let words = node.run("cat /proc/cmdline");
    assert!(words.replace(':', "-").contains("BOOTIF=01-52-54-00-00-00-01"), "{words}");
    assert!(words.contains(&format!("imgurl=http://10.0.0.1/.builds/compute/{build}/")), "{words}");
    // What the firmware says of itself, and what the kernel makes of it.
    assert!(node.run("dmesg").contains("secureboot: Secure boot enabled"));
    assert!(node.run("cat /sys/kernel/security/lockdown").contains("[integrity]"));
    // Modules of the kernel's package load, and are there; one whose signature was taken away is refused for that.
    let load = "cp /lib/modules/*/kernel/net/core/failover.ko /tmp/own.ko; insmod /tmp/own.ko 2>&1; \
                truncate -s -40 /tmp/own.ko; insmod /tmp/own.ko 2>&1; dmesg | tail -n 2";
    let said = node.run(load);
    assert!(said.contains("File exists") && said.contains("Loading of unsigned module is rejected"), "{said}");

    // A kernel that was changed on its way: GRUB asks shim, and shim refuses it.
    cluster.net.end(machine);
    let root = serving.said().split("TFTP root is ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    change(&std::path::Path::new(&root).join(".builds/compute").join(build).join("kernel"));
    let _machine = cluster.start(1, Firmware::Secure);
    let began = Instant::now();
    while !cluster.text(1).contains("bad shim signature") {
        assert!(began.elapsed() < PATIENCE, "{}\n{}", serving.said(), cluster.text(1));
        std::thread::sleep(Duration::from_secs(1));
    }
    // The console has nothing of the boot before.
    assert!(!cluster.text(1).contains("Linux version"), "{}", cluster.text(1));
}

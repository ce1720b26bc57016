//! Which network card `boot` gives a node: a program in QEMU's place writes down what it is started with.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::Space;

/// A published image whose initrd and root image have these files below `usr/lib/modules/6.1`.
fn published(space: &Space, initrd: &[(&str, &str)], image: &[(&str, &str)]) {
    space.write("image.toml", "[image]\nname = \"compute\"\nrelease = \"bookworm\"\n");
    let out = space.path().join("out/compute");
    std::fs::create_dir_all(&out).unwrap();
    let info = serde_json::json!({
        "format_version": "1.0", "name": "compute", "target": "debian bookworm x86_64", "epoch": 0, "kernel_release": "6.1",
        "cmdline": ["imgurl={url}/rootimg.cpio"], "memory": 1, "artefacts": [], "layers": [], "not_reproducible": [],
    });
    std::fs::write(out.join("build.json"), info.to_string()).unwrap();
    std::fs::write(out.join("kernel"), "k").unwrap();
    std::fs::write(out.join("initrd-stateless"), cpio(initrd)).unwrap();
    std::fs::write(out.join("rootimg.cpio"), cpio(image)).unwrap();
}

/// An archive in cpio's `newc` form.
fn cpio(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut entry = |path: &str, text: &str| {
        let numbers = [1, 0o100_644, 0, 0, 1, 0, text.len(), 0, 0, 0, 0, path.len() + 1, 0];
        let numbers: String = numbers.iter().map(|number| format!("{number:08x}")).collect();
        archive.extend_from_slice(format!("070701{numbers}{path}\0").as_bytes());
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(text.as_bytes());
        archive.resize(archive.len().next_multiple_of(4), 0);
    };
    for (name, text) in files {
        entry(&format!("usr/lib/modules/6.1/{name}"), text);
    }
    entry("TRAILER!!!", "");
    archive
}

/// What `boot` says, and which card it asked QEMU for.
fn card(space: &Space, programs: &Path) -> (String, String) {
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let ran = space.run_with(&["boot", "--until", "booted"], &[("PATH", &path)]).good();
    let words = std::fs::read_to_string(programs.join("words")).unwrap();
    let device = words.lines().find_map(|word| word.strip_suffix(",netdev=net0,mac=52:54:00:12:34:56"));
    (ran.err, device.unwrap_or_else(|| panic!("{words}")).to_owned())
}

#[test]
fn a_node_gets_a_card_that_its_initrd_or_kernel_drives_and_is_told_of_none() {
    let space = Space::new();
    let programs = space.path().join("programs");
    space.write("programs/qemu-system-x86_64", "#!/bin/sh\nprintf '%s\\n' \"$@\" >\"${0%/*}/words\"\necho booted\n");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(programs.join("qemu-system-x86_64"), mode).unwrap();
    let module = |name: &'static str| (name, "");
    let (net, e1000) = (module("kernel/net/virtio_net.ko.xz"), module("kernel/net/e1000.ko"));
    let built_in = ("modules.builtin", "kernel/fs/ext4/ext4.ko\nkernel/drivers/net/virtio_net.ko\n");
    let without = ("modules.builtin", "kernel/fs/ext4/ext4.ko\n");
    let note = "the node gets one that e1000 drives";
    let warning = "neither the initrd nor the kernel drives a network card that QEMU has (virtio_net, ";
    let unknown = "the initrd drives no network card that QEMU has (virtio_net, ";
    for (initrd, image, device, said) in [
        (&[e1000, net][..], &[without][..], "virtio-net-pci", None),
        (&[e1000], &[without], "e1000", Some(note)),
        (&[e1000], &[built_in], "virtio-net-pci", None),
        (&[built_in], &[], "virtio-net-pci", None),
        (&[module("kernel/net/igb.ko")], &[without], "virtio-net-pci", Some(warning)),
        (&[module("kernel/net/igb.ko")], &[], "virtio-net-pci", Some(unknown)),
    ] {
        published(&space, initrd, image);
        let (err, asked) = card(&space, &programs);
        assert_eq!(asked, device, "{initrd:?} {image:?}: {err}");
        match said {
            None => assert!(!err.contains("network card"), "{initrd:?} {image:?}: {err}"),
            Some(said) => assert!(err.contains(said), "{initrd:?} {image:?}: {err}"),
        }
        assert_eq!(
            err.contains("[kernel] drivers = [\"+virtio_net\"]"),
            [Some(warning), Some(unknown)].contains(&said)
        );
    }
}

//! What else an image for another CPU may have: dracut's initrd, device trees, UEFI, RPM packages. All of it is emulated, and long.

use super::rpm_distro::of_arm;
use super::{has_init, store};
use crate::support::{Space, copy_tree, project};

/// Numbers of machines in ELF files. Source: linux/elf-em.h.
const AARCH64: u16 = 183;

/// Machines of the ELF files of an initrd, with the name of each.
fn machines(space: &Space, image: &str) -> Vec<(String, u16)> {
    let initrd = std::fs::read(space.artefact(image, "initrd-stateless")).unwrap();
    let plain = zstd::decode_all(&initrd[..]).unwrap();
    let names = archive::read_archive(&mut &plain[..]).unwrap();
    let machine = |content: &archive::Content| match content {
        archive::Content::File(bytes) if bytes.starts_with(b"\x7fELF") => {
            Some(u16::from_le_bytes([bytes[18], bytes[19]]))
        }
        _ => None,
    };
    names.iter().filter_map(|(name, found)| Some((name.clone(), machine(&found.content)?))).collect()
}

#[test]
fn boot_an_arm_image_with_dracuts_initrd_and_a_device_tree_comes_up_by_uefi() {
    if !has_init("aarch64") {
        return;
    }
    let space = Space::example("arm").with_store(&store());
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let recipe = recipe
        .replace("linux-image-cloud-arm64", "linux-image-arm64")
        .replace("\n[system]", "device_trees = [\"bcm2711-rpi-4-b.dtb\"]\n\n[system]");
    space.write("image.toml", &format!("{recipe}\n[initrd]\ngenerator = \"dracut\"\n"));
    // Boards are known by the file's name; the kernel's is a path.
    let ran = space.run(&["build"]);
    let told = "has no device tree `bcm2711-rpi-4-b.dtb`";
    assert!(ran.code == 1 && ran.err.contains(told), "{} {}", ran.code, ran.err);
    assert!(ran.err.contains("did you mean \"broadcom/bcm2711-rpi-4-b.dtb\"") && ran.err.contains("image.toml:"));
    space.edit("image.toml", "[\"bcm2711", "[\"broadcom/bcm2711");
    space.run(&["build"]).good();
    assert_eq!(space.to_do(), Vec::<String>::new());
    // Beside the kernel, among the digests, and what loaders of Arm are told to load.
    let tree = std::fs::read(space.artefact("arm", "bcm2711-rpi-4-b.dtb")).unwrap();
    assert!(tree.starts_with(&[0xd0, 0x0d, 0xfe, 0xed]));
    let sums = std::fs::read_to_string(space.artefact("arm", "SHA256SUMS")).unwrap();
    assert!(sums.contains("  bcm2711-rpi-4-b.dtb\n"), "{sums}");
    let entry = |more: &[&str]| {
        let words = [&["boot-entry", "--url", "http://10.0.0.1/arm"], more].concat();
        space.run(&words)
    };
    assert!(entry(&["--format", "pxelinux"]).good().out.contains("    FDT http://10.0.0.1/arm/bcm2711-rpi-4-b.dtb\n"));
    let grub = entry(&["--format", "grub"]).good().out;
    assert!(grub.contains("    devicetree (http,10.0.0.1)/arm/bcm2711-rpi-4-b.dtb\n}"), "{grub}");
    let ran = entry(&["--device-tree", "other.dtb"]);
    assert!(ran.code == 64 && ran.err.contains("it has bcm2711-rpi-4-b.dtb"), "{} {}", ran.code, ran.err);
    // dracut ran emulated: each program of the initrd is for the image's CPU.
    let machines = machines(&space, "arm");
    let programs = machines.iter().filter(|(name, _)| !name.ends_with(".ko")).count();
    assert!(programs > 30 && machines.iter().any(|(name, _)| name.ends_with("bin/udevadm")), "{machines:?}");
    assert_eq!(machines.iter().find(|(_, machine)| *machine != AARCH64), None);
    let ran = space.run(&["boot", "--uefi", "--until", " login:", "--timeout", "2400"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    for text in ["EFI stub: ", "dracut: ", "imgbuild: the image is complete"] {
        assert!(ran.out.contains(text), "{text}\n{}", ran.out);
    }
}

#[test]
fn boot_an_arm_image_of_rpm_packages_is_built_by_emulated_dnf_and_rpm() {
    if !has_init("aarch64") {
        return;
    }
    let distribution = of_arm();
    let space = Space::new().with_store(&store());
    std::fs::create_dir_all(space.path().join("keys")).unwrap();
    std::fs::copy(&distribution.key, space.path().join("keys/site.asc")).unwrap();
    space.write(
        "image.toml",
        &format!(
            "[image]\nname = \"node\"\ndistro = \"rocky\"\nrelease = \"1\"\narch = \"aarch64\"\n\n\
             [[repo]]\nid = \"base\"\nuri = \"file:{}\"\nsigned-by = \"keys/site.asc\"\ncheck-index = true\n\n\
             [packages]\ninstall = [\"systemd\", \"systemd-sysv\", \"udev\", \"util-linux\", \"login\"]\n\n\
             [kernel]\ndrivers = [\"virtio_net\"]\n\n[system]\n\n[boot]\ncmdline = [\"console=ttyAMA0\"]\n",
            distribution.repository("distro").display()
        ),
    );
    space.run(&["build"]).good();
    assert_eq!(space.to_do(), Vec::<String>::new());
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    assert!(lock.contains("arch = \"aarch64\"") && !lock.contains("x86_64"), "{lock}");
    // What postinstall and packages' scripts would see; no program of the tools is in the image.
    let ran = space.run(&["shell", "--", "/bin/sh", "-c", ". /etc/os-release; uname -m; echo $ID"]).good();
    assert_eq!(ran.out, "aarch64\nfixture\n");
    assert_eq!(machines(&space, "node").iter().find(|(_, machine)| *machine != AARCH64), None);
    let ran = space.run(&["boot", "--until", " login:", "--timeout", "2400"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
}

#[test]
fn a_driver_is_built_by_the_compiler_of_the_images_cpu() {
    if !has_init("aarch64") {
        return;
    }
    let space = Space::example("arm").with_store(&store());
    copy_tree(&project().join("tests/fixtures/driver"), &space.path().join("driver"));
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.write("image.toml", &format!("{recipe}\n[[kernel.build]]\nsource = \"driver\"\n"));
    space.run(&["build"]).good();
    assert_eq!(space.to_do(), Vec::<String>::new());
    let script = "/sbin/modinfo -F vermagic /lib/modules/*/updates/site_greeter.ko; ls /lib/modules/*/updates";
    let ran = space.run(&["shell", "--", "/bin/sh", "-c", script]).good();
    assert!(ran.out.contains("modversions aarch64") && ran.out.contains("site_base.ko"), "{}", ran.out);
    // What is in the image, and what of it differs, is read without running any of it.
    assert!(space.run(&["size"]).good().out.contains("/usr/lib"));
}

//! Images for 64-bit POWER: built here and booted in QEMU.

use super::{has_init, store};
use crate::support::Space;

#[test]
fn boot_an_image_for_power_is_built_and_boots() {
    if !has_init("ppc64le") {
        return;
    }
    let space = Space::example("arm").with_store(&store());
    for (from, to) in
        [("aarch64", "ppc64le"), ("linux-image-cloud-arm64", "linux-image-powerpc64le"), ("ttyAMA0", "hvc0")]
    {
        space.edit("image.toml", from, to);
    }
    // The archive's security updates for this CPU are not on each mirror.
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.write("image.toml", &format!("{recipe}\n[[repo]]\nsource = \"host\"\nsuites = [\"bookworm\"]\n"));
    space.run(&["build"]).good();
    let kept = space.run(&["plan"]).good().out;
    assert!(!kept.contains(" run "), "{kept}");
    let ran = space.run(&["shell", "--", "/bin/sh", "-c", "uname -m; dpkg --print-architecture"]).good();
    assert_eq!(ran.out, "ppc64le\nppc64el\n");
    let ran = space.run(&["boot", "--until", " login:", "--timeout", "2400"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(!ran.out.contains("Initramfs unpacking failed"), "{}", ran.out);
}

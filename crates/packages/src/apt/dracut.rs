//! What of Debian composes an initrd with dracut.

/// Packages of a tools root in which dracut runs, besides the essential ones.
///
/// `mount` has no essential package before it, and dracut's own module `base` takes mount(8) into each initrd. Nothing of
/// dracut-network: imgbuild's module brings its own DHCP client; who adds dracut's network modules adds the package.
pub(super) const DRACUT_PACKAGES: [&str; 4] = ["dracut-core", "kmod", "cpio", "mount"];

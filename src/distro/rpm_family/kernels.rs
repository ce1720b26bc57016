//! How RPM distributions name their kernels.
//!
//! Red Hat's `uname -r` is version, release and architecture of the package; SUSE's is the version, the release without its
//! last part (which counts rebuilds) and the flavour. What a package really brings is read from the package in the kernel
//! stage; here names are only told apart. Source: the distributions' kernel.spec and kernel-default.spec.

use crate::recipe::PinnedPackage;

/// Endings of names that bring neither kernel nor modules.
const OTHERS: [&str; 8] = ["-headers", "-devel", "-tools", "-tools-libs", "-doc", "-macros", "-source", "-syms"];

/// Whether a package may bring a kernel or modules of one.
pub fn is_kernel(name: &str) -> bool {
    name.starts_with("kernel")
        && !name.contains("abi")
        && !OTHERS.iter().any(|ending| name.ends_with(ending))
        && !name.contains("-devel-")
}

/// Flavours of SUSE, which stand at the end of the release.
const FLAVOURS: [&str; 6] = ["default", "azure", "rt", "preempt", "64kb", "vanilla"];

/// SUSE's flavour of a package: `kernel-default`, `kernel-default-base`, `kernel-default-devel`.
fn flavour(name: &str) -> Option<&'static str> {
    let rest = name.strip_prefix("kernel-")?;
    let first = rest.split('-').next()?;
    // Red Hat has kernel-rt as well, in parts.
    let is_red_hat = rest == "rt" || rest.starts_with("rt-core") || rest.starts_with("rt-modules");
    FLAVOURS.into_iter().find(|known| *known == first && !is_red_hat)
}

fn release_of(package: &PinnedPackage) -> String {
    let version = package.version.split_once(':').map_or(package.version.as_str(), |(_, rest)| rest);
    match flavour(&package.name) {
        Some(flavour) => {
            let base = match version.rsplit_once('.') {
                Some((base, last)) if last.bytes().all(|byte| byte.is_ascii_digit()) && base.contains('-') => base,
                _ => version,
            };
            format!("{base}-{flavour}")
        }
        None => format!("{version}.{}", package.architecture),
    }
}

/// The release of the kernel that a package brings or stands for.
pub fn release(package: &PinnedPackage) -> Option<String> {
    let rest = package.name.strip_prefix("kernel")?;
    let whole = ["", "-core", "-uek", "-uek-core", "-rt", "-rt-core", "-lt", "-ml", "-64k", "-64k-core"];
    let is_whole = whole.contains(&rest) || flavour(&package.name).is_some_and(|known| rest[1..] == *known);
    is_whole.then(|| release_of(package))
}

/// The package with the headers of a kernel.
pub fn headers(kernel: &str) -> String {
    format!("{}-devel", kernel.strip_suffix("-core").unwrap_or(kernel))
}

/// The release whose headers a package brings.
pub fn headers_release(package: &PinnedPackage) -> Option<String> {
    let is_headers =
        package.name.starts_with("kernel") && package.name.ends_with("-devel") && package.name != "kernel-abi-devel";
    is_headers.then(|| release_of(package))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;

    fn package(name: &str, version: &str) -> PinnedPackage {
        PinnedPackage {
            name: name.into(),
            version: version.into(),
            architecture: "x86_64".into(),
            size: 1,
            sha256: Sha256::of(name.as_bytes()),
            origin: "base".into(),
            file: "x.rpm".into(),
            automatic: false,
        }
    }

    #[test]
    fn releases_are_as_the_distributions_make_them() {
        let red_hat = release(&package("kernel-core", "5.14.0-427.13.1.el9_4"));
        assert_eq!(red_hat.as_deref(), Some("5.14.0-427.13.1.el9_4.x86_64"));
        let suse = release(&package("kernel-default", "5.14.21-150500.55.19.1"));
        assert_eq!(suse.as_deref(), Some("5.14.21-150500.55.19-default"));
        assert_eq!(release(&package("kernel-modules", "5.14.0-1")), None);
        assert_eq!(release(&package("kernel-headers", "5.14.0-1")), None);
        let uek = headers_release(&package("kernel-uek-devel", "5.15.0-3.el9uek"));
        assert_eq!((uek.as_deref(), headers("kernel-core").as_str()), (Some("5.15.0-3.el9uek.x86_64"), "kernel-devel"));
        assert_eq!(headers("kernel-default"), "kernel-default-devel");
    }

    #[test]
    fn packages_that_bring_no_kernel_are_told_apart() {
        for name in ["kernel", "kernel-core", "kernel-modules-extra", "kernel-default-base", "kernel-uek"] {
            assert!(is_kernel(name), "{name}");
        }
        for name in
            ["kernel-headers", "kernel-devel", "kernel-abi-stablelists", "kernel-tools", "kernel-syms", "systemd"]
        {
            assert!(!is_kernel(name), "{name}");
        }
    }
}

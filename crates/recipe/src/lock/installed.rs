//! What an image has installed at the end, by its lock.

use super::file::{Lock, LockedPass, PinnedPackage};

/// A package of an image.
#[derive(Debug, Clone, Copy)]
pub struct InImage<'a> {
    pub name: &'a str,
    pub architecture: &'a str,
    /// Version, as the lock has it.
    pub version: &'a str,
    /// The transaction that brings it, and its file; none of what the container image below has.
    pub brought: Option<(&'a LockedPass, &'a PinnedPackage)>,
}

impl<'a> InImage<'a> {
    fn of(pass: &'a LockedPass, package: &'a PinnedPackage) -> Self {
        let PinnedPackage { name, architecture, version, .. } = package;
        Self { name, architecture, version, brought: Some((pass, package)) }
    }

    fn is_in(&self, names: &[String]) -> bool {
        names.iter().any(|name| is_meant(name, self.name))
    }
}

/// Whether a name of a list stands for those of installed packages that match it. Source: dpkg-query(1), fnmatch(3).
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// Whether a package is meant by a name or pattern that is removed.
pub fn is_meant(name: &str, package: &str) -> bool {
    name == package || is_pattern(name) && xcat::matches(name, package)
}

/// Whether packages of one name take each other's place: those of one CPU do, and those for any CPU take that of all; those of another
/// one stand beside (`glibc.i686`). A CPU's newer generations are called `x86_64_v2` and so on.
pub fn takes_place(architecture: &str, other: &str) -> bool {
    let is_any = |one: &str| matches!(one, "all" | "noarch");
    let cpu = |one| str::split(one, "_v").next();
    is_any(architecture) || is_any(other) || cpu(architecture) == cpu(other)
}

/// Endings of names that bring neither kernel nor modules.
const NO_KERNELS: [&str; 11] = [
    "-headers",
    "-devel",
    "-tools",
    "-tools-libs",
    "-doc",
    "-docs",
    "-docs-html",
    "-macros",
    "-source",
    "-syms",
    "-obs-build",
];

/// Whether an RPM package may bring a kernel or modules of one, by its name. What stands beside other versions of itself is the
/// lock's to say ([`PinnedPackage::beside`]); before it did, it was these.
pub fn is_kernel_name(name: &str) -> bool {
    (name == "kernel" || name.starts_with("kernel-"))
        && !name.contains("abi")
        && !NO_KERNELS.iter().any(|ending| name.ends_with(ending))
        && !name.contains("-devel-")
        && !name.contains("-source-")
}

impl Lock {
    /// Packages of all transactions, in their order, less what later ones remove or replace; tools are left out.
    pub fn in_image(&self) -> Vec<InImage<'_>> {
        self.after(self.image_passes())
    }

    /// What is installed after some of its transactions, over the container image.
    pub fn after<'a>(&'a self, passes: impl IntoIterator<Item = &'a LockedPass>) -> Vec<InImage<'a>> {
        let of_base = self.base.iter().flat_map(|base| &base.packages);
        let mut all: Vec<InImage<'_>> = of_base
            .map(|one| InImage {
                name: &one.name,
                architecture: &one.architecture,
                version: &one.version,
                brought: None,
            })
            .collect();
        for pass in passes {
            all.retain(|one| !one.is_in(&pass.remove));
            if pass.remove_after.is_empty() {
                all.retain(|one| !one.is_in(&pass.remove_with));
            }
            let gone = [&pass.conflicting, &pass.replaced];
            all.retain(|old| {
                let is_same = |one: &PinnedPackage| plain_version(&one.version) == plain_version(old.version);
                let again = pass.packages.iter().any(|one| {
                    one.name == old.name
                        && takes_place(&one.architecture, old.architecture)
                        && (!one.beside || is_same(one))
                });
                !again && !gone.iter().any(|names| old.is_in(names))
            });
            all.extend(pass.packages.iter().map(|package| InImage::of(pass, package)));
            if !pass.remove_after.is_empty() {
                all.retain(|one| !one.is_in(&pass.remove_after) && !one.is_in(&pass.remove_with));
            }
        }
        all
    }
}

/// A version without an epoch of 0, which some write and others do not.
pub fn plain_version(version: &str) -> &str {
    version.strip_prefix("0:").unwrap_or(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::digest::Sha256;

    fn pass(name: &str, packages: &[&str], change: impl FnOnce(&mut LockedPass)) -> LockedPass {
        let package = |text: &&str| {
            let (name, version) = text.split_once(' ').unwrap();
            PinnedPackage {
                name: name.to_owned(),
                version: version.to_owned(),
                architecture: "all".to_owned(),
                size: 1,
                sha256: Sha256::of(text.as_bytes()),
                origin: String::new(),
                file: String::new(),
                automatic: false,
                beside: name == "kernel",
            }
        };
        let packages = packages.iter().map(package).collect();
        let mut pass = LockedPass { name: name.to_owned(), packages, ..LockedPass::default() };
        change(&mut pass);
        pass
    }

    #[test]
    fn packages_of_several_cpus_stand_beside_each_other() {
        for (one, other, takes) in [
            ("x86_64", "i686", false),
            ("x86_64", "x86_64_v2", true),
            ("noarch", "x86_64", true),
            ("amd64", "all", true),
        ] {
            assert_eq!((takes_place(one, other), takes_place(other, one)), (takes, takes), "{one} {other}");
        }
    }

    #[test]
    fn what_goes_is_not_there_and_what_comes_again_is_there_once() {
        let names = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut lock: Lock = Lock { pass: Vec::new(), base: None, ..crate::lock::file::tests::sample() };
        lock.pass = vec![
            pass("tools", &["apt 1"], |_| {}),
            pass("base", &["bash 1", "exim 1", "exim-config 1", "old-a 1", "old-b 1", "kernel 1"], |_| {}),
            pass("packages-1", &["bash 2", "postfix 1"], |pass| pass.replaced = names(&["exim", "exim-config"])),
            pass("packages-2", &["first 1", "second 1"], |pass| {
                pass.remove = names(&["old-*", "second"]);
                pass.remove_after = names(&["first"]);
            }),
            pass("kernel", &["kernel 2", "more 1"], |_| {}),
        ];
        let found =
            |lock: &Lock| lock.in_image().iter().map(|one| format!("{} {}", one.name, one.version)).collect::<Vec<_>>();
        let same = ["bash 2", "postfix 1", "second 1", "kernel 2", "more 1"];
        // Kernels stand beside each other, whatever else comes with them.
        assert_eq!(found(&lock), [&["kernel 1"], &same[..]].concat());
        lock.pass.push(pass("otherpkgs-1", &["kernel 3", "kernel 2", "bash 3"], |_| {}));
        let now = found(&lock);
        assert_eq!(now, ["kernel 1", "postfix 1", "second 1", "more 1", "kernel 3", "kernel 2", "bash 3"]);
        lock.pass.iter_mut().flat_map(|pass| &mut pass.packages).for_each(|package| package.beside = false);
        assert_eq!(found(&lock), ["postfix 1", "second 1", "more 1", "kernel 3", "kernel 2", "bash 3"]);
        // What goes with what is removed before may come again at once; afterwards it goes.
        for (field, stays) in [(false, true), (true, false)] {
            let again = pass("otherpkgs-2", &["second 2"], |pass| {
                *(if field { &mut pass.remove_after } else { &mut pass.remove }) = names(&["more"]);
                pass.remove_with = names(&["second"]);
            });
            let lock = Lock { pass: lock.pass.iter().cloned().chain([again]).collect(), ..lock.clone() };
            assert_eq!(found(&lock).contains(&"second 2".to_owned()), stays);
        }
    }

    #[test]
    fn packages_that_bring_no_kernel_are_told_apart() {
        for name in ["kernel", "kernel-core", "kernel-modules-extra", "kernel-default-base", "kernel-uek"] {
            assert!(is_kernel_name(name), "{name}");
        }
        for name in
            ["kernel-headers", "kernel-devel", "kernel-abi-stablelists", "kernel-tools", "kernel-syms", "systemd"]
                .into_iter()
                .chain(["kernelshark", "kernel-docs", "kernel-source-rt", "kernel-obs-build"])
        {
            assert!(!is_kernel_name(name), "{name}");
        }
    }
}

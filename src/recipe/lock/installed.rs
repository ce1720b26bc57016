//! What an image has installed at the end, by its lock.

use std::collections::BTreeSet;

use super::file::{Lock, LockedPass, PinnedPackage};
use super::role::PassRole;
use crate::xcat;

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

    fn key(&self) -> (&'a str, &'a str) {
        (self.name, self.architecture)
    }

    fn is_in(&self, lists: &[&[String]]) -> bool {
        lists.iter().copied().flatten().any(|word| word == self.name || xcat::matches(word, self.name))
    }
}

impl Lock {
    /// Packages of all transactions, in their order, less what later ones remove or replace; tools are left out.
    pub fn in_image(&self) -> Vec<InImage<'_>> {
        let of_base = self.base.iter().flat_map(|base| &base.packages);
        let mut all: Vec<InImage<'_>> = of_base
            .map(|one| InImage {
                name: &one.name,
                architecture: &one.architecture,
                version: &one.version,
                brought: None,
            })
            .collect();
        for pass in self.image_passes() {
            let brought: Vec<InImage<'_>> = pass.packages.iter().map(|package| InImage::of(pass, package)).collect();
            // Kernels stand beside each other.
            let stays = pass.role() == PassRole::Kernel;
            let again: BTreeSet<_> = brought.iter().filter(|_| !stays).map(InImage::key).collect();
            let gone = [&pass.remove, &pass.remove_with, &pass.conflicting, &pass.replaced].map(Vec::as_slice);
            all.retain(|one| !again.contains(&one.key()) && !one.is_in(&gone));
            all.extend(brought);
            let gone = [&pass.remove_after, &pass.remove_with].map(Vec::as_slice);
            all.retain(|one| !one.is_in(&gone));
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
    use crate::digest::Sha256;

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
            }
        };
        let packages = packages.iter().map(package).collect();
        let mut pass = LockedPass { name: name.to_owned(), packages, ..LockedPass::default() };
        change(&mut pass);
        pass
    }

    #[test]
    fn what_goes_is_not_there_and_what_comes_again_is_there_once() {
        let names = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut lock: Lock = Lock { pass: Vec::new(), base: None, ..crate::recipe::lock::file::tests::sample() };
        lock.pass = vec![
            pass("tools", &["apt 1"], |_| {}),
            pass("base", &["bash 1", "exim 1", "exim-config 1", "old-a 1", "old-b 1", "kernel 1"], |_| {}),
            pass("packages-1", &["bash 2", "postfix 1"], |pass| pass.replaced = names(&["exim", "exim-config"])),
            pass("packages-2", &["first 1", "second 1"], |pass| {
                pass.remove = names(&["old-*", "second"]);
                pass.remove_after = names(&["first"]);
            }),
            pass("kernel", &["kernel 2"], |_| {}),
        ];
        let found: Vec<_> = lock.in_image().iter().map(|one| format!("{} {}", one.name, one.version)).collect();
        assert_eq!(found, ["kernel 1", "bash 2", "postfix 1", "second 1", "kernel 2"]);
    }
}

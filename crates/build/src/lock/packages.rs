//! Packages of two sides: what came, went, and which way versions moved by the distribution's own rules.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use packages::installed::{DatabaseKind, Installed, InstalledPackage};
use packages::rpm::Evr;
use plan::{BESIDE, InputName};
use recipe::{Family, InImage, Lock, family_of, is_kernel_name, is_meant, takes_place};

/// A package of one side.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Architecture, as the package manager writes it.
    pub arch: String,
    /// Version, as the package manager writes it.
    pub version: String,
}

/// A package that both sides have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MovedPackage {
    /// Name.
    pub name: String,
    /// Architecture.
    pub arch: String,
    /// Version of the first side.
    pub was: String,
    /// Version of the second side.
    pub now: String,
}

/// What differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PackageDifference {
    /// Only in the second.
    pub added: Vec<Package>,
    /// Only in the first.
    pub removed: Vec<Package>,
    /// Newer in the second.
    pub upgraded: Vec<MovedPackage>,
    /// Older in the second.
    pub downgraded: Vec<MovedPackage>,
    /// Same version, different content.
    pub changed: Vec<Package>,
}

impl PackageDifference {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// All packages of a side: digest of the file where it is known, by name, architecture and version.
#[derive(Debug, Clone)]
pub struct Packages {
    pub family: Family,
    pub all: BTreeMap<Package, Option<String>>,
}

/// Orders two versions as the distribution does; text that is no version comes by its letters.
pub fn compare_versions(family: Family, one: &str, two: &str) -> Ordering {
    match family {
        Family::Debian => match (one.parse::<debversion::Version>(), two.parse::<debversion::Version>()) {
            (Ok(one), Ok(two)) => one.cmp(&two),
            _ => one.cmp(two),
        },
        Family::RedHat | Family::Suse => Evr::parse(one).cmp(&Evr::parse(two)),
    }
}

impl Packages {
    /// Packages of an image by its lock: of all transactions, less what later ones remove; tools are left out.
    pub fn of_lock(lock: &Lock) -> Self {
        let family = lock.family();
        let package = |one: InImage<'_>| {
            let (name, arch, version) = (one.name.to_owned(), one.architecture.to_owned(), one.version.to_owned());
            (Package { name, arch, version }, one.brought.map(|(_, package)| package.sha256.to_string()))
        };
        let all = lock.in_image().into_iter().map(package).collect();
        Self { family, all }
    }

    /// Packages of an image by the recorded inputs of its layers, lowest first.
    pub fn of_inputs<'a>(target: &str, inputs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let family = family_of(target);
        let mut all: BTreeMap<Package, Option<String>> = BTreeMap::new();
        // What comes in one layer, and what goes before and afterwards.
        let (mut comes, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new());
        // A record of an imgbuild that did not say what stands beside others.
        let beside = |name: &str| family != Family::Debian && is_kernel_name(name);
        let mut with: Vec<String> = Vec::new();
        let mut inputs = inputs.peekable();
        while let Some((name, value)) = inputs.next() {
            if let Some((name, arch)) = InputName::of(name).package() {
                let mut words = value.split(' ');
                let version = words.next().unwrap_or_default().to_owned();
                let digest = words.next().map(str::to_owned);
                let stays = words.any(|word| word == BESIDE) || beside(name);
                let (name, arch) = (name.to_owned(), arch.to_owned());
                comes.push((Package { name, arch, version }, digest, stays));
            }
            let gone = |kind: &str| name.strip_prefix(kind).map(str::to_owned);
            before.extend(["remove ", "conflicting ", "replaced "].iter().find_map(|kind| gone(kind)));
            after.extend(gone("remove-after "));
            with.extend(gone("remove-with "));
            if inputs.peek().is_none_or(|(name, _)| *name == "action") {
                let goes = |names: &[String], package: &Package| names.iter().any(|name| is_meant(name, &package.name));
                // As the lock has it: what goes with others goes when they do.
                if after.is_empty() { &mut before } else { &mut after }.append(&mut with);
                all.retain(|old, _| {
                    let is_it = |new: &Package| new.name == old.name && takes_place(&new.arch, &old.arch);
                    let again = comes.iter().any(|(new, _, stays)| is_it(new) && !stays);
                    !again && !goes(&before, old)
                });
                all.extend(comes.drain(..).map(|(package, digest, _)| (package, digest)));
                all.retain(|package, _| !goes(&after, package));
                before.clear();
                after.clear();
            }
        }
        Self { family, all }
    }

    pub fn of_installed(installed: &Installed) -> Self {
        let package = |one: &InstalledPackage| {
            (Package { name: one.name.clone(), arch: one.arch.clone(), version: one.version.clone() }, None)
        };
        let family = match installed.kind {
            DatabaseKind::Dpkg => Family::Debian,
            DatabaseKind::Rpm => Family::RedHat,
        };
        Self { family, all: installed.packages.iter().map(package).collect() }
    }
}

pub fn compare(was: &Packages, now: &Packages) -> PackageDifference {
    let by_name = |side: &Packages| {
        let mut names: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for package in side.all.keys() {
            let versions = names.entry((package.name.clone(), package.arch.clone())).or_default();
            versions.insert(package.version.clone());
        }
        names
    };
    let (old, new, now_family) = (by_name(was), by_name(now), now.family);
    let mut found = PackageDifference::default();
    let empty = BTreeSet::new();
    let names: BTreeSet<&(String, String)> = old.keys().chain(new.keys()).collect();
    for key in names {
        let (name, arch) = key.clone();
        let (before, after) = (old.get(key).unwrap_or(&empty), new.get(key).unwrap_or(&empty));
        let gone: Vec<&String> = before.difference(after).collect();
        let came: Vec<&String> = after.difference(before).collect();
        if let ([was], [now]) = (&gone[..], &came[..]) {
            let moved = MovedPackage { name, arch, was: (*was).clone(), now: (*now).clone() };
            match compare_versions(now_family, was, now) {
                Ordering::Greater => found.downgraded.push(moved),
                _ => found.upgraded.push(moved),
            }
            continue;
        }
        let package = |version: &String| Package { name: name.clone(), arch: arch.clone(), version: version.clone() };
        found.removed.extend(gone.into_iter().map(package));
        found.added.extend(came.into_iter().map(package));
    }
    for (package, digest) in &now.all {
        if let (Some(Some(was)), Some(now)) = (was.all.get(package), digest)
            && was != now
        {
            found.changed.push(package.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian(packages: &[(&str, &str, Option<&str>)]) -> Packages {
        let one = |(name, version, digest): &(&str, &str, Option<&str>)| {
            let package = Package { name: (*name).into(), arch: "amd64".into(), version: (*version).into() };
            (package, digest.map(str::to_owned))
        };
        Packages { family: Family::Debian, all: packages.iter().map(one).collect() }
    }

    #[test]
    fn versions_move_by_the_rules_of_the_distribution() {
        let was = debian(&[("a", "1.0~rc1-1", None), ("b", "2:1.0", None), ("c", "1", None), ("d", "1", Some("x"))]);
        let now = debian(&[("a", "1.0-1", None), ("b", "1:9.0", None), ("e", "1", None), ("d", "1", Some("y"))]);
        let found = compare(&was, &now);
        let names = |list: &[MovedPackage]| list.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        assert_eq!((names(&found.upgraded), names(&found.downgraded)), (vec!["a".to_owned()], vec!["b".to_owned()]));
        assert_eq!((found.added[0].name.as_str(), found.removed[0].name.as_str()), ("e", "c"));
        assert_eq!(found.changed[0].name, "d");
        assert!(compare(&was, &was).is_empty());
        // rpm compares segment by segment, where dpkg sees another order.
        assert_eq!(compare_versions(Family::RedHat, "1.0a", "1.0.a"), Ordering::Equal);
        assert_eq!(compare_versions(Family::RedHat, "1.0^git1-1", "1.0-1"), Ordering::Greater);
    }

    #[test]
    fn kernels_beside_one_another_come_and_go_by_version() {
        let both = [("kernel-core", "5-1", None), ("kernel-core", "5-2", None)];
        let found = compare(&debian(&both), &debian(&[("kernel-core", "5-2", None), ("kernel-core", "5-3", None)]));
        assert_eq!((found.upgraded.len(), found.upgraded[0].was.as_str()), (1, "5-1"));
        let found = compare(&debian(&both), &debian(&[("kernel-core", "5-2", None)]));
        assert_eq!((found.removed.len(), found.removed[0].version.as_str()), (1, "5-1"));
    }

    #[test]
    fn recorded_inputs_tell_what_is_installed_in_the_end() {
        let inputs = [
            ("action", "bootstrap version 1"),
            ("package a:amd64", "1 x"),
            ("package b:all", "1 y automatic"),
            ("action", "install version 3"),
            ("remove b", "yes"),
            ("package a:amd64", "2 z"),
        ];
        let found = Packages::of_inputs("debian bookworm x86_64", inputs.into_iter());
        let names: Vec<String> =
            found.all.keys().map(|one| format!("{} {} {}", one.name, one.arch, one.version)).collect();
        assert_eq!(names, ["a amd64 2"]);
    }
}

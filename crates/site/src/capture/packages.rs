//! Which packages of a node its recipe lists.

use std::collections::{BTreeMap, BTreeSet};

use packages::installed::{Installed, InstalledPackage};
use packages::rpm::Evr;
use recipe::{Arch, Distro, Family};
use xcat::matches;

use super::CaptureError;
use super::census::Census;
use super::facts::{Facts, value};

/// Whether a package's name is one that dpkg or rpm takes, and so no directive of a list. Source: Debian Policy 5.6.1, rpm's own check.
fn is_package_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+._-".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && name.chars().all(plain)
}

/// Whether a version can stand in a list.
fn is_version(version: &str) -> bool {
    !version.is_empty() && version.chars().all(|c| c.is_ascii_alphanumeric() || ".+~:^_-".contains(c))
}

/// Whether a package of the database can be one of a recipe's.
pub(super) fn is_sane(package: &InstalledPackage) -> bool {
    is_package_name(&package.name)
        && is_version(&package.version)
        && is_package_name(&package.arch.replace(['(', ')'], ""))
}

/// The CPU that most packages are for.
/// Errors: [`CaptureError::Unknown`] where images cannot have it.
pub(super) fn arch_of(installed: &Installed) -> Result<Arch, CaptureError> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for package in installed.packages.iter().filter(|one| is_sane(one) && !is_of_no_cpu(one)) {
        *counts.entry(&package.arch).or_default() += 1;
    }
    let Some((most, _)) = counts.into_iter().max_by_key(|(_, count)| *count) else { return Ok(Arch::default()) };
    Arch::named(most).ok_or_else(|| CaptureError::Unknown {
        problem: format!("its packages are for {most}: images are built for {}", Arch::names()),
    })
}

fn is_of_no_cpu(package: &InstalledPackage) -> bool {
    ["all", "noarch", "(none)"].contains(&package.arch.as_str())
}

/// Whether a package is of the image's CPU, or of none.
fn is_own_arch(arch: Arch, package: &InstalledPackage) -> bool {
    is_of_no_cpu(package) || Arch::named(&package.arch) == Some(arch)
}

/// Whether a package cannot be installed into an image.
pub(super) fn is_foreign(arch: Arch, package: &InstalledPackage) -> bool {
    !is_sane(package) || !is_own_arch(arch, package)
}

/// Packages of a boot loader, which a node without a disk has no use for.
const LOADERS: [&str; 9] =
    ["grub-*", "grub2-*", "grub2", "grubby", "shim-*", "os-prober", "efibootmgr", "mokutil", "lilo"];

fn is_of_kernel(distro: Distro, name: &str) -> bool {
    let has_number =
        |start: &str| name.strip_prefix(start).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    match distro.family() {
        Family::Debian => {
            name.starts_with("linux-image-")
                || ["linux-headers-", "linux-modules-", "linux-modules-extra-", "linux-kbuild-", "linux-tools-"]
                    .iter()
                    .any(|start| has_number(start))
        }
        Family::RedHat => {
            ["kernel", "kernel-core", "kernel-modules", "kernel-modules-core", "kernel-uek", "kernel-uek-core"]
                .contains(&name)
        }
        Family::Suse => name == "kernel-default" || name == "kernel-default-base",
    }
}

fn kernel_of(distro: Distro, names: &BTreeSet<&str>) -> Option<String> {
    let wanted: &[&str] = match distro.family() {
        Family::Debian => &[
            "linux-image-amd64",
            "linux-image-arm64",
            "linux-image-arm64-16k",
            "linux-image-powerpc64le",
            "linux-image-powerpc64le-64k",
            "linux-image-cloud-amd64",
            "linux-image-cloud-arm64",
            "linux-image-rt-amd64",
            "linux-image-rt-arm64",
            "linux-image-generic",
            "linux-image-virtual",
        ],
        Family::RedHat => &["kernel-uek", "kernel", "kernel-core"],
        Family::Suse => &["kernel-default", "kernel-default-base"],
    };
    if let Some(found) = wanted.iter().find(|name| names.contains(**name)) {
        return Some((*found).to_owned());
    }
    let mut own: Vec<&&str> = names
        .iter()
        .filter(|name| distro.family() == Family::Debian && name.starts_with("linux-image-") && !name.ends_with("-dbg"))
        .collect();
    own.sort_by_key(|name| Evr::parse(name.trim_start_matches("linux-image-")));
    own.last().map(|name| (**name).to_owned())
}

/// Finds out which packages and streams of modules the node has.
pub(super) fn find(facts: &mut Facts, census: &Census, installed: &Installed) {
    facts.modules = streams(census);
    list(facts, installed);
}

/// The packages of the list, and those that are not in it.
fn list(facts: &mut Facts, installed: &Installed) {
    let distro = facts.release.distro;
    let arch = facts.arch;
    let odd: Vec<String> = installed
        .packages
        .iter()
        .filter(|one| !is_sane(one))
        .map(|one| one.name.escape_default().to_string())
        .collect();
    if !odd.is_empty() {
        facts.notes.push(format!("packages with invalid names or versions are left out: {}", odd.join(", ")));
    }
    let foreign: Vec<&str> = installed
        .packages
        .iter()
        .filter(|one| !is_own_arch(arch, one) && is_sane(one))
        .map(|one| one.name.as_str())
        .collect();
    if !foreign.is_empty() {
        facts.notes.push(format!("packages of other architectures are left out: {}", foreign.join(", ")));
    }
    let names: BTreeSet<&str> =
        installed.packages.iter().filter(|one| !is_foreign(arch, one)).map(|one| one.name.as_str()).collect();
    facts.kernel = kernel_of(distro, &names);
    let (mut loaders, mut kernels) = (Vec::new(), Vec::new());
    for package in installed.packages.iter().filter(|one| !is_foreign(arch, one)) {
        let name = package.name.as_str();
        if LOADERS.iter().any(|pattern| matches(pattern, name)) {
            loaders.push(name);
        } else if is_of_kernel(distro, name) {
            kernels.push(name);
        } else if facts.packages.last().is_none_or(|(last, ..)| last != name) {
            facts.packages.push((name.to_owned(), package.version.clone(), package.automatic));
        }
    }
    if !loaders.is_empty() {
        facts.notes.push(format!("packages of boot loaders are left out: {}", loaders.join(", ")));
    }
    facts.without = loaders.iter().chain(&kernels).map(|name| (*name).to_owned()).collect();
    kernels.dedup();
    if kernels.len() > 1 {
        let kernel = facts.kernel.as_deref().unwrap_or_default();
        facts.notes.push(format!("the image gets the kernel {kernel} through [kernel], out of {}", kernels.join(", ")));
    }
}

/// Module streams that the node has enabled. Source: libdnf's modules.d, an INI file for each module.
fn streams(census: &Census) -> Vec<String> {
    let files =
        census.texts.iter().filter(|(path, _)| path.starts_with("etc/dnf/modules.d/") && path.ends_with(".module"));
    let one = |(_, bytes): (&String, &Vec<u8>)| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (name, stream, state) = (value(&text, "name")?, value(&text, "stream")?, value(&text, "state")?);
        let is_word = xcat::definitions::is_word;
        (state == "enabled" && is_word(&name) && is_word(&stream)).then(|| format!("{name}:{stream}"))
    };
    files.filter_map(one).collect()
}

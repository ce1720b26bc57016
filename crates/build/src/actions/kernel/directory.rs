//! The directory of kernels (xCAT: kerneldir), and the headers that belong to the kernel that was chosen.

use super::drivers::HEADERS;
use crate::StageError;
use crate::actions::packages::requests::PackageRequest;
use packages::{PackageArchive, PackageManager, manager};
use plan::{Cause, Change, Origin, Place, Reason, Subject};
use recipe::{Lock, LockedPass, PassRole, PinnedPackage, Recipe};
use xcat::matches;

type Kernel = (String, PinnedPackage);

/// Puts kernels into the order of their versions; of one release the shortest name comes first: it is the whole kernel, the
/// others are its parts.
fn sorted(manager: &dyn PackageManager, mut kernels: Vec<Kernel>) -> Vec<Kernel> {
    let order = manager.order();
    kernels.sort_by(|a, b| order.compare(&a.0, &b.0).then_with(|| a.1.name.len().cmp(&b.1.name.len())));
    kernels
}

pub(crate) struct Chosen {
    /// What is asked for, in the package manager's words.
    pub words: Vec<String>,
    /// Packages of the directory that go before those of other repositories.
    pub held: Vec<PinnedPackage>,
}

/// The one kernel of the directory that is wanted, with its parts where no package is named.
/// Errors: [`StageError::Gate`] unless there is exactly one, with those that there are, by their versions.
pub(crate) fn choose(
    recipe: &Recipe,
    dir: &str,
    archive: &dyn PackageArchive,
    packages: &[PinnedPackage],
) -> Result<Chosen, StageError> {
    let (manager, kernel) = (manager(recipe), &recipe.model.kernel);
    let all = sorted(manager, archive.kernel_releases(packages)?);
    let (release, one) = choose_of((kernel.package.as_deref(), kernel.version.as_deref()), dir, &all)?;
    let mut words = vec![manager.exactly(one)];
    if kernel.package.is_none() {
        words.extend(archive.kernel_parts(release, packages).iter().map(|part| manager.exactly(part)));
    }
    // If packages share a name, only that of this kernel can be meant.
    let is_meant = |package: &&PinnedPackage| {
        let others = packages.iter().any(|other| other.name == package.name && other.version != package.version);
        !others || package.version == one.version
    };
    let held = packages.iter().filter(is_meant).cloned().collect();
    Ok(Chosen { words, held })
}

fn choose_of<'k>(
    (package, version): (Option<&str>, Option<&str>),
    dir: &str,
    all: &'k [Kernel],
) -> Result<&'k Kernel, StageError> {
    let mut releases: Vec<&str> = all.iter().map(|(release, _)| release.as_str()).collect();
    releases.dedup();
    let is_named = |one: &PinnedPackage| {
        package.is_none_or(|name| matches(name, &one.name) || one.name.strip_suffix("-unsigned") == Some(name))
    };
    let mut found: Vec<&Kernel> =
        all.iter().filter(|(release, one)| is_named(one) && version.is_none_or(|version| version == release)).collect();
    found.dedup_by(|b, a| a.0 == b.0);
    let listed = releases.join(", ");
    match found[..] {
        [one] => Ok(one),
        [] => Err(StageError::Gate {
            problem: format!(
                "the directory of kernels `{dir}` has no {}",
                match (package, version) {
                    (Some(package), _) => format!("package `{package}`"),
                    (None, Some(version)) => format!("kernel `{version}`"),
                    (None, None) => "kernel".to_owned(),
                }
            ),
            help: if releases.is_empty() {
                "put the kernel's package files there (xCAT: kerneldir), or remove ‹[kernel]› dir".to_owned()
            } else {
                format!("it has, in ascending order: {listed}; choose one with ‹[kernel]› version")
            },
        }),
        _ => Err(StageError::Gate {
            problem: format!("the directory of kernels `{dir}` has {} kernels: {listed}", found.len()),
            help: format!("choose one: ‹[kernel] version = \"{}\"›", releases.last().unwrap_or(&"")),
        }),
    }
}

/// Why a lock no more fits the directory, which has the digest `now`.
pub(crate) fn causes(recipe: &Recipe, lock: &Lock, now: Option<base::digest::Sha256>) -> Vec<Cause> {
    if now == lock.kernels {
        return Vec::new();
    }
    let dir = recipe.model.kernel.dir.as_deref().unwrap_or("[kernel] dir");
    let place = recipe.spans.get("kernel.dir").map(Place::from);
    let field = Origin::Field("kernel.dir".to_owned());
    let name = &recipe.lock_name();
    let subject = Subject { name: "parameter dir", origin: &field, place: place.as_ref(), was_place: None, lock: name };
    vec![match (lock.kernels, now) {
        (None, _) => subject.cause(Change::Added(dir)),
        (_, None) => subject.cause(Change::Removed(dir)),
        (Some(was), Some(now)) => {
            let what = format!("package files in {dir}:");
            Reason::Changed { what, was: was.short(), now: now.short() }.cause(place.as_ref())
        }
    }]
}

/// Releases of the kernels that packages bring, as a lock keeps them: in the order of their versions, where no name tells them.
/// Errors: [`StageError::Distro`] for metadata that cannot be read.
pub(crate) fn releases(
    manager: &dyn PackageManager,
    archive: &dyn PackageArchive,
    packages: &[PinnedPackage],
) -> Result<Vec<String>, StageError> {
    if manager.names_tell_kernels() {
        return Ok(Vec::new());
    }
    let all = sorted(manager, archive.kernel_releases(packages)?);
    let mut releases: Vec<String> = all.into_iter().map(|(release, _)| release).collect();
    releases.dedup();
    Ok(releases)
}

/// Why a lock does not have the kernel that `[kernel] version` wants, where it knows its kernels.
pub(crate) fn other_version(recipe: &Recipe, lock: &Lock) -> Option<Cause> {
    let wanted = recipe.model.kernel.version.as_ref()?;
    let has: Vec<&String> = lock.image_passes().flat_map(|pass| &pass.kernel_releases).collect();
    if has.is_empty() || has.contains(&wanted) {
        return None;
    }
    let place = recipe.spans.get("kernel.version").map(Place::from);
    let (lock, what) = (recipe.lock_name(), format!("the kernel `{wanted}` is"));
    Some(Reason::NotLocked { lock, what }.cause(place.as_ref()))
}

/// The transaction with what builds drivers: the headers of the one kernel that the others brought.
/// Errors: [`StageError`] where there are several kernels, or no headers.
pub(crate) fn driver_tools(
    package_request: &PackageRequest,
    recipe: &Recipe,
    archive: &dyn PackageArchive,
    passes: &[LockedPass],
    mut held: Vec<PinnedPackage>,
) -> Result<LockedPass, StageError> {
    let manager = manager(recipe);
    let image = passes.iter().filter(|pass| pass.role().is_in_image()).flat_map(|pass| pass.packages.clone());
    let image: Vec<PinnedPackage> = image.collect();
    let all = sorted(manager, archive.kernel_releases(&image)?);
    let mut releases: Vec<&str> = all.iter().map(|(release, _)| release.as_str()).collect();
    releases.dedup();
    let release = match (&recipe.model.kernel.version, &releases[..]) {
        (Some(version), _) => version.as_str(),
        (None, [one]) => one,
        (None, _) => {
            return Err(StageError::Gate {
                problem: format!(
                    "drivers cannot be built: the packages provide {} kernels: {}",
                    releases.len(),
                    releases.join(", ")
                ),
                help: "choose one: ‹[kernel] version = \"...\"›".to_owned(),
            });
        }
    };
    let (name, pinned) = match all.iter().find(|(one, _)| one == release) {
        Some((_, package)) => archive.headers(package, release)?,
        None => (HEADERS.to_owned(), None),
    };
    let Some(pinned) = pinned else {
        return Err(StageError::Gate {
            problem: format!("drivers cannot be built for the kernel {release}: no archive has its headers, `{name}`"),
            help: "archives keep headers as long as the kernel itself: use its newest version (imgbuild update), or put both packages into ‹[kernel]› dir".to_owned(),
        });
    };
    let asked = package_request.pass.install.iter().filter(|item| *item != HEADERS).cloned();
    archive.check_names(&asked.collect::<Vec<_>>())?;
    held.retain(|package| package.name != pinned.name);
    let kernel_releases = if manager.names_tell_kernels() { Vec::new() } else { vec![release.to_owned()] };
    held.push(pinned);
    let names =
        package_request.pass.install.iter().map(|item| if item == HEADERS { name.clone() } else { item.clone() });
    let names: Vec<String> = names.collect();
    Ok(LockedPass {
        name: PassRole::DRIVER_TOOLS.to_owned(),
        install: package_request.pass.install.clone(),
        kernel_releases,
        packages: archive.tools_of_image(&names, &held)?,
        ..LockedPass::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supply::origin::kernel_folder;
    use base::digest::Sha256;

    fn package(name: &str) -> PinnedPackage {
        PinnedPackage {
            name: name.into(),
            version: "1".into(),
            architecture: "amd64".into(),
            size: 1,
            sha256: Sha256::of(name.as_bytes()),
            origin: "kernels/.".into(),
            file: "x.deb".into(),
            automatic: false,
            beside: false,
        }
    }

    #[test]
    fn one_kernel_is_the_answer_and_several_are_listed_by_version() {
        let apt = &packages::apt::Apt;
        let choose = |package, version, all: &[PinnedPackage]| {
            let all = sorted(apt, packages::apt::kernel_releases(all));
            choose_of((package, version), "k", &all).map(|(_, one)| apt.exactly(one))
        };
        let one = [package("linux-image-6.1.0-9-amd64"), package("linux-headers-6.1.0-9-amd64")];
        assert_eq!(choose(None, None, &one).unwrap(), "linux-image-6.1.0-9-amd64=1");
        let two =
            ["linux-image-6.1.0-13-amd64", "linux-image-6.1.0-9-amd64", "linux-image-6.1.0-9-amd64-dbg"].map(package);
        let said = choose(None, None, &two).unwrap_err();
        assert!(said.to_string().contains("has 2 kernels: 6.1.0-9-amd64, 6.1.0-13-amd64"), "{said}");
        assert_eq!(choose(None, Some("6.1.0-9-amd64"), &two).unwrap(), "linux-image-6.1.0-9-amd64=1");
        assert_eq!(choose(Some("linux-image-6.1.0-9-amd64"), None, &two).unwrap(), "linux-image-6.1.0-9-amd64=1");
        let said = choose(Some("linux-image-5"), None, &two).unwrap_err();
        assert!(said.to_string().contains("no package `linux-image-5`"), "{said}");
        assert!(choose(None, None, &[]).is_err());
        let unsigned = [package("linux-image-6.1.0-9-amd64-unsigned")];
        assert!(choose(None, Some("6.1.0-9-amd64"), &unsigned).is_ok());
    }

    #[test]
    fn an_origin_has_its_folder() {
        assert_eq!(kernel_folder("kernels/."), Some(""));
        assert_eq!(kernel_folder("kernels/a/b"), Some("a/b"));
        assert_eq!(kernel_folder("otherpkgs/."), None);
    }
}

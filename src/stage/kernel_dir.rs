//! The directory of kernels (xCAT: kerneldir), and the headers that belong to the kernel that was chosen.

use super::StageError;
use super::drivers::{HEADERS, TOOLS_DRIVER};
use super::kernel::compare;
use super::wish::Wish;
use crate::distro::DistroError;
use crate::distro::apt::{Archive, ToolsSeed, tools_closure};
use crate::plan::{Cause, Place, Reason};
use crate::recipe::{Lock, LockedPass, PinnedPackage, Recipe};
use crate::source::nearest;
use crate::xcat::matches;

/// Start of the origin of packages from the directory.
pub const ORIGIN: &str = "kernels";

/// Start of the names of packages that bring a kernel; the rest is the release, with `-unsigned` for some.
const IMAGE: &str = "linux-image-";

/// The folder below the directory of kernels that a package comes from. `.` is the directory itself.
pub fn folder(origin: &str) -> Option<&str> {
    let folder = origin.strip_prefix(ORIGIN)?.strip_prefix('/')?;
    Some(if folder == "." { "" } else { folder })
}

/// What is asked for of the directory: the package that the recipe names, the one of its release, or the only one.
pub fn wanted(recipe: &Recipe) -> String {
    let kernel = &recipe.model.kernel;
    match (&kernel.package, &kernel.version) {
        (Some(package), _) => package.clone(),
        (None, Some(version)) => format!("{IMAGE}{version}"),
        (None, None) => format!("{IMAGE}*"),
    }
}

/// The release in a package's name.
fn release_of(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(IMAGE)?;
    let is_release = rest.starts_with(|c: char| c.is_ascii_digit()) && !rest.ends_with("-dbg");
    (is_release && !rest.ends_with("-template")).then(|| rest.strip_suffix("-unsigned").unwrap_or(rest))
}

/// Packages of the directory, the newest of each name: they go before all others.
///
/// # Errors
/// [`StageError::Distro`] for a package without what an index needs.
pub fn pins(archive: &Archive) -> Result<Vec<PinnedPackage>, StageError> {
    let mut pins = Vec::new();
    for name in archive.names() {
        let own = archive.candidates(name).into_iter().filter(|one| folder(&one.index.origin).is_some());
        if let Some((_, newest)) = own.filter_map(|one| Some((one.version()?, one))).max_by(|a, b| a.0.cmp(&b.0)) {
            pins.push(newest.pin(false)?);
        }
    }
    Ok(pins)
}

/// The one kernel of the directory that is wanted, as `name=version`.
///
/// # Errors
/// [`StageError::Gate`] where there is none or several, with those that there are, by their versions.
pub fn choose(wanted: &str, dir: &str, pins: &[PinnedPackage]) -> Result<String, StageError> {
    let mut releases: Vec<&str> = pins.iter().filter_map(|one| release_of(&one.name)).collect();
    releases.sort_by(|a, b| compare(a, b));
    let fits = |one: &&PinnedPackage| {
        let is_kernel = release_of(&one.name).is_some() || !wanted.contains('*');
        is_kernel && (matches(wanted, &one.name) || one.name.strip_suffix("-unsigned") == Some(wanted))
    };
    let found: Vec<&PinnedPackage> = pins.iter().filter(fits).collect();
    let listed = releases.join(", ");
    match found[..] {
        [one] => Ok(format!("{}={}", one.name, one.version)),
        [] => Err(StageError::Gate {
            problem: format!("the directory of kernels `{dir}` has no package `{wanted}`"),
            help: if releases.is_empty() {
                "put the kernel's package files there (xCAT: kerneldir), or remove [kernel] dir".to_owned()
            } else {
                format!("it has, in ascending order: {listed}; choose one with [kernel] version")
            },
        }),
        _ => Err(StageError::Gate {
            problem: format!("the directory of kernels `{dir}` has {} kernels: {listed}", found.len()),
            help: format!("choose one: [kernel] version = \"{}\"", releases.last().unwrap_or(&"")),
        }),
    }
}

/// Why a lock no more fits the directory, which has the digest `now`.
pub fn causes(recipe: &Recipe, lock: &Lock, now: Option<crate::digest::Sha256>) -> Vec<Cause> {
    if now == lock.kernels {
        return Vec::new();
    }
    let shown = |digest: Option<crate::digest::Sha256>| {
        format!("- {}", digest.map_or_else(|| "none".to_owned(), |one| one.to_string()))
    };
    let dir = recipe.model.kernel.dir.as_deref().unwrap_or("[kernel] dir");
    let reason = Reason::Changed { what: format!("file {dir}"), was: shown(lock.kernels), now: shown(now) };
    vec![reason.cause(recipe.spans.nearest("kernel.dir").map(Place::from).as_ref())]
}

/// The transaction with what builds drivers: the headers of the one kernel that the others brought.
///
/// # Errors
/// [`StageError`] where there are several kernels, or no headers.
pub fn driver_tools(
    wish: &Wish,
    recipe: &Recipe,
    archive: &Archive,
    passes: &[LockedPass],
    held: &[PinnedPackage],
) -> Result<LockedPass, StageError> {
    let image = passes.iter().filter(|pass| !pass.name.starts_with("tools")).flat_map(|pass| &pass.packages);
    let mut releases: Vec<String> = image.filter_map(|package| release_of(&package.name)).map(str::to_owned).collect();
    releases.sort_by(|a, b| compare(a, b));
    releases.dedup();
    let release = match (&recipe.model.kernel.version, &releases[..]) {
        (Some(version), _) => version.clone(),
        (None, [one]) => one.clone(),
        (None, _) => {
            return Err(StageError::Gate {
                problem: format!(
                    "drivers cannot be built: the packages bring {} kernels: {}",
                    releases.len(),
                    releases.join(", ")
                ),
                help: "choose one: [kernel] version = \"...\"".to_owned(),
            });
        }
    };
    let headers = HEADERS.replace('*', &release);
    if archive.newest(&headers).is_none() {
        return Err(StageError::Gate {
            problem: format!("drivers cannot be built for the kernel {release}: no archive has `{headers}`"),
            help: "archives keep headers as long as the kernel itself: take its newest version (imgbuild update), or put both packages into [kernel] dir".to_owned(),
        });
    }
    unknown_tools(wish, archive)?;
    let names = wish.pass.install.iter().map(|name| if name == HEADERS { headers.clone() } else { name.clone() });
    Ok(LockedPass {
        name: TOOLS_DRIVER.to_owned(),
        install: wish.pass.install.clone(),
        packages: tools_closure(archive, &ToolsSeed { names: names.collect() }, held)?,
        ..LockedPass::default()
    })
}

/// Names of [[kernel.build]] tools that nothing has, all at once.
fn unknown_tools(wish: &Wish, archive: &Archive) -> Result<(), DistroError> {
    let is_there = |name: &String| name == HEADERS || archive.newest(name).is_some();
    let unknown: Vec<String> = wish.pass.install.iter().filter(|name| !is_there(name)).cloned().collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let all = archive.names();
    let hints = unknown.iter().map(|name| (name, nearest(name, all.iter().copied())));
    let hints: Vec<String> = hints
        .filter(|(_, near)| !near.is_empty())
        .map(|(name, near)| format!("instead of `{name}`, did you mean {}?", near.join(", ")))
        .collect();
    let help =
        if hints.is_empty() { "check the suites and components of [[repo]]".to_owned() } else { hints.join("\n") };
    let names = unknown.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    Err(DistroError::UnknownPackages { packages: unknown, names, help })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;

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
        }
    }

    #[test]
    fn one_kernel_is_the_answer_and_several_are_listed_by_version() {
        let one = [package("linux-image-6.1.0-9-amd64"), package("linux-headers-6.1.0-9-amd64")];
        assert_eq!(choose("linux-image-*", "k", &one).unwrap(), "linux-image-6.1.0-9-amd64=1");
        let two =
            ["linux-image-6.1.0-13-amd64", "linux-image-6.1.0-9-amd64", "linux-image-6.1.0-9-amd64-dbg"].map(package);
        let said = choose("linux-image-*", "k", &two).unwrap_err();
        assert!(said.to_string().contains("has 2 kernels: 6.1.0-9-amd64, 6.1.0-13-amd64"), "{said}");
        assert_eq!(choose("linux-image-6.1.0-9-amd64", "k", &two).unwrap(), "linux-image-6.1.0-9-amd64=1");
        let said = choose("linux-image-5", "k", &two).unwrap_err();
        assert!(said.to_string().contains("no package `linux-image-5`"), "{said}");
        assert!(choose("linux-image-*", "k", &[]).is_err());
        let unsigned = [package("linux-image-6.1.0-9-amd64-unsigned")];
        assert!(choose("linux-image-6.1.0-9-amd64", "k", &unsigned).is_ok());
    }

    #[test]
    fn an_origin_has_its_folder() {
        assert_eq!(folder("kernels/."), Some(""));
        assert_eq!(folder("kernels/a/b"), Some("a/b"));
        assert_eq!(folder("otherpkgs/."), None);
    }
}

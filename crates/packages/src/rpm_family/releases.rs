//! What `uname -r` prints with a kernel's package, and whose headers a package has: as the metadata say, never by its version.
//!
//! Red Hat's and its kin's packages provide it (`kernel-uname-r = R`, `kernel-devel-uname-r = R`), and a package without files
//! requires it of its parts. SUSE's do not: there the paths tell, `/boot/vmlinuz-R` and `/usr/src/linux-V-obj/ARCH/FLAVOUR` for
//! `V-FLAVOUR`. Source: kernel.spec of RHEL 7 to 9 and Fedora, kernel-binary.spec.in of SUSE.

use std::collections::{BTreeMap, BTreeSet};

use super::archive::packages::RpmArchive;
use super::kernels;
use crate::DistroError;
use crate::rpm::{Candidate, Capability, paths_of};
use recipe::PinnedPackage;

/// A candidate: the indices of its repository and of itself.
type At = (usize, usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sought {
    Kernel,
    Headers,
}

impl Sought {
    fn release_of(self, capability: &Capability) -> Option<String> {
        let rest = capability.name.strip_suffix("-uname-r")?;
        let is_other = rest.contains("-modules") || rest.contains("-headers");
        let is_headers = rest.ends_with("-devel");
        if !rest.starts_with("kernel") || is_other || is_headers != (self == Self::Headers) {
            return None;
        }
        let release = capability.version.as_deref().filter(|(relation, _)| relation.equal)?.1.to_string();
        is_release(&release).then_some(release)
    }

    /// The releases that a path tells, or may tell.
    fn path(self, path: &str) -> Vec<String> {
        let below = path.strip_prefix("/usr").filter(|path| path.starts_with("/lib/")).unwrap_or(path);
        let of_modules = below.strip_prefix("/lib/modules/").and_then(|rest| rest.split_once('/'));
        let found = match (self, of_modules) {
            (Self::Kernel, Some((release, "vmlinuz" | "vmlinux" | "Image"))) => vec![release.to_owned()],
            (Self::Kernel, _) => image_in_boot(path).into_iter().collect(),
            (Self::Headers, Some((release, "build"))) => vec![release.to_owned()],
            (Self::Headers, _) => tree_in_sources(path),
        };
        found.into_iter().filter(|release| is_release(release)).collect()
    }

    /// Whether a package of this name may be one.
    fn may_be(self, name: &str) -> bool {
        match self {
            Self::Kernel => kernels::is_kernel(name) && !name.contains("-modules") && !name.contains("firmware"),
            Self::Headers => name.starts_with("kernel") && (name.ends_with("-devel") || name.contains("-devel-")),
        }
    }
}

fn image_in_boot(path: &str) -> Option<String> {
    let name = path.strip_prefix("/boot/")?;
    let release = ["vmlinuz-", "vmlinux-", "Image-", "image-"].iter().find_map(|start| name.strip_prefix(start))?;
    Some(release.trim_end_matches(".gz").trim_end_matches(".xz").to_owned())
}

/// The release of a tree in which modules are built.
///
/// SUSE's `linux-V-obj/ARCH/FLAVOUR` is for `V-FLAVOUR`; where the end of V is a variant's name (`-rt`), for V without it.
fn tree_in_sources(path: &str) -> Vec<String> {
    let Some(rest) = path.strip_prefix("/usr/src/") else { return Vec::new() };
    if let Some((release, _)) = rest.strip_prefix("kernels/").and_then(|rest| rest.split_once('/')) {
        return vec![release.to_owned()];
    }
    let parts: Vec<&str> = rest.split('/').collect();
    // Nothing but the directory of a flavour has these in it.
    let [top, _, flavour, "Module.symvers" | ".config" | "Makefile"] = parts[..] else { return Vec::new() };
    let Some(version) = top.strip_prefix("linux-").and_then(|top| top.strip_suffix("-obj")) else { return Vec::new() };
    let variant = version.rsplit_once('-').filter(|(_, last)| !last.starts_with(|first: char| first.is_ascii_digit()));
    let bases = [Some(version), variant.map(|(base, _)| base)];
    bases.into_iter().flatten().map(|base| format!("{base}-{flavour}")).collect()
}

/// Whether a text can be a folder below /lib/modules.
fn is_release(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
}

/// What a candidate's own words tell.
fn by_words(sought: Sought, candidate: &Candidate) -> Option<String> {
    let provided = candidate.provides.iter().find_map(|one| sought.release_of(one));
    provided.or_else(|| {
        let required = || candidate.requires.iter().find_map(|one| sought.release_of(&one.capability));
        (sought == Sought::Kernel).then(required).flatten()
    })
}

impl RpmArchive {
    fn at(&self, (repository, candidate): At) -> &Candidate {
        &self.repositories[repository].candidates[candidate]
    }

    fn place_of(&self, package: &PinnedPackage) -> Option<At> {
        self.repositories.iter().enumerate().filter(|(_, one)| one.id == package.origin).find_map(|(number, one)| {
            let fits = |candidate: &&Candidate| {
                candidate.name == package.name
                    && candidate.arch == package.architecture
                    && candidate.evr.to_string() == package.version
            };
            Some((number, one.candidates.iter().position(|candidate| fits(&candidate))?))
        })
    }

    /// The releases of each candidate that tells one.
    fn releases(&self, sought: Sought, wanted: &[At]) -> Result<BTreeMap<At, Vec<String>>, DistroError> {
        let of_paths = |paths: &[String]| {
            paths.iter().map(|path| sought.path(path)).find(|releases| !releases.is_empty()).unwrap_or_default()
        };
        let mut found = BTreeMap::new();
        let mut silent: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for at in wanted {
            let candidate = self.at(*at);
            let releases =
                by_words(sought, candidate).map_or_else(|| of_paths(&candidate.files), |release| vec![release]);
            if releases.is_empty() {
                silent.entry(at.0).or_default().insert(at.1);
            } else {
                found.insert(*at, releases);
            }
        }
        for (number, candidates) in silent {
            let of_release = |path: &str| !sought.path(path).is_empty();
            for (index, paths) in paths_of(&self.repositories[number], &candidates, &of_release)? {
                found.insert((number, index), of_paths(&paths));
            }
        }
        Ok(found)
    }

    /// Those of these packages that provide a whole kernel, each with its release.
    pub(super) fn releases_of_kernels(
        &self,
        packages: &[PinnedPackage],
    ) -> Result<Vec<(String, PinnedPackage)>, DistroError> {
        let places: Vec<(At, &PinnedPackage)> = packages
            .iter()
            .filter(|package| Sought::Kernel.may_be(&package.name))
            .filter_map(|package| Some((self.place_of(package)?, package)))
            .collect();
        let wanted: Vec<At> = places.iter().map(|(at, _)| *at).collect();
        let mut known = self.releases(Sought::Kernel, &wanted)?;
        // A package without files stands for the one that it requires by its exact version.
        let parts: Vec<(At, At)> = wanted
            .iter()
            .filter(|at| !known.contains_key(at))
            .filter_map(|at| Some((*at, self.part_of(self.at(*at))?)))
            .collect();
        let of_parts = self.releases(Sought::Kernel, &parts.iter().map(|(_, part)| *part).collect::<Vec<_>>())?;
        for (whole, part) in parts {
            known.extend(of_parts.get(&part).map(|release| (whole, release.clone())));
        }
        let first_release = |at: &At| known.get(at)?.first().cloned();
        Ok(places.into_iter().filter_map(|(at, package)| Some((first_release(&at)?, package.clone()))).collect())
    }

    fn part_of(&self, whole: &Candidate) -> Option<At> {
        whole.requires.iter().map(|one| &one.capability).find_map(|wanted| {
            let (relation, evr) = wanted.version.as_deref()?;
            if !relation.equal || relation.less || relation.greater || !Sought::Kernel.may_be(&wanted.name) {
                return None;
            }
            self.repositories.iter().enumerate().find_map(|(number, one)| {
                let fits = |candidate: &Candidate| {
                    *candidate.name == *wanted.name && candidate.evr == *evr && candidate.arch == whole.arch
                };
                Some((number, one.candidates.iter().position(fits)?))
            })
        })
    }

    /// Those of these packages that provide modules of a release, next to the kernel itself.
    pub(super) fn parts_of_release(&self, release: &str, packages: &[PinnedPackage]) -> Vec<PinnedPackage> {
        let brings = |candidate: &Candidate| {
            let names_release = candidate.provides.iter().any(|one| {
                let is_modules = one.name.contains("-modules") && one.name.ends_with("-uname-r");
                is_modules && one.version.as_deref().is_some_and(|(_, evr)| evr.to_string() == release)
            });
            let folders = [format!("/lib/modules/{release}/"), format!("/usr/lib/modules/{release}/")];
            names_release || candidate.files.iter().any(|path| folders.iter().any(|folder| path.starts_with(folder)))
        };
        packages
            .iter()
            .filter(|package| kernels::is_kernel(&package.name) && package.name.contains("-modules"))
            .filter(|package| self.place_of(package).is_some_and(|at| brings(self.at(at))))
            .cloned()
            .collect()
    }

    /// The package with the headers of a release: of the newest version, where there are several.
    pub(super) fn headers_of_release(&self, release: &str) -> Result<Option<PinnedPackage>, DistroError> {
        let all: Vec<At> = self
            .repositories
            .iter()
            .enumerate()
            .flat_map(|(number, one)| (0..one.candidates.len()).map(move |index| (number, index)))
            .filter(|(number, index)| !self.repositories[*number].hidden.contains(index))
            .filter(|at| Sought::Headers.may_be(&self.at(*at).name) && self.at(*at).arch == self.arch)
            .collect();
        let (telling, silent): (Vec<At>, Vec<At>) =
            all.into_iter().partition(|at| by_words(Sought::Headers, self.at(*at)).is_some());
        for some in [telling, silent] {
            let known = self.releases(Sought::Headers, &some)?;
            let fitting =
                known.into_iter().filter(|(_, found)| found.iter().any(|one| one == release)).map(|(at, _)| at);
            if let Some(at) = fitting.max_by(|a, b| self.at(*a).evr.cmp(&self.at(*b).evr).then_with(|| b.cmp(a))) {
                return self.pin(&self.repositories[at.0], self.at(at), false).map(Some);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provides_and_paths_tell_releases_as_the_distributions_write_them() {
        let release_of = |sought: Sought, text: &str| sought.release_of(&Capability::parse(text));
        let red_hat = "5.14.0-427.13.1.el9_4.x86_64";
        assert_eq!(release_of(Sought::Kernel, &format!("kernel-uname-r = {red_hat}")).as_deref(), Some(red_hat));
        assert_eq!(release_of(Sought::Kernel, &format!("kernel-core-uname-r = {red_hat}")).as_deref(), Some(red_hat));
        assert_eq!(release_of(Sought::Kernel, &format!("kernel-modules-core-uname-r = {red_hat}")), None);
        assert_eq!(release_of(Sought::Kernel, &format!("kernel-devel-uname-r = {red_hat}")), None);
        assert_eq!(release_of(Sought::Headers, &format!("kernel-devel-uname-r = {red_hat}")).as_deref(), Some(red_hat));
        let uek = "5.15.0-200.131.27.el9uek.x86_64";
        assert_eq!(release_of(Sought::Kernel, &format!("kernel-uek-core-uname-r = {uek}")).as_deref(), Some(uek));
        let debug = "5.14.0-1.el9.x86_64+debug";
        assert_eq!(
            release_of(Sought::Headers, &format!("kernel-debug-devel-uname-r = {debug}")).as_deref(),
            Some(debug)
        );
        let path = |sought: Sought, text: &str| sought.path(text);
        for (file, release) in [
            ("/boot/vmlinuz-5.14.21-150500.55.19-default", "5.14.21-150500.55.19-default"),
            ("/boot/vmlinux-5.14.21-150500.55.19-default.gz", "5.14.21-150500.55.19-default"),
            ("/usr/lib/modules/6.4.0-150600.21-default/vmlinuz", "6.4.0-150600.21-default"),
            ("/lib/modules/3.10.0-1160.el7.x86_64/vmlinuz", "3.10.0-1160.el7.x86_64"),
        ] {
            assert_eq!(path(Sought::Kernel, file), [release], "{file}");
        }
        for file in ["/boot/vmlinuz", "/lib/modules/5.14.0/kernel/a.ko", "/boot/config-5.14.0"] {
            assert!(path(Sought::Kernel, file).is_empty(), "{file}");
        }
        for (file, release) in [
            ("/usr/src/kernels/3.10.0-1160.el7.x86_64/Makefile", "3.10.0-1160.el7.x86_64"),
            ("/usr/src/linux-5.14.21-150500.55.19-obj/x86_64/default/Module.symvers", "5.14.21-150500.55.19-default"),
            ("/usr/src/linux-5.14.21-150500.13.5-rt-obj/x86_64/rt/Module.symvers", "5.14.21-150500.13.5-rt"),
            ("/usr/src/linux-5.14.21-150500.13.5-rt-obj/x86_64/rt_debug/.config", "5.14.21-150500.13.5-rt_debug"),
            ("/usr/lib/modules/6.4.0-1-rt/build", "6.4.0-1-rt"),
        ] {
            assert!(path(Sought::Headers, file).contains(&release.to_owned()), "{file}");
        }
        for file in ["/usr/src/linux-5.14.21-150500.55.19/Makefile", "/usr/src/linux-5.14-obj/x86_64/default"] {
            assert!(path(Sought::Headers, file).is_empty(), "{file}");
        }
    }
}

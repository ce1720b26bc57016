//! The repositories of a recipe as one archive, and what the lists mean in it.

use std::collections::{BTreeMap, BTreeSet};

use super::check::directories;
use super::local::{other_packages, prefer_own, read_directory};
use super::packages::RpmArchive;
use super::reading::gather_repositories;
use super::relations::relations;
use crate::damaged;
use crate::rpm::{self, Candidate, Checksum, Repository, hide_modular};
use crate::rpm_family::resolve::session::{Ended, Session, Wanted};
use crate::rpm_family::resolve::solver::{Refusal, Solver};
use crate::{DistroError, Gathering, Keyring, PackageArchive, Pass, Relations, Resolution, Solving, in_folder_of};
use base::digest::Sha256;
use recipe::{Distro, LockedSuite, PinnedPackage, Recipe};
use store::Store;

/// `platform:el9` and the like. The package with /etc/os-release provides it; what has no modules needs none. Source: dnf's
/// `module_platform_id`, and libdnf's ModulePackageContainer.
fn platform(recipe: &Recipe, repositories: &[Repository]) -> String {
    let mut provided = repositories
        .iter()
        .flat_map(|repository| &repository.candidates)
        .flat_map(|candidate| &candidate.provides)
        .filter_map(|one| one.name.strip_prefix("base-module(")?.strip_suffix(')'));
    if let Some(platform) = provided.find(|name| name.starts_with("platform:")) {
        return platform.to_owned();
    }
    let image = &recipe.model.image;
    let major = image.release.split('.').next().unwrap_or_default();
    match image.distro {
        Distro::Fedora => format!("platform:f{major}"),
        _ => format!("platform:el{major}"),
    }
}

/// Fetches, checks and reads all repositories, those of otherpkgs last.
pub(crate) fn gather(solver: &'static dyn Solver, gathering: &Gathering<'_>) -> Result<RpmArchive, DistroError> {
    let (mut repositories, mut keys) = (Vec::new(), BTreeMap::new());
    for (source, repository) in gather_repositories(gathering)? {
        if source.gpgcheck
            && let Some(found) = source.keys
        {
            keys.insert(source.id.clone(), found);
        }
        repositories.push(repository);
    }
    with_local(solver, gathering, repositories, keys)
}

/// The recipe's own directories alone, and repositories that are directories without metadata.
/// Errors: As [`gather`] for those.
pub(crate) fn gather_local(solver: &'static dyn Solver, gathering: &Gathering<'_>) -> Result<RpmArchive, DistroError> {
    let mut repositories = Vec::new();
    for (source, directory) in directories(gathering) {
        repositories.push(read_directory(gathering, &source, &directory)?);
    }
    with_local(solver, gathering, repositories, BTreeMap::new())
}

fn with_local(
    solver: &'static dyn Solver,
    gathering: &Gathering<'_>,
    mut repositories: Vec<Repository>,
    keys: BTreeMap<String, Keyring>,
) -> Result<RpmArchive, DistroError> {
    let (recipe, mut damaged) = (gathering.recipe, Vec::new());
    let directories = [
        ("otherpkgs", "otherpkgs.dir", &recipe.otherpkgs_directory),
        ("kernels", "kernel.dir", &recipe.kernel_files.kernels),
    ];
    let mut outcome = Ok(());
    for (origin, field, directory) in directories {
        let Some(directory) = directory else { continue };
        let (found, files) = other_packages(directory, origin)?;
        repositories.extend(found);
        outcome = outcome.and(damaged::report(gathering, field, &files));
        damaged.extend(files.into_iter().map(|file| (origin, file)));
    }
    outcome?;
    hide_modular(&mut repositories, &[])
        .map_err(|problem| DistroError::Format { file: "modules.yaml".to_owned(), problem })?;
    let words = gathering.recipe.otherpkgs.passes.iter().flat_map(|pass| &pass.install);
    let in_folders = words.filter_map(|item| Some((item.subdirectory.clone()?, item.name.clone())));
    prefer_own(&mut repositories, &in_folders.collect::<Vec<_>>());
    let platform = platform(gathering.recipe, &repositories);
    Ok(RpmArchive {
        solver,
        repositories,
        keys,
        release: gathering.recipe.model.image.release.clone(),
        platform,
        arch: gathering.recipe.model.image.arch.machine(),
        damaged,
    })
}

impl PackageArchive for RpmArchive {
    fn suites(&self) -> Vec<LockedSuite> {
        self.repositories
            .iter()
            .filter(|repository| !repository.id.contains('/'))
            .map(|repository| LockedSuite { name: repository.id.clone(), release: Sha256::of(&repository.repomd) })
            .collect()
    }

    fn of_origin(&self, start: &str) -> Result<Vec<PinnedPackage>, DistroError> {
        let is_own = |id: &str| id.strip_prefix(start).is_some_and(|rest| rest.starts_with('/'));
        let own = self.candidates().filter(|(repository, _)| is_own(&repository.id));
        let mut newest: BTreeMap<(&str, &str, String), (&Repository, &Candidate)> = BTreeMap::new();
        for (repository, candidate) in own {
            // Several kernels, with what belongs to them, may be installed next to each other.
            let other = if candidate.name.starts_with("kernel") { candidate.evr.to_string() } else { String::new() };
            let place = (candidate.name.as_str(), candidate.arch.as_str(), other);
            if newest.get(&place).is_none_or(|(_, known)| known.evr < candidate.evr) {
                newest.insert(place, (repository, candidate));
            }
        }
        newest.into_values().map(|(repository, candidate)| self.pin(repository, candidate, false)).collect()
    }

    fn scanned(&self, start: &str) -> BTreeMap<String, Sha256> {
        let mut all = damaged::scanned(&self.damaged, start);
        for repository in &self.repositories {
            let Some(folder) = repository.id.strip_prefix(start).and_then(|rest| rest.strip_prefix('/')) else {
                continue;
            };
            for one in &repository.candidates {
                let Checksum::Sha256(sha256) = one.checksum else { continue };
                all.insert(in_folder_of(folder, &one.location), sha256);
            }
        }
        all
    }

    fn names(&self) -> BTreeSet<String> {
        let all = self.candidates().flat_map(|(_, candidate)| {
            candidate.provides.iter().map(|one| &*one.name).chain([candidate.name.as_str()])
        });
        all.filter(|name| !name.contains(['(', '/', ' '])).map(str::to_owned).collect()
    }

    fn all(&self, name: &str) -> Result<Vec<PinnedPackage>, DistroError> {
        let named = self.candidates().filter(|(_, one)| one.name == name);
        named.map(|(repository, candidate)| self.pin(repository, candidate, false)).collect()
    }

    fn find(&self, name: &str, version: Option<&str>) -> Result<Option<PinnedPackage>, DistroError> {
        let named = self.candidates().filter(|(_, one)| one.name == name);
        let wanted = named.filter(|(_, one)| version.is_none_or(|version| one.evr.to_string() == version));
        let found = wanted.max_by(|a, b| a.1.evr.cmp(&b.1.evr));
        found.map(|(repository, candidate)| self.pin(repository, candidate, false)).transpose()
    }

    fn kernel_releases(&self, packages: &[PinnedPackage]) -> Result<Vec<(String, PinnedPackage)>, DistroError> {
        self.releases_of_kernels(packages)
    }

    fn kernel_parts(&self, release: &str, packages: &[PinnedPackage]) -> Vec<PinnedPackage> {
        self.parts_of_release(release, packages)
    }

    fn headers(&self, kernel: &PinnedPackage, release: &str) -> Result<(String, Option<PinnedPackage>), DistroError> {
        Ok((crate::rpm_family::kernels::headers(&kernel.name), self.headers_of_release(release)?))
    }

    fn check_names(&self, names: &[String]) -> Result<(), DistroError> {
        let names: Vec<String> = names.iter().filter_map(|item| self.pick(item)).collect();
        self.check_words(&names)
    }

    fn check_passes(&self, passes: &[Pass], is_installed: &dyn Fn(&str) -> bool) -> Result<(), DistroError> {
        let (mut words, mut unknown) = (Vec::new(), Vec::new());
        for pass in passes {
            match self.items(pass) {
                Ok(items) => words.extend(items.into_iter().filter(|item| !is_installed(item))),
                Err(DistroError::UnknownPackages { packages, .. }) => unknown.extend(packages),
                Err(other) => return Err(other),
            }
        }
        match self.check_words(&words) {
            Err(DistroError::UnknownPackages { packages, .. }) => unknown.extend(packages),
            other => other?,
        }
        unknown_of(unknown)
    }

    fn check_folders(&self, passes: &[Pass]) -> Result<(), DistroError> {
        let mut unknown = Vec::new();
        for pass in passes {
            let with_folder = |item: &&String| item.contains('/') && !item.starts_with(['/', '@']);
            let install: Vec<String> = pass.install.iter().filter(with_folder).cloned().collect();
            if let Err(DistroError::UnknownPackages { packages, .. }) = self.items(&Pass { install, ..Pass::default() })
            {
                unknown.extend(packages);
            }
        }
        unknown_of(unknown)
    }

    fn tools(&self, seed: &[String], held: &[PinnedPackage]) -> Result<Vec<PinnedPackage>, DistroError> {
        let mut seeds: Vec<String> = seed.iter().filter_map(|item| self.pick(item)).collect();
        // Where the solver runs nothing is installed.
        let is_solvers = seed.iter().eq(self.solver.seeds());
        seeds.extend(self.makes_accounts().filter(|_| !is_solvers && seeds.iter().any(|name| name == "rpm")));
        // No other version of what is held.
        let may = |repository: &Repository, candidate: &Candidate| {
            let of_it = |package: &&PinnedPackage| package.origin == repository.id && package.name == candidate.name;
            let mut own = held.iter().filter(of_it).peekable();
            own.peek().is_none() || own.any(|package| package.version == candidate.evr.to_string())
        };
        let found = rpm::closure_of(&self.repositories, &seeds, self.arch, &may)?;
        found
            .into_iter()
            .map(|(repository, candidate)| {
                let repository = &self.repositories[repository];
                self.pin(repository, &repository.candidates[candidate], false)
            })
            .collect()
    }

    fn relations(&self, packages: &[PinnedPackage], install: &[String]) -> Result<Option<Relations>, DistroError> {
        let words: Vec<Option<String>> = install.iter().map(|item| self.pick(item)).collect();
        relations(&self.repositories, packages, &words)
    }

    fn check_signatures(
        &self,
        store: &Store,
        have: &dyn Fn(&[PinnedPackage]) -> Result<(), DistroError>,
        packages: &[PinnedPackage],
    ) -> Result<(), DistroError> {
        self.verify(store, have, packages)
    }

    fn resolve(
        &self,
        solving: &Solving<'_>,
        passes: &[Pass],
        mut held: Vec<PinnedPackage>,
    ) -> Result<Vec<Resolution>, DistroError> {
        let mut wanted = Vec::new();
        for pass in passes {
            let items = self.items(pass)?;
            // What a container image has need be in no repository.
            let has = |item: &&String| solving.base.is_some_and(|base| base.packages.contains_key(*item));
            let others: Vec<String> = items.iter().filter(|item| !has(item)).cloned().collect();
            self.check_words(&others)?;
            let of_folders = self.named_in_folders(pass);
            let (remove, remove_after) = (&pass.remove[..], &pass.remove_after[..]);
            wanted.push(Wanted { items, remove, remove_after, aside: pass.aside, of_folders });
        }
        let before = held.clone();
        let mut may_erase = false;
        loop {
            let mut session = Session::open(self, solving, &held)?;
            session.may_erase = may_erase;
            match session.resolve(&wanted) {
                // A held version that stands in the way gives way; the lock's difference names it (D13).
                Err(Ended::Refused(Refusal::Unsatisfiable(words), log)) => {
                    let count = held.len();
                    held.retain(|package| !words.contains(&format!("{}-", package.name)));
                    if held.len() < count {
                        continue;
                    }
                    if may_erase || solving.base.is_none() {
                        return Err(DistroError::Unsatisfiable { detail: shortened(&words), log });
                    }
                    // Only then may packages of the container image go.
                    held.clone_from(&before);
                    may_erase = true;
                }
                Err(Ended::Refused(Refusal::Unknown(names), _)) => {
                    // A list's own version goes before the one that the lock has.
                    let count = held.len();
                    held.retain(|one| !names.iter().any(|name| name.starts_with(&format!("{}-", one.name))));
                    if held.len() < count {
                        continue;
                    }
                    // As the list has them: dnf is asked for an environment without its sign, and dnf5 answers without signs.
                    let listed: Vec<&String> = wanted.iter().flat_map(|pass| &pass.items).collect();
                    let as_listed = |name: String| {
                        let id = name.trim_start_matches('@');
                        let mut forms = [name.clone(), format!("@^{id}"), format!("@{id}")].into_iter();
                        forms.find(|form| listed.contains(&form)).unwrap_or(name)
                    };
                    return Err(self.unknown(names.into_iter().map(as_listed).collect()));
                }
                Err(Ended::Refused(Refusal::Broken(said), log)) => {
                    return Err(DistroError::Indices { said: shortened(&said), log });
                }
                Err(Ended::Failed(error)) => return Err(error),
                Ok(answers) => return Ok(answers),
            }
        }
    }
}

/// What means nothing, where something does not.
fn unknown_of(unknown: Vec<(String, Option<String>)>) -> Result<(), DistroError> {
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(DistroError::unknown_packages(unknown, "check the repositories of ‹[[repo]]›")),
    }
}

/// How many lines of the solver's answer are shown.
const SHOWN_LINES: usize = 30;

/// The solver's words without what a terminal would obey; at most [`SHOWN_LINES`].
fn shortened(words: &str) -> String {
    let clean: String = words.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect();
    let lines: Vec<&str> =
        clean.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("(try to add")).collect();
    let more = lines.len().saturating_sub(SHOWN_LINES);
    let mut text = format!(":\n{}", lines[..lines.len() - more].join("\n"));
    if more > 0 {
        text.push_str(&format!("\n({more} lines more)"));
    }
    text
}

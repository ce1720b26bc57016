//! The repositories of a recipe, read and checked.

use std::collections::{BTreeMap, BTreeSet};

use super::local::read_directory;
use super::session::{Session, Wanted};
use super::solver::shown_id;
use super::sources::{Place, named, places};
use super::{Refusal, Shown, Solver};
use crate::digest::Sha256;
use crate::distro::rpm::{
    self, Candidate, Checksum, Evr, Package, Repository, RepositorySource, fetch_repository, hide_modular,
};
use crate::distro::{DistroError, Gathering, Keyring, PackageArchive, Pass, Resolution, Solving};
use crate::recipe::{Distro, LockedSuite, PinnedPackage, Recipe};
use crate::source::nearest;
use crate::store::Store;

/// Repositories whose metadata were read and checked.
pub struct RpmArchive {
    pub(super) solver: &'static dyn Solver,
    pub(super) repositories: Vec<Repository>,
    /// Keys by which a repository's packages are checked, where they are.
    keys: BTreeMap<String, Keyring>,
    pub(super) release: String,
    pub(super) platform: String,
    pub(super) arch: &'static str,
}

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

/// Fetches, checks and reads the distribution's repositories.
///
/// # Errors
/// [`DistroError`].
pub fn gather_repositories(gathering: &Gathering<'_>) -> Result<Vec<(RepositorySource, Repository)>, DistroError> {
    let news = gathering.news.downloads("repository metadata");
    let mut all = Vec::new();
    for place in places(gathering)? {
        all.push(match place {
            Place::Repository(source) => {
                gathering.news.progress(&format!("checking {}", source.id));
                let found = fetch_repository(gathering.fetcher, gathering.store, &source, news.as_ref())?;
                (source, found)
            }
            Place::Directory { source, directory } => {
                gathering.news.progress(&format!("reading the packages of {}", source.id));
                let found = read_directory(&source, &directory)?;
                (source, found)
            }
        });
    }
    Ok(all)
}

/// Fetches, checks and reads all repositories, those of otherpkgs last.
///
/// # Errors
/// [`DistroError`].
pub fn gather(solver: &'static dyn Solver, gathering: &Gathering<'_>) -> Result<RpmArchive, DistroError> {
    let (mut repositories, mut keys) = (Vec::new(), BTreeMap::new());
    for (source, repository) in gather_repositories(gathering)? {
        if source.gpgcheck
            && let Some(found) = source.keys
        {
            keys.insert(source.id.clone(), found);
        }
        repositories.push(repository);
    }
    if let Some(directory) = &gathering.recipe.otherpkgs_directory {
        repositories.extend(super::local::other_packages(directory, "otherpkgs")?);
    }
    if let Some(directory) = &gathering.recipe.kernel_files.kernels {
        repositories.extend(super::local::other_packages(directory, "kernels")?);
    }
    hide_modular(&mut repositories, &[])
        .map_err(|problem| DistroError::Format { file: "modules.yaml".to_owned(), problem })?;
    let platform = platform(gathering.recipe, &repositories);
    Ok(RpmArchive {
        solver,
        repositories,
        keys,
        release: gathering.recipe.model.image.release.clone(),
        platform,
        arch: gathering.recipe.model.image.arch.machine(),
    })
}

/// Roots of the repositories by short name.
///
/// # Errors
/// [`DistroError`] for what cannot be read; a list of mirrors is asked for.
pub fn roots(gathering: &Gathering<'_>) -> Result<BTreeMap<String, Vec<String>>, DistroError> {
    let news = gathering.news.downloads("repository metadata");
    let mut all = BTreeMap::new();
    let known: Vec<RepositorySource> = match &gathering.places.vendor {
        Some(_) => Vec::new(),
        None => named(gathering)?,
    };
    let needs_asking = known.iter().any(|source| source.base.is_empty());
    for place in places(gathering)? {
        let (Place::Repository(source) | Place::Directory { source, .. }) = place;
        let bases = if source.base.is_empty() && needs_asking {
            fetch_repository(gathering.fetcher, gathering.store, &source, news.as_ref())?.bases
        } else {
            source.base
        };
        all.insert(source.id, bases.iter().map(|base| base.trim_end_matches('/').to_owned()).collect());
    }
    Ok(all)
}

impl RpmArchive {
    pub(super) fn candidates(&self) -> impl Iterator<Item = (&Repository, &Candidate)> {
        self.repositories.iter().flat_map(|repository| {
            repository.candidates.iter().enumerate().filter_map(move |(index, candidate)| {
                (!repository.hidden.contains(&index)).then_some((repository, candidate))
            })
        })
    }

    /// The package of an answer.
    pub(super) fn exact(
        &self,
        repository: &str,
        name: &str,
        arch: &str,
        evr: &Evr,
    ) -> Option<(&Repository, &Candidate)> {
        let fits = |one: &Repository, candidate: &Candidate| {
            (repository.is_empty() || one.id == repository)
                && candidate.name == name
                && candidate.arch == arch
                && candidate.evr == *evr
        };
        self.repositories
            .iter()
            .flat_map(|one| one.candidates.iter().map(move |candidate| (one, candidate)))
            .find(|(one, candidate)| fits(one, candidate))
    }

    /// Pins a package.
    ///
    /// # Errors
    /// [`DistroError::Format`] for a digest or names that cannot stand in a lock.
    pub(super) fn pin(
        &self,
        repository: &Repository,
        candidate: &Candidate,
        automatic: bool,
    ) -> Result<PinnedPackage, DistroError> {
        let wrong =
            |problem: String| DistroError::Format { file: format!("the metadata of {}", repository.id), problem };
        let Checksum::Sha256(sha256) = candidate.checksum else {
            return Err(wrong(format!("give `{}` no SHA-256, without which image.lock cannot pin it", candidate.name)));
        };
        let below = match &candidate.base {
            Some(base) if base.contains(':') => {
                return Err(wrong(format!("put `{}` on another server, {base}", candidate.name)));
            }
            Some(base) => format!("{}/{}", base.trim_matches('/'), candidate.location),
            None => candidate.location.clone(),
        };
        let plain = |text: &str, more: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        let version = candidate.evr.to_string();
        if !plain(&candidate.name, "-+._") || !plain(&version, ".+-:~^_") || !plain(&candidate.arch, "_") {
            return Err(wrong(format!("have a package with a strange name: `{}`", candidate.nevra().escape_default())));
        }
        Ok(PinnedPackage {
            name: candidate.name.clone(),
            version,
            architecture: candidate.arch.clone(),
            size: candidate.size,
            sha256,
            origin: repository.id.clone(),
            file: below,
            automatic,
        })
    }

    /// Whether a list's word means anything here.
    fn knows(&self, item: &str, provided: &BTreeSet<&str>) -> bool {
        if item.starts_with('@') {
            // Groups, environments, modules: the solver knows best.
            return true;
        }
        if provided.contains(item) || item.contains(['*', '?', '[', ' ', '(']) {
            return true;
        }
        let spelled = |candidate: &Candidate| {
            let (name, evr, arch) = (&candidate.name, &candidate.evr, &candidate.arch);
            let plain = format!("{}-{}", evr.version, evr.release);
            [
                format!("{name}.{arch}"),
                format!("{name}-{}", evr.version),
                format!("{name}-{plain}"),
                format!("{name}-{evr}"),
                format!("{name}-{plain}.{arch}"),
                format!("{name}-{evr}.{arch}"),
                format!("{name}={}", evr.version),
                format!("{name}={plain}"),
                format!("{name}={evr}"),
            ]
            .contains(&item.to_owned())
        };
        self.candidates().any(|(_, candidate)| {
            (item.starts_with(candidate.name.as_str()) && spelled(candidate))
                || (item.starts_with('/') && candidate.files.iter().any(|file| file == item))
        }) || item.starts_with('/')
    }

    /// Words of which nothing is known, told all at once before the solver is asked.
    fn check_words(&self, items: &[String]) -> Result<(), DistroError> {
        let provided: BTreeSet<&str> = self
            .candidates()
            .flat_map(|(_, candidate)| {
                candidate.provides.iter().map(|one| one.name.as_str()).chain([candidate.name.as_str()])
            })
            .collect();
        let unknown: Vec<String> = items.iter().filter(|item| !self.knows(item, &provided)).cloned().collect();
        if unknown.is_empty() { Ok(()) } else { Err(self.unknown(unknown)) }
    }

    pub(super) fn unknown(&self, unknown: Vec<String>) -> DistroError {
        let names: BTreeSet<&str> = self.candidates().map(|(_, candidate)| candidate.name.as_str()).collect();
        let groups: BTreeSet<&str> = self
            .repositories
            .iter()
            .filter_map(|repository| repository.comps.as_ref())
            .flat_map(|comps| {
                let groups = comps.groups.iter().map(|group| group.id.as_str());
                groups.chain(comps.environments.iter().map(|one| one.id.as_str()))
            })
            .collect();
        let hints: Vec<String> = unknown
            .iter()
            .filter_map(|name| {
                let (sign, plain) = match name.strip_prefix('@') {
                    Some(group) if group.starts_with('^') => ("@^", group.trim_start_matches('^')),
                    Some(group) => ("@", group),
                    None => ("", name.as_str()),
                };
                if sign.is_empty() && names.contains(plain) {
                    return Some(format!(
                        "`{name}` is there, but left out: by `exclude` or `include` of its [[repo]], or by the streams of modules"
                    ));
                }
                let near = if sign.is_empty() {
                    nearest(plain, names.iter().copied())
                } else {
                    nearest(plain, groups.iter().copied())
                };
                let near: Vec<String> = near.iter().map(|name| format!("{sign}{name}")).collect();
                (!near.is_empty()).then(|| format!("instead of `{name}`, did you mean {}?", near.join(", ")))
            })
            .collect();
        let help = if hints.is_empty() { "check the repositories of [[repo]]".to_owned() } else { hints.join("\n") };
        let listed = unknown.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        DistroError::UnknownPackages { packages: unknown, names: listed, help }
    }

    /// `a|b` is the first that a repository has, `a|` may be missing.
    fn pick(&self, item: &str) -> Option<String> {
        if !item.contains('|') {
            return Some(item.to_owned());
        }
        let has = |name: &&str| self.candidates().any(|(_, candidate)| candidate.name == **name);
        let mut names = item.split('|').filter(|name| !name.is_empty());
        match names.clone().find(has) {
            Some(name) => Some(name.to_owned()),
            None if item.ends_with('|') => None,
            None => names.next().map(str::to_owned),
        }
    }

    /// `folder/name` of an otherpkgs list: the newest that this folder has, exactly.
    fn in_folder(&self, item: &str) -> Option<String> {
        let (folder, name) = item.rsplit_once('/').filter(|(folder, _)| !folder.is_empty())?;
        let origin = format!("otherpkgs/{folder}");
        let newest = self
            .candidates()
            .filter(|(repository, candidate)| repository.id == origin && candidate.name == name)
            .max_by(|a, b| a.1.evr.cmp(&b.1.evr))?;
        let one = newest.1;
        Some(self.solver.exactly(&one.name, &one.evr.to_string(), &one.arch))
    }

    /// What a list says, in the solver's words.
    fn items(&self, pass: &Pass) -> Result<Vec<String>, DistroError> {
        let mut unknown = Vec::new();
        let mut items = Vec::new();
        for item in &pass.install {
            let Some(item) = self.pick(item) else { continue };
            let is_in_folder = item.contains('/') && !item.starts_with(['/', '@']);
            match self.in_folder(&item) {
                Some(exact) => items.push(exact),
                None if is_in_folder => unknown.push(item),
                None => items.push(item),
            }
        }
        if !unknown.is_empty() {
            return Err(self.unknown(unknown));
        }
        Ok(items)
    }

    /// The repositories as the solver sees them.
    pub(super) fn shown(&self) -> Vec<Shown> {
        self.repositories
            .iter()
            .map(|repository| Shown {
                id: shown_id(&repository.id),
                priority: repository.priority,
                exclude: repository.exclude.clone(),
                include: repository.include.clone(),
                module_hotfixes: repository.module_hotfixes,
            })
            .collect()
    }
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
            // Of kernels and what belongs to them there may be several beside each other.
            let other = if candidate.name.starts_with("kernel") { candidate.evr.to_string() } else { String::new() };
            let place = (candidate.name.as_str(), candidate.arch.as_str(), other);
            if newest.get(&place).is_none_or(|(_, known)| known.evr < candidate.evr) {
                newest.insert(place, (repository, candidate));
            }
        }
        newest.into_values().map(|(repository, candidate)| self.pin(repository, candidate, false)).collect()
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
        Ok((super::kernels::headers(&kernel.name), self.headers_of_release(release)?))
    }

    fn check_names(&self, names: &[String]) -> Result<(), DistroError> {
        let names: Vec<String> = names.iter().filter_map(|item| self.pick(item)).collect();
        self.check_words(&names)
    }

    fn tools(&self, seed: &[String], held: &[PinnedPackage]) -> Result<Vec<PinnedPackage>, DistroError> {
        let seeds: Vec<String> = seed.iter().filter_map(|item| self.pick(item)).collect();
        let mut repositories = self.repositories.clone();
        for repository in &mut repositories {
            let id = repository.id.clone();
            let others = repository.candidates.iter().filter(|candidate| {
                held.iter().any(|package| {
                    package.origin == id
                        && package.name == candidate.name
                        && package.version != candidate.evr.to_string()
                })
            });
            let others: Vec<String> = others.map(Candidate::nevra).collect();
            repository.exclude.extend(others);
        }
        let found = rpm::closure(&repositories, &seeds, self.arch)?;
        found
            .into_iter()
            .map(|(repository, candidate)| {
                let repository = &self.repositories[repository];
                self.pin(repository, &repository.candidates[candidate], false)
            })
            .collect()
    }

    fn check_signatures(
        &self,
        store: &Store,
        have: &dyn Fn(&[PinnedPackage]) -> Result<(), DistroError>,
        packages: &[PinnedPackage],
    ) -> Result<(), DistroError> {
        let signed = packages.iter().filter(|package| self.keys.contains_key(&package.origin));
        let signed: Vec<PinnedPackage> = signed.cloned().collect();
        if !signed.is_empty() {
            have(&signed)?;
        }
        for package in &signed {
            let Some(keys) = self.keys.get(&package.origin) else { continue };
            Package::verify(&store.package(&package.sha256), keys).map_err(|problem| DistroError::Signature {
                file: package.file.clone(),
                place: package.origin.clone(),
                problem,
                help: "name the key that signs this repository's packages: [[repo]] signed-by = \"keys/RPM-GPG-KEY-...\"; where nobody signed them: check-packages = false".to_owned(),
            })?;
        }
        Ok(())
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
            self.check_words(&items)?;
            wanted.push(Wanted { items, remove: &pass.remove, remove_after: &pass.remove_after, aside: pass.aside });
        }
        loop {
            let mut session = Session::open(self, solving, &held)?;
            match session.resolve(&wanted) {
                // A held version that stands in the way gives way; the lock's difference names it (D13).
                Err((Refusal::Unsatisfiable(words), log)) => {
                    let count = held.len();
                    held.retain(|package| !words.contains(&format!("{}-", package.name)));
                    if held.len() == count {
                        return Err(DistroError::Unsatisfiable { detail: shortened(&words), log });
                    }
                }
                Err((Refusal::Unknown(names), _)) => {
                    // A list's own version goes before the one that the lock has.
                    let count = held.len();
                    held.retain(|one| !names.iter().any(|name| name.starts_with(&format!("{}-", one.name))));
                    if held.len() < count {
                        continue;
                    }
                    // As the list has them: dnf is asked for an environment without its sign.
                    let listed = wanted.iter().flat_map(|pass| &pass.items);
                    let environments: Vec<&str> = listed.filter_map(|item| item.strip_prefix("@^")).collect();
                    let as_listed = |name: String| match name.strip_prefix('@') {
                        Some(id) if environments.contains(&id) => format!("@^{id}"),
                        _ => name,
                    };
                    return Err(self.unknown(names.into_iter().map(as_listed).collect()));
                }
                Err((Refusal::Broken(said), log)) => return Err(DistroError::Indices { said: shortened(&said), log }),
                Ok(answers) => {
                    for answer in &answers {
                        self.check_signatures(solving.store, solving.have, &answer.packages)?;
                    }
                    return Ok(answers);
                }
            }
        }
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

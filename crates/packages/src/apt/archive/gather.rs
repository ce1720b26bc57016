//! The archives of a recipe: which they are, and reading them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::named::{Architectures, architecture_of, built_in, named};
use super::relations::relations;
use super::source::below;
use super::vendored::{self, Contents, Suite, suite_directory};
use super::words::{in_folder, near_in_folders, plain_name, unknown_names, unknown_words};
use crate::apt::resolve::{Resolver, in_the_way};
use crate::apt::{
    Archive, HostSources, PinnedPackage, Source, SuiteIndex, SuiteRelease, architecture, fetch_suite, only_suites,
    scan_local, sources_for, tools_closure,
};
use crate::damaged::{self, DamagedFile};
use crate::{
    DistroError, Download, Gathering, Keyring, News, PackageArchive, Pass, Relations, Resolution, Solving, VENDOR_MARK,
    in_folder_of, keyring,
};
use base::digest::Sha256;
use base::source::{Finding, Severity};
use files::{self, Durability};
use recipe::{LockedSuite, Recipe};
use sandbox::emulator::HostCpu;
use store::StoreError;

/// Origins of the directories of a recipe.
const KERNELS: &str = "kernels";
const OTHERPKGS: &str = "otherpkgs";

/// Sources of a recipe with the keyring of each.
/// Errors: [`DistroError`] for sources or keyrings that cannot be used.
pub(crate) fn sources(gathering: &Gathering<'_>) -> Result<Vec<(Source, Keyring)>, DistroError> {
    let (recipe, places) = (gathering.recipe, gathering.places);
    let mirror = places.mirror.as_deref();
    if let Some(directory) = &places.vendor {
        return vendored::sources(gathering, directory);
    }
    let host = HostSources::read(Path::new("/etc/apt"));
    let built_in = || built_in(recipe);
    let image = &recipe.model.image;
    let mut found = Vec::new();
    if recipe.model.repo.is_empty() {
        for source in sources_for(image, &host, mirror)? {
            found.push((source, built_in()?));
        }
        return Ok(found);
    }
    let named = named(gathering)?;
    for (index, repo) in recipe.model.repo.iter().enumerate() {
        if repo.source.is_none() {
            found.extend(
                named.iter().filter(|one| one.repo == index).map(|one| (one.source.clone(), one.keyring.clone())),
            );
            continue;
        }
        let keyring = match recipe.keyrings.get(index).and_then(Option::as_ref) {
            Some(path) => keyring(path)?,
            None => built_in()?,
        };
        let mut from = sources_for(image, &host, mirror)?;
        if !repo.suites.is_empty() {
            from = only_suites(from, &repo.suites)?;
        }
        for source in &mut from {
            source.check_valid_until = repo.check_valid_until;
            if !repo.components.is_empty() {
                source.components.clone_from(&repo.components);
            }
        }
        found.extend(from.into_iter().map(|source| (source, keyring.clone())));
    }
    Ok(found)
}

/// A suite that the archive does not have, and that the recipe does not name, is reported and left out.
/// Errors: Any other.
pub(crate) fn unless_optional<T>(
    found: Result<T, DistroError>,
    source: &Source,
    recipe: &Recipe,
    news: &dyn News,
) -> Result<Option<T>, DistroError> {
    match found {
        Err(DistroError::NoSuite { uri, suite, problem }) if source.optional.contains(&suite) => {
            let text = format!("{uri} has no suite `{suite}` ({problem}): the image is made without it");
            let finding = match recipe.spans.nearest("image.release") {
                // Without it the image has known holes: that is worth more than a note.
                Some(span) if suite.ends_with("-security") => {
                    Finding::warning("distro::no_suite", span, text).label("the release requested here").help(
                        "if that is intended, name the suites to use: ‹[[repo]] source = \"host\", suites = [\"...\"]›",
                    )
                }
                _ => Finding::nowhere(Severity::Note, "distro::no_suite", text),
            };
            news.finding(&finding);
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// All suites that there are, with their sources; their indices are downloaded.
fn suites(gathering: &Gathering<'_>, doing: &str) -> Result<Vec<(Source, SuiteRelease)>, DistroError> {
    let (mut suites, mut downloads): (_, Vec<Download>) = (Vec::new(), Vec::new());
    for (source, keyring) in sources(gathering)? {
        for suite in &source.suites {
            gathering.news.progress(&format!("{doing} {suite}"));
            let architectures = Architectures::of(gathering.recipe);
            let found = fetch_suite((gathering.fetcher, gathering.store), &source, suite, &architectures, &keyring);
            let found = unless_optional(found, &source, gathering.recipe, gathering.news)?;
            let Some((release, indices)) = found else { continue };
            suites.push((source.clone(), release));
            downloads.extend(indices);
        }
    }
    gathering.fetcher.fetch_all(&downloads, gathering.news.downloads("package indices").as_ref())?;
    Ok(suites)
}

/// Archives whose Release files and indices were read and checked.
pub(crate) struct AptArchive {
    suites: Vec<SuiteRelease>,
    archive: Archive,
    /// What tools are taken from, where the image's packages do not run here.
    tools: Option<Archive>,
    /// Files of directories of the recipe that are not packages, with the directory's origin.
    damaged: Vec<(&'static str, DamagedFile)>,
    architecture: &'static str,
}

/// Fetches, checks and reads the indices of all suites and of the local directories.
pub(crate) fn gather(gathering: &Gathering<'_>) -> Result<AptArchive, DistroError> {
    let repos = &gathering.recipe.model.repo;
    let is_of_host = repos.is_empty() || repos.iter().any(|repo| repo.source.is_some());
    let pins = if is_of_host && gathering.places.vendor.is_none() {
        HostSources::pins(Path::new("/etc/apt"))
    } else {
        Vec::new()
    };
    if let Some(first) = pins.first() {
        let message = format!("this host's pins ({}) have no effect on images", first.display());
        gathering.news.finding(
            &Finding::nowhere(Severity::Note, "distro::pins", message)
                .help("write the version in the list: `name/suite`, `name=version`, or `name=1.2*`"),
        );
    }
    let found = suites(gathering, "checking")?;
    let suites: Vec<SuiteRelease> = found.into_iter().map(|(_, release)| release).collect();
    let mut archive = Archive::default();
    let mut tools = Architectures::of(gathering.recipe).tools.map(|_| Archive::default());
    for release in &suites {
        for (_, digest, path) in &release.indices {
            archive.indices.push(SuiteIndex::read(gathering.store, release, digest, path)?);
        }
        for (_, digest, path) in &release.tools {
            let index = SuiteIndex::read(gathering.store, release, digest, path)?;
            tools.get_or_insert_default().indices.push(index);
        }
    }
    let (local, damaged) = local(gathering)?;
    archive.indices.splice(0..0, local);
    Ok(AptArchive { suites, archive, tools, damaged, architecture: architecture_of(gathering.recipe) })
}

/// A file that is no package, with the kind of directory that has it.
type Damaged = (&'static str, DamagedFile);

/// Reads the directories of the recipe, of kernels and of other packages: first of all indices, because where an archive has a package of
/// the same version, the directory's is meant.
/// Errors: [`DistroError::PackageFiles`] for files that the recipe asks for and that are not packages; a directory that cannot be read.
fn local(gathering: &Gathering<'_>) -> Result<(Vec<SuiteIndex>, Vec<Damaged>), DistroError> {
    let (mut indices, mut damaged) = (Vec::new(), Vec::new());
    let recipe = gathering.recipe;
    let directories = [
        (KERNELS, "kernel.dir", &recipe.kernel_files.kernels),
        (OTHERPKGS, "otherpkgs.dir", &recipe.otherpkgs_directory),
    ];
    let mut outcome = Ok(());
    for (origin, field, directory) in directories {
        let Some(directory) = directory else { continue };
        let (repositories, files) = scan_local(directory, origin)?;
        let mut found: Vec<SuiteIndex> = repositories.into_iter().map(|repository| repository.index).collect();
        // Among its folders the one that a list names comes first.
        let words = recipe.otherpkgs.passes.iter().flat_map(|pass| &pass.install);
        let named: BTreeSet<String> =
            words.filter_map(|item| Some(format!("{OTHERPKGS}/{}", item.subdirectory.as_ref()?))).collect();
        found.sort_by_key(|index| !named.contains(&index.origin));
        indices.extend(found);
        outcome = outcome.and(damaged::report(gathering, field, &files));
        damaged.extend(files.into_iter().map(|file| (origin, file)));
    }
    outcome.map(|()| (indices, damaged))
}

/// The directories of the recipe alone.
/// Errors: As [`gather`] for those.
pub(crate) fn gather_local(gathering: &Gathering<'_>) -> Result<AptArchive, DistroError> {
    let (indices, damaged) = local(gathering)?;
    let archive = Archive { indices };
    Ok(AptArchive {
        suites: Vec::new(),
        archive,
        tools: None,
        damaged,
        architecture: architecture_of(gathering.recipe),
    })
}

impl PackageArchive for AptArchive {
    fn suites(&self) -> Vec<LockedSuite> {
        self.suites.iter().map(|suite| LockedSuite { name: suite.origin.clone(), release: suite.digest }).collect()
    }

    fn of_origin(&self, start: &str) -> Result<Vec<PinnedPackage>, DistroError> {
        let mut pins = Vec::new();
        for name in self.archive.names() {
            let own = self
                .archive
                .candidates(name)
                .into_iter()
                .filter(|one| one.index.origin.strip_prefix(start).is_some_and(|rest| rest.starts_with('/')));
            if let Some((_, newest)) = own.filter_map(|one| Some((one.version()?, one))).max_by(|a, b| a.0.cmp(&b.0)) {
                pins.push(newest.pin(false)?);
            }
        }
        Ok(pins)
    }

    fn scanned(&self, start: &str) -> BTreeMap<String, Sha256> {
        let mut all = damaged::scanned(&self.damaged, start);
        for index in &self.archive.indices {
            let Some(folder) = index.origin.strip_prefix(start).and_then(|rest| rest.strip_prefix('/')) else {
                continue;
            };
            // One stanza each, as they were read from the files.
            for stanza in index.text().split("\n\n") {
                let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                if let (Some(file), Some(Ok(sha256))) = (field("Filename:"), field("SHA256:").map(Sha256::parse)) {
                    all.insert(in_folder_of(folder, file), sha256);
                }
            }
        }
        all
    }

    fn names(&self) -> BTreeSet<String> {
        let names = self.archive.names().into_iter().map(str::to_owned);
        names.chain(self.archive.providers().into_keys()).collect()
    }

    fn all(&self, name: &str) -> Result<Vec<PinnedPackage>, DistroError> {
        self.archive.candidates(name).iter().map(|one| one.pin(false)).collect()
    }

    fn find(&self, name: &str, version: Option<&str>) -> Result<Option<PinnedPackage>, DistroError> {
        let found = match version {
            Some(version) => self.archive.exact(name, version),
            None => self.archive.newest(name),
        };
        found.map(|one| one.pin(false)).transpose()
    }

    fn kernel_releases(&self, packages: &[PinnedPackage]) -> Result<Vec<(String, PinnedPackage)>, DistroError> {
        Ok(crate::apt::kernel_releases(packages))
    }

    fn headers(&self, _: &PinnedPackage, release: &str) -> Result<(String, Option<PinnedPackage>), DistroError> {
        let name = format!("linux-headers-{release}");
        let found = self.find(&name, None)?;
        Ok((name, found))
    }

    fn check_names(&self, names: &[String]) -> Result<(), DistroError> {
        let unknown = names.iter().filter(|name| self.archive.candidates(name).is_empty());
        let unknown: Vec<(String, Option<String>)> = unknown.map(|name| (name.clone(), None)).collect();
        if unknown.is_empty() { Ok(()) } else { Err(self.of_other_cpu(unknown_names(&self.archive, unknown))) }
    }

    fn check_passes(&self, passes: &[Pass], is_installed: &dyn Fn(&str) -> bool) -> Result<(), DistroError> {
        let unknown = passes.iter().flat_map(|pass| {
            unknown_words((&self.archive, &self.suites, self.architecture), &pass.install, is_installed)
        });
        let unknown: Vec<(String, Option<String>)> = unknown.collect();
        if unknown.is_empty() { Ok(()) } else { Err(self.of_other_cpu(unknown_names(&self.archive, unknown))) }
    }

    fn check_folders(&self, passes: &[Pass]) -> Result<(), DistroError> {
        // `name/suite` is asked of archives: what is meant by folder has a folder or a package of the name.
        let is_meant = |item: &&String| {
            let Some((folder, name)) = item.rsplit_once('/') else { return false };
            let origin = format!("{OTHERPKGS}/{folder}");
            let has_folder = self.archive.indices.iter().any(|index| index.origin == origin);
            has_folder || !self.archive.candidates(plain_name(name)).is_empty()
        };
        let lacks = |item: &&String| in_folder((&self.archive, self.architecture), item).is_empty();
        let words = passes.iter().flat_map(|pass| &pass.install).filter(is_meant).filter(lacks);
        let unknown: Vec<(String, Option<String>)> =
            words.map(|word| (word.clone(), near_in_folders(&self.archive, word))).collect();
        if unknown.is_empty() { Ok(()) } else { Err(unknown_names(&self.archive, unknown)) }
    }

    fn tools(&self, seed: &[String], held: &[PinnedPackage]) -> Result<Vec<PinnedPackage>, DistroError> {
        if self.tools.as_ref().is_some_and(|archive| archive.indices.is_empty()) {
            let here = architecture(HostCpu::here().machine()).unwrap_or_default();
            return Err(DistroError::NoSource {
                problem: format!(
                    "tools run on this host's CPU, and no archive of the recipe has packages for {here}, only for {}",
                    self.architecture
                ),
                help: format!("name an archive of the same release that has {here}, too: ‹[[repo]] uri = \"...\"›"),
            });
        }
        tools_closure(self.tools.as_ref().unwrap_or(&self.archive), seed, held)
    }

    fn tools_of_image(&self, seed: &[String], held: &[PinnedPackage]) -> Result<Vec<PinnedPackage>, DistroError> {
        tools_closure(&self.archive, seed, held)
    }

    fn relations(&self, packages: &[PinnedPackage], install: &[String]) -> Result<Option<Relations>, DistroError> {
        Ok(relations(&self.archive, packages, install))
    }

    fn resolve(
        &self,
        solving: &Solving<'_>,
        passes: &[Pass],
        mut held: Vec<PinnedPackage>,
    ) -> Result<Vec<Resolution>, DistroError> {
        let mut passes = passes.to_vec();
        if let Some(base) = passes.first_mut()
            && solving.base.is_none()
            && self.archive.newest("usr-is-merged").is_some()
        {
            base.install.push("usr-is-merged".to_owned());
        }
        let resolver =
            Resolver { solving, architecture: self.architecture, suites: &self.suites, archive: &self.archive };
        loop {
            match resolver.resolve(&passes, &held) {
                // A held version that stands in the way gives way; the lock's difference names it (D13).
                Err(DistroError::Unsatisfiable { detail, log }) => {
                    let count = held.len();
                    let blocking = in_the_way(&detail);
                    held.retain(|package| !blocking.contains(&package.name));
                    if held.len() == count {
                        return Err(DistroError::Unsatisfiable { detail, log });
                    }
                }
                other => return other.map_err(|error| self.of_other_cpu(error)),
            }
        }
    }
}

impl AptArchive {
    /// Names that no archive has for the image's CPU get that as their reason, where the archives have them for this host's.
    fn of_other_cpu(&self, error: DistroError) -> DistroError {
        let (DistroError::UnknownPackages { packages, .. }, Some(tools)) = (&error, &self.tools) else { return error };
        let here = architecture(HostCpu::here().machine()).unwrap_or_default();
        let reason = |name: &str| {
            let is_there = !tools.candidates(plain_name(name)).is_empty();
            is_there.then(|| {
                let image = self.architecture;
                format!("`{name}` exists for {here}, but not for {image}: remove it from images for {image}, or name an archive that has it")
            })
        };
        let packages = packages.iter().map(|(name, hint)| (name.clone(), reason(name).or_else(|| hint.clone())));
        DistroError::unknown_packages(packages.collect(), "check the suites and components of ‹[[repo]]›")
    }
}

/// Roots of the archives by suite.
/// Errors: [`DistroError`] for sources that cannot be used.
pub(crate) fn roots(gathering: &Gathering<'_>) -> Result<BTreeMap<String, Vec<String>>, DistroError> {
    let mut urls: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (source, _) in sources(gathering)? {
        for suite in &source.suites {
            urls.entry(source.origin(suite)).or_default().push(source.uri.clone());
            if source.called.is_some() {
                // As an earlier imgbuild called it in a lock.
                urls.entry(suite.clone()).or_default().push(source.uri.clone());
            }
        }
    }
    Ok(urls)
}

/// Writes the indices of all suites, as signed, into a directory; gives the files.
pub(crate) fn vendor(gathering: &Gathering<'_>, directory: &Path) -> Result<BTreeSet<PathBuf>, DistroError> {
    let mut kept = BTreeSet::new();
    let mut put = |path: PathBuf, bytes: &[u8]| -> Result<(), DistroError> {
        files::replace(&path, bytes, 0o644, Durability::Kill)
            .map_err(|source| StoreError::io("write", &path, source))?;
        kept.insert(path);
        Ok(())
    };
    let mut contents = Contents { format: 1, suite: Vec::new() };
    let found = suites(gathering, "fetching the indices of")?;
    for (source, release) in found {
        let suite = &release.suite;
        let root = suite_directory(directory, &release.origin);
        let place = match below(suite) {
            None => root.join("dists").join(suite),
            Some(below) => root.join(below),
        };
        for (name, bytes) in &release.files {
            put(place.join(name), bytes)?;
        }
        for (_, digest, path) in release.indices.iter().chain(&release.tools) {
            let from = gathering.store.index(digest);
            let bytes = std::fs::read(&from).map_err(|source| StoreError::io("read", &from, source))?;
            put(place.join(path), &bytes)?;
            let folder = Path::new(path).parent().unwrap_or(Path::new(""));
            put(place.join(folder).join(format!("by-hash/SHA256/{digest}")), &bytes)?;
        }
        contents.suite.push(Suite { name: release.origin.clone(), components: source.components.clone() });
    }
    put(directory.join(VENDOR_MARK), toml::to_string(&contents).unwrap_or_default().as_bytes())?;
    Ok(kept)
}

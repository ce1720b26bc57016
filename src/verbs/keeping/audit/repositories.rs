//! What the repositories of images publish: updateinfo.xml of RPM's, and which packages a suite of security updates has newer.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use super::subjects::Audited;
use crate::Exit;
use crate::output::render;
use crate::output::reporter::Reporter;
use crate::setup::{PlacesArguments, Setup};
use advisories::{Component, Database, Ecosystem, Kind};
use base::source::Finding;
use build::{DownloadNews, Report};
use packages::rpm::Repomd;
use packages::{DistroError, Fetcher, Gathering, News, PackageArchive, PackageSources, Progress, manager};
use recipe::{Family, PinnedPackage, Recipe};
use store::{Store, StoreError};

/// News of repositories as news of a build.
struct Reported<'a>(&'a dyn Report);

impl News for Reported<'_> {
    fn progress(&self, text: &str) {
        self.0.progress(text);
    }

    fn finding(&self, finding: &Finding) {
        self.0.finding(finding);
    }

    fn downloads<'a>(&'a self, what: &'static str) -> Box<dyn Progress + 'a> {
        Box::new(DownloadNews(self.0, what))
    }
}

/// What fetches indices of a family's repositories.
fn fetcher(places: &PackageSources, family: Family) -> Fetcher {
    let fetcher = places.patience.map_or_else(Fetcher::new, Fetcher::with_patience);
    if family == Family::Debian { fetcher.as_apt() } else { fetcher }
}

/// Versions that the repositories of a recipe have of some packages, by their names; newer kernels have other names.
/// Errors: They cannot be queried.
pub(crate) fn offers(
    arguments: &crate::Arguments,
    places: &PlacesArguments,
    recipe: &Recipe,
    names: &BTreeSet<String>,
) -> Result<BTreeMap<String, Vec<String>>, Exit> {
    let setup = Setup::open(arguments)?;
    let _held = setup.share()?;
    let reporter = Reporter::new(arguments);
    let report = reporter.of(None);
    let (news, places) = (Reported(&report), places.places());
    let fetcher = fetcher(&places, recipe.model.image.distro.family());
    let gathering = Gathering { recipe, places: &places, fetcher: &fetcher, store: &setup.store, news: &news };
    let archive = manager(recipe).archive(&gathering).map_err(|error| refused(&reporter, error))?;
    let images: BTreeSet<String> = archive.names().into_iter().filter(|name| name.starts_with(IMAGE)).collect();
    let mut offers = BTreeMap::new();
    for name in names {
        let mut versions = Vec::new();
        for of_kernel in same_kernels(name, &images) {
            let all = archive.all(&of_kernel).map_err(|error| refused(&reporter, error))?;
            versions.extend(all.into_iter().map(|package| package.version));
        }
        offers.insert(name.clone(), versions);
    }
    reporter.end();
    Ok(offers)
}

/// What the repositories of images were asked for.
#[derive(Debug, Default)]
pub(super) struct Queried {
    /// Images of which it is known what their repositories say, or said in `unknown` that it is not.
    pub settled: BTreeSet<usize>,
    /// What was not compared, in words.
    pub unknown: Vec<String>,
}

/// What the repositories of a recipe are, once they were asked.
enum Asked<'a> {
    Suites(Box<dyn PackageArchive + 'a>),
    /// Those that publish advisories, and those that do not.
    Updates(Vec<String>, Vec<String>),
}

/// Asks the repositories of all images; images with the same ones share the answer.
/// Errors: One cannot be asked.
pub(super) fn query(
    arguments: &crate::Arguments,
    places: &PlacesArguments,
    database: &mut Database,
    audited: &[Audited],
) -> Result<Queried, Exit> {
    let setup = Setup::open(arguments)?;
    let _held = setup.share()?;
    let reporter = Reporter::new(arguments);
    let report = reporter.of(None);
    let (news, places) = (Reported(&report), places.places());
    let fetchers = [fetcher(&places, Family::Debian), fetcher(&places, Family::RedHat)];
    let mut known: BTreeMap<String, Asked<'_>> = BTreeMap::new();
    let mut queried = Queried::default();
    for (at, one) in audited.iter().enumerate() {
        let recipe = match asked_by(one) {
            Ok(recipe) => recipe,
            Err(problem) => {
                queried.settled.insert(at);
                queried.unknown.push(problem);
                continue;
            }
        };
        let family = recipe.model.image.distro.family();
        let image = &recipe.model.image;
        let key = serde_json::json!([image.distro, image.release, image.arch, recipe.model.repo]).to_string();
        let asked = match known.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let fetcher = &fetchers[usize::from(family != Family::Debian)];
                let gathering = Gathering { recipe, places: &places, fetcher, store: &setup.store, news: &news };
                entry.insert(match family {
                    Family::Debian => {
                        let archive = manager(recipe).archive(&gathering).map_err(|error| refused(&reporter, error))?;
                        Asked::Suites(archive)
                    }
                    Family::RedHat | Family::Suse => {
                        let updates = updates(&gathering).map_err(|error| refused(&reporter, error))?;
                        read_updates(database, one, &updates)?;
                        Asked::Updates(updates.published.into_iter().map(|(name, _)| name).collect(), updates.silent)
                    }
                })
            }
        };
        let problem = match &*asked {
            Asked::Suites(archive) => {
                of_suites(database, one, archive.as_ref()).map_err(|error| refused(&reporter, error))?
            }
            Asked::Updates(published, silent) => unpublished(one, published, silent),
        };
        queried.settled.insert(at);
        queried.unknown.extend(problem);
    }
    reporter.end();
    Ok(queried)
}

/// The recipe whose repositories are those of an image or a build.
/// Errors: Why it is missing.
fn asked_by(one: &Audited) -> Result<&Recipe, String> {
    let Some(recipe) = &one.recipe else {
        return Err(format!(
            "no recipe here is of `{}`: its repositories are not queried, and it was compared with nothing; name files with --db",
            one.name()
        ));
    };
    let image = &recipe.model.image;
    let target = format!("{} {} {}", image.distro.name(), image.release, image.arch.machine());
    if one.target != target {
        return Err(format!(
            "`{}` is of {}, but its recipe is of {target} now: the recipe's repositories are not its own, and it was compared with nothing; name files with --db",
            one.name(),
            one.target
        ));
    }
    Ok(recipe)
}

fn refused(reporter: &Reporter, error: DistroError) -> Exit {
    reporter.end();
    if error.is_reported() { Exit::from(&error) } else { render::failed(error) }
}

/// Whether a suite has security updates alone: `bookworm-security`, and before Debian 11 `buster/updates`.
fn is_security(suite: &str) -> bool {
    suite.ends_with("-security") || suite.ends_with("/updates")
}

/// Adds the packages that such a suite has newer; says so where there is no such suite.
fn of_suites(
    database: &mut Database,
    audited: &Audited,
    archive: &dyn PackageArchive,
) -> Result<Option<String>, DistroError> {
    let suites: Vec<String> =
        archive.suites().into_iter().map(|suite| suite.name).filter(|name| is_security(name)).collect();
    if suites.is_empty() {
        return Ok(Some(format!(
            "none of the repositories of `{}` is a suite of security updates: it was compared with nothing; name files with --db",
            audited.name()
        )));
    }
    for suite in &suites {
        database.add_suite(suite);
    }
    let platform = &audited.subject.platform;
    let order = platform.order();
    let images: BTreeSet<String> = archive.names().into_iter().filter(|name| name.starts_with(IMAGE)).collect();
    let newest = |component: &Component| -> Result<Option<PinnedPackage>, DistroError> {
        let mut all = Vec::new();
        for name in same_kernels(&component.name, &images) {
            all.extend(archive.all(&name)?);
        }
        all.retain(|one| is_security(&one.origin) && order.compare(&one.version, &component.version).is_gt());
        Ok(all.into_iter().max_by(|a, b| order.compare(&a.version, &b.version)))
    };
    let mut found = BTreeSet::new();
    let is_package = |one: &&Component| one.kind != Kind::Driver && one.ecosystem == Ecosystem::Distribution;
    for component in audited.subject.components.iter().filter(is_package) {
        if let Some(newer) = newest(component)? {
            found.insert((newer.origin, &component.name, newer.version));
        }
    }
    for (suite, name, version) in found {
        database.add_of_suite(platform, &suite, name, &version);
    }
    Ok(None)
}

/// How Debian's and Ubuntu's packages with a kernel begin.
const IMAGE: &str = "linux-image-";

/// Series and flavour of a kernel: `linux-image-6.1.0-31-amd64` is 6.1 and `amd64`; none for other packages.
fn kernel_of(package: &str) -> Option<(String, String)> {
    let rest = package.strip_prefix(IMAGE)?;
    let rest = rest.strip_prefix("unsigned-").unwrap_or(rest);
    let is_number = |part: &&str| part.starts_with(|c: char| c.is_ascii_digit());
    let release = rest.split('-').next().filter(|part| is_number(part))?;
    let series: Vec<&str> = release.split(|c: char| !c.is_ascii_digit()).take(2).collect();
    let flavour: Vec<&str> = rest.split('-').skip_while(is_number).collect();
    (!flavour.is_empty()).then(|| (series.join("."), flavour.join("-")))
}

/// Names under which newer versions of a package come: its own, and those of newer kernels of its flavour. They are of its series, if the
/// archive has that one: Ubuntu has several.
fn same_kernels(package: &str, images: &BTreeSet<String>) -> BTreeSet<String> {
    let mut names = BTreeSet::from([package.to_owned()]);
    let Some((series, flavour)) = kernel_of(package) else { return names };
    let same: Vec<(&String, String)> = images
        .iter()
        .filter_map(|name| Some((name, kernel_of(name)?)))
        .filter(|(_, (_, other))| *other == flavour)
        .map(|(name, (series, _))| (name, series))
        .collect();
    let has_series = same.iter().any(|(_, other)| *other == series);
    names.extend(same.into_iter().filter(|(_, other)| !has_series || *other == series).map(|(name, _)| name.clone()));
    names
}

/// What the repositories of a recipe publish.
struct Updates {
    /// Repositories with updateinfo.xml, and where that is.
    published: Vec<(String, PathBuf)>,
    /// Repositories without.
    silent: Vec<String>,
    /// The files; they go with it.
    _directory: tempfile::TempDir,
}

/// Advisories of RPM repositories: their metadata are fetched, checked and written as `vendor` does.
fn updates(gathering: &Gathering<'_>) -> Result<Updates, DistroError> {
    let store: &Store = gathering.store;
    let aside = store.aside_directory()?;
    let directory =
        tempfile::tempdir_in(&aside).map_err(|error| StoreError::io("create a directory in", &aside, error))?;
    let files = manager(gathering.recipe).vendor(gathering, directory.path())?;
    let (mut published, mut silent) = (Vec::new(), Vec::new());
    for path in files.iter().filter(|path| path.ends_with("repodata/repomd.xml")) {
        let Some(root) = path.parent().and_then(Path::parent) else { continue };
        let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let bytes = std::fs::read(path).map_err(|error| StoreError::io("read", path, error))?;
        let repomd = Repomd::parse(&bytes)
            .map_err(|problem| DistroError::Format { file: format!("repomd.xml of {name}"), problem })?;
        let file = repomd.entry("updateinfo").map(|entry| root.join(&entry.location));
        match file.filter(|file| files.contains(file)) {
            Some(file) => published.push((name, file)),
            None => silent.push(name),
        }
    }
    Ok(Updates { published, silent, _directory: directory })
}

fn read_updates(database: &mut Database, audited: &Audited, updates: &Updates) -> Result<(), Exit> {
    for (repository, path) in &updates.published {
        let file = File::open(path).map_err(|error| {
            render::say(&format!("error: `{}` cannot be read: {error}", path.display()));
            Exit::Machine
        })?;
        let name = format!("updateinfo of {repository}");
        let read = database.read_of_repository(&audited.subject.platform, &name, file);
        read.map_err(|error| render::refused(Exit::Input, error))?;
    }
    Ok(())
}

/// What is said of repositories without advisories that packages of an image come from; of all, where it is not known from which they come.
fn unpublished(audited: &Audited, published: &[String], silent: &[String]) -> Option<String> {
    let name = audited.name();
    if published.is_empty() {
        return Some(format!(
            "no repository of `{name}` publishes advisories (updateinfo): it was compared with nothing; name files with --db"
        ));
    }
    let has = |id: &&String| audited.origins.is_empty() || audited.origins.contains(*id);
    let silent: Vec<&str> = silent.iter().filter(has).map(String::as_str).collect();
    (!silent.is_empty()).then(|| {
        format!(
            "repositories of `{name}` without advisories: {}; what comes from them was compared with nothing; name files with --db",
            silent.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use advisories::{Platform, Subject};

    fn audited(target: &str, origins: &[&str]) -> Audited {
        let platform = Platform::of_target(target).unwrap();
        Audited {
            subject: Subject { image: "compute".to_owned(), platform, modules: None, components: Vec::new() },
            target: target.to_owned(),
            recipe: None,
            build: None,
            boots: None,
            runs: None,
            from: "lock",
            lock: None,
            requests: BTreeMap::new(),
            origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
            files: super::super::files::Files::default(),
        }
    }

    #[test]
    fn newer_kernels_have_other_names_of_the_same_flavour() {
        let names = |package: &str, images: &[&str]| {
            let images = images.iter().map(|name| (*name).to_owned()).collect();
            same_kernels(package, &images).into_iter().collect::<Vec<_>>()
        };
        let [old, new] = ["linux-image-6.1.0-30-amd64", "linux-image-6.1.0-31-amd64"];
        let other = ["linux-image-6.1.0-31-rt-amd64", "linux-image-6.1.0-31-amd64-dbg", "linux-image-amd64"];
        assert_eq!(names(old, &[&[new][..], &other[..]].concat()), [old, new]);
        assert_eq!(names("bash", &[new]), ["bash"]);
        // Another series, as Ubuntu has them beside, is no update while there is one of its own.
        let [first, update, hardware] =
            ["linux-image-6.8.0-50-generic", "linux-image-6.8.0-51-generic", "linux-image-6.11.0-1-generic"];
        assert_eq!(names(first, &[update, hardware]), [first, update]);
        assert_eq!(names(first, &[hardware]), [hardware, first]);
        assert_eq!(kernel_of("linux-image-6.12.43+deb13-amd64"), Some(("6.12".to_owned(), "amd64".to_owned())));
        assert_eq!(kernel_of("linux-image-unsigned-6.8.0-1020-aws"), Some(("6.8".to_owned(), "aws".to_owned())));
    }

    #[test]
    fn what_comes_from_repositories_without_advisories_is_not_known() {
        let [base, epel] = ["baseos", "epel"].map(str::to_owned);
        let said = |origins: &[&str], published: &[String], silent: &[String]| {
            unpublished(&audited("rocky 9 x86_64", origins), published, silent)
        };
        assert!(said(&["baseos"], &[], std::slice::from_ref(&base)).unwrap().contains("no repository of `compute`"));
        let some = said(&["baseos", "epel"], std::slice::from_ref(&epel), std::slice::from_ref(&base)).unwrap();
        assert!(some.contains("without advisories: baseos;"), "{some}");
        // It may have come from there.
        assert!(said(&[], std::slice::from_ref(&epel), std::slice::from_ref(&base)).is_some());
        assert_eq!(said(&["epel"], std::slice::from_ref(&epel), std::slice::from_ref(&base)), None);
    }

    #[test]
    fn repositories_of_no_recipe_are_not_asked() {
        let problem = asked_by(&audited("rocky 9 x86_64", &[])).unwrap_err();
        assert!(problem.contains("no recipe here is of `compute`") && problem.contains("--db"), "{problem}");
    }
}

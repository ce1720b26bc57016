//! What is audited: images by their locks, or the builds that nodes boot and run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::files::{self, Files};
use crate::Exit;
use crate::output::render;
use crate::setup::{chosen_to_look, lock, store_if_there};
use advisories::{Component, Ecosystem, Kind, Platform, SourceFrom, Subject, source_of_deb, source_of_rpm};
use archive::list_packed;
use base::digest::Sha256;
use base::source::counted_as;
use nodes::NodeSet;
use packages::installed::dpkg;
use packages::rpm::Package;
use recipe::{Family, Lock, LockedPass, PassRole, Recipe, Workspace, family_of, is_kernel_name};
use store::Store;

/// An image or a build, with what people want to know of it.
pub(crate) struct Audited {
    pub subject: Subject,
    /// Distribution, release and CPU, as the lock has them.
    pub target: String,
    pub recipe: Option<Recipe>,
    /// The build, as its directory is called; none for a lock.
    pub build: Option<String>,
    /// Nodes whose next start is of it, and nodes that run it.
    pub boots: Option<NodeSet>,
    pub runs: Option<NodeSet>,
    /// Where its packages were read: `lock`, `records` or `image`.
    pub from: &'static str,
    /// The lock, where lines of it can be named.
    pub lock: Option<(PathBuf, String)>,
    /// What each transaction of the lock was asked for.
    pub requests: BTreeMap<String, Vec<String>>,
    /// Repositories that its packages come from, by the lock; empty where that is not known.
    pub origins: BTreeSet<String>,
    /// Files that no package brings.
    pub files: Files,
}

/// Names of packages that a message has at most.
const NAMED: usize = 3;
/// Longest list of a container image's packages, in bytes.
const LONGEST_STATUS: u64 = 256 << 20;

impl Audited {
    /// The image, and the build of it.
    pub(crate) fn name(&self) -> String {
        match &self.build {
            Some(build) => format!("{}@{build}", self.subject.image),
            None => self.subject.image.clone(),
        }
    }

    /// Adds what was seen of files that no package brings.
    pub(crate) fn add_files(&mut self, files: Files) {
        self.subject.components.extend(files.parts.iter().cloned());
        self.files = files;
    }

    /// How many packages have a source version that is only likely: its name is known.
    pub(crate) fn by_path(&self) -> usize {
        self.subject.components.iter().filter(|one| one.source_from == SourceFrom::Path).count()
    }

    /// Packages whose source is not known.
    pub(crate) fn without_source(&self) -> Vec<&Component> {
        let is_unknown = |one: &&Component| {
            one.ecosystem == Ecosystem::Distribution && one.kind != Kind::Driver && one.source_from == SourceFrom::Name
        };
        self.subject.components.iter().filter(is_unknown).collect()
    }

    /// What is said of them where files name sources; none where all are known.
    pub(crate) fn unknown_sources(&self) -> Option<String> {
        let all = self.without_source();
        let names: Vec<&str> = all.iter().take(NAMED).map(|one| one.name.as_str()).collect();
        let more = if all.len() > NAMED { ", .." } else { "" };
        let also = match self.subject.platform.distro.family() {
            Family::Debian => "",
            Family::RedHat | Family::Suse => {
                ", or compare with updateinfo.xml of its repositories alone, which needs none"
            }
        };
        (!all.is_empty()).then(|| {
            format!(
                "the sources of {} of `{}` are not known ({}{more}), and files of advisories name sources: build or vendor first, so that the store has them{also}",
                counted_as(all.len(), "package", "packages"),
                self.name(),
                names.join(", ")
            )
        })
    }
}

/// A package before its source is known.
pub(super) struct Known {
    pub(super) component: Component,
    pub(super) sha256: Option<Sha256>,
    /// Its path in the archive.
    pub(super) file: String,
    /// Its source, where a package database says it.
    pub(super) source: Option<(String, String)>,
}

/// Images that patterns mean, by their locks.
pub(crate) fn of_images(arguments: &crate::Arguments, images: &[String]) -> Result<Vec<Audited>, Exit> {
    let recipes = chosen_to_look(arguments, images)?;
    let store = store_if_there(arguments);
    let mut all = Vec::new();
    for recipe in recipes {
        let image = recipe.model.image.name.clone();
        let Some(lock) = lock(&recipe)? else {
            render::say(&format!(
                "error: `{image}` has no {}: which packages it has is not known yet\n  help: `imgbuild build {image}` or `imgbuild update {image}` writes it",
                recipe.lock_shown()
            ));
            return Err(Exit::Input);
        };
        let text = std::fs::read_to_string(&recipe.lock_path).unwrap_or_default();
        let place = (recipe.lock_path.clone(), text);
        let of_files = files::of_recipe(&recipe);
        let mut audited = Audited { lock: Some(place), ..of_recipe(recipe, &lock, store.as_ref())? };
        audited.add_files(of_files);
        all.push(audited);
    }
    Ok(all)
}

/// An image by a lock of its recipe, which need not be the one that lies beside it.
pub(crate) fn of_recipe(recipe: Recipe, lock: &Lock, store: Option<&Store>) -> Result<Audited, Exit> {
    let drivers = recipe.model.kernel.own_drivers();
    let audited = of_lock(&recipe.model.image.name, lock, store, &drivers)?;
    Ok(Audited { recipe: Some(recipe), ..audited })
}

fn platform(image: &str, target: &str) -> Result<Platform, Exit> {
    Platform::of_target(target).ok_or_else(|| {
        render::say(&format!("error: the packages of `{image}` are for `{target}`, which this imgbuild does not know"));
        Exit::Input
    })
}

pub(super) fn of_lock(image: &str, lock: &Lock, store: Option<&Store>, drivers: &[String]) -> Result<Audited, Exit> {
    let of_base = sources_of_base(store, lock);
    let in_image = lock.in_image().into_iter().map(|one| Known {
        component: component_of(one.brought.map(|(pass, _)| pass), one.name, one.version, one.architecture),
        sha256: one.brought.map(|(_, package)| package.sha256),
        file: one.brought.map(|(_, package)| package.file.clone()).unwrap_or_default(),
        source: match one.brought {
            Some(_) => None,
            None => of_base.get(&(one.name.to_owned(), one.version.to_owned())).cloned(),
        },
    });
    let tools = lock.pass.iter().filter(|pass| !pass.role().is_in_image());
    let tools = tools.flat_map(|pass| {
        pass.packages.iter().map(move |package| Known {
            component: component_of(Some(pass), &package.name, &package.version, &package.architecture),
            sha256: Some(package.sha256),
            file: package.file.clone(),
            source: None,
        })
    });
    let packages: Vec<Known> = in_image.chain(tools).collect();
    let mut audited = with_sources(image, &lock.target, packages, store, drivers)?;
    let modules = lock.pass.iter().flat_map(|pass| pass.modules.clone());
    audited.subject.modules = Some(modules.collect());
    audited.requests = lock.pass.iter().map(|pass| (pass.name.clone(), pass.install.clone())).collect();
    audited.origins = lock.pass.iter().flat_map(|pass| &pass.packages).map(|package| package.origin.clone()).collect();
    Ok(audited)
}

/// Sources of a container image's packages by name and version, as dpkg's status in its layers says them; empty where the store lacks the
/// layers. rpm's database is not asked for them.
fn sources_of_base(store: Option<&Store>, lock: &Lock) -> BTreeMap<(String, String), (String, String)> {
    let mut sources = BTreeMap::new();
    let (Some(store), Some(base)) = (store, &lock.base) else { return sources };
    if lock.family() != Family::Debian {
        return sources;
    }
    for layer in &base.layers {
        let Ok(file) = File::open(store.package(&layer.sha256)) else { continue };
        // A layer that cannot be read has no packages that are known.
        let _ = list_packed(&file, &mut |listed, content| {
            if listed.path == dpkg::STATUS && listed.size <= LONGEST_STATUS {
                let mut status = Vec::new();
                content.take(LONGEST_STATUS).read_to_end(&mut status)?;
                sources.extend(sources_of_status(&String::from_utf8_lossy(&status)));
            }
            Ok(())
        });
    }
    sources
}

/// Sources by name and version of packages.
fn sources_of_status(status: &str) -> Vec<((String, String), (String, String))> {
    let of_stanza = |stanza: &str| {
        let (name, version) = (dpkg::field(stanza, "Package")?, dpkg::field(stanza, "Version")?);
        let source = source_of_deb(name, version, dpkg::field(stanza, "Source"));
        Some(((name.to_owned(), version.to_owned()), source))
    };
    status.split("\n\n").filter_map(of_stanza).collect()
}

pub(super) fn component_of(pass: Option<&LockedPass>, name: &str, version: &str, arch: &str) -> Component {
    Component {
        kind: match pass.map(LockedPass::role) {
            Some(PassRole::Kernel) => Kind::Kernel,
            Some(role) if !role.is_in_image() => Kind::Tools,
            _ => kind_of(name),
        },
        ecosystem: Ecosystem::Distribution,
        file: String::new(),
        pass: pass.map(|pass| pass.name.clone()).unwrap_or_default(),
        name: name.to_owned(),
        version: version.to_owned(),
        arch: arch.to_owned(),
        source: (name.to_owned(), version.to_owned()),
        source_from: SourceFrom::Name,
    }
}

/// What a package of the root file system is, by its name alone.
fn kind_of(name: &str) -> Kind {
    match is_kernel_name(name) || name.starts_with("linux-image-") {
        true => Kind::Kernel,
        false => Kind::Package,
    }
}

/// Packages with their sources, as the packages themselves say them where the store has them.
pub(super) fn with_sources(
    image: &str,
    target: &str,
    packages: Vec<Known>,
    store: Option<&Store>,
    drivers: &[String],
) -> Result<Audited, Exit> {
    let family = family_of(target);
    let mut components: Vec<Component> =
        packages.into_par_iter().map(|package| with_source(package, family, store)).collect();
    components.extend(drivers.iter().map(|driver| {
        // `source/lustre-2.15.5`, `drivers/igb-5.16.1.tar.gz`.
        let name = Path::new(driver).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let endings = [".gz", ".xz", ".zst", ".tar"].into_iter();
        let name = endings.fold(name.as_str(), |name, ending| name.strip_suffix(ending).unwrap_or(name));
        let is_version = |(_, version): &(&str, &str)| version.starts_with(|c: char| c.is_ascii_digit());
        let (name, version) = name.rsplit_once('-').filter(is_version).unwrap_or((name, ""));
        Component { kind: Kind::Driver, ecosystem: Ecosystem::Generic, ..component_of(None, name, version, "") }
    }));
    let platform = platform(image, target)?;
    Ok(Audited {
        subject: Subject { image: image.to_owned(), platform, modules: None, components },
        target: target.to_owned(),
        recipe: None,
        build: None,
        boots: None,
        runs: None,
        from: "lock",
        lock: None,
        requests: BTreeMap::new(),
        origins: BTreeSet::new(),
        files: Files::default(),
    })
}

fn with_source(package: Known, family: Family, store: Option<&Store>) -> Component {
    let Known { mut component, sha256, file, source } = package;
    if let Some(source) = source {
        return Component { source, source_from: SourceFrom::Package, ..component };
    }
    let path = store.zip(sha256).map(|(store, sha256)| store.package(&sha256)).filter(|path| path.is_file());
    let (name, version) = (component.name.clone(), component.version.clone());
    let own = path.and_then(|path| match family {
        Family::Debian => {
            let stanza = archive::control_stanza(File::open(path).ok()?).ok()?;
            let field = stanza.lines().find_map(|line| line.strip_prefix("Source:"));
            Some(source_of_deb(&name, &version, field))
        }
        // The package itself was checked when it came into the store.
        Family::RedHat | Family::Suse => source_of_rpm(&Package::named_at(&path).ok()?.source?, &version),
    });
    if let Some(source) = own {
        (component.source, component.source_from) = (source, SourceFrom::Package);
        return component;
    }
    if family == Family::Debian {
        // Debian's archives have a folder for each source: pool/main/o/openssl/libssl3_3.0.11-1_amd64.deb.
        let parts: Vec<&str> = file.split('/').collect();
        let of_pool = match parts.as_slice() {
            ["pool", .., source, _] if parts.len() > 3 => Some(*source),
            _ => None,
        };
        component.source = source_of_deb(&name, &version, of_pool);
        component.source_from = if of_pool.is_some() { SourceFrom::Path } else { SourceFrom::Name };
    }
    component
}

/// Files with the site's statements: `*.openvex.json` of the workspace's root and of the recipes' directories, sorted.
pub(super) fn statements(arguments: &crate::Arguments, audited: &[Audited]) -> Vec<PathBuf> {
    let root = Workspace::root_of(&arguments.directory);
    let recipes = audited.iter().filter_map(|one| one.recipe.as_ref().map(|recipe| recipe.directory.clone()));
    let mut found: Vec<PathBuf> = Vec::new();
    for directory in root.into_iter().chain(recipes) {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let named = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".openvex.json"));
        found.extend(named.map(|entry| entry.path().canonicalize().unwrap_or_else(|_| entry.path())));
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_those_of_dpkgs_status() {
        let status = "Package: libc6\nVersion: 2.36-9+deb12u9\nSource: glibc\n\n\
                      Package: bash\nVersion: 5.2.15-2+b7\n\nPackage: broken\n";
        let sources: BTreeMap<_, _> = sources_of_status(status).into_iter().collect();
        let source = |name: &str, version: &str| sources.get(&(name.to_owned(), version.to_owned())).cloned();
        assert_eq!(source("libc6", "2.36-9+deb12u9"), Some(("glibc".to_owned(), "2.36-9+deb12u9".to_owned())));
        assert_eq!(source("bash", "5.2.15-2+b7"), Some(("bash".to_owned(), "5.2.15-2".to_owned())));
        assert_eq!((source("libc6", "1"), sources.len()), (None, 2));
    }

    #[test]
    fn what_no_one_says_the_source_of_is_named() {
        let known = |name: &str, source: Option<(String, String)>| Known {
            component: component_of(None, name, "1-1", "x86_64"),
            sha256: None,
            file: String::new(),
            source,
        };
        let names = ["a", "b", "c", "d"].map(|name| known(name, None));
        let own = known("e", Some(("f".to_owned(), "1-1".to_owned())));
        let all = names.into_iter().chain([own]).collect();
        let Ok(audited) = with_sources("compute", "rocky 9 x86_64", all, None, &["drivers/igb-5.16.1".to_owned()])
        else {
            panic!("the target is known");
        };
        assert_eq!((audited.without_source().len(), audited.by_path()), (4, 0));
        let said = audited.unknown_sources().unwrap();
        assert!(said.contains("4 packages of `compute` are not known (a, b, c, ..)"), "{said}");
        assert!(said.contains("updateinfo.xml"), "{said}");
    }
}

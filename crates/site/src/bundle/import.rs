//! A bundle as a workspace's image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::definitions::{Places, Site};
use crate::workspace::{ImportReport, ImportRequest, ImportState, import, write_whole};
use base::source::{Finding, Severity, SourceFile};
use files::beside;
use files::sweep::Swept;
use files::{Aside, Replaced};
use recipe::{
    Change, Edit, Editable, FieldPath, KDL_RECIPE_FILE, RECIPE_FILE, Step, WORKSPACE_FILE, document_in, recipe_file,
};
use xcat::definitions::{Manifest, is_plain_path, parse_manifest};

use super::begun::Begun;
use super::members::Members;
use super::rename::{Placed, base, lists, with_profile};
use super::unpack::{TOP, unpack};
use super::{BundleError, MEMBERS, OWN, RECORDS};

/// The workspace's folder of files, from a recipe of an import.
const FROM_RECIPE: &str = "../../site";

/// Largest manifest that is read, in bytes.
const MANIFEST_LIMIT: u64 = 4 << 20;

#[derive(Debug, Clone)]
pub struct BundleImport {
    pub bundle: PathBuf,
    pub into: PathBuf,
    /// Another profile (imgimport -f).
    pub profile: Option<String>,
    /// Whether what is there is replaced; it stays as `.ORIG`.
    pub force: bool,
    /// Whether saved stores are put aside for loading.
    pub records: bool,
    pub dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BundleReport {
    #[serde(flatten)]
    pub import: ImportReport,
    /// Files of nodes and extras, from the workspace.
    pub files: Vec<String>,
    /// The workspace's file with the packed image, for each image that has one.
    pub rootimg: BTreeMap<String, String>,
    /// Saved stores that the caller loads and removes.
    #[serde(skip)]
    pub records: Vec<PathBuf>,
}

struct Image {
    folder: PathBuf,
    manifest: Manifest,
    /// Lists, and where they go.
    lists: Vec<Placed>,
    /// Everything else: what lies in the folder, and where it goes.
    others: Vec<(PathBuf, String)>,
    /// Extra files: what lies in the folder, and their path on the management node.
    extras: Vec<(PathBuf, String)>,
    /// Paths of the management node that its own recipe reads below `site/`.
    paths: Vec<String>,
}

/// Reads a bundle into a workspace.
/// Errors: [`BundleError`]; nothing was written then, but for a full disk and the like.
pub fn import_bundle(request: &BundleImport) -> Result<(BundleReport, Vec<Finding>), BundleError> {
    let io = |path: &Path, error: std::io::Error| BundleError::Io { path: path.to_owned(), error };
    let into = std::path::absolute(&request.into).unwrap_or_else(|_| request.into.clone());
    // On the workspace's file system, which has to have the room; a dry run leaves no trace there.
    let there = || into.ancestors().find(|path| path.is_dir()).map(Path::to_owned);
    let beside = if request.dry_run { std::env::temp_dir() } else { there().unwrap_or_else(std::env::temp_dir) };
    let aside = Swept::below(&beside, ".imgbuild-bundle.").map_err(|error| io(&beside, error))?;
    let unpacked = unpack(&request.bundle, aside.path())?;
    let mut begun = Begun::read(&into);
    fault::point("bundle.unpacked");
    let mut findings = Vec::new();
    let mut images = Vec::new();
    for folder in unpacked.images {
        images.push(read_image(folder, request, &mut findings)?);
    }
    let places = Places { sealed: true, ..Places::default() };
    let mut site = Site { places, ..Site::default() };
    for image in &images {
        let definition = &image.manifest.definition;
        if site.osimages.insert(definition.name.clone(), definition.clone()).is_some() {
            let problem = format!("`{}` is in it twice", definition.name);
            return Err(BundleError::Refused { path: request.bundle.clone(), problem });
        }
        if !request.force && into.join("images").join(&definition.name).exists() && !begun.is_half(&definition.name) {
            return Err(BundleError::Taken { what: format!("the image `{}`", definition.name) });
        }
        for list in &image.lists {
            let here = image.folder.join(&list.name);
            if here.is_file() {
                site.places.moved.push((list.path.clone(), here));
            }
        }
        // Lists include them, and scripts read them.
        site.places.moved.extend(image.extras.iter().map(|(here, path)| (path.clone(), here.clone())));
    }
    let below = into.join("site");
    let files = files_of(&images, &below, request)?;
    if !request.dry_run {
        begun.begin(&into, site.osimages.keys()).map_err(|error| io(&into, error))?;
    }
    let mut report =
        import(&site, &ImportRequest { into: into.clone(), copy: true, sealed: true, dry_run: request.dry_run })?;
    report.notes.extend(unpacked.left_out.iter().map(|path| format!("the link `{path}` of the bundle was left out")));
    for image in report.osimages.iter_mut().filter(|one| one.state == ImportState::Skipped) {
        report.notes.push(format!("{}: its files are below site/, but it cannot be built here", image.name));
    }
    let mut done = BundleReport { import: report, files: Vec::new(), rootimg: BTreeMap::new(), records: Vec::new() };
    fault::point("bundle.imported");
    for image in &images {
        if let Some(path) = image.manifest.rootimg.as_ref().filter(|path| image.folder.join(base(path)).is_file()) {
            done.rootimg.insert(image.manifest.definition.name.clone(), format!("site{path}"));
        }
    }
    for image in &images {
        for (table, names) in
            [("postscripts", &image.manifest.postscripts), ("postbootscripts", &image.manifest.postbootscripts)]
        {
            if let Some(names) = names {
                let name = &image.manifest.definition.name;
                done.import
                    .notes
                    .push(format!("{name}: its nodes had {table}={names}; in xCAT: chdef NODES {table}={names}"));
            }
        }
    }
    let mut replaced = Replaced::default();
    for (to, from) in files {
        let shown = to.strip_prefix(&into).unwrap_or(&to).display().to_string();
        if !request.dry_run {
            put(&from, &to, &into, &mut replaced).map_err(|error| io(&to, error))?;
        }
        done.files.push(shown);
    }
    fault::point("bundle.files");
    for image in images.iter().filter(|_| !request.dry_run) {
        let name = &image.manifest.definition.name;
        let state = done.import.osimages.iter().find(|one| one.name == *name).map(|one| one.state);
        let note = match state {
            Some(ImportState::New) => own_recipe(image, &into, &mut replaced),
            Some(ImportState::Changed | ImportState::Same) => map_lists(image, &into).map(|()| None),
            _ => Ok(None),
        };
        if let Some(note) = note.map_err(|error| io(&into, error))? {
            done.import.notes.push(format!("{name}: {note}"));
        }
    }
    for image in images.iter().filter(|_| request.records) {
        let from = image.folder.join(OWN).join(RECORDS);
        if from.is_file() {
            let to = into.join(format!(".{}.{RECORDS}", image.manifest.definition.name));
            put(&from, &to, &into, &mut replaced).map_err(|error| io(&to, error))?;
            done.records.push(to);
        }
    }
    replaced.keep();
    if !request.dry_run {
        begun.end();
    }
    done.files.sort();
    Ok((done, findings))
}

/// What goes where below `site/`; nothing that already exists, unless it is asked for, and no place twice.
fn files_of(images: &[Image], below: &Path, request: &BundleImport) -> Result<BTreeMap<PathBuf, PathBuf>, BundleError> {
    let mut files: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for (from, path) in images.iter().flat_map(all_files) {
        let to = below.join(path.trim_start_matches('/'));
        if to.symlink_metadata().is_ok() && !same(&from, &to) && !request.force {
            return Err(BundleError::Taken { what: format!("`{}`", to.display()) });
        }
        let check = || beside::check(below.parent().unwrap_or(below), &to);
        check().map_err(|error| BundleError::Io { path: to.clone(), error })?;
        if let Some(first) = files.get(&to).filter(|first| !same(first, &from)) {
            let problem = format!("`{}` and `{}` in it have the same destination", base_of(first), base_of(&from));
            return Err(BundleError::Refused { path: request.bundle.clone(), problem });
        }
        files.insert(to, from);
    }
    Ok(files)
}

fn base_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read_image(mut folder: PathBuf, request: &BundleImport, findings: &mut Vec<Finding>) -> Result<Image, BundleError> {
    let refused = |problem: String| BundleError::Refused { path: request.bundle.clone(), problem };
    let path = folder.join("manifest.xml");
    if path.metadata().is_ok_and(|one| one.len() > MANIFEST_LIMIT) {
        return Err(refused(format!("its manifest is larger than {} MiB", MANIFEST_LIMIT >> 20)));
    }
    let text = std::fs::read(&path).map_err(|error| BundleError::Io { path: path.clone(), error })?;
    let text = String::from_utf8(text).map_err(|_| refused("its manifest is not UTF-8".to_owned()))?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_top = name == TOP;
    let shown = if is_top { "manifest.xml".to_owned() } else { format!("{name}/manifest.xml") };
    let (manifest, found) = parse_manifest(&SourceFile::new(shown, &path, text));
    let has_errors = found.iter().any(|one| one.severity == Severity::Error);
    let Some(mut manifest) = manifest.filter(|_| !has_errors) else {
        return Err(BundleError::Manifest { path: request.bundle.clone(), findings: found });
    };
    findings.extend(found);
    // The folder is called after the image, as others are.
    if is_top && recipe::is_image_name(&manifest.definition.name) {
        let named = folder.with_file_name(&manifest.definition.name);
        std::fs::rename(&folder, &named).map_err(|error| BundleError::Io { path: named.clone(), error })?;
        folder = named;
    }
    let mut paths = Vec::new();
    if let Ok(text) = std::fs::read(folder.join(MEMBERS)) {
        let members: Members =
            serde_json::from_slice(&text).map_err(|error| refused(format!("{MEMBERS} cannot be read: {error}")))?;
        // Names of its own could lead anywhere.
        let is_odd = |name: &str| name.starts_with('/') || name.split('/').any(|part| part == "..");
        if let Some(member) = members.members.iter().find(|one| is_odd(&one.name)) {
            return Err(refused(format!("{MEMBERS} names `{}`", member.name.escape_debug())));
        }
        if let Some(problem) = members.problem(&folder) {
            return Err(refused(problem));
        }
        if let Some(path) = members.paths.iter().find(|path| !is_plain_path(path)) {
            return Err(refused(format!("{MEMBERS} names `{}`", path.escape_debug())));
        }
        paths = members.paths;
    }
    if manifest.needs_media {
        let get = |attribute: &str| manifest.definition.get(attribute).unwrap_or_default();
        let media = format!("/install/{}/{}", get("osvers"), get("osarch"));
        if !Path::new(&media).is_dir() {
            return Err(refused(format!("it needs the distribution's media in {media}: import them first")));
        }
    }
    let lists = match &request.profile {
        Some(profile)
            if !profile.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) || profile.is_empty() =>
        {
            return Err(refused(format!("`{}` is not a valid profile name", profile.escape_debug())));
        }
        Some(profile) => with_profile(&mut manifest, profile),
        None => lists(&manifest),
    };
    let places = [&manifest.kernel, &manifest.ramdisk, &manifest.rootimg, &manifest.rootimgtree, &manifest.litefile];
    let mut others = Vec::new();
    for (name, path) in places.into_iter().flatten().map(|path| (base(path), path)) {
        match folder.join(name) {
            here if here.is_file() => others.push((here, path.clone())),
            _ if manifest.litefile.as_ref() == Some(path) => {}
            _ => return Err(refused(format!("its manifest names `{name}`, which is not in it"))),
        }
    }
    for side in [".index", ".sha256"] {
        if let Some(path) = &manifest.rootimg {
            let here = folder.join(format!("{}{side}", base(path)));
            if here.is_file() {
                others.push((here, format!("{path}{side}")));
            }
        }
    }
    let mut extras = Vec::new();
    for extra in &manifest.extras {
        let src = extra.src.trim_end_matches('/');
        let dest = extra.dest.trim_end_matches('/');
        let file = folder.join("extra").join(base(src));
        let whole = folder.join("extra").join(src.trim_start_matches('/'));
        if file.is_file() {
            extras.push((file, format!("{dest}/{}", base(src))));
        } else if whole.is_dir() {
            extras.push((whole, dest.to_owned()));
        } else {
            return Err(refused(format!("its manifest names the extra file `{src}`, which is not in it")));
        }
    }
    others.extend(extras.iter().cloned());
    if takes_own_recipe(&folder, &manifest) {
        for path in &paths {
            others.push((folder.join(OWN).join("site").join(path.trim_start_matches('/')), path.clone()));
        }
        others.retain(|(here, _)| here.exists());
    }
    Ok(Image { folder, manifest, lists, others, extras, paths })
}

/// Files that go below `site/`, folders by their files.
fn all_files(image: &Image) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let lists = image.lists.iter().map(|list| (image.folder.join(&list.name), list.path.clone()));
    files.extend(lists.filter(|(here, _)| here.is_file()));
    for (here, path) in &image.others {
        if !here.is_dir() {
            files.push((here.clone(), path.clone()));
            continue;
        }
        for entry in walkdir::WalkDir::new(here).sort_by_file_name().into_iter().flatten() {
            if !entry.file_type().is_dir() {
                let below = entry.path().strip_prefix(here).unwrap_or(entry.path());
                files.push((entry.path().to_owned(), format!("{path}/{}", below.display())));
            }
        }
    }
    files
}

fn same(one: &Path, other: &Path) -> bool {
    let digest = |path: &Path| super::members::measure(path).ok();
    digest(one).is_some() && digest(one) == digest(other)
}

/// Brings a file to its place below a folder; what was there is kept beside it. The bundle's own copy stays, as it may go to two
/// places.
fn put(from: &Path, to: &Path, root: &Path, replaced: &mut Replaced) -> std::io::Result<()> {
    beside::check(root, to)?;
    let mut kept = None;
    if to.symlink_metadata().is_ok() {
        if same(from, to) {
            return Ok(());
        }
        let name = base_of(to);
        let numbered = (0..).map(|number| match number {
            0 => to.with_file_name(format!("{name}.ORIG")),
            number => to.with_file_name(format!("{name}.ORIG.{number}")),
        });
        let free = numbered.take(10_000).find(|path| path.symlink_metadata().is_err());
        kept = Some(free.ok_or_else(|| std::io::Error::other("there are too many .ORIG files"))?);
    }
    let mut source = std::fs::File::open(from)?;
    let mut file = Aside::of(to, 0o600)?;
    // On one file system the blocks are shared where it can.
    if rustix::fs::ioctl_ficlone(file.as_file(), &source).is_err() {
        std::io::copy(&mut source, &mut file)?;
    }
    file.as_file().set_permissions(source.metadata()?.permissions())?;
    file.exchange(kept, replaced)
}

/// Whether the bundle has a recipe for the image that the manifest defines.
fn takes_own_recipe(folder: &Path, manifest: &Manifest) -> bool {
    let brought = folder.join(OWN).join("recipe");
    let is_renamed = folder.file_name().is_none_or(|name| *name != *manifest.definition.name);
    recipe::has_recipe(&brought) && !is_renamed && !reads_outside(&brought, &manifest.definition.name)
}

/// Puts the recipe that a bundle of imgbuild brought in the place of the one that was just made of the definition; what is to
/// be said, where it is not taken.
fn own_recipe(image: &Image, into: &Path, replaced: &mut Replaced) -> std::io::Result<Option<&'static str>> {
    let brought = image.folder.join(OWN).join("recipe");
    let directory = into.join("images").join(&image.manifest.definition.name);
    if !recipe::has_recipe(&brought) || !directory.is_dir() {
        return map_lists(image, into).map(|()| None);
    }
    if !takes_own_recipe(&image.folder, &image.manifest) {
        map_lists(image, into)?;
        return Ok(Some(
            "its own recipe has another name or profile, inherits, or would read files of this host ([workspace] allow, [xcat] path_map): a recipe made from the definition was written instead",
        ));
    }
    std::fs::remove_file(directory.join(RECIPE_FILE))?;
    fault::point("bundle.own");
    for entry in walkdir::WalkDir::new(&brought).sort_by_file_name().into_iter().flatten() {
        let below = entry.path().strip_prefix(&brought).unwrap_or(entry.path());
        // A workspace or a recipe below would say itself what it may read.
        let name = base_of(entry.path());
        let is_recipe = [RECIPE_FILE, KDL_RECIPE_FILE].contains(&name.as_str()) && entry.depth() > 1;
        if entry.file_type().is_file() && !is_recipe && name != WORKSPACE_FILE && !name.starts_with('.') {
            put(entry.path(), &directory.join(below), into, replaced)?;
        }
    }
    for path in &image.paths {
        // A folder in which nothing is yet is there too.
        beside::make_folders(into, &into.join("site").join(path.trim_start_matches('/')).join("any"))?;
    }
    map_paths(&directory, &image.paths)?;
    Ok(None)
}

/// The folders of an image's lists, and of the extra files that they may include and scripts may read.
fn list_folders(image: &Image) -> Vec<String> {
    let brought = image.lists.iter().filter(|list| image.folder.join(&list.name).is_file()).map(|list| &list.path);
    let (folders, files): (Vec<_>, Vec<_>) = image.extras.iter().partition(|(here, _)| here.is_dir());
    let brought = brought.chain(files.into_iter().map(|(_, path)| path));
    let above = brought.filter_map(|path| path.rsplit_once('/').map(|(folder, _)| folder.to_owned()));
    let all = above.chain(folders.into_iter().map(|(_, path)| path.clone()));
    let mut folders: Vec<String> = all.filter(|folder| !folder.is_empty()).collect();
    folders.sort();
    folders.dedup();
    folders
}

/// Tells the recipe that was made of the definition where its lists are.
fn map_lists(image: &Image, into: &Path) -> std::io::Result<()> {
    map_paths(&into.join("images").join(&image.manifest.definition.name), &list_folders(image))
}

/// Says in a recipe where paths of the management node are found below `site/`: in the recipe itself, so that no other image of
/// the workspace looks there.
fn map_paths(directory: &Path, paths: &[String]) -> std::io::Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let path = recipe_file(directory);
    let odd = |problem: String| std::io::Error::other(problem);
    let mut file = Editable::read(&base_of(&path), &std::fs::read_to_string(&path)?).map_err(odd)?;
    for there in paths {
        let steps = ["xcat", "path_map", there].map(|key| Step::Key(key.to_owned())).to_vec();
        let change = Change::Set(format!("{FROM_RECIPE}{there}"));
        file.apply(&[], &Edit { path: FieldPath { steps }, change }).map_err(odd)?;
    }
    write_whole(&path, file.text().as_bytes())
}

/// Whether a recipe that someone else wrote says itself what it may read; a workspace's owner says that.
fn reads_outside(directory: &Path, image: &str) -> bool {
    let path = recipe_file(directory);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Ok(document) = document_in(&path, &name, None) else { return true };
    let document = document.to_json();
    let says = |table: &str, key: &str| document.get(table).and_then(|table| table.get(key)).is_some();
    let map = document.get("xcat").and_then(|table| table.get("path_map")).and_then(|map| map.as_object());
    let is_own =
        |aim: &serde_json::Value| aim.as_str().and_then(|aim| aim.strip_prefix(FROM_RECIPE)).is_some_and(is_plain_path);
    let maps_outside = map.is_some_and(|map| !map.values().all(is_own));
    let name = document.get("image").and_then(|table| table.get("name")).and_then(|name| name.as_str());
    name != Some(image)
        || says("workspace", "allow")
        || maps_outside
        || document.get("extends").is_some()
        || document.get("variant").is_some()
}

//! A recipe of a node that runs, or of a tree of files: its packages by name, and an overlay of what they do not bring.

mod census;
mod classify;
mod facts;
mod left_out;
mod overlay;
mod packages;
mod report;
mod services;
mod source;
mod sources;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use classify::tree::OfRecipe;
pub use classify::{OverlayFile, Reason};
pub use left_out::{Rules, Why};
pub use report::CaptureReport;
pub use source::Source;

use crate::bundle::sha256_of;
use crate::workspace::{Wanted as WantedRules, with_wanted, write_whole};
use ::packages::installed;
use ::packages::rpm::Evr;
use files::beside;
use files::sweep::Swept;
use files::{Folders, Replaced};
use recipe::{RECIPE_FILE, is_image_name};

use census::Census;
use facts::Facts;
use text::Named;

#[derive(Debug, Clone)]
pub struct CaptureRequest {
    pub source: Source,
    pub shown: String,
    pub into: PathBuf,
    pub name: String,
    /// The command that reaches a node, in words; `ssh` where it is empty.
    pub ssh: Vec<String>,
    pub rules: Rules,
    /// Whether the list of packages has the node's versions.
    pub pinned: bool,
    /// Whether what is there is replaced; it stays as `FILE.ORIG`.
    pub force: bool,
    pub dry_run: bool,
    /// The directory of a recipe that gets an overlay of what the tree has otherwise than packages, and nothing else.
    pub overlay_for: Option<PathBuf>,
    /// What the recipe puts into images by itself: paths without a slash in front, and the files. They are no change where they are the
    /// same.
    pub synced: BTreeMap<String, PathBuf>,
    /// The same of the recipe's fields.
    pub of_recipe: OfRecipe,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum CaptureError {
    #[error("`{text}` cannot be captured: {problem}")]
    #[diagnostic(help("name a running node as ssh://NODE, a directory, or a tar or cpio archive"))]
    Source { text: String, problem: String },
    #[error("`{host}` cannot be captured: {problem}")]
    #[diagnostic(help(
        "try `ssh {host} true` first; set how a node is reached with --ssh, for instance --ssh \"ssh -i KEY\""
    ))]
    Node { host: String, problem: String },
    #[error("`{path}`: {error}")]
    Io { path: PathBuf, error: std::io::Error },
    #[error("cannot create a recipe from it: {problem}")]
    Unknown { problem: String },
    #[error("{problem}")]
    #[diagnostic(help("repair it on the node (`rpm --rebuilddb`, `dpkg --audit`), and capture again"))]
    Database { problem: String },
    #[error("/{path} changed while it was captured; nothing was written")]
    #[diagnostic(help("stop what writes it, or leave it out: --exclude-list FILE with the line `./{path}`"))]
    Moved { path: String },
    #[error("`{path}` already exists; nothing was written")]
    #[diagnostic(help("--name NAME for another image, or --force to replace its files; they are kept as FILE.ORIG"))]
    There { path: PathBuf },
    #[error("`{name}` is not a valid image name")]
    #[diagnostic(help("--name NAME with letters, digits and `._-`, a letter or digit first"))]
    Name { name: String },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CaptureError + use<> {
    let path = path.to_owned();
    move |error| CaptureError::Io { path, error }
}

/// Captures a source; `progress` hears how many bytes were read.
/// Errors: [`CaptureError`]; nothing was written then but on a full disk.
pub fn capture(request: &CaptureRequest, progress: &mut dyn FnMut(u64)) -> Result<CaptureReport, CaptureError> {
    if !is_image_name(&request.name) {
        return Err(CaptureError::Name { name: request.name.clone() });
    }
    let into = std::path::absolute(&request.into).unwrap_or_else(|_| request.into.clone());
    let into = recipe::plain(&into);
    let directory = request.overlay_for.clone().unwrap_or_else(|| into.join("images").join(&request.name));
    // The recipe of a mere overlay exists already and is kept.
    let taken = if request.overlay_for.is_some() { directory.join(text::LIST) } else { directory.clone() };
    if request.overlay_for.is_none() {
        files::beside::check(&into, &directory.join("any")).map_err(io(&directory))?;
    }
    if taken.symlink_metadata().is_ok() && !request.force && !request.dry_run {
        return Err(CaptureError::There { path: taken });
    }
    // A node's stream has no name there.
    let aside = std::env::temp_dir();
    let beside = if request.dry_run { aside.as_path() } else { into.as_path() };
    // Where nothing comes into it, it goes.
    let _made = (!request.dry_run).then(|| Folders::make(&into)).transpose().map_err(io(&into))?;
    let opened = source::open(&request.source, &request.ssh, beside, progress)?;
    let mut census = Census::default();
    census.most_kept = opened.most_kept();
    opened.list(&mut |listed, content| {
        let done = census.take(listed, content, &request.rules);
        progress(census.bytes);
        done
    })?;
    census.finish();
    let installed = installed::read(&census.databases).map_err(|problem| CaptureError::Database { problem })?;
    let installed = installed.filter(|found| !found.packages.is_empty()).ok_or_else(|| CaptureError::Unknown {
        problem: "it has no dpkg or rpm database with packages in it".to_owned(),
    })?;
    let mut facts = facts::begin(&census, &installed)?;
    let arch = facts.arch;
    packages::find(&mut facts, &census, &installed);
    facts::complete(&mut facts, &census, &installed);
    let is_foreign = |package: &installed::InstalledPackage| packages::is_foreign(arch, package);
    let is_wanted = |name: &str| !facts.without.contains(name);
    let mut found = classify::classify(&census, &installed, &request.rules, &is_foreign, &is_wanted);
    let is_synced = |file: &OverlayFile| {
        let same = request.synced.get(&file.path).zip(census.seen.get(&file.path));
        same.is_some_and(|(here, seen)| sha256_of(here).is_some_and(|digest| digest == seen.sha256))
    };
    found.overlay.retain(|file| file.reason == Reason::Removed || !is_synced(file));
    let is_overlay = request.overlay_for.is_some();
    if is_overlay {
        facts.only_of_tree(&mut found);
        classify::tree::only_of_people(&mut found, &census, &installed, &request.of_recipe);
        without_frames(&mut found, &census);
    }
    let (modules, updates) = modules(&found.modules, &mut facts);
    let sources::Sources { names: sources, mut files, variables, notes } = match is_overlay {
        true => sources::Sources::default(),
        false => sources::sources(&census, facts.release.distro.family()),
    };
    facts.notes.extend(notes);
    let (removed, modes) = (text::removed(&found), text::modes(&found));
    let named = Named {
        sources,
        variables,
        overlay: found.overlay.iter().any(OverlayFile::is_in_archive),
        modes: !modes.is_empty(),
        accounts: !facts.members.is_empty() || !facts.gecos.is_empty(),
        removed: !removed.is_empty(),
        emptied: !found.emptied.is_empty(),
        updates,
        hash: request.rules.keep_secrets && facts.root_hash.is_some(),
    };
    if !is_overlay {
        files.insert(text::PKGLIST.to_owned(), text::pkglist(&facts, request.pinned).into_bytes());
        files.insert(text::PACKAGES.to_owned(), text::packages(&installed).into_bytes());
    }
    files.insert(text::LIST.to_owned(), text::overlay_list(&found).into_bytes());
    if !facts.keys.is_empty() {
        files.insert(text::KEYS.to_owned(), (facts.keys.join("\n") + "\n").into_bytes());
    }
    if let Some(hash) = facts.root_hash.as_ref().filter(|_| named.hash) {
        files.insert(text::HASH.to_owned(), format!("{hash}\n").into_bytes());
    }
    if named.emptied {
        files.insert(text::EXLIST.to_owned(), text::exlist(&found).into_bytes());
    }
    if named.removed {
        files.insert(text::REMOVED.to_owned(), removed.into_bytes());
    }
    if named.modes {
        files.insert(text::MODES.to_owned(), modes.into_bytes());
    }
    if named.has_script() {
        files.insert(text::SCRIPT.to_owned(), text::script(&facts, &found, &named).into_bytes());
    }
    let is_large = |seen: &census::Seen| seen.listed.uid.max(seen.listed.gid) > u32::from(u16::MAX);
    let large: BTreeSet<String> =
        census.seen.iter().filter(|(_, seen)| is_large(seen)).map(|(path, _)| path.clone()).collect();
    let mut report = report::report(request, &facts, &found, &large, installed.packages.len());
    report.files = files.keys().cloned().collect();
    report.files.extend(modules.values().cloned());
    if named.overlay {
        report.files.push(text::ARCHIVE.to_owned());
    }
    if !is_overlay {
        report.files.push(RECIPE_FILE.to_owned());
    }
    report.files.sort();
    let paths: BTreeSet<String> = found.overlay.iter().map(|file| file.path.clone()).collect();
    let has_below = |file: &OverlayFile| {
        let below = format!("{}/", file.path);
        paths.range(below.clone()..).next().is_some_and(|path| path.starts_with(&below))
    };
    report.overlay_files = found.overlay.iter().filter(|file| !has_below(file)).cloned().collect();
    if is_overlay {
        report.overlay_files = classify::tree::ranked(report.overlay_files, &census);
    }
    if request.dry_run {
        return Ok(report);
    }
    // All of it beside its place, and then there: a capture that breaks off leaves no half image.
    let made = Swept::below(&into, ".capture-").map_err(io(&into))?;
    let wanted = overlay::Wanted::of(&found, &census, modules);
    if !wanted.is_empty() {
        let path = made.path().join(text::ARCHIVE);
        let file = std::fs::File::create(&path).map_err(io(&path))?;
        let mut archive = std::io::BufWriter::with_capacity(1 << 18, file);
        overlay::write(&opened, &census, &wanted, &mut archive, made.path())?;
        std::io::Write::flush(&mut archive).map_err(io(&path))?;
        if !named.overlay {
            std::fs::remove_file(&path).map_err(io(&path))?;
        }
    }
    if !is_overlay {
        files.insert(RECIPE_FILE.to_owned(), text::recipe(&request.name, &request.shown, &facts, &named).into_bytes());
    }
    for (name, bytes) in &files {
        let path = made.path().join(name);
        beside::make_folders(made.path(), &path).map_err(io(&path))?;
        write_whole(&path, bytes).map_err(io(&path))?;
        if name == text::SCRIPT || name == text::HASH {
            let mode = if name == text::SCRIPT { 0o755 } else { 0o600 };
            let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
            std::fs::set_permissions(&path, mode).map_err(io(&path))?;
        }
    }
    fault::point("capture.written");
    // First: where this is killed, the next capture makes the image.
    if !is_overlay {
        with_wanted(&into, &WantedRules::default()).map_err(|error| CaptureError::Io {
            path: into.clone(),
            error: std::io::Error::other(error.to_string()),
        })?;
    }
    place(made.path(), &directory, &report.files)?;
    fault::point("capture.placed");
    Ok(report)
}

/// Takes folders out that no package brings and that hold nothing of the overlay: what is in them is there without it.
fn without_frames(found: &mut classify::Classified, census: &Census) {
    let is_folder = |path: &str| census.seen.get(path).is_some_and(census::Seen::is_directory);
    let files: BTreeSet<String> =
        found.overlay.iter().map(|file| file.path.clone()).filter(|path| !is_folder(path)).collect();
    let next = |paths: &mut dyn Iterator<Item = &String>, below: &str| {
        paths.next().is_some_and(|path| path.starts_with(below))
    };
    found.overlay.retain(|file| {
        let below = format!("{}/", file.path);
        let is_full = next(&mut census.seen.range(below.clone()..).map(|(path, _)| path), &below)
            || next(&mut census.left_out.range(below.clone()..).map(|(path, _)| path), &below);
        file.reason != Reason::Unpackaged
            || !is_folder(&file.path)
            || !is_full
            || next(&mut files.range(below.clone()..), &below)
    });
}

/// Puts what was made into its place; what already exists stays as `FILE.ORIG`.
fn place(made: &Path, directory: &Path, files: &[String]) -> Result<(), CaptureError> {
    let parent = directory.parent().unwrap_or(directory);
    std::fs::create_dir_all(parent).map_err(io(parent))?;
    if directory.symlink_metadata().is_err() {
        std::fs::rename(made, directory).map_err(io(directory))?;
        let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        return std::fs::set_permissions(directory, mode).map_err(io(directory));
    }
    // The recipe names the directory, so modules of another capture would be built in.
    let drivers = directory.join("drivers");
    let mut replaced = Replaced::default();
    if drivers.symlink_metadata().is_ok() {
        replaced.move_away(&drivers, original(&drivers)).map_err(io(&drivers))?;
    }
    for name in files {
        let to = directory.join(name);
        beside::make_folders(directory, &to).map_err(io(&to))?;
        let kept = to.symlink_metadata().is_ok().then(|| original(&to));
        replaced.put(&made.join(name), &to, kept).map_err(io(&to))?;
    }
    replaced.keep();
    Ok(())
}

/// A name for what is replaced: `FILE.ORIG`, `FILE.ORIG.1` where that is taken, and so on.
fn original(path: &Path) -> PathBuf {
    let with = |ending: String| {
        let mut name = path.to_owned().into_os_string();
        name.push(ending);
        PathBuf::from(name)
    };
    let mut names =
        std::iter::once(with(".ORIG".to_owned())).chain((1..).map(|number| with(format!(".ORIG.{number}"))));
    names.find(|name| name.symlink_metadata().is_err()).unwrap_or_else(|| with(".ORIG".to_owned()))
}

/// Modules that no package brought, as files of the newest kernel's own directory.
fn modules(found: &[String], facts: &mut Facts) -> (BTreeMap<String, String>, Vec<String>) {
    let mut by_release: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for path in found {
        let below = path.trim_start_matches("usr/").trim_start_matches("lib/modules/");
        let release = below.split('/').next().unwrap_or_default();
        by_release.entry(release.to_owned()).or_default().push(path);
    }
    let newest = by_release.keys().max_by_key(|release| Evr::parse(release)).cloned();
    let Some((newest, paths)) = newest.and_then(|newest| by_release.remove_entry(&newest)) else {
        return (BTreeMap::new(), Vec::new());
    };
    for release in by_release.keys() {
        facts.notes.push(format!("unpackaged modules for {release} are left out: {newest} has its own"));
    }
    facts.notes.push(format!(
        "{} modules that no package owns are for {newest}: the build uses them if the image has that kernel, and warns otherwise",
        paths.len()
    ));
    let folder = format!("drivers/{newest}");
    let mut names = BTreeSet::new();
    let mut files = BTreeMap::new();
    for path in paths {
        let name = path.rsplit('/').next().unwrap_or(path);
        if names.insert(name) {
            files.insert(path.clone(), format!("{folder}/{name}"));
        }
    }
    (files, vec![folder])
}

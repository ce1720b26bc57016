//! Writing a workspace: what is new whole, what is there by what changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::definitions::Site;
use crate::osimage::{Mapped, Mapping, Record, STANZA_FILE, Verdict, map, recipe_text};
use base::source::SourceFile;
use files::beside;
use files::{self, Durability, Folders};
use recipe::{RECIPE_FILE, WORKSPACE_FILE, has_recipe, plain, recipe_file};
use xcat::definitions::{Definition, parse_stanzas, write_rows, write_stanza};

use super::again::changed;
use super::copies::{self, write_whole};
use super::file::{self, Wanted};
use super::reads::{Reads, reads};
use super::{ImportError, ImportReport, ImportRequest, ImportState, ImportedImage};

/// Version of what `import xcat --json` prints.
pub(super) const IMPORT_FORMAT: &str = "1.0";

const IMAGES: &str = "images";

/// Root's hash, below a workspace.
const ROOT_HASH: &str = "keys/root.hash";

struct Planned<'a> {
    image: ImportedImage,
    directory: PathBuf,
    definition: &'a Definition,
    mapping: Option<Mapping>,
    text: Option<String>,
}

/// Makes a workspace of a site's osimages, or brings one up to date.
/// Errors: [`ImportError`]; but for a full disk and the like nothing was written then.
pub fn import(site: &Site, request: &ImportRequest) -> Result<ImportReport, ImportError> {
    if site.osimages.is_empty() {
        return Err(ImportError::Nothing);
    }
    let into = std::path::absolute(&request.into).unwrap_or_else(|_| request.into.clone());
    let into = plain(&into);
    // Folders that lead out of the workspace are refused before anything is written.
    for folder in [IMAGES, copies::FOLDER].map(|name| into.join(name).join("any")) {
        beside::check(&into, &folder)
            .map_err(|error| ImportError::Linked { path: folder.clone(), problem: error.to_string() })?;
    }
    let mut planned = Vec::new();
    for definition in site.osimages.values() {
        let path = into.join(IMAGES).join(&definition.name).join(RECIPE_FILE);
        beside::check(&into, &path)
            .map_err(|error| ImportError::Linked { path: path.clone(), problem: error.to_string() })?;
        planned.push(plan_one(definition, site, &into)?);
    }
    let mut all = Reads::default();
    for mapping in planned.iter().filter_map(|one| one.mapping.as_ref()) {
        let of_one = reads(mapping, &site.places);
        all.lists.extend(of_one.lists);
        all.synced.extend(of_one.synced);
        all.named.extend(of_one.named);
    }
    if request.sealed {
        let is_brought = |path: &String| site.places.moved.iter().any(|(there, _)| there == path);
        all.lists.retain(is_brought);
        all.synced.retain(is_brought);
        all.named.clear();
    }
    let (mut wanted, copies) = readable(&all, site, request, &into);
    if request.sealed {
        // Definitions of someone else: no other image of the workspace must look there.
        wanted.path_map.clear();
    }
    let workspace = file::with(&into, &wanted)?;
    let mut report = ImportReport {
        format_version: IMPORT_FORMAT.to_owned(),
        dry_run: request.dry_run,
        passed_over: site.passed_over.clone(),
        ..ImportReport::default()
    };
    if planned.iter().any(|one| one.mapping.is_some()) {
        // Those who sealed it bring the files themselves.
        if !request.sealed {
            let copied = copies::copy(&copies, &into, request.dry_run)?;
            report.copied = copied.written;
            report.notes = copied.notes;
            let is_brought = |path: &String| into.join(copies::FOLDER).join(path.trim_start_matches('/')).exists();
            let lacking = all.synced.iter().filter(|path| site.places.lacks(path) && !is_brought(path));
            report.notes.extend(lacking.map(|path| {
                format!(
                    "{path} is in a synclist but not in the given tree, and this machine's own file was not used: copy the management node's there, or to {}{path} with --copy",
                    copies::FOLDER
                )
            }));
        }
        if !request.dry_run {
            write_workspace(&into, workspace)?;
            if let (Some(hash), false) = (&site.places.root_hash, request.sealed) {
                write_hash(&into, hash)?;
            }
            fault::point("import.workspace");
        }
    }
    for one in &planned {
        if !request.dry_run {
            write_one(one, site)?;
        }
    }
    report.osimages = planned.into_iter().map(|one| one.image).collect();
    if !request.sealed && site.is_whole {
        report.osimages.extend(gone(site, &into));
    }
    report.osimages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(report)
}

/// What recipes may read outside the workspace, and where paths of the management node are found; or what is copied.
fn readable(all: &Reads, site: &Site, request: &ImportRequest, into: &Path) -> (Wanted, copies::Copies) {
    let mut wanted = Wanted::default();
    let places = &site.places;
    let mut allow = |here: &Path| {
        if here.starts_with(into) {
            return;
        }
        let rule = if here.is_dir() { format!("{}/**", here.display()) } else { here.display().to_string() };
        wanted.allow.insert(rule);
    };
    for path in &all.named {
        allow(&places.here(path));
    }
    let copies = match request.copy {
        true => copies::plan(all, &all.named, places),
        false => copies::Copies::default(),
    };
    if !request.copy {
        // People add lists beside the ones that are there.
        for path in &all.lists {
            let here = places.here(path);
            allow(here.parent().filter(|folder| *folder != Path::new("/")).unwrap_or(&here));
        }
        all.synced.iter().map(|path| places.here(path)).filter(|here| here.exists()).for_each(|here| allow(&here));
    }
    let read: Vec<&String> = match request.copy {
        true => all.named.iter().collect(),
        false => all.lists.iter().chain(&all.synced).chain(&all.named).collect(),
    };
    let moved: BTreeSet<(String, PathBuf)> =
        read.into_iter().filter_map(|path| places.moved_of(path).cloned()).collect();
    wanted.path_map = copies.path_map.clone();
    wanted.path_map.extend(moved.into_iter().map(|(there, here)| {
        let shown = here.strip_prefix(into).unwrap_or(&here).display().to_string();
        (there, shown)
    }));
    (wanted, copies)
}

fn plan_one<'a>(definition: &'a Definition, site: &Site, into: &Path) -> Result<Planned<'a>, ImportError> {
    let directory = into.join(IMAGES).join(&definition.name);
    let mut image = ImportedImage {
        name: definition.name.clone(),
        state: ImportState::New,
        recipe: None,
        reason: None,
        attributes: Vec::new(),
        changes: Vec::new(),
    };
    let mapping = match map(definition, &site.places) {
        Mapped::Recipe(mapping) => *mapping,
        Mapped::Nothing(reason) => {
            image.state = ImportState::Skipped;
            image.reason = Some(reason);
            return Ok(Planned { image, directory, definition, mapping: None, text: None });
        }
    };
    image.attributes = mapping.remarks.clone();
    image.recipe = Some(format!("{IMAGES}/{}/{RECIPE_FILE}", definition.name));
    let last = directory.join(STANZA_FILE);
    let text = match (has_recipe(&directory), last.is_file()) {
        (false, _) if directory.symlink_metadata().is_ok() && !last.is_file() && !is_empty(&directory) => {
            return Ok(foreign(image, directory, definition));
        }
        (false, _) => Some(recipe_text(&mapping)),
        (true, false) => return Ok(foreign(image, directory, definition)),
        // Half of it would take away what the other half said.
        (true, true) if site.lacks_linuximage => {
            image.attributes.clear();
            image.recipe = None;
            image.state = ImportState::Skipped;
            let reason = "was imported with the table linuximage, which is missing here: it is kept";
            image.reason = Some(format!("{IMAGES}/{} {reason}", image.name));
            return Ok(Planned { image, directory, definition, mapping: None, text: None });
        }
        (true, true) => {
            let file = recipe_file(&directory).file_name().unwrap_or_default().to_string_lossy().into_owned();
            image.recipe = Some(format!("{IMAGES}/{}/{file}", definition.name));
            let (old, record) = imported(&last, &definition.name)?;
            let mut before = match map(&old, &site.places) {
                Mapped::Recipe(before) => *before,
                // It was another one when it was imported.
                Mapped::Nothing(_) => Mapping { remarks: Vec::new(), ..mapping.clone() },
            };
            if let Some(record) = record {
                (before.fields, before.repositories) = (record.fields, record.repositories);
                if !record.remarks.is_empty() {
                    before.remarks = record.remarks;
                }
            }
            image.state = ImportState::Same;
            if plain_attributes(&old) == plain_attributes(definition) && is_same(&before, &mapping) {
                None
            } else {
                image.state = ImportState::Changed;
                let changed = changed(&directory, &before, &mapping)?;
                image.changes = changed.said;
                for one in image.attributes.iter_mut().filter(|one| changed.left.contains(&one.attribute)) {
                    one.verdict = Verdict::Decide;
                    one.reason = "the recipe differs".to_owned();
                }
                changed.text
            }
        }
    };
    Ok(Planned { image, directory, definition, mapping: Some(mapping), text })
}

/// Whether two mappings give the same recipe, but for its comments.
fn is_same(one: &Mapping, other: &Mapping) -> bool {
    one.fields == other.fields && one.repositories == other.repositories
}

/// An image of the site's own stands where a definition's would: it stays, and the others go on.
fn foreign(mut image: ImportedImage, directory: PathBuf, definition: &Definition) -> Planned<'_> {
    image.state = ImportState::Skipped;
    image.recipe = None;
    image.attributes.clear();
    let reason =
        "already exists and was not imported from xCAT, so it is kept; move it away, or import into another directory";
    image.reason = Some(format!("{IMAGES}/{} {reason}", image.name));
    Planned { image, directory, definition, mapping: None, text: None }
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

fn plain_attributes(definition: &Definition) -> Vec<(&String, &String)> {
    definition
        .attributes
        .iter()
        .filter(|(name, _)| *name != "imagename")
        .map(|(name, one)| (name, &one.value))
        .collect()
}

/// How the line of xcat.stanza begins that has what the recipe got; for xCAT it is a comment.
const RECORD: &str = "#imgbuild ";

/// The text of xcat.stanza: the definition, and what the recipe got of it.
pub fn stanza_text(definition: &Definition, record: &Record) -> String {
    format!("{}\n{RECORD}{}\n", write_stanza(definition, true), serde_json::json!(record))
}

/// The definition of the last import, and what the recipe got of it then, where that is known.
/// Errors: [`ImportError::Unreadable`].
pub fn imported(path: &Path, name: &str) -> Result<(Definition, Option<Record>), ImportError> {
    let unreadable = |problem: String| ImportError::Unreadable { path: path.to_owned(), problem };
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let record = text.lines().find_map(|line| serde_json::from_str(line.strip_prefix(RECORD)?).ok());
    let file: Arc<SourceFile> = SourceFile::new(STANZA_FILE, path, text);
    let (definitions, findings) = parse_stanzas(&file);
    if let Some(finding) = findings.first() {
        return Err(unreadable(finding.message.clone()));
    }
    let found = definitions.into_iter().find(|one| one.name == name);
    let found = found.ok_or_else(|| unreadable(format!("it does not define `{name}`")))?;
    Ok((found, record))
}

/// Images of earlier imports that xCAT has no more.
fn gone(site: &Site, into: &Path) -> Vec<ImportedImage> {
    let entries = std::fs::read_dir(into.join(IMAGES)).into_iter().flatten().flatten();
    let names = entries.filter(|entry| entry.path().join(STANZA_FILE).is_file());
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| !site.osimages.contains_key(name))
        .map(|name| ImportedImage {
            name,
            state: ImportState::Gone,
            recipe: None,
            reason: Some("it is no longer among the definitions: its recipe is kept".to_owned()),
            attributes: Vec::new(),
            changes: Vec::new(),
        })
        .collect()
}

/// Makes a directory a workspace that allows what is wanted, or adds that to the one that it is.
pub fn with_wanted(into: &Path, wanted: &Wanted) -> Result<(), ImportError> {
    let text = file::with(into, wanted)?;
    write_workspace(into, text)
}

fn write_workspace(into: &Path, text: Option<String>) -> Result<(), ImportError> {
    let unwritable = |path: PathBuf| move |error: std::io::Error| ImportError::Unwritable { path, error };
    // Where nothing can be written into it, it goes.
    let _made = Folders::make(into).map_err(unwritable(into.to_owned()))?;
    if let Some(text) = text {
        let path = into.join(WORKSPACE_FILE);
        write_whole(&path, text.as_bytes()).map_err(unwritable(path.clone()))?;
    }
    let ignored = into.join(".gitignore");
    if ignored.symlink_metadata().is_err() {
        write_whole(&ignored, b"/out\n").map_err(unwritable(ignored.clone()))?;
    }
    Ok(())
}

/// Root's hash, for its owner alone and not in git: recipes may name it. One that is there is the site's.
fn write_hash(into: &Path, hash: &str) -> Result<(), ImportError> {
    let unwritable = |path: PathBuf| move |error: std::io::Error| ImportError::Unwritable { path, error };
    let path = into.join(ROOT_HASH);
    beside::check(into, &path)
        .map_err(|error| ImportError::Linked { path: path.clone(), problem: error.to_string() })?;
    let ignored = into.join(".gitignore");
    let text = std::fs::read_to_string(&ignored).map_err(unwritable(ignored.clone()))?;
    if !text.lines().any(|line| line.trim_start_matches('/') == ROOT_HASH) {
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        write_whole(&ignored, format!("{text}{end}/{ROOT_HASH}\n").as_bytes()).map_err(unwritable(ignored))?;
    }
    match files::create(&path, format!("{hash}\n").as_bytes(), 0o600, Durability::PowerCut) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(unwritable(path)(error)),
        _ => Ok(()),
    }
}

fn write_one(one: &Planned<'_>, site: &Site) -> Result<(), ImportError> {
    let Some(mapping) = &one.mapping else { return Ok(()) };
    if one.image.state == ImportState::Same {
        return Ok(());
    }
    let unwritable = |path: PathBuf| move |error: std::io::Error| ImportError::Unwritable { path, error };
    let stanza = || -> Result<(), ImportError> {
        let path = one.directory.join(STANZA_FILE);
        write_whole(&path, stanza_text(one.definition, &mapping.record()).as_bytes()).map_err(unwritable(path.clone()))
    };
    // A recipe without it would be someone else's; one of an older definition is brought up to date the next time.
    if one.image.state == ImportState::New {
        stanza()?;
        fault::point("import.stanza");
    }
    if let Some(text) = &one.text {
        let path = match has_recipe(&one.directory) {
            true => recipe_file(&one.directory),
            false => one.directory.join(RECIPE_FILE),
        };
        write_whole(&path, text.as_bytes()).map_err(unwritable(path.clone()))?;
        fault::point("import.recipe");
    }
    for (table, columns) in [
        ("litefile", &["image", "file", "options", "comments", "disable"][..]),
        ("litetree", &["priority", "image", "directory", "mntopts", "comments", "disable"][..]),
        ("statelite", &["node", "image", "statemnt", "mntopts", "comments", "disable"][..]),
    ] {
        let rows = site.statelite.get(table).into_iter().flatten();
        let groups = one.definition.get("groups").unwrap_or_default();
        let of_image = |name: &str| name == mapping.name || name == groups || name.eq_ignore_ascii_case("all");
        let rows: Vec<_> = rows.filter(|row| row.get("image").is_none_or(of_image)).map(|row| &row.values).collect();
        if !rows.is_empty() && one.definition.get("provmethod") == Some("statelite") {
            let path = one.directory.join(format!("{table}.csv"));
            let text = write_rows(columns, rows.into_iter());
            write_whole(&path, text.as_bytes()).map_err(unwritable(path.clone()))?;
        }
    }
    match one.image.state {
        ImportState::New => Ok(()),
        _ => stanza(),
    }
}

//! `imgbuild copy`: creates an image as a copy of another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::Exit;
use crate::output::render;
use crate::recipe_lock::RecipeLock;
use crate::setup::{named_draft, print_findings};
use base::source::Severity;
use recipe::{Change, Draft, Edit, Editable, FieldPath, Known, Overlay, Recipe, Workspace, load_draft, relatives};
use site::osimage::{STANZA_FILE, Value};
use site::workspace::{imported, stanza_text};

/// Arguments of `copy`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The image to copy; `.` for the recipe in the current directory
    #[arg(value_name = "FROM")]
    pub from: String,
    /// Name of the new image, and of its directory next to the other's; or a path
    #[arg(value_name = "TO")]
    pub to: String,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Exit {
    match copy(arguments, own) {
        Ok(()) => Exit::Done,
        Err((problem, exit)) => {
            if !problem.is_empty() {
                render::say(&format!("error: {problem}"));
            }
            exit
        }
    }
}

/// How directories begin that are being written.
const ASIDE: &str = ".imgbuild-copy.";

fn copy(arguments: &crate::Arguments, own: &Arguments) -> Result<(), (String, Exit)> {
    let input = |problem: String| (problem, Exit::Input);
    let path = own.to.trim_end_matches('/');
    let to = path.rsplit('/').next().unwrap_or(path);
    if !recipe::is_image_name(to) {
        return Err((format!("`{to}` is not a valid image name: use letters, digits, `.`, `_` and `-`"), Exit::Usage));
    }
    let _turn = RecipeLock::take(&arguments.directory);
    let (known, draft) = named_draft(arguments, &own.from).map_err(|exit| (String::new(), exit))?;
    if let Some(variant) = &draft.variant {
        return Err(input(format!(
            "`{}` is the variant `{variant}` of a recipe: copy that (`imgbuild copy . {}` in its directory)",
            own.from, own.to
        )));
    }
    if let Some(taken) = known.images().find(|one| one.name().is_some_and(|(name, _)| name == to)) {
        return Err(input(format!(
            "the image `{}` already exists, in {}; nothing was written",
            to,
            taken.directory.display()
        )));
    }
    // A path says where.
    let target = match path.contains('/') {
        true => arguments.directory.join(path),
        false => draft.directory.with_file_name(to),
    };
    if target.symlink_metadata().is_ok() {
        return Err(input(format!("`{}` already exists; nothing was written", target.display())));
    }
    let files = files_of(&known, &draft, arguments)?;
    let machine = |error: std::io::Error| (format!("cannot write `{}`: {error}", target.display()), Exit::Machine);
    let parent = target.parent().unwrap_or(Path::new("/"));
    if !parent.is_dir() {
        return Err(input(format!("the directory `{0}` does not exist: run mkdir -p {0}", parent.display())));
    }
    // Beside the target, as deep as it: paths that lead out of it stay right, and it appears whole or not at all.
    let aside = files::sweep::Held::below(parent, ASIDE).map_err(machine)?;
    for below in &files {
        copy_one(&draft.directory.join(below), &aside.path().join(below)).map_err(machine)?;
    }
    rename_image(&recipe::recipe_file(aside.path()), to).map_err(input)?;
    let rootimgdir = rename_definition(aside.path(), to).map_err(input)?;
    if path.contains('/') {
        refuse_lost_paths(&draft.directory, aside.path(), &target).map_err(input)?;
    }
    refuse_taken_names(&known, aside.path(), &own.from, &target).map_err(input)?;
    let mode = std::fs::metadata(&draft.directory).map_err(machine)?.permissions();
    std::fs::set_permissions(aside.path(), mode).map_err(machine)?;
    let (aside, _lock) = aside.keep();
    if let Err(error) =
        rustix::fs::renameat_with(rustix::fs::CWD, &aside, rustix::fs::CWD, &target, rustix::fs::RenameFlags::NOREPLACE)
    {
        let _ = std::fs::remove_dir_all(&aside);
        return Err(machine(error.into()));
    }
    let shown = |path: &Path| {
        let root = known.workspace.as_deref().map(|workspace| workspace.root.clone());
        root.and_then(|root| path.strip_prefix(root).ok().map(Path::to_owned)).unwrap_or_else(|| path.to_owned())
    };
    render::say(&format!("wrote {} ({} files)", shown(&target).display(), files.len()));
    tell_of_workspace(&target);
    if let Some(rootimgdir) = rootimgdir {
        render::say(&format!(
            "for xCAT its rootimgdir is {rootimgdir} (xcat.stanza); `imgbuild export xcat {}` prints its definition",
            to
        ));
    }
    Ok(())
}

/// Refuses a copy in a place from which its paths lead elsewhere, where the recipe itself has no error.
fn refuse_lost_paths(from: &Path, aside: &Path, target: &Path) -> Result<(), String> {
    if recipe::load(from).recipe.is_none() {
        return Ok(());
    }
    let loaded = recipe::load(aside);
    let lost = loaded.findings.iter().find(|finding| finding.severity == Severity::Error);
    let Some(lost) = lost.filter(|_| loaded.recipe.is_none()) else { return Ok(()) };
    Err(format!(
        "the recipe would be invalid in {}: {}; nothing was written. Copy it next to the original, where its paths are valid, or \
         correct them first",
        target.display(),
        lost.message
    ))
}

/// Refuses a copy that would make images whose names others have: a variant may have one of its own.
fn refuse_taken_names(known: &Known, aside: &Path, from: &str, target: &Path) -> Result<(), String> {
    let Ok(relatives) = relatives(aside, known.workspace.as_deref(), &Overlay::new()) else { return Ok(()) };
    let mut names: BTreeMap<String, PathBuf> = BTreeMap::new();
    for draft in known.images() {
        names.extend(draft.name().map(|(name, _)| (name.to_owned(), draft.directory.clone())));
    }
    for draft in relatives.images() {
        let Some((name, _)) = draft.name() else { continue };
        if let Some(taken) = names.insert(name.to_owned(), target.to_owned()) {
            let what = match &draft.variant {
                Some(variant) => format!("the variant `{variant}` of the copy would be called `{name}`"),
                None => format!("the copy would be called `{name}`"),
            };
            return Err(format!(
                "{what}, but {} already has an image of that name; nothing was written: remove `name` from that variant of \
                 `{from}` ([variant.NAME.image]), so that it is called after its recipe",
                taken.display()
            ));
        }
    }
    Ok(())
}

/// Says whether the workspace's globs name the new directory.
fn tell_of_workspace(target: &Path) {
    let Ok(Some(workspace)) = Workspace::above(target) else { return };
    let below = target.strip_prefix(&workspace.root).unwrap_or(target).display().to_string();
    if !workspace.images.iter().any(|image| image == target) {
        render::say(&format!("imgbuild.toml does not name it: add \"{below}\" to its `images`"));
    }
}

/// The files of a recipe's directory that its images name, and locks, relative to it.
fn files_of(
    known: &recipe::Known,
    draft: &Draft,
    arguments: &crate::Arguments,
) -> Result<BTreeSet<PathBuf>, (String, Exit)> {
    let relatives = known
        .recipes
        .iter()
        .find(|(directory, _)| *directory == draft.directory)
        .map(|(_, relatives)| relatives.clone());
    let drafts = relatives.map(|relatives| relatives.images()).unwrap_or_default();
    let mut named: BTreeSet<PathBuf> = BTreeSet::new();
    for one in &drafts {
        let loaded = load_draft(one, known.workspace.as_deref());
        let Some(recipe) = loaded.recipe else {
            let errors: Vec<_> = loaded.findings.into_iter().filter(|one| one.severity == Severity::Error).collect();
            print_findings(&errors, arguments.verbose);
            return Err(("the recipe has errors; nothing was written".to_owned(), Exit::Input));
        };
        named.extend(of_recipe(&recipe));
    }
    named.insert(draft.directory.join(".gitignore"));
    named.insert(draft.directory.join(STANZA_FILE));
    let mut files = BTreeSet::new();
    for path in named.iter().filter(|path| path.starts_with(&draft.directory) && path.symlink_metadata().is_ok()) {
        for entry in walkdir::WalkDir::new(path).into_iter().flatten().filter(|entry| !entry.file_type().is_dir()) {
            files.extend(entry.path().strip_prefix(&draft.directory).map(Path::to_owned));
        }
    }
    Ok(files)
}

/// What one image names; not all of it lies in its directory.
fn of_recipe(recipe: &Recipe) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = recipe.files.iter().map(|file| file.path.clone()).collect();
    paths.extend(recipe.named.iter().filter(|path| **path != recipe.directory).cloned());
    paths.extend(recipe.postinstall.iter().flat_map(|scripts| scripts.files()));
    paths.extend(recipe.roles.iter().flat_map(|role| role.paths()));
    paths.push(recipe.lock_path.clone());
    paths
}

fn copy_one(from: &Path, to: &Path) -> std::io::Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if from.symlink_metadata()?.is_symlink() {
        return std::os::unix::fs::symlink(std::fs::read_link(from)?, to);
    }
    std::fs::copy(from, to).map(drop)
}

/// Gives the recipe in a file another name.
fn rename_image(path: &Path, name: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let name_of_file = path.file_name().unwrap_or_default().to_string_lossy();
    let mut document = Editable::read(&name_of_file, &text).map_err(|error| format!("{}: {error}", path.display()))?;
    let change = Edit { path: FieldPath::parse("image.name")?, change: Change::Set(name.to_owned()) };
    document.apply(&[], &change)?;
    // Through a link another recipe would get the name.
    if path.is_symlink() {
        std::fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    std::fs::write(path, document.text()).map_err(|error| format!("{}: {error}", path.display()))
}

/// Gives the definition of xCAT beside a copied recipe the new name, and a rootimgdir of its own; which that is.
fn rename_definition(directory: &Path, name: &str) -> Result<Option<String>, String> {
    let stanza = directory.join(STANZA_FILE);
    let Ok(text) = std::fs::read_to_string(&stanza) else { return Ok(None) };
    let shown = |error: &dyn std::fmt::Display| format!("{}: {error}", stanza.display());
    let old =
        text.lines().find_map(|line| line.strip_suffix(':').filter(|line| !line.contains('#'))).unwrap_or_default();
    let (mut definition, record) = imported(&stanza, old).map_err(|error| shown(&error))?;
    let before = definition.get("rootimgdir").map(str::to_owned);
    let part = |attribute: &str| definition.get(attribute).unwrap_or_default().to_owned();
    let parent = before
        .as_deref()
        .and_then(|path| path.trim_end_matches('/').rsplit_once('/'))
        .map(|(parent, _)| parent.to_owned());
    let parent = parent.unwrap_or_else(|| format!("/install/netboot/{}/{}", part("osvers"), part("osarch")));
    let rootimgdir = format!("{parent}/{name}");
    let was = before.unwrap_or_else(|| format!("{parent}/{}", part("profile")));
    name.clone_into(&mut definition.name);
    definition.set("rootimgdir", &rootimgdir, None);
    let mut record = record.unwrap_or_default();
    for field in record.fields.iter_mut().filter(|field| field.table == "image" && field.key == "name") {
        field.value = Value::Text(name.to_owned());
    }
    std::fs::write(&stanza, stanza_text(&definition, &record)).map_err(|error| shown(&error))?;
    // The comment in front of the recipe says where it is published.
    let path = recipe::recipe_file(directory);
    let text = std::fs::read_to_string(&path).map_err(|error| shown(&error))?;
    let text = text.replace(&format!("imgbuild build {old} "), &format!("imgbuild build {name} "));
    let text = text.replace(&format!("xcat:{was}\n"), &format!("xcat:{rootimgdir}\n"));
    std::fs::write(&path, text).map_err(|error| shown(&error))?;
    Ok(Some(rootimgdir))
}

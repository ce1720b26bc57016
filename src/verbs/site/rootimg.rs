//! What someone changed by hand in the tree of xCAT's genimage: it is listed, and offered as an overlay.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::output::harmless::push_line;
use crate::output::render;
use base::source::{Finding, Severity};
use build::Target;
use recipe::{Family, Recipe, Workspace, select};
use site::capture::{CaptureReport, CaptureRequest, OfRecipe, Rules, Source, Why, capture};
use site::definitions::Site;
use site::export::{definition_of, places_of};
use site::rootimg::{synced, tree_in, tree_of};
use site::workspace::ImportReport;

use super::capture::Arguments;

/// How many files are named one by one.
const SHOWN: usize = 30;

/// Makes a capture one of an overlay for a recipe.
pub(crate) fn overlay(request: &mut CaptureRequest, recipe: &Recipe) {
    let workspace = Workspace::above(&recipe.directory).ok().flatten();
    let definition = definition_of(recipe, workspace.as_ref()).definition;
    request.synced = synced(&definition, &places_of(recipe, workspace.as_ref()));
    for file in &recipe.sync {
        let places = file.destinations();
        request.synced.extend(places.iter().map(|to| (to.trim_start_matches('/').to_owned(), file.source.clone())));
    }
    request.of_recipe = of_recipe(recipe);
    request.rules.is_of_xcat = true;
    request.overlay_for = Some(recipe.directory.clone());
    request.name.clone_from(&recipe.model.image.name);
}

/// What the recipe's fields put into images, as far as a person might have put the same into the tree.
fn of_recipe(recipe: &Recipe) -> OfRecipe {
    let model = &recipe.model;
    let keys = model.system.authorized_keys.iter().map(|file| std::fs::read_to_string(recipe.directory.join(file)));
    let scripts = recipe.postinstall.iter().flat_map(|postinstall| &postinstall.scripts);
    let inputs = recipe.postinstall.iter().flat_map(|postinstall| &postinstall.inputs);
    OfRecipe {
        fstab: model.system.fstab.clone(),
        points: model.boot.tmpfs.keys().cloned().collect(),
        keys: keys.flatten().flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect(),
        units: model.services.enable.iter().chain(&model.services.disable).cloned().collect(),
        scripts: scripts.filter_map(|script| std::fs::read_to_string(&script.path).ok()).collect(),
        inputs: inputs.map(|input| input.path.clone()).collect(),
        excluded: recipe.exclude.exclude.iter().map(|pattern| pattern.text.clone()).collect(),
    }
}

/// The files of the overlay, and how they get into the image.
pub(crate) fn text_of(report: &CaptureReport, request: &CaptureRequest, image: &str, own: &Arguments) -> String {
    let files = &report.overlay_files;
    let mut text = match files.len() {
        0 => format!("{} does not differ from packages, synced files and xCAT's own\n", request.shown),
        count => {
            format!("{} has {count} files that differ from packages, synced files and xCAT's own:\n", request.shown)
        }
    };
    for file in files.iter().take(SHOWN) {
        let detail = if file.detail.is_empty() { String::new() } else { format!(" ({})", file.detail) };
        push_line(&mut text, &format!("  {:<10} /{}{detail}", file.reason.name(), file.path));
    }
    if files.len() > SHOWN {
        let _ = writeln!(text, "  and {} more", files.len() - SHOWN);
    }
    for note in &report.notes {
        push_line(&mut text, &format!("note: {note}"));
    }
    if files.is_empty() && report.files.is_empty() {
        return text;
    }
    let into = request.into.display();
    match report.dry_run {
        true => {
            let _ = writeln!(
                text,
                "images are built from packages and do not contain these. To keep them: imgbuild capture {} --into {into} --overlay {image}\nfiles made by a postinstall script are among them: remove those from overlay.list's files, or leave them to the script",
                own.source
            );
        }
        false => {
            let words = words(report, request);
            let _ = writeln!(
                text,
                "wrote {}; overlay.list names each file. To use it: imgbuild -C {into} set {image} {}",
                report.files.join(", "),
                words.join(" ")
            );
        }
    }
    text
}

/// What `imgbuild set` gets.
fn words(report: &CaptureReport, request: &CaptureRequest) -> Vec<String> {
    let has = |name: &str| report.files.iter().any(|file| file == name);
    let mut words = vec!["postinstall.scripts+=overlay.postinstall".to_owned()];
    for name in ["overlay.tar", "overlay.removed", "overlay.modes"].iter().filter(|name| has(name)) {
        words.push(format!("postinstall.inputs+={name}"));
    }
    let release = site::osimage::release_of(&report.osvers).ok();
    let is_debian = release.is_some_and(|release| release.distro.family() == Family::Debian);
    let has_tool = || {
        let recipe = request.overlay_for.as_deref().map(recipe::recipe_file);
        recipe.and_then(|path| std::fs::read_to_string(path).ok()).is_some_and(|text| text.contains("\"tar\""))
    };
    if has("overlay.tar") && !is_debian && !has_tool() {
        words.push("postinstall.tools+=tar".to_owned());
    }
    words
}

/// Compares the trees of imported osimages with their packages; what differs becomes notes.
pub(crate) fn of_import(site: &Site, report: &mut ImportReport, into: &Path) {
    let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
    let mut notes = Vec::new();
    for image in report.osimages.iter().filter(|image| image.recipe.is_some()) {
        let Some(definition) = site.osimages.get(&image.name) else { continue };
        let Some(tree) = tree_of(definition, &site.places).filter(|tree| seen.insert(tree.clone())) else { continue };
        let directory = into.join("images").join(&image.name);
        // Someone took it.
        if directory.join("overlay.list").exists() {
            continue;
        }
        render::say(&format!("comparing {} with its packages", tree.display()));
        let request = CaptureRequest {
            source: Source::Directory(tree.clone()),
            shown: tree.display().to_string(),
            into: into.to_owned(),
            name: image.name.clone(),
            ssh: Vec::new(),
            rules: Rules { is_of_xcat: true, ..Rules::default() },
            pinned: false,
            force: false,
            dry_run: true,
            overlay_for: Some(directory),
            synced: synced(definition, &site.places),
            of_recipe: select(into, std::slice::from_ref(&image.name))
                .ok()
                .and_then(|one| one.recipes.first().map(of_recipe))
                .unwrap_or_default(),
        };
        match capture(&request, &mut |_| {}) {
            Ok(done) => notes.extend(note(&image.name, &tree, &done, into)),
            Err(error) => notes.push(format!(
                "{}: {} is not in images, which are built from packages, and cannot be compared with them: {error}",
                image.name,
                tree.display()
            )),
        }
    }
    report.notes.extend(notes);
}

/// What a person changed in the trees of genimage that lie where an image is about to be published.
pub(crate) fn of_publication(recipe: &Recipe, targets: &[Target]) -> Vec<Finding> {
    // Someone took it.
    if recipe.directory.join("overlay.list").exists() {
        return Vec::new();
    }
    let workspace = Workspace::above(&recipe.directory).ok().flatten();
    let into = workspace.as_ref().map_or(&recipe.directory, |workspace| &workspace.root);
    let name = &recipe.model.image.name;
    let mut findings = Vec::new();
    for Target::Xcat(directory) in targets {
        let Some(tree) = tree_in(directory) else { continue };
        let mut request = CaptureRequest {
            source: Source::Directory(tree.clone()),
            shown: tree.display().to_string(),
            into: into.clone(),
            name: name.clone(),
            ssh: Vec::new(),
            rules: Rules::default(),
            pinned: false,
            force: false,
            dry_run: true,
            overlay_for: None,
            synced: BTreeMap::new(),
            of_recipe: OfRecipe::default(),
        };
        overlay(&mut request, recipe);
        let warn =
            |message: String, help: String| Finding::nowhere(Severity::Warning, "publish::rootimg", message).help(help);
        match capture(&request, &mut |_| {}) {
            Ok(done) => findings.extend(
                note(name, &tree, &done, into)
                    .map(|message| warn(message, format!("remove {} if nothing in it is needed", tree.display()))),
            ),
            Err(error) => findings.push(warn(
                format!(
                    "{} is not in images, which are built from packages, and cannot be compared with them: {error}",
                    tree.display()
                ),
                "remove it if nothing in it is needed".to_owned(),
            )),
        }
    }
    findings
}

/// Secrets in the tree that someone put there: an image gets them by a sync list.
fn secrets(done: &CaptureReport) -> Vec<&String> {
    // Each tree has these, and packages of Debian make the certificate.
    const EACH: [&str; 3] = ["/etc/shadow", "/etc/gshadow", "/etc/ssl/private/"];
    let all = done.left_out.get(Why::Secret.name()).into_iter().flat_map(|(_, paths)| paths);
    all.filter(|path| !EACH.iter().any(|each| path.starts_with(each))).collect()
}

fn note(image: &str, tree: &Path, done: &CaptureReport, into: &Path) -> Option<String> {
    const NAMED: usize = 8;
    let secrets = secrets(done);
    let tree = tree.display();
    let secret = match secrets.as_slice() {
        [] => String::new(),
        [first, more @ ..] => {
            let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
            format!("{first}{more} may be secret and is never taken: name it in a synclist")
        }
    };
    if done.overlay_files.is_empty() {
        return (!secret.is_empty()).then(|| format!("{image}: in {tree} {secret}"));
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    done.overlay_files.iter().for_each(|file| *counts.entry(file.reason.name()).or_default() += 1);
    let counts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let names: Vec<String> = done.overlay_files.iter().take(NAMED).map(|file| format!("/{}", file.path)).collect();
    let more = if done.overlay_files.len() > NAMED { ", .." } else { "" };
    let secret = if secret.is_empty() { secret } else { format!("; {secret}") };
    Some(format!(
        "{image}: {tree} has files that differ from packages, synced files and xCAT's own ({}): {}{more}. Images are built from packages: what the postinstall script does not create is lost unless captured: imgbuild capture {tree} --into {} --overlay {image}{secret}",
        counts.join(", "),
        names.join(", "),
        into.display()
    ))
}

//! What commands have in common: the recipe, the store, the namespace.

use std::path::PathBuf;

use super::output::harmless::one_line;
use super::output::render;
use super::{Arguments, Exit};
use base::source::{Finding, Severity, SourceFile};
use build::{
    BuildInfo, Limits, PackageSources, ProbeAnswer, ProbeRequest, SharedBuild, newer_build, published, remove_inside,
};
use recipe::select;
use recipe::{Draft, Known, LOCK_FILE, Lock, Overlay, Recipe, Selected, Workspace, has_recipe, known};
use sandbox::{Assembly, IdMap, Namespace, SandboxError};
use store::{FileLock, Leftovers, Store};

/// Arguments of commands that fetch packages.
#[derive(Debug, Clone, clap::Args)]
pub struct PlacesArguments {
    /// Mirror for the distribution's packages instead of the recipe's `source = "host"`
    #[arg(long, value_name = "URL", env = "IMGBUILD_MIRROR")]
    pub mirror: Option<String>,
    /// Use only the packages in this directory made by `imgbuild vendor`, without a network
    #[arg(long, value_name = "DIR", env = "IMGBUILD_VENDOR", conflicts_with = "mirror")]
    pub vendor: Option<PathBuf>,
    /// Seconds a mirror may stay silent before the request is retried [default: 30]
    #[arg(long, value_name = "SECONDS", env = "IMGBUILD_MIRROR_TIMEOUT", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub mirror_timeout: Option<u64>,
}

impl PlacesArguments {
    pub fn places(&self) -> PackageSources {
        let patience = self.mirror_timeout.map(std::time::Duration::from_secs);
        PackageSources { mirror: self.mirror.clone(), vendor: self.vendor.clone(), patience }
    }
}

/// A store that is open, and the namespace that goes with it.
pub struct Setup {
    pub store: Store,
    pub namespace: Namespace,
}

/// Where the store is, or would be.
fn place_of_store(arguments: &Arguments) -> Result<PathBuf, store::StoreError> {
    match &arguments.store {
        Some(directory) => Ok(std::path::absolute(directory).unwrap_or_else(|_| directory.clone())),
        None => Store::default_directory(),
    }
}

/// The store for a command that can do without: nothing where no store is there, or where a later imgbuild made it.
pub(crate) fn store_if_there(arguments: &Arguments) -> Option<Store> {
    let directory = place_of_store(arguments).ok()?;
    Store::refuse_newer(&directory).ok()?;
    Some(Store::existing(&directory)).filter(|store| store.directory().is_dir())
}

pub(crate) fn store_directory(arguments: &Arguments) -> Result<PathBuf, Exit> {
    place_of_store(arguments)
        .and_then(|directory| Store::refuse_newer(&directory).map(|()| directory))
        .map_err(|error| render::refused(Exit::Machine, error))
}

impl Setup {
    pub fn open(arguments: &Arguments) -> Result<Self, Exit> {
        let map = IdMap::for_current_user().map_err(render::failed)?;
        let directory = store_directory(arguments)?;
        let store = Store::open(&directory, &map.to_string(), map.root()).map_err(render::failed)?;
        let namespace = Namespace::new(store.directory(), map);
        let assembly = assembly(&store, &namespace, arguments)?;
        Ok(Self { store, namespace: namespace.assembling(assembly).limiting(arguments.limits()) })
    }
}

impl Setup {
    /// Opens a store that is there for reading alone; nothing is made or changed.
    pub fn open_to_read(arguments: &Arguments) -> Result<Self, Exit> {
        let map = IdMap::for_current_user().map_err(render::failed)?;
        let directory = store_directory(arguments)?;
        let store = Store::existing(&directory);
        if !store.directory().is_dir() {
            render::say(&render::error(store::StoreError::NotAStore { path: directory }));
            return Err(Exit::Machine);
        }
        Store::refuse_foreign(&directory, &map.to_string(), map.root()).map_err(render::failed)?;
        let namespace = Namespace::new(store.directory(), map);
        Ok(Self { store, namespace })
    }
}

/// How trees are assembled: as the user says, or as was found out once for this kernel.
fn assembly(store: &Store, namespace: &Namespace, arguments: &Arguments) -> Result<Assembly, Exit> {
    let failed = render::failed::<SandboxError>;
    if let Some(assembly) = arguments.assemble {
        return Ok(assembly);
    }
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let known = store.note(ASSEMBLY_NOTE);
    if let Some((name, of)) = known.as_deref().and_then(|text| text.split_once(' '))
        && of == kernel
        && let Some(assembly) = Assembly::named(name)
    {
        return Ok(assembly);
    }
    let store_failed = render::failed::<store::StoreError>;
    let scratch = store.scratch().map_err(store_failed)?;
    let request = ProbeRequest { scratch: scratch.name.clone() };
    let answer: ProbeAnswer = namespace.call("probe", &request, &mut |_| {}).map_err(failed)?;
    if let Some(problem) = answer.unfit {
        return Err(failed(SandboxError::StoreUnfit { store: store.directory().to_owned(), problem }));
    }
    if let Some(problem) = &answer.no_overlay {
        render::say(&format!("note: overlayfs cannot be used here ({problem}); layers are copied, which is slower"));
    }
    let assembly = answer.assembly();
    store.set_note(ASSEMBLY_NOTE, &format!("{} {kernel}", assembly.name())).map_err(store_failed)?;
    Ok(assembly)
}

/// Name of the store's note on what its file system can do.
const ASSEMBLY_NOTE: &str = "assembly";

impl Setup {
    /// Takes part in using the store: gc waits for it. Removes what killed processes left.
    pub fn share(&self) -> Result<FileLock, Exit> {
        let held = self.store.share_use().map_err(render::failed)?;
        let left = self.store.leftovers();
        self.clear(left);
        Ok(held)
    }
}

impl Setup {
    /// Removes what killed processes left. What cannot be removed stays, with its lock, for another time.
    pub fn clear(&self, left: Leftovers) {
        if left.is_empty() {
            return;
        }
        match remove_inside(&self.store, &self.namespace, left.inside.clone()) {
            Ok(_) => left.remove(),
            Err(error) => render::say(&format!("warning: leftovers of an earlier run remain in the store: {error}")),
        }
    }

    /// What the builds of this command share; `memory` in bytes instead of what is free.
    pub fn shared(&self, keep_going: bool, memory: Option<u64>, recipes: &[Recipe]) -> Result<SharedBuild, Exit> {
        let mut limits = Limits::of_machine(rayon::current_num_threads());
        limits.memory = memory.unwrap_or(limits.memory);
        let mut shared = SharedBuild::new(&self.store, limits, keep_going).map_err(render::failed)?;
        let is_new = recipes.iter().find(|recipe| !recipe.lock_path.exists());
        if let Some(epoch) = is_new.and_then(epoch_beside) {
            shared.epoch = epoch;
        }
        Ok(shared)
    }
}

/// The newest epoch of the locks of a recipe's workspace, if it is not ahead of the clock: a new image takes it, so that it
/// can share layers with others.
fn epoch_beside(recipe: &Recipe) -> Option<i64> {
    let now = jiff::Timestamp::now().as_second();
    let workspace = Workspace::above(&recipe.directory).ok().flatten()?;
    let entries = workspace.images.iter().filter_map(|directory| std::fs::read_dir(directory).ok()).flatten().flatten();
    let locks =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|ending| ending == "lock"));
    locks
        .filter_map(|path| Lock::read(&path, LOCK_FILE).ok().flatten())
        .map(|lock| lock.epoch)
        .filter(|epoch| *epoch <= now)
        .max()
}

/// Findings of one kind of work that are printed. A list of thousands of bad lines is one mistake.
const MOST_SHOWN: usize = 500;

pub(crate) fn print_findings(findings: &[Finding], verbose: u8) {
    // Errors go before the others where there are more than anyone reads.
    let mut shown: Vec<&Finding> = findings.iter().collect();
    if shown.len() > MOST_SHOWN {
        shown.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        shown.truncate(MOST_SHOWN);
    }
    for finding in &shown {
        if finding.severity == Severity::Note && verbose == 0 {
            let place = finding.span.as_ref().map(|span| format!("{span}: ")).unwrap_or_default();
            render::say(&format!("note: {place}{}", one_line(&render::worded(finding).message)));
        } else {
            render::say(render::finding(finding).trim_end());
            render::say("");
        }
    }
    if findings.len() > shown.len() {
        render::say(&format!("and {} more; correct these first", findings.len() - shown.len()));
    }
}

/// Reads the images that a command is for, and prints what is to be said of them; some may have errors.
/// Errors: [`Exit::Input`] when not even their names are known, or a pattern means none.
pub(crate) fn selection(arguments: &Arguments, patterns: &[String]) -> Result<Selected, Exit> {
    let selected = read_selection(arguments, patterns).inspect_err(|findings| {
        print_findings(findings, arguments.verbose);
    });
    let selected = selected.map_err(|_| Exit::Input)?;
    render::speak_kdl(selected.recipes.iter().all(|recipe| recipe.in_kdl) && !selected.recipes.is_empty());
    print_findings(&selected.findings, arguments.verbose);
    Ok(selected)
}

/// The same; prints nothing. Where several images are meant, the findings name files from the workspace's root.
/// Errors: What stands in the way.
pub(crate) fn read_selection(arguments: &Arguments, patterns: &[String]) -> Result<Selected, Vec<Finding>> {
    let mut selected = select(&arguments.directory, patterns).map_err(|mut findings| {
        if let Some(root) = Workspace::root_of(&arguments.directory) {
            name_from(&root, &mut findings);
        }
        // The word of a directory is no name of an image.
        let folder = patterns.iter().find(|pattern| has_recipe(&arguments.directory.join(pattern)));
        if let Some(folder) = folder
            && let Some(missing) = findings.iter_mut().find(|finding| finding.code == "recipe::missing")
        {
            missing.help = Some(format!("`{folder}` is a directory with a recipe: name it with `-C {folder}`"));
        }
        findings
    })?;
    if let Some(workspace) = selected.workspace.as_deref().filter(|_| selected.is_several) {
        name_from(&workspace.root, &mut selected.findings);
    }
    let here = arguments.directory.canonicalize().ok();
    let root = selected.workspace.as_deref().map(|workspace| workspace.root.as_path());
    for recipe in &mut selected.recipes {
        let mut above = here.as_deref().into_iter().chain(root.filter(|_| selected.is_several));
        let below = above.find_map(|folder| recipe.lock_path.strip_prefix(folder).ok());
        recipe.lock_shown = below.map(|below| below.display().to_string());
    }
    Ok(selected)
}

pub(crate) fn name_from(root: &std::path::Path, findings: &mut [Finding]) {
    for span in findings.iter_mut().filter_map(|finding| finding.span.as_mut()) {
        if let Ok(below) = span.file.path.strip_prefix(root) {
            span.file = SourceFile::new(below.display().to_string(), &span.file.path, span.file.text.as_str());
        }
    }
}

/// Reads the recipes that a command is for, and prints what is to be said of them: those that patterns mean, or the recipe
/// where one stands, or all of the workspace. Sorted by the images' names.
/// Errors: [`Exit::Input`] when one has errors.
pub(crate) fn chosen(arguments: &Arguments, patterns: &[String]) -> Result<Vec<Recipe>, Exit> {
    let selected = selection(arguments, patterns)?;
    if selected.broken.is_empty() { Ok(selected.recipes) } else { Err(Exit::Input) }
}

/// The same for commands that look at what was built: warnings on the recipe are not their subject, and `plan`, `build` and
/// `check` say them.
/// Errors: [`Exit::Input`] when one has errors.
pub(crate) fn chosen_to_look(arguments: &Arguments, patterns: &[String]) -> Result<Vec<Recipe>, Exit> {
    let selected = selected_to_look(arguments, patterns)?;
    if selected.broken.is_empty() { Ok(selected.recipes) } else { Err(Exit::Input) }
}

fn selected_to_look(arguments: &Arguments, patterns: &[String]) -> Result<Selected, Exit> {
    look(arguments, read_selection(arguments, patterns))
}

/// Prints what is to be said of images that are looked at: their errors, and all else where that is asked for.
/// Errors: [`Exit::Input`] when they could not be read.
pub(crate) fn look(arguments: &Arguments, read: Result<Selected, Vec<Finding>>) -> Result<Selected, Exit> {
    let selected = read.inspect_err(|findings| print_findings(findings, arguments.verbose));
    let mut selected = selected.map_err(|_| Exit::Input)?;
    render::speak_kdl(selected.recipes.iter().all(|recipe| recipe.in_kdl) && !selected.recipes.is_empty());
    selected.findings.retain(|finding| finding.severity == Severity::Error || arguments.verbose > 0);
    print_findings(&selected.findings, arguments.verbose);
    Ok(selected)
}

/// The same for commands that list images: those with errors are named, and the others go on. How the command is to end.
/// Errors: [`Exit::Input`] when none is left.
pub(crate) fn good_to_look(arguments: &Arguments, patterns: &[String]) -> Result<(Vec<Recipe>, Exit), Exit> {
    let selected = selected_to_look(arguments, patterns)?;
    for name in &selected.broken {
        render::say(&format!("{name} has errors and is left out"));
    }
    match (selected.recipes.is_empty(), selected.broken.is_empty()) {
        (_, true) => Ok((selected.recipes, Exit::Done)),
        (false, false) => Ok((selected.recipes, Exit::Input)),
        (true, false) => Err(Exit::Input),
    }
}

/// The same without patterns.
/// Errors: [`Exit::Input`] when one has errors.
pub(crate) fn recipes(arguments: &Arguments) -> Result<Vec<Recipe>, Exit> {
    chosen_to_look(arguments, &[])
}

/// Reads the one recipe that a command is for: by its name, or the only one that can be meant.
/// Errors: [`Exit::Input`] when it has errors; [`Exit::Usage`] when there are several.
pub(crate) fn recipe(arguments: &Arguments, name: Option<&str>) -> Result<Recipe, Exit> {
    let mut recipes = match name {
        Some(name) => chosen_to_look(arguments, &[name.to_owned()])?,
        None => recipes(arguments)?,
    };
    match recipes.pop() {
        Some(recipe) if recipes.is_empty() => Ok(recipe),
        Some(last) => {
            let names: Vec<&str> = recipes.iter().chain([&last]).map(|one| one.model.image.name.as_str()).collect();
            render::say(&format!("error: this command takes one image; name one of: {}", names.join(", ")));
            Err(Exit::Usage)
        }
        None => Err(Exit::Input),
    }
}

/// What is published of an image: directory and build.json.
/// Errors: [`Exit::Input`] when a later imgbuild wrote it in a form that is not known here.
pub(crate) fn published_image(out: &std::path::Path, name: &str) -> Result<Option<(PathBuf, BuildInfo)>, Exit> {
    newer_build(out, name).map_err(|error| render::refused(Exit::Input, error))?;
    Ok(published(out, name))
}

/// Words for the kernel's command line, and the memory in bytes, of a form of a published image; of none, the first one.
/// Errors: [`Exit::Usage`] after the forms were printed that are there.
pub(crate) fn published_form<'a>(info: &'a BuildInfo, rootimg: Option<&str>) -> Result<(&'a [String], u64), Exit> {
    let Some(rootimg) = rootimg else { return Ok((&info.cmdline, info.memory)) };
    info.form(rootimg).ok_or_else(|| {
        let there = info.forms().join(", ");
        render::say(&format!("error: the published image has no `{rootimg}`; it has {there}: name one of those, or add a format with ‹[[pack.also]]› and build"));
        Exit::Usage
    })
}

/// Finds one image by its name, or the recipe where one stands by `.`; its files are not read yet. A recipe of which only
/// variants are images is found by its own name too.
pub(crate) fn named_draft(arguments: &Arguments, name: &str) -> Result<(Known, Draft), Exit> {
    let reported = |findings: Vec<Finding>| {
        print_findings(&findings, arguments.verbose);
        Exit::Input
    };
    let known = known(&arguments.directory, name != ".", &Overlay::new()).map_err(reported)?;
    let plain = known.recipes.iter().filter_map(|(_, relatives)| relatives.plain.as_ref());
    let of_name = |draft: &&Draft| draft.name().is_some_and(|(known, _)| known == name);
    let found = match name {
        "." if known.recipes.len() == 1 => known.recipes.first().and_then(|(_, relatives)| relatives.plain.clone()),
        "." => None,
        _ => known.images().find(of_name).or_else(|| plain.into_iter().find(of_name)).cloned(),
    };
    let mut chosen = match found {
        Some(draft) => vec![draft],
        None if name == "." => known.chosen(&[]).map_err(reported)?.into_iter().cloned().collect(),
        None => known.chosen(&[name.to_owned()]).map_err(reported)?.into_iter().cloned().collect(),
    };
    match (chosen.pop(), chosen.len()) {
        (Some(draft), 0) => Ok((known, draft)),
        (Some(_), more) => {
            render::say(&format!("error: `{name}` matches {} images; name one", more + 1));
            Err(Exit::Usage)
        }
        (None, _) => Err(reported(known.broken.into_iter().flat_map(|(_, findings)| findings).collect())),
    }
}

/// Reads the lock beside the recipe, if there is one.
/// Errors: [`Exit::Input`] when it cannot be read.
pub(crate) fn lock(recipe: &Recipe) -> Result<Option<Lock>, Exit> {
    recipe.lock().map_err(|error| render::refused(Exit::Input, error))
}

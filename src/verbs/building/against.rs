//! `imgbuild plan --against REV`: what a change rebuilds, computed from a repository alone, without a store.

use build::all_run;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::output::render;
use crate::plans::planned::{AgainstDocument, Locks, PlannedImage, by_stage, publish_stage};
use crate::{Exit, setup};
use base::source::{Finding, Severity};
use build::{Forms, State, compare, name_lines, publishes_otherwise};
use files::sweep::Swept;
use git::{Commit, Files, GitError, Repository, Unlike};
use plan::{Cause, Reason};
use recipe::{
    Draft, KDL_RECIPE_FILE, Loaded, Overlay, RECIPE_FILE, Recipe, WORKSPACE_FILE, Workspace, has_recipe, load_draft,
    relatives, root_of_all,
};
use witness::{Supplied, supplied};

/// A recipe of the revision: its directory, its workspace and its images.
type Found = (PathBuf, Option<Workspace>, Vec<Draft>);

/// A revision, and its files below private temporary directories.
pub(crate) struct Revision {
    repository: Repository,
    commit: Commit,
    /// Directories with files of the revision, by the directory of the work tree that they stand for.
    trees: BTreeMap<PathBuf, Tree>,
    /// Names of the images of each such tree, with their directories in the work tree and in the temporary one.
    names: BTreeMap<PathBuf, Vec<(String, PathBuf, PathBuf)>>,
}

/// Files of a revision, which are written when they are looked at.
struct Tree {
    files: Arc<Mutex<Files>>,
    /// Before the directory: nothing is written when it goes.
    _supplied: Supplied,
    made: Swept,
}

impl Tree {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(error: GitError) -> Exit {
    let exit = match error {
        GitError::Write { .. } => Exit::Machine,
        GitError::NoRevision(_) => Exit::Usage,
        _ => Exit::Input,
    };
    render::refused(exit, error)
}

impl Revision {
    pub(crate) fn open(directory: &Path, revision: &str) -> Result<Self, Exit> {
        let repository = Repository::around(directory).map_err(failed)?;
        let commit = repository.commit(revision).map_err(failed)?;
        Ok(Self { repository, commit, trees: BTreeMap::new(), names: BTreeMap::new() })
    }

    pub(crate) fn document(&self) -> AgainstDocument {
        AgainstDocument { revision: self.commit.revision.clone(), commit: self.commit.id.clone() }
    }

    /// The workspace around a directory, or else the whole repository.
    fn scope_of(&self, directory: &Path) -> PathBuf {
        let root = self.repository.root();
        let mut inside = directory.ancestors().take_while(|folder| folder.starts_with(root));
        inside.find(|folder| folder.join(WORKSPACE_FILE).is_file()).unwrap_or(root).to_owned()
    }

    /// Where an image was at the revision that is here in another directory: the one place that had an image of its name
    /// and has none now. Its directory in the work tree, and in the temporary one.
    fn moved_from(&mut self, recipe: &Recipe) -> Result<Option<(PathBuf, PathBuf)>, Exit> {
        let scope = self.scope_of(&recipe.directory);
        if !self.names.contains_key(&scope) {
            let place = self.place_of(&scope)?;
            let mut names = Vec::new();
            for (below, _, drafts) in self.recipes_below(&scope, &place)? {
                let of = |draft: &Draft| draft.name().map(|(name, _)| name.to_owned());
                let named = drafts.iter().filter_map(of);
                names.extend(named.map(|name| (name, scope.join(&below), place.join(&below))));
            }
            self.names.insert(scope.clone(), names);
        }
        let name = recipe.model.image.name.as_str();
        let is_still_there = |directory: &Path| {
            let drafts = if has_recipe(directory) { drafts_in(directory).ok() } else { None };
            let mut drafts = drafts.into_iter().flat_map(|(_, drafts)| drafts);
            drafts.any(|draft| draft.name().is_some_and(|(known, _)| known == name))
        };
        let of_name = self.names.get(&scope).into_iter().flatten().filter(|(known, ..)| known == name);
        let mut gone = of_name.filter(|(_, directory, _)| !is_still_there(directory));
        let found = gone.next().map(|(_, directory, place)| (directory.clone(), place.clone()));
        Ok(found.filter(|_| gone.next().is_none()))
    }

    /// Where the files of the revision are that belong to a directory of the work tree: the workspace around it, or else
    /// the whole repository, of which is written what is looked at.
    fn place_of(&mut self, directory: &Path) -> Result<PathBuf, Exit> {
        let root = self.repository.root();
        let Ok(below) = directory.strip_prefix(root) else {
            return Err(failed(GitError::NoRepository(directory.to_owned())));
        };
        let scope = self.scope_of(directory);
        if !self.trees.contains_key(&scope) {
            let made = Swept::below(&std::env::temp_dir(), "imgbuild-revision-")
                .map_err(|source| failed(GitError::Write { path: std::env::temp_dir(), source }))?;
            // Nothing above it belongs to the revision.
            root_of_all(made.path());
            let below = scope.strip_prefix(root).unwrap_or(Path::new(""));
            let files = Arc::new(Mutex::new(Files::new(&self.repository, &self.commit, below, made.path())));
            let supplier = Arc::clone(&files);
            let supplied = supplied(made.path(), move |path, need| {
                supplier.lock().unwrap_or_else(PoisonError::into_inner).bring(path, need);
            });
            self.trees.insert(scope.clone(), Tree { files, _supplied: supplied, made });
        }
        Ok(self.trees.get(&scope).map_or_else(PathBuf::new, |tree| tree.made.path().join(below)))
    }

    fn all_could_be_read(&self) -> Result<(), Exit> {
        self.trees.values().find_map(|tree| tree.files().trouble()).map_or(Ok(()), |error| Err(failed(error)))
    }

    /// Every recipe of the revision below a directory of the work tree that can be read: where it is from there, its
    /// workspace and its images. `place` is where its files are.
    fn recipes_below(&self, directory: &Path, place: &Path) -> Result<Vec<Found>, Exit> {
        let below = directory.strip_prefix(self.repository.root()).unwrap_or(Path::new(""));
        let names = [RECIPE_FILE, KDL_RECIPE_FILE];
        let folders = self.repository.directories_with(&self.commit, below, &names).map_err(failed)?;
        let read = |folder: PathBuf| {
            let folder = folder.strip_prefix(below).ok()?.to_owned();
            let (workspace, drafts) = drafts_in(&place.join(&folder)).ok()?;
            Some((folder, workspace, drafts))
        };
        Ok(folders.into_iter().filter_map(read).collect())
    }

    /// Plans images against it; where all images below a directory are meant, those that are gone are reported too.
    pub(crate) fn plan(
        &mut self,
        recipes: &[Recipe],
        all_below: Option<&Path>,
        forms: Forms,
    ) -> Result<Vec<PlannedImage>, Exit> {
        let mut images = Vec::new();
        let mut here = BTreeSet::new();
        for recipe in recipes {
            here.insert((recipe.directory.clone(), recipe.model.image.name.clone()));
            let mut place = self.place_of(&recipe.directory)?;
            let from = if has_recipe(&place) { None } else { self.moved_from(recipe)? };
            let mut note = None;
            if let Some((directory, there)) = from {
                let was = self.relative(&directory).unwrap_or_default();
                note = Some(format!("it was in {was} at {}", self.commit.revision));
                here.insert((directory, recipe.model.image.name.clone()));
                place = there;
            }
            let mut image = self.image(recipe, &place, forms)?;
            image.notes.splice(0..0, note);
            image.notes.extend(self.not_compared(recipe));
            image.recipe = self.relative(&recipe.directory);
            images.push(image);
        }
        if let Some(directory) = all_below.and_then(|directory| directory.canonicalize().ok()) {
            images.extend(self.removed(&directory, &here)?);
        }
        self.all_could_be_read()?;
        Ok(images)
    }

    /// A text about files of the revision: paths in it are those of the repository, not where the files are just now, so
    /// that it is the same each time.
    fn steady(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for tree in self.trees.values() {
            let tree = tree.made.path();
            let places = [tree.canonicalize().ok(), Some(tree.to_owned())];
            for place in places.into_iter().flatten() {
                let place = place.display().to_string();
                text = text.replace(&format!("{place}/"), "").replace(&place, ".");
            }
        }
        text
    }

    fn relative(&self, directory: &Path) -> Option<String> {
        let below = directory.strip_prefix(self.repository.root()).ok()?;
        Some(if below.as_os_str().is_empty() { ".".to_owned() } else { below.display().to_string() })
    }

    /// Inputs of an image that are not compared as a checkout of the revision would have them.
    fn not_compared(&self, recipe: &Recipe) -> Vec<String> {
        let inputs = inputs_of(recipe);
        let at = &self.commit.revision;
        let is_input = |path: &Path, why: &Unlike| match why {
            // What is asked for lies in it, or it lies in what is asked for.
            Unlike::Submodule => inputs.iter().any(|input| input.starts_with(path) || path.starts_with(input)),
            _ => inputs.iter().any(|input| path.starts_with(input)),
        };
        let root = self.repository.root();
        let unlike: BTreeMap<PathBuf, Unlike> =
            self.trees.values().flat_map(|tree| tree.files().unlike().to_vec()).collect();
        let found = unlike.iter().filter(|(path, why)| is_input(&root.join(path), why));
        let note = |(path, why): (&PathBuf, &Unlike)| {
            let path = path.display();
            match why {
                Unlike::Pointer => {
                    format!("{path} is in Git LFS: its content at {at} is not available, and its digest differs")
                }
                Unlike::Filter(name) => format!(
                    "{path} uses the git filter \"{name}\", which is not run: the stored content is compared, so it counts as changed"
                ),
                Unlike::Submodule => {
                    format!("{path} is a submodule at {at}, whose files are not read: they count as missing there")
                }
            }
        };
        found.map(note).collect()
    }

    /// Images of the revision whose recipes no longer exist here.
    fn removed(&mut self, directory: &Path, here: &BTreeSet<(PathBuf, String)>) -> Result<Vec<PlannedImage>, Exit> {
        let place = self.place_of(directory)?;
        let mut found = Vec::new();
        for (below, workspace, drafts) in self.recipes_below(directory, &place)? {
            let now = directory.join(below);
            let still = if has_recipe(&now) { drafts_in(&now).ok() } else { Some((None, Vec::new())) };
            // Where the recipe cannot be read now, that was said already.
            let Some((_, still)) = still else { continue };
            for draft in drafts {
                let is_here = still.iter().any(|one| one.variant == draft.variant);
                // What cannot be loaded was no image of its own.
                let loaded = if is_here { None } else { load_draft(&draft, workspace.as_ref()).recipe };
                let Some(recipe) = loaded else { continue };
                let name = recipe.model.image.name;
                if here.contains(&(now.clone(), name.clone())) {
                    continue;
                }
                let still = has_recipe(&now).then(|| {
                    format!(
                        "{} has it; the recipe is still here but no longer makes an image of that name",
                        self.commit.revision
                    )
                });
                found.push(PlannedImage {
                    notes: still.into_iter().collect(),
                    recipe: self.relative(&now),
                    change: Some("removed".to_owned()),
                    ..PlannedImage::of(name)
                });
            }
        }
        Ok(found)
    }

    fn image(&self, recipe: &Recipe, place: &Path, forms: Forms) -> Result<PlannedImage, Exit> {
        let revision = || self.commit.revision.clone();
        let mut image = PlannedImage::of(recipe.model.image.name.clone());
        let new_lock = setup::lock(recipe)?;
        let drivers = recipe.model.kernel.own_drivers();
        image.locks = Some(Box::new(Locks { before: None, after: new_lock.clone(), drivers }));
        let whole = |image: PlannedImage, change: &str, cause: Cause| {
            let planned = all_run(recipe, new_lock.as_ref(), forms, &cause);
            PlannedImage { change: Some(change.to_owned()), stages: by_stage(planned), ..image }
        };
        if !has_recipe(place) {
            return Ok(whole(image, "new", Reason::NewImage { revision: revision() }.cause(None)));
        }
        let loaded = match loaded_as(recipe, place) {
            Some(loaded) => loaded,
            None => return Ok(whole(image, "new", Reason::NewImage { revision: revision() }.cause(None))),
        };
        let Some(then) = loaded.recipe else {
            let error = loaded.findings.iter().find(|finding| finding.severity == Severity::Error);
            let error = error.map(crate::output::render::worded);
            let problem = error.map_or_else(String::new, |finding| match &finding.span {
                Some(span) => format!("{span}: {}", finding.message),
                None => finding.message.clone(),
            });
            let problem = self.steady(&problem);
            let cause = Reason::Unreadable { revision: revision(), problem };
            return Ok(whole(image, "unreadable", cause.cause(None)));
        };
        if then.model.image.name != image.name {
            image.change = Some("renamed".to_owned());
            image.notes.push(format!("it was named {} at {}", then.model.image.name, self.commit.revision));
        }
        let mut is_lock_broken = false;
        let old_lock = then.lock().unwrap_or_else(|error| {
            is_lock_broken = true;
            let problem = self.steady(&error.to_string());
            image.notes.push(format!("at {}, {problem}: that lock is not compared", self.commit.revision));
            None
        });
        if let Some(locks) = &mut image.locks {
            locks.before.clone_from(&old_lock);
        }
        let was = State { recipe: &then, lock: old_lock.as_ref(), is_lock_broken };
        let now = State { recipe, lock: new_lock.as_ref(), is_lock_broken: false };
        let (comparison, notes) = compare(was, now, forms).map_err(|error| {
            let exit = Exit::from(&error);
            render::say(&self.steady(&render::error(error)));
            exit
        })?;
        image.notes.extend(notes);
        let (mut planned, note) = comparison.planned(recipe);
        image.notes.extend(note);
        for one in &mut planned {
            name_lines(&mut one.causes, &then.directory, &recipe.directory);
        }
        image.stages = by_stage(planned);
        let mut causes = publishes_otherwise(&then, recipe);
        name_lines(&mut causes, &then.directory, &recipe.directory);
        image.stages.extend(publish_stage(causes));
        Ok(image)
    }
}

/// Files and directories that an image is made of; not the recipe's own directory, which a recipe names by naming `.`.
fn inputs_of(recipe: &Recipe) -> BTreeSet<PathBuf> {
    let mut paths: BTreeSet<PathBuf> = recipe.files.iter().map(|file| file.path.clone()).collect();
    paths.extend(recipe.named.iter().filter(|path| **path != recipe.directory).cloned());
    paths.extend(recipe.postinstall.iter().flat_map(|scripts| scripts.files()));
    paths.extend(recipe.roles.iter().flat_map(|role| role.paths()));
    paths.extend(recipe.sync.iter().map(|file| file.source.clone()));
    paths
}

/// The images of a directory's recipe, without what they name.
fn drafts_in(directory: &Path) -> Result<(Option<Workspace>, Vec<Draft>), Vec<Finding>> {
    let workspace = Workspace::above(directory)?;
    let drafts = relatives(directory, workspace.as_ref(), &Overlay::new())?.images();
    Ok((workspace, drafts))
}

/// What a recipe was in another place: the variant of the same name, or else the image of the same name; none where there
/// is neither.
fn loaded_as(recipe: &Recipe, place: &Path) -> Option<Loaded> {
    let (workspace, drafts) = match drafts_in(place) {
        Ok(found) => found,
        Err(findings) => return Some(Loaded { findings, ..Loaded::default() }),
    };
    let name = recipe.model.image.name.as_str();
    let of_name = |draft: &&Draft| draft.name().is_some_and(|(known, _)| known == name);
    let of_variant = |draft: &&Draft| draft.variant == recipe.variant;
    let draft = drafts.iter().find(of_variant).or_else(|| drafts.iter().find(of_name))?;
    Some(load_draft(draft, workspace.as_ref()))
}

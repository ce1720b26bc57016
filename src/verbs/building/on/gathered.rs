//! What the plans of images look at, for those who build them elsewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::Exit;
use crate::plans::planned::plan_of;
use build::{Builder, Target};
use recipe::{Overlay, Workspace, folders, load_draft, relatives};
use remote::away::gather::Site;
use remote::away::{Gathered, gather};
use store::Store;
use witness::{Known, Witness, recording};

pub(crate) struct Looking<'a> {
    pub arguments: &'a crate::Arguments,
    pub are_named: bool,
    pub builders: &'a [Builder<'a>],
    pub store: &'a Store,
    pub publish: &'a [Target],
    /// Directories that are not part of it, besides the store and what was published.
    pub without: &'a [PathBuf],
}

impl Looking<'_> {
    /// What plans look at, and the directory of the workspace; or why something cannot be sent.
    pub(crate) fn gathered(&self) -> Result<Result<(Gathered, PathBuf), String>, Exit> {
        // What is wrong with the recipes was said.
        let (found, of_workspace) = recording(Known::default(), || folders(&self.arguments.directory, self.are_named));
        let (workspace, folders) = found.map_err(|_| Exit::Input)?;
        let workspace = workspace.as_deref();
        let mut witnesses = vec![of_workspace];
        witnesses.extend(folders.iter().map(|folder| self.witness(folder, workspace)));
        let recipes = || self.builders.iter().map(|builder| builder.recipe);
        let root = workspace.map(|workspace| workspace.root.clone());
        let root = root.or_else(|| recipes().next().map(|recipe| recipe.directory.clone())).unwrap_or_default();
        if let Some(file) = recipes().flat_map(|one| &one.files).find(|file| !file.path.starts_with(&root)) {
            let problem = format!("`{}` is outside the workspace: a recipe that it extends cannot be sent", file.name);
            return Ok(Err(problem));
        }
        let named: BTreeSet<PathBuf> = recipes().flat_map(|recipe| recipe.named.iter().cloned()).collect();
        let mut without: Vec<PathBuf> = recipes().map(|recipe| recipe.out.clone()).collect();
        without.extend(self.store.directory().parent().map(Path::to_owned));
        without.extend(self.without.iter().cloned());
        let site = Site { root: &root, named: &named, without: &without };
        let mut gathered = match gather(&witnesses, &site) {
            Ok(gathered) => gathered,
            Err(problem) => return Ok(Err(problem)),
        };
        // A new lock takes the epoch of those beside it.
        if recipes().any(|recipe| !recipe.lock_path.exists()) {
            for folder in workspace.into_iter().flat_map(|workspace| &workspace.images) {
                let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
                let locks = entries.filter(|path| path.extension().is_some_and(|ending| ending == "lock"));
                locks.for_each(|lock| gathered.add_file(&lock, &root));
            }
        }
        Ok(Ok((gathered, root)))
    }

    fn witness(&self, folder: &Path, workspace: Option<&Workspace>) -> Witness {
        let is_built = |name: &str| self.builders.iter().any(|builder| builder.recipe.model.image.name == name);
        let look = || {
            for draft in relatives(folder, workspace, &Overlay::new()).map(|all| all.images()).unwrap_or_default() {
                if draft.name().is_some_and(|(name, _)| is_built(name))
                    && let Some(recipe) = load_draft(&draft, workspace).recipe
                {
                    let _ = recipe.lock();
                    let _ = plan_of(&recipe, self.store, &recipe.out, self.publish);
                }
            }
        };
        recording(Known::default(), look).1
    }
}

//! Taking things out of the store, on both sides of the sandbox.

use crate::StageError;
use base::digest::Digest;
use sandbox::Namespace;
use store::{Collected, RemoveRequest, Store, StoreError};

/// Removes files and directories that belong to root inside, given relative to the store's directory; those that are not
/// there are none. No one finds one half removed, and a process that is killed on the way leaves only what the next command
/// removes.
/// Errors: [`StageError::Sandbox`] with the first that could not be removed.
pub fn remove_inside(store: &Store, namespace: &Namespace, paths: Vec<String>) -> Result<usize, StageError> {
    ask(store, namespace, paths, false)
}

/// The same for layers that were found damaged: one that someone made again meanwhile stays.
/// Errors: As [`remove_inside`].
pub(crate) fn remove_layers(store: &Store, namespace: &Namespace, layers: &[Digest]) -> Result<usize, StageError> {
    let paths = layers.iter().flat_map(|layer| [Store::manifest_name(layer), Store::tree_name(layer)]);
    ask(store, namespace, paths.collect(), true)
}

fn ask(store: &Store, namespace: &Namespace, paths: Vec<String>, only_damaged: bool) -> Result<usize, StageError> {
    if paths.is_empty() {
        return Ok(0);
    }
    let scratch = store.scratch()?;
    let request = RemoveRequest { paths, scratch: scratch.name.clone(), only_damaged };
    Ok(namespace.call("remove", &request, &mut |_| {})?)
}

/// Removes all that gc found; what names other things goes before them.
/// Errors: As [`remove_inside`], and [`StageError::Store`].
pub fn remove_collected(store: &Store, namespace: &Namespace, gone: Collected) -> Result<(), StageError> {
    store.remove(&gone.outside)?;
    fault::point("gc.outside");
    remove_inside(store, namespace, gone.inside)?;
    fault::point("gc.inside");
    Ok(())
}

/// Takes a file out of the store that [`StoreError::Damaged`] names, with what belongs to it.
/// Errors: As [`remove_collected`].
pub(crate) fn remove_damaged(store: &Store, namespace: &Namespace, error: &StoreError) -> Result<(), StageError> {
    let StoreError::Damaged { path, .. } = error else { return Ok(()) };
    let below = path.strip_prefix(store.directory()).ok().and_then(|below| below.to_str());
    remove_collected(store, namespace, Collected::with_kin(below.into_iter()))
}

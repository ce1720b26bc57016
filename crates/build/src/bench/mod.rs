//! What the work on an action stands on, below actions and builder: recipe, store, sandbox, who takes news, and the files of
//! the build host as keys have them.

pub(crate) mod history;
pub mod ids;
pub(crate) mod keyed;
pub(crate) mod report;
pub(crate) mod results;

use std::path::PathBuf;

use crate::StageError;
use plan::Action;
use recipe::Recipe;
use report::Report;
use sandbox::Namespace;
use store::{BlobRef, Store};

#[derive(Clone, Copy)]
pub struct Bench<'a> {
    pub recipe: &'a Recipe,
    pub store: &'a Store,
    pub namespace: &'a Namespace,
    pub report: &'a dyn Report,
    /// Whether the lock stays as it is.
    pub is_locked: bool,
}

/// A file that an operation leaves for the host process: it goes when this is dropped, whatever came of the operation.
pub struct Handover(PathBuf);

impl Drop for Handover {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Bench<'_> {
    /// Where the output of what an action calls is kept, below the store.
    pub fn log_name(&self, action: &Action) -> String {
        let image = &self.recipe.model.image.name;
        format!("logs/{}-{image}-{}.log", std::process::id(), action.id.replace('/', "-"))
    }

    /// Takes a file that an operation left for the host process.
    /// Errors: [`StageError::Store`].
    pub fn take(&self, name: &str) -> Result<BlobRef, StageError> {
        Ok(self.store.ensure_blob_of(&self.store.directory().join(name))?)
    }

    /// To be held while an operation may leave such a file.
    pub fn handover(&self, name: &str) -> Handover {
        Handover(self.store.directory().join(name))
    }
}

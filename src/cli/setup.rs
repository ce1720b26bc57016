//! What commands have in common: the recipe, the store, the namespace.

use std::path::PathBuf;

use super::{Arguments, Exit, render};
use crate::recipe::{LOCK_FILE, Lock, Recipe, load};
use crate::sandbox::{IdMap, Namespace};
use crate::source::{Finding, Severity};
use crate::store::Store;

/// A store that is open, and the namespace that goes with it.
pub struct Setup {
    /// The store.
    pub store: Store,
    /// Where operations run.
    pub namespace: Namespace,
}

/// Directory of the store.
pub fn store_directory(arguments: &Arguments) -> Result<PathBuf, Exit> {
    match &arguments.store {
        Some(directory) => Ok(std::path::absolute(directory).unwrap_or_else(|_| directory.clone())),
        None => Store::default_directory().map_err(|error| {
            render::say(&render::error(error));
            Exit::Machine
        }),
    }
}

impl Setup {
    /// Opens the store.
    ///
    /// # Errors
    /// The exit code, after the reason was printed.
    pub fn open(arguments: &Arguments) -> Result<Self, Exit> {
        let map = IdMap::for_current_user().map_err(|error| {
            let exit = Exit::from(&error);
            render::say(&render::error(error));
            exit
        })?;
        let directory = store_directory(arguments)?;
        let store = Store::open(&directory, &map.to_string(), map.root()).map_err(|error| {
            let exit = Exit::from(&error);
            render::say(&render::error(error));
            exit
        })?;
        let namespace = Namespace::new(store.directory(), map);
        Ok(Self { store, namespace })
    }
}

/// Prints findings; notes in one line each.
pub fn print_findings(findings: &[Finding], verbose: u8) {
    for finding in findings {
        if finding.severity == Severity::Note && verbose == 0 {
            let place = finding.span.as_ref().map(|span| format!("{span}: ")).unwrap_or_default();
            render::say(&format!("note: {place}{}", finding.message));
        } else {
            render::say(render::finding(finding).trim_end());
            render::say("");
        }
    }
}

/// Reads the recipe, and prints what is to be said of it.
///
/// # Errors
/// [`Exit::Input`] when it has errors.
pub fn recipe(arguments: &Arguments) -> Result<Recipe, Exit> {
    let loaded = load(&arguments.directory);
    print_findings(&loaded.findings, arguments.verbose);
    loaded.recipe.ok_or(Exit::Input)
}

/// Reads the lock beside the recipe, if there is one.
///
/// # Errors
/// [`Exit::Input`] when it cannot be read.
pub fn lock(recipe: &Recipe) -> Result<Option<Lock>, Exit> {
    let Ok(text) = std::fs::read_to_string(recipe.directory.join(LOCK_FILE)) else { return Ok(None) };
    Lock::parse(&text).map(Some).map_err(|error| {
        render::say(&render::error(error));
        Exit::Input
    })
}

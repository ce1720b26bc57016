//! Inputs of the `sync` action's key.

use crate::plan::{ActionKind, Input};
use crate::recipe::{Clause, ModulesFrom, SyncedKind};
use crate::stage::StageError;
use crate::stage::actions::Described;
use crate::stage::actions::reader::{Reader, globs};
use crate::stage::bench::ids;
use crate::stage::bench::keyed::{InputFile, Key, Keyed};

/// Files of the build host, and what is done with them.
#[derive(Debug)]
pub struct Sync {
    pub epoch: Keyed<i64>,
    pub modules_from: Keyed<ModulesFrom>,
    /// In order; none is the file of a directory.
    pub items: Vec<(Keyed<Synced>, Option<Keyed<InputFile>>)>,
}

/// What is done with one of them.
#[derive(Debug)]
pub struct Synced {
    pub clause: Clause,
    /// Absolute path in the image.
    pub destination: String,
    /// Name to use below the destination, if that turns out to be a folder in the image.
    pub name_in_folder: Option<String>,
}

/// Adds the action of the sync layer, if anything is synced.
/// Errors: [`StageError::Input`] for a file that vanished since the recipe was read.
pub fn add(reader: &mut Reader<'_>) -> Result<(), StageError> {
    if reader.recipe.sync.is_empty() {
        return Ok(());
    }
    let mut key = Key::default();
    let mut sync =
        Sync { epoch: key.epoch(reader.lock), modules_from: reader.modules_from(&mut key), items: Vec::new() };
    for synced in &reader.recipe.sync {
        let by = |input: Input| globs::of_synclist(reader.asked(input, Some(&synced.span)), &synced.span);
        let item = Synced {
            clause: synced.clause,
            destination: synced.destination.clone(),
            name_in_folder: synced.name_in_folder.clone(),
        };
        let item = key.keep(item, |item| {
            let into = item.name_in_folder.as_deref().unwrap_or("-");
            let value = format!("{} {into} {}", item.clause.name(), synced.name);
            by(Input::new(format!("synced {}", item.destination), value))
        });
        let file = match synced.kind {
            SyncedKind::File => Some(key.file(&synced.name, &synced.source, by)?),
            SyncedKind::Directory => None,
        };
        sync.items.push((item, file));
    }
    reader.layer("sync", ActionKind::Sync, super::VERSION, key.each_once(), Vec::new());
    reader.describe(ids::SYNC, Described::Sync(sync));
    Ok(())
}

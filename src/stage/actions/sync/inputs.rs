//! Inputs of the `sync` action's key.

use crate::plan::{ActionKind, Input};
use crate::recipe::Clause;
use crate::recipe::SyncedKind;
use crate::stage::StageError;
use crate::stage::actions::reader::Reader;
use crate::stage::actions::reader::globs;
use crate::stage::bench::results::file;

/// Adds the action of the sync layer, if anything is synced.
/// Errors: [`StageError::Input`] for a file that vanished since the recipe was read.
pub fn add(reader: &mut Reader<'_>) -> Result<(), StageError> {
    if reader.recipe.sync.is_empty() {
        return Ok(());
    }
    let mut inputs = vec![Input::parameter("epoch", reader.lock.epoch), reader.modules_from()];
    for synced in &reader.recipe.sync {
        let clause = match synced.clause {
            Clause::Copy => "copy",
            Clause::Append => "append",
            Clause::Merge => "merge",
        };
        let into = synced.name_in_folder.as_deref().unwrap_or("-");
        let by = |input: Input| globs::of_synclist(reader.asked(input, Some(&synced.span)), &synced.span);
        inputs
            .push(by(Input::new(format!("synced {}", synced.destination), format!("{clause} {into} {}", synced.name))));
        if synced.kind == SyncedKind::File {
            inputs.push(by(file(&synced.name, &synced.source, None)?));
        }
    }
    // One file may go to several places.
    let mut seen = std::collections::BTreeSet::new();
    inputs.retain(|input| seen.insert((input.name.clone(), input.value.clone())));
    reader.layer("sync", ActionKind::Sync, super::VERSION, inputs, Vec::new());
    Ok(())
}

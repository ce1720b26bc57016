//! Host side of the `sync` action: builds the request, stores the answer.

use crate::plan::Action;
use crate::stage::actions::Context;
use crate::stage::bench::Bench;
use crate::stage::bench::taken::{Taken, take_once, take_text};

use crate::digest::Digest;
use crate::recipe::{Clause, SyncedFile, SyncedKind};
use crate::source::{Finding, Severity};
use crate::stage::bench::report::refuse_at;
use crate::stage::bench::results::{below, layer_outputs};

use crate::stage::StageError;
use crate::stage::actions::gate::checks as gate;
use crate::stage::actions::sync::inside as sync;
use crate::stage::inside::removal::remove_damaged;
use crate::store::{Outputs, StoreError};

/// Makes the layer; gives what the action's record names.
pub fn run(bench: &Bench<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let (lock, base) = (context.lock, below(action, context.done)?);
    gate::check_synced(bench.recipe, &|synced| take_text(action, &synced.name, &synced.source))?;
    let scratch = bench.store.scratch()?;
    let earlier = earlier_layer(bench, action);
    let items = || -> Result<sync::SyncRequest, StageError> {
        let items = bench.recipe.sync.iter().map(|synced| item_of(bench, action, synced));
        let items = items.collect::<Result<_, _>>()?;
        Ok(sync::SyncRequest { scratch: scratch.name.clone(), base: base.clone(), epoch: lock.epoch, items, earlier })
    };
    let request = items()?;
    for (item, synced) in request.items.iter().zip(&bench.recipe.sync) {
        if item.content.is_some() && item.mode & 0o6000 != 0 {
            let text = format!("`{}` keeps its set-id bits in the image", synced.name);
            bench.report.finding(&Finding::note("sync::setid", &synced.span, text));
        }
    }
    let answer = match make(bench, &request) {
        // What the store had is taken out, and taken from the file once more.
        Err(StageError::Store(error @ StoreError::Damaged { .. })) => {
            remove_damaged(bench.store, bench.namespace, &error)?;
            let text = format!("{error}; it was removed and will be rebuilt");
            bench.report.finding(&Finding::nowhere(Severity::Warning, "store::damaged", text));
            make(bench, &items()?)?
        }
        other => other?,
    };
    for (later, earlier) in answer.doubled {
        let (Some(later), Some(earlier)) = (bench.recipe.sync.get(later), bench.recipe.sync.get(earlier)) else {
            continue;
        };
        let text =
            format!("{} is the destination twice: also for {} ({})", later.destination, earlier.name, earlier.span);
        let finding = Finding::warning("sync::doubled", &later.span, text).label("this one is used");
        bench.report.finding(&finding.help("remove one of the lines"));
    }
    for text in answer.notes {
        bench.report.finding(&Finding::nowhere(Severity::Warning, "sync::into_folder", text));
    }
    match answer.layer {
        Ok(layer) => Ok(layer_outputs(&layer)),
        Err((index, problem)) => {
            let item = bench.recipe.sync.get(index);
            let name = item.map_or_else(String::new, |item| format!("{}: ", item.name));
            let help = "correct the line's destination; `imgbuild shell` shows what is in the image there".to_owned();
            Err(refuse_at(bench.report, item.map(|item| item.span.clone()), format!("{name}{problem}"), help))
        }
    }
}

/// What an item becomes; its content is in the store then.
fn item_of(bench: &Bench<'_>, action: &Action, synced: &SyncedFile) -> Result<sync::SyncItem, StageError> {
    let (content, mode) = match synced.kind {
        SyncedKind::Directory => (None, 0o755),
        SyncedKind::File => {
            let Taken { blob, mode } = take_once(bench, action, &synced.name, &synced.source)?;
            (Some(blob), mode)
        }
    };
    Ok(sync::SyncItem {
        content,
        link: None,
        destination: synced.destination.clone(),
        name_in_folder: synced.name_in_folder.clone(),
        mode,
        clause: match synced.clause {
            Clause::Copy => "copy",
            Clause::Append => "append",
            Clause::Merge => "merge",
        }
        .to_owned(),
    })
}

/// The layer that the image's last build made of an action.
fn earlier_layer(bench: &Bench<'_>, action: &Action) -> Option<Digest> {
    let root = bench.store.root(&bench.recipe.directory, &bench.recipe.model.image.name)?;
    bench.store.record(root.actions.get(&action.id)?)?.outputs.layer
}

/// Makes a layer of items.
/// Errors: [`StageError`]; [`StoreError::Damaged`] where the store's copy of a file is not what it should be.
pub fn make(bench: &Bench<'_>, request: &sync::SyncRequest) -> Result<sync::SyncAnswer, StageError> {
    let answer: sync::SyncAnswer = bench.namespace.call("sync", request, &mut |text| bench.report.progress(text))?;
    match &answer.damaged {
        None => Ok(answer),
        Some(content) => {
            let path = bench.store.directory().join(content);
            let problem = "does not match the digest in its name".to_owned();
            Err(StoreError::Damaged { path, problem }.into())
        }
    }
}

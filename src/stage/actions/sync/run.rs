//! Host side of the `sync` action: builds the request, stores the answer.

use crate::plan::Action;
use crate::stage::builder::run::{Builder, Context};
use crate::stage::builder::taken::{Taken, take, take_text};

use crate::recipe::{Clause, SyncedKind};
use crate::source::{Finding, Severity};
use crate::stage::report::refuse_at;
use crate::stage::results::{below, layer_outputs};

use crate::stage::StageError;
use crate::stage::actions::gate::checks as gate;
use crate::stage::actions::sync::inside as sync;
use crate::store::Outputs;

/// Makes the layer; gives what the action's record names.
///
/// # Errors
/// [`StageError`] of its kind.
pub fn run(builder: &Builder<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let (lock, base) = (context.lock, below(action, context.done)?);
    gate::check_synced(builder.recipe, &|synced| take_text(action, &synced.name, &synced.source))?;
    let mut items = Vec::new();
    for synced in &builder.recipe.sync {
        let (content, mode) = match synced.kind {
            SyncedKind::Directory => (None, 0o755),
            SyncedKind::File => {
                let Taken { blob, mode } = take(builder, action, &synced.name, &synced.source)?;
                if mode & 0o6000 != 0 {
                    let text = format!("`{}` keeps its set-id bits in the image", synced.name);
                    builder.report.finding(&Finding::note("sync::setid", &synced.span, text));
                }
                (Some(blob), mode)
            }
        };
        items.push(sync::SyncItem {
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
        });
    }
    let scratch = builder.store.scratch()?;
    let request = sync::SyncRequest { scratch: scratch.name.clone(), base, epoch: lock.epoch, items };
    let answer: sync::SyncAnswer =
        builder.namespace.call("sync", &request, &mut |text| builder.report.progress(text))?;
    for (later, earlier) in answer.doubled {
        let (Some(later), Some(earlier)) = (builder.recipe.sync.get(later), builder.recipe.sync.get(earlier)) else {
            continue;
        };
        let text =
            format!("{} is the destination twice: also for {} ({})", later.destination, earlier.name, earlier.span);
        let finding = Finding::warning("sync::doubled", &later.span, text).label("this one is used");
        builder.report.finding(&finding.help("remove one of the lines"));
    }
    for text in answer.notes {
        builder.report.finding(&Finding::nowhere(Severity::Warning, "sync::into_folder", text));
    }
    match answer.layer {
        Ok(layer) => Ok(layer_outputs(&layer)),
        Err((index, problem)) => {
            let item = builder.recipe.sync.get(index);
            let name = item.map_or_else(String::new, |item| format!("{}: ", item.name));
            let help = "correct the line's destination; `imgbuild shell` shows what is in the image there".to_owned();
            Err(refuse_at(builder.report, item.map(|item| item.span.clone()), format!("{name}{problem}"), help))
        }
    }
}

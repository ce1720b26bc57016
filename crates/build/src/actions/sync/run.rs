//! Host side of the `sync` action: builds the request, stores the answer.

use super::inputs::{Sync, Synced};
use super::inside::{SyncAnswer, SyncItem, SyncRequest};
use crate::StageError;
use crate::actions::gate::checks as gate;
use crate::actions::reader::work::{Above, Desk, Place, Work};
use crate::bench::Bench;
use crate::bench::keyed::{InputFile, Keyed};
use crate::bench::report::{refuse, refuse_at};
use crate::bench::results::{layer_outputs, missing};
use base::source::{Finding, Severity};
use recipe::owners::Home;
use store::Outputs;

impl Work for Sync {
    const OPERATION: &'static str = "sync";
    type Request = SyncRequest;
    type Answer = SyncAnswer;

    fn before(&self, bench: &Bench<'_>, above: &Above<'_>) -> Result<(), StageError> {
        let synced = || bench.recipe.sync.iter().zip(self.items.iter().map(|(_, file)| file.as_ref()));
        gate::check_synced(bench.recipe, &|one| {
            let file = synced().find(|(known, _)| std::ptr::eq(*known, one)).and_then(|(_, file)| file);
            file.ok_or_else(|| missing(above.id()))?.text()
        })?;
        for (synced, file) in synced() {
            if file.is_some() && synced.mode() & 0o6000 != 0 {
                let text = format!("`{}` keeps its set-id bits in the image", synced.name);
                bench.report.finding(&Finding::note("sync::setid", &synced.span, text));
            }
        }
        Ok(())
    }

    fn request(&self, above: &Above<'_>, place: &Place) -> Result<SyncRequest, StageError> {
        let item = |(synced, file): &(Keyed<Synced>, Option<Keyed<InputFile>>)| {
            let file = file.as_deref();
            let said = synced.said.as_ref();
            Ok::<_, StageError>(SyncItem {
                // What writes the layer compares it.
                content: file.map(|file| file.content(above.store)).transpose()?,
                link: None,
                destination: synced.destination.clone(),
                name_in_folder: synced.name_in_folder.clone(),
                mode: said.and_then(|said| said.mode).or(synced.mode).or(file.map(|file| file.mode)).unwrap_or(0o755),
                uid: synced.uid,
                gid: synced.gid,
                user: said.and_then(|said| said.user.clone()),
                group: said.and_then(|said| said.group.clone()),
                said_mode: said.and_then(|said| said.mode),
                clause: synced.clause,
            })
        };
        Ok(SyncRequest {
            scratch: place.scratch.clone(),
            base: above.below()?,
            epoch: *self.epoch,
            items: self.items.iter().map(item).collect::<Result<_, _>>()?,
            homes: self.homes.iter().map(|home| Home::clone(home)).collect(),
            earlier: above.earlier_layer(),
        })
    }

    fn damaged(answer: &SyncAnswer) -> Option<&str> {
        answer.damaged.as_deref()
    }

    fn finish(&self, desk: &Desk<'_>, answer: SyncAnswer) -> Result<Outputs, StageError> {
        let (recipe, report) = (desk.bench.recipe, desk.bench.report);
        for (later, earlier) in answer.doubled {
            let (Some(later), Some(earlier)) = (recipe.sync.get(later), recipe.sync.get(earlier)) else { continue };
            let text =
                format!("{} is the destination twice: also for {} ({})", later.destination, earlier.name, earlier.span);
            let finding = Finding::warning("sync::doubled", &later.span, text).label("this one is used");
            report.finding(&finding.help("remove one of the lines"));
        }
        for text in answer.notes {
            report.finding(&Finding::nowhere(Severity::Warning, "sync::into_folder", text));
        }
        match answer.layer {
            Ok(layer) => Ok(layer_outputs(&layer)),
            Err((index, problem)) if answer.is_of_owner => {
                let places = recipe.sync.get(index).map(recipe::SyncedFile::destinations).unwrap_or_default();
                let place = places.into_iter().find(|place| recipe.model.sync.owner.contains_key(place));
                let field = format!("sync.owner.{}", place.unwrap_or_default());
                let help =
                    "add the package that creates the account, pin it in ‹[users]› or ‹[groups]›, or write a number";
                Err(refuse(report, recipe, &field, problem, help.to_owned()))
            }
            Err((index, problem)) => {
                let item = recipe.sync.get(index);
                let name = item.map_or_else(String::new, |item| format!("{}: ", item.name));
                let help =
                    "correct the line's destination; `imgbuild shell` shows what is in the image there".to_owned();
                Err(refuse_at(report, item.map(|item| item.span.clone()), format!("{name}{problem}"), help))
            }
        }
    }
}

//! Packs the image, once a node can start it.

use std::collections::BTreeMap;

use super::index::index_text;
use super::inputs::Pack;
use super::mismatches::{Wanted, findings};
use super::request::{PackAnswer, PackRequest};
use crate::StageError;
use crate::actions::gate::checks as gate;
use crate::actions::reader::work::{Above, Desk, Place, Work};
use crate::bench::ids;
use base::source::{Finding, Severity};
use plan::ActionKind;
use recipe::{SecretsRule, Selinux};
use store::Outputs;

impl Work for Pack {
    const OPERATION: &'static str = "pack";
    type Request = PackRequest;
    type Answer = PackAnswer;

    fn request(&self, above: &Above<'_>, place: &Place) -> Result<PackRequest, StageError> {
        let layers = above.below()?;
        let exclusion = self.exclude.apply(&above.store.paths(&layers)?);
        if above.id() == ids::PACK {
            for finding in &exclusion.findings {
                above.report.finding(finding);
            }
        }
        let kinds = || self.kinds.0.iter().copied();
        let is_wanted = |kind: ActionKind| {
            matches!(kind, ActionKind::System | ActionKind::Sync | ActionKind::NodeSupport | ActionKind::Postscripts)
        };
        Ok(PackRequest {
            layers,
            own: kinds().map(ActionKind::is_of_the_recipe).collect(),
            excluded: exclusion.excluded,
            compression: *self.compression,
            form: *self.form,
            epoch: *self.epoch,
            zone: self.zone.0.clone(),
            locale: self.locale.0.clone(),
            wanted: Wanted { brought: kinds().map(is_wanted).collect(), ..self.wanted.0.clone() },
            selinux: *self.selinux == Selinux::Auto,
            scratch: place.scratch.clone(),
        })
    }

    fn finish(&self, desk: &Desk<'_>, answer: PackAnswer) -> Result<Outputs, StageError> {
        let bench = desk.bench;
        let is_first = desk.id() == ids::PACK;
        if let Some(obstacle) = &answer.obstacle {
            return Err(gate::cannot_start(bench.report, bench.recipe, obstacle));
        }
        if is_first {
            for obstacle in &answer.shortcomings {
                bench.report.finding(&gate::does_without(bench.recipe, obstacle));
            }
            for finding in findings(&answer.mismatches, bench.recipe) {
                bench.report.finding(&finding);
            }
            let are_allowed = bench.recipe.model.image.secrets == SecretsRule::Allowed;
            for finding in answer.secrets.findings(are_allowed, &bench.recipe.model.image.keep) {
                bench.report.finding(&finding);
            }
        }
        let of_all = answer.warnings.iter().filter(|_| is_first);
        for text in of_all.chain(&answer.of_form) {
            bench.report.finding(&Finding::nowhere(Severity::Warning, "pack::selinux", text.clone()));
        }
        let index = bench.store.ensure_blob(&index_text(
            (*self.form, *self.compression),
            &answer.frames,
            answer.inodes,
            answer.memory,
            &answer.xattrs,
            &answer.labels,
        ))?;
        Ok(Outputs {
            blobs: BTreeMap::from([("index".to_owned(), index)]),
            values: BTreeMap::from([("memory".to_owned(), answer.memory.to_string())]),
            frames: answer.frames.iter().map(|(key, _)| *key).collect(),
            ..Outputs::default()
        })
    }
}

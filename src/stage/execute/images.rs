//! What nodes load: the initrd and the packed image.

use std::collections::BTreeMap;

use crate::plan::Action;
use crate::recipe::{Frames, Lock, SecretsRule, Selinux};
use crate::source::{Finding, Severity};
use crate::stage::actions::compression;
use crate::stage::artefacts::index_text;
use crate::stage::ids;
use crate::stage::results::{Done, below};
use crate::stage::run::{Builder, Context};
use crate::stage::{StageError, gate, initrd, pack};
use crate::store::Outputs;

impl Builder<'_> {
    pub(super) fn run_initrd(&self, action: &Action, lock: &Lock, done: &Done) -> Result<Outputs, StageError> {
        let scratch = self.store.scratch()?;
        let request = self.initrd_request(action, lock, done, &scratch.name)?;
        let answer: initrd::InitrdAnswer =
            self.namespace.call("initrd", &request, &mut |text| self.report.progress(text))?;
        // The same drivers in another form: said once.
        if action.id == ids::INITRD || !answer.missing.is_empty() {
            self.say_drivers(&answer, &request.release)?;
        }
        let initrd = self.take(&request.handover)?;
        Ok(Outputs { blobs: BTreeMap::from([("initrd".to_owned(), initrd)]), ..Outputs::default() })
    }

    pub(super) fn run_pack(&self, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
        let layers = below(action, context.done)?;
        let is_own = |id: &String| context.stages.graph.get(id).is_some_and(|made| made.kind.is_of_the_recipe());
        let own = action.upstream.iter().filter(|upstream| upstream.output == "layer").map(|upstream| &upstream.action);
        let mut manifests = Vec::new();
        for layer in &layers {
            manifests.push(self.store.manifest(layer)?);
        }
        let tree = crate::store::merge(&manifests);
        let paths = tree.0.iter().map(|(path, found)| (path.clone(), found.entry.is_directory())).collect();
        let exclusion = self.recipe.exclude.apply(&paths);
        if action.id == ids::PACK {
            for finding in &exclusion.findings {
                self.report.finding(finding);
            }
        }
        let compression = compression(self.recipe, &action.id);
        let scratch = self.store.scratch()?;
        let request = pack::PackRequest {
            layers,
            own: own.map(is_own).collect(),
            excluded: exclusion.excluded,
            compression,
            single: self.recipe.model.pack.frames == Frames::Single,
            zone: self.recipe.model.system.timezone.clone(),
            locale: self.recipe.model.system.locale.clone(),
            selinux: self.recipe.model.system.selinux == Selinux::Auto,
            scratch: scratch.name.clone(),
        };
        let answer: pack::PackAnswer = self.namespace.call("pack", &request, &mut |text| self.report.progress(text))?;
        if let Some(obstacle) = &answer.obstacle {
            return Err(gate::cannot_start(self.report, self.recipe, obstacle));
        }
        if action.id == ids::PACK {
            for obstacle in &answer.shortcomings {
                self.report.finding(&gate::does_without(self.recipe, obstacle));
            }
            let are_allowed = self.recipe.model.image.secrets == SecretsRule::Allowed;
            for finding in answer.secrets.findings(are_allowed) {
                self.report.finding(&finding);
            }
            for text in &answer.warnings {
                self.report.finding(&Finding::nowhere(Severity::Warning, "pack::selinux", text.clone()));
            }
        }
        let index = self.store.ensure_blob(&index_text(
            compression.name(),
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

//! Packs the image, once a node can start it.

use crate::plan::{Action, ActionKind};
use crate::stage::actions::Context;
use crate::stage::bench::Bench;
use std::collections::BTreeMap;

use crate::recipe::{SecretsRule, Selinux};
use crate::source::{Finding, Severity};
use crate::stage::actions::pack::index::index_text;
use crate::stage::actions::reader::{archive, compression, packed_form};
use crate::stage::bench::ids;
use crate::stage::bench::results::below;

use crate::stage::StageError;
use crate::stage::actions::gate::checks as gate;
use crate::stage::actions::pack::mismatches::{Wanted, findings};
use crate::stage::actions::pack::request as pack;
use crate::store::Outputs;

/// Packs; gives what the action's record names.
pub fn run(bench: &Bench<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let layers = below(action, context.done)?;
    let is_own = |id: &String| context.stages.graph.get(id).is_some_and(|made| made.kind.is_of_the_recipe());
    let own = action.upstream.iter().filter(|upstream| upstream.output == "layer").map(|upstream| &upstream.action);
    let exclusion = bench.recipe.exclude.apply(&bench.store.paths(&layers)?);
    if action.id == ids::PACK {
        for finding in &exclusion.findings {
            bench.report.finding(finding);
        }
    }
    let packed = packed_form(bench.recipe, &action.id);
    let compression = compression(&packed);
    let form = archive(&packed);
    let wanted_by_name = |id: &String| {
        let kind = context.stages.graph.get(id).map(|made| made.kind);
        matches!(kind, Some(ActionKind::System | ActionKind::Sync | ActionKind::NodeSupport | ActionKind::Postscripts))
    };
    let scratch = bench.store.scratch()?;
    let request = pack::PackRequest {
        layers,
        own: own.clone().map(is_own).collect(),
        excluded: exclusion.excluded,
        compression,
        form,
        epoch: context.lock.epoch,
        zone: bench.recipe.model.system.timezone.clone(),
        locale: bench.recipe.model.system.locale.clone(),
        wanted: Wanted {
            users: context.lock.users.iter().map(|one| (one.name.clone(), one.uid)).collect(),
            groups: context.lock.groups.iter().map(|one| (one.name.clone(), one.gid)).collect(),
            named: bench.recipe.model.users.keys().cloned().collect(),
            brought: own.map(wanted_by_name).collect(),
        },
        selinux: bench.recipe.model.system.selinux == Selinux::Auto,
        scratch: scratch.name.clone(),
    };
    let answer: pack::PackAnswer = bench.namespace.call("pack", &request, &mut |text| bench.report.progress(text))?;
    if let Some(obstacle) = &answer.obstacle {
        return Err(gate::cannot_start(bench.report, bench.recipe, obstacle));
    }
    if action.id == ids::PACK {
        for obstacle in &answer.shortcomings {
            bench.report.finding(&gate::does_without(bench.recipe, obstacle));
        }
        for finding in findings(&answer.mismatches, bench.recipe) {
            bench.report.finding(&finding);
        }
        let are_allowed = bench.recipe.model.image.secrets == SecretsRule::Allowed;
        for finding in answer.secrets.findings(are_allowed) {
            bench.report.finding(&finding);
        }
    }
    let of_all = answer.warnings.iter().filter(|_| action.id == ids::PACK);
    for text in of_all.chain(&answer.of_form) {
        bench.report.finding(&Finding::nowhere(Severity::Warning, "pack::selinux", text.clone()));
    }
    let index = bench.store.ensure_blob(&index_text(
        (form, compression),
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

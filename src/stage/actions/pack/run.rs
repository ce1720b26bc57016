//! Packs the image, once a node can start it.

use crate::plan::{Action, ActionKind};
use crate::stage::builder::run::{Builder, Context};
use std::collections::BTreeMap;

use crate::recipe::{SecretsRule, Selinux};
use crate::source::{Finding, Severity};
use crate::stage::actions::reader::{archive, compression, packed_form};
use crate::stage::ids;
use crate::stage::published::artefacts::index_text;
use crate::stage::results::below;

use crate::stage::StageError;
use crate::stage::actions::gate::checks as gate;
use crate::stage::actions::pack::mismatches::{Wanted, findings};
use crate::stage::actions::pack::request as pack;
use crate::store::Outputs;

/// Packs; gives what the action's record names.
///
/// # Errors
/// [`StageError`] of its kind.
pub fn run(builder: &Builder<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let layers = below(action, context.done)?;
    let is_own = |id: &String| context.stages.graph.get(id).is_some_and(|made| made.kind.is_of_the_recipe());
    let own = action.upstream.iter().filter(|upstream| upstream.output == "layer").map(|upstream| &upstream.action);
    let exclusion = builder.recipe.exclude.apply(&builder.store.paths(&layers)?);
    if action.id == ids::PACK {
        for finding in &exclusion.findings {
            builder.report.finding(finding);
        }
    }
    let packed = packed_form(builder.recipe, &action.id);
    let compression = compression(&packed);
    let form = archive(&packed);
    let wanted_by_name = |id: &String| {
        let kind = context.stages.graph.get(id).map(|made| made.kind);
        matches!(kind, Some(ActionKind::System | ActionKind::Sync | ActionKind::NodeSupport | ActionKind::Postscripts))
    };
    let scratch = builder.store.scratch()?;
    let request = pack::PackRequest {
        layers,
        own: own.clone().map(is_own).collect(),
        excluded: exclusion.excluded,
        compression,
        form,
        epoch: context.lock.epoch,
        zone: builder.recipe.model.system.timezone.clone(),
        locale: builder.recipe.model.system.locale.clone(),
        wanted: Wanted {
            users: context.lock.users.iter().map(|one| (one.name.clone(), one.uid)).collect(),
            groups: context.lock.groups.iter().map(|one| (one.name.clone(), one.gid)).collect(),
            named: builder.recipe.model.users.keys().cloned().collect(),
            brought: own.map(wanted_by_name).collect(),
        },
        selinux: builder.recipe.model.system.selinux == Selinux::Auto,
        scratch: scratch.name.clone(),
    };
    let answer: pack::PackAnswer =
        builder.namespace.call("pack", &request, &mut |text| builder.report.progress(text))?;
    if let Some(obstacle) = &answer.obstacle {
        return Err(gate::cannot_start(builder.report, builder.recipe, obstacle));
    }
    if action.id == ids::PACK {
        for obstacle in &answer.shortcomings {
            builder.report.finding(&gate::does_without(builder.recipe, obstacle));
        }
        for finding in findings(&answer.mismatches, builder.recipe) {
            builder.report.finding(&finding);
        }
        let are_allowed = builder.recipe.model.image.secrets == SecretsRule::Allowed;
        for finding in answer.secrets.findings(are_allowed) {
            builder.report.finding(&finding);
        }
    }
    let of_all = answer.warnings.iter().filter(|_| action.id == ids::PACK);
    for text in of_all.chain(&answer.of_form) {
        builder.report.finding(&Finding::nowhere(Severity::Warning, "pack::selinux", text.clone()));
    }
    let index = builder.store.ensure_blob(&index_text(
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

//! What the machine does that has others build: locks, packages, and what is noted of what ran there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::StageError;
use crate::actions::StageGraph;
use crate::actions::packages::accounts;
use crate::actions::packages::needs::packages_of;
use crate::actions::packages::requests::target;
use crate::builder::locking::relock::{lock, read_lock, write_lock};
use crate::builder::many::Failure;
use crate::builder::run::Builder;
use crate::inside::init::init_for;
use crate::plan::{forms_for, stages_of};
use packages::manager;
use plan::{ActionKind, Stage};
use recipe::{Lock, PinnedPackage};
use store::{End, Run};

#[derive(Debug, Clone, PartialEq)]
pub struct NeedsOfAction {
    pub kind: ActionKind,
    pub stage: Stage,
    pub packages: Vec<PinnedPackage>,
}

/// Has a lock that is up to date, as a build here would.
/// Errors: [`StageError`], as of a build.
pub fn ensure_lock(builder: &Builder<'_>) -> Result<Lock, StageError> {
    init_for(builder.recipe.model.image.arch)?;
    let fetcher = builder.fetcher()?;
    lock(builder, &fetcher, &builder.supply(&fetcher))
}

/// The graph of an image, and what its actions need.
/// Errors: As of planning.
pub fn needs_of(
    builder: &Builder<'_>,
    lock: &Lock,
) -> Result<(StageGraph, BTreeMap<String, NeedsOfAction>), StageError> {
    let stages = stages_of(builder.recipe, lock, forms_for(&builder.options.publish))?;
    let manager = manager(builder.recipe);
    let of = |action: &plan::Action| {
        let packages = packages_of(manager, lock, action);
        (action.id.clone(), NeedsOfAction { kind: action.kind, stage: action.stage, packages })
    };
    let needs = stages.graph.in_order().map(of).collect();
    Ok((stages, needs))
}

/// Downloads packages that the store lacks; gives the files of all, by the SHA-256 of each.
pub fn package_files(
    builder: &Builder<'_>,
    packages: &[PinnedPackage],
) -> Result<BTreeMap<String, PathBuf>, StageError> {
    let fetcher = builder.fetcher()?;
    let mut seen = BTreeSet::new();
    let packages: Vec<PinnedPackage> = packages.iter().filter(|package| seen.insert(package.sha256)).cloned().collect();
    builder.supply(&fetcher).download(&packages)?;
    Ok(packages.iter().map(|one| (one.sha256.to_string(), builder.store.package(&one.sha256))).collect())
}

/// Writes into the lock what running packages elsewhere showed: accounts whose ids are kept, transactions whose scripts ask for the
/// kernel's release.
pub fn fix_lock(builder: &Builder<'_>, names: &[String], asking: &[String]) -> Result<(), StageError> {
    let Some(mut lock) = read_lock(builder)? else { return Ok(()) };
    accounts::fix(&mut lock, names);
    lock.pass.iter_mut().filter(|one| asking.contains(&one.name)).for_each(|one| one.asks_release = true);
    write_lock(builder, &lock)
}

/// What a failure asks to be written into the lock, where it is that alone: accounts by their names, or a transaction.
pub fn asked_of_lock(failure: &Failure) -> Option<Result<Vec<String>, String>> {
    match &failure.error {
        StageError::Moved { names, is_final: false, .. } => Some(Ok(names.clone())),
        StageError::AsksRelease { pass, is_final: false, .. } => Some(Err(pass.clone())),
        _ => None,
    }
}

pub fn note_failed(builder: &Builder<'_>, runs: &[Run], why: String) {
    let (recipe, noted) = (builder.recipe, &builder.options.trace);
    noted.begin(builder.store, &recipe.model.image.name, &recipe.directory, &target(recipe));
    runs.iter().cloned().for_each(|run| noted.ran(run));
    noted.ended(End { failed: Some(why), ..End::default() });
}

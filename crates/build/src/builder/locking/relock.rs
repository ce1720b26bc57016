//! image.lock: read, renewed where the recipe asks for what it lacks, updated on demand, written.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::StageError;
use crate::actions::packages::accounts;
use crate::actions::packages::requests::target;
use crate::builder::run::{Builder, Work};
use crate::lock::resolve::{Locking, Renew};
use crate::lock::state::{LockState, lock_state};
use crate::supply::Supply;
use base::source::{Finding, Severity, nearest};
use files::{Aside, Durability, TEMPORARY};
use packages::Fetcher;
use recipe::Lock;

/// How many lines of a lock's difference are shown by a build.
const SHOWN_DIFFERENCES: usize = 30;

#[derive(Debug, Clone, Default)]
pub struct Update {
    /// Packages by name; none: all.
    pub packages: Vec<String>,
    /// A new epoch, in seconds since 1970.
    pub epoch: Option<i64>,
}

/// The lock beside the recipe, if there is one.
/// Errors: [`StageError`] when it cannot be read, or the clock is before its epoch.
pub(crate) fn read_lock(builder: &Builder<'_>) -> Result<Option<Lock>, StageError> {
    files::sweep::remove_dead_files(&builder.recipe.directory, TEMPORARY);
    let Some(lock) = builder.recipe.lock()? else { return Ok(None) };
    let now = jiff::Timestamp::now().as_second();
    if lock.epoch > now {
        return Err(StageError::Clock { lock: builder.recipe.lock_name(), epoch: lock.epoch, now });
    }
    Ok(Some(lock))
}

pub(super) fn locking<'s>(builder: &'s Builder<'s>, fetcher: &'s Fetcher, supply: &'s Supply<'s>) -> Locking<'s> {
    Locking {
        recipe: builder.recipe,
        store: builder.store,
        namespace: builder.namespace,
        fetcher,
        supply,
        places: &builder.options.places,
        report: builder.report,
        made: &builder.shared.made,
        epoch: builder.shared.epoch,
    }
}

/// The lock, renewed where the recipe asks for what it lacks.
/// Errors: [`StageError::Locked`] where it may not be renewed, others from resolving.
pub(crate) fn lock(builder: &Builder<'_>, fetcher: &Fetcher, supply: &Supply<'_>) -> Result<Lock, StageError> {
    let earlier = read_lock(builder)?;
    let causes = match (lock_state(builder.recipe, earlier.as_ref()), earlier.as_ref()) {
        (LockState::Fresh, Some(lock)) => return Ok(lock.clone()),
        (LockState::Fresh, None) => Vec::new(),
        (LockState::Stale(causes) | LockState::FilesChanged(causes), _) => causes,
    };
    if builder.options.locked && !fault::planted("locked-resolves") {
        let problem = causes.iter().map(|cause| cause.message.clone()).collect::<Vec<_>>().join("; ");
        return Err(not_fitting(builder, &problem));
    }
    let held = earlier.as_ref().filter(|lock| lock.target == target(builder.recipe));
    let _alone = builder.shared.resolving.lock().unwrap_or_else(PoisonError::into_inner);
    if builder.shared.is_stopped() {
        return Err(StageError::Stopped);
    }
    fault::point("lock.before-resolve");
    let lock = locking(builder, fetcher, supply).resolve(held, &Renew::Nothing)?;
    builder.asked.store(true, Ordering::Relaxed);
    fault::point("lock.resolved");
    if let Some(earlier) = &earlier {
        say_difference(builder, &lock.difference(earlier));
    }
    write_lock(builder, &lock)?;
    Ok(lock)
}

/// Resolves all packages again, or those that are named; installs them, so that the lock has their ids too; writes the
/// lock. Gives the difference, a line a package, user or group.
/// Errors: [`StageError`]; image.lock is as before then.
pub fn update(builder: &Builder<'_>, update: &Update) -> Result<Vec<String>, StageError> {
    let fetcher = builder.fetcher()?;
    let supply = builder.supply(&fetcher);
    let earlier = read_lock(builder)?;
    let held = earlier.as_ref().filter(|lock| lock.target == target(builder.recipe));
    if let Some(lock) = &earlier {
        check_names(lock, &builder.recipe.lock_name(), &update.packages)?;
    }
    let renew = if update.packages.is_empty() { Renew::Everything } else { Renew::Named(update.packages.clone()) };
    let mut lock = locking(builder, &fetcher, &supply).resolve(held, &renew)?;
    builder.asked.store(true, Ordering::Relaxed);
    if let Some(epoch) = update.epoch {
        lock.epoch = epoch;
    }
    let work = builder.run_keeping_ids(&mut lock, &supply, &accounts::is_of_image)?;
    record_ids(builder, &mut lock, &work)?;
    write_lock(builder, &lock)?;
    builder.remember(&lock, &work, None)?;
    Ok(earlier.map(|earlier| lock.difference(&earlier)).unwrap_or_default())
}

/// Writes what the packages made into the lock, if it is not there yet.
/// Errors: [`StageError::Locked`] where the lock may not be renewed.
pub(crate) fn record_ids(builder: &Builder<'_>, lock: &mut Lock, work: &Work) -> Result<(), StageError> {
    let of_image = work.stages.graph.in_order().filter(|action| accounts::is_of_image(action));
    let found: BTreeMap<String, _> = of_image
        .filter_map(|action| {
            let outputs = work.done.0.get(&action.id)?;
            Some((action.layer().to_owned(), accounts::of_record(action, outputs)))
        })
        .collect();
    let before = lock.accounts();
    accounts::record(lock, &found);
    if lock.accounts() == before {
        return Ok(());
    }
    if builder.options.locked {
        let problem = "its users and groups differ from those that its packages create".to_owned();
        return Err(not_fitting(builder, &problem));
    }
    write_lock(builder, lock)
}

fn not_fitting(builder: &Builder<'_>, problem: &str) -> StageError {
    StageError::Locked { lock: builder.recipe.lock_name(), problem: problem.to_owned() }
}

pub(crate) fn write_lock(builder: &Builder<'_>, lock: &Lock) -> Result<(), StageError> {
    let path = builder.recipe.lock_path.clone();
    let said = |source| StageError::Publish { intent: "write", path: path.display().to_string(), source };
    let mut aside = Aside::of(&path, 0o644).map_err(said)?;
    std::io::Write::write_all(&mut aside, lock.to_text().as_bytes()).map_err(said)?;
    fault::point("lock.before-rename");
    aside.replace(Durability::PowerCut).map_err(said)
}

fn say_difference(builder: &Builder<'_>, lines: &[String]) {
    let lock = builder.recipe.lock_name();
    let say = |text: String| builder.report.finding(&Finding::nowhere(Severity::Note, "lock::changed", text));
    for line in lines.iter().take(SHOWN_DIFFERENCES) {
        say(format!("{lock}: {line}"));
    }
    if lines.len() > SHOWN_DIFFERENCES {
        say(format!("{lock}: and {} more; see the difference in git", lines.len() - SHOWN_DIFFERENCES));
    }
}

/// Packages that are to be updated must be in the lock.
fn check_names(lock: &Lock, lock_name: &str, names: &[String]) -> Result<(), StageError> {
    let known: Vec<&str> =
        lock.pass.iter().flat_map(|pass| &pass.packages).map(|package| package.name.as_str()).collect();
    for name in names {
        if !known.contains(&name.as_str()) {
            let near = nearest(name, known.iter().copied());
            let hint = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) };
            return Err(StageError::NotInLock { lock: lock_name.to_owned(), name: name.clone(), hint });
        }
    }
    Ok(())
}

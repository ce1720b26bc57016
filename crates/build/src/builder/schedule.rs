//! Runs actions side by side, each after those that it uses; results do not depend on how many at once.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::failed::Failed;
use crate::StageError;
use crate::bench::results::{Done, missing};
use base::failure::start;
use plan::Action;
use store::Outputs;

/// How one image's actions are run.
pub(crate) struct ScheduleOptions<'a> {
    /// How many at once.
    pub workers: usize,
    /// Whether what does not need a failed action goes on.
    pub keep_going: bool,
    /// Whether someone else wants all to stop.
    pub is_stopped: &'a (dyn Fn() -> bool + Sync),
    /// Takes which action failed, and failures after the first.
    pub failed: &'a Failed,
}

struct State {
    done: Done,
    started: BTreeSet<String>,
    running: usize,
    failed: Option<StageError>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

type Work<'a> = dyn Fn(&Action, &Done) -> Result<Outputs, StageError> + Sync + 'a;

/// Runs `actions`, given in an order that respects their dependencies.
///
/// After a failure nothing new starts, or, with `keep_going`, nothing that needs what failed; what runs is waited for, so
/// that its result is not lost.
/// Errors: The first failure.
pub(crate) fn run_side_by_side(
    actions: &[&Action],
    options: &ScheduleOptions<'_>,
    work: &Work<'_>,
) -> Result<Done, StageError> {
    let state = Mutex::new(State { done: Done::default(), started: BTreeSet::new(), running: 0, failed: None });
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        // This thread is one of them: where no other can be had, the work is done by fewer.
        for _ in 1..options.workers.clamp(1, actions.len().max(1)) {
            if start(scope, || worker(actions, &state, &changed, options, work)).is_err() {
                break;
            }
        }
        worker(actions, &state, &changed, options, work);
    });
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    match state.failed {
        Some(error) => Err(error),
        None if (options.is_stopped)() && state.done.0.len() < actions.len() => Err(StageError::Stopped),
        None if state.done.0.len() < actions.len() => Err(missing("an action")),
        None => Ok(state.done),
    }
}

fn worker(
    actions: &[&Action],
    state: &Mutex<State>,
    changed: &Condvar,
    options: &ScheduleOptions<'_>,
    work: &Work<'_>,
) {
    let mut held = lock(state);
    loop {
        if (held.failed.is_some() && !options.keep_going) || (options.is_stopped)() {
            return;
        }
        let ready = actions.iter().find(|action| {
            let uses = action.upstream.iter().map(|upstream| &upstream.action).chain(&action.needs);
            !held.started.contains(&action.id) && uses.into_iter().all(|id| held.done.0.contains_key(id))
        });
        let Some(action) = ready else {
            if held.running == 0 {
                return;
            }
            held = changed.wait(held).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        held.started.insert(action.id.clone());
        held.running += 1;
        let known = held.done.clone();
        drop(held);
        let outcome = work(action, &known);
        held = lock(state);
        held.running -= 1;
        match outcome {
            Ok(outputs) => drop(held.done.0.insert(action.id.clone(), outputs)),
            Err(error) => held.fail(action, error, options.failed),
        }
        changed.notify_all();
    }
}

impl State {
    /// Keeps the first failure as the reason; what stopped because of another failure is not a reason.
    fn fail(&mut self, action: &Action, error: StageError, failed: &Failed) {
        match &self.failed {
            None if matches!(error, StageError::Stopped) => self.failed = Some(error),
            None | Some(StageError::Stopped) => {
                failed.first(&action.id);
                self.failed = Some(error);
            }
            Some(_) if matches!(error, StageError::Stopped) => {}
            Some(_) => failed.more(&action.id, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plan::{ActionKind, Stage, Upstream};

    fn action(id: &str, uses: &[&str]) -> Action {
        let upstream = uses.iter().map(|id| Upstream { action: (*id).to_owned(), output: "layer".to_owned() });
        Action {
            id: id.to_owned(),
            stage: Stage::Rootfs,
            kind: ActionKind::Sync,
            version: 1,
            inputs: Vec::new(),
            upstream: upstream.collect(),
            needs: Vec::new(),
        }
    }

    fn options(failed: &Failed, workers: usize, keep_going: bool) -> ScheduleOptions<'_> {
        ScheduleOptions { workers, keep_going, is_stopped: &|| false, failed }
    }

    #[test]
    fn each_runs_once_after_what_it_uses() {
        let all = [action("a", &[]), action("b", &["a"]), action("c", &["a"]), action("d", &["b", "c"])];
        let all: Vec<&Action> = all.iter().collect();
        for workers in [1, 2, 8] {
            let order = Mutex::new(Vec::new());
            let done = run_side_by_side(&all, &options(&Failed::default(), workers, false), &|action, known| {
                assert!(action.upstream.iter().all(|upstream| known.0.contains_key(&upstream.action)));
                order.lock().unwrap().push(action.id.clone());
                Ok(Outputs::default())
            });
            assert_eq!(done.unwrap().0.len(), 4);
            let order = order.into_inner().unwrap();
            assert_eq!((order.len(), order[0].as_str(), order[3].as_str()), (4, "a", "d"));
        }
    }

    #[test]
    fn after_a_failure_nothing_new_starts() {
        let all = [action("a", &[]), action("b", &["a"])];
        let all: Vec<&Action> = all.iter().collect();
        let outcome = run_side_by_side(&all, &options(&Failed::default(), 2, false), &|action, _| {
            assert_eq!(action.id, "a");
            Err(StageError::Locked { lock: "l".to_owned(), problem: "x".to_owned() })
        });
        assert!(matches!(outcome, Err(StageError::Locked { .. })));
    }

    #[test]
    fn keeping_on_runs_all_that_needs_nothing_that_failed() {
        let all =
            [action("a", &[]), action("b", &[]), action("c", &["a"]), action("d", &["b"]), action("e", &["c", "d"])];
        let all: Vec<&Action> = all.iter().collect();
        let (ran, failed) = (Mutex::new(BTreeSet::new()), Failed::default());
        let outcome = run_side_by_side(&all, &options(&failed, 1, true), &|action, _| {
            ran.lock().unwrap().insert(action.id.clone());
            match action.id.as_str() {
                "a" | "d" => Err(StageError::Locked { lock: "l".to_owned(), problem: action.id.clone() }),
                _ => Ok(Outputs::default()),
            }
        });
        assert!(matches!(outcome, Err(StageError::Locked { problem, .. }) if problem == "a"));
        assert_eq!(ran.into_inner().unwrap().into_iter().collect::<Vec<_>>(), ["a", "b", "d"]);
    }

    #[test]
    fn the_word_of_another_image_stops_it() {
        let all = [action("a", &[])];
        let all: Vec<&Action> = all.iter().collect();
        let failed = Failed::default();
        let options = ScheduleOptions { workers: 1, keep_going: false, is_stopped: &|| true, failed: &failed };
        let outcome = run_side_by_side(&all, &options, &|_, _| Ok(Outputs::default()));
        assert!(matches!(outcome, Err(StageError::Stopped)));
    }
}

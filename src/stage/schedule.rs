//! Runs actions side by side, each after those that it uses; results do not depend on how many at once.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::StageError;
use super::results::{Done, missing};
use crate::plan::Action;
use crate::store::Outputs;

struct State {
    done: Done,
    started: BTreeSet<String>,
    running: usize,
    failed: Option<StageError>,
}

/// A panic in one worker is that worker's; the state of the others stays usable.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `actions`, given in an order that respects their dependencies, by up to `workers` threads.
///
/// After a failure nothing new starts; what runs is waited for, so that its result is not lost.
///
/// # Errors
/// The first failure.
pub fn run_side_by_side(
    actions: &[&Action],
    workers: usize,
    work: &(dyn Fn(&Action, &Done) -> Result<Outputs, StageError> + Sync),
) -> Result<Done, StageError> {
    let state = Mutex::new(State { done: Done::default(), started: BTreeSet::new(), running: 0, failed: None });
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        for _ in 0..workers.clamp(1, actions.len().max(1)) {
            scope.spawn(|| worker(actions, &state, &changed, work));
        }
    });
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    match state.failed {
        Some(error) => Err(error),
        None if state.done.0.len() < actions.len() => Err(missing("an action")),
        None => Ok(state.done),
    }
}

fn worker(
    actions: &[&Action],
    state: &Mutex<State>,
    changed: &Condvar,
    work: &(dyn Fn(&Action, &Done) -> Result<Outputs, StageError> + Sync),
) {
    let mut held = lock(state);
    loop {
        if held.failed.is_some() {
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
        let attempt = std::panic::AssertUnwindSafe(|| work(action, &known));
        let outcome = std::panic::catch_unwind(attempt).unwrap_or_else(|_| Err(missing(&action.id)));
        held = lock(state);
        held.running -= 1;
        match outcome {
            Ok(outputs) => drop(held.done.0.insert(action.id.clone(), outputs)),
            // What stopped because of another failure is not the reason.
            Err(error) if held.failed.as_ref().is_none_or(|known| matches!(known, StageError::Stopped)) => {
                held.failed = Some(error);
            }
            Err(_) => {}
        }
        changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Stage, Upstream};

    fn action(id: &str, uses: &[&str]) -> Action {
        let upstream = uses.iter().map(|id| Upstream { action: (*id).to_owned(), output: "layer".to_owned() });
        Action {
            id: id.to_owned(),
            stage: Stage::Rootfs,
            kind: "test",
            version: 1,
            inputs: Vec::new(),
            upstream: upstream.collect(),
            needs: Vec::new(),
        }
    }

    #[test]
    fn each_runs_once_after_what_it_uses() {
        let all = [action("a", &[]), action("b", &["a"]), action("c", &["a"]), action("d", &["b", "c"])];
        let all: Vec<&Action> = all.iter().collect();
        for workers in [1, 2, 8] {
            let order = Mutex::new(Vec::new());
            let done = run_side_by_side(&all, workers, &|action, known| {
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
        let outcome = run_side_by_side(&all, 2, &|action, _| {
            assert_eq!(action.id, "a");
            Err(StageError::Locked { problem: "x".to_owned() })
        });
        assert!(matches!(outcome, Err(StageError::Locked { .. })));
    }
}

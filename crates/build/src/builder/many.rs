//! Several images in one command: side by side, and what became of each.

use crate::builder::verify::build_and_verify;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::run::{Builder, Summary};
use super::shared::SharedBuild;
use crate::StageError;
use base::failure::start;

/// How many images are looked after at once at most; their actions share the same turns.
const IMAGES_AT_ONCE: usize = 8;

#[derive(Debug)]
pub struct Failure {
    /// The action; none where it was none of the plan's, for instance locking or publishing.
    pub action: Option<String>,
    pub error: StageError,
}

#[derive(Debug)]
pub struct ImageOutcome {
    /// What was done, or all that failed, the first thing first.
    pub result: Result<Summary, Vec<Failure>>,
    pub took: Duration,
}

/// Builds images side by side. Gives an outcome for each, in the order given; none for those that were not begun because an
/// earlier one had failed. `done` is called as soon as an image is.
pub fn build_images(
    builders: &[Builder<'_>],
    shared: &SharedBuild,
    jobs: usize,
    verify: bool,
    done: &(dyn Fn(usize, &ImageOutcome) + Sync),
) -> Vec<Option<ImageOutcome>> {
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<Option<ImageOutcome>>> = Mutex::new(builders.iter().map(|_| None).collect());
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(builder) = builders.get(index).filter(|_| !shared.is_stopped()) else { return };
            let outcome = build_one(builder, verify);
            if outcome.result.is_err() && !shared.keep_going {
                shared.stop();
            }
            done(index, &outcome);
            outcomes.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(outcome);
        }
    };
    std::thread::scope(|scope| {
        // This thread is one of them: where no other can be had, the work is done by fewer.
        for _ in 1..jobs.clamp(1, IMAGES_AT_ONCE).min(builders.len().max(1)) {
            if start(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn build_one(builder: &Builder<'_>, verify: bool) -> ImageOutcome {
    let began = Instant::now();
    let result = if verify { build_and_verify(builder) } else { builder.build() };
    let result = result.map_err(|error| {
        let mut failed = builder.failed.take();
        let first = failed.iter().position(|(_, other)| other.is_none()).map(|at| failed.remove(at).0);
        let more =
            failed.into_iter().filter_map(|(action, error)| Some(Failure { action: Some(action), error: error? }));
        std::iter::once(Failure { action: first, error }).chain(more).collect()
    });
    ImageOutcome { result, took: began.elapsed() }
}

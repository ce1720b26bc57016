//! Failed actions of an image, until they are reported.

use std::sync::{Mutex, PoisonError};

use crate::StageError;

/// Actions that failed in one attempt: the error that the attempt itself gives is left out.
#[derive(Debug, Default)]
pub struct Failed(Mutex<Vec<(String, Option<StageError>)>>);

impl Failed {
    /// Notes which action's error the attempt gives.
    pub(crate) fn first(&self, action: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((action.to_owned(), None));
    }

    pub(crate) fn more(&self, action: &str, error: StageError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((action.to_owned(), Some(error)));
    }

    /// Gives all, and forgets them.
    pub(crate) fn take(&self) -> Vec<(String, Option<StageError>)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets all: the attempt is made again.
    pub(crate) fn clear(&self) {
        drop(self.take());
    }
}

//! Fills caches while a build runs: what is finished is of use to others although the rest fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use super::{Layers, packages_of, said};
use crate::builder::run::Builder;
use base::digest::Digest;
use cache::Cache;
use plan::ActionGraph;
use recipe::Lock;

pub(crate) struct Meanwhile<'b> {
    builder: &'b Builder<'b>,
    cache: Option<&'b Cache>,
    to: Mutex<Option<Sender<Digest>>>,
    from: Mutex<Option<Receiver<Digest>>>,
    is_over: AtomicBool,
}

/// Ends it in any case: no thread waits for actions of a build that panicked.
pub(crate) struct Ending<'m, 'b>(pub &'m Meanwhile<'b>);

impl Drop for Ending<'_, '_> {
    fn drop(&mut self) {
        drop(self.0.to.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl<'b> Meanwhile<'b> {
    /// For a build; nothing where no cache takes anything.
    pub(crate) fn of(builder: &'b Builder<'b>) -> Self {
        let shared = builder.shared;
        let cache = shared.cache.as_ref().filter(|cache| shared.deliver.is_none() && cache.takes());
        let (to, from) = channel();
        Self {
            builder,
            cache,
            to: Mutex::new(cache.map(|_| to)),
            from: Mutex::new(cache.map(|_| from)),
            is_over: AtomicBool::new(false),
        }
    }

    pub(crate) fn ran(&self, key: Digest) {
        if let Some(to) = &*self.to.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = to.send(key);
        }
    }

    /// No action runs now. Where all went well the rest is left for the end, when the image is published; otherwise what waits is
    /// still brought.
    pub(crate) fn end(&self, is_good: bool) {
        self.is_over.store(is_good, Ordering::Relaxed);
        drop(self.to.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn is_ended(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || self.builder.shared.is_stopped()
    }

    /// Brings what ran, until [`Meanwhile::end`].
    pub(crate) fn run(&self, lock: &Lock, graph: &ActionGraph) {
        let from = self.from.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(cache), Some(from)) = (self.cache, from) else { return };
        for key in from {
            if self.is_ended() {
                return;
            }
            let record = self.builder.store.record(&key).filter(|record| record.differing.is_none());
            let Some(record) = record else { continue };
            // Something failed: this is what is waited for now.
            if self.to.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                self.builder.report.progress(&format!("to the cache: {}", record.action));
            }
            let turn = |_: &_| !self.is_ended();
            // Now, and not before it ran: its packages are there.
            let layers = Layers { builder: self.builder, packages: packages_of(self.builder, lock, graph) };
            let done = cache.fill(self.builder.store, &[(record, true)], &layers, &turn, &said(self.builder));
            // What is wrong here is seen at the end of the build too, and said there.
            let Ok(done) = done else { return };
            if done.actions > 0 {
                let mut filled = self.builder.shared.filled.lock().unwrap_or_else(PoisonError::into_inner);
                filled.0.insert(key);
                filled.1.actions += done.actions;
                filled.1.bytes += done.bytes;
            }
        }
    }
}

//! What answers of nodes may take of this machine's memory: all nodes of a command together, and each of them.
//!
//! A node that someone else owns says what it likes. It can spend what is left for all, and then its own share; the shares of the
//! others stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes for those who need them first.
const SHARED: u64 = 384 << 20;
/// Bytes for what is kept of all answers until the last node is done, beyond what every node may say.
const KEPT: u64 = 64 << 20;
/// Bytes that are divided among the nodes that are asked at one time.
const DIVIDED: u64 = 128 << 20;

const TOO_LONG: &str = "the node's answer is longer than the limit for all nodes";

#[derive(Debug, Clone)]
pub(crate) struct Pool {
    left: Arc<AtomicU64>,
    to_keep: Arc<AtomicU64>,
    share: u64,
}

impl Pool {
    /// For so many nodes at one time.
    pub(crate) fn of(nodes: usize) -> Self {
        let [left, to_keep] = [SHARED, KEPT].map(|bytes| Arc::new(AtomicU64::new(bytes)));
        Self { left, to_keep, share: DIVIDED / (nodes.max(1) as u64) }
    }

    pub(crate) fn purse(&self) -> Purse {
        Purse { pool: self.clone(), own: self.share, taken: 0 }
    }
}

/// What one node may still spend; dropped, it gives back what it took of the others'.
#[derive(Debug)]
pub(crate) struct Purse {
    pool: Pool,
    own: u64,
    taken: u64,
}

impl Purse {
    /// Spends bytes that are kept.
    /// Errors: There are not so many left.
    pub(crate) fn spend(&mut self, bytes: u64) -> Result<(), String> {
        let take = |left: u64| left.checked_sub(bytes);
        if self.pool.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            self.taken += bytes;
            return Ok(());
        }
        self.own = self.own.checked_sub(bytes).ok_or(TOO_LONG)?;
        Ok(())
    }

    /// Counts bytes that are kept when this node is done.
    /// Errors: There are not so many left.
    pub(crate) fn keep(&self, bytes: u64) -> Result<(), String> {
        let take = |left: u64| left.checked_sub(bytes);
        let taken = self.pool.to_keep.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map(drop).map_err(|_| TOO_LONG.to_owned())
    }
}

impl Drop for Purse {
    fn drop(&mut self) {
        self.pool.left.fetch_add(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_spends_no_more_than_leaves_the_others_their_shares() {
        let pool = Pool::of(8);
        let (mut greedy, mut other) = (pool.purse(), pool.purse());
        while greedy.spend(1 << 20).is_ok() {}
        assert!(greedy.spend(1 << 20).is_err());
        other.spend(DIVIDED / 8).unwrap();
        assert!(other.spend(1).is_err());
        drop(greedy);
        other.spend(SHARED).unwrap();
        // What is kept stays spent.
        drop(other);
        pool.purse().keep(KEPT).unwrap();
        assert!(pool.purse().keep(1).is_err());
    }
}

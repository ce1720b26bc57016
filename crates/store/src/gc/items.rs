//! What a store's files are, and how long gc keeps what no build needs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

const DAY: Duration = Duration::from_secs(86_400);

/// How long what a plan remembered is kept: the recipe may be gone, and the next plan writes it again.
const MEMO_AGE: Duration = Duration::from_secs(30 * 86_400);

/// How long logs are kept: a message that names one may be read days later.
const LOG_AGE: Duration = Duration::from_secs(14 * 86_400);

/// Which builds gc keeps. Pinned ones are kept whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The last so many builds of each image that differ.
    pub keep: usize,
    /// None that was made or confirmed longer ago.
    pub max_age: Option<Duration>,
    /// So few that what they reach has at most so many bytes: the oldest go first.
    pub max_size: Option<u64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { keep: if fault::planted("keeps-too-few") { 1 } else { Self::KEEP }, max_age: None, max_size: None }
    }
}

impl Policy {
    /// Builds of an image that are kept unless someone says otherwise: a step back and one more.
    pub const KEEP: usize = 3;

    /// How long something is kept that no build needs: logs and what plans remembered, and for a day what was fetched for a
    /// build that has not come to its end, unless the store has to become small.
    pub(super) fn grace(&self, kind: ItemKind) -> Duration {
        let most = match kind {
            // Only the next plan takes longer without it, and it is small.
            ItemKind::Memo => return MEMO_AGE,
            ItemKind::Log => LOG_AGE,
            ItemKind::Package | ItemKind::Decompressed | ItemKind::Index | ItemKind::Solving
                if self.max_size.is_none() =>
            {
                DAY
            }
            _ => Duration::ZERO,
        };
        self.max_age.map_or(most, |age| age.min(most))
    }
}

/// What a file or directory of the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ItemKind {
    /// A layer: its directory.
    Layer,
    /// A layer's manifest.
    Manifest,
    /// A frame of a packed image.
    Frame,
    /// A file that an action gave.
    Blob,
    /// A package file.
    Package,
    /// A package without its slow compression.
    Decompressed,
    /// An index of a repository.
    Index,
    /// What a package manager made of indices, to resolve faster.
    Solving,
    /// The record of an action.
    Record,
    /// What is remembered of a build.
    Build,
    /// What a plan remembered.
    Memo,
    /// A log.
    Log,
    /// A file between the two sides of the sandbox.
    Handover,
    /// What a running command works in, or a killed one left.
    Scratch,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub path: String,
    pub kind: ItemKind,
    pub bytes: u64,
    /// How long ago it was written.
    pub age: Duration,
}

impl Item {
    /// Whether it belongs to root inside, and is removed from there.
    pub fn is_inside(&self) -> bool {
        use ItemKind::{Decompressed, Frame, Handover, Layer, Log, Manifest, Solving};
        matches!(self.kind, Layer | Manifest | Frame | Log | Handover | Solving | Decompressed)
    }
}

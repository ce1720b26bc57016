//! Layers and frames in one file, to carry them to another machine or user. Runs inside the namespace.
//!
//! One zstd stream:
//!
//! 1. a line of JSON, the [`Contents`];
//! 2. for each layer its manifest, and a second one of the directories that its tree has and its manifest has not,
//!    because they are as in the layers below;
//! 3. the content of each file of the layers, in the order of layers and paths; content that came already comes no more;
//! 4. for each frame the file and the one beside it that describes it.
//!
//! Nothing says where a content begins: both sides walk the same manifests. A reader checks each manifest and each
//! content against its BLAKE3 before it gives it a name in the store. Owners are those of root inside, so the file means
//! the same for every user.

mod carry;
mod read;
mod tree;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Entry, Manifest};
use base::digest::Digest;

pub use carry::{Brought, Carried};
pub use read::{LoadRequest, Loaded, load_layers};
pub use write::{SaveRequest, save_layers};

const FORMAT: u32 = 1;

/// Largest header, manifest or description of a frame that is read, in bytes: 800,000 files of one layer.
const TEXT_LIMIT: u64 = 128 << 20;

/// What comes, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Contents {
    format: u32,
    layers: Vec<LayerTexts>,
    frames: Vec<FrameFiles>,
}

/// A layer and the sizes of its two texts, in bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LayerTexts {
    layer: Digest,
    manifest: u64,
    skeleton: u64,
}

/// A frame and the sizes of its two files, in bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct FrameFiles {
    frame: Digest,
    size: u64,
    info: u64,
}

/// Which of a layer's files carry content, and what the others are names of.
struct Names<'m> {
    first: BTreeMap<&'m str, &'m str>,
}

impl<'m> Names<'m> {
    fn of(manifest: &'m Manifest) -> Self {
        let mut first = BTreeMap::new();
        for (path, entry) in &manifest.0 {
            if let Some(group) = &entry.link_group {
                first.entry(group.as_str()).or_insert(path.as_str());
            }
        }
        Self { first }
    }

    /// The path of the same layer that this one is another name of.
    fn other_name(&self, path: &str, entry: &Entry) -> Option<&'m str> {
        let first = self.first.get(entry.link_group.as_deref()?)?;
        (*first != path).then_some(*first)
    }
}

/// Contents that the stream has had so far.
#[derive(Debug, Default)]
struct Seen(BTreeSet<Digest>);

impl Seen {
    /// Whether the stream has to bring this content now.
    fn is_new(&mut self, digest: &Digest) -> bool {
        self.0.insert(*digest)
    }
}

#[cfg(test)]
mod tests;

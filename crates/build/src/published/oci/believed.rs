//! What is in a published image by a cache's word alone.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use crate::published::artefacts::BuildInfo;
use base::digest::Digest;
use store::Store;

/// An action whose result no one signed, and that was not compared with what it gives here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct OnlyBelieved {
    pub action: String,
    /// The cache that said so.
    pub cache: String,
}

/// The actions of a published image whose results are a cache's word alone, by the records of the store that built it: those that
/// made one of its layers or frames, and all others of that build.
pub fn only_believed(store: &Store, directory: &Path, info: &BuildInfo) -> Vec<OnlyBelieved> {
    let is_of_it = |published: &Path| witness::canonicalize(published).is_ok_and(|published| published == directory);
    // A root that cannot be read is no reason not to push; layers have their names in build.json.
    let roots = store.roots().unwrap_or_default();
    let (mut keys, mut frames) = (BTreeSet::new(), BTreeSet::new());
    for root in roots.into_iter().filter(|root| root.image == info.name && is_of_it(&root.published)) {
        keys.extend(root.actions.into_values());
        frames.extend(root.frames);
    }
    let layers: BTreeSet<Digest> = info.layers.iter().filter_map(|(_, digest)| Digest::parse(digest).ok()).collect();
    let believed = store.believed().filter(|record| {
        keys.contains(&record.key)
            || record.outputs.layer.is_some_and(|layer| layers.contains(&layer))
            || record.outputs.frames.iter().any(|frame| frames.contains(frame))
    });
    let found: BTreeSet<OnlyBelieved> = believed
        .filter(|_| !fault::planted("push-believed-silent"))
        .filter_map(|record| Some(OnlyBelieved { action: record.action, cache: record.believed? }))
        .collect();
    found.into_iter().collect()
}

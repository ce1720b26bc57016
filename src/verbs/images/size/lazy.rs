//! What a root that is read over the network means for an image.

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::output::render;
use build::BuildInfo;

/// Largest index that is read, in bytes; imgbuild-init has the same limit.
const LARGEST_INDEX: u64 = 64 << 20;
/// The word of such a root on the kernel's command line.
const WORD: &str = "imgbuild.root=lazy";

/// What nodes fetch of an image, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LazyRoot {
    /// Bytes of the index, which come first.
    pub index: u64,
    /// Bytes of the first frame: without it no node starts.
    pub first_frame: u64,
    /// Frames of the image.
    pub frames: usize,
    /// Bytes of the image: what it takes of a node's memory when all frames are there.
    pub hydrated: u64,
}

#[derive(Deserialize)]
struct Index {
    size: u64,
    frames: Vec<Frame>,
}

#[derive(Deserialize)]
struct Frame {
    size: u64,
}

/// What it means for what is published in a directory; none where nodes fetch the image whole, or the index cannot be read.
pub(super) fn of(directory: &Path, info: &BuildInfo) -> Option<LazyRoot> {
    let is_lazy =
        info.cmdline.iter().rfind(|word| word.starts_with("imgbuild.root=")).is_some_and(|word| word.starts_with(WORD));
    let rootimg = info.forms().into_iter().next().filter(|_| is_lazy)?;
    let file = std::fs::File::open(directory.join(format!("{rootimg}.index"))).ok()?;
    let mut text = Vec::new();
    file.take(LARGEST_INDEX).read_to_end(&mut text).ok()?;
    let index: Index = serde_json::from_slice(&text).ok()?;
    Some(LazyRoot {
        index: text.len() as u64,
        first_frame: index.frames.first()?.size,
        frames: index.frames.len(),
        hydrated: index.size,
    })
}

impl LazyRoot {
    /// A line for people.
    pub(super) fn text(&self) -> String {
        let Self { index, first_frame, frames, hydrated } = *self;
        format!(
            "  nodes read their root over the network: {} of index and first frame, then what they read; {} of memory when all {frames} frames are there\n",
            render::bytes(index.saturating_add(first_frame)),
            render::bytes(hydrated)
        )
    }
}

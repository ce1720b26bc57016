//! The forms of an image that are published side by side, for the same kernel and initrd.

use serde::{Deserialize, Serialize};

use crate::StageError;
use crate::actions::pack_action;
use crate::bench::results::Done;
use base::digest::Digest;
use recipe::Recipe;
use store::BlobRef;

/// One more form of the image, in the file `rootimg` beside the first one's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PublishedForm {
    /// Name of the packed image.
    pub rootimg: String,
    /// Words for the kernel's command line of a node that is to boot it; `{url}` stands for the directory of these files on the server.
    pub cmdline: Vec<String>,
    /// Memory that it takes, in bytes.
    pub memory: u64,
}

pub(crate) struct PackedImage {
    pub rootimg: &'static str,
    pub index: BlobRef,
    /// Its frames, in order.
    pub frames: Vec<Digest>,
    /// Memory of the unpacked image, in bytes.
    pub memory: u64,
}

/// The forms that the recipe asks for, as their actions made them.
/// Errors: A result that is not there.
pub(crate) fn packed_images(recipe: &Recipe, done: &Done) -> Result<Vec<PackedImage>, StageError> {
    let forms = recipe.model.pack.forms().into_iter();
    forms
        .map(|form| {
            let id = pack_action(&form);
            Ok(PackedImage {
                rootimg: form.rootimg(),
                index: done.blob(&id, "index")?,
                frames: done.0.get(&id).map(|outputs| outputs.frames.clone()).unwrap_or_default(),
                memory: done.value(&id, "memory")?.parse().unwrap_or(0),
            })
        })
        .collect()
}

//! The forms of an image that are published side by side, for the same kernel and initrd.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::artefacts::{Artefact, BuildInfo, sha256_of};
use crate::digest::Digest;
use crate::recipe::Recipe;
use crate::stage::StageError;
use crate::stage::actions::pack_action;
use crate::stage::results::Done;
use crate::store::BlobRef;

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

/// A form of the image as an action made it.
pub struct PackedImage {
    /// Name of its file.
    pub rootimg: &'static str,
    /// The index.
    pub index: BlobRef,
    /// Its frames, in order.
    pub frames: Vec<Digest>,
    /// Memory of the unpacked image, in bytes.
    pub memory: u64,
}

/// The forms that the recipe asks for, as their actions made them.
///
/// # Errors
/// A result that is not there.
pub fn packed_images(recipe: &Recipe, done: &Done) -> Result<Vec<PackedImage>, StageError> {
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

impl BuildInfo {
    /// Words for the kernel's command line, and the memory in bytes, of a form by the name of its file.
    pub fn form(&self, rootimg: &str) -> Option<(&[String], u64)> {
        let first = format!("imgurl={{url}}/{rootimg}");
        if self.cmdline.iter().any(|word| *word == first) {
            return Some((&self.cmdline, self.memory));
        }
        self.also.iter().find(|form| form.rootimg == rootimg).map(|form| (&form.cmdline[..], form.memory))
    }

    /// Names of the packed images, the one first that nodes boot.
    pub fn forms(&self) -> Vec<&str> {
        let first = self.cmdline.iter().find_map(|word| word.strip_prefix("imgurl={url}/"));
        first.into_iter().chain(self.also.iter().map(|form| form.rootimg.as_str())).collect()
    }
}

/// Takes the packed image of what is published already by one more link, where its index is the same and its bytes are those.
pub fn reused((directory, info): &(PathBuf, BuildInfo), index: &Artefact, into: &Path) -> Option<Artefact> {
    let rootimg = index.name.strip_suffix(".index")?;
    let same_index = info.artefacts.iter().any(|one| one.name == index.name && one.sha256 == index.sha256);
    let artefact = info.artefacts.iter().find(|artefact| artefact.name == rootimg)?;
    let (from, to) = (directory.join(rootimg), into.join(rootimg));
    let whole = std::fs::metadata(&from).is_ok_and(|metadata| metadata.len() == artefact.size);
    if same_index && whole && std::fs::hard_link(&from, &to).is_ok() {
        if sha256_of(&to).is_ok_and(|digest| digest == artefact.sha256) {
            return Some(artefact.clone());
        }
        let _ = std::fs::remove_file(&to);
    }
    None
}

//! Frames that the store has, with what describes each. What describes one gets into the index and into tables, so it carries a
//! digest of itself as records of actions do: where a byte of it is another one, the frame is made again.

use std::io;

use serde::Serialize;

use archive::FrameInfo;
use base::digest::Digest;
use store::{Seal, Store, replace, seal, sealed};

fn info_name(key: &Digest) -> String {
    format!("{}.info", Store::frame_name(key))
}

/// What is known of a frame that is there.
pub(super) fn info<I: serde::de::DeserializeOwned>(key: &Digest) -> Option<I> {
    let text = std::fs::read(info_name(key)).ok().filter(|text| seal(text) == Seal::Whole)?;
    let info: FrameInfo = serde_json::from_slice(&text).ok()?;
    let size = std::fs::metadata(Store::frame_name(key)).ok()?.len();
    (size == info.size).then(|| serde_json::from_slice(&text).ok()).flatten()
}

/// Puts a frame that was written aside into its place, with what describes it.
pub(super) fn keep(aside: &str, key: &Digest, info: &impl Serialize) -> Result<(), String> {
    let said = |error: io::Error| format!("cannot pack: {error}");
    let name = Store::frame_name(key);
    if let Some((parent, _)) = name.rsplit_once('/') {
        std::fs::create_dir_all(parent).map_err(said)?;
    }
    let text = sealed(&serde_json::to_string(info).map_err(|error| error.to_string())?);
    let info_aside = format!("{aside}.info");
    std::fs::write(&info_aside, text).map_err(said)?;
    fault::point("pack.before-rename");
    // What describes it comes last: a frame without it does not count.
    replace(aside, &name).and_then(|()| replace(&info_aside, &info_name(key))).map_err(said)
}

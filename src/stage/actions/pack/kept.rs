//! Frames that the store has, with what describes each. What describes one gets into the index and into tables, so it carries a
//! digest of itself as records of actions do: where a byte of it is another one, the frame is made again.

use std::io;

use serde::Serialize;

use crate::archive::FrameInfo;
use crate::digest::Digest;
use crate::fault;
use crate::store::{Store, replace};

fn info_name(key: &Digest) -> String {
    format!("{}.info", Store::frame_name(key))
}

/// How the text ends: a last field with BLAKE3 of all bytes before it.
fn end(body: &[u8]) -> String {
    format!(",\"digest\":\"{}\"}}", Digest::of(body))
}

/// The text of what describes a frame.
fn described(info: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = serde_json::to_vec(info)?;
    text.pop();
    let end = end(&text);
    text.extend_from_slice(end.as_bytes());
    Ok(text)
}

/// Whether the text is as it was written.
fn is_whole(text: &[u8]) -> bool {
    let length = end(&[]).len();
    text.split_at_checked(text.len().saturating_sub(length)).is_some_and(|(body, last)| last == end(body).as_bytes())
}

/// What is known of a frame that is there.
pub(super) fn info<I: serde::de::DeserializeOwned>(key: &Digest) -> Option<I> {
    let text = std::fs::read(info_name(key)).ok().filter(|text| is_whole(text))?;
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
    let text = described(info).map_err(|error| error.to_string())?;
    let info_aside = format!("{aside}.info");
    std::fs::write(&info_aside, text).map_err(said)?;
    fault::point("pack.before-rename");
    // What describes it comes last: a frame without it is none.
    replace(aside, &name).and_then(|()| replace(&info_aside, &info_name(key))).map_err(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_describes_a_frame_is_as_it_was_written_or_nothing() {
        let info = FrameInfo::of(b"bytes", 7);
        let text = described(&info).unwrap();
        assert!(is_whole(&text));
        assert_eq!(serde_json::from_slice::<FrameInfo>(&text).unwrap(), info);
        for at in 0..text.len() {
            let mut other = text.clone();
            other[at] ^= 1;
            assert!(!is_whole(&other), "byte {at}");
            assert!(!is_whole(&text[..at]));
        }
        // As an earlier imgbuild wrote it.
        assert!(!is_whole(&serde_json::to_vec(&info).unwrap()));
    }
}

//! An image that lies here already, unpacked into a directory: what a server of NFS gives to nodes. imgbuild runs this program for it,
//! so that such a root is exactly what nodes unpack into memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::index::{check_index, sha256};
use super::unpacked::{set_attributes, unpack_frames};
use super::{index::Index, make_root_at};
use crate::sys::Devices;

/// Unpacks it into an empty directory; each frame is checked first. The machine is not the image's: devices are refused.
///
/// # Errors
/// A text; what is in the directory is no image then.
pub(crate) fn unpack(index: &Path, image: &Path, directory: &str) -> Result<(), String> {
    let said = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| format!("{path}: {error}")
    };
    let bytes = std::fs::read(index).map_err(said(index))?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", index.display()))?;
    check_index(&index)?;
    if index.stays_packed() {
        return Err(format!("{} stays packed: only cpio and tar can be unpacked", index.archive));
    }
    let file = File::open(image).map_err(said(image))?;
    let there = file.metadata().map_err(said(image))?.len();
    if index.size != there {
        return Err(format!("{} has {there} bytes, and its index says {}", image.display(), index.size));
    }
    make_root_at(directory);
    unpack_frames(&index, Devices::Refused, |take| {
        for frame in &index.frames {
            let size = usize::try_from(frame.size).map_err(|error| error.to_string())?;
            let mut bytes = vec![0; size];
            file.read_exact_at(&mut bytes, frame.offset).map_err(said(image))?;
            if sha256(&bytes) != frame.sha256 {
                return Err(format!(
                    "wrong digest: bytes {} to {} of {}",
                    frame.offset,
                    frame.offset + frame.size,
                    image.display()
                ));
            }
            take(frame, bytes)?;
        }
        Ok(())
    })?;
    set_attributes(&index)
}

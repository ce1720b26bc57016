//! An image that stays packed: fetched whole into memory, each frame checked as it comes, mounted as it is, with a tmpfs above
//! it that takes what the node writes.

use std::io::Write;

use crate::cmdline::Parameters;
use crate::fetch::Client;
use crate::image::{Index, fetch_frames, root, set_attributes};
use crate::modules::Modules;
use crate::{loops, say, sys};

/// A tmpfs of the image's size, with the image in it.
const HELD: &str = "/imgbuild-image";
/// The image, mounted.
const LOWER: &str = "/imgbuild-lower";
/// A tmpfs with what the node writes.
const UPPER: &str = "/imgbuild-upper";

/// Fetches the image and mounts it where the new root is made.
///
/// # Errors
/// A text; nothing stays mounted, and no memory taken.
pub fn mount(
    client: &Client,
    url: &str,
    index: &Index,
    parameters: &Parameters,
    modules: &Modules,
) -> Result<(), String> {
    // What is built in is not among a kernel's modules.
    for name in ["loop", &index.archive, "overlay"] {
        modules.load(name);
    }
    let outcome = assemble(client, url, index, parameters);
    // What is mounted above holds them; where nothing is, their memory is free again.
    for place in [HELD, LOWER, UPPER] {
        sys::unmount(place);
    }
    if outcome.is_err() {
        sys::unmount(root());
    }
    outcome
}

fn assemble(client: &Client, url: &str, index: &Index, parameters: &Parameters) -> Result<(), String> {
    // A page more: the size of a tmpfs is counted in pages.
    let size = (index.size + 4096).to_string();
    sys::mount_root(HELD, &size, parameters.root_flags.as_deref())
        .map_err(|error| format!("memory for the image cannot be had: {error}"))?;
    let path = format!("{HELD}/rootimg");
    let mut file = std::fs::File::create(&path).map_err(|error| format!("{path}: {error}"))?;
    fetch_frames(client, url, index, &mut |bytes| {
        file.write_all(&bytes).map_err(|error| format!("the image cannot be kept in memory: {error}"))
    })?;
    drop(file);
    let said = |error: std::io::Error| {
        format!("the image cannot be mounted: {error}; does this kernel have loop and {}?", index.archive)
    };
    let image = std::fs::File::open(&path).map_err(|error| format!("{path}: {error}"))?;
    let device = loops::attach(&image).map_err(said)?;
    sys::mount_image(&device.path, LOWER, &index.archive).map_err(said)?;
    // From here on the mount holds the device, and the device the image.
    drop(device);
    let _ = std::fs::remove_file(&path);
    sys::mount_root(UPPER, parameters.root_limit.as_deref().unwrap_or("90%"), parameters.root_flags.as_deref())
        .map_err(|error| {
            format!("the node's own part of the root cannot be made: {error}; are rootlimit= and rootflags= options of tmpfs?")
        })?;
    sys::mount_overlay(root(), LOWER, UPPER).map_err(|error| {
        format!("the image and the node's own part cannot be joined: {error}; does this kernel have overlay?")
    })?;
    set_attributes(index)?;
    say!("the image is mounted as it is: {} MiB of memory", index.size >> 20);
    Ok(())
}

//! An image that stays packed: fetched whole into memory or onto a disk of the node, each frame checked, mounted as it is, with
//! a file system above it that takes what the node writes.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::download::Download;
use super::fetch::Client;
use super::index::Index;
use super::servers::Servers;
use super::unpacked::{check_memory, set_attributes};
use super::{loops, place, root};
use crate::cmdline::Parameters;
use crate::image::cache::Cache;
use crate::modules::Modules;
use crate::{say, sys};

/// A tmpfs of the image's size, with the image in it; this and the following are places ([`place`]).
pub(crate) const HELD: &str = "/imgbuild-image";
/// The image, mounted.
pub(crate) const LOWER: &str = "/imgbuild-lower";
/// A tmpfs with what the node writes.
pub(crate) const UPPER: &str = "/imgbuild-upper";

/// Whom the image is fetched from, and what it is.
pub(crate) struct Server<'a> {
    /// Asks the server.
    pub client: &'a Client,
    /// Where the image is.
    pub servers: &'a Servers,
    /// What it must be.
    pub index: &'a Index,
    /// Hears how many bytes of it were fetched and checked.
    pub moved: &'a dyn Fn(u64),
}

/// Fetches the image and mounts it where the new root is made.
///
/// # Errors
/// A text; nothing stays mounted, and no memory taken.
pub(crate) fn mount(
    server: &Server<'_>,
    parameters: &Parameters,
    modules: &Modules,
    cache: Option<&mut Cache>,
) -> Result<(), String> {
    // What is built in is not among a kernel's modules.
    for name in ["loop", &server.index.archive, "overlay"] {
        modules.load(name);
    }
    let outcome = assemble(server, parameters, cache);
    // What is mounted above holds them; where nothing is, their memory is free again.
    for path in [HELD, LOWER, UPPER] {
        sys::unmount(&place(path));
    }
    if outcome.is_err() {
        sys::unmount(root());
    }
    outcome
}

fn assemble(server: &Server<'_>, parameters: &Parameters, mut cache: Option<&mut Cache>) -> Result<(), String> {
    let index = server.index;
    let on_disk = match cache.as_deref_mut().filter(|_| parameters.image_in_cache) {
        Some(cache) => on_disk(server, cache)?,
        None => None,
    };
    let is_on_disk = on_disk.is_some();
    let image = match on_disk {
        Some(image) => image,
        None => in_memory(server, parameters, cache.as_deref_mut())?,
    };
    let said = |error: std::io::Error| {
        format!("the image cannot be mounted: {error}; does this kernel have loop and {}?", index.archive)
    };
    let device = loops::attach(&image).map_err(said)?;
    sys::mount_image(&device.path, &place(LOWER), &index.archive).map_err(said)?;
    // From here on the mount holds the device, and the device the image.
    drop(device);
    if !is_on_disk {
        let _ = std::fs::remove_file(format!("{}/rootimg", place(HELD)));
    }
    let written = join(parameters, cache.filter(|_| parameters.writes_in_cache))?;
    set_attributes(index)?;
    match is_on_disk {
        true => say!("the image is mounted as it is, from the disk of imgcache=; what is written goes to {written}"),
        false => {
            say!("the image is mounted as it is: {} MiB of memory; what is written goes to {written}", index.size >> 20)
        }
    }
    Ok(())
}

/// Fetches the image into memory.
fn in_memory(server: &Server<'_>, parameters: &Parameters, cache: Option<&mut Cache>) -> Result<File, String> {
    let index = server.index;
    // A page more: the size of a tmpfs is counted in pages.
    let size = index.size.saturating_add(4096).to_string();
    sys::mount_root(&place(HELD), &size, parameters.root_flags.as_deref())
        .map_err(|error| format!("cannot allocate memory for the image: {error}"))?;
    let path = format!("{}/rootimg", place(HELD));
    let file = File::create(&path).map_err(|error| format!("{path}: {error}"))?;
    Download::new(server, cache).run(&mut |frame, bytes| {
        file.write_all_at(&bytes, frame.offset).map_err(|error| format!("the image cannot be kept in memory: {error}"))
    })?;
    drop(file);
    File::open(&path).map_err(|error| format!("{path}: {error}"))
}

/// Brings the image onto the disk, as far as it is not there; nothing where the disk does not take it and memory may.
fn on_disk(server: &Server<'_>, cache: &mut Cache) -> Result<Option<File>, String> {
    let index = server.index;
    let mut problem = None;
    match cache.image(index) {
        Ok(mut image) => {
            let brought = Download::new(server, Some(cache)).run(&mut |frame, bytes| {
                image.put(frame, &bytes).map_err(|error| {
                    problem = Some(error);
                    String::new()
                })
            });
            match (brought, &problem) {
                (Ok(()), _) => match image.whole() {
                    Ok(file) => return Ok(Some(file)),
                    Err(error) => problem = Some(error),
                },
                (Err(_), Some(_)) => {}
                (Err(server), None) => return Err(server),
            }
        }
        Err(error) => problem = Some(error),
    }
    cache.without_image();
    if let Some(error) = problem {
        say!("the disk of imgcache= cannot hold the image: {error}; memory is used instead");
    }
    check_memory(index)?;
    Ok(None)
}

/// Puts memory for what is written above what is mounted for reading where the image would be.
///
/// # Errors
/// A text; nothing stays mounted.
pub(crate) fn write_above(parameters: &Parameters) -> Result<(), String> {
    let joined = join(parameters, None).map(drop);
    for path in [LOWER, UPPER] {
        sys::unmount(&place(path));
    }
    joined
}

/// Puts a file system that takes what is written above the image; says which.
pub(crate) fn join(parameters: &Parameters, cache: Option<&mut Cache>) -> Result<&'static str, String> {
    if let Some(cache) = cache {
        match cache.writes().and_then(|upper| sys::mount_overlay(root(), &place(LOWER), &upper)) {
            Ok(()) => return Ok("that disk and is removed at the next boot"),
            Err(error) => {
                say!("the disk of imgcache= cannot hold what the node writes: {error}; memory is used instead");
            }
        }
    }
    let (lower, upper) = (place(LOWER), place(UPPER));
    sys::mount_root(&upper, parameters.root_limit.as_deref().unwrap_or("90%"), parameters.root_flags.as_deref())
        .map_err(|error| {
            format!("cannot create the node's writable part of the root: {error}; are rootlimit= and rootflags= options of tmpfs?")
        })?;
    sys::mount_overlay(root(), &lower, &upper).map_err(|error| {
        format!("cannot join the image and the node's writable part: {error}; does this kernel have overlay?")
    })?;
    Ok("memory")
}

//! An image that is unpacked into memory, each frame checked before it is used.

use std::sync::Mutex;
use std::sync::mpsc::sync_channel;

use super::download::{Download, Take};
use super::index::Index;
use super::tar::Left;
use super::{root, unpack};
use crate::cmdline::Parameters;
use crate::name::shown;
use crate::sys::{self, Devices, Root};

/// Whether the image fits, before anything large is fetched.
pub(crate) fn check_memory(index: &Index) -> Result<(), String> {
    check_memory_for(index, index.memory)
}

/// The same where so many bytes of the image are in memory in the end.
pub(crate) fn check_memory_for(index: &Index, memory: u64) -> Result<(), String> {
    let available = sys::memory_available();
    let largest = index.frames.iter().map(|frame| frame.size).max().unwrap_or(0);
    // Numbers of a server: each sum may be more than any number.
    let needed = largest.saturating_mul(4).saturating_add(64 << 20).saturating_add(memory);
    if available < needed && !fault::planted("node-memory-not-asked") {
        return Err(format!(
            "too little memory: the image needs {} MiB and {} MiB are free; give the node more, or make the image smaller ([exclude])",
            needed >> 20,
            available >> 20
        ));
    }
    Ok(())
}

/// Whether each frame fits into memory, which holds it while it is checked; of an image on a disk nothing else does.
pub(crate) fn check_frames(index: &Index) -> Result<(), String> {
    let (available, largest) =
        (sys::memory_available(), index.frames.iter().map(|frame| frame.size).max().unwrap_or(0));
    match largest > available {
        true => Err(format!(
            "too little memory: the index says that a frame has {} MiB, and {} MiB are free",
            largest >> 20,
            available >> 20
        )),
        false => Ok(()),
    }
}

/// Fetches and unpacks all frames: one reader, as many unpackers as there are CPUs.
pub(crate) fn unpack_all(download: Download<'_>, parameters: &Parameters) -> Result<(), String> {
    sys::mount_root(root(), parameters.root_limit.as_deref().unwrap_or("90%"), parameters.root_flags.as_deref())
        .map_err(|error| {
            format!("cannot create the root file system: {error}; are rootlimit= and rootflags= options of tmpfs?")
        })?;
    let index = download.index;
    let outcome = unpack_frames(index, Devices::Made, |take| download.run(take)).and_then(|()| set_attributes(index));
    if outcome.is_err() {
        // Nothing half-unpacked stays.
        sys::unmount(root());
    }
    outcome
}

/// Sets the attributes that the archive has no place for. No other thread may use the working directory meanwhile.
pub(crate) fn set_attributes(index: &Index) -> Result<(), String> {
    let tree = open_root()?;
    for (path, name, value) in index.xattrs.iter().filter(|_| !fault::planted("node-xattr-lost")) {
        tree.set_xattr(path, name, value)
            .map_err(|error| format!("the attribute {name} of {path} cannot be set: {error}", path = shown(path)))?;
    }
    Ok(())
}

/// The new root, for what no longer makes devices.
fn open_root() -> Result<Root, String> {
    Root::open(root(), Devices::Refused).map_err(|error| format!("{}: {error}", root()))
}

/// Unpacks frames as they come, in order.
pub(crate) fn unpack_frames(
    index: &Index,
    devices: Devices,
    bring: impl FnOnce(Take<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(16);
    let (sender, receiver) = sync_channel::<Vec<u8>>(workers);
    let receiver = Mutex::new(receiver);
    let failed: Mutex<Option<String>> = Mutex::new(None);
    let left: Mutex<Left> = Mutex::new(Left::default());
    let give_up = |problem: String| {
        if let Ok(mut slot) = failed.lock() {
            slot.get_or_insert(problem);
        }
    };
    let one = |bytes: &[u8]| match unpack::frame(bytes, &index.archive, &index.compress, root(), devices) {
        Ok(more) => {
            if let Ok(mut left) = left.lock() {
                left.times.extend(more.times);
                left.links.extend(more.links);
            }
        }
        Err(problem) => give_up(problem),
    };
    std::thread::scope(|scope| -> Result<(), String> {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = receiver.lock().ok().and_then(|receiver| receiver.recv().ok());
                    match next {
                        Some(bytes) => one(&bytes),
                        None => break,
                    }
                }
            });
        }
        let mut first = true;
        let fetched = bring(&mut |_, bytes| {
            if failed.lock().is_ok_and(|failed| failed.is_some()) {
                return Err("given up".to_owned());
            }
            if std::mem::take(&mut first) {
                // All directories come before anything that lies in them.
                one(&bytes);
                return Ok(());
            }
            sender.send(bytes).map_err(|error| error.to_string())
        });
        drop(sender);
        fetched
    })
    .or_else(|problem| if failed.lock().is_ok_and(|failed| failed.is_some()) { Ok(()) } else { Err(problem) })?;
    if let Some(problem) = failed.into_inner().ok().flatten() {
        return Err(format!("the image cannot be unpacked: {problem}"));
    }
    let Left { mut times, links } = left.into_inner().unwrap_or_default();
    let tree = open_root()?;
    for (name, file) in links {
        tree.hard_link(&name, &file)
            .map_err(|error| format!("cannot create the hard link {name} to {file}: {error}", name = shown(&name)))?;
    }
    // Deepest first: setting the time of what lies in a directory does not change the directory's.
    times.sort_by(|a, b| b.0.cmp(&a.0));
    for (path, time) in times {
        tree.set_time(&path, time)
            .map_err(|error| format!("the time of {path} cannot be set: {error}", path = shown(&path)))?;
    }
    Ok(())
}

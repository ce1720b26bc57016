//! Gives a finished tree its name in the store. Runs inside the namespace.
//!
//! A layer is there if and only if its manifest is. The manifest comes last and goes first, so a tree without one is no
//! layer for anybody, whatever lies in it, and is replaced.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::{Depth, Manifest, Store, Wrong, check_layer};
use base::digest::Digest;

/// Puts a tree and its manifest's text into the store, under the text's digest. The tree is at `tree`, in a scratch
/// directory, which takes what is replaced and goes afterwards. Gives the layer, and whether it was not there before.
/// Errors: A text with what could not be renamed or written.
pub(crate) fn commit(tree: &str, text: &str) -> Result<(Digest, bool), String> {
    let layer = Digest::of(text.as_bytes());
    let said = |error: io::Error| format!("cannot put the layer {} into the store: {error}", layer.short());
    let (place, name) = (Store::tree_name(&layer), Store::manifest_name(&layer));
    let aside = format!("{tree}.manifest");
    std::fs::write(&aside, text).map_err(said)?;
    // Before it has a name: what has one has its content, also after a power cut.
    sync();
    let trees = turn().map_err(said)?;
    // Looked at and not read: this is the same layer a second time, and anyone who uses it looks too.
    let manifest = Manifest::parse(text).map_err(|error| format!("cannot put a layer into the store: {error}"))?;
    if std::fs::read(&name).is_ok_and(|known| known == text.as_bytes()) {
        match check_layer(&layer, &manifest, Depth::Look) {
            Ok(()) => return Ok((layer, false)),
            Err(Wrong::Damaged(_)) => {}
            Err(wrong @ Wrong::Unread(_)) => return Err(wrong.message(&layer)),
        }
    }
    out_of_the_way(&name, &format!("{tree}.old-manifest")).map_err(said)?;
    out_of_the_way(&place, &format!("{tree}.old")).map_err(said)?;
    if fault::planted("manifest-before-tree") {
        std::fs::copy(&aside, &name).map_err(said)?;
    }
    fault::point("scan.before-rename");
    std::fs::rename(tree, &place).map_err(said)?;
    fault::point("scan.before-manifest");
    rustix::fs::fsync(&trees).map_err(|error| said(error.into()))?;
    std::fs::rename(&aside, &name).map_err(said)?;
    fault::point("scan.after-rename");
    Ok((layer, true))
}

/// One process at a time gives trees their names, or takes them: the lock is on the directory itself, and the kernel takes it back.
pub(crate) fn turn() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let trees = rustix::fs::open("trees", flags, Mode::empty())?;
    rustix::fs::flock(&trees, FlockOperation::LockExclusive)?;
    Ok(trees)
}

/// Makes all that was written and renamed on the store's file system durable.
pub(crate) fn sync() {
    if let Ok(here) = std::fs::File::open(".") {
        let _ = rustix::fs::syncfs(&here);
    }
}

/// Takes away what has a name that is needed, whatever it is.
fn out_of_the_way(name: &str, to: &str) -> io::Result<()> {
    match std::fs::rename(name, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Renames a file to its place, over whatever is there; a directory in the way goes into the scratch directory.
/// Errors: The kernel's.
pub fn replace(from: &str, to: &str) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EISDIR | libc::EEXIST | libc::ENOTEMPTY)) => {
            out_of_the_way(to, &format!("{from}.old"))?;
            std::fs::rename(from, to)
        }
        other => other,
    }
}

//! What tests of a run share, each of them a process of its own: made by the first that needs it, found by the others.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{Built, store};
use crate::support::Space;

/// Where it lies: what `tests/run` names, or a directory of this process.
fn place() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| match std::env::var_os("IMGBUILD_TESTS_SHARED") {
        Some(place) => PathBuf::from(place),
        None => tempfile::tempdir().unwrap().keep(),
    })
}

/// Holds a lock that one process has at a time, until it is dropped.
pub fn lock(path: &Path) -> std::fs::File {
    let lock = std::fs::File::create(path).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    lock
}

/// A directory that somebody fills once; all others wait. What a maker that failed left is removed, and it is tried again.
pub fn once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let directory = place().join(name);
    let made = place().join(format!("{name}.made"));
    let _lock = lock(&place().join(format!("{name}.lock")));
    if !made.exists() {
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory).unwrap();
        make(&directory);
        std::fs::write(made, "").unwrap();
    }
    directory
}

/// A recipe's directory that somebody fills and builds once, in the common store. It belongs to all: a test that edits takes a copy.
pub fn space(name: &str, make: impl FnOnce(&Space)) -> Space {
    let kept = |directory: &Path| Space::kept(directory).with_store(&store());
    kept(&once(name, |directory| make(&kept(directory))))
}

/// The same with a key that the image lets in: `make` puts the private one at `admin`.
pub fn built(name: &str, make: impl FnOnce(&Space)) -> Built {
    let space = space(name, make);
    let key = space.path().join("admin");
    Built { space, key }
}

//! The recipe's directory as scripts see it: recreated inside, so that everything in it belongs to root, no matter who builds.

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};
use serde::{Deserialize, Serialize};

use archive::{Extractor, Meta};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// Path below the recipe's directory; or an absolute one.
    pub place: String,
    pub what: ShownAs,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ShownAs {
    /// A file: its content, by a path relative to the store's directory, and its mode.
    File(String, u32),
    Link(String),
    Directory(u32),
    Pipe(u32),
}

/// Makes them below a directory, given relative to the store's; all times are the epoch.
pub(super) fn make(all: &[Shown], directory: &str, epoch: i64) -> Result<(), String> {
    std::fs::create_dir_all(directory).map_err(|error| format!("cannot create {directory}: {error}"))?;
    let mut tree = Extractor::new(directory)?;
    let meta = |mode: u32| Meta { mode, mtime: epoch, ..Meta::default() };
    // Each folder gets the usual mode and the epoch, no matter who made it on the way.
    let mut folders: std::collections::BTreeMap<&str, u32> = std::collections::BTreeMap::from([(".", 0o755)]);
    for shown in all {
        let mut path = shown.place.as_str();
        while let Some((above, _)) = path.rsplit_once('/') {
            folders.entry(above).or_insert(0o755);
            path = above;
        }
    }
    for shown in all {
        if let ShownAs::Directory(mode) = shown.what {
            folders.insert(&shown.place, mode);
        }
    }
    // Above before below: one that cannot be entered is no obstacle for root.
    for (path, mode) in &folders {
        tree.directory(path.as_bytes(), &meta(*mode))?;
    }
    for shown in all {
        let place = shown.place.as_bytes();
        match &shown.what {
            ShownAs::Directory(_) => {}
            ShownAs::Link(target) => tree.symlink(place, target.as_bytes(), &meta(0o777))?,
            ShownAs::File(content, mode) => {
                // Blocks are shared where the file system can. The folders above were made here, and none is a link.
                let path = format!("{directory}/{}", shown.place);
                let time = Timespec { tv_sec: epoch.max(0), tv_nsec: 0 };
                let times = Timestamps { last_access: time, last_modification: time };
                let mode = if fault::planted("inputs-without-modes") { 0o755 } else { *mode };
                std::fs::copy(content, &path)
                    .and_then(|_| Ok(rustix::fs::chmod(&path, Mode::from_raw_mode(mode))?))
                    .and_then(|()| Ok(rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty())?))
                    .map_err(|error| format!("cannot copy `{}`: {error}", shown.place))?;
            }
            ShownAs::Pipe(mode) => {
                let path = format!("{directory}/{}", shown.place);
                let made = rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(*mode), 0);
                let made = made.and_then(|()| rustix::fs::chmod(&path, Mode::from_raw_mode(*mode)));
                made.map_err(|error| format!("cannot create the pipe `{}`: {error}", shown.place))?;
            }
        }
    }
    tree.finish()
}

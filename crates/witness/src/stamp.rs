//! `Stamp`: device, inode, mode, owner, size and times of a file.

use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, Stat};
use rustix::io::Errno;
use rustix::path::Arg;

use super::facts::is_settled;

/// Device, inode, mode, owner, size and times of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub device: u64,
    pub inode: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// When its content changed last, in nanoseconds since 1970.
    pub modified: i64,
    /// When its content or its inode changed last. No one can set it back.
    pub changed: i64,
}

/// Bits of the mode that tell the kind of a file. Source: inode(7).
const KIND_BITS: u32 = 0o170_000;

impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size.cast_unsigned(),
            modified: nanoseconds(stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
            changed: nanoseconds(stat.st_ctime, stat.st_ctime_nsec.cast_signed()),
        }
    }

    /// The same from what the standard library read.
    pub fn from_metadata(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The kind alone, as in the mode.
    pub fn kind(&self) -> u32 {
        self.mode & KIND_BITS
    }

    pub fn is_link(&self) -> bool {
        self.kind() == 0o120_000
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// The stamp at a path, or the number of the error.
pub(crate) type Seen = Result<Stamp, i32>;

/// Looks at a path itself.
pub(crate) fn look(path: impl Arg) -> Seen {
    stamp_at(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
}

/// Looks at what a path leads to.
pub(crate) fn look_through(path: impl Arg) -> Seen {
    stamp_at(CWD, path, AtFlags::empty())
}

/// The stamp of what a path leads to, if it may stand for the content: none where it was written only now.
pub fn settled(path: &Path) -> Option<Stamp> {
    let stamp = look_through(path);
    stamp.ok().filter(|_| is_settled(&stamp, now()))
}

/// Looks at a path from a directory on.
pub(crate) fn stamp_at(from: BorrowedFd<'_>, path: impl Arg, flags: AtFlags) -> Seen {
    rustix::fs::statat(from, path, flags).map(|stat| Stamp::of(&stat)).map_err(Errno::raw_os_error)
}

/// The error of an I/O error that has no number counts as this one.
pub(crate) fn number_of(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(Errno::IO.raw_os_error())
}

/// The running program: its file's stamp stands for its version, since anyone who replaces the file moves it.
pub(crate) fn own_program() -> Option<Stamp> {
    static OWN: OnceLock<Option<Stamp>> = OnceLock::new();
    *OWN.get_or_init(|| look_through(Path::new("/proc/self/exe")).ok())
}

/// Now, in nanoseconds since 1970.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

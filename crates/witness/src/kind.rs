//! Kinds of files.

use std::fs::FileType;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    File,
    Directory,
    Link,
    Other,
}

impl Kind {
    /// From what the standard library says.
    pub fn of(kind: FileType) -> Self {
        if kind.is_file() {
            Self::File
        } else if kind.is_dir() {
            Self::Directory
        } else if kind.is_symlink() {
            Self::Link
        } else {
            Self::Other
        }
    }

    /// From a mode, as stat(2) gives it. Source of the bits: inode(7).
    pub fn of_mode(mode: u32) -> Self {
        match mode & 0o170_000 {
            0o100_000 => Self::File,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Link,
            _ => Self::Other,
        }
    }

    pub fn letter(self) -> &'static str {
        match self {
            Self::File => "f",
            Self::Directory => "d",
            Self::Link => "l",
            Self::Other => "o",
        }
    }
}

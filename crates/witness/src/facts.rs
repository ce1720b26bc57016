//! `Fact`: one recorded read of a path; `Witness`: all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::kind::Kind;
use super::stamp::Seen;
use base::digest::{Digest, Sha256};

/// What of a path was looked at; bits.
pub(crate) mod need {
    pub(crate) const KIND: u8 = 1;
    /// Where it points, being a link.
    pub(crate) const LINK: u8 = 2;
    pub(crate) const KIND_THROUGH: u8 = 4;
    pub(crate) const MODE: u8 = 8;
    pub(crate) const STAMP: u8 = 16;
    pub(crate) const CONTENT: u8 = 32;
    pub(crate) const LIST: u8 = 64;
    /// Those that the names in its directory answer.
    pub(crate) const OF_NAMES: u8 = KIND;
    /// Those that follow a link.
    pub(crate) const THROUGH: u8 = KIND_THROUGH | MODE | STAMP | CONTENT | LIST;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub path: PathBuf,
    /// Which fact of the witness is of the directory that it lies in, if one is.
    pub parent: Option<u32>,
    pub needs: u8,
    pub own: Seen,
    /// What it leads to, being a link.
    pub through: Option<Seen>,
    /// BLAKE3 of the content or of the list of names.
    pub digest: Option<Digest>,
    /// SHA-256 of the content, where that was asked for.
    pub sha256: Option<Sha256>,
}

impl Fact {
    /// What was seen when links are followed.
    pub fn followed(&self) -> Seen {
        self.through.unwrap_or(self.own)
    }
}

/// How long before a recording a file must have been left alone for its stamp to count, in nanoseconds: file systems
/// whose clock ticks in 2 s exist (FAT); the kernel's own ticks are of 1 to 10 ms.
pub(crate) const SLACK: i64 = 2_000_000_000;

/// Whether a stamp may be trusted in a recording that began at a time.
pub(crate) fn is_settled(stamp: &Seen, began: i64) -> bool {
    // What is not there has no stamp that could lie.
    stamp.as_ref().map_or(true, |stamp| stamp.changed < began - SLACK)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Witness {
    /// When the recording began, in nanoseconds since 1970.
    pub began: i64,
    /// Facts, sorted by the bytes of their paths.
    pub facts: Vec<Fact>,
    pub variables: BTreeMap<String, Option<String>>,
    /// Whether files changed while they were looked at: then nothing may be kept of it.
    pub torn: bool,
}

/// What was seen of one path, for those who want to have the same files elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct SeenPath<'w> {
    pub path: &'w Path,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Its size in bytes.
    pub size: u64,
    /// Whether more than its kind was asked for.
    pub is_read: bool,
    /// Whether the names in it were asked for.
    pub is_listed: bool,
    /// BLAKE3 of a file's content, where it was read.
    pub digest: Option<Digest>,
}

impl Witness {
    /// What was there of all that was looked at, sorted by path.
    pub fn there(&self) -> impl Iterator<Item = SeenPath<'_>> {
        self.facts.iter().filter_map(|fact| {
            let own = fact.own.ok()?;
            let kind = Kind::of_mode(own.mode);
            Some(SeenPath {
                path: &fact.path,
                kind,
                mode: own.mode & 0o7777,
                uid: own.uid,
                gid: own.gid,
                size: own.size,
                is_listed: fact.needs & need::LIST != 0,
                is_read: fact.needs & (need::MODE | need::STAMP | need::CONTENT) != 0,
                digest: fact.digest.filter(|_| kind == Kind::File && fact.needs & need::CONTENT != 0),
            })
        })
    }
}

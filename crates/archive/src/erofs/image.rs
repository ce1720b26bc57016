//! `EroImage`: the entries and frames that an erofs image is assembled from.

use std::collections::BTreeMap;

use super::blocks::{EroInfo, EroRun};
use super::tails::ReadTails;
use crate::Compression;
use store::Entry;

pub struct EroImage<'a> {
    pub entries: &'a [(String, Entry, usize)],
    /// For each entry that is a file with content, whose content it is: the number of an entry in `runs`.
    pub content: &'a BTreeMap<usize, usize>,
    pub runs: &'a [EroRun<'a>],
    /// What the frames of `runs` are; what lies beside inodes is asked for when it is needed.
    pub infos: &'a [EroInfo],
    /// Reads what lies beside the inodes of a frame's files, by the frame's number.
    pub tails: ReadTails<'a>,
    pub compression: Compression,
    /// Bytes of a chunk.
    pub chunk: u32,
    /// Time of the image, in seconds since 1970.
    pub epoch: i64,
}

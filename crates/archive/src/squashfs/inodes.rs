//! One inode, in its short form where that is enough. Source: squashfs_fs.h, `struct squashfs_*_inode`.

use super::blocks::FilePlace;
use super::xattrs;
use node_words::name::bytes_of;
use store::{Entry, Kind};

/// No fragment. Source: squashfs_fs.h, SQUASHFS_INVALID_FRAG.
const NO_FRAGMENT: u32 = u32::MAX;
/// Added to the number of a short form for its long one.
const LONG: u16 = 7;

#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub number: u32,
    pub links: u32,
    /// Places of owner and group in the table of ids.
    pub owner: (u16, u16),
    /// Number of its set of attributes.
    pub xattrs: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Listing {
    /// Where its block starts in the table of directories.
    pub block: u32,
    /// Where in the unpacked block.
    pub offset: u16,
    /// Bytes.
    pub size: u32,
    /// Number of the directory above.
    pub parent: u32,
}

pub(super) fn kind_number(kind: &Kind) -> u16 {
    match kind {
        Kind::Directory => 1,
        Kind::File { .. } => 2,
        Kind::Symlink(_) => 3,
        Kind::Block(..) => 4,
        Kind::Character(..) => 5,
        Kind::Fifo => 6,
        Kind::Socket | Kind::Whiteout => 7,
    }
}

/// A device's numbers as the kernel keeps them. Source: Linux, new_encode_dev.
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn start(entry: &Entry, head: Head, is_long: bool) -> Vec<u8> {
    let kind = kind_number(&entry.kind) + if is_long { LONG } else { 0 };
    let mtime = u32::try_from(entry.mtime.max(0)).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&(entry.mode as u16).to_le_bytes());
    out.extend_from_slice(&head.owner.0.to_le_bytes());
    out.extend_from_slice(&head.owner.1.to_le_bytes());
    out.extend_from_slice(&mtime.to_le_bytes());
    out.extend_from_slice(&head.number.to_le_bytes());
    out
}

fn add(out: &mut Vec<u8>, numbers: &[u32]) {
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

pub(super) fn directory(entry: &Entry, head: Head, listing: Listing) -> Vec<u8> {
    // Three more than the listing has: what `.` and `..` would be.
    let size = listing.size + 3;
    match u16::try_from(size).ok().filter(|_| head.xattrs == xattrs::NONE) {
        Some(size) => {
            let mut out = start(entry, head, false);
            add(&mut out, &[listing.block, head.links]);
            out.extend_from_slice(&size.to_le_bytes());
            out.extend_from_slice(&listing.offset.to_le_bytes());
            add(&mut out, &[listing.parent]);
            out
        }
        None => {
            let mut out = start(entry, head, true);
            add(&mut out, &[head.links, size, listing.block, listing.parent]);
            // No index of the listing.
            out.extend_from_slice(&0_u16.to_le_bytes());
            out.extend_from_slice(&listing.offset.to_le_bytes());
            add(&mut out, &[head.xattrs]);
            out
        }
    }
}

pub(super) fn file(entry: &Entry, head: Head, size: u64, place: &FilePlace, block_size: u32) -> Vec<u8> {
    let holes = place.words.iter().filter(|word| **word == 0).count() as u64 * u64::from(block_size);
    let (fragment, offset) = place.fragment.unwrap_or((NO_FRAGMENT, 0));
    let short = match (u32::try_from(place.start), u32::try_from(size)) {
        (Ok(at), Ok(size)) if head.links == 1 && holes == 0 && head.xattrs == xattrs::NONE => Some((at, size)),
        _ => None,
    };
    let mut out = match short {
        Some((at, size)) => {
            let mut out = start(entry, head, false);
            add(&mut out, &[at, fragment, offset, size]);
            out
        }
        None => {
            let mut out = start(entry, head, true);
            for number in [place.start, size, holes] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            add(&mut out, &[head.links, fragment, offset, head.xattrs]);
            out
        }
    };
    add(&mut out, &place.words);
    out
}

pub(super) fn other(entry: &Entry, head: Head) -> Vec<u8> {
    let is_long = head.xattrs != xattrs::NONE;
    let mut out = start(entry, head, is_long);
    add(&mut out, &[head.links]);
    match &entry.kind {
        Kind::Symlink(target) => {
            let target = bytes_of(target);
            add(&mut out, &[target.len() as u32]);
            out.extend_from_slice(&target);
        }
        Kind::Character(major, minor) | Kind::Block(major, minor) => add(&mut out, &[device(*major, *minor)]),
        _ => {}
    }
    if is_long {
        add(&mut out, &[head.xattrs]);
    }
    out
}

//! Listings of directories: blocks, each with its entries, then their names.

use super::BLOCK;
use store::Kind;

/// Bytes of an entry.
const ENTRY: usize = 12;

pub(super) struct Name<'a> {
    /// Its bytes.
    pub name: std::borrow::Cow<'a, [u8]>,
    /// The caller's number of what it names.
    pub item: usize,
}

/// Number of a kind. Source: Linux, include/linux/fs_types.h, FT_.
fn number(kind: &Kind) -> u8 {
    match kind {
        Kind::File { .. } => 1,
        Kind::Directory => 2,
        Kind::Character(..) => 3,
        Kind::Block(..) => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Symlink(_) => 7,
        Kind::Whiteout => 0,
    }
}

/// Cuts the names of a directory, sorted by their bytes, into those of each block.
fn blocks<'a, 'b>(names: &'b [Name<'a>]) -> Vec<&'b [Name<'a>]> {
    let mut all = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (at, name) in names.iter().enumerate() {
        let more = ENTRY + name.name.len();
        if bytes + more > BLOCK as usize {
            all.push(&names[from..at]);
            from = at;
            bytes = 0;
        }
        bytes += more;
    }
    all.push(&names[from..]);
    all
}

pub(super) fn size(names: &[Name<'_>]) -> u64 {
    let blocks = blocks(names);
    let last = blocks.last().map_or(0, |names| names.iter().map(|name| ENTRY + name.name.len()).sum());
    (blocks.len() as u64).saturating_sub(1) * BLOCK + last as u64
}

/// A listing; `inode` gives number and kind of what a name names.
pub(super) fn listing<'k>(names: &[Name<'_>], inode: &dyn Fn(usize) -> (u64, &'k Kind)) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for block in blocks(names) {
        out.resize(out.len().next_multiple_of(BLOCK as usize), 0);
        let mut at = block.len() * ENTRY;
        for name in block {
            let (inode, kind) = inode(name.item);
            out.extend_from_slice(&inode.to_le_bytes());
            out.extend_from_slice(&(at as u16).to_le_bytes());
            out.extend_from_slice(&[number(kind), 0]);
            at += name.name.len();
        }
        block.iter().for_each(|name| out.extend_from_slice(&name.name));
    }
    out
}

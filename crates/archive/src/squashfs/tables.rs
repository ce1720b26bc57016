//! Writes the metadata tables and the superblock.

use std::collections::{BTreeMap, BTreeSet};

use super::blocks::{BlockInfo, FilePlace, Run, place_blocks};
use super::encoder::{Encoder, number, options};
use super::inodes::{Head, Listing, directory, file, kind_number, other};
use super::metadata::{Place, Table, listed};
use super::xattrs::Sets;
use crate::{Compression, SHARED_BLOCK};
use node_words::name::{bytes_of, shown};
use store::{Entry, Kind};

/// Bytes of the superblock.
pub(super) const HEAD: u64 = 96;

/// `hsqs`. Source: squashfs_fs.h, SQUASHFS_MAGIC.
const MAGIC: u32 = 0x7371_7368;
/// An image ends at a multiple of so many bytes: loop devices have whole sectors, and mksquashfs pads so.
const PAD: usize = 4096;
/// Entries below one header of a listing.
const HEADER_ENTRIES: usize = 256;

/// Flags of the superblock. Source: squashfs_fs.h.
mod flag {
    /// Inodes, data, fragments, attributes and ids are stored as they are.
    pub(super) const STORED: u16 = 0x1 | 0x2 | 0x8 | 0x100 | 0x800;
    pub(super) const NO_FRAGMENTS: u16 = 0x10;
    /// Equal files are there once.
    pub(super) const DUPLICATES: u16 = 0x40;
    pub(super) const EXPORTABLE: u16 = 0x80;
    pub(super) const NO_XATTRS: u16 = 0x200;
    pub(super) const OPTIONS: u16 = 0x400;
}

pub struct Image<'a> {
    /// Sorted by path; `.` is the root.
    pub entries: &'a [(String, Entry, usize)],
    /// For each entry that is a file with content, whose content it is: the number of an entry in `runs`.
    pub content: &'a BTreeMap<usize, usize>,
    pub runs: &'a [Run<'a>],
    /// What the frames of `runs` are.
    pub infos: &'a [BlockInfo],
    pub compression: Compression,
    /// Bytes of a block.
    pub block_size: u32,
    /// Time of the image, in seconds since 1970.
    pub epoch: i64,
}

pub struct Finished {
    pub head: Vec<u8>,
    /// Stands behind it.
    pub tables: Vec<u8>,
}

fn at_name(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or((".", path))
}

fn head_rest(compression: Compression) -> Vec<u8> {
    let options = options(compression);
    match u16::try_from(options.len()) {
        Ok(0) | Err(_) => Vec::new(),
        // A metadata block that is stored as it is.
        Ok(size) => [(size | 1 << 15).to_le_bytes().as_slice(), &options].concat(),
    }
}

/// Directories and what lies in each, sorted by the bytes of their names, and numbers of inodes.
struct Tree<'a> {
    /// Directories, each before the one that it lies in.
    order: Vec<usize>,
    directories: BTreeMap<&'a str, usize>,
    children: BTreeMap<&'a str, Vec<usize>>,
    /// By entry; names of one hard link share one.
    numbers: Vec<u32>,
    links: BTreeMap<u32, u32>,
    count: u32,
}

fn tree<'a>(entries: &'a [(String, Entry, usize)]) -> Result<Tree<'a>, String> {
    let mut children: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let directories: BTreeMap<&str, usize> = entries
        .iter()
        .enumerate()
        .filter(|(_, one)| one.1.is_directory())
        .map(|(at, one)| (one.0.as_str(), at))
        .collect();
    let root = *directories.get(".").ok_or("the image has no root directory")?;
    for (at, (path, entry, _)) in entries.iter().enumerate() {
        if at == root || entry.kind == Kind::Whiteout {
            continue;
        }
        let (parent, _) = at_name(path);
        if !directories.contains_key(parent) {
            return Err(format!("`{}` has no parent directory in the image", shown(path)));
        }
        children.entry(parent).or_default().push(at);
    }
    for list in children.values_mut() {
        list.sort_by(|a, b| bytes_of(at_name(&entries[*a].0).1).cmp(&bytes_of(at_name(&entries[*b].0).1)));
    }
    // The path of a directory begins with that of the one above: from the last to the first.
    let mut order: Vec<usize> = directories.values().rev().copied().filter(|at| *at != root).collect();
    order.push(root);
    let mut numbers = vec![0; entries.len()];
    let mut links: BTreeMap<u32, u32> = BTreeMap::new();
    let mut groups: BTreeMap<(usize, &str), u32> = BTreeMap::new();
    let mut count = 0;
    for at in &order {
        let inside = children.get(entries[*at].0.as_str()).map(Vec::as_slice).unwrap_or_default();
        for child in inside.iter().filter(|child| !entries[**child].1.is_directory()) {
            let (_, entry, layer) = &entries[*child];
            let mut next = || {
                count += 1;
                count
            };
            let number = match &entry.link_group {
                Some(group) => *groups.entry((*layer, group.as_str())).or_insert_with(next),
                None => next(),
            };
            numbers[*child] = number;
            *links.entry(number).or_default() += 1;
        }
        count += 1;
        numbers[*at] = count;
        let below = inside.iter().filter(|child| entries[**child].1.is_directory()).count();
        links.insert(count, 2 + below as u32);
    }
    Ok(Tree { order, directories, children, numbers, links, count })
}

/// The listing of a directory: headers, each with entries whose inodes are in one block and near in number.
fn listing(entries: &[(String, Entry, usize)], inside: &[usize], tree: &Tree<'_>, places: &[Place]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = inside;
    while let Some(first) = rest.first() {
        let (block, base) = (places[*first].block, tree.numbers[*first]);
        let near = |at: &usize| {
            places[*at].block == block && i16::try_from(i64::from(tree.numbers[*at]) - i64::from(base)).is_ok()
        };
        let many = rest.iter().take(HEADER_ENTRIES).take_while(|at| near(at)).count().max(1);
        let (now, later) = rest.split_at(many);
        rest = later;
        for number in [many as u32 - 1, block as u32, base] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for at in now {
            let name = bytes_of(at_name(&entries[*at].0).1);
            let apart = (i64::from(tree.numbers[*at]) - i64::from(base)) as i16;
            out.extend_from_slice(&places[*at].offset.to_le_bytes());
            out.extend_from_slice(&apart.to_le_bytes());
            out.extend_from_slice(&kind_number(&entries[*at].1.kind).to_le_bytes());
            out.extend_from_slice(&(name.len() as u16 - 1).to_le_bytes());
            out.extend_from_slice(&name);
        }
    }
    out
}

/// Makes what stands before the data and behind it.
/// Errors: A text: what the format cannot hold, or the compressor's.
pub fn finish(image: &Image<'_>) -> Result<Finished, String> {
    let said = |error: std::io::Error| format!("cannot create the tables: {error}");
    let rest = head_rest(image.compression);
    // The first frame of data, and with it all others, begins at a whole block.
    let data_at = (HEAD + rest.len() as u64).next_multiple_of(SHARED_BLOCK);
    let data: u64 = image.infos.iter().map(|info| info.frame.size).sum();
    let (files, fragments) = place_blocks(image.runs, image.infos, image.block_size, data_at)?;
    let entries = image.entries;
    let tree = tree(entries)?;
    let ids: BTreeSet<u32> = entries.iter().flat_map(|(_, entry, _)| [entry.uid, entry.gid]).collect();
    let ids: Vec<u32> = ids.into_iter().collect();
    // The superblock counts them in 16 bits.
    if ids.len() > usize::from(u16::MAX) {
        return Err(format!("the image has {} owners; the limit of squashfs is 65,535", ids.len()));
    }
    let id = |id: u32| ids.binary_search(&id).ok().and_then(|at| u16::try_from(at).ok());
    let mut xattrs = Sets::default();
    let encoder = || Encoder::new(image.compression, image.block_size).map_err(said);
    let (mut inode_encoder, mut listing_encoder) = (encoder()?, encoder()?);
    let (mut inodes, mut listings) = (Table::new(&mut inode_encoder), Table::new(&mut listing_encoder));
    let mut places = vec![Place::default(); entries.len()];
    // By number; those of one hard link have one.
    let mut references: Vec<Option<Place>> = vec![None; tree.count as usize];
    let nothing = FilePlace::default();
    for at in &tree.order {
        let inside = tree.children.get(entries[*at].0.as_str()).map(Vec::as_slice).unwrap_or_default();
        for child in inside.iter().copied().chain([*at]) {
            let (path, entry, _) = &entries[child];
            if entry.is_directory() && child != *at {
                continue;
            }
            let number = tree.numbers[child];
            if let Some(known) = references[number as usize - 1] {
                places[child] = known;
                continue;
            }
            let owner = (id(entry.uid), id(entry.gid));
            let (Some(uid), Some(gid)) = owner else {
                return Err("an owner is missing from the table of owners".to_owned());
            };
            let head = Head {
                number,
                links: tree.links.get(&number).copied().unwrap_or(1),
                owner: (uid, gid),
                xattrs: xattrs.number(&entry.xattrs),
            };
            let bytes = match &entry.kind {
                Kind::Directory => {
                    let text = listing(entries, inside, &tree, &places);
                    let place = listings.place();
                    listings.add(&text).map_err(said)?;
                    let parent = match path.as_str() {
                        "." => tree.count + 1,
                        _ => tree.directories.get(at_name(path).0).map_or(0, |one| tree.numbers[*one]),
                    };
                    let size = u32::try_from(text.len()).map_err(|_| "a directory has too many entries")?;
                    let block = u32::try_from(place.block).map_err(|_| "there are too many directories")?;
                    directory(entry, head, Listing { block, offset: place.offset, size, parent })
                }
                Kind::File { size, .. } => {
                    let place = image.content.get(&child).and_then(|item| files.get(item)).unwrap_or(&nothing);
                    file(entry, head, *size, place, image.block_size)
                }
                _ => other(entry, head),
            };
            places[child] = inodes.place();
            references[number as usize - 1] = Some(places[child]);
            inodes.add(&bytes).map_err(said)?;
        }
    }
    let root = tree.order.last().map(|at| places[*at].reference()).unwrap_or_default();
    let start = data_at + data;
    let mut out = inodes.finish().map_err(said)?.0;
    let listings_at = start + out.len() as u64;
    out.extend_from_slice(&listings.finish().map_err(said)?.0);
    let mut encoder = encoder()?;
    let mut text = Vec::with_capacity(fragments.len() * 16);
    for (place, word) in &fragments {
        text.extend_from_slice(&place.to_le_bytes());
        text.extend_from_slice(&word.to_le_bytes());
        text.extend_from_slice(&0_u32.to_le_bytes());
    }
    let fragments_at = match fragments.is_empty() {
        true => u64::MAX,
        false => listed(&mut out, start, &text, &mut encoder).map_err(said)?,
    };
    let text: Vec<u8> = references.iter().flat_map(|one| one.unwrap_or_default().reference().to_le_bytes()).collect();
    let numbers_at = listed(&mut out, start, &text, &mut encoder).map_err(said)?;
    let text: Vec<u8> = ids.iter().flat_map(|one| one.to_le_bytes()).collect();
    let ids_at = listed(&mut out, start, &text, &mut encoder).map_err(said)?;
    let xattrs_at = xattrs.write(&mut out, start, &mut encoder).map_err(said)?;
    let used = start + out.len() as u64;
    let mut flags = flag::EXPORTABLE | flag::DUPLICATES;
    for (is, bit) in [
        (image.compression == Compression::None, flag::STORED),
        (fragments.is_empty(), flag::NO_FRAGMENTS),
        (xattrs_at == u64::MAX, flag::NO_XATTRS),
        (!rest.is_empty(), flag::OPTIONS),
    ] {
        flags |= if is { bit } else { 0 };
    }
    let mut head = Vec::with_capacity(data_at as usize);
    let time = u32::try_from(image.epoch.max(0)).unwrap_or(u32::MAX);
    for number in [MAGIC, tree.count, time, image.block_size, fragments.len() as u32] {
        head.extend_from_slice(&number.to_le_bytes());
    }
    let log = image.block_size.trailing_zeros() as u16;
    for number in [number(image.compression), log, flags, ids.len() as u16, 4, 0] {
        head.extend_from_slice(&number.to_le_bytes());
    }
    for number in [root, used, ids_at, xattrs_at, start, listings_at, fragments_at, numbers_at] {
        head.extend_from_slice(&number.to_le_bytes());
    }
    head.extend_from_slice(&rest);
    head.resize(data_at as usize, 0);
    let end = usize::try_from(used).unwrap_or(0).next_multiple_of(PAD) as u64;
    out.resize(out.len() + usize::try_from(end - used).unwrap_or(0), 0);
    Ok(Finished { head, tables: out })
}

//! The tables behind the data, and the superblock before it.

use std::collections::BTreeMap;

use super::BLOCK;
use super::blocks::{EroInfo, EroPlace, EroRun, place_files};
use super::directories::{Name, listing, size};
use super::inodes::{Head, INODE, Layout, index, index_size, inode};
use super::place::Places;
use super::xattrs::Shared;
use crate::archive::Compression;
use crate::name::{bytes_of, shown};
use crate::store::{Entry, Kind};

/// Source: erofs_fs.h, EROFS_SUPER_MAGIC_V1.
const MAGIC: u32 = 0xe0f5_e1e2;
/// Where the superblock is in its block.
const SUPER: usize = 1024;

/// What an image is made of.
pub struct EroImage<'a> {
    /// Sorted by path; `.` is the root.
    pub entries: &'a [(String, Entry, usize)],
    /// For each entry that is a file with content, whose content it is: the number of an entry in `runs`.
    pub content: &'a BTreeMap<usize, usize>,
    /// The data.
    pub runs: &'a [EroRun],
    /// What the frames of `runs` are.
    pub infos: &'a [EroInfo],
    /// Compressor.
    pub compression: Compression,
    /// Bytes of a chunk.
    pub chunk: u32,
    /// Time of the image, in seconds since 1970.
    pub epoch: i64,
}

/// What an inode is made of, once per hard link.
struct Node<'a> {
    item: usize,
    links: u32,
    xattrs: Vec<u8>,
    layout: Layout,
    size: u64,
    /// Blocks that are compressed, or the first block.
    block: u32,
    /// What stands behind the attributes: an end, or an index.
    rest: Vec<u8>,
    /// Bytes that `rest` will have.
    room: u64,
    /// Where the inode is in its area.
    at: u64,
    /// Names, of a directory.
    names: Vec<Name<'a>>,
}

/// The kinds of entries, the nodes that they belong to, and what lies in each directory.
struct Tree<'a> {
    /// By entry.
    nodes: Vec<usize>,
    /// The first entry of each node, and how many names it has.
    firsts: Vec<(usize, u32)>,
    children: BTreeMap<&'a str, Vec<usize>>,
    directories: BTreeMap<&'a str, usize>,
}

fn above(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or((".", path))
}

fn tree(entries: &[(String, Entry, usize)]) -> Result<Tree<'_>, String> {
    let directories: BTreeMap<&str, usize> = entries
        .iter()
        .enumerate()
        .filter(|(_, one)| one.1.is_directory())
        .map(|(at, one)| (one.0.as_str(), at))
        .collect();
    directories.get(".").ok_or("the image has no root directory")?;
    let mut tree = Tree { nodes: vec![0; entries.len()], firsts: Vec::new(), children: BTreeMap::new(), directories };
    let mut groups: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for (at, (path, entry, layer)) in entries.iter().enumerate() {
        if entry.kind == Kind::Whiteout {
            continue;
        }
        if path != "." {
            let (parent, _) = above(path);
            if !tree.directories.contains_key(parent) {
                return Err(format!("`{}` lies in no directory of the image", shown(path)));
            }
            tree.children.entry(parent).or_default().push(at);
        }
        let mut make = || {
            tree.firsts.push((at, 0));
            tree.firsts.len() - 1
        };
        let node = match &entry.link_group {
            Some(group) => *groups.entry((*layer, group)).or_insert_with(make),
            None => make(),
        };
        tree.nodes[at] = node;
        tree.firsts[node].1 += 1;
    }
    Ok(tree)
}

/// Names of a directory with `.` and `..`, sorted by their bytes.
fn names<'a>(entries: &'a [(String, Entry, usize)], tree: &Tree<'a>, item: usize) -> Vec<Name<'a>> {
    let path = entries[item].0.as_str();
    let parent = if path == "." { item } else { tree.directories.get(above(path).0).copied().unwrap_or(item) };
    let mut names = vec![Name { name: b"."[..].into(), item }, Name { name: b".."[..].into(), item: parent }];
    for child in tree.children.get(path).into_iter().flatten() {
        names.push(Name { name: bytes_of(above(&entries[*child].0).1), item: *child });
    }
    names.sort_by(|a, b| a.name.cmp(&b.name));
    names
}

/// How a content of the tables is stored: as much of it as fits beside the inode, the rest in blocks.
fn layout_of(size: u64, xattrs: usize) -> (Layout, u64) {
    let tail = size % BLOCK;
    match tail > 0 && INODE + xattrs as u64 + tail <= BLOCK {
        true => (Layout::Inline, tail),
        false => (Layout::Plain, 0),
    }
}

/// Makes what stands before the data and behind it.
///
/// # Errors
/// A text: what the format cannot hold.
pub fn finish_erofs(image: &EroImage<'_>) -> Result<crate::archive::Finished, String> {
    let entries = image.entries;
    let files = place_files(image.runs, image.infos, 1)?;
    let data: u64 = image.infos.iter().map(|info| info.frame.size).sum();
    let meta_block = u32::try_from(1 + data / BLOCK).map_err(|_| "the image is too large for erofs")?;
    let tree = tree(entries)?;
    let mut shared = Shared::default();
    let mut nodes = Vec::with_capacity(tree.firsts.len());
    for (item, links) in &tree.firsts {
        nodes.push(node(image, &tree, &files, &mut shared, *item, *links)?);
    }
    // The root first: its number has 16 bits.
    let root = tree.nodes[tree.directories["."]];
    let mut places = Places::new();
    let order: Vec<usize> = [root].into_iter().chain((0..nodes.len()).filter(|one| *one != root)).collect();
    for at in &order {
        let node = &mut nodes[*at];
        let bytes = INODE + node.xattrs.len() as u64 + node.room;
        if node.layout == Layout::Inline && bytes > BLOCK {
            return Err(format!("`{}` has too many attributes for erofs", shown(&entries[node.item].0)));
        }
        node.at = places.take(bytes, node.layout == Layout::Inline);
    }
    let mut meta = vec![0; usize::try_from(places.end().next_multiple_of(BLOCK)).unwrap_or_default()];
    // Numbers count units of 32 bytes from the first block of the area.
    let numbers: Vec<u64> = nodes.iter().map(|node| node.at / 32).collect();
    let mut more: Vec<u8> = Vec::new();
    let more_block = meta_block + (meta.len() as u64 / BLOCK) as u32;
    for (number, node) in nodes.iter_mut().enumerate() {
        let entry = &entries[node.item].1;
        let text = match &entry.kind {
            Kind::Directory => Some(listing(&node.names, &|item| (numbers[tree.nodes[item]], &entries[item].1.kind))),
            Kind::Symlink(target) => Some(bytes_of(target).into_owned()),
            _ => None,
        };
        if let Some(text) = text {
            let tail = if node.layout == Layout::Inline { text.len() % BLOCK as usize } else { 0 };
            let (blocks, tail) = text.split_at(text.len() - tail);
            node.rest = tail.to_vec();
            if !blocks.is_empty() {
                node.block = more_block + (more.len() as u64 / BLOCK) as u32;
                more.extend_from_slice(blocks);
                more.resize(more.len().next_multiple_of(BLOCK as usize), 0);
            }
        }
        let head = Head {
            layout: node.layout,
            number: number as u32 + 1,
            links: node.links,
            size: node.size,
            block: node.block,
            xattrs: node.xattrs.len(),
        };
        let bytes = [inode(entry, &head), std::mem::take(&mut node.xattrs), std::mem::take(&mut node.rest)].concat();
        let at = usize::try_from(node.at).unwrap_or_default();
        meta.get_mut(at..at + bytes.len()).ok_or("an inode has no place")?.copy_from_slice(&bytes);
    }
    let xattr_block = more_block + (more.len() as u64 / BLOCK) as u32;
    let mut tables = meta;
    tables.extend_from_slice(&more);
    tables.extend_from_slice(shared.bytes());
    tables.resize(tables.len().next_multiple_of(BLOCK as usize), 0);
    let blocks = meta_block + (tables.len() as u64 / BLOCK) as u32;
    let root = u16::try_from(numbers[root]).map_err(|_| "the root has no number")?;
    let head =
        head(image, [blocks, meta_block, if shared.bytes().is_empty() { 0 } else { xattr_block }], root, nodes.len());
    Ok(crate::archive::Finished { head, tables })
}

/// What is known of a node before it has a place.
fn node<'a>(
    image: &EroImage<'a>,
    tree: &Tree<'a>,
    files: &BTreeMap<usize, EroPlace>,
    shared: &mut Shared,
    item: usize,
    links: u32,
) -> Result<Node<'a>, String> {
    let (path, entry, _) = &image.entries[item];
    let xattrs = shared.body(&entry.xattrs);
    let mut node = Node {
        item,
        links,
        layout: Layout::Plain,
        size: 0,
        block: 0,
        rest: Vec::new(),
        room: 0,
        at: 0,
        names: Vec::new(),
        xattrs,
    };
    match &entry.kind {
        Kind::Directory => {
            node.names = names(image.entries, tree, item);
            node.size = size(&node.names);
            (node.layout, node.room) = layout_of(node.size, node.xattrs.len());
            let below = node.names.iter().filter(|name| image.entries[name.item].1.is_directory()).count();
            node.links = below as u32;
        }
        Kind::Symlink(target) => {
            node.size = bytes_of(target).len() as u64;
            (node.layout, node.room) = layout_of(node.size, node.xattrs.len());
        }
        Kind::File { size, .. } if *size > 0 => {
            let known = image.content.get(&item).and_then(|item| files.get(item));
            let place = known.ok_or_else(|| format!("the content of `{}` is in no frame", shown(path)))?;
            node.size = *size;
            node.block = place.block;
            if let Some(chunks) = &place.compressed {
                node.layout = Layout::Compressed;
                node.block = chunk_blocks(*size, image.chunk, chunks);
                node.room = index_size(*size);
                node.rest = index(*size, image.chunk, chunks, place.block, node.xattrs.len() as u64);
            } else if !place.tail.is_empty() {
                node.layout = Layout::Inline;
                node.room = place.tail.len() as u64;
                node.rest.clone_from(&place.tail);
            }
        }
        _ => {}
    }
    Ok(node)
}

/// Blocks that a compressed file takes.
fn chunk_blocks(size: u64, chunk: u32, chunks: &[u8]) -> u32 {
    let lengths = super::blocks::chunk_lengths(size, chunk);
    lengths
        .zip(chunks)
        .map(|(length, blocks)| if *blocks == 0 { length.div_ceil(BLOCK) as u32 } else { u32::from(*blocks) })
        .sum()
}

/// Features, and what goes with them. Source: erofs_fs.h.
mod feature {
    /// The superblock has a checksum; inodes have times of their own.
    pub const COMPATIBLE: u32 = 0x1 | 0x2;
    /// Zeros stand before compressed data; the compressors' settings follow the superblock, and chunks have several blocks.
    pub const COMPRESSED: u32 = 0x1 | 0x2;
}

/// The block with the superblock.
fn head(image: &EroImage<'_>, [blocks, meta, xattrs]: [u32; 3], root: u16, inodes: usize) -> Vec<u8> {
    let is_compressed = image.compression != Compression::None;
    let mut out = vec![0; SUPER];
    for number in [MAGIC, 0, feature::COMPATIBLE] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&[BLOCK.trailing_zeros() as u8, 0]);
    out.extend_from_slice(&root.to_le_bytes());
    out.extend_from_slice(&(inodes as u64).to_le_bytes());
    out.extend_from_slice(&image.epoch.to_le_bytes());
    for number in [0, blocks, meta, xattrs] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    // No identity and no name: the bytes are a function of the content.
    out.extend_from_slice(&[0; 32]);
    out.extend_from_slice(&(if is_compressed { feature::COMPRESSED } else { 0 }).to_le_bytes());
    // The bit of the first compressor: LZ4.
    out.extend_from_slice(&u16::from(is_compressed).to_le_bytes());
    out.resize(SUPER + 128, 0);
    if is_compressed {
        // struct z_erofs_lz4_cfgs, with its size before it.
        let most = (u64::from(image.chunk) + u64::from(image.chunk) / 4).div_ceil(BLOCK) as u16;
        for number in [14, u16::MAX, most] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    out.resize(BLOCK as usize, 0);
    let sum = checksum(&out[SUPER..]);
    out[SUPER + 4..SUPER + 8].copy_from_slice(&sum.to_le_bytes());
    out
}

/// CRC-32C of the superblock's block, without the inversion in the end. Source: Linux, erofs_superblock_csum_verify.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::checksum;

    #[test]
    fn the_checksum_is_crc32c_without_its_last_inversion() {
        // Source: RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(!checksum(&[0; 32]), 0x8a91_36aa);
    }
}

//! The inode tree, before offsets are assigned.

use std::collections::BTreeMap;

use super::BLOCK;
use super::blocks::EroPlace;
use super::directories::{Name, size};
use super::image::EroImage;
use super::inodes::{INODE, Layout, index_size};
use super::xattrs::Shared;
use node_words::name::{bytes_of, shown};
use store::{Entry, Kind};

/// What an inode is made of, once per hard link.
pub(super) struct Node<'a> {
    pub item: usize,
    pub links: u32,
    /// What stands between the inode and its data.
    pub xattrs: Vec<u8>,
    pub layout: Layout,
    /// Bytes of content.
    pub size: u64,
    /// Blocks that are compressed, or the first block.
    pub block: u32,
    /// Bytes that stand behind the attributes: an end, or an index.
    pub room: u64,
    /// Where the inode is in its area.
    pub at: u64,
    pub names: Vec<Name<'a>>,
}

/// The nodes that entries belong to, and what lies in each directory.
pub(super) struct Tree<'a> {
    pub nodes: Vec<usize>,
    /// The first entry of each node, and how many names it has.
    pub firsts: Vec<(usize, u32)>,
    children: BTreeMap<&'a str, Vec<usize>>,
    pub directories: BTreeMap<&'a str, usize>,
}

fn above(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or((".", path))
}

/// Finds the nodes of entries.
/// Errors: A text for an entry that is outside the image.
pub(super) fn tree(entries: &[(String, Entry, usize)]) -> Result<Tree<'_>, String> {
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
                return Err(format!("`{}` has no parent directory in the image", shown(path)));
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

/// What is known of a node before it has a place.
/// Errors: A text for a file whose content is nowhere.
pub(super) fn node<'a>(
    image: &EroImage<'a>,
    tree: &Tree<'a>,
    files: &BTreeMap<usize, EroPlace<'_>>,
    shared: &mut Shared,
    item: usize,
    links: u32,
) -> Result<Node<'a>, String> {
    let (path, entry, _) = &image.entries[item];
    let xattrs = shared.body(&entry.xattrs);
    let mut node =
        Node { item, links, layout: Layout::Plain, size: 0, block: 0, room: 0, at: 0, names: Vec::new(), xattrs };
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
            } else if place.tail > 0 {
                node.layout = Layout::Inline;
                node.room = place.tail;
            }
        }
        _ => {}
    }
    Ok(node)
}

fn chunk_blocks(size: u64, chunk: u32, chunks: &[u8]) -> u32 {
    let lengths = super::blocks::chunk_lengths(size, chunk);
    lengths
        .zip(chunks)
        .map(|(length, blocks)| if *blocks == 0 { length.div_ceil(BLOCK) as u32 } else { u32::from(*blocks) })
        .sum()
}

//! Writes the metadata tables and the superblock.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;

use super::BLOCK;
use super::blocks::{EroPlace, place_files};
use super::directories::listing;
use super::image::EroImage;
use super::inodes::{Head, INODE, Layout, index, inode};
use super::nodes::{node, tree};
use super::place::Places;
use super::tails::Tails;
use super::xattrs::Shared;
use crate::Compression;
use node_words::name::{bytes_of, shown};
use store::Kind;

/// Source: erofs_fs.h, EROFS_SUPER_MAGIC_V1.
const MAGIC: u32 = 0xe0f5_e1e2;
const SUPER: usize = 1024;

/// Writes what stands behind the data; gives what stands before it. `aside` is an empty file that may be used.
/// Errors: A text: what the format cannot hold, or what cannot be read or written.
pub fn finish_erofs(image: &EroImage<'_>, aside: &File, out: &mut dyn Write) -> Result<Vec<u8>, String> {
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
    let end = places.end().next_multiple_of(BLOCK);
    // Numbers count units of 32 bytes from the first block of the area.
    let numbers: Vec<u64> = nodes.iter().map(|node| node.at / 32).collect();
    let mut more: Vec<u8> = Vec::new();
    let more_block = meta_block + (end / BLOCK) as u32;
    let mut tails = Tails::new(image.tails);
    // Inodes lie in holes that others left, so not one behind the other; the file's holes are zeros.
    let said = |error: io::Error| format!("cannot pack: {error}");
    aside.set_len(end).map_err(said)?;
    for (number, node) in nodes.iter_mut().enumerate() {
        let entry = &entries[node.item].1;
        let place = image.content.get(&node.item).and_then(|item| files.get(item));
        let rest = match (&entry.kind, place) {
            (Kind::Directory | Kind::Symlink(_), _) => {
                let mut text = match &entry.kind {
                    Kind::Symlink(target) => bytes_of(target).into_owned(),
                    _ => listing(&node.names, &|item| (numbers[tree.nodes[item]], &entries[item].1.kind)),
                };
                let tail = if node.layout == Layout::Inline { text.len() % BLOCK as usize } else { 0 };
                let tail = text.split_off(text.len() - tail);
                if !text.is_empty() {
                    node.block = more_block + (more.len() as u64 / BLOCK) as u32;
                    more.extend_from_slice(&text);
                    more.resize(more.len().next_multiple_of(BLOCK as usize), 0);
                }
                tail
            }
            (_, Some(EroPlace { compressed: Some(chunks), block, .. })) => {
                index(node.size, image.chunk, chunks, *block, node.xattrs.len() as u64)
            }
            (_, Some(place)) if place.tail > 0 => {
                let tail = tails.get(place.known_by)?;
                if tail.len() as u64 != place.tail {
                    return Err("a frame's files do not match its description".to_owned());
                }
                tail.to_vec()
            }
            _ => Vec::new(),
        };
        let head = Head {
            layout: node.layout,
            number: number as u32 + 1,
            links: node.links,
            size: node.size,
            block: node.block,
            xattrs: node.xattrs.len(),
        };
        let bytes = [inode(entry, &head), std::mem::take(&mut node.xattrs), rest].concat();
        if node.at + bytes.len() as u64 > end {
            return Err("an inode has no offset".to_owned());
        }
        aside.write_all_at(&bytes, node.at).map_err(said)?;
    }
    let inodes = nodes.len();
    drop(nodes);
    let xattr_block = more_block + (more.len() as u64 / BLOCK) as u32;
    let mut meta = aside;
    meta.rewind().map_err(said)?;
    io::copy(&mut meta.take(end), out).map_err(said)?;
    out.write_all(&more).map_err(said)?;
    let mut last = shared.bytes().to_vec();
    last.resize(last.len().next_multiple_of(BLOCK as usize), 0);
    out.write_all(&last).map_err(said)?;
    let blocks = xattr_block + (last.len() as u64 / BLOCK) as u32;
    let root = u16::try_from(numbers[root]).map_err(|_| "the root directory has no inode number")?;
    Ok(head(image, [blocks, meta_block, if last.is_empty() { 0 } else { xattr_block }], root, inodes))
}

/// Features, and what goes with them. Source: erofs_fs.h.
mod feature {
    /// The superblock has a checksum; inodes have times of their own.
    pub(super) const COMPATIBLE: u32 = 0x1 | 0x2;
    /// Zeros stand before compressed data; the compressors' settings follow the superblock, and chunks have several blocks.
    pub(super) const COMPRESSED: u32 = 0x1 | 0x2;
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

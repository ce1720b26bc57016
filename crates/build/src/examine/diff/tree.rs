//! A tree of files as a comparison sees it, read from a directory, a packed image, or the manifests of layers.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use data_encoding::HEXLOWER;

use archive::{Budget, Container, Listed, Unlisted, list_directory, list_packed, over};
use base::digest::Digest;
use packages::installed::{LONGEST_DATABASE, lists_packages};
use store::{Kind, Merged};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// `directory`, `file`, `link`, `character device`, `block device`, `pipe` or `socket`.
    pub kind: &'static str,
    pub size: u64,
    /// Permission bits, set-id and sticky bits included.
    pub mode: u32,
    pub owner: (u32, u32),
    /// Digest of a file's content, a link's target, or a device's number.
    pub content: String,
    /// Extended attributes, values in hexadecimal.
    pub xattrs: BTreeMap<String, String>,
}

/// Paths without a slash in front; the root is `.`.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    pub nodes: BTreeMap<String, Node>,
    /// Whether extended attributes were read.
    pub has_xattrs: bool,
    pub databases: BTreeMap<String, Vec<u8>>,
    /// Their bytes.
    pub database_bytes: u64,
    /// Most of them, of a file that others wrote.
    pub most_bytes: Option<u64>,
}

/// A link's target is read so far, in bytes; Linux's are shorter than 4096.
const LONGEST_LINK: u64 = 1 << 16;

/// Source: stat(2).
fn kind_of(mode: u32) -> &'static str {
    match mode & 0o170_000 {
        0o040_000 => "directory",
        0o120_000 => "link",
        0o020_000 => "character device",
        0o060_000 => "block device",
        0o010_000 => "pipe",
        0o140_000 => "socket",
        _ => "file",
    }
}

/// Digest of a file's content and its size; the content too where it is asked for.
fn digest_of(content: &mut dyn Read, keep: bool) -> io::Result<(String, u64, Option<Vec<u8>>)> {
    let mut hasher = blake3::Hasher::new();
    if keep {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        hasher.update(&bytes);
        let digest = Digest(*hasher.finalize().as_bytes()).to_string();
        return Ok((digest, bytes.len() as u64, Some(bytes)));
    }
    let size = io::copy(content, &mut hasher)?;
    Ok((Digest(*hasher.finalize().as_bytes()).to_string(), size, None))
}

impl Tree {
    fn take(&mut self, entry: &Listed, content: &mut dyn Read) -> io::Result<()> {
        let path = if entry.path.is_empty() { ".".to_owned() } else { entry.path.clone() };
        let kind = kind_of(entry.mode);
        let mut node = Node {
            kind,
            mode: entry.mode & 0o7777,
            owner: (entry.uid, entry.gid),
            xattrs: entry.xattrs.iter().map(|(name, value)| (name.clone(), HEXLOWER.encode(value))).collect(),
            ..Node::default()
        };
        match kind {
            "file" => {
                let keep = lists_packages(&path) && entry.size < LONGEST_DATABASE;
                self.database_bytes += if keep { entry.size } else { 0 };
                if let Some(most) = self.most_bytes.filter(|most| self.database_bytes > *most) {
                    return Err(over(most, "bytes of package databases"));
                }
                let (digest, size, bytes) = digest_of(content, keep)?;
                (node.content, node.size) = (digest, size);
                self.databases.extend(bytes.map(|bytes| (path.clone(), bytes)));
            }
            "link" => {
                let mut bytes = Vec::new();
                content.take(LONGEST_LINK).read_to_end(&mut bytes)?;
                let target = String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned();
                node.content = entry.target.clone().unwrap_or(target);
            }
            "character device" | "block device" => node.content = format!("{}:{}", entry.device.0, entry.device.1),
            _ => {}
        }
        self.nodes.insert(path, node);
        Ok(())
    }

    /// Reads a packed image: cpio or tar, compressed or not, or squashfs. `xattrs` are those that its index has: path, name, value.
    /// Errors: The reader's; `InvalidData` for what is neither.
    pub fn of_archive(file: &Path, xattrs: Option<&[(String, String, String)]>) -> io::Result<Self> {
        let packed = std::fs::File::open(file)?;
        let mut tree = Self { most_bytes: Some(Budget::of_file(&packed)?.texts()), ..Self::default() };
        // Names of one file: the content comes with one of them.
        let mut links: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        let mut hard: Vec<(String, String)> = Vec::new();
        let mut look = |entry: &Listed, content: &mut dyn Read| {
            if let Some((file, _)) = entry.file {
                links.entry(file).or_default().push(entry.path.clone());
            }
            if let Some(other) = &entry.same_as {
                hard.push((entry.path.clone(), other.clone()));
                return Ok(());
            }
            tree.take(entry, content)
        };
        let kind = list_packed(&packed, &mut look).map_err(|error| match error {
            Unlisted::Io(error) => error,
            Unlisted::FileSystem(_) | Unlisted::Unknown => {
                io::Error::new(io::ErrorKind::InvalidData, "it is neither cpio, tar, squashfs nor erofs")
            }
        })?;
        tree.has_xattrs = kind != Container::Cpio || xattrs.is_some();
        for names in links.into_values() {
            let full = names.iter().filter_map(|name| tree.nodes.get(name)).max_by_key(|node| node.size).cloned();
            for (name, full) in names.iter().zip(std::iter::repeat(full)) {
                if let (Some(node), Some(full)) = (tree.nodes.get_mut(name), full) {
                    (node.size, node.content) = (full.size, full.content);
                }
            }
        }
        for (name, other) in hard {
            if let Some(node) = tree.nodes.get(&other).cloned() {
                tree.nodes.insert(name, node);
            }
        }
        for (path, name, value) in xattrs.into_iter().flatten() {
            if let Some(node) = tree.nodes.get_mut(path) {
                node.xattrs.insert(name.clone(), value.clone());
            }
        }
        Ok(tree)
    }

    /// Reads a directory; links are not followed.
    /// Errors: The first file or directory that cannot be read.
    pub fn of_directory(directory: &Path) -> io::Result<Self> {
        let mut tree = Self { has_xattrs: true, ..Self::default() };
        list_directory(directory, &mut |_| true, &mut |entry, content| tree.take(entry, content))?;
        Ok(tree)
    }

    /// The tree of an image's layers, without paths that are left out of the packed image.
    pub fn of_layers(merged: &Merged, excluded: &std::collections::BTreeSet<String>) -> Self {
        let mut tree = Self { has_xattrs: true, ..Self::default() };
        for (path, found) in merged.0.iter().filter(|(path, _)| !excluded.contains(*path)) {
            let entry = &found.entry;
            let (kind, size, content) = match &entry.kind {
                Kind::Directory => ("directory", 0, String::new()),
                Kind::File { size, digest } => ("file", *size, digest.to_string()),
                Kind::Symlink(target) => ("link", 0, target.clone()),
                Kind::Character(major, minor) => ("character device", 0, format!("{major}:{minor}")),
                Kind::Block(major, minor) => ("block device", 0, format!("{major}:{minor}")),
                Kind::Fifo => ("pipe", 0, String::new()),
                Kind::Socket => ("socket", 0, String::new()),
                Kind::Whiteout => continue,
            };
            let xattrs = entry.xattrs.iter().map(|(name, value)| (name.clone(), HEXLOWER.encode(value))).collect();
            let owner = (entry.uid, entry.gid);
            // A link's mode says nothing; cpio and file systems write 0777.
            let mode = if kind == "link" { 0o777 } else { entry.mode };
            tree.nodes.insert(path.clone(), Node { kind, size, mode, owner, content, xattrs });
        }
        tree
    }
}

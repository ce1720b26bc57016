//! The index of a packed image, which a node fetches first (D31).

use std::collections::BTreeMap;

use serde::Serialize;

use super::selinux::Labels;
use archive::{Compression, Form, FrameInfo};
use base::digest::{Digest, Sha256};

#[derive(Debug, Serialize)]
struct IndexFrame {
    offset: u64,
    size: u64,
    unpacked: u64,
    sha256: Sha256,
    blake3: Digest,
}

#[derive(Debug, Serialize)]
struct Index<'a> {
    format: u32,
    archive: &'a str,
    compress: &'a str,
    size: u64,
    unpacked: u64,
    memory: u64,
    inodes: u64,
    frames: Vec<IndexFrame>,
    xattrs: &'a [(String, String, String)],
    /// SELinux labels: format 2 only, so that an initrd that would not set them says so.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a Labels,
}

pub(crate) fn index_text(
    (form, compression): (Form, Compression),
    frames: &[(Digest, FrameInfo)],
    inodes: u64,
    memory: u64,
    xattrs: &[(String, String, String)],
    labels: &Labels,
) -> Vec<u8> {
    let mut offset = 0;
    let mut listed = Vec::new();
    for (_, info) in frames {
        let FrameInfo { size, unpacked, sha256, blake3 } = *info;
        listed.push(IndexFrame { offset, size, unpacked, sha256, blake3 });
        offset += size;
    }
    let index = Index {
        format: if labels.is_empty() { 1 } else { 2 },
        archive: form.name(),
        compress: compression.name(),
        size: offset,
        unpacked: frames.iter().map(|(_, info)| info.unpacked).sum(),
        memory,
        inodes,
        frames: listed,
        xattrs,
        labels,
    };
    let mut text = serde_json::to_vec_pretty(&index).unwrap_or_default();
    text.push(b'\n');
    text
}

//! What the server says of the image: its index, checked before it is used.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::Digest;

use super::fetch::Client;
use super::unpack;
use crate::say;

/// Largest index that is read; one of a large image has some hundred kilobytes.
pub(crate) const INDEX_LIMIT: u64 = 64 << 20;

/// Largest digest file that is read; ours has two lines.
const DIGESTS_LIMIT: u64 = 64 << 10;

/// A frame: where it is in the file, and its digest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Frame {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Digest of those bytes, hexadecimal.
    pub sha256: String,
}

/// What the server says of the image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Index {
    /// Version of the form.
    pub format: u32,
    /// Kind of archive.
    pub archive: String,
    /// Kind of compression.
    pub compress: String,
    /// Bytes of the file.
    pub size: u64,
    /// Memory that the unpacked image takes, in bytes.
    pub memory: u64,
    /// Entries.
    pub inodes: u64,
    /// Frames; the first has all directories.
    pub frames: Vec<Frame>,
    /// Extended attributes: path, name, value in hexadecimal.
    pub xattrs: Vec<(String, String, String)>,
    /// SELinux labels, and the paths from which on they hold (`.` is the root); from format 2 on.
    #[serde(default)]
    pub labels: BTreeMap<String, Vec<String>>,
    /// SHA-256 of this index's own text, hexadecimal.
    #[serde(skip)]
    pub digest: String,
}

impl Index {
    /// Whether nodes mount the image as it is.
    pub(crate) fn stays_packed(&self) -> bool {
        ["squashfs", "erofs"].contains(&self.archive.as_str())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256, hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&sha2::Sha256::digest(bytes))
}

/// Fetches the index and checks it: by the digest of the command line, else by the digest file beside the image.
pub(crate) fn fetch_index(client: &Client, url: &str, digest: Option<&str>) -> Result<Index, String> {
    let digests = match digest {
        Some(_) => None,
        None => client.read_if_there(&format!("{url}.sha256"), DIGESTS_LIMIT)?,
    };
    let image = url;
    let url = format!("{image}.index");
    let bytes = client.read(&url, INDEX_LIMIT)?;
    let found = sha256(&bytes);
    match (digest, digests) {
        (Some(expected), _) if expected != found && !fault::planted("node-index-unchecked") => {
            return Err(format!(
                "wrong digest: {url} has the SHA-256 {found}, but the command line asks for {expected}; was the image replaced after this node's boot entry was written?"
            ));
        }
        (Some(_), _) => {}
        (None, Some(text)) => {
            let expected = digest_of_index(&String::from_utf8_lossy(&text), image)
                .map_err(|problem| format!("{image}.sha256: {problem}; publish the image again"))?;
            if expected != found {
                return Err(format!(
                    "wrong digest: {url} has the SHA-256 {found}, but {image}.sha256 lists {expected}; is the image being published, or was one of the two files replaced?"
                ));
            }
            say!("the index matches {image}.sha256: integrity, not authenticity (no imgdigest=)");
        }
        (None, None) => say!(
            "the command line has no imgdigest=, and there is no {image}.sha256: the image is checked for damage, but not for who made it"
        ),
    }
    let mut index: Index = serde_json::from_slice(&bytes).map_err(|error| format!("{url} is not an index: {error}"))?;
    index.digest = found;
    check_index(&index).map_err(|problem| format!("{url}: {problem}"))?;
    Ok(index)
}

/// The index's digest in a digest file, as `sha256sum` writes it: digest, blank, blank or `*`, name.
fn digest_of_index(text: &str, image: &str) -> Result<String, String> {
    let image = image.split(['?', '#']).next().unwrap_or_default();
    let name = format!("{}.index", image.rsplit('/').next().unwrap_or_default());
    for line in text.lines() {
        let Some((digest, rest)) = line.split_at_checked(64) else { continue };
        let is_digest = digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_digest && [format!("  {name}"), format!(" *{name}")].contains(&rest.trim_end().to_owned()) {
            return Ok(digest.to_lowercase());
        }
    }
    Err(format!("it has no digest of {name}"))
}

/// Whether it is one that this program understands.
pub(crate) fn check_index(index: &Index) -> Result<(), String> {
    if !(1..=2).contains(&index.format) || !["cpio", "tar", "squashfs", "erofs"].contains(&index.archive.as_str()) {
        return Err(format!(
            "this initrd does not support image format {} ({}); build both with the same imgbuild",
            index.format, index.archive
        ));
    }
    // What stays packed is the kernel's to read.
    if !index.stays_packed() && !unpack::COMPRESSIONS.contains(&index.compress.as_str()) {
        return Err(format!("this initrd does not support the compression `{}`", index.compress));
    }
    let mut offset = 0u64;
    for frame in &index.frames {
        if frame.offset != offset || frame.size == 0 {
            return Err("its frames do not follow one another".to_owned());
        }
        offset = offset.checked_add(frame.size).ok_or("its frames are too large")?;
    }
    if offset != index.size || index.frames.is_empty() {
        return Err("its frames do not fill the file".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(frames: &[(u64, u64)], size: u64) -> Index {
        let frames =
            frames.iter().map(|(offset, size)| Frame { offset: *offset, size: *size, sha256: String::new() }).collect();
        Index {
            format: 1,
            archive: "cpio".into(),
            compress: "zstd".into(),
            size,
            memory: 0,
            inodes: 0,
            frames,
            xattrs: vec![],
            labels: BTreeMap::new(),
            digest: String::new(),
        }
    }

    #[test]
    fn frames_must_fill_the_file() {
        assert!(check_index(&index(&[(0, 3), (3, 4)], 7)).is_ok());
        for bad in
            [index(&[(0, 3), (4, 4)], 8), index(&[(0, 3)], 4), index(&[], 0), index(&[(0, u64::MAX), (u64::MAX, 5)], 4)]
        {
            assert!(check_index(&bad).is_err());
        }
    }

    #[test]
    fn numbers_that_no_machine_has_are_too_much_memory() {
        for size in [1 << 62, u64::MAX] {
            let mut lying = index(&[(0, size)], size);
            assert!(check_index(&lying).is_ok());
            assert!(crate::unpacked::check_frames(&lying).unwrap_err().contains("too little memory"));
            assert!(crate::unpacked::check_memory(&lying).unwrap_err().contains("too little memory"));
            lying = index(&[(0, 3)], 3);
            lying.memory = size;
            assert!(crate::unpacked::check_memory(&lying).unwrap_err().contains("too little memory"));
        }
    }

    #[test]
    fn the_indexs_digest_is_found_in_a_digest_file() {
        let (a, b) = ("a".repeat(64), "B".repeat(64));
        let url = "http://10.0.0.1:80//install/x/rootimg.cpio.gz";
        let text = format!("{a}  rootimg.cpio.gz\n{b}  rootimg.cpio.gz.index\n");
        assert_eq!(digest_of_index(&text, url), Ok("b".repeat(64)));
        assert_eq!(digest_of_index(&text.replace("  rootimg", " *rootimg"), url), Ok("b".repeat(64)));
        for bad in [
            String::new(),
            format!("{a}  rootimg.cpio.gz\n"),
            format!("{b} rootimg.cpio.gz.index\n"),
            format!("{}  rootimg.cpio.gz.index\n", "g".repeat(64)),
            "\u{e9}".repeat(64),
        ] {
            assert_eq!(
                digest_of_index(&bad, url),
                Err("it has no digest of rootimg.cpio.gz.index".to_owned()),
                "{bad}"
            );
        }
    }
}

//! Unpacks a frame: a piece of an archive, compressed by itself.

use std::io::{BufReader, Read};

use super::cpio;
use super::tar::{self, Left};
use crate::sys::{Devices, Root};

/// Compressions that are known.
pub(crate) const COMPRESSIONS: [&str; 5] = ["zstd", "gzip", "xz", "lz4", "none"];

/// Decompresses and unpacks a frame below a directory.
///
/// # Errors
/// A text: what is wrong with the frame, or what the kernel refused.
pub(crate) fn frame(frame: &[u8], archive: &str, compress: &str, root: &str, devices: Devices) -> Result<Left, String> {
    let plain: Box<dyn Read> = match compress {
        "none" => Box::new(frame),
        "gzip" => Box::new(flate2::read::MultiGzDecoder::new(frame)),
        "xz" => Box::new(liblzma::bufread::XzDecoder::new(frame)),
        "lz4" if fault::planted("node-lz4-not-unpacked") => Box::new(frame),
        "lz4" => Box::new(lz4_flex::frame::FrameDecoder::new(frame)),
        _ => Box::new(zstd::Decoder::with_buffer(frame).map_err(|error| error.to_string())?),
    };
    let mut input = BufReader::with_capacity(1 << 16, plain);
    let root = Root::open(root, devices).map_err(|error| error.to_string())?;
    match archive {
        "tar" => tar::unpack(&mut input, &root),
        _ => cpio::unpack(&mut input, &root).map(|times| Left { times, ..Left::default() }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    use super::*;

    /// An entry: name, mode with its type, content or where a link leads, and the entry that it is a further name of.
    type Entry<'e> = (&'e str, u32, &'e str, Option<&'e str>);

    /// What an archive tries, and its frames.
    type Case<'e> = (&'e str, Vec<Vec<Entry<'e>>>);

    fn own() -> (u32, u32) {
        std::fs::metadata("/proc/self").map(|own| (own.uid(), own.gid())).unwrap()
    }

    /// The entries as cpio; a further name has no data, and the first one comes after it.
    fn as_cpio(entries: &[Entry<'_>]) -> Vec<u8> {
        let (uid, gid) = own();
        let mut all = Vec::new();
        let mut put = |name: &str, mode: u32, inode: usize, links: usize, data: &[u8]| {
            let device = if mode & 0o170_000 == 0o020_000 { (1, 3) } else { (0, 0) };
            let fields = [inode as u32, mode, uid, gid, links as u32, 7, data.len() as u32, 0, 0, device.0, device.1];
            let fields = fields.into_iter().chain([name.len() as u32 + 1, 0]);
            all.extend(
                format!("070701{}{name}\0", fields.map(|field| format!("{field:08x}")).collect::<String>()).bytes(),
            );
            all.resize(all.len().next_multiple_of(4), 0);
            all.extend(data);
            all.resize(all.len().next_multiple_of(4), 0);
        };
        for (at, (name, mode, text, same)) in entries.iter().enumerate() {
            match same {
                Some(other) => {
                    put(name, *mode, at, 2, b"");
                    put(other, *mode, at, 2, b"evil");
                }
                None => put(name, *mode, at, 1, text.as_bytes()),
            }
        }
        all
    }

    fn as_tar(entries: &[Entry<'_>]) -> Vec<u8> {
        let (uid, gid) = own();
        let mut all = Vec::new();
        for (name, mode, text, same) in entries {
            let kind = match (same, mode & 0o170_000) {
                (Some(_), _) => b'1',
                (_, 0o040_000) => b'5',
                (_, 0o120_000) => b'2',
                (_, 0o020_000) => b'3',
                (_, 0o010_000) => b'6',
                _ => b'0',
            };
            let data = if kind == b'0' { text.as_bytes() } else { b"" };
            let target = same.unwrap_or(if kind == b'2' { text } else { "" });
            let mut head = [0u8; 512];
            head[..name.len()].copy_from_slice(name.as_bytes());
            for (at, number) in [(100, mode & 0o7777), (108, uid), (116, gid), (329, 1), (337, 3)] {
                head[at..at + 7].copy_from_slice(format!("{number:07o}").as_bytes());
            }
            head[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
            head[156] = kind;
            head[157..157 + target.len()].copy_from_slice(target.as_bytes());
            head[257..265].copy_from_slice(b"ustar\x0000");
            head[148..156].fill(b' ');
            let sum: u64 = head.iter().map(|byte| u64::from(*byte)).sum();
            head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            all.extend(head);
            all.extend(data);
            all.resize(all.len().next_multiple_of(512), 0);
        }
        all
    }

    /// A file: its path, numbers, content.
    type Seen = (PathBuf, [u64; 6], Vec<u8>);

    /// What must not change: names, modes, owners, times, links and content of a directory.
    fn look(place: &Path) -> Vec<Seen> {
        let mut found = Vec::new();
        let mut waiting = vec![place.to_owned()];
        while let Some(path) = waiting.pop() {
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() {
                waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            let numbers = [meta.mode(), meta.uid(), meta.gid()].map(u64::from);
            let numbers = [numbers[0], numbers[1], numbers[2], meta.nlink(), meta.ino(), meta.mtime() as u64];
            found.push((path.clone(), numbers, std::fs::read(&path).unwrap_or_default()));
        }
        found.sort();
        found
    }

    const LINK: u32 = 0o120_777;
    const FILE: u32 = 0o104_755;
    const DIRECTORY: u32 = 0o042_777;
    const PIPE: u32 = 0o010_666;

    #[test]
    fn no_entry_of_an_archive_touches_what_lies_outside_of_the_tree() {
        let folder = std::env::temp_dir().join(format!("imgbuild-init-below-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let (outside, tree) = (folder.join("outside"), folder.join("tree"));
        std::fs::create_dir_all(outside.join("dir")).unwrap();
        std::fs::write(outside.join("secret"), "kept").unwrap();
        std::fs::set_permissions(outside.join("secret"), PermissionsExt::from_mode(0o640)).unwrap();
        let there = outside.to_str().unwrap();
        let absolute = format!("{there}/secret");
        let before = look(&outside);
        let cases: Vec<Case<'_>> = vec![
            ("through an absolute link", vec![vec![("a", LINK, there, None), ("a/made", FILE, "evil", None)]]),
            ("through a relative link", vec![vec![("a", LINK, "../outside", None), ("a/secret", FILE, "evil", None)]]),
            ("in a later frame", vec![vec![("a", LINK, there, None)], vec![("a/made", FILE, "evil", None)]]),
            (
                "through a link in a directory",
                vec![
                    vec![("d", DIRECTORY, "", None), ("d/a", LINK, there, None)],
                    vec![("d/a/dir/made", FILE, "evil", None)],
                ],
            ),
            (
                "through two links",
                vec![vec![("b", LINK, "a", None), ("a", LINK, there, None), ("b/dir", DIRECTORY, "", None)]],
            ),
            ("a directory's mode", vec![vec![("a", LINK, there, None), ("a/dir", DIRECTORY, "", None)]]),
            ("a link's end as a directory", vec![vec![("a", LINK, there, None), ("a", DIRECTORY, "", None)]]),
            ("a link's end as a file", vec![vec![("a", LINK, &absolute, None), ("a", FILE, "evil", None)]]),
            ("a link's end as a pipe", vec![vec![("a", LINK, &absolute, None), ("a", PIPE, "", None)]]),
            (
                "a directory, then a link",
                vec![vec![("a", DIRECTORY, "", None), ("a", LINK, there, None)], vec![("a/made", FILE, "evil", None)]],
            ),
            ("a link in a linked folder", vec![vec![("a", LINK, there, None), ("a/made", LINK, "x", None)]]),
            ("a pipe in a linked folder", vec![vec![("a", LINK, there, None), ("a/made", PIPE, "", None)]]),
            ("a further name outside", vec![vec![("a", LINK, there, None), ("a/made", FILE, "", Some("own"))]]),
            (
                "a further name of what is outside",
                vec![vec![("a", LINK, there, None), ("own", FILE, "", Some("a/secret"))]],
            ),
            (
                "a further name of a link",
                vec![
                    vec![("a", LINK, &absolute, None), ("own", FILE, "", Some("a"))],
                    vec![("own", FILE, "evil", None)],
                ],
            ),
            ("an absolute name", vec![vec![(&absolute, FILE, "evil", None)]]),
            (
                "a name of the parent",
                vec![vec![("d", DIRECTORY, "", None), ("d/../../outside/made", FILE, "evil", None)]],
            ),
            ("a further name of the parent's", vec![vec![("own", FILE, "", Some("../outside/secret"))]]),
        ];
        for (archive, make) in [("cpio", as_cpio as fn(&[Entry<'_>]) -> Vec<u8>), ("tar", as_tar)] {
            for (name, frames) in &cases {
                std::fs::create_dir(&tree).unwrap();
                let frames: Vec<Vec<u8>> = frames.iter().map(|entries| make(entries)).collect();
                // As a node does: frames, then further names and times, then attributes.
                let place = tree.to_str().unwrap();
                let mut left = Left::default();
                let mut refused = false;
                for bytes in &frames {
                    match frame(bytes, archive, "none", place, Devices::Made) {
                        Ok(more) => {
                            left.links.extend(more.links);
                            left.times.extend(more.times);
                        }
                        Err(_) => refused = true,
                    }
                }
                let root = Root::open(place, Devices::Made).unwrap();
                for (name, other) in &left.links {
                    refused |= root.hard_link(name, other).is_err();
                }
                for (name, time) in &left.times {
                    refused |= root.set_time(name, *time).is_err();
                }
                assert!(refused || *name == "a further name of a link", "{archive}: {name}");
                assert_eq!(look(&outside), before, "{archive}: {name}");
                std::fs::remove_dir_all(&tree).unwrap();
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn no_attribute_or_time_is_set_through_a_link_and_no_device_made_where_none_may_be() {
        let folder = std::env::temp_dir().join(format!("imgbuild-init-attributes-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let (outside, tree) = (folder.join("outside"), folder.join("tree"));
        std::fs::create_dir_all(outside.join("dir")).unwrap();
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(outside.join("secret"), "kept").unwrap();
        symlink(&outside, tree.join("a")).unwrap();
        symlink(outside.join("secret"), tree.join("b")).unwrap();
        std::fs::write(tree.join("own"), "own").unwrap();
        let (before, here) = (look(&outside), std::env::current_dir().unwrap());
        let root = Root::open(tree.to_str().unwrap(), Devices::Refused).unwrap();
        for name in ["a", "a/secret", "a/dir", "b", "../outside/secret", "/own", "own/../../outside/secret"] {
            // A link has no attributes of users, so that what is set on it is refused by the kernel.
            let set = root.set_xattr(name, "user.evil", "6869");
            assert!(set.is_err() || ["a", "b"].contains(&name), "{name}: {set:?}");
            let set = root.set_xattr(
                name,
                "system.posix_acl_access",
                "0200000001000600ffffffff04000600ffffffff20000600ffffffff",
            );
            assert!(set.is_err(), "{name}");
            assert!(root.set_time(name, 7).is_err() || ["a", "b"].contains(&name), "{name}");
        }
        assert_eq!(look(&outside), before);
        for path in [outside.clone(), outside.join("secret"), outside.join("dir")] {
            assert!(crate::sys::attributes(&path).iter().all(|(name, _)| name != "user.evil"), "{}", path.display());
        }
        // It is not that nothing is set.
        let _ = root.set_xattr("own", "user.good", "6869");
        root.set_time("own", 7).unwrap();
        assert_eq!(std::fs::metadata(tree.join("own")).unwrap().mtime(), 7);
        assert_eq!(std::env::current_dir().unwrap(), here);
        let device = as_tar(&[("null", 0o020_666, "", None)]);
        let said = frame(&device, "tar", "none", tree.to_str().unwrap(), Devices::Refused).unwrap_err();
        assert!(said.contains("a device, which is not made here"), "{said}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

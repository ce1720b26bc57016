//! Finds the disk that `imgcache=` names, by what its file system says of itself.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::modules::Modules;
use crate::say;

/// How long a disk may take until it is there; controllers of servers look at many.
const PATIENCE: Duration = Duration::from_secs(20);

/// A file system that can keep frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its device.
    pub path: String,
    /// What mount(2) calls it, and its module.
    pub kind: &'static str,
    label: String,
    uuid: String,
}

/// Waits for the device that the words name.
///
/// # Errors
/// A text: what is wrong with the words, or that nothing of that name came.
pub(crate) fn find(words: &str, modules: &Modules) -> Result<Found, String> {
    let is_known = ["/dev/", "LABEL=", "UUID=", "PARTLABEL="].iter().any(|start| words.starts_with(start));
    if !is_known {
        return Err("it is not one of /dev/NAME, LABEL=, UUID=, PARTLABEL=".to_owned());
    }
    let began = Instant::now();
    loop {
        let found = named(words);
        match found.as_slice() {
            [] => {}
            [one] => return Ok(one.clone()),
            [one, other, ..] => {
                say!("{words} is {} and {}; the first one is used", one.path, other.path);
                return Ok(one.clone());
            }
        }
        if began.elapsed() > PATIENCE {
            return Err(format!(
                "no ext4, xfs or btrfs disk has that name; found {}; does the initrd have the disk drivers ([kernel] drivers in the recipe)?",
                all()
            ));
        }
        std::thread::sleep(Duration::from_millis(200));
        modules.load_for_devices();
    }
}

/// The block devices that are no parts of memory, in order.
fn devices() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !["loop", "ram", "zram", "fd", "sr"].iter().any(|kind| is_numbered(name, kind)));
    names.sort();
    names
}

fn is_numbered(name: &str, kind: &str) -> bool {
    name.strip_prefix(kind).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// All disks and partitions, for a message.
fn all() -> String {
    let names = devices();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn named(words: &str) -> Vec<Found> {
    let mut found = Vec::new();
    for name in devices() {
        // Source: Linux, Documentation/core-api/kobject.rst: `!` stands for a slash.
        let path = format!("/dev/{}", name.replace('!', "/"));
        let is_asked = match words.split_once('=') {
            None if words != path => continue,
            Some(("PARTLABEL", label)) => {
                let text = std::fs::read_to_string(format!("/sys/class/block/{name}/uevent")).unwrap_or_default();
                text.lines().any(|line| line.strip_prefix("PARTNAME=") == Some(label))
            }
            _ => true,
        };
        let Some((kind, label, uuid)) =
            is_asked.then(|| File::open(&path).ok().and_then(|file| probe(&file))).flatten()
        else {
            continue;
        };
        let one = Found { path, kind, label, uuid };
        if match words.split_once('=') {
            Some(("LABEL", label)) => one.label == label,
            Some(("UUID", uuid)) => one.uuid == uuid.to_lowercase(),
            _ => true,
        } {
            found.push(one);
        }
    }
    found
}

/// Kind, label and UUID of a file system.
///
/// Source of the places: Linux, Documentation/filesystems/ext4/super.rst; fs/xfs/libxfs/xfs_format.h, `struct xfs_dsb`;
/// include/uapi/linux/btrfs_tree.h, `struct btrfs_super_block`.
fn probe(file: &File) -> Option<(&'static str, String, String)> {
    let bytes = |at: u64, count: usize| {
        let mut bytes = vec![0; count];
        file.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
    };
    let text = |bytes: Vec<u8>| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    let (kind, label, uuid) = if bytes(0x438, 2)? == [0x53, 0xef] {
        ("ext4", bytes(0x478, 16)?, bytes(0x468, 16)?)
    } else if bytes(0, 4)? == b"XFSB" {
        ("xfs", bytes(108, 12)?, bytes(32, 16)?)
    } else if bytes(0x10040, 8)? == b"_BHRfS_M" {
        ("btrfs", bytes(0x1012b, 256)?, bytes(0x10020, 16)?)
    } else {
        return None;
    };
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    Some((kind, text(label), parts.join("-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_say_what_they_are_called() {
        let file = |parts: &[(usize, &[u8])]| {
            let mut bytes = vec![0u8; 0x11000];
            for (at, part) in parts {
                bytes[*at..*at + part.len()].copy_from_slice(part);
            }
            let file = tempfile();
            file.write_all_at(&bytes, 0).unwrap();
            file
        };
        let uuid: Vec<u8> = (0x10..0x20).collect();
        let text = "10111213-1415-1617-1819-1a1b1c1d1e1f";
        let ext = file(&[(0x438, &[0x53, 0xef]), (0x478, b"nodecache"), (0x468, &uuid)]);
        assert_eq!(probe(&ext), Some(("ext4", "nodecache".to_owned(), text.to_owned())));
        let xfs = file(&[(0, b"XFSB"), (108, b"exactlytwelv"), (32, &uuid)]);
        assert_eq!(probe(&xfs), Some(("xfs", "exactlytwelv".to_owned(), text.to_owned())));
        let btrfs = file(&[(0x10040, b"_BHRfS_M"), (0x1012b, b"b"), (0x10020, &uuid)]);
        assert_eq!(probe(&btrfs), Some(("btrfs", "b".to_owned(), text.to_owned())));
        assert_eq!(probe(&file(&[])), None);
        let short = tempfile();
        assert_eq!(probe(&short), None);
    }

    fn tempfile() -> File {
        let path = std::env::temp_dir().join(format!("imgbuild-init-{}-{:?}", std::process::id(), Instant::now()));
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file
    }

    #[test]
    fn disks_in_memory_are_none() {
        assert!(is_numbered("loop0", "loop") && is_numbered("sr12", "sr"));
        assert!(!is_numbered("sda1", "sr") && !is_numbered("fda", "fd") && !is_numbered("ram", "ram"));
    }
}

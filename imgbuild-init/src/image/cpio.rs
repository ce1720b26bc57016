//! Unpacks a frame: some entries of a cpio archive in its `newc` form.

use crate::name::text_of;
use std::collections::HashMap;
use std::io::Read;

use crate::sys::{Made, Root};

/// Largest name; the kernel's PATH_MAX.
const NAME_LIMIT: usize = 4096;

/// File type bits of a mode. Source: stat(2).
const TYPE: u32 = 0o170_000;

struct Header {
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    mtime: u32,
    size: u32,
    device: (u32, u32),
    name: usize,
}

/// Reads one header. Source: kernel, Documentation/driver-api/early-userspace/buffer-format.rst.
fn header(bytes: &[u8; 110]) -> Option<Header> {
    if &bytes[..6] != b"070701" {
        return None;
    }
    let field = |index: usize| {
        let text = std::str::from_utf8(&bytes[6 + index * 8..14 + index * 8]).ok()?;
        u32::from_str_radix(text, 16).ok()
    };
    Some(Header {
        inode: field(0)?,
        mode: field(1)?,
        uid: field(2)?,
        gid: field(3)?,
        links: field(4)?,
        mtime: field(5)?,
        size: field(6)?,
        device: (field(9)?, field(10)?),
        name: field(11)? as usize,
    })
}

/// Unpacks a frame below a directory; gives the directories with the times that they shall have.
pub(crate) fn unpack(input: &mut dyn Read, root: &Root) -> Result<Vec<(String, u32)>, String> {
    let mut times = Vec::new();
    // Names of a hard link whose data has not come yet.
    let mut waiting: HashMap<u32, Vec<String>> = HashMap::new();
    loop {
        let mut bytes = [0u8; 110];
        match input.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error.to_string()),
        }
        let head = header(&bytes).ok_or("the archive has a bad header")?;
        if head.name == 0 || head.name > NAME_LIMIT {
            return Err("the archive has a bad name".to_owned());
        }
        let mut name = vec![0u8; padded(110 + head.name) - 110];
        input.read_exact(&mut name).map_err(|error| error.to_string())?;
        name.truncate(head.name - 1);
        let name = text_of(&name).into_owned();
        if name == "TRAILER!!!" {
            break;
        }
        stays_below(&name)?;
        entry(root, &name, &head, input, &mut waiting, &mut times).map_err(|error| format!("{name}: {error}"))?;
        let padding = padded(head.size as usize) - head.size as usize;
        input.read_exact(&mut vec![0u8; padding]).map_err(|error| error.to_string())?;
    }
    if !waiting.is_empty() {
        return Err("a hard link has no data".to_owned());
    }
    Ok(times)
}

/// Refuses a name that does not stay below the root.
pub(crate) fn stays_below(name: &str) -> Result<(), String> {
    match name.starts_with('/') || name.split('/').any(|part| part == "..") {
        true => Err(format!("the archive has the name {name}, which escapes its root")),
        false => Ok(()),
    }
}

fn padded(length: usize) -> usize {
    length.div_ceil(4) * 4
}

fn entry(
    root: &Root,
    name: &str,
    head: &Header,
    input: &mut dyn Read,
    waiting: &mut HashMap<u32, Vec<String>>,
    times: &mut Vec<(String, u32)>,
) -> std::io::Result<()> {
    let made = Made { mode: head.mode & 0o7777, uid: head.uid, gid: head.gid, mtime: head.mtime };
    let mut content = input.take(u64::from(head.size));
    match head.mode & TYPE {
        0o040_000 => {
            root.directory(name, &made)?;
            times.push((name.to_owned(), head.mtime));
        }
        0o120_000 => {
            // No path is longer; more would be memory by the archive's word.
            if head.size as usize >= NAME_LIMIT {
                return Err(std::io::Error::other("a link leads to a path that is too long"));
            }
            let mut target = Vec::new();
            content.read_to_end(&mut target)?;
            root.symlink(name, &target, &made)?;
        }
        0o100_000 if head.links > 1 && head.size == 0 => {
            // An empty file with several names has no data anywhere: the last name makes it.
            let names = waiting.entry(head.inode).or_default();
            names.push(name.to_owned());
            if names.len() as u32 == head.links {
                let names = waiting.remove(&head.inode).unwrap_or_default();
                root.file(name, &made, &mut std::io::empty())?;
                for other in names.iter().filter(|other| *other != name) {
                    root.hard_link(other, name)?;
                }
            }
        }
        0o100_000 => {
            root.file(name, &made, &mut content)?;
            for other in waiting.remove(&head.inode).filter(|_| head.links > 1).unwrap_or_default() {
                root.hard_link(&other, name)?;
            }
        }
        kind => root.special(name, kind, head.device, &made)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Devices;

    #[test]
    fn damaged_archives_are_errors_and_never_panics() {
        let folder = std::env::temp_dir().join(format!("imgbuild-init-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let root = folder.to_str().unwrap();
        let root = Root::open(root, Devices::Made).unwrap();
        assert!(unpack(&mut &b"070701zz"[..], &root).is_ok());
        assert!(unpack(&mut &[b'x'; 200][..], &root).is_err());
        let mut evil = b"070701".to_vec();
        for field in [0u32, 0o100_644, 0, 0, 1, 0, 0, 0, 0, 0, 0, 8, 0] {
            evil.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        evil.extend_from_slice(b"../evil\0\0\0");
        assert!(unpack(&mut &evil[..], &root).unwrap_err().contains("escapes its root"));
        for end in 0..evil.len() {
            let _ = unpack(&mut &evil[..end], &root);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

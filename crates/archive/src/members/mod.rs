//! The files that a package or an archive holds, one after the other, whatever its kind.

pub(crate) mod budget;
pub(crate) mod directory;
pub(crate) mod guard;
pub(crate) mod listing;
pub(crate) mod packed;

use std::io::{self, Read};

use crate::deb::{DebError, read_members};

pub enum MemberKind<'a> {
    File(&'a mut dyn Read),
    Symlink(String),
}

pub struct Member<'a> {
    /// Path without `./` or `/` in front.
    pub path: String,
    /// Bytes of a file, where they are known before it is read.
    pub size: Option<u64>,
    pub mode: u32,
    pub kind: MemberKind<'a>,
}

/// Takes entries; what it says ends the reading.
pub type Visit<'v> = dyn FnMut(Member<'_>) -> Result<(), String> + 'v;

/// Longest name in an archive, in bytes.
const NAME_LIMIT: u64 = 4096;

/// A path as images know it; none where it leads out of the archive, names nothing, or is not UTF-8.
pub fn clean_path(path: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    for part in std::str::from_utf8(path).ok()?.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn damaged(error: io::Error) -> String {
    format!("the archive is damaged: {error}")
}

/// Reads a tar stream. Devices and the like are left out.
/// Errors: A text for a damaged stream, or what `visit` says.
pub fn read_tar(stream: &mut dyn Read, visit: &mut Visit<'_>) -> Result<(), String> {
    let mut archive = guard::open_tar(stream);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let Some(path) = clean_path(&entry.path_bytes()) else { continue };
        let mode = entry.header().mode().map_err(damaged)? & 0o7777;
        match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                visit(Member { path, size: None, mode, kind: MemberKind::File(&mut entry) })?;
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned());
                let Some(target) = target else { continue };
                visit(Member { path, size: None, mode, kind: MemberKind::Symlink(target) })?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads the files of a Debian package.
/// Errors: A text for a damaged package, or what `visit` says.
pub fn read_deb(package: impl Read, visit: &mut Visit<'_>) -> Result<(), String> {
    struct Said(String);
    impl From<DebError> for Said {
        fn from(error: DebError) -> Self {
            Self(format!("the package {error}"))
        }
    }
    read_members(
        package,
        |name, content| {
            if name.starts_with("data.tar") { read_tar(content, visit).map_err(Said) } else { Ok(()) }
        },
    )
    .map_err(|Said(text)| text)
}

/// The architecture that a Debian package is for.
/// Errors: A text for a damaged package.
pub fn deb_architecture(package: impl Read) -> Result<String, String> {
    let stanza = crate::control_stanza(package).map_err(|error| format!("the package {error}"))?;
    let line = stanza.lines().find_map(|line| line.strip_prefix("Architecture:"));
    Ok(line.unwrap_or_default().trim().to_owned())
}

struct CpioHead {
    mode: u32,
    links: u32,
    name_size: u64,
    size: u64,
    /// Names and contents are padded to multiples of this.
    alignment: u64,
    length: u64,
}

fn number(field: &[u8], radix: u32) -> Result<u64, String> {
    let text = std::str::from_utf8(field).map_err(|_| "a cpio header is not text".to_owned())?;
    u64::from_str_radix(text, radix).map_err(|_| "a cpio header has a bad number".to_owned())
}

fn cpio_head(stream: &mut dyn Read) -> Result<Option<CpioHead>, String> {
    let mut magic = [0u8; 6];
    match stream.read_exact(&mut magic) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other.map_err(damaged)?,
    }
    match &magic {
        b"070701" | b"070702" => {
            let mut rest = [0u8; 104];
            stream.read_exact(&mut rest).map_err(damaged)?;
            let field = |index: usize| number(&rest[index * 8..index * 8 + 8], 16);
            Ok(Some(CpioHead {
                mode: field(1)? as u32,
                links: field(4)? as u32,
                size: field(6)?,
                name_size: field(11)?,
                alignment: 4,
                length: 110,
            }))
        }
        b"070707" => {
            let mut rest = [0u8; 70];
            stream.read_exact(&mut rest).map_err(damaged)?;
            Ok(Some(CpioHead {
                mode: number(&rest[12..18], 8)? as u32,
                links: number(&rest[30..36], 8)? as u32,
                name_size: number(&rest[53..59], 8)?,
                size: number(&rest[59..70], 8)?,
                alignment: 1,
                length: 76,
            }))
        }
        // Padding after the trailer, or between concatenated archives, is zeros.
        magic if magic.iter().all(|byte| *byte == 0) => Ok(None),
        _ => Err("the archive is damaged: a cpio header is missing".to_owned()),
    }
}

fn skip(stream: &mut dyn Read, count: u64) -> Result<(), String> {
    let skipped = io::copy(&mut stream.take(count), &mut io::sink()).map_err(damaged)?;
    if skipped == count { Ok(()) } else { Err("the archive is damaged: it is truncated".to_owned()) }
}

/// Reads a cpio archive in its forms `newc`, `crc` and `odc`. Source: cpio(5). Each name of a file with several
/// before the one with the content is left out; drivers have none.
/// Errors: A text for a damaged stream, or what `visit` says.
pub fn read_cpio(stream: &mut dyn Read, visit: &mut Visit<'_>) -> Result<(), String> {
    while let Some(head) = cpio_head(stream)? {
        if head.name_size == 0 || head.name_size > NAME_LIMIT {
            return Err("the archive is damaged: a name is too long".to_owned());
        }
        let mut name = vec![0u8; head.name_size as usize];
        stream.read_exact(&mut name).map_err(damaged)?;
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        let padding = |length: u64| (head.alignment - length % head.alignment) % head.alignment;
        skip(stream, padding(head.length + head.name_size))?;
        if name == b"TRAILER!!!" {
            return Ok(());
        }
        let mut content = (&mut *stream).take(head.size);
        let mode = head.mode & 0o7777;
        match (clean_path(&name), head.mode & 0o170_000) {
            (Some(_), 0o100_000) if head.size == 0 && head.links > 1 => {}
            (Some(path), 0o100_000) => visit(Member { path, size: None, mode, kind: MemberKind::File(&mut content) })?,
            (Some(path), 0o120_000) if head.size <= NAME_LIMIT => {
                let mut target = Vec::new();
                content.read_to_end(&mut target).map_err(damaged)?;
                let target = String::from_utf8_lossy(&target).into_owned();
                visit(Member { path, size: None, mode, kind: MemberKind::Symlink(target) })?;
            }
            _ => {}
        }
        let left = content.limit();
        skip(stream, left)?;
        skip(stream, padding(head.size))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn collect(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
        let mut found = Vec::new();
        read_cpio(&mut &bytes[..], &mut |member| {
            let content = match member.kind {
                MemberKind::File(content) => {
                    let mut bytes = Vec::new();
                    content.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
                    bytes
                }
                MemberKind::Symlink(target) => target.into_bytes(),
            };
            found.push((member.path, content));
            Ok(())
        })?;
        Ok(found)
    }

    fn newc(path: &str, mode: u32, content: &[u8]) -> Vec<u8> {
        let mut out = format!("070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{:08x}", 1, 0, 0, 1, 0, content.len());
        out.push_str(&format!("{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}", 0, 0, 0, 0, path.len() + 1, 0));
        let mut out = out.into_bytes();
        out.extend_from_slice(path.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    #[test]
    fn both_text_forms_of_cpio_are_read() {
        let mut archive = newc("./lib/a.ko", 0o100_644, b"module");
        archive.extend(newc("lib/b", 0o120_777, b"a.ko"));
        archive.extend(newc("../out", 0o100_644, b"x"));
        archive.extend(newc("TRAILER!!!", 0, b""));
        assert_eq!(
            collect(&archive).unwrap(),
            [("lib/a.ko".to_owned(), b"module".to_vec()), ("lib/b".to_owned(), b"a.ko".to_vec())]
        );
        let mut odc = format!("070707{:06o}{:06o}{:06o}{:06o}{:06o}", 0, 1, 0o100_644, 0, 0);
        odc.push_str(&format!("{:06o}{:06o}{:011o}{:06o}{:011o}a.ko\0module", 1, 0, 0, 5, 6));
        odc.push_str(&format!("070707{}{:06o}{:011o}TRAILER!!!\0", "0".repeat(53), 11, 0));
        assert_eq!(collect(odc.as_bytes()).unwrap(), [("a.ko".to_owned(), b"module".to_vec())]);
    }

    #[test]
    fn a_truncated_archive_is_an_error() {
        let archive = newc("a", 0o100_644, b"module");
        assert!(collect(&archive[..archive.len() - 5]).is_err());
        assert!(collect(&archive[..50]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..200, byte: u8) {
            let _ = collect(&bytes);
            let mut spoilt = newc("some/path", 0o100_644, b"some content");
            let at = at % spoilt.len();
            spoilt[at] = byte;
            let _ = collect(&spoilt);
        }
    }
}

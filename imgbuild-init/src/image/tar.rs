//! Unpacks some entries of a tar archive in the pax interchange format. Source: POSIX.1-2017, pax.
//!
//! Extended attributes are set from the index, as those of cpio are.

use std::io::{ErrorKind, Read};

use super::cpio::stays_below;
use crate::name::text_of;
use crate::sys::{Made, Root};

/// Bytes of a block.
const BLOCK: u64 = 512;

/// Largest list of records: two names of PATH_MAX, and attributes of 64 KiB each.
const RECORDS_LIMIT: u64 = 16 << 20;

/// What is left for when all frames are unpacked.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Directories, with the times that they shall have.
    pub times: Vec<(String, u32)>,
    /// Further names of files: the name, and that of the file, which another frame may have.
    pub links: Vec<(String, String)>,
}

/// What records say of the next entry.
#[derive(Default)]
struct Records {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<i64>,
}

fn number<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Reads records: a length in decimal that counts all of the record, a blank, key, `=`, value, a newline.
fn records(mut bytes: &[u8]) -> Option<Records> {
    let mut found = Records::default();
    while !bytes.is_empty() {
        let blank = bytes.iter().position(|byte| *byte == b' ')?;
        let length: usize = number(&bytes[..blank])?;
        let record = bytes.get(blank + 1..length.checked_sub(1)?)?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let value = &record[equals + 1..];
        match &record[..equals] {
            b"path" => found.path = Some(value.to_vec()),
            b"linkpath" => found.target = Some(value.to_vec()),
            b"size" => found.size = Some(number(value)?),
            b"uid" => found.uid = Some(number(value)?),
            b"gid" => found.gid = Some(number(value)?),
            b"mtime" => found.mtime = Some(number(value)?),
            _ => {}
        }
        bytes = bytes.get(length..)?;
    }
    Some(found)
}

/// A number in octal digits, ended by a blank or NUL.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

/// A name up to its NUL.
fn text(field: &[u8]) -> Vec<u8> {
    field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// Whether a header's sum is right: of its bytes, those of the sum taken as blanks.
fn is_header(bytes: &[u8; BLOCK as usize]) -> bool {
    let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
    let own: u64 = bytes[148..156].iter().map(|byte| u64::from(*byte)).sum();
    octal(&bytes[148..156]).is_some_and(|stored| stored == sum - own + 8 * u64::from(b' '))
        && &bytes[257..262] == b"ustar"
}

/// Unpacks a frame below a directory; gives what is left for when all frames are unpacked.
///
/// # Errors
/// A text: what is wrong with the archive, or what the kernel refused.
pub(crate) fn unpack(input: &mut dyn Read, root: &Root) -> Result<Left, String> {
    let mut left = Left::default();
    let mut next = Records::default();
    loop {
        let mut bytes = [0u8; BLOCK as usize];
        match input.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error.to_string()),
        }
        if bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        if !is_header(&bytes) {
            return Err("the archive has a bad header".to_owned());
        }
        let size = octal(&bytes[124..136]).ok_or("the archive has a bad size")?;
        let kind = bytes[156];
        if kind == b'x' {
            if size > RECORDS_LIMIT {
                return Err("the archive has records that are too long".to_owned());
            }
            let mut text = vec![0; usize::try_from(size).unwrap_or_default()];
            input.read_exact(&mut text).map_err(|error| error.to_string())?;
            next = records(&text).ok_or("the archive has a bad record")?;
            skip(input, size)?;
            continue;
        }
        let extended = std::mem::take(&mut next);
        let size = extended.size.unwrap_or(size);
        let name = text_of(&extended.path.unwrap_or_else(|| text(&bytes[..100]))).trim_end_matches('/').to_owned();
        let target = extended.target.unwrap_or_else(|| text(&bytes[157..257]));
        stays_below(&name)?;
        let field = |from: usize, to: usize| octal(&bytes[from..to]).and_then(|value| u32::try_from(value).ok());
        let bad = || format!("{name}: the archive has a bad header");
        let made = Made {
            mode: field(100, 108).ok_or_else(bad)? & 0o7777,
            uid: extended.uid.or(field(108, 116)).ok_or_else(bad)?,
            gid: extended.gid.or(field(116, 124)).ok_or_else(bad)?,
            mtime: match extended.mtime {
                Some(time) => u32::try_from(time.max(0)).unwrap_or(u32::MAX),
                None => u32::try_from(octal(&bytes[136..148]).ok_or_else(bad)?).unwrap_or(u32::MAX),
            },
        };
        let device = (field(329, 337).ok_or_else(bad)?, field(337, 345).ok_or_else(bad)?);
        let mut content = input.take(size);
        let outcome = match kind {
            b'0' | 0 => root.file(&name, &made, &mut content),
            b'1' => {
                let target = text_of(&target).into_owned();
                stays_below(&target)?;
                left.links.push((name.clone(), target));
                Ok(())
            }
            b'2' => root.symlink(&name, &target, &made),
            b'3' => root.special(&name, 0o020_000, device, &made),
            b'4' => root.special(&name, 0o060_000, device, &made),
            b'5' => {
                left.times.push((name.clone(), made.mtime));
                root.directory(&name, &made)
            }
            b'6' => root.special(&name, 0o010_000, device, &made),
            _ => return Err(format!("{name}: the archive has an entry of an unknown type")),
        };
        outcome.map_err(|error| format!("{name}: {error}"))?;
        if content.limit() > 0 {
            return Err(format!("{name}: the archive is truncated"));
        }
        skip(input, size)?;
    }
    Ok(left)
}

/// Reads over what fills the last block of a content.
fn skip(input: &mut dyn Read, size: u64) -> Result<(), String> {
    // Not by the next multiple: a size in a record may be as large as any number.
    let left = usize::try_from((BLOCK - size % BLOCK) % BLOCK).unwrap_or_default();
    input.read_exact(&mut [0u8; BLOCK as usize][..left]).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::sys::Devices;

    fn header(name: &str, kind: u8, size: usize) -> Vec<u8> {
        let mut bytes = vec![0u8; 512];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[100..107].copy_from_slice(b"0000644");
        // Owners of anyone who runs this: changing them takes root.
        let (uid, gid) = std::fs::metadata("/proc/self").map(|own| (own.uid(), own.gid())).unwrap();
        bytes[108..115].copy_from_slice(format!("{uid:07o}").as_bytes());
        bytes[116..123].copy_from_slice(format!("{gid:07o}").as_bytes());
        bytes[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        bytes[156] = kind;
        bytes[257..265].copy_from_slice(b"ustar\x0000");
        bytes[148..156].fill(b' ');
        let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
        bytes[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        bytes
    }

    fn padded(bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    #[test]
    fn entries_are_unpacked_and_damaged_archives_are_errors_and_never_panics() {
        let folder = std::env::temp_dir().join(format!("imgbuild-init-tar-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let root = Root::open(folder.to_str().unwrap(), Devices::Made).unwrap();
        let record = b"18 path=long-name\n";
        let good = [header("d/", b'5', 0), header("x", b'x', 18), padded(record), header("n", b'0', 3), padded(b"abc")];
        let good = [good.concat(), header("second", b'1', 0)].concat();
        let left = unpack(&mut &good[..], &root).unwrap();
        assert_eq!((left.times, left.links), (vec![("d".to_owned(), 0)], vec![("second".to_owned(), String::new())]));
        assert_eq!(std::fs::read(folder.join("long-name")).unwrap(), b"abc");
        for (name, words) in [("../evil", "escapes its root"), ("/evil", "escapes its root")] {
            let evil = header(name, b'0', 0);
            assert!(unpack(&mut &evil[..], &root).unwrap_err().contains(words));
        }
        assert!(unpack(&mut &[b'x'; 512][..], &root).unwrap_err().contains("bad header"));
        for end in 0..good.len() {
            let _ = unpack(&mut &good[..end], &root);
        }
        for text in ["9999999 a=b\n", "-1 a=b\n", "5 a=b", "x", "3 =\n", "99999999999999999999999 a=b\n"] {
            let bytes = [header("x", b'x', text.len()), padded(text.as_bytes())].concat();
            let _ = unpack(&mut &bytes[..], &root);
        }
        for size in [u64::MAX, u64::MAX - 1, 1 << 62] {
            let record = format!("29 size={size:0>20}\n");
            let bytes =
                [header("x", b'x', record.len()), padded(record.as_bytes()), header("no-content", b'5', 0)].concat();
            assert!(unpack(&mut &bytes[..], &root).is_err());
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

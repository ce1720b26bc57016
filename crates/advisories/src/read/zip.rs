//! Zips: their list of files, and single ones. Source: PKWARE, APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3. Of OSV's, which have more files
//! than the first format can count, the 64-bit form is read, too.

use std::io::{Read, Seek, SeekFrom};

/// Most files. OSV has 65,618 records of Debian.
const MOST_MEMBERS: u64 = 1_000_000;
/// Longest list of files, in bytes.
const LONGEST_LIST: u64 = 256 << 20;
/// Longest text behind the end of the list, and that end.
const LONGEST_END: u64 = 65_535 + 22;
/// What a field of 32 bits has whose value is elsewhere.
const ELSEWHERE: u64 = 0xffff_ffff;

/// A file of a zip.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    method: u64,
    crc: u64,
    packed: u64,
    size: u64,
    /// Where its own header is.
    at: u64,
}

/// A number of up to eight bytes, the lowest first; none past the end.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    Some(bytes.get(at..at.checked_add(length)?)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn read_at(file: &mut (impl Read + Seek), at: u64, length: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.by_ref().take(length).read_to_end(&mut bytes));
    match read.map_err(|error| format!("cannot be read: {error}"))? as u64 == length {
        true => Ok(bytes),
        false => Err(format!("is a zip that is truncated: {length} bytes were expected at byte {at}")),
    }
}

/// The files of a zip, by the list at its end.
pub(crate) fn members(file: &mut (impl Read + Seek)) -> Result<Vec<Member>, String> {
    let length = file.seek(SeekFrom::End(0)).map_err(|error| format!("cannot be read: {error}"))?;
    let start = length.saturating_sub(LONGEST_END);
    let tail = read_at(file, start, length - start)?;
    let is_end = |at: &usize| {
        tail[*at..].starts_with(b"PK\x05\x06")
            && number(&tail, at + 20, 2).is_some_and(|text| at + 22 + text as usize == tail.len())
    };
    let end = (0..tail.len().saturating_sub(21)).rev().find(is_end);
    let end = end.ok_or("is a zip that is truncated: it has no end of its list")?;
    let field = |at: usize, length: usize| number(&tail, end + at, length).unwrap_or_default();
    let (mut count, mut size, mut at) = (field(10, 2), field(12, 4), field(16, 4));
    if count == 0xffff || size == ELSEWHERE || at == ELSEWHERE {
        let locator = end.checked_sub(20).map(|at| &tail[at..end]).filter(|locator| locator.starts_with(b"PK\x06\x07"));
        // Exactly so many files, or so long a list, as can be counted.
        if let Some(place) = locator.and_then(|locator| number(locator, 8, 8)) {
            let far = read_at(file, place, 56)?;
            if !far.starts_with(b"PK\x06\x06") {
                return Err(format!("is a damaged zip: the 64-bit end of its list was expected at byte {place}"));
            }
            let field = |at: usize| number(&far, at, 8).unwrap_or_default();
            (count, size, at) = (field(32), field(40), field(48));
        }
    }
    if count > MOST_MEMBERS || size > LONGEST_LIST {
        return Err(format!(
            "has {count} files and a list of {size} bytes: the limits are {MOST_MEMBERS} and {LONGEST_LIST}"
        ));
    }
    let list = read_at(file, at, size)?;
    let (mut found, mut next) = (Vec::new(), 0);
    for _ in 0..count {
        let (member, after) = member(&list, next)
            .ok_or_else(|| format!("is a damaged zip: its list cannot be read at byte {}", at + next as u64))?;
        found.push(member);
        next = after;
    }
    Ok(found)
}

/// An entry of the list, and where the next begins.
fn member(list: &[u8], at: usize) -> Option<(Member, usize)> {
    let entry = list.get(at..)?;
    let field = |at: usize, length: usize| number(entry, at, length);
    if !entry.starts_with(b"PK\x01\x02") {
        return None;
    }
    let (name, extra, text) = (field(28, 2)? as usize, field(30, 2)? as usize, field(32, 2)? as usize);
    // One that is encrypted has a method that no one knows.
    let method = if field(8, 2)? & 1 == 1 { 0xffff } else { field(10, 2)? };
    let mut sizes = [field(24, 4)?, field(20, 4)?, field(42, 4)?];
    let mut fields = entry.get(46 + name..46 + name + extra)?;
    while let (Some(kind), Some(length)) = (number(fields, 0, 2), number(fields, 2, 2)) {
        let content = fields.get(4..4 + length as usize)?;
        if kind == 1 {
            let mut rest = content;
            for size in sizes.iter_mut().filter(|size| **size == ELSEWHERE) {
                *size = number(rest, 0, 8)?;
                rest = &rest[8..];
            }
        }
        fields = &fields[4 + length as usize..];
    }
    let [size, packed, place] = sizes;
    let text_of = String::from_utf8_lossy(entry.get(46..46 + name)?).into_owned();
    let member = Member { name: text_of, method, crc: field(16, 4)?, packed, size, at: place };
    Some((member, at + 46 + name + extra + text))
}

impl Member {
    /// Its content, of at most so many bytes.
    pub(crate) fn read(&self, file: &mut (impl Read + Seek), limit: u64) -> Result<Vec<u8>, String> {
        let header = read_at(file, self.at, 30)?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err(format!("is damaged: a file of the zip was expected at byte {}", self.at));
        }
        let behind = number(&header, 26, 2).unwrap_or_default() + number(&header, 28, 2).unwrap_or_default();
        file.seek(SeekFrom::Start(self.at.saturating_add(30 + behind)))
            .map_err(|error| format!("cannot be read: {error}"))?;
        let packed = file.by_ref().take(self.packed);
        let bytes = match self.method {
            0 => super::bounded(packed, limit)?,
            8 => super::bounded(flate2::read::DeflateDecoder::new(packed), limit)?,
            0xffff => return Err("is encrypted".to_owned()),
            other => return Err(format!("is compressed by method {other}: 0 (stored) or 8 (deflate) was expected")),
        };
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        match bytes.len() as u64 == self.size && u64::from(crc.sum()) == self.crc {
            true => Ok(bytes),
            false => Err("is damaged: size or checksum are not those of the zip's list".to_owned()),
        }
    }
}

/// A zip with files of some texts: the first is stored, others are compressed.
#[cfg(test)]
pub(crate) fn written(files: &[(&str, &str)]) -> Vec<u8> {
    use std::io::Write;
    let (mut out, mut list) = (Vec::new(), Vec::new());
    for (index, (name, text)) in files.iter().enumerate() {
        let mut packed = text.as_bytes().to_vec();
        if index > 0 {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text.as_bytes()).unwrap();
            packed = encoder.finish().unwrap();
        }
        let mut crc = flate2::Crc::new();
        crc.update(text.as_bytes());
        let mut common = vec![20, 0, 0, 0, if index > 0 { 8 } else { 0 }, 0, 0, 0, 0, 0];
        common.extend(crc.sum().to_le_bytes());
        common.extend((packed.len() as u32).to_le_bytes());
        common.extend((text.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        let at = out.len() as u32;
        out.extend([&b"PK\x03\x04"[..], &common, name.as_bytes(), &packed].concat());
        list.extend([&b"PK\x01\x02\x14\x00"[..], &common, &[0; 10], &at.to_le_bytes(), name.as_bytes()].concat());
    }
    let (at, count) = (out.len() as u32, (files.len() as u16).to_le_bytes());
    let size = (list.len() as u32).to_le_bytes();
    out.extend([&list[..], b"PK\x05\x06\0\0\0\0", &count, &count, &size, &at.to_le_bytes(), &[0, 0]].concat());
    out
}

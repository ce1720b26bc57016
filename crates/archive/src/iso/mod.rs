//! ISO 9660 images with Rock Ridge names, links and modes, or else Joliet names. Sources: ECMA-119, SUSP 1.12, RRIP 1.12,
//! and the Joliet specification.
//!
//! Nothing in an image is trusted: every size is bounded, no directory is read twice, and what does not fit is an error.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};

use super::members::{Member, MemberKind, Visit, clean_path};

/// Bytes of a sector; images with other sectors are not made.
const SECTOR: u64 = 2048;
/// Largest directory that is read, in bytes.
const DIRECTORY_LIMIT: u64 = 8 << 20;
const ENTRY_LIMIT: usize = 200_000;
/// How deep directories may lie in one another.
const DEPTH_LIMIT: usize = 32;
/// Most continuation areas that one entry may have.
const CONTINUATION_LIMIT: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    sector: u64,
    size: u64,
}

#[derive(Debug, Default)]
struct Record {
    name: String,
    is_directory: bool,
    goes_on: bool,
    extent: Option<Extent>,
    mode: Option<u32>,
    link: Option<String>,
    has_rock_ridge: bool,
    is_relocated: bool,
}

struct Image<'a, R> {
    input: &'a mut R,
    /// Bytes of the image.
    length: u64,
    joliet: bool,
    /// Bytes of each system use area that are not Rock Ridge's (SP's LEN_SKP).
    skip: usize,
    entries: usize,
    seen: BTreeSet<u64>,
    any_rock_ridge: bool,
}

fn little(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)))
}

impl<R: Read + Seek> Image<'_, R> {
    fn read(&mut self, start: u64, size: u64) -> Result<Vec<u8>, String> {
        if start.checked_add(size).is_none_or(|end| end > self.length) {
            return Err("the image is damaged: something is past its end".to_owned());
        }
        let said = |error: std::io::Error| format!("the image cannot be read: {error}");
        self.input.seek(SeekFrom::Start(start)).map_err(said)?;
        let mut bytes = vec![0u8; usize::try_from(size).map_err(|error| error.to_string())?];
        self.input.read_exact(&mut bytes).map_err(said)?;
        Ok(bytes)
    }

    fn directory(&mut self, extent: Extent) -> Result<Vec<Record>, String> {
        if extent.size > DIRECTORY_LIMIT {
            return Err("the image is damaged: a directory is too large".to_owned());
        }
        let bytes = self.read(extent.sector * SECTOR, extent.size)?;
        let mut records = Vec::new();
        let mut at = 0;
        while let Some(length) = bytes.get(at).map(|length| usize::from(*length)) {
            if length == 0 {
                // No record crosses the end of a sector.
                at = (at / SECTOR as usize + 1) * SECTOR as usize;
                continue;
            }
            let Some(record) = bytes.get(at..at + length).filter(|record| record.len() >= 34) else {
                return Err("the image is damaged: a directory has a bad record".to_owned());
            };
            at += length;
            self.entries += 1;
            if self.entries > ENTRY_LIMIT {
                return Err(format!("the image has more than {ENTRY_LIMIT} files"));
            }
            let name_length = usize::from(record[32]);
            let Some(raw) = record.get(33..33 + name_length) else {
                return Err("the image is damaged: a name is too long".to_owned());
            };
            let mut found = Record {
                is_directory: record[25] & 2 != 0,
                goes_on: record[25] & 0x80 != 0,
                extent: little(record, 2).zip(little(record, 10)).map(|(sector, size)| Extent { sector, size }),
                ..Record::default()
            };
            let is_self = matches!(raw, [0] | [1]);
            if !is_self {
                found.name = self.plain_name(raw);
            }
            // The area starts at an even offset.
            let system = record.get(33 + name_length + (name_length + 1) % 2..).unwrap_or_default();
            if !self.joliet {
                self.system_use(system, &mut found)?;
            }
            if !is_self {
                records.push(found);
            }
        }
        Ok(records)
    }

    /// A name without Rock Ridge: without its version, in lower case; Joliet's are UCS-2.
    fn plain_name(&self, raw: &[u8]) -> String {
        let text = if self.joliet {
            let units: Vec<u16> = raw.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16_lossy(&units)
        } else {
            String::from_utf8_lossy(raw).to_lowercase()
        };
        text.split(if fault::planted("iso-version-kept") { '\0' } else { ';' })
            .next()
            .unwrap_or_default()
            .trim_end_matches('.')
            .to_owned()
    }

    /// Reads the fields of SUSP and Rock Ridge.
    fn system_use(&mut self, area: &[u8], record: &mut Record) -> Result<(), String> {
        let mut area = area.get(self.skip..).unwrap_or_default().to_vec();
        let mut name: Option<Vec<u8>> = None;
        let mut link: Option<(Vec<u8>, bool)> = None;
        for _ in 0..CONTINUATION_LIMIT {
            let mut next = None;
            let mut rest = &area[..];
            while let [a, b, length, _version, ..] = rest {
                let length = usize::from(*length);
                let Some(field) = rest.get(..length).filter(|field| field.len() >= 4) else { break };
                match (*a, *b) {
                    (b'C', b'E') => {
                        next = little(field, 4).zip(little(field, 12)).zip(little(field, 20));
                    }
                    (b'S', b'P') if field.len() >= 7 => self.skip = usize::from(field[6]),
                    (b'S', b'T') => break,
                    (b'P', b'X') if !fault::planted("iso-mode-lost") => {
                        record.mode = little(field, 4).map(|mode| mode as u32 & 0o7777)
                    }
                    (b'N', b'M') => {
                        record.has_rock_ridge = true;
                        if field.len() > 5 && field[4] & 0b110 == 0 {
                            name.get_or_insert_default().extend_from_slice(&field[5..]);
                        }
                    }
                    (b'S', b'L') if field.len() > 5 => {
                        let (text, joined) = link.get_or_insert_with(|| (Vec::new(), true));
                        link_components(&field[5..], text, joined);
                    }
                    // A directory that was moved here because it lay too deep.
                    (b'R', b'E') => record.is_relocated = true,
                    _ => {}
                }
                rest = &rest[length..];
            }
            let Some(((sector, offset), size)) = next else { break };
            if offset + size > SECTOR {
                return Err("the image is damaged: a continuation is too long".to_owned());
            }
            area = self.read(sector * SECTOR + offset, size)?;
        }
        if let Some(name) = name {
            record.name = String::from_utf8_lossy(&name).into_owned();
            self.any_rock_ridge = true;
        }
        record.link = link.map(|(text, _)| String::from_utf8_lossy(&text).into_owned());
        Ok(())
    }

    fn walk(&mut self, above: &str, extent: Extent, depth: usize, visit: &mut Visit<'_>) -> Result<(), String> {
        if depth > DEPTH_LIMIT || !self.seen.insert(extent.sector) {
            return Err("the image is damaged: its directories form a loop".to_owned());
        }
        let mut parts: Vec<Extent> = Vec::new();
        for record in self.directory(extent)? {
            let Some(extent) = record.extent else { continue };
            if record.is_relocated || record.name.contains('/') {
                continue;
            }
            let Some(path) = clean_path(format!("{above}/{}", record.name).as_bytes()) else { continue };
            if record.is_directory {
                self.walk(&path, extent, depth + 1, visit)?;
                continue;
            }
            if let Some(target) = record.link {
                visit(Member { path, size: None, mode: 0o777, kind: MemberKind::Symlink(target) })?;
                continue;
            }
            parts.push(extent);
            if record.goes_on {
                continue;
            }
            self.file(path, record.mode.unwrap_or(0o644), &std::mem::take(&mut parts), visit)?;
        }
        Ok(())
    }

    fn file(&mut self, path: String, mode: u32, parts: &[Extent], visit: &mut Visit<'_>) -> Result<(), String> {
        let ends = |part: &Extent| (part.sector * SECTOR).checked_add(part.size).is_some_and(|end| end <= self.length);
        if !parts.iter().all(ends) {
            return Err(format!("the image is damaged: `{path}` is past its end"));
        }
        let size = Some(parts.iter().map(|part| part.size).sum());
        let mut content = Parts { input: self.input, parts, at: 0, moved: false };
        visit(Member { path, size, mode, kind: MemberKind::File(&mut content) })
    }
}

/// Adds the components of one SL field; `joined` says whether the next one needs no slash in front.
fn link_components(mut rest: &[u8], text: &mut Vec<u8>, joined: &mut bool) {
    while let [flags, length, ..] = rest {
        let length = usize::from(*length);
        let Some(content) = rest.get(2..2 + length) else { break };
        if !*joined {
            text.push(b'/');
        }
        *joined = flags & 1 != 0;
        match flags & 0b1110 {
            0b0010 => text.push(b'.'),
            0b0100 => text.extend_from_slice(b".."),
            0b1000 => {
                text.push(b'/');
                *joined = true;
            }
            _ => text.extend_from_slice(content),
        }
        rest = &rest[2 + length..];
    }
}

/// A file's content, part by part.
struct Parts<'a, R> {
    input: &'a mut R,
    parts: &'a [Extent],
    at: u64,
    moved: bool,
}

impl<R: Read + Seek> Read for Parts<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while let Some(part) = self.parts.first() {
            if self.at == part.size {
                (self.parts, self.at, self.moved) = (&self.parts[1..], 0, false);
                continue;
            }
            if !self.moved {
                self.input.seek(SeekFrom::Start(part.sector * SECTOR + self.at))?;
                self.moved = true;
            }
            let most = usize::try_from(part.size - self.at).unwrap_or(usize::MAX).min(buffer.len());
            let read = self.input.read(&mut buffer[..most])?;
            if read == 0 && most > 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.at += read as u64;
            return Ok(read);
        }
        Ok(0)
    }
}

/// Where the trees of an image start: the primary one, and Joliet's.
fn roots<R: Read + Seek>(image: &mut Image<'_, R>) -> Result<(Extent, Option<Extent>), String> {
    let (mut primary, mut joliet) = (None, None);
    for number in 16..64 {
        let descriptor = image.read(number * SECTOR, SECTOR)?;
        if &descriptor[1..6] != b"CD001" {
            return Err("it is not an ISO 9660 image: a volume descriptor is missing".to_owned());
        }
        let root = little(&descriptor, 156 + 2).zip(little(&descriptor, 156 + 10));
        let root = root.map(|(sector, size)| Extent { sector, size });
        match descriptor[0] {
            1 => primary = primary.or(root),
            2 if descriptor[88] == b'%' && descriptor[89] == b'/' => joliet = joliet.or(root),
            255 => break,
            _ => {}
        }
    }
    Ok((primary.ok_or("it is not an ISO 9660 image: it has no primary volume")?, joliet))
}

/// Reads the files of an image.
/// Errors: A text for a damaged image, or what `visit` says.
pub fn read_iso(input: &mut (impl Read + Seek), visit: &mut Visit<'_>) -> Result<(), String> {
    let length = input.seek(SeekFrom::End(0)).map_err(|error| error.to_string())?;
    let mut image =
        Image { input, length, joliet: false, skip: 0, entries: 0, seen: BTreeSet::new(), any_rock_ridge: false };
    let (primary, joliet) = roots(&mut image)?;
    // A look at the top says which names the image has.
    image.directory(primary)?;
    image.entries = 0;
    match joliet {
        Some(root) if !image.any_rock_ridge => {
            image.joliet = true;
            image.walk("", root, 0, visit)
        }
        _ => image.walk("", primary, 0, visit),
    }
}

#[cfg(test)]
mod tests;

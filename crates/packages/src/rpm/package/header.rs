//! Headers of package files. Source: rpm.org, "RPM V4 Package format" and "Header tags".
//!
//! Read here and not by the `rpm` crate, which panics on offsets that lead out of a header.

use std::collections::HashMap;
use std::io::Read;

/// Bytes before the signature header; nothing in them is used now.
const LEAD: usize = 96;

const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];

const MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 1];

/// Most entries of a header, and most bytes of their data. Source: rpm's lib/header_internal.h.
const ENTRIES_LIMIT: u32 = 0xffff;
const DATA_LIMIT: u32 = 256 << 20;

/// Most bytes of a signature header's data; a signature has less than a kilobyte.
const SIGNATURE_LIMIT: u32 = 8 << 20;

pub(in crate::rpm) mod tag {
    pub(crate) const NAME: u32 = 1000;
    pub(crate) const VERSION: u32 = 1001;
    pub(crate) const RELEASE: u32 = 1002;
    pub(crate) const EPOCH: u32 = 1003;
    pub(crate) const SIZE: u32 = 1009;
    pub(crate) const ARCH: u32 = 1022;
    pub(crate) const FILE_SIZES: u32 = 1028;
    pub(crate) const FILE_MODES: u32 = 1030;
    pub(crate) const FILE_STATES: u32 = 1029;
    pub(crate) const FILE_MTIMES: u32 = 1034;
    pub(crate) const FILE_DIGESTS: u32 = 1035;
    pub(crate) const FILE_LINKS: u32 = 1036;
    pub(crate) const FILE_FLAGS: u32 = 1037;
    pub(crate) const FILE_USERS: u32 = 1039;
    pub(crate) const FILE_GROUPS: u32 = 1040;
    pub(crate) const SOURCE_RPM: u32 = 1044;
    pub(crate) const FILE_DEVICES: u32 = 1095;
    pub(crate) const FILE_INODES: u32 = 1096;
    pub(crate) const SOURCE_PACKAGE: u32 = 1106;
    pub(crate) const PAYLOAD_FORMAT: u32 = 1124;
    pub(crate) const DIR_INDEXES: u32 = 1116;
    pub(crate) const BASE_NAMES: u32 = 1117;
    pub(crate) const DIR_NAMES: u32 = 1118;
    pub(crate) const OLD_FILE_NAMES: u32 = 1027;
    pub(crate) const LONG_FILE_SIZES: u32 = 5008;
    pub(crate) const LONG_SIZE: u32 = 5009;
    pub(crate) const FILE_CAPS: u32 = 5010;
    pub(crate) const PAYLOAD_SHA256: u32 = 5092;
    // Those of the signature header.
    pub(crate) const SIG_DSA: u32 = 267;
    pub(crate) const SIG_RSA: u32 = 268;
    pub(crate) const SIG_SHA256: u32 = 273;
    pub(crate) const SIG_OPENPGP: u32 = 278;
    pub(crate) const SIG_LONG_SIZE: u32 = 270;
    pub(crate) const SIG_SIZE: u32 = 1000;
    pub(crate) const SIG_PGP: u32 = 1002;
    pub(crate) const SIG_GPG: u32 = 1005;
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: u32,
    offset: usize,
    count: usize,
}

#[derive(Debug, Clone)]
pub(in crate::rpm) struct Header {
    /// As it stands in the file, from its magic on; this is what digests and signatures are of.
    pub bytes: Vec<u8>,
    data_at: usize,
    entries: HashMap<u32, Entry>,
}

#[derive(Debug, Clone)]
pub(in crate::rpm) struct Headers {
    pub signature: Header,
    pub main: Header,
    /// Where in the file the main header begins and ends.
    pub range: (u64, u64),
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |chunk| u32::from_be_bytes(*chunk))
}

impl Headers {
    /// Reads the beginning of a package file; the payload is what follows.
    pub(crate) fn read(file: &mut dyn Read) -> Result<Self, String> {
        let mut lead = [0u8; LEAD];
        file.read_exact(&mut lead).map_err(|_| "is not an RPM package: it is too short".to_owned())?;
        if lead[..4] != LEAD_MAGIC {
            return Err("is not an RPM package".to_owned());
        }
        let signature = Header::read(file, SIGNATURE_LIMIT)?;
        let padding = signature.bytes.len().next_multiple_of(8) - signature.bytes.len();
        let mut skipped = [0u8; 8];
        file.read_exact(&mut skipped[..padding]).map_err(|_| "is truncated in its signature".to_owned())?;
        let start = (LEAD + signature.bytes.len() + padding) as u64;
        let main = Header::read(file, DATA_LIMIT)?;
        let end = start + main.bytes.len() as u64;
        Ok(Self { signature, main, range: (start, end) })
    }
}

impl Header {
    fn read(file: &mut dyn Read, limit: u32) -> Result<Self, String> {
        let mut bytes = vec![0u8; 16];
        file.read_exact(&mut bytes).map_err(|_| "is truncated before a header".to_owned())?;
        if bytes[..4] != MAGIC {
            return Err("lacks a header".to_owned());
        }
        let (count, size) = (number(&bytes[8..]), number(&bytes[12..]));
        if count > ENTRIES_LIMIT || size > limit {
            return Err("has a header of an impossible size".to_owned());
        }
        let rest = u64::from(count) * 16 + u64::from(size);
        // Memory grows with what is there, not with what is announced.
        let read = file.take(rest).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
        if read as u64 != rest {
            return Err("is truncated in a header".to_owned());
        }
        let data_at = 16 + count as usize * 16;
        let mut entries = HashMap::with_capacity(count as usize);
        for entry in bytes[16..data_at].chunks_exact(16) {
            let (offset, count) = (number(&entry[8..]) as usize, number(&entry[12..]) as usize);
            if offset > size as usize || count > size as usize {
                return Err(format!("has a header whose entry {} points outside it", number(entry)));
            }
            entries.entry(number(entry)).or_insert(Entry { kind: number(&entry[4..]), offset, count });
        }
        Ok(Self { bytes, data_at, entries })
    }

    /// Reads a header as rpm's database has it: without the magic.
    pub(crate) fn of_database(blob: &[u8]) -> Result<Self, String> {
        Self::read(&mut MAGIC[..].chain(&[0u8; 4][..]).chain(blob), DATA_LIMIT)
    }

    fn data(&self, entry: &Entry) -> &[u8] {
        self.bytes.get(self.data_at + entry.offset..).unwrap_or_default()
    }

    pub(crate) fn has(&self, tag: u32) -> bool {
        self.entries.contains_key(&tag)
    }

    /// A text; none where it is missing, is of another kind or no UTF-8.
    pub(crate) fn text(&self, tag: u32) -> Option<&str> {
        let entry = self.entries.get(&tag)?;
        // A text, a list of texts, or translations, the first of which is the untranslated one.
        if !matches!(entry.kind, 6 | 8 | 9) {
            return None;
        }
        let data = self.data(entry);
        std::str::from_utf8(&data[..data.iter().position(|byte| *byte == 0)?]).ok()
    }

    /// A list of texts; empty where it is missing.
    /// Errors: A text when it is damaged or no UTF-8.
    pub(crate) fn texts(&self, tag: u32) -> Result<Vec<&str>, String> {
        let Some(entry) = self.entries.get(&tag) else { return Ok(Vec::new()) };
        let wrong = || format!("has a header whose list {tag} is damaged");
        if !matches!(entry.kind, 6 | 8 | 9) {
            return Err(wrong());
        }
        let mut data = self.data(entry);
        let mut found = Vec::new();
        for _ in 0..entry.count {
            let end = data.iter().position(|byte| *byte == 0).ok_or_else(wrong)?;
            found.push(std::str::from_utf8(&data[..end]).map_err(|_| format!("has names that are not UTF-8 ({tag})"))?);
            data = &data[end + 1..];
        }
        Ok(found)
    }

    /// A list of numbers of any width; empty where it is missing.
    /// Errors: A text when it is damaged.
    pub(crate) fn numbers(&self, tag: u32) -> Result<Vec<u64>, String> {
        let Some(entry) = self.entries.get(&tag) else { return Ok(Vec::new()) };
        let wrong = || format!("has a header whose numbers {tag} are damaged");
        let width = match entry.kind {
            1 | 2 => 1,
            3 => 2,
            4 => 4,
            5 => 8,
            _ => return Err(wrong()),
        };
        let bytes = self.data(entry).get(..entry.count * width).ok_or_else(wrong)?;
        let value = |chunk: &[u8]| chunk.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        Ok(bytes.chunks_exact(width).map(value).collect())
    }

    /// The first number.
    pub(crate) fn number(&self, tag: u32) -> Option<u64> {
        self.numbers(tag).ok()?.first().copied()
    }

    /// Bytes.
    pub(crate) fn binary(&self, tag: u32) -> Option<&[u8]> {
        let entry = self.entries.get(&tag).filter(|entry| entry.kind == 7)?;
        self.data(entry).get(..entry.count)
    }
}

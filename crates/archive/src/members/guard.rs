//! What the crate `tar` reads into memory before it gives an entry, held to limits: long names, records of pax, lists of holes.

use std::io::{self, Read};

use super::budget::over;

/// Longest name of its own member: PATH_MAX with room.
const LONG_NAME: u64 = 64 << 10;
/// Longest records of one entry: attributes of 64 KiB each.
const RECORDS: u64 = 8 << 20;
/// Longest list of holes, in blocks of 21 each.
const HOLES: u64 = 1 << 16;
/// Bytes of a block.
const BLOCK: usize = 512;

/// Opens a tar archive that is not compressed. No other function of this program does.
pub fn open_tar<R: Read>(stream: R) -> tar::Archive<Guard<R>> {
    tar::Archive::new(Guard { inner: stream, at: At::Header(Vec::new()), size: None, problem: None })
}

/// Where in the archive the stream is.
enum At {
    Header(Vec<u8>),
    /// In a further list of holes; so many came, and the content that follows.
    Holes(Vec<u8>, u64, u64),
    /// In records, of which so many bytes are left, padding included; and how many of them count.
    Records(Vec<u8>, u64, usize),
    Content(u64),
    /// Behind the end, or behind what is no archive: the crate stops there too.
    Over,
}

pub struct Guard<R> {
    inner: R,
    at: At,
    size: Option<u64>,
    problem: Option<(u64, &'static str)>,
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.pass(&buffer[..read]);
        match self.problem {
            Some((limit, what)) => Err(over(limit, what)),
            None => Ok(read),
        }
    }
}

/// Moves bytes to a buffer until it has as many as wanted.
fn fill(to: &mut Vec<u8>, from: &mut &[u8], wanted: usize) -> bool {
    let (taken, rest) = from.split_at(from.len().min(wanted.saturating_sub(to.len())));
    to.extend_from_slice(taken);
    *from = rest;
    to.len() >= wanted
}

impl<R> Guard<R> {
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.problem.is_none() {
            let at = std::mem::replace(&mut self.at, At::Over);
            self.at = match at {
                At::Header(mut header) => match fill(&mut header, &mut bytes, BLOCK) {
                    true => self.header(&header),
                    false => At::Header(header),
                },
                At::Holes(mut block, count, content) => match fill(&mut block, &mut bytes, BLOCK) {
                    true if count > HOLES => {
                        self.problem = Some((HOLES * 21, "holes of one file"));
                        At::Over
                    }
                    // Source: tar(5), `isextended` of a further block.
                    true if block[504] == 1 => At::Holes(Vec::new(), count + 1, content),
                    true => At::Content(content),
                    false => At::Holes(block, count, content),
                },
                At::Records(mut records, left, length) => {
                    let whole = usize::try_from(left).unwrap_or(usize::MAX);
                    match fill(&mut records, &mut bytes, whole) {
                        true => {
                            records.truncate(length);
                            self.size = size_of(&records);
                            At::Header(Vec::new())
                        }
                        false => At::Records(records, left, length),
                    }
                }
                At::Content(left) => {
                    let count = left.min(bytes.len() as u64);
                    bytes = &bytes[usize::try_from(count).unwrap_or(bytes.len())..];
                    if left == count { At::Header(Vec::new()) } else { At::Content(left - count) }
                }
                At::Over => return,
            };
            // An empty content has no bytes to wait for.
            if matches!(self.at, At::Content(0)) {
                self.at = At::Header(Vec::new());
            }
        }
    }

    fn header(&mut self, bytes: &[u8]) -> At {
        let header = tar::Header::from_byte_slice(bytes);
        if bytes.iter().all(|byte| *byte == 0) {
            return At::Over;
        }
        let Ok(size) = header.entry_size() else { return At::Over };
        let kind = header.entry_type();
        // As the crate has it: what is in neither form has no such members.
        let is_known = header.as_gnu().is_some() || header.as_ustar().is_some();
        let is_name = kind.is_gnu_longname() || kind.is_gnu_longlink();
        let is_records = kind.is_pax_local_extensions();
        let is_extension = is_name || is_records || kind.is_pax_global_extensions();
        let size = if is_extension { size } else { self.size.take().unwrap_or(size) };
        let Some(padded) = size.checked_next_multiple_of(BLOCK as u64) else { return At::Over };
        match () {
            () if is_name && size > LONG_NAME => self.problem = Some((LONG_NAME, "bytes of one name")),
            () if is_records && size > RECORDS => self.problem = Some((RECORDS, "bytes of records of one file")),
            () if is_records && is_known && size > 0 => {
                return At::Records(Vec::new(), padded, usize::try_from(size).unwrap_or_default());
            }
            () if kind.is_gnu_sparse() && bytes[482] == 1 => return At::Holes(Vec::new(), 0, padded),
            () => {}
        }
        At::Content(padded)
    }
}

/// The size that records give, as the crate reads them.
fn size_of(records: &[u8]) -> Option<u64> {
    for record in tar::PaxExtensions::new(records) {
        let record = record.ok()?;
        if record.key() == Ok("size") {
            return record.value().ok()?.parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(kind: tar::EntryType, size: u64, content: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_path("x").unwrap();
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    fn outcome(stream: impl Read) -> Result<Vec<u64>, String> {
        let mut archive = open_tar(stream);
        let mut sizes = Vec::new();
        for entry in archive.entries().map_err(|error| error.to_string())? {
            sizes.push(entry.map_err(|error| error.to_string())?.size());
        }
        Ok(sizes)
    }

    #[test]
    fn what_is_read_into_memory_has_limits() {
        use tar::EntryType as Kind;
        for (kind, words) in [
            (Kind::GNULongName, "65536 bytes of one name"),
            (Kind::GNULongLink, "65536 bytes of one name"),
            (Kind::XHeader, "bytes of records of one file"),
        ] {
            // Behind a file whose size stands in records, which only the crate's own view of sizes finds.
            let records = b"13 size=1024\n";
            let stream = [
                member(Kind::XHeader, records.len() as u64, records),
                member(Kind::Regular, 0, &[7; 1024]),
                member(kind, 10 << 30, b""),
            ]
            .concat();
            let error = outcome(stream.chain(io::repeat(b'n'))).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let good = [
            member(Kind::GNULongName, 300, &[b'n'; 300]),
            member(Kind::Regular, 3, b"abc"),
            member(Kind::Directory, 0, b""),
            vec![0; 1024],
        ];
        assert_eq!(outcome(&good.concat()[..]), Ok(vec![3, 0]));
    }

    #[test]
    fn a_list_of_holes_has_an_end() {
        let mut first = member(tar::EntryType::GNUSparse, 0, b"");
        first[482] = 1;
        let sum: u32 = first[..148].iter().chain(&first[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        first[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut more = vec![0; BLOCK];
        more[504] = 1;
        let stream = io::Cursor::new(first).chain(Repeat(more, 0));
        assert!(outcome(stream).unwrap_err().contains("holes of one file"));
    }

    struct Repeat(Vec<u8>, usize);

    impl Read for Repeat {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            for byte in buffer.iter_mut() {
                *byte = self.0[self.1];
                self.1 = (self.1 + 1) % self.0.len();
            }
            Ok(buffer.len())
        }
    }
}

//! zchunk: metadata in chunks of zstd, each with its own digest, so that clients may fetch those that they lack.
//!
//! Source: zchunk 1.2 (zchunk_format.txt, src/lib/header.c): lead, preface, index, signatures, chunks. Numbers have seven bits a byte,
//! lowest first; the last byte has its top bit set.

use std::io::{self, BufReader, Read};

use sha2::Digest as _;

/// Largest window of a zstd stream, as a power of two; `zstd --ultra -22` needs 27.
pub(super) const ZSTD_WINDOW_LOG: u32 = 27;

pub(super) const MAGIC: [u8; 5] = *b"\0ZCK1";
/// Bytes of a header at most; one of a hundred thousand packages has some three megabytes.
const HEADER_MOST: u64 = 64 << 20;
/// Bytes of a chunk at most, packed and unpacked; zchunk's own limit is ten megabytes where it cuts by itself.
const CHUNK_MOST: u64 = 256 << 20;
/// Flags that are understood: elements that may be passed over, and digests of unpacked chunks.
const FLAG_ELEMENTS: u64 = 2;
const FLAG_OPEN_SUMS: u64 = 4;

fn wrong(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("zchunk: {problem}"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sums {
    Sha1,
    Sha256,
    Sha512,
    /// The first 128 bits of SHA-512.
    Sha512Short,
}

impl Sums {
    fn new(number: u64) -> io::Result<Self> {
        Ok(match number {
            0 => Self::Sha1,
            1 => Self::Sha256,
            2 => Self::Sha512,
            3 => Self::Sha512Short,
            _ => return Err(wrong("an unknown digest type")),
        })
    }

    fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
            Self::Sha512Short => 16,
        }
    }

    /// The digest of all parts, one behind the other.
    fn of(self, parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Sha1 => {
                let mut hasher = sha1::Sha1::default();
                parts.iter().for_each(|part| sha1::Digest::update(&mut hasher, part));
                sha1::Digest::finalize(hasher).to_vec()
            }
            Self::Sha256 => {
                let mut hasher = sha2::Sha256::new();
                parts.iter().for_each(|part| hasher.update(part));
                hasher.finalize().to_vec()
            }
            Self::Sha512 | Self::Sha512Short => {
                let mut hasher = sha2::Sha512::new();
                parts.iter().for_each(|part| hasher.update(part));
                hasher.finalize()[..self.length()].to_vec()
            }
        }
    }
}

/// One chunk, as the index has it.
#[derive(Debug)]
struct Chunk {
    sum: Vec<u8>,
    length: u64,
    open_length: u64,
}

pub(super) struct Zchunk<R> {
    source: R,
    sums: Sums,
    is_zstd: bool,
    dictionary: zstd::dict::DecoderDictionary<'static>,
    chunks: std::vec::IntoIter<Chunk>,
    open: io::Cursor<Vec<u8>>,
}

/// A number at the beginning of some bytes, which are taken off.
fn number(bytes: &mut &[u8]) -> io::Result<u64> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or_else(|| wrong("its header is truncated"))?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 != 0 {
            return Ok(value);
        }
    }
    Err(wrong("a number is too large"))
}

fn taken<'a>(bytes: &mut &'a [u8], length: u64) -> io::Result<&'a [u8]> {
    let length = usize::try_from(length).ok();
    let (first, rest) =
        length.and_then(|length| bytes.split_at_checked(length)).ok_or_else(|| wrong("its header is truncated"))?;
    *bytes = rest;
    Ok(first)
}

impl<R: Read> Zchunk<R> {
    /// Reads the header.
    /// Errors: The source's; `InvalidData` for what is damaged or not understood.
    pub fn new(mut source: R) -> io::Result<Self> {
        let mut lead = vec![0; MAGIC.len()];
        source.read_exact(&mut lead)?;
        if lead != MAGIC {
            return Err(wrong("it is not a zchunk file"));
        }
        let mut number_of = |lead: &mut Vec<u8>| {
            let start = lead.len();
            while lead.len() == start || lead.last().is_some_and(|byte| byte & 0x80 == 0) {
                let mut byte = [0];
                source.read_exact(&mut byte)?;
                lead.push(byte[0]);
                if lead.len() - start > 10 {
                    break;
                }
            }
            number(&mut &lead[start..])
        };
        let of_all = Sums::new(number_of(&mut lead)?)?;
        let size = number_of(&mut lead)?;
        if size > HEADER_MOST {
            return Err(wrong("its header is too large"));
        }
        let mut sum = vec![0; of_all.length()];
        source.read_exact(&mut sum)?;
        let mut header = Vec::new();
        source.by_ref().take(size).read_to_end(&mut header)?;
        if header.len() as u64 != size || of_all.of(&[&lead, &header]) != sum {
            return Err(wrong("its header is damaged"));
        }
        let (sums, is_zstd, mut chunks) = index(&header, of_all)?;
        let mut zchunk = Self {
            source,
            sums,
            is_zstd,
            dictionary: zstd::dict::DecoderDictionary::copy(&[]),
            chunks: Vec::new().into_iter(),
            open: io::Cursor::default(),
        };
        let dictionary = zchunk.unpacked(&chunks.remove(0))?;
        zchunk.dictionary = zstd::dict::DecoderDictionary::copy(&dictionary);
        zchunk.chunks = chunks.into_iter();
        Ok(zchunk)
    }

    /// A chunk's content; the source is at its beginning.
    fn unpacked(&mut self, chunk: &Chunk) -> io::Result<Vec<u8>> {
        let mut packed = Vec::new();
        self.source.by_ref().take(chunk.length).read_to_end(&mut packed)?;
        let is_whole = packed.len() as u64 == chunk.length;
        // One without anything, or whose digest is that of its content, has zeros.
        let has_sum = chunk.sum.iter().any(|byte| *byte != 0);
        if !is_whole || has_sum && self.sums.of(&[&packed]) != chunk.sum {
            return Err(wrong("a chunk is damaged"));
        }
        if packed.is_empty() || !self.is_zstd {
            return if packed.len() as u64 == chunk.open_length {
                Ok(packed)
            } else {
                Err(wrong("a chunk is damaged"))
            };
        }
        let mut decoder = zstd::Decoder::with_prepared_dictionary(BufReader::new(&packed[..]), &self.dictionary)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG)?;
        let mut open = Vec::new();
        decoder.take(chunk.open_length + 1).read_to_end(&mut open)?;
        if open.len() as u64 == chunk.open_length {
            Ok(open)
        } else {
            Err(wrong("a chunk's length does not match its index"))
        }
    }
}

/// What a header says: how the digests of chunks are made, whether they are compressed, and the chunks, the dictionary first.
fn index(header: &[u8], of_all: Sums) -> io::Result<(Sums, bool, Vec<Chunk>)> {
    let mut left = header;
    taken(&mut left, of_all.length() as u64)?;
    let flags = number(&mut left)?;
    if flags & !(FLAG_ELEMENTS | FLAG_OPEN_SUMS) != 0 {
        return Err(wrong("it uses streams or features of later versions"));
    }
    let is_zstd = match number(&mut left)? {
        0 => false,
        2 => true,
        _ => return Err(wrong("an unknown compression")),
    };
    if flags & FLAG_ELEMENTS != 0 {
        for _ in 0..number(&mut left)? {
            number(&mut left)?;
            let length = number(&mut left)?;
            taken(&mut left, length)?;
        }
    }
    let size = number(&mut left)?;
    let mut left = taken(&mut left, size)?;
    let sums = Sums::new(number(&mut left)?)?;
    let mut chunks = Vec::new();
    for _ in 0..number(&mut left)? {
        let sum = taken(&mut left, sums.length() as u64)?.to_vec();
        if flags & FLAG_OPEN_SUMS != 0 {
            taken(&mut left, sums.length() as u64)?;
        }
        let chunk = Chunk { sum, length: number(&mut left)?, open_length: number(&mut left)? };
        if chunk.length > CHUNK_MOST || chunk.open_length > CHUNK_MOST {
            return Err(wrong("a chunk is too large"));
        }
        chunks.push(chunk);
    }
    if chunks.is_empty() {
        return Err(wrong("its index has no dictionary entry"));
    }
    Ok((sums, is_zstd, chunks))
}

impl<R: Read> Read for Zchunk<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.open.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(chunk) = self.chunks.next() else { return Ok(0) };
            self.open = io::Cursor::new(self.unpacked(&chunk)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number as zchunk writes it.
    fn ci(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value > 0x7f {
            bytes.push((value & 0x7f) as u8);
            value >>= 7;
        }
        bytes.push(value as u8 | 0x80);
        bytes
    }

    /// A file with a dictionary, none if it is empty, and chunks.
    fn file(dictionary: &[u8], texts: &[&[u8]], sums: (u64, Sums), flags: u64) -> Vec<u8> {
        let packed = |text: &[u8], dictionary: &[u8]| {
            let mut encoder = zstd::Encoder::with_dictionary(Vec::new(), 3, dictionary).unwrap();
            io::Write::write_all(&mut encoder, text).unwrap();
            encoder.finish().unwrap()
        };
        let mut chunks = vec![(Vec::new(), 0)];
        if !dictionary.is_empty() {
            chunks[0] = (packed(dictionary, &[]), dictionary.len());
        }
        chunks.extend(texts.iter().map(|text| (packed(text, dictionary), text.len())));
        let mut index = [ci(sums.0), ci(chunks.len() as u64)].concat();
        for (bytes, open) in &chunks {
            let zeros = vec![0; sums.1.length()];
            index.extend(if bytes.is_empty() { zeros.clone() } else { sums.1.of(&[bytes]) });
            if flags & FLAG_OPEN_SUMS != 0 {
                index.extend(zeros);
            }
            index.extend([ci(bytes.len() as u64), ci(*open as u64)].concat());
        }
        let mut header = vec![7; 32];
        header.extend([ci(flags), ci(2)].concat());
        if flags & FLAG_ELEMENTS != 0 {
            header.extend([ci(1), ci(5), ci(3), b"xyz".to_vec()].concat());
        }
        header.extend([ci(index.len() as u64), index, ci(0)].concat());
        let lead = [MAGIC.to_vec(), ci(1), ci(header.len() as u64)].concat();
        let sum = Sums::Sha256.of(&[&lead, &header]);
        let data = chunks.into_iter().flat_map(|(bytes, _)| bytes).collect();
        [lead, sum, header, data].concat()
    }

    fn content(file: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        Zchunk::new(file)?.read_to_end(&mut content)?;
        Ok(content)
    }

    const KINDS: [(u64, Sums); 4] = [(0, Sums::Sha1), (1, Sums::Sha256), (2, Sums::Sha512), (3, Sums::Sha512Short)];

    #[test]
    fn chunks_with_and_without_a_dictionary_are_put_together() {
        let long = b"<package type=\"rpm\">".repeat(20_000);
        for dictionary in [&b""[..], b"<package type=\"rpm\"><name>"] {
            for (kind, flags) in KINDS.into_iter().zip([0, FLAG_ELEMENTS, FLAG_OPEN_SUMS, 6]) {
                let file = file(dictionary, &[b"<metadata>", &long, b"", b"</metadata>"], kind, flags);
                let expected = [b"<metadata>", &long[..], b"</metadata>"].concat();
                assert!(content(&file).unwrap() == expected, "{kind:?}");
            }
        }
        assert_eq!(content(&file(b"", &[], KINDS[1], 0)).unwrap(), b"");
    }

    #[test]
    fn each_damaged_byte_that_counts_is_noticed_and_nothing_panics() {
        let good = file(b"<name>", &[b"<name>a</name>", b"<name>b</name>"], KINDS[3], 0);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x41;
            assert!(content(&bad).is_err(), "{at}");
            assert!(content(&good[..at]).is_err(), "{at}");
        }
        assert!(content(&file(b"", &[b"a"], KINDS[1], 1)).unwrap_err().to_string().contains("streams"));
    }
}

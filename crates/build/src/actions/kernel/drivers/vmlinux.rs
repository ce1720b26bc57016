//! What a kernel image exports, read from the image itself: Debian ships no list of it beside the kernel.
//!
//! Sources: Linux, Documentation/arch/x86/boot.rst (where the compressed kernel lies), include/linux/export-internal.h and
//! kernel/module/main.c (the tables), lz4's doc/lz4_Block_format.md and lz4_Frame_format.md (legacy frames).

use std::collections::HashMap;
use std::io::Read;

use object::{Object, ObjectSection};

/// Largest kernel that is unpacked, in bytes.
const LIMIT: usize = 1 << 30;

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
}

/// The ELF file inside a kernel image for x86.
fn unpack(image: &[u8]) -> Result<Vec<u8>, String> {
    if image.starts_with(b"\x7fELF") {
        return Ok(image.to_vec());
    }
    if image.get(0x202..0x206) != Some(b"HdrS") {
        return Err("it is not a kernel image for x86, and only those and ELF files have them".to_owned());
    }
    let sectors = match image.get(0x1f1) {
        Some(0) | None => 4,
        Some(count) => usize::from(*count),
    };
    let place = number(image, 0x248).zip(number(image, 0x24c));
    let payload = place.and_then(|(offset, length)| {
        let start = (sectors + 1) * 512 + offset;
        image.get(start..start.checked_add(length)?)
    });
    let payload = payload.ok_or("its header points past its end")?;
    let mut out = Vec::new();
    let limited = |stream: &mut dyn Read, out: &mut Vec<u8>| {
        stream.take(LIMIT as u64).read_to_end(out).map(drop).map_err(|error| error.to_string())
    };
    match payload {
        [0x1f, 0x8b, ..] => limited(&mut flate2::read::GzDecoder::new(payload), &mut out)?,
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            limited(&mut archive::xz(payload).map_err(|error| error.to_string())?, &mut out)?;
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = zstd::Decoder::with_buffer(payload).map_err(|error| error.to_string())?;
            limited(&mut decoder.single_frame(), &mut out)?;
        }
        [0x5d, 0, 0, ..] => {
            let stream = liblzma::stream::Stream::new_lzma_decoder(512 << 20).map_err(|error| error.to_string())?;
            limited(&mut liblzma::read::XzDecoder::new_stream(payload, stream), &mut out)?;
        }
        [0x02, 0x21, 0x4c, 0x18, rest @ ..] => lz4_legacy(rest, &mut out).ok_or("its lz4 stream is damaged")?,
        _ => return Err("its compression is not supported (gzip, xz, lzma, zstd and lz4 are)".to_owned()),
    }
    Ok(out)
}

/// Blocks one after the other; what the kernel's build appends, the size, is no block.
fn lz4_legacy(mut rest: &[u8], out: &mut Vec<u8>) -> Option<()> {
    while let Some(size) = number(rest, 0) {
        let Some(block) = rest.get(4..4 + size).filter(|block| !block.is_empty()) else { break };
        lz4_block(block, out)?;
        rest = &rest[4 + size..];
    }
    Some(())
}

fn lz4_length(nibble: u8, rest: &mut &[u8]) -> Option<usize> {
    let mut length = usize::from(nibble);
    if nibble == 15 {
        loop {
            let (byte, left) = rest.split_first()?;
            *rest = left;
            length = length.checked_add(usize::from(*byte))?;
            if *byte != 255 {
                break;
            }
        }
    }
    Some(length)
}

fn lz4_block(mut rest: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    loop {
        let (token, left) = rest.split_first()?;
        rest = left;
        let literals = lz4_length(token >> 4, &mut rest)?;
        out.extend_from_slice(rest.get(..literals)?);
        rest = &rest[literals..];
        if rest.is_empty() {
            return Some(());
        }
        let offset = usize::from(u16::from_le_bytes([*rest.first()?, *rest.get(1)?]));
        rest = &rest[2..];
        let mut length = lz4_length(token & 15, &mut rest)?.checked_add(4)?;
        if offset == 0 || offset > out.len() - start || out.len().checked_add(length)? > LIMIT {
            return None;
        }
        // A match may overlap what it makes.
        while length > 0 {
            let from = out.len() - offset;
            let count = length.min(offset);
            out.extend_from_within(from..from + count);
            length -= count;
        }
    }
}

struct Section<'a> {
    address: u64,
    data: &'a [u8],
}

/// The exported symbols of a kernel image with the CRCs of their versions; `known` is a symbol whose CRC a module of the
/// kernel names, by which the form of the table is found and proved.
pub(super) fn exports(image: &[u8], known: Option<(&str, u32)>) -> Result<HashMap<String, Option<u32>>, String> {
    let elf = unpack(image)?;
    let file = object::File::parse(&elf[..]).map_err(|error| format!("its content is not an ELF file: {error}"))?;
    let section = |name: &str| {
        let section = file.section_by_name(name)?;
        Some(Section { address: section.address(), data: section.data().ok()? })
    };
    let strings = section("__ksymtab_strings").ok_or("it has no symbol table")?;
    let all: Vec<Section<'_>> = file
        .sections()
        .filter_map(|section| Some(Section { address: section.address(), data: section.data().ok()? }))
        .collect();
    let mut first_problem = None;
    for relative in [false, true] {
        let mut found = HashMap::new();
        for ending in ["", "_gpl"] {
            let Some(table) = section(&format!("__ksymtab{ending}")) else { continue };
            let crcs = section(&format!("__kcrctab{ending}"));
            let wide = crcs.as_ref().is_some_and(|crcs| is_wide(&table, crcs));
            let names = names(&table, &strings, crcs.as_ref(), wide)?;
            for (index, name) in names.into_iter().enumerate() {
                let crc = crcs.as_ref().and_then(|crcs| crc(crcs, index, wide, relative, &all));
                found.insert(name, crc);
            }
        }
        match known {
            // With names that agree the table was read rightly; with CRCs so were they.
            Some((name, crc)) => match found.get(name) {
                Some(Some(here)) if *here == crc => return Ok(found),
                Some(None) if found.values().all(Option::is_none) => return Ok(found),
                _ => first_problem = Some(format!("its symbol table has an unknown format (`{name}`)")),
            },
            None => return Ok(found),
        }
    }
    Err(first_problem.unwrap_or_else(|| "its symbol table has an unknown format".to_owned()))
}

/// Whether CRCs take 8 bytes, as before Linux 4.10: the table then has 16 bytes for each symbol.
fn is_wide(table: &Section<'_>, crcs: &Section<'_>) -> bool {
    crcs.data.len() * 2 == table.data.len() && !table.data.len().is_multiple_of(12) && {
        // Two addresses for each symbol, of the kernel's half of memory.
        table.data.get(8..16).is_some_and(|name| name[7] == 0xff)
    }
}

fn crc(crcs: &Section<'_>, index: usize, wide: bool, relative: bool, all: &[Section<'_>]) -> Option<u32> {
    let at = index * if wide { 8 } else { 4 };
    let value = number(crcs.data, at)? as u32;
    if !relative || wide {
        return Some(value);
    }
    let address = (crcs.address + at as u64).wrapping_add_signed(i64::from(value as i32));
    all.iter().find_map(|section| {
        let at = usize::try_from(address.checked_sub(section.address).filter(|_| section.address != 0)?).ok()?;
        Some(number(section.data, at)? as u32)
    })
}

/// Names in the order of the table.
fn names(
    table: &Section<'_>,
    strings: &Section<'_>,
    crcs: Option<&Section<'_>>,
    wide: bool,
) -> Result<Vec<String>, String> {
    let text = |address: u64| {
        let at = usize::try_from(address.checked_sub(strings.address)?).ok()?;
        let rest = strings.data.get(at..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        String::from_utf8(rest[..end].to_vec()).ok().filter(|name| !name.is_empty())
    };
    // Since Linux 5.4 entries have a third field; before 4.19 addresses instead of distances.
    let by_crcs =
        crcs.filter(|crcs| !crcs.data.is_empty() && !wide).map(|crcs| table.data.len() / (crcs.data.len() / 4));
    let sizes: Vec<usize> = match by_crcs {
        Some(size) => vec![size],
        None => vec![12, 8, 16, 24],
    };
    'sizes: for size in sizes {
        if size < 8 || !table.data.len().is_multiple_of(size) {
            continue;
        }
        let mut found = Vec::new();
        for (index, entry) in table.data.chunks_exact(size).enumerate() {
            let name = if size == 16 || size == 24 {
                entry[8..16].try_into().ok().map(u64::from_le_bytes).and_then(text)
            } else {
                let place = table.address + (index * size) as u64 + 4;
                let distance = number(entry, 4).unwrap_or_default() as u32 as i32;
                text(place.wrapping_add_signed(i64::from(distance)))
            };
            match name {
                Some(name) => found.push(name),
                None => continue 'sizes,
            }
        }
        return Ok(found);
    }
    Err("its symbol table has an unknown format".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lz4_blocks_are_undone_with_their_overlaps() {
        let mut out = Vec::new();
        // "abc", nine more of it by overlap, then "x".
        let block = [0x35, b'a', b'b', b'c', 3, 0, 0x10, b'x'];
        let mut stream = (block.len() as u32).to_le_bytes().to_vec();
        stream.extend(block);
        stream.extend(13u32.to_le_bytes());
        lz4_legacy(&stream, &mut out).unwrap();
        assert_eq!(out, b"abcabcabcabcx");
    }

    #[test]
    fn what_is_no_kernel_says_so() {
        assert!(exports(b"", None).is_err());
        assert!(exports(&[0; 4096], None).unwrap_err().contains("not a kernel image"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut out = Vec::new();
            let _ = lz4_legacy(&bytes, &mut out);
            let mut image = bytes;
            image.resize(2000, 0);
            image[0x202..0x206].copy_from_slice(b"HdrS");
            let _ = exports(&image, None);
            image[..4].copy_from_slice(b"\x7fELF");
            let _ = exports(&image, Some(("x", 1)));
        }
    }
}

//! What a program or library needs, as its ELF file says it to the dynamic loader: by its program headers, since sections may be
//! stripped. Libraries that it opens by their names while it runs are among its texts. Source: elf(5), ld.so(8), dlopen(3).

use std::collections::BTreeSet;

use object::Endianness;
use object::elf::{DT_NEEDED, DT_SONAME, DT_STRTAB, FileHeader32, FileHeader64, PT_LOAD};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

/// Entries of one file that are looked at.
const MOST_ENTRIES: usize = 4096;
/// Bytes before and after `.so` in the name of a library that is looked for in a file.
const LONGEST_STEM: usize = 64;
/// Longest name of a library, in bytes. Source: NAME_MAX.
const LONGEST_NAME: usize = 255;
/// Longest path of the dynamic loader, in bytes. Source: PATH_MAX.
const LONGEST_INTERPRETER: usize = 4096;

/// The dynamic loader and the libraries of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Elf {
    pub(crate) interpreter: Option<String>,
    /// Those that it needs, then others whose names it has; not its own name.
    pub(crate) libraries: Vec<String>,
    /// The name by which others need it.
    own: Option<String>,
}

/// Names of libraries in a file: `libcrypto.so.3`.
fn names(bytes: &[u8]) -> impl Iterator<Item = String> + '_ {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(byte);
    memchr::memmem::find_iter(bytes, b".so").filter_map(move |at| {
        let before = &bytes[at.saturating_sub(LONGEST_STEM)..at];
        let start = at - before.iter().rev().take_while(|byte| is_of_name(byte)).count();
        let is_end = |byte: &u8| *byte != b'.' && !byte.is_ascii_digit();
        let rest = &bytes[at + 3..bytes.len().min(at + LONGEST_STEM)];
        let end = at + 3 + rest.iter().position(is_end).unwrap_or(rest.len());
        // `lib.sox` is another name.
        if bytes.get(end).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            return None;
        }
        let name = std::str::from_utf8(&bytes[start..end]).ok()?.trim_end_matches('.');
        name.starts_with("lib").then(|| name.to_owned())
    })
}

impl Elf {
    /// None for what is not an ELF file, or is damaged.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let mut elf = match object::FileKind::parse(bytes).ok()? {
            object::FileKind::Elf64 => Self::of_class::<FileHeader64<Endianness>>(bytes)?,
            object::FileKind::Elf32 => Self::of_class::<FileHeader32<Endianness>>(bytes)?,
            _ => return None,
        };
        let named: BTreeSet<String> = names(bytes).take(MOST_ENTRIES).collect();
        let is_other = |name: &String| !elf.libraries.contains(name) && elf.own.as_ref() != Some(name);
        let others: Vec<String> = named.into_iter().filter(is_other).collect();
        elf.libraries.extend(others);
        Some(elf)
    }

    /// Without the name of the file itself, which its text may have.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.libraries.retain(|library| library != name);
        self
    }

    /// Bytes of its names.
    pub(crate) fn bytes(&self) -> usize {
        let names = self.interpreter.iter().chain(&self.libraries).chain(&self.own);
        names.map(|name| name.len() + size_of::<String>()).sum()
    }

    fn of_class<H: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Option<Self> {
        let header = H::parse(bytes).ok()?;
        let endian = header.endian().ok()?;
        let segments = header.program_headers(endian, bytes).ok()?;
        let mut elf = Self::default();
        let mut entries: &[H::Dyn] = &[];
        for segment in segments {
            if let Some(name) = segment.interpreter(endian, bytes).ok()? {
                if name.len() > LONGEST_INTERPRETER {
                    return None;
                }
                elf.interpreter = Some(String::from_utf8_lossy(name).into_owned());
            }
            entries = segment.dynamic(endian, bytes).ok()?.unwrap_or(entries);
        }
        let entries = &entries[..entries.len().min(MOST_ENTRIES)];
        let strings = entries.iter().find(|entry| entry.tag(endian) == DT_STRTAB);
        let Some(strings) = strings.map(|entry| entry.val(endian)) else { return Some(elf) };
        // The address of the strings, as a place in the file.
        let place = segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD).find_map(|segment| {
            let (start, size): (u64, u64) = (segment.p_vaddr(endian).into(), segment.p_filesz(endian).into());
            let offset: u64 = segment.p_offset(endian).into();
            let below = strings.checked_sub(start).filter(|below| *below < size)?;
            usize::try_from(offset.checked_add(below)?).ok()
        })?;
        for entry in entries {
            let tag = entry.tag(endian);
            if tag != DT_NEEDED && tag != DT_SONAME {
                continue;
            }
            let start = place.checked_add(usize::try_from(entry.val(endian)).ok()?)?;
            let rest = bytes.get(start..)?;
            let rest = &rest[..rest.len().min(LONGEST_NAME + 1)];
            let end = rest.iter().position(|byte| *byte == 0)?;
            let name = String::from_utf8_lossy(&rest[..end]).into_owned();
            match tag == DT_NEEDED {
                true => elf.libraries.push(name),
                false => elf.own = Some(name),
            }
        }
        Some(elf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_names_its_loader_and_its_libraries_and_no_part_of_it_ends_the_reader() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let elf = Elf::of(&own).unwrap();
        assert!(elf.interpreter.is_some_and(|name| name.contains("ld-linux")));
        assert!(elf.libraries.iter().any(|name| name.starts_with("libc.so")), "{:?}", elf.libraries);
        for length in (0..own.len().min(4096)).step_by(7) {
            let _ = Elf::of(&own[..length]);
        }
        assert_eq!(Elf::of(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn a_small_file_without_sections_is_read() {
        let bytes = crate::tests::elf(&["libssl.so.3", "libc.so.6"]);
        let elf = Elf::of(&bytes).unwrap();
        assert_eq!(elf.libraries, ["libssl.so.3", "libc.so.6"]);
        assert_eq!(elf.interpreter.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        let opened = [&bytes[..], b"\0/usr/lib/libcurl.so.4\0 open lib.sox, x.so.1 and libzstd.so\0"].concat();
        let libraries = ["libssl.so.3", "libc.so.6", "libcurl.so.4", "libzstd.so"];
        assert_eq!(Elf::of(&opened).unwrap().libraries, libraries);
        // A library has its own name among its texts.
        let library = Elf::of(&crate::tests::library("libx.so.1", &["libc.so.6"])).unwrap();
        assert_eq!((library.libraries, library.own.as_deref()), (vec!["libc.so.6".to_owned()], Some("libx.so.1")));
        let plugin = Elf::of(&crate::tests::elf(&["libown.so", "libc.so.6"])).unwrap();
        assert_eq!(plugin.without("libown.so").libraries, ["libc.so.6"]);
        // Any byte may be any other.
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            let _ = Elf::of(&damaged);
        }
    }

    #[test]
    fn names_that_no_file_can_have_are_refused() {
        let long = "x".repeat(LONGEST_NAME + 1);
        assert_eq!(Elf::of(&crate::tests::elf(&[&long])), None);
        assert!(Elf::of(&crate::tests::elf(&[&long[1..]])).is_some());
        let path = |length: usize| crate::tests::elf_of(&format!("/{}", "x".repeat(length - 1)), None, &[]);
        assert_eq!(Elf::of(&path(LONGEST_INTERPRETER + 1)), None);
        let elf = Elf::of(&path(LONGEST_INTERPRETER)).unwrap();
        assert!(elf.bytes() >= LONGEST_INTERPRETER);
    }
}

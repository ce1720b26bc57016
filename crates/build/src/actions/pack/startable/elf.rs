//! What programs and libraries need, as their ELF files say it.

use object::Endianness;
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, FileHeader32, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

#[derive(Default)]
pub(super) struct Needs {
    pub interpreter: Option<String>,
    pub libraries: Vec<String>,
    /// Folders that count for the file itself: DT_RUNPATH.
    pub run_path: Vec<String>,
    /// Those of a program count for its libraries too: DT_RPATH.
    pub inherited: Vec<String>,
}

impl Needs {
    /// None for what is not an ELF file, or is not understood.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        match object::FileKind::parse(bytes).ok()? {
            object::FileKind::Elf64 => Self::of_elf::<FileHeader64<Endianness>>(bytes),
            object::FileKind::Elf32 => Self::of_elf::<FileHeader32<Endianness>>(bytes),
            _ => None,
        }
    }

    fn of_elf<H: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Option<Self> {
        let header = H::parse(bytes).ok()?;
        let endian = header.endian().ok()?;
        let mut needs = Self::default();
        for segment in header.program_headers(endian, bytes).ok()? {
            if let Some(name) = segment.interpreter(endian, bytes).ok()? {
                needs.interpreter = Some(String::from_utf8_lossy(name).into_owned());
            }
        }
        let sections = header.sections(endian, bytes).ok()?;
        let Some((entries, strings)) = sections.dynamic(endian, bytes).ok()? else { return Some(needs) };
        let strings = sections.strings(endian, bytes, strings).ok()?;
        for entry in entries {
            let text = || {
                let text = entry.string(endian, strings).ok()?;
                Some(String::from_utf8_lossy(text).into_owned())
            };
            match entry.tag(endian) {
                DT_NEEDED => needs.libraries.extend(text()),
                DT_RUNPATH => needs.run_path.extend(text().iter().flat_map(|text| text.split(':')).map(str::to_owned)),
                DT_RPATH => needs.inherited.extend(text().iter().flat_map(|text| text.split(':')).map(str::to_owned)),
                _ => {}
            }
        }
        Some(needs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_of_this_machine_needs_is_read() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let needs = Needs::of(&own).unwrap();
        assert!(needs.interpreter.is_some_and(|name| name.contains("ld-linux")));
        assert!(needs.libraries.iter().any(|name| name.starts_with("libc.so")));
        for length in (0..own.len().min(4096)).step_by(7) {
            let _ = Needs::of(&own[..length]);
        }
        assert!(Needs::of(b"#!/bin/sh\n").is_none());
    }
}

//! Programs and drivers: sections of ELF files with what their makers say of them.

use std::io::{Read, Seek, SeekFrom};

use serde::Deserialize;

use super::{LONGEST_TEXT, Part};
use crate::Ecosystem;

/// Most sections of a file. Drivers that are made with a section for each function have thousands.
const MOST_SECTIONS: u64 = 60_000;
/// Longest names of sections, in bytes.
const LONGEST_NAMES: u64 = 4 << 20;

/// A section: its place in the file.
struct Section {
    name: u64,
    at: u64,
    size: u64,
}

/// An ELF file whose sections can be read. Source: elf(5).
struct Elf<'a, F> {
    file: &'a mut F,
    is_64: bool,
    is_little: bool,
    sections: Vec<Section>,
    names: Vec<u8>,
}

impl<F: Read + Seek> Elf<'_, F> {
    fn open(file: &mut F) -> Option<Elf<'_, F>> {
        let head = read_at(file, 0, 64)?;
        let mut elf = Elf {
            file,
            is_64: *head.get(4)? == 2,
            is_little: *head.get(5)? == 1,
            sections: Vec::new(),
            names: Vec::new(),
        };
        let (table, size, count, names) = match elf.is_64 {
            true => (elf.number(&head, 40, 8)?, 58, 60, 62),
            false => (elf.number(&head, 32, 4)?, 46, 48, 50),
        };
        let (size, count) = (elf.number(&head, size, 2)?, elf.number(&head, count, 2)?);
        let names = elf.number(&head, names, 2)?;
        if count > MOST_SECTIONS || !(40..=256).contains(&size) {
            return None;
        }
        let table = read_at(elf.file, table, size * count)?;
        for entry in table.chunks_exact(usize::try_from(size).ok()?) {
            let (at, length, word) = if elf.is_64 { (24, 32, 8) } else { (16, 20, 4) };
            let section = Section {
                name: elf.number(entry, 0, 4)?,
                at: elf.number(entry, at, word)?,
                size: elf.number(entry, length, word)?,
            };
            elf.sections.push(section);
        }
        let names = elf.sections.get(usize::try_from(names).ok()?)?;
        let (at, size) = (names.at, names.size);
        elf.names = read_at(elf.file, at, size.min(LONGEST_NAMES))?;
        Some(elf)
    }

    fn number(&self, bytes: &[u8], at: usize, length: usize) -> Option<u64> {
        let bytes = bytes.get(at..at.checked_add(length)?)?;
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if self.is_little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) })
    }

    /// The content of a section, of a text's length at most.
    fn section(&mut self, name: &str) -> Option<Vec<u8>> {
        let is_named = |section: &&Section| {
            let rest = usize::try_from(section.name).ok().and_then(|at| self.names.get(at..)).unwrap_or_default();
            rest.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
        };
        let (at, size) = self.sections.iter().find(is_named).map(|section| (section.at, section.size))?;
        read_at(self.file, at, size.min(LONGEST_TEXT))
    }
}

/// So many bytes, or fewer at the end of the file.
fn read_at(file: &mut (impl Read + Seek), at: u64, length: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at)).ok()?;
    file.by_ref().take(length).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

pub(super) fn parts(file: &mut (impl Read + Seek)) -> Vec<Part> {
    let Some(mut elf) = Elf::open(file) else { return Vec::new() };
    if let Some(info) = elf.section(".modinfo") {
        return of_modinfo(&info).into_iter().collect();
    }
    let mut found = Vec::new();
    if let Some(info) = elf.section(".go.buildinfo") {
        found.extend(of_go(&info).unwrap_or_default());
    }
    if let Some(packed) = elf.section(".dep-v0") {
        found.extend(of_cargo(&packed).unwrap_or_default());
    }
    found
}

/// `KEY=VALUE` texts of a module of the kernel. Source: include/linux/moduleparam.h, modinfo(8).
fn of_modinfo(info: &[u8]) -> Option<Part> {
    let texts = || info.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok());
    let value = |key: &str| texts().find_map(|text| text.strip_prefix(key)?.strip_prefix('='));
    let part = Part::new(Ecosystem::Generic, value("name")?, value("version")?)?;
    Some(Part { is_driver: true, ..part })
}

/// Go's modules and its standard library. Source: Go's debug/buildinfo; the form of Go 1.18 and later, with the texts in the section.
fn of_go(info: &[u8]) -> Option<Vec<Part>> {
    const TEXTS: usize = 32;
    if !info.starts_with(b"\xff Go buildinf:") || info.get(15)? & 2 == 0 {
        return None;
    }
    let (version, rest) = go_text(info.get(TEXTS..)?)?;
    let (modules, _) = go_text(rest).unwrap_or_default();
    let (mut found, mut last) = (Vec::new(), None);
    // `go1.22.3`, `go1.22.3 X:boringcrypto`.
    let version = std::str::from_utf8(version).ok()?.split(' ').next().unwrap_or_default();
    found.extend(version.strip_prefix("go").and_then(|version| Part::new(Ecosystem::Go, "stdlib", version)));
    // Sixteen bytes before and behind it.
    let modules = modules.get(16..modules.len().saturating_sub(16)).unwrap_or_default();
    for line in String::from_utf8_lossy(modules).lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let part = match fields.as_slice() {
            ["mod" | "dep" | "=>", name, version, ..] => {
                Part::new(Ecosystem::Go, name, version.trim_start_matches('v'))
            }
            _ => continue,
        };
        // It replaces the line before.
        if fields.first() != Some(&"=>") {
            found.extend(last);
        }
        // What was built from a directory has no version.
        last = part.filter(|part| part.version != "(devel)");
    }
    found.extend(last);
    Some(found)
}

/// A text with its length before it, in groups of seven bits, and what follows.
fn go_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0usize;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let rest = &bytes[index + 1..];
            return Some((rest.get(..length)?, rest.get(length..)?));
        }
    }
    None
}

/// What cargo-auditable writes. Source: github.com/rust-secure-code/cargo-auditable, PARSING.md.
#[derive(Deserialize)]
struct Audited {
    packages: Vec<Crate>,
}

#[derive(Deserialize)]
struct Crate {
    name: String,
    version: String,
    #[serde(default)]
    source: String,
    /// `build` for what only the compiler ran.
    #[serde(default)]
    kind: String,
}

fn of_cargo(packed: &[u8]) -> Option<Vec<Part>> {
    let mut text = Vec::new();
    flate2::read::ZlibDecoder::new(packed).take(LONGEST_TEXT).read_to_end(&mut text).ok()?;
    let all: Audited = serde_json::from_slice(&text).ok()?;
    let used = all.packages.into_iter().filter(|one| one.kind != "build");
    let part = |one: Crate| {
        // What comes from elsewhere only has the name of one of crates.io.
        let ecosystem = if one.source == "crates.io" { Ecosystem::CratesIo } else { Ecosystem::Generic };
        Part::new(ecosystem, &one.name, &one.version)
    };
    Some(used.filter_map(part).collect())
}

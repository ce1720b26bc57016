//! Whether a module fits a kernel: its vermagic, and each symbol that it needs with the CRC of its version.
//!
//! Sources: Linux, kernel/module/version.c and main.c (`same_magic`, `check_version`), scripts/mod/modpost.c.

use std::collections::{BTreeMap, HashMap};

use object::{Object, ObjectSection, ObjectSymbol, SymbolSection};
use serde::{Deserialize, Serialize};

use crate::actions::kernel::modules::modinfo;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ModuleFacts {
    /// The CPU that it is for, by the name that errors show.
    pub cpu: String,
    /// The release and the options of the kernel that it was built for.
    pub vermagic: String,
    /// Symbols that it needs, with the CRCs that it was built with.
    pub needs: BTreeMap<String, Option<u32>>,
    /// Symbols that it exports, with their CRCs.
    pub exports: BTreeMap<String, Option<u32>>,
    pub has_versions: bool,
}

/// Symbols that the linker makes, and that the kernel does not look for.
const NO_SYMBOLS: [&str; 2] = ["_GLOBAL_OFFSET_TABLE_", ".TOC."];

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Reads a module, uncompressed.
/// Errors: A text for what is no module.
pub(super) fn module_facts(bytes: &[u8]) -> Result<ModuleFacts, String> {
    let file = object::File::parse(bytes).map_err(|error| format!("it is not a module: {error}"))?;
    let vermagic = modinfo(bytes, "vermagic").into_iter().next().ok_or("it is not a module: it has no vermagic")?;
    let cpu = format!("{:?}", file.architecture());
    let mut facts = ModuleFacts { cpu, vermagic: vermagic.trim_end().to_owned(), ..ModuleFacts::default() };
    let data = |name: &str| file.section_by_name(name).and_then(|section| section.data().ok());
    let text =
        |bytes: &[u8]| String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)).into_owned();
    // `struct modversion_info`: a long and 56 bytes of name; since Linux 6.14 tables for names of any length.
    if let Some(versions) = data("__versions") {
        facts.has_versions = true;
        for entry in versions.chunks_exact(64) {
            facts.needs.insert(text(&entry[8..]), word(entry, 0));
        }
    }
    if let (Some(crcs), Some(names)) = (data("__version_ext_crcs"), data("__version_ext_names")) {
        facts.has_versions = true;
        for (crc, name) in crcs.chunks_exact(4).zip(names.split(|byte| *byte == 0)) {
            facts.needs.insert(text(name), word(crc, 0));
        }
    }
    for symbol in file.symbols() {
        let Ok(name) = symbol.name() else { continue };
        if symbol.is_undefined() && !symbol.is_weak() && !name.is_empty() && !NO_SYMBOLS.contains(&name) {
            facts.needs.entry(name.to_owned()).or_default();
        } else if let Some(exported) = name.strip_prefix("__ksymtab_") {
            facts.exports.entry(exported.to_owned()).or_default();
        } else if let Some(exported) = name.strip_prefix("__crc_") {
            let crc = match symbol.section() {
                SymbolSection::Absolute => Some(symbol.address() as u32),
                SymbolSection::Section(index) => file
                    .section_by_index(index)
                    .ok()
                    .and_then(|section| word(section.data().ok()?, usize::try_from(symbol.address()).ok()?)),
                _ => None,
            };
            facts.exports.insert(exported.to_owned(), crc);
        }
    }
    Ok(facts)
}

/// Symbols of `Module.symvers` or `symvers.gz` that the kernel itself has, not its modules.
pub(super) fn parse_symvers(text: &str) -> HashMap<String, Option<u32>> {
    let mut found = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split('\t');
        let (Some(crc), Some(name), Some("vmlinux")) = (fields.next(), fields.next(), fields.next()) else { continue };
        let crc = crc.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
        // Kernels without versions write 0.
        found.insert(name.to_owned(), crc.filter(|crc| *crc != 0));
    }
    found
}

#[derive(Debug, Clone)]
pub(super) struct Kernel {
    /// What `uname -r` prints.
    pub release: String,
    /// The CPU of its own modules, as [`ModuleFacts`] has it; none where it has none.
    pub cpu: Option<String>,
    /// The vermagic of its own modules; none where it has none.
    pub vermagic: Option<String>,
    /// What it exports; or why that is not known.
    pub exports: Result<HashMap<String, Option<u32>>, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Misfit {
    Unreadable(String),
    Cpu(String),
    Vermagic,
    /// It was built for another kernel, and what it needs cannot be compared.
    Unproved(String),
    /// The kernel has another version of a symbol: name, CRC in the module, CRC here.
    Version(String, u32, u32),
    NoSymbol(String),
}

/// How strictly a module's vermagic is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    Own,
    /// It is for another release, and may be used where all that it needs is the same (weak-modules).
    Other,
}

/// Compares a module with a kernel; `elsewhere` finds symbols of other modules.
pub(super) fn misfits(
    facts: &ModuleFacts,
    kernel: &Kernel,
    release: Release,
    elsewhere: &mut dyn FnMut(&str) -> Option<Option<u32>>,
) -> Vec<Misfit> {
    if kernel.cpu.as_ref().is_some_and(|cpu| *cpu != facts.cpu) {
        return vec![Misfit::Cpu(facts.cpu.clone())];
    }
    let parts = |magic: &str| {
        magic.split_once(' ').map_or((magic.to_owned(), None), |(release, options)| {
            (release.to_owned(), Some(options.trim_end().to_owned()))
        })
    };
    let own = parts(&facts.vermagic);
    let wanted = kernel.vermagic.as_deref().map_or((kernel.release.clone(), None), parts);
    let options_differ = wanted.1.is_some() && own.1 != wanted.1;
    let weak = release == Release::Other && facts.has_versions;
    if options_differ || (own.0 != wanted.0 && !weak) {
        return vec![Misfit::Vermagic];
    }
    let exports = match &kernel.exports {
        Ok(exports) => exports,
        Err(reason) if own.0 != wanted.0 => return vec![Misfit::Unproved(reason.clone())],
        Err(_) => return Vec::new(),
    };
    let mut found = Vec::new();
    for (name, crc) in &facts.needs {
        let here = exports.get(name).copied().or_else(|| elsewhere(name));
        match (here, crc) {
            (None, _) => found.push(Misfit::NoSymbol(name.clone())),
            (Some(Some(here)), Some(crc)) if here != *crc => {
                found.push(Misfit::Version(name.clone(), *crc, here));
            }
            _ => {}
        }
    }
    found
}

/// A misfit in words. `release` is the kernel's.
pub(super) fn describe(misfit: &Misfit, vermagic: &str, release: &str) -> String {
    match misfit {
        Misfit::Unreadable(problem) => problem.clone(),
        Misfit::Cpu(cpu) => format!("it is a module for another CPU ({cpu})"),
        Misfit::Vermagic => format!("it was built for `{vermagic}`"),
        Misfit::Unproved(reason) => {
            format!("it was built for `{vermagic}`, but the symbols of {release} cannot be compared: {reason}")
        }
        Misfit::Version(name, crc, here) => {
            format!(
                "its symbol `{name}` has version {crc:#010x}, and {here:#010x} in {release} (it was built for `{vermagic}`)"
            )
        }
        Misfit::NoSymbol(name) => {
            format!("neither {release} nor its modules have the symbol `{name}` (it was built for `{vermagic}`)")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kernel() -> Kernel {
        Kernel {
            release: "6.1.0-2".into(),
            cpu: Some("Aarch64".into()),
            vermagic: Some("6.1.0-2 SMP mod_unload modversions".into()),
            exports: Ok(HashMap::from([("printk".to_owned(), Some(7)), ("kmalloc".to_owned(), Some(8))])),
        }
    }

    fn module(vermagic: &str, needs: &[(&str, u32)]) -> ModuleFacts {
        ModuleFacts {
            cpu: "Aarch64".into(),
            vermagic: vermagic.into(),
            needs: needs.iter().map(|(name, crc)| ((*name).to_owned(), Some(*crc))).collect(),
            has_versions: true,
            ..ModuleFacts::default()
        }
    }

    #[test]
    fn a_module_fits_by_vermagic_and_by_every_symbol() {
        let check = |facts: &ModuleFacts, release| {
            misfits(facts, &kernel(), release, &mut |name| (name == "other").then_some(Some(9)))
        };
        let own = "6.1.0-2 SMP mod_unload modversions";
        assert_eq!(check(&module(own, &[("printk", 7), ("other", 9)]), Release::Own), []);
        assert_eq!(check(&module(own, &[("printk", 6)]), Release::Own), [Misfit::Version("printk".into(), 6, 7)]);
        assert_eq!(check(&module(own, &[("gone", 1)]), Release::Own), [Misfit::NoSymbol("gone".into())]);
        let other = "6.1.0-1 SMP mod_unload modversions";
        assert_eq!(check(&module(other, &[("printk", 7)]), Release::Own), [Misfit::Vermagic]);
        assert_eq!(check(&module(other, &[("printk", 7)]), Release::Other), []);
        assert_eq!(check(&module(other, &[("printk", 6)]), Release::Other).len(), 1);
        let options = module("6.1.0-2 SMP preempt mod_unload modversions", &[]);
        assert_eq!(check(&options, Release::Other), [Misfit::Vermagic]);
        let foreign = ModuleFacts { cpu: "X86_64".into(), ..module(own, &[("printk", 7)]) };
        assert_eq!(check(&foreign, Release::Own), [Misfit::Cpu("X86_64".into())]);
        let mut blind = kernel();
        blind.exports = Err("why".into());
        assert_eq!(misfits(&module(own, &[("x", 1)]), &blind, Release::Own, &mut |_| None), []);
        assert!(matches!(
            misfits(&module(other, &[]), &blind, Release::Other, &mut |_| None)[..],
            [Misfit::Unproved(_)]
        ));
    }

    #[test]
    fn symvers_gives_what_the_kernel_itself_has() {
        let found =
            parse_symvers("0x0000000a\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n0x1\tx\tdrivers/x\tEXPORT_SYMBOL\t\nbad\n");
        assert_eq!(found, HashMap::from([("printk".to_owned(), Some(10))]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = module_facts(&bytes);
            let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
            elf.extend(bytes);
            let _ = module_facts(&elf);
        }
    }
}

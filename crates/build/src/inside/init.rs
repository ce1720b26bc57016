//! The programs of initrds, which this program has in itself.

use std::sync::{LazyLock, OnceLock};

use recipe::Arch;
use sandbox::emulator::HostCpu;
use crate::StageError;

/// The program of the initrd, built by the build script for the same target. Process 1 of the sandboxes is the same file.
pub const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/imgbuild-init"));

/// The same with the faults that tests plant on nodes.
#[cfg(feature = "e2e")]
const PLANTED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/imgbuild-init-planted"));

/// The same for each other CPU that images may have; empty where this imgbuild was built without it.
const INITS: [(Arch, &[u8]); 3] = [
    (Arch::X86_64, include_bytes!(concat!(env!("OUT_DIR"), "/imgbuild-init-x86_64"))),
    (Arch::Aarch64, include_bytes!(concat!(env!("OUT_DIR"), "/imgbuild-init-aarch64"))),
    (Arch::Ppc64le, include_bytes!(concat!(env!("OUT_DIR"), "/imgbuild-init-ppc64le"))),
];

/// imgbuild-init: the program of each initrd.
pub fn init_program() -> &'static [u8] {
    #[cfg(feature = "e2e")]
    if fault::is_planted_on_nodes() {
        return PLANTED;
    }
    INIT
}

/// The program of an image's initrd: the one that is embedded, or a file that `IMGBUILD_INIT_MACHINE` names.
/// Errors: [`StageError::NoInit`] for a CPU without one, or a file that is for another.
pub fn init_for(arch: Arch) -> Result<&'static [u8], StageError> {
    static FILES: LazyLock<[OnceLock<Option<Vec<u8>>>; 3]> = LazyLock::new(Default::default);
    let variable = format!("IMGBUILD_INIT_{}", arch.machine().to_uppercase());
    let none = |problem: String| StageError::NoInit {
        machine: arch.machine().to_owned(),
        variable: variable.clone(),
        problem,
    };
    let at = INITS.iter().position(|(one, _)| *one == arch).unwrap_or(0);
    let from_file = FILES[at].get_or_init(|| std::fs::read(std::env::var_os(&variable)?).ok());
    let own = if HostCpu::here().runs(arch.machine()) { init_program() } else { INITS[at].1 };
    let bytes = from_file.as_deref().unwrap_or(own);
    if fault::planted("init-of-host") {
        return Ok(INIT);
    }
    if bytes.is_empty() {
        return Err(none("this imgbuild was built without one".to_owned()));
    }
    // e_machine: elf(5).
    let number: u16 = match arch {
        Arch::X86_64 => 62,
        Arch::Aarch64 => 183,
        Arch::Ppc64le => 21,
    };
    if !bytes.starts_with(b"\x7fELF") || bytes.get(18..20) != Some(&number.to_le_bytes()) {
        return Err(none(format!("the file that {variable} names is no program for this CPU")));
    }
    Ok(bytes)
}

#[cfg(all(test, feature = "e2e"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_program_of_the_tests_can_have_faults() {
        let has = |bytes: &[u8]| memchr::memmem::find(bytes, b"IMGBUILD_PLANTED").is_some();
        assert!(!has(INIT) && INITS.iter().all(|(_, bytes)| !has(bytes)));
        assert!(has(PLANTED));
    }

    #[test]
    fn each_cpu_has_a_program_of_its_own_or_none() {
        for (arch, machine) in [(Arch::X86_64, 62_u16), (Arch::Aarch64, 183), (Arch::Ppc64le, 21)] {
            assert!(
                init_for(arch).is_ok_and(|bytes| bytes[18..20] == machine.to_le_bytes()) || init_for(arch).is_err()
            );
        }
    }
}

//! Which program an initrd has: one that is embedded, or a file.

use std::sync::{LazyLock, OnceLock};

use crate::StageError;
use embedded::{INIT, INITS, init_program};
use recipe::Arch;
use sandbox::emulator::HostCpu;

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
    let at = INITS.iter().position(|(machine, _)| *machine == arch.machine()).unwrap_or(0);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cpu_has_a_program_of_its_own_or_none() {
        for (arch, machine) in [(Arch::X86_64, 62_u16), (Arch::Aarch64, 183), (Arch::Ppc64le, 21)] {
            assert!(
                init_for(arch).is_ok_and(|bytes| bytes[18..20] == machine.to_le_bytes()) || init_for(arch).is_err()
            );
        }
    }
}

//! UEFI firmware for QEMU's machines: where distributions put it, and which kernels need it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::BootError;

/// Firmware in two files: its code, and variables as they are on a new machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firmware {
    pub code: &'static str,
    pub variables: &'static str,
}

struct Known {
    machine: &'static str,
    packages: &'static str,
    /// Debian's and Ubuntu's, Fedora's and its kin's, SUSE's.
    places: &'static [Firmware],
}

const fn files(code: &'static str, variables: &'static str) -> Firmware {
    Firmware { code, variables }
}

const KNOWN: [Known; 2] = [
    Known {
        machine: "x86_64",
        packages: "`ovmf` of Debian and Ubuntu, `edk2-ovmf` of Fedora, `qemu-ovmf-x86_64` of SUSE",
        places: &[
            files("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
            files("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
            files("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
            files("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
        ],
    },
    Known {
        machine: "aarch64",
        packages: "`qemu-efi-aarch64` of Debian and Ubuntu, `edk2-aarch64` of Fedora, `qemu-uefi-aarch64` of SUSE",
        places: &[
            files("/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
            files("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
            files("/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"),
            files("/usr/share/qemu/aavmf-aarch64-code.bin", "/usr/share/qemu/aavmf-aarch64-vars.bin"),
        ],
    },
];

impl Firmware {
    /// That of a CPU's machines, where it is installed.
    /// Errors: [`BootError::NoFirmware`], or [`BootError::NoUefi`] for machines that have another kind.
    pub fn of(machine: &'static str) -> Result<Self, BootError> {
        let Some(known) = KNOWN.iter().find(|known| known.machine == machine) else {
            return Err(BootError::NoUefi { machine });
        };
        let is_there = |files: &&Self| Path::new(files.code).is_file() && Path::new(files.variables).is_file();
        known.places.iter().find(is_there).copied().ok_or(BootError::NoFirmware { machine, packages: known.packages })
    }
}

/// Whether a kernel is packed in a program of UEFI, which alone unpacks it. Source: Linux, drivers/firmware/efi/libstub/zboot-header.S.
pub fn needs_uefi(kernel: &Path) -> bool {
    let mut head = [0; 8];
    let read = File::open(kernel).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head.starts_with(b"MZ") && head.ends_with(b"zimg")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_without_uefi_are_refused_and_packed_kernels_known() {
        assert!(matches!(Firmware::of("ppc64le"), Err(BootError::NoUefi { machine: "ppc64le" })));
        let directory = tempfile::tempdir().unwrap();
        let kernel = directory.path().join("kernel");
        for (bytes, packed) in [(&b"MZ\0\0zimg\0\0"[..], true), (b"MZ\x40\xfa\0\0\0\0", false), (b"MZ", false)] {
            std::fs::write(&kernel, bytes).unwrap();
            assert_eq!(needs_uefi(&kernel), packed);
        }
    }
}

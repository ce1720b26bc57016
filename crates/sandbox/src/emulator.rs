//! Programs of another CPU: the helper registers an emulator with the kernel, in its own user namespace alone.
//!
//! Since Linux 6.7 binfmt_misc can be mounted in a user namespace, and what is registered there counts for that namespace and
//! those below it: nothing of the host is changed, and no privilege is needed. The kernel opens the emulator when it is
//! registered (flag F), so that it works in every root of the namespace. Source: Linux, admin-guide/binfmt-misc.rst.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use serde::{Deserialize, Serialize};

/// Variable of the helper process that names the emulator, as JSON.
pub const VARIABLE: &str = "IMGBUILD_EMULATOR";

/// Variable of the helper process that names the images' machine, where it is not this host's.
pub const MACHINE_VARIABLE: &str = "IMGBUILD_MACHINE";

/// Start of what the helper fails with where the kernel takes no emulator.
pub const REFUSED: &str = "this kernel registers no emulator in a user namespace";

/// The CPU of this machine as `uname -m` names it: that of imgbuild itself. Images have their own, and the
/// two are compared here alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostCpu(&'static str);

impl HostCpu {
    pub fn here() -> Self {
        match std::env::consts::ARCH {
            "powerpc64" if cfg!(target_endian = "little") => Self("ppc64le"),
            other => Self(other),
        }
    }

    /// As `uname -m` prints it.
    pub fn machine(self) -> &'static str {
        self.0
    }

    /// Whether programs of a machine, named as `uname -m` does, run here as they are.
    pub fn runs(self, machine: &str) -> bool {
        self.0 == machine
    }
}

/// How the kernel tells a machine's programs: the first bytes of an ELF file, and which bits of them count.
struct Magic {
    machine: &'static str,
    /// Word size (EI_CLASS), byte order (EI_DATA) and e_machine. Source: elf(5), linux/elf-em.h.
    class: u8,
    order: u8,
    number: u16,
}

/// One line for each CPU that images may have; riscv64 would be (2, 1, 243).
const MAGICS: [Magic; 3] = [
    Magic { machine: "x86_64", class: 2, order: 1, number: 62 },
    Magic { machine: "aarch64", class: 2, order: 1, number: 183 },
    Magic { machine: "ppc64le", class: 2, order: 1, number: 21 },
];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emulator {
    /// As `uname -m` prints it.
    pub machine: String,
    /// Path of a static program, QEMU's for one user: absolute, or below the directory in which operations start.
    pub program: PathBuf,
}

/// What a [`Namespace`](super::Namespace) knows of emulation: which machine its images have, and the emulator once there is one.
#[derive(Debug, Clone)]
pub(super) struct Emulation {
    pub machine: &'static str,
    pub emulator: Arc<Mutex<Option<Emulator>>>,
}

impl Emulation {
    /// For images of a machine; none where this host runs their programs itself.
    pub(crate) fn of(machine: &'static str) -> Option<Self> {
        (!HostCpu::here().runs(machine)).then(|| Self { machine, emulator: Arc::default() })
    }

    pub(crate) fn known(&self) -> Option<Emulator> {
        self.emulator.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The name that QEMU's emulator of a machine has: `qemu-NAME`.
pub fn name_of(machine: &str) -> String {
    format!("qemu-{machine}")
}

/// The emulator among the files of a root, by its usual places: first the name by which Debian's QEMU knows that the
/// program's own first argument is handed on, then the static program.
pub fn in_root(root: &Path, machine: &str) -> Option<PathBuf> {
    let names = [
        format!("usr/libexec/qemu-binfmt/{machine}-binfmt-P"),
        format!("usr/bin/qemu-{machine}-static"),
        format!("usr/bin/qemu-{machine}"),
    ];
    names.iter().map(|name| root.join(name)).find(|path| path.is_file())
}

/// What is written to `register`. The separator is a byte that no path has in it.
fn registration(emulator: &Emulator) -> Result<Vec<u8>, String> {
    let machine = &emulator.machine;
    let magic = MAGICS.iter().find(|one| one.machine == *machine);
    let magic = magic.ok_or_else(|| format!("the first bytes of programs of {machine} are not known"))?;
    let mut bytes = vec![0x7f, b'E', b'L', b'F', magic.class, magic.order, 1, 0];
    bytes.extend([0; 8]);
    bytes.extend([2, 0]);
    bytes.extend(magic.number.to_le_bytes());
    // The ABI's byte (7) and those up to the type do not count, of the type the last bit: programs and shared ones (ET_EXEC, ET_DYN).
    let mut mask = vec![0xff; 7];
    mask.push(0);
    mask.extend([0; 8]);
    mask.extend([0xfe, 0xff, 0xff, 0xff]);
    let escaped = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let path = emulator.program.to_str().ok_or("the path of the emulator is no UTF-8")?;
    let separator = ['|', ':', ';', '\u{1}'].into_iter().find(|one| !path.contains(*one));
    let s = separator.ok_or("the path of the emulator has too many unusual characters")?;
    // P: the program's own first argument is handed on; O: so is the open file; F: the emulator is opened now.
    Ok(format!("{s}imgbuild-{machine}{s}M{s}{s}{}{s}{}{s}{path}{s}POF\n", escaped(&bytes), escaped(&mask)).into_bytes())
}

/// The machine of the images that an operation is for, as `uname -m` prints it.
pub(super) fn images_machine() -> &'static str {
    let named = std::env::var(MACHINE_VARIABLE).ok();
    let known = MAGICS.iter().find(|one| named.as_deref() == Some(one.machine));
    known.map_or(HostCpu::here().machine(), |one| one.machine)
}

pub(super) fn asked_for() -> Option<Emulator> {
    serde_json::from_str(&std::env::var(VARIABLE).ok()?).ok()
}

/// Registers it; called in the helper, once it has its user and mount namespaces. What the host itself registered for the
/// machine with flag F serves where this kernel cannot. The descriptor keeps the file system mounted.
/// Errors: [`REFUSED`] with the reason.
pub(super) fn register(emulator: &Emulator) -> Result<Option<OwnedFd>, String> {
    match in_namespace(emulator) {
        Ok(mounted) => Ok(Some(mounted)),
        Err(_) if is_registered_on_host(&emulator.machine) => Ok(None),
        Err(problem) => Err(format!("{REFUSED}: {problem}")),
    }
}

fn in_namespace(emulator: &Emulator) -> Result<OwnedFd, String> {
    let failed = |what: &'static str| move |error: rustix::io::Errno| format!("{what}: {error}");
    if fault::is_planned("emulator.refused") {
        return Err("binfmt_misc: Operation not permitted".to_owned());
    }
    let context = rustix::mount::fsopen("binfmt_misc", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed("binfmt_misc"))?;
    rustix::mount::fsconfig_create(context.as_fd()).map_err(failed("binfmt_misc"))?;
    let flags = (FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV);
    let mounted = rustix::mount::fsmount(context.as_fd(), flags.0, flags.1).map_err(failed("binfmt_misc"))?;
    let register = rustix::fs::openat(&mounted, "register", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    let mut register = std::fs::File::from(register.map_err(failed("register"))?);
    let program = emulator.program.display();
    register.write_all(&registration(emulator)?).map_err(|error| format!("{program}: {error}"))?;
    Ok(mounted)
}

/// Whether the host registered an emulator of a machine that works in other roots. Source: the form of the files of
/// binfmt_misc, fs/binfmt_misc.c, `entry_status`.
fn is_registered_on_host(machine: &str) -> bool {
    let Some(magic) = MAGICS.iter().find(|one| one.machine == machine) else { return false };
    let Ok(entries) = std::fs::read_dir("/proc/sys/fs/binfmt_misc") else { return false };
    entries.flatten().any(|entry| std::fs::read_to_string(entry.path()).is_ok_and(|text| serves(&text, magic)))
}

fn serves(text: &str, magic: &Magic) -> bool {
    let mut lines = text.lines();
    let is_on = lines.next() == Some("enabled");
    let flags = text.lines().find_map(|line| line.strip_prefix("flags: ")).unwrap_or_default();
    let first = text.lines().find_map(|line| line.strip_prefix("magic ")).unwrap_or_default();
    let head = format!("7f454c46{:02x}{:02x}01", magic.class, magic.order);
    let number = magic.number.to_le_bytes();
    is_on
        && flags.contains('F')
        && first.starts_with(&head)
        && first.get(36..40) == Some(format!("{:02x}{:02x}", number[0], number[1]).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_tells_the_machine_s_programs() {
        let emulator = Emulator { machine: "aarch64".to_owned(), program: "/s:x/qemu-aarch64-static".into() };
        let text = String::from_utf8(registration(&emulator).unwrap()).unwrap();
        assert_eq!(
            text,
            "|imgbuild-aarch64|M||\\x7f\\x45\\x4c\\x46\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\
             \\xb7\\x00|\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\xfe\\xff\\xff\\xff\
             |/s:x/qemu-aarch64-static|POF\n"
        );
        let other = Emulator { machine: "vax".to_owned(), ..emulator };
        assert!(registration(&other).unwrap_err().contains("vax"));
    }

    #[test]
    fn an_emulator_of_the_host_serves_only_with_flag_f() {
        let arm = &MAGICS[1];
        let text = |flags: &str| {
            format!(
                "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: {flags}\noffset 0\nmagic \
                 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n"
            )
        };
        assert!(serves(&text("POCF"), arm) && !serves(&text("OC"), arm));
        assert!(!serves(&text("F"), &MAGICS[2]) && !serves(&text("F").replace("enabled", "disabled"), arm));
    }
}

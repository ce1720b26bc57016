//! The operations of the stages, as the helper process knows them.

pub mod bare;
pub mod edit;
pub mod probe;
pub mod removal;
pub mod unpack;

use std::sync::{LazyLock, OnceLock};

use crate::digest::Digest;
use crate::recipe::Arch;
use crate::sandbox::emulator::HostCpu;
use crate::sandbox::helper::{Legacy, News, Operation, answer};
use crate::stage::StageError;
use crate::store::{
    DamagedLayer, LoadRequest, Loaded, RemoveRequest, SaveRequest, check_layers, load_layers, looked_at, save_layers,
    were_looked_at,
};

/// The program of the initrd, built by the build script for the same target. Process 1 of the sandboxes is the same file.
pub const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/imgbuild-init"));

/// The same for each other CPU that images may have; empty where this imgbuild was built without it.
const INITS: [(Arch, &[u8]); 3] = [
    (Arch::X86_64, include_bytes!(concat!(env!("OUT_DIR"), "/imgbuild-init-x86_64"))),
    (Arch::Aarch64, include_bytes!(concat!(env!("OUT_DIR"), "/imgbuild-init-aarch64"))),
    (Arch::Ppc64le, include_bytes!(concat!(env!("OUT_DIR"), "/imgbuild-init-ppc64le"))),
];

/// The program of an image's initrd: the one that is embedded, or a file that `IMGBUILD_INIT_MACHINE` names.
///
/// # Errors
/// [`StageError::NoInit`] for a CPU without one, or a file that is for another.
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
    let own = if HostCpu::here().runs(arch.machine()) { INIT } else { INITS[at].1 };
    let bytes = from_file.as_deref().unwrap_or(own);
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

/// Which layers were looked at: what operations leave for those after them.
pub const LEGACY: Legacy = Legacy { take: were_looked_at, leave: looked_at };

/// Operations of this room and of the rooms below.
pub fn operations() -> Vec<(&'static str, Operation)> {
    let mut all: Vec<(&'static str, Operation)> = vec![
        ("kernel", |request, news| answer(request, news, super::actions::kernel::payload::inside)),
        ("driver-build", |request, news| answer(request, news, super::actions::kernel::drivers::build_inside)),
        ("check-drivers", |request, news| answer(request, news, super::actions::kernel::drivers::check_inside)),
        ("initrd", |request, news| answer(request, news, super::actions::initrd::compose::inside)),
        ("dracut", |request, news| answer(request, news, super::actions::initrd::dracut::inside)),
        ("system", |request, news| answer(request, news, super::actions::system::inside::inside)),
        ("sync", |request, news| answer(request, news, super::actions::sync::inside::inside)),
        ("postinstall", |request, news| answer(request, news, super::actions::postinstall::script::inside)),
        ("services", |request, news| answer(request, news, super::actions::services::inside::inside)),
        ("pack", |request, news| answer(request, news, super::actions::pack::inside::inside)),
        ("container-layers", |request, news| answer(request, news, super::published::oci::inside::inside)),
        ("read-file", |request, news| answer(request, news, super::actions::gate::checks::read_file)),
        ("foreign-programs", |request, news| answer(request, news, super::actions::gate::programs::inside)),
        ("shell", |request, news| answer(request, news, super::examine::shell::inside)),
        ("probe", |request, news| answer(request, news, self::probe::inside)),
        ("package-lists", |request, news| answer(request, news, super::examine::size::lists_inside)),
        ("check-layers", |request, news| answer(request, news, check)),
        ("save-layers", |request, news| answer(request, news, save)),
        ("load-layers", |request, news| answer(request, news, load)),
        ("remove", |request, news| answer(request, news, remove)),
        ("keep-log", |request, news| answer(request, news, keep_log)),
    ];
    all.extend(crate::distro::operations());
    all
}

/// A log of another machine: the logs' directory belongs to root inside.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct KeptLog {
    /// Its file name.
    pub name: String,
    /// What it has.
    pub text: String,
}

fn keep_log(log: KeptLog, _: News<'_>) -> Result<(), String> {
    if log.name.is_empty() || log.name.contains('/') || log.name.starts_with('.') {
        return Err("a log has no such name".to_owned());
    }
    std::fs::create_dir_all("logs").map_err(|error| error.to_string())?;
    let path = std::path::Path::new("logs").join(log.name);
    std::fs::write(path, log.text).map_err(|error| error.to_string())
}

/// Compares layers with their manifests.
fn check(layers: Vec<Digest>, _: News<'_>) -> Result<Vec<DamagedLayer>, String> {
    check_layers(&layers)
}

/// Writes layers and frames into one file.
fn save(request: SaveRequest, _: News<'_>) -> Result<u64, String> {
    save_layers(&request)
}

/// Reads them again.
fn load(request: LoadRequest, _: News<'_>) -> Result<Loaded, String> {
    load_layers(&request)
}

/// Removes files and directories of the store that belong to root inside.
fn remove(request: RemoveRequest, _: News<'_>) -> Result<usize, String> {
    crate::store::remove(&request)
}

//! The operations of the stages, as the helper process knows them.

pub mod bare;
pub mod edit;
pub mod probe;
pub mod removal;
pub mod unpack;

use crate::digest::Digest;
use crate::sandbox::helper::{Legacy, News, Operation, answer};
use crate::store::{
    DamagedLayer, LoadRequest, Loaded, RemoveRequest, SaveRequest, check_layers, load_layers, looked_at, save_layers,
    were_looked_at,
};

/// The program of the initrd, built by the build script for the same target. Process 1 of the sandboxes is the same file.
pub const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/imgbuild-init"));

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
        ("read-file", |request, news| answer(request, news, super::actions::gate::checks::read_file)),
        ("shell", |request, news| answer(request, news, super::examine::shell::inside)),
        ("probe", |request, news| answer(request, news, self::probe::inside)),
        ("package-lists", |request, news| answer(request, news, super::examine::size::lists_inside)),
        ("check-layers", |request, news| answer(request, news, check)),
        ("save-layers", |request, news| answer(request, news, save)),
        ("load-layers", |request, news| answer(request, news, load)),
        ("remove", |request, news| answer(request, news, remove)),
    ];
    all.extend(crate::distro::operations());
    all
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

//! Operations that belong to no action, as the helper process knows them.

pub(crate) mod bare;
pub(crate) mod edit;
pub(crate) mod init;
pub(crate) mod probe;
pub(crate) mod removal;
pub(crate) mod unpack;

use base::digest::Digest;
use sandbox::helper::{Legacy, News, Operation, answer};
use store::{
    DamagedLayer, LoadRequest, Loaded, RemoveRequest, SaveRequest, check_layers, load_layers, looked_at, save_layers,
    were_looked_at,
};

/// Which layers were looked at: what operations leave for those after them.
pub const LEGACY: Legacy = Legacy { take: were_looked_at, leave: looked_at };

pub(crate) fn operations() -> [(&'static str, Operation); 6] {
    [
        ("probe", |request, news| answer(request, news, probe::inside)),
        ("check-layers", |request, news| answer(request, news, check)),
        ("save-layers", |request, news| answer(request, news, save)),
        ("load-layers", |request, news| answer(request, news, load)),
        ("remove", |request, news| answer(request, news, remove)),
        ("keep-log", |request, news| answer(request, news, keep_log)),
    ]
}

/// A log of another machine: the logs' directory belongs to root inside.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct KeptLog {
    pub name: String,
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

fn check(layers: Vec<Digest>, _: News<'_>) -> Result<Vec<DamagedLayer>, String> {
    check_layers(&layers)
}

fn save(request: SaveRequest, _: News<'_>) -> Result<u64, String> {
    save_layers(&request)
}

fn load(request: LoadRequest, _: News<'_>) -> Result<Loaded, String> {
    load_layers(&request)
}

/// Removes files and directories of the store that belong to root inside.
fn remove(request: RemoveRequest, _: News<'_>) -> Result<usize, String> {
    store::remove(&request)
}

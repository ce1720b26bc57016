//! The operations of the stages, as the helper process knows them.

use serde::{Deserialize, Serialize};

use crate::sandbox::helper::Operation;
use crate::store::remove_tree;

/// Takes lines for the person who waits.
pub type News<'a> = &'a mut dyn FnMut(&str);

/// Operations of this room and of the rooms below.
pub fn operations() -> Vec<(&'static str, Operation)> {
    let mut all: Vec<(&'static str, Operation)> = vec![
        ("kernel", |request, news| answer(request, news, super::kernel::inside)),
        ("initrd", |request, news| answer(request, news, super::initrd::inside)),
        ("system", |request, news| answer(request, news, super::system::inside)),
        ("sync", |request, news| answer(request, news, super::sync::inside)),
        ("postinstall", |request, news| answer(request, news, super::postinstall::inside)),
        ("pack", |request, news| answer(request, news, super::pack::inside)),
        ("read-file", |request, news| answer(request, news, super::gate::read_file)),
        ("shell", |request, news| answer(request, news, super::shell::inside)),
        ("remove", |request, news| answer(request, news, remove)),
    ];
    all.extend(crate::distro::apt::operations());
    all
}

/// Runs an operation on typed values.
fn answer<Q: for<'de> Deserialize<'de>, A: Serialize>(
    request: serde_json::Value,
    news: News<'_>,
    operation: fn(Q, News<'_>) -> Result<A, String>,
) -> Result<serde_json::Value, String> {
    let request = serde_json::from_value(request).map_err(|error| error.to_string())?;
    let value = operation(request, news)?;
    serde_json::to_value(value).map_err(|error| error.to_string())
}

/// Works in a scratch directory that is removed afterwards, whatever happens.
pub fn in_scratch<A>(scratch: &str, work: impl FnOnce() -> Result<A, String>) -> Result<A, String> {
    std::fs::create_dir_all(scratch).map_err(|error| format!("cannot make {scratch}: {error}"))?;
    let outcome = work();
    let removed = remove_tree(scratch);
    let value = outcome?;
    removed?;
    Ok(value)
}

/// Makes directories below a base.
pub fn make_directories(base: &str, names: &[&str]) -> Result<(), String> {
    for name in names {
        let path = format!("{base}/{name}");
        std::fs::create_dir_all(&path).map_err(|error| format!("cannot make {path}: {error}"))?;
    }
    Ok(())
}

/// Removes files and directories of the store that belong to root inside.
fn remove(paths: Vec<String>, _: News<'_>) -> Result<usize, String> {
    for path in &paths {
        remove_tree(path)?;
    }
    Ok(paths.len())
}

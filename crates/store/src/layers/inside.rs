//! Scratch directories, as operations inside the namespace use them.

use crate::remove_tree;

/// Works in a scratch directory that is removed afterwards, whatever happens.
/// Errors: What the work says, or a text about the directory.
pub fn in_scratch<A>(scratch: &str, work: impl FnOnce() -> Result<A, String>) -> Result<A, String> {
    std::fs::create_dir_all(scratch).map_err(|error| format!("cannot create {scratch}: {error}"))?;
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
        std::fs::create_dir_all(&path).map_err(|error| format!("cannot create {path}: {error}"))?;
    }
    Ok(())
}

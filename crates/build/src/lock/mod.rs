//! image.lock: whether it is up to date with the recipe, and resolving again.

pub(crate) mod check;
pub(crate) mod local_files;
pub(crate) mod packages;
pub(crate) mod parts;
pub(crate) mod renewal;
pub(crate) mod repositories;
pub(crate) mod resolve;
pub(crate) mod stale;
pub(crate) mod state;
pub(crate) mod suppose;
pub(crate) mod words;

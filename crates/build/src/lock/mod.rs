//! image.lock: whether it is up to date with the recipe, and resolving again.

pub mod check;
pub mod local_files;
pub mod packages;
pub mod parts;
pub mod renewal;
pub mod repositories;
pub mod resolve;
pub mod stale;
pub mod state;
pub mod suppose;
pub mod words;

//! image.lock: whether it is up to date with the recipe, and resolving again.

pub mod check;
pub mod local_files;
pub mod origin;
pub mod package_request;
pub mod parts;
pub mod relock;
pub mod renewal;
pub mod repositories;
pub mod stale;
pub mod state;
pub mod suppose;
pub mod vendor;

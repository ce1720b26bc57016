//! Loading and checking of single recipe tables.

pub mod accounts;
pub mod dracut;
pub mod drivers;
pub mod kdump;
pub mod kernel_names;
pub mod mounts;
pub mod node_support;
pub mod repositories;
pub mod services;
pub mod sync;
pub mod wanted;

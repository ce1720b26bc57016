//! Loading and checking of single recipe tables.

pub(crate) mod accounts;
pub(crate) mod dracut;
pub(crate) mod drivers;
pub(crate) mod kdump;
pub(crate) mod kernel_names;
pub(crate) mod mounts;
pub(crate) mod node_support;
pub(crate) mod repositories;
pub(crate) mod services;
pub(crate) mod sync;
pub(crate) mod wanted;

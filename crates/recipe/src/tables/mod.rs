//! Loading and checking of single recipe tables.

pub(crate) mod accounts;
pub(crate) mod kernel;
pub(crate) mod mounts;
pub(crate) mod node_support;
pub(crate) mod publish;
pub(crate) mod repositories;
pub(crate) mod services;
pub(crate) mod sync;
pub(crate) mod wanted;

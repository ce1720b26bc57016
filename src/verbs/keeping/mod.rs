//! Commands for the store.

pub(crate) mod audit;
pub(crate) mod cache;
pub(crate) mod gc;
pub(crate) mod store;

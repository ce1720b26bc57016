//! Commands for the store.

pub mod cache;
pub mod gc;
pub mod store;

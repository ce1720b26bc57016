//! Commands for the store.

pub mod gc;
pub mod store;

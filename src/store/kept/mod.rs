//! What is kept and what goes.

pub mod gc;
pub mod keep;
pub mod leftovers;
pub mod remove;

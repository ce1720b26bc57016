//! Garbage collection: roots, pins, damage, leftovers, removal.

pub mod damage;
pub mod items;
pub mod keep;
pub mod leftovers;
pub mod nodes;
pub mod remove;
pub mod roots;

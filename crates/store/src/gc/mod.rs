//! Garbage collection: roots, pins, damage, leftovers, removal.

pub(crate) mod damage;
pub(crate) mod items;
pub(crate) mod keep;
pub(crate) mod leftovers;
pub(crate) mod nodes;
pub(crate) mod remove;
pub(crate) mod roots;

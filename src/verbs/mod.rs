//! The commands, one file each.

pub mod building;
pub mod images;
pub mod keeping;
pub mod nodes;
pub mod recipe;
pub mod site;

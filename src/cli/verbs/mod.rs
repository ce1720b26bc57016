//! The commands, one file each.

pub mod building;
pub mod images;
pub mod keeping;
pub mod recipe;
pub mod site;

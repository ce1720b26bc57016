//! The commands, one file each.

pub(crate) mod bill;
pub(crate) mod building;
pub(crate) mod images;
pub(crate) mod keeping;
pub(crate) mod nodes;
pub(crate) mod recipe;
pub(crate) mod site;

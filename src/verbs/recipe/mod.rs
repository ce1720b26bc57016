//! Commands that read and write recipes.

pub mod check;
pub mod convert;
pub mod copy;
pub mod init;
pub mod list;
pub mod set;
pub mod show;

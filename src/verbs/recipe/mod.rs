//! Commands that read and write recipes.

pub(crate) mod check;
pub(crate) mod convert;
pub(crate) mod copy;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod set;
pub(crate) mod show;

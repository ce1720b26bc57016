//! Reading what others wrote: bounded, and beneath one directory.

pub(crate) mod roots;
pub(crate) mod secrets;
pub(crate) mod shell;
pub(crate) mod xml;
pub(crate) mod yaml;

/// Most bytes of a description, a list or a script.
pub(crate) const TEXT_LIMIT: u64 = 4 << 20;

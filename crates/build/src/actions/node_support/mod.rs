//! xCAT's side of a node: the site's postscripts, what starts them, and what the image is called.

pub(crate) mod files;
pub(crate) mod inputs;
pub(crate) mod postscripts;
pub(crate) mod run;

/// Part of the keys; raised with what the action gives. 1: first.
pub(crate) const VERSION: u32 = 2;

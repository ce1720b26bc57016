//! xCAT's side of a node: the site's postscripts, what starts them, and what the image is called.

pub mod files;
pub mod inputs;
pub mod postscripts;
pub mod run;

/// Part of the keys; raised with what the action gives. 1: first.
pub const VERSION: u32 = 2;

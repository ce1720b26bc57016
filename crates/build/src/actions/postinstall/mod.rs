//! The postinstall script: xCAT's arguments and environment, in a sandbox (D23).

mod complaints;
pub mod inputs;
mod recipe_tree;
pub mod remedy;
pub mod run;
pub mod script;
mod secrets;

/// Part of the keys; raised with what the action gives. 1: first; 2: files are compared with the key; 3: what scripts see belongs
/// to root and is as it is, systemd's tools find a chroot; 4: identities that nodes make for themselves are taken out, and scripts see fixed
/// processors and memory.
pub const VERSION: u32 = 4;

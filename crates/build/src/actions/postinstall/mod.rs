//! The postinstall script: xCAT's arguments and environment, in a sandbox (D23).

mod complaints;
pub(crate) mod inputs;
mod recipe_tree;
pub(crate) mod remedy;
pub(crate) mod roles;
pub(crate) mod run;
pub(crate) mod script;
mod secrets;

/// Part of the keys; raised with what the action gives. 1: first; 2: files are compared with the key; 3: what scripts see belongs
/// to root and is as it is, systemd's tools find a chroot; 4: identities that nodes make for themselves are taken out, and scripts see fixed
/// processors and memory.
pub(crate) const VERSION: u32 = 4;

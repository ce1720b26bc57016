//! Roles: a playbook of Ansible against the image's tree, in the sandbox.
//!
//! Ansible runs in a tools root, with the tree below it; a connection of our own runs modules in the tree, with the image's Python.

mod driver;
pub(crate) mod inputs;
pub(crate) mod inside;
mod remedy;
mod report;
pub(crate) mod run;

/// Part of the keys; raised with what the action gives. 1: first.
pub(crate) const VERSION: u32 = 1;

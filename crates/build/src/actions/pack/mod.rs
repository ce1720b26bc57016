//! The packed image: merged layers less what is excluded, and whether a node can start it.

mod belongings;
mod blocks;
pub(crate) mod index;
pub(crate) mod inputs;
pub(crate) mod inside;
mod kept;
pub(crate) mod mismatches;
pub(crate) mod request;
pub(crate) mod run;
pub(crate) mod secrets;
pub(crate) mod selinux;
pub(crate) mod startable;

/// Part of the keys; raised with what the action gives. 1: first; 2: SELinux labels.
pub(crate) const VERSION: u32 = 2;

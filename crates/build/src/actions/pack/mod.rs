//! The packed image: merged layers less what is excluded, and whether a node can start it.

mod belongings;
mod blocks;
pub mod index;
pub mod inputs;
pub mod inside;
mod kept;
pub mod mismatches;
pub mod request;
pub mod run;
pub mod secrets;
pub mod selinux;
pub mod startable;

/// Part of the keys; raised with what the action gives. 1: first; 2: SELinux labels.
pub const VERSION: u32 = 2;

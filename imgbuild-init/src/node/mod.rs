//! Handing over to the image: identity, SELinux, switch of root.

pub mod handover;
mod host_keys;
mod managers;
mod new_root;
pub mod report;
pub mod selinux;
pub mod statelite;
pub mod switch;

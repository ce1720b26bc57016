//! Handing over to the image: identity, SELinux, switch of root.

pub(crate) mod handover;
mod host_keys;
mod managers;
mod new_root;
pub(crate) mod report;
pub(crate) mod selinux;
pub(crate) mod statelite;
pub(crate) mod switch;

//! Handing over to the image: identity, SELinux, switch of root; and from one image to another one.

pub(crate) mod handover;
mod host_keys;
mod managers;
mod new_root;
pub(crate) mod report;
pub(crate) mod selinux;
pub(crate) mod soft_reboot;
pub(crate) mod statelite;
pub(crate) mod switch;

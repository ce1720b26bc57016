//! Handing over to the image: identity, SELinux, switch of root.

pub mod handover;
mod managers;
pub mod report;
pub mod selinux;
pub mod statelite;
pub mod switch;

//! Handing over to the image: identity, SELinux, switch of root.

pub mod handover;
pub mod report;
pub mod selinux;
pub mod statelite;
pub mod switch;

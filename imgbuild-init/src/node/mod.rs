//! What becomes of this machine: all that the image's own init takes over.

pub mod handover;
pub mod report;
pub mod selinux;
pub mod switch;

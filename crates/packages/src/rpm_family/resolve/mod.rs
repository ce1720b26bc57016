//! Resolving: what dnf and zypper are asked, and what is taken from their answers.

pub(super) mod base;
pub(super) mod session;
pub(super) mod solver;

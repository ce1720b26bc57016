//! Resolving: what dnf and zypper are asked, and what is taken from their answers.

pub mod base;
pub mod session;
pub mod solver;

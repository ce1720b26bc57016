//! Builds on other machines, by ssh and by Slurm.
//!
//! It knows no terminal.

pub mod away;
pub mod slurm;

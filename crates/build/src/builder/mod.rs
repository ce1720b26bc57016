//! Running a plan: the builder, what it shares with other builds, what it notes.

pub mod cached;
pub mod failed;
pub mod locking;
pub mod many;
pub mod planfile;
pub mod run;
pub mod schedule;
pub mod shared;
pub mod trace;
pub mod verify;

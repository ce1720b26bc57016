//! Running a plan: the builder, what it shares with other builds, what it notes.

pub(crate) mod cached;
pub(crate) mod failed;
pub(crate) mod locking;
pub(crate) mod many;
pub(crate) mod planfile;
pub(crate) mod run;
pub(crate) mod schedule;
pub(crate) mod shared;
pub(crate) mod trace;
pub(crate) mod verify;

//! Dependency tracking of planning: records every read, and checks whether it would give the same again.
//!
//! All reading that a plan is made of goes through this room: files, listings of directories, links on the way to them,
//! names that were not there, variables of the environment. While a recording runs, each is noted as a *fact* with the
//! stamp of the file (device, inode, mode, size, times). Later all facts can be asked again, which costs a `stat` each:
//! where all hold, whatever was made of them would come out the same. Outside of a recording nothing is noted.
//!
//! A stamp counts only if the file's ctime was older than the recording: what is written while someone reads it, or so
//! soon after that the file system's clock has not moved on, may have other content and the same stamp. For such a
//! file, and for one whose stamp moved, the content decides.
//!
//! This room knows nothing of recipes, plans or stores.
//!
//! # What plans remember
//!
//! A plan is made of what it read, so it can be determined whether it would come out the same. All reading of planning goes through
//! `witness`, which notes each file, listing, link on the way, missing name and variable with its stamp; `tests/tidy.rs`
//! forbids the rooms to read past it, and a test runs the program under strace and compares what two runs looked at. `src/plans/planning.rs`
//! keeps facts and answer together in the store's `memos`, one file a recipe directory, and asks it before the recipe is read.
//! A stamp counts only if the file's ctime was two seconds older than the recording (git calls the others racily clean); else, and
//! where it moved, content and mode decide. A memo is bound to the program's own file, to the workspace's file and the
//! arguments that matter, has a digest of its own, and is read only if it belongs to the reader. Without memos everything comes out the same.

mod ask;
mod encode;
mod facts;
mod kind;
mod lazy_directories;
mod read;
mod record;
mod stamp;
#[cfg(test)]
mod tests;
mod walk;

pub use ask::{Answer, Looks};
pub use encode::{NotAMemo, Sealed};
pub use facts::{SeenPath, Witness};
pub use kind::Kind;
pub use lazy_directories::{Need, Supplied, supplied};
pub use read::{
    canonicalize, digest, exists, is_dir, is_file, is_link, is_there, link_target, list, metadata, mode, not_a_file,
    owner, read, read_at_most, read_link, read_to_string, sha256, variable,
};
pub use record::{Known, recording, recording_number};
pub use stamp::{Stamp, now, settled};
pub use walk::{Found, WalkProblem, walk};

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

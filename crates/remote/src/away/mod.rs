//! Builds on another machine: what is sent there, how it is reached, what comes back.
//!
//! The build itself runs there as any other, by a copy of this program in a directory of its own:
//!
//! ```text
//! imgbuild-DIGEST   the program
//! files/<blake3>    contents that were sent
//! ws/, abs/         the workspace, and what a recipe names outside of it, as far as the plan looked at them
//! init              imgbuild-init of the image's CPU
//! in/, out/         caches (docs/cache.md): results that were sent, results to take away
//! store/            its store
//! log, status       what the build says, and how it ended
//! ```
//!
//! Results have the keys that the plan here has, so what comes back is used as a cache's: nothing else is believed.

pub mod gather;
pub mod host;
pub mod parcel;

pub use gather::{Gathered, gather};
pub use host::{AwayError, Failed, Host};
pub use parcel::{Item, Line, Manifest, Reply, Took, What};

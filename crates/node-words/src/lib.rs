//! What imgbuild and imgbuild-init, its program on nodes, have to read alike: names of files, statelite's tables, words of the network
//! and of kdump.
//!
//! It reads and writes nothing itself.

pub mod kdump;
pub mod name;
pub mod network;
pub mod statelite;

//! Statelite: which paths of a node are not the image's, what becomes of each, and in which order.
//!
//! One resolver for the build and for the node: imgbuild-init compiles this folder too. It reads no file: what is there is
//! asked of a [`View`]. Rules and vectors: xCAT 2.19, `liteimg` and `rc.statelite`; what is a trap there is a [`Conflict`] or a
//! [`VariableProblem`] here.

// imgbuild-init uses what a node needs, imgbuild what a build needs.
#![allow(dead_code, unused_imports)]

mod list;
mod merge;
mod paths;
mod resolve;
mod rules;
mod variables;
#[cfg(test)]
mod vectors;
mod way;

pub use list::{Entry, FORMAT, List, LocalDisk, NodeFacts, NodeProblem, Places, Source, State, Tree};
pub use merge::{FileRow, TreeRow, merge_files, merge_trees};
pub use paths::{PathFault, check_path};
pub use resolve::{Action, Area, Place, Seen, View, resolve};
pub use rules::{Conflict, Found, conflicts};
pub use variables::{VariableProblem, expand};
pub use way::{Home, Way, WayProblem};

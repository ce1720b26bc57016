//! imgbuild builds the images that a cluster's diskless nodes boot from.
//!
//! Data flows recipe -> plan -> stage -> store; `ARCHITECTURE.md` has the rooms and what each must not know.

pub mod archive;
pub mod away;
pub mod beside;
pub mod boot;
pub mod cache;
pub mod cli;
pub mod device;
pub mod digest;
pub mod distro;
pub mod efi;
pub mod failure;
pub mod fault;
pub mod files;
pub mod format;
pub mod git;
pub mod kdump;
pub mod name;
pub mod network;
pub mod nodes;
pub mod oci;
pub mod pgp;
pub mod plan;
pub mod recipe;
pub mod sandbox;
pub mod serve;
pub mod shared;
pub mod site;
pub mod slurm;
pub mod source;
pub mod stage;
pub mod statelite;
pub mod store;
pub mod sweep;
pub mod sync;
pub mod witness;
pub mod xcat;
pub mod xml;

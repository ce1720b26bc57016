//! What repositories publish: repomd.xml and what it names, mirror lists, groups, modules.

pub(super) mod checksum;
pub(super) mod comps;
pub(super) mod fetch;
pub(super) mod filelists;
pub(super) mod mirrors;
pub(super) mod modules;
pub(super) mod primary;
pub(super) mod repomd;
#[cfg(test)]
pub(super) mod samples;
pub(super) mod scan;
pub(super) mod susetags;
pub mod yaml;

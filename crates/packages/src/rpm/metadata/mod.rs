//! What repositories publish: repomd.xml and what it names, mirror lists, groups, modules.

pub mod checksum;
pub mod comps;
pub mod fetch;
pub mod filelists;
pub mod mirrors;
pub mod modules;
pub mod primary;
pub mod repomd;
#[cfg(test)]
pub mod samples;
pub mod scan;
pub mod susetags;
pub mod yaml;

//! A node, as far as a provisioner has to know it.

use std::net::IpAddr;

use super::image::Arch;

/// What nodes.toml says of a node, inherited values and all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// In small letters with colons, the first one first.
    pub macs: Vec<String>,
    pub ip: Option<IpAddr>,
    pub arch: Option<Arch>,
    /// Its own words for the kernel's command line: network, consoles, `kernel_args`.
    pub kernel_args: Vec<String>,
    /// The build that its file pins.
    pub build: Option<String>,
    /// Names of its groups, the least priority first.
    pub groups: Vec<String>,
}

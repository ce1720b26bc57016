//! Where a node's dump goes and what writes it: no I/O. imgbuild-init has the same folder.

// imgbuild-init uses what a node needs, imgbuild what a build needs.
#![allow(dead_code, unused_imports)]

mod reserve;
mod target;

use serde::{Deserialize, Serialize};

pub use reserve::{Reserve, ReserveProblem};
pub use target::{Target, TargetProblem};

/// Version of [`Manifest`] and [`Order`].
pub const FORMAT: u32 = 1;

pub const MANIFEST: &str = "kdump.json";
/// Name of the published initrd that writes a dump.
pub const INITRD: &str = "initrd-kdump";

/// Where that initrd has its [`Order`].
pub const ORDER: &str = "etc/imgbuild/kdump.json";
/// Where it has the private key for ssh.
pub const KEY: &str = "etc/imgbuild/kdump.key";
/// Where it has the server's public keys.
pub const KNOWN_HOSTS: &str = "etc/imgbuild/kdump.known_hosts";
/// Where it has the image's programs.
pub const PROGRAMS: &str = "usr/lib/imgbuild/kdump/bin";
/// Where it has their libraries.
pub const LIBRARIES: &str = "usr/lib/imgbuild/kdump/lib";
/// What leaves pages out, and compresses the others.
pub const MAKEDUMPFILE: &str = "makedumpfile";
pub const SSH: &str = "ssh";

/// What a node loads for the moment at which its kernel crashes: published beside the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Hexadecimal SHA-256 of `kernel`.
    pub kernel: String,
    /// Hexadecimal SHA-256 of `initrd-kdump`.
    pub initrd: String,
    /// More words for the command line of the kernel that writes the dump.
    pub cmdline: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub format: u32,
    /// Where it goes, as [`Target`] reads it.
    pub to: String,
    pub options: String,
    pub filter: Vec<String>,
    /// The words that [`Manifest`] has: who changes them makes another initrd.
    pub cmdline: Vec<String>,
    pub afterwards: Afterwards,
}

/// What a node does once its dump is written, or cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Afterwards {
    #[default]
    Reboot,
    Poweroff,
    /// It stops, and shows its console.
    Halt,
}

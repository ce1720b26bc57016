//! What is asked of packing, and what comes of it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::mismatches::{Mismatch, Wanted};
use super::secrets::Secrets;
use super::selinux::Labels;
use super::startable::Obstacle;
use archive::{Compression, Form, FrameInfo};
use base::digest::Digest;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PackRequest {
    /// Layers, lowest first.
    pub layers: Vec<Digest>,
    pub excluded: BTreeSet<String>,
    pub compression: Compression,
    pub form: Form,
    /// No time is later than this, in seconds since 1970.
    pub epoch: i64,
    /// For each layer, whether the recipe's own files made it.
    pub own: Vec<bool>,
    pub zone: Option<String>,
    pub locale: Option<String>,
    pub wanted: Wanted,
    /// Whether entries get the labels of an installed SELinux policy.
    pub selinux: bool,
    /// Scratch directory, relative to the store's.
    pub scratch: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct PackAnswer {
    /// Frames in order: what they hold, and what they are.
    pub frames: Vec<(Digest, FrameInfo)>,
    /// How many of them were compressed now.
    pub written: usize,
    /// Entries in the archive.
    pub inodes: u64,
    /// Memory that the unpacked tree takes, in bytes.
    pub memory: u64,
    /// Extended attributes, which cpio has no place for: path, name, value in hexadecimal.
    pub xattrs: Vec<(String, String, String)>,
    pub labels: Labels,
    /// What the person should know, whatever the form is.
    pub warnings: Vec<String>,
    pub of_form: Vec<String>,
    pub secrets: Secrets,
    /// Mounts that it will do without.
    pub shortcomings: Vec<Obstacle>,
    /// What is not as the recipe, the lock or programs of the image want it.
    pub mismatches: Vec<Mismatch>,
    /// What would keep nodes from starting it: nothing is packed then.
    pub obstacle: Option<Obstacle>,
}

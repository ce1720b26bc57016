//! Debian and its kin: apt resolves and installs, imgbuild downloads, checks and unpacks.
//!
//! The release's own apt and dpkg run in a tools root that [`bootstrap`] makes from that release's packages; the
//! host needs none of them.

mod bootstrap;
mod closure;
mod index;
mod inside;
mod install;
mod local;
mod release;
mod resolve;
mod source;

pub use bootstrap::{BOOTSTRAP_VERSION, Bootstrap, bootstrap};
pub use closure::{ToolsSeed, tools_closure};
pub use index::{Archive, Candidate, SuiteIndex};
pub use inside::operations;
pub use install::{INSTALL_VERSION, Install, InstallFailure, install};
pub use local::{LocalRepository, scan_local};
pub use release::{SuiteRelease, fetch_suite};
pub use resolve::{Pass, Resolution, Resolver};
pub use source::{HostSources, Source, architecture, sources_for};

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;

/// A package that is pinned: what it is called and what its file holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PinnedPackage {
    /// Name.
    pub name: String,
    /// Version, as the package manager writes it.
    pub version: String,
    /// Architecture: the image's or `all`.
    pub architecture: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// Content of the file.
    pub sha256: Sha256,
    /// Which suite or local directory it comes from.
    pub origin: String,
    /// Path of the file below the archive's or the directory's root.
    pub file: String,
    /// Whether it came in only because another package needs it.
    pub automatic: bool,
}

impl PinnedPackage {
    /// The file name that apt gives to a downloaded package; a colon of the epoch is written `%3a`.
    pub fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.architecture)
    }
}

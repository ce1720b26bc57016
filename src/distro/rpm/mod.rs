//! RPM repositories and packages: read, checked, the closure of a tools root reckoned, payloads unpacked.
//!
//! Nothing here runs rpm, dnf or zypper; their rooms build on this one.

mod candidate;
mod caps;
mod checksum;
mod closure;
mod comps;
mod decompress;
mod fetch;
mod filelists;
mod header;
mod mirrors;
mod modules;
mod package;
mod payload;
mod plain;
mod primary;
mod repofile;
mod repomd;
mod rich;
mod root;
#[cfg(test)]
mod samples;
mod scan;
mod version;
mod xml;
mod yaml;

pub use candidate::{Candidate, Capability, MetadataFile, Repository, Requirement, Weak};
pub use checksum::Checksum;
pub use closure::{closure, left_out};
pub use comps::{Comps, Environment, Group, GroupPackage, PackageKind};
pub use fetch::{RepositorySource, fetch_package, fetch_repository, read_repository};
pub use filelists::paths_of;
pub use mirrors::{Metalink, read_metalink, read_mirrorlist};
pub use modules::{Modules, Stream, StreamChoice, hide_modular};
pub use package::{FileEntry, Package, Scriptlet, VerifiedBy};
pub use payload::{read_members, unpack, unpack_part, write_payload_listing};
pub use plain::write_plain;
pub use repofile::{RepoEntry, Variables, read_repo_file};
pub use repomd::{DataEntry, Repomd};
pub use root::{ROOT_VERSION, RpmFile, RpmRoot, RpmRootRequest, make_root, unpack_all};
pub use scan::{package_files, scan_directory};
pub use version::{Evr, Relation};
pub use xml::{Event, Reader};

use crate::sandbox::helper::{Operation, answer};

/// Operations of this room, for the helper process.
pub fn operations() -> Vec<(&'static str, Operation)> {
    vec![("rpm-root", |request, progress| answer(request, progress, root::inside))]
}

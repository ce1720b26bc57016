//! RPM repositories and packages: read, checked, the closure of a tools root reckoned, payloads unpacked.
//!
//! Nothing here runs rpm, dnf or zypper; their rooms build on this one.

pub mod decompress;
mod metadata;
mod package;
mod relations;
mod repofile;

pub use base::xml::{Event, Reader};
pub use metadata::checksum::Checksum;
pub use metadata::comps::{Comps, Environment, Group, GroupPackage, PackageKind};
pub use metadata::fetch::{ending, fetch_package, fetch_repository, look_at, read_repository};
pub use metadata::filelists::paths_of;
pub use metadata::mirrors::{Metalink, read_metalink, read_mirrorlist};
pub use metadata::modules::{Modules, Stream, StreamChoice, hide_modular};
pub use metadata::primary::read_primary;
pub use metadata::repomd::{DataEntry, Repomd};
pub use metadata::scan::{package_files, scan_directory};
pub use metadata::yaml;
pub use package::file::{FileEntry, Package, Scriptlet, VerifiedBy};
pub use package::installed::InstalledHeader;
pub use package::named::Named;
pub use package::payload::{read_members, unpack, unpack_part, write_payload_listing};
pub use package::plain::write_plain;
pub use package::root::{ROOT_VERSION, RpmRootRequest, unpack_all};
pub use relations::candidate::{Candidate, Capability, MetadataFile, Repository, RepositorySource, Requirement, Weak};
pub use relations::closure::{closure, closure_of, left_out};
pub use relations::rich::plain_names;
pub use relations::version::{Evr, Relation};
pub use repofile::asking::{without_zypp, zypp_credentials};
pub use repofile::{RepoEntry, Variables, read_main, read_repo_file};

use sandbox::helper::{Operation, answer};

pub fn operations() -> Vec<(&'static str, Operation)> {
    vec![("rpm-root", |request, progress| answer(request, progress, package::root::inside))]
}

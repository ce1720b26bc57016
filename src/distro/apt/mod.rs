//! Debian and its kin: apt resolves and installs, imgbuild downloads, checks and unpacks.
//!
//! The release's own apt and dpkg run in a tools root that [`bootstrap`] makes from that release's packages; the
//! host needs none of them.

mod accounts;
mod blame;
mod bootstrap;
mod closure;
mod dracut;
mod index;
mod inside;
mod install;
mod local;
mod plain;
mod release;
mod resolve;
mod root;
mod source;

pub use bootstrap::{BOOTSTRAP_VERSION, Bootstrap, UNPACK_VERSION, bootstrap};
pub use closure::{ToolsSeed, tools_closure};
pub use dracut::DRACUT_PACKAGES;
pub use index::{Archive, Candidate, SuiteIndex};
pub use install::{INSTALL_VERSION, Install, install};
pub use local::{LocalRepository, package_files, scan_local};
pub use plain::{make_plain, plain_name};
pub use release::{SuiteRelease, fetch_suite};
pub use resolve::{Pass, Resolution, Resolver, in_the_way};
pub use source::{HostSources, Source, architecture, only_suites, sources_for};

pub use crate::recipe::PinnedPackage;

use crate::sandbox::helper::{Operation, answer};

/// Operations of this room, for the helper process.
pub fn operations() -> Vec<(&'static str, Operation)> {
    vec![
        ("apt-root", |request, progress| answer(request, progress, root::inside)),
        ("apt-install", |request, progress| answer(request, progress, inside::install)),
        ("apt-plain", |request, progress| answer(request, progress, plain::inside)),
        ("apt-query", |request, progress| answer(request, progress, inside::query)),
    ]
}

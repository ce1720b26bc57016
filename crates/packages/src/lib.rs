//! Distributions: where packages come from, what they need, how they are installed.
//!
//! Imports the sandbox and the store; must not know the plan or the stages.

pub mod apt;
mod damaged;
mod dnf;
mod error;
mod fetch;
mod inside;
pub mod installed;
mod manager;
pub mod rpm;
mod rpm_family;
mod zypper;

pub use error::DistroError;
pub use fetch::address::{Escapes, places as address_places};
pub use fetch::credentials::access::{Access, Proxy, Tls, of_directory, of_list, without_password};
pub use fetch::credentials::address::basic;
pub use fetch::credentials::s3::s3_address;
pub use fetch::downloads::{Download, Progress, side_by_side};
pub use fetch::fetcher::{Fetcher, pause, redirected};
pub use fetch::pace::{PATIENCE, Paced};
pub use inside::common::{Made, tools_tree, tree_of};
pub use inside::container::{
    ContainerLayer, ContainerMade, ContainerPackage, ContainerPackages, ContainerRequest, PackagesRequest,
};
pub use inside::part::unpack_part;
pub use inside::secrets::{Maker, SECRETS, Secret};
pub use inside::uname::{Uname, script as uname_script};
pub use manager::{
    ContainerBase, ContainerOperations, Gathering, Makes, Names, News, PackageArchive, PackageManager, PackageSources,
    Pass, Relations, Resolution, Solving, Transaction, Unusable, VENDOR_MARK, VersionOrder, Versions, in_folder_of,
    manager, operations, ready_name,
};

use std::path::Path;

pub use rpm::yaml;

pub use pgp::{Keyring, Strength, verify_clear_signed, verify_detached, verify_package};

/// Reads a keyring.
/// Errors: [`DistroError::Keyring`] when it cannot be read, holds no certificate, or a part of it is damaged.
fn keyring(path: &Path) -> Result<Keyring, DistroError> {
    Keyring::read(path).map_err(|problem| DistroError::Keyring { path: path.to_owned(), problem })
}

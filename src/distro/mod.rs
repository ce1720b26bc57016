//! Distributions: where packages come from, what they need, how they are installed.
//!
//! Imports the sandbox and the store; must not know the plan or the stages.

mod accounts;
pub mod apt;
mod credentials;
mod dnf;
mod error;
mod fetch;
mod inside;
mod manager;
mod pace;
mod part;
mod plain;
pub mod rpm;
mod rpm_family;
mod secrets;
mod zypper;

pub use credentials::without_password;
pub use error::DistroError;
pub use fetch::{Download, Fetcher, Progress};
pub use manager::{
    Bootstrap, Gathering, Install, Layer, Names, News, PackageArchive, PackageManager, Pass, Places, Resolution,
    Solving, VENDOR_MARK, VersionOrder, Versions, manager, operations, ready_name, write_file,
};
pub use part::unpack_part;
pub use secrets::{Maker, SECRETS, Secret};

use std::path::Path;

pub use crate::pgp::{Keyring, verify_clear_signed, verify_detached};

/// Reads a keyring.
///
/// # Errors
/// [`DistroError::Keyring`] when it cannot be read, holds no certificate, or a part of it is damaged.
fn keyring(path: &Path) -> Result<Keyring, DistroError> {
    Keyring::read(path).map_err(|problem| DistroError::Keyring { path: path.to_owned(), problem })
}

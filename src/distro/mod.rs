//! Distributions: where packages come from, what they need, how they are installed.
//!
//! Imports the sandbox and the store; must not know the plan or the stages.

mod accounts;
pub mod apt;
mod dnf;
mod error;
mod fetch;
mod inside;
mod manager;
mod pace;
mod part;
mod pgp;
mod plain;
pub mod rpm;
mod rpm_family;
mod zypper;

pub use error::DistroError;
pub use fetch::{Download, Fetcher, Progress};
pub use manager::{
    Bootstrap, Gathering, Install, Layer, Names, News, PackageArchive, PackageManager, Pass, Places, Resolution,
    Solving, VENDOR_MARK, VersionOrder, Versions, manager, operations, ready_name, write_file,
};
pub use part::unpack_part;
pub use pgp::{Keyring, verify_clear_signed, verify_detached};

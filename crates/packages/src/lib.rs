//! Distributions: where packages come from, what they need, how they are installed.
//!
//! Imports the sandbox and the store; must not know the plan or the stages.
//!
//! # How packages become layers
//!
//! After a command the upper directory becomes a layer: known non-reproducible files are removed (`inside/common.rs`, each
//! package manager's `inside.rs` and `build/actions/postinstall/script.rs` list them), times are cut to the epoch, files are hashed, the merged tree is compared with that
//! of the layers below, and what differs is written as the canonical manifest, whose digest names the layer. Both ways of
//! assembling give the same layer, because only the difference counts.
//!
//! The seam is `manager.rs`: two traits, `PackageManager` and `PackageArchive`, that `apt` and
//! `rpm_family` answer; no stage knows which. `rpm_family` has all that dnf and zypper have in common and a third trait,
//! `Solver`, for what they do not; `rpm` reads what repositories publish and knows no tool.
//!
//! Packages come through `build/supply/mod.rs`: downloaded and checked group by group ahead of need, and made ready by all threads:
//! they lose their compression (`inside/plain.rs`), because dpkg and rpm would undo it with one thread, once for each root; what came in
//! xz is kept in zstd for the next time (`inside/decompressed.rs`). A tools root is only unpacked;
//! a postinstall script's root is the image's base with what it asks for; the kernel's layer stands on the payload, and dpkg
//! leaves out the files that the payload has.
//!
//! A recipe with `from` has a container image in the place of the essential packages (`build/actions/packages/container/`, `inside/container.rs`; what differs between
//! families is `container.rs` of `apt` and of `rpm_family`): when it is locked, the manifest is found (`oci/container.rs`), the layers are fetched to where packages
//! are kept and made the layer of `rootfs/base`, and the solver resolves over the database of that layer: for rpm over a copy, in which the release's own rpm has to find what
//! imgbuild has read (`rpm_family/resolve/base.rs`). Each layer is read twice (`archive/extract/layers.rs`): to its end, so that its digest is known and what it takes away,
//! and then unpacked.
//!
//! A long transaction is cut into parts when it is locked (`build/lock/parts.rs`): from its beginning, name by name with all that each needs, a part ends once
//! it has enough packages. What comes later moves no cut, so a line more at the end leaves the parts before it alone, and each part is a function of its key
//! like any layer (D7). The lock has the parts as transactions of their own; `Lock::whole` puts them together where a recipe is compared with it.
//!
//! Users and groups that packages make are compared with image.lock after each transaction (`build/actions/packages/accounts.rs`); where a
//! number would move, the account is fixed in the lock, made before the packages, and the transaction runs again (D11).

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

pub use error::{DistroError, DownloadFault};
pub use fetch::address::{Escapes, places as address_places};
pub use fetch::credentials::access::{Access, Proxy, Tls, of_directory, of_list, without_password};
pub use fetch::credentials::address::basic;
pub use fetch::credentials::s3::s3_address;
pub use fetch::downloads::{Download, Progress, side_by_side};
pub use fetch::fetcher::{Fetcher, pause, redirected};
pub use fetch::pace::{PATIENCE, Paced};
pub use fetch::upload::NotPut;
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

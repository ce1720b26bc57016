//! What a published image is made of, and whether it still is that: a bill of materials in SPDX 2.3 and CycloneDX 1.6, a statement of
//! provenance, its signature, and the comparison of a directory with what describes it.
//!
//! Owns the forms of these documents and which facts go into them. All of it follows from build.json, the packed image and image.lock,
//! so that the same build gives the same bytes wherever it is asked. Must not know the plan, the store, how anything is built, or the terminal.
//!
//! Begin with [`Bill`]: [`Contents`] reads the packed image, [`Image`] is build.json, and `spdx` and `cyclonedx` write what both say.
//! [`Provenance`] says what a build was made from, [`Envelope`] who says so, [`check`] compares files.
//!
//! # Files that no package brought
//!
//! A bill lists regular files of the packed image that no package lists, or whose content is not what the package's database says:
//! synced files, drivers that were built from source, what scripts wrote. They are found by the image alone, without recipe or store.
//! What a package manager keeps for itself, and byte code beside a source that a package brought, is left out.

mod check;
mod compare;
mod contents;
mod directory;
mod envelope;
mod error;
mod forms;
mod image;
mod links;
mod model;
mod provenance;
mod purl;

pub use check::{Checked, Place, Wrong, check};
pub use contents::{Contents, OwnFile};
pub use directory::{Directory, text_of};
pub use envelope::{Envelope, Signatures, secret_of};
pub use error::BillError;
pub use image::{Artefact, BUILD, CYCLONEDX, Image, PROVENANCE, SPDX, SUMS, TEXT_LIMIT};
pub use model::{Bill, Format, Package, is_lock_of};
pub use provenance::{Provenance, Revision, Statement};

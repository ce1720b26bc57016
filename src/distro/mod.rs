//! Distributions: where packages come from, what they need, how they are installed.
//!
//! Imports the sandbox and the store; must not know the plan or the stages.

pub mod apt;
mod error;
mod fetch;
mod pace;
mod pgp;
pub mod rpm;

pub use error::DistroError;
pub use fetch::{Download, Fetcher, Progress};
pub use pgp::{Keyring, verify_clear_signed, verify_detached};

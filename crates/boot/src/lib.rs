//! Boots published artefacts in QEMU, as a node would see them: from an HTTP server, over the network.
//!
//! Must not know how artefacts were built.

mod card;
mod error;
mod firmware;
mod http;
mod qemu;

pub use card::{CARDS, Card};
pub use error::BootError;
pub use firmware::{Firmware, needs_uefi};
pub use http::FileServer;
pub use qemu::{Board, Machine, Running, artefact, memory_for, ssh_answers};

//! Registries of OCI artefacts, and directories and files in their layout: names, documents, credentials, the protocol.
//!
//! Sources: opencontainers/image-spec 1.1, opencontainers/distribution-spec 1.1, the token specification of
//! distribution/distribution. Written on the HTTP client that packages come by, because all that is needed is HEAD, GET, POST and PUT:
//! proxies, certificates and patience are the same as everywhere. Must not know what an image is.

mod challenge;
mod client;
mod container;
mod document;
mod error;
mod layout;
mod login;
mod reference;
mod referrers;
mod registry;
mod send;

pub use client::Access;
pub use container::{Container, Containers, LayoutContainers, container, container_architecture};
pub use document::{
    ARTIFACT_LIMIT, Descriptor, EMPTY, EMPTY_CONFIG, IMAGE_CONFIG, LAYER_GZIP, MANIFEST, Manifest, TITLE,
};
pub use error::OciError;
pub use layout::{Archive, Layout};
pub use reference::{Place, Reference};
pub use registry::Registry;
pub use send::{Content, Destination, Kept, Moved, Sent, Source, send, send_with, side_by_side};

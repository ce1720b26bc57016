//! Published images in registries: as an artefact of the files that nodes boot, and the root file system as a container image.

pub(crate) mod believed;
pub(crate) mod container;
pub(crate) mod error;
pub(crate) mod inside;
pub(crate) mod planned;
pub(crate) mod pull;
pub(crate) mod push;

pub(crate) const ARTIFACT: &str = "application/vnd.imgbuild.image.v1";
const BUILD: &str = "application/vnd.imgbuild.build.v1+json";
const LOCK: &str = "application/vnd.imgbuild.lock.v1+toml";
const INDEX: &str = "application/vnd.imgbuild.index.v1+json";
const FILE: &str = "application/vnd.imgbuild.file.v1";
const FRAME: &str = "application/vnd.imgbuild.frame.v1";

/// What is about an image, as referrers are called. Sources: IANA's media types of SPDX and CycloneDX; in-toto's attestation framework;
/// DSSE's envelope.
const OF_SPDX: &str = "application/spdx+json";
const OF_CYCLONEDX: &str = "application/vnd.cyclonedx+json";
const OF_STATEMENT: &str = "application/vnd.in-toto+json";
const OF_ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
/// The signed statement before one that is not.
const ABOUT: [&str; 4] = [OF_ENVELOPE, OF_STATEMENT, OF_SPDX, OF_CYCLONEDX];

/// The lock's name in an artefact, and among pulled files.
pub const LOCK_NAME: &str = "image.lock";

const CREATED: &str = "org.opencontainers.image.created";
const KERNEL: &str = "imgbuild.kernel-release";
const TARGET: &str = "imgbuild.target";

/// A time as documents of OCI have it. Source: RFC 3339.
fn time(epoch: i64) -> String {
    jiff::Timestamp::from_second(epoch).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

//! Real data of RPM distributions beside the checkout: `shared/corpus/rpm`.

mod databases;
#[cfg(feature = "e2e")]
mod groups;
mod keys;
#[cfg(feature = "e2e")]
mod metadata;
mod packages;

use std::path::PathBuf;

use crate::support::project;

/// Where it lies: each test that asks has looked before whether it is there.
pub fn corpus() -> PathBuf {
    project().join("../shared/corpus/rpm").canonicalize().unwrap()
}

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

pub fn corpus() -> PathBuf {
    let root = project().join("../shared/corpus/rpm");
    assert!(root.is_dir(), "the corpus is missing: it must lie beside the checkout, in shared/corpus/rpm");
    root.canonicalize().unwrap()
}

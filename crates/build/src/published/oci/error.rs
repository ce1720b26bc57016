//! What can go wrong on the way to a registry and back.

use miette::Diagnostic;
use thiserror::Error;

use crate::StageError;
use oci::OciError;
use store::StoreError;

#[derive(Debug, Error, Diagnostic)]
pub enum CarryError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Oci(#[from] OciError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Stage(#[from] StageError),
    #[error("{image} cannot be pushed as a container: {problem}")]
    #[diagnostic(code(oci::not_built), help("run `imgbuild build` first, with the store that has its layers"))]
    NotBuilt { image: String, problem: String },
}

impl From<StoreError> for CarryError {
    fn from(error: StoreError) -> Self {
        Self::Stage(error.into())
    }
}

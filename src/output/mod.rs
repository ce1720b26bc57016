//! How things are said: messages, progress, estimates, documents.

pub(crate) mod documents;
pub(crate) mod estimate;
pub(crate) mod excerpt;
pub(crate) mod harmless;
pub(crate) mod masked;
pub(crate) mod render;
pub(crate) mod reporter;
pub(crate) mod steps;
pub(crate) mod summary;

//! How things are said: messages, progress, estimates, documents.

pub mod documents;
pub mod estimate;
pub mod excerpt;
pub mod harmless;
pub mod masked;
pub mod render;
pub mod reporter;
pub mod steps;
pub mod summary;

//! Definitions of osimages: `lsdef`, `mkdef`, `chdef`, `rmdef`, and `rmimage`.

pub mod attributes;
pub mod edits;
pub mod lsdef;
pub mod removal;

//! Definitions of osimages: `lsdef`, `mkdef`, `chdef`, `rmdef`, and `rmimage`.

pub(super) mod attributes;
pub(super) mod edits;
pub(super) mod lsdef;
pub(super) mod removal;

//! Frames: an archive cut into pieces that are compressed by themselves and kept by what they hold (D29 to D31).

pub(crate) mod form;
pub(crate) mod read;
pub(crate) mod tree;
pub(crate) mod write;

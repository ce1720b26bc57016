//! Frames: an archive cut into pieces that are compressed by themselves and kept by what they hold (D29 to D31).

pub mod form;
pub mod read;
pub mod tree;
pub mod write;

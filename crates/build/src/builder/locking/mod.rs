//! Locks made and renewed, and all that they name brought into a directory: both take a whole build.

pub mod relock;
pub mod vendor;

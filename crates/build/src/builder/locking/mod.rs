//! Locks made and renewed, and all that they name brought into a directory: both take a whole build.

pub(crate) mod mend;
pub(crate) mod relock;
pub(crate) mod vendor;

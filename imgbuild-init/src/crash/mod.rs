//! Dumps of a node whose kernel crashes.
//!
//! A node that has memory reserved (`crashkernel=`) loads the same kernel once more, with an initrd that writes dumps: both come from
//! the image's server, by their digests, and take no memory besides. When its kernel crashes, that one runs in its stead: this program
//! is its first process again, brings up the network as it did before, and writes /proc/vmcore to where the recipe says.

mod collect;
mod dump;
mod load;
mod places;
mod ssh;
mod words;

pub(crate) use dump::run;
pub(crate) use load::load;

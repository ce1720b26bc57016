//! Files that appear whole or not at all, temporary directories that are swept, and what users of one machine share.
//!
//! It knows nothing of what the files hold. Begin with [`replace`].

pub mod beside;
mod replace;
pub mod shared;
pub mod sweep;

pub use replace::*;

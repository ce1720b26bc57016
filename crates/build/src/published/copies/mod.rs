//! Published images elsewhere: brought from an HTTP server frame by frame, for service nodes and mirrors, and what that would
//! move.

pub(crate) mod beside;
pub(crate) mod delta;
pub(crate) mod error;
pub(crate) mod fetch;
pub(crate) mod origin;
pub(crate) mod transfer;

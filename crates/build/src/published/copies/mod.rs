//! Published images elsewhere: brought from an HTTP server frame by frame, for service nodes and mirrors, and what that would
//! move.

pub mod delta;
pub mod error;
pub mod fetch;
pub mod origin;
pub mod transfer;

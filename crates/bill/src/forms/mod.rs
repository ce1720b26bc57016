//! A bill in the forms of others.

pub(crate) mod cyclonedx;
pub(crate) mod spdx;

//! Trees for commands: layers mounted over one another, or copied, and what the kernel mounts in them.

pub(crate) mod api_mounts;
pub(crate) mod copy;
pub(crate) mod machine;
pub(crate) mod overlay;

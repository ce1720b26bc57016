//! Trees for commands: layers mounted over one another, or copied, and what the kernel mounts in them.

pub mod api_mounts;
pub mod copy;
pub mod machine;
pub mod overlay;

//! What the package managers' operations have in common. Runs inside.

pub mod accounts;
pub mod berkeley;
pub mod common;
pub mod part;
pub mod plain;
pub mod secrets;

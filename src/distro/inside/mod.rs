//! What the package managers' operations have in common. Runs inside.

pub mod accounts;
pub mod berkeley;
pub mod common;
mod decompressed;
pub mod keystore;
pub mod part;
pub mod plain;
pub mod secrets;
pub mod uname;

//! In-sandbox package work shared by apt and rpm: accounts, container images, decompression, normalisation, secrets. Runs inside.

pub mod accounts;
pub mod berkeley;
pub mod common;
pub mod container;
mod decompressed;
pub mod keystore;
pub mod part;
pub mod plain;
pub mod secrets;
pub mod uname;

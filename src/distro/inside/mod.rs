//! In-sandbox package work shared by apt and rpm: accounts, decompression, normalisation, secrets. Runs inside.

pub mod accounts;
pub mod berkeley;
pub mod common;
mod decompressed;
pub mod keystore;
pub mod part;
pub mod plain;
pub mod secrets;
pub mod uname;

//! In-sandbox package work shared by apt and rpm: accounts, container images, decompression, normalisation, secrets. Runs inside.

pub(crate) mod accounts;
pub(crate) mod berkeley;
pub(crate) mod common;
pub(crate) mod container;
mod decompressed;
pub(crate) mod keystore;
pub(crate) mod part;
pub(crate) mod plain;
pub(crate) mod secrets;
pub(crate) mod uname;

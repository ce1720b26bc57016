//! Sockets: what is listened on, how many connections there may be, TLS.

pub(crate) mod connections;
pub(crate) mod direct;
pub(crate) mod listen;
pub(crate) mod rights;
pub(crate) mod system;
pub(crate) mod tls;

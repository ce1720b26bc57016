//! Sockets: what is listened on, how many connections there may be, TLS.

pub mod connections;
pub mod direct;
pub mod listen;
pub mod rights;
pub mod system;
pub mod tls;

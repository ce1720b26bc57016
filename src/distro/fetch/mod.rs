//! Downloads, what opens archives that ask who comes, and how long a server is waited for.

pub mod credentials;
pub mod fetcher;
pub mod pace;

//! Downloads, what opens archives that ask who comes, by way of which proxy, and how long a server is waited for.

pub mod address;
pub mod credentials;
pub mod downloads;
pub mod fetcher;
pub mod pace;
pub mod proxy;

#[cfg(test)]
mod tests;

//! Downloads, what opens archives that ask who comes, and how long a server is waited for.

pub mod credentials;
pub mod downloads;
pub mod fetcher;
pub mod pace;

#[cfg(test)]
mod tests;

//! Downloads: credentials, proxies, retries, time-outs.

pub mod address;
pub mod credentials;
pub mod downloads;
pub mod fetcher;
mod listing;
pub mod pace;
pub mod proxy;
pub mod upload;

#[cfg(test)]
mod tests;

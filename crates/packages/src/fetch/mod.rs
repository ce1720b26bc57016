//! Downloads: credentials, proxies, retries, time-outs.

pub(crate) mod address;
pub(crate) mod credentials;
pub(crate) mod downloads;
pub(crate) mod fetcher;
mod listing;
pub(crate) mod pace;
pub(crate) mod proxy;
pub(crate) mod upload;

#[cfg(test)]
mod tests;

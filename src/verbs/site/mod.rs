//! What comes from a site's other tools, and goes back to them.

pub(crate) mod capture;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod movein;
pub(crate) mod names;
mod nodes;
mod report;
pub(crate) mod rootimg;

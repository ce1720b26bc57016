//! What comes from a site's other tools, and goes back to them.

pub mod capture;
pub mod export;
pub mod import;
pub mod names;
mod nodes;
mod report;
pub mod rootimg;

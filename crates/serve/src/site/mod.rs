//! The nodes of the site: who they are, what they boot, what they report.

pub mod boot;
pub mod desk;
pub mod report;
pub mod scripts;
pub mod xcat_words;

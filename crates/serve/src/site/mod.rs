//! The nodes of the site: who they are, what they boot, what they report.

pub(crate) mod boot;
pub(crate) mod desk;
mod fresh;
pub(crate) mod report;
pub(crate) mod scripts;
pub(crate) mod xcat_words;

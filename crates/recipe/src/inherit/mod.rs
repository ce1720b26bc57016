//! `extends` and `variant`: from a recipe's file to the documents of its images.

pub(crate) mod drafts;
pub(crate) mod file_fields;
pub(crate) mod merge;
pub(crate) mod relative;

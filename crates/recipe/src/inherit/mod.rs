//! `extends` and `variant`: from a recipe's file to the documents of its images.

pub mod drafts;
pub mod file_fields;
pub mod merge;
pub mod relative;

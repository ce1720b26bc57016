//! Front ends: a recipe's text as values with spans, whatever its format, and changes of it in place.

pub mod check;
pub mod document;
pub mod edit;
pub mod editable;
pub mod field;
pub mod kdl;
pub mod open;
pub mod schema;
pub mod toml;

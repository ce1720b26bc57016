//! Front ends: a recipe's text as values with spans, whatever its format, and changes of it in place.

pub(crate) mod check;
pub(crate) mod document;
pub(crate) mod edit;
pub(crate) mod editable;
pub(crate) mod field;
pub(crate) mod kdl;
pub(crate) mod open;
pub(crate) mod schema;
pub(crate) mod toml;

//! A recipe's file that is changed in place, in either format.

use toml_edit::DocumentMut;

use super::kdl::{KdlText, is_kdl, leading_key};
use super::kin::WHOLE;
use super::{Edit, edit};

/// A file's text with changes.
pub enum Editable {
    /// TOML.
    Toml(Box<DocumentMut>),
    /// KDL.
    Kdl(KdlText),
}

impl Editable {
    /// Reads a text; the ending of its name says which format it is.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(name: &str, text: &str) -> Result<Self, String> {
        if is_kdl(name) {
            return KdlText::new(text).map(Self::Kdl);
        }
        text.parse()
            .map(|document| Self::Toml(Box::new(document)))
            .map_err(|error: toml_edit::TomlError| error.to_string())
    }

    /// The text as it is now.
    pub fn text(&self) -> String {
        match self {
            Self::Toml(document) => document.to_string(),
            Self::Kdl(text) => text.text().to_owned(),
        }
    }

    /// Whether a value stands in this very file.
    pub fn has(&self, keys: &[&str]) -> bool {
        match self {
            Self::Toml(document) => edit::found(document.as_table(), keys).is_some(),
            Self::Kdl(text) => text.has(keys, leading_key(&WHOLE, keys)),
        }
    }

    /// Whether a list in this very file holds an item.
    pub fn holds(&self, keys: &[&str], item: &str) -> bool {
        match self {
            Self::Toml(document) => edit::holds(document.as_table(), keys, item),
            Self::Kdl(text) => text.holds(keys, item),
        }
    }

    /// Makes one change below `prefix`, the keys of the table that stands for the recipe.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn apply(&mut self, prefix: &[&str], change: &Edit) -> Result<(), String> {
        match self {
            Self::Toml(document) => edit::apply(document, prefix, change),
            Self::Kdl(text) => {
                let keys = [prefix, &change.path.keys().unwrap_or_default()].concat();
                text.apply(prefix, change, leading_key(&WHOLE, &keys))
            }
        }
    }

    /// Adds to what is not inherited an item of a list, or the whole key.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub fn put_removal(&mut self, keys: &[&str], item: Option<&str>) -> Result<(), String> {
        match self {
            Self::Toml(document) => edit::put_removal(document, keys, item),
            Self::Kdl(_) => {
                let what = item.map_or_else(|| "#true".to_owned(), |item| format!("\"{item}\""));
                Err(format!("in KDL say by hand what is not inherited: {} {what}", keys.join(" { ")))
            }
        }
    }
}

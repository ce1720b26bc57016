//! Front ends: which of them reads a recipe's file, and what they have in common.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Node, RECIPE_FILE};
use crate::source::{Finding, Severity, SourceFile};

/// The file of the recipe in a directory, or where it would be.
pub fn recipe_file(directory: &Path) -> PathBuf {
    directory.join(RECIPE_FILE)
}

/// Whether a directory holds a recipe.
pub fn has_recipe(directory: &Path) -> bool {
    crate::witness::is_file(&recipe_file(directory))
}

/// Reads one file of a recipe, its own or one that it inherits from, into a tree of values; nothing is checked yet but the
/// syntax. `name` is how messages call it; `text` stands in for what the file holds.
///
/// # Errors
/// What is wrong with the file: it is missing, no UTF-8, or breaks the rules of its format.
pub fn document_in(path: &Path, name: &str, text: Option<&str>) -> Result<Node, Vec<Finding>> {
    let file = match text {
        Some(text) => SourceFile::new(name, path, text),
        None => text_of(path, name)?,
    };
    let (document, findings) = super::toml::read(&file);
    if findings.is_empty() { Ok(document) } else { Err(findings) }
}

/// The text of a recipe; `name` is how messages call it.
fn text_of(path: &Path, name: &str) -> Result<Arc<SourceFile>, Vec<Finding>> {
    let bytes = crate::witness::read(path).map_err(|error| {
        let problem = format!("`{}` cannot be read: {error}", path.display());
        vec![
            Finding::nowhere(Severity::Error, "recipe::missing", problem)
                .help("run `imgbuild init` to write one, or name the recipe's directory with `-C DIR`"),
        ]
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let problem = format!("`{name}` is no UTF-8 (byte {})", error.utf8_error().valid_up_to());
        vec![Finding::nowhere(Severity::Error, "recipe::not_utf8", problem).help("save it as UTF-8")]
    })?;
    Ok(SourceFile::new(name, path, text))
}

//! Front ends: which of them reads a recipe's file, and what they have in common.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;

use super::{KDL_RECIPE_FILE, Node, RECIPE_FILE, schema};
use crate::source::{Finding, Severity, SourceFile};

/// Reads the recipe in a directory into a tree of values; nothing is checked yet but the syntax.
///
/// # Errors
/// What is wrong with the file: it is missing, there are two, it is no UTF-8, or breaks the rules of its format.
pub fn document_of(directory: &Path) -> Result<Node, Vec<Finding>> {
    let name = recipe_file(directory)?;
    document_in(&directory.join(name), name)
}

/// The name of the recipe's file in a directory: `image.toml` or `image.kdl`.
///
/// # Errors
/// There is none, or there are both.
pub fn recipe_file(directory: &Path) -> Result<&'static str, Vec<Finding>> {
    let there = |name: &str| directory.join(name).symlink_metadata().is_ok();
    let (code, problem, help) = match (there(RECIPE_FILE), there(KDL_RECIPE_FILE)) {
        (true, false) => return Ok(RECIPE_FILE),
        (false, true) => return Ok(KDL_RECIPE_FILE),
        (true, true) => (
            "recipe::two_files",
            format!("`{}` has two recipes, {RECIPE_FILE} and {KDL_RECIPE_FILE}", directory.display()),
            "keep one of them; `imgbuild convert` writes one from the other".to_owned(),
        ),
        (false, false) => (
            "recipe::missing",
            format!("`{}` has no recipe: neither {RECIPE_FILE} nor {KDL_RECIPE_FILE} is there", directory.display()),
            "run `imgbuild init` to write one, or name the recipe's directory with `-C DIR`".to_owned(),
        ),
    };
    Err(vec![Finding::nowhere(Severity::Error, code, problem).help(help)])
}

/// Reads one file of a recipe, as its ending says: `.kdl`, or else TOML. `name` is how messages call it.
///
/// # Errors
/// What is wrong with the file: it cannot be read, is no UTF-8, or breaks the rules of its format.
pub fn document_in(path: &Path, name: &str) -> Result<Node, Vec<Finding>> {
    document_with(path, name, &schema::recipe_schema())
}

/// The same for a file of another form, which `schema` describes: KDL needs it to tell a list from a value.
///
/// # Errors
/// As [`document_in`].
pub fn document_with(path: &Path, name: &str, schema: &Json) -> Result<Node, Vec<Finding>> {
    document_from(&text_of(path, name)?, schema)
}

/// Reads a text, as the ending of its name says.
///
/// # Errors
/// What breaks the rules of its format.
pub fn document_from(file: &Arc<SourceFile>, schema: &Json) -> Result<Node, Vec<Finding>> {
    let (document, findings) =
        if is_kdl(&file.name) { super::kdl::read(file, schema) } else { super::toml::read(file) };
    if findings.is_empty() { Ok(document) } else { Err(findings) }
}

/// Whether a file is KDL by its name.
pub fn is_kdl(name: &str) -> bool {
    name.ends_with(".kdl")
}

/// The text of a file that a person wrote; `name` is how messages call it.
///
/// # Errors
/// It cannot be read, or is no UTF-8.
pub fn text_of(path: &Path, name: &str) -> Result<Arc<SourceFile>, Vec<Finding>> {
    let bytes = std::fs::read(path).map_err(|error| {
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

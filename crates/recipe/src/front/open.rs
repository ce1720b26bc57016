//! Chooses TOML or KDL for a recipe file and reads it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value as Json;

use super::kdl::is_kdl;
use crate::inherit::file_fields;
use crate::{KDL_RECIPE_FILE, Node, RECIPE_FILE, Workspace};
use base::source::{Finding, MOST_LINES_OF_FILE, Severity, SourceFile, Span, too_much};

const TEXT_LIMIT: u64 = 16 << 20;

/// The file of the recipe in a directory, or where it would be: `image.toml`, or `image.kdl` if that is there.
pub fn recipe_file(directory: &Path) -> PathBuf {
    let (toml, kdl) = (directory.join(RECIPE_FILE), directory.join(KDL_RECIPE_FILE));
    if !witness::is_there(&toml) && witness::is_there(&kdl) { kdl } else { toml }
}

/// Whether a directory holds a recipe, or something with its name that cannot be read: that must be reported, not passed over.
pub fn has_recipe(directory: &Path) -> bool {
    let toml = directory.join(RECIPE_FILE);
    // The usual case costs one look.
    witness::is_there(&toml) || witness::is_there(&directory.join(KDL_RECIPE_FILE))
}

/// Reads the recipe in a directory into a tree of values; nothing is checked yet but the syntax.
/// Errors: As [`document_in`]; it is a link out of the workspace.
pub fn document_of(directory: &Path) -> Result<Node, Vec<Finding>> {
    let path = recipe_file(directory);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    refuse_link_out(&path)?;
    document_in(&path, &name, None)
}

/// Reads one file of a recipe, as its ending says: `.kdl`, or else TOML. `name` is how messages call it; `text` stands in
/// for what the file holds.
/// Errors: What is wrong with the file: it is missing, there is one in each format, it is not UTF-8, or breaks the rules of its
/// format.
pub fn document_in(path: &Path, name: &str, text: Option<&str>) -> Result<Node, Vec<Finding>> {
    alone(path)?;
    let file = match text {
        Some(text) => SourceFile::new(name, path, text),
        None => text_of(path, name)?,
    };
    document_from(&file, file_schema())
}

/// Refuses a recipe that is a link out of the workspace: its lines would be printed with what is wrong with them. Without a
/// workspace the recipe's directory, without links, is one of its own; `allow` is where it may lead besides.
pub(crate) fn link_out(
    path: &Path,
    directory: &Path,
    workspace: Option<&Workspace>,
    allow: &[String],
) -> Option<Finding> {
    if !witness::is_link(path) {
        return None;
    }
    // What leads nowhere is reported where the file is read.
    let real = witness::canonicalize(path).ok()?;
    let root = workspace.map_or(directory, |workspace| workspace.root.as_path());
    // Nothing is outside the root of the file system.
    let root = if root.parent().is_none() { directory } else { root };
    if real.starts_with(root) || is_allowed(&real, allow) {
        return None;
    }
    let (name, to) = (path.display(), real.display());
    let problem = format!("`{name}` is a link to `{to}`, which is outside `{}`", root.display());
    Some(
        Finding::nowhere(Severity::Error, "recipe::outside", problem)
            .help("copy the file here; inherit from it with `extends`, which can be allowed; or put an imgbuild.toml in the folder above both"),
    )
}

/// Whether `allow` has a path, or a folder above it with `/**`.
pub(crate) fn is_allowed(path: &Path, allow: &[String]) -> bool {
    allow.iter().any(|pattern| match pattern.strip_suffix("/**") {
        Some(folder) => path.starts_with(folder),
        None => Path::new(pattern) == path,
    })
}

/// The text of a recipe's file that is read alone, by its path.
/// Errors: As [`text_of`]; it is a link out of the workspace around it; what is wrong with that workspace.
pub fn recipe_text(path: &Path, name: &str) -> Result<Arc<SourceFile>, Vec<Finding>> {
    refuse_link_out(path)?;
    text_of(path, name)
}

/// Refuses a link out of the workspace around a recipe's file that is read alone.
fn refuse_link_out(path: &Path) -> Result<(), Vec<Finding>> {
    if !witness::is_link(path) {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = witness::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let workspace = Workspace::above(&folder)?;
    let allow = workspace.as_ref().map_or(&[][..], |workspace| &workspace.model.workspace.allow);
    link_out(path, &folder, workspace.as_ref(), allow).map_or(Ok(()), |finding| Err(vec![finding]))
}

/// What a file of a recipe may say: the schema by which KDL tells a list from a value.
pub fn file_schema() -> &'static Json {
    &file_fields::WHOLE
}

/// Refuses a recipe's file beside which there is one in the other format, and names both if there is neither.
fn alone(path: &Path) -> Result<(), Vec<Finding>> {
    let is_recipe = path.file_name().is_some_and(|name| name == RECIPE_FILE || name == KDL_RECIPE_FILE);
    let Some(directory) = path.parent().filter(|_| is_recipe) else { return Ok(()) };
    let there = |name: &str| witness::is_there(&directory.join(name));
    let (code, problem, help) = match (there(RECIPE_FILE), there(KDL_RECIPE_FILE)) {
        (true, true) => (
            "recipe::two_files",
            format!("`{}` has two recipes, {RECIPE_FILE} and {KDL_RECIPE_FILE}", directory.display()),
            "keep one of them; `imgbuild convert` writes one from the other",
        ),
        (false, false) => (
            "recipe::missing",
            format!("`{}` has no recipe: neither {RECIPE_FILE} nor {KDL_RECIPE_FILE} exists", directory.display()),
            "run `imgbuild init` to write one, or name the recipe's directory with `-C DIR`",
        ),
        _ => return Ok(()),
    };
    Err(vec![Finding::nowhere(Severity::Error, code, problem).help(help)])
}

/// Reads a text, as the ending of its name says.
/// Errors: What breaks the rules of its format.
pub fn document_from(file: &Arc<SourceFile>, schema: &Json) -> Result<Node, Vec<Finding>> {
    let (document, findings) =
        if is_kdl(&file.name) { super::kdl::read(file, schema) } else { super::toml::read(file) };
    if findings.is_empty() { Ok(document) } else { Err(findings) }
}

/// The text of a file that a person wrote; `name` is how messages call it.
/// Errors: It is no file, cannot be read, is larger than any recipe, or is not UTF-8.
pub(crate) fn text_of(path: &Path, name: &str) -> Result<Arc<SourceFile>, Vec<Finding>> {
    if let Some(problem) = witness::not_a_file(path) {
        let problem = format!("`{}` {problem}", path.display());
        let help = "put a file there, or remove it";
        return Err(vec![Finding::nowhere(Severity::Error, "recipe::no_file", problem).help(help)]);
    }
    let bytes = witness::read_at_most(path, TEXT_LIMIT).map_err(|error| {
        let problem = format!("`{}` cannot be read: {error}", path.display());
        vec![
            Finding::nowhere(Severity::Error, "recipe::missing", problem)
                .help("run `imgbuild init` to write one, or name the recipe's directory with `-C DIR`"),
        ]
    })?;
    let Some(bytes) = bytes else {
        let problem = format!("`{}` is larger than {} MiB", path.display(), TEXT_LIMIT >> 20);
        return Err(vec![
            Finding::nowhere(Severity::Error, "recipe::too_large", problem).help("is it the right file?"),
        ]);
    };
    if let Some(problem) = too_much(&bytes, MOST_LINES_OF_FILE) {
        let problem = format!("`{}` cannot be read: {problem}", path.display());
        return Err(vec![
            Finding::nowhere(Severity::Error, "recipe::too_large", problem).help("is it the right file?"),
        ]);
    }
    text_from(bytes, path, name).map_err(|finding| vec![finding])
}

/// The bytes of a file that a person wrote, as text; `name` is how messages call it.
/// Errors: They are not UTF-8: the offset of the first invalid byte.
pub(crate) fn text_from(bytes: Vec<u8>, path: &Path, name: &str) -> Result<Arc<SourceFile>, Finding> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(SourceFile::new(name, path, text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let byte = error.as_bytes().get(at).copied().unwrap_or_default();
            let file = SourceFile::new(name, path, String::from_utf8_lossy(error.as_bytes()));
            let width = char::REPLACEMENT_CHARACTER.len_utf8();
            let finding =
                Finding::error("recipe::not_utf8", &Span::new(&file, at..at + width), format!("`{name}` is not UTF-8"));
            Err(finding.label(format!("the byte {byte:#04x} is not valid UTF-8")).help("save it as UTF-8"))
        }
    }
}

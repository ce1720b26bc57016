//! What lists have in common: other files and variables.

use std::sync::Arc;

use crate::source::SourceFile;

/// How deep includes may nest; xCAT has no limit and no guard.
pub const INCLUDE_DEPTH: usize = 128;

/// Why a file that a list names cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadError {
    /// It is not there.
    Missing(String),
    /// It lies where the recipe may not read; the text is the remedy.
    Refused(String),
}

/// Reads the files that lists include; the recipe's rules about paths apply behind it.
pub trait Loader {
    /// Reads a file named in a list; relative paths start in the folder of `from`.
    ///
    /// # Errors
    /// [`LoadError`] when there is none or it may not be read.
    fn load(&self, path: &str, from: &SourceFile) -> Result<Arc<SourceFile>, LoadError>;

    /// Whether a relative path names another file when it is taken from the folder of `from`.
    fn exists(&self, path: &str, from: &SourceFile) -> bool;

    /// The value of a variable of the image's environment.
    fn variable(&self, name: &str) -> Option<String>;
}

/// Replaces `$NAME` and `${NAME}`; the error is the first name that is not known.
///
/// # Errors
/// The unknown variable's name.
pub fn expand_variables(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let word = |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, length) = match after.strip_prefix('{') {
            Some(inner) => match inner.split_once('}') {
                Some((name, _)) => (name, name.len() + 2),
                None => return Err(inner.to_owned()),
            },
            None => (&after[..word(after)], word(after)),
        };
        if name.is_empty() {
            out.push('$');
            rest = after;
            continue;
        }
        out.push_str(&variable(name).ok_or_else(|| name.to_owned())?);
        rest = &after[length..];
    }
    out.push_str(rest);
    Ok(out)
}

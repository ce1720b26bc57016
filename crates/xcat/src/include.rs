//! What lists have in common: other files and variables.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use base::source::{Finding, SourceFile, Span};

/// How deep includes may nest; xCAT has no limit and no guard.
pub(crate) const INCLUDE_DEPTH: usize = 128;

/// How many included files are read at most: lists that include one another several times each would be read without end.
pub(crate) const INCLUDES: usize = 10_000;

/// Why a file that a list names cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadError {
    Missing(String),
    /// It lies where the recipe may not read; the text is the remedy.
    Refused(String),
}

/// Reads the files that lists include; the recipe's rules about paths apply behind it.
pub trait Loader {
    /// Reads a file named in a list; relative paths start in the folder of `from`.
    /// Errors: [`LoadError`] if it is missing or may not be read.
    fn load(&self, path: &str, from: &SourceFile) -> Result<Arc<SourceFile>, LoadError>;

    /// Whether a relative path names another file when it is taken from the folder of `from`.
    fn exists(&self, path: &str, from: &SourceFile) -> bool;

    /// The value of a variable of the image's environment.
    fn variable(&self, name: &str) -> Option<String>;
}

/// Replaces `$NAME` and `${NAME}`; the error is the first name that is not known.
/// Errors: The unknown variable's name.
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

pub(super) enum Included {
    Read,
    /// It was read, and would add nothing.
    Again,
    /// No more are read; said once.
    TooMany(Option<Finding>),
}

/// The included files that need not be read again, and how many were read.
pub(super) struct Reads<K> {
    done: HashSet<K>,
    count: usize,
}

impl<K> Default for Reads<K> {
    fn default() -> Self {
        Self { done: HashSet::new(), count: 0 }
    }
}

impl<K: Hash + Eq> Reads<K> {
    /// Asks for a file that the line at `span` includes.
    pub(crate) fn begin(&mut self, file: &K, span: &Span) -> Included {
        if self.done.contains(file) {
            return Included::Again;
        }
        self.count += 1;
        if self.count <= INCLUDES {
            return Included::Read;
        }
        let first = self.count == INCLUDES + 1;
        let finding = || {
            Finding::error("include::many", span, format!("more than {INCLUDES} files are included, counted each time"))
                .label("lists that include one another several times each multiply")
                .help("include each list once; a list with #NEW_INSTALL_LIST# or #ENV:...# is read each time it is included")
        };
        Included::TooMany(first.then(finding))
    }

    /// The file was read, and a second time would add nothing.
    pub(crate) fn done(&mut self, file: K) {
        self.done.insert(file);
    }
}

/// Finds an included file, or says why it cannot be.
pub(super) fn resolve_include(
    path: &str,
    span: &Span,
    chain: &[Arc<SourceFile>],
    loader: &dyn Loader,
    findings: &mut Vec<Finding>,
) -> Option<Arc<SourceFile>> {
    let shown = || chain.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join(" -> ");
    let expanded = match expand_variables(path, &|name| loader.variable(name)) {
        Ok(expanded) => expanded,
        Err(name) => {
            findings.push(
                Finding::error("include::variable", span, format!("the variable `{name}` of `{path}` is not set"))
                    .help(format!("set it in the recipe: ‹[environment] {name} = \"...\"›")),
            );
            return None;
        }
    };
    let (Some(from), Some(top)) = (chain.last(), chain.first()) else { return None };
    let file = match loader.load(expanded.trim(), from) {
        Ok(file) => file,
        Err(LoadError::Missing(problem)) => {
            findings.push(
                Finding::error("include::missing", span, format!("`{expanded}` cannot be included: {problem}"))
                    .label(format!("included by {}", shown()))
                    .help("create the file or correct the path; an absolute path of an xCAT host can be mapped: ‹[xcat] path_map = { \"/opt/xcat/share/xcat\" = \"vendor/xcat\" }›"),
            );
            return None;
        }
        Err(LoadError::Refused(help)) => {
            findings.push(
                Finding::error("include::outside", span, format!("`{expanded}` is outside the workspace")).help(help),
            );
            return None;
        }
    };
    if chain.iter().any(|known| known.path == file.path) {
        findings.push(
            Finding::error(
                "include::cycle",
                span,
                format!("`{expanded}` includes itself: {} -> {}", shown(), file.name),
            )
            .help("remove one of the includes"),
        );
        return None;
    }
    if chain.len() >= INCLUDE_DEPTH {
        findings.push(
            Finding::error("include::depth", span, format!("includes nest deeper than {INCLUDE_DEPTH}"))
                .help("include the innermost files directly"),
        );
        return None;
    }
    let same_folder = from.path.parent() == top.path.parent();
    if !expanded.starts_with('/') && !same_folder && loader.exists(&expanded, top) {
        findings.push(
            Finding::warning(
                "include::other_folder",
                span,
                format!("xCAT would include a different `{expanded}`, the one next to `{}`", top.name),
            )
            .label("imgbuild takes the file from the folder of the file that includes it")
            .help("write the path in full if the other file is intended"),
        );
    }
    Some(file)
}

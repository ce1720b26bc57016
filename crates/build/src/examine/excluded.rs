//! What the exclude list takes out of the packed image, line by line.

use serde::Serialize;

use crate::StageError;
use base::digest::Digest;
use recipe::Recipe;
use store::{Kind, Store};

/// What one line takes away. What several lines name counts for the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExcludedLine {
    pub pattern: String,
    /// Its file and line; none for what is left out of every image.
    pub place: Option<String>,
    pub entries: usize,
    /// Bytes of the files among them.
    pub bytes: u64,
}

/// What all lines take away, in the order of the lists, for an image of these layers.
/// Errors: [`StageError::Store`] for a manifest that cannot be read.
pub fn excluded(recipe: &Recipe, store: &Store, layers: &[Digest]) -> Result<Vec<ExcludedLine>, StageError> {
    let tree = store.merged(layers)?;
    let paths = tree.0.iter().map(|(path, found)| (path.clone(), found.entry.is_directory())).collect();
    let exclusion = recipe.exclude.apply(&paths);
    let line = |pattern: &str, place| ExcludedLine { pattern: pattern.to_owned(), place, entries: 0, bytes: 0 };
    let patterns = recipe.exclude.exclude.iter();
    let mut lines: Vec<ExcludedLine> = patterns
        .map(|pattern| line(&pattern.text, Some(format!("{}:{}", pattern.span.file.name, pattern.span.line()))))
        .collect();
    let mut always = line("(always)", None);
    for (path, number) in &exclusion.by {
        let line = number.and_then(|number| lines.get_mut(number)).unwrap_or(&mut always);
        line.entries += 1;
        if let Some(Kind::File { size, .. }) = tree.0.get(path).map(|found| &found.entry.kind) {
            line.bytes += size;
        }
    }
    if always.entries > 0 {
        lines.push(always);
    }
    Ok(lines)
}

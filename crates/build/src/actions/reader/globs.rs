//! Which pattern of a recipe or a list names a file: for causes, and in no key.

use globset::GlobMatcher;

use base::source::Span;
use plan::{Input, Origin, Place};
use recipe::Spans;

/// Patterns of one field of the recipe, in its order.
pub(crate) struct Patterns(Vec<(String, Option<GlobMatcher>)>);

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

impl Patterns {
    /// Those of a field; one that cannot be read names nothing, and was refused before.
    pub(crate) fn new<'a>(patterns: impl Iterator<Item = &'a String>) -> Self {
        let matcher = |text: &str| {
            let glob = globset::GlobBuilder::new(text).literal_separator(true).build();
            glob.ok().map(|glob| glob.compile_matcher())
        };
        Self(patterns.map(|text| (text.clone(), matcher(text))).collect())
    }

    /// Says of a file which of them names it first.
    pub(crate) fn named(&self, input: Input, name: &str, spans: &Spans, field: &str) -> Input {
        let names =
            |(_, matcher): &(String, Option<GlobMatcher>)| matcher.as_ref().is_some_and(|one| one.is_match(name));
        let Some(index) = self.0.iter().position(names) else { return input.item(spans, field, 0) };
        let pattern = &self.0[index].0;
        let input = input.item(spans, field, index);
        let glob = Origin::Glob { field: field.to_owned(), pattern: pattern.clone() };
        if is_pattern(pattern) { input.of(glob) } else { input }
    }
}

/// Says of a file of a synclist's line which pattern names it, where the line has one.
pub(crate) fn of_synclist(input: Input, span: &Span) -> Input {
    let text = span.text();
    let sources = text.split("->").next().unwrap_or(text).trim();
    let glob = Origin::Glob { field: "sync.lists".to_owned(), pattern: sources.to_owned() };
    if is_pattern(sources) && text.contains("->") { input.of(glob) } else { input }
}

/// Says of a file below a directory that a field of the recipe names that the directory has it.
pub(crate) fn in_directory(input: Input, spans: &Spans, field: &str, directory: &str) -> Input {
    let place = spans.nearest(field).map(Place::from);
    let glob = Origin::Glob { field: field.to_owned(), pattern: directory.to_owned() };
    Input { place, ..input }.of(glob)
}

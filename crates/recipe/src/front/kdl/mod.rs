//! KDL 2 as a front end: the same document as from TOML, so that all that comes after is the same code.
//!
//! The mapping is in docs/kdl.md. The model's JSON Schema says what is a list, a table or a map, so a list of one item
//! needs no mark.

mod edit;
mod guard;
mod read;
mod shape;

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use kdl::KdlDocument;
use serde_json::Value as Json;

use crate::Node;
use base::failure::contained;
use base::source::{Finding, SourceFile, Span};

pub(crate) use edit::KdlText;
pub(crate) use guard::check as remarks;
use shape::Shape;

pub(crate) fn is_kdl(name: &str) -> bool {
    name.ends_with(".kdl")
}

/// The key that the argument of a value's table stands for.
pub(crate) fn leading_key<'a>(schema: &'a Json, keys: &[&str]) -> Option<&'a str> {
    let (_, tables) = keys.split_last()?;
    tables.iter().fold(Shape::of(schema, schema), |shape, key| shape.key(schema, key)).leading()
}

/// Stack of the thread that parses: the parser recurses, and a worker's 2 MiB end at some 300 levels.
const STACK_BYTES: usize = 64 << 20;
/// No text that passed the guard takes longer than some seconds; if one did, this ends the wait.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many syntax errors are reported.
const MAX_ERRORS: usize = 20;

/// What the parser found wrong: range, message, and help where there is some.
type Problem = (std::ops::Range<usize>, String, Option<String>);

/// Parses a text that passed the guard, on a thread with enough stack.
fn parse(text: &str) -> Result<KdlDocument, Vec<Problem>> {
    let (sender, receiver) = channel();
    let owned = text.to_owned();
    let spawned = std::thread::Builder::new().name("kdl".to_owned()).stack_size(STACK_BYTES).spawn(move || {
        // A panic of the parser is a text that cannot be read: the channel closes.
        let Ok(parsed) = contained(|| KdlDocument::parse(&owned)) else { return };
        let parsed = parsed.map_err(|error| {
            error
                .diagnostics
                .into_iter()
                .map(|one| {
                    let start = one.span.offset();
                    let said = one.message.or(one.label).unwrap_or_else(|| "this cannot be parsed".to_owned());
                    (start..start + one.span.len(), said, one.help)
                })
                .collect::<Vec<_>>()
        });
        let _ = sender.send(parsed);
    });
    let failed = |problem: String| vec![(0..0, problem, None)];
    if let Err(error) = spawned {
        return Err(failed(format!("no thread to parse it on: {error}")));
    }
    match receiver.recv_timeout(PATIENCE) {
        Ok(Ok(document)) => Ok(document),
        Ok(Err(problems)) if problems.is_empty() => Err(failed("it cannot be parsed".to_owned())),
        Ok(Err(problems)) => Err(problems),
        Err(RecvTimeoutError::Timeout) => Err(failed(format!("parsing it takes more than {} s", PATIENCE.as_secs()))),
        Err(RecvTimeoutError::Disconnected) => Err(failed("the parser gave up".to_owned())),
    }
}

/// A range of the text itself, whatever a parser said.
fn within(text: &str, range: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let fit = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    fit(range.start)..fit(range.end)
}

/// Reads a KDL text; `schema` says what is a list. All of its problems at once.
pub(crate) fn read(file: &Arc<SourceFile>, schema: &Json) -> (Node, Vec<Finding>) {
    let empty = || Node { value: crate::Value::Table(Vec::new()), span: Span::new(file, 0..0) };
    if let Err(refusal) = guard::check(&file.text) {
        let span = Span::new(file, within(&file.text, refusal.range));
        let finding = Finding::error("recipe::syntax", &span, format!("the recipe is not KDL: {}", refusal.problem));
        return (empty(), vec![finding.help(refusal.help)]);
    }
    match parse(&file.text) {
        Ok(document) => read::read(file, &document, schema),
        Err(problems) => {
            let findings =
                problems.into_iter().take(MAX_ERRORS).map(|(range, problem, help)| syntax(file, range, &problem, help));
            (empty(), findings.collect())
        }
    }
}

/// A syntax error; the commonest, words of KDL 1, are named.
fn syntax(file: &Arc<SourceFile>, range: std::ops::Range<usize>, problem: &str, help: Option<String>) -> Finding {
    let span = Span::new(file, within(&file.text, range));
    let word = span.text().trim().to_owned();
    let problem = problem.trim().trim_end_matches('.');
    let finding = Finding::error("recipe::syntax", &span, format!("the recipe is not KDL: {problem}"));
    match word.as_str() {
        "true" | "false" | "null" => finding.label(format!("KDL 2 writes #{word}")).help(format!("write #{word}")),
        _ => finding.help(match help {
            Some(help) => format!("{}; see https://kdl.dev for the syntax (KDL 2)", help.trim().trim_end_matches('.')),
            None => "see https://kdl.dev for the syntax (KDL 2)".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;

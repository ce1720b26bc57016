//! TOML as a front end.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::{Node, Value};
use base::source::{Finding, SourceFile, Span};

/// Syntax errors of one text that are reported; more of them are counted.
const MOST_ERRORS: usize = 3;

/// Reads a TOML text; all of its syntax errors at once. Errors that only come of a bracket or a quote that was forgotten
/// before are reported as that.
pub(crate) fn read(file: &Arc<SourceFile>) -> (Node, Vec<Finding>) {
    let (table, errors) = DeTable::parse_recoverable(&file.text);
    let ranges: Vec<Range<usize>> = errors.iter().map(|error| error.span().unwrap_or(0..0)).collect();
    let mut findings = Vec::new();
    // What stays wrong when the forgotten character is put in is reported beside it.
    let forgotten = ranges.first().filter(|_| ranges.len() > 1).and_then(|first| forgotten(&file.text, first.start));
    if let Some(one) = &forgotten {
        findings.push(one.finding(file));
    }
    let mended = forgotten.as_ref().map(|one| one.mended(&file.text));
    let rest = mended.as_ref().map_or(errors, |text| DeTable::parse_recoverable(text).1);
    let back = |at: usize| match &forgotten {
        Some(one) if at > one.at => at - 1,
        _ => at,
    };
    for error in rest.iter().take(MOST_ERRORS) {
        let range = error.span().unwrap_or(0..0);
        let span = Span::new(file, back(range.start)..back(range.end));
        let said = error.message().trim();
        let message = format!("the recipe is not valid TOML: {said}");
        let help = repair(file, said, &span).unwrap_or_else(|| "see https://toml.io for the syntax".to_owned());
        findings.push(Finding::error("recipe::syntax", &span, message).help(help));
    }
    if let (Some(last), 1..) = (findings.last_mut(), rest.len().saturating_sub(MOST_ERRORS)) {
        let more = rest.len() - MOST_ERRORS;
        last.help =
            Some(format!("{more} more errors follow, which may result from these; see https://toml.io for the syntax"));
    }
    let span = Span::new(file, 0..0);
    (Node { value: convert_table(file, table.get_ref()), span }, findings)
}

/// What mends a line, where there is no doubt.
fn repair(file: &SourceFile, said: &str, span: &Span) -> Option<String> {
    let word = span.text();
    if said.contains("must be quoted") && !word.is_empty() {
        return Some(format!("write \"{word}\""));
    }
    if !said.contains("duplicate key") {
        return None;
    }
    let line_of = |at: usize| file.text[..at].rfind('\n').map_or(0, |at| at + 1);
    let own = line_of(span.start);
    let line = file.text[own..].lines().next().unwrap_or_default().trim();
    let before = file.text[..own].lines().enumerate();
    let (first, what) = match line.starts_with('[') {
        true => {
            let head = &line[..=line.find(']')?];
            (before.filter(|(_, text)| text.trim().starts_with(head)).last()?.0, format!("{head} begins"))
        }
        false => {
            let is_same = |text: &str| {
                text.trim_start().strip_prefix(word).is_some_and(|rest| rest.trim_start().starts_with(['=', '.']))
            };
            (before.filter(|(_, text)| is_same(text)).last()?.0, format!("`{word}` is set"))
        }
    };
    Some(format!("{what} on line {} already: put both together there", first + 1))
}

/// A character that was forgotten: what follows cannot be read for it.
struct Forgotten {
    /// Where it belongs, in bytes.
    at: usize,
    what: char,
    /// Where what it would have ended begins.
    opened: Range<usize>,
}

impl Forgotten {
    fn mended(&self, text: &str) -> String {
        format!("{}{}{}", &text[..self.at], self.what, &text[self.at..])
    }

    fn finding(&self, file: &Arc<SourceFile>) -> Finding {
        let (line, _) = file.position(self.at);
        let what = match self.what {
            ']' => "list",
            '}' => "table",
            _ => "string",
        };
        let message = format!("the recipe is not valid TOML: this {what} is not closed");
        Finding::error("recipe::syntax", &Span::new(file, self.opened.clone()), message)
            .label("it starts here")
            .help(format!("add `{}` at the end of line {line}", self.what))
    }
}

/// The one character without which the first error, and most that follow it, would not be there.
fn forgotten(text: &str, error: usize) -> Option<Forgotten> {
    let count = |text: &str| DeTable::parse_recoverable(text).1.len();
    let was = count(text);
    let line_start = |at: usize| text[..at].rfind('\n').map_or(0, |at| at + 1);
    let line_end = |at: usize| text[at..].find('\n').map_or(text.len(), |end| at + end);
    // The line of the error, and the nearest one before it with something in it but a comment.
    let error = text.floor_char_boundary(error);
    let own = line_start(error)..line_end(error);
    let mut before = text[..own.start].trim_end().len();
    while text[line_start(before)..before].trim_start().starts_with('#') {
        before = text[..line_start(before)].trim_end().len();
    }
    let mut candidates = Vec::new();
    for line in [line_start(before)..before, own] {
        let end = line.start + without_comment(&text[line.clone()]).trim_end().len();
        for (close, open) in [(']', '['), ('}', '{')] {
            let opened = text[..end].rfind(&format!("= {open}")).map(|at| at + 2);
            candidates.extend(opened.map(|at| Forgotten { at: end, what: close, opened: at..at + 1 }));
        }
        for quote in ['"', '\''] {
            let content = &text[line.start..end];
            let Some(opened) = content.rfind(quote).map(|at| line.start + at) else { continue };
            let body = text[..end].trim_end_matches([',', ']', '}', ' ']).len();
            for at in [body, end] {
                if at > opened {
                    candidates.push(Forgotten { at, what: quote, opened: opened..opened + 1 });
                }
            }
        }
    }
    let best = candidates.into_iter().map(|one| (count(&one.mended(text)), one)).min_by_key(|(left, _)| *left);
    // A character that mends less than half of it is no explanation.
    best.filter(|(left, _)| left * 2 < was).map(|(_, one)| one)
}

/// A line up to a `#` outside of its quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    for (at, letter) in line.char_indices() {
        match (quote, letter) {
            (None, '#') => return &line[..at],
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), letter) if open == letter => quote = None,
            _ => {}
        }
    }
    line
}

fn convert_table(file: &Arc<SourceFile>, table: &DeTable<'_>) -> Value {
    let mut entries: Vec<(String, Span, Node)> = table
        .iter()
        .map(|(key, value)| (key.get_ref().to_string(), Span::new(file, key.span()), convert(file, value)))
        .collect();
    entries.sort_by_key(|(_, span, _)| span.start);
    Value::Table(entries)
}

fn convert(file: &Arc<SourceFile>, node: &Spanned<DeValue<'_>>) -> Node {
    let value = match node.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Float(f64::INFINITY),
        },
        DeValue::Float(number) => Value::Float(number.as_str().replace('_', "").parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(truth) => Value::Boolean(*truth),
        DeValue::Datetime(date) => Value::Date(date.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(|item| convert(file, item)).collect()),
        DeValue::Table(table) => convert_table(file, table),
    };
    Node { value, span: Span::new(file, node.span()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        let file = SourceFile::new("image.toml", "/image.toml", text);
        let (_, findings) = read(&file);
        findings
            .iter()
            .map(|one| {
                let at = one.span.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("{at} {} | {}", one.message, one.help.clone().unwrap_or_default())
            })
            .collect()
    }

    const HEAD: &str = "[image]\nname = \"a\"\n\n[packages]\n";
    const TAIL: &str = "\n[system]\nhostname = \"x\"\ntimezone = \"UTC\"\n\n[kernel]\npackage = \"linux\"\n";

    #[test]
    fn a_forgotten_bracket_or_quote_is_one_error_at_the_place_where_it_belongs() {
        let unclosed = "the recipe is not valid TOML: this";
        for (line, expected) in [
            (
                "install = [\n  \"a\", # one\n  \"b\" # two\n",
                vec![format!("image.toml:5:11 {unclosed} list is not closed | add `]` at the end of line 7")],
            ),
            (
                "install = [\"a\", \"b\"   # both\n\n# more\n# [x]\n",
                vec![format!("image.toml:5:11 {unclosed} list is not closed | add `]` at the end of line 5")],
            ),
            (
                "install = [\"a\", \"b]\n",
                vec![format!("image.toml:5:17 {unclosed} string is not closed | add `\"` at the end of line 5")],
            ),
            (
                "env = { A = \"1\"\n",
                vec![format!("image.toml:5:7 {unclosed} table is not closed | add `}}` at the end of line 5")],
            ),
        ] {
            assert_eq!(messages(&format!("{HEAD}{line}{TAIL}")), expected, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}=\"'#,.a-cäß\n ]{0,60}") {
            let file = SourceFile::new("image.toml", "/image.toml", text.as_str());
            let (_, findings) = read(&file);
            for span in findings.iter().filter_map(|finding| finding.span.as_ref()) {
                proptest::prop_assert!(span.start <= span.end && span.end <= text.len(), "{span:?}");
            }
        }
    }

    #[test]
    fn other_errors_stay_what_they_are() {
        let found = messages(&format!("{HEAD}install = [\"a\" \"b\"]\n[system\nhostname = 1 2\n"));
        assert!(found.len() > 1 && found.iter().all(|one| !one.contains("not closed")), "{found:#?}");
        let many: String = (0..9).map(|number| format!("k{number} = a b\n")).collect();
        let found = messages(&many);
        assert_eq!(found.len(), MOST_ERRORS);
        assert!(found[2].contains("more errors follow"), "{found:#?}");
        // An error beside a forgotten bracket is reported too, at its own place.
        let both = format!("{HEAD}install = [\"a\"\n{TAIL}[boot]\nx = nosuch\n");
        let found = messages(&both);
        assert!(found.len() == 2 && found[1].starts_with("image.toml:14:5"), "{found:#?}");
    }
}

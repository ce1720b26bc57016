//! The part of a file that a message shows: the lines around a place, long ones cut, nothing in them that a terminal obeys.

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

use super::masked::masked;
use base::source::Span;

/// Longest line that is shown whole, in bytes.
const LONG: usize = 500;
/// How much of a longer line is shown, in bytes, and how much of that before the place itself.
const WINDOW: usize = 160;
const BEFORE: usize = 60;
/// Most lines of a place that are shown; of a longer one, the first.
const MOST_LINES: usize = 40;

#[derive(Debug)]
pub(crate) struct Excerpt {
    name: String,
    text: String,
    /// Line of the file with which the text starts, from 0.
    first_line: usize,
    /// Column of the place in the file, in characters from 0.
    column: usize,
    /// Where the place starts in the text, in bytes.
    pub start: usize,
    pub length: usize,
}

impl Excerpt {
    pub(crate) fn of(span: &Span) -> Self {
        // The same length: a place stays where it is.
        let text = masked(&span.file.text);
        let whole = text.as_ref();
        let start = floor(whole, span.start);
        let mut end = ceil(whole, span.end).max(start);
        if whole[start..end].matches('\n').count() >= MOST_LINES {
            end = line_end(whole, start);
        }
        let own_line = line_start(whole, start);
        let from = line_start(whole, own_line.saturating_sub(1));
        // Two lines more than the place: miette takes what it wants of them.
        let to = (0..2).fold(line_end(whole, end), |end, _| line_end(whole, (end + 1).min(whole.len())));
        let mut excerpt = Self {
            name: super::harmless::one_line(&span.file.name),
            text: String::new(),
            first_line: whole[..from].matches('\n').count(),
            column: whole[own_line..start].chars().count(),
            start: 0,
            length: 0,
        };
        let (mut new_start, mut new_end) = (None, None);
        let mut line = from;
        loop {
            let line_end = line_end(whole, line);
            let anchor = [start, end].into_iter().find(|at| (line..=line_end).contains(at)).unwrap_or(line);
            let shown = line + whole[line..line_end].trim_end_matches('\r').len();
            let (left, right) = window(whole, line, shown, anchor);
            excerpt.text.push_str(if left > line { "…" } else { "" });
            for (at, character) in whole[left..right].char_indices().map(|(at, character)| (left + at, character)) {
                if at >= start {
                    new_start.get_or_insert(excerpt.text.len());
                }
                if at >= end {
                    new_end.get_or_insert(excerpt.text.len());
                }
                excerpt.text.push(harmless(character));
            }
            if start <= line_end {
                new_start.get_or_insert(excerpt.text.len());
            }
            if end <= line_end {
                new_end.get_or_insert(excerpt.text.len());
            }
            excerpt.text.push_str(if right < shown { "…" } else { "" });
            if line_end >= to {
                break;
            }
            excerpt.text.push('\n');
            line = line_end + 1;
        }
        excerpt.start = new_start.unwrap_or(excerpt.text.len());
        excerpt.length = new_end.unwrap_or(excerpt.text.len()).saturating_sub(excerpt.start);
        excerpt
    }
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let found = self.text.as_str().read_span(span, before, after)?;
        let column = if before == 0 { self.column } else { found.column() };
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            found.data(),
            *found.span(),
            self.first_line + found.line(),
            column,
            found.line_count(),
        )))
    }
}

/// What is shown of a line: all, or a window around a place in it.
fn window(whole: &str, line: usize, end: usize, anchor: usize) -> (usize, usize) {
    if end - line <= LONG {
        return (line, end);
    }
    let left = floor(whole, anchor.min(end).saturating_sub(BEFORE)).max(line);
    (left, floor(whole, left + WINDOW).min(end))
}

/// A character that a terminal shows and does not obey, as wide as one.
fn harmless(character: char) -> char {
    match character {
        '\t' => '\t',
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(character)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        other if super::harmless::is_obeyed(other) => '\u{fffd}',
        other => other,
    }
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn ceil(text: &str, at: usize) -> usize {
    (at.min(text.len())..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |newline| at + newline)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::output::render;
    use base::source::{Finding, SourceFile};

    fn shown(text: &str, start: usize, end: usize) -> String {
        let file = SourceFile::new("image.toml", "/image.toml", text);
        let span = Span { file, start, end };
        render::install(crate::ColorWhen::Auto);
        render::finding(&Finding::error("a::b", &span, "wrong"))
    }

    #[test]
    fn a_long_line_is_cut_around_the_place_and_keeps_its_line_and_column() {
        let text = format!("a = 1\nb = [{}\"!\"]\nc = 2\n", "\"é\", ".repeat(20_000));
        let at = text.find('!').unwrap();
        let shown = shown(&text, at, at + 1);
        assert!(shown.contains("[image.toml:2:100007]"), "{shown}");
        assert!(shown.contains(" 2 │ …") && shown.contains("c = 2") && shown.contains("a = 1"), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() < 200), "{shown}");
        let column = |of: char| shown.lines().find_map(|line| line.chars().position(|found| found == of));
        assert_eq!(column('!'), column('┬').or(column('▲')), "{shown}");
    }

    #[test]
    fn a_place_of_many_lines_is_cut_to_its_first() {
        let text = format!("a = [\n{}]\n", "  1,\n".repeat(1000));
        let shown = shown(&text, 4, text.len() - 1);
        assert!(shown.lines().count() < 12, "{shown}");
    }

    #[test]
    fn nothing_in_a_line_is_obeyed_by_the_terminal() {
        let shown = shown("a = \"\x1b[2J\u{9b}2J\rx\"\r\nb = 1\r\n", 4, 8);
        assert!(shown.contains("␛[2J\u{fffd}2J␍x\"\n"), "{shown}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn no_text_and_no_place_makes_it_panic(
            parts in prop::collection::vec((prop::sample::select(vec!["x", "\t", "é", "漢", "\u{301}", "\r", "\n", "\r\n", "\0", "\x1b", "👩\u{200d}🚀"]), prop_oneof![Just(1_usize), 0_usize..30, Just(499), Just(40_000)]), 0..8),
            start in 0.0..1.1_f64,
            length in prop_oneof![Just(0.0), 0.0..0.01_f64, 0.0..1.1_f64],
        ) {
            let text: String = parts.iter().map(|(part, count)| part.repeat(*count)).collect();
            let at = |share: f64| (share * text.len() as f64) as usize;
            let file = SourceFile::new("image.toml", "/image.toml", text.as_str());
            let span = Span { start: at(start), end: at(start + length), file };
            let excerpt = Excerpt::of(&span);
            prop_assert!(excerpt.text.lines().all(|line| line.len() <= 3 * LONG + 6));
            prop_assert!(excerpt.start + excerpt.length <= excerpt.text.len());
            let shown = shown(&text, at(start), at(start + length));
            let place = span.file.position(floor(&text, span.start));
            let named = format!("image.toml:{}:{}]", place.0, place.1);
            prop_assert!(shown.contains(&named), "{} is not in {}", named, shown);
        }
    }
}

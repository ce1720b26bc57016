//! What a KDL text must pass before the parser sees it.
//!
//! The parser (kdl 6.7) recurses with each block and needs time that doubles with each nested `/-` block
//! (kdl-org/kdl-rs#177). This lexer knows strings and comments and nothing else; it refuses what no recipe has.

use std::ops::Range;

/// Largest file, in bytes: a mebibyte takes the parser about a second.
pub(super) const MOST_BYTES: usize = 1 << 20;
/// Deepest nesting of blocks, and of block comments.
pub(super) const DEEPEST: usize = 64;
/// Most `/-` blocks inside one another.
pub(super) const MOST_SLASHDASHES: usize = 4;
/// Most `/-` in a file: the parser's time grows with the square of their number where they follow one another.
pub(super) const MOST_TAKEN_OUT: usize = 256;
/// Most `{`, wherever they stand: whatever the parser makes of a broken text, it cannot nest deeper than this.
const MOST_BRACES: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub range: Range<usize>,
    pub problem: String,
    pub help: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Remarks {
    pub comments: Vec<Range<usize>>,
    /// Where each `/-` is.
    pub slashdashes: Vec<usize>,
}

fn is_newline(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The end of a string that starts at `at`, after `hashes` signs `#`; none when it does not end.
fn string_end(text: &str, at: usize, hashes: usize) -> Option<usize> {
    let start = at + hashes;
    let quotes = if text[start..].starts_with("\"\"\"") { 3 } else { 1 };
    let close = format!("{}{}", "\"".repeat(quotes), "#".repeat(hashes));
    let mut at = start + quotes;
    loop {
        let rest = &text[at..];
        let next = rest.chars().next()?;
        if rest.starts_with(&close) {
            return Some(at + close.len());
        }
        at += next.len_utf8();
        if next == '\\' && hashes == 0 {
            // An escaped character; escaped white space may hold newlines.
            let blank = text[at..].len() - text[at..].trim_start_matches(|c: char| c.is_whitespace()).len();
            at += if blank > 0 { blank } else { text[at..].chars().next()?.len_utf8() };
        } else if quotes == 1 && is_newline(next) {
            return None;
        }
    }
}

/// The end of a block comment, which may hold others.
fn comment_end(text: &str, start: usize) -> Result<usize, Refusal> {
    let (mut at, mut depth) = (start + 2, 1);
    while depth > 0 {
        let rest = &text[at..];
        let Some(next) = rest.chars().next() else {
            return Err(Refusal {
                range: start..start + 2,
                problem: "this comment does not end".to_owned(),
                help: "close it with */",
            });
        };
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += next.len_utf8();
        }
        if depth > DEEPEST {
            return Err(too_deep(at));
        }
    }
    Ok(at)
}

fn too_deep(at: usize) -> Refusal {
    Refusal {
        range: at - 1..at,
        problem: format!("blocks are nested deeper than {DEEPEST}"),
        help: "a recipe needs four levels",
    }
}

/// Reads a text as far as is needed to know that parsing it takes little time and stack.
/// Errors: [`Refusal`]: it is too large, nested too deeply, or a string or comment in it does not end.
pub(crate) fn check(text: &str) -> Result<Remarks, Refusal> {
    if text.len() > MOST_BYTES {
        return Err(Refusal {
            range: 0..0,
            problem: format!("the file has {} bytes; the limit is {MOST_BYTES}", text.len()),
            help: "keep long lists in files of their own and name them in `lists`",
        });
    }
    if let Some((at, _)) = text.match_indices('{').nth(MOST_BRACES) {
        let problem = format!("the file has more than {MOST_BRACES} blocks");
        return Err(Refusal { range: at..at + 1, problem, help: "no recipe needs so many" });
    }
    let mut remarks = Remarks::default();
    let mut blocks: Vec<bool> = Vec::new();
    let mut dashed = false;
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        let rest = &text[at..];
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        if rest.starts_with("//") {
            let end = rest.find(is_newline).map_or(text.len(), |end| at + end);
            remarks.comments.push(at..end);
            at = end;
        } else if rest.starts_with("/*") {
            let end = comment_end(text, at)?;
            remarks.comments.push(at..end);
            at = end;
        } else if rest.starts_with("/-") {
            remarks.slashdashes.push(at);
            if remarks.slashdashes.len() > MOST_TAKEN_OUT {
                let problem = format!("the file comments out more than {MOST_TAKEN_OUT} parts with /-");
                return Err(Refusal { range: at..at + 2, problem, help: "write // before what is a comment" });
            }
            dashed = true;
            at += 2;
        } else if rest[hashes..].starts_with('"') {
            at = string_end(text, at, hashes).ok_or_else(|| Refusal {
                range: at..at + hashes + 1,
                problem: "this string does not end".to_owned(),
                help: "close it on its line; a string of several lines is written between \"\"\"",
            })?;
        } else {
            match next {
                '{' => {
                    blocks.push(dashed);
                    dashed = false;
                    if blocks.len() > DEEPEST {
                        return Err(too_deep(at + 1));
                    }
                    if blocks.iter().filter(|dashed| **dashed).count() > MOST_SLASHDASHES {
                        return Err(Refusal {
                            range: at..at + 1,
                            problem: format!("blocks commented out with /- are nested deeper than {MOST_SLASHDASHES}"),
                            help: "one /- comments out everything inside: remove the others",
                        });
                    }
                }
                '}' => {
                    blocks.pop();
                    dashed = false;
                }
                ';' => dashed = false,
                _ => {}
            }
            at += if hashes > 0 { hashes } else { next.len_utf8() };
        }
    }
    Ok(remarks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> String {
        check(text).unwrap_err().problem
    }

    #[test]
    fn what_takes_the_parser_too_long_or_too_deep_is_refused() {
        assert!(refused(&"a /-{".repeat(12)).contains("/-"));
        assert!(refused(&"/-a {\n".repeat(12)).contains("/-"));
        assert!(refused(&"/-\n\na b=1 {\n".repeat(5)).contains("/-"));
        assert!(refused(&"a {".repeat(65)).contains("deeper"));
        assert!(refused(&"{".repeat(5000)).contains("blocks"));
        assert!(refused(&"/- ".repeat(257)).contains("more than 256"));
        assert!(refused(&"/*".repeat(65)).contains("deeper"));
        assert!(refused(&"a\n".repeat(MOST_BYTES)).contains("bytes"));
        assert!(refused("a \"b\n").contains("string"));
        assert!(refused("a #\"b\"").contains("string"));
        assert!(refused("a \"\"\"\nb").contains("string"));
        assert!(refused("a /* b").contains("comment"));
    }

    #[test]
    fn what_stands_in_strings_and_comments_counts_for_nothing() {
        let deep = "{".repeat(100);
        for text in [
            format!("a \"{deep}\""),
            format!("a \"\\\"{deep}\""),
            format!("a #\"{deep}\" \"# \"x\""),
            format!("a \"\"\"\n{deep} \"\n\"\"\""),
            format!("// {deep}\na"),
            format!("/* /* */ {deep} */ a"),
            "a \"x\\\n   y\"".to_owned(),
        ] {
            check(&text).unwrap();
        }
        assert!(check(&format!("// a\u{2028}{deep}")).is_err());
        let remarks = check("a \"// b\" // c\n/* d */ /-e").unwrap();
        assert_eq!(remarks.comments, [9..13, 14..21]);
        assert_eq!(remarks.slashdashes, [22]);
    }

    /// Pieces that a fuzzer finds nothing worse with than with bytes.
    const PIECES: &[&str] = &[
        "a", "{", "}", "/-", "\"", "\"\"\"", "#", "#\"", "\"#", "\\", "\n", " ", ";", "=", "//", "/*", "*/", "(", ")",
        "1", "-", "+", ".", "#true", "\u{2028}", "a {", "a /-{", "/-a {", "é",
    ];

    fn soup() -> impl Strategy<Value = String> {
        proptest::collection::vec(proptest::sample::select(PIECES), 0..120).prop_map(|all| all.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn every_text_is_answered_and_what_passes_is_parsed_soon(text in soup()) {
            let begun = std::time::Instant::now();
            if check(&text).is_ok() {
                let _ = super::super::parse(&text);
            }
            prop_assert!(begun.elapsed().as_secs() < 10, "{text:?}");
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}") {
            let _ = check(&text);
        }

        #[test]
        fn what_the_parser_takes_is_nested_no_deeper_than_was_counted(text in soup()) {
            if let (Ok(_), Ok(document)) = (check(&text), super::super::parse(&text)) {
                fn depth(document: &kdl::KdlDocument) -> usize {
                    document.nodes().iter().filter_map(|node| node.children()).map(|inner| 1 + depth(inner)).max().unwrap_or(0)
                }
                prop_assert!(depth(&document) <= DEEPEST);
            }
        }
    }
}

//! Synclists, as an image takes them (reference, section 4).

use std::sync::Arc;

use super::expand_variables;
use crate::source::{Finding, SourceFile, Span};

/// What is done with the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clause {
    /// Copied.
    Copy,
    /// `APPEND:` added to the end of the destination.
    Append,
    /// `MERGE:` lines replaced and added by their first field.
    Merge,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncEntry {
    /// Paths on the build host, wildcards unexpanded.
    pub sources: Vec<String>,
    /// Absolute path in the image.
    pub destination: String,
    /// Whether the destination is a folder by its form: several sources, or a `/` at its end.
    pub folder: bool,
    /// What is done.
    pub clause: Clause,
    /// Where it stands.
    pub span: Span,
}

/// A script that nodes run after a sync; images do not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncScript {
    /// Path on the build host.
    pub path: String,
    /// Whether it runs each time (`EXECUTEALWAYS:`).
    pub always: bool,
    /// Where it stands.
    pub span: Span,
}

/// What a list means for an image.
#[derive(Debug, Clone, Default)]
pub struct SyncList {
    /// What is copied, in order.
    pub entries: Vec<SyncEntry>,
    /// Lines for some nodes only: (nodes, line), not applied.
    pub for_nodes: Vec<(String, SyncEntry)>,
    /// Scripts, not run.
    pub scripts: Vec<SyncScript>,
    /// What is to be said.
    pub findings: Vec<Finding>,
}

/// Files that `MERGE:` may change. Source: xdcp(1).
const MERGED_FILES: [&str; 4] = ["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Plain,
    Execute(bool),
    Append,
    Merge,
}

/// The clauses; the longer name first.
const CLAUSES: [(&str, Section); 4] = [
    ("EXECUTEALWAYS:", Section::Execute(true)),
    ("EXECUTE:", Section::Execute(false)),
    ("APPEND:", Section::Append),
    ("MERGE:", Section::Merge),
];

/// Reads one list; variables come from the image's environment.
pub fn parse_synclist(file: &Arc<SourceFile>, variable: &dyn Fn(&str) -> Option<String>) -> SyncList {
    let mut list = SyncList::default();
    let mut section = Section::Plain;
    let mut start = 0;
    let mut usable = false;
    for line in file.text.split_inclusive('\n') {
        let here = start;
        start += line.len();
        let line = line.trim_end();
        let text = line.trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        usable = true;
        let lead = line.len() - text.len();
        let span = Span::new(file, here + lead..here + line.len());
        section = match text {
            "EXECUTE:" => Section::Execute(false),
            "EXECUTEALWAYS:" => Section::Execute(true),
            "APPEND:" => Section::Append,
            "MERGE:" => Section::Merge,
            _ if CLAUSES.iter().any(|(word, _)| text.starts_with(word)) => {
                let (word, next) =
                    CLAUSES.iter().find(|(word, _)| text.starts_with(word)).copied().unwrap_or(CLAUSES[0]);
                list.findings.push(
                    Finding::error("synclist::text_after_clause", &span, format!("text follows `{word}`"))
                        .help("put the clause on a line of its own"),
                );
                next
            }
            _ => {
                read_line(text, &span, section, variable, &mut list);
                section
            }
        };
    }
    if !usable {
        let span = Span::new(file, 0..0);
        list.findings.push(
            Finding::warning("synclist::empty", &span, format!("`{}` has no line to apply", file.name))
                .help("remove it from the recipe"),
        );
    }
    list
}

fn read_line(
    text: &str,
    span: &Span,
    section: Section,
    variable: &dyn Fn(&str) -> Option<String>,
    list: &mut SyncList,
) {
    let error = |code, message: String, help: &str| Finding::error(code, span, message).help(help);
    if let Section::Execute(always) = section {
        if text.contains(" -> ") {
            list.findings.push(error(
                "synclist::copy_after_clause",
                "a copy line follows a clause".to_owned(),
                "put all copy lines before the first clause; xCAT takes this one as a script's name",
            ));
        } else {
            list.findings.push(
                Finding::note("synclist::not_run", span, format!("`{text}` is not run in an image"))
                    .help("scripts of EXECUTE: run on nodes only; use ‹[postinstall]› for the image"),
            );
            list.scripts.push(SyncScript { path: text.to_owned(), always, span: span.clone() });
        }
        return;
    }
    let Some((sources, destination)) = text.rsplit_once(" -> ") else {
        let (problem, help) = if text == "->" || text.starts_with("-> ") {
            (format!("`{text}` names no source"), "write `/source -> /destination`")
        } else if text.ends_with(" ->") {
            (format!("`{text}` names no destination"), "write `/source -> /destination`")
        } else if text.contains("->") {
            (format!("`{text}` has no ` -> `"), "put a space on each side of `->`")
        } else {
            (format!("`{text}` has no ` -> `"), "write `/source -> /destination`")
        };
        list.findings.push(error("synclist::no_arrow", problem, help));
        return;
    };
    let mut destination = destination.trim();
    if let Some((before, _)) = destination.split_once(" #") {
        list.findings.push(
            Finding::warning("synclist::trailing_comment", span, "a comment follows the destination")
                .label("xCAT makes it part of the file's name")
                .help("put comments on lines of their own"),
        );
        destination = before.trim();
    }
    let mut nodes = None;
    if let Some(rest) = destination.strip_prefix('(') {
        let Some((range, rest)) = rest.split_once(')') else {
            list.findings.push(error(
                "synclist::noderange",
                format!("`{destination}` has no closing `)`"),
                "write `(nodes) /destination`",
            ));
            return;
        };
        nodes = Some(range.trim().to_owned());
        destination = rest.trim();
    }
    let mut expand = |text: &str| match expand_variables(text, variable) {
        Ok(text) => Some(text),
        Err(name) => {
            list.findings.push(error(
                "synclist::variable",
                format!("the variable `{name}` is not set"),
                &format!("set it in the recipe: ‹[environment] {name} = \"...\"›"),
            ));
            None
        }
    };
    let (Some(sources), Some(destination)) = (expand(sources), expand(destination)) else { return };
    if destination.contains([' ', '\t', ';']) {
        list.findings.push(error(
            "synclist::destination",
            format!("the destination `{destination}` contains a space or `;`"),
            "xCAT deletes them; choose a name without them",
        ));
        return;
    }
    if !destination.starts_with('/') || destination.split('/').any(|part| part == "..") {
        list.findings.push(error(
            "synclist::destination",
            format!("the destination `{destination}` is not an absolute path of the image"),
            "start it with `/` and remove `..`",
        ));
        return;
    }
    let sources: Vec<String> = sources.split_whitespace().map(str::to_owned).collect();
    if sources.is_empty() {
        list.findings.push(error(
            "synclist::no_source",
            "the line names no source".to_owned(),
            "write `/source -> /destination`",
        ));
        return;
    }
    if let Some(source) = sources.iter().find(|source| *source == "->") {
        list.findings.push(error(
            "synclist::two_arrows",
            format!("the line has two `{source}`"),
            "write one source and destination per line",
        ));
        return;
    }
    if CLAUSES.iter().any(|(word, _)| text.contains(word)) {
        list.findings.push(
            Finding::warning("synclist::clause_in_path", span, "a path contains a clause keyword")
                .label("xCAT would start the clause here")
                .help("rename the file"),
        );
    }
    let clause = match section {
        Section::Append => Clause::Append,
        Section::Merge => Clause::Merge,
        _ => Clause::Copy,
    };
    if clause == Clause::Merge && !MERGED_FILES.contains(&destination.as_str()) {
        list.findings.push(error(
            "synclist::merge",
            format!("`{destination}` cannot be merged"),
            &format!("MERGE: knows {}", MERGED_FILES.join(", ")),
        ));
        return;
    }
    let several = sources.len() > 1 || sources.iter().any(|source| source.contains(['*', '?', '[']));
    if clause != Clause::Copy && (several || destination.ends_with('/')) {
        list.findings.push(error(
            "synclist::clause_shape",
            "APPEND: and MERGE: take one source and one file".to_owned(),
            "write one `/source -> /file` per line",
        ));
        return;
    }
    if clause != Clause::Copy && nodes.is_none() {
        let word = if clause == Clause::Append { "APPEND:" } else { "MERGE:" };
        list.findings.push(
            Finding::note("synclist::clause_applied", span, format!("{word} is applied to the image"))
                .help("xCAT applies it on nodes only"),
        );
    }
    let clash = list
        .entries
        .iter()
        .find(|known| known.destination == destination && (known.clause == Clause::Copy) != (clause == Clause::Copy));
    if let Some(known) = clash {
        let problem = format!("`{destination}` is both copied and added to (line {})", known.span.line());
        list.findings.push(error("synclist::copied_and_added", problem, "keep one of the lines"));
        return;
    }
    let folder = several || destination.ends_with('/');
    let entry = SyncEntry { sources, destination, folder, clause, span: span.clone() };
    match nodes {
        Some(nodes) => {
            list.findings.push(
                Finding::note(
                    "synclist::nodes",
                    span,
                    format!("the line is for the nodes `{nodes}` and is left out of the image"),
                )
                .help("let the nodes sync it"),
            );
            list.for_nodes.push((nodes, entry));
        }
        None => list.entries.push(entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Severity;

    fn read(text: &str) -> String {
        let file = SourceFile::new("list", "/D/list", text);
        let list = parse_synclist(&file, &|name| (name == "R").then(|| "/r".to_owned()));
        let mut out = Vec::new();
        for entry in &list.entries {
            let arrow = match entry.clause {
                Clause::Copy => "->",
                Clause::Append => "+>",
                Clause::Merge => "~>",
            };
            let folder = if entry.folder && !entry.destination.ends_with('/') { "/" } else { "" };
            out.push(format!("{} {arrow} {}{folder}", entry.sources.join(" "), entry.destination));
        }
        for script in &list.scripts {
            out.push(format!("script {}", script.path));
        }
        for finding in &list.findings {
            let mark = match finding.severity {
                Severity::Error => "E",
                Severity::Warning => "W",
                Severity::Note => "N",
            };
            out.push(format!("{mark}:{}", finding.code));
        }
        out.join(" ")
    }

    #[test]
    fn vectors_of_synclists() {
        for (id, text, expected) in [
            ("S1", "/s/hosts -> /etc/hosts\n", "/s/hosts -> /etc/hosts"),
            ("S2", "/s/hosts -> /etc\n", "/s/hosts -> /etc"),
            ("S3", "/s/hosts -> /etc/\n", "/s/hosts -> /etc/"),
            ("S4", "/s/a /s/b -> /new\n", "/s/a /s/b -> /new/"),
            ("S5", "/s/* -> /opt/conf/\n", "/s/* -> /opt/conf/"),
            ("S6", "/s/a->/etc/a\n", "E:synclist::no_arrow"),
            ("S7", "/s/a -> (cn1,cn2) /etc/a\n", "N:synclist::nodes"),
            ("S8", "/s/a -> /etc/my file\n", "E:synclist::destination"),
            ("S9", "/s/a -> /etc/a # x\n", "/s/a -> /etc/a W:synclist::trailing_comment"),
            ("S10", "  # text\n/s/a -> /a\n", "/s/a -> /a"),
            (
                "S11",
                "EXECUTE:\n/s/a.post\n/s/c -> /etc/c\n",
                "script /s/a.post N:synclist::not_run E:synclist::copy_after_clause",
            ),
            ("S12", "APPEND:\n/s/x -> /etc/setup\n", "/s/x +> /etc/setup N:synclist::clause_applied"),
            ("S13", "MERGE:\n/s/pw -> /etc/passwd\n", "/s/pw ~> /etc/passwd N:synclist::clause_applied"),
            ("S14", "MERGE:\n/s/x -> /etc/hosts\n", "E:synclist::merge"),
            ("S15", "${R}/s/a -> /etc/a\n", "/r/s/a -> /etc/a"),
            ("S16", "$RX/a -> /b\n", "E:synclist::variable"),
            ("S19", "# nothing\n", "W:synclist::empty"),
            ("-", "/s/a -> ../etc/a\n", "E:synclist::destination"),
            ("-", "/s/a -> /etc/../../a\n", "E:synclist::destination"),
            ("-", "MERGE: /x -> /etc/passwd\n", "E:synclist::text_after_clause"),
            ("-", "APPEND:\n/p /q -> /etc/x\n", "E:synclist::clause_shape"),
            (
                "-",
                "/a -> /etc/x\nAPPEND:\n/b -> /etc/x\n",
                "/a -> /etc/x N:synclist::clause_applied E:synclist::copied_and_added",
            ),
            ("-", "/a -> /b -> /c\n", "E:synclist::two_arrows"),
            ("-", "-> /b\n", "E:synclist::no_arrow"),
            ("-", "APPEND:\n/a -> (n1) /b\n", "N:synclist::nodes"),
        ] {
            assert_eq!(read(text), expected, "{id}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[a/ >$#:(){}\\n-]{0,60}|\\PC{0,60}") {
            let _ = read(&text);
        }
    }
}

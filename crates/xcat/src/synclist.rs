//! Synclists, as an image takes them (reference, section 4).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::expand_variables;
use base::source::{Finding, SourceFile, Span};

/// What is done with the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clause {
    Copy,
    /// `APPEND:` added to the end of the destination.
    Append,
    /// `MERGE:` lines replaced and added by their first field.
    Merge,
}

impl Clause {
    /// Its name in keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Append => "append",
            Self::Merge => "merge",
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncEntry {
    /// Paths on the build host, wildcards unexpanded.
    pub sources: Vec<String>,
    pub destination: String,
    /// Whether the destination is a folder by its form: several sources, or a `/` at its end.
    pub folder: bool,
    pub clause: Clause,
    pub span: Span,
}

/// A script that nodes run after a sync; images do not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncScript {
    pub path: String,
    /// Whether it runs each time (`EXECUTEALWAYS:`).
    pub always: bool,
    pub span: Span,
}

#[derive(Debug, Clone, Default)]
pub struct SyncList {
    /// What is copied, in order.
    pub entries: Vec<SyncEntry>,
    /// Lines for some nodes only: (nodes, line), not applied.
    pub for_nodes: Vec<(String, SyncEntry)>,
    pub scripts: Vec<SyncScript>,
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

/// Reads one line into the list, with what there is to say about it.
fn read_line(
    text: &str,
    span: &Span,
    section: Section,
    variable: &dyn Fn(&str) -> Option<String>,
    list: &mut SyncList,
) {
    if let Section::Execute(always) = section {
        return script_line(text, span, always, list);
    }
    let Some(line) = copy_line(text, span, variable, list) else { return };
    let nodes = line.nodes.clone();
    let Some(entry) = entry(line, span, section, list) else { return };
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

/// A line of EXECUTE: or EXECUTEALWAYS:, which names a script.
fn script_line(text: &str, span: &Span, always: bool, list: &mut SyncList) {
    if text.contains(" -> ") {
        let message = "a copy line follows a clause";
        list.findings.push(
            Finding::error("synclist::copy_after_clause", span, message)
                .help("put all copy lines before the first clause; xCAT takes this one as a script's name"),
        );
        return;
    }
    list.findings.push(
        Finding::note("synclist::not_run", span, format!("`{text}` is not run in an image"))
            .help("scripts of EXECUTE: run on nodes only; use ‹[postinstall]› for the image"),
    );
    list.scripts.push(SyncScript { path: text.to_owned(), always, span: span.clone() });
}

/// A line with an arrow: `sources -> (nodes) destination`, variables expanded.
struct CopyLine {
    sources: Vec<String>,
    destination: String,
    nodes: Option<String>,
}

/// Reads a line with an arrow; what is wrong with it goes to the list's findings.
fn copy_line(
    text: &str,
    span: &Span,
    variable: &dyn Fn(&str) -> Option<String>,
    list: &mut SyncList,
) -> Option<CopyLine> {
    let findings = &mut list.findings;
    let mut refuse = |code, message: String, help: &str| findings.push(Finding::error(code, span, message).help(help));
    let Some((sources, destination)) = text.rsplit_once(" -> ") else {
        let (problem, help) = without_arrow(text);
        refuse("synclist::no_arrow", problem, help);
        return None;
    };
    let mut destination = destination.trim();
    let comment = destination.split_once(" #");
    if let Some((before, _)) = comment {
        destination = before.trim();
    }
    let mut nodes = None;
    let (mut is_closed, mut is_apart) = (true, true);
    if let Some(rest) = destination.strip_prefix('(') {
        match closing(rest) {
            Some((range, rest)) => {
                nodes = Some(range.trim().to_owned());
                is_apart = rest.is_empty() || rest.starts_with([' ', '\t']);
                destination = rest.trim();
            }
            None => is_closed = false,
        }
    }
    if comment.is_some() {
        findings.push(
            Finding::warning("synclist::trailing_comment", span, "a comment follows the destination")
                .label("xCAT makes it part of the file's name")
                .help("put comments on lines of their own"),
        );
    }
    let mut refuse = |code, message: String, help: &str| findings.push(Finding::error(code, span, message).help(help));
    if !is_closed {
        let problem = format!("`{destination}` has no closing `)`");
        refuse("synclist::noderange", problem, "write `(nodes) /destination`");
        return None;
    }
    if !is_apart {
        let problem = "there is no space after `)`".to_owned();
        refuse("synclist::noderange", problem, "write `(nodes) /destination`; xCAT copies this one to all nodes");
        return None;
    }
    let mut expand = |text: &str| match expand_variables(text, variable) {
        Ok(text) => Some(text),
        Err(name) => {
            let help = format!("set it in the recipe: ‹[environment] {name} = \"...\"›");
            refuse("synclist::variable", format!("the variable `{name}` is not set"), &help);
            None
        }
    };
    let (Some(sources), Some(destination)) = (expand(sources), expand(destination)) else { return None };
    let sources: Vec<String> = sources.split_whitespace().map(str::to_owned).collect();
    let problem = destination_problem(&destination).or_else(|| source_problem(&sources));
    if let Some((code, problem, help)) = problem {
        refuse(code, problem, help);
        return None;
    }
    if CLAUSES.iter().any(|(word, _)| text.contains(word)) {
        findings.push(
            Finding::warning("synclist::clause_in_path", span, "a path contains a clause keyword")
                .label("xCAT would start the clause here")
                .help("rename the file"),
        );
    }
    Some(CopyLine { sources, destination, nodes })
}

/// Splits at the parenthesis that closes the one before the text: ranges have such of their own.
fn closing(text: &str) -> Option<(&str, &str)> {
    let mut open = 1_usize;
    let at = text.find(|letter: char| {
        match letter {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        open == 0
    })?;
    Some((&text[..at], &text[at + 1..]))
}

/// What is wrong with a line that has no arrow between two sides, and what to write.
fn without_arrow(text: &str) -> (String, &'static str) {
    if text == "->" || text.starts_with("-> ") {
        (format!("`{text}` names no source"), "write `/source -> /destination`")
    } else if text.ends_with(" ->") {
        (format!("`{text}` names no destination"), "write `/source -> /destination`")
    } else if text.contains("->") {
        (format!("`{text}` has no ` -> `"), "put a space on each side of `->`")
    } else {
        (format!("`{text}` has no ` -> `"), "write `/source -> /destination`")
    }
}

type Problem = (&'static str, String, &'static str);

fn destination_problem(destination: &str) -> Option<Problem> {
    if destination.contains([' ', '\t', ';']) {
        let problem = format!("the destination `{destination}` contains a space or `;`");
        return Some(("synclist::destination", problem, "xCAT deletes them; choose a name without them"));
    }
    let is_path = destination.starts_with('/')
        && (fault::planted("synclist-leads-out") || !destination.split('/').any(|part| part == ".."));
    let problem = format!("the destination `{destination}` is not an absolute path of the image");
    (!is_path).then_some(("synclist::destination", problem, "start it with `/` and remove `..`"))
}

fn source_problem(sources: &[String]) -> Option<Problem> {
    if sources.is_empty() {
        let problem = "the line names no source".to_owned();
        return Some(("synclist::no_source", problem, "write `/source -> /destination`"));
    }
    let source = sources.iter().find(|source| *source == "->")?;
    let problem = format!("the line has two `{source}`");
    Some(("synclist::two_arrows", problem, "write one source and destination per line"))
}

/// The entry of a line under its clause; none if the clause or an earlier line forbids it.
fn entry(line: CopyLine, span: &Span, section: Section, list: &mut SyncList) -> Option<SyncEntry> {
    let CopyLine { sources, destination, nodes } = line;
    let mut refuse =
        |code, message: String, help: &str| list.findings.push(Finding::error(code, span, message).help(help));
    let clause = match section {
        Section::Append => Clause::Append,
        Section::Merge => Clause::Merge,
        _ => Clause::Copy,
    };
    if clause == Clause::Merge && !MERGED_FILES.contains(&destination.as_str()) {
        let help = format!("MERGE: supports {}", MERGED_FILES.join(", "));
        refuse("synclist::merge", format!("`{destination}` cannot be merged"), &help);
        return None;
    }
    let several = sources.len() > 1 || sources.iter().any(|source| source.contains(['*', '?', '[']));
    if clause != Clause::Copy && (several || destination.ends_with('/')) {
        let problem = "APPEND: and MERGE: take one source and one file".to_owned();
        refuse("synclist::clause_shape", problem, "write one `/source -> /file` per line");
        return None;
    }
    if clause != Clause::Copy && nodes.is_none() {
        let word = if clause == Clause::Append { "APPEND:" } else { "MERGE:" };
        list.findings.push(
            Finding::note("synclist::clause_applied", span, format!("{word} is applied to the image"))
                .help("xCAT applies it on nodes only"),
        );
    }
    let is_copied = |clause| clause == Clause::Copy;
    let mut known = list.entries.iter();
    let clash = known.find(|known| known.destination == destination && is_copied(known.clause) != is_copied(clause));
    if let Some(known) = clash {
        let problem = format!("`{destination}` is both copied and added to (line {})", known.span.line());
        let finding = Finding::error("synclist::copied_and_added", span, problem).help("keep one of the lines");
        list.findings.push(finding);
        return None;
    }
    let folder = several || destination.ends_with('/');
    Some(SyncEntry { sources, destination, folder, clause, span: span.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::source::Severity;

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
            ("-", "/a -> (n1)/b\n", "E:synclist::noderange"),
            ("-", "/a -> (all,-(n1,n2)) /b\n", "N:synclist::nodes"),
            ("-", "/a -> ((n1) /b\n", "E:synclist::noderange"),
            ("-", "/a -> (n1)) /b\n", "E:synclist::noderange"),
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

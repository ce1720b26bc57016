//! An xCAT site's definitions, from whatever holds them: stanza files, tables, databases, the tree of a management node.

mod database;
mod join;
mod places;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::source::{Finding, Severity, SourceFile};
use xcat::definitions::{Definition, Row, Table, parse_stanzas, parse_tables};

pub use places::Places;

/// Where xCAT's own files lie on a management node.
pub fn share() -> &'static str {
    places::SHARE
}

/// Largest file of definitions that is read, in bytes.
const TEXT_LIMIT: u64 = 64 << 20;

/// Files of a directory that are looked into; no site has more tables.
const FILES_LIMIT: usize = 10_000;

#[derive(Debug, Clone, Default)]
pub struct Site {
    pub osimages: BTreeMap<String, Definition>,
    /// Objects of other kinds, which are not imported: how many of each.
    pub passed_over: BTreeMap<String, usize>,
    /// Rows of `litefile`, `litetree` and `statelite`, by table.
    pub statelite: BTreeMap<&'static str, Vec<Row>>,
    /// Whether these are all osimages of the site: its tables were read.
    pub is_whole: bool,
    /// Whether the table linuximage was not given, which has half of what osimages say.
    pub lacks_linuximage: bool,
    /// Rows of `postscripts`: which scripts nodes run.
    pub postscripts: Vec<Row>,
    /// Where paths of the management node are found here.
    pub places: Places,
    pub findings: Vec<Finding>,
}

impl Site {
    /// The scripts that a node runs at boot, and those that it runs after it: those for all nodes first, each once (section 5.2).
    /// None for a node that has no row.
    pub fn postscripts_of(&self, node: &str) -> Option<(String, String)> {
        let row = |name: &str| self.postscripts.iter().find(|row| row.get("node") == Some(name));
        let own = row(node)?;
        let joined = |column: &str| {
            let mut names: Vec<&str> = Vec::new();
            for row in [row("xcatdefaults"), Some(own)].into_iter().flatten() {
                for name in
                    row.get(column).unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty())
                {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
            }
            names.join(",")
        };
        Some((joined("postscripts"), joined("postbootscripts")))
    }

    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// What is gathered while paths are read.
#[derive(Default)]
struct Gathered {
    stanzas: Vec<Definition>,
    tables: Vec<Table>,
    places: Places,
    findings: Vec<Finding>,
}

/// Reads the definitions that paths hold: files of stanzas, of CSV or of SQLite, directories of them, trees of management
/// nodes.
pub fn read(paths: &[PathBuf]) -> Site {
    let mut gathered = Gathered::default();
    for path in paths {
        gathered.path(path);
    }
    join::join(gathered)
}

fn unreadable(path: &Path, problem: impl std::fmt::Display) -> Finding {
    let message = format!("`{}` cannot be read: {problem}", path.display());
    Finding::nowhere(Severity::Error, "import::unreadable", message)
}

impl Gathered {
    fn path(&mut self, path: &Path) {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => {
                let help =
                    "pass a file written by `lsdef -t osimage -z` or `tabdump osimage`, or a directory of such files";
                self.findings.push(unreadable(path, error).help(help));
                return;
            }
        };
        if !metadata.is_dir() {
            self.file(path, true);
            return;
        }
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        self.places.tree(&real);
        for folder in [real.clone(), real.join("etc/xcat")] {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            let mut files: Vec<PathBuf> =
                entries.flatten().map(|entry| entry.path()).filter(|one| one.is_file()).collect();
            files.sort();
            for file in files.iter().take(FILES_LIMIT) {
                self.file(file, false);
            }
        }
    }

    /// Reads one file; in a directory only what looks like definitions.
    fn file(&mut self, path: &Path, is_named: bool) {
        match database::is_database(path) {
            Ok(false) => {}
            Ok(true) => {
                match database::read(path) {
                    Ok(tables) => self.tables.extend(tables),
                    Err(problem) if is_named || path.extension().is_some_and(|one| one == "sqlite") => {
                        self.findings.push(unreadable(path, problem));
                    }
                    Err(_) => {}
                }
                return;
            }
            Err(error) if is_named => {
                self.findings.push(unreadable(path, error));
                return;
            }
            Err(_) => return,
        }
        let is_known =
            ["csv", "stanza", "def", "lsdef"].iter().any(|one| path.extension().is_some_and(|ending| ending == *one));
        let text = match text_of(path) {
            Ok(text) => text,
            Err(problem) => {
                if is_named || is_known {
                    self.findings.push(unreadable(path, problem));
                }
                return;
            }
        };
        if !is_named && !is_known && !looks_like_definitions(&text) {
            return;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = if is_named { path.display().to_string() } else { name };
        let file = SourceFile::new(name, path, text);
        self.text(&file);
    }

    fn text(&mut self, file: &Arc<SourceFile>) {
        match is_table(&file.text) {
            true => {
                let (tables, findings) = parse_tables(file);
                self.tables.extend(tables);
                self.findings.extend(findings);
            }
            false => {
                let (stanzas, findings) = parse_stanzas(file);
                self.stanzas.extend(stanzas);
                self.findings.extend(findings);
            }
        }
    }
}

/// The text of a file; line ends and a byte order mark as they came.
fn text_of(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > TEXT_LIMIT {
        return Err(format!("it is larger than {} MiB", TEXT_LIMIT >> 20));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8; save the file as UTF-8")
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Whether a text is a table: its first line that says something is `#column,column`, or a row in quotes.
fn is_table(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty());
    first.is_some_and(|line| match line.strip_prefix('#') {
        Some(header) => header.contains(',') && !header.starts_with([' ', '#']),
        None => line.starts_with('"'),
    })
}

fn looks_like_definitions(text: &str) -> bool {
    is_table(text) && text.trim_start().starts_with('#')
        || text.lines().any(|line| line.trim_start().starts_with("objtype=") || line.starts_with("Object name:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_stanzas_are_told_apart() {
        assert!(is_table("#imagename,groups\n\"a\",\n") && is_table("\n\"a\",,\n"));
        assert!(!is_table("# <xCAT data object stanza file>\n\na:\n") && !is_table("a:\n  objtype=osimage\n"));
        assert!(!is_table("# my images, all of them\na:\n"));
    }
}

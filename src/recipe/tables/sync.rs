//! Synced files: the lines of synclists, expanded to the files that they name.

use std::path::{Path, PathBuf};

use crate::recipe::load::paths::{PathProblem, Paths, name_problem};
use crate::source::{Finding, Severity, Span};
use crate::witness;
use crate::xcat::{Clause, Loader as _, SyncEntry, SyncList, SyncScript, expand_variables, matches};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncedKind {
    File,
    Directory,
}

/// One file of the build host and its place in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncedFile {
    /// The file, links followed.
    pub source: PathBuf,
    pub name: String,
    pub destination: String,
    /// Name to use below the destination, if that turns out to be a folder in the image.
    pub name_in_folder: Option<String>,
    pub kind: SyncedKind,
    pub clause: Clause,
    pub span: Span,
}

/// The sync lists of a recipe as running nodes take them: with lines for some nodes, and with scripts. What they name is looked up
/// when someone asks for it, as builds need none of it.
#[derive(Debug, Clone)]
pub struct SyncedNodes {
    /// Lines in their order, each with the nodes that it is for, if it names some, and the folder where its paths start.
    lines: Vec<(Option<String>, SyncEntry, PathBuf)>,
    scripts: Vec<(SyncScript, PathBuf)>,
    paths: Paths,
}

#[derive(Debug, Clone)]
pub struct NodeFile {
    /// The nodes of its line, as xCAT's noderange or a node set; none for all.
    pub nodes: Option<String>,
    pub file: SyncedFile,
}

#[derive(Debug, Clone)]
pub struct NodeScript {
    /// The file, links followed.
    pub source: PathBuf,
    pub name: String,
    /// The file or folder after whose change it runs; none where it runs each time.
    pub after: Option<PathBuf>,
    pub span: Span,
}

type ForNodes = (Vec<NodeFile>, Vec<NodeScript>, Vec<Finding>);

impl SyncedNodes {
    /// Nothing yet.
    pub fn new(paths: &Paths) -> Self {
        Self { lines: Vec::new(), scripts: Vec::new(), paths: paths.clone() }
    }

    /// Adds what a list says; relative paths start in a folder.
    pub fn add(&mut self, list: &SyncList, start: &Path) {
        let mut lines: Vec<(Option<String>, SyncEntry, PathBuf)> =
            list.entries.iter().map(|entry| (None, entry.clone(), start.to_owned())).collect();
        let some = list.for_nodes.iter();
        lines.extend(some.map(|(nodes, entry)| (Some(nodes.clone()), entry.clone(), start.to_owned())));
        lines.sort_by_key(|(_, entry, _)| entry.span.start);
        self.lines.append(&mut lines);
        self.scripts.extend(list.scripts.iter().map(|script| (script.clone(), start.to_owned())));
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.scripts.is_empty()
    }

    /// Looks up all that the lists name.
    /// Errors: All that is wrong; else there may be warnings.
    pub fn read(&self) -> Result<ForNodes, Vec<Finding>> {
        let (mut files, mut scripts, mut findings) = (Vec::new(), Vec::new(), Vec::new());
        let mut paths = self.paths.clone();
        for (nodes, entry, start) in &self.lines {
            paths.start.clone_from(start);
            let found = expand(entry, &paths, &mut findings);
            files.extend(found.into_iter().map(|file| NodeFile { nodes: nodes.clone(), file }));
        }
        let copied: Vec<&Path> = files.iter().map(|one| one.file.source.as_path()).collect();
        for (script, start) in &self.scripts {
            scripts.extend(self.script(script, start, &copied, &mut findings));
        }
        match findings.iter().any(|finding| finding.severity == Severity::Error) {
            true => Err(findings),
            false => Ok((files, scripts, findings)),
        }
    }

    fn script(
        &self,
        script: &SyncScript,
        start: &Path,
        copied: &[&Path],
        findings: &mut Vec<Finding>,
    ) -> Option<NodeScript> {
        let mut refuse = |problem: String, help: &str| {
            findings.push(Finding::error("sync::script", &script.span, problem).help(help));
        };
        let path = match expand_variables(&script.path, &|name| self.paths.variable(name)) {
            Ok(path) => path,
            Err(name) => {
                let help = format!("set it in the recipe: ‹[environment] {name} = \"...\"›");
                refuse(format!("the variable `{name}` is not set"), &help);
                return None;
            }
        };
        let source = match self.paths.resolve(&path, start) {
            Ok(source) if witness::is_file(&source) => source,
            Ok(_) => {
                refuse(format!("`{path}` is not a file, so nodes cannot run it"), "name a script");
                return None;
            }
            Err(PathProblem::Missing(path, problem)) => {
                refuse(
                    format!("`{}` cannot be run on nodes: {problem}", path.display()),
                    "create it, or remove the line",
                );
                return None;
            }
            Err(PathProblem::Outside(path, help)) => {
                refuse(format!("`{}` is outside the workspace", path.display()), &help);
                return None;
            }
        };
        let name = self.paths.name(&source);
        if script.always {
            return Some(NodeScript { source, name, after: None, span: script.span.clone() });
        }
        let after = path.strip_suffix(".post").and_then(|file| self.paths.resolve(file, start).ok());
        let Some(after) = after.filter(|after| copied.iter().any(|source| source.starts_with(after))) else {
            let (problem, help) = match path.strip_suffix(".post") {
                Some(file) => (
                    format!("`{path}` never runs: no line copies `{file}`"),
                    format!("add `{file} -> /destination` before the clause, or use EXECUTEALWAYS:"),
                ),
                None => (
                    format!("`{path}` never runs: its name does not end in `.post`"),
                    "call it FILE.post, where FILE is the source after whose change it runs; or use EXECUTEALWAYS:"
                        .to_owned(),
                ),
            };
            findings.push(Finding::warning("sync::never_runs", &script.span, problem).help(help));
            return None;
        };
        Some(NodeScript { source, name, after: Some(after), span: script.span.clone() })
    }
}

/// Expands a line; problems are added to `findings`.
pub fn expand(entry: &SyncEntry, paths: &Paths, findings: &mut Vec<Finding>) -> Vec<SyncedFile> {
    let mut files = Vec::new();
    for source in &entry.sources {
        let mut odd = Vec::new();
        let found = wildcards(source, paths, &mut odd);
        findings.extend(odd.iter().map(|path| name_problem("sync::name", path, &entry.span)));
        if found.is_empty() && odd.is_empty() {
            findings.push(no_match(source, entry, paths));
        }
        for path in found {
            match paths.resolve(&path, &paths.start) {
                Ok(real) => one_source(&path, &real, entry, paths, &mut files, findings),
                Err(PathProblem::Missing(path, problem)) => findings.push(
                    Finding::error(
                        "sync::missing",
                        &entry.span,
                        format!("`{}` cannot be synced: {problem}", path.display()),
                    )
                    .help(
                        "create it, correct the path, or remove the line; paths are relative to the recipe's directory",
                    ),
                ),
                Err(PathProblem::Outside(path, help)) => findings.push(
                    Finding::error(
                        "sync::outside",
                        &entry.span,
                        format!("`{}` is outside the workspace", path.display()),
                    )
                    .help(help),
                ),
            }
        }
    }
    files
}

/// What is said of wildcards that match nothing; they do not look where the recipe may not read.
fn no_match(source: &str, entry: &SyncEntry, paths: &Paths) -> Finding {
    let before = source.split(['*', '?', '[']).next().unwrap_or_default();
    let folder = before.rsplit_once('/').map_or(".", |(folder, _)| if folder.is_empty() { "/" } else { folder });
    if let Err(PathProblem::Outside(path, help)) = paths.folder(folder, &paths.start) {
        let message = format!("`{}` is outside the workspace, so `{source}` is not looked up", path.display());
        return Finding::error("sync::outside", &entry.span, message).help(help.replace("\"]", "/**\"]"));
    }
    Finding::error("sync::missing", &entry.span, format!("`{source}` matches no file"))
        .help("create it, correct the path, or remove the line; paths are relative to the recipe's directory")
}

fn one_source(
    given: &str,
    real: &Path,
    entry: &SyncEntry,
    paths: &Paths,
    files: &mut Vec<SyncedFile>,
    findings: &mut Vec<Finding>,
) {
    let base = Path::new(given).file_name().and_then(|name| name.to_str()).unwrap_or(given).to_owned();
    let destination = entry.destination.trim_end_matches('/');
    let place = if entry.folder { format!("{destination}/{base}") } else { destination.to_owned() };
    let make = |source: &Path, destination: String, kind| SyncedFile {
        source: source.to_owned(),
        name: paths.name(source),
        destination,
        name_in_folder: (!entry.folder && kind == SyncedKind::File).then(|| base.clone()),
        kind,
        clause: entry.clause,
        span: entry.span.clone(),
    };
    if witness::is_file(real) {
        files.push(make(real, place, SyncedKind::File));
        return;
    }
    if entry.clause != Clause::Copy {
        findings.push(
            Finding::error(
                "sync::folder",
                &entry.span,
                format!("`{given}` is a folder and cannot be appended or merged"),
            )
            .help("name a file"),
        );
        return;
    }
    for found in witness::walk().following().through(real) {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                findings.push(
                    Finding::error("sync::unreadable", &entry.span, format!("`{given}` cannot be read: {error}"))
                        .help("correct its permissions, or the link"),
                );
                return;
            }
        };
        let Some(below) = found.path.strip_prefix(real).ok().and_then(Path::to_str) else {
            findings.push(name_problem("sync::name", &found.path, &entry.span));
            continue;
        };
        let to = if below.is_empty() { place.clone() } else { format!("{place}/{below}") };
        let kind = match found.kind {
            witness::Kind::Directory => Some(SyncedKind::Directory),
            witness::Kind::File => Some(SyncedKind::File),
            _ => None,
        };
        if let Some(kind) = kind {
            let mut file = make(&found.path, to, kind);
            file.name_in_folder = None;
            files.push(file);
        }
    }
}

/// Expands shell wildcards part by part, sorted; a leading dot must be matched by a dot. `odd`
/// takes what matches and has a name that is not UTF-8.
fn wildcards(pattern: &str, paths: &Paths, odd: &mut Vec<PathBuf>) -> Vec<String> {
    if !pattern.contains(['*', '?', '[']) {
        return vec![pattern.to_owned()];
    }
    let mut found = vec![String::new()];
    for (index, part) in pattern.split('/').enumerate() {
        let mut next = Vec::new();
        for prefix in &found {
            let join = |name: &str| match index {
                0 => name.to_owned(),
                _ => format!("{prefix}/{name}"),
            };
            if !part.contains(['*', '?', '[']) {
                next.push(join(part));
                continue;
            }
            let folder = if index == 0 {
                ".".to_owned()
            } else if prefix.is_empty() {
                "/".to_owned()
            } else {
                prefix.clone()
            };
            // Only where the recipe may read; the wildcard must not tell what lies elsewhere.
            let Ok(folder) = paths.folder(&folder, &paths.start) else { continue };
            let Ok(entries) = witness::list(&folder) else { continue };
            let mut names: Vec<String> = entries
                .into_iter()
                .filter_map(|(name, _)| match name.into_string() {
                    Ok(name) => Some(name),
                    Err(name) => {
                        let path = folder.join(&name);
                        if matches(part, &name.to_string_lossy()) && !name.as_encoded_bytes().starts_with(b".") {
                            odd.push(path);
                        }
                        None
                    }
                })
                .filter(|name| matches(part, name) && (!name.starts_with('.') || part.starts_with('.')))
                .collect();
            names.sort();
            next.extend(names.iter().map(|name| join(name)));
        }
        found = next;
    }
    found.retain(|path| witness::exists(&paths.mapped(path, &paths.start)));
    found
}

//! Synced files: the lines of synclists, and what they name.

mod expand;
pub(crate) mod owner;

use std::path::{Path, PathBuf};

use crate::load::paths::{PathProblem, Paths};
use crate::owners::{Owned, Said};
use base::source::{Finding, Severity, Span};
use xcat::{Clause, Loader as _, SyncEntry, SyncList, SyncScript, expand_variables};

pub(crate) use expand::expand;

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
    /// What it has by the rule of owners and modes.
    pub owned: Owned,
    /// What the recipe says of it.
    pub said: Option<Said>,
    pub clause: Clause,
    pub span: Span,
}

impl SyncedFile {
    /// Permission bits.
    pub fn mode(&self) -> u32 {
        self.said.as_ref().and_then(|said| said.mode).unwrap_or(self.owned.mode)
    }

    /// Where it may go: where its line says, and below that, if that is a folder in the image.
    pub fn destinations(&self) -> Vec<String> {
        places(&self.destination, self.name_in_folder.as_deref())
    }
}

fn places(destination: &str, name: Option<&str>) -> Vec<String> {
    let below = name.map(|name| format!("{}/{name}", destination.trim_end_matches('/')));
    std::iter::once(destination.to_owned()).chain(below).collect()
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

    /// Whether a line for some nodes may bring a path.
    fn brings(&self, path: &str) -> bool {
        let of_some = self.lines.iter().filter(|(nodes, ..)| nodes.is_some());
        of_some.map(|(_, entry, _)| Path::new(&entry.destination)).any(|folder| Path::new(path).starts_with(folder))
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
            Err(PathProblem::Unfetched(path, problem, help)) => {
                refuse(format!("`{}` has no content: {problem}", path.display()), &help);
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

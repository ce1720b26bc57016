//! Synced files: the lines of synclists, expanded to the files that they name.

use std::path::{Path, PathBuf};

use crate::recipe::load::paths::{PathProblem, Paths, name_problem};
use crate::source::{Finding, Span};
use crate::witness;
use crate::xcat::{Clause, SyncEntry, matches};

/// What is made in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncedKind {
    /// A copy of a regular file.
    File,
    Directory,
}

/// One file of the build host and its place in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncedFile {
    /// The file, links followed.
    pub source: PathBuf,
    /// How messages and keys call it.
    pub name: String,
    /// Absolute path in the image.
    pub destination: String,
    /// Name to use below the destination, if that turns out to be a folder in the image.
    pub name_in_folder: Option<String>,
    /// What is made.
    pub kind: SyncedKind,
    /// What is done with it.
    pub clause: Clause,
    /// The line that asks for it.
    pub span: Span,
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

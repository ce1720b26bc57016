//! The files that a line of a synclist names.

use std::path::{Path, PathBuf};

use super::{SyncedFile, SyncedKind, places};
use crate::load::paths::{PathProblem, Paths, name_problem, unfetched};
use crate::owners::{Owned, checkout, private};
use base::source::Finding;
use xcat::{Clause, SyncEntry, matches};

/// Expands a line; problems are added to `findings`.
pub(crate) fn expand(entry: &SyncEntry, paths: &Paths, findings: &mut Vec<Finding>) -> Vec<SyncedFile> {
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
                Err(PathProblem::Unfetched(path, problem, help)) => {
                    findings.push(unfetched(&paths.name(&path), &entry.span, &problem, help));
                }
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
    if let Some((problem, help)) = checkout::without_content(&paths.mapped(folder, &paths.start)) {
        return unfetched(folder, &entry.span, &problem, help);
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
    if let Some(problem) = witness::not_a_file(real).filter(|_| !witness::is_dir(real)) {
        findings.push(special(&paths.name(real), problem, entry));
        return;
    }
    if witness::is_file(real) {
        let name_in_folder = (!entry.folder).then(|| base.clone());
        files.extend(synced(real, place, name_in_folder, SyncedKind::File, (entry, paths), findings));
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
                let annexed = match &error {
                    witness::WalkProblem::Io { path, .. } => checkout::without_content(path).map(|said| (path, said)),
                    witness::WalkProblem::Loop { .. } => None,
                };
                findings.push(match annexed {
                    Some((path, (problem, help))) => unfetched(&paths.name(path), &entry.span, &problem, help),
                    None => {
                        Finding::error("sync::unreadable", &entry.span, format!("`{given}` cannot be read: {error}"))
                            .help("correct its permissions, or the link")
                    }
                });
                return;
            }
        };
        let Some(below) = found.path.strip_prefix(real).ok().and_then(Path::to_str) else {
            findings.push(name_problem("sync::name", &found.path, &entry.span));
            continue;
        };
        if let Some((problem, help)) = checkout::without_content(&found.path) {
            findings.push(unfetched(&paths.name(&found.path), &entry.span, &problem, help));
            continue;
        }
        let to = if below.is_empty() { place.clone() } else { format!("{place}/{below}") };
        let kind = match found.kind {
            witness::Kind::Directory => SyncedKind::Directory,
            witness::Kind::File => SyncedKind::File,
            _ => {
                let problem = witness::not_a_file(&found.path).unwrap_or("is not a file");
                findings.push(special(&paths.name(&found.path), problem, entry));
                continue;
            }
        };
        files.extend(synced(&found.path, to, None, kind, (entry, paths), findings));
    }
}

/// What is said of something in a folder that cannot be copied.
fn special(name: &str, problem: &str, entry: &SyncEntry) -> Finding {
    Finding::error("sync::special", &entry.span, format!("`{name}` cannot be synced: it {problem}"))
        .help("remove it, or name the files next to it; tmpfiles.d(5) creates pipes and sockets on nodes")
}

/// One file or folder, with owner and mode.
fn synced(
    source: &Path,
    destination: String,
    name_in_folder: Option<String>,
    kind: SyncedKind,
    (entry, paths): (&SyncEntry, &Paths),
    findings: &mut Vec<Finding>,
) -> Option<SyncedFile> {
    let name = paths.name(source);
    let owned = match paths.owners.of(source) {
        Ok(owned) => owned,
        Err(error) => {
            let finding =
                Finding::error("sync::unreadable", &entry.span, format!("`{name}` cannot be synced: {error}"));
            findings.push(finding.help("correct its permissions"));
            return None;
        }
    };
    let destinations = places(&destination, name_in_folder.as_deref());
    let said = paths.owners.said(&destinations).cloned();
    let is_copied = entry.clause == Clause::Copy && said.as_ref().is_none_or(|said| said.mode.is_none());
    if is_copied && owned.is_tracked && !fault::planted("sync-mode-widened") {
        findings.extend(widened(source, &name, &owned, kind, &destinations, (entry, paths)));
    }
    let source = source.to_owned();
    let (clause, span) = (entry.clause, entry.span.clone());
    Some(SyncedFile { source, name, destination, name_in_folder, kind, owned, said, clause, span })
}

/// What is said where a file is to be more open in images than it may be, because git does not keep its mode.
fn widened(
    source: &Path,
    name: &str,
    owned: &Owned,
    kind: SyncedKind,
    destinations: &[String],
    (entry, paths): (&SyncEntry, &Paths),
) -> Option<Finding> {
    let private = destinations.iter().find_map(|place| Some((place, private::open(place, owned.mode)?)));
    let refuse = |place: &str, right: String, why: String| {
        Finding::error(
            "sync::mode",
            &entry.span,
            format!("`{name}` would have mode {:04o} in the image: {why}", owned.mode),
        )
        .label("copied here")
        .help(format!(
            "git keeps no modes but `executable`; say which one is meant: ‹[sync.owner] \"{place}\" = \"{right}\"›"
        ))
    };
    if let Some((place, (_, consequence))) = private.filter(|_| kind == SyncedKind::File) {
        return Some(refuse(place, private::right(place, owned.mode & 0o7666, paths.family), consequence.to_owned()));
    }
    let opened = paths.owners.opened(source, owned);
    let here = witness::mode(source).ok().filter(|_| opened != 0)? & 0o7777;
    let place = destinations.last()?;
    let why = format!("it is {here:04o} here, which no umask explains");
    let finding = refuse(place, format!("root:root {here:04o}"), why);
    let help = finding.help.clone().unwrap_or_default();
    let open = format!("; or open it as the others: chmod {:04o} {name}", owned.mode);
    Some(finding.help(format!("{help}{open}")))
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

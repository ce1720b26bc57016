//! Files of an image that no package brings: what they say that they are made of, and how many say nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use rayon::prelude::*;

use super::subjects::Audited;
use advisories::{Component, Database, Ecosystem, Kind, Order, Part, SourceFrom};
use base::source::counted_as;
use bill::Contents;
use recipe::{InputKind, Recipe, SyncedKind};

/// What was seen of such files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    /// Parts with versions.
    pub parts: Vec<Component>,
    /// Files without any that could be compared with something, sorted.
    pub silent: Vec<String>,
    /// Whether the files of a build could not be listed.
    pub is_unread: bool,
}

/// Files that a message names at most.
const NAMED: usize = 3;

/// Synced files, and inputs of the postinstall scripts, as they are now. A sync list's lines for some nodes are in no image.
pub(super) fn of_recipe(recipe: &Recipe) -> Files {
    let synced = recipe.sync.iter().filter(|one| one.kind == SyncedKind::File);
    let synced = synced.map(|one| (one.source.clone(), one.destination.clone()));
    let inputs = recipe.postinstall.iter().flat_map(|scripts| &scripts.inputs);
    let inputs = inputs.filter(|one| one.kind == InputKind::File).map(|one| (one.path.clone(), one.name.clone()));
    let all: Vec<(PathBuf, String)> = synced.chain(inputs).collect();
    let looked = all.into_par_iter().map(|(path, shown)| {
        // A pipe would be waited for.
        let file = path.metadata().ok().filter(|found| found.is_file()).and_then(|_| File::open(&path).ok());
        // METADATA and drivers are known by their names, which a destination need not have.
        let parts = file.map(|file| advisories::parts(&path.to_string_lossy(), file)).unwrap_or_default();
        (shown, parts)
    });
    of_parts(looked.collect())
}

/// Files of a packed image.
pub(super) fn of_contents(contents: Option<&Contents>) -> Files {
    match contents.and_then(|contents| contents.files.as_ref()) {
        Some(all) => of_parts(all.iter().map(|file| (format!("/{}", file.path), file.parts.clone())).collect()),
        None => Files { is_unread: true, ..Files::default() },
    }
}

fn of_parts(mut all: Vec<(String, Vec<Part>)>) -> Files {
    all.sort();
    all.dedup();
    let mut files = Files::default();
    for (path, parts) in all {
        let is_comparable =
            |part: &Part| part.ecosystem == Ecosystem::Distribution || Order::of_language(part.ecosystem).is_some();
        if !parts.iter().any(is_comparable) {
            files.silent.push(path.clone());
        }
        files.parts.extend(parts.into_iter().map(|part| component(&path, part)));
    }
    files
}

fn component(path: &str, part: Part) -> Component {
    let own = (part.name.clone(), part.version.clone());
    let source_from = match (&part.source, part.ecosystem) {
        (None, Ecosystem::Distribution) => SourceFrom::Name,
        _ => SourceFrom::Package,
    };
    Component {
        kind: if part.is_driver { Kind::Driver } else { Kind::File },
        ecosystem: part.ecosystem,
        file: path.to_owned(),
        pass: String::new(),
        name: part.name,
        version: part.version,
        arch: part.arch,
        source: part.source.unwrap_or(own),
        source_from,
    }
}

impl Files {
    /// What is wrong with files that could not be looked at; none where they were.
    pub(super) fn problem(&self, image: &str) -> Option<String> {
        self.is_unread.then(|| {
            format!(
                "files of `{image}` that no package provides were not looked at: its packed image cannot be read, or has no package database: `imgbuild verify` checks it, and an exclude list may leave the database out"
            )
        })
    }

    /// What is said of files that are compared with nothing, as nothing can be done about it; none where there are none.
    pub(super) fn note(&self, image: &str) -> Option<String> {
        let named: Vec<&str> = self.silent.iter().take(NAMED).map(String::as_str).collect();
        let more = if self.silent.len() > NAMED { ", .." } else { "" };
        (!named.is_empty()).then(|| {
            let verb = if self.silent.len() == 1 { "is" } else { "are" };
            let count = counted_as(self.silent.len(), "file", "files");
            format!(
                "{count} of `{image}` that no package provides {verb} compared with nothing ({}{more})",
                named.join(", ")
            )
        })
    }
}

/// What is said of languages whose packages are in an image's files, but in no file of advisories.
pub(super) fn without_advisories(one: &Audited, database: &Database) -> Option<String> {
    let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
    for component in &one.files.parts {
        let is_known = database.has_language(component.ecosystem);
        if let Some(name) = component.ecosystem.osv().filter(|_| Order::of_language(component.ecosystem).is_some())
            && !is_known
        {
            *missing.entry(name).or_default() += 1;
        }
    }
    let file =
        one.files.parts.iter().find(|part| part.ecosystem.osv().is_some_and(|name| missing.contains_key(name)))?;
    let all: Vec<String> = missing.iter().map(|(name, count)| format!("{count} of {name}")).collect();
    let names: Vec<String> = missing.keys().map(|name| format!("{name}/all.zip")).collect();
    Some(format!(
        "packages of languages in files of `{}` were compared with nothing: {}, in {}{}; download {} from OSV, and name each with --db, beside the other files",
        one.name(),
        all.join(", "),
        file.file,
        if one.files.parts.iter().all(|part| part.file == file.file) { "" } else { " and others" },
        names.join(" and ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(ecosystem: Ecosystem, name: &str) -> Part {
        Part {
            ecosystem,
            name: name.to_owned(),
            version: "1.0".to_owned(),
            arch: String::new(),
            source: None,
            is_driver: ecosystem == Ecosystem::Generic,
        }
    }

    #[test]
    fn what_is_compared_with_nothing_is_one_note() {
        let files = of_parts(vec![
            ("/etc/motd".to_owned(), Vec::new()),
            ("/opt/bin/tool".to_owned(), vec![part(Ecosystem::Go, "stdlib")]),
            ("/opt/a.jar".to_owned(), vec![part(Ecosystem::Maven, "a:b")]),
            ("/lib/modules/igb.ko".to_owned(), vec![part(Ecosystem::Generic, "igb")]),
            ("/opt/a.rpm".to_owned(), vec![part(Ecosystem::Distribution, "a")]),
            ("/srv/x".to_owned(), Vec::new()),
        ]);
        let kinds: Vec<(Kind, &str)> = files.parts.iter().map(|one| (one.kind, one.file.as_str())).collect();
        assert_eq!(
            kinds,
            [
                (Kind::Driver, "/lib/modules/igb.ko"),
                (Kind::File, "/opt/a.jar"),
                (Kind::File, "/opt/a.rpm"),
                (Kind::File, "/opt/bin/tool"),
            ]
        );
        let note = files.note("compute").unwrap();
        assert_eq!(
            note,
            "4 files of `compute` that no package provides are compared with nothing (/etc/motd, /lib/modules/igb.ko, /opt/a.jar, ..)"
        );
        assert_eq!(Files::default().note("compute"), None);
        assert!(of_contents(None).problem("compute").unwrap().contains("were not looked at"));
        assert_eq!(files.problem("compute"), None);
    }
}

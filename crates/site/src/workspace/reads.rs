//! What the lists of an osimage read besides themselves: included lists, files to synchronise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::definitions::Places;
use crate::osimage::{ListKind, Mapping, Value};
use recipe::plain;
use xcat::definitions::is_plain_path;
use xcat::expand_variables;

/// How deep lists include one another at most; lists that go deeper are refused when they are read.
const DEPTH: usize = 130;

/// Largest list that is read, in bytes.
const TEXT_LIMIT: u64 = 16 << 20;

/// Paths of the management node that a recipe reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads {
    /// Lists and scripts, included ones too: text that people edit.
    pub lists: BTreeSet<String>,
    /// Files and folders that synclists name.
    pub synced: BTreeSet<String>,
    /// Folders of packages and the like.
    pub named: BTreeSet<String>,
}

pub fn reads(mapping: &Mapping, places: &Places) -> Reads {
    let environment: BTreeMap<&str, &str> = mapping
        .fields
        .iter()
        .filter(|field| field.table == "environment")
        .filter_map(|field| match &field.value {
            Value::Text(text) => Some((field.key.as_str(), text.as_str())),
            _ => None,
        })
        .collect();
    let variable = |name: &str| environment.get(name).map(|value| (*value).to_owned());
    let mut reads = Reads { named: mapping.named.iter().cloned().collect(), ..Reads::default() };
    for list in &mapping.lists {
        match list.kind {
            ListKind::Script => drop(reads.lists.insert(list.path.clone())),
            ListKind::Folder | ListKind::Input => drop(reads.synced.insert(list.path.clone())),
            ListKind::Packages | ListKind::Excluded => include(&list.path, places, &variable, &mut reads, 0),
            ListKind::Synced => {
                reads.lists.insert(list.path.clone());
                let text = text_of(&places.here(&list.path)).unwrap_or_default();
                reads.synced.extend(sources(&text, &variable));
            }
        }
    }
    reads
}

/// The lists that others include, themselves not among them; paths of the management node.
pub fn included(lists: &[String], environment: &BTreeMap<String, String>, places: &Places) -> BTreeSet<String> {
    let variable = |name: &str| environment.get(name).cloned();
    let mut reads = Reads::default();
    for list in lists {
        include(list, places, &variable, &mut reads, 0);
    }
    reads.lists.retain(|path| !lists.contains(path));
    reads.lists
}

type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The text of a list; of what is no regular file, or too large to be one, none.
fn text_of(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > TEXT_LIMIT {
        return None;
    }
    Some(String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned())
}

/// Adds a list and those that it includes.
fn include(path: &str, places: &Places, variable: Variables<'_>, reads: &mut Reads, depth: usize) {
    if depth > DEPTH || !reads.lists.insert(path.to_owned()) {
        return;
    }
    let Some(text) = text_of(&places.here(path)) else { return };
    for (at, _) in text.match_indices("#INCLUDE:") {
        let Some((name, _)) = text[at + 9..].split_once('#') else { continue };
        let Ok(name) = expand_variables(name.trim(), variable) else { continue };
        if name.contains('\n') {
            continue;
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let target = if name.starts_with('/') { name } else { format!("{folder}/{name}") };
        let target = plain(Path::new(&target)).display().to_string();
        if is_plain_path(&target) && places.here(&target).is_file() {
            include(&target, places, variable, reads, depth + 1);
        }
    }
}

/// The sources of a synclist's lines; of those with wildcards the folder.
fn sources(text: &str, variable: Variables<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let words = line.rsplit_once(" -> ").map_or("", |(sources, _)| sources);
        for word in words.split_whitespace().filter(|word| word.contains('/')) {
            let Ok(word) = expand_variables(word, variable) else { continue };
            match word.find(['*', '?', '[']) {
                Some(at) => {
                    let folder = word[..at].rsplit_once('/').map_or("", |(folder, _)| folder);
                    if !folder.is_empty() {
                        found.push(folder.to_owned());
                    }
                }
                None => found.push(word.trim_end_matches('/').to_owned()),
            }
        }
    }
    found.retain(|path| is_plain_path(path));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_synclists() {
        let text = "# /no -> /x\n/s/hosts -> /etc/hosts\n/s/a /s/b/* -> /etc/\n$D/x -> /y\nMERGE:\n/s/pw -> /etc/passwd\n/ -> /z\n";
        let variable = |name: &str| (name == "D").then(|| "/d".to_owned());
        assert_eq!(sources(text, &variable), ["/s/hosts", "/s/a", "/s/b", "/d/x", "/s/pw"]);
    }
}

//! What each layer of a container image has: the recipe's layers, with what OCI's form asks for besides.
//!
//! Engines unpack each layer into a directory of its own and lay these over one another. So a layer has the directories above all that
//! it has, or they would get another mode; it has all names of a file that has several, because a link cannot lead out of a layer; and
//! each path once. Source: image-spec, "Image Layer Filesystem Changeset".

use std::collections::{BTreeMap, BTreeSet};

use store::{Entry, Kind, Manifest, Merged};

/// What the name of a file begins with that says that another is gone.
const GONE: &str = ".wh.";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Planned {
    /// A path of the recipe's layer of this number, counted from the lowest.
    Entry(usize, Entry),
    /// A path of a lower layer is gone.
    Gone,
}

/// The layers' entries by the paths that they have in their archives, and what is left out because the form cannot say it.
pub(crate) fn planned(
    manifests: impl IntoIterator<Item = Manifest>,
    excluded: &BTreeSet<String>,
) -> (Vec<BTreeMap<String, Planned>>, Vec<String>) {
    let mut tree = Merged::default();
    let mut all = Vec::new();
    let mut left_out = Vec::new();
    for (number, manifest) in manifests.into_iter().enumerate() {
        let mut layer = BTreeMap::new();
        let mut groups = BTreeSet::new();
        for (path, entry) in manifest.0 {
            if !is_excluded(&path, excluded) {
                if entry.kind == Kind::Whiteout {
                    if tree.0.contains_key(&path) {
                        layer.insert(gone(&path), Planned::Gone);
                    }
                } else if entry.kind == Kind::Socket || name(&path).starts_with(GONE) {
                    left_out.push(path.clone());
                } else {
                    groups.extend(entry.link_group.clone());
                    layer.insert(path.clone(), Planned::Entry(number, entry.clone()));
                }
            }
            tree.apply(path, entry, number);
        }
        if !groups.is_empty() {
            add_names(&mut layer, &groups, &tree, excluded);
        }
        add_parents(&mut layer, &tree);
        all.push(layer);
    }
    (all, left_out)
}

fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(parent, _)| parent)
}

/// Whether a path, or a directory above it, is left out. A path that is kept keeps those above it.
fn is_excluded(path: &str, excluded: &BTreeSet<String>) -> bool {
    let mut at = path;
    loop {
        if excluded.contains(at) {
            return true;
        }
        match at.rsplit_once('/') {
            Some((above, _)) => at = above,
            None => return false,
        }
    }
}

/// The path that says that one is gone.
fn gone(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((parent, name)) => format!("{parent}/{GONE}{name}"),
        None => format!("{GONE}{path}"),
    }
}

/// Adds the other names of files that have several.
fn add_names(
    layer: &mut BTreeMap<String, Planned>,
    groups: &BTreeSet<String>,
    tree: &Merged,
    excluded: &BTreeSet<String>,
) {
    for (path, found) in &tree.0 {
        let is_one = found.entry.link_group.as_ref().is_some_and(|group| groups.contains(group));
        if is_one && !layer.contains_key(path) && !is_excluded(path, excluded) && !name(path).starts_with(GONE) {
            layer.insert(path.clone(), Planned::Entry(found.layer, found.entry.clone()));
        }
    }
}

fn add_parents(layer: &mut BTreeMap<String, Planned>, tree: &Merged) {
    let mut missing = BTreeSet::new();
    for path in layer.keys() {
        let mut at = path.as_str();
        while at != "." {
            at = parent(at);
            if layer.contains_key(at) || !missing.insert(at.to_owned()) {
                break;
            }
        }
    }
    for path in missing {
        if let Some(found) = tree.0.get(&path) {
            layer.insert(path, Planned::Entry(found.layer, found.entry.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::digest::Digest;

    fn entry(kind: Kind) -> Entry {
        Entry { kind, mode: 0o755, ..Entry::whiteout() }
    }

    fn file(text: &str, group: Option<&str>) -> Entry {
        let kind = Kind::File { size: text.len() as u64, digest: Digest::of(text.as_bytes()) };
        Entry { link_group: group.map(str::to_owned), ..entry(kind) }
    }

    fn of(entries: &[(&str, Entry)]) -> Manifest {
        Manifest(entries.iter().map(|(path, entry)| ((*path).to_owned(), entry.clone())).collect())
    }

    fn shown(layer: &BTreeMap<String, Planned>) -> Vec<String> {
        let number = |planned: &Planned| match planned {
            Planned::Entry(layer, _) => layer.to_string(),
            Planned::Gone => "gone".to_owned(),
        };
        layer.iter().map(|(path, planned)| format!("{path} {}", number(planned))).collect()
    }

    #[test]
    fn a_layer_has_parents_whiteouts_and_all_names_of_a_file() {
        let directory = || entry(Kind::Directory);
        let first = of(&[
            (".", directory()),
            ("a", directory()),
            ("a/b", directory()),
            ("a/b/x", file("x", Some("a/b/x"))),
            ("a/b/y", file("x", Some("a/b/x"))),
            ("a/b/z", file("z", None)),
            ("d", directory()),
            ("d/doc", file("doc", None)),
            ("s", entry(Kind::Socket)),
        ]);
        let second = of(&[
            ("a/b/z", Entry::whiteout()),
            ("a/never", Entry::whiteout()),
            ("a/c", file("x", Some("a/b/x"))),
            ("d", Entry::whiteout()),
            ("a/.wh.own", file("", None)),
        ]);
        let third = of(&[("a/b/z", file("again", None))]);
        let (layers, left_out) = planned([first, second, third], &BTreeSet::new());
        assert_eq!(shown(&layers[0]), [". 0", "a 0", "a/b 0", "a/b/x 0", "a/b/y 0", "a/b/z 0", "d 0", "d/doc 0"]);
        assert_eq!(
            shown(&layers[1]),
            [". 0", ".wh.d gone", "a 0", "a/b 0", "a/b/.wh.z gone", "a/b/x 0", "a/b/y 0", "a/c 1"]
        );
        assert_eq!(shown(&layers[2]), [". 0", "a 0", "a/b 0", "a/b/z 2"]);
        assert_eq!(left_out, ["s", "a/.wh.own"]);
    }

    #[test]
    fn what_is_excluded_is_in_no_layer_and_neither_is_what_lay_below_it() {
        let directory = || entry(Kind::Directory);
        let first = of(&[(".", directory()), ("a", directory()), ("a/b", file("b", None)), ("k", file("k", None))]);
        let second = of(&[("a", file("now a file", None))]);
        let third = of(&[("a", Entry::whiteout())]);
        let excluded = ["a".to_owned()].into();
        let (layers, _) = planned([first, second, third], &excluded);
        assert_eq!(shown(&layers[0]), [". 0", "k 0"]);
        assert!(layers[1].is_empty() && layers[2].is_empty());
    }
}

//! Layers over one another, seen as one tree; and the layer between two trees.

use std::collections::BTreeMap;

use super::manifest::Place;
use crate::{Entry, Kind, Manifest};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedEntry {
    pub entry: Entry,
    /// Which layer it comes from, counted from the lowest.
    pub layer: usize,
}

/// A tree made of layers: entries by path, without whiteouts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Merged(pub BTreeMap<String, MergedEntry>);

/// All paths below `path`, itself left out.
fn below(path: &str) -> std::ops::Range<String> {
    if path == "." {
        return "\u{1}".to_owned().."\u{10ffff}".to_owned();
    }
    // `/` is followed by `0` in byte order.
    format!("{path}/")..format!("{path}0")
}

fn remove_below<V>(tree: &mut BTreeMap<String, V>, path: &str, itself: bool) {
    let gone: Vec<String> = tree.range(below(path)).map(|(name, _)| name.clone()).filter(|name| name != ".").collect();
    for name in gone {
        tree.remove(&name);
    }
    if itself {
        tree.remove(path);
    }
}

/// Paths of a tree made of layers, and whether each is a directory: where the rest is not needed it costs a fourth of the memory.
#[derive(Debug, Default)]
pub(crate) struct Paths(pub BTreeMap<String, bool>);

impl Paths {
    /// Lays one layer's entry over the tree.
    pub(crate) fn apply(&mut self, path: String, place: Place) {
        if place == Place::Gone {
            remove_below(&mut self.0, &path, true);
            return;
        }
        let is_directory = place == Place::Directory;
        match self.0.get_mut(&path) {
            Some(was) if *was && !is_directory => {
                remove_below(&mut self.0, &path, false);
                self.0.insert(path, false);
            }
            Some(was) => *was = is_directory,
            None => drop(self.0.insert(path, is_directory)),
        }
    }
}

impl Merged {
    /// The part of the tree that changes can reach: for each its path, and whether what lies below it is gone. Parents of what changes are
    /// among them. An edit changes a few paths of many thousands.
    pub fn part<'a>(&self, changes: impl IntoIterator<Item = (&'a str, bool)>) -> Self {
        let mut part = Self::default();
        for (path, is_gone_below) in changes {
            let own = |(path, entry): (&String, &MergedEntry)| (path.clone(), entry.clone());
            if is_gone_below {
                part.0.extend(self.0.range(below(path)).map(own));
            }
            part.0.extend(self.0.get_key_value(path).map(own));
        }
        part
    }

    /// Removes everything below a path, and the path itself where `itself` says so.
    pub fn remove_below(&mut self, path: &str, itself: bool) {
        remove_below(&mut self.0, path, itself);
    }

    /// Lays one layer's entry over the tree.
    pub fn apply(&mut self, path: String, entry: Entry, layer: usize) {
        if entry.kind == Kind::Whiteout {
            self.remove_below(&path, true);
            return;
        }
        let is_directory = entry.is_directory();
        let now = MergedEntry { entry, layer };
        // Nothing lies below what is no directory, and nothing below what was not there.
        match self.0.get_mut(&path) {
            Some(was) if was.entry.is_directory() && !is_directory => {
                self.remove_below(&path, false);
                self.0.insert(path, now);
            }
            Some(was) => *was = now,
            None => drop(self.0.insert(path, now)),
        }
    }
}

/// Lays layers over one another, lowest first.
pub fn merge(layers: impl IntoIterator<Item = Manifest>) -> Merged {
    let mut merged = Merged::default();
    for (index, layer) in layers.into_iter().enumerate() {
        for (path, entry) in layer.0 {
            merged.apply(path, entry, index);
        }
    }
    merged
}

/// The canonical layer that leads from one tree to another: what differs, and whiteouts for what is gone.
pub fn layer_between(before: &Merged, after: &Merged) -> Manifest {
    let mut layer = BTreeMap::new();
    for (path, now) in &after.0 {
        if before.0.get(path).is_none_or(|was| was.entry != now.entry) {
            layer.insert(path.clone(), now.entry.clone());
        }
    }
    for path in before.0.keys() {
        if after.0.contains_key(path) {
            continue;
        }
        // Only the topmost path that is gone: what lies below goes with it, or with what replaced its parent.
        let parent = path.rsplit_once('/').map_or(".", |(parent, _)| parent);
        if after.0.get(parent).is_some_and(|entry| entry.entry.is_directory()) {
            layer.insert(path.clone(), Entry::whiteout());
        }
    }
    Manifest(layer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(kind: Kind) -> Entry {
        Entry { kind, mode: 0o755, ..Entry::whiteout() }
    }

    fn file(text: &str) -> Entry {
        entry(Kind::File { size: text.len() as u64, digest: base::digest::Digest::of(text.as_bytes()) })
    }

    /// A tree in which each path's parents are directories.
    fn any_tree() -> impl Strategy<Value = Merged> {
        proptest::collection::btree_map("[ab](/[ab0]){0,3}", 0u8..3, 0..12).prop_map(|picks| {
            let mut tree = Merged::default();
            tree.apply(".".to_owned(), entry(Kind::Directory), 0);
            for (path, pick) in picks {
                let mut parent = String::new();
                let mut fits = true;
                for part in path.split('/') {
                    if !parent.is_empty() && !tree.0.get(&parent).is_some_and(|found| found.entry.is_directory()) {
                        fits = false;
                        break;
                    }
                    parent = if parent.is_empty() { part.to_owned() } else { format!("{parent}/{part}") };
                }
                if fits {
                    let entry = if pick == 0 { entry(Kind::Directory) } else { file(&pick.to_string()) };
                    tree.apply(path, entry, 0);
                }
            }
            tree
        })
    }

    fn entries(tree: &Merged) -> Vec<(String, Entry)> {
        tree.0.iter().map(|(path, found)| (path.clone(), found.entry.clone())).collect()
    }

    proptest! {
        #[test]
        fn the_layer_between_two_trees_leads_from_one_to_the_other(before in any_tree(), after in any_tree()) {
            let first = layer_between(&Merged::default(), &before);
            let second = layer_between(&before, &after);
            let mut paths = Paths::default();
            first.0.iter().chain(&second.0).for_each(|(path, entry)| paths.apply(path.clone(), entry.place()));
            let expected: Vec<_> = after.0.iter().map(|(path, found)| (path.clone(), found.entry.is_directory())).collect();
            prop_assert_eq!(paths.0.into_iter().collect::<Vec<_>>(), expected);
            prop_assert_eq!(entries(&merge([first, second])), entries(&after));
        }
    }

    proptest! {
        #[test]
        fn what_changes_leads_from_the_part_that_it_reaches_to_the_same(before in any_tree(), after in any_tree()) {
            let layer = layer_between(&before, &after);
            let mut changes: BTreeMap<&str, bool> = BTreeMap::new();
            for (path, entry) in &layer.0 {
                changes.insert(path, !entry.is_directory());
                let mut above = path.as_str();
                while let Some((parent, _)) = above.rsplit_once('/') {
                    changes.entry(parent).or_insert(false);
                    above = parent;
                }
                changes.entry(".").or_insert(false);
            }
            let part = before.part(changes);
            let mut changed = part.clone();
            layer.0.iter().for_each(|(path, entry)| changed.apply(path.clone(), entry.clone(), 1));
            prop_assert_eq!(layer_between(&part, &changed), layer);
        }
    }

    #[test]
    fn a_whiteout_takes_what_lies_below_and_nothing_beside() {
        let mut tree = Merged::default();
        for path in ["a", "a/b", "a/b/c"] {
            tree.apply(path.to_owned(), entry(Kind::Directory), 0);
        }
        tree.apply("a/b0".to_owned(), file("x"), 0);
        tree.apply("a/b-".to_owned(), file("x"), 0);
        tree.apply("a/b".to_owned(), Entry::whiteout(), 1);
        assert_eq!(tree.0.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "a/b-", "a/b0"]);
    }
}

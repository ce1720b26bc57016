//! Frames of tar: entries in the order in which GNU tar restores the times of directories.
//!
//! GNU tar sets a directory's time when it reads something that lies elsewhere, or in the end where a link in it leads out. So
//! each directory comes again before what lies in it, files before directories, and all of it without a break. A further name
//! of a hard link stands where it belongs and names the first. Source: GNU tar 1.34, extract.c, apply_nonancestor_delayed_set_stat.

use std::collections::{BTreeMap, BTreeSet};

use super::write::{FRAME_LEAST, FRAME_MOST, Frame, PackEntry, size_of, starts_frame};
use store::Entry;

/// Numbers of entries, in order; what lies in no directory of the tree comes last.
fn ordered(entries: &[(String, Entry, usize)]) -> Vec<usize> {
    let mut children: BTreeMap<&str, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for (at, (path, entry, _)) in entries.iter().enumerate().filter(|(_, one)| one.0 != ".") {
        let parent = path.rsplit_once('/').map_or(".", |(parent, _)| parent);
        let inside = children.entry(parent).or_default();
        if entry.is_directory() { inside.1.push(at) } else { inside.0.push(at) }
    }
    let mut order = Vec::with_capacity(entries.len());
    // A stack and no recursion: trees may be deep.
    let mut open: Vec<usize> = entries.iter().position(|one| one.0 == ".").into_iter().collect();
    while let Some(at) = open.pop() {
        order.push(at);
        let Some((files, directories)) = children.get(entries[at].0.as_str()) else { continue };
        order.extend(files);
        match fault::planted("frames-out-of-order") {
            true => open.extend(directories),
            false => open.extend(directories.iter().rev()),
        }
    }
    let seen: BTreeSet<usize> = order.iter().copied().collect();
    order.extend((0..entries.len()).filter(|at| !seen.contains(at)));
    order
}

/// Cuts a tree, sorted by path, into frames of tar. The first has all directories, so that the others can be unpacked in any
/// order; hard links come after all of them.
pub fn cut_tree(entries: Vec<(String, Entry, usize)>) -> Vec<Frame> {
    let make = |(path, entry, layer): (String, Entry, usize), link_to: Option<String>| {
        let carries_content = link_to.is_none();
        PackEntry { path, entry, layer, inode: 0, links: 1, carries_content, link_to }
    };
    let directories = entries.iter().filter(|one| one.1.is_directory()).map(|one| make(one.clone(), None));
    let mut frames = vec![Frame { entries: directories.collect(), trailer: false }];
    let mut firsts: BTreeMap<(usize, String), String> = BTreeMap::new();
    let mut current = Frame::default();
    let mut bytes = 0;
    let order = ordered(&entries);
    // Moved and not copied: large images have many.
    let mut entries: Vec<Option<(String, Entry, usize)>> = entries.into_iter().map(Some).collect();
    for at in order {
        let Some(item) = entries[at].take() else { continue };
        let (path, entry, layer) = &item;
        if bytes >= FRAME_MOST || (bytes >= FRAME_LEAST && starts_frame(path)) {
            frames.push(std::mem::take(&mut current));
            bytes = 0;
        }
        let group = entry.link_group.as_ref();
        let first = group.map(|group| firsts.entry((*layer, group.clone())).or_insert_with(|| path.clone()));
        let link_to = first.filter(|first| *first != path).cloned();
        bytes += if link_to.is_some() { 0 } else { size_of(entry) };
        current.entries.push(make(item, link_to));
    }
    frames.push(current);
    frames.push(Frame { entries: Vec::new(), trailer: true });
    frames
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::digest::Digest;
    use store::Kind;

    #[test]
    fn a_directory_comes_before_what_lies_in_it_and_nothing_between() {
        let entry = |path: &str| {
            let is_directory = path == "." || path.ends_with('/');
            let kind = match is_directory {
                true => Kind::Directory,
                false => Kind::File { size: 3, digest: Digest::of(b"abc") },
            };
            let link_group = ["a/x", "b/y"].contains(&path).then(|| "a/x".to_owned());
            (path.trim_end_matches('/').to_owned(), Entry { kind, link_group, ..Entry::whiteout() }, 0)
        };
        let mut entries: Vec<_> = [".", "a/", "a/sub/", "a/sub/z", "a/x", "a-b", "b/", "b/y", "c"].map(entry).into();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let frames = cut_tree(entries);
        assert_eq!(frames[0].entries.len(), 4);
        let names: Vec<&str> = frames[1].entries.iter().map(|item| item.path.as_str()).collect();
        assert_eq!(names, [".", "a-b", "c", "a", "a/x", "a/sub", "a/sub/z", "b", "b/y"]);
        let links: Vec<Option<&str>> = frames[1].entries.iter().map(|item| item.link_to.as_deref()).collect();
        assert_eq!(links.iter().flatten().collect::<Vec<_>>(), [&"a/x"]);
        assert!(frames[2].trailer);
    }
}

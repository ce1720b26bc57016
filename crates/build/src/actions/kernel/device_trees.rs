//! Device trees: files of the kernel's packages that describe boards whose firmware does not.

use std::collections::BTreeMap;
use std::fs::File;

use serde::{Deserialize, Serialize};

use crate::bench::ids;
use crate::bench::results::Done;
use archive::Extractor;
use base::source::nearest;
use packages::unpack_part;
use sandbox::helper::News;
use store::{BlobRef, TreeEditor, make_directories};
use xcat::matches;

/// What the names of outputs of the kernel's payload begin with that are device trees.
pub(crate) const OUTPUT: &str = "device tree ";

/// Those that a build has, by the names of their published files.
pub(crate) fn of(done: &Done) -> Vec<(String, BlobRef)> {
    let blobs = done.0.get(ids::PAYLOAD).into_iter().flat_map(|outputs| &outputs.blobs);
    blobs.filter_map(|(name, blob)| Some((file_name(name.strip_prefix(OUTPUT)?).to_owned(), *blob))).collect()
}

/// The file name of a device tree: the last part of its path.
pub(crate) fn file_name(tree: &str) -> &str {
    tree.rsplit('/').next().unwrap_or(tree)
}

/// Why device trees are not as the recipe wants them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unmet {
    /// A name that no tree of the kernel has: which of the recipe's, trees with names like it, and how many there are.
    Unknown { index: usize, near: Vec<String>, known: usize },
    /// Two trees would be published under one file name.
    Twice { index: usize, one: String, other: String },
}

/// Which device tree of a kernel release a path of a package is: `vendor/board.dtb`, or `board.dtb`.
///
/// Places are those of Debian, Ubuntu, Fedora and its kin, SUSE (whose packages of device trees have a release of their own, without the
/// kernel's flavour).
fn tree_of<'p>(path: &'p str, release: &str) -> Option<&'p str> {
    let folders = [
        format!("usr/lib/linux-image-{release}/"),
        format!("lib/firmware/{release}/device-tree/"),
        format!("lib/modules/{release}/dtb/"),
        format!("boot/dtb-{release}/"),
        format!("boot/dtbs/{release}/"),
    ];
    let merged = path.strip_prefix("usr/").filter(|rest| rest.starts_with("lib/"));
    let fixed = folders.iter().find_map(|folder| {
        path.strip_prefix(folder.as_str()).or_else(|| merged.and_then(|path| path.strip_prefix(folder.as_str())))
    });
    let of_suse = || {
        let (version, tree) = path.strip_prefix("boot/dtb-")?.split_once('/')?;
        release.strip_prefix(version).filter(|flavour| flavour.starts_with('-')).map(|_| tree)
    };
    fixed.or_else(of_suse).filter(|tree| tree.ends_with(".dtb"))
}

/// Which trees the recipe's names mean: each a tree, or a pattern of several.
fn choose(names: &[String], known: &[&str]) -> Result<Vec<String>, Unmet> {
    let mut chosen: BTreeMap<String, String> = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        let mut found = known.iter().filter(|tree| **tree == name || matches(name, tree)).peekable();
        if found.peek().is_none() {
            // Boards are known by their file's name, and people leave the vendor's folder out.
            let same = known.iter().filter(|tree| file_name(tree) == file_name(name)).copied();
            let mut near: Vec<&str> = same.chain(nearest(name, known.iter().copied())).collect();
            let mut seen = std::collections::BTreeSet::new();
            near.retain(|tree| seen.insert(*tree));
            let near = near.into_iter().take(3).map(str::to_owned).collect();
            return Err(Unmet::Unknown { index, near, known: known.len() });
        }
        for tree in found {
            if let Some(other) = chosen.insert(file_name(tree).to_owned(), (*tree).to_owned())
                && other != *tree
            {
                return Err(Unmet::Twice { index, one: other, other: (*tree).to_owned() });
            }
        }
    }
    Ok(chosen.into_values().collect())
}

fn files(editor: &TreeEditor, folder: &str, found: &mut Vec<String>) {
    for name in editor.names(folder) {
        let path = format!("{folder}/{name}").trim_start_matches('/').to_owned();
        if editor.has_file(&path) {
            found.push(path);
        } else {
            files(editor, &path, found);
        }
    }
}

/// Takes the device trees that the recipe names out of the kernel's packages, and copies them to `handover` with a number behind it; gives
/// their names, in that order.
pub(crate) fn take(
    names: &[String],
    (scratch, release): (&str, &str),
    packages: &[(String, String)],
    handover: &str,
    news: News<'_>,
) -> Result<Result<Vec<String>, Unmet>, String> {
    if names.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    news("looking for device trees");
    make_directories(scratch, &["device-trees"])?;
    // In a directory of their own: the payload has none of them, and dpkg and rpm install them as any file.
    let folder = format!("{scratch}/device-trees");
    let mut extractor = Extractor::new(&folder)?;
    for (file, name) in packages {
        unpack_part(&mut extractor, file, &|path| tree_of(path, release).is_some())
            .map_err(|problem| format!("{name}: {problem}"))?;
    }
    extractor.finish()?;
    let editor = TreeEditor::open(&folder)?;
    let mut paths = Vec::new();
    files(&editor, "", &mut paths);
    let known: BTreeMap<&str, &str> =
        paths.iter().filter_map(|path| Some((tree_of(path, release)?, path.as_str()))).collect();
    let chosen = match choose(names, &known.keys().copied().collect::<Vec<_>>()) {
        Ok(chosen) => chosen,
        Err(unmet) => return Ok(Err(unmet)),
    };
    for (number, tree) in chosen.iter().enumerate() {
        let path = known.get(tree.as_str()).copied().unwrap_or_default();
        let mut from = editor.open_file(path).ok_or_else(|| format!("`{path}` is not a regular file"))?;
        let copied = File::create(format!("{handover}-{number}")).and_then(|mut to| std::io::copy(&mut from, &mut to));
        copied.map_err(|error| format!("cannot copy the device tree: {error}"))?;
    }
    Ok(Ok(chosen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_found_where_each_distribution_has_them() {
        for (path, release, tree) in [
            ("usr/lib/linux-image-6.1.0-31-arm64/broadcom/a.dtb", "6.1.0-31-arm64", Some("broadcom/a.dtb")),
            ("lib/firmware/6.8.0-31-generic/device-tree/ti/b.dtb", "6.8.0-31-generic", Some("ti/b.dtb")),
            ("usr/lib/modules/6.12.1-1.fc41.aarch64/dtb/ti/b.dtb", "6.12.1-1.fc41.aarch64", Some("ti/b.dtb")),
            ("boot/dtb-6.12.1-1.fc41.aarch64/ti/b.dtb", "6.12.1-1.fc41.aarch64", Some("ti/b.dtb")),
            ("boot/dtb-6.4.0-150600.21/ti/b.dtb", "6.4.0-150600.21-default", Some("ti/b.dtb")),
            ("boot/dtb-6.4.0-150600.2/ti/b.dtb", "6.4.0-150600.21-default", None),
            ("usr/lib/linux-image-6.1.0-30-arm64/broadcom/a.dtb", "6.1.0-31-arm64", None),
            ("usr/lib/linux-image-6.1.0-31-arm64/overlays/a.dtbo", "6.1.0-31-arm64", None),
            ("lib/modules/6.1.0-31-arm64/kernel/a.ko", "6.1.0-31-arm64", None),
        ] {
            assert_eq!(tree_of(path, release), tree, "{path}");
        }
    }

    #[test]
    fn names_and_patterns_choose_and_what_is_not_there_is_said_with_what_is_near() {
        let known = ["broadcom/bcm2711-rpi-4-b.dtb", "broadcom/bcm2711-rpi-400.dtb", "ti/board.dtb", "nxp/board.dtb"];
        let of = |names: &[&str]| choose(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), &known);
        assert_eq!(of(&["broadcom/*"]).unwrap(), known[..2]);
        assert_eq!(of(&["ti/board.dtb", "ti/*"]).unwrap(), ["ti/board.dtb"]);
        let unknown = |near: &[&str]| Unmet::Unknown {
            index: 0,
            near: near.iter().map(|name| (*name).to_owned()).collect(),
            known: 4,
        };
        assert_eq!(of(&["bcm2711-rpi-400.dtb"]).unwrap_err(), unknown(&[known[1]]));
        assert_eq!(of(&["broadcom/bcm2711-rpi-4b.dtb"]).unwrap_err(), unknown(&[known[0], known[1]]));
        assert_eq!(of(&["x/*"]).unwrap_err(), unknown(&[]));
        let twice = Unmet::Twice { index: 1, one: known[2].to_owned(), other: known[3].to_owned() };
        assert_eq!(of(&["ti/*", "nxp/*"]).unwrap_err(), twice);
    }
}

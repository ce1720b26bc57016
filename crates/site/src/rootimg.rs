//! The tree that xCAT's genimage made of an osimage: a person may have changed it by hand, and images are made of packages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::source::SourceFile;
use xcat::definitions::Definition;
use xcat::parse_synclist;

use super::definitions::Places;

/// The tree of an osimage, where there is one.
pub fn tree_of(definition: &Definition, places: &Places) -> Option<PathBuf> {
    let part = |attribute: &str| definition.get(attribute).unwrap_or_default();
    let by_default =
        || format!("{}/netboot/{}/{}/{}", places.installdir, part("osvers"), part("osarch"), part("profile"));
    let rootimgdir = definition.get("rootimgdir").map_or_else(by_default, str::to_owned);
    tree_in(&places.here(&rootimgdir))
}

/// The tree in a directory where packimage publishes, where there is one.
pub fn tree_in(rootimgdir: &Path) -> Option<PathBuf> {
    let tree = rootimgdir.join("rootimg");
    let is_full = |folder: &str| tree.join(folder).is_dir();
    (is_full("etc") && is_full("usr")).then_some(tree)
}

/// What packimage copied into the tree: paths without a slash in front, and the files that they are copies of.
pub fn synced(definition: &Definition, places: &Places) -> BTreeMap<String, PathBuf> {
    let environment = definition.list("environvar");
    let pairs: BTreeMap<&str, &str> = environment.iter().filter_map(|item| item.split_once('=')).collect();
    let variable = |name: &str| pairs.get(name).map(|value| (*value).to_owned());
    let mut all = BTreeMap::new();
    for path in definition.list("synclists") {
        let Ok(text) = std::fs::read_to_string(places.here(&path)) else { continue };
        for entry in parse_synclist(&SourceFile::new(path.clone(), &path, text), &variable).entries {
            for source in entry.sources.iter().filter(|source| source.starts_with('/')) {
                let (folder, pattern) = source.rsplit_once('/').unwrap_or(("", source));
                let names = match pattern.contains(['*', '?', '[']) {
                    true => names_like(&places.here(folder), pattern),
                    false => vec![pattern.to_owned()],
                };
                for name in names {
                    let to = match entry.folder || entry.sources.len() > 1 || name != pattern {
                        true => format!("{}/{name}", entry.destination.trim_end_matches('/')),
                        false => entry.destination.clone(),
                    };
                    add(&mut all, to.trim_start_matches('/'), places.here(&format!("{folder}/{name}")));
                }
            }
        }
    }
    all
}

/// Names of a folder that a pattern of one part means.
fn names_like(folder: &Path, pattern: &str) -> Vec<String> {
    let Ok(matcher) = globset::Glob::new(pattern).map(|glob| glob.compile_matcher()) else { return Vec::new() };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| matcher.is_match(name)).collect()
}

/// Adds a file, or the files of a folder.
fn add(all: &mut BTreeMap<String, PathBuf>, to: &str, here: PathBuf) {
    if !here.is_dir() {
        all.insert(to.to_owned(), here.clone());
        // Into a folder that is there a file goes by its own name.
        if let Some(name) = here.file_name() {
            all.insert(format!("{to}/{}", name.to_string_lossy()), here.clone());
        }
        return;
    }
    for entry in walkdir::WalkDir::new(&here).into_iter().flatten().filter(|entry| entry.file_type().is_file()) {
        let below = entry.path().strip_prefix(&here).unwrap_or(entry.path());
        all.insert(format!("{to}/{}", below.display()), entry.path().to_owned());
    }
}

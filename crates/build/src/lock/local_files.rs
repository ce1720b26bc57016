//! Package files of the recipe's own directories, beside those that the lock was made from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::supply::origin::local_folder;
use base::digest::Sha256;
use packages::{DistroError, PackageManager, manager};
use plan::{Cause, Change, Origin, Place, Reason, Subject};
use recipe::{Lock, Recipe};

/// So many files are named.
const SHOWN: usize = 6;

/// Digest of the names and contents of all package files below a directory.
pub(crate) fn local_digest(manager: &dyn PackageManager, directory: &Path) -> Option<Sha256> {
    let mut text = String::new();
    for path in manager.package_files(directory).ok()? {
        let name = path.strip_prefix(directory).ok()?.display().to_string();
        // What cannot be read is reported when it is used.
        let content = witness::sha256(&path).map_or_else(|error| error.to_string(), |digest| digest.to_string());
        text.push_str(&format!("{name}\t{content}\n"));
    }
    Some(Sha256::of(text.as_bytes()))
}

/// The same of the files as they were when they were read, by their path below the directory.
/// Errors: [`DistroError::Moved`] where there are others now.
pub(crate) fn scanned_digest(
    manager: &dyn PackageManager,
    directory: &Path,
    scanned: &BTreeMap<String, Sha256>,
) -> Result<Sha256, DistroError> {
    let mut now = BTreeMap::new();
    let mut text = String::new();
    for path in manager.package_files(directory)? {
        let name = path.strip_prefix(directory).unwrap_or(&path).display().to_string();
        let content = witness::sha256(&path).ok();
        text.push_str(&format!("{name}\t{}\n", content.map(|one| one.to_string()).unwrap_or_default()));
        now.insert(name, content);
    }
    let differs = |name: &&String| now.get(*name).copied().flatten() != scanned.get(*name).copied();
    let names: BTreeSet<&String> = now.keys().chain(scanned.keys()).filter(differs).collect();
    if names.is_empty() || fault::planted("moved-is-not-seen") {
        return Ok(Sha256::of(text.as_bytes()));
    }
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{}`", name.escape_default())).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    Err(DistroError::Moved { directory: directory.display().to_string(), files: shown.join(", ") + &more })
}

/// Locked package files that are gone or have other content; the directory itself where only others changed.
pub(crate) fn changed_files(recipe: &Recipe, lock: &Lock, now: Option<Sha256>) -> Vec<Cause> {
    let place = recipe.spans.get("otherpkgs.dir").or_else(|| recipe.spans.nearest("otherpkgs")).map(Place::from);
    let table = recipe.model.otherpkgs.as_ref().map_or("otherpkgs", |table| table.dir.as_str());
    let field = Origin::Field("otherpkgs.dir".to_owned());
    let said = |name: &str, origin: &Origin, change: Change<'_>| {
        Subject { name, origin, place: place.as_ref(), was_place: None, lock: &recipe.lock_name() }.cause(change)
    };
    let Some(directory) = &recipe.otherpkgs_directory else {
        return vec![said("parameter dir", &field, Change::Removed(table))];
    };
    if lock.otherpkgs.is_none() {
        return vec![said("parameter dir", &field, Change::Added(table))];
    }
    let glob = Origin::Glob { field: "otherpkgs.dir".to_owned(), pattern: format!("{table}/") };
    let files = manager(recipe).package_files(directory).unwrap_or_default();
    let files: Vec<&Path> = files.iter().filter_map(|path| path.strip_prefix(directory).ok()).collect();
    let mut causes = Vec::new();
    let mut locked = Vec::new();
    for package in lock.pass.iter().flat_map(|pass| &pass.packages) {
        let Some(folder) = local_folder(package) else { continue };
        let file = Path::new(folder).join(&package.file);
        let name = format!("file {}", Path::new(table).join(&file).display());
        let was = package.sha256.to_string();
        match witness::sha256(&directory.join(&file)) {
            Err(_) => causes.push(match successor(&files, &file, &package.name) {
                Some(other) => {
                    let shown = |file: &Path| Path::new(table).join(file).display().to_string();
                    let reason = Reason::Changed {
                        what: format!("package file of {}:", package.name),
                        was: shown(&file),
                        now: shown(other),
                    };
                    reason.cause(place.as_ref())
                }
                None => said(&name, &glob, Change::Removed(&was)),
            }),
            Ok(found) if found != package.sha256 => {
                // A file's value starts with its mode, which counts for nothing here.
                let (was, now) = (format!("- {was}"), format!("- {found}"));
                causes.push(said(&name, &glob, Change::Changed(&was, &now)));
            }
            Ok(_) => {}
        }
        locked.push(file);
    }
    if causes.is_empty() {
        let others = files.iter().filter(|path| !locked.iter().any(|one| one == *path));
        let others: Vec<String> = others.map(|path| path.display().to_string()).collect();
        let shown = |digest: Option<Sha256>| digest.map(|one| one.short()).unwrap_or_default();
        let (was, now) = (shown(lock.otherpkgs), shown(now));
        let lock_file = recipe.lock_name();
        let what = if others.is_empty() {
            format!("{table}/ lost a package file that {lock_file} does not name:")
        } else {
            format!(
                "{table}/ gained, lost or changed package files that {lock_file} does not name (there are {}):",
                others.join(", ")
            )
        };
        causes.push(Reason::Changed { what, was, now }.cause(place.as_ref()));
    }
    causes
}

/// The file that took the place of a package's file: another version of the package in the same folder. `name_version_arch.deb`
/// and `name-version-release.arch.rpm` are how dpkg-deb and rpmbuild name them.
fn successor<'a>(files: &[&'a Path], file: &Path, package: &str) -> Option<&'a Path> {
    let is_of_it = |other: &&&Path| {
        let name = other.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let version = name.strip_prefix(package).and_then(|rest| rest.strip_prefix(['_', '-']));
        other.parent() == file.parent()
            && **other != file
            && version.is_some_and(|version| version.starts_with(|one: char| one.is_ascii_digit()))
    };
    files.iter().find(is_of_it).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_of_a_package_took_the_place_of_its_file() {
        let files = ["a/site_1.1_all.deb", "site-tools_1.0_all.deb", "site-2.0-1.noarch.rpm", "b/site_3_all.deb"];
        let files: Vec<&Path> = files.iter().map(Path::new).collect();
        let of = |file: &str| successor(&files, Path::new(file), "site").map(|path| path.display().to_string());
        assert_eq!(of("a/site_1.0_all.deb").as_deref(), Some("a/site_1.1_all.deb"));
        assert_eq!(of("site-1.9-1.noarch.rpm").as_deref(), Some("site-2.0-1.noarch.rpm"));
        assert_eq!(of("c/site_1.0_all.deb"), None);
    }
    #[test]
    fn the_digest_is_of_the_files_that_were_read_or_says_which_moved() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path();
        std::fs::create_dir(place.join("b")).unwrap();
        let put = |name: &str, text: &str| std::fs::write(place.join(name), text).unwrap();
        put("a.deb", "a");
        put("b/c.deb", "c");
        put("read.me", "x");
        let scanned: BTreeMap<String, Sha256> = [("a.deb", "a"), ("b/c.deb", "c")]
            .map(|(name, text)| (name.to_owned(), Sha256::of(text.as_bytes())))
            .into();
        let digest = || scanned_digest(&packages::apt::Apt, place, &scanned);
        assert_eq!(digest().ok(), local_digest(&packages::apt::Apt, place));
        let moved = || digest().unwrap_err().to_string();
        put("b/d.deb", "d");
        assert!(moved().contains("resolved: `b/d.deb`"), "{}", moved());
        std::fs::remove_file(place.join("b/d.deb")).unwrap();
        put("a.deb", "other");
        assert!(moved().contains("`a.deb`"), "{}", moved());
        std::fs::remove_file(place.join("b/c.deb")).unwrap();
        assert!(moved().contains("`a.deb`, `b/c.deb`"), "{}", moved());
    }
}

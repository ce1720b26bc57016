//! rpm's database: headers of packages, in one of three forms.

use std::collections::BTreeMap;

use super::{DatabaseKind, Installed, InstalledFile, InstalledPackage, berkeley, ndb, sqlite};
use crate::rpm::InstalledHeader;

/// Where rpm keeps it: since Fedora 36 and in SUSE's, and before.
pub const PLACES: [&str; 2] = ["usr/lib/sysimage/rpm/", "var/lib/rpm/"];

/// Its forms, the newest first: file, whatever belongs to it.
const FORMS: [&str; 3] = ["rpmdb.sqlite", "Packages.db", "Packages"];
/// What is not yet in the SQLite file itself. Source: <https://www.sqlite.org/wal.html>.
const WAL: &str = "rpmdb.sqlite-wal";

pub(super) fn is_database_file(path: &str) -> bool {
    let name = PLACES.iter().find_map(|place| path.strip_prefix(place));
    name.is_some_and(|name| name == WAL || FORMS.contains(&name))
}

/// All files that are read, by path.
pub fn database_files() -> impl Iterator<Item = String> {
    PLACES.into_iter().flat_map(|place| FORMS.into_iter().chain([WAL]).map(move |name| format!("{place}{name}")))
}

/// State of a file that the one who installed the package did not want (`--excludedocs`, languages).
const NOT_INSTALLED: u64 = 2;

/// A file's state: left out by the one who installed it (`--excludedocs`, a colour of another architecture). Source: rpm's
/// rpmfiles.h, `rpmfileState`.
fn is_left_out(state: u64) -> bool {
    matches!(state, 2..=4)
}

pub(super) fn read(files: &BTreeMap<String, Vec<u8>>) -> Result<Option<Installed>, String> {
    let mut found = None;
    for form in FORMS {
        for place in PLACES {
            let path = format!("{place}{form}");
            // A link or an empty file is left where rpm moved.
            let Some(bytes) = files.get(&path).filter(|bytes| !bytes.is_empty()) else { continue };
            found.get_or_insert((path, bytes, form, place));
        }
    }
    let Some((path, bytes, form, place)) = found else { return Ok(None) };
    let said = |problem: String| format!("the package database /{path} {problem}");
    let mut packages = Vec::new();
    let mut take = |blob: &[u8]| -> Result<(), String> {
        packages.extend(package(blob)?);
        Ok(())
    };
    match form {
        "rpmdb.sqlite" => sqlite::headers(bytes, files.get(&format!("{place}{WAL}")).map(Vec::as_slice), &mut take),
        "Packages.db" => ndb::headers(bytes, &mut take),
        _ => berkeley::headers(bytes, &mut take),
    }
    .map_err(said)?;
    Ok(Some(Installed { kind: DatabaseKind::Rpm, packages, overridden: Vec::new() }))
}

fn package(blob: &[u8]) -> Result<Option<InstalledPackage>, String> {
    let header = InstalledHeader::read(blob)?;
    if header.name == "gpg-pubkey" {
        return Ok(None);
    }
    let mut files = Vec::with_capacity(header.files.len());
    let mut left_out = 0;
    for (at, file) in header.files.into_iter().enumerate() {
        if header.states.get(at).copied().is_some_and(is_left_out) {
            left_out += usize::from(header.states[at] == NOT_INSTALLED);
            continue;
        }
        let is = |text: &String| !text.is_empty();
        files.push(InstalledFile {
            path: file.path.trim_start_matches('/').to_owned(),
            digest: Some(file.digest).filter(is),
            mode: Some(file.mode),
            owner: Some((file.user, file.group)),
            has_capabilities: is(&file.capabilities),
            link: Some(file.link).filter(is),
            ghost: file.ghost,
        });
    }
    Ok(Some(InstalledPackage {
        name: header.name,
        version: header.evr.to_string(),
        arch: header.arch,
        automatic: false,
        files,
        left_out,
        source: header.source,
        scripts: header.scripts,
    }))
}

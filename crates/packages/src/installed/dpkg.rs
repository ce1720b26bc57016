//! dpkg's database. Source: deb-status(5), dpkg-query(1), dpkg-divert(1), dpkg-statoverride(1); apt-mark(8) for what came by
//! itself.

use std::collections::{BTreeMap, HashMap};

use super::{DatabaseKind, Installed, InstalledFile, InstalledPackage};

/// The packages and their states.
pub const STATUS: &str = "var/lib/dpkg/status";
/// Lists of files, digests, scripts.
const INFO: &str = "var/lib/dpkg/info/";
/// Those that write files when packages are installed.
const SCRIPTS: [&str; 3] = [".preinst", ".postinst", ".config"];
const DIVERSIONS: &str = "var/lib/dpkg/diversions";
const OVERRIDES: &str = "var/lib/dpkg/statoverride";
const EXTENDED: &str = "var/lib/apt/extended_states";

pub fn is_database_file(path: &str) -> bool {
    let of_package = |path: &str| {
        path.ends_with(".list") || path.ends_with(".md5sums") || SCRIPTS.iter().any(|name| path.ends_with(name))
    };
    [STATUS, DIVERSIONS, OVERRIDES, EXTENDED].contains(&path) || path.starts_with(INFO) && of_package(path)
}

/// A file's text; packages have names in UTF-8.
fn text(files: &BTreeMap<String, Vec<u8>>, path: &str) -> String {
    files.get(path).map(|bytes| text_of(bytes)).unwrap_or_default()
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A field of a stanza of dpkg's files, on one line. Source: deb822(5).
pub fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Where files lie that another package has its own file in the place of: who diverted it, and to which path.
fn diversions(text: &str) -> HashMap<String, (String, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let of_three = |three: &[&str]| match three {
        [from, to, who] => Some((from.trim_start_matches('/').to_owned(), ((*who).to_owned(), (*to).to_owned()))),
        _ => None,
    };
    lines.chunks(3).filter_map(of_three).collect()
}

pub fn read(status: &[u8], files: &BTreeMap<String, Vec<u8>>) -> Installed {
    let extended = text(files, EXTENDED);
    let mut automatic: HashMap<(&str, &str), bool> = HashMap::new();
    for stanza in extended.split("\n\n") {
        if let (Some(name), Some(arch)) = (field(stanza, "Package"), field(stanza, "Architecture")) {
            automatic.insert((name, arch), field(stanza, "Auto-Installed") == Some("1"));
        }
    }
    let diversions = diversions(&text(files, DIVERSIONS));
    let status = String::from_utf8_lossy(status);
    let mut packages = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for stanza in status.split("\n\n") {
        let (Some(name), Some(version), Some(arch)) =
            (field(stanza, "Package"), field(stanza, "Version"), field(stanza, "Architecture"))
        else {
            continue;
        };
        // Removed packages stay as long as their configuration does.
        let state = field(stanza, "Status").and_then(|status| status.rsplit(' ').next()).unwrap_or_default();
        let is_there =
            ["installed", "triggers-pending", "triggers-awaited", "half-configured", "unpacked"].contains(&state);
        if !is_there && !fault::planted("dpkg-removed-is-there") || !seen.insert((name, arch)) {
            continue;
        }
        let of_package = |ending: &str| -> String {
            // A package of several architectures at once has its own in the name.
            let multi = format!("{INFO}{name}:{arch}.{ending}");
            if files.contains_key(&multi) {
                text(files, &multi)
            } else {
                text(files, &format!("{INFO}{name}.{ending}"))
            }
        };
        let mut digests: HashMap<String, String> = HashMap::new();
        for line in of_package("md5sums").lines() {
            if let Some((digest, path)) = line.split_once("  ") {
                digests.insert(path.trim_start_matches("./").to_owned(), digest.to_owned());
            }
        }
        let mut in_conffiles = false;
        let mut obsolete: std::collections::HashSet<String> = std::collections::HashSet::new();
        for line in stanza.lines() {
            match line.strip_prefix(' ') {
                Some(line) if in_conffiles => {
                    let mut words = line.split(' ');
                    let (path, digest, rest) = (words.next(), words.next(), words.next());
                    // The package no longer brings it, and its list still has it.
                    if rest.is_some() {
                        obsolete.extend(path.map(|path| path.trim_start_matches('/').to_owned()));
                    }
                    // `newconffile` was never installed, `obsolete` and `remove-on-upgrade` are no longer the package's.
                    if let (Some(path), Some(digest), None) = (path, digest, rest)
                        && digest != "newconffile"
                    {
                        digests.insert(path.trim_start_matches('/').to_owned(), digest.to_owned());
                    }
                }
                Some(_) => {}
                None => in_conffiles = line.trim_end() == "Conffiles:",
            }
        }
        let mut own = Vec::new();
        for line in of_package("list").lines() {
            let path = line.trim_start_matches('/');
            if path.is_empty() || path == "." || obsolete.contains(path) {
                continue;
            }
            let digest = digests.get(path).cloned();
            let path = match diversions.get(path) {
                Some((who, to)) if who != name && !fault::planted("dpkg-diversion-passed-over") => {
                    to.trim_start_matches('/')
                }
                _ => path,
            };
            own.push(InstalledFile { path: path.to_owned(), digest, ..InstalledFile::default() });
        }
        packages.push(InstalledPackage {
            name: name.to_owned(),
            version: version.to_owned(),
            arch: arch.to_owned(),
            automatic: automatic.get(&(name, arch)).copied().unwrap_or(false),
            files: own,
            scripts: SCRIPTS.iter().map(|name| of_package(&name[1..])).filter(|text| !text.is_empty()).collect(),
            ..InstalledPackage::default()
        });
    }
    let overridden = text(files, OVERRIDES);
    let overridden = overridden.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
    let overridden = overridden.map(|path| path.trim_start_matches('/').to_owned()).collect();
    Installed { kind: DatabaseKind::Dpkg, packages, overridden }
}

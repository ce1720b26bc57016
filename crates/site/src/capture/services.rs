//! Units that packages would start at boot and that the node's administrator turned off.

use std::collections::BTreeSet;

use packages::installed::DatabaseKind;
use xcat::matches;

use super::census::Census;

/// Where Debian's packages note what they enabled. Source: deb-systemd-helper(1p).
const HELPER: &str = "var/lib/systemd/deb-systemd-helper-enabled/";
const USER_HELPER: &str = "var/lib/systemd/deb-systemd-user-helper-enabled/";
const ETC: &str = "etc/systemd/system/";
const UNITS: [&str; 2] = ["usr/lib/systemd/system/", "lib/systemd/system/"];

/// Whether a node has a unit; an instance is its template's.
fn has_unit(census: &Census, unit: &str) -> bool {
    let template = match (unit.split_once('@'), unit.rsplit_once('.')) {
        (Some((name, _)), Some((_, kind))) => format!("{name}@.{kind}"),
        _ => unit.to_owned(),
    };
    let mut names = UNITS.iter().chain(&[ETC]).map(|folder| format!("{folder}{template}"));
    names.any(|path| census.seen.contains_key(&path))
}

/// Whether nothing can start it: a link to /dev/null, which the overlay has.
fn is_masked(census: &Census, unit: &str) -> bool {
    let target = census.seen.get(&format!("{ETC}{unit}")).and_then(|seen| seen.listed.target.as_deref());
    target == Some("/dev/null")
}

/// The names of units, sorted, for `[services] disable`.
pub(super) fn disabled(census: &Census, kind: DatabaseKind) -> Vec<String> {
    let found: BTreeSet<String> = match kind {
        DatabaseKind::Dpkg => by_helper(census),
        DatabaseKind::Rpm => by_presets(census),
    };
    let is_name =
        |unit: &String| unit.chars().all(|c| c.is_ascii_alphanumeric() || ":-_.@".contains(c)) && !unit.contains("@.");
    found.into_iter().filter(|unit| has_unit(census, unit) && !is_masked(census, unit)).filter(is_name).collect()
}

fn by_helper(census: &Census) -> BTreeSet<String> {
    let noted = census.left_out.keys().filter_map(|path| path.strip_prefix(HELPER));
    let mut enabled: BTreeSet<String> = BTreeSet::new();
    let mut missing: BTreeSet<String> = BTreeSet::new();
    for link in noted.filter(|link| !link.ends_with(".dsh-also")) {
        let Some((folder, unit)) = link.rsplit_once('/') else { continue };
        if !folder.ends_with(".wants") && !folder.ends_with(".requires") {
            continue;
        }
        let is_there = census.seen.contains_key(&format!("{ETC}{link}"));
        if is_there {
            enabled.insert(unit.to_owned())
        } else {
            missing.insert(unit.to_owned())
        };
    }
    &missing - &enabled
}

/// A line of a preset: whether it enables, and the pattern. Source: systemd.preset(5).
fn presets(census: &Census) -> Vec<(bool, String)> {
    let mut files: Vec<(&str, &str)> = Vec::new();
    for folder in ["etc/systemd/system-preset/", "usr/lib/systemd/system-preset/"] {
        for path in census.texts.keys().filter(|path| path.ends_with(".preset")) {
            // A file in /etc takes the place of one with its name.
            if let Some(name) = path.strip_prefix(folder)
                && files.iter().all(|(known, _)| *known != name)
            {
                files.push((name, path));
            }
        }
    }
    files.sort();
    let texts = files.iter().filter_map(|(_, path)| census.text(path));
    let lines: Vec<String> = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let rule = |line: &String| {
        let mut words = line.split_whitespace();
        let enables = match words.next()? {
            "enable" => true,
            "disable" => false,
            _ => return None,
        };
        Some((enables, words.next()?.to_owned()))
    };
    lines.iter().filter_map(rule).collect()
}

/// Which links in /etc/systemd packages made when they were installed.
pub(super) struct Links {
    kind: DatabaseKind,
    presets: Vec<(bool, String)>,
}

impl Links {
    pub(super) fn of(census: &Census, kind: DatabaseKind) -> Self {
        Self { kind, presets: presets(census) }
    }

    /// Whether a link is one of them: noted by Debian's helper, or to a package's unit that no preset disables.
    pub(super) fn are_of_packages(&self, census: &Census, path: &str) -> bool {
        let target = census.seen.get(path).and_then(|seen| seen.listed.target.as_deref()).unwrap_or_default();
        let Some(unit) = target.rsplit('/').next().filter(|unit| !unit.is_empty() && target != "/dev/null") else {
            return false;
        };
        if self.kind == DatabaseKind::Dpkg {
            let noted = |folder: &str, helper: &str| {
                path.strip_prefix(folder).is_some_and(|link| census.left_out.contains_key(&format!("{helper}{link}")))
            };
            return noted(ETC, HELPER) || noted("etc/systemd/user/", USER_HELPER);
        }
        let is_system = UNITS.iter().any(|folder| target.trim_start_matches('/').starts_with(folder))
            || target.contains("usr/lib/systemd/user/");
        let preset = self.presets.iter().find(|(_, pattern)| matches(pattern, unit));
        path.starts_with("etc/systemd/") && is_system && preset.is_none_or(|(enables, _)| *enables)
    }
}

fn by_presets(census: &Census) -> BTreeSet<String> {
    let presets = presets(census);
    // Without any preset packages enable nothing that could be determined from what the administrator did.
    if presets.is_empty() {
        return BTreeSet::new();
    }
    let mut found = BTreeSet::new();
    for (path, bytes) in &census.texts {
        let Some(unit) = UNITS.iter().find_map(|folder| path.strip_prefix(folder)) else { continue };
        if unit.contains('/') || unit.contains('@') {
            continue;
        }
        let text = String::from_utf8_lossy(bytes);
        let mut in_install = false;
        let mut links = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                in_install = line == "[Install]";
            }
            for (key, ending) in [("WantedBy=", "wants"), ("RequiredBy=", "requires")] {
                let targets = line.strip_prefix(key).filter(|_| in_install).unwrap_or_default();
                links.extend(targets.split_whitespace().map(|target| format!("{ETC}{target}.{ending}/{unit}")));
            }
        }
        let is_enabled = presets.iter().find(|(_, pattern)| matches(pattern, unit)).is_none_or(|(enables, _)| *enables);
        if is_enabled && !links.is_empty() && !links.iter().any(|link| census.seen.contains_key(link)) {
            found.insert(unit.to_owned());
        }
    }
    found
}

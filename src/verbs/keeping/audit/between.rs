//! What differs between two locks of an image: advisories that go, and those that come.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::subjects::{Audited, of_lock};
use super::{Comparison, Sources, warn};
use crate::Exit;
use crate::setup::{PlacesArguments, store_if_there};
use advisories::{Finding, Kind, Severity};
use recipe::Lock;

/// Advisories that are shown of an image before the others are counted.
const SHOWN: usize = 6;

/// Advisories that differ between two locks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub(crate) struct AdvisoryChange {
    /// What the earlier lock has, and this one no longer.
    pub gone: Vec<ChangedAdvisory>,
    /// What this lock has, and the earlier one has not.
    pub come: Vec<ChangedAdvisory>,
    /// How many both have.
    pub left: usize,
}

/// A vulnerability of a source package.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct ChangedAdvisory {
    /// The vulnerability.
    pub id: String,
    /// Advisories that name it.
    pub advisories: Vec<String>,
    /// How bad it is.
    pub severity: Severity,
    /// The source package.
    pub source: String,
    /// Packages of it.
    pub packages: Vec<String>,
    /// Their version, in the lock that has it.
    pub version: String,
}

impl AdvisoryChange {
    /// Lines of a plan; none where nothing differs.
    pub(crate) fn notes(&self) -> Vec<String> {
        let line = |what: &str, all: &[ChangedAdvisory]| {
            let named = all.iter().take(SHOWN).map(|one| format!("{} ({})", one.id, one.source));
            let mut named: Vec<String> = named.collect();
            if all.len() > SHOWN {
                named.push(format!("{} more (--json lists all)", all.len() - SHOWN));
            }
            (!all.is_empty()).then(|| format!("advisories that {what}: {}", named.join(", ")))
        };
        [line("go", &self.gone), line("come", &self.come)].into_iter().flatten().collect()
    }

    fn of(before: &[&Finding], after: &[&Finding]) -> Self {
        let lacks = |all: &[&Finding], finding: &Finding| !all.iter().any(|other| key(other) == key(finding));
        let of = |all: &[&Finding], other: &[&Finding]| {
            let mut known = BTreeSet::new();
            let own = all.iter().filter(|finding| lacks(other, finding) && known.insert(key(finding)));
            own.map(|finding| changed(finding)).collect()
        };
        let both: BTreeSet<_> = after.iter().filter(|one| !lacks(before, one)).map(|one| key(one)).collect();
        Self { gone: of(before, after), come: of(after, before), left: both.len() }
    }
}

/// What is the same vulnerability in two locks.
fn key(finding: &Finding) -> (Option<&String>, &str, Option<&str>) {
    let place = (finding.kind == Kind::Tools).then_some(finding.pass.as_str());
    (finding.id.as_ref(), &finding.source, place)
}

fn changed(finding: &Finding) -> ChangedAdvisory {
    ChangedAdvisory {
        id: finding.id.clone().unwrap_or_default(),
        advisories: finding.advisories.clone(),
        severity: finding.severity,
        source: finding.source.clone(),
        packages: finding.packages.clone(),
        version: finding.installed.clone(),
    }
}

/// An image with its two locks, and the drivers that each is built with.
pub(crate) struct Pair<'a> {
    pub image: &'a str,
    /// The lock that is compared with; none of a new image.
    pub before: Option<&'a Lock>,
    pub after: Option<&'a Lock>,
    pub drivers: Vec<String>,
}

/// Compares pairs of locks with files of advisories, which are read once.
/// Errors: A file cannot be read, or has no versions.
pub(crate) fn between(
    arguments: &crate::Arguments,
    (files, places): (&[PathBuf], &PlacesArguments),
    pairs: &[Pair],
) -> Result<Vec<AdvisoryChange>, Exit> {
    let store = store_if_there(arguments);
    let mut audited: Vec<Audited> = Vec::new();
    let mut sides: Vec<[Option<usize>; 2]> = Vec::new();
    for pair in pairs {
        let mut side = [None, None];
        for (at, lock) in [pair.before, pair.after].into_iter().enumerate() {
            let Some(lock) = lock else { continue };
            side[at] = Some(audited.len());
            audited.push(of_lock(pair.image, lock, store.as_ref(), &pair.drivers)?);
        }
        sides.push(side);
    }
    let sources = Sources { databases: files, offline: true, places, says: true, asked: &[] };
    let comparison = Comparison::of(arguments, &sources, &audited)?;
    let (report, _, rest) = comparison.report(&audited);
    let said: BTreeSet<String> = rest.into_iter().collect();
    warn(&said.into_iter().collect::<Vec<_>>());
    let of = |side: Option<usize>| -> Vec<&Finding> {
        report.findings.iter().filter(|finding| Some(finding.subject) == side).collect()
    };
    Ok(sides.into_iter().map(|[before, after]| AdvisoryChange::of(&of(before), &of(after))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(id: &str, source: &str, kind: Kind) -> Finding {
        Finding {
            subject: 0,
            id: Some(id.to_owned()),
            advisories: Vec::new(),
            title: String::new(),
            severity: Severity::High,
            kind,
            pass: "tools".to_owned(),
            source: source.to_owned(),
            packages: vec![source.to_owned()],
            files: Vec::new(),
            installed: "1".to_owned(),
            fixed: None,
            databases: Vec::new(),
            exploited: None,
            epss: None,
        }
    }

    #[test]
    fn what_stays_in_one_place_goes_nowhere_else() {
        let (old, tools) = (finding("CVE-1", "openssl", Kind::Package), finding("CVE-1", "openssl", Kind::Tools));
        let (new, both) = (finding("CVE-2", "zlib", Kind::Package), finding("CVE-3", "bash", Kind::Package));
        let change = AdvisoryChange::of(&[&old, &tools, &both], &[&tools, &both, &new]);
        let ids = |all: &[ChangedAdvisory]| all.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
        assert_eq!(
            (ids(&change.gone), ids(&change.come), change.left),
            (vec!["CVE-1".into()], vec!["CVE-2".into()], 2)
        );
        let notes = ["advisories that go: CVE-1 (openssl)", "advisories that come: CVE-2 (zlib)"];
        assert_eq!(change.notes(), notes);
        assert!(AdvisoryChange::of(&[&old], &[&old]).notes().is_empty());
    }
}

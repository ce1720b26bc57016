//! Records of OSV. Source: github.com/ossf/osv-schema, docs/schema.md, 1.6 and 1.7.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::few::{List, Pairs, Word};
use super::{is_name, title, vulnerabilities, within_pairs};
use crate::model::{Advisory, Affected, Database, Names};
use crate::platform::Scope;
use crate::purl::Purl;
use crate::version::{Event, Versions};
use crate::{AdvisoryError, Ecosystem, Order, Severity};

#[derive(Deserialize)]
struct Record {
    id: String,
    #[serde(default)]
    withdrawn: Option<IgnoredAny>,
    #[serde(default)]
    aliases: List<String>,
    #[serde(default)]
    upstream: List<String>,
    #[serde(default)]
    related: List<String>,
    #[serde(default)]
    summary: Option<String>,
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    severity: List<Rating>,
    #[serde(default)]
    affected: List<Package>,
    #[serde(default)]
    database_specific: Option<Specific>,
}

/// What a publisher adds in fields of its own.
#[derive(Deserialize)]
struct Specific {
    #[serde(default)]
    urgency: Option<Word>,
    #[serde(default)]
    severity: Option<Word>,
    #[serde(default)]
    priority: Option<Word>,
    #[serde(default)]
    binaries: List<Pairs<Word>>,
}

#[derive(Deserialize)]
struct Rating {
    #[serde(rename = "type")]
    kind: String,
    score: Word,
}

#[derive(Deserialize)]
struct Package {
    #[serde(default)]
    package: Option<Name>,
    #[serde(default)]
    severity: List<Rating>,
    #[serde(default)]
    ranges: List<Range>,
    #[serde(default)]
    versions: List<String>,
    #[serde(default)]
    ecosystem_specific: Option<Specific>,
    #[serde(default)]
    database_specific: Option<Specific>,
}

#[derive(Deserialize)]
struct Name {
    ecosystem: String,
    name: String,
    #[serde(default)]
    purl: Option<String>,
}

#[derive(Deserialize)]
struct Range {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    events: List<Pairs<Word>>,
}

/// Adds a record; gives how many it is.
pub(super) fn read(database: &mut Database, at: usize, file: &str, bytes: &[u8]) -> Result<usize, AdvisoryError> {
    let record: Record =
        serde_json::from_slice(bytes).map_err(|error| AdvisoryError::json(file, "a record of OSV", &error))?;
    if !is_name(&record.id) {
        return Err(AdvisoryError::whole(file, "is not a record of OSV: its `id` is not a name"));
    }
    let languages: Vec<Option<Ecosystem>> =
        record.affected.0.iter().filter_map(|one| Some(Ecosystem::of_osv(&one.package.as_ref()?.ecosystem))).collect();
    database.languages.extend(languages.iter().flatten().filter(|one| Order::of_language(**one).is_some()));
    database.has_distribution |= languages.is_empty() || languages.contains(&None);
    if record.withdrawn.is_some() && !fault::planted("audit-withdrawn-counts") {
        return Ok(1);
    }
    let others = [&record.aliases, &record.upstream, &record.related].into_iter().flat_map(|names| &names.0);
    for name in std::iter::once(&record.id).chain(others) {
        database.meet(name);
        // `DEBIAN-CVE-2024-1` is that CVE.
        name.find("CVE-").filter(|at| *at > 0).into_iter().for_each(|at| database.meet(&name[at..]));
    }
    let summary = record.summary.as_deref().or(record.details.as_deref()).unwrap_or_default();
    let of_record = rated(&record.severity.0, record.database_specific.as_ref())
        .or_else(|| Severity::of_word(summary.split(':').next().unwrap_or_default()));
    let mut affected = Vec::new();
    for package in record.affected.0 {
        let Some(name) = package.package else { continue };
        let ecosystem = name.ecosystem;
        let specific = package.ecosystem_specific;
        // What cannot be computed may be bad.
        let is_scored = [&package.severity, &record.severity].iter().any(|all| all.0.iter().any(Rating::is_score));
        let severity = rated(&package.severity.0, package.database_specific.as_ref())
            .or_else(|| rated(&[], specific.as_ref()))
            .or(of_record)
            .or(is_scored.then_some(Severity::High))
            .unwrap_or_default();
        let purl = name.purl.as_deref().and_then(Purl::parse);
        let release = purl.as_ref().and_then(|purl| purl.qualifier("distro").map(str::to_owned));
        let is_debian = ["Debian", "Ubuntu"].contains(&ecosystem.split(':').next().unwrap_or_default());
        let language = Ecosystem::of_osv(&ecosystem);
        let order = match language {
            // Maven's order is not known here: nothing is said of its versions.
            Some(language) => match Order::of_language(language) {
                Some(order) => order,
                None => continue,
            },
            None if is_debian => Order::Debian,
            None => Order::Rpm,
        };
        let versions = versions_of(file, order, package.ranges.0, package.versions.0)?;
        let scope = Scope::Ecosystem { ecosystem, release };
        let mut add = |name: String, names: Names, versions: Versions| {
            if database.wants(&name) && is_name(&name) {
                let (scope, arch, module) = (scope.clone(), None, None);
                affected.push(Affected { name, names, scope, versions, severity, arch, module });
            }
        };
        // SUSE's records name the source, and the packages made from it with their versions here.
        let fixes = specific.filter(|_| !is_debian).into_iter().flat_map(|specific| specific.binaries.0);
        for (binary, Word(version)) in fixes.flat_map(|fixes| fixes.0) {
            let keys = ["binary_name", "binary_version"];
            if !version.is_empty() && !keys.contains(&binary.as_str()) {
                add(binary, Names::Binary, Versions::before(&version));
            }
        }
        let name = language.map_or(name.name.clone(), |language| language.normal(&name.name));
        add(name, if is_debian { Names::Source } else { Names::Either }, versions);
    }
    if !affected.is_empty() {
        let others = [record.aliases, record.upstream, record.related].into_iter().flat_map(|names| names.0);
        let vulnerabilities =
            vulnerabilities(&record.id, others).map_err(|problem| AdvisoryError::whole(file, problem))?;
        within_pairs(affected.len(), vulnerabilities.len()).map_err(|problem| AdvisoryError::whole(file, problem))?;
        database.keep(Advisory { vulnerabilities, id: record.id, title: title(summary), affected, database: at });
    }
    Ok(1)
}

impl Rating {
    fn is_score(&self) -> bool {
        self.kind.starts_with("CVSS")
    }
}

/// Most comparisons of versions that are made to keep less of a record.
const MOST_LOOKS: usize = 10_000_000;

/// Whether a range is of versions: of semantic ones Go and Rust alone have some.
fn is_ordered(order: Order, kind: &str) -> bool {
    kind == "ECOSYSTEM" || order == Order::Semantic && kind == "SEMVER"
}

/// The versions of ranges that are ordered as the distribution orders them; commits of git are no versions of packages.
fn versions_of(
    file: &str,
    order: Order,
    ranges: Vec<Range>,
    mut single: Vec<String>,
) -> Result<Versions, AdvisoryError> {
    let mut found = Versions::default();
    for range in ranges.into_iter().filter(|range| is_ordered(order, &range.kind)) {
        let mut events = Vec::new();
        for (kind, Word(version)) in range.events.0.into_iter().flat_map(|event| event.0) {
            let event = match kind.as_str() {
                "introduced" => Event::Introduced(version),
                "fixed" => Event::Fixed(version),
                "last_affected" => Event::Last(version),
                _ => continue,
            };
            if event.version().is_empty() {
                let problem = format!("is not a record of OSV: the version of `{kind}` is not a text");
                return Err(AdvisoryError::whole(file, problem));
            }
            events.push(event);
        }
        found.ranges.push(events);
    }
    // Most records list all versions of their ranges, too. It is no matter if some are kept twice.
    let events: usize = found.ranges.iter().map(Vec::len).sum();
    if single.len().saturating_mul(events) <= MOST_LOOKS {
        single.retain(|version| found.has(order, version).is_none());
    }
    found.single = single;
    Ok(found)
}

/// The worst that is said: by a score or vector of CVSS, by a word of Ubuntu, Debian or another publisher.
fn rated(ratings: &[Rating], specific: Option<&Specific>) -> Option<Severity> {
    let of_words =
        specific.into_iter().flat_map(|specific| [&specific.urgency, &specific.severity, &specific.priority]);
    let of_words = of_words.flatten().filter_map(|word| Severity::of_word(&word.0));
    let (scores, words): (Vec<&Rating>, Vec<&Rating>) = ratings.iter().partition(|rating| rating.is_score());
    // A distribution's own word goes before the score that all have: it knows how the package is built.
    let words = of_words.chain(words.into_iter().filter_map(|rating| Severity::of_word(&rating.score.0)));
    let scores = scores.into_iter().filter_map(|rating| Severity::of_cvss(&rating.score.0));
    words.max().or_else(|| scores.max())
}

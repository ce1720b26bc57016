//! primary: the packages of a repository with what they provide and need. Source: createrepo_c and its schema.

use std::collections::{HashMap, HashSet};
use std::io::BufRead;
use std::sync::Arc;

use super::repomd::plainly;
use crate::rpm::{Candidate, Capability, Checksum, Evr, Relation, Requirement, Weak};
use base::xml::{Attributes, Event, Reader};

/// Reads an unpacked primary.xml; source packages are passed over.
pub fn read_primary(data: impl BufRead) -> Result<Vec<Candidate>, String> {
    let mut reader = Reader::new(data);
    let mut found = Vec::new();
    let mut package: Option<Package> = None;
    let mut checksum_kind = String::new();
    let mut list = List::None;
    let mut known = Known::default();
    while let Some(event) = reader.event()? {
        match event {
            Event::Start { name, attributes } => match (name, package.as_mut()) {
                ("package", None) => package = Some(Package::default()),
                (_, None) => {}
                ("version", Some(package)) => package.evr = Some(evr(attributes)),
                ("checksum", Some(_)) => {
                    checksum_kind.clear();
                    checksum_kind.push_str(attributes.get("type").unwrap_or_default());
                }
                ("size", Some(package)) => {
                    package.size = number(attributes, "package");
                    package.installed_size = number(attributes, "installed");
                }
                ("location", Some(package)) => {
                    package.location = attributes.get("href").unwrap_or_default().to_owned();
                    package.base = attributes.get("xml:base").map(str::to_owned);
                }
                ("header-range", Some(package)) => {
                    package.header_range = number(attributes, "start").zip(number(attributes, "end"));
                }
                ("entry", Some(package)) => package.add(list, attributes, &mut known),
                ("provides", Some(_)) => list = List::Provides,
                ("requires", Some(_)) => list = List::Requires,
                ("conflicts", Some(_)) => list = List::Conflicts,
                ("obsoletes", Some(_)) => list = List::Obsoletes,
                ("recommends", Some(_)) => list = List::Recommends,
                ("suggests", Some(_)) => list = List::Suggests,
                ("supplements", Some(_)) => list = List::Supplements,
                ("enhances", Some(_)) => list = List::Enhances,
                _ => {}
            },
            Event::End { name, text } => match (name, package.as_mut()) {
                (_, None) => {}
                ("package", Some(_)) => {
                    if let Some(package) = package.take()
                        && let Some(candidate) = package.finish()?
                    {
                        found.push(candidate);
                    }
                }
                ("name", Some(package)) => text.trim().clone_into(&mut package.name),
                ("arch", Some(package)) => text.trim().clone_into(&mut package.arch),
                ("checksum", Some(package)) => package.checksum = Some(Checksum::parse(&checksum_kind, text)),
                ("sourcerpm", Some(package)) => {
                    package.source = Some(text.trim().to_owned()).filter(|text| !text.is_empty());
                }
                ("file", Some(package)) => package.files.push(text.to_owned()),
                (
                    "provides" | "requires" | "conflicts" | "obsoletes" | "recommends" | "suggests" | "supplements"
                    | "enhances",
                    Some(_),
                ) => list = List::None,
                _ => {}
            },
        }
    }
    reader.ended_within("metadata")?;
    Ok(found)
}

#[derive(Clone, Copy)]
enum List {
    None,
    Provides,
    Requires,
    Conflicts,
    Obsoletes,
    Recommends,
    Suggests,
    Supplements,
    Enhances,
}

#[derive(Default)]
struct Package {
    name: String,
    arch: String,
    evr: Option<Evr>,
    checksum: Option<Result<Checksum, String>>,
    size: Option<u64>,
    installed_size: Option<u64>,
    location: String,
    base: Option<String>,
    header_range: Option<(u64, u64)>,
    source: Option<String>,
    provides: Vec<Capability>,
    requires: Vec<Requirement>,
    conflicts: Vec<Capability>,
    obsoletes: Vec<Capability>,
    weak: Weak,
    files: Vec<String>,
}

fn number(attributes: &Attributes, name: &str) -> Option<u64> {
    attributes.get(name).and_then(|text| text.parse().ok())
}

fn evr(attributes: &Attributes) -> Evr {
    let text = |name: &str| attributes.get(name).unwrap_or_default().to_owned();
    let epoch = attributes.get("epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    Evr { epoch, version: text("ver"), release: text("rel") }
}

/// Names and versions that stood before: most stand often.
#[derive(Default)]
struct Known {
    names: HashSet<Arc<str>>,
    versions: HashMap<String, Arc<(Relation, Evr)>>,
    key: String,
}

impl Known {
    fn capability(&mut self, attributes: &Attributes) -> Capability {
        let name = attributes.get("name").unwrap_or_default();
        let name = match self.names.get(name) {
            Some(known) => Arc::clone(known),
            None => {
                let new: Arc<str> = name.into();
                self.names.insert(Arc::clone(&new));
                new
            }
        };
        let relation = attributes.get("flags").and_then(Relation::parse);
        let Some(relation) = relation.filter(|_| attributes.get("ver").is_some()) else {
            return Capability { name, version: None };
        };
        self.key.clear();
        for part in ["flags", "epoch", "ver", "rel"] {
            self.key.push_str(attributes.get(part).unwrap_or_default());
            self.key.push('\n');
        }
        let version = match self.versions.get(&self.key) {
            Some(known) => Arc::clone(known),
            None => {
                let new = Arc::new((relation, evr(attributes)));
                self.versions.insert(self.key.clone(), Arc::clone(&new));
                new
            }
        };
        Capability { name, version: Some(version) }
    }
}

impl Package {
    fn add(&mut self, list: List, attributes: &Attributes, known: &mut Known) {
        let capability = known.capability(attributes);
        let pre = matches!(attributes.get("pre"), Some("1" | "true"));
        match list {
            List::None => {}
            List::Provides => self.provides.push(capability),
            List::Requires => self.requires.push(Requirement { capability, pre }),
            List::Conflicts => self.conflicts.push(capability),
            List::Obsoletes => self.obsoletes.push(capability),
            List::Recommends => self.weak.recommends.push(capability),
            List::Suggests => self.weak.suggests.push(capability),
            List::Supplements => self.weak.supplements.push(capability),
            List::Enhances => self.weak.enhances.push(capability),
        }
    }

    /// The package, unless it is a source package.
    fn finish(self) -> Result<Option<Candidate>, String> {
        if matches!(self.arch.as_str(), "src" | "nosrc") {
            return Ok(None);
        }
        let shown = self.name.escape_default().to_string();
        let lacks = |what: &str| format!("has a package `{shown}` without {what}");
        let evr = self.evr.filter(|evr| !evr.version.is_empty()).ok_or_else(|| lacks("a version"))?;
        let checksum = self.checksum.ok_or_else(|| lacks("a digest"))?;
        let checksum = checksum.map_err(|problem| format!("{problem} for the package `{shown}`"))?;
        let mut candidate = Candidate {
            evr,
            checksum,
            size: self.size.ok_or_else(|| lacks("a size"))?,
            installed_size: self.installed_size.unwrap_or(0),
            name: self.name,
            arch: self.arch,
            location: self.location,
            base: self.base,
            header_range: self.header_range,
            source: self.source,
            provides: self.provides,
            requires: self.requires,
            conflicts: self.conflicts,
            obsoletes: self.obsoletes,
            weak: self.weak,
            files: self.files,
        };
        check_words(&candidate)?;
        // Lists grow by doubling: of 18,000 packages that is megabytes.
        candidate.provides.shrink_to_fit();
        candidate.requires.shrink_to_fit();
        candidate.files.shrink_to_fit();
        Ok(Some(candidate))
    }
}

/// Refuses names, versions and places that must not become file names and arguments.
pub(super) fn check_words(candidate: &Candidate) -> Result<(), String> {
    let shown = candidate.name.escape_default();
    for (what, text, more) in [
        ("name", &candidate.name, "._+-"),
        ("architecture", &candidate.arch, "_"),
        ("version", &candidate.evr.version, "._+~^"),
        ("release", &candidate.evr.release, "._+~^"),
    ] {
        let good = text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
        let first = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        // perl-IO-Stty of openSUSE has the version `.02`.
        let is_number = matches!(what, "version" | "release");
        if !good || !(first || is_number) {
            return Err(format!("has a package `{shown}` with a bad {what}: `{}`", text.escape_default()));
        }
    }
    // Beside it, on the same server, it may be: whether the address leads there is found out when it is pinned.
    let is_file = !candidate.location.starts_with('/') && plainly(&candidate.location).is_some();
    if candidate.base.is_none() && !is_file {
        return Err(format!(
            "has a package `{shown}` that is outside the repository: `{}`",
            candidate.location.escape_default()
        ));
    }
    Ok(())
}

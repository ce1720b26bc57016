//! The packages that may be chosen, by number, and who provides what.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::super::candidate::versions_meet;
use super::super::rich::Rich;
use crate::rpm::{Candidate, Capability, Evr, Relation, Repository};

/// Number of a package, from 1; negative in rules: the package is not chosen.
pub(super) type Id = i32;

type Version = (Relation, Evr);

pub(super) struct Entry<'a> {
    pub repository: usize,
    pub index: usize,
    pub candidate: &'a Candidate,
    /// The higher, the more its repository is preferred.
    pub priority: i64,
}

pub(super) struct Pool<'a> {
    /// The first one is no package.
    entries: Vec<Option<Entry<'a>>>,
    providers: HashMap<&'a str, Vec<(Id, Option<&'a Version>)>>,
    files: HashMap<&'a str, Vec<Id>>,
    /// Files that only `filelists` names.
    more_files: HashMap<String, Vec<Id>>,
    found: RefCell<HashMap<String, Rc<[Id]>>>,
}

impl<'a> Pool<'a> {
    /// Takes the packages of an architecture that are neither excluded nor hidden.
    pub(super) fn new(
        repositories: &'a [Repository],
        arch: &str,
        may: &dyn Fn(&Repository, &Candidate) -> bool,
    ) -> Self {
        let mut entries = vec![None];
        for (number, repository) in repositories.iter().enumerate() {
            let kept = kept(repository);
            for (index, candidate) in repository.candidates.iter().enumerate() {
                let foreign = candidate.arch != arch && candidate.arch != "noarch";
                if foreign || !kept(candidate) || repository.hidden.contains(&index) || !may(repository, candidate) {
                    continue;
                }
                let priority = -i64::from(repository.priority);
                entries.push(Some(Entry { repository: number, index, candidate, priority }));
            }
        }
        let mut providers: HashMap<&str, Vec<_>> = HashMap::new();
        let mut files: HashMap<&str, Vec<Id>> = HashMap::new();
        for (id, entry) in entries.iter().enumerate() {
            let Some(entry) = entry else { continue };
            let id = id as Id;
            for capability in &entry.candidate.provides {
                providers.entry(&*capability.name).or_default().push((id, capability.version.as_deref()));
            }
            for path in &entry.candidate.files {
                files.entry(path.as_str()).or_default().push(id);
            }
        }
        Self { entries, providers, files, more_files: HashMap::new(), found: RefCell::default() }
    }

    /// How many numbers there are, zero counted.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = Id> + use<> {
        1..self.entries.len() as Id
    }

    pub(super) fn entry(&self, id: Id) -> Option<&Entry<'a>> {
        self.entries.get(id.unsigned_abs() as usize).and_then(Option::as_ref)
    }

    pub(super) fn candidate(&self, id: Id) -> &'a Candidate {
        // Numbers come from this pool alone.
        static NOTHING: std::sync::LazyLock<Candidate> = std::sync::LazyLock::new(Candidate::nothing);
        self.entry(id).map_or(&NOTHING, |entry| entry.candidate)
    }

    /// Paths that some package of the pool needs, or would like, and none is known to have. What is liked installs nothing, but
    /// decides between packages that are equally good.
    pub(super) fn missing_paths(&self, seeds: &[Capability]) -> BTreeSet<String> {
        let mut missing = BTreeSet::new();
        let mut look = |capability: &Capability| {
            let name = &capability.name;
            if name.starts_with('/') && !self.files.contains_key(&**name) && !self.providers.contains_key(&**name) {
                missing.insert(name.to_string());
            }
        };
        seeds.iter().for_each(&mut look);
        for entry in self.entries.iter().flatten() {
            let requires = entry.candidate.requires.iter().map(|requirement| &requirement.capability);
            let weak = &entry.candidate.weak;
            let liked = [&weak.recommends, &weak.suggests, &weak.supplements, &weak.enhances].into_iter().flatten();
            for capability in requires.chain(&entry.candidate.conflicts).chain(liked) {
                if capability.name.starts_with('/') {
                    look(capability);
                } else if capability.name.starts_with('(')
                    && capability.name.contains('/')
                    && let Ok(rich) = Rich::of(capability)
                {
                    rich.each(&mut look);
                }
            }
        }
        missing
    }

    /// Adds files of packages that `primary` did not name.
    pub(super) fn add_files(&mut self, repository: usize, found: impl Iterator<Item = (usize, String)>) {
        let by_index: HashMap<usize, Id> = self
            .ids()
            .filter_map(|id| {
                self.entry(id).filter(|entry| entry.repository == repository).map(|entry| (entry.index, id))
            })
            .collect();
        for (index, path) in found {
            if let Some(id) = by_index.get(&index) {
                self.more_files.entry(path).or_default().push(*id);
            }
        }
        self.found.borrow_mut().clear();
    }

    /// Who provides a plain capability, in the order of their numbers.
    pub(super) fn providers(&self, capability: &Capability) -> Rc<[Id]> {
        let key = capability.to_string();
        if let Some(known) = self.found.borrow().get(&key) {
            return Rc::clone(known);
        }
        let mut ids: Vec<Id> = Vec::new();
        for (id, version) in self.providers.get(&*capability.name).into_iter().flatten() {
            if versions_meet(capability.version.as_deref(), *version) {
                ids.push(*id);
            }
        }
        if capability.name.starts_with('/') {
            ids.extend(self.files.get(&*capability.name).into_iter().flatten());
            ids.extend(self.more_files.get(&*capability.name).into_iter().flatten());
        }
        ids.sort_unstable();
        ids.dedup();
        let ids: Rc<[Id]> = ids.into();
        self.found.borrow_mut().insert(key, Rc::clone(&ids));
        ids
    }

    /// Packages of a name, in the order of their numbers; they provide their own names.
    pub(super) fn named(&self, name: &str) -> Vec<Id> {
        let mut ids: Vec<Id> = self
            .providers
            .get(name)
            .into_iter()
            .flatten()
            .map(|(id, _)| *id)
            .filter(|id| self.candidate(*id).name == name)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whether a package is one that an obsoletes line names: its name, and its own version.
    pub(super) fn is_named_by(&self, id: Id, capability: &Capability) -> bool {
        let candidate = self.candidate(id);
        *candidate.name == *capability.name
            && versions_meet(capability.version.as_deref(), Some(&(Relation::EQUAL, candidate.evr.clone())))
    }

    /// All names that are provided, for messages.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.providers.keys().copied()
    }

    pub(super) fn met(&self, capability: &Capability, chosen: &dyn Fn(Id) -> bool) -> bool {
        Rich::of(capability).is_ok_and(|rich| self.rich_met(&rich, chosen))
    }

    fn rich_met(&self, rich: &Rich, chosen: &dyn Fn(Id) -> bool) -> bool {
        match rich {
            Rich::One(_) | Rich::With(_) | Rich::Without(..) => self.set(rich).iter().any(|id| chosen(*id)),
            Rich::And(all) => all.iter().all(|one| self.rich_met(one, chosen)),
            Rich::Or(all) => all.iter().any(|one| self.rich_met(one, chosen)),
            Rich::If(then, condition, other) if self.rich_met(condition, chosen) => {
                let _ = other;
                self.rich_met(then, chosen)
            }
            Rich::If(_, _, other) => other.as_ref().is_none_or(|other| self.rich_met(other, chosen)),
            Rich::Unless(then, condition, _) if !self.rich_met(condition, chosen) => self.rich_met(then, chosen),
            Rich::Unless(_, _, other) => other.as_ref().is_some_and(|other| self.rich_met(other, chosen)),
        }
    }

    /// The packages that meet a dependency each by itself.
    pub(super) fn set(&self, rich: &Rich) -> BTreeSet<Id> {
        match rich {
            Rich::One(capability) => self.providers(capability).iter().copied().collect(),
            Rich::With(all) | Rich::And(all) => {
                let mut sets = all.iter().map(|one| self.set(one));
                let first = sets.next().unwrap_or_default();
                sets.fold(first, |one, two| &one & &two)
            }
            Rich::Or(all) => all.iter().flat_map(|one| self.set(one)).collect(),
            Rich::Without(one, two) => &self.set(one) - &self.set(two),
            Rich::If(one, ..) => self.set(one),
            Rich::Unless(one, two, _) => &self.set(one) - &self.set(two),
        }
    }
}

/// A pattern of names or NEVRAs.
struct Glob(globset::GlobMatcher);

impl Glob {
    fn fits(&self, candidate: &Candidate) -> bool {
        let full = format!("{}-{}-{}.{}", candidate.name, candidate.evr.version, candidate.evr.release, candidate.arch);
        self.0.is_match(&candidate.name)
            || self.0.is_match(candidate.nevra())
            || self.0.is_match(full)
            || self.0.is_match(format!("{}.{}", candidate.name, candidate.arch))
            || self.0.is_match(format!("{}-{}", candidate.name, candidate.evr))
    }
}

/// Whether `exclude` and `include` of a repository leave a package to be chosen.
fn kept(repository: &Repository) -> impl Fn(&Candidate) -> bool + use<> {
    let (excluded, included) = (globs(&repository.exclude), globs(&repository.include));
    move |candidate| {
        !excluded.iter().any(|glob| glob.fits(candidate))
            && (included.is_empty() || included.iter().any(|glob| glob.fits(candidate)))
    }
}

/// Packages of a repository that its `exclude` and `include` leave out.
pub fn left_out(repository: &Repository) -> Vec<&Candidate> {
    let kept = kept(repository);
    repository.candidates.iter().filter(|candidate| !kept(candidate)).collect()
}

/// Patterns that cannot be read fit nothing.
fn globs(patterns: &[String]) -> Vec<Glob> {
    patterns.iter().filter_map(|text| globset::Glob::new(text).ok()).map(|glob| Glob(glob.compile_matcher())).collect()
}

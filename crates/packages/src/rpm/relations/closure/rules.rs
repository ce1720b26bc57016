//! Rules: what must hold of any choice of packages, in conjunctive normal form.
//!
//! Which rules there are, and their order, is libsolv's (rules.c, described and not copied), because where several
//! choices are good the order decides.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::super::rich::Rich;
use super::pool::{Id, Pool};
use crate::rpm::{Capability, Requirement};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    Requires(Id, String),
    /// A package requires something that nothing provides.
    Nothing(Id, String),
    Conflicts(Id, Id, String),
    Obsoletes(Id, Id, String),
    SameName(Id, Id),
    /// It was asked for: number of the seed.
    Seed(usize),
    Learnt,
}

#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// Never empty.
    pub literals: Vec<Id>,
    pub reason: Reason,
}

/// What rpm itself provides; a package that asks for another feature cannot be installed. Source: rpm 4.18,
/// lib/rpmds.c, and those of rpm 4.20.
const RPMLIB: [&str; 22] = [
    "rpmlib(VersionedDependencies)",
    "rpmlib(CompressedFileNames)",
    "rpmlib(PayloadIsBzip2)",
    "rpmlib(PayloadIsXz)",
    "rpmlib(PayloadIsLzma)",
    "rpmlib(PayloadIsZstd)",
    "rpmlib(PayloadFilesHavePrefix)",
    "rpmlib(ExplicitPackageProvide)",
    "rpmlib(HeaderLoadSortsTags)",
    "rpmlib(ScriptletInterpreterArgs)",
    "rpmlib(PartialHardlinkSets)",
    "rpmlib(ConcurrentAccess)",
    "rpmlib(BuiltinLuaScripts)",
    "rpmlib(FileDigests)",
    "rpmlib(FileCaps)",
    "rpmlib(ScriptletExpansion)",
    "rpmlib(TildeInVersions)",
    "rpmlib(CaretInVersions)",
    "rpmlib(LargeFiles)",
    "rpmlib(RichDependencies)",
    "rpmlib(DynamicBuildRequires)",
    "rpmlib(SetVersions)",
];

/// Makes the rules of all packages that the seeds may lead to.
pub(super) struct Maker<'p, 'a> {
    pool: &'p Pool<'a>,
    added: Vec<bool>,
    work: VecDeque<Id>,
    pub rules: Vec<Rule>,
}

impl<'p, 'a> Maker<'p, 'a> {
    pub(super) fn new(pool: &'p Pool<'a>) -> Self {
        Self { pool, added: vec![false; pool.len()], work: VecDeque::new(), rules: Vec::new() }
    }

    fn add(&mut self, mut literals: Vec<Id>, reason: Reason) {
        if let [one, two] = literals[..] {
            if one == -two {
                return;
            }
            if one > two {
                literals.swap(0, 1);
            }
        } else if let Some((first, rest)) = literals.split_first()
            && rest.contains(&-first)
        {
            return;
        }
        self.rules.push(Rule { literals, reason });
    }

    fn visit(&mut self, ids: &[Id]) {
        for id in ids {
            if *id > 0 && !self.added[*id as usize] {
                self.work.push_back(*id);
            }
        }
    }

    /// Adds the rules of a package and of all that its dependencies lead to.
    pub(super) fn package(&mut self, id: Id) {
        self.work.push_back(id);
        while let Some(id) = self.work.pop_front() {
            if std::mem::replace(&mut self.added[id as usize], true) {
                continue;
            }
            let candidate = self.pool.candidate(id);
            for requirement in &candidate.requires {
                self.requires(id, requirement);
            }
            for conflict in &candidate.conflicts {
                self.conflicts(id, conflict);
            }
            for obsolete in &candidate.obsoletes {
                for other in self.pool.named(&obsolete.name) {
                    if other != id && self.pool.is_named_by(other, obsolete) {
                        self.add(vec![-id, -other], Reason::Obsoletes(id, other, obsolete.to_string()));
                    }
                }
            }
            for other in self.pool.named(&candidate.name) {
                if other != id && !self.added[other as usize] {
                    self.add(vec![-id, -other], Reason::SameName(id, other));
                }
            }
        }
    }

    fn requires(&mut self, id: Id, requirement: &Requirement) {
        let capability = &requirement.capability;
        if capability.name.starts_with("rpmlib(") {
            if !RPMLIB.contains(&&*capability.name) {
                self.add(vec![-id], Reason::Nothing(id, capability.to_string()));
            }
            return;
        }
        if capability.name.starts_with('(') {
            match Rich::of(capability) {
                Ok(rich) => {
                    let clauses = normal_form(self.pool, &rich, true);
                    self.clauses(id, clauses, |literals| match literals {
                        [_] => Reason::Nothing(id, capability.to_string()),
                        _ => Reason::Requires(id, capability.to_string()),
                    });
                }
                Err(_) => self.add(vec![-id], Reason::Nothing(id, capability.to_string())),
            }
            return;
        }
        let providers = self.pool.providers(capability);
        if providers.is_empty() {
            self.add(vec![-id], Reason::Nothing(id, capability.to_string()));
        } else if !providers.contains(&id) {
            let literals = std::iter::once(-id).chain(providers.iter().copied()).collect();
            self.add(literals, Reason::Requires(id, capability.to_string()));
            self.visit(&providers);
        }
    }

    fn conflicts(&mut self, id: Id, conflict: &Capability) {
        if conflict.name.starts_with('(') {
            // What cannot be read is met by nothing.
            if let Ok(rich) = Rich::of(conflict) {
                let clauses = normal_form(self.pool, &rich, false);
                // A package does not conflict with itself.
                let clauses = clauses.into_iter().filter(|clause| clause[..] != [-id]).collect();
                self.clauses(id, clauses, |literals| {
                    let other = literals.iter().find(|literal| **literal != -id).map_or(id, |literal| literal.abs());
                    Reason::Conflicts(id, other, conflict.to_string())
                });
            }
            return;
        }
        for other in self.pool.providers(conflict).iter() {
            if *other != id {
                self.add(vec![-id, -other], Reason::Conflicts(id, *other, conflict.to_string()));
            }
        }
    }

    /// Adds `package implies clause` for each.
    fn clauses(&mut self, id: Id, clauses: Vec<Vec<Id>>, reason: impl Fn(&[Id]) -> Reason) {
        for mut clause in clauses {
            if clause.contains(&id) {
                continue;
            }
            clause.push(-id);
            clause.sort_unstable();
            clause.dedup();
            // Requirements of one kind of package begin with the package itself, as plain ones do.
            let reason = reason(&clause);
            let ids = clause.clone();
            self.add(clause, reason);
            self.visit(&ids);
        }
    }

    /// The rules in libsolv's order, each once; the first is a placeholder.
    pub(super) fn finish(self) -> Vec<Rule> {
        let mut rules = self.rules;
        rules.sort_by(|one, two| order(&one.literals, &two.literals));
        rules.dedup_by(|one, two| one.literals == two.literals);
        rules.insert(0, Rule { literals: vec![0], reason: Reason::Learnt });
        rules
    }
}

/// The first literals, then what follows: one alone before several that begin with it.
fn order(one: &[Id], two: &[Id]) -> Ordering {
    let at = |literals: &[Id], index: usize| literals.get(index).copied().unwrap_or(0);
    let first = at(one, 0).cmp(&at(two, 0));
    if first.is_ne() {
        return first;
    }
    match (one.len() <= 2, two.len() <= 2) {
        (true, true) => at(one, 1).cmp(&at(two, 1)),
        (true, false) => at(one, 1).cmp(&at(two, 1)).then(Ordering::Less),
        (false, true) => at(one, 1).cmp(&at(two, 1)).then(Ordering::Greater),
        (false, false) => {
            for index in 1..two.len() {
                let order = at(one, index).cmp(&at(two, index));
                if order.is_ne() {
                    return order;
                }
            }
            one.len().cmp(&two.len())
        }
    }
}

/// Most clauses that one dependency may become; real ones become a few.
const CLAUSE_LIMIT: usize = 1 << 17;

/// Clauses that together say that a dependency is met, or that it is not; an empty clause cannot hold.
fn normal_form(pool: &Pool<'_>, rich: &Rich, met: bool) -> Vec<Vec<Id>> {
    let both = |one: Vec<Vec<Id>>, two: Vec<Vec<Id>>| one.into_iter().chain(two).collect::<Vec<_>>();
    let either = |one: Vec<Vec<Id>>, two: Vec<Vec<Id>>| {
        let mut all = Vec::new();
        for left in &one {
            for right in &two {
                let mut clause: Vec<Id> = left.iter().chain(right).copied().collect();
                clause.sort_unstable();
                clause.dedup();
                if !clause.iter().any(|literal| clause.binary_search(&-literal).is_ok()) {
                    all.push(clause);
                }
                if all.len() > CLAUSE_LIMIT {
                    // More than anybody means; it counts as one that cannot be met.
                    return vec![Vec::new()];
                }
            }
        }
        all.sort();
        all.dedup();
        all
    };
    let form = |rich: &Rich, met: bool| normal_form(pool, rich, met);
    match (rich, met) {
        (Rich::One(_) | Rich::With(_) | Rich::Without(..), true) => vec![pool.set(rich).into_iter().collect()],
        (Rich::One(_) | Rich::With(_) | Rich::Without(..), false) => {
            pool.set(rich).into_iter().map(|id| vec![-id]).collect()
        }
        (Rich::And(all), true) | (Rich::Or(all), false) => {
            all.iter().map(|one| form(one, met)).reduce(both).unwrap_or_default()
        }
        (Rich::Or(all), true) | (Rich::And(all), false) => {
            all.iter().map(|one| form(one, met)).reduce(either).unwrap_or_default()
        }
        // a if b else c: (a or not b) and (c or b).
        (Rich::If(then, condition, other), true) => {
            let first = either(form(then, true), form(condition, false));
            match other {
                Some(other) => both(first, either(form(other, true), form(condition, true))),
                None => first,
            }
        }
        // Not that: b and not a, or neither b nor c.
        (Rich::If(then, condition, other), false) => {
            let first = both(form(condition, true), form(then, false));
            match other {
                Some(other) => either(first, both(form(condition, false), form(other, false))),
                None => first,
            }
        }
        // a unless b else c: a and not b, or c and b.
        (Rich::Unless(then, condition, other), true) => {
            let first = both(form(then, true), form(condition, false));
            match other {
                Some(other) => either(first, both(form(other, true), form(condition, true))),
                None => first,
            }
        }
        (Rich::Unless(then, condition, other), false) => {
            let first = either(form(then, false), form(condition, true));
            match other {
                Some(other) => both(first, either(form(other, false), form(condition, false))),
                None => first,
            }
        }
    }
}

//! The closure of hard requirements over some seeds: which packages a tools root is made of.
//!
//! Reckoned as libsolv would for an empty system without weak dependencies, so that it is what dnf or zypper would
//! install. Packages of other architectures than the native one and `noarch` are never taken.
//!
//! How equal: tests/it/e2e/closure.rs compares 200 random sets, all of which are the same. In a longer run
//! (`IMGBUILD_TEST_CLOSURES=24`), 2596 of 2600 sets were the same as those of libsolv 0.7.23; docs/rpm.md has one of the others.

mod explain;
mod policy;
mod pool;
mod rules;
mod sat;

pub use pool::left_out;
use pool::{Id, Pool};
use rules::{Maker, Reason, Rule};
use sat::Solver;

use crate::DistroError;
use crate::rpm::metadata::filelists;
use crate::rpm::{Candidate, Capability, Repository};

/// What has to be installed for some seeds: pairs of a repository's and a candidate's index, sorted.
///
/// A seed is a package name (with a version: `name = 1.0`), or else what a package provides, or a path. Weak
/// dependencies are left out. Where paths are needed that `primary` does not name, `filelists` are read.
/// Errors: [`DistroError::NoClosure`] that says which package needs what; [`DistroError::Format`] for a damaged `filelists`.
pub fn closure(repositories: &[Repository], seeds: &[String], arch: &str) -> Result<Vec<(usize, usize)>, DistroError> {
    closure_of(repositories, seeds, arch, &|_, _| true)
}

/// The same of those packages that a function says yes to, besides what repositories leave out themselves.
/// Errors: As [`closure`].
pub fn closure_of(
    repositories: &[Repository],
    seeds: &[String],
    arch: &str,
    may: &dyn Fn(&Repository, &Candidate) -> bool,
) -> Result<Vec<(usize, usize)>, DistroError> {
    let wanted: Vec<Capability> = seeds.iter().map(|seed| Capability::parse(seed)).collect();
    let mut pool = Pool::new(repositories, arch, may);
    let missing = pool.missing_paths(&wanted);
    if !missing.is_empty() {
        for (number, repository) in repositories.iter().enumerate() {
            let found = filelists::packages_with(repository, &missing)?;
            pool.add_files(number, found.into_iter());
        }
    }
    let mut maker = Maker::new(&pool);
    let mut seed_rules = Vec::new();
    let mut unknown = Vec::new();
    for (number, seed) in wanted.iter().enumerate() {
        let ids = seeded(&pool, seed);
        if ids.is_empty() {
            unknown.push(seed);
        }
        for id in &ids {
            maker.package(*id);
        }
        seed_rules.push(Rule { literals: ids, reason: Reason::Seed(number) });
    }
    if !unknown.is_empty() {
        return Err(explain::unknown(&pool, &unknown));
    }
    let mut solver = Solver::new(&pool, maker.finish(), seed_rules);
    match solver.solve() {
        Ok(ids) => {
            let mut chosen: Vec<(usize, usize)> =
                ids.iter().filter_map(|id| pool.entry(*id)).map(|entry| (entry.repository, entry.index)).collect();
            chosen.sort_unstable();
            Ok(chosen)
        }
        Err(contradiction) => {
            let reasons = contradiction.0.iter().map(|number| &solver.rule(*number).reason);
            Err(explain::contradiction(&pool, &wanted, reasons))
        }
    }
}

/// The packages that a seed means: those of its name, or else those that provide it.
fn seeded(pool: &Pool<'_>, seed: &Capability) -> Vec<Id> {
    let mut ids = pool.named(&seed.name);
    ids.retain(|id| pool.is_named_by(*id, seed));
    if ids.is_empty() {
        ids = match super::rich::Rich::of(seed) {
            Ok(rich) => pool.set(&rich).into_iter().collect(),
            Err(_) => Vec::new(),
        };
    }
    ids
}

#[cfg(test)]
mod tests;

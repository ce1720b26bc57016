//! Why there is no closure, in words.

use std::collections::BTreeSet;

use super::pool::{Id, Pool};
use super::rules::Reason;
use crate::DistroError;
use crate::rpm::Capability;
use base::source::nearest;

/// How many lines an explanation has at most.
const LINES: usize = 12;

/// How many packages a line names at most.
const NAMES: usize = 4;

pub(super) fn unknown(pool: &Pool<'_>, seeds: &[&Capability]) -> DistroError {
    let lines: Vec<String> =
        seeds.iter().map(|seed| format!("no repository has `{seed}`{}", near(pool, seed))).collect();
    DistroError::NoClosure {
        detail: lines.join("\n"),
        help: "check the repositories, their excludes, and whether the release and the architecture are right"
            .to_owned(),
    }
}

/// Names like one that nothing provides, or other versions of it.
fn near(pool: &Pool<'_>, wanted: &Capability) -> String {
    let versions: Vec<String> =
        pool.named(&wanted.name).into_iter().map(|id| pool.candidate(id).evr.to_string()).take(NAMES).collect();
    if !versions.is_empty() {
        return format!(": available is {} {}", wanted.name, versions.join(", "));
    }
    // Names of another kind are never meant: paths, and capabilities with a kind in parentheses.
    let kind = |name: &str| (name.starts_with('/'), name.contains('('));
    let names = pool.names().filter(|name| kind(name) == kind(&wanted.name));
    let found = nearest(&wanted.name, names);
    if found.is_empty() {
        return String::new();
    }
    let found: Vec<String> = found.into_iter().map(|name| format!("`{name}`")).collect();
    format!("; names like it: {}", found.join(", "))
}

pub(super) fn contradiction<'r>(
    pool: &Pool<'_>,
    seeds: &[Capability],
    reasons: impl Iterator<Item = &'r Reason>,
) -> DistroError {
    let reasons: Vec<&Reason> = reasons.collect();
    let name = |id: Id| pool.candidate(id).nevra();
    let mut lines = BTreeSet::new();
    // Only what says that something is missing or in the way; who needs whom comes after.
    for reason in &reasons {
        let line = match reason {
            Reason::Nothing(id, wanted) => {
                format!(
                    "0{} needs `{wanted}`, which no package provides{}",
                    name(*id),
                    near(pool, &Capability::parse(wanted))
                )
            }
            Reason::Conflicts(one, two, what) => {
                format!("1{} conflicts with `{what}`, provided by {}", name(*one), name(*two))
            }
            Reason::Obsoletes(one, two, what) => {
                format!("1{} replaces `{what}`, provided by {}", name(*one), name(*two))
            }
            Reason::SameName(one, two) => format!("2{} and {} cannot be installed together", name(*one), name(*two)),
            Reason::Requires(id, wanted) => {
                format!("3{} needs `{wanted}`, which {} would provide", name(*id), by(pool, wanted))
            }
            Reason::Seed(number) => match seeds.get(*number) {
                Some(seed) => format!("4`{seed}` is requested"),
                None => continue,
            },
            Reason::Learnt => continue,
        };
        lines.insert(line);
    }
    let count = lines.len();
    let mut shown: Vec<String> = lines.into_iter().take(LINES).map(|line| line[1..].to_owned()).collect();
    if count > LINES {
        shown.push(format!("and {} more related to these", count - LINES));
    }
    DistroError::NoClosure {
        detail: shown.join("\n"),
        help: "check that the repositories belong together and are complete, and their excludes and priorities"
            .to_owned(),
    }
}

fn by(pool: &Pool<'_>, wanted: &str) -> String {
    let ids: Vec<Id> = match super::super::rich::Rich::of(&Capability::parse(wanted)) {
        Ok(rich) => pool.set(&rich).into_iter().collect(),
        Err(_) => Vec::new(),
    };
    let mut names: Vec<String> = ids.iter().take(NAMES).map(|id| pool.candidate(*id).nevra()).collect();
    if ids.len() > NAMES {
        names.push(format!("{} others", ids.len() - NAMES));
    }
    if names.is_empty() { "none".to_owned() } else { names.join(" or ") }
}

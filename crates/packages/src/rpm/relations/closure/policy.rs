//! Which of several packages is taken. Source: libsolv's policy.c, described and not copied.
//!
//! Best priority, then the newest of each name, then those that obsolete others, then those that what is chosen
//! recommends; what is left is ordered: no old versions first, newer versions of common capabilities first, suggested
//! ones first.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::super::version::compare;
use super::pool::{Id, Pool};
use crate::rpm::{Capability, Evr, Relation};

/// What packages that are chosen would like to have beside them.
#[derive(Debug, Default)]
pub(super) struct Liked {
    recommended: BTreeSet<Id>,
    suggested: BTreeSet<Id>,
}

impl Liked {
    pub(super) fn add(&mut self, pool: &Pool<'_>, id: Id) {
        let weak = &pool.candidate(id).weak;
        collect(pool, &weak.recommends, &mut self.recommended);
        collect(pool, &weak.suggests, &mut self.suggested);
    }

    pub(super) fn is_recommended(&self, pool: &Pool<'_>, id: Id, chosen: &dyn Fn(Id) -> bool) -> bool {
        let supplements = &pool.candidate(id).weak.supplements;
        self.recommended.contains(&id) || supplements.iter().any(|one| pool.met(one, chosen))
    }

    fn is_suggested(&self, pool: &Pool<'_>, id: Id, chosen: &dyn Fn(Id) -> bool) -> bool {
        let enhances = &pool.candidate(id).weak.enhances;
        self.suggested.contains(&id) || enhances.iter().any(|one| pool.met(one, chosen))
    }
}

fn collect(pool: &Pool<'_>, wanted: &[Capability], into: &mut BTreeSet<Id>) {
    for capability in wanted {
        // Boolean wishes do not order anything here.
        if !capability.name.starts_with('(') {
            into.extend(pool.providers(capability).iter());
        }
    }
}

/// Leaves only what is as good as the best; with `reorder`, the best comes first.
pub(super) fn filter(pool: &Pool<'_>, ids: &mut Vec<Id>, liked: &Liked, chosen: &dyn Fn(Id) -> bool, reorder: bool) {
    if ids.len() > 1 {
        let priority = |id: &Id| pool.entry(*id).map_or(i64::MIN, |entry| entry.priority);
        let best = ids.iter().map(priority).max();
        ids.retain(|id| Some(priority(id)) == best);
    }
    if ids.len() > 1 {
        newest(pool, ids);
    }
    if ids.len() > 1 {
        let kept: Vec<Id> = ids.iter().copied().filter(|id| liked.is_recommended(pool, *id, chosen)).collect();
        if !kept.is_empty() {
            *ids = kept;
        }
    }
    if ids.len() > 1 && reorder {
        to_the_end(ids, |id| is_old(pool, id));
        by_common_capability(pool, ids);
        to_the_end(ids, |id| !liked.is_suggested(pool, id, chosen));
    }
}

/// The newest package of each name, without those that others of them obsolete.
fn newest(pool: &Pool<'_>, ids: &mut Vec<Id>) {
    ids.sort_by(|one, two| pool.candidate(*one).name.cmp(&pool.candidate(*two).name).then(one.cmp(two)));
    let mut kept: Vec<Id> = Vec::new();
    for id in ids.iter().copied() {
        let candidate = pool.candidate(id);
        match kept.last_mut() {
            Some(best) if pool.candidate(*best).name == candidate.name => {
                if pool.candidate(*best).evr < candidate.evr {
                    *best = id;
                }
            }
            _ => kept.push(id),
        }
    }
    *ids = kept;
    if ids.len() > 1 {
        *ids = unobsoleted(pool, ids);
    }
}

/// Drops what another of the packages, by a chain of them, obsoletes and does not obsolete in turn.
fn unobsoleted(pool: &Pool<'_>, ids: &[Id]) -> Vec<Id> {
    let count = ids.len();
    let mut reaches = vec![vec![false; count]; count];
    for (from, id) in ids.iter().enumerate() {
        for obsolete in &pool.candidate(*id).obsoletes {
            for (to, other) in ids.iter().enumerate() {
                let other_name = pool.candidate(*other).name != pool.candidate(*id).name;
                if from != to && other_name && pool.is_named_by(*other, obsolete) {
                    reaches[from][to] = true;
                }
            }
        }
    }
    for middle in 0..count {
        for from in 0..count {
            if reaches[from][middle] {
                let further = reaches[middle].clone();
                reaches[from].iter_mut().zip(further).for_each(|(to, more)| *to |= more);
            }
        }
    }
    let stays = |to: &usize| (0..count).all(|from| !reaches[from][*to] || reaches[*to][from]);
    let kept: Vec<Id> = (0..count).filter(stays).map(|index| ids[index]).collect();
    if kept.is_empty() { ids.to_vec() } else { kept }
}

/// Brings some to the end, each group in its order.
fn to_the_end(ids: &mut Vec<Id>, mut which: impl FnMut(Id) -> bool) {
    let (last, first): (Vec<Id>, Vec<Id>) = ids.iter().copied().partition(|id| which(*id));
    *ids = first;
    ids.extend(last);
}

/// Whether a package of its name and architecture is better.
fn is_old(pool: &Pool<'_>, id: Id) -> bool {
    let candidate = pool.candidate(id);
    let priority = |id: Id| pool.entry(id).map_or(i64::MIN, |entry| entry.priority);
    pool.named(&candidate.name).into_iter().filter(|other| *other != id).any(|other| {
        let better = pool.candidate(other);
        better.arch == candidate.arch
            && match priority(other).cmp(&priority(id)) {
                Ordering::Greater => true,
                Ordering::Equal => better.evr > candidate.evr,
                Ordering::Less => false,
            }
    })
}

/// One capability with a version: whose, its name, its version, whether versions just below it are meant.
struct Provided<'a> {
    whose: usize,
    name: &'a str,
    evr: &'a Evr,
    below: bool,
}

/// Puts packages first that provide newer versions of what several of them provide.
fn by_common_capability(pool: &Pool<'_>, ids: &mut Vec<Id>) {
    let mut all: Vec<Provided<'_>> = Vec::new();
    for (whose, id) in ids.iter().enumerate() {
        for capability in &pool.candidate(*id).provides {
            let Some((relation, evr)) = capability.version.as_deref() else { continue };
            let counts = match *relation {
                Relation::EQUAL => !is_hash(&evr.to_string()),
                Relation::LESS | Relation::LESS_OR_EQUAL => true,
                _ => false,
            };
            if counts {
                all.push(Provided { whose, name: &capability.name, evr, below: *relation == Relation::LESS });
            }
        }
    }
    if all.len() < 2 {
        return;
    }
    all.sort_by(|one, two| one.name.cmp(two.name).then_with(|| newer_first(one, two).0));
    let mut badness = vec![0usize; ids.len()];
    let mut bad = 0;
    for at in 0..all.len() {
        let now = &all[at];
        match at.checked_sub(1).map(|before| &all[before]).filter(|before| before.name == now.name) {
            Some(before) => {
                if before.whose != now.whose && newer_first(before, now) == (Ordering::Less, true) {
                    bad += 1;
                }
            }
            None => bad = 0,
        }
        badness[now.whose] += bad;
    }
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_by_key(|index| badness[*index]);
    *ids = order.into_iter().map(|index| ids[index]).collect();
}

/// How two versions compare, the newer one first, and whether they differ in more than that one has no release.
fn newer_first(one: &Provided<'_>, two: &Provided<'_>) -> (Ordering, bool) {
    let (left, right) = (two.evr, one.evr);
    let order = left.epoch.cmp(&right.epoch).then_with(|| compare(&left.version, &right.version));
    if order.is_ne() {
        return (order, true);
    }
    let order = match (left.release.is_empty(), right.release.is_empty()) {
        (false, false) => compare(&left.release, &right.release),
        (true, true) => Ordering::Equal,
        (true, false) => return (Ordering::Less, false),
        (false, true) => return (Ordering::Greater, false),
    };
    if order.is_ne() {
        return (order, true);
    }
    match (one.below, two.below) {
        (true, false) => (Ordering::Greater, true),
        (false, true) => (Ordering::Less, true),
        _ => (Ordering::Equal, true),
    }
}

/// What looks like a hash tells no age.
fn is_hash(text: &str) -> bool {
    text.len() >= 4 && text.bytes().all(|byte| matches!(byte, b'a'..=b'f' | b'0'..=b'9'))
}

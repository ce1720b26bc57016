//! What several images take together, when what they share is done once.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::simulate::{Task, simulate};
use super::work::{Piece, Workload};
use super::{ActionEstimate, Range, Source};

/// An action on the way that decides how long a build takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PathStep {
    /// The first image that needs it.
    pub image: String,
    /// The action.
    pub action: String,
}

/// What a build of several images is expected to take. What they share counts once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Total {
    /// How many images have work.
    pub images: usize,
    /// Time in milliseconds along the critical path, without actions of which nothing is known; null where that is all.
    pub milliseconds: Option<Range>,
    /// Bytes written to the store and to the artefacts, likewise.
    pub written_bytes: Option<Range>,
    /// Bytes of packages that the store lacks, exact; null where packages of an image are not resolved yet.
    pub download_bytes: Option<Range>,
    /// How many packages that are.
    pub download_packages: Option<Range>,
    /// Time in milliseconds that the whole download takes at the speed of earlier ones; null where there were none.
    pub download_milliseconds: Option<u64>,
    /// How many actions run at once.
    pub workers: usize,
    /// Actions that decide how long it takes, one after another; where all runs that depends.
    pub critical_path: Vec<PathStep>,
    /// How many actions run or may run, each shared one once.
    pub actions: usize,
    /// How many of them nothing is known of.
    pub unknown: usize,
    /// How many actions more there would be if nothing were shared.
    pub shared: usize,
}

impl Total {
    /// What images take together, by their names; none for less than two.
    pub fn of(works: &[(&str, &Workload)], workers: usize) -> Option<Self> {
        (works.len() > 1).then(|| reckon(works, workers).0)
    }
}

/// The figures of all, and what is expected of each action.
pub(super) fn reckon(works: &[(&str, &Workload)], workers: usize) -> (Total, Vec<ActionEstimate>) {
    let pieces = joined(works);
    let speed = works.iter().find_map(|(_, work)| work.speed);
    let counts = |one: &Joined<'_>, only_sure: bool| one.surely || !only_sure;
    let fetched = |only_sure: bool| -> (u64, u64) {
        let mut seen = BTreeSet::new();
        let lacks = pieces.iter().filter(|one| counts(one, only_sure)).flat_map(|one| &one.piece.lacks);
        let sizes: Vec<u64> = lacks.filter(|(digest, _)| seen.insert(digest)).map(|(_, size)| *size).collect();
        (sizes.iter().sum(), sizes.len() as u64)
    };
    let run = |only_sure: bool| {
        let mut seen = BTreeSet::new();
        let mut bytes = 0;
        let mut tasks = Vec::with_capacity(pieces.len());
        for one in &pieces {
            let is_run = counts(one, only_sure);
            let mut ready = 0;
            if let Some(speed) = speed.filter(|_| is_run && !one.piece.lacks.is_empty()) {
                let new = one.piece.lacks.iter().filter(|(digest, _)| seen.insert(digest));
                bytes += new.map(|(_, size)| size).sum::<u64>();
                ready = (bytes as f64 / speed) as u64;
            }
            let takes = one.piece.estimate.milliseconds.filter(|_| is_run).unwrap_or(0);
            tasks.push(Task { needs: one.needs.clone(), takes, ready });
        }
        simulate(&tasks, workers)
    };
    let ((shortest, _), (longest, path)) = (run(true), run(false));
    let (least, most) = (fetched(true), fetched(false));
    let is_known = pieces.iter().any(|one| one.piece.estimate.milliseconds.is_some());
    let bytes = |only_sure: bool| -> u64 {
        pieces.iter().filter(|one| counts(one, only_sure)).filter_map(|one| one.piece.estimate.written_bytes).sum()
    };
    let is_resolved = works.iter().all(|(_, work)| work.is_resolved);
    let step = |at: usize| {
        let one = &pieces[at];
        PathStep { image: one.image.to_owned(), action: one.piece.estimate.action.clone() }
    };
    let total = Total {
        images: works.len(),
        milliseconds: is_known.then_some(Range { least: shortest, most: longest.max(shortest) }),
        written_bytes: is_known.then(|| Range { least: bytes(true), most: bytes(false) }),
        download_bytes: is_resolved.then_some(Range { least: least.0, most: most.0 }),
        download_packages: is_resolved.then_some(Range { least: least.1, most: most.1 }),
        download_milliseconds: match most.0 {
            _ if !is_resolved => None,
            0 => Some(0),
            bytes => speed.map(|speed| (bytes as f64 / speed) as u64),
        },
        workers,
        critical_path: path.into_iter().map(step).collect(),
        actions: pieces.len(),
        unknown: pieces.iter().filter(|one| one.piece.estimate.from == Source::Unknown).count(),
        shared: works.iter().map(|(_, work)| work.pieces.len()).sum::<usize>() - pieces.len(),
    };
    let estimates = pieces.iter().map(|one| ActionEstimate { surely: one.surely, ..one.piece.estimate.clone() });
    (total, estimates.collect())
}

/// A piece of one or several images.
struct Joined<'a> {
    image: &'a str,
    piece: &'a Piece,
    surely: bool,
    needs: Vec<usize>,
}

/// All pieces, the same ones once.
fn joined<'a>(works: &[(&'a str, &'a Workload)]) -> Vec<Joined<'a>> {
    let mut all: Vec<Joined<'a>> = Vec::new();
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    for (image, work) in works {
        // Where each piece of this image is among all.
        let mut places: Vec<usize> = Vec::new();
        for piece in &work.pieces {
            let at = *known.entry(&piece.shape).or_insert_with(|| {
                let needs = piece.needs.iter().filter_map(|need| places.get(*need).copied()).collect();
                all.push(Joined { image, piece, surely: false, needs });
                all.len() - 1
            });
            let same = &mut all[at];
            same.surely |= piece.estimate.surely;
            // Images may know different figures of one action: with the larger one, all together are not said to take less than one.
            if piece.estimate.milliseconds > same.piece.estimate.milliseconds {
                same.piece = piece;
            }
            places.push(at);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(shape: &str, milliseconds: Option<u64>, needs: &[usize], lacks: &[(&str, u64)]) -> Piece {
        let from = if milliseconds.is_some() { Source::Same } else { Source::Unknown };
        let estimate =
            ActionEstimate { action: shape.to_owned(), surely: true, milliseconds, written_bytes: milliseconds, from };
        let lacks = lacks.iter().map(|(digest, size)| ((*digest).to_owned(), *size)).collect();
        Piece { estimate, shape: shape.to_owned(), needs: needs.to_vec(), lacks }
    }

    fn work(pieces: Vec<Piece>) -> Workload {
        Workload { pieces, is_resolved: true, speed: None, synced: 0 }
    }

    #[test]
    fn what_images_share_counts_once() {
        let base = || piece("base", Some(10), &[], &[("p", 100), ("q", 1)]);
        let one = work(vec![base(), piece("a", Some(5), &[0], &[("q", 1)])]);
        let other = work(vec![base(), piece("b", Some(7), &[0], &[("r", 50)]), piece("c", None, &[1], &[])]);
        let total = Total::of(&[("one", &one), ("other", &other)], 2).unwrap();
        let figures = (total.milliseconds.unwrap().most, total.written_bytes.unwrap().most);
        assert_eq!(figures, (17, 22));
        assert_eq!((total.actions, total.shared, total.unknown, total.images), (4, 1, 1, 2));
        assert_eq!(total.download_bytes, Some(Range { least: 151, most: 151 }));
        assert_eq!(total.download_packages, Some(Range { least: 3, most: 3 }));
        let path: Vec<String> =
            total.critical_path.iter().map(|step| format!("{} {}", step.image, step.action)).collect();
        assert_eq!(path, ["one base", "other b"]);
        // On one worker all comes after another.
        assert_eq!(Total::of(&[("one", &one), ("other", &other)], 1).unwrap().milliseconds.unwrap().most, 22);
        assert_eq!(Total::of(&[("one", &one)], 2), None);
    }

    #[test]
    fn of_an_action_that_images_share_the_larger_figure_counts() {
        let of = |shared: Option<u64>, own: u64| {
            work(vec![piece("base", shared, &[], &[]), piece("own", Some(own), &[0], &[])])
        };
        for (first, second) in [(Some(28), Some(87)), (Some(87), Some(28)), (None, Some(87)), (Some(87), None)] {
            let total = Total::of(&[("one", &of(first, 5)), ("other", &of(second, 5))], 2).unwrap();
            assert_eq!((total.milliseconds.unwrap().most, total.unknown), (92, 0), "{first:?} {second:?}");
        }
    }

    #[test]
    fn the_download_of_images_that_are_not_resolved_is_not_known() {
        let one = work(vec![piece("a", None, &[], &[])]);
        let other = Workload { is_resolved: false, ..one.clone() };
        let total = Total::of(&[("one", &one), ("other", &other)], 1).unwrap();
        assert_eq!((total.download_bytes, total.milliseconds), (None, None));
    }
}

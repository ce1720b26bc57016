//! What a build has to do, piece by piece, with what each took before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cost::form_of;
use super::{ActionEstimate, Experience, Source};
use crate::actions::packages::needs::{bytes_of, packages_of};
use crate::actions::packages::requests::{package_requests, target};
use crate::bench::ids;
use crate::supply::origin::is_fetched;
use base::digest::{Digest, FieldHasher};
use packages::manager;
use plan::{Action, ActionGraph, ActionKind, Decision, InputName, Verdict};
use recipe::{Lock, PassRole, PinnedPackage, Recipe, SyncedKind};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub estimate: ActionEstimate,
    /// What it does, from the first input on: images that have the same do it once.
    pub shape: String,
    /// Pieces that come before it, by their places.
    pub needs: Vec<usize>,
    /// Packages that the store lacks: the first half of the SHA-256, which tells them apart, and bytes.
    pub lacks: Vec<(String, u64)>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// The pieces, each after those that it needs.
    pub pieces: Vec<Piece>,
    pub is_resolved: bool,
    /// Bytes a millisecond of earlier downloads; none where there were none.
    pub speed: Option<f64>,
    /// Bytes that synced files will surely take in the store.
    #[serde(default)]
    pub synced: u64,
}

/// Bytes a millisecond that synced files are copied at, where nothing is known: of a disk of 300 MB/s, read and written twice.
const COPIED: u64 = 100_000;

/// Bytes of synced files that take no time worth naming.
const FEW: u64 = 16 << 20;

/// Bytes on the disk that the files of the sync layer take: a copy of each that the store does not have, and the layer.
fn synced_bytes(recipe: &Recipe, store: &store::Store, action: &Action) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let digest = |name: &str| -> Option<Digest> {
        let input = action.inputs.iter().find(|input| InputName::of(&input.name).file() == Some(name))?;
        Digest::parse(input.value.rsplit(' ').next()?).ok()
    };
    let mut copies = std::collections::BTreeSet::new();
    let mut sum = 0;
    for synced in recipe.sync.iter().filter(|synced| synced.kind == SyncedKind::File) {
        // Holes take no room.
        let Ok(found) = std::fs::metadata(&synced.source) else { continue };
        let bytes = found.len().min(found.blocks() * 512);
        let is_kept = digest(&synced.name).is_some_and(|digest| store.blob(&digest).exists());
        sum += bytes + if !is_kept && copies.insert(&synced.source) { bytes } else { 0 };
    }
    sum
}

/// What is the same for no other image.
fn own_shape(recipe: &Recipe, action: &str) -> String {
    let mut hasher = FieldHasher::new("imgbuild work of one image v1");
    hasher.text(&recipe.directory.display().to_string()).text(&recipe.model.image.name).text(action);
    hasher.finish().to_string()
}

/// What each action does, whatever those before it give.
fn shapes(graph: &ActionGraph) -> BTreeMap<&str, Digest> {
    let mut shapes: BTreeMap<&str, Digest> = BTreeMap::new();
    for action in graph.in_order() {
        let mut hasher = FieldHasher::new("imgbuild work v1");
        hasher.text(action.kind.name()).text(&action.version.to_string());
        for input in &action.inputs {
            hasher.text(&input.name).text(&input.value);
        }
        for upstream in &action.upstream {
            let below = shapes.get(upstream.action.as_str()).map(Digest::to_string).unwrap_or_default();
            hasher.text(&upstream.output).text(&below);
        }
        shapes.insert(&action.id, hasher.finish());
    }
    shapes
}

/// What a build of these decisions has to do; none where that is nothing.
pub(crate) fn work_of(
    experience: &Experience<'_>,
    graph: &ActionGraph,
    decisions: &[Decision],
    lock: &Lock,
) -> Option<Workload> {
    let (recipe, store) = (experience.recipe, experience.store);
    let verdicts: BTreeMap<&str, Verdict> = decisions.iter().map(|one| (one.action.as_str(), one.verdict)).collect();
    let verdict = |id: &str| verdicts.get(id).copied().unwrap_or(Verdict::Keep);
    if graph.in_order().all(|action| verdict(&action.id) == Verdict::Keep) {
        return None;
    }
    let manager = manager(recipe);
    let shapes = shapes(graph);
    let mut work = Workload { is_resolved: true, ..Workload::default() };
    // The pieces of each action that must be done before what uses it: itself, or those below one that is kept.
    let mut ends: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for action in graph.in_order() {
        let before = |action: &Action| -> Vec<usize> {
            let used = action.upstream.iter().map(|upstream| &upstream.action).chain(&action.needs);
            let mut all: Vec<usize> = used.filter_map(|id| ends.get(id.as_str())).flatten().copied().collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let needs = before(action);
        if verdict(&action.id) == Verdict::Keep {
            ends.insert(&action.id, needs);
            continue;
        }
        let packages = packages_of(manager, lock, action);
        let form = form_of(action);
        let (figures, from) = experience.figure(&action.id, action.kind.name(), bytes_of(&packages), form.as_deref());
        let surely = verdict(&action.id) == Verdict::Run;
        let (mut figures, mut from) = (figures, from);
        if action.kind == ActionKind::Sync {
            let bytes = synced_bytes(recipe, store, action);
            // Small files are better known from what they took.
            if bytes > FEW {
                let (time, written) = figures.unwrap_or_default();
                figures = Some((time.max(bytes / COPIED), written.max(bytes)));
                from = if from == Source::Unknown { Source::Like } else { from };
            }
            work.synced += if surely { bytes } else { 0 };
        }
        let is_lacking = |one: &&PinnedPackage| is_fetched(one) && !witness::is_file(&store.package(&one.sha256));
        let lacks = packages
            .iter()
            .filter(is_lacking)
            .map(|one| (one.sha256.to_string().chars().take(32).collect(), one.size))
            .collect();
        let shape = shapes.get(action.id.as_str()).map(Digest::to_string).unwrap_or_default();
        ends.insert(&action.id, vec![work.pieces.len()]);
        work.pieces.push(Piece { estimate: estimate(&action.id, surely, figures, from), shape, needs, lacks });
    }
    let (figures, from) = experience.figure(ids::PUBLISH, ids::PUBLISH, 0, None);
    work.pieces.push(Piece {
        estimate: estimate(ids::PUBLISH, true, figures, from),
        shape: own_shape(recipe, ids::PUBLISH),
        needs: (0..work.pieces.len()).collect(),
        lacks: Vec::new(),
    });
    if work.pieces.iter().any(|piece| !piece.lacks.is_empty()) {
        work.speed = experience.speed();
    }
    Some(work)
}

fn estimate(action: &str, surely: bool, figures: Option<(u64, u64)>, from: Source) -> ActionEstimate {
    let (milliseconds, written_bytes) = figures.unzip();
    ActionEstimate { action: action.to_owned(), surely, milliseconds, written_bytes, from }
}

/// What actions of packages will most likely do: with what is asked for alike, in the same order from the first on, images share
/// them once they are locked.
fn shapes_before_lock(recipe: &Recipe) -> BTreeMap<String, String> {
    let mut hasher = FieldHasher::new("imgbuild work before its lock v1");
    hasher.text(&target(recipe)).text(&format!("{:?}", recipe.model.repo));
    let mut shapes = BTreeMap::new();
    for request in package_requests(recipe) {
        let pass = &request.pass;
        for (names, sign) in [(&pass.install, "+"), (&pass.remove, "-"), (&pass.remove_after, "--")] {
            names.iter().for_each(|name| {
                hasher.text(sign).text(name);
            });
        }
        let shape = hasher.clone().text(&request.name).finish().to_string();
        let id = format!("rootfs/{}", request.name);
        if request.role() == PassRole::Kernel {
            // The payload comes from the kernel's packages alone, whatever is below.
            let mut own = FieldHasher::new("imgbuild payload before its lock v1");
            own.text(&target(recipe)).text(&format!("{:?} {:?}", recipe.model.repo, recipe.model.kernel));
            own.text(request.pass.install.first().map_or("", String::as_str));
            shapes.insert(ids::PAYLOAD.to_owned(), own.clone().finish().to_string());
            own.text(&format!("{:?} {:?} {:?}", recipe.model.initrd, recipe.model.boot, recipe.model.pack));
            shapes.insert(ids::INITRD.to_owned(), own.finish().to_string());
        }
        shapes.insert(id, shape);
    }
    shapes
}

/// An action of a plan before the packages are resolved: its name, its kind, and whether it surely runs.
pub(super) type Open = (String, String, bool);

/// What a build has to do whose packages are not resolved yet. Which packages come is not known, so that actions count with
/// what they took before, one after another.
pub(crate) fn work_before_lock(experience: &Experience<'_>, open: Vec<Open>) -> Workload {
    let lock = (ids::LOCK.to_owned(), "lock".to_owned(), true);
    let all = std::iter::once(lock).chain(open.into_iter().filter(|(id, ..)| id != ids::LOCK));
    let shapes = shapes_before_lock(experience.recipe);
    let piece = |(at, (action, kind, surely)): (usize, Open)| {
        let shape = shapes.get(&action).cloned().unwrap_or_else(|| own_shape(experience.recipe, &action));
        let (figures, from) = experience.figure(&action, &kind, 0, None);
        Piece {
            estimate: estimate(&action, surely, figures, from),
            shape,
            needs: at.checked_sub(1).into_iter().collect(),
            lacks: Vec::new(),
        }
    };
    Workload { pieces: all.enumerate().map(piece).collect(), is_resolved: false, speed: None, synced: 0 }
}

//! Whether publishing changes anything although no action runs, and why.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::artefacts::BuildInfo;
use crate::actions::pack_action;
use crate::bench::ids;
use plan::{
    Action, ActionGraph, ActionKind, Cause, Decision, Follow, History, Input, Outputs, Reason, Stage, Symbolic,
    Verdict, evaluate, in_reading_order,
};
use recipe::{BOOT_WORDS, Recipe, Statelite};
use store::{Root, Store};

/// What a recipe says of the published files that no action is made of, as the inputs of an action: the kernel's command line
/// and forms beside the first.
pub fn publishing(recipe: &Recipe) -> Action {
    let boot = &recipe.model.boot;
    let fields = boot.fields().into_iter();
    let fields = fields.map(|(_, field, value)| Input::parameter(field, value).field(&recipe.spans, field));
    let root = recipe.model.statelite.as_ref().and_then(Statelite::root_word);
    let root = root.map(|root| Input::parameter(ROOT.1, root).field(&recipe.spans, ROOT.1));
    let reserve = recipe.model.kdump.as_ref();
    let reserve = reserve.map(|table| Input::parameter(RESERVE.1, &table.reserve).field(&recipe.spans, RESERVE.1));
    let words = boot.cmdline.iter().enumerate();
    let words =
        words.map(|(index, word)| Input::new(format!("word {word}"), "").item(&recipe.spans, "boot.cmdline", index));
    let forms = recipe.model.pack.forms().into_iter().skip(1).enumerate();
    let forms = forms.map(|(index, form)| {
        Input::new(format!("form {}", form.rootimg()), "").item(&recipe.spans, "pack.also", index)
    });
    Action {
        id: ids::PUBLISH.to_owned(),
        stage: Stage::Pack,
        kind: ActionKind::Publish,
        version: 1,
        inputs: root.into_iter().chain(reserve).chain(fields).chain(words).chain(forms).collect(),
        upstream: Vec::new(),
        needs: Vec::new(),
    }
}

/// The word of a root over NFS, and its field; it stands before those of [boot].
const ROOT: (&str, &str) = ("root=nfs:", "statelite.root");

/// The word of the memory for a dump, and its field; behind the root.
const RESERVE: (&str, &str) = ("crashkernel=", "kdump.reserve");

/// Whether a word is the recipe's, and not of what actions gave.
fn is_own(word: &&String) -> bool {
    !["imgurl=", "imgdigest=", "imgbuild.statelite=", "imgbuild.kdump="].iter().any(|start| word.starts_with(start))
}

/// The same of what was published. Words that imgbuild puts before those of the recipe stand for what actions gave.
fn was_published(info: &BuildInfo) -> Vec<(String, String)> {
    let mut words = info.cmdline.iter().filter(is_own).peekable();
    let mut fields = Vec::new();
    // For a recipe without [kdump] it is a word among others.
    let has_kdump = info.cmdline.iter().any(|word| word.starts_with("imgbuild.kdump="));
    let reserve = has_kdump.then_some(RESERVE);
    for (start, field) in std::iter::once(ROOT).chain(reserve).chain(BOOT_WORDS) {
        let value = words.next_if(|word| word.starts_with(start)).and_then(|word| word.strip_prefix(start));
        fields.extend(value.map(|value| (format!("parameter {field}"), value.to_owned())));
    }
    let forms = info.also.iter().map(|form| (format!("form {}", form.rootimg), String::new()));
    fields.into_iter().chain(words.map(|word| (format!("word {word}"), String::new()))).chain(forms).collect()
}

fn alone(action: Action) -> Option<ActionGraph> {
    ActionGraph::new(vec![action]).ok()
}

/// Why a recipe would publish another command line than is published.
fn of_recipe(recipe: &Recipe, info: &BuildInfo, history: &dyn History) -> Vec<Cause> {
    let Some(graph) = alone(publishing(recipe)) else { return Vec::new() };
    let now: Vec<(String, String)> =
        graph.in_order().flat_map(|one| &one.inputs).map(|input| (input.name.clone(), input.value.clone())).collect();
    let was = was_published(info);
    // A word of a field may stand among the recipe's own words.
    let boot = &recipe.model.boot;
    let fields = boot.fields().into_iter().map(|(word, _, value)| format!("{word}{value}"));
    let root = recipe.model.statelite.as_ref().and_then(Statelite::root_word);
    let root = root.map(|root| format!("{}{root}", ROOT.0));
    let reserve = recipe.model.kdump.as_ref().map(|table| format!("{}{}", RESERVE.0, table.reserve));
    let words: Vec<String> =
        root.into_iter().chain(reserve).chain(fields).chain(boot.cmdline.iter().cloned()).collect();
    let is_same = words.iter().eq(info.cmdline.iter().filter(is_own))
        && recipe
            .model
            .pack
            .forms()
            .iter()
            .skip(1)
            .map(|form| form.rootimg())
            .eq(info.also.iter().map(|one| &*one.rootimg));
    if now == was || is_same {
        return Vec::new();
    }
    let none = std::collections::BTreeMap::new();
    Follow { graph: &graph, known: &Outputs(&none), history, decisions: &none }.causes(ids::PUBLISH, &now, &was)
}

/// Why another revision of a recipe would publish another command line.
pub fn publishes_otherwise(then: &Recipe, now: &Recipe) -> Vec<Cause> {
    let (Some(then), Some(now)) = (alone(publishing(then)), alone(publishing(now))) else { return Vec::new() };
    let history = Symbolic::of(&then, &now);
    evaluate(&now, &history).into_iter().flat_map(|decision| decision.causes).collect()
}

/// A path without links, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|above| Some((above, witness::canonicalize(above).ok()?)));
    let Some((above, real)) = there else { return path };
    path.strip_prefix(above).map_or(real.clone(), |rest| real.join(rest).components().collect())
}

/// That the last build of an image was published in another directory than is asked for, or not at all: what lies there is
/// not what it left.
pub(crate) fn published_elsewhere(out: &Path, name: &str, root: &Root) -> Option<Cause> {
    let out = real(out);
    let was = if root.published.as_os_str().is_empty() { None } else { Some(real(&root.published)) };
    if was.as_ref().is_some_and(|was| was.starts_with(out.join(".builds").join(name))) {
        return None;
    }
    // OUT/.builds/NAME/DIGEST
    let was = was.map(|was| was.ancestors().nth(3).map_or_else(|| was.clone(), Path::to_owned).display().to_string());
    Some(Reason::Elsewhere { out: out.display().to_string(), was }.cause(None))
}

/// Why a build would publish something else than is published, though it keeps every action; `info` is what is published.
/// Results that are kept may be those of another build than the last: when an edit was taken back.
pub(crate) fn would_publish(
    recipe: &Recipe,
    store: &Store,
    graph: &ActionGraph,
    decisions: &[Decision],
    root: &Root,
    info: &BuildInfo,
    history: &dyn History,
) -> Vec<Cause> {
    let mut causes = of_recipe(recipe, info, history);
    if decisions.iter().all(|decision| decision.verdict == Verdict::Keep) {
        causes.extend(of_results(recipe, store, graph, decisions, (root, info), history));
    }
    in_reading_order(causes)
}

fn of_results(
    recipe: &Recipe,
    store: &Store,
    graph: &ActionGraph,
    decisions: &[Decision],
    (root, info): (&Root, &BuildInfo),
    history: &dyn History,
) -> Vec<Cause> {
    let gave = |key| store.record(key).map(|record| record.outputs);
    let by_id = decisions.iter().map(|one| (one.action.clone(), one.clone())).collect();
    let follow = Follow { graph, known: &Outputs(&by_id), history, decisions: &by_id };
    let mut seen = BTreeSet::new();
    let mut causes = Vec::new();
    for decision in decisions {
        let (Some(key), was) = (&decision.key, root.actions.get(&decision.action)) else { continue };
        let now = gave(key);
        let layer = now.as_ref().and_then(|outputs| outputs.layer).map(|layer| layer.to_string());
        let published = info.layers.iter().find(|(id, _)| *id == decision.action);
        // Tools roots and the like are not published, nor is what another tool gets.
        let is_form = |id: &str| recipe.model.pack.forms().iter().any(|form| pack_action(form) == id);
        let id = decision.action.as_str();
        if published.is_none()
            && ![ids::PAYLOAD, ids::INITRD, ids::INITRD_STATELITE, ids::INITRD_KDUMP, ids::STATELITE].contains(&id)
            && !is_form(id)
        {
            continue;
        }
        // A new format is reported by `publishing`.
        if was.is_none() && id != ids::PACK && is_form(id) {
            continue;
        }
        let is_published = layer.is_some() && published.map(|(_, layer)| layer) == layer.as_ref();
        if was == Some(key) || is_published || was.is_some_and(|was| now.is_some() && gave(was) == now) {
            continue;
        }
        match was {
            Some(_) => causes.extend(follow.leaves(&decision.action, None, &mut seen)),
            None => causes.extend(follow.causes_of_new(&decision.action)),
        }
    }
    for (id, _) in info.layers.iter().filter(|(id, _)| graph.get(id).is_none()) {
        causes.extend(follow.leaves(id, None, &mut seen));
    }
    // Nothing runs, so that a cause is said where it began.
    let mut known = BTreeSet::new();
    let mut leaves: Vec<Cause> = causes.iter().map(|cause| cause.leaf().clone()).collect();
    leaves.retain(|cause| known.insert(cause.message.clone()));
    let named = |cause: &Cause| !matches!(cause.reason, Reason::NotReproducible { .. });
    if leaves.iter().any(named) { leaves.into_iter().filter(named).collect() } else { leaves }
}

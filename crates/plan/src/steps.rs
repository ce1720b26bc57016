//! Graphs of several images as steps for another program: what images have in common is one step.

use std::collections::{BTreeMap, BTreeSet};

use super::{ActionGraph, ActionKind, Symbolic};
use base::digest::Digest;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Actions as `IMAGE/STAGE/LAYER`, each after those that it uses.
    pub actions: Vec<String>,
    pub images: Vec<String>,
    /// Steps that come before it, without those that come before one of them; each is earlier in the list.
    pub after: Vec<usize>,
    pub publishes: bool,
}

impl Step {
    pub fn name(&self) -> &str {
        self.actions.last().map_or("", String::as_str)
    }
}

struct Node {
    action: String,
    kind: ActionKind,
    images: Vec<String>,
    after: BTreeSet<usize>,
}

/// Steps of images by their names and graphs, and the name of the last step of each. Quick actions that follow one another, and
/// that nothing else waits for, are one step.
pub fn steps_of(images: &[(&str, &ActionGraph)], publish: &str) -> Vec<Step> {
    joined(&reduced(nodes(images, publish)))
}

fn nodes(images: &[(&str, &ActionGraph)], publish: &str) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut by_key: BTreeMap<Digest, usize> = BTreeMap::new();
    for (image, graph) in images {
        let symbolic = Symbolic::of(graph, graph);
        let mut of_image: BTreeMap<&str, usize> = BTreeMap::new();
        for action in graph.in_order() {
            let known = symbolic.key(&action.id).and_then(|key| by_key.get(key)).copied();
            let index = known.unwrap_or(nodes.len());
            if known.is_none() {
                let uses = action.upstream.iter().map(|one| one.action.as_str());
                let uses = uses
                    .chain(action.needs.iter().filter(|_| !fault::planted("steps-forget-tools")).map(String::as_str));
                let after = uses.filter_map(|id| of_image.get(id).copied()).collect();
                let action_name = format!("{image}/{}", action.id);
                nodes.push(Node { action: action_name, kind: action.kind, images: Vec::new(), after });
                by_key.extend(symbolic.key(&action.id).map(|key| (*key, index)));
            }
            nodes[index].images.push((*image).to_owned());
            of_image.insert(&action.id, index);
        }
        nodes.push(Node {
            action: format!("{image}/{publish}"),
            kind: ActionKind::Publish,
            images: vec![(*image).to_owned()],
            after: of_image.into_values().collect(),
        });
    }
    nodes
}

/// Without what is implied: a step that waits for another waits for all that that one waits for.
fn reduced(mut nodes: Vec<Node>) -> Vec<Node> {
    let mut before: Vec<BTreeSet<usize>> = Vec::new();
    for node in &mut nodes {
        let implied: BTreeSet<usize> = node.after.iter().flat_map(|one| before[*one].iter().copied()).collect();
        before.push(implied.union(&node.after).copied().collect());
        node.after.retain(|one| !implied.contains(one));
    }
    nodes
}

fn joined(nodes: &[Node]) -> Vec<Step> {
    let mut followers = vec![0_usize; nodes.len()];
    nodes.iter().flat_map(|node| &node.after).for_each(|one| followers[*one] += 1);
    let mut steps: Vec<Step> = Vec::new();
    let mut step_of: Vec<usize> = Vec::new();
    for node in nodes {
        let only_one = node.after.first().copied().filter(|_| node.after.len() == 1);
        let joins = only_one.filter(|one| {
            node.kind.is_quick()
                && nodes[*one].kind.is_quick()
                && followers[*one] == 1
                && nodes[*one].images == node.images
        });
        if let Some(one) = joins {
            let step = step_of[one];
            steps[step].actions.push(node.action.clone());
            step_of.push(step);
            continue;
        }
        let after: BTreeSet<usize> = node.after.iter().map(|one| step_of[*one]).collect();
        step_of.push(steps.len());
        steps.push(Step {
            actions: vec![node.action.clone()],
            images: node.images.clone(),
            after: after.into_iter().collect(),
            publishes: node.kind == ActionKind::Publish,
        });
    }
    steps
}

/// Steps as chains: one that alone follows another one is done with it. For those who pay for each step. `wanted` says which actions
/// are left; steps without any are gone, and with them what they came before.
pub fn chains_of(steps: Vec<Step>, wanted: &dyn Fn(&str) -> bool) -> Vec<Step> {
    let mut followers = vec![0_usize; steps.len()];
    steps.iter().flat_map(|step| &step.after).for_each(|one| followers[*one] += 1);
    let mut chains: Vec<Step> = Vec::new();
    let mut chain_of: Vec<usize> = Vec::new();
    for step in steps {
        let only_one = step.after.first().copied().filter(|_| step.after.len() == 1);
        if let Some(one) = only_one.filter(|one| followers[*one] == 1) {
            let chain = chain_of[one];
            chains[chain].actions.extend(step.actions);
            chains[chain].publishes |= step.publishes;
            chain_of.push(chain);
            continue;
        }
        let after: BTreeSet<usize> = step.after.iter().map(|one| chain_of[*one]).collect();
        chain_of.push(chains.len());
        chains.push(Step { after: after.into_iter().collect(), ..step });
    }
    left(chains, wanted)
}

/// Steps with those actions alone that are wanted.
fn left(steps: Vec<Step>, wanted: &dyn Fn(&str) -> bool) -> Vec<Step> {
    let mut kept: Vec<Step> = Vec::new();
    let mut index_of: Vec<Option<usize>> = Vec::new();
    for mut step in steps {
        step.actions.retain(|action| wanted(action));
        step.after = step.after.iter().filter_map(|one| index_of[*one]).collect();
        index_of.push((!step.actions.is_empty()).then_some(kept.len()));
        if !step.actions.is_empty() {
            kept.push(step);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Input, Stage, Upstream};

    fn action(id: &str, kind: ActionKind, value: &str, uses: &[&str]) -> Action {
        Action {
            id: id.to_owned(),
            stage: Stage::Rootfs,
            kind,
            version: 1,
            inputs: vec![Input::parameter("value", value)],
            upstream: uses.iter().map(|id| Upstream { action: (*id).to_owned(), output: "layer".to_owned() }).collect(),
            needs: Vec::new(),
        }
    }

    fn graph(packages: &str) -> ActionGraph {
        ActionGraph::new(vec![
            action("rootfs/base", ActionKind::Bootstrap, "", &[]),
            action("rootfs/packages-1", ActionKind::Install, packages, &["rootfs/base"]),
            action("rootfs/system", ActionKind::System, "", &["rootfs/base", "rootfs/packages-1"]),
            action("rootfs/sync", ActionKind::Sync, "", &["rootfs/base", "rootfs/packages-1", "rootfs/system"]),
            action("rootfs/gate", ActionKind::Gate, "", &["rootfs/packages-1"]),
            action(
                "pack/rootimg",
                ActionKind::Pack,
                "",
                &["rootfs/base", "rootfs/packages-1", "rootfs/system", "rootfs/sync"],
            ),
        ])
        .unwrap()
    }

    #[test]
    fn what_images_share_is_one_step_and_quick_ones_in_a_row_are_one() {
        let (a, b) = (graph("x"), graph("y"));
        let steps = steps_of(&[("a", &a), ("b", &b)], "publish");
        let text: String = steps
            .iter()
            .map(|step| format!("{} [{}] after {:?}\n", step.actions.join(" "), step.images.join(" "), step.after))
            .collect();
        insta::assert_snapshot!(text, @r"
        a/rootfs/base [a b] after []
        a/rootfs/packages-1 [a] after [0]
        a/rootfs/system a/rootfs/sync [a] after [1]
        a/rootfs/gate [a] after [1]
        a/pack/rootimg [a] after [2]
        a/publish [a] after [3, 4]
        b/rootfs/packages-1 [b] after [0]
        b/rootfs/system b/rootfs/sync [b] after [6]
        b/rootfs/gate [b] after [6]
        b/pack/rootimg [b] after [7]
        b/publish [b] after [8, 9]
        ");
        // As chains, without what is there and without publishing.
        let wanted = |action: &str| !action.ends_with("/publish") && action != "a/rootfs/base";
        let chains = chains_of(steps, &wanted);
        let text: String =
            chains.iter().map(|step| format!("{} after {:?}\n", step.actions.join(" "), step.after)).collect();
        insta::assert_snapshot!(text, @r"
        a/rootfs/packages-1 after []
        a/rootfs/system a/rootfs/sync a/pack/rootimg after [0]
        a/rootfs/gate after [0]
        b/rootfs/packages-1 after []
        b/rootfs/system b/rootfs/sync b/pack/rootimg after [3]
        b/rootfs/gate after [3]
        ");
        // The same recipe under another name has nothing of its own but publishing.
        let same = steps_of(&[("a", &a), ("b", &a)], "publish");
        assert_eq!(same.len(), 7);
        assert_eq!(same[6].actions, ["b/publish"]);
        assert_eq!(same[6].after, [3, 4]);
    }
}

//! The actions of an image and how they depend on one another.

use std::collections::{BTreeMap, BinaryHeap};

use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{ActionKind, Input, Removals};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    Rootfs,
    Kernel,
    /// What the boot loader loads beside the kernel.
    Initrd,
    Pack,
}

impl Stage {
    pub const ALL: [Self; 4] = [Self::Rootfs, Self::Kernel, Self::Initrd, Self::Pack];

    pub fn name(self) -> &'static str {
        match self {
            Self::Rootfs => "rootfs",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Pack => "pack",
        }
    }
}

/// An output of another action that this one uses, and nothing else of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    pub action: String,
    /// `layer`, or `value` and a name.
    pub output: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// Stage and layer, for instance `rootfs/sync`.
    pub id: String,
    pub stage: Stage,
    pub kind: ActionKind,
    pub version: u32,
    /// Inputs that are known before anything runs, in a fixed order.
    pub inputs: Vec<Input>,
    /// Outputs of others that it uses, in a fixed order.
    pub upstream: Vec<Upstream>,
    /// Actions that must have run before, whose outputs are not part of the key: tools roots enter keys by what
    /// they are made of (D9).
    pub needs: Vec<String>,
}

impl Action {
    pub fn layer(&self) -> &str {
        self.id.split_once('/').map_or(self.id.as_str(), |(_, layer)| layer)
    }
}

/// Why a set of actions is no graph; always a mistake in imgbuild.
#[derive(Debug, Error)]
pub enum GraphError {
    #[error("the action `{0}` uses `{1}`, which does not exist")]
    Unknown(String, String),
    #[error("the actions {0} depend on one another in a cycle")]
    Cycle(String),
}

/// All actions of an image, in an order in which each comes after those that it uses.
#[derive(Debug, Clone)]
pub struct ActionGraph {
    graph: StableDiGraph<Action, ()>,
    order: Vec<NodeIndex>,
    pub absences: Removals,
}

impl ActionGraph {
    /// Orders actions: dependencies first, then the order in which they were given.
    /// Errors: [`GraphError`] for a set of actions that is no graph.
    pub fn new(actions: Vec<Action>) -> Result<Self, GraphError> {
        let mut graph = StableDiGraph::new();
        let mut by_id = BTreeMap::new();
        for action in actions {
            let id = action.id.clone();
            by_id.insert(id, graph.add_node(action));
        }
        for index in graph.node_indices().collect::<Vec<_>>() {
            let uses: Vec<String> = graph[index]
                .upstream
                .iter()
                .map(|upstream| upstream.action.clone())
                .chain(graph[index].needs.iter().filter(|_| !fault::planted("graph-forgets-needs")).cloned())
                .collect();
            for id in uses {
                let from = *by_id.get(&id).ok_or_else(|| GraphError::Unknown(graph[index].id.clone(), id))?;
                graph.update_edge(from, index, ());
            }
        }
        // Kahn's algorithm with a heap, so that the order depends on nothing but the input.
        let mut waiting: BTreeMap<NodeIndex, usize> = graph
            .node_indices()
            .map(|index| (index, graph.neighbors_directed(index, Direction::Incoming).count()))
            .collect();
        let mut ready: BinaryHeap<std::cmp::Reverse<NodeIndex>> =
            waiting.iter().filter(|(_, count)| **count == 0).map(|(index, _)| std::cmp::Reverse(*index)).collect();
        let mut order = Vec::new();
        while let Some(std::cmp::Reverse(index)) = ready.pop() {
            waiting.remove(&index);
            order.push(index);
            for next in graph.neighbors_directed(index, Direction::Outgoing).collect::<Vec<_>>() {
                if let Some(count) = waiting.get_mut(&next) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push(std::cmp::Reverse(next));
                    }
                }
            }
        }
        if !waiting.is_empty() {
            let names: Vec<String> = waiting.keys().map(|index| graph[*index].id.clone()).collect();
            return Err(GraphError::Cycle(names.join(", ")));
        }
        Ok(Self { graph, order, absences: Removals::default() })
    }

    /// The same, with what the recipe takes away.
    pub fn taking(mut self, absences: Removals) -> Self {
        self.absences = absences;
        self
    }

    pub fn in_order(&self) -> impl Iterator<Item = &Action> {
        self.order.iter().map(|index| &self.graph[*index])
    }

    /// Actions that fit, and all that they use.
    pub fn with_all_below(&self, fits: impl Fn(&Action) -> bool) -> std::collections::BTreeSet<String> {
        let mut wanted = std::collections::BTreeSet::new();
        for action in self.in_order().collect::<Vec<_>>().into_iter().rev() {
            if fits(action) || wanted.contains(&action.id) {
                wanted.insert(action.id.clone());
                wanted.extend(action.upstream.iter().map(|upstream| upstream.action.clone()));
                wanted.extend(action.needs.iter().cloned());
            }
        }
        wanted
    }

    pub fn get(&self, id: &str) -> Option<&Action> {
        self.in_order().find(|action| action.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(id: &str, uses: &[&str]) -> Action {
        Action {
            id: id.to_owned(),
            stage: Stage::Rootfs,
            kind: ActionKind::Sync,
            version: 1,
            inputs: Vec::new(),
            upstream: uses.iter().map(|id| Upstream { action: (*id).to_owned(), output: "layer".to_owned() }).collect(),
            needs: Vec::new(),
        }
    }

    #[test]
    fn the_order_is_stable_and_follows_dependencies() {
        let graph =
            ActionGraph::new(vec![action("c", &["a"]), action("b", &[]), action("a", &["b"]), action("d", &[])])
                .unwrap();
        let order: Vec<&str> = graph.in_order().map(|action| action.id.as_str()).collect();
        assert_eq!(order, ["b", "a", "c", "d"]);
        let needy = Action { needs: vec!["tools".to_owned()], ..action("a", &[]) };
        let graph = ActionGraph::new(vec![needy, action("tools", &[])]).unwrap();
        assert_eq!(graph.in_order().map(|action| action.id.as_str()).collect::<Vec<_>>(), ["tools", "a"]);
    }

    #[test]
    fn circles_and_unknown_names_are_refused() {
        assert!(matches!(ActionGraph::new(vec![action("a", &["b"]), action("b", &["a"])]), Err(GraphError::Cycle(_))));
        assert!(matches!(ActionGraph::new(vec![action("a", &["x"])]), Err(GraphError::Unknown(..))));
    }
}

//! Where the nodes of a drawing go: columns by the longest way from the start, rows so that few lines cross.
//!
//! As Sugiyama and others do it: a line that passes a column gets a place of its own in it, and rows are sorted by the
//! mean of their neighbours, forth and back, for a fixed number of rounds.

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

const ROUNDS: usize = 8;

type Place = (usize, usize);

/// Column and row of each node, and the places that each line passes.
pub(super) struct Layout {
    /// Column and row, by node.
    pub places: Vec<Place>,
    /// Lines: from, to, and columns and rows in between.
    pub lines: Vec<(usize, usize, Vec<Place>)>,
    pub columns: usize,
    /// Number of rows of the fullest column.
    pub rows: usize,
}

/// Lays a graph out; `uses` names for each node those before it that it uses.
pub(super) fn lay_out(uses: &[Vec<usize>]) -> Layout {
    let mut column = Vec::new();
    for of in uses {
        column.push(of.iter().map(|one| column[*one] + 1).max().unwrap_or(0));
    }
    let mut graph: DiGraph<usize, ()> = DiGraph::new();
    let nodes: Vec<NodeIndex> = column.iter().map(|column| graph.add_node(*column)).collect();
    let mut lines: Vec<(usize, usize, Vec<NodeIndex>)> = Vec::new();
    for (to, of) in uses.iter().enumerate() {
        for from in of {
            let mut last = nodes[*from];
            let mut between = Vec::new();
            for passed in column[*from] + 1..column[to] {
                let place = graph.add_node(passed);
                graph.add_edge(last, place, ());
                between.push(place);
                last = place;
            }
            graph.add_edge(last, nodes[to], ());
            lines.push((*from, to, between));
        }
    }
    let columns = column.iter().max().map_or(0, |most| most + 1);
    let mut order: Vec<Vec<NodeIndex>> = vec![Vec::new(); columns];
    for node in graph.node_indices() {
        order[graph[node]].push(node);
    }
    let mut row = vec![0_usize; graph.node_count()];
    let number = |order: &[Vec<NodeIndex>], row: &mut Vec<usize>| {
        for nodes in order {
            for (index, node) in nodes.iter().enumerate() {
                row[node.index()] = index;
            }
        }
    };
    number(&order, &mut row);
    for round in 0..ROUNDS {
        let (direction, along): (Direction, Vec<usize>) = if round % 2 == 0 {
            (Direction::Incoming, (1..columns).collect())
        } else {
            (Direction::Outgoing, (0..columns.saturating_sub(1)).rev().collect())
        };
        for one in along {
            // Whole numbers, so that every machine sorts alike.
            let mean = |node: &NodeIndex| {
                let rows: Vec<usize> =
                    graph.neighbors_directed(*node, direction).map(|other| row[other.index()]).collect();
                if rows.is_empty() { row[node.index()] * 1000 } else { rows.iter().sum::<usize>() * 1000 / rows.len() }
            };
            let mut sorted: Vec<(usize, NodeIndex)> = order[one].iter().map(|node| (mean(node), *node)).collect();
            sorted.sort_by_key(|(mean, _)| *mean);
            order[one] = sorted.into_iter().map(|(_, node)| node).collect();
            number(&order, &mut row);
        }
    }
    let place = |node: NodeIndex| (graph[node], row[node.index()]);
    Layout {
        places: nodes.iter().map(|node| place(*node)).collect(),
        lines: lines
            .into_iter()
            .map(|(from, to, between)| (from, to, between.into_iter().map(place).collect()))
            .collect(),
        columns,
        rows: order.iter().map(Vec::len).max().unwrap_or(0),
    }
}

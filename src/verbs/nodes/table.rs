//! Nodes in lines for people.

use std::collections::BTreeMap;

use super::list::ListedNode;
use crate::output::harmless::one_line;
use base::source::counted_as;
use nodes::state::{Boots, age};
use nodes::{Assigned, Report, ReportState, RootState};

/// The first digits of a build's name.
fn short(build: &str) -> String {
    build.chars().take(12).collect()
}

pub(super) fn boots(assigned: Option<&Assigned>, image: Option<&str>) -> String {
    match (assigned.map(|one| &one.boots), image) {
        (Some(Boots::Image { image, build, .. }), _) => format!("{image}@{}", short(build)),
        (Some(Boots::Disk), _) => "its disk".to_owned(),
        (Some(Boots::Nothing), _) => "offline".to_owned(),
        (None, Some(image)) => format!("({image})"),
        (None, None) => "-".to_owned(),
    }
}

/// How much of its root is on the node, where it reads that over the network; with the build that its servers have to keep.
fn root_of(report: &Report) -> String {
    match (report.root, report.reads_root_from()) {
        (None, _) => String::new(),
        (Some(RootState::Hydrated), _) => ", hydrated".to_owned(),
        (Some(RootState::Lazy), Some((image, build))) => {
            format!(", reads its root from {}@{}", one_line(image), one_line(&short(build)))
        }
        (Some(RootState::Lazy), None) => ", reads its root over the network".to_owned(),
    }
}

/// The build that a node runs, where that is not the one that it is to boot.
fn other_build(node: &ListedNode) -> String {
    let (Some(report), Some(Boots::Image { build, .. })) = (&node.report, node.assigned.as_ref().map(|one| &one.boots))
    else {
        return String::new();
    };
    match &report.build {
        Some(runs) if runs == build => String::new(),
        Some(runs) => format!(" (runs {})", one_line(&short(runs))),
        None => " (runs an unknown build)".to_owned(),
    }
}

/// A line for each node: name, address, what it boots, its last report and how old that is. An image in parentheses is what its
/// file names, but `nodeset` has not given it yet.
pub(super) fn text(nodes: &[ListedNode], now: u64) -> String {
    let rows: Vec<[String; 5]> = nodes
        .iter()
        .map(|node| {
            // Until a token speaks, what is known is of the start before.
            let open = if node.asked.is_some() { "?" } else { "" };
            let (state, old) = match &node.report {
                Some(report) => {
                    let reason = report.reason.as_deref().map(|reason| format!(": {}", one_line(reason)));
                    let state = format!(
                        "{}{open}{}{}{}",
                        report.state.name(),
                        reason.unwrap_or_default(),
                        root_of(report),
                        other_build(node)
                    );
                    (state, age(now.saturating_sub(report.time)))
                }
                None => (if open.is_empty() { "-" } else { open }.to_owned(), "-".to_owned()),
            };
            let state = match &node.asked {
                Some(asked) => {
                    let (age, from) = (age(now.saturating_sub(asked.time)), one_line(&asked.from));
                    format!("{state} (asked for its script {age} ago from {from})")
                }
                None => state,
            };
            let bad = node.scripts.iter().flat_map(|scripts| scripts.bad());
            let bad: Vec<String> =
                bad.map(|(_, one)| format!("{}: {}", one_line(&one.name), one_line(&one.reason))).collect();
            // A node that has failed by a script says so itself.
            let is_said = |text: &String| state.contains(text.as_str());
            let state = match bad.iter().any(|text| !is_said(text)) {
                true => format!("{state} ({})", bad.join("; ")),
                false => state,
            };
            let boots = boots(node.assigned.as_ref(), node.image.as_deref());
            [node.name.clone(), node.ip.clone().unwrap_or_else(|| "-".to_owned()), boots, old, state]
        })
        .collect();
    let mut widths = [0; 4];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::with_capacity(rows.len() * 64);
    for row in rows {
        for (cell, width) in row.iter().zip(widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.push_str(&row[4]);
        text.push('\n');
    }
    text
}

/// What became of a node's scripts, a line each, and what they printed last.
pub(super) fn scripts(node: &ListedNode) -> String {
    let Some(scripts) = &node.scripts else { return format!("{}: no script has been reported\n", node.name) };
    let mut text = String::new();
    for list in ["postscripts", "postbootscripts"] {
        for one in scripts.lists.get(list).into_iter().flatten() {
            let (name, reason) = (one_line(&one.name), one_line(&one.reason));
            text += &format!("{}: {list}: {name}: {reason}, {} s\n", node.name, one.seconds);
            for line in &one.lines {
                text += &format!("    {}\n", one_line(line));
            }
        }
    }
    text
}

pub(super) fn summary(nodes: &[ListedNode]) -> String {
    let mut counts: BTreeMap<Option<ReportState>, usize> = BTreeMap::new();
    for node in nodes {
        *counts.entry(node.report.as_ref().map(|report| report.state)).or_default() += 1;
    }
    let parts: Vec<String> = counts
        .into_iter()
        .map(|(state, count)| format!("{count} {}", state.map_or("without a report", ReportState::name)))
        .collect();
    format!("{}: {}", counted_as(nodes.len(), "node", "nodes"), parts.join(", "))
}

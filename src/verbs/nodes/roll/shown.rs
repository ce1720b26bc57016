//! How a roll goes, for people: a line a batch, and each problem of a node with its reason.

use std::collections::BTreeMap;

use crate::output::harmless::{one_line, push_line};
use base::source::counted_as;
use nodes::NodeSet;
use roll::{Act, Event, NodeState, Outcome, Planned};

fn set(names: &[String]) -> String {
    NodeSet::of(names.iter().map(String::as_str)).folded()
}

/// What is said of an event, if anything is.
pub(super) fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::Begin { roll, image, build, scheduler, nodes } => {
            let build: String = build.chars().take(12).collect();
            let nodes = counted_as(*nodes, "node", "nodes");
            format!("roll {roll}: {image}@{build} on {nodes}, scheduler {}", scheduler.name())
        }
        Event::Batch { number, canary, nodes, waiting } => {
            let what = if *canary { " (canary)" } else { "" };
            format!("batch {number}{what}: {}; {waiting} waiting", set(nodes))
        }
        Event::Problem { node, problem } => format!("{node}: {}", one_line(problem)),
        Event::Node { node, state: NodeState::Failed, reason, .. } => {
            format!("{node}: failed: {}", one_line(reason.as_deref().unwrap_or("without a reason")))
        }
        Event::Node { node, state: NodeState::Left, reason, .. } => {
            format!("{node}: left alone: {}", one_line(reason.as_deref().unwrap_or("without a reason")))
        }
        Event::Node { .. } => return None,
        Event::BatchEnd { number, done, failed, left } => {
            format!("batch {number}: {done} done, {failed} failed, {left} left alone or given back")
        }
        Event::Outage { problem } => format!("the scheduler does not answer; it is asked again: {}", one_line(problem)),
        Event::OutageOver => "the scheduler answers again".to_owned(),
        Event::End { outcome, done, failed, left, waiting } => end(*outcome, *done, failed, left, waiting),
    })
}

fn end(outcome: Outcome, done: usize, failed: &[String], left: &[String], waiting: &[String]) -> String {
    let mut text = format!("{} done", counted_as(done, "node", "nodes"));
    for (names, what) in [(failed, "failed, still drained"), (left, "left alone"), (waiting, "waiting")] {
        if !names.is_empty() {
            text.push_str(&format!("; {what}: {}", set(names)));
        }
    }
    let help = match outcome {
        Outcome::Done => return text,
        Outcome::LeftAlone => "`imgbuild roll` again takes them when they are free",
        Outcome::WindowClosed => "the window is closed: call it again when it is open",
        Outcome::MaxDown => {
            "as many nodes have gone down since it began as --max-down allows: give some of them work again, or raise it"
        }
        Outcome::Failures => {
            "mend the failed nodes and call it again, which goes on with them; `imgbuild roll --abort` ends it"
        }
    };
    text.push_str(&format!("\n  help: {help}"));
    text
}

/// A plan: nodes of a batch with the same restart together.
pub(super) fn plan(all: &[Planned]) -> String {
    type Key<'a> = (Option<u32>, bool, Option<&'a str>, Option<&'a str>);
    let mut groups: BTreeMap<Key<'_>, Vec<&str>> = BTreeMap::new();
    for one in all {
        let key = (one.batch, one.canary, one.act.as_ref().map(Act::name), one.reason.as_deref());
        groups.entry(key).or_default().push(&one.node);
    }
    let mut text = String::new();
    for ((batch, canary, act, reason), names) in groups {
        let when = match (batch, act) {
            (Some(batch), _) => format!("batch {batch}{}", if canary { " (canary)" } else { "" }),
            (None, Some(_)) => "at once".to_owned(),
            (None, None) => "left alone".to_owned(),
        };
        let act = act.map(|act| format!(": {act}")).unwrap_or_default();
        let reason = reason.map(|reason| format!("  ({})", one_line(reason))).unwrap_or_default();
        push_line(&mut text, &format!("{when}: {}{act}{reason}", NodeSet::of(names).folded()));
    }
    text
}

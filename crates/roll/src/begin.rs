//! A roll that begins, or goes on where an earlier one was killed or stopped.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{Build, Held, Node, Record, Roll, Scheduler, Stage};

/// Why no roll begins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was begun with another scheduler: drained nodes would be forgotten.
    #[error("the roll under way was begun with `--scheduler {}`", .0.name())]
    OtherScheduler(Scheduler),
    /// It is not known what gives nodes work.
    #[error("it is not known what gives these nodes work")]
    NoScheduler,
}

/// The scheduler of a roll.
/// Errors: It is not known, or another one is asked for than that of what is under way.
pub(crate) fn scheduler_of(record: &Record, asked: Option<Scheduler>) -> Result<Scheduler, Refusal> {
    match (record.scheduler(), asked) {
        (Some(began), Some(asked)) if began != asked && !fault::planted("roll-changes-scheduler") => {
            Err(Refusal::OtherScheduler(began))
        }
        (Some(began), _) => Ok(began),
        (None, Some(asked)) => Ok(asked),
        (None, None) => Err(Refusal::NoScheduler),
    }
}

/// Begins a roll, or goes on with the one of the same build: the record then has it. `id` is the name of a new one, `now` in milliseconds
/// since 1970. Nodes that earlier rolls left drained take part if they are in the range.
/// Errors: See [`Refusal`]; the record stays as it was.
pub fn begin(
    record: &mut Record,
    (target, asked): (&Build, Option<Scheduler>),
    range: &[String],
    (id, now): (&str, u64),
) -> Result<(), Refusal> {
    let scheduler = scheduler_of(record, asked)?;
    let old = record.roll.take();
    let (mut nodes, mut batches, mut roll_id, mut time) = (BTreeMap::new(), 0, id.to_owned(), now);
    match old {
        Some(old) if old.target == *target => {
            (batches, roll_id, time) = (old.batches, old.id, old.time);
            nodes = old.nodes;
        }
        Some(old) => {
            record.held.extend(old.nodes.into_iter().filter_map(|(name, node)| Some((name, held(&node, scheduler)?))))
        }
        None => {}
    }
    let wanted: BTreeSet<&String> = range.iter().collect();
    nodes.retain(|name, node| wanted.contains(name) || node.is_in_flight() || node.stage == Stage::Failed);
    for name in range {
        let node = nodes.entry(name.clone()).or_insert_with(Node::waiting);
        if let Some(held) = record.held.remove(name) {
            *node = Node {
                stage: Stage::Draining,
                drained: (scheduler == Scheduler::Slurm).then_some(held.id),
                touched: held.touched,
                ..Node::waiting()
            };
        }
    }
    nodes.values_mut().for_each(|node| again(node, now));
    let more = nodes.keys().filter(|name| !wanted.contains(name)).cloned();
    let mut seen = BTreeSet::new();
    let order: Vec<String> = range.iter().cloned().chain(more).filter(|name| seen.insert(name.clone())).collect();
    record.roll = Some(Roll { id: roll_id, target: target.clone(), scheduler, time, order, nodes, batches });
    Ok(())
}

/// What an earlier roll leaves of a node that it drained or changed.
pub(crate) fn held(node: &Node, scheduler: Scheduler) -> Option<Held> {
    let is_out = node.is_in_flight() || node.stage == Stage::Failed;
    let why = node.problem.clone().unwrap_or_else(|| "the roll did not finish with it".to_owned());
    // Without a scheduler only what was changed is left.
    let id = match (&node.drained, scheduler) {
        (Some(id), _) => id.clone(),
        (None, Scheduler::None) if node.touched => String::new(),
        _ => return None,
    };
    is_out.then_some(Held { id, scheduler, touched: node.touched, why })
}

/// A node when a roll is called again: what failed is tried again, what was left alone is looked at again.
fn again(node: &mut Node, now: u64) {
    node.waits_from = now;
    match node.stage {
        Stage::Failed => {
            node.stage = node.failed_at.take().unwrap_or(Stage::Draining);
            node.problem = None;
        }
        Stage::Left => *node = Node::waiting(),
        _ => {}
    }
}

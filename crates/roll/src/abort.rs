//! A roll that ends before its time: nodes with which nothing was done, and nodes that have the build, get work again.

use std::collections::BTreeMap;

use super::begin::{Refusal, held, scheduler_of};
use super::hands::{Hands, Reported, ReportedState};
use super::record::{Act, Build, Held, Node, Record, Scheduler, Stage, is_ours};
use super::run::Ended;

/// How often the scheduler is asked before it counts as not answering.
const LOOKS: usize = 3;

/// What became of the nodes that rolls had drained.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aborted {
    /// Nodes that get work again.
    pub resumed: Vec<String>,
    /// Nodes that stay drained, and why.
    pub held: BTreeMap<String, String>,
}

/// Ends the roll that the record has, and looks again at nodes that earlier ones left drained.
/// Errors: [`Refusal`]; or see [`Ended`], the record has what is still drained then.
pub fn abort<H: Hands>(
    hands: &mut H,
    record: &mut Record,
    asked: Option<Scheduler>,
) -> Result<Result<Aborted, Ended<H::Stop>>, Refusal> {
    if record.roll.is_none() && record.held.is_empty() {
        return Ok(Ok(Aborted::default()));
    }
    let scheduler = scheduler_of(record, asked)?;
    Ok(give_back(hands, record, scheduler))
}

fn give_back<H: Hands>(hands: &mut H, record: &mut Record, scheduler: Scheduler) -> Result<Aborted, Ended<H::Stop>> {
    let (mut open, mut target) = (BTreeMap::new(), None);
    if let Some(roll) = record.roll.take() {
        for (name, node) in roll.nodes {
            if let Some(held) = held(&node, scheduler) {
                let has = has(&node, &name, record, &roll.target);
                open.insert(name.clone(), (held.clone(), has, node.since));
                record.held.insert(name, held);
            }
        }
        target = Some(roll.target);
    }
    for (name, held) in &record.held {
        open.entry(name.clone()).or_insert_with(|| (held.clone(), Has::No, 0));
    }
    // From here on it is no roll: what stays drained is kept as such.
    hands.save(record)?;
    let names: Vec<String> = open.keys().cloned().collect();
    let reports = hands.reports(&names);
    let seats = match scheduler {
        Scheduler::None => BTreeMap::new(),
        Scheduler::Slurm if names.is_empty() => BTreeMap::new(),
        Scheduler::Slurm => looked(hands, &names)?,
    };
    let mut aborted = Aborted::default();
    for (name, (held, has, since)) in open {
        let is_own = seats
            .get(&name)
            .and_then(|seat: &super::Seat| seat.drained.as_ref())
            .is_some_and(|text| is_ours(text, &held.id));
        let is_up = target.as_ref().is_some_and(|target| is_up(reports.get(&name), since, target));
        let is_good = !held.touched || has == Has::Yes || has == Has::IfUp && is_up;
        if scheduler == Scheduler::Slurm && !is_own {
            // Others gave it work, or keep it drained for a reason of theirs.
            record.held.remove(&name);
            continue;
        }
        if !is_good {
            aborted.held.insert(name, why(&held));
            continue;
        }
        if scheduler == Scheduler::Slurm
            && let Err(problem) = hands.resume(&name)
        {
            hands.save(record)?;
            return Err(Ended::Outage(problem));
        }
        record.held.remove(&name);
        aborted.resumed.push(name);
    }
    hands.save(record)?;
    Ok(aborted)
}

fn why(held: &Held) -> String {
    held.why.clone()
}

fn looked<H: Hands>(hands: &mut H, names: &[String]) -> Result<BTreeMap<String, super::Seat>, Ended<H::Stop>> {
    let mut last = String::new();
    for _ in 0..LOOKS {
        match hands.look(names) {
            Ok(seats) => return Ok(seats),
            Err(problem) => last = problem,
        }
        hands.pause()?;
    }
    match fault::planted("roll-abort-in-the-dark") {
        true => Ok(BTreeMap::new()),
        false => Err(Ended::Outage(last)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Has {
    Yes,
    /// If it reports so.
    IfUp,
    No,
}

/// Whether a node has the build of the roll, and nothing spoke against it.
fn has(node: &Node, name: &str, record: &Record, target: &Build) -> Has {
    let is_sync = matches!(node.act, Some(Act::Sync { .. } | Act::Services { .. }));
    match node.stage {
        Stage::Resuming => Has::Yes,
        Stage::Failed => Has::No,
        _ if is_sync => {
            let to = record.synced.get(name).and_then(|synced| synced.to.as_ref());
            if to == Some(target) { Has::Yes } else { Has::No }
        }
        _ => Has::IfUp,
    }
}

fn is_up(report: Option<&Reported>, since: u64, target: &Build) -> bool {
    report.is_some_and(|report| {
        report.state == ReportedState::Up && report.time >= since && report.build.as_ref() == Some(target)
    })
}

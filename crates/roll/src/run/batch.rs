//! Which nodes are next.

use std::collections::{BTreeMap, BTreeSet};

use super::super::hands::{Event, Hands, Seat};
use super::super::limits::Count;
use super::super::need::{Need, need};
use super::super::record::{Act, Node, Roll, Stage};
use super::{Ended, Run};

/// Nodes that are looked at for each one that a batch may have, so that ten thousand are not read for five.
const AHEAD: usize = 64;

/// Why a node is left alone, by what the scheduler says before it was touched.
pub(crate) fn left_alone(seat: Option<&Seat>) -> Option<String> {
    match seat {
        None => Some("the scheduler does not know it".to_owned()),
        Some(Seat { drained: Some(reason), .. }) if reason.is_empty() => Some("it is drained".to_owned()),
        Some(Seat { drained: Some(reason), .. }) => Some(format!("it is drained: {reason}")),
        Some(seat) if seat.is_down => Some("it is down".to_owned()),
        Some(_) => None,
    }
}

fn is_out(seat: Option<&Seat>) -> bool {
    seat.is_some_and(|seat| seat.drained.is_some() || seat.is_down)
}

/// Nodes that the roll has taken down, or that went down after it.
fn is_own(node: Option<&Node>) -> bool {
    node.is_some_and(|node| node.is_in_flight() || matches!(node.stage, Stage::Failed | Stage::Done))
}

/// Nodes that were down or drained for other reasons when this process began: a roll neither alters nor waits for that.
pub(crate) fn out_before(roll: &Roll, seats: &BTreeMap<String, Seat>) -> BTreeSet<String> {
    let is_others = |name: &&String| is_out(seats.get(*name)) && !is_own(roll.nodes.get(*name));
    roll.order.iter().filter(is_others).cloned().collect()
}

/// How many nodes may go down now. A number counts those that the roll took down; a percentage also those that went down meanwhile.
pub(crate) fn room(roll: &Roll, seats: &BTreeMap<String, Seat>, most: Count, before: &BTreeSet<String>) -> usize {
    let counts = |name: &&String| {
        let node = roll.nodes.get(*name);
        // Without a scheduler nothing says which nodes are out.
        let has_failed = node.is_some_and(|node| node.stage == Stage::Failed);
        let is_others = !is_own(node);
        let is_meant = match most {
            _ if fault::planted("roll-counts-those-of-others") => true,
            Count::Nodes(_) => !is_others,
            Count::Percent(_) => !is_others || !before.contains(*name),
        };
        has_failed || is_out(seats.get(*name)) && is_meant
    };
    most.of(roll.order.len()).saturating_sub(roll.order.iter().filter(counts).count())
}

impl<H: Hands> Run<'_, H> {
    /// Begins the next batch; false if too many nodes are down for that.
    pub(super) fn next_batch(&mut self) -> Result<bool, Ended<H::Stop>> {
        let all = self.roll.order.clone();
        let seats = match self.is_slurm() {
            true => loop {
                let seats = self.look(&all)?;
                let is_settling = self.is_settling();
                let is_gone = |seat: &Seat| seat.is_down && seat.drained.is_none();
                match seats.filter(|seats| !is_settling || !seats.values().any(is_gone)) {
                    Some(seats) => break seats,
                    None => self.hands.pause()?,
                }
            },
            false => BTreeMap::new(),
        };
        let before = &*self.before.get_or_insert_with(|| out_before(&self.roll, &seats));
        let room = room(&self.roll, &seats, self.options.max_down, before);
        let canary = self.canary_left();
        let size = if canary > 0 { canary } else { self.options.batch.of(all.len()) };
        let most = size.min(room);
        let (chosen, idle, is_full) = self.choose(&seats, (most, size))?;
        if !idle.is_empty() {
            self.hands.assign(&idle)?;
            for name in idle {
                self.node(&name).act = Some(Act::Nothing);
                self.ends(&name, Stage::Done, None);
            }
        }
        if chosen.is_empty() {
            self.save()?;
            return Ok(!is_full);
        }
        let now = self.hands.now();
        self.roll.batches += 1;
        let (number, is_slurm, id) = (self.roll.batches, self.is_slurm(), self.roll.id.clone());
        let mut nodes = Vec::new();
        for (name, act) in chosen {
            let node = self.node(&name);
            (node.stage, node.act, node.batch) = (Stage::Draining, Some(act), Some(number));
            (node.waits_from, node.problem) = (now, None);
            node.drained = is_slurm.then(|| id.clone());
            nodes.push(name);
        }
        self.batch.clone_from(&nodes);
        self.save()?;
        let waiting = self.in_stage(|node| node.stage == Stage::Waiting).len();
        self.hands.tell(Event::Batch { number, canary: canary > 0, nodes, waiting });
        fault::point("roll.draining");
        Ok(true)
    }

    /// The next nodes that need something, those that need nothing, and whether one had to wait because too many are down.
    #[expect(clippy::type_complexity, reason = "three lists of one loop")]
    fn choose(
        &mut self,
        seats: &BTreeMap<String, Seat>,
        (most, size): (usize, usize),
    ) -> Result<(Vec<(String, Act)>, Vec<String>, bool), Ended<H::Stop>> {
        let (mut chosen, mut idle) = (Vec::new(), Vec::new());
        let waiting = self.in_stage(|node| node.stage == Stage::Waiting);
        let target = self.roll.target.clone();
        for names in waiting.chunks(size.clamp(1, AHEAD)) {
            let reports = self.hands.reports(names);
            for name in names {
                if chosen.len() >= size {
                    return Ok((chosen, idle, false));
                }
                let left = if self.is_slurm() { left_alone(seats.get(name)) } else { None };
                if let Some(why) = left {
                    self.leaves(name, why);
                    continue;
                }
                match need(self.hands, &self.record.synced, (name, reports.get(name)), &target)? {
                    Need::Has | Need::Act(Act::Nothing, _) => idle.push(name.clone()),
                    Need::Starts => self.leaves(name, "it starts now, with this build".to_owned()),
                    Need::Act(..) if chosen.len() >= most => return Ok((chosen, idle, true)),
                    Need::Act(act, _) => chosen.push((name.clone(), act)),
                }
            }
        }
        Ok((chosen, idle, false))
    }

    /// Says how the batch ended.
    pub(super) fn end_batch(&mut self) {
        let names = std::mem::take(&mut self.batch);
        if names.is_empty() {
            return;
        }
        let count = |stage| {
            names.iter().filter(|name| self.roll.nodes.get(*name).is_some_and(|node| node.stage == stage)).count()
        };
        let (done, failed) = (count(Stage::Done), count(Stage::Failed));
        let (number, left) = (self.roll.batches, names.len() - done - failed);
        self.hands.tell(Event::BatchEnd { number, done, failed, left });
    }
}

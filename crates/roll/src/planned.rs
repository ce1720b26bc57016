//! What a roll would do, node by node, if all went well.

use schemars::JsonSchema;
use serde::Serialize;

use super::hands::Hands;
use super::need::{Need, need};
use super::record::{Act, Record, Scheduler, Stage};
use super::run::{Ended, Options};

/// A node of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Planned {
    /// The node.
    pub node: String,
    /// Its batch, from 1; left out for nodes that are in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// Whether it is of the canary.
    pub canary: bool,
    /// What is done with it; left out for nodes that are left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<Act>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a roll that the record has would do, in the order of turns; the record stays as it is.
/// Errors: The scheduler does not answer, or builds cannot be compared now.
pub fn plan<H: Hands>(hands: &mut H, record: &Record, options: &Options) -> Result<Vec<Planned>, Ended<H::Stop>> {
    let Some(roll) = &record.roll else { return Ok(Vec::new()) };
    let is_slurm = roll.scheduler == Scheduler::Slurm;
    let seats =
        if is_slurm { hands.look(&roll.order).map_err(Ended::Outage)? } else { std::collections::BTreeMap::new() };
    let reports = hands.reports(&roll.order);
    let is_of_canary = |act: &Act| *act != Act::Nothing;
    let done =
        roll.nodes.values().filter(|node| node.stage == Stage::Done && node.act.as_ref().is_some_and(is_of_canary));
    let canary = options.canary.saturating_sub(done.count());
    let room = super::run::room(roll, &seats, options.max_down, &super::run::out_before(roll, &seats));
    let size = options.batch.of(roll.order.len()).min(room.max(1));
    let (mut all, mut count) = (Vec::new(), 0);
    for name in &roll.order {
        let Some(node) = roll.nodes.get(name) else { continue };
        let mut planned = Planned { node: name.clone(), batch: None, canary: false, act: None, reason: None };
        if node.is_in_flight() {
            planned.act.clone_from(&node.act);
            planned.batch = Some(roll.batches);
            planned.reason = Some("an earlier call began with it".to_owned());
            all.push(planned);
            continue;
        }
        if let Some(why) = is_slurm.then(|| super::run::left_alone(seats.get(name))).flatten() {
            planned.reason = Some(why);
            all.push(planned);
            continue;
        }
        match need(hands, &record.synced, (name, reports.get(name)), &roll.target)? {
            Need::Has => (planned.act, planned.reason) = (Some(Act::Nothing), Some("it has the build".to_owned())),
            Need::Starts => planned.reason = Some("it starts now, with this build".to_owned()),
            Need::Act(Act::Nothing, why) => (planned.act, planned.reason) = (Some(Act::Nothing), Some(why)),
            Need::Act(act, why) => {
                planned.canary = count < canary;
                let first = canary.div_ceil(canary.min(room.max(1)).max(1));
                let batch = match planned.canary {
                    true => count / canary.min(room.max(1)).max(1),
                    false => first + (count - canary) / size.max(1),
                };
                planned.batch = u32::try_from(batch).ok().map(|batch| roll.batches + batch + 1);
                count += 1;
                (planned.act, planned.reason) = (Some(act), Some(why));
            }
        }
        all.push(planned);
    }
    Ok(all)
}

//! What is done with a node: noted first, so that anyone who kills the roll finds each node restarted once.

use std::collections::BTreeMap;

use super::super::hands::{Answers, Hands, Kind, Reported, Sent};
use super::super::need::{Need, need};
use super::super::record::{Act, Part, Stage, Synced};
use super::{Run, Step, is_up};

impl<H: Hands> Run<'_, H> {
    /// Begins with nodes that have no jobs; what each needs is asked again, because hours may have passed.
    pub(super) fn begin_acts(&mut self, ready: &[String], reports: &BTreeMap<String, Reported>) -> Step<H> {
        let (target, now) = (self.roll.target.clone(), self.hands.now());
        let (mut acts, mut has) = (Vec::new(), Vec::new());
        for name in ready {
            match need(self.hands, &self.record.synced, (name, reports.get(name)), &target)? {
                Need::Has | Need::Act(Act::Nothing, _) => has.push(name.clone()),
                Need::Starts => {
                    let node = self.node(name);
                    (node.stage, node.waits_from, node.since, node.touched) = (Stage::Coming, now, 0, true);
                }
                Need::Act(act, _) => acts.push((name.clone(), act)),
            }
        }
        let names: Vec<String> = acts.iter().map(|(name, _)| name).chain(&has).cloned().collect();
        if names.is_empty() {
            return Ok(());
        }
        self.hands.assign(&names)?;
        for name in has {
            let node = self.node(&name);
            (node.stage, node.waits_from, node.act) = (Stage::Checking, now, Some(Act::Nothing));
        }
        let names: Vec<String> = acts.iter().map(|(name, _)| name.clone()).collect();
        let mut marks = if names.is_empty() { BTreeMap::new() } else { self.hands.marks(&names) };
        for (name, act) in acts {
            let mark = match marks.remove(&name) {
                Some(Ok(mark)) => mark,
                other => {
                    let problem = other.and_then(Result::err).unwrap_or_else(|| "it was not asked".to_owned());
                    let text = format!("it was not reached: {problem}");
                    match self.is_late(&name, self.options.drain_timeout.max(self.options.node_timeout)) {
                        true => self.fails(&name, text),
                        false => self.problem(&name, &text),
                    }
                    continue;
                }
            };
            if matches!(act, Act::Sync { .. } | Act::Services { .. }) {
                let report = reports.get(&name);
                let Some(booted) = report.and_then(|report| report.build.clone()) else { continue };
                let reported = report.map_or(0, |report| report.time);
                self.record.synced.insert(name.clone(), Synced { booted, reported, mark: mark.clone(), to: None });
            }
            let node = self.node(&name);
            (node.stage, node.act, node.touched) = (Stage::Acting, Some(act), true);
            (node.mark, node.since, node.waits_from, node.problem) = (Some(mark), now, now, None);
        }
        self.save()?;
        fault::point("roll.acting");
        Ok(())
    }

    /// Does what is noted, also what an earlier process had noted.
    pub(super) fn acts(&mut self, reports: &BTreeMap<String, Reported>) -> Step<H> {
        let names = self.in_stage(|node| node.stage == Stage::Acting);
        if names.is_empty() {
            return Ok(());
        }
        let mut syncs: Vec<(Vec<Part>, Vec<String>, Vec<String>)> = Vec::new();
        let mut orders = Vec::new();
        for name in names {
            let node = self.node(&name);
            let (parts, services) = match node.act.clone() {
                Some(Act::Sync { parts }) => (parts, Vec::new()),
                Some(Act::Services { parts, services }) => (parts, services),
                Some(Act::SoftReboot) => {
                    orders.push((name, Kind::Soft, node.mark.clone().unwrap_or_default()));
                    continue;
                }
                _ => {
                    orders.push((name, Kind::Machine, node.mark.clone().unwrap_or_default()));
                    continue;
                }
            };
            match syncs.iter_mut().find(|(other, units, _)| *other == parts && *units == services) {
                Some((.., names)) => names.push(name),
                None => syncs.push((parts, services, vec![name])),
            }
        }
        for (parts, services, names) in syncs {
            self.sync(&parts, &services, &names)?;
        }
        self.restart(orders, reports)
    }

    fn sync(&mut self, parts: &[Part], services: &[String], names: &[String]) -> Step<H> {
        let mut good = names.to_vec();
        let take = |run: &mut Self, good: &mut Vec<String>, answers: Answers<()>, what: &str| {
            for (name, answer) in answers {
                if let Err(problem) = answer {
                    good.retain(|one| *one != name);
                    run.fails(&name, format!("{what}: {problem}"));
                }
            }
        };
        if !parts.is_empty() {
            let answers = self.hands.sync(&good, parts)?;
            good.retain(|name| answers.contains_key(name));
            take(self, &mut good, answers, "the sync failed");
        }
        if !services.is_empty() && !good.is_empty() {
            let answers = self.hands.restart_services(&good, services);
            good.retain(|name| answers.contains_key(name));
            take(self, &mut good, answers, "services did not start again");
        }
        let (target, now) = (self.roll.target.clone(), self.hands.now());
        for name in good {
            if let Some(synced) = self.record.synced.get_mut(&name) {
                synced.to = Some(target.clone());
            }
            let node = self.node(&name);
            (node.stage, node.waits_from, node.problem) = (Stage::Checking, now, None);
        }
        self.save()?;
        fault::point("roll.acted");
        Ok(())
    }

    fn restart(&mut self, orders: Vec<(String, Kind, String)>, reports: &BTreeMap<String, Reported>) -> Step<H> {
        let target = self.roll.target.clone();
        let (mut open, mut up) = (Vec::new(), Vec::new());
        for order in orders {
            match is_up(reports.get(&order.0), self.node(&order.0).since, &target) {
                true => up.push(order.0),
                false => open.push(order),
            }
        }
        up.iter().for_each(|name| self.node(name).stage = Stage::Coming);
        if open.is_empty() {
            return Ok(());
        }
        let mut answers = self.hands.restart(&open);
        fault::point("roll.acted");
        for (name, kind, _) in open {
            match answers.remove(&name) {
                Some(Ok(Sent::Restarts | Sent::Restarted)) => self.node(&name).stage = Stage::Coming,
                Some(Ok(Sent::Cannot(why))) if kind == Kind::Soft => {
                    self.problem(&name, &format!("no soft reboot: {why}; the machine restarts instead"));
                    self.node(&name).act = Some(Act::Reboot);
                }
                Some(Ok(Sent::Cannot(problem)) | Err(problem)) => {
                    match self.is_late(&name, self.options.node_timeout) {
                        true => self.fails(&name, format!("it did not restart: {problem}")),
                        false => self.problem(&name, &problem),
                    }
                }
                None => {}
            }
        }
        self.save()
    }
}

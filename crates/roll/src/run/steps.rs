//! One step of the nodes in work: from their drain to their next job.

use std::collections::BTreeMap;

use super::super::hands::{Hands, Reported, ReportedState, Seat};
use super::super::record::{Stage, is_ours};
use super::{Run, Step, is_up};

impl<H: Hands> Run<'_, H> {
    /// Takes all nodes in work a step further; new ones are restarted only if `may_act`.
    pub(super) fn step(&mut self, flight: &[String], may_act: bool) -> Step<H> {
        let seats = match self.is_slurm() {
            true => self.look(flight)?,
            false => None,
        };
        let draining = self.in_stage(|node| node.stage == Stage::Draining && (may_act || node.touched));
        let ready = match (self.is_slurm(), &seats) {
            (true, Some(seats)) => self.drains(&draining, seats)?,
            (true, None) => Vec::new(),
            (false, _) => self.quiet(&draining)?,
        };
        let reports = self.hands.reports(flight);
        self.begin_acts(&ready, &reports)?;
        self.acts(&reports)?;
        self.coming(&reports);
        self.checking()?;
        self.resuming(seats.as_ref())
    }

    /// Nodes that restart: a failed attempt is no failure, being late is.
    fn coming(&mut self, reports: &BTreeMap<String, Reported>) {
        let (target, now) = (self.roll.target.clone(), self.hands.now());
        for name in self.in_stage(|node| node.stage == Stage::Coming) {
            let (report, since) = (reports.get(&name), self.node(&name).since);
            if is_up(report, since, &target) {
                let node = self.node(&name);
                (node.stage, node.waits_from, node.problem) = (Stage::Checking, now, None);
                self.record.synced.remove(&name);
                continue;
            }
            match report.filter(|report| report.time >= since) {
                Some(Reported { state: ReportedState::Failed, reason, .. }) => {
                    let why = reason.clone().unwrap_or_else(|| "without a reason".to_owned());
                    let text = format!("its start failed: {why}");
                    match fault::planted("roll-one-attempt") {
                        true => self.fails(&name, text),
                        false => self.problem(&name, &text),
                    }
                }
                Some(Reported { state: ReportedState::Up, build, .. }) => {
                    let build = build.as_ref().map_or_else(|| "an unknown build".to_owned(), ToString::to_string);
                    self.problem(&name, &format!("it is up with {build}"));
                }
                _ => {}
            }
            if self.is_late(&name, self.options.node_timeout) && self.node(&name).stage == Stage::Coming {
                let minutes = self.options.node_timeout / 60_000;
                let last = self.node(&name).problem.clone().map(|problem| format!("; last: {problem}"));
                let text = format!("no report `up` with {target} after {minutes} min{}", last.unwrap_or_default());
                self.fails(&name, text);
            }
        }
    }

    /// Nodes that have the build, and are to be healthy.
    fn checking(&mut self) -> Step<H> {
        let names = self.in_stage(|node| node.stage == Stage::Checking);
        if names.is_empty() {
            return Ok(());
        }
        let mut answers = self.hands.health(&names);
        for name in names {
            match answers.remove(&name) {
                Some(Ok(())) => {
                    let node = self.node(&name);
                    (node.stage, node.problem) = (Stage::Resuming, None);
                }
                Some(Err(problem)) => {
                    let text = format!("the health command failed: {problem}");
                    match self.is_late(&name, self.options.node_timeout) {
                        true => self.fails(&name, text),
                        false => self.problem(&name, &text),
                    }
                }
                None => {}
            }
        }
        self.save()
    }

    /// Nodes that get work again, if they have none for our reason alone.
    fn resuming(&mut self, seats: Option<&BTreeMap<String, Seat>>) -> Step<H> {
        for name in self.in_stage(|node| node.stage == Stage::Resuming) {
            let Some(id) = self.node(&name).drained.clone() else {
                self.is_done(&name);
                continue;
            };
            let Some(seats) = seats else { continue };
            let drained = seats.get(&name).and_then(|seat| seat.drained.clone());
            match drained {
                Some(text) if !is_ours(&text, &id) => {
                    let why = format!("it has the build, but someone else drained it meanwhile: {text}");
                    self.leaves(&name, why);
                }
                None if seats.get(&name).is_none_or(|seat| !seat.is_down) => self.is_done(&name),
                // Drained, or down since it restarted.
                _ => match self.hands.resume(&name) {
                    Ok(()) => {
                        fault::point("roll.resumed");
                        self.is_done(&name);
                    }
                    Err(problem) => self.is_out(problem)?,
                },
            }
        }
        Ok(())
    }

    fn is_done(&mut self, name: &str) {
        self.ends(name, Stage::Done, None);
    }
}

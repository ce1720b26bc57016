//! Nodes that are drained until their jobs have ended, and nodes that are given back.

use std::collections::BTreeMap;

use super::super::hands::{Hands, Seat};
use super::super::record::{Stage, is_ours, reason};
use super::batch::left_alone;
use super::{Ended, Run, Step, of_held};

impl<H: Hands> Run<'_, H> {
    /// Drains nodes, waits for their jobs, and says which have none.
    pub(super) fn drains(
        &mut self,
        names: &[String],
        seats: &BTreeMap<String, Seat>,
    ) -> Result<Vec<String>, Ended<H::Stop>> {
        let mut ready = Vec::new();
        let is_settling = self.is_settling();
        for name in names {
            let Some(id) = self.node(name).drained.clone() else { continue };
            let seat = seats.get(name);
            let is_own = seat.and_then(|seat| seat.drained.as_ref()).is_some_and(|text| is_ours(text, &id));
            if is_own {
                match seat.is_some_and(|seat| seat.has_jobs) && !fault::planted("roll-kills-jobs") {
                    false => ready.push(name.clone()),
                    true if self.is_late(name, self.options.drain_timeout) => self.busy(name, true)?,
                    true => {}
                }
                continue;
            }
            if self.node(name).touched {
                match left_alone(seat) {
                    // Its jobs, if it has any, began when others gave it work again.
                    Some(why) if seat.is_some_and(|seat| seat.drained.is_some()) => self.leaves(name, why),
                    _ => self.drain(name, &id)?,
                }
                continue;
            }
            match left_alone(seat) {
                Some(_) if is_settling && seat.is_none_or(|seat| seat.drained.is_none()) => {}
                Some(why) => self.leaves(name, why),
                None if self.asked.contains(name) => {
                    self.leaves(name, "someone else gave it work again while it was drained".to_owned());
                }
                None => self.drain(name, &id)?,
            }
        }
        Ok(ready)
    }

    fn drain(&mut self, name: &str, id: &str) -> Step<H> {
        match self.hands.drain(name, &reason(id)) {
            Ok(()) => {
                self.asked.insert(name.to_owned());
                fault::point("roll.drained");
                Ok(())
            }
            Err(problem) => self.is_out(problem),
        }
    }

    /// Waits where no scheduler is until no user has a process.
    pub(super) fn quiet(&mut self, names: &[String]) -> Result<Vec<String>, Ended<H::Stop>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut ready = Vec::new();
        for (name, answer) in self.hands.quiet(names) {
            let is_touched = self.node(&name).touched;
            match answer {
                Ok(true) => ready.push(name),
                Ok(false) if self.is_late(&name, self.options.drain_timeout) => self.busy(&name, false)?,
                Ok(false) => {}
                Err(problem) if !is_touched => self.leaves(&name, format!("it was not reached: {problem}")),
                Err(problem) => match self.is_late(&name, self.options.node_timeout) {
                    true => self.fails(&name, format!("it was not reached: {problem}")),
                    false => self.problem(&name, &problem),
                },
            }
        }
        Ok(ready)
    }

    fn busy(&mut self, name: &str, is_drained: bool) -> Step<H> {
        let minutes = self.options.drain_timeout / 60_000;
        let why = format!("it still has work after {minutes} min");
        if self.node(name).touched {
            self.fails(name, why);
            return Ok(());
        }
        match if is_drained { self.hands.resume(name) } else { Ok(()) } {
            Ok(()) => self.leaves(name, why),
            Err(problem) => self.is_out(problem)?,
        }
        Ok(())
    }

    /// Gives nodes work again with which nothing was done yet.
    pub(super) fn give_back(&mut self) -> Step<H> {
        let names = self.in_stage(|node| node.stage == Stage::Draining && !node.touched);
        if names.is_empty() {
            return Ok(());
        }
        let seats = match self.is_slurm() {
            true => self.look(&names)?,
            false => Some(BTreeMap::new()),
        };
        let Some(seats) = seats else { return Ok(()) };
        for name in names {
            let id = self.node(&name).drained.clone().unwrap_or_default();
            let is_own = seats.get(&name).and_then(|seat| seat.drained.as_ref()).is_some_and(|text| is_ours(text, &id));
            match if is_own { self.hands.resume(&name) } else { Ok(()) } {
                Ok(()) => self.ends(&name, Stage::Waiting, None),
                Err(problem) => self.is_out(problem)?,
            }
        }
        self.save()
    }

    /// Gives nodes work again that an earlier roll drained, and did nothing with; whether that is done.
    pub(super) fn release_held(&mut self) -> Result<bool, Ended<H::Stop>> {
        let held = self.record.held.iter();
        let untouched =
            held.filter(|(_, held)| !held.touched).map(|(name, held)| (name.clone(), of_held(held).0.to_owned()));
        let untouched: Vec<(String, String)> = untouched.collect();
        if untouched.is_empty() {
            return Ok(true);
        }
        let names: Vec<String> = untouched.iter().map(|(name, _)| name.clone()).collect();
        let Some(seats) = self.look(&names)? else { return Ok(false) };
        for (name, id) in untouched {
            let is_own = seats.get(&name).and_then(|seat| seat.drained.as_ref()).is_some_and(|text| is_ours(text, &id));
            match if is_own { self.hands.resume(&name) } else { Ok(()) } {
                Ok(()) => drop(self.record.held.remove(&name)),
                Err(problem) => {
                    self.is_out(problem)?;
                    return Ok(false);
                }
            }
        }
        self.save()?;
        Ok(true)
    }
}

//! Nodes, jobs and a scheduler in memory; any call can be the last one of a process.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::*;

/// What a process that is killed leaves in the air.
struct Killed;

pub(super) const MINUTE: u64 = 60_000;

#[derive(Debug, Clone, Default)]
pub(super) struct Machine {
    pub assigned: String,
    /// The build that it booted.
    pub booted: String,
    /// What it really has.
    pub has: String,
    pub starts: u64,
    /// When it is up.
    pub up_at: u64,
    pub is_reported: bool,
    pub seat: Seat,
    /// When its jobs end.
    pub busy_until: u64,
    pub restarts: BTreeMap<String, u32>,
    pub syncs: u32,
    pub report: Option<Reported>,
    /// Whether its next starts fail.
    pub is_broken: bool,
    pub is_sick: bool,
}

pub(super) struct World {
    pub now: u64,
    pub minute: u16,
    pub target: String,
    pub nodes: BTreeMap<String, Machine>,
    pub act: Act,
    pub saved: String,
    pub events: Vec<Event>,
    pub killed_jobs: u32,
    /// Calls until the process is killed.
    pub left: Option<u32>,
    /// Whether the scheduler answers.
    pub is_out: bool,
    /// When it answers again.
    pub out_until: u64,
    pub is_soft_refused: bool,
    pub looks: u32,
    /// Nodes that go down once the second batch is over.
    pub falls: Vec<String>,
    /// Whether work comes to free nodes.
    pub has_work: bool,
}

pub(super) fn build(name: &str) -> Build {
    Build { image: "compute".to_owned(), build: name.to_owned() }
}

pub(super) fn names(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("cn{number:02}")).collect()
}

pub(super) fn options() -> Options {
    Options {
        canary: 1,
        batch: Count::Nodes(3),
        max_down: Count::Percent(100.0),
        window: None,
        max_failures: 0,
        drain_timeout: 600 * MINUTE,
        node_timeout: 30 * MINUTE,
        outage: 30 * MINUTE,
    }
}

impl World {
    pub(super) fn of(count: usize, act: Act) -> Self {
        let node = |name: String| {
            let report = Reported {
                state: ReportedState::Up,
                build: Some(build("a")),
                time: 1,
                reason: None,
                asked_since: false,
            };
            let a = || "a".to_owned();
            let machine = Machine {
                assigned: a(),
                booted: a(),
                has: a(),
                report: Some(report),
                is_reported: true,
                ..Machine::default()
            };
            (name, machine)
        };
        Self {
            now: 1_000_000,
            minute: 0,
            target: "b".to_owned(),
            nodes: names(count).into_iter().map(node).collect(),
            act,
            saved: "{}".to_owned(),
            events: Vec::new(),
            killed_jobs: 0,
            left: None,
            is_out: false,
            out_until: 0,
            is_soft_refused: false,
            looks: 0,
            falls: Vec::new(),
            has_work: true,
        }
    }

    fn point(&mut self) {
        if let Some(left) = &mut self.left {
            *left -= 1;
            if *left == 0 {
                self.left = None;
                resume_unwind(Box::new(Killed));
            }
        }
    }

    pub(super) fn record(&self) -> Record {
        serde_json::from_str(&self.saved).unwrap()
    }

    /// One process: none if it was killed.
    pub(super) fn roll(&mut self, range: &[String], options: &Options) -> Option<Result<Option<Outcome>, Ended<()>>> {
        self.by(range, Scheduler::Slurm, options)
    }

    pub(super) fn by(
        &mut self,
        range: &[String],
        scheduler: Scheduler,
        options: &Options,
    ) -> Option<Result<Option<Outcome>, Ended<()>>> {
        let mut record = self.record();
        let id = format!("r{}", self.now);
        begin(&mut record, (&build(&self.target), Some(scheduler)), range, (&id, self.now)).unwrap();
        catch_unwind(AssertUnwindSafe(|| run(self, &mut record, options))).ok()
    }

    pub(super) fn abort(&mut self) -> Option<Result<Aborted, Ended<()>>> {
        let mut record = self.record();
        catch_unwind(AssertUnwindSafe(|| abort(self, &mut record, None).unwrap())).ok()
    }

    /// Time passes: nodes come up, jobs begin and end.
    fn pass(&mut self, milliseconds: u64) {
        self.now += milliseconds;
        let (now, has_work) = (self.now, self.has_work);
        for (at, machine) in self.nodes.values_mut().enumerate() {
            if !machine.is_reported && now >= machine.up_at {
                machine.is_reported = true;
                let state = if machine.is_broken { ReportedState::Failed } else { ReportedState::Up };
                let reason = machine.is_broken.then(|| "no disk".to_owned());
                let build = Some(build(&machine.booted));
                machine.report = Some(Reported { state, build, time: machine.up_at, reason, asked_since: false });
            }
            let is_free = machine.seat.drained.is_none() && !machine.seat.is_down && machine.is_reported;
            if has_work && is_free && machine.busy_until <= now {
                machine.busy_until = now + (1 + (now / 10_000 + at as u64 * 7) % 5) * MINUTE;
            }
            machine.seat.has_jobs = machine.busy_until > now;
        }
    }

    fn disturb(machine: &Machine, now: u64) -> u32 {
        u32::from(machine.busy_until > now)
    }

    pub(super) fn drained(&self) -> Vec<&str> {
        let drained = self.nodes.iter().filter(|(_, machine)| machine.seat.drained.is_some());
        drained.map(|(name, _)| name.as_str()).collect()
    }

    /// Nodes with these restarts in all.
    pub(super) fn restarts(&self) -> u32 {
        self.nodes.values().flat_map(|machine| machine.restarts.values()).sum()
    }

    fn each<T>(&mut self, names: &[String], mut one: impl FnMut(&mut Machine, u64) -> Result<T, String>) -> Answers<T> {
        let mut answers = Answers::new();
        for name in names {
            self.point();
            let now = self.now;
            let answer = match self.nodes.get_mut(name) {
                Some(machine) => one(machine, now),
                None => Err("no route".to_owned()),
            };
            answers.insert(name.clone(), answer);
            self.point();
        }
        answers
    }
}

impl Hands for World {
    type Stop = ();

    fn now(&mut self) -> u64 {
        self.now
    }
    fn minute(&mut self) -> u16 {
        self.minute
    }
    fn pause(&mut self) -> Result<(), ()> {
        self.point();
        self.pass(10_000);
        Ok(())
    }
    fn save(&mut self, record: &Record) -> Result<(), ()> {
        self.point();
        self.saved = serde_json::to_string(record).unwrap();
        self.point();
        Ok(())
    }
    fn look(&mut self, names: &[String]) -> Result<BTreeMap<String, Seat>, String> {
        self.point();
        self.looks += 1;
        if self.is_out || self.now < self.out_until {
            return Err("slurm_load_node: Unable to contact slurm controller".to_owned());
        }
        // Until it has heard of a node, Slurm that came back calls it down.
        let is_unheard = self.out_until > 0 && self.now < self.out_until + MINUTE;
        let seen = |seat: &Seat| Seat { is_down: seat.is_down || is_unheard, ..seat.clone() };
        let seat = |name: &String| Some((name.clone(), seen(&self.nodes.get(name)?.seat)));
        Ok(names.iter().filter_map(seat).collect())
    }
    fn drain(&mut self, name: &str, reason: &str) -> Result<(), String> {
        self.point();
        if self.is_out || self.now < self.out_until {
            return Err("Unable to contact slurm controller".to_owned());
        }
        let machine = self.nodes.get_mut(name).unwrap();
        assert!(machine.seat.drained.is_none(), "{name} is drained twice");
        machine.seat.drained = Some(reason.to_owned());
        self.point();
        Ok(())
    }
    fn resume(&mut self, name: &str) -> Result<(), String> {
        self.point();
        if self.is_out || self.now < self.out_until {
            return Err("Unable to contact slurm controller".to_owned());
        }
        let machine = self.nodes.get_mut(name).unwrap();
        (machine.seat.drained, machine.seat.is_down) = (None, false);
        self.point();
        Ok(())
    }
    fn quiet(&mut self, names: &[String]) -> Answers<bool> {
        self.each(names, |machine, now| Ok(machine.busy_until <= now))
    }
    fn reports(&mut self, names: &[String]) -> BTreeMap<String, Reported> {
        names.iter().filter_map(|name| Some((name.clone(), self.nodes.get(name)?.report.clone()?))).collect()
    }
    fn between(&mut self, runs: &Build, to: &Build) -> Result<(Act, String), ()> {
        let act = if runs == to { Act::Nothing } else { self.act.clone() };
        Ok((act, format!("{runs} -> {to}")))
    }
    fn assign(&mut self, names: &[String]) -> Result<(), ()> {
        self.point();
        for name in names {
            self.nodes.get_mut(name).unwrap().assigned = self.target.clone();
        }
        self.point();
        Ok(())
    }
    fn marks(&mut self, names: &[String]) -> Answers<String> {
        self.each(names, |machine, _| Ok(machine.starts.to_string()))
    }
    fn sync(&mut self, names: &[String], _: &[Part]) -> Result<Answers<()>, ()> {
        let target = self.target.clone();
        let mut killed = 0;
        let answers = self.each(names, |machine, now| {
            killed += Self::disturb(machine, now);
            machine.syncs += 1;
            machine.has.clone_from(&target);
            Ok(())
        });
        self.killed_jobs += killed;
        Ok(answers)
    }
    fn restart_services(&mut self, names: &[String], _: &[String]) -> Answers<()> {
        self.each(names, |_, _| Ok(()))
    }
    fn restart(&mut self, orders: &[(String, Kind, String)]) -> Answers<Sent> {
        let mut answers = Answers::new();
        for (name, kind, mark) in orders {
            self.point();
            if *kind == Kind::Soft && self.is_soft_refused {
                answers.insert(name.clone(), Ok(Sent::Cannot("no room".to_owned())));
                continue;
            }
            let now = self.now;
            let machine = self.nodes.get_mut(name).unwrap();
            if machine.starts.to_string() != *mark {
                answers.insert(name.clone(), Ok(Sent::Restarted));
                continue;
            }
            self.killed_jobs += Self::disturb(machine, now);
            machine.starts += 1;
            *machine.restarts.entry(machine.assigned.clone()).or_default() += 1;
            machine.booted.clone_from(&machine.assigned);
            machine.has.clone_from(&machine.assigned);
            (machine.up_at, machine.is_reported) = (now + 3 * MINUTE, false);
            // The line goes down with the node.
            let is_lost = machine.starts % 2 == 1;
            answers
                .insert(name.clone(), if is_lost { Err("connection closed".to_owned()) } else { Ok(Sent::Restarts) });
            self.point();
        }
        answers
    }
    fn health(&mut self, names: &[String]) -> Answers<()> {
        self.each(names, |machine, _| match machine.is_sick {
            true => Err("no GPU".to_owned()),
            false => Ok(()),
        })
    }
    fn tell(&mut self, event: Event) {
        if matches!(event, Event::BatchEnd { number: 2, .. }) {
            for name in std::mem::take(&mut self.falls) {
                self.nodes.get_mut(&name).unwrap().seat.is_down = true;
            }
        }
        self.events.push(event);
    }
}

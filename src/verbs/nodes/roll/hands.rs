//! The world of a roll: Slurm's commands, ssh, the nodes' reports and `nodeset`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::tz::TimeZone;

use super::documents::RollDocument;
use super::{lines, shown, slurm, zone};
use crate::Exit;
use crate::output::harmless::one_line;
use crate::output::render;
use crate::verbs::nodes::needs::{BuildName, Compared, restart_lines};
use crate::verbs::nodes::sync::bring;
use crate::verbs::nodes::sync::jobs::{Parts, jobs_of};
use crate::verbs::nodes::{Site, failed, nodeset};
use nodes::{NodeSet, ReportState};
use restart::{Answer, Restart};
use roll::{Act, Answers, Build, Event, Hands, Kind, Part, Record, Reported, ReportedState, Seat, Sent};
use sandbox::interrupt;
use sync::{Job, Said, Settings};

/// Between two looks at the nodes in work.
const PAUSE: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(50);
/// Paths that are named in a message.
const PATHS: usize = 5;

pub(super) struct World<'a> {
    pub(super) arguments: &'a crate::Arguments,
    pub(super) own: &'a super::Arguments,
    pub(super) site: &'a Site,
    pub(super) target: Build,
    pub(super) compared: Compared<'a>,
    pub(super) settings: Settings,
    /// The zone of the window.
    pub(super) zone: Option<TimeZone>,
    /// All nodes of the roll.
    pub(super) all: Vec<String>,
    /// What they get, by whether files and packages are brought, once it was read.
    pub(super) loaded: BTreeMap<(bool, bool), BTreeMap<String, Job>>,
    /// Files of sync lists that the build altered afterwards, once that was looked at.
    pub(super) edited: Option<Vec<String>>,
}

impl World<'_> {
    fn jobs(&self, names: &[String]) -> Vec<Job> {
        let job = |name: &String| Job {
            address: self.site.nodes.get(name).and_then(|node| node.ip()),
            host_keys: self.site.state.host_keys(name),
            ..Job::of(name, &self.target.image)
        };
        names.iter().map(job).collect()
    }

    /// What nodes say to lines of shell.
    fn each(&self, names: &[String], script: &(dyn Fn(&Job) -> String + Sync)) -> Answers<Said> {
        if names.is_empty() {
            return Answers::new();
        }
        let jobs = self.jobs(names);
        let all = sync::each(&jobs, &self.settings, script, &interrupt::came);
        // What was interrupted says nothing about the node.
        let is_over = interrupt::came();
        let known = names.iter().cloned().zip(all).filter(|(_, said)| !is_over || said.is_ok());
        known.collect()
    }

    fn good(&self, names: &[String], script: &str) -> Answers<()> {
        let good = |said: Said| match (said.status, said.last.is_empty()) {
            (0, _) => Ok(()),
            (status, true) => Err(format!("exit status {status}")),
            (status, false) => Err(format!("exit status {status}: {}", one_line(&said.last))),
        };
        let said = self.each(names, &|_| script.to_owned());
        said.into_iter().map(|(name, said)| (name, said.and_then(good))).collect()
    }

    /// Paths that a sync would bring otherwise than the build has them, because the build altered them afterwards.
    /// Errors: The exit code, after it was said that lists have changed since.
    fn edited(&mut self) -> Result<Vec<String>, Exit> {
        if let Some(edited) = &self.edited {
            return Ok(edited.clone());
        }
        let target = &self.target;
        let unbuilt = match self.compared.unbuilt()? {
            Ok(unbuilt) => unbuilt,
            Err(why) => {
                render::say(&format!(
                    "error: it is not known whether the sync lists have what {target} has: {why}\n  help: `imgbuild build {}` builds what they have now",
                    target.image
                ));
                return Err(Exit::Input);
            }
        };
        if unbuilt.changed.is_empty() {
            self.edited = Some(unbuilt.edited.clone());
            return Ok(unbuilt.edited);
        }
        render::say(&format!(
            "error: files of sync lists have changed since {target} was built: {}\n  help: build first: `imgbuild build {}`, then roll that build; nodes that a sync brought something else would have no build",
            shown(&unbuilt.changed),
            target.image
        ));
        Err(Exit::Input)
    }

    /// Looks at all that nodes would be brought, before any is drained.
    /// Errors: The exit code, after it was said that lists have changed since the build, or why builds cannot be compared.
    pub(super) fn looks_ahead(&mut self, record: &Record) -> Result<(), Exit> {
        let Some(under_way) = &record.roll else { return Ok(()) };
        let reports = self.reports(&under_way.order).into_values();
        let known = reports.filter(|report| report.state == ReportedState::Up).filter_map(|report| report.build);
        let synced = under_way.order.iter().filter_map(|name| record.synced.get(name)?.to.clone());
        let runs: BTreeSet<Build> = known.chain(synced).collect();
        let target = self.target.clone();
        for build in runs {
            self.between(&build, &target)?;
        }
        // What an earlier call began with is not asked again.
        let has_files = |act: &Act| matches!(act, Act::Sync { parts } | Act::Services { parts, .. } if parts.contains(&Part::Files));
        let is_open = |node: &roll::Node| node.is_in_flight() && node.act.as_ref().is_some_and(has_files);
        if under_way.nodes.values().any(is_open) {
            self.edited()?;
        }
        Ok(())
    }

    /// What some nodes get of the build's image. It is read once for all nodes of the roll.
    fn brings(&mut self, names: &[String], parts: &[Part]) -> Result<Vec<Job>, Exit> {
        let key = (parts.contains(&Part::Files), parts.contains(&Part::Packages));
        if !self.loaded.contains_key(&key) {
            let known = self.all.iter().chain(names).filter(|name| self.site.nodes.get(name).is_some());
            let images = known.map(|name| (name.clone(), self.target.image.clone())).collect();
            let parts = Parts { files: key.0, packages: key.1, scripts: None };
            let jobs = jobs_of(self.arguments, self.site, &images, &parts)?;
            if key.0 {
                // Hours may have passed. What changes from here on the nodes refuse, by its digest.
                self.edited = None;
                self.edited()?;
            }
            self.loaded.insert(key, jobs.into_iter().map(|job| (job.node.clone(), job)).collect());
        }
        let loaded = self.loaded.get(&key);
        let job =
            |name: &String| Some(Job { host_keys: self.site.state.host_keys(name), ..loaded?.get(name)?.clone() });
        Ok(names.iter().filter_map(job).collect())
    }
}

fn shown(paths: &[String]) -> String {
    let first: Vec<&str> = paths.iter().take(PATHS).map(String::as_str).collect();
    let more = if paths.len() > PATHS { format!(" and {} more", paths.len() - PATHS) } else { String::new() };
    format!("{}{more}", one_line(&first.join(", ")))
}

fn act_of(answer: &Answer) -> (Act, String) {
    let part = |name: &String| if name == "files" { Part::Files } else { Part::Packages };
    let parts: Vec<Part> = answer.sync.iter().map(part).collect();
    let act = match answer.restart {
        Restart::Nothing => Act::Nothing,
        Restart::Sync => Act::Sync { parts },
        Restart::Services => Act::Services { parts, services: answer.services.clone() },
        Restart::SoftReboot => Act::SoftReboot,
        Restart::Reboot => Act::Reboot,
    };
    let why = answer.reasons.first().map(|reason| {
        let paths = reason.paths.first().map(|path| format!("{path}: ")).unwrap_or_default();
        let package = reason.package.as_ref().map(|package| format!("{}: ", package.name)).unwrap_or_default();
        format!("{package}{paths}{}", reason.text)
    });
    (act, why.unwrap_or_default())
}

impl Hands for World<'_> {
    type Stop = Exit;

    fn now(&mut self) -> u64 {
        nodes::state::now()
    }

    fn minute(&mut self) -> u16 {
        self.zone.as_ref().map_or(0, zone::minute)
    }

    fn pause(&mut self) -> Result<(), Exit> {
        let until = std::time::Instant::now() + PAUSE;
        while std::time::Instant::now() < until && !interrupt::came() {
            std::thread::sleep(TICK);
        }
        if interrupt::came() { Err(Exit::Interrupted) } else { Ok(()) }
    }

    fn save(&mut self, record: &Record) -> Result<(), Exit> {
        self.site.state.set_roll(record).map_err(failed)?;
        if interrupt::came() { Err(Exit::Interrupted) } else { Ok(()) }
    }

    fn look(&mut self, names: &[String]) -> Result<BTreeMap<String, Seat>, String> {
        slurm::look(names)
    }

    fn drain(&mut self, name: &str, reason: &str) -> Result<(), String> {
        slurm::drain(name, reason)
    }

    fn resume(&mut self, name: &str) -> Result<(), String> {
        slurm::resume(name)
    }

    fn quiet(&mut self, names: &[String]) -> Answers<bool> {
        let said = self.each(names, &|_| lines::QUIET.to_owned());
        let quiet = |said: Said| match (said.status, said.out.trim()) {
            (0, "quiet") => Ok(true),
            (0, "busy") => Ok(false),
            _ => Err(format!("its answer cannot be understood: {}", one_line(&said.last))),
        };
        said.into_iter().map(|(name, said)| (name, said.and_then(quiet))).collect()
    }

    fn reports(&mut self, names: &[String]) -> BTreeMap<String, Reported> {
        let asked = self.site.state.asked();
        let one = |name: &String| {
            let report = self.site.state.report(name)?;
            let state = match report.state {
                ReportState::Booting | ReportState::Image => ReportedState::Starting,
                ReportState::Up => ReportedState::Up,
                ReportState::Failed => ReportedState::Failed,
            };
            let asked_since = asked.get(name).is_some_and(|asked| asked.is_open(Some(&report)));
            let build = report.image.zip(report.build).map(|(image, build)| Build { image, build });
            let build = build.filter(|one| {
                recipe::is_image_name(&one.image) && !one.build.starts_with('.') && !one.build.contains('/')
            });
            Some((name.clone(), Reported { state, build, time: report.time, reason: report.reason, asked_since }))
        };
        names.iter().filter_map(one).collect()
    }

    fn between(&mut self, runs: &Build, to: &Build) -> Result<(Act, String), Exit> {
        if runs == to {
            return Ok((Act::Nothing, String::new()));
        }
        let name = BuildName { image: runs.image.clone(), build: runs.build.clone() };
        let (act, why) = self.compared.answer(&name).map(act_of)?;
        let is_of_files = match &act {
            Act::Sync { parts } | Act::Services { parts, .. } => parts.contains(&Part::Files),
            _ => false,
        };
        let edited = if is_of_files { self.edited()? } else { Vec::new() };
        match edited.is_empty() {
            true => Ok((act, why)),
            false => Ok((Act::Reboot, format!("a sync would undo what the build altered later in {}", shown(&edited)))),
        }
    }

    fn assign(&mut self, names: &[String]) -> Result<(), Exit> {
        let set = NodeSet::of(names.iter().map(String::as_str));
        let (image, build) = (&self.target.image, &self.target.build);
        nodeset::give(self.arguments, self.site, &set, (self.own.from.clone(), image, build), false)
    }

    fn marks(&mut self, names: &[String]) -> Answers<String> {
        let said = self.each(names, &|_| lines::mark());
        let mark = |said: Said| match said.out.lines().last().map(str::trim) {
            Some(mark) if said.status == 0 && mark.starts_with(|letter: char| letter.is_ascii_digit()) => {
                Ok(mark.to_owned())
            }
            _ => Err(format!("its answer cannot be understood: {}", one_line(&said.last))),
        };
        said.into_iter().map(|(name, said)| (name, said.and_then(mark))).collect()
    }

    fn sync(&mut self, names: &[String], parts: &[Part]) -> Result<Answers<()>, Exit> {
        let jobs = self.brings(names, parts)?;
        let mut answers = bring(&jobs, &self.settings);
        for name in names {
            answers.entry(name.clone()).or_insert_with(|| Err("nodes.toml no longer has it".to_owned()));
        }
        if interrupt::came() { Err(Exit::Interrupted) } else { Ok(answers) }
    }

    fn restart_services(&mut self, names: &[String], services: &[String]) -> Answers<()> {
        self.good(names, &lines::command(&restart_lines(services)))
    }

    fn restart(&mut self, orders: &[(String, Kind, String)]) -> Answers<Sent> {
        let names: Vec<String> = orders.iter().map(|(name, ..)| name.clone()).collect();
        let target = self.target.clone();
        let by_name: BTreeMap<&str, (Kind, &str)> =
            orders.iter().map(|(name, kind, mark)| (name.as_str(), (*kind, mark.as_str()))).collect();
        let script = |job: &Job| {
            let (kind, mark) = by_name.get(job.node.as_str()).copied().unwrap_or((Kind::Machine, ""));
            lines::restart(kind, &target, mark)
        };
        let sent = |said: Said| match said.status {
            0 => Ok(Sent::Restarts),
            lines::RESTARTED => Ok(Sent::Restarted),
            lines::CANNOT => Ok(Sent::Cannot(one_line(&said.last))),
            status => Err(format!("exit status {status}: {}", one_line(&said.last))),
        };
        self.each(&names, &script).into_iter().map(|(name, said)| (name, said.and_then(sent))).collect()
    }

    fn health(&mut self, names: &[String]) -> Answers<()> {
        match &self.own.health {
            Some(health) => self.good(names, &lines::command(health)),
            None => names.iter().map(|name| (name.clone(), Ok(()))).collect(),
        }
    }

    fn tell(&mut self, event: Event) {
        if self.own.json {
            return render::print_json(&RollDocument::Event(event).text());
        }
        if let Some(line) = shown::line(&event) {
            render::say(&line);
        }
    }
}

//! What the server knows of nodes: their file, what `nodeset` gave them, what they reported.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use super::fresh::Files;
use crate::Say;
use crate::error::ServeError;
use nodes::state::Boots;
use nodes::{
    Asked, Assignments, Attr, HostKey, Nodes, Report, ReportState, RollShown, RootState, ScriptResult, Spoken, State,
    StateError, Tokens,
};

/// How many changes are remembered for pages that show them as they come.
const REMEMBERED: usize = 4096;

pub(crate) struct Desk {
    files: Files,
    tokens: Tokens,
    reports: Mutex<Reports>,
    /// The lines that were put together last, and when that began.
    lines: Mutex<Option<(Instant, Arc<Vec<NodeLine>>)>>,
}

#[derive(Default)]
struct Reports {
    by_node: BTreeMap<String, Report>,
    /// Whose script was asked for, by anyone.
    asked: BTreeMap<String, Asked>,
    /// Counts all changes.
    version: u64,
    /// Which node changed at which count, the newest last.
    changes: VecDeque<(u64, String)>,
}

impl Reports {
    /// Forgets nodes of which nothing is kept: someone cleared them. None where that cannot be known now.
    fn forget_cleared(&mut self, state: &State) {
        let Ok(kept) = state.try_kept_names() else { return };
        self.by_node.retain(|node, _| kept.contains(node));
        self.asked.retain(|node, _| kept.contains(node));
    }

    fn changed(&mut self, node: &str) {
        self.version += 1;
        self.changes.push_back((self.version, node.to_owned()));
        if self.changes.len() > REMEMBERED {
            self.changes.pop_front();
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct NodeLine {
    pub name: String,
    /// The image that it boots, or is to boot.
    pub image: Option<String>,
    /// The build of it, where `nodeset` gave it one.
    pub build: Option<String>,
    pub report: Option<Report>,
    /// When its script was asked for, if it has not reported since.
    pub asked: Option<Asked>,
}

/// Why a client gets no script.
#[derive(Debug)]
pub(crate) enum Stranger {
    /// nodes.toml has no such node.
    Unknown,
    /// What it says of itself names several nodes: which, by what.
    Several(String),
}

#[derive(Debug)]
pub(crate) enum NotKept {
    /// No such node, or not its token: both are answered alike.
    Unknown,
    /// The state's directory cannot be written.
    Failed(StateError),
}

impl Desk {
    /// The nodes of a workspace, if it has any.
    /// Errors: What is wrong with their file, where none of before is known, or with the state.
    pub(crate) fn open(root: PathBuf, state: State) -> Result<Option<Self>, ServeError> {
        let Some(files) = Files::open(root, state)? else { return Ok(None) };
        let tokens = files.state.tokens()?;
        let (by_node, asked) = (files.state.reports(), files.state.asked());
        let reports = Mutex::new(Reports { by_node, asked, ..Reports::default() });
        Ok(Some(Self { files, tokens, reports, lines: Mutex::default() }))
    }

    /// The nodes as their file is now. With a new file goes what is known of nodes that someone cleared.
    pub(crate) fn nodes(&self) -> Arc<Nodes> {
        let (nodes, is_new) = self.files.nodes();
        if is_new {
            self.reports.lock().unwrap_or_else(PoisonError::into_inner).forget_cleared(self.state());
        }
        nodes
    }

    /// From now on nodes.toml is not taken over where a node has an address of this network that no node can have.
    pub(crate) fn answers_in(&self, server: Ipv4Addr, mask: Ipv4Addr) {
        self.files.answers_in(server, mask);
    }

    /// Says why nodes.toml is not taken over as it is, once, by anyone who can.
    pub(crate) fn say_errors(&self, say: &Say) {
        self.files.say_errors(say);
    }

    /// What `nodeset` gave them.
    pub(crate) fn assigned(&self) -> Arc<Assignments> {
        self.files.assigned()
    }

    /// The node that a client says it is: by its name, the MAC address of its card, its firmware's UUID or serial number. One that
    /// says nothing which nodes.toml has of the node at its address is that node.
    /// Errors: There is no such node, or it is several.
    pub(crate) fn who(&self, claims: &BTreeMap<String, String>, client: IpAddr) -> Result<String, Stranger> {
        let nodes = self.nodes();
        let claim = |name: &str| claims.get(name).map(String::as_str).filter(|text| !text.is_empty());
        let by_name = |name: &str| nodes.span_of(name).is_some();
        if claim("node").is_some_and(|name| !by_name(name)) {
            return Err(Stranger::Unknown);
        }
        let found = [
            ("node", claim("node")),
            ("mac", claim("mac").and_then(|mac| nodes.by_mac(mac.parse().ok()?))),
            ("uuid", claim("uuid").and_then(|uuid| nodes.by_uuid(uuid))),
            ("serial", claim("serial").and_then(|serial| nodes.by_serial(serial))),
        ];
        let found: Vec<(&str, &str)> = found.into_iter().filter_map(|(by, node)| Some((by, node?))).collect();
        match found.first() {
            Some((_, node)) if found.iter().all(|(_, other)| other == node) || fault::planted("boot-claims-differ") => {
                Ok((*node).to_owned())
            }
            Some(_) => {
                let all: Vec<String> = found.iter().map(|(by, node)| format!("{node} by {by}")).collect();
                Err(Stranger::Several(all.join(", ")))
            }
            None => {
                let node = nodes.by_ip(client).and_then(|name| nodes.get(name)).ok_or(Stranger::Unknown)?;
                let is_other = claim("mac").is_some() && !node.macs().is_empty()
                    || claim("uuid").is_some() && node.text(Attr::Uuid).is_some()
                    || claim("serial").is_some() && node.text(Attr::Serial).is_some();
                if is_other { Err(Stranger::Unknown) } else { Ok(node.name) }
            }
        }
    }

    pub(crate) fn state(&self) -> &State {
        &self.files.state
    }

    pub(crate) fn root(&self) -> &std::path::Path {
        &self.files.root
    }

    /// The token of a node for what it is to boot, an image and its build; none: its disk.
    pub(crate) fn token(&self, node: &str, boots: Option<(&str, &str)>) -> String {
        match boots {
            Some((image, build)) if !fault::planted("token-names-no-build") => self.tokens.of_build(node, image, build),
            _ => self.tokens.of(node),
        }
    }

    /// What a node's token says; nothing where it is not one of this node.
    pub(crate) fn spoken(&self, node: &str, token: &str) -> Option<Spoken> {
        self.tokens.read(node, token).filter(|_| self.nodes().span_of(node).is_some())
    }

    /// Keeps what became of the scripts of one of a node's lists; with a reason the node has failed by them.
    pub(crate) fn keep_scripts(
        &self,
        (node, spoken): (&str, &Spoken),
        list: &str,
        results: Vec<ScriptResult>,
        failure: Option<&str>,
    ) -> Result<(), NotKept> {
        self.files.state.write_scripts(node, list, results).map_err(NotKept::Failed)?;
        failure.map_or(Ok(()), |reason| self.keep((node, spoken), ReportState::Failed, Some(reason), (None, None)))
    }

    /// Keeps what a node reports, if it has the node's token: with its host keys, if it has been started. One that tells of its root alone
    /// leaves all else as it was.
    /// Errors: Why it is not kept.
    pub(crate) fn report(
        &self,
        (node, token): (&str, &str),
        (state, root): (Option<ReportState>, Option<RootState>),
        reason: Option<&str>,
        keys: &[HostKey],
    ) -> Result<(), NotKept> {
        let spoken = match self.spoken(node, token) {
            None if fault::planted("report-unchecked") => Spoken::NoBuild,
            spoken => spoken.ok_or(NotKept::Unknown)?,
        };
        let Some(state) = state else {
            let last = self.reports.lock().unwrap_or_else(PoisonError::into_inner).by_node.get(node).cloned();
            let of_build =
                |last: &Report| (last.image.as_deref(), last.build.as_deref()) == (spoken.image(), spoken.build());
            let last = last.filter(of_build);
            let state = last.as_ref().map_or(ReportState::Image, |last| last.state);
            let reason = last.as_ref().and_then(|last| last.reason.as_deref());
            return self.keep((node, &spoken), state, reason, (None, root));
        };
        self.keep((node, &spoken), state, reason, (Some(keys), root))
    }

    /// Keeps what xCAT's words say from a node's address. They name no build: it is that of the node's own last report, unless they say
    /// that the node starts.
    pub(crate) fn hear(&self, node: &str, state: ReportState, reason: Option<&str>) -> Result<(), NotKept> {
        let last = self.reports.lock().unwrap_or_else(PoisonError::into_inner).by_node.get(node).cloned();
        let spoken = match last.filter(|_| state != ReportState::Booting).map(|last| (last.image, last.build)) {
            Some((Some(image), Some(build))) => Spoken::Build(image, build),
            _ => Spoken::NoBuild,
        };
        self.keep((node, &spoken), state, reason, (None, None))
    }

    /// Keeps a report of a node that runs what its token says, whatever it is to boot next. Without a word about its host keys they stay
    /// as long as it runs what it reported last.
    fn keep(
        &self,
        (node, spoken): (&str, &Spoken),
        state: ReportState,
        reason: Option<&str>,
        (keys, root): (Option<&[HostKey]>, Option<RootState>),
    ) -> Result<(), NotKept> {
        let last = self.reports.lock().unwrap_or_else(PoisonError::into_inner).by_node.get(node).cloned();
        let report = Report::new(state, reason, spoken.image(), spoken.build()).with_root(root, last.as_ref());
        if fault::planted("report-forgets-first") {
            self.files.state.forget_host_keys(node);
        }
        let starts = matches!(state, ReportState::Booting | ReportState::Image);
        let runs_another = || {
            let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
            let last = reports.by_node.get(node);
            last.is_some_and(|last| (last.image.as_deref(), last.build.as_deref()) != (spoken.image(), spoken.build()))
        };
        // Where the report cannot be written, nothing else is changed; it is in its place after that: who waits for it then logs in.
        let mut change = || {
            match keys {
                Some(keys) if !starts && !keys.is_empty() => self.files.state.write_host_keys(node, keys)?,
                _ if fault::planted("host-keys-stay") => {}
                None if !starts && !runs_another() => {}
                _ => self.files.state.forget_host_keys(node),
            }
            if state == ReportState::Booting {
                // It starts again: what became of its scripts is of the start before.
                self.files.state.forget_scripts(node);
            }
            Ok(())
        };
        self.files.state.write_report(node, &report, &mut change).map_err(NotKept::Failed)?;
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.changed(node);
        reports.by_node.insert(node.to_owned(), report);
        Ok(())
    }

    /// The builds that nodes read their root from, by image, as they report.
    pub(crate) fn read_roots(&self) -> BTreeMap<String, BTreeSet<String>> {
        let nodes = self.nodes();
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is not in the file may run all the same, until someone clears it.
        let is_gone =
            |(node, report): (&String, &Report)| report.reads_root_from().is_some() && nodes.span_of(node).is_none();
        if reports.by_node.iter().any(is_gone) {
            reports.forget_cleared(&self.files.state);
        }
        let mut roots: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (image, build) in reports.by_node.values().filter_map(Report::reads_root_from) {
            roots.entry(image.to_owned()).or_default().insert(build.to_owned());
        }
        roots
    }

    /// The roll under way.
    pub(crate) fn roll(&self) -> Arc<Option<RollShown>> {
        self.files.roll()
    }

    /// When the roll under way said last how far it is.
    pub(crate) fn roll_written(&self) -> Option<SystemTime> {
        self.files.state.roll_written()
    }

    /// Notes that a node's script was asked for: anyone can, so it is no report.
    pub(crate) fn note_asked(&self, node: &str, client: IpAddr) {
        let asked = Asked::now(client);
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.changed(node);
        reports.asked.insert(node.to_owned(), asked.clone());
        drop(reports);
        let _ = self.files.state.write_asked(node, &asked);
    }

    /// The count of changes now.
    pub(crate) fn version(&self) -> u64 {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).version
    }

    /// Nodes that changed since a count, and the count now; none when more changed than is remembered.
    pub(crate) fn changed_since(&self, version: u64) -> (u64, Option<Vec<String>>) {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = reports.changes.front().map_or(reports.version + 1, |(at, _)| *at);
        if oldest > version + 1 && reports.version > version {
            return (reports.version, None);
        }
        let mut names: Vec<String> =
            reports.changes.iter().rev().take_while(|(at, _)| *at > version).map(|(_, name)| name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        (reports.version, Some(names))
    }

    pub(crate) fn line(&self, name: &str) -> Option<NodeLine> {
        let nodes = self.nodes();
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.span_of(name)?;
        Some(line(&nodes, &self.assigned(), &reports, name))
    }

    /// All nodes as they are now. Those who ask while lines are put together wait for the next ones together: however many ask, one
    /// processor works for them.
    pub(crate) fn lines(&self) -> Arc<Vec<NodeLine>> {
        let asked = Instant::now();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, lines)) = lines.as_ref().filter(|(began, _)| *began > asked) {
            return Arc::clone(lines);
        }
        let began = Instant::now();
        let all = Arc::new(self.put_together());
        *lines = Some((began, Arc::clone(&all)));
        all
    }

    fn put_together(&self) -> Vec<NodeLine> {
        let nodes = self.nodes();
        let assigned = self.assigned();
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.names().map(|name| line(&nodes, &assigned, &reports, name)).collect()
    }

    /// How many nodes have which image and which state.
    pub(crate) fn counts(&self) -> BTreeMap<(String, &'static str), u64> {
        let mut counts = BTreeMap::new();
        for line in self.lines().iter() {
            let state = line.report.as_ref().map_or("unknown", |report| report.state.name());
            *counts.entry((line.image.clone().unwrap_or_default(), state)).or_default() += 1;
        }
        counts
    }
}

fn line(nodes: &Nodes, assigned: &Assignments, reports: &Reports, name: &str) -> NodeLine {
    let (image, build) = match assigned.nodes.get(name).map(|one| &one.boots) {
        Some(Boots::Image { image, build, .. }) => (Some(image.clone()), Some(build.clone())),
        Some(Boots::Disk) => (Some("its disk".to_owned()), None),
        Some(Boots::Nothing) => (None, None),
        None => (nodes.get(name).and_then(|node| node.image().map(str::to_owned)), None),
    };
    let report = reports.by_node.get(name).cloned();
    let asked = reports.asked.get(name).filter(|asked| asked.is_open(report.as_ref())).cloned();
    NodeLine { name: name.to_owned(), image, build, report, asked }
}

//! What the server knows of nodes: their file, what `nodeset` gave them, what they reported.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use crate::fault;
use crate::nodes::state::Boots;
use crate::nodes::{Assignments, Nodes, Report, ReportState, ScriptResult, State, StateError, Tokens, nodes_file};
use crate::serve::error::ServeError;
use crate::source::Finding;

/// How many changes are remembered for pages that show them as they come.
const REMEMBERED: usize = 4096;

pub struct Desk {
    root: PathBuf,
    state: State,
    tokens: Tokens,
    nodes: RwLock<Read<Nodes>>,
    assigned: RwLock<Read<Assignments>>,
    reports: Mutex<Reports>,
}

/// A file as it was read last.
struct Read<T> {
    content: Arc<T>,
    changed: Option<SystemTime>,
}

#[derive(Default)]
struct Reports {
    by_node: BTreeMap<String, Report>,
    /// Counts all changes.
    version: u64,
    /// Which node changed at which count, the newest last.
    changes: VecDeque<(u64, String)>,
}

#[derive(Debug, Clone)]
pub struct NodeLine {
    pub name: String,
    /// The image that it boots, or is to boot.
    pub image: Option<String>,
    /// The build of it, where `nodeset` gave it one.
    pub build: Option<String>,
    pub report: Option<Report>,
}

#[derive(Debug)]
pub enum NotKept {
    /// No such node, or not its token: both are answered alike.
    Unknown,
    /// The state's directory cannot be written.
    Failed(StateError),
}

impl Desk {
    /// The nodes of a workspace, if it has any.
    /// Errors: What is wrong with their file, or with the state.
    pub fn open(root: PathBuf, state: State) -> Result<Option<Self>, ServeError> {
        let changed = nodes_file(&root).and_then(|path| modified(&path));
        let Some(nodes) = Nodes::load(&root).map_err(ServeError::Nodes)? else { return Ok(None) };
        let tokens = state.tokens()?;
        let assigned = state.assignments()?;
        let by_node = state.reports();
        Ok(Some(Self {
            root,
            state,
            tokens,
            nodes: RwLock::new(Read { content: Arc::new(nodes), changed }),
            // Read again when it is asked for first.
            assigned: RwLock::new(Read { content: Arc::new(assigned), changed: None }),
            reports: Mutex::new(Reports { by_node, ..Reports::default() }),
        }))
    }

    /// The nodes; read again where the file has changed. One that is wrong leaves what was there.
    pub fn nodes(&self) -> (Arc<Nodes>, Vec<Finding>) {
        let now = nodes_file(&self.root).and_then(|path| modified(&path));
        {
            let read = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
            if read.changed == now {
                return (Arc::clone(&read.content), Vec::new());
            }
        }
        let mut read = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        read.changed = now;
        let findings = match Nodes::load(&self.root) {
            Ok(Some(nodes)) => {
                read.content = Arc::new(nodes);
                Vec::new()
            }
            Ok(None) => Vec::new(),
            Err(findings) => findings,
        };
        (Arc::clone(&read.content), findings)
    }

    /// What `nodeset` gave them; read again where that has changed.
    pub fn assigned(&self) -> Arc<Assignments> {
        let now = modified(&self.state.directory().join("assigned.json"));
        {
            let read = self.assigned.read().unwrap_or_else(PoisonError::into_inner);
            if read.changed == now {
                return Arc::clone(&read.content);
            }
        }
        let mut read = self.assigned.write().unwrap_or_else(PoisonError::into_inner);
        if let Ok(assigned) = self.state.assignments() {
            *read = Read { content: Arc::new(assigned), changed: now };
        }
        Arc::clone(&read.content)
    }

    /// The node that a client says it is: by the MAC address of its card, its firmware's UUID or serial number, or by its address.
    pub fn who(&self, claims: &BTreeMap<String, String>, client: IpAddr) -> Option<String> {
        let (nodes, _) = self.nodes();
        let claim = |name: &str| claims.get(name).map(String::as_str).filter(|text| !text.is_empty());
        let by_name = claim("node").filter(|name| nodes.span_of(name).is_some());
        by_name
            .or_else(|| nodes.by_mac(claim("mac")?.parse().ok()?))
            .or_else(|| nodes.by_uuid(claim("uuid")?))
            .or_else(|| nodes.by_serial(claim("serial")?))
            .or_else(|| nodes.by_ip(client))
            .map(str::to_owned)
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn root(&self) -> &std::path::Path {
        &self.root
    }

    pub fn token(&self, node: &str) -> String {
        self.tokens.of(node)
    }

    pub fn is_known(&self, node: &str, token: &str) -> bool {
        self.tokens.is_of(node, token) && self.nodes().0.span_of(node).is_some()
    }

    /// Keeps what became of the scripts of one of a node's lists; with a reason the node has failed by them.
    pub fn keep_scripts(
        &self,
        node: &str,
        list: &str,
        results: Vec<ScriptResult>,
        failure: Option<&str>,
    ) -> Result<(), NotKept> {
        self.state.write_scripts(node, list, results).map_err(NotKept::Failed)?;
        failure.map_or(Ok(()), |reason| self.keep(node, ReportState::Failed, Some(reason)))
    }

    /// Keeps what a node reports, if it has the node's token.
    /// Errors: Why it is not kept.
    pub fn report(&self, node: &str, token: &str, state: ReportState, reason: Option<&str>) -> Result<(), NotKept> {
        let (nodes, _) = self.nodes();
        if !fault::planted("report-unchecked") && !self.tokens.is_of(node, token) || nodes.span_of(node).is_none() {
            return Err(NotKept::Unknown);
        }
        self.keep(node, state, reason)
    }

    /// Keeps what is known of a node without its token: that it fetched its script, or what xCAT's words say from its address.
    pub fn keep(&self, node: &str, state: ReportState, reason: Option<&str>) -> Result<(), NotKept> {
        let assigned = self.assigned();
        let (image, build) = match assigned.nodes.get(node).map(|one| &one.boots) {
            Some(Boots::Image { image, build, .. }) => (Some(image.as_str()), Some(build.as_str())),
            _ => (None, None),
        };
        if state == ReportState::Booting {
            // It starts again: what became of its scripts is of the start before.
            self.state.forget_scripts(node);
        }
        let report = Report::new(state, reason, image, build);
        self.state.write_report(node, &report).map_err(NotKept::Failed)?;
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.version += 1;
        let version = reports.version;
        reports.changes.push_back((version, node.to_owned()));
        if reports.changes.len() > REMEMBERED {
            reports.changes.pop_front();
        }
        reports.by_node.insert(node.to_owned(), report);
        Ok(())
    }

    /// The count of changes now.
    pub fn version(&self) -> u64 {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).version
    }

    /// Nodes that changed since a count, and the count now; none when more changed than is remembered.
    pub fn changed_since(&self, version: u64) -> (u64, Option<Vec<String>>) {
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

    pub fn line(&self, name: &str) -> Option<NodeLine> {
        let (nodes, _) = self.nodes();
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.span_of(name)?;
        Some(line(&nodes, &self.assigned(), &reports.by_node, name))
    }

    pub fn lines(&self) -> Vec<NodeLine> {
        let (nodes, _) = self.nodes();
        let assigned = self.assigned();
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.names().map(|name| line(&nodes, &assigned, &reports.by_node, name)).collect()
    }

    /// How many nodes have which image and which state.
    pub fn counts(&self) -> BTreeMap<(String, &'static str), u64> {
        let mut counts = BTreeMap::new();
        for line in self.lines() {
            let state = line.report.as_ref().map_or("unknown", |report| report.state.name());
            *counts.entry((line.image.unwrap_or_default(), state)).or_default() += 1;
        }
        counts
    }
}

fn modified(path: &std::path::Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|found| found.modified()).ok()
}

fn line(nodes: &Nodes, assigned: &Assignments, reports: &BTreeMap<String, Report>, name: &str) -> NodeLine {
    let (image, build) = match assigned.nodes.get(name).map(|one| &one.boots) {
        Some(Boots::Image { image, build, .. }) => (Some(image.clone()), Some(build.clone())),
        Some(Boots::Disk) => (Some("its disk".to_owned()), None),
        Some(Boots::Nothing) => (None, None),
        None => (nodes.get(name).and_then(|node| node.image().map(str::to_owned)), None),
    };
    NodeLine { name: name.to_owned(), image, build, report: reports.get(name).cloned() }
}

//! Which nodes a set means, and which nodes are in which group.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Nodes;
use crate::set::parse::{Spent, parse_within};
use crate::set::{Groups, MOST_NODES, Name, NodeSet, SetError, natural, parse};
use crate::xcat_range::Files;
use crate::{Attr, xcat_range};
use base::source::{Finding, Severity, SourceFile, Span, counted, nearest};

/// How many unknown names a message tells.
const MOST_TOLD: usize = 8;

/// Members of all groups together, a node as often as it is in one.
const MOST_MEMBERS: usize = if cfg!(test) { 100_000 } else { 2 * MOST_NODES };

/// Bytes of folded names, and of one name, that a message shows.
const LONGEST_SHOWN: usize = 400;

/// Sources of groups besides the groups of the file: nodes by a value that they have.
const SOURCES: [(&str, Attr); 3] = [("arch", Attr::Arch), ("image", Attr::Image), ("loader", Attr::Loader)];
/// The file's own groups as a source.
const OWN: &str = "group";

impl Groups for Nodes {
    fn all(&self) -> NodeSet {
        self.nodes.keys().cloned().collect()
    }

    fn group(&self, source: Option<&str>, name: &str) -> Result<Option<NodeSet>, Vec<String>> {
        let Some(source) = source.filter(|source| *source != OWN) else {
            let own = self.by_group.get(name).and_then(|index| self.groups.get(*index));
            let own = own.map(|group| group.nodes.clone());
            return Ok(own.or_else(|| (name == "all").then(|| self.all())));
        };
        Ok(self.by_value(source)?.get(name).cloned())
    }

    fn names(&self, source: Option<&str>) -> Result<Vec<String>, Vec<String>> {
        let Some(source) = source.filter(|source| *source != OWN) else {
            return Ok(self.groups.iter().map(|group| group.name.clone()).collect());
        };
        let mut texts: Vec<String> = self.by_value(source)?.keys().cloned().collect();
        texts.sort_by(|a, b| natural(a, b));
        Ok(texts)
    }
}

/// The nodes of each value, for each source: put together once, however many of its groups are asked for.
pub(super) type ByValue = [std::sync::OnceLock<HashMap<String, NodeSet>>; SOURCES.len()];

impl Nodes {
    /// The nodes by the value that they have for a source.
    /// Errors: There is no such source: the names of those that there are.
    fn by_value(&self, source: &str) -> Result<&HashMap<String, NodeSet>, Vec<String>> {
        let Some((at, attr)) =
            SOURCES.iter().zip(&self.by_value).find_map(|(known, at)| (known.0 == source).then_some((at, known.1)))
        else {
            return Err([OWN].into_iter().chain(SOURCES.map(|(name, _)| name)).map(str::to_owned).collect());
        };
        Ok(at.get_or_init(|| {
            let mut sets: HashMap<String, NodeSet> = HashMap::new();
            for node in Self::names(self).filter_map(|name| self.get(name)) {
                if let Some(text) = node.text(attr) {
                    sets.entry(text.to_owned()).or_default().insert(node.name.clone());
                }
            }
            sets
        }))
    }

    /// The nodes that a set means.
    /// Errors: It is not a set; it has unknown nodes or groups; it has no nodes.
    pub fn select(&self, text: &str) -> Result<NodeSet, Vec<Finding>> {
        let file = SourceFile::new("RANGE", "RANGE", text);
        let parsed = parse(text, self).map_err(|error| vec![reported(&file, error)])?;
        let near = |index| index < MOST_TOLD;
        let nothings = parsed.nothing.iter().enumerate();
        let mut findings: Vec<Finding> = nothings
            .map(|(index, (name, at))| self.no_nodes(name, &Span::new(&file, at.clone()), near(index)))
            .collect();
        let whole = Span::new(&file, 0..text.len());
        findings.extend(self.unknown(&parsed.set, &whole, true));
        if findings.is_empty() && parsed.set.is_empty() {
            findings.push(nothing(text, &whole));
        }
        if findings.is_empty() { Ok(parsed.set) } else { Err(findings) }
    }

    /// The nodes that a range means as xCAT writes it; `files` says what `^FILE` may read.
    /// Errors: As `select`.
    pub fn select_xcat(&self, text: &str, files: Files<'_>) -> Result<NodeSet, Vec<Finding>> {
        let file = SourceFile::new("NODERANGE", "NODERANGE", text);
        let whole = Span::new(&file, 0..text.len());
        let tables = xcat_range::Of::new(self, files);
        let found = xcat_range::nodes(text, &tables).map_err(|error| vec![reported(&file, error)])?;
        if !found.unknown.is_empty() {
            return Err(vec![self.unknown_names(found.unknown.iter().map(String::as_str), &whole, true)]);
        }
        if found.set.is_empty() {
            return Err(vec![nothing(text, &whole)]);
        }
        Ok(found.set)
    }

    /// What is said of nodes of a set that the file does not have.
    fn unknown(&self, set: &NodeSet, span: &Span, near: bool) -> Option<Finding> {
        let mut unknown = set.iter().filter(|name| !self.nodes.contains_key(&Name((*name).to_owned()))).peekable();
        unknown.peek()?;
        Some(self.unknown_names(unknown, span, near))
    }

    /// `near`: whether what may be meant is looked for, which costs as much as there are nodes.
    fn unknown_names<'a>(&self, names: impl Iterator<Item = &'a str>, span: &Span, near: bool) -> Finding {
        let names: Vec<&str> = names.collect();
        let shown = match names.len() {
            0..=MOST_TOLD => joined(&names),
            _ => few(&NodeSet::of(names.iter().copied()).folded(), &names),
        };
        let file = &self.file.name;
        let message = match names.len() {
            1 => format!("there is no node `{shown}` in {file}"),
            count => format!("{count} nodes are not in {file}: {shown}"),
        };
        let group = names.first().filter(|name| self.by_group.contains_key(**name));
        let near = names.first().filter(|_| near).map(|name| nearest(name, self.names())).unwrap_or_default();
        let help = match (group, near.first()) {
            (Some(group), _) => format!("a group has `@` before it: @{group}"),
            (None, Some(near)) => format!("did you mean `{near}`? `imgbuild nodes` lists them"),
            (None, None) => format!("`imgbuild nodes` lists the nodes; a new one is a table in {file}: [node.NAME]"),
        };
        Finding::error("nodes::unknown", span, message).help(help)
    }

    /// What is said of a group that no one knows, or a pattern that matches nothing.
    fn no_nodes(&self, name: &str, span: &Span, near: bool) -> Finding {
        let Some(group) = name.strip_prefix('@') else {
            return Finding::error("nodes::unknown", span, format!("`{name}` matches no node"))
                .help("`imgbuild nodes` lists them");
        };
        let near = match near {
            true => nearest(group, self.groups.iter().map(|group| group.name.as_str())),
            false => Vec::new(),
        };
        let help = match (near.first(), self.groups.is_empty()) {
            (Some(near), _) => format!("did you mean `@{near}`?"),
            (None, true) => format!("{} has no groups: [group.NAME] with nodes = \"...\" makes one", self.file.name),
            (None, false) => {
                let names: Vec<&str> = self.groups.iter().take(MOST_TOLD).map(|group| group.name.as_str()).collect();
                format!("groups are {}", names.join(", "))
            }
        };
        Finding::error("nodes::unknown", span, format!("there is no group `{group}`")).help(help)
    }
}

/// Names folded, if that is short, or the first of them.
fn few(folded: &str, names: &[&str]) -> String {
    match folded.len() <= LONGEST_SHOWN && names.iter().take(MOST_TOLD).all(|name| name.len() <= LONGEST_SHOWN) {
        true => folded.to_owned(),
        false => format!("{}, ..", joined(names)),
    }
}

/// The first names, each as far as it is short.
fn joined(names: &[&str]) -> String {
    names.iter().take(MOST_TOLD).map(|name| cut(name)).collect::<Vec<_>>().join(", ")
}

pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.to_owned(),
    }
}

fn nothing(text: &str, span: &Span) -> Finding {
    Finding::error("nodes::empty", span, format!("`{}` means no node", cut(text)))
        .help("name nodes or groups: cn[001-040], @compute, or `*` for all")
}

/// An error of a set at its place. The text is the whole file.
fn reported(file: &Arc<SourceFile>, error: SetError) -> Finding {
    let message = format!("`{}` is not a set of nodes: {}", cut(&file.text), error.message);
    let finding = Finding::nowhere(Severity::Error, "nodes::range", message).help(error.help);
    Finding { span: Some(Span::new(file, error.at)), ..finding }
}

struct Unready<'a> {
    nodes: &'a Nodes,
    texts: &'a [(String, Span)],
    /// What is being read, to find circles.
    open: std::cell::RefCell<Vec<usize>>,
    /// Groups that are in themselves: that is said once of each, whatever asks for it.
    circles: std::cell::RefCell<BTreeSet<usize>>,
    /// Members of the groups so far.
    members: std::cell::Cell<usize>,
    /// What all of them together look at.
    spent: Spent,
    done: std::cell::RefCell<HashMap<usize, NodeSet>>,
    findings: std::cell::RefCell<Vec<Finding>>,
}

impl Groups for Unready<'_> {
    fn all(&self) -> NodeSet {
        self.nodes.all()
    }

    fn group(&self, source: Option<&str>, name: &str) -> Result<Option<NodeSet>, Vec<String>> {
        if source.is_some_and(|source| source != OWN) {
            return Err(vec![OWN.to_owned()]);
        }
        let Some(index) = self.nodes.by_group.get(name) else {
            return Ok((name == "all").then(|| self.all()));
        };
        Ok(Some(self.of(*index)))
    }

    fn names(&self, source: Option<&str>) -> Result<Vec<String>, Vec<String>> {
        match source.is_none_or(|source| source == OWN) {
            true => Ok(self.nodes.groups.iter().map(|group| group.name.clone()).collect()),
            false => Err(vec![OWN.to_owned()]),
        }
    }
}

impl Unready<'_> {
    fn of(&self, index: usize) -> NodeSet {
        if let Some(known) = self.done.borrow().get(&index) {
            return known.clone();
        }
        let (text, span) = &self.texts[index];
        let name = &self.nodes.groups[index].name;
        if self.open.borrow().contains(&index) || self.open.borrow().len() > 100 {
            if self.circles.borrow_mut().insert(index) {
                let message = format!("the group `{name}` is in itself, by the groups that it names");
                let finding =
                    Finding::error("nodes::circle", span, message).help("name the nodes themselves in one of them");
                self.findings.borrow_mut().push(finding);
            }
            return NodeSet::default();
        }
        // Each group keeps its nodes, and each node its groups.
        if self.members.get() > MOST_MEMBERS || self.spent.is_too_much() {
            return NodeSet::default();
        }
        self.open.borrow_mut().push(index);
        let parsed = parse_within(text, self, &self.spent);
        self.open.borrow_mut().pop();
        let set = match parsed {
            Ok(parsed) => {
                let mut findings = self.findings.borrow_mut();
                for (name, _) in &parsed.nothing {
                    let near = findings.len() < MOST_TOLD;
                    findings.push(self.nodes.no_nodes(name, span, near));
                }
                let near = findings.len() < MOST_TOLD;
                findings.extend(self.nodes.unknown(&parsed.set, span, near));
                parsed.set
            }
            Err(_) if self.spent.is_too_much() => {
                let mut findings = self.findings.borrow_mut();
                if !findings.iter().any(|known| known.code == "nodes::too_many") {
                    let message = "up to here groups look at too many nodes too often";
                    let help = "name fewer ranges, groups and patterns in them";
                    findings.push(Finding::error("nodes::too_many", span, message).help(help));
                }
                NodeSet::default()
            }
            Err(error) => {
                let message = format!("`{text}` is not a set of nodes: {}", error.message);
                self.findings.borrow_mut().push(Finding::error("nodes::range", span, message).help(error.help));
                NodeSet::default()
            }
        };
        self.members.set(self.members.get() + set.len());
        if self.members.get() > MOST_MEMBERS {
            let message = format!("up to here groups have more than {} nodes together", counted(MOST_MEMBERS));
            let help = "remove groups: `@all` is there without one";
            self.findings.borrow_mut().push(Finding::error("nodes::too_many", span, message).help(help));
        }
        self.done.borrow_mut().insert(index, set.clone());
        set
    }
}

/// Reads the sets of all groups, and gives each node its groups, the least priority first.
pub(super) fn members(nodes: &mut Nodes, texts: &[(String, Span)], findings: &mut Vec<Finding>) {
    // The first of a name counts.
    nodes.by_group = nodes.groups.iter().enumerate().rev().map(|(index, group)| (group.name.clone(), index)).collect();
    let (sets, found) = {
        let unready = Unready {
            nodes,
            texts,
            open: Default::default(),
            circles: Default::default(),
            members: Default::default(),
            spent: Default::default(),
            done: Default::default(),
            findings: Default::default(),
        };
        let sets: Vec<NodeSet> = (0..texts.len()).map(|index| unready.of(index)).collect();
        (sets, unready.findings.into_inner())
    };
    findings.extend(found);
    let mut order: Vec<usize> = (0..nodes.groups.len()).collect();
    order.sort_by_key(|index| nodes.groups[*index].priority);
    for (group, set) in nodes.groups.iter_mut().zip(sets) {
        group.nodes = set;
    }
    for index in order {
        for name in nodes.groups[index].nodes.iter() {
            if let Some(entry) = nodes.nodes.get_mut(&Name(name.to_owned())) {
                entry.groups.push(index);
            }
        }
    }
}

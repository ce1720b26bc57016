//! The list that reaches a node, and what it is for one node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::variables::{VariableProblem, expand};
use super::way::{Home, Way};

/// Version of the list's form.
pub const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The path; a folder's ends in `/`.
    pub path: String,
    pub way: Way,
}

impl Entry {
    pub fn new(path: &str, way: Way) -> Self {
        Self { path: path.to_owned(), way }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// `server:/dir`, or a directory of the image.
    pub source: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub options: String,
}

/// Where what persists lies, of some nodes or of all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Names of nodes; none: all that have no other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// `server:/dir`, or a disk.
    pub source: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub options: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalDisk {
    /// `/dev/NAME`, `LABEL=`, `UUID=`, `PARTLABEL=`.
    pub device: String,
}

/// statelite.json: all that a node needs to make its own of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    pub format: u32,
    pub image: String,
    /// Paths, sorted.
    pub entries: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trees: Vec<Tree>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<State>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_disk: Option<LocalDisk>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    pub name: String,
    /// Where its state lies, and how it is mounted: what the command line says counts more than the list.
    pub state: Option<(String, String)>,
    pub local_disk: Option<String>,
    pub variables: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Server {
        server: String,
        directory: String,
        options: String,
    },
    Disk {
        /// `/dev/NAME`, `LABEL=`, `UUID=`, `PARTLABEL=`.
        device: String,
        options: String,
    },
    Image(String),
}

impl Source {
    /// Reads `server:/dir`, a disk or a directory.
    pub fn parse(text: &str, options: &str) -> Option<Self> {
        let options = options.trim().to_owned();
        let is_disk =
            text.starts_with("/dev/") || ["LABEL=", "UUID=", "PARTLABEL="].iter().any(|start| text.starts_with(start));
        if is_disk {
            let named = text.split_once('=').map_or(text, |(_, name)| name);
            return (!named.is_empty()).then(|| Self::Disk { device: text.to_owned(), options });
        }
        if let Some(directory) = text.strip_prefix('/') {
            return (!directory.contains(':')).then(|| Self::Image(text.trim_end_matches('/').to_owned()));
        }
        // An address of IPv6 stands in brackets.
        let (server, directory) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once("]:")?,
            None => text.split_once(':')?,
        };
        let is_name =
            !server.is_empty() && server.chars().all(|one| one.is_ascii_alphanumeric() || ".-_:%".contains(one));
        (is_name && directory.starts_with('/')).then(|| Self::Server {
            server: server.to_owned(),
            directory: match directory.trim_end_matches('/') {
                "" => "/".to_owned(),
                plain => plain.to_owned(),
            },
            options,
        })
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server { server, directory, .. } if server.contains(':') => write!(to, "[{server}]:{directory}"),
            Self::Server { server, directory, .. } => write!(to, "{server}:{directory}"),
            Self::Disk { device, .. } => to.write_str(device),
            Self::Image(directory) => write!(to, "{directory} of the image"),
        }
    }
}

/// What a node mounts before anything is resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    pub trees: Vec<Source>,
    /// The node's state, where something persists.
    pub state: Option<Source>,
    /// The node's disk, where something lies there.
    pub local_disk: Option<Source>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeProblem {
    /// A variable of a text has no value.
    Variable(String, VariableProblem),
    Source(String),
    /// Something persists, and nothing says where.
    NoState(String),
    /// Something lies on a disk, and nothing says which.
    NoDisk(String),
    /// An overlay's upper directory cannot lie on a server.
    OverlayOnServer(String),
}

impl std::fmt::Display for NodeProblem {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Variable(text, VariableProblem::Undefined(name)) => {
                write!(
                    to,
                    "`{text}`: the variable `${name}` has no value for this node (statelite.{name}=VALUE gives it one)"
                )
            }
            Self::Variable(text, VariableProblem::Command) => {
                write!(to, "`{text}`: #CMD= runs on xCAT's management node only")
            }
            Self::Variable(text, VariableProblem::Value(name)) => {
                write!(to, "`{text}`: the value of `${name}` is empty or cannot be part of a path")
            }
            Self::Source(text) => write!(to, "`{text}` is neither SERVER:/DIRECTORY nor a disk"),
            Self::NoState(path) => {
                write!(to, "{path} is persistent, but no state is set: STATEMNT=SERVER:/DIRECTORY")
            }
            Self::NoDisk(path) => {
                write!(to, "{path} is on a local disk, but no disk is set: statelite.localdisk=LABEL=NAME")
            }
            Self::OverlayOnServer(path) => {
                write!(
                    to,
                    "{path} is `overlay,persistent`, but the state is on a server: an overlay's upper part needs a disk"
                )
            }
        }
    }
}

impl List {
    /// What a node mounts.
    /// Errors: All problems.
    pub fn places(&self, node: &NodeFacts) -> Result<Places, Vec<NodeProblem>> {
        let mut values = self.variables.clone();
        values.extend(node.variables.clone());
        values.insert("node".to_owned(), node.name.clone());
        let mut problems = Vec::new();
        let mut source = |text: &str, options: &str| {
            let made = expand(text, &values)
                .map_err(|problem| NodeProblem::Variable(text.to_owned(), problem))
                .and_then(|text| Source::parse(&text, options).ok_or(NodeProblem::Source(text)));
            made.map_err(|problem| problems.push(problem)).ok()
        };
        let trees = self.trees.iter().filter_map(|tree| source(&tree.source, &tree.options)).collect();
        let lies = |home: Home| self.entries.iter().find(|entry| entry.way.home() == home);
        let named = self.states.iter().find(|state| state.nodes.contains(&node.name));
        let general = || self.states.iter().find(|state| state.nodes.is_empty());
        let of_list = named.or_else(general).map(|state| (state.source.clone(), state.options.clone()));
        let state = lies(Home::State).and_then(|_| node.state.clone().or(of_list));
        let state = state.map(|(text, options)| source(&text, &options));
        let disk = node.local_disk.clone().or_else(|| self.local_disk.as_ref().map(|disk| disk.device.clone()));
        let local_disk = lies(Home::Disk).and(disk).map(|text| source(&text, ""));
        if let (Some(entry), None) = (lies(Home::State), &state) {
            problems.push(NodeProblem::NoState(entry.path.clone()));
        }
        if let (Some(entry), None) = (lies(Home::Disk), &local_disk) {
            problems.push(NodeProblem::NoDisk(entry.path.clone()));
        }
        if let Some(Some(Source::Image(text))) = &state {
            problems.push(NodeProblem::Source(text.clone()));
        }
        if let Some(Some(other)) = &local_disk
            && !matches!(other, Source::Disk { .. })
        {
            problems.push(NodeProblem::Source(other.to_string()));
        }
        let above = self.entries.iter().find(|entry| entry.way == Way::OverlayPersistent);
        if let (Some(entry), Some(Some(Source::Server { .. }))) = (above, &state) {
            problems.push(NodeProblem::OverlayOnServer(entry.path.clone()));
        }
        if problems.is_empty() {
            return Ok(Places { trees, state: state.flatten(), local_disk: local_disk.flatten() });
        }
        Err(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(&str, Way)]) -> List {
        List {
            format: FORMAT,
            image: "compute".into(),
            entries: entries.iter().map(|(path, way)| Entry::new(path, *way)).collect(),
            trees: vec![Tree { source: "$noderes.nfsserver:/t/$node".into(), options: "nfsvers=3".into() }],
            states: vec![
                State { nodes: vec![], source: "10.0.0.5:/state".into(), options: String::new() },
                State { nodes: vec!["n02".into()], source: "LABEL=state".into(), options: String::new() },
            ],
            local_disk: None,
            variables: [("noderes.nfsserver".to_owned(), "10.0.0.9".to_owned())].into(),
        }
    }

    fn node(name: &str) -> NodeFacts {
        NodeFacts { name: name.into(), ..NodeFacts::default() }
    }

    #[test]
    fn sources_are_servers_disks_and_directories() {
        let shown = |text: &str| Source::parse(text, "").map(|source| source.to_string());
        for text in ["10.0.0.5:/state", "[fd00::1]:/s", "LABEL=x", "/dev/sda1", "nfs1:/"] {
            assert_eq!(shown(text).as_deref(), Some(text));
        }
        assert_eq!(shown("nfs1:/a/").as_deref(), Some("nfs1:/a"));
        for text in ["nfs1:a", ":/a", "/nfs1:/a", "LABEL=", "a b:/c", "state"] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn a_node_has_its_own_place_before_that_of_all_and_the_command_line_before_both() {
        let list = list(&[("/var/log/", Way::Persistent)]);
        let state = |node: &NodeFacts| list.places(node).unwrap().state.unwrap().to_string();
        assert_eq!(state(&node("n01")), "10.0.0.5:/state");
        assert_eq!(state(&node("n02")), "LABEL=state");
        let given = NodeFacts { state: Some(("h:/$node".into(), String::new())), ..node("n02") };
        assert_eq!(state(&given), "h:/n02");
        assert_eq!(list.places(&node("n01")).unwrap().trees[0].to_string(), "10.0.0.9:/t/n01");
    }

    #[test]
    fn what_is_not_needed_is_not_mounted_and_what_lacks_is_said() {
        let none = list(&[("/etc/hosts", Way::Tmpfs)]);
        assert_eq!(none.places(&node("n01")).unwrap().state, None);
        let mut lacking = list(&[("/a", Way::Persistent), ("/b", Way::Localdisk), ("/c/", Way::OverlayPersistent)]);
        assert_eq!(
            lacking.places(&node("n01")).unwrap_err(),
            [NodeProblem::NoDisk("/b".into()), NodeProblem::OverlayOnServer("/c/".into())]
        );
        lacking.states.clear();
        lacking.variables.clear();
        let said: Vec<String> = lacking.places(&node("n01")).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "`$noderes.nfsserver:/t/$node`: the variable `$noderes.nfsserver` has no value for this node (statelite.noderes.nfsserver=VALUE gives it one)",
                "/a is persistent, but no state is set: STATEMNT=SERVER:/DIRECTORY",
                "/b is on a local disk, but no disk is set: statelite.localdisk=LABEL=NAME",
            ]
        );
    }
}

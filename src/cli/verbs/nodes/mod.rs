//! Commands for nodes: who they are, what they boot, what they reported.

pub mod list;
pub mod nodeset;
pub mod serve;
pub mod set;
pub mod sync;
mod table;
pub mod watch;

use std::path::{Path, PathBuf};

use crate::cli::Exit;
use crate::cli::output::render;
use crate::cli::setup::print_findings;
use crate::nodes::{NODES_FILE, NodeSet, Nodes, State, StateError};
use crate::recipe::{Known, Overlay, Workspace, known};
use crate::source::{Finding, Severity};

/// Where the state of nodes is.
#[derive(Debug, Clone, clap::Args)]
pub struct StateArguments {
    /// Directory of what nodes boot and reported [default: .imgbuild/nodes in the workspace]
    #[arg(long = "state", value_name = "DIR", env = "IMGBUILD_STATE")]
    pub state_directory: Option<PathBuf>,
}

pub struct Site {
    pub nodes: Nodes,
    pub state: State,
}

/// The root of the workspace of a directory, or the directory itself where it lies in none.
pub fn root_of(directory: &Path) -> PathBuf {
    Workspace::root_of(directory).unwrap_or_else(|| directory.canonicalize().unwrap_or_else(|_| directory.to_owned()))
}

/// Reads and checks the nodes.
/// Errors: The exit code, after the reasons were printed.
pub fn open(arguments: &crate::cli::Arguments, state: &StateArguments) -> Result<Site, Exit> {
    let root = root_of(&arguments.directory);
    let reported = |findings: Vec<Finding>| {
        print_findings(&findings, arguments.verbose);
        Exit::Input
    };
    let nodes = checked(&root).map_err(reported)?;
    let Some(nodes) = nodes else {
        let problem = format!("`{}` has no {NODES_FILE}", root.display());
        let help = "write one: a node is a table, [node.cn001], with mac = \"52:54:00:12:34:56\" and image = \"compute\"; `imgbuild import xcat` and `imgbuild import nodes FILE..` make one of what a site has";
        let finding = Finding::nowhere(Severity::Error, "nodes::missing", problem).help(help);
        return Err(reported(vec![finding]));
    };
    if arguments.verbose > 0 {
        print_findings(&nodes.findings, arguments.verbose);
    }
    Ok(Site { state: State::of(&root, state.state_directory.as_deref()), nodes })
}

/// The nodes of a root, if it has any, with their images compared with those of the workspace.
pub fn checked(root: &Path) -> Result<Option<Nodes>, Vec<Finding>> {
    let Some(nodes) = Nodes::load(root)? else { return Ok(None) };
    // Where the images cannot be read, their own commands say so.
    let Ok(known) = known(root, true, &Overlay::new()) else { return Ok(Some(with_scripts(nodes, root, None))) };
    if !known.broken.is_empty() {
        return Ok(Some(with_scripts(nodes, root, None)));
    }
    let names: Vec<String> = known.images().filter_map(|draft| draft.name()).map(|(name, _)| name.to_owned()).collect();
    let unknown = nodes.unknown_images(&names);
    if unknown.is_empty() { Ok(Some(with_scripts(nodes, root, Some(&known)))) } else { Err(unknown) }
}

/// The same with what is to be said of scripts. Where an image brings xCAT's, names are xCAT's affair.
fn with_scripts(mut nodes: Nodes, root: &Path, known: Option<&Known>) -> Nodes {
    let mut names = std::collections::BTreeSet::new();
    for draft in known.into_iter().flat_map(Known::images) {
        let document = draft.document.to_json();
        if document["xcat"]["node_support"] == true {
            return nodes;
        }
        for list in ["postscripts", "postbootscripts"] {
            let items = document["node"][list].as_array().into_iter().flatten().filter_map(|item| item.as_str());
            names.extend(items.map(|item| {
                let file = crate::nodes::script_name(item);
                file.rsplit('/').next().unwrap_or(file).to_owned()
            }));
        }
    }
    let runs = known.is_some_and(|known| known.images().any(|draft| draft.document.to_json()["node"].is_object()));
    // Without an image that runs scripts they are kept for another tool.
    if runs {
        let findings = nodes.script_findings(root, &|name| names.contains(name));
        nodes.findings.extend(findings);
    }
    nodes
}

impl Site {
    pub fn select(&self, range: Option<&str>, verbose: u8) -> Result<NodeSet, Exit> {
        let Some(range) = range else { return Ok(NodeSet::of(self.nodes.names())) };
        self.nodes.select(range).map_err(|findings| {
            print_findings(&findings, verbose);
            Exit::Input
        })
    }
}

pub fn failed(error: StateError) -> Exit {
    let exit = match &error {
        StateError::Newer(_) | StateError::Damaged { .. } => Exit::Input,
        StateError::Io { .. } | StateError::Full { .. } => Exit::Machine,
    };
    render::refused(exit, error)
}

//! Commands for nodes: who they are, what they boot, what they reported.

pub(crate) mod list;
pub(crate) mod needs;
pub(crate) mod nodeset;
pub(crate) mod roll;
pub(crate) mod serve;
pub(crate) mod set;
pub(crate) mod sync;
mod table;
pub(crate) mod watch;

use std::path::{Path, PathBuf};

use crate::Exit;
use crate::output::harmless::one_line;
use crate::output::render;
use crate::setup::print_findings;
use base::source::{Finding, Severity};
use nodes::state::presence;
use nodes::{NODES_FILE, NodeSet, Nodes, State, StateError};
use recipe::{Known, Overlay, Workspace, known};

/// Where the state of nodes is.
#[derive(Debug, Clone, clap::Args)]
pub struct StateArguments {
    /// Directory of what nodes boot and reported [default: `state` of `[nodes]` in imgbuild.toml, or .imgbuild/nodes in the workspace]
    #[arg(long = "state", value_name = "DIR", env = "IMGBUILD_STATE")]
    pub state_directory: Option<PathBuf>,
}

pub(crate) struct Site {
    pub nodes: Nodes,
    pub state: State,
    /// A server of these nodes that has another state, by its process and the directory.
    pub other_server: Option<(u32, String)>,
}

/// The state of a workspace: one place for the server and all commands.
/// Errors: The exit code, after what is wrong with imgbuild.toml was printed.
pub(crate) fn state_of(arguments: &crate::Arguments, root: &Path, own: &StateArguments) -> Result<State, Exit> {
    if let Some(named) = &own.state_directory {
        return Ok(State::at(named));
    }
    let workspace = Workspace::above(root).map_err(|findings| {
        print_findings(&findings, arguments.verbose);
        Exit::Input
    })?;
    let named = workspace.as_ref().and_then(|workspace| workspace.model.nodes.state.as_deref()).map(Path::new);
    Ok(State::of(root, named))
}

/// The root of the workspace of a directory, or the directory itself where it lies in none.
pub(crate) fn root_of(directory: &Path) -> PathBuf {
    Workspace::root_of(directory).unwrap_or_else(|| directory.canonicalize().unwrap_or_else(|_| directory.to_owned()))
}

/// Reads and checks the nodes.
/// Errors: The exit code, after the reasons were printed.
pub(crate) fn open(arguments: &crate::Arguments, state: &StateArguments) -> Result<Site, Exit> {
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
    let state = state_of(arguments, &root, state)?;
    let other_server = presence::other_state(&root, state.directory());
    Ok(Site { state, nodes, other_server })
}

/// The nodes of a root, if it has any, with their images compared with those of the workspace.
pub(crate) fn checked(root: &Path) -> Result<Option<Nodes>, Vec<Finding>> {
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
                let file = nodes::script_name(item);
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
    /// What a server with another state means for a command, if there is one.
    pub(crate) fn other_server(&self) -> Option<String> {
        let (process, directory) = self.other_server.as_ref()?;
        Some(format!(
            "`imgbuild serve` runs for these nodes (process {process}) with its state in `{}`, but this command uses `{}`\n  help: name one for all, ‹[nodes] state = \"...\"› in imgbuild.toml, and start the server again; or run this command with --state or IMGBUILD_STATE as the server",
            one_line(directory),
            self.state.directory().display()
        ))
    }

    pub(crate) fn select(&self, range: Option<&str>, verbose: u8) -> Result<NodeSet, Exit> {
        let Some(range) = range else { return Ok(NodeSet::of(self.nodes.names())) };
        self.nodes.select(range).map_err(|findings| {
            print_findings(&findings, verbose);
            Exit::Input
        })
    }
}

pub(crate) fn failed(error: StateError) -> Exit {
    let exit = match &error {
        StateError::Newer(_) | StateError::Damaged { .. } | StateError::NotGiven { .. } => Exit::Input,
        StateError::Io { .. } | StateError::Full { .. } | StateError::Denied { .. } => Exit::Machine,
    };
    render::refused(exit, error)
}

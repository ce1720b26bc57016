//! `imgbuild nodes`.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Site, StateArguments, failed, open, table};
use crate::Exit;
use crate::output::render;
use base::format::Version;
use nodes::formats::{NodeFormat, written};
use nodes::state::now;
use nodes::{Asked, Assigned, Attr, Effective, Given, NodeSet, Report, ReportState, Scripts, Sourced};

/// Arguments of `nodes`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Nodes, as a node set: cn[001-040], @compute, cn*!cn007 [default: all]
    #[arg(value_name = "RANGE")]
    pub range: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Show each value of the nodes with the file and line that it comes from
    #[arg(long, conflicts_with_all = ["format", "watch"])]
    pub effective: bool,
    /// Print what another program reads
    #[arg(long, value_name = "PROGRAM", conflicts_with_all = ["json", "watch"])]
    pub format: Option<For>,
    /// Print each report as it comes, until all nodes are up or have failed
    #[arg(long)]
    pub watch: bool,
    /// Print the nodes as one node set
    #[arg(long, conflicts_with_all = ["json", "effective", "format", "watch"])]
    pub fold: bool,
    /// Show what became of the scripts that nodes ran, with the last lines of each
    #[arg(long, conflicts_with_all = ["json", "effective", "format", "watch", "fold"])]
    pub scripts: bool,
    /// Show the smallest restart that brings each node from the build that it runs to the one that it is to boot, with the reasons
    #[arg(long, conflicts_with_all = ["effective", "format", "watch", "fold", "scripts"])]
    pub needs: bool,
    /// Where the state is
    #[command(flatten)]
    pub state: StateArguments,
}

/// Other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum For {
    /// dnsmasq: dhcp-host lines
    Dnsmasq,
    /// Kea: reservations of its DHCPv4 server
    Kea,
    /// ISC dhcpd: host statements
    Isc,
    /// /etc/hosts
    Hosts,
    /// /etc/ethers
    Ethers,
    /// ClusterShell: a file for groups.d
    Clustershell,
    /// Slurm: lines for slurm.conf
    Slurm,
    /// ssh: known_hosts, with the host keys that nodes reported
    KnownHosts,
    /// Warewulf: nodes.conf
    Warewulf,
    /// OpenCHAMI's SMD: components, Ethernet interfaces and groups
    Smd,
    /// Grendel: hosts.json
    Grendel,
    /// Cobbler 3.3: systems, as its collections have them
    Cobbler,
}

impl From<For> for NodeFormat {
    fn from(one: For) -> Self {
        match one {
            For::Dnsmasq => Self::Dnsmasq,
            For::Kea => Self::Kea,
            For::Isc => Self::Isc,
            For::Hosts => Self::Hosts,
            For::Ethers => Self::Ethers,
            For::Clustershell => Self::Clustershell,
            For::Slurm => Self::Slurm,
            For::KnownHosts => Self::KnownHosts,
            For::Warewulf => Self::Warewulf,
            For::Smd => Self::Smd,
            For::Grendel => Self::Grendel,
            For::Cobbler => Self::Cobbler,
        }
    }
}

const NODES_FORMAT: Version = Version::new(1, 0);

/// What `nodes --json` prints. Readers ignore fields that they do not know.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "imgbuild nodes --json")]
pub(crate) struct NodesDocument {
    /// Version of this form.
    pub format_version: String,
    /// When it was printed, in milliseconds since 1970.
    pub time: u64,
    /// One entry a node, in the order of their names.
    pub nodes: Vec<ListedNode>,
}

/// A node.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ListedNode {
    /// Its name.
    pub name: String,
    /// Its groups, the least priority first.
    pub groups: Vec<String>,
    /// Its MAC addresses.
    pub macs: Vec<String>,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The image that its file names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What `nodeset` gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assigned: Option<Assigned>,
    /// Its last report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    /// When its boot script was asked for, by anyone, if it has not reported since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// What became of the scripts that it ran at its last start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scripts: Option<Scripts>,
    /// Its values with their places, for `--effective`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<ListedValue>>,
}

/// A value and its place.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ListedValue {
    /// The key: `image`, `kernel_args[0]`, `variables.rack`.
    pub key: String,
    /// The value.
    pub value: String,
    /// The file.
    pub file: String,
    /// The line in it.
    pub line: usize,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let site = open(arguments, &own.state)?;
    let set = site.select(own.range.as_deref(), arguments.verbose)?;
    if own.fold {
        render::print(&format!("{set}\n"));
        return Ok(Exit::Done);
    }
    // The other formats print what the file says.
    let is_of_state = own.format.is_none_or(|format| format == For::KnownHosts) && !own.effective;
    if let Some(problem) = site.other_server().filter(|_| is_of_state) {
        render::say(&format!("warning: {problem}"));
    }
    if own.needs {
        return super::needs::run(arguments, &site, &set, own.json);
    }
    if own.watch {
        return Ok(super::watch::run(&site, &set, own.json));
    }
    if let Some(format) = own.format {
        let nodes: Vec<Effective> = set.iter().filter_map(|name| site.nodes.get(name)).collect();
        let (text, left_out) = written(format.into(), &nodes, &site.state);
        render::print_as_is(&text);
        left_out.iter().for_each(|line| render::say(&format!("note: {line}")));
        return Ok(Exit::Done);
    }
    Ok(match shown(&site, &set, own) {
        Ok(failed) if failed => Exit::Work,
        Ok(_) => Exit::Done,
        Err(exit) => exit,
    })
}

fn shown(site: &Site, set: &NodeSet, own: &Arguments) -> Result<bool, Exit> {
    let assigned = site.state.assignments().map_err(failed)?;
    let (mut reports, mut asked) = (site.state.reports(), site.state.asked());
    let mut nodes = Vec::new();
    for name in set.iter() {
        let Some(node) = site.nodes.get(name) else { continue };
        let report = reports.remove(name);
        nodes.push(ListedNode {
            name: name.to_owned(),
            groups: node.groups.clone(),
            macs: node.macs().iter().map(ToString::to_string).collect(),
            ip: node.ip().map(|ip| ip.to_string()),
            image: node.image().map(str::to_owned),
            assigned: assigned.nodes.get(name).cloned(),
            asked: asked.remove(name).filter(|asked| asked.is_open(report.as_ref())),
            report,
            scripts: site.state.scripts(name),
            values: own.effective.then(|| values(&node)),
        });
    }
    let has_failed = nodes.iter().any(|node| node.report.as_ref().is_some_and(|one| one.state == ReportState::Failed));
    if own.json {
        let document = NodesDocument { format_version: NODES_FORMAT.to_string(), time: now(), nodes };
        render::print_json(&format!("{}\n", serde_json::to_string_pretty(&document).unwrap_or_default()));
    } else if own.scripts {
        render::print(&nodes.iter().map(table::scripts).collect::<String>());
    } else if own.effective {
        render::print(&nodes.iter().map(effective).collect::<Vec<_>>().join("\n"));
        return Ok(false);
    } else {
        render::print(&table::text(&nodes, now()));
        render::say(&table::summary(&nodes));
    }
    Ok(has_failed)
}

fn values(node: &Effective) -> Vec<ListedValue> {
    let mut found = Vec::new();
    for attr in Attr::ALL {
        let mut one = |key: String, sourced: &Sourced<String>| {
            found.push(ListedValue {
                key,
                value: sourced.value.clone(),
                file: sourced.span.file.name.clone(),
                line: sourced.span.line(),
            });
        };
        let name = attr.name();
        match node.values.get(&attr) {
            Some(Given::Text(text)) => one(name.to_owned(), text),
            Some(Given::List(items)) => {
                items.iter().enumerate().for_each(|(index, item)| one(format!("{name}[{index}]"), item));
            }
            Some(Given::Map(all)) => all.iter().for_each(|(key, value)| one(format!("{name}.{key}"), value)),
            None => {}
        }
    }
    found
}

/// A node with its values: a line each, with the place behind it.
fn effective(node: &ListedNode) -> String {
    let groups = if node.groups.is_empty() { String::new() } else { format!("  # {}", node.groups.join(", ")) };
    let mut text = format!("{}{groups}\n", node.name);
    for one in node.values.iter().flatten() {
        let line = format!("  {} = {:?}", one.key, one.value);
        text.push_str(&format!("{line:<48}  # {}:{}\n", one.file, one.line));
    }
    text
}

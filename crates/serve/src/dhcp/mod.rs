//! DHCP and TFTP for nodes, by dnsmasq: its configuration from nodes.toml and the loaders' files that are there, and its process.

mod conf;
mod interface;
mod leases;
mod loaders;
mod lock;
mod orphan;
mod own;
mod process;
mod signed;
#[cfg(test)]
mod tests;
mod watch;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::error::ServeError;
use super::files::Roots;
use super::site::desk::Desk;
use super::sockets::system::{self, Address};
use nodes::loaders::TEMPLATES;
use nodes::{Nodes, State};

use own::OwnLines;
pub(crate) use process::Dnsmasq;

/// A site's own lines, below its directory of templates.
const OWN_LINES: &str = "dnsmasq.conf";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// The nodes of nodes.toml, with the addresses that it gives them.
    Nodes,
    /// All: those without an address of their own get one of these.
    Range(Ipv4Addr, Ipv4Addr),
    /// The nodes, with what they boot alone: another DHCP server gives addresses.
    Proxy,
}

impl FromStr for Answers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "nodes" => return Ok(Self::Nodes),
            "proxy" => return Ok(Self::Proxy),
            _ => {}
        }
        let form =
            || "expected `proxy`, or the first and the last address of a range: 10.0.0.100,10.0.0.199".to_owned();
        let (first, last) = text.split_once(',').ok_or_else(form)?;
        let address = |text: &str| text.trim().parse::<Ipv4Addr>().map_err(|_| form());
        let (first, last) = (address(first)?, address(last)?);
        if first > last {
            return Err(format!("the range counts backwards: write {last},{first}"));
        }
        Ok(Self::Range(first, last))
    }
}

#[derive(Debug, Clone)]
pub struct DhcpSettings {
    pub answers: Answers,
    /// The nodes' network card; none: the one that is listened on.
    pub interface: Option<String>,
    pub loaders: Option<PathBuf>,
}

struct Plan {
    answers: Answers,
    interface: String,
    /// The nodes' network: address and mask of the card.
    address: Ipv4Addr,
    mask: Ipv4Addr,
    server: SocketAddrV4,
    offers: Vec<loaders::Offer>,
}

/// Where its files lie.
struct Places {
    /// Configuration, leases, number of the process: what stays.
    home: PathBuf,
    /// Hosts and loaders' files, which dnsmasq reads as its own user.
    readable: PathBuf,
}

impl Places {
    fn of(state: &State, readable: PathBuf) -> Self {
        Self { home: state.directory().join("dnsmasq"), readable }
    }

    fn conf(&self) -> PathBuf {
        self.home.join("dnsmasq.conf")
    }

    fn leases(&self) -> PathBuf {
        self.home.join("leases")
    }

    fn pid(&self) -> PathBuf {
        self.home.join("dnsmasq.pid")
    }

    /// The site's own lines as dnsmasq accepted them last.
    fn own_lines(&self) -> PathBuf {
        self.home.join("own-lines.conf")
    }

    fn hosts(&self) -> PathBuf {
        self.readable.join("hosts")
    }

    fn tftp(&self) -> PathBuf {
        self.readable.join("tftp")
    }
}

/// Makes a plan: the card, the loaders' files, the site's own lines. The sentences are for who runs the server.
fn plan(
    settings: &DhcpSettings,
    listened: &[SocketAddr],
    root: &Path,
    nodes: &Nodes,
) -> Result<(Plan, OwnLines, Vec<String>), ServeError> {
    let all: Vec<_> = nodes.names().filter_map(|name| nodes.get(name)).collect();
    let card = interface::choose(
        &system::addresses().map_err(ServeError::Machine)?,
        settings.interface.as_deref(),
        listened,
        &all,
    )?;
    let taken = nodes.taken_addresses(card.address, card.mask);
    if !taken.is_empty() {
        return Err(ServeError::Nodes(taken));
    }
    let port = interface::port(listened, card.address)?;
    let offers = loaders::offers(settings.loaders.as_deref())?;
    let mut said = loaders::lacks(&offers, &all, settings.answers).into_iter().collect::<Result<Vec<_>, _>>()?;
    said.extend(signed::check(&offers, &all)?);
    if let Answers::Range(first, last) = settings.answers
        && let Some(outside) = [first, last].into_iter().find(|one| !card.has(*one))
    {
        let problem = format!("{outside} is not in the network of {}, {}", card.interface, card.network());
        return Err(ServeError::dhcp_input(problem, "give the first and the last address of a range in it"));
    }
    let own = OwnLines::read(root.join(TEMPLATES).join(OWN_LINES))?;
    said.extend(conf::left_out(&all, &card, settings.answers, own.may_have_ranges()));
    let plan = Plan {
        answers: settings.answers,
        server: SocketAddrV4::new(card.address, port),
        interface: card.interface,
        address: card.address,
        mask: card.mask,
        offers,
    };
    Ok((plan, own, said))
}

/// What nodes that came while it runs lack, a sentence each. Those behind shim are looked at by [`signed`].
fn notes(plan: &Plan, nodes: &Nodes, own: &OwnLines) -> Vec<String> {
    let all: Vec<_> = nodes.names().filter_map(|name| nodes.get(name)).collect();
    let card = Address { interface: plan.interface.clone(), address: plan.address, mask: plan.mask, is_up: true };
    let lacks = loaders::lacks(&plan.offers, &all, plan.answers).into_iter().map(|lack| match lack {
        Ok(sentence) => sentence,
        Err(ServeError::Dhcp { problem, help, is_machine: true }) => {
            format!("{problem}: {help}; then start the server again")
        }
        Err(ServeError::Dhcp { problem, help, .. }) => format!("{problem}: {help}"),
        Err(error) => error.to_string(),
    });
    lacks.chain(conf::left_out(&all, &card, plan.answers, own.may_have_ranges())).collect()
}

/// What is wrong, for a sentence that says what follows from it.
fn problem_of(error: &ServeError) -> String {
    match error {
        ServeError::Dhcp { problem, .. } => problem.clone(),
        error => error.to_string(),
    }
}

/// The configuration as it would be written, with the hosts in it, and what it leaves out, a sentence each.
/// Errors: What the server would be refused for.
pub fn printed(
    settings: &DhcpSettings,
    listened: &[SocketAddr],
    root: &Path,
    state: &State,
) -> Result<(String, Vec<String>), ServeError> {
    let nodes = Nodes::load(root).map_err(ServeError::Nodes)?.ok_or_else(no_nodes)?;
    let (plan, own, said) = plan(settings, listened, root, &nodes)?;
    let places = Places::of(state, process::readable_of_root(&plan.interface));
    let hosts = conf::hosts(&nodes);
    let hosts: String = hosts.lines().map(|line| format!("dhcp-host={line}\n")).collect();
    Ok((plan.text(&places, Some(&hosts), own.path()), said))
}

/// Starts dnsmasq, and returns when it answers. Then the directory of loaders' files is [`Dnsmasq::files`].
/// Errors: Why it cannot run.
pub(crate) fn start(
    settings: &DhcpSettings,
    listened: &[SocketAddr],
    desk: &Arc<Desk>,
    roots: Arc<Roots>,
    say: super::Say,
    is_verbose: bool,
) -> Result<Dnsmasq, ServeError> {
    let nodes = desk.nodes();
    let (plan, own, said) = plan(settings, listened, desk.root(), &nodes)?;
    desk.answers_in(plan.address, plan.mask);
    said.iter().for_each(|line| say(&format!("note: {line}")));
    Dnsmasq::start((plan, own, said), settings.loaders.as_deref(), Arc::clone(desk), roots, say, is_verbose)
}

/// There is nothing to answer for.
pub(crate) fn no_nodes() -> ServeError {
    ServeError::dhcp_input(
        "the workspace has no nodes.toml, so there is no node to answer".to_owned(),
        "write one: a node is a table, [node.cn001], with mac = \"52:54:00:12:34:56\" and image = \"compute\"",
    )
}

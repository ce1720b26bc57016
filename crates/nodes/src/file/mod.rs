//! `nodes.toml`: read, spread over its nodes, and checked.

mod checks;
mod dhcp;
pub mod effective;
pub(crate) mod own;
pub mod scripts;
mod select;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::model::mac::Mac;
use super::model::{Attr, SCHEMA};
use super::set::{MOST_NODES, Name, NodeSet};
use base::source::{Finding, Severity, SourceFile, Span, counted};
use recipe::{Node, Value, check_against_schema, document_from, recipe_text};

/// The file, beside `imgbuild.toml`.
pub const NODES_FILE: &str = "nodes.toml";
pub const NODES_KDL_FILE: &str = "nodes.kdl";

#[derive(Debug, Clone)]
pub(super) struct Said {
    pub attr: Attr,
    pub value: Node,
}

#[derive(Debug, Clone)]
pub struct Group {
    pub name: String,
    pub span: Span,
    pub nodes: NodeSet,
    /// Whose value counts where groups disagree.
    pub priority: i64,
    pub nodes_span: Span,
    pub(super) said: Vec<Said>,
}

/// `[node.NAME]`, where the name may be a set.
#[derive(Debug, Clone)]
pub(super) struct NodeTable {
    /// In the order in which the name has them.
    pub nodes: Vec<String>,
    pub said: Vec<Said>,
    /// What each of them has for itself.
    pub own: Vec<own::OwnSaid>,
}

impl NodeTable {
    pub(crate) fn is_set(&self) -> bool {
        self.nodes.len() > 1
    }
}

/// A table that names a node, and which of its nodes that is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    pub table: usize,
    pub at: usize,
}

/// What only this node has: a MAC address, an address.
#[derive(Debug, Clone)]
pub(super) struct Own {
    pub attr: Attr,
    pub text: String,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Where its name stands, first.
    pub span: Span,
    /// The tables that name it: those of sets first.
    pub tables: Vec<Named>,
    /// Indices of its groups: the least priority first.
    pub groups: Vec<usize>,
    pub own: Vec<Own>,
}

#[derive(Debug)]
pub struct Nodes {
    pub file: Arc<SourceFile>,
    pub findings: Vec<Finding>,
    /// `[nodeset] out`: the directory that loaders load from.
    pub out: Option<String>,
    /// `[nodeset] url`: where nodes find the images.
    pub url: Option<String>,
    /// `[nodeset] servers`: where else nodes find them.
    pub servers: Vec<String>,
    /// `[nodeset] report`: the server that hears nodes.
    pub report: Option<String>,
    /// `[nodeset] postscripts`: the directory of the scripts that nodes run.
    pub postscripts: Option<String>,
    pub(super) defaults: Vec<Said>,
    pub(super) groups: Vec<Group>,
    pub(super) tables: Vec<NodeTable>,
    pub(super) nodes: BTreeMap<Name, Entry>,
    /// Indices of groups by their names.
    by_group: HashMap<String, usize>,
    by_value: select::ByValue,
    by_mac: HashMap<Mac, String>,
    by_ip: HashMap<IpAddr, String>,
    /// By UUID and by serial number, in lower case.
    by_firmware: HashMap<String, String>,
}

/// The file of a directory, if it has one: `nodes.toml`, or `nodes.kdl` if that is there.
pub fn nodes_file(directory: &Path) -> Option<PathBuf> {
    [NODES_FILE, NODES_KDL_FILE].map(|name| directory.join(name)).into_iter().find(|path| witness::is_there(path))
}

impl Nodes {
    /// Reads the nodes of a directory, the root of a workspace; none where it has no such file.
    pub fn load(directory: &Path) -> Result<Option<Self>, Vec<Finding>> {
        let Some(path) = nodes_file(directory) else { return Ok(None) };
        let (toml, kdl) = (directory.join(NODES_FILE), directory.join(NODES_KDL_FILE));
        if path == toml && witness::is_there(&kdl) {
            let problem = format!("`{}` has both {NODES_FILE} and {NODES_KDL_FILE}", directory.display());
            let finding = Finding::nowhere(Severity::Error, "nodes::two_files", problem);
            return Err(vec![finding.help("keep one of them")]);
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self::of_file(&recipe_text(&path, &name)?).map(Some)
    }

    /// The nodes of a text.
    /// Errors: All that is wrong with it.
    pub fn of_file(file: &Arc<SourceFile>) -> Result<Self, Vec<Finding>> {
        let document = document_from(file, &SCHEMA).map_err(|findings| in_our_words(findings, &file.name))?;
        let findings = in_our_words(check_against_schema(&document, &SCHEMA), &file.name);
        if !findings.is_empty() {
            return Err(findings);
        }
        let (mut nodes, mut reader) = Self::unchecked(file, &document);
        checks::check(&mut nodes, &mut reader.findings);
        let (errors, warnings): (Vec<_>, Vec<_>) =
            reader.findings.into_iter().partition(|finding| finding.severity == Severity::Error);
        nodes.findings = warnings;
        if errors.is_empty() {
            return Ok(nodes);
        }
        let mut errors = errors;
        errors.sort_by_key(|finding| finding.span.as_ref().map_or(0, |span| span.start));
        Err(errors.into_iter().chain(nodes.findings).collect())
    }

    /// What a document says, whether that is good or not.
    fn unchecked(file: &Arc<SourceFile>, document: &Node) -> (Self, Reader) {
        let mut reader = Reader { named: 0, findings: Vec::new() };
        let nodes = reader.read(file, document);
        (nodes, reader)
    }

    /// The nodes of a text in the middle of several changes, in which something may be wrong: what is known of that are its findings.
    /// Errors: It is not TOML.
    pub(crate) fn between_changes(file: &Arc<SourceFile>) -> Result<Self, String> {
        let first = |findings: Vec<Finding>| findings.first().map(|one| one.message.clone()).unwrap_or_default();
        let document = document_from(file, &SCHEMA).map_err(first)?;
        let (mut nodes, reader) = Self::unchecked(file, &document);
        nodes.findings = check_against_schema(&document, &SCHEMA).into_iter().chain(reader.findings).collect();
        Ok(nodes)
    }

    /// The nodes of a text after the last change, without reading it again where nothing is wrong.
    /// Errors: As [`Nodes::of_file`].
    pub fn whole(mut self) -> Result<Self, Vec<Finding>> {
        let has_error = |findings: &[Finding]| findings.iter().any(|finding| finding.severity == Severity::Error);
        let mut findings = std::mem::take(&mut self.findings);
        if !has_error(&findings) {
            checks::check(&mut self, &mut findings);
        }
        if has_error(&findings) {
            return Self::of_file(&self.file);
        }
        self.findings = findings;
        Ok(self)
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(|name| name.0.as_str())
    }

    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    pub fn span_of(&self, name: &str) -> Option<&Span> {
        self.nodes.get(&Name(name.to_owned())).map(|entry| &entry.span)
    }

    pub fn by_mac(&self, mac: Mac) -> Option<&str> {
        self.by_mac.get(&mac).map(String::as_str)
    }

    pub fn by_ip(&self, ip: IpAddr) -> Option<&str> {
        self.by_ip.get(&ip).map(String::as_str)
    }

    /// The node with a UUID, in any case.
    pub fn by_uuid(&self, uuid: &str) -> Option<&str> {
        self.by_firmware.get(&format!("uuid {}", uuid.to_lowercase())).map(String::as_str)
    }

    /// The node with a serial number, in any case.
    pub fn by_serial(&self, serial: &str) -> Option<&str> {
        self.by_firmware.get(&format!("serial {}", serial.to_lowercase())).map(String::as_str)
    }
}

/// Findings that were made for recipes, in words for this file.
fn in_our_words(mut findings: Vec<Finding>, name: &str) -> Vec<Finding> {
    for finding in &mut findings {
        finding.message = finding.message.replace("the recipe", name).replace("a recipe", name);
        finding.help = finding.help.take().map(|help| match help.contains("imgbuild init") {
            true => "write for instance nodes = \"cn[001-040]\"".to_owned(),
            false => help.replace("a recipe", name).replace("docs/recipe.md", "docs/nodes.md"),
        });
    }
    findings
}

/// Whether a text can be the name of a node: what DNS takes as a name of a host. Source: RFC 1123, 2.1.
pub fn is_node_name(text: &str) -> bool {
    let part = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|one| one.is_ascii_alphanumeric() || one == b'-' || one == b'_')
            && !part.starts_with(['-', '_'])
            && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// Names in all tables of nodes together.
const MOST_NAMED: usize = 2 * MOST_NODES;

struct Reader {
    /// Names in tables of nodes so far, one as often as it is named.
    named: usize,
    findings: Vec<Finding>,
}

impl Reader {
    fn read(&mut self, file: &Arc<SourceFile>, document: &Node) -> Nodes {
        let mut nodes = Nodes {
            file: Arc::clone(file),
            findings: Vec::new(),
            out: None,
            url: None,
            servers: Vec::new(),
            report: None,
            postscripts: None,
            defaults: Vec::new(),
            groups: Vec::new(),
            tables: Vec::new(),
            nodes: BTreeMap::new(),
            by_group: HashMap::new(),
            by_value: Default::default(),
            by_mac: HashMap::new(),
            by_ip: HashMap::new(),
            by_firmware: HashMap::new(),
        };
        let Value::Table(entries) = &document.value else { return nodes };
        let table = |wanted: &str| inner(entries, wanted);
        for (key, _, value) in table("nodeset") {
            if let (Value::Array(items), "servers") = (&value.value, key.as_str()) {
                self.findings.extend(items.iter().filter_map(checks::server));
                let text = |item: &Node| match &item.value {
                    Value::Text(text) => Some(text.clone()),
                    _ => None,
                };
                nodes.servers = items.iter().filter_map(text).collect();
            }
            let Value::Text(text) = &value.value else { continue };
            let place = match key.as_str() {
                "out" => &mut nodes.out,
                "report" => &mut nodes.report,
                "postscripts" => &mut nodes.postscripts,
                _ => &mut nodes.url,
            };
            *place = Some(text.clone());
        }
        for (key, _, value) in table("defaults") {
            nodes.defaults.extend(Attr::named(key).map(|attr| Said { attr, value: value.clone() }));
        }
        for (name, span, value) in table("node") {
            self.node(&mut nodes, name, span, value);
        }
        // Sets first: what is said of one node alone is nearer.
        let Nodes { nodes: all, tables, .. } = &mut nodes;
        for entry in all.values_mut() {
            entry.tables.sort_by_key(|named| !tables.get(named.table).is_some_and(NodeTable::is_set));
        }
        let mut members = Vec::new();
        for (name, span, value) in table("group") {
            self.group(&mut nodes, name, span, value, &mut members);
        }
        select::members(&mut nodes, &members, &mut self.findings);
        own::spread(&mut nodes);
        own::index(&mut nodes, &mut self.findings);
        nodes
    }

    fn node(&mut self, nodes: &mut Nodes, text: &str, span: &Span, value: &Node) {
        // That was said.
        if self.named > MOST_NAMED {
            return;
        }
        let names = match own::names(text) {
            Ok(names) => names,
            Err(error) => {
                let message = format!("`{text}` is not a set of nodes: {}", error.message);
                return self.findings.push(Finding::error("nodes::name", span, message).help(error.help));
            }
        };
        if let Some(bad) = names.iter().find(|name| !is_node_name(name)) {
            let message = format!("`{bad}` is not a name of a node");
            let help =
                "letters, digits, `-`, `_` and dots, as in a name of a host; a set is written [node.\"cn[001-040]\"]";
            return self.findings.push(Finding::error("nodes::name", span, message).help(help));
        }
        self.named += names.len();
        if self.named > MOST_NAMED {
            let message = format!("up to here tables name more than {} nodes", counted(MOST_NAMED));
            let help = "give what many nodes have to a group, or to [defaults]";
            return self.findings.push(Finding::error("nodes::too_many", span, message).help(help));
        }
        let said = said(value);
        let table = nodes.tables.len();
        for (at, name) in names.iter().enumerate() {
            let entry = nodes.nodes.entry(Name(name.clone())).or_insert_with(|| Entry {
                span: span.clone(),
                tables: Vec::new(),
                groups: Vec::new(),
                own: Vec::new(),
            });
            // Tables come one after the other.
            if entry.tables.last().is_some_and(|named| named.table == table) {
                let message = format!("`{text}` names `{name}` twice");
                self.findings.push(Finding::error("nodes::twice", span, message).help("name each node once"));
                break;
            }
            if names.len() == 1 {
                entry.span = span.clone();
            }
            entry.tables.push(Named { table, at });
        }
        let own = own::of_table(&said, names.len(), &mut self.findings);
        nodes.tables.push(NodeTable { nodes: names, said, own });
    }

    fn group(&mut self, nodes: &mut Nodes, name: &str, span: &Span, value: &Node, members: &mut Vec<(String, Span)>) {
        if !name.bytes().all(|one| one.is_ascii_alphanumeric() || b"._-".contains(&one)) || name.is_empty() {
            let message = format!("`{name}` is not a valid group name");
            self.findings.push(Finding::error("nodes::name", span, message).help("letters, digits, `.`, `_` and `-`"));
        }
        let Value::Table(entries) = &value.value else { return };
        let find = |key: &str| entries.iter().find(|(name, _, _)| name == key).map(|(_, _, value)| value);
        let priority = match find("priority").map(|node| &node.value) {
            Some(Value::Integer(number)) => *number,
            _ => 0,
        };
        let (text, nodes_span) = match find("nodes") {
            Some(Node { value: Value::Text(text), span }) => (text.clone(), span.clone()),
            _ => (String::new(), span.clone()),
        };
        members.push((text, nodes_span.clone()));
        nodes.groups.push(Group {
            name: name.to_owned(),
            span: span.clone(),
            nodes: NodeSet::default(),
            priority,
            nodes_span,
            said: said(value),
        });
    }
}

/// What the table of a name holds.
fn inner<'a>(entries: &'a [(String, Span, Node)], wanted: &str) -> &'a [(String, Span, Node)] {
    match entries.iter().find(|(name, _, _)| name == wanted).map(|(_, _, node)| &node.value) {
        Some(Value::Table(inner)) => inner,
        _ => &[],
    }
}

fn said(table: &Node) -> Vec<Said> {
    let Value::Table(entries) = &table.value else { return Vec::new() };
    let one = |(key, _, value): &(String, Span, Node)| Attr::named(key).map(|attr| Said { attr, value: value.clone() });
    entries.iter().filter_map(one).collect()
}

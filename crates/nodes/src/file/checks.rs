//! What is wrong with nodes that no schema sees.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::effective::WITHOUT;
use super::own::OwnSaid;
use super::select::cut;
use super::{Named, NodeTable, Nodes, Said, dhcp, scripts};
use crate::model::{Attr, Merging};
use crate::set::NodeSet;
use base::source::{Finding, Severity, Span, counted, nearest};
use node_words::network;
use recipe::{Node, Value};

/// Items of a list that one node has by all its tables together.
const MOST_ITEMS: usize = 1000;

/// For how many findings what may be meant is looked for: that costs as much as the file has of it.
const MOST_NEAR: usize = 8;

pub(super) fn check(nodes: &mut Nodes, findings: &mut Vec<Finding>) {
    let tables = nodes.groups.iter().map(|group| &group.said).chain(nodes.tables.iter().map(|table| &table.said));
    for said in std::iter::once(&nodes.defaults).chain(tables).flatten() {
        texts(&said.value, &mut |text, span| text_of(said.attr, text, span, findings));
        if said.attr == Attr::Variables {
            variables(&said.value, findings);
        }
        if matches!(said.attr, Attr::Postscripts | Attr::Postbootscripts) {
            scripts::twice(said, findings);
        }
    }
    let before = findings.len();
    long_lists(nodes, findings);
    // What puts the lists of each node together goes on with those that have an end.
    if findings.len() > before {
        return;
    }
    if !fault::planted("nodes-disagreement-silent") {
        disagreements(nodes, findings);
    }
    dhcp::names(nodes, findings);
    dhcp::server(nodes, findings);
    dhcp::settings_of_ipxe(nodes, findings);
    withdrawn(nodes, findings);
    without_group(nodes, findings);
}

/// What is wrong with an address of `[nodeset] servers`: it becomes a part of a word of the kernel's command line.
pub(super) fn server(item: &Node) -> Option<Finding> {
    let Value::Text(text) = &item.value else { return None };
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or_default();
    let is_bad = |letter: char| letter.is_whitespace() || letter.is_control() || "'\"\\,?#".contains(letter);
    let is_good = !rest.is_empty() && !rest.starts_with('/') && !rest.contains(is_bad);
    (!is_good).then(|| {
        let text = format!("`{}` is not an address that nodes can use", text.escape_debug());
        Finding::error("nodes::server", &item.span, text)
            .label("named here")
            .help("write http://HOST/PATH or https://HOST/PATH")
    })
}

fn texts(node: &Node, each: &mut dyn FnMut(&str, &Span)) {
    match &node.value {
        Value::Text(text) => each(text, &node.span),
        Value::Array(items) => items.iter().for_each(|item| texts(item, each)),
        Value::Table(entries) => entries.iter().for_each(|(_, _, value)| texts(value, each)),
        _ => {}
    }
}

fn text_of(attr: Attr, text: &str, span: &Span, findings: &mut Vec<Finding>) {
    let key = attr.name();
    let mut bad = |message: String, help: &str| findings.push(Finding::error("nodes::text", span, message).help(help));
    if text.contains(|letter: char| letter.is_control()) {
        return bad(format!("`{key}` has a control character"), "it would end up in the files of loaders: remove it");
    }
    if text.trim().is_empty() && attr != Attr::Variables && attr != Attr::Comment {
        return bad(format!("`{key}` is empty"), "write a value, or remove the key");
    }
    match attr {
        Attr::KernelArgs if matches!(text, "&&" | "||" | ";") || text.starts_with('#') => {
            bad(format!("`{text}` is not a word for the kernel"), "it would end the line of a loader");
        }
        Attr::KernelArgs if has_space(text) && !fault::planted("nodes-several-words") => {
            bad(
                format!("`{text}` is more than one word"),
                "write each word as an item of the list, or put the value in double quotes",
            );
        }
        Attr::Console | Attr::Nic | Attr::Bond | Attr::Vlan if text.contains(char::is_whitespace) => {
            bad(format!("`{key}` has a space"), "it is one word of the kernel's command line");
        }
        Attr::Console if text.starts_with("console=") => {
            bad(
                format!("`{text}` has `console=` already in its key"),
                &format!("write \"{}\"", &text["console=".len()..]),
            );
        }
        Attr::Bond => {
            let read = if text.contains(':') { network::Bond::read(text) } else { Err("it names no cards".to_owned()) };
            if let Err(why) = read {
                bad(
                    format!("`{text}` is not a bond: {why}"),
                    "write NAME:CARD,CARD:mode=MODE, for instance bond0:eno1,eno2:mode=802.3ad",
                );
            }
        }
        Attr::Vlan => {
            if let Err(why) = network::Vlan::read(text) {
                bad(
                    format!("`{text}` is not a tagged network: {why}"),
                    "write NAME:CARD, where NAME ends in the number, for instance eno1.100:eno1",
                );
            }
        }
        Attr::Build
            if !(text.len() >= 4 && text.bytes().all(|one| one.is_ascii_hexdigit() && !one.is_ascii_uppercase())) =>
        {
            bad(
                format!("`{text}` is not the name of a build"),
                "the first digits of a directory in out/.builds/IMAGE, at least four",
            );
        }
        Attr::Image if !recipe::is_image_name(text) => {
            bad(format!("`{text}` is not a name of an image"), "`imgbuild list` lists the images");
        }
        Attr::Postscripts | Attr::Postbootscripts => {
            let name = text.strip_prefix(WITHOUT).unwrap_or(text).split_whitespace().next().unwrap_or_default();
            if !recipe::is_script_path(name) {
                bad(
                    format!("`{name}` is not a name of a script"),
                    "write the path of a file below the directory of the scripts: letters, digits, `.`, `_`, `+` and `-`, without blanks, `..` or `/` at its start; what is behind a blank is an argument",
                );
            }
        }
        _ => {}
    }
}

/// Whether a text has a space outside double quotes.
fn has_space(text: &str) -> bool {
    let mut quoted = false;
    text.chars().any(|letter| {
        quoted ^= letter == '"';
        letter.is_whitespace() && !quoted
    }) || quoted
}

fn variables(value: &Node, findings: &mut Vec<Finding>) {
    let Value::Table(entries) = &value.value else { return };
    for (name, span, _) in entries {
        let good = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        if !name.chars().all(good) || name.starts_with(|letter: char| letter.is_ascii_digit()) || name.is_empty() {
            let message = format!("`{name}` is not a name of a variable");
            findings.push(Finding::error("nodes::name", span, message).help("letters, digits and `_`"));
        }
    }
}

/// A table that says something of a node: a group of a priority, or a table of nodes with the node's place in it.
struct Speaker<'a> {
    index: usize,
    rank: i64,
    said: &'a [Said],
    own: &'a [OwnSaid],
    at: usize,
}

impl<'a> Speaker<'a> {
    fn of((named, table): (Named, &'a NodeTable)) -> Self {
        Self { index: named.table, rank: 0, said: &table.said, own: &table.own, at: named.at }
    }

    fn saying(&self, attr: Attr) -> Option<&'a Node> {
        self.said.iter().find(|said| said.attr == attr).map(|said| &said.value)
    }

    /// What it says of the node, of what each node has for itself.
    fn own(&self, attr: Attr) -> impl Iterator<Item = &'a str> {
        let (own, at) = (self.own, self.at);
        own.iter().filter(move |own| own.attr == attr).flat_map(move |own| own.of(at)).map(|(text, _)| text)
    }
}

/// Numbers for what tables say, the same one for the same: each is read once, however many nodes it is said of.
#[derive(Default)]
struct Sayings {
    numbers: HashMap<*const Node, usize>,
    texts: HashMap<String, usize>,
}

impl Sayings {
    fn number(&mut self, value: &Node) -> usize {
        let Self { numbers, texts } = self;
        *numbers.entry(std::ptr::from_ref(value)).or_insert_with(|| {
            let next = texts.len();
            *texts.entry(value.to_json().to_string()).or_insert(next)
        })
    }
}

/// Tells of nodes whose lists add up to more than anything reads: putting them together would take as long as all items squared.
fn long_lists(nodes: &Nodes, findings: &mut Vec<Finding>) {
    let mut said_of = BTreeSet::new();
    for name in nodes.nodes.keys() {
        let mut counts: HashMap<Attr, usize> = HashMap::new();
        for said in nodes.layers(&name.0).flatten().filter(|said| said.attr.merging() == Merging::Adding) {
            let Value::Array(items) = &said.value.value else { continue };
            let count = counts.entry(said.attr).or_default();
            let had_an_end = *count <= MOST_ITEMS;
            *count += items.len();
            if had_an_end && *count > MOST_ITEMS && said_of.insert((said.attr, said.value.span.start)) {
                let (key, name, most) = (said.attr.name(), &name.0, counted(MOST_ITEMS));
                let message = format!("up to here `{key}` of `{name}` has more than {most} items");
                let help = "say each item once, in [defaults] or in one group";
                findings.push(Finding::error("nodes::too_many", &said.value.span, message).help(help));
            }
        }
    }
}

/// Tells where two groups of one priority, two tables of several nodes, or two of a single one say different things of a node of
/// which nothing nearer speaks. Each pair once.
fn disagreements(nodes: &Nodes, findings: &mut Vec<Finding>) {
    let mut reported = BTreeSet::new();
    let mut sayings = Sayings::default();
    let group_name = |index: usize| format!("the group `{}`", nodes.groups[index].name);
    // The names of a table are put together where there is something to say, not for each of its nodes.
    let table_name = |index: usize| cut(&NodeSet::of(nodes.tables[index].nodes.iter().cloned()).folded());
    let mut table_names: HashMap<usize, String> = HashMap::new();
    for (name, entry) in &nodes.nodes {
        if entry.groups.len() < 2 && entry.tables.len() < 2 {
            continue;
        }
        let groups = entry.groups.iter().filter_map(|index| Some((*index, nodes.groups.get(*index)?)));
        let groups: Vec<Speaker> = groups
            .map(|(index, group)| Speaker { index, rank: group.priority, said: &group.said, own: &[], at: 0 })
            .collect();
        let tables = entry.tables.iter().filter_map(|named| Some((*named, nodes.tables.get(named.table)?)));
        let (sets, single): (Vec<_>, Vec<_>) = tables.partition(|(_, table)| table.is_set());
        let [sets, single] = [sets, single].map(|tables| tables.into_iter().map(Speaker::of).collect::<Vec<_>>());
        let says = |speakers: &[Speaker], attr: Attr| speakers.iter().any(|one| one.saying(attr).is_some());
        let help = |nearer: bool, attr: Attr, line: usize| match nearer {
            true => format!(
                "say in one of the groups that it counts more (‹priority = 10›), or give the node its own {}; the other is in line {line}",
                attr.name()
            ),
            false => format!("give the node a table of its own with its {}; the other is in line {line}", attr.name()),
        };
        let mut pairs = |speakers: &[Speaker], nearer: &dyn Fn(Attr) -> bool, are_groups: bool| {
            for attr in
                Attr::ALL.into_iter().filter(|attr| attr.merging() == Merging::Nearest && *attr != Attr::Comment)
            {
                let saying = || speakers.iter().filter(|one| one.saying(attr).is_some());
                let Some(top) = saying().map(|one| one.rank).max() else { continue };
                let mut top = saying().filter(|one| one.rank == top);
                let (Some(first), Some(second)) = (top.next(), top.next()) else { continue };
                let Some(value) = first.saying(attr).filter(|_| !nearer(attr)) else { continue };
                let own: Vec<&str> = first.own(attr).collect();
                for second in std::iter::once(second).chain(top) {
                    let Some(other) = second.saying(attr) else { continue };
                    let agrees = match attr.is_own() {
                        true => second.own(attr).eq(own.iter().copied()),
                        false => sayings.number(value) == sayings.number(other),
                    };
                    if agrees || !reported.insert((attr, are_groups, first.index, second.index)) {
                        continue;
                    }
                    let mut named = |index| match are_groups {
                        true => group_name(index),
                        false => {
                            let name = table_names.entry(index).or_insert_with(|| table_name(index));
                            format!("the table of `{name}`")
                        }
                    };
                    let (one, two, key) = (named(first.index), named(second.index), attr.name());
                    let message = format!("{one} and {two} say different things of `{key}` of `{name}`", name = name.0);
                    let help = help(are_groups, attr, value.span.line());
                    findings.push(Finding::error("nodes::disagree", &other.span, message).label("here").help(help));
                }
            }
        };
        pairs(&groups, &|attr| says(&sets, attr) || says(&single, attr), true);
        pairs(&sets, &|attr| says(&single, attr), false);
        pairs(&single, &|_| false, false);
    }
}

/// Tells of items that a table takes out although no node of it has them.
fn withdrawn(nodes: &Nodes, findings: &mut Vec<Finding>) {
    let mut wanted: Vec<(Attr, &str, &Span, bool)> = Vec::new();
    let tables = nodes.groups.iter().map(|group| &group.said).chain(nodes.tables.iter().map(|table| &table.said));
    for said in std::iter::once(&nodes.defaults).chain(tables).flatten() {
        let Value::Array(items) = &said.value.value else { continue };
        for item in items.iter().filter(|_| said.attr.merging() == Merging::Adding) {
            if let Value::Text(text) = &item.value
                && let Some(gone) = text.strip_prefix(WITHOUT)
            {
                wanted.push((said.attr, gone, &item.span, false));
            }
        }
    }
    if wanted.is_empty() {
        return;
    }
    let mut at_place: HashMap<usize, Vec<usize>> = HashMap::new();
    for (index, one) in wanted.iter().enumerate() {
        at_place.entry(one.2.start).or_default().push(index);
    }
    for name in nodes.nodes.keys() {
        let mut before: HashSet<(Attr, &str)> = HashSet::new();
        for said in nodes.layers(&name.0).flatten().filter(|said| said.attr.merging() == Merging::Adding) {
            let Value::Array(items) = &said.value.value else { continue };
            for item in items {
                let Value::Text(text) = &item.value else { continue };
                match text.strip_prefix(WITHOUT) {
                    Some(gone) if before.contains(&(said.attr, gone)) => {
                        at_place.get(&item.span.start).into_iter().flatten().for_each(|index| wanted[*index].3 = true);
                    }
                    Some(_) => {}
                    None => drop(before.insert((said.attr, text))),
                }
            }
        }
    }
    for (index, (attr, gone, span, _)) in wanted.into_iter().filter(|one| !one.3).enumerate() {
        let all = nodes.defaults.iter().chain(nodes.groups.iter().flat_map(|group| &group.said));
        let mut known = Vec::new();
        // For the first ones alone: each looks at all groups.
        let all = (index < MOST_NEAR).then_some(all).into_iter().flatten();
        for said in all.filter(|said| said.attr == attr) {
            texts(&said.value, &mut |text, _| known.push(text.to_owned()));
        }
        let near =
            nearest(gone, known.iter().map(String::as_str)).first().map(|near| format!("did you mean `~{near}`?"));
        let message = format!("`~{gone}` takes out nothing: no farther table has it in `{}`", attr.name());
        findings.push(
            Finding::warning("nodes::no_match", span, message).help(near.unwrap_or_else(|| "remove it".to_owned())),
        );
    }
}

/// Tells of nodes that are in no group, where there are groups.
fn without_group(nodes: &Nodes, findings: &mut Vec<Finding>) {
    if nodes.groups.is_empty() {
        return;
    }
    let alone: NodeSet =
        nodes.nodes.iter().filter(|(_, entry)| entry.groups.is_empty()).map(|(name, _)| name.clone()).collect();
    if alone.is_empty() {
        return;
    }
    let span = alone.iter().next().and_then(|name| nodes.span_of(name));
    let message = format!("in no group: {}", alone.folded());
    let mut finding = Finding::nowhere(Severity::Warning, "nodes::no_group", message)
        .help("add them to the nodes of a group, or leave them: they have the defaults and their own values");
    finding.span = span.cloned();
    findings.push(finding);
}

impl Nodes {
    /// What is wrong with the images that are named, where those of the workspace are known.
    pub fn unknown_images(&self, known: &[String]) -> Vec<Finding> {
        let tables = self.groups.iter().map(|group| &group.said).chain(self.tables.iter().map(|table| &table.said));
        let mut findings = Vec::new();
        for said in std::iter::once(&self.defaults).chain(tables).flatten().filter(|said| said.attr == Attr::Image) {
            let Value::Text(text) = &said.value.value else { continue };
            if known.iter().any(|name| name == text) {
                continue;
            }
            let names = known.iter().map(String::as_str);
            let near = if findings.len() < MOST_NEAR { nearest(text, names) } else { Vec::new() };
            let help = match (near.first(), known.len()) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, 0) => "the workspace has no images: `imgbuild init NAME` writes a recipe".to_owned(),
                (None, _) if findings.len() < MOST_NEAR => format!("images are {}", known.join(", ")),
                (None, _) => "`imgbuild list` lists the images".to_owned(),
            };
            let message = format!("the workspace has no image `{text}`");
            findings
                .push(Finding::error("nodes::no_image", &said.value.span, message).label("unknown image").help(help));
        }
        findings
    }
}

//! What each node is to have, by its image's sync lists.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use sha2::Digest as _;

use super::order::Order;
use super::packages::Packages;
use base::source::{Finding, Severity, Span};
use nodes::xcat_range::Files;
use nodes::{HostKey, NodeSet, Nodes};
use recipe::owners::{Home, account_number, homes};
use recipe::{Clause, NodeFile, NodeScript, Recipe, SyncedKind};

/// The largest text that is appended or merged, and the largest script.
const MOST_TEXT: u64 = 16 << 20;

#[derive(Debug, Clone)]
pub struct Job {
    pub node: String,
    /// Where nodes.toml has it.
    pub address: Option<IpAddr>,
    pub image: String,
    pub items: Vec<Arc<Item>>,
    pub scripts: Vec<Arc<Script>>,
    /// What its image's lock has, if packages are asked for.
    pub packages: Option<Arc<Packages>>,
    /// What it is to run again, if that is asked for.
    pub order: Option<Arc<Order>>,
    /// The ssh host keys that it reported.
    pub host_keys: Vec<HostKey>,
}

impl Job {
    pub fn of(node: &str, image: &str) -> Self {
        Self {
            node: node.to_owned(),
            address: None,
            image: image.to_owned(),
            items: Vec::new(),
            scripts: Vec::new(),
            packages: None,
            order: None,
            host_keys: Vec::new(),
        }
    }

    /// Whether the node has to be reached for it.
    pub fn has_work(&self) -> bool {
        let is_ordered = self.order.as_ref().is_some_and(|order| !order.is_empty());
        !(self.items.is_empty() && self.scripts.is_empty()) || self.packages.is_some() || is_ordered
    }
}

#[derive(Debug)]
pub struct Item {
    pub kind: SyncedKind,
    pub clause: Clause,
    pub destination: PathBuf,
    /// Name below it, if it turns out to be a directory.
    pub name_in_folder: Option<String>,
    /// None for a directory.
    pub content: Option<Content>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Name or number of the user that the recipe names.
    pub user: Option<String>,
    pub group: Option<String>,
    /// The home that it lies in.
    pub home: Option<Home>,
    pub source: PathBuf,
    /// Names its text among those that were appended on a node.
    pub key: String,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub struct Content {
    pub size: u64,
    pub sha256: String,
    /// The text to append or merge.
    pub bytes: Option<Vec<u8>>,
}

#[derive(Debug)]
pub struct Script {
    pub name: String,
    pub bytes: Vec<u8>,
    /// What runs it: the words of its first line, or a shell.
    pub interpreter: (String, String),
    /// The source after whose change it runs; none where it runs each time.
    pub after: Option<PathBuf>,
    /// Names it among those that a node has still to run.
    pub key: String,
    pub span: Span,
}

pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    HEXLOWER.encode(&sha2::Sha256::digest(bytes))
}

/// A file's size and digest.
fn measured(path: &Path) -> std::io::Result<(u64, String)> {
    let mut file = std::fs::File::open(path)?;
    let (mut digest, mut buffer, mut size) = (sha2::Sha256::new(), vec![0; 1 << 17], 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, HEXLOWER.encode(&digest.finalize())));
        }
        size += read as u64;
        digest.update(&buffer[..read]);
    }
}

fn unreadable(name: &str, span: &Span, error: &std::io::Error) -> Finding {
    Finding::error("sync::unreadable", span, format!("`{name}` cannot be read: {error}"))
        .help("correct its permissions, or remove the line")
}

fn text(path: &Path, name: &str, span: &Span) -> Result<Vec<u8>, Finding> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MOST_TEXT + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(unreadable(name, span, &error)),
        Ok(_) if bytes.len() as u64 > MOST_TEXT => {
            let problem = format!("`{name}` is larger than {} MiB", MOST_TEXT >> 20);
            Err(Finding::error("sync::large", span, problem).help("copy it with a line before the clauses"))
        }
        Ok(_) => Ok(bytes),
    }
}

/// The files of one image, each with its nodes; files are read once, however many lines name them.
struct Image {
    items: Vec<(Option<Arc<NodeSet>>, Arc<Item>)>,
    scripts: Vec<Arc<Script>>,
}

/// What all nodes of a set are to have; each has an image.
/// Errors: All that is wrong with the lists; else there may be warnings.
pub fn wanted(
    nodes: &Nodes,
    images: &BTreeMap<String, String>,
    recipes: &[Recipe],
) -> Result<(Vec<Job>, Vec<Finding>), Vec<Finding>> {
    let (mut read, mut findings) = (BTreeMap::new(), Vec::new());
    for recipe in recipes {
        read.insert(recipe.model.image.name.as_str(), image(nodes, recipe, &mut findings));
    }
    let mut jobs = Vec::new();
    for (node, name) in images {
        let Some(image) = read.get(name.as_str()) else { continue };
        let is_for = |set: &Option<Arc<NodeSet>>| set.as_ref().is_none_or(|set| set.contains(node));
        let items: Vec<Arc<Item>> =
            image.items.iter().filter(|(set, _)| is_for(set)).map(|(_, item)| Arc::clone(item)).collect();
        let has = |after: &PathBuf| items.iter().any(|item| item.source.starts_with(after));
        let scripts = image.scripts.iter().filter(|script| script.after.as_ref().is_none_or(has)).cloned().collect();
        findings.extend(clash(&items));
        jobs.push(Job { items, scripts, ..Job::of(node, name) });
    }
    let mut said = std::collections::BTreeSet::new();
    findings.retain(|finding| said.insert((finding.message.clone(), finding.span.clone())));
    match findings.iter().any(|finding| finding.severity == Severity::Error) {
        true => Err(findings),
        false => Ok((jobs, findings)),
    }
}

/// What is said where a node's file is both copied and added to: each sync would write it twice.
fn clash(items: &[Arc<Item>]) -> Option<Finding> {
    let copied: HashMap<&Path, &Item> = items
        .iter()
        .filter(|item| item.clause == Clause::Copy)
        .map(|item| (item.destination.as_path(), item.as_ref()))
        .collect();
    let added =
        items.iter().find(|item| item.clause != Clause::Copy && copied.contains_key(item.destination.as_path()))?;
    let line = copied.get(added.destination.as_path()).map_or(0, |item| item.span.line());
    let problem = format!("`{}` is both copied and added to (line {line})", added.destination.display());
    Some(Finding::error("synclist::copied_and_added", &added.span, problem).help("keep one of the lines"))
}

/// The nodes of a line: a node set, or xCAT's noderange.
fn nodes_of(nodes: &Nodes, text: &str, span: &Span) -> Result<NodeSet, Finding> {
    // A list may come from elsewhere: it names no file outside the workspace.
    let folder = nodes.file.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = nodes.select(text).or_else(|_| nodes.select_xcat(text, Files::Below(folder)));
    found.map_err(|findings| {
        let first = findings.into_iter().next();
        let problem = first.as_ref().map_or_else(String::new, |first| first.message.clone());
        let help = first.and_then(|first| first.help).unwrap_or_else(|| "`imgbuild nodes` lists the nodes".to_owned());
        Finding::error("synclist::noderange", span, format!("the nodes of the line are not known: {problem}"))
            .help(help)
    })
}

/// What `sync` would refuse of a recipe's lists, before it looks into files: nodes of lines, sources, scripts.
pub fn refused(nodes: &Nodes, recipe: &Recipe) -> Vec<Finding> {
    let mut findings = Vec::new();
    lines(nodes, recipe, &mut findings);
    findings.retain(|finding| finding.severity == Severity::Error);
    findings
}

/// Files with the nodes of their lines, and scripts.
type Lines = (Vec<(Option<Arc<NodeSet>>, NodeFile)>, Vec<Arc<Script>>);

/// The lines of a recipe's lists for nodes. `check` and `sync` go by this alike: what the one takes, the other does.
fn lines(nodes: &Nodes, recipe: &Recipe, findings: &mut Vec<Finding>) -> Lines {
    let (files, scripts) = match recipe.synced_nodes.read() {
        Ok((files, scripts, warnings)) => {
            findings.extend(warnings);
            (files, scripts)
        }
        Err(all) => {
            findings.extend(all);
            return Lines::default();
        }
    };
    let mut sets = Sets::new();
    let (mut found, mut run) = (Vec::new(), Vec::new());
    for one in files {
        match set_of(nodes, &one, &mut sets) {
            Ok(set) => found.push((set, one)),
            Err(finding) => findings.push(finding),
        }
    }
    for one in scripts {
        match script(one) {
            Ok(script) => run.push(Arc::new(script)),
            Err(finding) => findings.push(finding),
        }
    }
    (found, run)
}

/// Sets by their texts: a line of a folder is one of each of its files.
type Sets = HashMap<String, Option<Arc<NodeSet>>>;

/// The nodes of a line; what is wrong with a text is said once.
fn set_of(nodes: &Nodes, one: &NodeFile, sets: &mut Sets) -> Result<Option<Arc<NodeSet>>, Finding> {
    let Some(text) = &one.nodes else { return Ok(None) };
    if let Some(known) = sets.get(text) {
        return Ok(known.clone());
    }
    let found = nodes_of(nodes, text, &one.file.span).map(Arc::new);
    // No node has a line that is wrong; all of it is refused in the end.
    sets.insert(text.clone(), found.as_ref().ok().cloned().or_else(|| Some(Arc::default())));
    found.map(Some)
}

fn image(nodes: &Nodes, recipe: &Recipe, findings: &mut Vec<Finding>) -> Image {
    let (files, scripts) = lines(nodes, recipe, findings);
    let mut image = Image { items: Vec::new(), scripts };
    let mut known: HashMap<PathBuf, (u64, String)> = HashMap::new();
    let homes: Vec<Home> = homes(&recipe.model).into_iter().map(|(_, home)| home).collect();
    for (set, one) in &files {
        match item(set.clone(), one, &homes, &mut known) {
            Ok(found) => image.items.push(found),
            Err(finding) => findings.push(finding),
        }
    }
    image
}

fn item(
    set: Option<Arc<NodeSet>>,
    one: &NodeFile,
    homes: &[Home],
    known: &mut HashMap<PathBuf, (u64, String)>,
) -> Result<(Option<Arc<NodeSet>>, Arc<Item>), Finding> {
    let file = &one.file;
    let mut content = None;
    if file.kind == SyncedKind::File {
        let found = match known.get(&file.source) {
            Some(found) => found.clone(),
            None => {
                let found = measured(&file.source).map_err(|error| unreadable(&file.name, &file.span, &error))?;
                known.insert(file.source.clone(), found.clone());
                found
            }
        };
        let (mut size, mut sha256) = found;
        let mut bytes = None;
        if file.clause != Clause::Copy {
            let all = text(&file.source, &file.name, &file.span)?;
            (size, sha256) = (all.len() as u64, sha256_of(&all));
            bytes = Some(all);
        }
        content = Some(Content { size, sha256, bytes });
    }
    let key = sha256_of(format!("{}\0{}", file.destination, file.name).as_bytes());
    let home = homes.iter().find(|home| home.has(&file.destination)).cloned();
    // A folder that is made in a home is its user's.
    let owner = match (&home, file.owned.uid, file.owned.gid) {
        (Some(home), 0, 0) if file.kind == SyncedKind::Directory => (home.uid, home.gid),
        (_, uid, gid) => (uid, gid),
    };
    let item = Item {
        kind: file.kind,
        clause: file.clause,
        destination: PathBuf::from(&file.destination),
        name_in_folder: file.name_in_folder.clone(),
        content,
        mode: file.mode(),
        uid: owner.0,
        gid: owner.1,
        home,
        user: file.said.as_ref().and_then(|said| said.user.clone()),
        group: file.said.as_ref().and_then(|said| said.group.clone()),
        source: file.source.clone(),
        key: key.chars().take(32).collect(),
        span: file.span.clone(),
    };
    Ok((set, Arc::new(item)))
}

fn script(one: NodeScript) -> Result<Script, Finding> {
    let bytes = text(&one.source, &one.name, &one.span)?;
    let key = sha256_of(one.name.as_bytes()).chars().take(32).collect();
    let interpreter = interpreter(&bytes).ok_or_else(|| {
        let problem = format!("`{}` is a program, not a script", one.name);
        Finding::error("sync::script", &one.span, problem)
            .help("copy it with a line before the clause, and call it from a script")
    })?;
    Ok(Script { name: one.name, bytes, interpreter, after: one.after, key, span: one.span })
}

/// What runs a script: program and argument of its first line, as the kernel splits it. File systems of nodes may forbid to start it.
fn interpreter(bytes: &[u8]) -> Option<(String, String)> {
    if bytes.starts_with(b"\x7fELF") {
        return None;
    }
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(first.strip_prefix(b"#!").unwrap_or_default()).trim().to_owned();
    Some(match line.split_once([' ', '\t']) {
        _ if line.is_empty() => ("/bin/sh".to_owned(), String::new()),
        Some((program, argument)) => (program.to_owned(), argument.trim().to_owned()),
        None => (line, String::new()),
    })
}

/// A directory to make, unless it is there, with mode, user and group.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    pub path: PathBuf,
    pub mode: u32,
    pub owner: (u64, u64),
}

/// Users and groups that items name, each once; numbers need not be asked for.
pub(crate) fn names<'a>(items: &[&'a Item]) -> BTreeSet<(char, &'a str)> {
    let of = |item: &'a Item| [('u', item.user.as_deref()), ('g', item.group.as_deref())];
    let named = items.iter().copied().flat_map(of).filter_map(|(kind, name)| Some((kind, name?)));
    named.filter(|(_, name)| account_number(name).is_none()).collect()
}

/// User and group of an item, by what the node says of names.
/// Errors: An account that the node does not have.
pub(crate) fn owner_of(item: &Item, known: &BTreeMap<(char, String), u64>) -> Result<(u64, u64), String> {
    let number = |kind: char, name: &Option<String>, otherwise: u32| {
        match name {
        None => Ok(u64::from(otherwise)),
        Some(name) => account_number(name)
            .map(u64::from)
            .or_else(|| known.get(&(kind, name.clone())).copied())
            .ok_or_else(|| {
                let what = if kind == 'u' { "user" } else { "group" };
                let place = item.destination.display();
                format!(
                    "`{place}` cannot belong to `{name}` ({}): the node has no such {what}; create it there, or write a number in `[sync.owner]`",
                    item.span
                )
            }),
    }
    };
    Ok((number('u', &item.user, item.uid)?, number('g', &item.group, item.gid)?))
}

/// The directories above a path in a home, from the home on: they are its user's.
pub(crate) fn in_home(item: &Item, place: &Path) -> Vec<Folder> {
    let Some(home) = item.home.as_ref().filter(|home| home.has(&place.to_string_lossy())) else { return Vec::new() };
    let mut above: Vec<&Path> = place.ancestors().skip(1).filter(|path| home.has(&path.to_string_lossy())).collect();
    above.reverse();
    let owner = (u64::from(home.uid), u64::from(home.gid));
    above.into_iter().map(|path| Folder { path: path.to_owned(), mode: 0o755, owner }).collect()
}

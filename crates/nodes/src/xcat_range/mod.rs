//! xCAT's noderange, for its tables and under its command names. What xCAT takes as nothing without a word (ranges that it
//! cannot count, tables that it does not know, files that it cannot read) is an error here; all else means the same. Source:
//! the behaviour of its NodeRange module on the vectors of the tests.

mod range;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::Attr;
use super::file::Nodes;
use super::set::{Groups, MOST_NODES, Name, NodeSet, SetError};
use base::source::counted;

/// What a range may cost: a piece of it, and each node that a piece looks at, those of files with it.
const MOST_WORK: usize = 5_000_000;
/// Bytes of a file of `^FILE`, and of all together.
const MOST_TEXT: u64 = 16 << 20;
/// Parentheses and files in one another.
const DEEPEST: usize = 20;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    pub set: NodeSet,
    /// Names that no node has, in their order.
    pub unknown: Vec<String>,
}

/// Which files `^FILE` may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files<'a> {
    /// Any that the caller can: a range that someone typed.
    Any,
    /// Those below a folder, by names from there: a range in a list that others may have written.
    Below(&'a Path),
}

pub trait Tables {
    fn has(&self, node: &str) -> bool;
    fn all(&self) -> NodeSet;
    /// Nodes of a group, static or dynamic; none where there is no such group.
    fn group(&self, name: &str) -> Option<NodeSet>;
    /// The value that a node has of `table.column`; the empty text where it has none. None: there is no such column.
    fn value(&self, node: &str, table: &str, column: &str) -> Option<String>;
    /// The text of a file, for `^FILE`.
    /// Errors: Why it cannot be read.
    fn read(&self, path: &str) -> Result<String, String>;
    /// Nodes that no range has: `site.excludenodes`.
    fn excluded(&self) -> NodeSet {
        NodeSet::default()
    }
}

/// Reads a noderange.
/// Errors: Where and why it cannot be read.
pub fn nodes(text: &str, tables: &dyn Tables) -> Result<Found, SetError> {
    let text: String = text.replace(['\'', '"'], "");
    let mut reader = Reader::new(tables);
    let set = reader.union(&text)?.minus(&tables.excluded());
    Ok(Found { set, unknown: reader.unknown })
}

/// An error of a range; of a long one its beginning is shown.
fn wrong(text: &str, message: impl Into<String>, help: &str) -> SetError {
    SetError { at: 0..text.len(), message: message.into(), help: help.to_owned() }
}

/// A text as messages show it.
fn shown(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}..", text[..end].escape_debug()),
        None => text.escape_debug().to_string(),
    }
}

struct Reader<'a> {
    tables: &'a dyn Tables,
    depth: usize,
    work: usize,
    unknown: Vec<String>,
    seen: BTreeSet<String>,
    /// Nodes of files, each read once; none of one that is being read.
    files: BTreeMap<String, Option<NodeSet>>,
    left: u64,
}

/// Splits at a letter outside brackets and parentheses.
fn split(text: &str, at: char) -> Result<Vec<&str>, SetError> {
    let (mut round, mut square, mut start) = (0_usize, 0_usize, 0);
    let mut parts = Vec::new();
    for (place, letter) in text.char_indices() {
        match letter {
            '(' => round += 1,
            // A lone one is a part of a name that no one has.
            ')' => round = round.saturating_sub(1),
            '[' => square += 1,
            ']' => square = square.saturating_sub(1),
            letter if letter == at && round == 0 && square == 0 => {
                parts.push(&text[start..place]);
                start = place + at.len_utf8();
            }
            _ => {}
        }
    }
    if round > 0 {
        return Err(wrong(text, "`(` without `)`", "close it"));
    }
    parts.push(&text[start..]);
    Ok(parts)
}

impl<'a> Reader<'a> {
    fn new(tables: &'a dyn Tables) -> Self {
        let (unknown, seen, files) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
        Self { tables, depth: 0, work: 0, unknown, seen, files, left: MOST_TEXT }
    }

    /// Pieces with commas between them; those that begin with `-` are taken out at the end.
    fn union(&mut self, text: &str) -> Result<NodeSet, SetError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(wrong(
                text,
                "this is nested too deep",
                "name the nodes more directly: does a file name itself?",
            ));
        }
        let mut found = NodeSet::default();
        let mut out = NodeSet::default();
        for piece in split(text, ',')? {
            match piece.strip_prefix('-') {
                Some(rest) if rest.starts_with('^') => {
                    let help = "xCAT adds the nodes of the file: name what is to be taken out by a group or by names";
                    return Err(wrong(text, format!("`{}` cannot be taken out", shown(piece)), help));
                }
                Some(rest) => out.extend(&self.piece(rest)?),
                None => found.extend(&self.piece(piece)?),
            }
            if found.len() + self.unknown.len() > MOST_NODES {
                return Err(wrong(
                    text,
                    format!("these are more than {} nodes", counted(MOST_NODES)),
                    "correct the ranges",
                ));
            }
        }
        self.depth -= 1;
        Ok(found.minus(&out))
    }

    /// Atoms with `@` between them.
    fn piece(&mut self, text: &str) -> Result<NodeSet, SetError> {
        if let Some(rest) = text.strip_prefix('@') {
            let (text_shown, rest) = (shown(text), shown(rest));
            return Err(wrong(
                text,
                format!("`{text_shown}` has nothing before the `@`: xCAT takes it for no node"),
                &format!("a group is named without `@`: {rest}; `A@{rest}` is what is in both"),
            ));
        }
        let mut atoms = split(text, '@')?.into_iter();
        let mut found = self.atom(atoms.next().unwrap_or_default())?;
        for atom in atoms {
            if let Some(rest) = atom.strip_prefix('-') {
                let (atom, rest) = (shown(atom), shown(rest));
                let message = format!("`@{atom}`: xCAT takes no notice of the `-`");
                return Err(wrong(
                    text,
                    message,
                    &format!("write `,-{rest}` to take them out, or `@{rest}` for what is in both"),
                ));
            }
            found = found.and(&self.atom(atom)?);
        }
        Ok(found)
    }

    /// Counts what is looked at.
    fn costs(&mut self, text: &str, nodes: usize) -> Result<(), SetError> {
        self.work = self.work.saturating_add(nodes);
        match self.work > MOST_WORK {
            true => Err(wrong(text, "this range looks at too many nodes too often", "name groups of nodes, or ranges")),
            false => Ok(()),
        }
    }

    fn atom(&mut self, text: &str) -> Result<NodeSet, SetError> {
        let found = self.meant(text)?;
        // What a range in parentheses or a file means was looked at there, and is taken once more.
        self.costs(text, 1 + found.len())?;
        Ok(found)
    }

    fn meant(&mut self, text: &str) -> Result<NodeSet, SetError> {
        if text.is_empty() {
            return Ok(NodeSet::default());
        }
        if self.tables.has(text) {
            return Ok(NodeSet::of([text]));
        }
        if let Some(inner) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            return self.union(inner);
        }
        if let Some(path) = text.strip_prefix('^') {
            return self.file(text, path);
        }
        if let Some(set) = self.tables.group(text) {
            return Ok(set);
        }
        if let Some(pattern) = text.strip_prefix('/') {
            return self.matching(text, pattern);
        }
        if text.contains(['=', '~']) {
            return self.attribute(text);
        }
        let mut found = NodeSet::default();
        let names = range::names(text)?;
        self.costs(text, names.iter().map(|name| name.len() / 64).sum())?;
        for name in names {
            // A number alone is a node of that number.
            let is_number = name.bytes().all(|letter| letter.is_ascii_digit());
            let name = if is_number { format!("node{name}") } else { name };
            if self.tables.has(&name) {
                found.insert(name);
            } else if self.seen.insert(name.clone()) {
                self.unknown.push(name);
            }
        }
        Ok(found)
    }

    /// `/REGEX`: anchored, on names.
    fn matching(&mut self, text: &str, pattern: &str) -> Result<NodeSet, SetError> {
        let regex = regular(text, &format!("^(?:{pattern})$"))?;
        let all = self.tables.all();
        self.costs(text, all.len())?;
        Ok(all.iter().filter(|name| regex.is_match(name)).map(|name| Name(name.to_owned())).collect())
    }

    /// `table.column==value`, in the order in which xCAT looks for the operators.
    fn attribute(&mut self, text: &str) -> Result<NodeSet, SetError> {
        let operators = ["!=", "=~", "==", "=", "!~"];
        let Some((operator, at)) = operators.iter().find_map(|one| text.find(one).map(|at| (*one, at))) else {
            return Err(wrong(text, format!("`{}` has no operator", shown(text)), "operators are ==, !=, =~ and !~"));
        };
        let (name, value) = (&text[..at], &text[at + operator.len()..]);
        let (table, column) = match name {
            "groups" | "tags" => ("nodelist", "groups"),
            "mgt" => ("nodehm", "mgt"),
            _ => name.split_once('.').ok_or_else(|| {
                wrong(
                    text,
                    format!("`{}` is not a column of a table", shown(name)),
                    "write TABLE.COLUMN, for instance nodetype.os",
                )
            })?,
        };
        let is_regex = operator.ends_with('~');
        let regex = match is_regex {
            true => {
                let bare = value.strip_prefix('/').unwrap_or(value);
                Some(regular(text, bare.strip_suffix('/').unwrap_or(bare))?)
            }
            false => None,
        };
        let mut set = NodeSet::default();
        let all = self.tables.all();
        self.costs(text, all.len())?;
        for node in all.iter() {
            let Some(is) = self.tables.value(node, table, column) else {
                let help = "columns that are known here are nodelist.groups, nodetype.arch, nodetype.provmethod, noderes.netboot, mac.mac and hosts.ip";
                return Err(wrong(text, format!("there is no column `{}.{}`", shown(table), shown(column)), help));
            };
            let fits = regex.as_ref().map_or(is == value, |regex| regex.is_match(&is));
            if fits != operator.starts_with('!') {
                set.insert(node);
            }
        }
        Ok(set)
    }

    /// `^FILE`: a noderange a line, up to the first colon, space or tab. However often it is named, it is read once.
    fn file(&mut self, text: &str, path: &str) -> Result<NodeSet, SetError> {
        match self.files.get(path) {
            Some(Some(known)) => return Ok(known.clone()),
            Some(None) => {
                let message = format!("the file `{}` names itself", shown(path));
                return Err(wrong(text, message, "take `^` out of the file"));
            }
            None => {}
        }
        self.files.insert(path.to_owned(), None);
        let content = self.tables.read(path).and_then(|content| {
            self.left =
                self.left.checked_sub(content.len() as u64).ok_or("the files are larger than the limit of 16 MiB")?;
            Ok(content)
        });
        let content = content.map_err(|problem| {
            wrong(
                text,
                format!("`{}` cannot be read: {problem}", shown(path)),
                "correct the name of the file after `^`",
            )
        })?;
        let mut found = NodeSet::default();
        for line in content.lines().filter(|line| !line.starts_with(['#', '^'])) {
            let range = line.split([':', ' ', '\t']).next().unwrap_or_default();
            found.extend(&self.union(range)?);
        }
        self.files.insert(path.to_owned(), Some(found.clone()));
        Ok(found)
    }
}

/// The text of a regular file of no more than the limit; of others none is read.
/// Errors: Why not.
fn text_of(path: &Path, files: Files<'_>) -> Result<String, String> {
    let said = |error: std::io::Error| error.to_string();
    let real = match files {
        Files::Any => path.to_owned(),
        Files::Below(folder) => {
            let outside = "it is outside the workspace, and the range is in a list";
            let folder = folder.canonicalize().map_err(said)?;
            // Whether it is there at all is no affair of the list.
            let real = folder.join(path).canonicalize().ok().filter(|real| real.starts_with(&folder));
            real.ok_or(outside)?
        }
    };
    // A pipe is not waited for.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::File::options().read(true).custom_flags(flags).open(&real).map_err(said)?;
    if !file.metadata().map_err(said)?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MOST_TEXT + 1).read_to_end(&mut bytes).map_err(said)?;
    if bytes.len() as u64 > MOST_TEXT {
        return Err("it is larger than the limit of 16 MiB".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

fn regular(text: &str, pattern: &str) -> Result<regex::Regex, SetError> {
    regex::RegexBuilder::new(pattern).size_limit(1 << 20).build().map_err(|error| {
        let last = error.to_string();
        let last = last.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        wrong(text, format!("`{}` is not a regular expression: {last}", shown(pattern)), "correct it")
    })
}

/// A file's nodes, with what `^FILE` may read.
#[derive(Debug)]
pub struct Of<'a> {
    nodes: &'a Nodes,
    files: Files<'a>,
    groups: BTreeMap<&'a str, &'a NodeSet>,
}

impl<'a> Of<'a> {
    pub fn new(nodes: &'a Nodes, files: Files<'a>) -> Self {
        // The first of a name counts.
        let groups = nodes.groups.iter().rev().map(|group| (group.name.as_str(), &group.nodes)).collect();
        Self { nodes, files, groups }
    }
}

impl Tables for Of<'_> {
    fn has(&self, node: &str) -> bool {
        self.nodes.nodes.contains_key(&Name(node.to_owned()))
    }

    fn all(&self) -> NodeSet {
        Groups::all(self.nodes)
    }

    fn group(&self, name: &str) -> Option<NodeSet> {
        let own = self.groups.get(name).map(|set| (*set).clone());
        own.or_else(|| (name == "all").then(|| Groups::all(self.nodes)))
    }

    fn value(&self, node: &str, table: &str, column: &str) -> Option<String> {
        let attr = match (table, column) {
            ("nodelist", "groups") => {
                return Some(self.nodes.get(node).map(|node| node.groups.join(",")).unwrap_or_default());
            }
            ("nodetype", "arch") => Attr::Arch,
            ("nodetype", "provmethod") => Attr::Image,
            ("noderes", "netboot") => Attr::Loader,
            ("hosts", "ip") => Attr::Ip,
            ("mac", "mac") => {
                let macs = self.nodes.get(node).map(|node| node.macs()).unwrap_or_default();
                return Some(macs.iter().map(ToString::to_string).collect::<Vec<_>>().join("|"));
            }
            _ => return None,
        };
        Some(self.nodes.get(node).and_then(|node| node.text(attr).map(str::to_owned)).unwrap_or_default())
    }

    fn read(&self, path: &str) -> Result<String, String> {
        text_of(Path::new(path), self.files)
    }
}

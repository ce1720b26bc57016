//! xCAT's noderange, for its tables and under its command names. What xCAT takes as nothing without a word (ranges that it
//! cannot count, tables that it does not know, files that it cannot read) is an error here; all else means the same. Source:
//! the behaviour of its NodeRange module on the vectors of the tests.

mod range;
#[cfg(test)]
mod tests;

use super::Attr;
use super::file::Nodes;
use super::set::{Groups, MOST_NODES, Name, NodeSet, SetError};
use crate::source::counted;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    pub set: NodeSet,
    /// Names that no node has, in their order.
    pub unknown: Vec<String>,
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
    let mut reader = Reader { tables, depth: 0 };
    let mut found = reader.union(&text)?;
    found.set = found.set.minus(&tables.excluded());
    Ok(found)
}

fn wrong(text: &str, message: impl Into<String>, help: &str) -> SetError {
    SetError { at: 0..text.len(), message: message.into(), help: help.to_owned() }
}

struct Reader<'a> {
    tables: &'a dyn Tables,
    depth: usize,
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

impl Found {
    fn add(&mut self, other: Self) {
        self.set.extend(&other.set);
        for name in other.unknown {
            if !self.unknown.contains(&name) {
                self.unknown.push(name);
            }
        }
    }
}

impl Reader<'_> {
    /// Pieces with commas between them; those that begin with `-` are taken out at the end.
    fn union(&mut self, text: &str) -> Result<Found, SetError> {
        self.depth += 1;
        if self.depth > 20 {
            return Err(wrong(
                text,
                "this is nested too deep",
                "name the nodes more directly: does a file name itself?",
            ));
        }
        let mut found = Found::default();
        let mut out = NodeSet::default();
        for piece in split(text, ',')? {
            match piece.strip_prefix('-') {
                Some(rest) if rest.starts_with('^') => {
                    let help = "xCAT adds the nodes of the file: name what is to be taken out by a group or by names";
                    return Err(wrong(text, format!("`{piece}` cannot be taken out"), help));
                }
                Some(rest) => {
                    let gone = self.piece(rest)?;
                    out.extend(&gone.set);
                    found.add(Found { unknown: gone.unknown, ..Found::default() });
                }
                None => found.add(self.piece(piece)?),
            }
            if found.set.len() > MOST_NODES {
                return Err(wrong(
                    text,
                    format!("these are more than {} nodes", counted(MOST_NODES)),
                    "correct the ranges",
                ));
            }
        }
        found.set = found.set.minus(&out);
        self.depth -= 1;
        Ok(found)
    }

    /// Atoms with `@` between them.
    fn piece(&mut self, text: &str) -> Result<Found, SetError> {
        let mut atoms = split(text, '@')?.into_iter();
        let mut found = self.atom(atoms.next().unwrap_or_default())?;
        for atom in atoms {
            if let Some(rest) = atom.strip_prefix('-') {
                let message = format!("`@{atom}`: xCAT takes no notice of the `-`");
                return Err(wrong(
                    text,
                    message,
                    &format!("write `,-{rest}` to take them out, or `@{rest}` for what is in both"),
                ));
            }
            let right = self.atom(atom)?;
            found.set = found.set.and(&right.set);
            found.add(Found { unknown: right.unknown, ..Found::default() });
        }
        Ok(found)
    }

    fn atom(&mut self, text: &str) -> Result<Found, SetError> {
        let one = |name: &str| Found { set: NodeSet::of([name]), ..Found::default() };
        if text.is_empty() {
            return Ok(Found::default());
        }
        if self.tables.has(text) {
            return Ok(one(text));
        }
        if let Some(inner) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            return self.union(inner);
        }
        if let Some(path) = text.strip_prefix('^') {
            return self.file(text, path);
        }
        if let Some(set) = self.tables.group(text) {
            return Ok(Found { set, ..Found::default() });
        }
        if let Some(pattern) = text.strip_prefix('/') {
            return self.matching(text, pattern);
        }
        if text.contains(['=', '~']) {
            return self.attribute(text);
        }
        let mut found = Found::default();
        for name in range::names(text)? {
            // A number alone is a node of that number.
            let is_number = name.bytes().all(|letter| letter.is_ascii_digit());
            let name = if is_number { format!("node{name}") } else { name };
            if self.tables.has(&name) {
                found.set.insert(name);
            } else {
                found.unknown.push(name);
            }
        }
        Ok(found)
    }

    /// `/REGEX`: anchored, on names.
    fn matching(&self, text: &str, pattern: &str) -> Result<Found, SetError> {
        let regex = regular(text, &format!("^(?:{pattern})$"))?;
        let all = self.tables.all();
        let set = all.iter().filter(|name| regex.is_match(name)).map(|name| Name(name.to_owned())).collect();
        Ok(Found { set, ..Found::default() })
    }

    /// `table.column==value`, in the order in which xCAT looks for the operators.
    fn attribute(&self, text: &str) -> Result<Found, SetError> {
        let operators = ["!=", "=~", "==", "=", "!~"];
        let Some((operator, at)) = operators.iter().find_map(|one| text.find(one).map(|at| (*one, at))) else {
            return Err(wrong(text, format!("`{text}` has no operator"), "operators are ==, !=, =~ and !~"));
        };
        let (name, value) = (&text[..at], &text[at + operator.len()..]);
        let (table, column) = match name {
            "groups" | "tags" => ("nodelist", "groups"),
            "mgt" => ("nodehm", "mgt"),
            _ => name.split_once('.').ok_or_else(|| {
                wrong(
                    text,
                    format!("`{name}` is not a column of a table"),
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
        for node in self.tables.all().iter() {
            let Some(is) = self.tables.value(node, table, column) else {
                let help = "columns that are known here are nodelist.groups, nodetype.arch, nodetype.provmethod, noderes.netboot, mac.mac and hosts.ip";
                return Err(wrong(text, format!("there is no column `{table}.{column}`"), help));
            };
            let fits = regex.as_ref().map_or(is == value, |regex| regex.is_match(&is));
            if fits != operator.starts_with('!') {
                set.insert(node);
            }
        }
        Ok(Found { set, ..Found::default() })
    }

    /// `^FILE`: a noderange a line, up to the first colon, space or tab.
    fn file(&mut self, text: &str, path: &str) -> Result<Found, SetError> {
        let content = self.tables.read(path).map_err(|problem| {
            wrong(text, format!("`{path}` cannot be read: {problem}"), "correct the name of the file after `^`")
        })?;
        let mut found = Found::default();
        for line in content.lines().filter(|line| !line.starts_with(['#', '^'])) {
            let range = line.split([':', ' ', '\t']).next().unwrap_or_default();
            found.add(self.union(range)?);
        }
        Ok(found)
    }
}

fn regular(text: &str, pattern: &str) -> Result<regex::Regex, SetError> {
    regex::RegexBuilder::new(pattern).size_limit(1 << 20).build().map_err(|error| {
        let last = error.to_string();
        let last = last.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        wrong(text, format!("`{pattern}` is not a regular expression: {last}"), "correct it")
    })
}

impl Tables for Nodes {
    fn has(&self, node: &str) -> bool {
        self.nodes.contains_key(&Name(node.to_owned()))
    }

    fn all(&self) -> NodeSet {
        Groups::all(self)
    }

    fn group(&self, name: &str) -> Option<NodeSet> {
        Groups::group(self, None, name).ok().flatten()
    }

    fn value(&self, node: &str, table: &str, column: &str) -> Option<String> {
        let attr = match (table, column) {
            ("nodelist", "groups") => {
                return Some(self.get(node).map(|node| node.groups.join(",")).unwrap_or_default());
            }
            ("nodetype", "arch") => Attr::Arch,
            ("nodetype", "provmethod") => Attr::Image,
            ("noderes", "netboot") => Attr::Loader,
            ("hosts", "ip") => Attr::Ip,
            ("mac", "mac") => {
                let macs = self.get(node).map(|node| node.macs()).unwrap_or_default();
                return Some(macs.iter().map(ToString::to_string).collect::<Vec<_>>().join("|"));
            }
            _ => return None,
        };
        Some(self.get(node).and_then(|node| node.text(attr).map(str::to_owned)).unwrap_or_default())
    }

    fn read(&self, path: &str) -> Result<String, String> {
        std::fs::read_to_string(path).map_err(|error| error.to_string())
    }
}

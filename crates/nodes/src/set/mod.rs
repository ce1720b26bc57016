//! ClusterShell's node sets: `cn[001-040]!cn007,@rack1`. Source: ClusterShell's guide, "Node sets"; the vectors of the tests come
//! from its release 1.9.1.

mod fold;
pub(crate) mod parse;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BTreeSet;

pub use parse::{Groups, Parsed, SetError, parse};

/// More nodes than this are a slip of the keyboard.
pub const MOST_NODES: usize = 1_000_000;

/// Bytes of the names that a word may mean, with what each costs.
const MOST_BYTES: u64 = 128 << 20;

/// Bytes of the names that all words of a set may mean together, those of groups each time that they are named.
const MOST_OF_ALL: u64 = if cfg!(test) { MOST_BYTES / 4 } else { 4 * MOST_BYTES };

/// Whether so many names of so many bytes are more than a word may mean.
pub(crate) fn are_too_long(count: u64, length: usize) -> bool {
    count.saturating_mul(length as u64 + 24) > MOST_BYTES
}

/// The name of a node, in the order in which people count: cn2 before cn10.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(pub String);

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        natural(&self.0, &other.0)
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The next run of digits, or of other letters, of a text; and the rest.
fn token(text: &str) -> (&str, &str) {
    let is_number = text.starts_with(|one: char| one.is_ascii_digit());
    text.split_at(text.find(|one: char| one.is_ascii_digit() != is_number).unwrap_or(text.len()))
}

/// The order of names: numbers by their length, then by their digits; all else by letters. Sets of thousands of nodes are sorted by it.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let Some(at) = a.iter().zip(b).position(|(one, two)| one != two) else { return a.len().cmp(&b.len()) };
    let digits = |text: &[u8]| text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let letter = || a[at].cmp(&b[at]);
    let is_in_number = at > 0 && a[at - 1].is_ascii_digit();
    match (a[at].is_ascii_digit(), b[at].is_ascii_digit()) {
        (true, true) if fault::planted("set-order-by-letter") => letter(),
        (true, true) => digits(a).cmp(&digits(b)).then_with(letter),
        // A number goes on where the other ends; else a number stands where the other has a letter.
        (true, false) => {
            if is_in_number {
                Ordering::Greater
            } else {
                Ordering::Less
            }
        }
        (false, true) => {
            if is_in_number {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
        (false, false) => letter(),
    }
}

/// Nodes, each once, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSet(BTreeSet<Name>);

impl NodeSet {
    pub fn of(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        names.into_iter().map(|name| Name(name.into())).collect()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| name.0.as_str())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(&Name(name.to_owned()))
    }

    /// Adds a node; false where it was there.
    pub fn insert(&mut self, name: impl Into<String>) -> bool {
        self.0.insert(Name(name.into()))
    }

    pub fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }

    /// Those that are not in another set.
    pub fn minus(&self, other: &Self) -> Self {
        let (from, without) = if fault::planted("set-minus-swapped") { (other, self) } else { (self, other) };
        Self(from.0.difference(&without.0).cloned().collect())
    }

    /// Takes the nodes of another set out: at the cost of that one.
    pub fn take_out(&mut self, other: &Self) {
        for name in &other.0 {
            self.0.remove(name);
        }
    }

    /// Takes the nodes of another set out, and adds those that were not there: at the cost of that one.
    pub fn toggle(&mut self, other: &Self) {
        for name in &other.0 {
            if !self.0.remove(name) {
                self.0.insert(name.clone());
            }
        }
    }

    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// The set in few words: `login[1-2],n[1-12]`.
    pub fn folded(&self) -> String {
        fold::fold(self.iter())
    }

    /// The same with the names of groups that are wholly in it, the largest first: `@rack1,n7`.
    pub fn regrouped(&self, groups: &[(String, Self)]) -> String {
        let mut inside: Vec<&(String, Self)> =
            groups.iter().filter(|(_, nodes)| !nodes.is_empty() && nodes.0.is_subset(&self.0)).collect();
        inside.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then(natural(&a.0, &b.0)));
        let mut left = self.clone();
        let mut words = Vec::new();
        for (name, nodes) in inside {
            if !nodes.and(&left).is_empty() {
                left = left.minus(nodes);
                words.push(format!("@{name}"));
            }
        }
        if !left.is_empty() || words.is_empty() {
            words.push(left.folded());
        }
        words.join(",")
    }
}

impl FromIterator<Name> for NodeSet {
    fn from_iter<T: IntoIterator<Item = Name>>(names: T) -> Self {
        Self(names.into_iter().collect())
    }
}

impl std::fmt::Display for NodeSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.folded())
    }
}

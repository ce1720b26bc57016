//! That nothing of the input is lost in silence: a part of a key that has no row of its own gets the verdict of the whole key, and what no one
//! read is named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Key, Plan, Verdict, row};
use crate::input::yaml::{Node, Value};

/// Longest name of a value; what lies deeper has the name of what it is a part of.
const NAME_LIMIT: usize = 300;

/// A value of the input that has no parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) key: Key,
    /// The keys that it is a part of, the nearest first, each with its line; 0 for any line.
    pub(crate) parents: Vec<(usize, Arc<str>)>,
}

impl Plan {
    /// Gives each value that has no row one: that of the nearest key that it is a part of, or that it was not read. Values are not repeated.
    pub(crate) fn cover(&mut self, leaves: Vec<Leaf>) {
        if fault::planted("movein-part-lost") {
            return;
        }
        let mut of_lines: BTreeMap<(String, usize, String), (Verdict, Option<String>)> = BTreeMap::new();
        let mut lists: BTreeSet<(String, String)> = BTreeSet::new();
        for one in &self.rows {
            for line in [0, one.line] {
                let known = of_lines
                    .entry((one.file.clone(), line, one.key.clone()))
                    .or_insert((one.verdict, one.field.clone()));
                if one.verdict > known.0 {
                    *known = (one.verdict, one.field.clone());
                }
            }
            lists.extend(
                one.key
                    .strip_suffix(']')
                    .and_then(|key| key.rsplit_once('['))
                    .map(|(list, _)| (one.file.clone(), list.to_owned())),
            );
        }
        for leaf in leaves {
            let Leaf { key, parents } = leaf;
            let is_here = parents.first().is_none_or(|(line, _)| *line == 0);
            let line = if is_here { 0 } else { key.line };
            if of_lines.contains_key(&(key.file.clone(), line, key.key.clone()))
                || lists.contains(&(key.file.clone(), key.key.clone()))
            {
                continue;
            }
            let mut above =
                parents.iter().map(|(line, name)| of_lines.get(&(key.file.clone(), *line, name.to_string())));
            match above.find_map(|found| found.cloned()) {
                Some((verdict, field)) => {
                    let key = Key { value: String::new(), ..key };
                    self.rows.push(row(&key, verdict, field.as_deref(), ""));
                }
                None if matches!(key.value.as_str(), "" | "~" | "null") => self.stays(&key, "it is empty"),
                None => self.unknown(&key),
            }
        }
    }
}

/// The values of a document.
pub(crate) fn leaves(file: &str, document: &Node) -> Vec<Leaf> {
    let mut found = Vec::new();
    walk(file, document, document.line, &mut Vec::new(), &mut found);
    found
}

/// The name of a part: bounded, however long and deep the names of an input are.
pub(crate) fn part(whole: &str, name: &str, between: &str) -> Arc<str> {
    if whole.len() + name.len() > NAME_LIMIT {
        let begin: String = name.chars().take(20).collect();
        return if whole.is_empty() { begin.into() } else { whole.into() };
    }
    if whole.is_empty() { name.into() } else { format!("{whole}{between}{name}").into() }
}

fn walk(file: &str, node: &Node, line: usize, names: &mut Vec<Arc<str>>, found: &mut Vec<Leaf>) {
    let name = names.last().cloned().unwrap_or_default();
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            for entry in entries {
                names.push(part(&name, &entry.key, "."));
                walk(file, &entry.node, entry.line, names, found);
                names.pop();
            }
        }
        Value::List(items) if !items.is_empty() => {
            for (at, item) in items.iter().enumerate() {
                names.push(part(&name, &format!("[{at}]"), ""));
                walk(file, item, item.line, names, found);
                names.pop();
            }
        }
        _ if name.is_empty() => {}
        _ => {
            let parents = names.iter().rev().skip(1).map(|name| (0, name.clone())).collect();
            found.push(Leaf { key: Key::new(file, line, &*name, node.shown()), parents });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::yaml::document;

    #[test]
    fn long_names_at_great_depth_stay_short() {
        let key = "k".repeat(100_000);
        let deep: String =
            (0..20).map(|depth| format!("{}? {key}\n{}: \n", " ".repeat(depth), " ".repeat(depth))).collect();
        let text = format!("{deep}{}[{}]\n", " ".repeat(21), vec!["x"; 50_000].join(", "));
        let found = leaves("input", &document(&text).unwrap().unwrap());
        assert_eq!(found.len(), 50_000);
        assert!(found.iter().all(|leaf| leaf.key.key.len() <= NAME_LIMIT && leaf.parents.len() == 20));
    }

    #[test]
    fn each_value_has_a_row_or_that_of_the_key_that_it_is_a_part_of() {
        let text = "a:\n  - x: 1\n    y: {z: [2, 3]}\nb: [4]\nc: 5\nd: 6\ne: {}\n";
        let release = site::osimage::Release { distro: recipe::Distro::Rocky, release: "9".to_owned() };
        let mut plan = Plan::new("test", "input", "image", release, recipe::Arch::default());
        let key = |line, name: &str| Key::new("input", line, name, "v");
        plan.exact(&key(2, "a[0]"), "files", "");
        plan.decide(&key(3, "a[0].y"), "why");
        plan.stays(&key(4, "b"), "why");
        plan.exact(&key(5, "c[0]"), "files", "");
        plan.cover(leaves("input", &document(text).unwrap().unwrap()));
        let rows: Vec<_> =
            plan.rows[4..].iter().map(|row| (row.key.as_str(), row.line, row.verdict, row.reason.is_empty())).collect();
        assert_eq!(
            rows,
            [
                ("a[0].x", 2, Verdict::Exact, true),
                ("a[0].y.z[0]", 3, Verdict::Decide, true),
                ("a[0].y.z[1]", 3, Verdict::Decide, true),
                ("b[0]", 4, Verdict::Stays, true),
                ("d", 6, Verdict::Decide, false),
                ("e", 7, Verdict::Stays, false),
            ]
        );
    }
}

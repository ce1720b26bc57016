//! From text to a set.

use std::cell::Cell;
use std::ops::Range;

use super::{MOST_NODES, MOST_OF_ALL, Name, NodeSet, are_too_long};
use base::source::counted;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetError {
    pub at: Range<usize>,
    pub message: String,
    pub help: String,
}

pub trait Groups {
    /// All nodes; what `*` and `?` are matched with, and `@*`.
    fn all(&self) -> NodeSet;

    /// Nodes of a group, of a source or of the usual one; none where there is no such group.
    /// Errors: There is no such source: the names of those that there are.
    fn group(&self, source: Option<&str>, name: &str) -> Result<Option<NodeSet>, Vec<String>>;

    /// Names of the groups of a source.
    /// Errors: As `group`.
    fn names(&self, source: Option<&str>) -> Result<Vec<String>, Vec<String>>;
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    pub set: NodeSet,
    /// Groups that no one knows, and patterns that match nothing: ClusterShell takes them as empty.
    pub nothing: Vec<(String, Range<usize>)>,
}

/// Bytes of the names that were looked at: of one set, or of several that are read together.
#[derive(Debug, Default)]
pub(crate) struct Spent(Cell<u64>);

impl Spent {
    fn add(&self, bytes: u64) {
        self.0.set(self.0.get().saturating_add(bytes));
    }

    fn nodes(&self, nodes: &NodeSet) {
        self.add(nodes.iter().map(|name| name.len() as u64 + 24).sum());
    }

    pub(crate) fn is_too_much(&self) -> bool {
        self.0.get() > MOST_OF_ALL
    }
}

/// Reads a set.
/// Errors: The first place where it cannot be one.
pub fn parse(text: &str, groups: &dyn Groups) -> Result<Parsed, SetError> {
    parse_within(text, groups, &Spent::default())
}

/// The same for one of several sets that have a bound together.
pub(crate) fn parse_within(text: &str, groups: &dyn Groups, spent: &Spent) -> Result<Parsed, SetError> {
    let mut found = Parsed::default();
    let mut at = 0;
    let mut operator = None;
    let mut first = true;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        let Some(letter) = text[at..].chars().next() else { break };
        if let ',' | '!' | '&' | '^' = letter {
            if first || operator.is_some() {
                return Err(wrong(at..at + 1, format!("no nodes before `{letter}`"), "name some, or remove it"));
            }
            operator = Some((letter, at));
            at += 1;
            continue;
        }
        let end = at + end_of(&text[at..]);
        let right = operand(text, at..end, groups, &mut found, spent)?;
        spent.nodes(&right);
        // At the cost of the right side, however much there is on the left.
        match operator.take().map_or(',', |(letter, _)| letter) {
            '!' => found.set.take_out(&right),
            '&' => found.set = found.set.and(&right),
            '^' => found.set.toggle(&right),
            _ => found.set.extend(&right),
        }
        if found.set.len() > MOST_NODES {
            return Err(too_many(at..end));
        }
        if spent.is_too_much() {
            let message = "up to here this set looks at too many nodes too often";
            return Err(wrong(at..end, message, "name fewer ranges, groups and patterns"));
        }
        first = false;
        at = end;
    }
    match operator {
        Some((letter, at)) => Err(wrong(at..at + 1, format!("no nodes after `{letter}`"), "name some, or remove it")),
        None => Ok(found),
    }
}

fn wrong(at: Range<usize>, message: impl Into<String>, help: &str) -> SetError {
    SetError { at, message: message.into(), help: help.to_owned() }
}

fn too_many(at: Range<usize>) -> SetError {
    wrong(at, format!("these are more than {} nodes", counted(MOST_NODES)), "correct the ranges")
}

/// Where an operand ends: at an operator or a space outside brackets.
fn end_of(text: &str) -> usize {
    let mut inside = false;
    for (at, letter) in text.char_indices() {
        match letter {
            '[' => inside = true,
            ']' => inside = false,
            ',' | '!' | '&' | '^' if !inside => return at,
            letter if letter.is_whitespace() && !inside => return at,
            _ => {}
        }
    }
    text.len()
}

fn operand(
    text: &str,
    at: Range<usize>,
    groups: &dyn Groups,
    found: &mut Parsed,
    spent: &Spent,
) -> Result<NodeSet, SetError> {
    let word = &text[at.clone()];
    let Some(group) = word.strip_prefix('@') else {
        let mut set = NodeSet::default();
        for name in expand(word, at.start)? {
            if spent.is_too_much() {
                break;
            }
            if name.contains(['*', '?']) {
                let all = groups.all();
                spent.nodes(&all);
                let matching: NodeSet =
                    all.iter().filter(|node| wild(&name, node)).map(|node| Name(node.to_owned())).collect();
                if matching.is_empty() {
                    found.nothing.push((name, at.clone()));
                }
                set.extend(&matching);
            } else {
                set.insert(name);
            }
        }
        return Ok(set);
    };
    let no_source = |known: Vec<String>, source: &str| {
        let known = known.join(", ");
        wrong(at.clone(), format!("there is no group source `{source}`"), &format!("sources are {known}"))
    };
    if let Some(source) = group.strip_prefix('@') {
        let names = groups.names(Some(source)).map_err(|known| no_source(known, source))?;
        return Ok(NodeSet::of(names));
    }
    let (source, name) = match group.split_once(':') {
        Some((source, name)) => (Some(source), name),
        None => (None, group),
    };
    let start = at.end - name.len();
    if name.is_empty() {
        return Err(wrong(at, "`@` without the name of a group", "write @GROUP"));
    }
    if name == "*" {
        let mut set = if source.is_none() { groups.all() } else { NodeSet::default() };
        if let Some(source) = source {
            for name in groups.names(Some(source)).map_err(|known| no_source(known, source))? {
                spent.add(name.len() as u64 + 100);
                if spent.is_too_much() {
                    break;
                }
                let nodes = groups.group(Some(source), &name).ok().flatten().unwrap_or_default();
                spent.nodes(&nodes);
                set.extend(&nodes);
            }
        }
        return Ok(set);
    }
    let mut set = NodeSet::default();
    for name in expand(name, start)? {
        if spent.is_too_much() {
            break;
        }
        let shown = source.map_or_else(|| format!("@{name}"), |source| format!("@{source}:{name}"));
        if name.contains(['*', '?']) {
            let names = groups.names(source).map_err(|known| no_source(known, source.unwrap_or_default()))?;
            spent.add(names.iter().map(|name| name.len() as u64 + 100).sum());
            let matching: Vec<&String> = names.iter().filter(|known| wild(&name, known)).collect();
            if matching.is_empty() {
                found.nothing.push((shown, at.clone()));
            }
            for one in matching {
                if spent.is_too_much() {
                    break;
                }
                let nodes = groups.group(source, one).ok().flatten().unwrap_or_default();
                spent.nodes(&nodes);
                set.extend(&nodes);
            }
            continue;
        }
        let nodes = groups.group(source, &name).map_err(|known| no_source(known, source.unwrap_or_default()))?;
        match nodes {
            Some(nodes) => {
                spent.nodes(&nodes);
                set.extend(&nodes);
            }
            None => found.nothing.push((shown, at.clone())),
        }
    }
    Ok(set)
}

/// Whether a name fits a pattern with `*` and `?`.
fn wild(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut from, mut star) = (0, 0, None);
    while from < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(letter) if *letter == '?' || *letter == name[from] => {
                at += 1;
                from += 1;
            }
            _ => match star {
                Some((star_at, star_from)) => {
                    star = Some((star_at, star_from + 1));
                    at = star_at + 1;
                    from = star_from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|letter| *letter == '*')
}

/// All names of a word with brackets; `start` is where it stands in the whole text.
pub(crate) fn expand(word: &str, start: usize) -> Result<Vec<String>, SetError> {
    let mut parts: Vec<Vec<String>> = Vec::new();
    let (mut count, mut length): (usize, usize) = (1, 0);
    let mut at = 0;
    while at < word.len() {
        let rest = &word[at..];
        let next = rest.find(['[', ']']).unwrap_or(rest.len());
        if next > 0 {
            parts.push(vec![rest[..next].to_owned()]);
            length += next;
            at += next;
            continue;
        }
        let place = start + at;
        if rest.starts_with(']') {
            return Err(wrong(place..place + 1, "`]` without `[`", "write for instance cn[001-040]"));
        }
        if at > 0 && word[..at].ends_with(']') {
            let message = "a bracket directly after another";
            return Err(wrong(place..place + 1, message, "which digits belong to which number? put a letter between"));
        }
        let Some(end) = rest.find(']') else {
            return Err(wrong(place..start + word.len(), "`[` without `]`", "write for instance cn[001-040]"));
        };
        let values = numbers(&rest[1..end], place + 1)?;
        count = count.saturating_mul(values.len());
        length += values.iter().map(String::len).max().unwrap_or_default();
        if count > MOST_NODES {
            return Err(too_many(start..start + word.len()));
        }
        parts.push(values);
        at += end + 1;
    }
    if are_too_long(count as u64, length) {
        return Err(too_many(start..start + word.len()));
    }
    let mut names = vec![String::new()];
    for part in parts {
        match part.as_slice() {
            [one] => names.iter_mut().for_each(|name| name.push_str(one)),
            many => names = names.iter().flat_map(|name| many.iter().map(move |one| format!("{name}{one}"))).collect(),
        }
    }
    Ok(names)
}

/// `1-3,5`, `001-009/2`.
fn numbers(text: &str, start: usize) -> Result<Vec<String>, SetError> {
    let mut found = Vec::new();
    let mut at = start;
    for part in text.split(',') {
        let place = at..at + part.len();
        at += part.len() + 1;
        let bad = |message: String, help: &str| Err(wrong(place.start..place.end.max(place.start + 1), message, help));
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<u64>().ok().filter(|step| *step > 0)),
            None => (part, Some(1)),
        };
        let Some(step) = step else {
            return bad(format!("`{part}` has no step after `/`"), "write for instance [1-9/2]");
        };
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let digits = |text: &str| !text.is_empty() && text.len() < 19 && text.bytes().all(|one| one.is_ascii_digit());
        if part.is_empty() {
            return bad("an empty place in brackets".to_owned(), "remove the comma");
        }
        if !digits(first) || !digits(last) {
            return bad(format!("`{part}` is not a range of numbers"), "write for instance [1-3,5] or [001-040]");
        }
        let padded = |text: &str| text.len() > 1 && text.starts_with('0');
        if (padded(first) || padded(last)) && first.len() != last.len() {
            let help = "write both numbers with as many digits, for instance [001-003]";
            return bad(format!("`{part}` has numbers of {} and {} digits", first.len(), last.len()), help);
        }
        let (low, high): (u64, u64) = (first.parse().unwrap_or(0), last.parse().unwrap_or(0));
        if low > high {
            return bad(format!("`{part}` counts backwards"), &format!("write {last}-{first}"));
        }
        if (high - low) / step + 1 + found.len() as u64 > MOST_NODES as u64 {
            return Err(too_many(place));
        }
        let width = if padded(first) { first.len() } else { 0 };
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        found.extend((low..=high).step_by(step).map(|number| format!("{number:0width$}")));
    }
    Ok(found)
}

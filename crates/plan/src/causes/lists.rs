//! Lists in which every item is an input with a number: a person reads which items came and went, not that all after them have
//! other numbers. And drivers, where one word of the recipe stands for the whole default list.

use std::collections::BTreeSet;

use super::cause::{Cause, Reason};
use super::words::placed;
use crate::{Action, History, InputName, Origin, Place, Removals};

/// Inputs by name and value.
type Trace = Vec<(String, String)>;

pub(crate) struct Taken {
    pub now: Trace,
    pub was: Trace,
    pub found: Vec<Cause>,
}

/// Takes lists with numbers, and the default list of drivers where that counts on one side only.
pub(crate) fn take(
    action: &Action,
    now: &[(String, String)],
    was: &[(String, String)],
    history: &dyn History,
    absences: &Removals,
) -> Taken {
    let mut taken = Taken { now: now.to_vec(), was: was.to_vec(), found: Vec::new() };
    default_drivers(action, &mut taken, history, absences);
    numbered(action, &mut taken, history);
    taken
}

fn is_default(input: &(String, String)) -> bool {
    input.0.starts_with("driver ") && input.1 == "default"
}

fn default_drivers(action: &Action, taken: &mut Taken, history: &dyn History, absences: &Removals) {
    let (had, has) = (taken.was.iter().any(is_default), taken.now.iter().any(is_default));
    // If the action had no drivers at all, or no longer has any, that is another change.
    let is_driver = |input: &(String, String)| input.0.starts_with("driver ");
    if had == has || !taken.was.iter().any(is_driver) || !taken.now.iter().any(is_driver) {
        return;
    }
    taken.was.retain(|input| !is_default(input));
    taken.now.retain(|input| !is_default(input));
    let field = "kernel.drivers";
    let words = |default: bool| if default { "the default list" } else { "a list of its own" };
    let reason = Reason::Changed { what: field.to_owned(), was: words(had).to_owned(), now: words(has).to_owned() };
    let place = absences.place_of(field);
    // A list that is gone stood where its first item did.
    let named = || taken.was.iter().find(|input| is_driver(input) && input.1 == "named");
    let was = named().and_then(|(name, _)| history.place(&action.id, name)).map(|(place, _)| place);
    let text = format!("{field}: {} instead of {}", words(has), words(had));
    taken.found.push(placed(reason, &text, place.as_ref(), was.as_ref()));
}

/// The list of `parameter argument 2`, with the item's number.
fn item_of(name: &str) -> Option<(&str, usize)> {
    InputName::of(name).numbered().filter(|(list, _)| matches!(*list, "argument" | "make"))
}

fn items<'a>(trace: &'a Trace, list: &str) -> Vec<(&'a str, &'a str)> {
    let of_list = |input: &&(String, String)| item_of(&input.0).is_some_and(|(known, _)| known == list);
    trace.iter().filter(of_list).map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn numbered(action: &Action, taken: &mut Taken, history: &dyn History) {
    let names = taken.now.iter().chain(&taken.was).filter_map(|(name, _)| item_of(name));
    let lists: BTreeSet<String> = names.map(|(list, _)| list.to_owned()).collect();
    for list in lists {
        let (new, old) = (items(&taken.now, &list), items(&taken.was, &list));
        // All that is new belongs to an action that is new.
        if old.is_empty() || new.is_empty() || old == new {
            continue;
        }
        let mut found = Vec::new();
        for change in changes(&old, &new) {
            let (value, is_added) = match change {
                Change::Came(at) => (new[at], true),
                Change::Went(at) => (old[at], false),
            };
            let input = action.inputs.iter().find(|input| is_added && input.name == value.0);
            let place = input.and_then(|input| input.place.clone());
            let remembered = history.place(&action.id, value.0);
            let origin =
                input.map(|input| input.origin.clone()).or(remembered.as_ref().map(|(_, origin)| origin.clone()));
            let field = match &origin {
                Some(Origin::Field(field)) => {
                    field.rsplit_once('[').map_or(field.as_str(), |(list, _)| list).to_owned()
                }
                _ => list.clone(),
            };
            let was = remembered.map(|(place, _)| place).filter(|_| !is_added);
            found.push(cause(&field, value.1, is_added, place, was));
        }
        let is_of = |input: &(String, String)| item_of(&input.0).is_some_and(|(known, _)| known == list);
        taken.now.retain(|input| !is_of(input));
        taken.was.retain(|input| !is_of(input));
        taken.found.extend(found);
    }
}

fn cause(field: &str, value: &str, is_added: bool, place: Option<Place>, was: Option<Place>) -> Cause {
    let sign = if is_added { "+=" } else { "-=" };
    let text = format!("{field} {sign} \"{value}\"");
    let what = format!("{field} {value}");
    let reason = if is_added {
        Reason::Added { what, now: value.to_owned() }
    } else {
        Reason::Removed { what, was: value.to_owned() }
    };
    placed(reason, &text, place.as_ref(), was.as_ref())
}

/// An item that came, or went, by its place in its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Came(usize),
    Went(usize),
}

/// The fewest items that came and went.
fn changes(old: &[(&str, &str)], new: &[(&str, &str)]) -> Vec<Change> {
    // The longest common part from each pair of places on.
    let mut common = vec![vec![0usize; new.len() + 1]; old.len() + 1];
    for at in (0..old.len()).rev() {
        for to in (0..new.len()).rev() {
            common[at][to] = if old[at].1 == new[to].1 {
                common[at + 1][to + 1] + 1
            } else {
                common[at + 1][to].max(common[at][to + 1])
            };
        }
    }
    let (mut at, mut to) = (0, 0);
    let mut all = Vec::new();
    while at < old.len() || to < new.len() {
        if at < old.len() && to < new.len() && old[at].1 == new[to].1 {
            (at, to) = (at + 1, to + 1);
        } else if to < new.len() && (at == old.len() || common[at][to + 1] >= common[at + 1][to]) {
            all.push(Change::Came(to));
            to += 1;
        } else {
            all.push(Change::Went(at));
            at += 1;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_in_front_is_one_change() {
        let list = |words: &'static [&'static str]| -> Vec<(&'static str, &'static str)> {
            words.iter().map(|word| ("", *word)).collect()
        };
        assert_eq!(changes(&list(&["one", "two"]), &list(&["zero", "one", "two"])), [Change::Came(0)]);
        assert_eq!(changes(&list(&["a", "b", "c"]), &list(&["a", "c"])), [Change::Went(1)]);
        assert_eq!(changes(&list(&["a"]), &list(&["b"])), [Change::Came(0), Change::Went(0)]);
        assert_eq!(changes(&list(&["a"]), &list(&["a"])), []);
    }
}

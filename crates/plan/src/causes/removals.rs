//! Causes from inheritance: `extends`, `[remove]`, overrides and dropped lists. Where an input comes or goes although
//! no one touched its own line, one of these was changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::cause::{Cause, Reason};
use super::words::{here, is_recipe, shown};
use crate::{InputName, Origin, Place};
use recipe::{Recipe, Spans, Withdrawn, plain};

/// What takes an input away: the words, their place and their field.
pub type Taken = (String, Option<Place>, Origin);

/// Places of what a recipe says, by the words for it: `removes kernel.drivers ice`, `inherits from base/image.toml`.
pub type Sayings = BTreeMap<String, (Place, Origin)>;

/// Finds what was said at the time of the earlier run.
pub(crate) type Said<'a> = dyn Fn(&str) -> Option<(Place, Origin)> + 'a;

const LISTS: [&str; 4] = ["packages.lists", "otherpkgs.lists", "sync.lists", "exclude.lists"];
/// How far a chain of recipes is followed.
const CHAIN: usize = 16;
/// Where what a recipe says is remembered beside the inputs of its actions.
pub const RECIPE: &str = "recipe";

#[derive(Debug, Clone, Default)]
pub struct Removals {
    /// Inputs by their names, for instance `driver be2net`, and the item that takes each away.
    pub taken: BTreeMap<String, Taken>,
    pub sayings: Sayings,
    pub lock: String,
    withdrawn: Vec<Withdrawn>,
    directory: PathBuf,
    own: String,
    recipes: BTreeSet<String>,
    named: BTreeSet<PathBuf>,
    spans: Spans,
    asked: BTreeSet<String>,
    /// The kernel that a list names, with its file; [kernel] may say another.
    kernel_in_list: Option<(String, String)>,
}

impl Removals {
    /// What a recipe says; `asked` are the packages that it asks for.
    pub fn of(recipe: &Recipe, taken: BTreeMap<String, Taken>, asked: BTreeSet<String>) -> Self {
        Self {
            taken,
            sayings: sayings(recipe),
            lock: recipe.lock_name(),
            withdrawn: recipe.withdrawn.clone(),
            directory: recipe.directory.clone(),
            own: recipe.files.last().map(|file| file.name.clone()).unwrap_or_default(),
            recipes: recipe.files.iter().map(|file| file.name.clone()).collect(),
            named: recipe.named.clone(),
            spans: recipe.spans.clone(),
            asked,
            kernel_in_list: recipe.kernel_in_list.as_ref().map(|(name, span)| (name.clone(), span.file.name.clone())),
        }
    }

    /// What took an input away that came from `origin` and stood at `was`: another hand than one that removed its line.
    pub fn cause(&self, name: &str, origin: &Origin, was: &Place, said: &Said<'_>) -> Option<Cause> {
        if let Some(one) = self.withdrawing(name, origin, was) {
            if let Some(cause) = said("own").and_then(|_| self.taken_up(&one.span.file.name, said)) {
                return Some(cause);
            }
            // The table, where one input stands for it; else the value, or which item of a list.
            let what = match origin {
                Origin::Field(field) if without_numbers(field) != one.field => without_numbers(field),
                _ => format!("{} \"{}\"", one.field, one.value),
            };
            let reason = Reason::Removed { what: one.field.clone(), was: one.value.clone() };
            let place = Place::from(&one.span);
            let verb = if one.is_overridden { "overrides" } else { "removes" };
            let cause = reason.cause(Some(&place));
            return Some(Cause { message: format!("{}{verb} {what}", here(&place)), ..cause });
        }
        // A place of which nothing is known, as in tests, says nothing either.
        if self.own.is_empty() || was.file == self.lock {
            return None;
        }
        self.dropped(&was.file, said)
    }

    /// That a file counts no more, and who named it or inherited from it.
    fn dropped(&self, file: &str, said: &Said<'_>) -> Option<Cause> {
        let mut file = file.to_owned();
        let mut found = None;
        for _ in 0..CHAIN {
            let path = plain(&self.directory.join(Path::new(&file)));
            if self.recipes.contains(&file) || self.named.contains(&path) {
                break;
            }
            let verb = if is_recipe(&file) { "inherits from" } else { "names" };
            let by = said(&format!("{verb} {file}")).map(|(place, _)| place);
            let reason = Reason::Removed { what: file.clone(), was: file.clone() };
            let Some(by) = by else {
                let passive = if is_recipe(&file) { "inherited" } else { "named" };
                let cause = reason.cause(None);
                return Some(found.unwrap_or(Cause { message: format!("{file} is no longer {passive}"), ..cause }));
            };
            let message = format!("{} no longer {verb} {file}", by.file);
            found = Some(gone(reason, message, &by));
            if by.file == file {
                break;
            }
            file = by.file;
        }
        found
    }

    /// Why an input came, or has another value, although no one touched the line where it stands: something that hid it is
    /// gone, or its recipe is inherited now. `cause` is what would be said otherwise.
    pub fn unhidden(&self, cause: &Cause, origin: &Origin, said: &Said<'_>) -> Option<Cause> {
        // What an earlier imgbuild remembered says nothing of this.
        said("own")?;
        let (what, more) = match &cause.reason {
            Reason::Added { what, .. } => (what.clone(), String::new()),
            Reason::Changed { what, was, now } => (what.clone(), format!(": {} -> {}", shown(was), shown(now))),
            _ => return None,
        };
        let file = cause.file.clone()?;
        let mut hidden = vec![(what.clone(), what.clone(), more)];
        match origin {
            Origin::Item(list) => {
                let item = what.strip_prefix(list.as_str()).unwrap_or_default().trim_start();
                hidden[0].1 = format!("{list} \"{item}\"");
            }
            Origin::Line => {
                hidden =
                    LISTS.map(|field| (format!("{field} {file}"), format!("{field} \"{file}\""), String::new())).into();
            }
            _ => {}
        }
        for (key, words, more) in &hidden {
            for verb in ["removes", "overrides"] {
                let key = format!("{verb} {key}");
                if self.sayings.contains_key(&key) {
                    continue;
                }
                if let Some((place, _)) = said(&key) {
                    let message = format!("{} no longer {verb} {words}{more}", place.file);
                    return Some(gone(cause.reason.clone(), message, &place));
                }
            }
        }
        self.taken_up(&file, said)
    }

    /// That a recipe is inherited since the earlier run, at the line that says so.
    fn taken_up(&self, file: &str, said: &Said<'_>) -> Option<Cause> {
        let mut found = None;
        let mut file = file.to_owned();
        for _ in 0..CHAIN {
            let key = format!("inherits from {file}");
            let Some((place, _)) = self.sayings.get(&key).filter(|_| said(&key).is_none()) else { break };
            let reason = Reason::Added { what: format!("extends {file}"), now: file.clone() };
            let message = format!("{}inherits from {file}", here(place));
            found = Some(Cause { message, ..reason.cause(Some(place)) });
            file.clone_from(&place.file);
        }
        found
    }

    /// Whether the recipe asks for a package that is gone: then someone took it out of image.lock.
    pub fn asks(&self, input: &str) -> bool {
        InputName::of(input).package().is_some_and(|(name, _)| self.asked.contains(name))
    }

    /// Whether the list that named a kernel still does: it is another field that decides on the kernel now.
    pub fn still_names_kernel(&self, input: &str, was: &Place) -> bool {
        let package = InputName::of(input).package().map(|(name, _)| name);
        self.kernel_in_list.as_ref().is_some_and(|(name, file)| package == Some(name) && *file == was.file)
    }

    pub fn stands(&self, field: &str) -> bool {
        self.spans.get(field).is_some()
    }

    pub fn place_of(&self, field: &str) -> Option<Place> {
        self.spans.get(field).map(Place::from)
    }

    pub fn has_file(&self, file: &str) -> bool {
        self.recipes.contains(file) || self.named.contains(&plain(&self.directory.join(Path::new(file))))
    }

    /// Where the recipe says that an inherited value of a field does not count, so that its default is back.
    pub fn place(&self, name: &str, origin: &Origin, was: &Place) -> Option<Place> {
        self.withdrawing(name, origin, was).map(|one| Place::from(&one.span))
    }

    /// What makes a value not count: the last that does, unless another stood where it did.
    fn withdrawing(&self, name: &str, origin: &Origin, was: &Place) -> Option<&Withdrawn> {
        let mut all = self.withdrawn.iter().rev().filter(|one| is_of(one, name, origin, was));
        let last = all.next()?;
        Some(std::iter::once(last).chain(all).find(|one| stood(one, was)).unwrap_or(last))
    }
}

/// A cause of what is gone from a file.
fn gone(reason: Reason, message: String, was: &Place) -> Cause {
    Cause { message, file: Some(was.file.clone()), was_line: Some(was.line), ..reason.cause(None) }
}

fn sayings(recipe: &Recipe) -> Sayings {
    let mut all = Sayings::new();
    let own = recipe.files.last().map(|file| file.name.clone()).unwrap_or_default();
    all.insert("own".to_owned(), (Place { file: own, line: 1 }, Origin::Unknown));
    for (file, span) in &recipe.inherits {
        let entry = (Place::from(span), Origin::Field("extends".to_owned()));
        all.entry(format!("inherits from {file}")).or_insert(entry);
    }
    let model = &recipe.model;
    let others = model.otherpkgs.as_ref().map_or(&[][..], |table| &table.lists);
    let lists = [&model.packages.lists[..], others, &model.sync.lists, &model.exclude.lists];
    for (field, lists) in LISTS.into_iter().zip(lists) {
        for (index, file) in lists.iter().enumerate() {
            if let Some(span) = recipe.spans.get(&format!("{field}[{index}]")) {
                let entry = (Place::from(span), Origin::Item(field.to_owned()));
                all.entry(format!("names {file}")).or_insert(entry);
            }
        }
    }
    let patterns = model.postinstall.iter().flat_map(|table| &table.inputs);
    for (index, pattern) in patterns.enumerate() {
        if let Some(span) = recipe.spans.get(&format!("postinstall.inputs[{index}]")) {
            let entry = (Place::from(span), Origin::Item("postinstall.inputs".to_owned()));
            all.insert(format!("pattern {pattern}"), entry);
        }
    }
    for (file, (by, line)) in &recipe.included {
        let entry = (Place { file: by.clone(), line: *line }, Origin::Line);
        all.entry(format!("names {file}")).or_insert(entry);
    }
    for one in &recipe.withdrawn {
        let verb = if one.is_overridden { "overrides" } else { "removes" };
        let item = if one.is_item { format!(" {}", one.value.trim_start_matches(['-', '+'])) } else { String::new() };
        all.insert(format!("{verb} {}{item}", one.field), (Place::from(&one.span), Origin::Field(one.field.clone())));
    }
    all
}

fn stood(one: &Withdrawn, was: &Place) -> bool {
    was.file == one.was.file.name && was.line == one.was.line()
}

/// Whether a value that does not count asked for an input.
fn is_of(one: &Withdrawn, name: &str, origin: &Origin, was: &Place) -> bool {
    let bare = InputName::of(name).bare_or_all();
    let is_field = |field: &str| one.field == field || one.field.starts_with(&format!("{field}."));
    match origin {
        // A field of one of several tables has a number, which may be another's by now.
        Origin::Field(field) if field.contains('[') => is_field(&without_numbers(field)) && stood(one, was),
        Origin::Field(field) => is_field(field),
        Origin::Item(list) => {
            let item = one.value.trim_start_matches(['-', '+']);
            let said = bare.split(':').next() == item.split('=').next();
            is_field(&without_numbers(list)) && (said || stood(one, was))
        }
        Origin::Glob { field, pattern } => {
            is_field(&without_numbers(field)) && (*pattern == one.value || stood(one, was))
        }
        Origin::Line => was.file == one.value,
        _ => false,
    }
}

/// `kernel.build[0].make` as `kernel.build.make`.
fn without_numbers(field: &str) -> String {
    let mut text = String::new();
    for part in field.split('[') {
        text.push_str(part.split_once(']').map_or(part, |(_, rest)| rest));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_tables_go() {
        assert_eq!(without_numbers("kernel.build[10].make[2]"), "kernel.build.make");
        assert_eq!(without_numbers("pack.level"), "pack.level");
    }
}

//! What a recipe says that takes inputs away, where nobody touched the line that asked for them: a `-name` of a list,
//! `[remove]`, a value that overrides an inherited one, and a file that is named no more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::cause::{Cause, LOCK, Reason};
use super::words::{here, is_recipe};
use super::{Origin, Place};
use crate::recipe::{Recipe, Spans, Withdrawn, plain};

/// What takes an input away: the words, their place and their field.
pub type Taken = (String, Option<Place>, Origin);

/// What a recipe takes away.
#[derive(Debug, Clone, Default)]
pub struct Absences {
    /// Inputs by their names, for instance `driver be2net`, and the item that takes each away.
    pub taken: BTreeMap<String, Taken>,
    /// Inherited values that do not count.
    withdrawn: Vec<Withdrawn>,
    /// Directory of the recipe, where names of files start.
    directory: PathBuf,
    /// Its own file.
    own: String,
    /// Recipes that it is made of, by their names.
    recipes: BTreeSet<String>,
    /// Every file that it names.
    named: BTreeSet<PathBuf>,
    /// Where each of its values stands.
    spans: Spans,
    /// Packages that it asks for by their names.
    asked: BTreeSet<String>,
}

impl Absences {
    /// What a recipe takes away, besides single inputs.
    pub fn of(recipe: &Recipe, taken: BTreeMap<String, Taken>, asked: BTreeSet<String>) -> Self {
        Self {
            taken,
            withdrawn: recipe.withdrawn.clone(),
            directory: recipe.directory.clone(),
            own: recipe.files.last().map(|file| file.name.clone()).unwrap_or_default(),
            recipes: recipe.files.iter().map(|file| file.name.clone()).collect(),
            named: recipe.named.clone(),
            spans: recipe.spans.clone(),
            asked,
        }
    }

    /// What took an input away that came from `origin` and stood at `was`: another hand than one that removed its line.
    pub fn cause(&self, name: &str, origin: &Origin, was: &Place) -> Option<Cause> {
        if let Some(one) = self.withdrawn.iter().find(|one| is_of(one, name, origin, was)) {
            // Of a table that one input stands for, the table; else the value, or which item of a list.
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
        if self.own.is_empty() || was.file == LOCK {
            return None;
        }
        let path = plain(&self.directory.join(Path::new(&was.file)));
        if self.recipes.contains(&was.file) || self.named.contains(&path) {
            return None;
        }
        let verb = if is_recipe(&was.file) { "inherits from" } else { "names" };
        let reason = Reason::Removed { what: was.file.clone(), was: was.file.clone() };
        let message = format!("{} {verb} {} no more", self.own, was.file);
        Some(Cause { message, file: Some(self.own.clone()), ..reason.cause(None) })
    }

    /// Whether the recipe asks for a package that is gone: then somebody took it out of image.lock.
    pub fn asks(&self, input: &str) -> bool {
        let package = input.strip_prefix("package ").and_then(|name| name.split(':').next());
        package.is_some_and(|name| self.asked.contains(name))
    }

    /// Whether the recipe still says a field.
    pub fn stands(&self, field: &str) -> bool {
        self.spans.get(field).is_some()
    }

    /// Where the recipe says that an inherited value of a field does not count, so that its default is back.
    pub fn place(&self, name: &str, origin: &Origin, was: &Place) -> Option<Place> {
        self.withdrawn.iter().find(|one| is_of(one, name, origin, was)).map(|one| Place::from(&one.span))
    }
}

/// Whether a value that does not count asked for an input.
fn is_of(one: &Withdrawn, name: &str, origin: &Origin, was: &Place) -> bool {
    let bare = name.split_once(' ').map_or(name, |(_, bare)| bare);
    let stood = || was.file == one.was.file.name && was.line == one.was.line();
    let is_field = |field: &str| one.field == field || one.field.starts_with(&format!("{field}."));
    match origin {
        // A field of one of several tables has a number, which may be another's by now.
        Origin::Field(field) if field.contains('[') => is_field(&without_numbers(field)) && stood(),
        Origin::Field(field) => is_field(field),
        Origin::Item(list) => {
            let item = one.value.trim_start_matches(['-', '+']);
            let said = bare.split(':').next() == item.split('=').next();
            is_field(&without_numbers(list)) && (said || stood())
        }
        Origin::Glob { field, pattern } => is_field(&without_numbers(field)) && (*pattern == one.value || stood()),
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

//! Two states of a recipe side by side: what of one would have to be built if the other had been.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::StageError;
use crate::actions::Forms;
use crate::lock::stale::{place_left_over, requests};
use crate::lock::state::{LockState, lock_state, requested};
use crate::lock::suppose::supposed;
use crate::plan::Comparison;
use crate::plan::stages_of;
use plan::{Cause, InputName, RECIPE, Reason, Removals, in_reading_order};
use recipe::{Lock, Recipe};

#[derive(Debug, Clone, Copy)]
pub struct State<'a> {
    pub recipe: &'a Recipe,
    /// Its lock, if it has one that can be read.
    pub lock: Option<&'a Lock>,
    /// Whether it has one that cannot be read, which was reported.
    pub is_lock_broken: bool,
}

/// Compares; gives notes on what the locks do not say.
/// Errors: [`StageError::Input`] for a file that vanished since a recipe was read.
pub fn compare(then: State<'_>, now: State<'_>, forms: Forms) -> Result<(Comparison, Vec<String>), StageError> {
    let fresh = |recipe: &Recipe, lock: Option<&Lock>| matches!(lock_state(recipe, lock), LockState::Fresh);
    let mut notes = Vec::new();
    let lock_name = now.recipe.lock_name();
    let asked = requested(then.recipe);
    let (old, new): (Lock, Lock) = match (then.lock, now.lock) {
        (Some(old), Some(new)) if fresh(then.recipe, Some(old)) && fresh(now.recipe, Some(new)) => {
            (old.clone(), new.clone())
        }
        (old, Some(new)) if fresh(now.recipe, Some(new)) && fresh(then.recipe, Some(new)) => {
            notes.push(match old {
                None if then.is_lock_broken => format!("both sides use the local {lock_name}"),
                None => format!("the revision has no {lock_name}: both sides use the local one"),
                Some(_) => {
                    format!("the revision's {lock_name} is out of date with its recipe: both sides use the local one")
                }
            });
            (new.clone(), new.clone())
        }
        (old, _) => {
            match lock_state(now.recipe, Some(&asked)) {
                // The same is asked for, but not all of it is locked.
                LockState::Fresh => {
                    let lock = old.filter(|lock| fresh(then.recipe, Some(lock))).cloned();
                    notes.push(match &lock {
                        Some(_) => format!(
                            "{lock_name} is missing here or out of date with the recipe: the revision's is used"
                        ),
                        None => {
                            format!("neither side has an up-to-date {lock_name}: package versions are not compared")
                        }
                    });
                    let lock = lock.unwrap_or(asked);
                    (lock.clone(), lock)
                }
                LockState::Stale(mut causes) | LockState::FilesChanged(mut causes) => {
                    let places = requests(then.recipe);
                    let said = Removals::of(then.recipe, BTreeMap::new(), BTreeSet::new()).sayings;
                    place_left_over(&mut causes, now.recipe, &|action, input| {
                        (if action == RECIPE { &said } else { &places }).get(input).cloned()
                    });
                    let lock = old.cloned().unwrap_or_else(|| asked.clone());
                    // An action may lack a transaction that the lock does not have: then nothing more can be said.
                    let graph = |recipe: &Recipe, lock: &Lock| stages_of(recipe, lock, forms).ok();
                    let causes = in_reading_order(causes);
                    if old.is_some_and(|lock| fresh(then.recipe, Some(lock)))
                        && let Some(supposed) = supposed(now.recipe, &lock)
                        && let Some(graphs) = graph(then.recipe, &lock).zip(graph(now.recipe, &supposed))
                    {
                        return Ok((Comparison::Supposed(causes, Box::new(graphs)), notes));
                    }
                    let graphs = graph(then.recipe, &lock).zip(graph(now.recipe, &lock)).map(Box::new);
                    return Ok((Comparison::Unresolved(causes, graphs), notes));
                }
            }
        }
    };
    let old = stages_of(then.recipe, &old, forms)?;
    let new = stages_of(now.recipe, &new, forms)?;
    Ok((Comparison::Graphs(Box::new(old), Box::new(new)), notes))
}

/// Largest file whose lines are compared, in bytes.
const TEXT_LIMIT: u64 = 1 << 20;

/// Says of files that changed which of their lines did, where both states have them as text.
pub fn name_lines(causes: &mut [Cause], then: &Path, now: &Path) {
    for cause in causes {
        name_line(cause, then, now);
    }
}

fn name_line(cause: &mut Cause, then: &Path, now: &Path) {
    let before = cause.message.clone();
    match &mut cause.reason {
        Reason::Upstream { leaf: Some(leaf), action } => {
            name_line(leaf, then, now);
            if leaf.line.is_some() && cause.line.is_none() {
                cause.line = leaf.line;
                cause.message = format!("{} (through {action})", leaf.message);
            }
        }
        Reason::Changed { what, .. } if InputName::of(what).file().is_some() && cause.line.is_none() => {
            let Some(file) = cause.file.clone() else { return };
            if !before.starts_with(&format!("{file} content changed")) {
                return;
            }
            if let Some((first, last)) = lines_that_differ(&then.join(&file), &now.join(&file)) {
                cause.line = Some(first);
                let lines = if first == last { first.to_string() } else { format!("{first}-{last}") };
                cause.message = format!("{file}:{lines}{}", &before[file.len()..]);
            }
        }
        _ => {}
    }
}

/// First and last line of the present text that the earlier one does not have; a cut shows the line behind it.
fn lines_that_differ(then: &Path, now: &Path) -> Option<(usize, usize)> {
    let read = |path: &Path| {
        let small = witness::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= TEXT_LIMIT);
        let text = if small { witness::read_to_string(path).ok() } else { None };
        text.filter(|text| !text.contains('\0'))
    };
    let (then, now) = (read(then)?, read(now)?);
    let (old, new): (Vec<&str>, Vec<&str>) = (then.split('\n').collect(), now.split('\n').collect());
    if old == new {
        return None;
    }
    let start = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let most = old.len().min(new.len()) - start;
    let end = old.iter().rev().zip(new.iter().rev()).take(most).take_while(|(old, new)| old == new).count();
    // Behind the last line nothing can be shown: of lines that went from the end, it is the last that is left.
    let count = now.lines().count();
    if count == 0 {
        return None;
    }
    let first = (start + 1).min(count);
    Some((first, (new.len() - end).clamp(first, count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_differ_are_those_of_the_present_text() {
        let here = tempfile::tempdir().unwrap();
        let said = |then: &str, now: &str| {
            let (old, new) = (here.path().join("old"), here.path().join("new"));
            std::fs::write(&old, then).unwrap();
            std::fs::write(&new, now).unwrap();
            lines_that_differ(&old, &new)
        };
        assert_eq!(said("a\nb\nc\n", "a\nX\nc\n"), Some((2, 2)));
        assert_eq!(said("a\nb\nc\n", "a\nX\nY\nc\n"), Some((2, 3)));
        assert_eq!(said("a\nb\nc\n", "a\nc\n"), Some((2, 2)));
        assert_eq!(said("a\n", "a\nb\n"), Some((2, 2)));
        assert_eq!(said("a\n", "a"), Some((1, 1)));
        assert_eq!(said("a\nb\n", "a\n"), Some((1, 1)));
        assert_eq!(said("a\n", ""), None);
        assert_eq!(said("a\n", "a\n"), None);
        assert_eq!(said("a\0", "b\0"), None);
    }
}

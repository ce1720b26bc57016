//! `imgbuild cache verify`: a directory is read as such, a server as its protocol permits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{contents, refuse, unread};
use crate::output::render;
use crate::setup::store_if_there;
use crate::{Arguments, Exit};
use base::digest::Digest;
use cache::{CacheError, Checked, Damage, Mended, Place, Rate, Wrong};
use files::sweep::Held;
use packages::Progress;

/// Nothing is shown while files come: what is wrong is named in the end.
struct Quiet;

impl Progress for Quiet {
    fn downloaded(&self, _: usize, _: usize, _: u64, _: u64) {}
}

pub(super) fn verify(arguments: &Arguments, cache: &str, repair: bool) -> Result<Exit, Exit> {
    let place = Place::of(cache, repair, Rate::default()).map_err(refuse)?;
    match place.directory() {
        Some(directory) => of_directory(directory, repair),
        None => of_server(arguments, &place, repair),
    }
}

fn say_wrong(name: &str, wrong: &Wrong) {
    let what = if wrong.is_unread { "cannot be read now: " } else { "" };
    render::say(&format!("error: {name}: {what}{}", wrong.problem));
}

fn say_signers(signers: &BTreeMap<String, usize>, unsigned: usize) {
    for (name, count) in signers {
        render::say(&format!("{count} actions are signed by {name}"));
    }
    if unsigned > 0 {
        render::say(&format!("{unsigned} actions are not signed"));
    }
}

fn of_directory(directory: &Path, repair: bool) -> Result<Exit, Exit> {
    let contents = contents(directory)?;
    let mut end = End::default();
    for wrong in contents.wrong(&|_| {}) {
        let path = directory.join(&wrong.name);
        say_wrong(&format!("`{}`", path.display()), &wrong);
        end.note(&wrong);
        if repair && !wrong.is_unread {
            contents.remove(&wrong).map_err(|error| unread(&path, &error))?;
            end.removed += 1;
        }
    }
    let (signers, unsigned) = contents.signers();
    say_signers(&signers, unsigned);
    Ok(end.said(repair))
}

/// How it ends.
#[derive(Default)]
struct End {
    damaged: usize,
    unread: usize,
    removed: usize,
    unlinked: usize,
    sent_again: usize,
}

impl End {
    fn note(&mut self, wrong: &Wrong) {
        match wrong.is_unread {
            true => self.unread += 1,
            false => self.damaged += 1,
        }
    }

    fn said(&self, repair: bool) -> Exit {
        let left = self.damaged - self.removed - self.sent_again;
        if self.unread > 0 {
            render::say(&format!("{} files could not be read, and may be as they were written", self.unread));
        }
        if self.removed > 0 {
            render::say(&format!("removed {} files", self.removed));
        }
        if self.unlinked > 0 {
            render::say(
                "note: a registry may keep the bytes of what was removed until its garbage collection runs, and take no others before: run it (`registry garbage-collect`) before builds write there again",
            );
        }
        if self.sent_again > 0 {
            let count = self.sent_again;
            render::say(&format!("{count} files stay until a build that may write there sends them again"));
        }
        match (left, repair) {
            (0, _) if self.damaged + self.unread == 0 => {
                render::say("all of it is as it was written");
                Exit::Done
            }
            (0, _) if self.unread > 0 => Exit::Machine,
            (0, _) => Exit::Done,
            (count, true) => {
                render::say(&format!("{count} damaged files stay where they are"));
                Exit::Store
            }
            (count, false) => {
                render::say(&format!("{count} files are damaged: --repair removes them, and builds write them again"));
                Exit::Store
            }
        }
    }
}

fn of_server(arguments: &Arguments, place: &Place, repair: bool) -> Result<Exit, Exit> {
    let lost = |problem: String| {
        render::say(&format!("error: the cache {}: {problem}", place.shown));
        Exit::Machine
    };
    let store = store_if_there(arguments);
    let keys = match (place.keys().map_err(lost)?, &store) {
        (Some(keys), _) => keys,
        (None, Some(store)) => {
            let keys: Vec<Digest> = store.records().map(|record| record.key).collect();
            let (shown, count) = (&place.shown, keys.len());
            render::say(&format!(
                "note: {shown} gives no list of what it has: the {count} actions of this store are looked for"
            ));
            keys
        }
        (None, None) => return Err(refuse(CacheError::Unlisted { address: place.shown.clone() })),
    };
    let aside = match &store {
        Some(store) => store.aside_directory().map_err(render::failed)?,
        None => std::env::temp_dir(),
    };
    let aside = Held::below(&aside, "imgbuild-verify-").map_err(|error| unread(&aside, &error))?;
    let checked = place.check(&keys, aside.path(), &Quiet).map_err(render::failed)?.map_err(lost)?;
    let mut end = End::default();
    for (_, wrong) in &checked.wrong {
        say_wrong(&wrong.name, wrong);
        end.note(wrong);
    }
    if repair {
        mend(place, &checked, &mut end);
    }
    say_signers(&checked.signers, checked.unsigned);
    render::say(&format!("{} actions were read, {}", checked.actions, render::bytes(checked.bytes)));
    Ok(end.said(repair))
}

/// Entries go before the files that they name: what one names is never missing.
fn mend(place: &Place, checked: &Checked, end: &mut End) {
    let is_entry = |damage: &Damage| matches!(damage, Damage::Entry(..));
    let damaged = checked.wrong.iter().filter(|(_, wrong)| !wrong.is_unread);
    let (entries, files): (Vec<_>, Vec<_>) = damaged.partition(|(damage, _)| is_entry(damage));
    let mut problems = BTreeSet::new();
    for (damage, wrong) in entries.into_iter().chain(files) {
        match place.mend(damage) {
            Ok(Mended::Removed) => end.removed += 1,
            Ok(Mended::Unlinked) => {
                end.removed += 1;
                end.unlinked += 1;
            }
            Ok(Mended::SentAgain) => end.sent_again += 1,
            // As a rule it is the same of all.
            Err(problem) if problems.insert(problem.clone()) => {
                render::say(&format!("error: {} stays: {problem}", wrong.name));
            }
            Err(_) => {}
        }
    }
}

//! Inputs of the `sync` action's key.

use crate::StageError;
use crate::actions::Described;
use crate::actions::reader::{Reader, globs};
use crate::bench::ids;
use crate::bench::keyed::{InputFile, Key, Keyed};
use plan::{ActionKind, Input};
use recipe::owners::{Home, Said, homes};
use recipe::{Clause, ModulesFrom, SyncedKind};

/// Files of the build host, and what is done with them.
#[derive(Debug)]
pub struct Sync {
    pub epoch: Keyed<i64>,
    pub modules_from: Keyed<ModulesFrom>,
    /// In order; none is the file of a directory.
    pub items: Vec<(Keyed<Synced>, Option<Keyed<InputFile>>)>,
    /// Homes of the recipe's users that files go to.
    pub homes: Vec<Keyed<Home>>,
}

/// What is done with one of them.
#[derive(Debug)]
pub struct Synced {
    pub clause: Clause,
    /// Absolute path in the image.
    pub destination: String,
    /// Name to use below the destination, if that turns out to be a folder in the image.
    pub name_in_folder: Option<String>,
    pub uid: u32,
    pub gid: u32,
    /// Permission bits of a folder; those of a file are its own.
    pub mode: Option<u32>,
    /// What the recipe says of it.
    pub said: Option<Said>,
}

/// Adds the action of the sync layer, if anything is synced.
/// Errors: [`StageError::Input`] for a file that vanished since the recipe was read.
pub(crate) fn add(reader: &mut Reader<'_>) -> Result<(), StageError> {
    if reader.recipe.sync.is_empty() {
        return Ok(());
    }
    let mut key = Key::default();
    let mut sync = Sync {
        epoch: key.epoch(reader.lock),
        modules_from: reader.modules_from(&mut key),
        items: Vec::new(),
        homes: Vec::new(),
    };
    for (name, home) in homes(&reader.recipe.model) {
        if !reader.recipe.sync.iter().any(|one| home.has(&one.destination)) {
            continue;
        }
        sync.homes.push(key.keep(home, |home| {
            let value = format!("{}:{} /{}", home.uid, home.gid, home.path);
            reader.setting(&format!("home of {name}"), value, &format!("users.{name}"))
        }));
    }
    for synced in &reader.recipe.sync {
        let by = |input: Input| globs::of_synclist(reader.asked(input, Some(&synced.span)), &synced.span);
        let item = Synced {
            clause: synced.clause,
            destination: synced.destination.clone(),
            name_in_folder: synced.name_in_folder.clone(),
            uid: synced.owned.uid,
            gid: synced.owned.gid,
            mode: (synced.kind == SyncedKind::Directory).then_some(synced.owned.mode),
            said: synced.said.clone(),
        };
        if let Some(said) = &item.said {
            let spoken = |place: &&String| reader.recipe.model.sync.owner.contains_key(*place);
            let place = synced.destinations().iter().find(spoken).cloned().unwrap_or_default();
            key.also(reader.setting(&format!("owner of {}", item.destination), said, &format!("sync.owner.{place}")));
        }
        let item = key.keep(item, |item| {
            let into = item.name_in_folder.as_deref().unwrap_or("-");
            let mut value = format!("{} {into} {}", item.clause.name(), synced.name);
            if (item.uid, item.gid) != (0, 0) && !fault::planted("sync-key-forgets-owner") {
                value.push_str(&format!(" {}:{}", item.uid, item.gid));
            }
            if let Some(mode) = item.mode {
                value.push_str(&format!(" {mode:04o}"));
            }
            by(Input::new(format!("synced {}", item.destination), value))
        });
        let file = match synced.kind {
            SyncedKind::File => Some(key.file(&synced.name, &synced.source, by)?),
            SyncedKind::Directory => None,
        };
        sync.items.push((item, file));
    }
    reader.layer("sync", ActionKind::Sync, super::VERSION, key.each_once(), Vec::new());
    reader.describe(ids::SYNC, Described::Sync(sync));
    Ok(())
}

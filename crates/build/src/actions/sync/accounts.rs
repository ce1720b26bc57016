//! The accounts of the image, as the sync layer leaves them: names that the recipe gives to files.

use std::collections::HashMap;

use super::inside::{SyncItem, destination_of, place_of};
use recipe::owners::account_number;
use store::LayerReader;
use xcat::{Clause, appended, merged};

pub(super) struct Accounts {
    users: HashMap<String, u32>,
    groups: HashMap<String, u32>,
}

const FILES: [&str; 2] = ["etc/passwd", "etc/group"];

impl Accounts {
    /// Those of an image with what items make of its files; none where no item names one.
    /// Errors: A file of the image or of the store cannot be read.
    pub(super) fn of(reader: &LayerReader, items: &[SyncItem]) -> Result<Self, String> {
        let mut found = FILES.map(|_| HashMap::new());
        if items.iter().any(|item| item.user.is_some() || item.group.is_some()) {
            for (file, numbers) in FILES.iter().zip(&mut found) {
                *numbers = numbers_of(&text(reader, items, file)?);
            }
        }
        let [users, groups] = found;
        Ok(Self { users, groups })
    }

    /// User and group of an item.
    /// Errors: A name that the image does not have.
    pub(super) fn of_item(&self, item: &SyncItem) -> Result<(u32, u32), String> {
        let number = |name: &Option<String>, all: &HashMap<String, u32>, otherwise: u32, file: &str| match name {
            None => Ok(otherwise),
            Some(name) => account_number(name).or_else(|| all.get(name).copied()).ok_or_else(|| {
                format!("`{}` cannot belong to `{name}`: /{file} of the image does not contain it", item.destination)
            }),
        };
        Ok((
            number(&item.user, &self.users, item.uid, FILES[0])?,
            number(&item.group, &self.groups, item.gid, FILES[1])?,
        ))
    }
}

/// A file of the image with what items make of it.
fn text(reader: &LayerReader, items: &[SyncItem], file: &str) -> Result<Vec<u8>, String> {
    let mut text = reader.read(file)?.unwrap_or_default();
    // Where it lands: a line may name the folder, and the folder may be a link.
    let is_it = |item: &&SyncItem| place_of(&reader.tree, &destination_of(&reader.tree, item)) == file;
    for item in items.iter().filter(is_it) {
        let Some(content) = &item.content else { continue };
        let bytes = std::fs::read(content).map_err(|error| format!("{content}: {error}"))?;
        text = match item.clause {
            Clause::Copy => bytes,
            Clause::Append => appended(&text, &bytes),
            Clause::Merge => merged(&text, &bytes),
        };
    }
    Ok(text)
}

/// The first line of a name counts, as for getpwnam(3).
fn numbers_of(text: &[u8]) -> HashMap<String, u32> {
    let mut found = HashMap::new();
    for line in String::from_utf8_lossy(text).lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [name, _, number, ..] = fields[..]
            && let Some(number) = account_number(number)
        {
            found.entry(name.to_owned()).or_insert(number);
        }
    }
    found
}

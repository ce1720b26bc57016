//! Attributes that a recipe does not give back, in the definition beside it: `export xcat` has them from there, and packimage reads them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::definitions::Places;
use crate::export::fields_of;
use crate::osimage::{Field, Mapped, Mapping, Record, STANZA_FILE, map};
use xcat::definitions::Definition;

use super::ImportError;
use super::copies::write_whole;
use super::write::{imported, stanza_text};

/// Takes attributes of a changed definition, and what an import makes of them, into the definition beside a recipe. An image that has
/// none yet gets the whole.
/// Errors: [`ImportError`].
pub fn keep_attributes(
    directory: &Path,
    after: &Definition,
    new: &Mapping,
    places: &Places,
    names: &BTreeSet<String>,
) -> Result<(), ImportError> {
    let path = directory.join(STANZA_FILE);
    let (mut definition, record) = match path.is_file() {
        true => imported(&path, &after.name)?,
        false => (after.clone(), Some(new.record())),
    };
    let mut record = record.unwrap_or_else(|| match map(&definition, places) {
        Mapped::Recipe(mapping) => mapping.record(),
        Mapped::Nothing(_) => Record::default(),
    });
    for name in names {
        definition.set(name, after.get(name).unwrap_or_default(), None);
        let fields = fields_of(name);
        let is_of = |field: &Field| {
            field.attribute == *name || fields.iter().any(|one| *one == field.path() || *one == field.table)
        };
        record.fields.retain(|field| !is_of(field));
        record.fields.extend(new.fields.iter().filter(|field| is_of(field)).cloned());
        record.remarks.retain(|one| one.attribute != *name);
        record.remarks.extend(new.remarks.iter().filter(|one| one.attribute == *name).cloned());
    }
    let unwritable = |error: std::io::Error| ImportError::Unwritable { path: PathBuf::from(&path), error };
    write_whole(&path, stanza_text(&definition, &record).as_bytes()).map_err(unwritable)
}

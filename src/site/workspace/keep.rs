//! Attributes that a recipe has no field for, in the definition beside it: `export xcat` gives them back, and packimage reads them.

use std::path::{Path, PathBuf};

use crate::recipe::recipe_file;
use crate::site::definitions::Places;
use crate::site::osimage::{Mapped, Record, STANZA_FILE, map};
use crate::xcat::definitions::Definition;

use super::ImportError;
use super::copies::write_whole;
use super::write::{imported, stanza_text};

/// Sets attributes in the definition beside a recipe; an empty value takes one away. `now` is what the recipe says: the definition
/// of an image that has none yet.
pub fn keep_attributes(
    directory: &Path,
    now: &Definition,
    places: &Places,
    attributes: &[(String, String)],
) -> Result<(), ImportError> {
    let path = directory.join(STANZA_FILE);
    let (mut definition, record) = match path.is_file() {
        true => imported(&path, &now.name)?,
        false => (now.clone(), None),
    };
    let record = record.unwrap_or_else(|| match map(&definition, places) {
        Mapped::Recipe(mapping) => mapping.record(),
        Mapped::Nothing(_) => Record::default(),
    });
    let before = now.get("rootimgdir").unwrap_or_default().to_owned();
    for (name, value) in attributes {
        definition.set(name, value, None);
    }
    write(&path, &stanza_text(&definition, &record))?;
    // The comment at the top of an imported recipe says where it is published.
    let recipe = recipe_file(directory);
    let Ok(text) = std::fs::read_to_string(&recipe) else { return Ok(()) };
    let said = |folder: &str| format!("--publish xcat:{folder}\n");
    let new = text.replace(&said(&before), &said(definition.get("rootimgdir").unwrap_or(&before)));
    if new == text { Ok(()) } else { write(&recipe, &new) }
}

fn write(path: &Path, text: &str) -> Result<(), ImportError> {
    let unwritable = |error: std::io::Error| ImportError::Unwritable { path: PathBuf::from(path), error };
    write_whole(path, text.as_bytes()).map_err(unwritable)
}

//! The attributes and texts of a description, each of which has a row.

use crate::input::xml::Element;
use std::sync::Arc;

use crate::plan::{Key, Leaf, part};

/// How keys of rows name what lies below the outermost element: `packages/package`, an attribute after a space.
pub(super) fn leaves(file: &str, image: &Element) -> Vec<Leaf> {
    let mut found = Vec::new();
    for child in &image.children {
        walk(file, child, "", &[], &mut found);
    }
    found
}

fn walk(file: &str, element: &Element, above: &str, parents: &[(usize, Arc<str>)], found: &mut Vec<Leaf>) {
    let file = element.file.as_deref().unwrap_or(file);
    let name = part(above, &element.name, "/");
    let mut own = vec![(element.line, name.clone())];
    // Rows name the last part and the one before it.
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() > 2 {
        own.push((element.line, parts[parts.len() - 2..].join("/").into()));
    }
    if let Some(kind) = element.get("type").filter(|_| element.name == "packages") {
        own.push((element.line, part("packages", kind, " type=")));
    }
    own.extend_from_slice(parents);
    for (attribute, value) in &element.attributes {
        // Rows of an element have its name as their value.
        if attribute == "name" {
            found.push(Leaf { key: Key::new(file, element.line, &*name, value), parents: own.clone() });
            continue;
        }
        let mut parents = vec![(element.line, part(&element.name, attribute, " "))];
        parents.extend_from_slice(&own);
        found.push(Leaf { key: Key::new(file, element.line, &*part(&name, attribute, " "), value), parents });
    }
    if !element.text.is_empty() {
        found.push(Leaf { key: Key::new(file, element.line, &*name, &element.text), parents: own.clone() });
    }
    for child in &element.children {
        walk(file, child, &name, &own, found);
    }
}

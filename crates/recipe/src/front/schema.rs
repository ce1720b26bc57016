//! The JSON Schemas of the formats that people and programs write, generated from the types.

use std::sync::LazyLock;

use crate::{Lock, Model};

pub fn schema_of<T: schemars::JsonSchema>(id: &str) -> String {
    text_of(schemars::SchemaGenerator::default().into_root_schema_for::<T>(), id)
}

pub(crate) fn text_of(mut schema: schemars::Schema, id: &str) -> String {
    schema.insert("$id".to_owned(), format!("https://imgbuild.invalid/schemas/{id}").into());
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// The schema of `image.lock`; the committed copy is `schemas/lock.schema.json`.
pub fn lock_schema_text() -> String {
    schema_of::<Lock>("lock.schema.json")
}

/// The model's schema as a value: what a recipe is when all that it inherits is in it.
pub fn recipe_schema() -> serde_json::Value {
    MODEL.clone()
}

pub(crate) static MODEL: LazyLock<serde_json::Value> = LazyLock::new(schema_value_of::<Model>);

pub(crate) fn schema_value_of<T: schemars::JsonSchema>() -> serde_json::Value {
    schemars::SchemaGenerator::default().into_root_schema_for::<T>().to_value()
}

/// Removes from a document what its schema does not know: a later minor version has fields more.
pub(crate) fn without_unknown(document: &mut serde_json::Value, schema: &serde_json::Value) {
    fn prune(value: &mut serde_json::Value, schema: &serde_json::Value, root: &serde_json::Value) {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
            return prune(value, &root["$defs"][name], root);
        }
        match value {
            serde_json::Value::Object(map) => {
                if let Some(known) = schema["properties"].as_object() {
                    map.retain(|key, _| known.contains_key(key));
                    for (key, inner) in map.iter_mut() {
                        prune(inner, &known[key], root);
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| prune(item, &schema["items"], root)),
            _ => {}
        }
    }
    prune(document, schema, schema);
}

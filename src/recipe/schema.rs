//! The JSON Schemas of the formats that people and programs write, generated from the types.

use super::{Lock, Model};

/// The schema of a type, as text.
pub fn schema_of<T: schemars::JsonSchema>(id: &str) -> String {
    let mut schema = schemars::SchemaGenerator::default().into_root_schema_for::<T>();
    schema.insert("$id".to_owned(), format!("https://imgbuild.invalid/schemas/{id}").into());
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// The schema of `image.toml`; the committed copy is `schemas/image.schema.json`.
pub fn schema_text() -> String {
    schema_of::<Model>("image.schema.json")
}

/// The schema of `image.lock`; the committed copy is `schemas/lock.schema.json`.
pub fn lock_schema_text() -> String {
    schema_of::<Lock>("lock.schema.json")
}

/// The recipe's schema as a value.
pub fn recipe_schema() -> serde_json::Value {
    schemars::SchemaGenerator::default().into_root_schema_for::<Model>().to_value()
}

//! The JSON Schemas of the formats that people and programs write, generated from the types.

use std::sync::LazyLock;

use super::{Lock, Model};

/// The schema of a type, as text.
pub fn schema_of<T: schemars::JsonSchema>(id: &str) -> String {
    text_of(schemars::SchemaGenerator::default().into_root_schema_for::<T>(), id)
}

fn text_of(mut schema: schemars::Schema, id: &str) -> String {
    schema.insert("$id".to_owned(), format!("https://imgbuild.invalid/schemas/{id}").into());
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// The schema of `image.toml`; the committed copy is `schemas/image.schema.json`.
pub fn schema_text() -> String {
    let schema = schemars::Schema::try_from(super::kin::file_schema()).unwrap_or_default();
    text_of(schema, "image.schema.json")
}

/// The schema of `image.lock`; the committed copy is `schemas/lock.schema.json`.
pub fn lock_schema_text() -> String {
    schema_of::<Lock>("lock.schema.json")
}

/// The model's schema as a value: what a recipe is when all that it inherits is in it.
pub fn recipe_schema() -> serde_json::Value {
    MODEL.clone()
}

/// The same, made once.
pub(super) static MODEL: LazyLock<serde_json::Value> =
    LazyLock::new(|| schemars::SchemaGenerator::default().into_root_schema_for::<Model>().to_value());

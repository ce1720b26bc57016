//! What the model's JSON Schema says that a key holds.

use serde_json::Value as Json;

use crate::front::check::resolved;

#[derive(Debug, Clone, Copy)]
pub(super) enum Shape<'a> {
    Scalar,
    List,
    /// One value or several.
    OneOrMore,
    Tables(&'a Json),
    Table(&'a Json),
    /// A table with the user's own keys, each of which holds this.
    Map(&'a Json),
    /// The model does not know the key.
    Unknown,
}

fn is(schema: &Json, kind: &str) -> bool {
    match &schema["type"] {
        Json::String(one) => one == kind,
        Json::Array(all) => all.iter().any(|one| one == kind),
        _ => false,
    }
}

fn is_any(schema: &Json) -> bool {
    schema.as_object().is_some_and(serde_json::Map::is_empty)
}

impl<'a> Shape<'a> {
    /// Whether it is a table that holds parts of a recipe, each of which may be `#true` instead: what is not inherited.
    pub(super) fn is_removal(self) -> bool {
        matches!(self, Self::Map(inner) if is_any(inner))
    }

    /// Whether it is a table of the user's names, each of which is a table.
    pub(super) fn is_of_tables(self, root: &'a Json) -> bool {
        matches!(self, Self::Map(inner) if matches!(Self::of(root, inner), Self::Table(_)))
    }

    pub(super) fn of(root: &'a Json, schema: &'a Json) -> Self {
        let schema = resolved(root, schema);
        if schema.as_object().is_none_or(|one| one.is_empty()) {
            Self::Unknown
        } else if is(schema, "array") && is(schema, "string") {
            Self::OneOrMore
        } else if is(schema, "array") {
            let items = resolved(root, &schema["items"]);
            if is(items, "object") { Self::Tables(items) } else { Self::List }
        } else if is(schema, "object") {
            if schema["properties"].is_object() {
                Self::Table(schema)
            } else {
                Self::Map(&schema["additionalProperties"])
            }
        } else {
            Self::Scalar
        }
    }

    /// The shape of a key of a table or map of this shape.
    pub(super) fn key(self, root: &'a Json, name: &str) -> Self {
        match self {
            Self::Table(schema) | Self::Tables(schema) => Self::of(root, &schema["properties"][name]),
            Self::Map(inner) if !is_any(inner) => Self::of(root, inner),
            // What a table that the model does not know holds may be parts of a recipe.
            Self::Unknown | Self::Map(_) => Self::of(root, &root["properties"][name]),
            Self::Scalar | Self::List | Self::OneOrMore => Self::Unknown,
        }
    }

    /// The key that an argument of a table stands for: the one that the schema names, or the first one that it must have.
    pub(super) fn leading(self) -> Option<&'a str> {
        match self {
            Self::Table(schema) | Self::Tables(schema) => {
                schema["x-kdl-argument"].as_str().or_else(|| schema["required"][0].as_str())
            }
            _ => None,
        }
    }
}

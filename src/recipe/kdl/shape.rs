//! What the model's JSON Schema says that a key holds.

use serde_json::Value as Json;

/// What a key holds.
#[derive(Debug, Clone, Copy)]
pub enum Shape<'a> {
    /// One value.
    Scalar,
    /// Values.
    List,
    /// Tables with these keys.
    Tables(&'a Json),
    /// A table with these keys.
    Table(&'a Json),
    /// A table with the user's own keys, each of which holds this.
    Map(&'a Json),
    /// The model does not know the key.
    Unknown,
}

/// Follows references, and the one alternative that is not null.
fn resolve<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
    let mut schema = schema;
    for _ in 0..16 {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
            schema = &root["$defs"][name];
        } else if let Some(one) =
            schema["anyOf"].as_array().and_then(|all| all.iter().find(|one| one["type"] != "null"))
        {
            schema = one;
        } else {
            break;
        }
    }
    schema
}

fn is(schema: &Json, kind: &str) -> bool {
    match &schema["type"] {
        Json::String(one) => one == kind,
        Json::Array(all) => all.iter().any(|one| one == kind),
        _ => false,
    }
}

impl<'a> Shape<'a> {
    /// The shape that a schema describes; `root` has its definitions.
    pub fn of(root: &'a Json, schema: &'a Json) -> Self {
        let schema = resolve(root, schema);
        if schema.is_null() {
            Self::Unknown
        } else if is(schema, "array") {
            let items = resolve(root, &schema["items"]);
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
    pub fn key(self, root: &'a Json, name: &str) -> Self {
        match self {
            Self::Table(schema) | Self::Tables(schema) => Self::of(root, &schema["properties"][name]),
            Self::Map(inner) => Self::of(root, inner),
            // What a table that the model does not know holds may be parts of a recipe.
            Self::Unknown => Self::of(root, &root["properties"][name]),
            Self::Scalar | Self::List => Self::Unknown,
        }
    }

    /// The key that an argument of a table stands for: the first one that it must have.
    pub fn leading(self) -> Option<&'a str> {
        match self {
            Self::Table(schema) | Self::Tables(schema) => schema["required"][0].as_str(),
            _ => None,
        }
    }
}

//! What a recipe's file can say besides the model: from whom it inherits, and which variants it has. All of it is gone
//! before the model is made.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde_json::{Value as Json, json};

use crate::front::check::resolved;
use crate::front::schema;
use crate::{Node, Value, check_against_schema};
use base::source::{Finding, nearest};

/// Keys of a recipe's file that are not the model's. Doc comments become the descriptions in the JSON Schema.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used: inherit.rs reads the keys one by one, with their places")]
struct FileFields {
    /// Recipes that this one inherits from, in order: a file, or a list of files. Lists append, what is later overrides.
    #[schemars(schema_with = "one_or_more")]
    extends: Option<Vec<String>>,
    /// What is not inherited, by the recipe's own paths: `true` for a whole key, or the items of a list.
    #[schemars(schema_with = "any_table")]
    remove: Option<Json>,
    /// Images that differ from this recipe in what they say here; each has its own lock and its own name.
    #[schemars(schema_with = "any_table")]
    variant: Option<Json>,
    /// Whether a recipe with variants is an image itself, too.
    plain: Option<bool>,
}

fn one_or_more(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": ["string", "array"], "items": {"type": "string"}})
}

fn any_table(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "additionalProperties": {}})
}

/// Keys of a file that a variant cannot have.
const OF_FILE_ONLY: [&str; 2] = ["variant", "plain"];

/// The schema of a recipe's file as a value: the model's, where nothing is required, because a parent or a child may say
/// it, and the keys of this module.
pub(crate) fn file_schema() -> Json {
    let mut schema = schema::recipe_schema();
    loosen(&mut schema);
    with_kin(schema)
}

/// Adds the keys of this module.
fn with_kin(mut schema: Json) -> Json {
    let file_fields = schemars::SchemaGenerator::default().into_root_schema_for::<FileFields>().to_value();
    let mut own = file_fields["properties"].clone();
    for (_, one) in own.as_object_mut().into_iter().flatten() {
        if let Some(one) = one.as_object_mut() {
            one.remove("default");
        }
    }
    let mut variant = schema["properties"].clone();
    if let (Some(variant), Some(own)) = (variant.as_object_mut(), own.as_object()) {
        variant.extend(
            own.iter()
                .filter(|(name, _)| !OF_FILE_ONLY.contains(&name.as_str()))
                .map(|(name, one)| (name.clone(), one.clone())),
        );
    }
    own["variant"]["additionalProperties"] = json!({"$ref": "#/$defs/Variant"});
    let described = json!({
        "description": "What one variant says: it overrides and appends as a recipe does that inherits.",
        "type": "object",
        "properties": variant,
        "additionalProperties": false,
    });
    if let Some(defs) = schema["$defs"].as_object_mut() {
        defs.insert("Variant".to_owned(), described);
    }
    if let (Some(all), Some(own)) = (schema["properties"].as_object_mut(), own.as_object()) {
        let model = std::mem::take(all);
        all.extend(own.clone());
        all.extend(model);
    }
    schema
}

/// Takes away what is required: a file may leave to others what a recipe must have.
fn loosen(schema: &mut Json) {
    match schema {
        Json::Object(map) => {
            if map.get("required").is_some_and(Json::is_array) {
                map.remove("required");
            }
            map.values_mut().for_each(loosen);
        }
        Json::Array(items) => items.iter_mut().for_each(loosen),
        _ => {}
    }
}

/// The schema of `image.toml`; the committed copy is `schemas/image.schema.json`.
pub fn schema_text() -> String {
    let schema = schemars::Schema::try_from(file_schema()).unwrap_or_default();
    schema::text_of(schema, "image.schema.json")
}

pub(crate) static FILE: LazyLock<Json> = LazyLock::new(file_schema);

/// The schema of a file that nothing completes.
pub(crate) static WHOLE: LazyLock<Json> = LazyLock::new(|| with_kin(schema::recipe_schema()));

/// What is wrong with one file, taken by itself; `is_own` says that no other recipe inherits from it here.
pub(crate) fn check_file(document: &Node, is_own: bool) -> Vec<Finding> {
    let mut findings = check_against_schema(document, &FILE);
    if !findings.is_empty() && is_own && document.get("extends").is_none() && document.get("variant").is_none() {
        // What is missing in it can be determined in the same go.
        return check_against_schema(document, &WHOLE);
    }
    if !findings.is_empty() {
        return findings;
    }
    if let Some(extends) = document.get("extends") {
        let items: Vec<&Node> = match &extends.value {
            Value::Array(items) => items.iter().collect(),
            _ => vec![extends],
        };
        for item in items.iter().filter(|item| item.text().is_none()) {
            let message = format!("`extends` names files, not a {}", item.value.kind());
            findings.push(Finding::error("recipe::wrong_type", &item.span, message));
        }
    }
    let variants = match document.get("variant").map(|node| &node.value) {
        Some(Value::Table(variants)) => variants.as_slice(),
        _ => &[],
    };
    for (name, key, _) in variants.iter().filter(|(name, _, _)| !is_name(name)) {
        findings.push(
            Finding::error("recipe::variant", key, format!("`{name}` is not a valid variant name"))
                .help("use letters, digits, `.`, `_` and `-`: it becomes part of the image's name"),
        );
    }
    let of_variants = variants.iter().filter_map(|(_, _, one)| one.get("remove"));
    for remove in document.get("remove").into_iter().chain(of_variants) {
        check_remove(remove, &FILE, "", &mut findings);
    }
    findings
}

/// Whether a text can be a variant's name: the pattern of an image's.
pub fn is_name(text: &str) -> bool {
    text.len() <= 100
        && text.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
}

/// A removal has the paths of a recipe, and at their ends `true`, or items of a list.
fn check_remove(node: &Node, schema: &'static Json, path: &str, findings: &mut Vec<Finding>) {
    let schema = resolved(&FILE, schema);
    let Value::Table(entries) = &node.value else { return };
    let known = schema["properties"].as_object();
    for (name, key, value) in entries {
        let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let found = known.and_then(|known| known.get(name));
        let found = found.or_else(|| Some(&schema["additionalProperties"]).filter(|more| more.is_object()));
        let Some(found) = found else {
            let near = nearest(name, known.into_iter().flat_map(|known| known.keys().map(String::as_str)));
            let place = if path.is_empty() { "a recipe".to_owned() } else { format!("‹[{path}]›") };
            let help = match near.first() {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    "‹[remove]› uses the paths of the recipe, for instance ‹packages.install = [\"vim\"]›".to_owned()
                }
            };
            findings.push(
                Finding::error("recipe::unknown_key", key, format!("`{name}` is not a key of {place}"))
                    .label("unknown key")
                    .help(help),
            );
            continue;
        };
        let kind = resolved(&FILE, found);
        let is = |wanted: &str| {
            kind["type"] == wanted || kind["type"].as_array().is_some_and(|kinds| kinds.iter().any(|one| one == wanted))
        };
        match &value.value {
            Value::Boolean(true) => {}
            Value::Table(_) if is("object") => check_remove(value, found, &inner, findings),
            Value::Array(_) if is("array") => {}
            _ => {
                let help = if is("array") {
                    format!("write {inner} = true for all of it, or {inner} = [..] with the items to remove")
                } else {
                    format!("write {inner} = true")
                };
                findings.push(
                    Finding::error("recipe::remove", &value.span, format!("`{inner}` cannot be removed this way"))
                        .label("neither `true` nor items of a list")
                        .help(help),
                );
            }
        }
    }
}

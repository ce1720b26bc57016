//! Checks a document against the model's JSON Schema: every problem with its place, in one go.

use serde_json::Value as Json;

use crate::{Node, Value};
use base::source::{Finding, nearest};

/// Compares a document with a schema; the model can be read from a document without findings.
pub fn check_against_schema(root: &Node, schema: &Json) -> Vec<Finding> {
    let mut findings = Vec::new();
    Checker { root: schema, findings: &mut findings }.check("", root, schema);
    findings
}

/// Follows references, and the one alternative that is not null.
pub(crate) fn resolved<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
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

struct Checker<'a> {
    root: &'a Json,
    findings: &'a mut Vec<Finding>,
}

/// The kinds of value that a schema accepts, as a person calls them.
fn wanted(schema: &Json) -> String {
    let name = |kind: &str| match kind {
        "object" => "a table",
        "array" => "a list",
        "string" => "a string",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "‹true› or ‹false›",
        _ => "something else",
    };
    match &schema["type"] {
        Json::String(kind) => name(kind).to_owned(),
        Json::Array(kinds) => kinds
            .iter()
            .filter_map(Json::as_str)
            .filter(|kind| *kind != "null")
            .map(name)
            .collect::<Vec<_>>()
            .join(" or "),
        _ => "something else".to_owned(),
    }
}

fn accepts(schema: &Json, value: &Value) -> bool {
    let kind = match value {
        Value::Table(_) => "object",
        Value::Array(_) => "array",
        Value::Text(_) => "string",
        Value::Integer(_) => "integer",
        Value::Float(_) => "number",
        Value::Boolean(_) => "boolean",
        Value::Date(_) => "date",
    };
    let fits = |wanted: &str| wanted == kind || (wanted == "number" && kind == "integer");
    match &schema["type"] {
        Json::String(wanted) => fits(wanted),
        Json::Array(kinds) => kinds.iter().filter_map(Json::as_str).any(fits),
        _ => true,
    }
}

/// The words that an enumeration allows, whatever form it has.
fn choices(schema: &Json) -> Vec<&str> {
    let listed = schema["enum"].as_array().into_iter().flatten().filter_map(Json::as_str);
    let described = schema["oneOf"].as_array().into_iter().flatten().flat_map(|choice| {
        choice["const"]
            .as_str()
            .into_iter()
            .chain(choice["enum"].as_array().into_iter().flatten().filter_map(Json::as_str))
    });
    listed.chain(described).collect()
}

impl<'a> Checker<'a> {
    fn check(&mut self, path: &str, node: &Node, schema: &'a Json) {
        let schema = resolved(self.root, schema);
        if schema.as_object().is_some_and(serde_json::Map::is_empty) {
            // Anything; anyone who wrote the schema looks at it.
            return;
        }
        let allowed = choices(schema);
        if !allowed.is_empty() {
            self.check_choice(path, node, &allowed);
            return;
        }
        if !accepts(schema, &node.value) {
            let finding = Finding::error(
                "recipe::wrong_type",
                &node.span,
                format!("`{path}` must be {}, not a {}", wanted(schema), node.value.kind()),
            )
            .label(format!("expected {}", wanted(schema)));
            let finding = match (&node.value, wanted(schema).as_str()) {
                (Value::Text(text), "a list") => finding.help(format!("write [\"{text}\"]")),
                (Value::Integer(number), "a string") => finding.help(format!("write \"{number}\"")),
                _ => finding,
            };
            self.findings.push(finding);
            return;
        }
        match &node.value {
            Value::Table(entries) => self.check_table(path, node, entries, schema),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.check(&format!("{path}[{index}]"), item, &schema["items"]);
                }
            }
            Value::Text(text) => self.check_text(path, node, text, schema),
            Value::Integer(number) => {
                let (least, most) = (schema["minimum"].as_i64(), schema["maximum"].as_i64());
                if least.is_some_and(|least| *number < least) || most.is_some_and(|most| *number > most) {
                    let range = format!("{} to {}", least.unwrap_or(i64::MIN), most.unwrap_or(i64::MAX));
                    self.findings.push(
                        Finding::error("recipe::range", &node.span, format!("`{path}` must be in {range}"))
                            .label("out of range"),
                    );
                }
            }
            _ => {}
        }
    }

    fn check_choice(&mut self, path: &str, node: &Node, allowed: &[&str]) {
        let said = match &node.value {
            Value::Text(text) if allowed.contains(&text.as_str()) => return,
            Value::Text(text) => text.clone(),
            other => format!("a {}", other.kind()),
        };
        let said = said.as_str();
        let near = nearest(said, allowed.iter().copied());
        let list = allowed.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let help = match near.first() {
            Some(word) => format!("did you mean \"{word}\"? It can be {list}"),
            None => format!("it can be {list}"),
        };
        self.findings.push(
            Finding::error("recipe::unknown_value", &node.span, format!("`{path}` cannot be `{said}`"))
                .label("unknown value")
                .help(help),
        );
    }

    fn check_text(&mut self, path: &str, node: &Node, text: &str, schema: &Json) {
        let Some(pattern) = schema["pattern"].as_str() else { return };
        if !matches_pattern(pattern, text) {
            self.findings.push(
                Finding::error("recipe::bad_text", &node.span, format!("`{path}` cannot be `{text}`"))
                    .label("not in the expected form")
                    .help(format!("it must match the pattern {pattern}")),
            );
        }
    }

    fn check_table(
        &mut self,
        path: &str,
        node: &Node,
        entries: &[(String, base::source::Span, Node)],
        schema: &'a Json,
    ) {
        let known = schema["properties"].as_object();
        for (name, span, value) in entries {
            let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if let Some(schema) = known.and_then(|known| known.get(name)) {
                self.check(&inner, value, schema);
            } else if schema["additionalProperties"].is_object() {
                self.check(&inner, value, &schema["additionalProperties"]);
            } else {
                let names: Vec<&str> = known.into_iter().flat_map(|known| known.keys().map(String::as_str)).collect();
                let place = match path {
                    "" if self.root["title"] == "imgbuild workspace" => "a workspace".to_owned(),
                    "" => "a recipe".to_owned(),
                    path => format!("‹[{path}]›"),
                };
                let near = nearest(name, names.iter().copied());
                let help = match near.first() {
                    _ if path.starts_with("users.") && name == "groups" => {
                        "groups have no members here: add them in the postinstall script, usermod -R \"$1\" -aG GROUP USER"
                            .to_owned()
                    }
                    _ if path.starts_with("users.") && name == "authorized_keys" => {
                        "root's are ‹[system]› authorized_keys; for others sync a file, in a list of ‹[sync]›: keys/x.pub -> /home/x/.ssh/authorized_keys"
                            .to_owned()
                    }
                    Some(word) => format!("did you mean `{word}`?"),
                    None => format!("{place} knows {}", names.join(", ")),
                };
                self.findings.push(
                    Finding::error("recipe::unknown_key", span, format!("`{name}` is not a key of {place}"))
                        .label("unknown key")
                        .help(help),
                );
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            if !entries.iter().any(|(known, _, _)| known == name) {
                let (inner, shown) = match path {
                    "" => (format!("‹[{name}]›"), format!("‹[{name}]›")),
                    path => (format!("{path}.{name}"), format!("`{path}.{name}`")),
                };
                self.findings.push(
                    Finding::error("recipe::missing_key", &node.span, format!("{shown} is missing")).help(format!(
                        "add it; `imgbuild init` writes a recipe that has all of them (missing: {inner})"
                    )),
                );
            }
        }
    }
}

/// Matches the few patterns that the model uses: anchored sequences of classes and `+`, `*`, `?`.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let Some(body) = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$')) else { return true };
    let mut elements = Vec::new();
    let mut chars = body.chars().peekable();
    while let Some(first) = chars.next() {
        let mut set = String::new();
        match first {
            '[' => {
                for inner in chars.by_ref() {
                    if inner == ']' {
                        break;
                    }
                    set.push(inner);
                }
            }
            plain => set.push(plain),
        }
        let class = format!("[{set}]");
        let repeat = chars.next_if(|next| matches!(next, '+' | '*' | '?'));
        elements.push((class, repeat));
    }
    fn go(elements: &[(String, Option<char>)], text: &[char]) -> bool {
        let Some(((class, repeat), rest)) = elements.split_first() else { return text.is_empty() };
        let one = |c: char| xcat::matches(class, &c.to_string());
        let longest = text.iter().take_while(|c| one(**c)).count();
        let (least, most) = match repeat {
            None => (1, 1),
            Some('+') => (1, longest),
            Some('*') => (0, longest),
            _ => (0, 1),
        };
        (least..=most.min(longest)).rev().any(|taken| go(rest, &text[taken..]))
    }
    let text: Vec<char> = text.chars().collect();
    text.len() <= 4096 && go(&elements, &text)
}

#[cfg(test)]
mod tests {
    use super::matches_pattern;

    #[test]
    fn patterns_of_the_model_are_understood() {
        let name = r"^[A-Za-z0-9][A-Za-z0-9._-]*$";
        assert!(matches_pattern(name, "compute-1.x"));
        assert!(!matches_pattern(name, "../x"));
        assert!(!matches_pattern(name, ""));
        let size = r"^[0-9]+[kmgKMG%]?$";
        assert!(matches_pattern(size, "50m") && matches_pattern(size, "80%") && !matches_pattern(size, "m5"));
    }
}

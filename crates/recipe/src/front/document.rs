//! Values with spans: what a front end makes of a recipe's text.

use std::collections::BTreeMap;

use base::source::Span;

#[derive(Debug, Clone)]
pub struct Node {
    pub value: Value,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub enum Value {
    Table(Vec<(String, Span, Node)>),
    Array(Vec<Node>),
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// A date, which no recipe has.
    Date(String),
}

impl Value {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Table(_) => "table",
            Self::Array(_) => "list",
            Self::Text(_) => "string",
            Self::Integer(_) => "whole number",
            Self::Float(_) => "number",
            Self::Boolean(_) => "‹true› or ‹false›",
            Self::Date(_) => "date",
        }
    }
}

/// Spans by path, for instance `packages.lists[0]`.
#[derive(Debug, Clone, Default)]
pub struct Spans(BTreeMap<String, Span>);

impl Spans {
    pub fn of(root: &Node) -> Self {
        let mut spans = Self::default();
        spans.collect(String::new(), root);
        spans
    }

    fn collect(&mut self, path: String, node: &Node) {
        match &node.value {
            Value::Table(entries) => {
                for (name, key, value) in entries {
                    let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    self.0.insert(format!("{inner}#key"), key.clone());
                    self.collect(inner, value);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.collect(format!("{path}[{index}]"), item);
                }
            }
            _ => {}
        }
        self.0.insert(path, node.span.clone());
    }

    /// Where the value at a path stands; none where the recipe does not say it.
    pub fn get(&self, path: &str) -> Option<&Span> {
        self.0.get(path)
    }

    /// The path of the value that stands at a span; none for a span of another file, such as a list.
    pub fn path_of(&self, span: &Span) -> Option<&str> {
        let here = self.0.iter().filter(|(path, known)| *known == span && !path.ends_with("#key"));
        // A table in brackets and the first of its items may start at one place: the longer path says more.
        here.map(|(path, _)| path.as_str()).max_by_key(|path| path.len())
    }

    /// Where the value, or else the nearest thing around it, stands.
    pub fn nearest(&self, path: &str) -> Option<&Span> {
        let mut path = path;
        loop {
            if let Some(span) = self.0.get(path) {
                return Some(span);
            }
            path = match path.rfind(['.', '[']) {
                Some(at) => &path[..at],
                None if path.is_empty() => return None,
                None => "",
            };
        }
    }
}

impl Node {
    /// How many values it has, itself with them.
    pub fn values(&self) -> usize {
        1 + match &self.value {
            Value::Table(entries) => entries.iter().map(|(_, _, value)| value.values()).sum(),
            Value::Array(items) => items.iter().map(Self::values).sum(),
            _ => 0,
        }
    }

    /// The same without spans.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Table(entries) => serde_json::Value::Object(
                entries.iter().map(|(name, _, value)| (name.clone(), value.to_json())).collect(),
            ),
            Value::Array(items) => serde_json::Value::Array(items.iter().map(Self::to_json).collect()),
            Value::Text(text) | Value::Date(text) => text.clone().into(),
            Value::Integer(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Boolean(truth) => (*truth).into(),
        }
    }
}

//! TOML as a front end.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Node, Value};
use crate::source::{Finding, SourceFile, Span};

/// Reads a TOML text; all of its syntax errors at once.
pub fn read(file: &Arc<SourceFile>) -> (Node, Vec<Finding>) {
    let (table, errors) = DeTable::parse_recoverable(&file.text);
    let findings = errors
        .iter()
        .map(|error| {
            let span = Span::new(file, error.span().unwrap_or(0..0));
            Finding::error("recipe::syntax", &span, format!("the recipe is no TOML: {}", error.message().trim()))
                .help("see https://toml.io for the syntax")
        })
        .collect();
    let span = Span::new(file, 0..0);
    (Node { value: convert_table(file, table.get_ref()), span }, findings)
}

fn convert_table(file: &Arc<SourceFile>, table: &DeTable<'_>) -> Value {
    let mut entries: Vec<(String, Span, Node)> = table
        .iter()
        .map(|(key, value)| (key.get_ref().to_string(), Span::new(file, key.span()), convert(file, value)))
        .collect();
    entries.sort_by_key(|(_, span, _)| span.start);
    Value::Table(entries)
}

fn convert(file: &Arc<SourceFile>, node: &Spanned<DeValue<'_>>) -> Node {
    let value = match node.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Float(f64::INFINITY),
        },
        DeValue::Float(number) => Value::Float(number.as_str().replace('_', "").parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(truth) => Value::Boolean(*truth),
        DeValue::Datetime(date) => Value::Date(date.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(|item| convert(file, item)).collect()),
        DeValue::Table(table) => convert_table(file, table),
    };
    Node { value, span: Span::new(file, node.span()) }
}

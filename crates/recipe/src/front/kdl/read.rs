//! From KDL's nodes to the document that all front ends make.

use std::sync::Arc;

use kdl::{KdlDocument, KdlEntry, KdlIdentifier, KdlNode, KdlValue};
use serde_json::Value as Json;

use super::shape::Shape;
use super::within;
use crate::{Node, Value};
use base::source::{Finding, SourceFile, Span};

type Entries = Vec<(String, Span, Node)>;

/// Reads a document; what breaks the rules of docs/kdl.md is reported, the rest is left to the check against the schema.
pub(super) fn read(file: &Arc<SourceFile>, document: &KdlDocument, schema: &Json) -> (Node, Vec<Finding>) {
    let mut reader = Reader { file, root: schema, removing: 0, findings: Vec::new() };
    let mut entries = Entries::new();
    reader.nodes(document.nodes(), Shape::of(schema, schema), &mut entries);
    (Node { value: Value::Table(entries), span: Span::new(file, 0..0) }, reader.findings)
}

struct Reader<'a> {
    file: &'a Arc<SourceFile>,
    root: &'a Json,
    /// How many tables of what is not inherited are around.
    removing: usize,
    findings: Vec<Finding>,
}

fn split(node: &KdlNode) -> (Vec<&KdlEntry>, Vec<&KdlEntry>) {
    node.entries().iter().partition(|entry| entry.name().is_none())
}

/// The argument of a node that is `#true` and nothing else.
fn only_true(node: &KdlNode) -> Option<&KdlEntry> {
    match (node.entries(), node.children()) {
        ([one], None) if one.name().is_none() && one.value() == &KdlValue::Bool(true) => Some(one),
        _ => None,
    }
}

impl<'a> Reader<'a> {
    fn span(&self, span: miette::SourceSpan) -> Span {
        let range = within(&self.file.text, span.offset()..span.offset() + span.len());
        // The parser counts the white space around an entry.
        let text = self.file.text.get(range.clone()).unwrap_or_default();
        let start = range.start + (text.len() - text.trim_start().len());
        Span::new(self.file, start..start + text.trim().len())
    }

    fn error(&mut self, code: &'static str, span: &Span, message: String, label: &str, help: String) {
        self.findings.push(Finding::error(code, span, message).label(label).help(help));
    }

    /// Where the value of an entry stands, without its name.
    fn value_span(&self, entry: &KdlEntry) -> Span {
        let whole = self.span(entry.span());
        let Some(name) = entry.name() else { return whole };
        let name = self.span(name.span());
        let rest = self.file.text.get(name.end..whole.end).unwrap_or_default();
        let value = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '=');
        Span::new(self.file, whole.end - value.len()..whole.end)
    }

    fn refuse_annotation(&mut self, annotation: Option<&KdlIdentifier>) {
        if let Some(annotation) = annotation {
            let span = self.span(annotation.span());
            let message = format!("the type annotation `({})` has no effect in a recipe", annotation.value());
            self.error("kdl::annotation", &span, message, "type annotation", "remove it".to_owned());
        }
    }

    fn value(&mut self, entry: &KdlEntry) -> Option<Node> {
        self.refuse_annotation(entry.ty());
        let span = self.value_span(entry);
        let value = match entry.value() {
            KdlValue::String(text) => Value::Text(text.clone()),
            KdlValue::Integer(number) => match i64::try_from(*number) {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Float(f64::INFINITY),
            },
            KdlValue::Float(number) => Value::Float(*number),
            KdlValue::Bool(truth) => Value::Boolean(*truth),
            KdlValue::Null => {
                let help = "leave the key out: each has a default that docs/recipe.md names".to_owned();
                self.error("kdl::null", &span, "#null is not a value in a recipe".to_owned(), "no value", help);
                return None;
            }
        };
        Some(Node { value, span })
    }

    /// Puts a key into a table; one that already exists is a mistake.
    fn put(&mut self, entries: &mut Entries, name: &str, key: Span, node: Node) {
        match entries.iter().find(|(known, _, _)| known == name) {
            None => entries.push((name.to_owned(), key, node)),
            Some((_, first, _)) => {
                let help = format!("keep one of them; the first is on line {}", first.line());
                self.error("kdl::twice", &key, format!("`{name}` is written twice"), "again here", help);
            }
        }
    }

    fn nodes(&mut self, nodes: &[KdlNode], shape: Shape<'a>, entries: &mut Entries) {
        for node in nodes {
            self.refuse_annotation(node.ty());
            let name = node.name().value();
            let key = self.span(node.name().span());
            let whole = self.span(node.span());
            let wanted = shape.key(self.root, name);
            // What may be repeated is added to what is there.
            let earlier = entries.iter().position(|(known, _, _)| known == name);
            if self.removing > 0
                && let Some(whole) = only_true(node)
            {
                if let Some(value) = self.value(whole) {
                    self.put(entries, name, key, value);
                }
                continue;
            }
            match wanted {
                Shape::OneOrMore => {
                    let mut items = self.items(node, name);
                    if items.len() == 1 && earlier.is_none() {
                        self.put(entries, name, key, items.remove(0));
                    } else {
                        self.append(entries, earlier, name, key, whole, items);
                    }
                }
                // `variant "gpu" { }`: the argument is the name, and there may be more such nodes.
                Shape::Map(inner) if wanted.is_of_tables(self.root) && !split(node).0.is_empty() => {
                    self.named(node, Shape::of(self.root, inner), entries, earlier);
                }
                Shape::List => {
                    let items = self.items(node, name);
                    self.append(entries, earlier, name, key, whole, items);
                }
                Shape::Tables(_) => {
                    // A name with nothing behind it is a list of none; `{}` would be a table without keys.
                    let is_bare = node.entries().is_empty() && node.children().is_none();
                    let items = if is_bare { Vec::new() } else { vec![self.table(node, wanted, name)] };
                    self.append(entries, earlier, name, key, whole, items);
                }
                Shape::Table(_) | Shape::Map(_) => {
                    let table = self.table(node, wanted, name);
                    self.put(entries, name, key, table);
                }
                Shape::Scalar => {
                    if let Some(value) = self.scalar(node, name) {
                        self.put(entries, name, key, value);
                    }
                }
                Shape::Unknown => {
                    let value = self.unknown(node, name);
                    match earlier {
                        Some(_) => self.append(entries, earlier, name, key, whole, vec![value]),
                        None => self.put(entries, name, key, value),
                    }
                }
            }
        }
    }

    /// Adds a table to those of a map; its name is the node's argument.
    fn named(&mut self, node: &KdlNode, shape: Shape<'a>, entries: &mut Entries, earlier: Option<usize>) {
        let (arguments, _) = split(node);
        let name = node.name().value();
        let (key, whole) = (self.span(node.name().span()), self.span(node.span()));
        let Some(Node { value: Value::Text(own), span }) = self.value(arguments[0]) else {
            let help = format!("write {name} \"NAME\" {{ .. }}");
            let message = format!("`{name}` holds named tables, and this one has no name");
            return self.error("kdl::argument", &key, message, "no name after it", help);
        };
        if let Some(second) = arguments.get(1) {
            let at = self.span(second.span());
            let message = format!("`{name} {}` is one table, and has one name", span.text());
            self.error("kdl::argument", &at, message, "one too many", "name the key: KEY=VALUE".to_owned());
        }
        let table = self.body(node, Vec::new(), shape, name);
        let mut there = match earlier.map(|at| entries.remove(at)) {
            Some((_, key, Node { value: Value::Table(inner), span })) => (key, span, inner),
            _ => (key, whole, Vec::new()),
        };
        self.put(&mut there.2, &own, span, table);
        let at = earlier.unwrap_or(entries.len());
        entries.insert(at, (name.to_owned(), there.0, Node { value: Value::Table(there.2), span: there.1 }));
    }

    /// Adds items to the list of a name, which begins with them if it is new.
    fn append(
        &mut self,
        entries: &mut Entries,
        earlier: Option<usize>,
        name: &str,
        key: Span,
        span: Span,
        mut items: Vec<Node>,
    ) {
        let Some((_, _, there)) = earlier.and_then(|at| entries.get_mut(at)) else {
            entries.push((name.to_owned(), key, Node { value: Value::Array(items), span }));
            return;
        };
        match &mut there.value {
            Value::Array(list) => list.append(&mut items),
            // A key that the model does not know, for the second time.
            other => {
                let first = std::mem::replace(other, Value::Boolean(true));
                let first = Node { value: first, span: there.span.clone() };
                *other = Value::Array(std::iter::once(first).chain(items).collect());
            }
        }
    }

    /// Items of a list: arguments, or a block of nodes `-` with one argument each.
    fn items(&mut self, node: &KdlNode, name: &str) -> Vec<Node> {
        let (arguments, properties) = split(node);
        for property in properties {
            let span = self.span(property.span());
            let help = format!("write {name} \"ITEM\" \"ITEM\"");
            self.error("kdl::list", &span, format!("`{name}` is a list and has no keys"), "no item", help);
        }
        let mut items: Vec<Node> = arguments.iter().filter_map(|entry| self.value(entry)).collect();
        let Some(block) = node.children() else { return items };
        if !items.is_empty() && !block.nodes().is_empty() {
            let span = self.span(node.name().span());
            let help = "write all items after the name, or all in the block, each as - \"ITEM\"".to_owned();
            let message = format!("`{name}` has items after its name and in a block");
            self.error("kdl::mixed", &span, message, "both", help);
            return items;
        }
        for item in block.nodes() {
            self.refuse_annotation(item.ty());
            let (arguments, properties) = split(item);
            if item.name().value() == "-" && arguments.len() == 1 && properties.is_empty() && item.children().is_none()
            {
                items.extend(self.value(arguments[0]));
            } else {
                let span = self.span(item.name().span());
                let written = item.name().value();
                let help = format!("write - \"{}\"", if written == "-" { "ITEM" } else { written });
                let message = format!("the block of `{name}` contains items, each as - \"ITEM\"");
                self.error("kdl::list", &span, message, "no item", help);
            }
        }
        items
    }

    fn scalar(&mut self, node: &KdlNode, name: &str) -> Option<Node> {
        let (arguments, properties) = split(node);
        let key = self.span(node.name().span());
        if let Some(property) = properties.first() {
            let span = self.span(property.span());
            let message = format!("`{name}` is one value and has no keys");
            self.error("kdl::value", &span, message, "not a key of it", format!("write {name} \"VALUE\""));
        } else if node.children().is_some() {
            let message = format!("`{name}` is one value and has no block");
            self.error("kdl::value", &key, message, "block after this", format!("write {name} \"VALUE\""));
        } else if let [one] = arguments.as_slice() {
            return self.value(one);
        } else if let Some(second) = arguments.get(1) {
            let span = self.span(second.span());
            let message = format!("`{name}` is one value, but {} are given", arguments.len());
            self.error("kdl::value", &span, message, "one too many", "keep one of them".to_owned());
        } else {
            let help = format!("write {name} \"VALUE\"; yes and no are #true and #false");
            self.error("kdl::value", &key, format!("`{name}` has no value"), "nothing after it", help);
        }
        None
    }

    /// A table: its keys are properties, nodes of the block, or the one argument, which is the key that must be there.
    fn table(&mut self, node: &KdlNode, shape: Shape<'a>, name: &str) -> Node {
        let (arguments, _) = split(node);
        let mut entries = Entries::new();
        let mut arguments = arguments.into_iter();
        if let Some(leading) = shape.leading()
            && let Some(argument) = arguments.next()
            && let Some(value) = self.value(argument)
        {
            let value = match shape.key(self.root, leading) {
                Shape::List => Node { span: value.span.clone(), value: Value::Array(vec![value]) },
                _ => value,
            };
            entries.push((leading.to_owned(), value.span.clone(), value));
        }
        for argument in arguments {
            let span = self.span(argument.span());
            let shown = span.text().to_owned();
            let help = match shape {
                Shape::Map(_) => format!("write {name} NAME={shown}, or {name} {{ NAME {shown} }}"),
                _ => format!("name the key: {name} KEY={shown}"),
            };
            let message = format!("`{name}` is a table, but {shown} has no key");
            self.error("kdl::argument", &span, message, "which key?", help);
        }
        self.body(node, entries, shape, name)
    }

    /// Properties and block of a table.
    fn body(&mut self, node: &KdlNode, mut entries: Entries, shape: Shape<'a>, name: &str) -> Node {
        let removing = usize::from(shape.is_removal());
        self.removing += removing;
        for property in split(node).1 {
            let Some(property_name) = property.name() else { continue };
            let key = self.span(property_name.span());
            let inner = property_name.value();
            let Some(value) = self.value(property) else { continue };
            let is_whole = self.removing > 0 && matches!(value.value, Value::Boolean(true));
            let value = match shape.key(self.root, inner) {
                _ if is_whole => value,
                Shape::List => Node { span: value.span.clone(), value: Value::Array(vec![value]) },
                Shape::Table(_) | Shape::Tables(_) | Shape::Map(_) => {
                    let message = format!("`{inner}` is a table and cannot be one value");
                    let help = format!("write it in the block: {name} {{ {inner} KEY=VALUE }}");
                    self.error("kdl::table", &key, message, "a table", help);
                    continue;
                }
                Shape::Scalar | Shape::OneOrMore | Shape::Unknown => value,
            };
            self.put(&mut entries, inner, key, value);
        }
        if let Some(block) = node.children() {
            self.nodes(block.nodes(), shape, &mut entries);
        }
        self.removing -= removing;
        Node { value: Value::Table(entries), span: self.span(node.span()) }
    }

    /// A node of which the model knows nothing: read as it looks.
    fn unknown(&mut self, node: &KdlNode, name: &str) -> Node {
        let (arguments, properties) = split(node);
        let span = self.span(node.span());
        if properties.is_empty() && node.children().is_none() && !arguments.is_empty() {
            let mut values: Vec<Node> = arguments.iter().filter_map(|entry| self.value(entry)).collect();
            return match (arguments.len(), values.len()) {
                (1, 1) => values.remove(0),
                _ => Node { value: Value::Array(values), span },
            };
        }
        self.table(node, Shape::Unknown, name)
    }
}

//! Stanza files: `lsdef -z`, and the text that `lsdef -l` prints.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Attribute, Definition, ObjectKind};
use base::source::{Finding, SourceFile, Span};

/// First line of what `lsdef -z` writes.
const FIRST_LINE: &str = "# <xCAT data object stanza file>";

/// How `lsdef -l` begins an object.
const OBJECT_NAME: &str = "Object name:";

/// Attributes that only an osimage has, for text that does not say what its objects are.
const TELLING: [&str; 6] = ["imagetype", "osvers", "osarch", "pkglist", "rootimgdir", "osname"];

enum Line<'a> {
    Nothing,
    Header(&'a str),
    Attribute(&'a str, &'a str),
    Wrong,
}

/// Whether a text can be an attribute's name.
fn is_attribute(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

fn read_line(line: &str, is_open: bool) -> Line<'_> {
    let text = line.trim();
    if text.is_empty() || text.starts_with('#') {
        return Line::Nothing;
    }
    if let Some(name) = text.strip_prefix(OBJECT_NAME) {
        return Line::Header(name.trim());
    }
    if let Some((name, value)) = text.split_once('=')
        && is_attribute(name.trim())
        // xCAT takes a value that ends in a colon for a header, and loses the rest.
        && (is_open || !text.ends_with(':'))
    {
        return Line::Attribute(name.trim(), unquoted(value.trim()));
    }
    match text.strip_suffix(':') {
        Some(name) if !name.contains('=') && !name.trim().is_empty() => Line::Header(name.trim()),
        _ => Line::Wrong,
    }
}

/// One quote at each end goes, with the blanks next to it.
fn unquoted(value: &str) -> &str {
    let value = value.strip_prefix('"').map_or(value, str::trim_start);
    value.strip_suffix('"').map_or(value, str::trim_end)
}

/// Reads all objects of a text; what xCAT would lose without a word is an error.
pub fn parse_stanzas(file: &Arc<SourceFile>) -> (Vec<Definition>, Vec<Finding>) {
    let mut reader = Reader::default();
    let mut at = 0;
    for whole in file.text.split_inclusive('\n') {
        let line = whole.trim_end_matches(['\n', '\r']);
        let start = at + line.len() - line.trim_start().len();
        let span = Span::new(file, start..at + line.trim_end().len().max(start - at));
        reader.take(line, &span);
        at += whole.len();
    }
    reader.end()
}

#[derive(Default)]
struct Reader {
    objects: Vec<Object>,
    defaults: BTreeMap<String, BTreeMap<String, Attribute>>,
    findings: Vec<Finding>,
}

struct Object {
    definition: Definition,
    /// The kind for which this sets defaults, if it does.
    defaults_of: Option<String>,
    kind: Option<String>,
    /// Attributes in front of `objtype=`, which xCAT overwrites with defaults.
    early: Vec<String>,
}

impl Reader {
    fn take(&mut self, line: &str, span: &Span) {
        match read_line(line, !self.objects.is_empty()) {
            Line::Nothing => {}
            Line::Header(name) => self.begin(name, span),
            Line::Attribute(name, value) => self.attribute(name, value, span),
            Line::Wrong => self.findings.push(
                Finding::error("stanza::line", span, format!("`{}` is neither a header nor an attribute", line.trim()))
                    .label("xCAT would silently drop this and all lines up to the next header")
                    .help("a header is `NAME:` alone on its line, an attribute `    name=value`"),
            ),
        }
    }

    fn begin(&mut self, name: &str, span: &Span) {
        self.close();
        let defaults_of = name.strip_prefix("default-").map(str::to_owned);
        let taken = self.objects.iter().find(|one| one.definition.name == name && one.defaults_of.is_none());
        if let (Some(taken), None) = (taken, &defaults_of) {
            let first = taken.definition.span.as_ref().map_or(0, Span::line);
            self.findings.push(
                Finding::error("stanza::duplicate", span, format!("`{name}` is defined twice"))
                    .label(format!("the first one is on line {first}; xCAT would mix them"))
                    .help("remove one of them"),
            );
        }
        let definition = Definition { span: Some(span.clone()), ..Definition::osimage(name) };
        self.objects.push(Object { definition, defaults_of, kind: None, early: Vec::new() });
    }

    fn attribute(&mut self, name: &str, value: &str, span: &Span) {
        let Some(object) = self.objects.last_mut() else {
            self.findings.push(
                Finding::error("stanza::no-header", span, format!("`{name}` belongs to no object"))
                    .label("xCAT would drop it")
                    .help("put the object's header before it: `NAME:` alone on its line"),
            );
            return;
        };
        if name == "objtype" {
            object.kind = Some(value.to_owned());
            return;
        }
        if object.kind.is_none() {
            object.early.push(name.to_owned());
        }
        object.definition.set(name, value, Some(span.clone()));
    }

    /// Ends the object that is open: what it is, and what it takes from the defaults so far.
    fn close(&mut self) {
        let Some(object) = self.objects.last_mut() else { return };
        if let Some(of) = &object.defaults_of {
            let defaults = self.defaults.entry(of.clone()).or_default();
            defaults.extend(std::mem::take(&mut object.definition.attributes));
            return;
        }
        let is_image = || TELLING.iter().any(|name| object.definition.attributes.contains_key(*name));
        let kind = match &object.kind {
            Some(kind) => ObjectKind::of(kind),
            None if is_image() => ObjectKind::Osimage,
            None => ObjectKind::Other(String::new()),
        };
        if let Some(defaults) = self.defaults.get(kind.name()) {
            for (name, attribute) in defaults {
                let own = object.definition.attributes.get(name);
                if let Some(span) = own.and_then(|own| own.span.as_ref()).filter(|_| object.early.contains(name)) {
                    self.findings.push(
                        Finding::warning("stanza::default", span, format!("`{name}` is before `objtype=`"))
                            .label("this value is used; xCAT would overwrite it with the default")
                            .help("write `objtype=` first"),
                    );
                }
                object.definition.attributes.entry(name.clone()).or_insert_with(|| attribute.clone());
            }
        }
        object.definition.kind = kind;
    }

    fn end(mut self) -> (Vec<Definition>, Vec<Finding>) {
        self.close();
        let objects = self.objects.into_iter().filter(|object| object.defaults_of.is_none());
        (objects.map(|object| object.definition).collect(), self.findings)
    }
}

/// The stanza of an object, as `mkdef -z` reads it; `is_first` writes the file's first line too.
pub fn write_stanza(definition: &Definition, is_first: bool) -> String {
    let mut text = if is_first { format!("{FIRST_LINE}\n") } else { String::new() };
    text.push_str(&format!("\n{}:\n    objtype={}\n", definition.name, definition.kind.name()));
    for (name, attribute) in &definition.attributes {
        let value = &attribute.value;
        // xCAT's reader takes one quote off each end, and a line that ends in a colon for a header.
        let needs_quotes = value.starts_with('"') || value.ends_with(['"', ':']);
        match needs_quotes {
            true => text.push_str(&format!("    {name}=\"{value}\"\n")),
            false => text.push_str(&format!("    {name}={value}\n")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<Definition>, Vec<String>) {
        let (definitions, findings) = parse_stanzas(&SourceFile::new("s", "/s", text));
        let messages =
            findings.into_iter().map(|one| format!("{}: {}", one.span.unwrap().line(), one.message)).collect();
        (definitions, messages)
    }

    fn one(text: &str) -> Definition {
        let (definitions, messages) = read(text);
        assert!(messages.is_empty() && definitions.len() == 1, "{definitions:?} {messages:?}");
        definitions.into_iter().next().unwrap()
    }

    /// Section 14.4.
    #[test]
    fn vectors() {
        let t1 = one("i:\n    objtype=osimage\n    osvers=rhels9.4\n");
        assert_eq!((t1.name.as_str(), &t1.kind, t1.get("osvers")), ("i", &ObjectKind::Osimage, Some("rhels9.4")));
        assert_eq!(one("i:\n\tobjtype=osimage\n\tpkgdir = /a, /b \n").get("pkgdir"), Some("/a, /b"));
        assert_eq!(one("i:\nobjtype=osimage\n comments=\"hello world\"\n").get("comments"), Some("hello world"));
        assert_eq!(one("i:\nobjtype=osimage\n addkcmdline=a=b c=d\n").get("addkcmdline"), Some("a=b c=d"));
        assert_eq!(one("i:\nobjtype=osimage\n template=\n").get("template"), None);
        let t6 = one("default-osimage:\n imagetype=linux\n osvers=rhels9\ni:\n objtype=osimage\n osvers=rhels8\n");
        assert_eq!((t6.get("imagetype"), t6.get("osvers")), (Some("linux"), Some("rhels8")));
        let (t7, messages) = read("default-osimage:\n osvers=rhels9\ni:\n osvers=rhels8\n objtype=osimage\n");
        assert_eq!(t7[0].get("osvers"), Some("rhels8"));
        assert_eq!(messages, ["4: `osvers` is before `objtype=`"]);
        assert_eq!(read("i:\n a=1\ni:\n a=2\n").1, ["3: `i` is defined twice"]);
        assert_eq!(read("a=1\ni:\n objtype=osimage\n").1, ["1: `a` belongs to no object"]);
        assert_eq!(
            read("i:\n objtype=osimage\ngarbage\n a=1\n").1,
            ["3: `garbage` is neither a header nor an attribute"]
        );
        assert_eq!(read("i: objtype=osimage\n").1, ["1: `i: objtype=osimage` is neither a header nor an attribute"]);
        let t12 = one("i:\n objtype=osimage\n usercomment=see http://x/y:\n b=1\n");
        assert_eq!((t12.get("usercomment"), t12.get("b")), (Some("see http://x/y:"), Some("1")));
        assert_eq!(one("  i :  \n objtype=osimage\n").name, "i");
        let t14 = one("fd59::/64:\n objtype=network\n");
        assert_eq!((t14.name.as_str(), t14.kind.name()), ("fd59::/64", "network"));
        let t15 = one("Object name: i\n    osvers=rhels9.4\n");
        assert_eq!((t15.name.as_str(), t15.kind), ("i", ObjectKind::Osimage));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut image = Definition::osimage("rocky9.4-x86_64-netboot-compute");
        image.set("pkglist", "/a,/b", None);
        image.set("usercomment", "see http://x/y:", None);
        image.set("description", "\"quoted\"", None);
        image.set("groups", "first\nsecond", None);
        let text = write_stanza(&image, true);
        let mut again = one(&text);
        again.span = None;
        again.attributes.values_mut().for_each(|one| one.span = None);
        assert_eq!(again, image);
        assert!(text.starts_with(
            "# <xCAT data object stanza file>\n\nrocky9.4-x86_64-netboot-compute:\n    objtype=osimage\n    desc"
        ));
        assert!(
            text.contains("    groups=first second\n    pkglist=/a,/b\n    usercomment=\"see http://x/y:\"\n"),
            "{text}"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "([a-z =:#\"\\n\\r\\t]|é|default-osimage:\\n|objtype=osimage\\n){0,60}") {
            read(&text);
        }
    }
}

//! XML as elements with their lines.

use base::xml::{Event, Reader};

/// Most elements of a document.
const ELEMENT_LIMIT: usize = 100_000;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Element {
    pub(crate) name: String,
    /// The file, if it is another one than the document's.
    pub(crate) file: Option<std::sync::Arc<str>>,
    /// The line on which its start ends.
    pub(crate) line: usize,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) text: String,
    pub(crate) children: Vec<Element>,
}

impl Element {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }
}

/// The outermost element.
/// Errors: The line and what is wrong there.
pub(crate) fn document(text: &str) -> Result<Element, (usize, String)> {
    let mut reader = Reader::new(text.as_bytes()).without_doctype();
    let ends: Vec<usize> = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
    let line_of = |position: u64| ends.partition_point(|end| (*end as u64) < position.saturating_sub(1)) + 1;
    let mut open: Vec<Element> = Vec::new();
    let mut count = 0;
    loop {
        let event = reader.event().map(|event| {
            event.map(|event| match event {
                Event::Start { name, attributes } => Ok(Element {
                    name: name.to_owned(),
                    attributes: attributes.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
                    ..Element::default()
                }),
                Event::End { text, .. } => Err(text.to_owned()),
            })
        });
        let line = line_of(reader.position());
        match event.map_err(|problem| (line, problem))? {
            None => return Err((line, "contains no XML element".to_owned())),
            Some(Ok(element)) => {
                count += 1;
                if count > ELEMENT_LIMIT {
                    return Err((line, format!("more than {ELEMENT_LIMIT} elements")));
                }
                open.push(Element { line, ..element });
            }
            Some(Err(text)) => {
                let Some(mut ended) = open.pop() else { continue };
                ended.text = text.trim().to_owned();
                match open.last_mut() {
                    Some(parent) => parent.children.push(ended),
                    None => {
                        // What follows must be XML too.
                        while reader.event().map_err(|problem| (line, problem))?.is_some() {}
                        return Ok(ended);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_have_their_lines() {
        let text =
            "<?xml version=\"1.0\"?>\n<image name=\"a&amp;b\">\n  <x>\n   text </x>\n\n  <y z=\"1\"/>\n</image>\n";
        let found = document(text).unwrap();
        assert_eq!((found.line, found.get("name")), (2, Some("a&b")));
        let [x, y] = &found.children[..] else { panic!() };
        assert_eq!((x.line, x.text.as_str(), y.line, y.get("z")), (3, "text", 6, Some("1")));
        assert!(document("<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>").is_err());
        assert!(document("<a>").is_err() && document("").is_err());
    }

    #[test]
    fn what_grows_without_bounds_is_refused() {
        assert!(document(&"<a>".repeat(10_000)).is_err());
        assert!(document(&format!("<a>{}</a>", "<b/>".repeat(ELEMENT_LIMIT))).unwrap_err().1.contains("elements"));
        assert!(document(&format!("<a>{}</a>", "x".repeat(2 << 20))).is_err());
        assert!(document("<a b=\"&lol;\"/>").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[<>a-c/ =\"'&;!?\n\\-]{0,200}") {
            let _ = document(&text);
        }
    }
}

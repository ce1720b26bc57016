//! XML as repositories and bundles have it, read as a stream of names without prefixes. Nothing is expanded but the five
//! entities that XML itself has.

use std::io::BufRead;

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event as Raw};

/// How deep elements may be nested; metadata need five.
const DEPTH_LIMIT: usize = 64;

/// Most bytes of text in one element.
const TEXT_LIMIT: usize = 1 << 20;

/// Attributes of one element; their places in memory are used again for the next.
#[derive(Debug, Default)]
pub struct Attributes {
    all: Vec<(String, String)>,
    used: usize,
}

impl Attributes {
    /// The value of a name, with its prefix (`xml:base`).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all[..self.used].iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all[..self.used].iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn push(&mut self, name: &str, value: &str) {
        if self.used == self.all.len() {
            self.all.push(Default::default());
        }
        let place = &mut self.all[self.used];
        name.clone_into(&mut place.0);
        value.clone_into(&mut place.1);
        self.used += 1;
    }
}

#[derive(Debug)]
pub enum Event<'a> {
    Start {
        name: &'a str,
        attributes: &'a Attributes,
    },
    /// It ends; the text is what stood in it since the last event, with entities resolved.
    End {
        name: &'a str,
        text: &'a str,
    },
}

enum Step {
    Start,
    End,
    Other,
    Eof,
}

/// Reads one document; buffers are used again for each event.
pub struct Reader<R> {
    inner: quick_xml::Reader<R>,
    buffer: Vec<u8>,
    /// Names of the elements that are open; `depth` of them.
    names: Vec<String>,
    depth: usize,
    root: Option<String>,
    attributes: Attributes,
    text: String,
    ended_text: String,
    /// An empty element's end, which is reported after its start.
    pending_end: bool,
    refuses_doctype: bool,
}

impl<R: BufRead> Reader<R> {
    pub fn new(data: R) -> Self {
        let mut inner = quick_xml::Reader::from_reader(data);
        inner.config_mut().check_end_names = true;
        Self {
            inner,
            buffer: Vec::new(),
            names: Vec::new(),
            depth: 0,
            root: None,
            attributes: Attributes::default(),
            text: String::new(),
            ended_text: String::new(),
            pending_end: false,
            refuses_doctype: false,
        }
    }

    /// The same; a document type is an error.
    pub fn without_doctype(mut self) -> Self {
        self.refuses_doctype = true;
        self
    }

    /// How many bytes were read.
    pub fn position(&self) -> u64 {
        self.inner.buffer_position()
    }

    /// The next event; none at the end.
    /// Errors: A text with the byte where it is not XML, or more than metadata may hold.
    pub fn event(&mut self) -> Result<Option<Event<'_>>, String> {
        let mut step = Step::End;
        if !std::mem::take(&mut self.pending_end) {
            let mut buffer = std::mem::take(&mut self.buffer);
            loop {
                buffer.clear();
                let taken = match self.inner.read_event_into(&mut buffer) {
                    Ok(event) => self.take(event),
                    Err(error) => Err(error.to_string()),
                };
                let at = self.inner.buffer_position();
                step = taken.map_err(|problem| format!("is not well-formed XML at byte {at}: {problem}"))?;
                if !matches!(step, Step::Other) {
                    break;
                }
            }
            self.buffer = buffer;
        }
        match step {
            Step::Start => {
                let name = &self.names[self.depth.saturating_sub(1)];
                Ok(Some(Event::Start { name, attributes: &self.attributes }))
            }
            Step::End => {
                // The text before an inner element is not the outer one's.
                std::mem::swap(&mut self.text, &mut self.ended_text);
                self.text.clear();
                self.depth = self.depth.saturating_sub(1);
                let name = self.names.get(self.depth).map_or("", String::as_str);
                Ok(Some(Event::End { name, text: &self.ended_text }))
            }
            Step::Other | Step::Eof => Ok(None),
        }
    }

    fn take(&mut self, event: Raw<'_>) -> Result<Step, String> {
        match event {
            Raw::Start(start) => return self.start(&start).map(|()| Step::Start),
            Raw::Empty(start) => {
                self.pending_end = true;
                return self.start(&start).map(|()| Step::Start);
            }
            Raw::End(_) => return Ok(Step::End),
            Raw::Text(text) => self.push(&text.xml10_content())?,
            Raw::CData(data) => self.push(&data.xml10_content())?,
            Raw::GeneralRef(entity) => match entity.resolve_char_ref().map_err(|error| error.to_string())? {
                Some(character) => self.push(character.encode_utf8(&mut [0; 4]))?,
                None => match quick_xml::escape::resolve_predefined_entity(&entity) {
                    Some(text) => self.push(text)?,
                    None => return Err(format!("unknown entity `{}`", entity.escape_default())),
                },
            },
            Raw::Eof if self.depth > 0 => {
                return Err(format!("it ends within `{}`", self.names[self.depth - 1].escape_default()));
            }
            Raw::Eof => return Ok(Step::Eof),
            Raw::DocType(_) if self.refuses_doctype => {
                return Err("a document type (DOCTYPE) is not allowed: nothing is expanded".to_owned());
            }
            Raw::Comment(_) | Raw::Decl(_) | Raw::PI(_) | Raw::DocType(_) => {}
        }
        Ok(Step::Other)
    }

    fn push(&mut self, text: &str) -> Result<(), String> {
        if self.text.len() + text.len() > TEXT_LIMIT {
            return Err("an element has too much text".to_owned());
        }
        self.text.push_str(text);
        Ok(())
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), String> {
        if self.depth >= DEPTH_LIMIT {
            return Err("elements are nested too deeply".to_owned());
        }
        let local = start.local_name();
        let name: &str = local.as_ref();
        if self.root.is_none() {
            self.root = Some(name.to_owned());
        }
        if self.depth == self.names.len() {
            self.names.push(String::new());
        }
        name.clone_into(&mut self.names[self.depth]);
        self.depth += 1;
        self.text.clear();
        self.attributes.used = 0;
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| error.to_string())?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| error.to_string())?;
            self.attributes.push(attribute.key.as_ref(), &value);
        }
        Ok(())
    }

    /// Checks, after the last event, that the document's outermost element was of this name.
    /// Errors: A text that says what it was instead.
    pub fn ended_within(&self, wanted: &str) -> Result<(), String> {
        match self.root.as_deref() {
            Some(root) if root == wanted => Ok(()),
            Some(root) => Err(format!("contains `{}` instead of `{wanted}`", root.escape_default())),
            None => Err("contains no XML element".to_owned()),
        }
    }
}

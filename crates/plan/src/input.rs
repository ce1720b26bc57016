//! Inputs: everything that can change what an action gives.

use std::path::Path;

use serde::{Deserialize, Serialize};

use base::digest::Digest;
use base::source::Span;
use recipe::{PinnedPackage, Spans};

/// Where a person wrote something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Place {
    /// File, relative to the recipe.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
}

impl From<&Span> for Place {
    fn from(span: &Span) -> Self {
        Self { file: span.file.name.clone(), line: span.line() }
    }
}

/// What a person would change to change an input; part of no key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// No one said; a test fails where an action has such an input.
    #[default]
    Unknown,
    /// The value of a field of the recipe: `pack.level`.
    Field(String),
    /// An item of a list in the recipe: `kernel.drivers`.
    Item(String),
    /// A file that a pattern or a directory of the recipe names.
    Glob {
        field: String,
        /// The pattern, or the directory.
        pattern: String,
    },
    Line,
    Lock,
    Asked {
        /// The option: `--publish`.
        option: String,
        what: String,
    },
    /// imgbuild itself: a noun.
    Imgbuild(String),
    /// Tools roots, by the actions that make them.
    Roots(Vec<String>),
}

/// Marks a package in its input's value that stands beside other versions of itself.
pub const BESIDE: &str = "beside";

/// One input. Its name and value are what the key is made of; place and origin only serve explanations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Input {
    /// Kind and name, separated by a blank: `package bash`, `file site/motd`, `parameter level`.
    pub name: String,
    pub value: String,
    pub place: Option<Place>,
    pub origin: Origin,
}

impl Input {
    /// Anything else.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), ..Self::default() }
    }

    /// A setting of the recipe or of imgbuild. The epoch and the platform have their origins by their names.
    pub fn parameter(name: &str, value: impl ToString) -> Self {
        let origin = match name {
            "epoch" => Origin::Lock,
            "platform" => Origin::Field("image.release".to_owned()),
            _ => Origin::Unknown,
        };
        Self::new(format!("parameter {name}"), value.to_string()).of(origin)
    }

    pub fn package(package: &PinnedPackage) -> Self {
        let name = format!("package {}:{}", package.name, package.architecture);
        Self::new(name, format!("{} {}", package.version, package.sha256)).of(Origin::Lock)
    }

    /// A package with how it is installed.
    pub fn installed(package: &PinnedPackage) -> Self {
        let mut input = Self::package(package);
        if package.beside {
            input.value.push_str(&format!(" {BESIDE}"));
        }
        input
    }

    /// A file: content and the mode that counts (D51).
    pub fn file(name: &str, mode: u32, digest: &Digest) -> Self {
        Self::new(format!("file {name}"), format!("{mode:04o} {digest}"))
    }

    /// Says what it comes from.
    pub fn of(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// Says which field of the recipe it is, and where that stands.
    pub fn field(mut self, spans: &Spans, field: &str) -> Self {
        self.place = spans.get(field).map(Place::from);
        self.of(Origin::Field(field.to_owned()))
    }

    /// Says which item of a list in the recipe it is.
    pub fn item(mut self, spans: &Spans, list: &str, index: usize) -> Self {
        self.place = spans.get(&format!("{list}[{index}]")).or_else(|| spans.nearest(list)).map(Place::from);
        self.of(Origin::Item(list.to_owned()))
    }

    /// Says that a span asks for it: an item or a field of the recipe, or a line of a list.
    pub fn asked(mut self, spans: &Spans, span: Option<&Span>) -> Self {
        if let Some(span) = span {
            self.place = Some(Place::from(span));
            self.origin = Origin::of_span(spans, span);
        }
        self
    }

    /// Says where it was asked for.
    pub fn at(mut self, span: Option<&Span>) -> Self {
        self.place = span.map(Place::from);
        self
    }
}

impl Origin {
    /// What a span stands for: an item or a field of the recipe, or a line of a list.
    pub fn of_span(spans: &Spans, span: &Span) -> Self {
        match spans.path_of(span) {
            Some(path) => match path.strip_suffix(']').and_then(|path| path.rsplit_once('[')) {
                Some((list, _)) => Self::Item(list.to_owned()),
                None => Self::Field(path.to_owned()),
            },
            None => Self::Line,
        }
    }
}

/// Hashes a file of the build host; gives the input, the mode that counts, and the content's digest.
pub fn file_input(name: &str, path: &Path) -> std::io::Result<(Input, u32, Digest)> {
    let (_, digest) = witness::digest(path)?;
    let mode = recipe::owners::mode(path)?;
    Ok((Input::file(name, mode, &digest), mode, digest))
}

//! Templates of loaders' files, by minijinja: an unknown name is an error and no empty text.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use minijinja::{Environment, ErrorKind, UndefinedBehavior};

use super::{Loader, text_of};
use crate::Mac;
use base::source::{Finding, Severity, SourceFile, Span};

pub struct Templates {
    environment: Environment<'static>,
    files: BTreeMap<Loader, Arc<SourceFile>>,
}

/// A word for GRUB's shell: in quotes where it needs them. `${net_default_server}` in an address is GRUB's own.
pub fn grub(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_./:=,@%+-()*~".contains(letter);
    if word.chars().all(plain) || fault::planted("grub-word-unquoted") {
        return word.to_owned();
    }
    if word.contains("${net_default_server}") && !word.contains(['"', '\\', '`']) {
        return format!("\"{word}\"");
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

impl Templates {
    /// Reads the templates of loaders.
    /// Errors: One that cannot be read, or what is wrong with one, at its place.
    pub fn read(root: &Path, loaders: impl IntoIterator<Item = Loader>) -> Result<Self, Finding> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_debug(true);
        environment.add_filter("grub", |word: String| grub(&word));
        environment.add_filter("hyphens", |mac: String| {
            mac.parse::<Mac>().map(Mac::hyphens).map_err(|problem| {
                minijinja::Error::new(ErrorKind::InvalidOperation, format!("`{mac}` is not a MAC address: {problem}"))
            })
        });
        let mut templates = Self { environment, files: BTreeMap::new() };
        for loader in loaders {
            if templates.files.contains_key(&loader) {
                continue;
            }
            let file = text_of(root, loader)?;
            let added = templates.environment.add_template_owned(loader.name(), file.text.clone());
            if let Err(error) = added {
                return Err(template_error(&file, &error));
            }
            templates.files.insert(loader, file);
        }
        Ok(templates)
    }

    /// The text of a loader's file.
    /// Errors: What is wrong with the template, at its place.
    pub fn render(&self, loader: Loader, context: &serde_json::Value) -> Result<String, Finding> {
        let Some(file) = self.files.get(&loader) else {
            let problem = format!("the template of {} was not read", loader.name());
            return Err(Finding::nowhere(Severity::Error, "nodes::template", problem));
        };
        let template = self.environment.get_template(loader.name());
        let context = minijinja::Value::from(minijinja::value::Serde(context));
        let mut text =
            template.and_then(|template| template.render(context)).map_err(|error| template_error(file, &error))?;
        // Jinja leaves out the last end of line.
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(text)
    }
}

/// An error of a template, at the line that it is about.
fn template_error(file: &Arc<SourceFile>, error: &minijinja::Error) -> Finding {
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    let message = format!("the template {} cannot be used: {}{detail}", file.name, error.kind());
    let range = error.range().or_else(|| {
        let line = error.line()?.checked_sub(1)?;
        let start: usize = file.text.split_inclusive('\n').take(line).map(str::len).sum();
        let length = file.text[start..].find('\n').unwrap_or(file.text.len() - start);
        Some(start..start + length)
    });
    let mut finding = Finding::nowhere(Severity::Error, "nodes::template", message).help(match error.kind() {
        ErrorKind::UndefinedError => {
            "docs/nodes.md lists what templates get; a variable of the site is vars.NAME, from ‹variables = { NAME = \"...\" }› of nodes.toml, and default(\"...\") stands in where it is missing"
        }
        _ => "the syntax is Jinja's; `imgbuild nodeset --template LOADER` prints the one that comes with imgbuild",
    });
    finding.span = range.filter(|range| range.end <= file.text.len()).map(|range| Span::new(file, range));
    finding
}

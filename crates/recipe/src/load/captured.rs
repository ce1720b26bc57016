//! The packages of a captured node.

use super::Reader;
use base::source::{Finding, Span};

impl Reader<'_> {
    /// Reads `[capture] packages`: name, version and architecture a line.
    pub(super) fn captured(&mut self, name: Option<&String>) -> Option<Vec<[String; 3]>> {
        let file = self.texts("capture.packages", std::slice::from_ref(name?)).pop()?;
        let mut packages = Vec::new();
        let mut start = 0;
        for line in file.text.split_inclusive('\n') {
            let at = start..start + line.trim_end().len();
            start += line.len();
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                [name, version, arch] => packages.push([name, version, arch].map(str::to_owned)),
                _ => {
                    let message = format!("`{}` is not a package with its version and architecture", line.trim());
                    let help =
                        "write name, version and architecture, as `imgbuild capture` does, or leave [capture] out";
                    self.findings.push(Finding::error("capture::line", &Span::new(&file, at), message).help(help));
                }
            }
        }
        Some(packages)
    }
}

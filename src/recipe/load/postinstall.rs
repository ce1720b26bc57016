//! The postinstall script and the files that it may see.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;

use super::{Postinstall, Reader};
use crate::recipe::PostinstallTable;
use crate::recipe::paths::name_problem;
use crate::source::Finding;
use crate::witness;

impl Reader<'_> {
    pub(super) fn postinstall(&mut self, table: &PostinstallTable) -> Option<Postinstall> {
        let script = self.file("postinstall.script", &table.script)?;
        let span = self.span("postinstall.script");
        if witness::mode(&script).ok()? & 0o111 == 0 {
            self.findings.push(
                Finding::error("postinstall::not_executable", &span, format!("`{}` is not executable", table.script))
                    .label("named here")
                    .help(format!("chmod +x {}", table.script)),
            );
        }
        let start = witness::read(&script).unwrap_or_default();
        if !start.starts_with(b"#!") && !start.starts_with(b"\x7fELF") {
            self.findings.push(
                Finding::error(
                    "postinstall::no_interpreter",
                    &span,
                    format!("`{}` does not say what runs it", table.script),
                )
                .label("named here")
                .help("start it with a line such as #!/bin/sh"),
            );
        }
        let mut inputs: BTreeMap<String, PathBuf> = BTreeMap::new();
        for (index, pattern) in table.inputs.iter().enumerate() {
            let at = format!("postinstall.inputs[{index}]");
            for (path, name) in self.inputs(&at, pattern) {
                if let Some(other) = inputs.get(&name).filter(|other| **other != path) {
                    let message = format!("the script would see two files as `{name}`");
                    let help = format!("one is {}, the other {}: rename one", other.display(), path.display());
                    let span = self.span(&at);
                    self.findings.push(Finding::error("postinstall::two_inputs", &span, message).help(help));
                }
                inputs.insert(name, path);
            }
        }
        let mut inputs: Vec<(PathBuf, String)> = inputs.into_iter().map(|(name, path)| (path, name)).collect();
        inputs.sort();
        let name = self.paths.name(&script);
        Some(Postinstall { script, name, inputs })
    }

    /// Files that a pattern names, below the directory of the file with the pattern.
    pub(super) fn inputs(&mut self, at: &str, pattern: &str) -> Vec<(PathBuf, String)> {
        let span = self.span(at);
        let matcher = match globset::GlobBuilder::new(pattern).literal_separator(true).build() {
            Ok(glob) => glob.compile_matcher(),
            Err(error) => {
                self.findings.push(Finding::error(
                    "postinstall::pattern",
                    &span,
                    format!("`{pattern}` is no pattern: {}", error.kind()),
                ));
                return Vec::new();
            }
        };
        let root = self.folder(at);
        let (mut found, mut odd) = (Vec::new(), false);
        // Artefacts and version control are never inputs.
        let enter = |depth: usize, name: &OsStr| depth != 1 || !matches!(name.to_str(), Some("out" | ".git"));
        let walk = witness::walk().only(&enter).through(&root);
        for entry in walk.into_iter().flatten().filter(|entry| entry.kind == witness::Kind::File) {
            let Ok(relative) = entry.path.strip_prefix(&root) else { continue };
            let Some(below) = relative.to_str() else {
                if matcher.is_match(relative) {
                    odd = true;
                    self.findings.push(name_problem("postinstall::name", &entry.path, &span));
                }
                continue;
            };
            if matcher.is_match(below) {
                found.push((entry.path.clone(), below.to_owned()));
            }
        }
        if found.is_empty() && !odd {
            self.findings.push(
                Finding::warning("postinstall::no_input", &span, format!("`{pattern}` matches no file"))
                    .label("the script will see nothing of it")
                    .help("`*` stays within a folder, `**` goes below; paths start in the recipe's directory"),
            );
        }
        found
    }
}

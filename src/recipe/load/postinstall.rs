//! The postinstall script and the files that it may see.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;

use super::paths::name_problem;
use super::{Postinstall, Reader};
use crate::recipe::{Family, PostinstallTable};
use crate::source::{Finding, Span};
use crate::witness;

/// The package that most likely brings a program.
pub fn package_of(program: &str) -> &str {
    match program.rsplit('/').next().unwrap_or(program) {
        "python" => "python3",
        "tclsh" => "tcl",
        "awk" => "gawk",
        "ip" | "ss" => "iproute2",
        "ssh" | "ssh-keygen" => "openssh-client",
        "gpg" => "gnupg",
        "dig" => "dnsutils",
        "ifconfig" | "netstat" => "net-tools",
        "ps" | "pkill" | "sysctl" => "procps",
        base => base,
    }
}

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
        self.check_interpreter(table, &start, &span);
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

    /// What the first line names has to be where the script runs.
    fn check_interpreter(&mut self, table: &PostinstallTable, script: &[u8], span: &Span) {
        let Some(line) = script.strip_prefix(b"#!") else { return };
        let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
        if line.ends_with('\r') {
            let message = format!("the lines of `{}` end as those of Windows do (CR LF)", table.script);
            let finding = Finding::error("postinstall::line_ends", span, message).label("named here");
            let help = format!(
                "the kernel would look for `{}\\r`; turn them: sed -i 's/\\r$//' {}",
                line.trim(),
                table.script
            );
            self.findings.push(finding.help(help));
            return;
        }
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let Some(interpreter) = words.next() else { return };
        let is_env = interpreter.rsplit('/').next() == Some("env");
        let program = match words.find(|word| !word.starts_with('-') && !word.contains('=')) {
            Some(word) if is_env => word,
            _ => interpreter,
        };
        if !interpreter.starts_with('/') {
            let message = format!("`{}` is run by `{interpreter}`, which is not a whole path", table.script);
            let finding = Finding::error("postinstall::no_interpreter", span, message).label("named here");
            self.findings.push(finding.help("start it with a line such as #!/bin/sh"));
            return;
        }
        let base = program.rsplit('/').next().unwrap_or(program);
        let always: &[&str] = match self.model.image.distro.family() {
            // Essential packages. Source: Debian Policy 3.8.
            Family::Debian => &["sh", "bash", "dash", "perl", "sed", "awk", "mawk"],
            Family::RedHat | Family::Suse => &["sh", "bash", "sed", "awk", "gawk"],
        };
        // Which packages bring what is only known when they are resolved: of those in `tools` the build says it.
        if table.tools.is_empty() && !always.contains(&base) {
            let message = format!("`{}` is run by {program}, which is not there where it runs", table.script);
            let finding = Finding::error("postinstall::no_interpreter", span, message).label("named here");
            self.findings.push(finding.help(format!(
                "name the package that brings it: ‹[postinstall] tools = [\"{}\"]›; the script runs in a root of its own, not in the image",
                package_of(program)
            )));
        }
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
                    format!("`{pattern}` is not a pattern: {}", error.kind()),
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

//! `[node]`: scripts that nodes run, checked before anything is built.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::Reader;
use super::startable::start_faults;
use crate::NodeTable;
use base::source::{Finding, Span};

#[derive(Debug, Clone, Default)]
pub struct NodeScripts {
    /// Names and arguments, in order, each with the field that says so.
    pub postscripts: Vec<(String, String)>,
    /// The same of the second list.
    pub postbootscripts: Vec<(String, String)>,
    /// The files, each once, by their names on the node.
    pub files: BTreeMap<String, ScriptFile>,
}

#[derive(Debug, Clone)]
pub struct ScriptFile {
    pub path: PathBuf,
    /// How messages and keys call it.
    pub name: String,
    /// The interpreter that its first line names.
    pub interpreter: Option<String>,
    /// The field that names it first.
    pub field: String,
    pub span: Span,
}

/// Whether a text can be the name of a script on nodes: a file of one directory, which its log is called after.
pub fn is_script_name(name: &str) -> bool {
    let good = |letter: u8| letter.is_ascii_alphanumeric() || b"._+-".contains(&letter);
    !name.is_empty() && name.len() <= 100 && name.bytes().all(good) && !name.starts_with(['.', '-'])
}

/// The same of a script below the directory of a site's scripts, where it may lie in a folder: `custom/mount`.
pub fn is_script_path(path: &str) -> bool {
    path.len() <= 200 && path.split('/').all(is_script_name)
}

impl Reader<'_> {
    pub(super) fn node_scripts(&mut self, table: &NodeTable) -> NodeScripts {
        let mut scripts = NodeScripts::default();
        scripts.postscripts = self.list_of_scripts("postscripts", &table.postscripts, &mut scripts.files);
        scripts.postbootscripts = self.list_of_scripts("postbootscripts", &table.postbootscripts, &mut scripts.files);
        if self.model.xcat.node_support {
            let span = self.span("node");
            let text =
                "nodes of this image run two sets of scripts: those of imgbuild, and those of xCAT (`node_support`)";
            let help = "keep one of them: a script that is in both, or in nodes.toml and in xCAT's tables, runs twice";
            self.findings.push(Finding::warning("node::twice", &span, text).label("here").help(help));
        }
        scripts
    }

    fn list_of_scripts(
        &mut self,
        list: &str,
        items: &[String],
        files: &mut BTreeMap<String, ScriptFile>,
    ) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let field = format!("node.{list}[{index}]");
            let span = self.span(&field);
            let words: Vec<&str> = item.split_whitespace().collect();
            if !seen.insert(words.join(" ")) && !words.is_empty() {
                let text = format!("`{}` is in `{list}` twice", words.join(" "));
                let help = "a script runs once with the same arguments: remove one";
                self.findings.push(Finding::error("node::twice", &span, text).label("here again").help(help));
                continue;
            }
            let Some(name) = self.node_script(&field, item, files) else { continue };
            found.push((
                std::iter::once(name.as_str()).chain(words.into_iter().skip(1)).collect::<Vec<_>>().join(" "),
                field,
            ));
        }
        found
    }

    fn node_script(&mut self, field: &str, item: &str, files: &mut BTreeMap<String, ScriptFile>) -> Option<String> {
        let span = self.span(field);
        let file = item.split_whitespace().next().unwrap_or_default();
        if file.is_empty() {
            let finding = Finding::error("node::no_script", &span, "no script is named here");
            self.findings.push(finding.label("empty").help("remove it, or name a file"));
            return None;
        }
        if item.trim() != file
            && self.paths.resolve(file, &self.paths.recipe).is_err()
            && self.paths.resolve(item.trim(), &self.paths.recipe).is_ok()
        {
            let text = format!("the name `{}` has a blank, and what is behind a blank is an argument", item.trim());
            let finding = Finding::error("node::name", &span, text).label("named here");
            self.findings.push(finding.help("rename the file: letters, digits, `.`, `_`, `+` and `-`"));
            return None;
        }
        let path = self.file(field, file)?;
        if witness::list(&path).is_ok() {
            let finding = Finding::error("node::no_script", &span, format!("`{file}` is a directory"));
            self.findings
                .push(finding.label("named here").help("name the files in it, in the order in which they run"));
            return None;
        }
        let name = file.rsplit('/').next().unwrap_or(file).to_owned();
        if !is_script_name(&name) {
            let text = format!("`{name}` cannot be the name of a script on nodes");
            let help =
                "rename the file: letters, digits, `.`, `_`, `+` and `-`, at most 100, and no `.` or `-` at its start";
            self.findings.push(Finding::error("node::name", &span, text).label("named here").help(help));
            return None;
        }
        match files.get(&name) {
            Some(other) if other.path == path => return Some(name),
            Some(other) => {
                let text = format!("two files are called `{name}`, which is their name on nodes");
                let help = format!("the other one is `{}`, at {}: rename one", other.name, other.span);
                self.findings.push(Finding::error("node::two_files", &span, text).label("named here").help(help));
                return None;
            }
            None => {}
        }
        let (faults, start) = start_faults(&path);
        self.findings.extend(faults.iter().map(|fault| fault.finding(fault.of_node(), file, &span)));
        let line = start.strip_prefix(b"#!").map(|rest| rest.split(|byte| *byte == b'\n').next().unwrap_or_default());
        let interpreter =
            line.and_then(|line| String::from_utf8_lossy(line).split_whitespace().next().map(str::to_owned));
        let named = self.paths.name(&path);
        files.insert(name.clone(), ScriptFile { path, name: named, interpreter, field: field.to_owned(), span });
        Some(name)
    }
}

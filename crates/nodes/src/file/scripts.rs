//! Scripts that nodes run: which of them nodes.toml names, where they lie, and what is wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::effective::{Effective, Given, Sourced, WITHOUT};
use super::{Nodes, Said};
use crate::model::Attr;
use base::source::Finding;
use recipe::Value;

/// Directory of the scripts beside nodes.toml, unless `[nodeset] postscripts` names another.
pub const SCRIPTS_DIRECTORY: &str = "postscripts";
/// Largest script that nodes are given, in bytes.
const LARGEST: u64 = 4 << 20;

/// What a node is to run: a script and its arguments each, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeScripts {
    /// What all nodes have. The image's own come behind these.
    pub defaults: Vec<String>,
    /// What the node's groups and the node itself have.
    pub own: Vec<String>,
}

#[derive(Debug)]
pub enum ScriptFault {
    /// The directory has none of this name.
    Missing,
    /// It is there, and cannot be given.
    Unusable(String),
}

/// An item without what is behind its name.
pub fn name_of(item: &str) -> &str {
    item.split_whitespace().next().unwrap_or_default()
}

impl Nodes {
    /// The scripts of a node in one of the two lists.
    pub fn scripts_of(&self, node: &Effective, attr: Attr) -> NodeScripts {
        let mut of_all = BTreeSet::new();
        for said in self.defaults.iter().filter(|said| said.attr == attr) {
            let Value::Array(items) = &said.value.value else { continue };
            of_all.extend(items.iter().map(|item| item.span.start));
        }
        let Some(Given::List(items)) = node.values.get(&attr) else { return NodeScripts::default() };
        let (defaults, own): (Vec<_>, Vec<_>) = items.iter().partition(|item| of_all.contains(&item.span.start));
        let text = |items: Vec<&Sourced<String>>| {
            items.into_iter().map(|item| item.value.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
        };
        NodeScripts { defaults: text(defaults), own: text(own) }
    }

    pub fn scripts_directory(&self, root: &Path) -> PathBuf {
        root.join(self.postscripts.as_deref().unwrap_or(SCRIPTS_DIRECTORY))
    }

    /// What is wrong with the scripts of `postscripts` and `postbootscripts`, as far as that can be seen: they may be the image's,
    /// or those of xCAT on the node. `has` says whether an image of the workspace has a script of a name.
    pub fn script_findings(&self, root: &Path, has: &dyn Fn(&str) -> bool) -> Vec<Finding> {
        let directory = self.scripts_directory(root);
        let tables = self.groups.iter().map(|group| &group.said).chain(self.tables.iter().map(|table| &table.said));
        let mut findings = Vec::new();
        let is_list = |said: &&Said| matches!(said.attr, Attr::Postscripts | Attr::Postbootscripts);
        for said in std::iter::once(&self.defaults).chain(tables).flatten().filter(is_list) {
            let Value::Array(items) = &said.value.value else { continue };
            for item in items {
                let Value::Text(text) = &item.value else { continue };
                let name = name_of(text);
                if name.starts_with(WITHOUT) {
                    continue;
                }
                let shown = directory.strip_prefix(root).unwrap_or(&directory).join(name);
                let (message, help) = match script_of(&directory, name) {
                    Ok(bytes) => match line_ends(&bytes) {
                        None => continue,
                        Some(interpreter) => (
                            format!("`{}` has Windows line endings (CR LF): nodes find no `{interpreter}\\r`", shown.display()),
                            format!("convert them: sed -i 's/\\r$//' {}", shown.display()),
                        ),
                    },
                    Err(ScriptFault::Missing) if has(name) => continue,
                    Err(ScriptFault::Missing) => (
                        format!("neither `{}` is there, nor does an image have a script `{name}`", shown.display()),
                        "write the script, name its directory in [nodeset] postscripts, or put it into [node] of the recipe; nodes report that it is missing".to_owned(),
                    ),
                    Err(ScriptFault::Unusable(problem)) => {
                        (format!("nodes are not given `{}`: {problem}", shown.display()), "correct the file".to_owned())
                    }
                };
                findings.push(Finding::warning("nodes::script", &item.span, message).label("named here").help(help));
            }
        }
        findings
    }
}

impl Effective {
    /// What scripts get: what is known of the node, under xCAT's names, and its own variables.
    pub fn script_environment(&self) -> BTreeMap<String, String> {
        let mut all =
            BTreeMap::from([("NODE".to_owned(), self.name.clone()), ("GROUP".to_owned(), self.groups.join(","))]);
        let mac = self.macs().first().map(ToString::to_string);
        let nic = self.text(Attr::Nic).map(str::to_owned);
        let known = [
            ("IPADDR", self.ip().map(|ip| ip.to_string())),
            ("MACADDRESS", mac),
            ("INSTALLNIC", nic.clone()),
            ("PRIMARYNIC", nic),
        ];
        all.extend(known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        all.extend(self.variables().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        all
    }
}

/// The interpreter that a script names, if a carriage return is behind it.
fn line_ends(bytes: &[u8]) -> Option<String> {
    let line = bytes.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line).into_owned();
    line.ends_with('\r').then(|| line.trim().to_owned())
}

/// A script of the directory. A link may not lead out of it: what is given to nodes is what lies there.
/// Errors: Why nodes cannot be given it.
pub fn script_of(directory: &Path, name: &str) -> Result<Vec<u8>, ScriptFault> {
    let unusable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => ScriptFault::Missing,
        _ => ScriptFault::Unusable(error.to_string()),
    };
    if !recipe::is_script_path(name) {
        return Err(ScriptFault::Missing);
    }
    let real = witness::canonicalize(directory).map_err(unusable)?;
    let path = witness::canonicalize(&real.join(name)).map_err(unusable)?;
    if !path.starts_with(&real) {
        return Err(ScriptFault::Unusable("it is a link that leads out of its directory".to_owned()));
    }
    if !witness::is_file(&path) {
        return Err(ScriptFault::Unusable("it is not a file".to_owned()));
    }
    match witness::read_at_most(&path, LARGEST).map_err(unusable)? {
        None => Err(ScriptFault::Unusable(format!("it is larger than {} MiB", LARGEST >> 20))),
        Some(bytes) => Ok(bytes),
    }
}

/// Tells of a script that one list has twice.
pub(super) fn twice(said: &Said, findings: &mut Vec<Finding>) {
    let Value::Array(items) = &said.value.value else { return };
    let mut seen = BTreeSet::new();
    for item in items {
        let Value::Text(text) = &item.value else { continue };
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if !seen.insert(words.clone()) {
            let message = format!("`{words}` is in this list twice");
            let help = "a script runs once with the same arguments: remove one";
            findings.push(Finding::error("nodes::twice", &item.span, message).label("here again").help(help));
        }
    }
}

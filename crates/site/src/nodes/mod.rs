//! Nodes of a site's other tools: xCAT's objects and tables, hosts and ethers files, Warewulf's nodes.conf; and `nodes.toml` of them.

mod hosts;
mod resolve;
#[cfg(test)]
mod tests;
mod text;
mod warewulf;
pub mod xcat;

use std::collections::BTreeMap;
use std::path::Path;

use base::source::SourceFile;
use nodes::Attr;
use nodes::set::Name;

pub use text::nodes_file_text;

const TEXT_LIMIT: u64 = 64 << 20;
/// How many notes on names are made.
const MOST_NOTES: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    Text(String),
    List(Vec<String>),
}

pub type Values = BTreeMap<Attr, Said>;

/// How the values of a node's groups become one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The first group that has a value counts, for lists as well: xCAT's.
    #[default]
    First,
    /// The last one counts, and lists add up: Warewulf's.
    Last,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct ImportedNodes {
    pub defaults: Values,
    /// What xCAT's group of all nodes says: it has its place among the groups of a node.
    all: Values,
    /// Groups with their values; members are those of the nodes that name them.
    pub groups: BTreeMap<String, Values>,
    /// Nodes with their values and groups, in the order in which these count.
    pub nodes: BTreeMap<Name, (Values, Vec<String>)>,
    order: Order,
    /// Names under which a node is known besides its own; none where several have it.
    aliases: BTreeMap<String, Option<String>>,
    /// What has no counterpart: name, and of how many nodes or groups.
    pub left: BTreeMap<String, usize>,
    pub notes: Vec<String>,
}

/// xCAT's group of all nodes.
const ALL: &str = "all";

impl ImportedNodes {
    /// Adds a note, once, and not more than a reader looks at.
    fn note(&mut self, note: String) {
        if self.notes.len() < MOST_NOTES && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn node(&mut self, name: &str) -> Option<&mut (Values, Vec<String>)> {
        if !nodes::file::is_node_name(name) {
            self.note(format!(
                "`{}` cannot be the name of a node: left out",
                name.chars().take(80).collect::<String>()
            ));
            return None;
        }
        Some(self.nodes.entry(Name(name.to_owned())).or_default())
    }

    pub fn only_images(&mut self, known: &[String]) {
        let mut gone: BTreeMap<String, usize> = BTreeMap::new();
        let nodes = self.nodes.values_mut().map(|(values, _)| values);
        for values in nodes.chain(self.groups.values_mut()).chain([&mut self.defaults]) {
            if let Some(Said::Text(image)) = values.get(&Attr::Image).cloned()
                && !known.contains(&image)
            {
                values.remove(&Attr::Image);
                *gone.entry(image).or_default() += 1;
            }
        }
        self.notes.extend(gone.into_iter().map(|(image, count)| {
            format!("the image `{image}` of {count} tables is not one of the workspace: left out; `imgbuild set RANGE image=NAME` names another")
        }));
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// Why a text is not the MAC address of a node.
fn not_a_mac(text: &str) -> String {
    let shown: String = text.chars().take(80).collect();
    match text.split([':', '-']).filter(|part| part.len() == 2).count() {
        20 => format!("`{shown}` is the address of an InfiniBand card, of 20 bytes, and nodes boot by one of 6"),
        _ => format!("`{shown}` is not a MAC address"),
    }
}

/// Reads files; what each is, its content says.
/// Errors: One cannot be read, or no one knows what it is.
pub fn read(paths: &[impl AsRef<Path>]) -> Result<ImportedNodes, String> {
    let mut found = ImportedNodes::default();
    for path in paths.iter().map(AsRef::as_ref) {
        let shown = path.display();
        let size = std::fs::metadata(path).map_err(|error| format!("`{shown}` cannot be read: {error}"))?.len();
        if size > TEXT_LIMIT {
            return Err(format!("`{shown}` is larger than {} MiB", TEXT_LIMIT >> 20));
        }
        let bytes = std::fs::read(path).map_err(|error| format!("`{shown}` cannot be read: {error}"))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("`{shown}` is not UTF-8"))?;
        let is_taken = add(&mut found, path, &text).map_err(|problem| format!("`{shown}` {problem}"))?;
        if !is_taken {
            return Err(format!(
                "`{shown}` has no nodes: name what `lsdef -t node -z` or `tabdump nodelist` wrote, a hosts or ethers file, or Warewulf's nodes.conf"
            ));
        }
    }
    found.finish();
    Ok(found)
}

fn add(found: &mut ImportedNodes, path: &Path, text: &str) -> Result<bool, String> {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if first.starts_with("#node,") || first.starts_with("#groupname,") {
        xcat::table(found, text)?;
        return Ok(true);
    }
    if text.lines().any(|line| line.trim_start().starts_with("objtype=")) || text.contains("Object name: ") {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        return xcat::stanzas(found, &SourceFile::new(name, path, text));
    }
    if text.lines().any(|line| line.starts_with("nodes:") || line.starts_with("nodeprofiles:")) {
        return warewulf::nodes(found, text);
    }
    Ok(hosts::lines(found, text))
}

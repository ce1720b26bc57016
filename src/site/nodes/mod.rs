//! Nodes of a site's other tools: xCAT's objects and tables, hosts and ethers files, Warewulf's nodes.conf; and `nodes.toml` of them.

mod hosts;
#[cfg(test)]
mod tests;
mod text;
mod warewulf;
pub mod xcat;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::nodes::Attr;
use crate::nodes::set::Name;
use crate::source::SourceFile;

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

#[derive(Debug, Default, PartialEq, Eq)]
pub struct ImportedNodes {
    pub defaults: Values,
    /// Groups with their values; members are those of the nodes that name them.
    pub groups: BTreeMap<String, Values>,
    /// Nodes with their values and groups, those of rising weight.
    pub nodes: BTreeMap<Name, (Values, BTreeSet<String>)>,
    /// Lists of nodes add to those of their groups already, as Warewulf's do; xCAT's replace them.
    pub lists_add: bool,
    /// What has no counterpart: name, and of how many nodes or groups.
    pub left: BTreeMap<String, usize>,
    pub notes: Vec<String>,
}

impl ImportedNodes {
    fn node(&mut self, name: &str) -> Option<&mut (Values, BTreeSet<String>)> {
        if !crate::nodes::file::is_node_name(name) {
            let note =
                format!("`{}` cannot be the name of a node: left out", name.chars().take(80).collect::<String>());
            if self.notes.len() < MOST_NOTES && !self.notes.contains(&note) {
                self.notes.push(note);
            }
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

impl ImportedNodes {
    /// Takes out of nodes what their groups and the defaults give them.
    fn finish(&mut self) {
        for (_, groups) in self.nodes.values() {
            for group in groups {
                self.groups.entry(group.clone()).or_default();
            }
        }
        for (values, groups) in self.nodes.values_mut() {
            let inherited: Vec<&Values> = groups.iter().filter_map(|group| self.groups.get(group)).collect();
            let given =
                |attr: &Attr| -> BTreeSet<&Said> { inherited.iter().filter_map(|group| group.get(attr)).collect() };
            // Where the groups agree, what the node says is theirs; where they do not, the node keeps its own.
            values.retain(|attr, said| {
                let given = given(attr);
                !(given.len() == 1 && given.contains(&*said))
            });
            // Lists add up: what a group has and the node does not is taken out.
            let lists = [Attr::KernelArgs, Attr::Postscripts, Attr::Postbootscripts];
            for attr in lists.into_iter().filter(|_| !self.lists_add) {
                let more: BTreeSet<String> = given(&attr)
                    .into_iter()
                    .flat_map(|said| match said {
                        Said::List(items) => items.clone(),
                        Said::Text(_) => Vec::new(),
                    })
                    .collect();
                if let Some(Said::List(own)) = values.get_mut(&attr)
                    && !more.is_empty()
                {
                    let mut items: Vec<String> =
                        more.iter().filter(|item| !own.contains(item)).map(|item| format!("~{item}")).collect();
                    items.extend(own.iter().filter(|item| !more.contains(*item)).cloned());
                    *own = items;
                }
            }
        }
    }
}

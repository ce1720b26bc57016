//! The workspace's own file: which images there are, what recipes may read, where paths of the management node lie.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml_edit::{Array, DocumentMut, Item, Table, Value};

use recipe::WORKSPACE_FILE;

use super::ImportError;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub allow: BTreeSet<String>,
    pub path_map: BTreeMap<String, String>,
}

const NEW: &str = "# The images of this site, imported from xCAT.\nimages = [\"images/*\"]\nout = \"out\"\n";

/// The text of the workspace's file with what is wanted added; what stands there stays. None where nothing is missing.
/// Errors: [`ImportError::Unreadable`] for a file that is no TOML.
pub(super) fn with(into: &Path, wanted: &Wanted) -> Result<Option<String>, ImportError> {
    let path = into.join(WORKSPACE_FILE);
    let unreadable = |problem: String| ImportError::Unreadable { path: path.clone(), problem };
    let old = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let text = old.clone().unwrap_or_else(|| NEW.to_owned());
    let mut document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| unreadable(error.to_string()))?;
    let is_odd = "it uses a form that imgbuild cannot edit: write `images` and `allow` as lists, `path_map` as a table";
    let odd = || unreadable(is_odd.to_owned());
    let images = document.entry("images").or_insert_with(|| Item::Value(Value::Array(Array::new())));
    let images = images.as_array_mut().ok_or_else(odd)?;
    if !images.iter().any(|one| matches!(one.as_str(), Some("images/*" | "images/**" | "**"))) {
        images.push("images/*");
    }
    if !wanted.allow.is_empty() {
        let rules = table(document.as_table_mut(), "workspace").ok_or_else(odd)?;
        let allow = rules.entry("allow").or_insert_with(|| Item::Value(Value::Array(Array::new())));
        let allow = allow.as_array_mut().ok_or_else(odd)?;
        let there: Vec<String> = allow.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect();
        let new = wanted
            .allow
            .iter()
            .filter(|one| !covers(&there, one) || fault::planted("workspace-rule-twice"))
            .collect::<Vec<_>>();
        let is_fresh = allow.is_empty();
        let is_tall = allow.len() + new.len() > 2;
        for one in &new {
            let mut value = Value::from(one.as_str());
            if is_tall {
                value.decor_mut().set_prefix("\n    ");
            }
            allow.push_formatted(value);
        }
        if is_tall && is_fresh {
            allow.set_trailing_comma(true);
            allow.set_trailing("\n");
        }
    }
    if !wanted.path_map.is_empty() {
        let xcat = table(document.as_table_mut(), "xcat").ok_or_else(odd)?;
        let map = xcat.entry("path_map").or_insert_with(|| Item::Table(Table::new()));
        let map = map.as_table_like_mut().ok_or_else(odd)?;
        for (from, to) in wanted
            .path_map
            .iter()
            .filter(|(from, _)| !map.contains_key(from) || fault::planted("workspace-map-overwritten"))
            .collect::<Vec<_>>()
        {
            map.insert(from, Item::Value(Value::from(to.as_str())));
        }
    }
    let text = document.to_string();
    Ok((old.as_deref() != Some(text.as_str())).then_some(text))
}

fn table<'a>(root: &'a mut Table, name: &str) -> Option<&'a mut Table> {
    let made = || {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    };
    root.entry(name).or_insert_with(made).as_table_mut()
}

/// Whether rules allow a path already.
fn covers(rules: &[String], path: &str) -> bool {
    let folder = path.trim_end_matches("/**");
    rules.iter().any(|rule| match rule.strip_suffix("/**") {
        Some(above) => folder == above || folder.strip_prefix(above).is_some_and(|rest| rest.starts_with('/')),
        None => rule == path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut wanted = Wanted::default();
        wanted.allow.insert("/install/custom/**".to_owned());
        wanted.path_map.insert("/install".to_owned(), "/mnt/install".to_owned());
        let first = with(folder.path(), &wanted).unwrap().unwrap();
        std::fs::write(folder.path().join(WORKSPACE_FILE), &first).unwrap();
        assert_eq!(with(folder.path(), &wanted).unwrap(), None);
        std::fs::write(folder.path().join(WORKSPACE_FILE), first.replace("/mnt/install", "mine") + "# mine\n").unwrap();
        wanted.allow.insert("/install/custom/netboot/a".to_owned());
        assert_eq!(with(folder.path(), &wanted).unwrap(), None);
        wanted.allow.insert("/etc/hosts".to_owned());
        let text = with(folder.path(), &wanted).unwrap().unwrap();
        assert!(text.contains("# mine") && text.contains("\"/etc/hosts\"") && text.contains("\"mine\""), "{text}");
        std::fs::write(folder.path().join(WORKSPACE_FILE), "images = 3\n").unwrap();
        assert!(with(folder.path(), &wanted).is_err());
    }
}

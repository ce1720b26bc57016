//! Paths in an inherited file start where that file lies: they are rewritten, as the recipe that inherits would say them.

use std::path::{Component, Path, PathBuf};

use crate::{Node, Value};

/// Fields that name files or directories; `[]` is each item of a list, `*` each value of a table. `postinstall.inputs` is
/// not among them: the script finds these files where they lie below the file that names them.
const PATHS: &[&str] = &[
    "image.from",
    "repo[].signed-by",
    "repo[].file",
    "packages.lists[]",
    "otherpkgs.dir",
    "otherpkgs.lists[]",
    "kernel.dir",
    "kernel.updates[]",
    "kernel.build[].source",
    "initrd.ca[]",
    "initrd.dracut_conf[]",
    "kdump.ssh_key",
    "kdump.known_hosts",
    "system.authorized_keys[]",
    "system.root_password_hash_file",
    "role[].ansible",
    "role[].vars_files[]",
    "role[].inputs[]",
    "postinstall.script",
    "postinstall.scripts[]",
    "node.postscripts[]",
    "node.postbootscripts[]",
    "sync.lists[]",
    "exclude.lists[]",
    "capture.packages",
    "xcat.path_map.*",
    "xcat.postscripts",
];

/// Changes each path of a document from one that starts in `folder` to one that starts in `recipe`.
pub(crate) fn rewrite(document: &mut Node, folder: &Path, recipe: &Path) {
    if folder == recipe {
        return;
    }
    for path in PATHS {
        let parts: Vec<&str> = path.split('.').collect();
        rewrite_at(document, &parts, &|text| match *path {
            "image.from" => crate::moved_base_image(text, &|path| one(path, folder, recipe)),
            "kernel.updates[]" => updates(text, folder, recipe),
            "postinstall.scripts[]" | "node.postscripts[]" | "node.postbootscripts[]" => {
                with_arguments(text, folder, recipe)
            }
            _ => one(text, folder, recipe),
        });
    }
}

fn rewrite_at(node: &mut Node, parts: &[&str], change: &dyn Fn(&str) -> String) {
    let Some((part, rest)) = parts.split_first() else {
        if let Value::Text(text) = &mut node.value {
            *text = change(text);
        }
        return;
    };
    let (name, is_list) = part.strip_suffix("[]").map_or((*part, false), |name| (name, true));
    let Value::Table(entries) = &mut node.value else { return };
    for (_, _, value) in entries.iter_mut().filter(|(known, _, _)| name == "*" || known == name) {
        match &mut value.value {
            Value::Array(items) if is_list => items.iter_mut().for_each(|item| rewrite_at(item, rest, change)),
            _ if is_list => {}
            _ => rewrite_at(value, rest, change),
        }
    }
}

fn one(text: &str, folder: &Path, recipe: &Path) -> String {
    if text.starts_with('/') {
        return text.to_owned();
    }
    between(recipe, &plain(&folder.join(text))).display().to_string()
}

/// A script and its arguments: only the script is a path.
fn with_arguments(text: &str, folder: &Path, recipe: &Path) -> String {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (script, arguments) = text.split_at(end);
    if script.is_empty() { text.to_owned() } else { one(script, folder, recipe) + arguments }
}

/// xCAT's form of a driver source: a list with commas, each with `dud:` or `rpm:` in front, or nothing.
fn updates(text: &str, folder: &Path, recipe: &Path) -> String {
    let item = |item: &str| {
        let (prefix, rest) = match item.split_once(':') {
            Some((prefix, rest)) if ["dud", "rpm"].contains(&prefix.to_ascii_lowercase().as_str()) => (prefix, rest),
            _ => ("", item),
        };
        let colon = if prefix.is_empty() { "" } else { ":" };
        format!("{prefix}{colon}{}", one(rest, folder, recipe))
    };
    let items: Vec<String> = text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(item).collect();
    items.join(",")
}

/// A path without `.` and, where that can be determined from the text, without `..`.
pub fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(plain.components().next_back(), Some(Component::Normal(_))) => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// The way from a directory to a path, both absolute.
pub fn between(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let mut way: PathBuf = from.components().skip(common).map(|_| Component::ParentDir).collect();
    way.extend(to.components().skip(common));
    if way.as_os_str().is_empty() { PathBuf::from(".") } else { way }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_go_up_and_down() {
        let way = |from: &str, to: &str| between(Path::new(from), Path::new(to)).display().to_string();
        assert_eq!(way("/w/images/a", "/w/base/x.list"), "../../base/x.list");
        assert_eq!(way("/w/a", "/w/a/b"), "b");
        assert_eq!(way("/w/a", "/w/a"), ".");
    }

    #[test]
    fn paths_are_said_from_the_recipe_that_inherits() {
        let (folder, recipe) = (Path::new("/w/base"), Path::new("/w/images/a"));
        assert_eq!(one("keys/k.pub", folder, recipe), "../../base/keys/k.pub");
        assert_eq!(one("/etc/hosts", folder, recipe), "/etc/hosts");
        assert_eq!(with_arguments("a http://b/../c", folder, recipe), "../../base/a http://b/../c");
        assert_eq!(updates("dud:a.img, b", folder, recipe), "dud:../../base/a.img,../../base/b");
    }

    #[test]
    fn each_path_is_a_field_of_the_schema() {
        let schema = super::super::file_fields::file_schema();
        let step = |node: &serde_json::Value| {
            let mut node = node.clone();
            for _ in 0..8 {
                if let Some(name) = node["$ref"].as_str() {
                    node = schema.pointer(name.trim_start_matches('#')).unwrap().clone();
                } else if let Some(all) = node["anyOf"].as_array() {
                    node = all.iter().find(|one| one["type"] != "null").unwrap().clone();
                }
            }
            node
        };
        for path in PATHS {
            let mut node = schema.clone();
            for part in path.split('.') {
                let (name, is_list) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
                node = if name == "*" { step(&node["additionalProperties"]) } else { step(&node["properties"][name]) };
                if is_list {
                    node = step(&node["items"]);
                }
                assert!(node.is_object(), "{path}");
            }
        }
    }
}

//! Roles and collections that a `requirements.yml` asks for: they are files of the repository, and no build fetches them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::read_text;
use crate::Role;
use crate::load::paths::Paths;
use base::source::{Finding, SourceFile, Span};

/// Where such files are. Source: Ansible Galaxy's user guide, and what AWX looks for.
const FILES: [&str; 6] = [
    "requirements.yml",
    "requirements.yaml",
    "roles/requirements.yml",
    "roles/requirements.yaml",
    "collections/requirements.yml",
    "collections/requirements.yaml",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Role,
    Collection,
}

/// Something that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    what: What,
    name: String,
    span: Span,
}

/// Compares the files of a folder with what is there.
pub(super) fn check(folder: &Path, folders: &[PathBuf], role: &Role, paths: &Paths, findings: &mut Vec<Finding>) {
    for name in FILES {
        let path = folder.join(name);
        if !witness::is_file(&path) {
            continue;
        }
        let nowhere = SourceFile::new(paths.name(&path), &path, "");
        let Some(file) = read_text(&path, paths, findings, &Span::new(&nowhere, 0..0)) else { continue };
        for wanted in wanted(&file, if name.starts_with("collections/") { What::Collection } else { What::Role }) {
            let below = match wanted.what {
                What::Role => format!("roles/{}", wanted.name),
                What::Collection => format!("collections/ansible_collections/{}", wanted.name.replace('.', "/")),
            };
            let is_there = folders.iter().any(|folder| witness::is_dir(&folder.join(&below)));
            // Packages of the tools may bring collections.
            if is_there || (wanted.what == What::Collection && !role.tools.is_empty()) {
                continue;
            }
            let (noun, into) = match wanted.what {
                What::Role => ("role", "role install --roles-path roles"),
                What::Collection => ("collection", "collection install -p collections"),
            };
            let message = format!("the {noun} `{}` is not in the repository, and no build fetches it", wanted.name);
            let finding = Finding::error("role::not_vendored", &wanted.span, message).label("required here");
            let place = paths.name(folder);
            let into_folder = if place.is_empty() { String::new() } else { format!("cd {place} && ") };
            findings.push(
                finding.help(format!("fetch it once and commit it: {into_folder}ansible-galaxy {into} -r {name}")),
            );
        }
    }
}

/// The value of a key in a line, without quotes and comment.
fn value_of<'a>(body: &'a str, key: &str) -> Option<&'a str> {
    let value = body.strip_prefix(key)?.strip_prefix(':')?;
    let value = value.split(" #").next().unwrap_or(value).trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then_some(value)
}

/// What the lines of such a file ask for by a name; `bare` is what a list without a heading is of.
fn wanted(file: &Arc<SourceFile>, bare: What) -> Vec<Wanted> {
    let mut found: Vec<Wanted> = Vec::new();
    let (mut what, mut at) = (bare, 0);
    let mut item: Option<Vec<(String, Span)>> = None;
    for line in file.text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let text = line.trim_end();
        let body = text.trim_start();
        if body.starts_with('#') || body.is_empty() || body == "---" {
            continue;
        }
        let span = |value: &str| {
            let begin = start + text.find(value).unwrap_or(0);
            Span::new(file, begin..begin + value.len())
        };
        if let Some(heading) = text.strip_suffix(':').filter(|_| body.len() == text.len()) {
            found.extend(item.take().and_then(|item| named(item, what)));
            what = if heading == "collections" { What::Collection } else { What::Role };
            continue;
        }
        let mut body = body;
        if let Some(rest) = body.strip_prefix("- ") {
            found.extend(item.take().and_then(|item| named(item, what)));
            body = rest.trim_start();
            let is_pair = body.contains(": ") || body.ends_with(':');
            let plain = body.split(" #").next().unwrap_or(body).trim().trim_matches(['"', '\'']);
            item = Some(if is_pair || plain.is_empty() { Vec::new() } else { vec![("name".to_owned(), span(plain))] });
        }
        if let Some(item) = &mut item {
            for key in ["name", "src", "source", "role"] {
                item.extend(value_of(body, key).map(|value| (key.to_owned(), span(value))));
            }
        }
    }
    found.extend(item.take().and_then(|item| named(item, what)));
    found
}

/// The name under which an item is installed; none where only its source tells.
fn named(item: Vec<(String, Span)>, what: What) -> Option<Wanted> {
    let first = |key: &str| item.iter().find(|(known, _)| known == key).map(|(_, span)| span);
    let span = first("name").or_else(|| first("role")).or_else(|| first("src"))?;
    let text = span.text();
    let name = match what {
        What::Collection => text.split([',', '@']).next().unwrap_or(text).to_owned(),
        // git+https://host/ansible-role-x.git,v1 is `ansible-role-x`.
        What::Role => {
            let plain = text.split(',').next().unwrap_or(text).trim_end_matches('/');
            let last = if plain.contains("://") { plain.rsplit('/').next().unwrap_or(plain) } else { plain };
            last.trim_end_matches(".git").trim_end_matches(".tar.gz").to_owned()
        }
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let fits = !name.is_empty() && name.chars().all(is_plain) && !name.starts_with('.');
    let is_name = fits && (what == What::Role || name.matches('.').count() == 1);
    is_name.then(|| Wanted { what, name, span: span.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_found_by_its_name() {
        let text = "---\ncollections:\n  - name: community.general\n    version: \">=8\"\n  - ansible.posix # x\n  - https://host/a.tar.gz\nroles:\n  - src: git+https://host/ansible-role-x.git,v1\n  - src: geerlingguy.ntp\n    name: ntp\n";
        let found = wanted(&SourceFile::new("r.yml", "/r.yml", text), What::Role);
        let shown: Vec<String> = found.iter().map(|one| format!("{:?} {}", one.what, one.name)).collect();
        let expected = ["Collection community.general", "Collection ansible.posix", "Role ansible-role-x", "Role ntp"];
        assert_eq!(shown, expected);
        let found = wanted(&SourceFile::new("r.yml", "/r.yml", "- geerlingguy.ntp\n"), What::Role);
        assert_eq!((found[0].name.as_str(), found[0].span.to_string()), ("geerlingguy.ntp", "r.yml:1:3".to_owned()));
    }
}

//! Overlays: plain files are synced with their owners and modes; templates are named, with what they use.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::MoveError;
use crate::input::roots::{Entry, Kind, Root};
use crate::plan::{Key, Ownership, Plan, Step};

/// What replaces well-known templates of Warewulf; the end of their paths.
const REPLACED: [(&str, &str); 13] = [
    ("etc/hostname.ww", "nodes get their names by DHCP or nodes.toml: [system] hostname = \"dhcp\""),
    ("etc/hosts.ww", "export nodes.toml: `imgbuild nodes --format hosts`, and sync the file"),
    ("etc/fstab.ww", "[system] fstab, or [boot] tmpfs"),
    ("root/.ssh/authorized_keys.ww", "[system] authorized_keys"),
    ("etc/resolv.conf.ww", "nodes get name servers by DHCP"),
    ("etc/localtime.ww", "[system] timezone"),
    ("etc/issue.ww", "a plain file in a synclist"),
    ("etc/passwd.ww", "[users] fixes numbers of accounts; MERGE: in a synclist adds accounts"),
    ("etc/group.ww", "[groups] fixes numbers of groups; MERGE: in a synclist adds groups"),
    ("_key.ww", "each node makes its own host keys"),
    ("_key.pub.ww", "each node makes its own host keys"),
    ("ifcfg.ww", "the node configures the card that it booted from"),
    ("ww4-managed.ww", "the node configures the card that it booted from"),
];

/// Folders of Warewulf's own programs.
const OF_WAREWULF: [&str; 3] = ["warewulf/", "usr/lib/dracut/", "init"];

/// Takes one overlay, or all of a directory of them.
pub(super) fn take(plan: &mut Plan, path: &Path, shown: &str, at: usize) -> Result<(), MoveError> {
    let read = |error| MoveError::Read { path: path.to_owned(), error };
    let root = Root::open(&path.canonicalize().map_err(read)?).map_err(read)?;
    let names = root.names("").map_err(read)?;
    let is_one = root.is_folder("rootfs");
    let many: Vec<&String> = names.iter().filter(|name| root.is_folder(&format!("{name}/rootfs"))).collect();
    let shown = shown.trim_end_matches('/');
    if is_one {
        one(plan, &root, "rootfs", &format!("{shown}/rootfs"));
    } else if !many.is_empty() {
        for name in many {
            one(plan, &root, &format!("{name}/rootfs"), &format!("{shown}/{name}/rootfs"));
        }
        for name in names.iter().filter(|name| !root.is_folder(&format!("{name}/rootfs"))) {
            plan.decide(
                &Key::new(&format!("{shown}/{name}"), 0, "overlay", ""),
                "not an overlay of Warewulf 4.6: it has no rootfs",
            );
        }
    } else {
        let names = ["etc", "usr", "root", "opt", "var"];
        if !names.iter().any(|name| root.is_folder(name)) {
            return Err(MoveError::input(
                format!("{shown} (--overlay {})", at + 1),
                "not an overlay",
                "name an overlay, or a directory of overlays: /var/lib/warewulf/overlays",
            ));
        }
        // As before 4.6.
        one(plan, &root, "", shown);
    }
    Ok(())
}

fn one(plan: &mut Plan, root: &Arc<Root>, folder: &str, shown: &str) {
    let entries = match root.tree(folder) {
        Ok(entries) => entries,
        Err(error) => return plan.decide(&Key::new(shown, 0, "overlay", ""), format!("it is not read: {error}")),
    };
    let own = Ownership { is_kept: true, ..Ownership::default() };
    for entry in &entries {
        let path = entry.path.strip_prefix(folder).unwrap_or(&entry.path).trim_start_matches('/').to_owned();
        let key = Key::new(&format!("{shown}/{path}"), 0, "overlay", "");
        if path.ends_with(".ww") && entry.kind == Kind::File {
            template(plan, root, entry, &path, &key, &own);
            continue;
        }
        if OF_WAREWULF.iter().any(|own| path.starts_with(own) && (own.ends_with('/') || path == *own))
            && entry.kind != Kind::Folder
        {
            plan.decide(&key, "it runs on nodes of Warewulf before their init: move what it does into [node] postscripts, or the image");
            continue;
        }
        if OF_WAREWULF.iter().any(|own| own.ends_with('/') && format!("{path}/").starts_with(own)) {
            continue;
        }
        if entry.kind == Kind::Folder {
            let owner = (entry.uid != 0 || entry.gid != 0).then(|| format!("{}:{}", entry.uid, entry.gid));
            plan.steps.push(Step::Folder { path: format!("/{path}"), mode: entry.mode, owner });
            continue;
        }
        if plan.put_entry(&key, root, entry, &format!("/{path}"), &own) {
            plan.exact(&key, "files", "");
        }
    }
}

/// A template: a plain file if it has no actions; else it is named, with what it uses.
fn template(plan: &mut Plan, root: &Arc<Root>, entry: &Entry, path: &str, key: &Key, own: &Ownership) {
    let text = match root.text(&entry.path) {
        Ok(text) => text,
        Err(error) => return plan.decide(key, format!("it is not read: {error}")),
    };
    let plain = without_comments(&text);
    if let Some(plain) = plain.filter(|_| !path.ends_with("_key.ww")) {
        let owner = (own.is_kept && (entry.uid != 0 || entry.gid != 0)).then(|| format!("{}:{}", entry.uid, entry.gid));
        return plan.put(key, &format!("/{}", path.trim_end_matches(".ww")), plain.into_bytes(), entry.mode, owner);
    }
    let used = uses(&text);
    let names = used.iter().take(12).cloned().collect::<Vec<_>>().join(", ");
    let line = text.lines().position(|line| line.contains("{{")).map_or(0, |at| at + 1);
    let advice = REPLACED.iter().find(|(end, _)| path.ends_with(end)).map(|(_, advice)| *advice);
    let advice = advice
        .unwrap_or("write the file for each node or group and sync it, docs/sync.md, or make it in [node] postscripts");
    plan.decide(&Key { line, ..key.clone() }, format!("a template that uses {names}: {advice}"));
}

/// The text of a template that has no actions but comments; none if it has others.
fn without_comments(text: &str) -> Option<String> {
    let mut found = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        let (action, after) = rest[at + 2..].split_once("}}")?;
        let is_comment = action.trim_matches(['-', ' ']).starts_with("/*");
        if !is_comment {
            return None;
        }
        let before = &rest[..at];
        found.push_str(if action.starts_with('-') { before.trim_end() } else { before });
        rest = if action.ends_with('-') { after.trim_start() } else { after };
    }
    found.push_str(rest);
    Some(found)
}

/// Fields (`.NetDevs`), variables and functions of a template's actions.
fn uses(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let keywords = [
        "range", "end", "if", "else", "with", "define", "template", "block", "eq", "ne", "and", "or", "not", "printf",
        "len", "index",
    ];
    for action in text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
        if action.trim_matches(['-', ' ']).starts_with("/*") {
            continue;
        }
        let outside: String = action.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        for word in outside.split(|c: char| !c.is_ascii_alphanumeric() && !"._$".contains(c)) {
            let is_field = word.starts_with('.') && word.len() > 1;
            let is_function = word.starts_with(|c: char| c.is_ascii_alphabetic()) && !keywords.contains(&word);
            if is_field || is_function || word.starts_with('$') && word.contains('.') {
                found.insert(word.to_owned());
            }
        }
    }
    if found.is_empty() {
        found.insert("instructions".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_known_by_their_actions() {
        let text = "{{- /* x */ -}}\nplain\n";
        assert_eq!(without_comments(text).as_deref(), Some("plain\n"));
        assert_eq!(without_comments("a {{.Id}}"), None);
        let text = "{{range $n := .AllNodes}}{{$n.Id.Get}} {{IncludeFrom $.ImageName \"/etc/passwd\"}}{{end}}{{if .Tags.X}}{{end}}";
        let used: Vec<String> = uses(text).into_iter().collect();
        assert_eq!(used, ["$.ImageName", "$n.Id.Get", ".AllNodes", ".Tags.X", "IncludeFrom"]);
    }
}

//! What counts of an ansible.cfg: how playbooks are read. Whom Ansible reaches, and how, is imgbuild's.
//!
//! Source of the keys: Ansible, "Ansible Configuration Settings".

use std::sync::Arc;

use base::source::{Finding, SourceFile, Span};

/// Where a run sees the recipe's directory.
const RECIPE: &str = "/recipe";

/// Keys of `[defaults]` that say how a playbook is read.
const TAKEN: [&str; 12] = [
    "ansible_managed",
    "any_errors_fatal",
    "duplicate_dict_key",
    "error_on_undefined_vars",
    "force_handlers",
    "gathering",
    "hash_behaviour",
    "jinja2_extensions",
    "jinja2_native",
    "private_role_vars",
    "task_includes_static",
    "system_warnings",
];

/// The same with folders in them.
const FOLDERS: [&str; 11] = [
    "roles_path",
    "collections_path",
    "collections_paths",
    "library",
    "module_utils",
    "action_plugins",
    "filter_plugins",
    "lookup_plugins",
    "test_plugins",
    "vars_plugins",
    "callback_plugins",
];

/// Keys that would need a password.
const VAULT: [&str; 4] = ["vault_password_file", "vault_identity_list", "vault_identity", "ask_vault_pass"];

fn is_false(value: &str) -> bool {
    ["", "no", "false", "off", "0"].contains(&value.to_ascii_lowercase().as_str())
}

/// Keys with their values; `folder` is where the file's folder is for the run, below the recipe's directory.
pub(super) fn read(file: &Arc<SourceFile>, folder: &str, findings: &mut Vec<Finding>) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let (mut section, mut at) = (String::new(), 0);
    for line in file.text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let text = line.trim();
        if text.starts_with(['#', ';']) || text.is_empty() {
            continue;
        }
        if let Some(name) = text.strip_prefix('[') {
            section = name.split(']').next().unwrap_or(name).trim().to_owned();
            continue;
        }
        let Some((key, value)) = text.split_once(['=', ':']).filter(|_| section == "defaults") else { continue };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.split(" ;").next().unwrap_or(value).trim());
        let begin = start + line.find(text).unwrap_or(0);
        let span = Span::new(file, begin..begin + text.len());
        if VAULT.contains(&key.as_str()) && !is_false(value) {
            let message = format!("`{key}` asks for the password of a vault, which no build has");
            let finding = Finding::error("role::vault", &span, message).label("set here");
            findings.push(finding.help(
                "remove it, and keep secrets out of the image: give them to nodes by a synclist; what must be in the image is a plain file next to the recipe that git ignores",
            ));
        } else if FOLDERS.contains(&key.as_str()) {
            let folders: Vec<String> = value.split(':').filter_map(|one| folder_of(one.trim(), folder)).collect();
            if !folders.is_empty() {
                found.push((key, folders.join(":")));
            }
        } else if TAKEN.contains(&key.as_str()) {
            found.push((key, value.to_owned()));
        }
    }
    found
}

/// A folder of the repository as the run sees it; none for one of the host or of a user's home.
fn folder_of(value: &str, folder: &str) -> Option<String> {
    let value = value.trim_matches(['"', '\'']);
    let value = value.strip_prefix("{{CWD}}/").or_else(|| value.strip_prefix("./")).unwrap_or(value);
    if value.is_empty() || value.starts_with(['/', '~', '$', '{']) {
        return None;
    }
    let path = crate::plain(&std::path::Path::new(folder).join(value));
    Some(format!("{RECIPE}/{}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> (Vec<(String, String)>, Vec<String>) {
        let mut findings = Vec::new();
        let found = read(&SourceFile::new("ansible.cfg", "/ansible.cfg", text), "play", &mut findings);
        let said = findings.iter().map(|one| format!("{} {}", one.code, one.span.as_ref().unwrap())).collect();
        (found, said)
    }

    #[test]
    fn what_says_how_playbooks_are_read_counts_and_nothing_else() {
        let text = "[defaults]\ninventory = hosts\nroles_path = roles:../shared:/etc/ansible/roles\nhash_behaviour=merge\nforks = 50\n[ssh_connection]\nroles_path = x\n";
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = vec![pair("roles_path", "/recipe/play/roles:/recipe/shared"), pair("hash_behaviour", "merge")];
        assert_eq!(of(text), (expected, vec![]));
    }

    #[test]
    fn passwords_of_vaults_are_refused() {
        let (found, said) =
            of("[defaults]\n; vault_password_file = x\nvault_password_file = ~/.vault\nask_vault_pass = no\n");
        assert_eq!((found.len(), said), (0, vec!["role::vault ansible.cfg:3:1".to_owned()]));
    }
}

//! What an administrator does about a task that failed.

/// Modules of package managers, by the last part of their names.
const PACKAGES: [&str; 12] = [
    "apt",
    "apt_key",
    "apt_repository",
    "deb822_repository",
    "dnf",
    "dnf5",
    "package",
    "rpm_key",
    "yum",
    "yum_repository",
    "zypper",
    "zypper_repository",
];

/// Modules that fetch something.
const FETCHERS: [&str; 10] =
    ["cpanm", "gem", "get_url", "git", "npm", "pip", "subversion", "unarchive", "uri", "win_get_url"];

/// Words of programs that found no network.
const NO_NETWORK: [&str; 6] = [
    "Temporary failure resolving",
    "name resolution",
    "Network is unreachable",
    "ould not resolve",
    "Name or service not known",
    "Cannot download",
];

/// What the module and the message of a task say of its remedy; ends with a line break where it says something.
pub(super) fn remedy(module: &str, message: &str) -> String {
    let name = module.rsplit('.').next().unwrap_or(module);
    let has = |words: &str| message.contains(words);
    let text = if has("Vault") || has("vault secrets") || has("Decryption failed") {
        "builds have no password of a vault: keep secrets out of the image, or give the role a plain file that git ignores: ‹[[role]] vars_files = [\"secrets.yml\"]›"
    } else if has("couldn't resolve module/action") || has("was not found in") {
        "collections and roles are files of the repository: ansible-galaxy collection install NAME -p collections, and commit it; or name a package that has them: ‹[[role]] tools = [\"ansible\"]›"
    } else if PACKAGES.contains(&name) {
        "roles have no network: let the image's lists install its packages: ‹[packages] install = [\"NAME\"]›; the task then finds them there"
    } else if FETCHERS.contains(&name) || NO_NETWORK.iter().any(|words| has(words)) {
        "roles have no network: put what is fetched next to the playbook, and copy it from there"
    } else if has("sudo: not found") || has("sudo: command not found") {
        "tasks are root's already, and `su` takes them to other accounts: remove `become_method`, or let ‹[packages]› install sudo"
    } else if has("undefined") {
        "set the variable: ‹[[role]] vars = { name = \"value\" }›, or in group_vars next to the playbook"
    } else if has("Could not find the requested service") {
        "the image has no such unit: let ‹[packages]› install what brings it"
    } else if has("Could not find or access") || has("unable to find") || has("No such file") {
        "a role sees its playbook's folder, and `roles` and `collections` next to the recipe: name other files in ‹[[role]] inputs = [\"NAME\"]›"
    } else if has("No module named") || has("Failed to import the required Python library") {
        "modules run with the image's Python: let ‹[packages]› install the library"
    } else {
        return String::new();
    };
    format!("{text}\n")
}

#[cfg(test)]
mod tests {
    use super::remedy;

    #[test]
    fn module_and_message_say_what_to_do() {
        for (module, message, words) in [
            ("apt", "No package matching 'x' is available", "[packages] install"),
            ("ansible.builtin.dnf", "Cannot download repomd.xml", "[packages] install"),
            ("get_url", "Request failed", "next to the playbook"),
            ("command", "curl: (6) Could not resolve host", "next to the playbook"),
            ("shell", "/bin/sh: 1: sudo: not found", "become_method"),
            ("debug", "'nosuch' is undefined", "vars ="),
            ("systemd", "Could not find the requested service x: host", "no such unit"),
            ("copy", "Could not find or access 'x'", "inputs ="),
            ("", "couldn't resolve module/action 'community.general.x'", "ansible-galaxy"),
            ("include_vars", "Attempting to decrypt but no vault secrets found", "vars_files"),
        ] {
            assert!(remedy(module, message).contains(words), "{module}: {message}");
        }
        assert_eq!(remedy("command", "non-zero return code"), "");
    }
}

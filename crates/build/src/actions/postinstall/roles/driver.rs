//! What a run of Ansible works with: programs of imgbuild's own, settings, the inventory and variables.

use base::digest::FieldHasher;
use recipe::ROLE_HOST;
use serde_json::{Value, json};

use super::inside::RoleRequest;

/// Where the run finds it; in the image's root there is nothing of it.
pub(super) const PLACE: &str = "/imgbuild";

/// Directory of the image that modules work in: on /run, which is never part of a layer.
const WORK: &str = "/run/imgbuild-roles";

/// What the run writes, line by line, below [`PLACE`].
pub(super) const REPORT: &str = "report";

/// Programs, by their paths below [`PLACE`].
const PROGRAMS: [(&str, &str); 4] = [
    ("run.py", include_str!("ansible/run.py")),
    ("imgbuild_common.py", include_str!("ansible/common.py")),
    ("connection/imgbuild.py", include_str!("ansible/connection.py")),
    ("callback/imgbuild.py", include_str!("ansible/report.py")),
];

/// What these files are, for keys.
pub(super) fn identity() -> String {
    let mut hasher = FieldHasher::new("imgbuild ansible driver v1");
    for (name, text) in PROGRAMS {
        hasher.text(name).text(text);
    }
    hasher.finish().to_string()
}

/// All files, by their paths below [`PLACE`]; `python` is the image's.
pub(super) fn files(request: &RoleRequest, python: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> =
        PROGRAMS.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    all.push(("ansible.cfg".to_owned(), settings(&request.settings)));
    all.push(("inventory.json".to_owned(), inventory(&request.groups, python).to_string()));
    all.push(("vars.json".to_owned(), request.vars.clone()));
    all
}

/// Settings: the playbook's own, and ours, which say whom Ansible reaches and that nothing is left in the image.
fn settings(own: &[(String, String)]) -> String {
    let has = |name: &str| own.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let with = |name: &str, rest: &str| match has(name) {
        Some(value) => format!("{value}:{rest}"),
        None => rest.to_owned(),
    };
    let collections = match has("collections_path").or(has("collections_paths")) {
        Some(value) => format!("{value}:/recipe/collections"),
        None => "/recipe/collections:/usr/share/ansible/collections".to_owned(),
    };
    let mut text = String::from("[defaults]\n");
    let ours = ["roles_path", "collections_path", "collections_paths", "callback_plugins"];
    for (key, value) in own.iter().filter(|(key, _)| !ours.contains(&key.as_str())) {
        // A `%` is one of the format's own.
        text.push_str(&format!("{key} = {}\n", value.replace(['\n', '\r'], " ")));
    }
    for (key, value) in [
        ("inventory", format!("{PLACE}/inventory.json")),
        ("connection_plugins", format!("{PLACE}/connection")),
        ("callback_plugins", with("callback_plugins", &format!("{PLACE}/callback"))),
        ("callbacks_enabled", "imgbuild".to_owned()),
        // Its name before 2.11.
        ("callback_whitelist", "imgbuild".to_owned()),
        ("roles_path", with("roles_path", "/recipe/roles")),
        ("collections_path", collections),
        ("remote_user", "root".to_owned()),
        ("remote_tmp", format!("{WORK}/tmp")),
        ("forks", "1".to_owned()),
        ("fact_caching", "memory".to_owned()),
        ("retry_files_enabled", "False".to_owned()),
        ("host_key_checking", "False".to_owned()),
        ("nocows", "True".to_owned()),
        ("localhost_warning", "False".to_owned()),
        ("deprecation_warnings", "False".to_owned()),
    ] {
        text.push_str(&format!("{key} = {value}\n"));
    }
    text + "\n[inventory]\nenable_plugins = yaml\n\n[privilege_escalation]\nbecome_method = su\n\n[su_become_plugin]\nflags = -s /bin/sh\n"
}

/// The one host, in its groups.
fn inventory(groups: &[String], python: &str) -> Value {
    let host = json!({
        "ansible_connection": "imgbuild",
        "ansible_python_interpreter": python,
        "ansible_remote_tmp": format!("{WORK}/tmp"),
        "ansible_async_dir": format!("{WORK}/async"),
        "ansible_pipelining": true,
    });
    let of_group = |name: &String| (name.clone(), json!({"hosts": {ROLE_HOST: {}}}));
    let children: serde_json::Map<String, Value> = groups.iter().map(of_group).collect();
    json!({"all": {"hosts": {ROLE_HOST: host}, "children": children}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_playbook_go_before_ours_and_cannot_replace_them() {
        let own = [("roles_path", "/recipe/a"), ("hash_behaviour", "merge"), ("inventory", "hosts")];
        let own: Vec<(String, String)> = own.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let text = settings(&own);
        assert!(text.contains("roles_path = /recipe/a:/recipe/roles\n") && text.contains("hash_behaviour = merge\n"));
        assert_eq!(text.matches("\nroles_path").count(), 1);
        // The last one of a key counts.
        assert!(text.rfind("inventory = /imgbuild/inventory.json") > text.find("inventory = hosts"));
    }

    /// Runs a text of Python with the programs' common part; gives what it prints.
    fn python(text: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("imgbuild_common.py"), PROGRAMS[1].1).unwrap();
        let ran = std::process::Command::new("python3")
            .args(["-B", "-c", text])
            .current_dir(directory.path())
            .args(PROGRAMS.map(|(_, text)| text))
            .output()
            .expect("python3 is there");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    #[test]
    fn the_programs_are_python() {
        python("import ast, sys\nfor text in sys.argv[1:]:\n    ast.parse(text)");
    }

    #[test]
    fn links_of_the_image_lead_to_paths_of_the_image() {
        let text = "
import os, sys
sys.path.insert(0, '.')
from imgbuild_common import image_path
os.makedirs('t/usr/lib/systemd/system'); os.makedirs('t/etc')
os.symlink('usr/lib', 't/lib'); os.symlink('/lib/systemd/system/ssh.service', 't/etc/sshd.service')
os.symlink('../../../..', 't/etc/up'); os.symlink('loop', 't/loop')
for path in ('/etc/sshd.service', '/lib/x', '/etc/up/etc/passwd', '/loop/a'):
    print(image_path(path, os.path.abspath('t')))
";
        let found = python(text);
        let lines: Vec<&str> = found.lines().collect();
        assert_eq!(lines[..3], ["/usr/lib/systemd/system/ssh.service", "/usr/lib/x", "/etc/passwd"]);
        // A loop leads nowhere, and not out.
        assert!(lines[3].starts_with("/loop"), "{found}");
    }

    #[test]
    fn the_image_is_the_only_host_and_is_in_its_groups() {
        let found = inventory(&["web".to_owned()], "/usr/bin/python3");
        assert_eq!(found["all"]["hosts"].as_object().map(serde_json::Map::len), Some(1));
        assert!(found["all"]["children"]["web"]["hosts"][ROLE_HOST].is_object());
    }
}

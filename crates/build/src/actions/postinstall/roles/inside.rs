//! Runs a playbook against the image's tree. Runs inside.

use serde::{Deserialize, Serialize};

use super::driver::{self, PLACE, REPORT};
use super::report::{self, Record};
use crate::actions::postinstall::recipe_tree::{self, Shown};
use crate::actions::postinstall::script::{RECIPE_DIRECTORY, hide_own_accounts, nobodys, thrown_away};
use crate::actions::postinstall::secrets::{Given, Settled, settle};
use base::digest::Digest;
use packages::{tree_of, uname_script};
use recipe::ROLE_HOST;
use sandbox::helper::News;
use sandbox::{Bind, CommandRequest, CommandResult, STAND_IN_DIRECTORY, run_command, upper_is_whole};
use store::{LayerReader, ScanAnswer, ScanRequest, TreeEditor, in_scratch, make_directories, scan};

/// Where programs of the image are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where Python may be in an image; the second is RHEL's own, which is always there.
const PYTHONS: [&str; 3] = ["usr/bin/python3", "usr/libexec/platform-python", "bin/python3"];

/// Ansible's programs in the tools root.
const PLAYBOOK_PROGRAM: &str = "usr/bin/ansible-playbook";

/// Names below the image's tree that runs leave, and that no image is to have.
const LEFTOVERS: [&str; 8] = [
    "root/.ansible",
    "root/.ansible_async",
    "root/.rpmdb", // rpm of Debian, asked for facts
    "home/*/.ansible",
    "tmp/ansible*",
    "var/tmp/ansible*",
    "var/cache/ldconfig/aux-cache",
    "var/log/*.log",
];

/// What the layer is made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RoleRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    pub shown: Vec<Shown>,
    pub tools: Vec<Digest>,
    pub base: Vec<Digest>,
    /// The playbook, below the recipe's directory.
    pub playbook: String,
    pub groups: Vec<String>,
    /// Variables, as JSON.
    pub vars: String,
    pub vars_files: Vec<String>,
    pub settings: Vec<(String, String)>,
    /// Patterns of paths that stay whatever they look like.
    pub keep: Vec<String>,
    /// What `uname` answers in the image: release and machine.
    pub uname: (String, String),
    /// No time is later than this.
    pub epoch: i64,
    /// Log file, relative to the store's directory.
    pub log: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum RoleAnswer {
    Made(Made),
    /// The image has no Python.
    NoPython,
    /// The tools root has no Ansible.
    NoAnsible,
    /// What the run reported, and how it ended.
    Failed(Vec<Record>, CommandResult),
}

/// What the run made, and what is to be said of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Made {
    pub layer: ScanAnswer,
    pub records: Vec<Record>,
    /// Files that it wrote to the root that Ansible ran in.
    pub thrown_away: Vec<String>,
    /// Paths that belong to `nobody` now, and did not before.
    pub nobodys: Vec<String>,
    /// Keys and identities that were taken out, because each node makes its own.
    pub identities: Vec<String>,
    /// What looks like a secret, and stays.
    pub secrets: Vec<String>,
}

pub(crate) fn inside(request: RoleRequest, news: News<'_>) -> Result<RoleAnswer, String> {
    in_scratch(&request.scratch, || {
        let at = |name: &str| format!("{}/{name}", request.scratch);
        let below = LayerReader::open(&request.base)?;
        let Some(python) = PYTHONS.iter().find(|path| below.tree.0.contains_key(**path)) else {
            return Ok(RoleAnswer::NoPython);
        };
        let tools = LayerReader::open(&request.tools)?;
        if !tools.tree.0.contains_key(PLAYBOOK_PROGRAM) {
            return Ok(RoleAnswer::NoAnsible);
        }
        let interpreter = interpreter_of(tools.read(PLAYBOOK_PROGRAM)?.as_deref());
        make_directories(&request.scratch, &["mount", "tree", "work", "root/etc", "root-work", "place"])?;
        let place = TreeEditor::open(&at("place"))?;
        for (name, text) in driver::files(&request, &format!("/{python}")) {
            place.write(&name, text.as_bytes(), 0o644)?;
        }
        hide_own_accounts(&at("root"), &request.base, &|_| false)?;
        recipe_tree::make(&request.shown, &at("recipe"), request.epoch)?;
        news("Ansible runs the role");
        let result = run_command(&command(&request, interpreter)?)?;
        let records = report::read(place.open_file(REPORT));
        if result.status != 0 || report::unmatched(&records).is_some() {
            return Ok(RoleAnswer::Failed(records, result));
        }
        let editor = TreeEditor::open(&at("tree"))?;
        for pattern in LEFTOVERS {
            editor.remove(pattern)?;
        }
        remove_compiled(&at("tree"), &below, &editor)?;
        let (recipe, elsewhere) = (at("recipe"), at("elsewhere"));
        let given = Given {
            shown: &request.shown,
            directories: (&recipe, &elsewhere),
            variables: &[("vars".to_owned(), request.vars.clone())],
            keep: &request.keep,
        };
        let settled = settle((&at("tree"), upper_is_whole()), &below, &given, &editor)?;
        let layer = scan(&ScanRequest {
            tree: at("tree"),
            base: request.base.clone(),
            epoch: request.epoch,
            whole: upper_is_whole(),
        })?;
        let nobodys = nobodys(&request.base, layer.layer)?;
        let thrown_away = thrown_away(&at("root"));
        let Settled { removed: identities, secret: secrets } = settled;
        Ok(RoleAnswer::Made(Made { layer, records, thrown_away, nobodys, identities, secrets }))
    })
}

/// The words that start the Python which Ansible belongs to, by the first line of its program.
fn interpreter_of(program: Option<&[u8]>) -> Vec<String> {
    let line = program.and_then(|bytes| bytes.strip_prefix(b"#!"));
    let line = line.and_then(|rest| rest.split(|byte| *byte == b'\n').next());
    let line = line.map(|line| String::from_utf8_lossy(line).into_owned()).unwrap_or_default();
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    match words.first() {
        Some(first) if first.rsplit('/').next().is_some_and(|name| name.starts_with("python")) => words,
        Some(first) if first.ends_with("/env") && words.len() > 1 => words,
        _ => vec!["/usr/bin/python3".to_owned()],
    }
}

fn command(request: &RoleRequest, interpreter: Vec<String>) -> Result<CommandRequest, String> {
    let at = |name: &str| format!("{}/{name}", request.scratch);
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let (release, machine) = &request.uname;
    let mut arguments = interpreter;
    arguments.push(format!("{PLACE}/run.py"));
    for name in &request.vars_files {
        arguments.extend(["-e".to_owned(), format!("@{RECIPE_DIRECTORY}/{name}")]);
    }
    arguments.extend(["-e".to_owned(), format!("@{PLACE}/vars.json")]);
    arguments.push(format!("{RECIPE_DIRECTORY}/{}", request.playbook));
    let bind = |source: &str, target: &str, writable| Bind { source: at(source), target: target.to_owned(), writable };
    Ok(CommandRequest {
        root: tree_of(&request.scratch, &request.tools, "root", "root-work")?,
        target: Some(tree_of(&request.scratch, &request.base, "tree", "work")?),
        binds: vec![bind("recipe", RECIPE_DIRECTORY, false), bind("place", PLACE, true)],
        stand_ins: vec![("uname".to_owned(), uname_script(release, machine, ""))],
        kernel: Some(release.clone()),
        working_directory: RECIPE_DIRECTORY.to_owned(),
        arguments,
        environment: vec![
            variable("PATH", PATH),
            variable("HOME", "/root"),
            variable("LC_ALL", "C.UTF-8"),
            variable("TZ", "UTC"),
            variable("TERM", "dumb"),
            variable("SOURCE_DATE_EPOCH", &request.epoch.to_string()),
            variable("PYTHONDONTWRITEBYTECODE", "1"),
            variable("PYTHONHASHSEED", "0"),
            variable("ANSIBLE_CONFIG", &format!("{PLACE}/ansible.cfg")),
            variable("ANSIBLE_HOME", "/root/.ansible"),
            variable("ANSIBLE_FORCE_COLOR", "0"),
            variable("ANSIBLE_NOCOLOR", "1"),
            variable("IMGBUILD_PLACE", PLACE),
            variable("IMGBUILD_TREE", "/target"),
            variable("IMGBUILD_HOST", ROLE_HOST),
            variable("IMGBUILD_REPORT", &format!("{PLACE}/{REPORT}")),
            variable("IMGBUILD_IMAGE_PATH", &format!("{STAND_IN_DIRECTORY}:{PATH}")),
        ],
        log: request.log.clone(),
        mount_point: at("mount"),
        ..CommandRequest::default()
    })
}

/// Takes out what Python compiled: it has times of the build.
fn remove_compiled(tree: &str, below: &LayerReader, editor: &TreeEditor) -> Result<(), String> {
    let mut made = Vec::new();
    let walk = walkdir::WalkDir::new(tree).sort_by_file_name();
    for entry in walk.into_iter().flatten().filter(|entry| entry.file_type().is_file()) {
        let Some(path) = entry.path().strip_prefix(tree).ok().and_then(std::path::Path::to_str) else { continue };
        if path.ends_with(".pyc") && path.contains("__pycache__/") && !path.contains('*') {
            made.push(path.to_owned());
        }
    }
    for path in &made {
        if !below.tree.0.contains_key(path) {
            editor.remove(path)?;
        }
    }
    // Directories that were made for these alone.
    let mut folders: Vec<&str> =
        made.iter().filter_map(|path| path.rsplit_once('/')).map(|(folder, _)| folder).collect();
    folders.dedup();
    for folder in folders {
        if !below.tree.0.contains_key(folder) && editor.names(folder).is_empty() {
            editor.remove(folder)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::interpreter_of;

    #[test]
    fn ansible_runs_with_the_python_that_its_program_names() {
        for (program, words) in [
            ("#!/usr/bin/python3\nx", vec!["/usr/bin/python3"]),
            ("#!/usr/bin/python3.12 -s\n", vec!["/usr/bin/python3.12", "-s"]),
            ("#!/bin/sh\n", vec!["/usr/bin/python3"]),
            ("", vec!["/usr/bin/python3"]),
        ] {
            assert_eq!(interpreter_of(Some(program.as_bytes())), words);
        }
        assert_eq!(interpreter_of(None), ["/usr/bin/python3"]);
    }
}

//! Playbooks of Ansible: the files that a run sees, and what can be said of them before it.

mod config;
mod files;
mod playbook;
mod required;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::files::{Seen, shown};
use crate::load::paths::Paths;
use crate::{InputKind, Role, ScriptInput};
use base::source::{Finding, SourceFile, Span};

/// Name of the one host of the inventory. The image's own name would be part of keys.
pub const ROLE_HOST: &str = "image";

/// Groups that each inventory has.
const OWN_GROUPS: [&str; 2] = ["all", "ungrouped"];

/// A playbook, with what its run sees.
#[derive(Debug, Clone)]
pub struct RoleFiles {
    /// Its action is called `role-NAME`: the playbook's file name without its ending.
    pub name: String,
    /// The playbook as the run sees it, below the recipe's directory.
    pub playbook: String,
    /// Files with variables, in order, as the run sees them.
    pub vars_files: Vec<String>,
    /// All files that it sees, the playbook among them, by their names.
    pub files: Vec<ScriptInput>,
    /// What counts of its ansible.cfg: keys of `[defaults]` with their values; paths are those that the run sees.
    pub settings: Vec<(String, String)>,
    /// Which `[[role]]` it is, from 0.
    pub index: usize,
}

impl RoleFiles {
    /// Files with content on this host.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        let has_content = |input: &&ScriptInput| matches!(input.kind, InputKind::File | InputKind::Link(_));
        self.files.iter().filter(has_content).map(|input| input.path.clone())
    }

    /// Its place in the recipe.
    pub fn field(&self) -> String {
        format!("role[{}].ansible", self.index)
    }
}

/// Reads a role; `index` says which it is, `playbook` and `vars_files` are its files, found already, with the names of the latter.
pub(crate) fn read_role(
    (index, role): (usize, &Role),
    (playbook, vars_files): (&Path, &[(PathBuf, String)]),
    place: &dyn Fn(&str) -> Span,
    paths: &Paths,
    findings: &mut Vec<Finding>,
) -> RoleFiles {
    let at = format!("role[{index}]");
    let span = place(&format!("{at}.ansible"));
    let playbook_name = shown(&paths.name(playbook));
    check_groups(&at, role, place, findings);
    let mut seen = Seen::new(paths, findings);
    seen.add_file(playbook, &span);
    for (number, (path, _)) in vars_files.iter().enumerate() {
        seen.add_file(path, &place(&format!("{at}.vars_files[{number}]")));
    }
    let folder = playbook.parent().unwrap_or(&paths.recipe).to_owned();
    seen.add_folder_of(&folder, &span);
    for (number, pattern) in role.inputs.iter().enumerate() {
        seen.add_pattern(pattern, &place(&format!("{at}.inputs[{number}]")));
    }
    let files = seen.finish(&span);
    let folders: Vec<PathBuf> =
        if folder == paths.recipe { vec![folder.clone()] } else { vec![folder.clone(), paths.recipe.clone()] };
    let settings = read_first(&folders, "ansible.cfg", paths, findings, &span)
        .map(|file| config::read(&file, &shown(&paths.name(&folder_of(&file, &folder))), findings))
        .unwrap_or_default();
    if let Some(file) = read_text(playbook, paths, findings, &span) {
        playbook::check(&file, &role.groups, findings);
    }
    for folder in &folders {
        required::check(folder, &folders, role, paths, findings);
    }
    RoleFiles {
        name: name_of(playbook),
        playbook: playbook_name,
        vars_files: vars_files.iter().map(|(path, _)| shown(&paths.name(path))).collect(),
        files,
        settings,
        index,
    }
}

fn folder_of(file: &SourceFile, other: &Path) -> PathBuf {
    file.path.parent().unwrap_or(other).to_owned()
}

/// A role's name: letters, digits, `.`, `_` and `-` of its file's name.
fn name_of(playbook: &Path) -> String {
    let stem = playbook.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    stem.chars().map(plain).collect()
}

/// The first of a name in folders, where one has it.
fn read_first(
    folders: &[PathBuf],
    name: &str,
    paths: &Paths,
    findings: &mut Vec<Finding>,
    span: &Span,
) -> Option<Arc<SourceFile>> {
    let path = folders.iter().map(|folder| folder.join(name)).find(|path| witness::is_file(path))?;
    read_text(&path, paths, findings, span)
}

fn read_text(path: &Path, paths: &Paths, findings: &mut Vec<Finding>, span: &Span) -> Option<Arc<SourceFile>> {
    match paths.read(path) {
        Ok(file) => Some(file),
        Err(problem) => {
            let message = format!("`{}` cannot be read: {problem}", paths.name(path));
            findings.push(Finding::error("recipe::no_file", span, message).label("this role reads it"));
            None
        }
    }
}

/// Refuses what no group can be called. Source: Ansible, "How to build your inventory".
fn check_groups(at: &str, role: &Role, place: &dyn Fn(&str) -> Span, findings: &mut Vec<Finding>) {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (number, group) in role.groups.iter().enumerate() {
        let starts = group.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let is_plain = starts && group.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let is_taken = OWN_GROUPS.contains(&group.as_str()) || group == ROLE_HOST;
        let is_new = seen.insert(group);
        if is_plain && !is_taken && is_new {
            continue;
        }
        let span = place(&format!("{at}.groups[{number}]"));
        let problem = match (is_plain, is_taken) {
            (false, _) => format!("`{group}` is not a name of a group"),
            (_, true) => format!("`{group}` is a name that each inventory has"),
            _ => format!("`{group}` is listed twice"),
        };
        let help = "a group's name has letters, digits and `_`, and does not begin with a digit";
        findings.push(Finding::error("role::group", &span, problem).label("named here").help(help));
    }
}

#[cfg(test)]
mod tests {
    use super::name_of;
    use std::path::Path;

    #[test]
    fn a_role_is_called_by_its_file() {
        for (path, name) in [("/a/site.yml", "site"), ("/a/web node.yaml", "web-node"), ("x", "x")] {
            assert_eq!(name_of(Path::new(path)), name);
        }
    }
}

//! The files that a run of a playbook sees.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Component, Path};

use crate::load::paths::{PathProblem, Paths, escaped, unfetched};
use crate::owners::checkout;
use crate::{InputKind, ScriptInput, plain};
use base::source::{Finding, Span};

/// More files than any playbook has with its collections.
const MOST_FILES: usize = 50_000;

/// What belongs to a playbook in a folder that has other things, too. Source: Ansible, "Sample directory layout".
const FOLDERS: [&str; 21] = [
    "action_plugins",
    "callback_plugins",
    "collections",
    "files",
    "filter_plugins",
    "group_vars",
    "handlers",
    "host_vars",
    "library",
    "lookup_plugins",
    "module_utils",
    "playbooks",
    "plugins",
    "roles",
    "strategy_plugins",
    "tasks",
    "templates",
    "test_plugins",
    "vars",
    "vars_plugins",
    "defaults",
];

/// Next to a recipe, whichever folder the playbook is in.
const NEXT_TO_RECIPE: [&str; 2] = ["collections", "roles"];

/// A file by its name from the recipe, as a run sees it: below the recipe's directory, what lies outside of it in a folder of its own.
pub(super) fn shown(name: &str) -> String {
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
    let is_inside = !name.starts_with('/') && name.split('/').all(|part| part != "..");
    if is_inside { parts.join("/") } else { format!(".outside/{}", parts.join("/")) }
}

/// What no run reads: version control, and what Ansible and Python leave.
fn is_left_out(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let endings = [".pyc", ".retry", "~"];
    matches!(&*name, ".git" | "__pycache__" | ".ansible") || endings.iter().any(|ending| name.ends_with(ending))
}

/// Collects them.
pub(super) struct Seen<'a> {
    paths: &'a Paths,
    findings: &'a mut Vec<Finding>,
    found: BTreeMap<String, ScriptInput>,
    too_many: bool,
}

impl<'a> Seen<'a> {
    pub(super) fn new(paths: &'a Paths, findings: &'a mut Vec<Finding>) -> Self {
        Self { paths, findings, found: BTreeMap::new(), too_many: false }
    }

    pub(super) fn add_file(&mut self, path: &Path, span: &Span) {
        self.add(path, InputKind::File, span);
    }

    /// What belongs to a playbook in a folder, and what lies next to the recipe.
    pub(super) fn add_folder_of(&mut self, folder: &Path, span: &Span) {
        let recipe = self.paths.recipe.clone();
        if folder == recipe {
            let listed = witness::list(folder).unwrap_or_default();
            for (name, kind) in listed {
                let text = name.to_string_lossy().into_owned();
                let is_text = [".yml", ".yaml"].iter().any(|ending| text.ends_with(ending));
                match kind {
                    witness::Kind::Directory if FOLDERS.contains(&text.as_str()) => {
                        self.walk(&folder.join(&name), span);
                    }
                    witness::Kind::File | witness::Kind::Link if is_text || FOLDERS.contains(&text.as_str()) => {
                        self.walk(&folder.join(&name), span);
                    }
                    _ => {}
                }
            }
            return;
        }
        self.walk(folder, span);
        for name in NEXT_TO_RECIPE {
            let next = recipe.join(name);
            if witness::is_there(&next) && !folder.starts_with(&next) {
                self.walk(&next, span);
            }
        }
    }

    /// What a pattern of `inputs` names, relative to the recipe's directory; all that is in a folder.
    pub(super) fn add_pattern(&mut self, pattern: &str, span: &Span) {
        let glob = match globset::GlobBuilder::new(pattern.trim_end_matches('/')).literal_separator(true).build() {
            Ok(glob) => glob.compile_matcher(),
            Err(error) => {
                let message = format!("`{pattern}` is not a pattern: {}", error.kind());
                self.findings.push(Finding::error("role::pattern", span, message));
                return;
            }
        };
        let start = fixed(pattern);
        let folder = match self.paths.folder(if start.is_empty() { "." } else { start }, &self.paths.recipe) {
            Ok(folder) => folder,
            Err(PathProblem::Outside(_, help)) => {
                let message = format!("`{pattern}` is outside the workspace");
                self.findings.push(Finding::error("recipe::outside", span, message).label("named here").help(help));
                return;
            }
            Err(PathProblem::Unfetched(_, problem, help)) => {
                self.findings.push(unfetched(pattern, span, &problem, help));
                return;
            }
            Err(PathProblem::Missing(..)) => return self.matches_nothing(pattern, span),
        };
        let is_recipe = folder == self.paths.recipe;
        let enter = |depth: usize, name: &OsStr| {
            let is_own = is_recipe && depth == 1 && matches!(name.to_str(), Some("out"));
            !is_own && !is_left_out(name)
        };
        let mut any = false;
        for entry in witness::walk().only(&enter).through(&folder).into_iter().flatten() {
            let Ok(below) = entry.path.strip_prefix(&folder) else { continue };
            // Joined with nothing it would end in a slash.
            let start = Path::new(start.trim_end_matches('/'));
            let name = if below.as_os_str().is_empty() { start.to_owned() } else { start.join(below) };
            let is_in = name.ancestors().any(|above| glob.is_match(above));
            if is_in && entry.kind != witness::Kind::Directory && !entry.path.file_name().is_some_and(is_left_out) {
                any = true;
                self.add_found(&entry, span);
            }
        }
        if !any {
            self.matches_nothing(pattern, span);
        }
    }

    fn matches_nothing(&mut self, pattern: &str, span: &Span) {
        let message = format!("`{pattern}` matches no file");
        let finding = Finding::warning("role::no_input", span, message).label("the role gets no file from it");
        let help = "`*` does not cross `/`, `**` does; paths are relative to the recipe's directory";
        self.findings.push(finding.help(help));
    }

    fn walk(&mut self, start: &Path, span: &Span) {
        let enter = |depth: usize, name: &OsStr| depth == 0 || !is_left_out(name);
        for entry in witness::walk().only(&enter).through(start) {
            match entry {
                Ok(entry) if entry.kind == witness::Kind::Directory => {}
                Ok(entry) if entry.path.file_name().is_some_and(is_left_out) => {}
                Ok(entry) => self.add_found(&entry, span),
                Err(problem) => {
                    let message = format!("a folder of the role cannot be searched: {problem}");
                    self.findings.push(Finding::error("role::unreadable", span, message).label("requested here"));
                }
            }
        }
    }

    fn add_found(&mut self, entry: &witness::Found, span: &Span) {
        let kind = match entry.kind {
            witness::Kind::File => InputKind::File,
            witness::Kind::Link => {
                match witness::read_link(&entry.path).map(|one| one.into_os_string().into_string()) {
                    Ok(Ok(target)) => InputKind::Link(target),
                    _ => return self.odd_name(&entry.path, span),
                }
            }
            witness::Kind::Directory => return,
            witness::Kind::Other => {
                let message = format!("`{}` is not a regular file", escaped(&entry.path));
                let finding = Finding::error("role::device", span, message).label("this role would see it");
                self.findings.push(finding.help("remove it, or move it out of the playbook's folder"));
                return;
            }
        };
        self.add(&entry.path, kind, span);
    }

    fn odd_name(&mut self, path: &Path, span: &Span) {
        let message = format!("the name of `{}` is not UTF-8", escaped(path));
        let finding = Finding::error("role::name", span, message).label("this role would see it");
        self.findings.push(finding.help("rename it, or move it out of the playbook's folder"));
    }

    fn add(&mut self, path: &Path, kind: InputKind, span: &Span) {
        if path.to_str().is_none() {
            return self.odd_name(path, span);
        }
        if self.found.len() >= MOST_FILES {
            self.too_many = true;
            return;
        }
        let name = shown(&self.paths.name(path));
        if let Some(other) = self.found.get(&name) {
            if other.path != path {
                let message = format!("the role would see two files as `{name}`");
                let help = format!("one is {}, the other {}: rename one", other.path.display(), path.display());
                self.findings.push(Finding::error("role::two_inputs", span, message).help(help));
            }
            return;
        }
        if let Some((problem, help)) = checkout::without_content(path) {
            self.findings.push(unfetched(&name, span, &problem, help));
        }
        self.found.insert(name.clone(), ScriptInput { path: path.to_owned(), name, kind });
    }

    /// All of them by their names; says which links lead nowhere.
    pub(super) fn finish(self, span: &Span) -> Vec<ScriptInput> {
        if self.too_many {
            let message = format!("the role would see more than {MOST_FILES} files");
            let finding = Finding::error("role::too_many", span, message).label("its folder has that many");
            self.findings.push(finding.help("give the playbook a folder of its own, with what it reads"));
        }
        let names: BTreeSet<&str> = self.found.keys().map(String::as_str).collect();
        let is_shown = |name: &str| {
            let below = format!("{name}/");
            names.contains(name) || names.range(below.as_str()..).next().is_some_and(|next| next.starts_with(&below))
        };
        for input in self.found.values() {
            let InputKind::Link(target) = &input.kind else { continue };
            let Some(folder) = input.path.parent() else { continue };
            let inner = plain(&Path::new(&input.name).parent().unwrap_or(Path::new("")).join(target));
            let leads_out = inner.components().next() == Some(Component::ParentDir) || inner.is_absolute();
            let is_there = witness::is_there(&folder.join(target));
            if is_there && (leads_out || !is_shown(&inner.to_string_lossy())) {
                let message = format!("`{}` -> {target} is a dangling link for the role", input.name);
                let finding = Finding::warning("role::link", span, message).label("this role sees it");
                let help = "links stay links: name their targets in `inputs`, or replace them with the targets";
                self.findings.push(finding.help(help));
            }
        }
        self.found.into_values().collect()
    }
}

/// The part of a pattern in front of its wildcards, as a folder; the whole of one without.
fn fixed(pattern: &str) -> &str {
    let pattern = pattern.trim_end_matches('/');
    match pattern.find(['*', '?', '[', '{']) {
        Some(at) => pattern[..at].rsplit_once('/').map_or("", |(folder, _)| folder),
        None => pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::{fixed, is_left_out, shown};
    use std::ffi::OsStr;

    #[test]
    fn names_are_below_the_recipe_for_the_run() {
        for (name, place) in [
            ("site.yml", "site.yml"),
            ("./roles/a", "roles/a"),
            ("../../base/site.yml", ".outside/base/site.yml"),
            ("/srv/ansible/site.yml", ".outside/srv/ansible/site.yml"),
        ] {
            assert_eq!(shown(name), place);
        }
    }

    #[test]
    fn patterns_start_at_a_folder() {
        for (pattern, folder) in [("a/b/*.yml", "a/b"), ("*.yml", ""), ("../x/", "../x"), ("a", "a")] {
            assert_eq!(fixed(pattern), folder);
        }
    }

    #[test]
    fn what_runs_leave_is_no_input() {
        for (name, is_out) in [("__pycache__", true), ("a.pyc", true), ("main.yml", false), (".gitkeep", false)] {
            assert_eq!(is_left_out(OsStr::new(name)), is_out, "{name}");
        }
    }
}

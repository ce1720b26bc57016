//! Files of the input: each in its turn, and named.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Content, Key, Plan, Step};
use crate::input::roots::{Entry, Kind, Root};
use crate::input::secrets;

/// How much of a file is looked into for secrets; where one is larger, a row says so.
const LOOKED_INTO: u64 = 1 << 20;

/// The mode of a file, or a folder, that needs no word.
fn is_usual(mode: u32, is_folder: bool) -> bool {
    if is_folder { mode == 0o755 } else { mode == 0o644 || mode == 0o755 }
}

impl Plan {
    /// Where files of the image lie next to the recipe.
    pub(crate) fn files_folder(&self) -> String {
        format!("{}.d/files", self.name)
    }

    /// Where scripts lie that are run in the image.
    pub(crate) fn scripts_folder(&self) -> String {
        format!("{}.d/scripts", self.name)
    }

    /// A file of the image, with bytes. Secrets are named, and not taken.
    pub(crate) fn put(&mut self, key: &Key, path: &str, bytes: Vec<u8>, mode: u32, owner: Option<String>) {
        if !self.may_be_put(key, path, &bytes) {
            return;
        }
        if self.is_of_root(path, &bytes) {
            return self.exact(key, "system.authorized_keys", "");
        }
        self.add_file(path, Content::Bytes(bytes), mode, owner);
        self.exact(key, "files", "");
    }

    /// Takes a file with keys that let root in; whether it is one.
    fn is_of_root(&mut self, path: &str, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        let mut keys = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).peekable();
        let is_key = |line: &str| ["ssh-", "ecdsa-", "sk-"].iter().any(|begin| line.starts_with(begin));
        if path != "/root/.ssh/authorized_keys" || keys.peek().is_none() || !keys.all(is_key) {
            return false;
        }
        let name = "keys/root.pub".to_owned();
        self.files.insert(name.clone(), (Content::Bytes(bytes.to_vec()), 0o644));
        if !self.authorized_keys.contains(&name) {
            self.authorized_keys.push(name);
        }
        true
    }

    fn may_be_put(&mut self, key: &Key, path: &str, bytes: &[u8]) -> bool {
        if path.chars().any(char::is_control) || path == "/" || path.is_empty() {
            self.decide(key, "its path in the image is not valid: left out");
            return false;
        }
        let Some(problem) = secrets::of_path(path).or_else(|| secrets::of_content(bytes)) else { return true };
        let reason = format!(
            "{path} is or has {problem}: not taken. Anyone who can fetch an image can read it: sync it to nodes, docs/sync.md, or add it to a synclist by hand, with its mode in [sync.owner]"
        );
        self.decide(key, reason);
        false
    }

    fn add_file(&mut self, path: &str, content: Content, mode: u32, owner: Option<String>) {
        let executable = if mode & 0o111 != 0 { 0o755 } else { 0o644 };
        self.files.insert(format!("{}{path}", self.files_folder()), (content, executable));
        self.steps.push(Step::Put { path: path.to_owned(), mode, owner });
    }

    /// A file or a tree beneath a root, put to a path of the image. `key` is what names it; each entry that is not taken has a row of its own.
    pub(crate) fn put_from(&mut self, key: &Key, root: &Arc<Root>, from: &str, to: &str, own: &Ownership) {
        let to = to.trim_end_matches('/');
        let found = match root.is_folder(from) {
            true => root.tree(from),
            false => named(root, from).map(|entry| vec![entry]),
        };
        let entries = match found {
            Ok(entries) => entries,
            Err(error) => return self.decide(key, format!("`{from}` is not read: {error}")),
        };
        let (mut taken, mut skipped) = (0, 0);
        for entry in &entries {
            let below = entry.path.strip_prefix(from).unwrap_or(&entry.path).trim_start_matches('/');
            if own.excludes.iter().any(|pattern| fits(pattern, below)) || own.ignored.has(&entry.path) {
                skipped += 1;
                continue;
            }
            let path = if below.is_empty() { to.to_owned() } else { format!("{to}/{below}") };
            taken += usize::from(self.put_entry(key, root, entry, &path, own));
        }
        if taken > 0 || entries.is_empty() {
            self.exact(key, "files", "");
        } else if skipped > 0 {
            self.decide(key, "patterns of the input leave all of it out");
        }
    }

    pub(crate) fn put_entry(
        &mut self,
        key: &Key,
        root: &Arc<Root>,
        entry: &Entry,
        path: &str,
        own: &Ownership,
    ) -> bool {
        let of_entry = Key { value: format!("{}/{}", root.path.display(), entry.path), ..key.clone() };
        let mode = own.mode.unwrap_or(entry.mode);
        let number = (entry.uid != 0 || entry.gid != 0).then(|| format!("{}:{}", entry.uid, entry.gid));
        let owner =
            own.owner.clone().or(number.filter(|_| own.is_kept)).filter(|owner| owner != "0:0" && owner != "root:root");
        match &entry.kind {
            Kind::Folder => self.steps.push(Step::Folder { path: path.to_owned(), mode, owner }),
            Kind::Link(target) if target.chars().any(char::is_control) => {
                self.decide(&of_entry, "the target of a link is not valid: left out");
                return false;
            }
            Kind::Link(target) => self.steps.push(Step::Link { path: path.to_owned(), target: target.clone() }),
            Kind::Special => {
                self.decide(&of_entry, format!("{path} is a device, a socket or a pipe: left out"));
                return false;
            }
            Kind::File => {
                let file = match root.file(&entry.path) {
                    Ok(file) => file,
                    Err(error) => {
                        self.decide(&of_entry, format!("it is not read: {error}"));
                        return false;
                    }
                };
                let size = file.metadata().map_or(0, |found| found.len());
                let mut bytes = Vec::new();
                let _ = std::io::Read::read_to_end(&mut std::io::Read::take(file, LOOKED_INTO), &mut bytes);
                if !self.may_be_put(&of_entry, path, &bytes) {
                    return false;
                }
                if size <= LOOKED_INTO && self.is_of_root(path, &bytes) {
                    self.exact(&of_entry, "system.authorized_keys", "");
                    return false;
                }
                if size > LOOKED_INTO {
                    self.differs(
                        &of_entry,
                        Some("files"),
                        format!("only the first {LOOKED_INTO} bytes were looked into for secrets: see that the others have none"),
                    );
                }
                self.add_file(path, Content::Beneath(root.clone(), entry.path.clone()), mode, owner);
            }
        }
        true
    }

    /// Whether files are put by the script: commands see them, and units that they bring are enabled.
    pub(super) fn is_scripted(&self) -> bool {
        let has_commands = self.steps.iter().any(|step| matches!(step, Step::Run { .. } | Step::Script { .. }));
        let has_units = !self.enable.is_empty() || !self.disable.is_empty() || !self.mask.is_empty();
        // A line of a synclist has no quotes.
        let is_odd = |path: &str| {
            path[1..].split('/').next().unwrap_or_default().contains([' ', '\t', '*', '?', '[', '\\', '(', '#', '$'])
        };
        let has_odd = self
            .steps
            .iter()
            .any(|step| matches!(step, Step::Put { path, .. } | Step::Folder { path, .. } if is_odd(path)));
        has_commands || has_odd || has_units && self.steps.iter().any(|step| matches!(step, Step::Put { .. }))
    }

    /// `[sync.owner]` of files and folders of the synclist.
    pub(super) fn owners_of_files(&self) -> BTreeMap<String, String> {
        let mut owners = self.owners.clone();
        for step in &self.steps {
            let (path, mode, owner, is_folder) = match step {
                Step::Put { path, mode, owner } => (path, *mode, owner, false),
                Step::Folder { path, mode, owner } => (path, *mode, owner, true),
                _ => continue,
            };
            let mode = (!is_usual(mode, is_folder)).then(|| format!("{mode:04o}"));
            let parts: Vec<String> = owner.iter().cloned().chain(mode).collect();
            match parts.is_empty() {
                true => drop(owners.remove(path)),
                false => drop(owners.insert(path.clone(), parts.join(" "))),
            }
        }
        owners
    }
}

/// Whose the entries of a tree are in the image.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ownership {
    pub(crate) mode: Option<u32>,
    pub(crate) owner: Option<String>,
    /// Whether numbers of owners are kept; else they are root's.
    pub(crate) is_kept: bool,
    pub(crate) excludes: Vec<String>,
    pub(crate) ignored: Ignored,
}

/// Patterns of .dockerignore: paths from the root that are left out, and exceptions; the last one that fits counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ignored {
    patterns: Vec<(bool, String)>,
}

impl Ignored {
    /// Takes a pattern.
    /// Errors: Why it is not one that is understood.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), String> {
        let (is_exception, pattern) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest.trim()));
        let pattern = pattern.trim_start_matches("./").trim_matches('/');
        let pattern = pattern.strip_suffix("/**").unwrap_or(pattern);
        let inner = pattern.strip_prefix("**/").unwrap_or(pattern);
        if inner.contains("**") || inner.contains(['?', '[', '\\']) || inner.split('/').any(|part| part == "..") {
            return Err("not a pattern that is understood: look at what was copied".to_owned());
        }
        if !matches!(inner, "" | ".") {
            self.patterns.push((is_exception, pattern.to_owned()));
        }
        Ok(())
    }

    /// Whether a path below the root is left out: itself, or a folder above it.
    fn has(&self, path: &str) -> bool {
        let is_of = |pattern: &str, at: &str| match pattern.strip_prefix("**/") {
            Some(pattern) => {
                glob(pattern, at) || at.match_indices('/').any(|(slash, _)| glob(pattern, &at[slash + 1..]))
            }
            None => glob(pattern, at),
        };
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        let folders: Vec<&str> = ends.map(|end| &path[..end]).collect();
        let fitting = self.patterns.iter().rev().find(|(_, pattern)| folders.iter().any(|at| is_of(pattern, at)));
        fitting.is_some_and(|(is_exception, _)| !is_exception)
    }
}

/// Files that a pattern in the last part of a path means, sorted.
/// Errors: Why there are none, and what helps.
pub(crate) fn matching(root: &Root, pattern: &str) -> Result<Vec<String>, String> {
    let (folder, last) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    if folder.contains(['*', '?', '[']) || last.contains(['[', '\\']) {
        return Err("not a pattern that is understood: name the files one by one".to_owned());
    }
    let names = root.names(folder).map_err(|error| format!("`{folder}` is not read: {error}"))?;
    let below = |name: &String| if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
    let found: Vec<String> = names.iter().filter(|name| glob(last, name)).map(below).collect();
    match found.is_empty() {
        true => Err(format!("no file here is `{pattern}`: copy them here, or next to the recipe")),
        false => Ok(found),
    }
}

/// A file that an input names; a link to one is followed within its root.
fn named(root: &Arc<Root>, from: &str) -> std::io::Result<Entry> {
    let mut entry = root.entry(from)?;
    if matches!(entry.kind, Kind::Link(_)) {
        let found = root.file(from)?.metadata()?;
        (entry.kind, entry.mode) = (Kind::File, std::os::unix::fs::MetadataExt::mode(&found) & 0o7777);
    }
    Ok(entry)
}

/// Whether a path below a tree is excluded: by a pattern of its own, or of a folder above it.
fn fits(pattern: &str, path: &str) -> bool {
    let pattern = pattern.trim_start_matches("**/").trim_matches('/');
    let is_deep = !pattern.contains('/');
    let mut at = path;
    loop {
        let name = at.rsplit('/').next().unwrap_or(at);
        if glob(pattern, at) || is_deep && glob(pattern, name) {
            return true;
        }
        match at.rsplit_once('/') {
            Some((above, _)) => at = above,
            None => return false,
        }
    }
}

/// A pattern with stars that stand for no slash, and question marks: part by part, so that no pattern takes long.
fn glob(pattern: &str, text: &str) -> bool {
    pattern.split('/').count() == text.split('/').count()
        && pattern.split('/').zip(text.split('/')).all(|(pattern, text)| glob_part(pattern.as_bytes(), text.as_bytes()))
}

fn glob_part(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && [text[t], b'?'].contains(&pattern[p]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, from)) = star {
            (p, t, star) = (at + 1, from + 1, Some((at, from + 1)));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

impl Plan {
    /// Folders of the image that lie next to the recipe as folders.
    pub(crate) fn empty_folders(&self) -> Vec<String> {
        let folder = self.files_folder();
        let folders = self.steps.iter().filter_map(|step| match step {
            Step::Folder { path, .. } if !self.is_scripted() => Some(format!("{folder}{path}")),
            _ => None,
        });
        folders.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_that_fits_counts() {
        let mut ignored = Ignored::default();
        for pattern in ["/build/", "**/*.tmp", "docs/**", "!docs/keep", "*.log", "!a.log"] {
            ignored.add(pattern).unwrap();
        }
        for path in ["build", "build/x/y", "a.tmp", "x/y/b.tmp", "docs/other", "b.log"] {
            assert!(ignored.has(path), "{path}");
        }
        for path in ["x/build", "docs/keep", "a.log", "x/b.log", "src/a"] {
            assert!(!ignored.has(path), "{path}");
        }
        assert!(ignored.add("a?b").is_err() && ignored.add("a/**/b").is_err());
    }
}

//! What a site's script reads of the management node: paths in its text that are there.
//!
//! A script is no list: what it makes of variables that only it knows is not found, and its author says the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::definitions::{Places, share};
use recipe::plain;
use xcat::definitions::is_plain_path;

/// Largest script that is read, in bytes.
const TEXT_LIMIT: u64 = 1 << 20;

/// A folder with more than this is no input but a repository.
const ENTRIES_LIMIT: usize = 5_000;
const BYTES_LIMIT: u64 = 256 << 20;

/// How deep scripts run one another at most.
const DEPTH: usize = 4;

/// Folders of every system: a script that names them means the image's, or its own programs.
const SYSTEM: [&str; 18] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/mnt", "/proc", "/root", "/run", "/sbin",
    "/sys", "/target", "/tmp", "/usr", "/var",
];

/// Stands for what only the running script knows.
const UNKNOWN: char = '\u{0}';

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ScriptReads {
    /// Patterns for `[postinstall] inputs`.
    pub inputs: BTreeSet<String>,
    /// Files and folders of the management node that these name.
    pub paths: BTreeSet<String>,
    pub lost: BTreeSet<String>,
    /// Folders that are too large to be inputs.
    pub large: BTreeSet<String>,
    seen: BTreeSet<String>,
}

impl ScriptReads {
    /// Adds what a script of the management node reads, and those that it runs.
    pub(super) fn script(&mut self, path: &str, environment: &BTreeMap<String, String>, places: &Places) {
        self.at_depth(path, environment, places, 0);
    }

    fn at_depth(&mut self, path: &str, environment: &BTreeMap<String, String>, places: &Places, depth: usize) {
        if depth > DEPTH || !self.seen.insert(path.to_owned()) {
            return;
        }
        let here = places.here(path);
        if std::fs::metadata(&here).map_or(true, |found| !found.is_file() || found.len() > TEXT_LIMIT) {
            return;
        }
        let text = String::from_utf8_lossy(&std::fs::read(&here).unwrap_or_default()).into_owned();
        if depth > 0 && !text.starts_with("#!") && !path.ends_with(".sh") {
            return;
        }
        for found in paths_of(&text, environment).into_iter().filter(|found| is_of_site(found, places)) {
            self.add(&found, environment, places, depth);
        }
    }

    fn add(&mut self, found: &str, environment: &BTreeMap<String, String>, places: &Places, depth: usize) {
        let odd = found.find(['*', '?', '[', '{', UNKNOWN]);
        let Some(at) = odd else {
            let here = places.here(found);
            if here.is_file() {
                self.inputs.insert(found.to_owned());
                self.paths.insert(found.to_owned());
                self.at_depth(found, environment, places, depth + 1);
            } else if here.is_dir() {
                self.folder(found, &format!("{found}/**"), &here);
            } else {
                self.lost.insert(found.to_owned());
            }
            return;
        };
        let folder = found[..at].rsplit_once('/').map_or("", |(folder, _)| folder);
        let here = places.here(folder);
        // Of /install/$X/y no one knows what is meant.
        if folder.matches('/').count() < 3 || !here.is_dir() {
            return;
        }
        let pattern = if found.contains(UNKNOWN) { format!("{folder}/**") } else { found.to_owned() };
        self.folder(folder, &pattern, &here);
    }

    fn folder(&mut self, folder: &str, pattern: &str, here: &Path) {
        let (mut entries, mut bytes) = (0, 0);
        for entry in walkdir::WalkDir::new(here).into_iter().flatten() {
            entries += 1;
            bytes += entry.metadata().map_or(0, |found| if found.is_file() { found.len() } else { 0 });
            if entries > ENTRIES_LIMIT || bytes > BYTES_LIMIT {
                self.large.insert(folder.to_owned());
                return;
            }
        }
        self.inputs.insert(pattern.to_owned());
        self.paths.insert(folder.to_owned());
    }
}

/// Whether a path lies in what the site has of its own.
fn is_of_site(path: &str, places: &Places) -> bool {
    let is_below = |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'));
    let own = places.moved.iter().map(|(there, _)| there.as_str()).filter(|there| !SYSTEM.contains(there));
    [places.installdir.as_str(), share()].into_iter().chain(own).any(is_below)
}

/// The absolute paths in a script's text, without what it assigned to variables before; [`UNKNOWN`] stands for the rest.
fn paths_of(text: &str, environment: &BTreeMap<String, String>) -> Vec<String> {
    let mut variables = environment.clone();
    let mut found = Vec::new();
    let joined = text.replace("\\\n", " ");
    for word in joined.lines().flat_map(words) {
        let word = expanded(&word, &variables);
        let (name, value) = word.split_once('=').unwrap_or(("", word.as_str()));
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.is_empty() && name.chars().all(is_name) && !name.starts_with(|c: char| c.is_ascii_digit()) {
            variables.insert(name.to_owned(), value.to_owned());
        }
        // `if=/path` and `--file=/path` as well as the path alone.
        let path = if word.starts_with('/') { word.as_str() } else { value };
        let path = path.trim_end_matches(['/', ':', ',']);
        if path.starts_with('/') {
            let path = plain(Path::new(path)).display().to_string();
            if is_plain_path(&path.replace(UNKNOWN, "x")) {
                found.push(path);
            }
        }
    }
    found
}

/// The words of a line as a shell parts them, without their quotes; comments are none.
fn words(line: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    // Commands in quotes: what ends each, and the quote that goes on after it.
    let mut inner: Vec<(char, Option<char>)> = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, None) if inner.last().is_some_and(|(end, _)| *end == c) => {
                quote = inner.pop().and_then(|(_, outer)| outer);
                all.push(std::mem::take(&mut word));
            }
            ('#', None) if word.is_empty() => break,
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => word.extend(chars.next()),
            // Braces of ${NAME} belong to it.
            ('$', _) if chars.peek() == Some(&'{') => {
                word.push('$');
                for c in chars.by_ref() {
                    word.push(c);
                    if c == '}' {
                        break;
                    }
                }
            }
            ('`', None | Some('"')) => {
                inner.push(('`', quote.take()));
                all.push(std::mem::take(&mut word));
            }
            ('$', None | Some('"')) if chars.peek() == Some(&'(') => {
                chars.next();
                inner.push((')', quote.take()));
                all.push(std::mem::take(&mut word));
            }
            (c, None) if c.is_whitespace() || ";|&<>()".contains(c) => all.push(std::mem::take(&mut word)),
            (c, _) => word.push(c),
        }
    }
    all.push(word);
    all.retain(|word| !word.is_empty());
    all
}

fn expanded(word: &str, variables: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (name, after) = match rest.strip_prefix('{') {
            Some(inner) => inner.split_once('}').unwrap_or((inner, "")),
            None => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                rest.split_at(end)
            }
        };
        match variables.get(name) {
            Some(value) => text.push_str(value),
            None => text.push(UNKNOWN),
        }
        rest = after;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_scripts() {
        let environment = BTreeMap::from([("SITE".to_owned(), "blue".to_owned())]);
        let text = "#!/bin/sh\n# cp /install/no /x\ncat /install/custom/issue >$1/etc/issue\ncp \"/install/a b/c\" \"$1\"/etc/d\n\
                    FROM=/install/custom/$SITE\ncp -a \"$FROM\"/files/. ${1}/opt; . /install/lib.sh\ndd if=/install/image of=$1/i\n\
                    for f in /install/keys/*.pub; do cat $f; done\ncp /install/$IMG_NAME/x /install/custom/by/$4/motd \\\n /install/last\n\
                    x=\"$(cat /install/in-quotes)\"\n";
        let found: Vec<String> = paths_of(text, &environment).iter().map(|path| path.replace(UNKNOWN, "?")).collect();
        assert_eq!(
            found,
            [
                "/install/custom/issue",
                "/install/a b/c",
                "/install/custom/blue",
                "/install/custom/blue/files",
                "/install/lib.sh",
                "/install/image",
                "/install/keys/*.pub",
                "/install/?/x",
                "/install/custom/by/?/motd",
                "/install/last",
                "/install/in-quotes",
            ]
        );
    }

    #[test]
    fn only_the_sites_own_paths_that_are_there_become_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let install = folder.path().join("install");
        let write = |name: &str, text: &str| {
            let path = install.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for directory in ["etc", "usr", "srv"] {
            std::fs::create_dir(folder.path().join(directory)).unwrap();
        }
        std::fs::write(folder.path().join("etc/hosts"), "").unwrap();
        std::fs::write(folder.path().join("srv/banner"), "").unwrap();
        write("custom/issue", "");
        write("custom/files/a/b", "");
        write("lib.sh", "cp /install/custom/by/$IMG_NAME/motd $1\n");
        write("custom/by/one/motd", "");
        write(
            "s",
            "#!/bin/sh\ncat /install/custom/issue /etc/hosts /usr/bin/x /srv/banner /install/gone\ncp -r /install/custom/files $1\n. /install/lib.sh\nls /install\n",
        );
        let mut places = Places::default();
        places.tree(folder.path());
        let mut reads = ScriptReads::default();
        reads.script("/install/s", &BTreeMap::new(), &places);
        let inputs: Vec<&str> = reads.inputs.iter().map(String::as_str).collect();
        assert_eq!(
            inputs,
            [
                "/install/custom/by/**",
                "/install/custom/files/**",
                "/install/custom/issue",
                "/install/lib.sh",
                "/srv/banner"
            ]
        );
        assert_eq!(reads.lost.iter().collect::<Vec<_>>(), ["/install/gone"]);
        // A file of zeros takes no room.
        let large = std::fs::File::create(install.join("custom/files/large")).unwrap();
        large.set_len(BYTES_LIMIT + 1).unwrap();
        let mut reads = ScriptReads::default();
        reads.script("/install/s", &BTreeMap::new(), &places);
        assert_eq!(reads.large.iter().collect::<Vec<_>>(), ["/install/custom/files"]);
        assert!(!reads.inputs.contains("/install/custom/files/**"));
    }
}

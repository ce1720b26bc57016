//! COPY and ADD: files next to the Containerfile, and texts in it.

use std::sync::Arc;

use super::containerfile::Reader;
use super::instructions::{Instruction, filled};
use crate::input::roots::{Root, inside};
use crate::plan::{Key, Ownership, Plan, matching};

impl Reader<'_> {
    pub(super) fn copy(&mut self, plan: &mut Plan, key: &Key, one: &Instruction) {
        let mut own = Ownership { ignored: self.ignored.clone(), ..Ownership::default() };
        let text = filled(&one.text.replace("\\\n", " "), &self.values);
        let mut words: Vec<String> =
            match serde_json::from_str::<Vec<String>>(text.trim_start_matches(|c: char| c != '[')) {
                Ok(words) if text.contains('[') => text
                    .split('[')
                    .next()
                    .unwrap_or_default()
                    .split_whitespace()
                    .map(str::to_owned)
                    .chain(words)
                    .collect(),
                _ => text.split_whitespace().map(str::to_owned).collect(),
            };
        let options: Vec<String> = words.iter().take_while(|word| word.starts_with("--")).cloned().collect();
        words.drain(..options.len());
        for option in options {
            match option.split_once('=') {
                Some(("--chown", value)) => own.owner = plan.owner(key, value),
                Some(("--chmod", value)) if u32::from_str_radix(value, 8).is_ok() => {
                    own.mode = u32::from_str_radix(value, 8).ok()
                }
                Some(("--from", _)) => {
                    return plan.decide(key, "from another stage or image: add what it copies as files or packages");
                }
                _ => plan.decide(&Key { value: option.clone(), ..key.clone() }, "an option that is not translated"),
            }
        }
        let Some(to) = words.pop() else { return plan.decide(key, "it has no destination") };
        let is_folder = to.ends_with('/') || words.len() > 1 || to == ".";
        let to = if to.starts_with('/') { to } else { format!("{}/{to}", self.folder) };
        let Some(to) = inside(&to) else { return plan.decide(key, "its destination leads outside the image") };
        for text in &one.heredocs {
            let path = if is_folder { format!("/{to}/{}", text.marker).replace("//", "/") } else { format!("/{to}") };
            let of_text = Key { line: text.line, value: format!("<<{} -> {path}", text.marker), ..key.clone() };
            let body = if text.is_quoted { text.text() } else { filled(&text.text(), &self.values) };
            if !text.is_quoted && body.contains('$') {
                plan.differs(
                    &of_text,
                    Some("files"),
                    "variables that the file does not set stay as they are, where the builder leaves them out",
                );
            }
            plan.put(&of_text, &path, body.into_bytes(), own.mode.unwrap_or(0o644), own.owner.clone());
        }
        let is_text = |word: &String| word.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with("<<");
        for from in words.into_iter().filter(|word| one.heredocs.is_empty() || !is_text(word)) {
            let of_one = Key { value: format!("{from} -> /{to}"), ..key.clone() };
            if from.contains("://") {
                plan.decide(&of_one, "not fetched: save the file next to the recipe, and add it to a synclist");
                continue;
            }
            let (root, path) = match self.roots.find("", from.trim_start_matches('/')) {
                Ok(found) => found,
                Err(reason) => {
                    plan.decide(&of_one, reason);
                    continue;
                }
            };
            if !path.contains(['*', '?', '[']) {
                self.copy_one(plan, &of_one, one, (&root, &path), (&to, is_folder), &own);
                continue;
            }
            match matching(&root, &path) {
                Ok(paths) => {
                    for path in paths {
                        let of_path = Key { value: format!("{path} -> /{to}"), ..key.clone() };
                        self.copy_one(plan, &of_path, one, (&root, &path), (&to, true), &own);
                    }
                }
                Err(reason) => plan.decide(&of_one, reason),
            }
        }
    }

    fn copy_one(
        &self,
        plan: &mut Plan,
        key: &Key,
        one: &Instruction,
        (root, path): (&Arc<Root>, &str),
        (to, is_folder): (&str, bool),
        own: &Ownership,
    ) {
        let is_archive = one.word == "ADD"
            && [".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2"].iter().any(|end| path.ends_with(end));
        let base = path.rsplit('/').next().unwrap_or(path);
        if is_archive {
            let reason = "an archive that is unpacked: unpack it next to the recipe, and add its files to a synclist";
            plan.decide(key, reason);
        } else if base == "excludes" && to.trim_end_matches('/') == "etc/warewulf" || to == "etc/warewulf/excludes" {
            match root.text(path) {
                Ok(text) => excludes(plan, key, &text),
                Err(error) => plan.decide(key, format!("it is not read: {error}")),
            }
        } else {
            let target = if is_folder && !root.is_folder(path) { format!("/{to}/{base}") } else { format!("/{to}") };
            plan.put_from(key, root, path, &target.replace("//", "/"), own);
        }
    }
}

/// Patterns of `/etc/warewulf/excludes`, which Warewulf matches against relative paths; a folder that matches goes with its content.
pub(super) fn excludes(plan: &mut Plan, key: &Key, text: &str) {
    for (at, line) in text.lines().enumerate() {
        let pattern = line.trim();
        if pattern.is_empty() || pattern.starts_with('#') {
            continue;
        }
        let of_line = Key {
            line: if key.file.ends_with("excludes") { at + 1 } else { key.line },
            value: pattern.to_owned(),
            ..key.clone()
        };
        let path = pattern.trim_matches('/');
        if path.is_empty() || path.starts_with('!') || path.split('/').any(|part| part == "..") {
            plan.decide(&of_line, "not a pattern that an exclude list takes");
            continue;
        }
        // Kernels are stages of their own: an image needs none in /boot.
        for pattern in [format!("./{path}"), format!("./{path}/*")] {
            if !plan.exclude.contains(&pattern) {
                plan.exclude.push(pattern);
            }
        }
        plan.exact(&of_line, "exclude.lists", "");
    }
}

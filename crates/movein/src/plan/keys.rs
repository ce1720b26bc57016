//! Keys that sign packages: copied from here, or named.

use super::repositories::file_name;
use super::{Content, Plan};
use crate::input::roots::Roots;
use crate::input::secrets;

impl Plan {
    /// The file with all keys of a repository, copied from here; or those that are not here.
    pub(super) fn keys(
        &mut self,
        id: &str,
        keys: &[String],
        roots: Option<(&Roots, &str)>,
    ) -> (Option<String>, Vec<String>) {
        let (mut texts, mut missing) = (String::new(), Vec::new());
        for key in keys {
            let path = key.strip_prefix("file://").unwrap_or(key);
            let found =
                roots.filter(|_| !path.contains("://")).and_then(|(roots, folder)| roots.find(folder, path).ok());
            let text = found
                .and_then(|(root, path)| root.text(&path).ok())
                .filter(|text| text.contains("BEGIN PGP PUBLIC KEY BLOCK"));
            match text {
                Some(text) => texts.push_str(&format!("{}\n", text.trim_end())),
                None => missing.push(key.clone()),
            }
        }
        if texts.is_empty() || !missing.is_empty() {
            return (None, missing);
        }
        let name = self.key_name(id, keys);
        self.files.insert(name.clone(), (Content::Bytes(texts.into_bytes()), 0o644));
        (Some(name), missing)
    }

    /// Where the keys of a repository are kept: `keys/ID-NAME` by the first one's name, one file for the same keys.
    pub(super) fn key_name(&mut self, id: &str, keys: &[String]) -> String {
        let all = keys.join("\n");
        if let Some(known) = self.key_names.get(&all) {
            return known.clone();
        }
        let key = keys.first().map(String::as_str).unwrap_or_default();
        // An address may have a password or a token.
        let plain = key.split(['?', '#']).next().unwrap_or(key);
        let last = if secrets::of_line(plain).is_some() { "key".to_owned() } else { file_name(plain) };
        let is_taken = |name: &String| self.key_names.values().any(|known| known == name);
        let first = format!("keys/{id}-{last}");
        let mut names = std::iter::once(first.clone()).chain((2..).map(|number| format!("keys/{id}-{number}-{last}")));
        let name = names.find(|name| !is_taken(name)).unwrap_or(first);
        self.key_names.insert(all, name.clone());
        name
    }
}

//! What cpio has no place for, as a script that Warewulf runs on a node before its init.

use std::fmt::Write;

use serde::Deserialize;

use crate::lay::to;
use crate::{Error, Form};

/// Bytes of an index that is read.
const LARGEST: u64 = 256 << 20;

#[derive(Deserialize)]
struct Index {
    /// Path, name, value in hexadecimal.
    #[serde(default)]
    xattrs: Vec<(String, String, String)>,
    #[serde(default)]
    labels: serde_json::Map<String, serde_json::Value>,
}

pub(super) struct Attributes {
    all: Vec<(String, String, String)>,
    pub has_labels: bool,
}

/// The attributes of an image, from its index.
pub(super) fn of(form: &Form) -> Result<Attributes, Error> {
    use std::io::Read;
    let path = &form.index.path;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
    read.map_err(to("read", path))?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| Error::Damaged {
        path: path.parent().unwrap_or(path).to_owned(),
        file: form.index.name.clone(),
        problem: format!("is not an index: {error}"),
    })?;
    // They become words of a script.
    let is_hexadecimal = |value: &str| value.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some((path_of, ..)) = index.xattrs.iter().find(|(_, _, value)| !is_hexadecimal(value)) {
        return Err(Error::Damaged {
            path: path.parent().unwrap_or(path).to_owned(),
            file: form.index.name.clone(),
            problem: format!("has an attribute of `{}` that is not hexadecimal", path_of.escape_debug()),
        });
    }
    let is_label = |name: &str| name == "security.selinux";
    let has_labels = !index.labels.is_empty() || index.xattrs.iter().any(|(_, name, _)| is_label(name));
    let all = index.xattrs.into_iter().filter(|(_, name, _)| !is_label(name)).collect();
    Ok(Attributes { all, has_labels })
}

/// A word of the shell, whatever is in it.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

impl Attributes {
    /// None if there is nothing to restore.
    pub(super) fn script(&self) -> Option<String> {
        if self.all.is_empty() {
            return None;
        }
        let mut text = String::from(
            "#!/bin/sh\n# Written by imgbuild: file capabilities and other attributes, which cpio has no place for.\n\
             command -v setfattr >/dev/null || {\n    \
             echo 'imgbuild: file capabilities are missing: add the package attr to the image' >/dev/console\n    exit 0\n}\n",
        );
        for (path, name, value) in &self.all {
            let path = quoted(&format!("/{}", path.trim_start_matches('/')));
            let _ = writeln!(text, "setfattr -h -n {} -v 0x{value} {path}", quoted(name));
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attribute_is_a_command_of_its_own() {
        let one = |path: &str, name: &str| (path.to_owned(), name.to_owned(), "0100".to_owned());
        let all = vec![one("usr/bin/ping", "security.capability"), one("a'b", "user.x")];
        let text = Attributes { all, has_labels: false }.script().unwrap();
        assert!(text.contains("setfattr -h -n 'security.capability' -v 0x0100 '/usr/bin/ping'\n"), "{text}");
        assert!(text.contains("'/a'\\''b'\n"), "{text}");
        assert_eq!(Attributes { all: Vec::new(), has_labels: false }.script(), None);
    }
}

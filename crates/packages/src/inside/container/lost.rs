//! What files of a container image had by their packages and no longer have: builders that copy trees, and registries' tools, drop file
//! capabilities, set-id bits and owners. The programs are there and fail for users.

use std::collections::{BTreeMap, BTreeSet};

use crate::inside::accounts::text_in;
use base::source::counted_as;
use store::TreeEditor;

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;
/// So many packages are named of each kind.
const SHOWN: usize = 6;

/// What a package says of one of its files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packaged<'p> {
    pub package: &'p str,
    /// Without a slash in front.
    pub path: &'p str,
    /// Permission bits.
    pub mode: u32,
    /// Names of user and group, if they are known.
    pub owner: Option<(&'p str, &'p str)>,
    pub has_capabilities: bool,
}

/// A tree, and its accounts by name.
pub(crate) struct Tree<'e> {
    editor: &'e TreeEditor,
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

impl<'e> Tree<'e> {
    pub(crate) fn new(editor: &'e TreeEditor) -> Self {
        let of = |path: &str| {
            let text = text_in(editor, path).unwrap_or_default();
            let line = |line: &str| {
                let mut fields = line.split(':');
                Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
            };
            text.lines().filter_map(line).collect::<BTreeMap<String, u32>>()
        };
        Self { editor, users: of("etc/passwd"), groups: of("etc/group") }
    }

    /// What a file no longer has; nothing of one that is gone, or that a link stands for.
    fn lost(&self, one: &Packaged<'_>) -> Vec<&'static str> {
        let Some((mode, uid, gid)) = self.editor.owned(one.path) else { return Vec::new() };
        let is_link = mode & 0o170_000 == 0o120_000;
        let mut lost = Vec::new();
        if is_link || fault::planted("lost-attributes-not-reported") {
            return lost;
        }
        if one.has_capabilities && !self.editor.has_capabilities(one.path) {
            lost.push("file capabilities");
        }
        if one.mode & SET_ID & !mode != 0 {
            lost.push("set-id bits");
        }
        let is_other =
            |all: &BTreeMap<String, u32>, name: &str, number: u32| all.get(name).is_some_and(|own| *own != number);
        if one.owner.is_some_and(|(user, group)| is_other(&self.users, user, uid) || is_other(&self.groups, group, gid))
        {
            lost.push("owners");
        }
        lost
    }

    /// What is said of all that packages say: by kind, with the packages and a file of each. `reinstall` is the command that mends it.
    pub(crate) fn note<'p>(&self, all: impl Iterator<Item = Packaged<'p>>, reinstall: &str) -> Option<String> {
        let mut kinds: BTreeMap<&str, BTreeMap<&str, (&str, usize)>> = BTreeMap::new();
        let mut packages = BTreeSet::new();
        for one in all {
            for kind in self.lost(&one) {
                kinds.entry(kind).or_default().entry(one.package).or_insert((one.path, 0)).1 += 1;
                packages.insert(one.package);
            }
        }
        let of_kind = |(kind, all): (&&str, &BTreeMap<&str, (&str, usize)>)| {
            let shown = all.iter().take(SHOWN).map(|(package, (path, count))| match count {
                1 => format!("{package}: /{}", path.escape_default()),
                count => format!("{package}: /{} and {} more", path.escape_default(), count - 1),
            });
            let more = if all.len() > SHOWN { ", .." } else { "" };
            format!("{kind} ({}{more})", shown.collect::<Vec<_>>().join(", "))
        };
        (!kinds.is_empty()).then(|| {
            let names: Vec<&str> = packages.iter().take(SHOWN).copied().collect();
            let more = if packages.len() > SHOWN { " .." } else { "" };
            format!(
                "files of {} lost in the container image what their packages gave them: {}; programs may fail for users: run `{reinstall} {}{more}` there and push it again, or chmod, chown and setcap in a postinstall script",
                counted_as(packages.len(), "package", "packages"),
                kinds.iter().map(of_kind).collect::<Vec<_>>().join(", "),
                names.join(" ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_a_package_gave_and_the_file_lacks_is_named_by_package() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str, mode: u32| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        };
        let own = rustix::process::getuid().as_raw();
        write("etc/passwd", &format!("us:x:{own}:0::/:/bin/sh\nmunge:x:{}:0::/:/bin/sh\n", own + 1), 0o644);
        for (path, mode) in
            [("usr/bin/ping", 0o755), ("usr/bin/sudo", 0o755), ("usr/bin/su", 0o4755), ("etc/key", 0o400)]
        {
            write(path, "", mode);
        }
        let editor = TreeEditor::open(folder.path().to_str().unwrap()).unwrap();
        let plain = |package, path, mode| Packaged { package, path, mode, owner: None, has_capabilities: false };
        let all = [
            Packaged { has_capabilities: true, ..plain("iputils", "usr/bin/ping", 0o755) },
            plain("sudo", "usr/bin/sudo", 0o4111),
            Packaged { owner: Some(("us", "unknown")), ..plain("util-linux", "usr/bin/su", 0o4755) },
            plain("gone", "usr/bin/gone", 0o4755),
            Packaged { owner: Some(("munge", "munge")), ..plain("munge", "etc/key", 0o400) },
        ];
        let note = Tree::new(&editor).note(all.into_iter(), "dnf reinstall").unwrap();
        for words in [
            "files of 3 packages lost",
            "file capabilities (iputils: /usr/bin/ping), owners (munge: /etc/key), set-id bits (sudo: /usr/bin/sudo)",
            "`dnf reinstall iputils munge sudo`",
        ] {
            assert!(note.contains(words), "{note}");
        }
        assert_eq!(Tree::new(&editor).note(all[2..4].iter().copied(), "x"), None);
    }
}

//! What scripts write: a path that a script of an installed package, or of the recipe, names is not a person's work.

use memchr::memmem;

use crate::capture::census::Seen;
use packages::installed::Installed;

/// Texts of scripts, without comments.
#[derive(Debug, Default)]
pub(super) struct Scripts(Vec<u8>);

impl Scripts {
    /// Collects the scripts of all packages, and those of the recipe.
    pub(super) fn of(installed: &Installed, recipe: &[String]) -> Self {
        let texts = installed.packages.iter().flat_map(|package| &package.scripts).chain(recipe);
        let is_command = |line: &&str| !line.trim_start().starts_with('#');
        let lines = texts.flat_map(|text| text.lines().filter(is_command));
        Self(lines.flat_map(|line| line.bytes().chain([b'\n'])).collect())
    }

    /// Whether a script names a path, given without a slash in front: `/etc/x`, `$1/etc/x`, `"${DPKG_ROOT}/etc/x"`, and for a
    /// directory `/etc/x/..`.
    pub(super) fn name(&self, path: &str, seen: &Seen) -> bool {
        // Most packages name what is in /usr/lib as it was called before the two were merged.
        let before = path
            .strip_prefix("usr/")
            .filter(|path| ["bin/", "sbin/", "lib/", "lib64/"].iter().any(|folder| path.starts_with(folder)));
        [Some(path), before].into_iter().flatten().any(|path| self.has(&format!("/{path}"), seen.is_directory()))
    }

    /// Whether a script names a folder, below which a path is, in full: one of a package's state, or one that no package has.
    pub(super) fn name_folder(&self, path: &str, installed: &Installed) -> bool {
        let is_packaged =
            |folder: &str| installed.packages.iter().flat_map(|package| &package.files).any(|file| file.path == folder);
        let mut folders = path.match_indices('/').map(|(at, _)| &path[..at]).skip(2);
        folders.any(|folder| {
            let is_state = folder.starts_with("var/lib/") || folder.starts_with("var/cache/");
            self.has(&format!("/{folder}"), false) && (is_state || folder.starts_with("etc/") && !is_packaged(folder))
        })
    }

    fn has(&self, path: &str, is_directory: bool) -> bool {
        memmem::find_iter(&self.0, path.as_bytes()).any(|at| {
            let next = self.0.get(at + path.len()).copied().unwrap_or_default();
            let is_longer = next.is_ascii_alphanumeric() || b"._-*".contains(&next) || next == b'/' && !is_directory;
            !is_longer && is_whole(&self.0[..at])
        })
    }
}

/// Whether a path begins after this text, and not within a longer one: a variable may be in front of it.
fn is_whole(text: &[u8]) -> bool {
    let is_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let word = text.iter().rev().take_while(|byte| is_of_word(byte)).count();
    let before = text[..text.len() - word].last().copied().unwrap_or_default();
    if word > 0 { before == b'$' } else { !b"./-".contains(&before) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archive::Listed;
    use packages::installed::{DatabaseKind, InstalledPackage};

    #[test]
    fn a_path_is_named_as_a_whole_with_a_variable_in_front_or_without() {
        let text = "# /etc/comment\ncat > /etc/python3/debian_config <<EOF\n[ -f \"$DPKG_ROOT/etc/a\" ] || : >${root}/etc/b\n\
                    mkdir -p /var/lib/c/d; touch /lib/e /usr/local/etc/f ./etc/g; echo >$1/etc/h\n";
        let package = InstalledPackage { scripts: vec![text.to_owned()], ..InstalledPackage::default() };
        let installed = Installed { kind: DatabaseKind::Dpkg, packages: vec![package], overridden: Vec::new() };
        let scripts = Scripts::of(&installed, &["touch /etc/recipe".to_owned()]);
        let seen = |mode: u32| Seen {
            listed: Listed { mode, ..Listed::default() },
            md5: String::new(),
            sha256: String::new(),
            is_private_key: false,
        };
        let named = ["etc/python3/debian_config", "etc/a", "etc/b", "var/lib/c/d", "usr/lib/e", "etc/h", "etc/recipe"];
        for path in named {
            assert!(scripts.name(path, &seen(0o100_644)), "{path}");
        }
        for path in ["etc/comment", "etc/python3", "etc/python3/debian", "var/lib/c", "etc/f", "etc/g", "etc/aa"] {
            assert!(!scripts.name(path, &seen(0o100_644)), "{path}");
        }
        assert!(scripts.name("var/lib/c", &seen(0o040_755)));
        assert!(scripts.name_folder("var/lib/c/d/e/f", &installed) && !scripts.name_folder("var/lib/c/e", &installed));
    }
}

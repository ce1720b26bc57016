//! What the node takes along, and what is in /run of the build that runs: replaced at once, and put back where it does not go over.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::report;
use super::checks::SYSTEMCTL;
use crate::cmdline::Parameters;
use crate::node::statelite::inside::within;
use crate::say;
use crate::scripts::OF_THE_LAST_START;

/// Longest file of a host key, in bytes.
const LONGEST_KEY: u64 = 64 << 10;

/// Takes the node's ssh host keys along: who logs in knows it by them. A root that has keys keeps its own.
///
/// # Errors
/// A text: one cannot be written.
pub(super) fn host_keys(from: &Path, to: &Path) -> Result<(), String> {
    let folder = within(to, "etc/ssh", true).map_err(|error| format!("etc/ssh of the new image: {error}"))?;
    let names = std::fs::read_dir(from.join("etc/ssh")).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let is_key = |name: &String| name.starts_with("ssh_host_") && (name.ends_with("_key") || name.ends_with(".pub"));
    if !folder.is_dir() {
        return Ok(());
    }
    for name in names.filter(is_key) {
        let (source, target) = (from.join("etc/ssh").join(&name), folder.join(&name));
        let is_file = source.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() <= LONGEST_KEY);
        if !is_file || target.symlink_metadata().is_ok() {
            continue;
        }
        let copy = || {
            let mut bytes = Vec::new();
            let file = File::open(&source)?;
            let mode = file.metadata()?.permissions().mode() & 0o644;
            file.take(LONGEST_KEY).read_to_end(&mut bytes)?;
            File::options().write(true).create_new(true).mode(mode).open(&target)?.write_all(&bytes)
        };
        copy().map_err(|error| format!("{} cannot be copied: {error}", source.display()))?;
    }
    Ok(())
}

/// Lists the units that have failed until now: what fails again afterwards is no failure of the new build.
pub(super) fn failed_units(path: &str) {
    let mut list = Command::new(SYSTEMCTL);
    list.args(["list-units", "--failed", "--plain", "--no-legend", "--no-pager", "--full"]).stdin(Stdio::null());
    let output = list.output().map(|output| output.stdout).unwrap_or_default();
    if let Err(error) = std::fs::write(path, names_of(&String::from_utf8_lossy(&output))) {
        say!("the units that have failed cannot be listed: {error}");
    }
}

/// The first word of each line, a line each.
fn names_of(list: &str) -> String {
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    names.map(|name| format!("{name}\n")).collect()
}

/// Files that were replaced, with what they were. They are put back when this goes, unless they are to stay.
#[derive(Default)]
pub(super) struct Left {
    before: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl Left {
    /// Replaces what the running build booted, and where it reports, by those of the next one; what became of its scripts goes.
    ///
    /// # Errors
    /// A text; what was replaced until then is put back when this goes.
    pub(super) fn replace_all(&mut self, parameters: &Parameters, reports: &[String]) -> Result<(), String> {
        for name in OF_THE_LAST_START {
            self.replace(&Path::new("/").join(name), None)?;
        }
        for (path, text) in report::files_of(parameters, reports) {
            self.replace(&path, Some(text.as_bytes()))?;
        }
        Ok(())
    }

    fn replace(&mut self, path: &Path, bytes: Option<&[u8]>) -> Result<(), String> {
        self.before.push((path.to_owned(), std::fs::read(path).ok()));
        put(path, bytes).map_err(|error| format!("{} cannot be replaced: {error}", path.display()))
    }

    /// The node goes over: they stay.
    pub(super) fn stay(mut self) {
        self.before.clear();
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        if fault::planted("node-soft-reboot-keeps-address") {
            return;
        }
        for (path, bytes) in std::mem::take(&mut self.before).into_iter().rev() {
            if let Err(error) = put(&path, bytes.as_deref()) {
                say!("{} cannot be put back: {error}", path.display());
            }
        }
    }
}

/// Puts a file into its place, whole or not at all; or takes it away.
fn put(path: &Path, bytes: Option<&[u8]>) -> std::io::Result<()> {
    let Some(bytes) = bytes else {
        return match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    };
    let aside = path.with_extension("new");
    let _ = std::fs::remove_file(&aside);
    std::fs::write(&aside, bytes).and_then(|()| std::fs::rename(&aside, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("imgbuild-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn files_are_put_back_unless_the_node_goes_over() {
        let top = directory("left");
        let (one, other, gone) = (top.join("one"), top.join("other"), top.join("gone"));
        let read = || [&one, &other, &gone].map(|path| std::fs::read_to_string(path).ok());
        let text = |text: &str| Some(text.to_owned());
        std::fs::write(&one, "a").unwrap();
        std::fs::write(&gone, "c").unwrap();
        let replaced = || {
            let mut left = Left::default();
            left.replace(&one, Some(b"A")).unwrap();
            left.replace(&other, Some(b"B")).unwrap();
            left.replace(&gone, None).unwrap();
            assert_eq!(read(), [text("A"), text("B"), None]);
            left
        };
        drop(replaced());
        assert_eq!(read(), [text("a"), None, text("c")]);
        replaced().stay();
        assert_eq!(read(), [text("A"), text("B"), None]);
        assert!(Left::default().replace(&top.join("not/there"), Some(b"")).is_err());
        std::fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn host_keys_go_along_with_their_modes_and_replace_none() {
        let top = directory("keys-along");
        let (from, to) = (top.join("from"), top.join("to"));
        for tree in [&from, &to] {
            std::fs::create_dir_all(tree.join("etc/ssh")).unwrap();
        }
        let own = |tree: &Path, name: &str| tree.join("etc/ssh").join(name);
        for (name, text) in [
            ("ssh_host_ed25519_key", "secret"),
            ("ssh_host_ed25519_key.pub", "public"),
            ("ssh_host_rsa_key", "other"),
            ("sshd_config", "x"),
        ] {
            std::fs::write(own(&from, name), text).unwrap();
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        std::fs::set_permissions(own(&from, "ssh_host_ed25519_key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(own(&to, "ssh_host_rsa_key"), "kept").unwrap();
        std::os::unix::fs::symlink("/etc/shadow", own(&from, "ssh_host_x_key")).unwrap();
        host_keys(&from, &to).unwrap();
        assert_eq!(mode(&own(&to, "ssh_host_ed25519_key")), 0o600);
        assert_eq!(std::fs::read_to_string(own(&to, "ssh_host_ed25519_key.pub")).unwrap(), "public");
        assert_eq!(std::fs::read_to_string(own(&to, "ssh_host_rsa_key")).unwrap(), "kept");
        assert!(!own(&to, "sshd_config").exists() && own(&to, "ssh_host_x_key").symlink_metadata().is_err());
        host_keys(&from, &top.join("nothing")).unwrap();
        std::fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn names_of_units_are_first_words() {
        let list = "a.service loaded failed failed A service\nb.mount   loaded failed failed B\n\n";
        assert_eq!(names_of(list), "a.service\nb.mount\n");
    }
}

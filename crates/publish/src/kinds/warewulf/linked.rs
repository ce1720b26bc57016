//! The link by which Warewulf finds the boot script: it reads templates in its configuration's directory alone.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Bytes of a template that is compared.
const LARGEST: u64 = 1 << 20;

fn file(name: &str) -> String {
    format!("imgbuild-{name}.ipxe")
}

/// Where Warewulf looks: `/etc/warewulf/ipxe` of the tree that has its state in `var/lib/warewulf` (`/`, or `/usr/local`).
fn folder(directory: &Path) -> Option<PathBuf> {
    directory
        .ends_with("var/lib/warewulf")
        .then(|| directory.ancestors().nth(3).map(|root| root.join("etc/warewulf/ipxe")))?
}

fn leads_here(directory: &Path, name: &str) -> bool {
    let link = folder(directory).and_then(|folder| folder.join(file(name)).canonicalize().ok());
    link.is_some_and(|link| directory.join("ipxe").join(file(name)).canonicalize().is_ok_and(|ours| ours == link))
}

/// A word of the shell.
fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./+@".contains(c);
    if text.chars().all(is_plain) { text } else { super::xattrs::quoted(&text) }
}

fn line(directory: &Path, name: &str) -> String {
    let to = folder(directory).unwrap_or_else(|| PathBuf::from("/etc/warewulf/ipxe"));
    format!("ln -sfn {} {}", word(&directory.join("ipxe").join(file(name))), word(&to.join(file(name))))
}

/// The command that is still to be run, once; none where the link is there.
pub(super) fn command(directory: &Path, name: &str) -> Option<String> {
    (!leads_here(directory, name))
        .then(|| format!("{}   # once, for nodes with `ipxe template: imgbuild-{name}`", line(directory, name)))
}

/// What is said of a copy, which no publication changes.
pub(super) fn warning(directory: &Path, name: &str, script: &str) -> Option<String> {
    let path = folder(directory)?.join(file(name));
    if leads_here(directory, name) || path.symlink_metadata().is_err() {
        return None;
    }
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = std::fs::File::options().read(true).custom_flags(flags).open(&path);
    let opened = opened.ok().filter(|file| file.metadata().is_ok_and(|found| found.is_file()));
    let mut text = Vec::new();
    let is_read = opened.is_some_and(|file| file.take(LARGEST).read_to_end(&mut text).is_ok());
    (!is_read || text != script.as_bytes()).then(|| {
        format!(
            "`{}` differs from the boot script of this build, and nodes get that one; have it lead here: {}",
            path.display(),
            line(directory, name)
        )
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_copy_of_another_build_is_named_and_a_link_is_good() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("var/lib/warewulf");
        let etc = place.path().join("etc/warewulf/ipxe");
        std::fs::create_dir_all(directory.join("ipxe")).unwrap();
        std::fs::create_dir_all(&etc).unwrap();
        let (ours, theirs) = (directory.join("ipxe/imgbuild-a.ipxe"), etc.join("imgbuild-a.ipxe"));
        std::fs::write(&ours, "old").unwrap();
        let line = format!("ln -sfn {} {}", ours.display(), theirs.display());
        assert_eq!(warning(&directory, "a", "new"), None);
        assert!(command(&directory, "a").unwrap().starts_with(&line));
        std::fs::write(&theirs, "old").unwrap();
        assert!(warning(&directory, "a", "new").unwrap().ends_with(&line));
        assert_eq!(warning(&directory, "a", "old"), None);
        std::fs::remove_file(&theirs).unwrap();
        symlink("/nonexistent", &theirs).unwrap();
        assert!(warning(&directory, "a", "new").is_some());
        std::fs::remove_file(&theirs).unwrap();
        symlink(&ours, &theirs).unwrap();
        assert_eq!(warning(&directory, "a", "new"), None);
        assert_eq!(command(&directory, "a"), None);
        // Elsewhere nothing is known of the configuration.
        assert_eq!(warning(Path::new("/srv/warewulf"), "a", "new"), None);
        assert!(
            command(Path::new("/srv/a b"), "a").unwrap().starts_with("ln -sfn '/srv/a b/ipxe/imgbuild-a.ipxe' /etc/")
        );
    }
}

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{PackageFile, unpack_all};
use crate::rpm::package::file::tests::write;

type Builder = rpm::PackageBuilder;

fn content(builder: &mut Builder, path: &str, text: &str) {
    builder.with_file_contents(text, rpm::FileOptions::new(path)).unwrap();
}

fn listed(paths: &[PathBuf]) -> Vec<PackageFile> {
    let name = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    paths
        .iter()
        .map(|path| PackageFile { file: path.to_str().unwrap().to_owned(), name: name(path), called: String::new() })
        .collect()
}

fn unpacked(paths: &[PathBuf]) -> Result<tempfile::TempDir, String> {
    let root = tempfile::tempdir().unwrap();
    unpack_all(root.path().to_str().unwrap(), &listed(paths), &mut |_| {})?;
    Ok(root)
}

/// Links of merged /usr; the last package by name, so that order alone would be wrong.
fn filesystem(place: &Path) -> PathBuf {
    write(place, "zfilesystem", |builder| {
        for path in ["/usr", "/usr/bin", "/usr/lib64"] {
            builder.with_dir_entry(rpm::FileOptions::dir(path)).unwrap();
        }
        for (path, target) in [("/bin", "usr/bin"), ("/lib64", "usr/lib64")] {
            builder.with_symlink(rpm::FileOptions::symlink(path, target)).unwrap();
        }
    })
}

// Only root may give files to other users.
#[test]
fn packages_come_through_the_links_of_others_and_to_the_users_of_others() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let shell = write(place.path(), "ash", |builder| {
        content(builder, "/bin/sh", "shell");
        content(builder, "/lib64/libx.so", "library");
        builder.with_file_contents("mail", rpm::FileOptions::new("/usr/bin/mail").user("mail").group("mail")).unwrap();
        builder.with_file_contents("lost", rpm::FileOptions::new("/usr/bin/lost").user("no-such-user")).unwrap();
    });
    let setup = write(place.path(), "setup", |builder| {
        content(builder, "/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nmail:x:8:12:mail:/:/bin/false\n");
        content(builder, "/etc/group", "root:x:0:\nmail:x:12:\n");
    });
    let root = unpacked(&[shell, setup, filesystem(place.path())]).unwrap();
    assert!(root.path().join("bin").is_symlink() && root.path().join("lib64").is_symlink());
    assert_eq!(std::fs::read_to_string(root.path().join("usr/bin/sh")).unwrap(), "shell");
    assert_eq!(std::fs::read_to_string(root.path().join("usr/lib64/libx.so")).unwrap(), "library");
    let owner = |name: &str| {
        let found = std::fs::metadata(root.path().join(name)).unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!(owner("usr/bin/mail"), (8, 12));
    assert_eq!(owner("usr/bin/lost"), (0, 0));
}

#[test]
fn one_file_of_two_packages_must_be_the_same() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let with = |name: &str, text: &str| write(place.path(), name, |builder| content(builder, "/usr/share/x", text));
    let (one, two, other) = (with("one", "same"), with("two", "same"), with("other", "not"));
    let root = unpacked(&[one.clone(), two]).unwrap();
    assert_eq!(std::fs::read_to_string(root.path().join("usr/share/x")).unwrap(), "same");
    let said = unpacked(&[one, other]).unwrap_err();
    assert_eq!(said, "one and other both contain `/usr/share/x`, with different content");
}

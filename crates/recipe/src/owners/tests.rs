use std::os::unix::fs::PermissionsExt;

use super::*;

fn git(directory: &Path, words: &[&str]) {
    let settings = ["-c", "user.name=a", "-c", "user.email=a@b"];
    let done = std::process::Command::new("git").current_dir(directory).args(settings).args(words).output().unwrap();
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// A repository with a recipe, a file in a folder and a script.
fn site() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap().join("site");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    for (name, mode) in [("image.toml", 0o644), ("etc/motd", 0o644), ("run", 0o755)] {
        std::fs::write(root.join(name), name).unwrap();
        chmod(&root.join(name), mode);
    }
    chmod(&root.join("etc"), 0o755);
    git(&root, &["init", "-q"]);
    git(&root, &["add", "."]);
    git(&root, &["commit", "-qm", "one"]);
    (directory, root)
}

#[test]
fn what_is_tracked_has_the_modes_of_the_index_whatever_the_umask() {
    let (_directory, root) = site();
    let all = ["image.toml", "etc", "etc/motd", "run"];
    let modes = || all.map(|name| read(&root.join(name)).unwrap());
    let expected = [0o644, 0o755, 0o644, 0o755];
    let expected = expected.map(|mode| Owned { uid: 0, gid: 0, mode, is_tracked: true });
    assert_eq!(modes(), expected);
    // As umask 077 leaves it, one of a group, and a file system without modes.
    for change in [|mode: u32| mode & 0o700, |mode| mode | 0o020, |_| 0o755] {
        for name in all {
            chmod(&root.join(name), change(0o755));
        }
        assert_eq!(modes(), expected);
    }
    // One that is not added is as it is; so is all where there is no repository.
    std::fs::write(root.join("etc/new"), "").unwrap();
    chmod(&root.join("etc/new"), 0o2640);
    assert_eq!(mode(&root.join("etc/new")).unwrap(), 0o2640);
    std::fs::remove_dir_all(root.join(".git")).unwrap();
    chmod(&root.join("etc"), 0o1777);
    assert_eq!((mode(&root.join("etc")).unwrap(), is_tracked(&root.join("run"))), (0o1777, false));
}

#[test]
fn a_link_is_judged_by_what_it_leads_to() {
    let (directory, root) = site();
    let outside = directory.path().join("outside");
    std::fs::write(&outside, "").unwrap();
    chmod(&outside, 0o600);
    std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
    std::os::unix::fs::symlink("etc", root.join("folder")).unwrap();
    git(&root, &["add", "link", "folder"]);
    chmod(&root.join("etc/motd"), 0o600);
    assert_eq!((mode(&root.join("link")).unwrap(), mode(&root.join("folder/motd")).unwrap()), (0o600, 0o644));
}

#[test]
fn users_and_groups_are_judged_by_themselves() {
    let owners = |uid, gid| Owners { file: Owned { uid, gid, ..Owned::default() }, ..Owners::default() };
    let judged = |owners: &Owners, uid, gid| {
        let found = owners.judged(Owned { uid, gid, mode: 0o640, is_tracked: false });
        (found.uid, found.gid, found.mode)
    };
    let user = owners(1000, 100);
    for (found, expected) in [
        ((1000, 100), (0, 0)),
        ((900, 900), (900, 900)),
        ((1000, 42), (0, 42)),
        ((900, 100), (900, 0)),
        // Root gave it to the group.
        ((0, 42), (0, 42)),
        ((0, 100), (0, 100)),
    ] {
        assert_eq!(judged(&user, found.0, found.1), (expected.0, expected.1, 0o640), "{found:?}");
    }
    let root = owners(0, 0);
    assert_eq!((judged(&root, 900, 900), judged(&root, 0, 42)), ((900, 900, 0o640), (0, 42, 0o640)));
}

#[test]
fn a_mode_that_no_umask_explains_is_not_opened() {
    let (_directory, root) = site();
    let owners = || Owners::new(&root, &BTreeMap::new());
    let opened = |name: &str| {
        let path = root.join(name);
        owners().opened(&path, &read(&path).unwrap())
    };
    assert_eq!((opened("etc/motd"), opened("etc"), opened("run")), (0, 0, 0));
    chmod(&root.join("etc/motd"), 0o400);
    chmod(&root.join("etc"), 0o700);
    assert_eq!((opened("etc/motd"), opened("etc")), (0o044, 0o055));
    // All of them are so.
    for name in ["image.toml", "run"] {
        chmod(&root.join(name), 0o700);
    }
    assert_eq!((opened("etc/motd"), opened("etc"), opened("run")), (0, 0, 0));
    chmod(&root.join("image.toml"), 0o640);
    assert_eq!((opened("etc/motd"), opened("run")), (0o040, 0o050));
}

#[test]
fn a_folder_is_listed_once_for_all_its_files() {
    let (_directory, root) = site();
    let milliseconds = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e6
    };
    // As a clone under umask 077 has it: every file may have been closed on purpose.
    let time_of = |count: usize| {
        let folder = root.join(format!("many{count}"));
        std::fs::create_dir(&folder).unwrap();
        let files: Vec<PathBuf> = (0..count).map(|number| folder.join(format!("{number}"))).collect();
        for file in &files {
            std::fs::write(file, "").unwrap();
            chmod(file, 0o600);
        }
        git(&root, &["add", "."]);
        let owners = Owners::new(&root, &BTreeMap::new());
        let work = || {
            let began = milliseconds();
            assert!(files.iter().all(|file| owners.opened(file, &read(file).unwrap()) == 0));
            milliseconds() - began
        };
        witness::recording(witness::Known::default(), work).0
    };
    chmod(&root.join("image.toml"), 0o600);
    let (few, many) = (time_of(150), time_of(1500));
    assert!(many < few.max(8.0) * 40.0, "{few} ms for 150 files, {many} ms for 1,500");
}

#[test]
fn what_a_recipe_says_is_read_or_refused() {
    let said = |user: Option<&str>, group: Option<&str>, mode| Said {
        user: user.map(str::to_owned),
        group: group.map(str::to_owned),
        mode,
    };
    for (text, expected) in [
        ("munge:munge 0400", said(Some("munge"), Some("munge"), Some(0o400))),
        ("root:shadow", said(Some("root"), Some("shadow"), None)),
        ("munge 400", said(Some("munge"), None, Some(0o400))),
        ("0:42  1777", said(Some("0"), Some("42"), Some(0o1777))),
        ("0400", said(None, None, Some(0o400))),
        ("0", said(Some("0"), None, None)),
    ] {
        assert_eq!(Said::parse(text), Ok(expected), "{text}");
    }
    for text in
        ["", "a b c", "munge 9", "munge 77777", "munge 0o400", "-x:y", "a: 0400", ":a", "4294967295", "0888", "1.5"]
    {
        assert!(Said::parse(text).is_err(), "{text}");
    }
}

#[test]
fn what_was_not_fetched_is_named_with_its_command() {
    let (_directory, root) = site();
    let write = |name: &str, text: &str| std::fs::write(root.join(name), text).unwrap();
    write("lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n");
    write("annex", "/annex/objects/SHA256E-s3--00\n");
    std::os::unix::fs::symlink(".git/annex/objects/a/b/c/c", root.join("locked")).unwrap();
    git(&root, &["update-index", "--add", "--cacheinfo", "160000,0123456789012345678901234567890123456789,sub"]);
    std::fs::create_dir(root.join("sub")).unwrap();
    for (name, command) in [
        ("lfs", "lfs pull"),
        ("annex", "annex get annex"),
        ("locked", "annex get locked"),
        ("sub", "submodule update --init sub"),
        ("sub/file", "submodule update --init sub"),
    ] {
        let (_, help) = checkout::without_content(&root.join(name)).expect(name);
        assert!(help.contains(command), "{help}");
    }
    for name in ["etc", "etc/motd", "missing"] {
        assert_eq!(checkout::without_content(&root.join(name)), None, "{name}");
    }
}

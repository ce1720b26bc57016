//! Owners and modes of what a recipe brings: the same from each clone, and never wider than they may be. With a real git.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use crate::exact::{Keys, keys_of, lock_of, read};
use crate::support::Space;
use crate::support::cluster::{chmod, clone, cluster, git};

/// The keys of all actions.
fn keys(space: &Space) -> Keys {
    let recipe = read(space.path());
    keys_of(&recipe, &lock_of(&recipe))
}

fn everything(space: &Space, change: impl Fn(&Path)) {
    let all = walkdir::WalkDir::new(space.path()).into_iter().filter_entry(|one| one.file_name() != ".git");
    all.map(Result::unwrap).filter(|one| one.depth() > 0).for_each(|one| change(one.path()));
}

#[test]
fn two_clones_with_other_umasks_have_the_same_keys() {
    let origin = cluster();
    origin.write("compute.synclist", "motd -> /etc/motd\nconf -> /etc/conf\nsite -> /srv/site\n");
    git(origin.path(), &["add", "-A"]);
    git(origin.path(), &["commit", "-q", "-m", "folders"]);
    let expected = keys(&clone(origin.path(), "022", ""));
    for (umask, more) in [("077", ""), ("002", ""), ("027", ""), ("077", "-c core.sharedRepository=group")] {
        assert_eq!(keys(&clone(origin.path(), umask, more)), expected, "{umask} {more}");
    }
    // A file system without modes.
    let clones = clone(origin.path(), "022", "-c core.fileMode=false");
    everything(&clones, |path| chmod(path, 0o755));
    assert_eq!(keys(&clones), expected);
    // A linked work tree and a submodule, in which `.git` is a file.
    let linked = Space::new();
    git(origin.path(), &["worktree", "add", "-q", "--detach", linked.path().to_str().unwrap()]);
    let outer = Space::new();
    git(outer.path(), &["init", "-q"]);
    let add =
        ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", origin.path().to_str().unwrap(), "sub"];
    git(outer.path(), &add);
    let inner = Space::kept(&outer.path().join("sub"));
    for space in [&linked, &inner] {
        assert!(space.path().join(".git").is_file());
        everything(space, |path| chmod(path, path.symlink_metadata().unwrap().permissions().mode() & 0o700));
        assert_eq!(keys(space), expected, "{}", space.path().display());
    }
    // A checkout of somebody else, and what git was used for is of no importance.
    let others = clone(origin.path(), "077", "");
    if rustix::process::geteuid().is_root() {
        let all = walkdir::WalkDir::new(others.path()).into_iter().map(Result::unwrap);
        all.for_each(|one| std::os::unix::fs::lchown(one.path(), Some(1000), Some(1000)).unwrap());
    }
    assert_eq!(keys(&others), expected);
    // A tree without a repository has what it has.
    let tree = clone(origin.path(), "022", "");
    std::fs::remove_dir_all(tree.path().join(".git")).unwrap();
    assert_eq!(keys(&tree), expected);
    chmod(&tree.path().join("motd"), 0o600);
    assert_ne!(keys(&tree), expected);
}

#[test]
fn what_git_does_not_track_keeps_owner_and_mode() {
    let space = cluster();
    space.write("compute.synclist", "new -> /srv/new\n").write("new/file", "x\n");
    let (folder, file) = (space.path().join("new"), space.path().join("new/file"));
    let mut all = vec![];
    for (of_folder, of_file) in [(0o755, 0o644), (0o700, 0o644), (0o1777, 0o644), (0o755, 0o664), (0o755, 0o2755)] {
        chmod(&folder, of_folder);
        chmod(&file, of_file);
        all.push(keys(&space));
    }
    chmod(&file, 0o644);
    if rustix::process::geteuid().is_root() {
        for owner in [(900, 900), (0, 42)] {
            chown(&file, Some(owner.0), Some(owner.1)).unwrap();
            all.push(keys(&space));
        }
        // Those of the recipe's own file are root's.
        for path in ["image.toml", "new", "new/file"] {
            chown(space.path().join(path), Some(900), Some(900)).unwrap();
        }
        assert_eq!(keys(&space), all[0]);
    }
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len());
}

#[test]
fn what_git_would_open_is_refused_until_the_recipe_says_the_mode() {
    let space = cluster();
    // All that is in the repository was made with one umask.
    space.write("compute.synclist", "keys -> /srv/keys\nmotd -> /etc/munge/munge.key\n");
    let refused = space.run(&["check"]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("sync::mode") && refused.err.contains("munged does not start"), "{}", refused.err);
    assert!(refused.err.contains("\"/etc/munge/munge.key\" = \"munge:munge 0400\""), "{}", refused.err);
    space.edit("image.toml", "[exclude]", "[sync.owner]\n\"/etc/munge/munge.key\" = \"munge:munge 0400\"\n\n[exclude]");
    space.run(&["check"]).good();
    chmod(&space.path().join("keys/admin.pub"), 0o400);
    let refused = space.run(&["check"]);
    assert!(refused.code == 1 && refused.err.contains("compute.synclist:1:1"), "{}", refused.err);
    assert!(refused.err.contains("\"/srv/keys/admin.pub\" = \"root:root 0400\""), "{}", refused.err);
    assert!(refused.err.contains("chmod 0644 keys/admin.pub"), "{}", refused.err);
    space.edit("image.toml", "\n[exclude]", "\"/srv/keys/admin.pub\" = \"0400\"\n\n[exclude]");
    space.run(&["check"]).good();
    chmod(&space.path().join("keys"), 0o700);
    let refused = space.run(&["check"]);
    assert!(refused.code == 1 && refused.err.contains("\"/srv/keys\" = \"root:root 0700\""), "{}", refused.err);
}

#[test]
fn what_a_recipe_says_of_owners_is_checked_with_its_line() {
    for (line, message) in [
        ("\"/etc/mtd\" = \"0400\"", "did you mean `/etc/motd`?"),
        ("\"/etc/motd\" = \"root:root 0999\"", "`0999` is not a mode"),
        ("\"/etc/motd\" = \"ro ot 0400\"", "is not an owner and a mode"),
        ("\"/etc/motd\" = \"-x:root\"", "is not the name or number of an account"),
    ] {
        let space = cluster();
        space.edit("image.toml", "[exclude]", &format!("[sync.owner]\n{line}\n\n[exclude]"));
        let ran = space.run(&["check"]);
        assert_eq!(ran.code, 1, "{line}: {}", ran.err);
        assert!(ran.err.contains(message) && ran.err.contains("image.toml:"), "{line}: {}", ran.err);
    }
}

#[test]
fn what_cannot_be_copied_is_named() {
    let space = cluster();
    space.write("compute.synclist", "new -> /srv/new\n").write("new/file", "x\n");
    let made = Command::new("mkfifo").arg(space.path().join("new/pipe")).status().unwrap();
    assert!(made.success());
    let ran = space.run(&["check"]);
    assert!(ran.code == 1 && ran.err.contains("`new/pipe` cannot be synced: it is a FIFO"), "{}", ran.err);
    std::fs::remove_file(space.path().join("new/pipe")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(space.path().join("new/socket")).unwrap();
    let ran = space.run(&["check"]);
    assert!(ran.code == 1 && ran.err.contains("`new/socket` cannot be synced: it is a socket"), "{}", ran.err);
    space.write("compute.synclist", "new/socket -> /srv/new\n");
    let ran = space.run(&["check"]);
    assert!(ran.code == 1 && ran.err.contains("it is a socket"), "{}", ran.err);
}

#[test]
fn a_checkout_without_content_is_refused_with_the_command() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n";
    for name in [
        "compute.pkglist",
        "compute.synclist",
        "compute.exlist",
        "compute.postinstall",
        "site/input",
        "motd",
        "conf/a.conf",
        "keys/admin.pub",
    ] {
        let space = cluster();
        space.write(name, pointer);
        let ran = space.run(&["check"]);
        assert_eq!(ran.code, 1, "{name}: {}", ran.err);
        assert!(ran.err.contains("recipe::unfetched") && ran.err.contains("lfs pull"), "{name}: {}", ran.err);
    }
    for (list, inputs) in
        [("sub -> /srv/sub\n", "site/**"), ("sub/* -> /srv/\n", "site/**"), ("motd -> /etc/motd\n", "sub/**")]
    {
        let space = cluster();
        let entry = "160000,0123456789012345678901234567890123456789,sub";
        git(space.path(), &["update-index", "--add", "--cacheinfo", entry]);
        std::fs::create_dir(space.path().join("sub")).unwrap();
        space.write("compute.synclist", list).edit("image.toml", "\"site/**\"", &format!("\"{inputs}\""));
        let ran = space.run(&["check"]);
        assert_eq!(ran.code, 1, "{list}: {}", ran.err);
        assert!(ran.err.contains("submodule update --init sub"), "{list}: {}", ran.err);
    }
    // What git-annex has elsewhere.
    let space = cluster();
    std::fs::remove_file(space.path().join("motd")).unwrap();
    std::os::unix::fs::symlink(".git/annex/objects/a/b/c/c", space.path().join("motd")).unwrap();
    let ran = space.run(&["check"]);
    assert!(ran.code == 1 && ran.err.contains("annex get motd"), "{}", ran.err);
}

#[test]
fn a_script_may_be_started_as_git_has_it() {
    let space = cluster();
    git(space.path(), &["update-index", "--chmod=-x", "compute.postinstall"]);
    let mode = space.path().join("compute.postinstall").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
    let ran = space.run(&["check"]);
    assert!(ran.code == 1 && ran.err.contains("git update-index --chmod=+x compute.postinstall"), "{}", ran.err);
    git(space.path(), &["update-index", "--chmod=+x", "compute.postinstall"]);
    chmod(&space.path().join("compute.postinstall"), 0o600);
    space.run(&["check"]).good();
}

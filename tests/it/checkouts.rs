//! `plan --against REV` where a checkout is not what git stores: line ends, Git LFS, filters, submodules. With a real git.

use base::digest::Sha256;

use crate::support::Space;
use crate::support::cluster::{chmod, cluster, git};

/// What has to be done against a revision, and what is said of it.
#[track_caller]
fn planned(space: &Space, code: i32) -> String {
    let ran = space.run(&["plan", "--against", "HEAD", "--detailed-exitcode"]);
    assert_eq!(ran.code, code, "{}\n{}", ran.out, ran.err);
    ran.out
}

fn commit(space: &Space) {
    git(space.path(), &["add", "-A", "-f"]);
    git(space.path(), &["commit", "-q", "-m", "next"]);
}

/// Writes the files anew from the commit, as git does it.
fn check_out(space: &Space) {
    git(space.path(), &["rm", "-q", "-r", "--cached", "."]);
    git(space.path(), &["reset", "-q", "--hard"]);
}

#[test]
fn line_ends_of_a_checkout_are_no_changes() {
    for (attributes, config) in [
        ("* text=auto eol=crlf\n*.postinstall -text\n", None),
        ("[attr]lines text eol=crlf\nmotd lines\n", None),
        ("# nothing but a script, which no kernel would run\n*.postinstall -text\n", Some("true")),
        ("motd text\n*.postinstall -text\n", Some("true")),
    ] {
        let space = cluster();
        space.write(".gitattributes", attributes);
        commit(&space);
        config.into_iter().for_each(|value| drop(git(space.path(), &["config", "core.autocrlf", value])));
        check_out(&space);
        let motd = std::fs::read_to_string(space.path().join("motd")).unwrap();
        assert_eq!(motd, "a node\r\nof the cluster\r\n", "{attributes}");
        planned(&space, 0);
        space.write("motd", &motd.replace("a node", "one node"));
        let text = planned(&space, 2);
        assert!(text.contains("motd:1 content changed"), "{text}");
    }
    // The nearest file says it, and git's own after all.
    let space = cluster();
    space.write(".gitattributes", "* -text\n").write("conf/.gitattributes", "*.conf text eol=crlf\n");
    commit(&space);
    space.write(".git/info/attributes", "motd text eol=crlf\n");
    check_out(&space);
    for (name, text) in [("conf/a.conf", "a\r\n"), ("motd", "a node\r\nof the cluster\r\n"), ("site/input", "input\n")]
    {
        assert_eq!(std::fs::read_to_string(space.path().join(name)).unwrap(), text, "{name}");
    }
    planned(&space, 0);
}

/// A cluster with a file that goes through a filter, whose program would be seen to run.
fn filtered(filter: &str, stored: &str, here: &str) -> Space {
    let space = cluster();
    space.write("motd", stored).write(".gitattributes", &format!("motd filter={filter}\n"));
    commit(&space);
    let program = format!("touch {}; cat", space.path().join("ran").display());
    for kind in ["smudge", "clean", "process"] {
        git(space.path(), &["config", &format!("filter.{filter}.{kind}"), &program]);
    }
    git(space.path(), &["config", &format!("filter.{filter}.required"), "true"]);
    space.write("motd", here);
    chmod(&space.path().join("motd"), 0o644);
    space
}

fn pointer(content: &str) -> String {
    let digest = Sha256::of(content.as_bytes());
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {}\n", content.len())
}

#[test]
fn what_git_lfs_keeps_is_compared_by_its_digest_and_no_filter_runs() {
    let space = filtered("lfs", &pointer("a node\n"), "a node\n");
    planned(&space, 0);
    space.write("motd", "b node\n");
    let text = planned(&space, 2);
    let note = "note: motd is in Git LFS: its content at HEAD is not available, and its digest differs\n";
    assert!(text.contains("content changed") && text.contains(note), "{text}");
    // Whoever has no LFS has the pointer, which no node should get.
    space.write("motd", &pointer("a node\n"));
    let ran = space.run(&["check"]);
    assert!(ran.code == 1 && ran.err.contains("lfs pull"), "{}", ran.err);
    // Without the attribute it is a file like others.
    space.write("motd", "a node\n").write(".gitattributes", "");
    commit(&space);
    assert!(!space.path().join("ran").exists() || std::fs::remove_file(space.path().join("ran")).is_ok());
    planned(&space, 0);
    assert!(!space.path().join("ran").exists());
}

#[test]
fn a_file_of_a_filter_is_told_where_it_is_not_what_is_stored() {
    let space = filtered("crypt", "n abqr\n", "a node\n");
    let text = planned(&space, 2);
    let note = "note: motd uses the git filter \"crypt\", which is not run: the stored content is compared";
    assert!(text.contains(note), "{text}");
    space.write("motd", "n abqr\n");
    assert!(!planned(&space, 0).contains("note:"));
    assert!(!space.path().join("ran").exists());
}

#[test]
fn inputs_in_a_submodule_are_told() {
    let space = cluster();
    let commit = git(space.path(), &["rev-parse", "HEAD"]);
    git(space.path(), &["rm", "-q", "-r", "--cached", "conf"]);
    git(space.path(), &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},conf")]);
    git(space.path(), &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},other")]);
    git(space.path(), &["commit", "-q", "-m", "submodules"]);
    let text = planned(&space, 2);
    let note = "note: conf is a submodule at HEAD, whose files are not read: they count as missing there\n";
    assert!(text.contains(note) && !text.contains("other"), "{text}");
}

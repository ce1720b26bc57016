//! A directory that others use too.

use super::*;

fn files(paths: &[&str], text: &str) -> NodeFiles {
    NodeFiles {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        plain: text.to_owned(),
        uefi: paths.iter().any(|path| path.ends_with(".uefi")).then(|| format!("{text} uefi")),
    }
}

fn deploy(out: &Path, wanted: &[(&str, NodeFiles)]) {
    let wanted = wanted.iter().map(|(node, files)| ((*node).to_owned(), files.clone())).collect();
    let served = Served::open(out).unwrap();
    let mut pending = served.write(&wanted).unwrap();
    pending.link(false).unwrap();
    pending.take().unwrap();
}

fn read(out: &Path, path: &str) -> Option<String> {
    std::fs::read_to_string(out.join(path)).ok()
}

#[test]
fn nodes_move_together_and_what_others_have_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    std::fs::create_dir_all(out.join("ipxe/mac")).unwrap();
    std::fs::write(out.join("ipxe/mac/other.ipxe"), "others").unwrap();
    deploy(
        out,
        &[
            ("cn1", files(&["ipxe/mac/1", "top"], "one")),
            ("cn2", files(&["ipxe/mac/2", "xcat/xnba/nodes/2.uefi"], "two")),
        ],
    );
    assert_eq!(read(out, "ipxe/mac/1").as_deref(), Some("one"));
    assert_eq!(read(out, "top").as_deref(), Some("one"));
    assert_eq!(read(out, "xcat/xnba/nodes/2.uefi").as_deref(), Some("two uefi"));
    // The same again changes nothing; another text and another name do.
    let served = Served::open(out).unwrap();
    let wanted = |text: &str, paths: &[&str]| BTreeMap::from([("cn1".to_owned(), files(paths, text))]);
    assert!(served.changes(&wanted("one", &["ipxe/mac/1", "top"]), false).is_none());
    let changes = served.changes(&wanted("uno", &["ipxe/mac/9"]), true);
    assert_eq!((changes.changed.len(), changes.new.len(), changes.gone.len()), (1, 1, 2));
    assert_eq!(changes.changed[0].before, "one");
    // What is not ours, and what is another node's, is reported.
    let changes = served.changes(&wanted("one", &["ipxe/mac/other.ipxe", "ipxe/mac/2"]), false);
    assert_eq!(changes.foreign, ["ipxe/mac/other.ipxe"]);
    assert_eq!(changes.twice, [("ipxe/mac/2".to_owned(), "cn2".to_owned(), "cn1".to_owned())]);
    // A card that moved from one node to another.
    deploy(out, &[("cn1", files(&["ipxe/mac/2"], "uno")), ("cn2", files(&["ipxe/mac/1"], "two"))]);
    assert_eq!(read(out, "ipxe/mac/1").as_deref(), Some("two"));
    assert_eq!(read(out, "ipxe/mac/2").as_deref(), Some("uno"));
    assert!(!out.join("top").exists() && out.join("top").symlink_metadata().is_err());
    // Without files.
    deploy(out, &[("cn1", NodeFiles::default()), ("cn2", NodeFiles::default())]);
    assert!(out.join("ipxe/mac/1").symlink_metadata().is_err());
    assert_eq!(read(out, "ipxe/mac/other.ipxe").as_deref(), Some("others"));
    // What others put into the place of one of ours is theirs.
    deploy(out, &[("cn1", files(&["ipxe/mac/1"], "one"))]);
    std::fs::remove_file(out.join("ipxe/mac/1")).unwrap();
    std::fs::write(out.join("ipxe/mac/1"), "others").unwrap();
    deploy(out, &[("cn1", NodeFiles::default())]);
    assert_eq!(read(out, "ipxe/mac/1").as_deref(), Some("others"));
}

#[test]
fn what_a_killed_run_left_goes_with_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    deploy(out, &[("cn1", files(&["a/1"], "one"))]);
    let wanted = BTreeMap::from([("cn2".to_owned(), files(&["a/2"], "two"))]);
    {
        let served = Served::open(out).unwrap();
        let mut pending = served.write(&wanted).unwrap();
        pending.link(false).unwrap();
        // As a kill would leave it.
        std::mem::forget(pending);
    }
    assert!(out.join("a/2").symlink_metadata().is_ok() && read(out, "a/2").is_none(), "it leads nowhere");
    assert_eq!(read(out, "a/1").as_deref(), Some("one"));
    deploy(out, &[("cn3", files(&["a/3"], "three"))]);
    assert!(out.join("a/2").symlink_metadata().is_err());
    // One that is dropped leaves nothing.
    {
        let served = Served::open(out).unwrap();
        served.write(&wanted).unwrap().link(false).unwrap();
    }
    assert!(out.join("a/2").symlink_metadata().is_err());
    assert_eq!(std::fs::read_dir(out.join(HOME)).unwrap().count(), 2);
}

/// Three nodes, two of which have a file of the site.
fn with_files_of_the_site(out: &Path) -> BTreeMap<String, NodeFiles> {
    std::fs::create_dir_all(out.join("a")).unwrap();
    std::fs::write(out.join("a/1"), "site 1").unwrap();
    std::fs::write(out.join("real"), "site 2").unwrap();
    std::os::unix::fs::symlink("../real", out.join("a/2")).unwrap();
    std::fs::create_dir(out.join("a/folder")).unwrap();
    [("cn1", "a/1"), ("cn2", "a/2"), ("cn3", "a/3"), ("cn4", "a/folder")]
        .map(|(node, path)| (node.to_owned(), files(&[path], node)))
        .into()
}

fn is_as_it_was(out: &Path) {
    assert_eq!(read(out, "a/1").as_deref(), Some("site 1"));
    assert!(!out.join("a/1").is_symlink());
    assert_eq!(std::fs::read_link(out.join("a/2")).unwrap(), Path::new("../real"));
    assert!(out.join("a/folder").is_dir() && !out.join("a/folder").is_symlink());
    let names = std::fs::read_dir(out.join("a")).unwrap().map(|one| one.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert_eq!(names, ["1", "2", "folder"]);
}

#[test]
fn files_of_the_site_change_together_and_come_back() {
    for (is_first, is_killed) in [(true, true), (true, false), (false, true), (false, false)] {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path();
        let wanted = with_files_of_the_site(out);
        if !is_first {
            deploy(out, &[("other", files(&["o/1"], "other"))]);
        }
        {
            let served = Served::open(out).unwrap();
            let mut pending = served.write(&wanted).unwrap();
            pending.link(true).unwrap();
            // Nodes still boot what they did, though all is ready to be turned.
            assert_eq!([read(out, "a/1").as_deref(), read(out, "a/2").as_deref()], [Some("site 1"), Some("site 2")]);
            match is_killed {
                true => std::mem::forget(pending),
                false => drop(pending),
            }
        }
        Served::open(out).unwrap().tidy();
        is_as_it_was(out);
        assert_eq!(read(out, "o/1").is_some(), !is_first);
        // And then it is done.
        let served = Served::open(out).unwrap();
        let mut pending = served.write(&wanted).unwrap();
        pending.link(true).unwrap();
        pending.take().unwrap();
        for (node, files) in &wanted {
            assert_eq!(read(out, &files.paths[0]).as_deref(), Some(node.as_str()));
            assert_eq!(std::fs::read_link(out.join(&files.paths[0])).unwrap(), target(&files.paths[0], node));
        }
        assert_eq!(
            [read(out, "a/1.ORIG").as_deref(), read(out, "a/2.ORIG").as_deref()],
            [Some("site 1"), Some("site 2")]
        );
        assert!(out.join("a/folder.ORIG").is_dir());
        let mut left: Vec<_> = std::fs::read_dir(out.join(HOME)).unwrap().map(|one| one.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(!out.join(HOME).join(&left[0]).join("own").exists());
    }
}

#[test]
fn a_change_that_fails_leaves_each_file_of_the_site_and_an_older_copy() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    let mut wanted = with_files_of_the_site(out);
    std::fs::write(out.join("b"), "a file").unwrap();
    wanted.insert("cn9".to_owned(), files(&["b/9"], "cn9"));
    assert!(Served::open(out).unwrap().write(&wanted).unwrap().link(true).is_err());
    is_as_it_was(out);
    assert!(out.join(HOME).read_dir().is_ok_and(|mut all| all.next().is_none()));
    // What an earlier change kept is kept.
    wanted.remove("cn9");
    std::fs::write(out.join("a/1.ORIG"), "older").unwrap();
    let served = Served::open(out).unwrap();
    let mut pending = served.write(&wanted).unwrap();
    pending.link(true).unwrap();
    pending.take().unwrap();
    assert_eq!([read(out, "a/1.ORIG").as_deref(), read(out, "a/1.ORIG.1").as_deref()], [Some("older"), Some("site 1")]);
}

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::facts::SLACK;
use super::*;
use base::digest::Digest;

/// A witness as if it had been taken long after the files came to be.
fn later(mut witness: Witness) -> Witness {
    witness.began += 10 * SLACK;
    witness
}

fn ask(witness: &Witness) -> Answer {
    witness.ask(Path::new("/"), &Looks::default())
}

fn witness_of(work: impl FnOnce()) -> Witness {
    recording(Known::default(), work).1
}

#[test]
fn canonicalize_gives_what_the_standard_library_gives_and_notes_each_part() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    std::fs::write(root.join("a/b/file"), "x").unwrap();
    symlink("a/b", root.join("relative")).unwrap();
    symlink(root.join("a"), root.join("absolute")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("nowhere", root.join("broken")).unwrap();
    for name in [
        "a/b/file",
        "a/../a/b",
        "relative/file",
        "absolute/b/../b/file",
        "relative/../b",
        "loop",
        "loop/x",
        "broken",
        "a/b/file/x",
        "missing",
        "missing/../a",
        "a/./b/",
        "relative/../../relative/file",
        "",
    ] {
        let path = root.join(name);
        let mut found = None;
        let witness = witness_of(|| found = Some(canonicalize(&path).map_err(|error| error.raw_os_error())));
        assert_eq!(found.unwrap(), path.canonicalize().map_err(|error| error.raw_os_error()), "{name}");
        assert!(!witness.torn, "{name}");
        assert_eq!(ask(&later(witness)), Answer::Same, "{name}");
    }
}

#[test]
fn what_was_read_is_the_same_until_its_content_or_mode_changes() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "one").unwrap();
    let young = witness_of(|| drop(read(&path)));
    // A stamp of the moment of reading is not trusted: the content is read again.
    assert_eq!(ask(&young), Answer::SameMoved);
    let settled = later(young.clone());
    assert_eq!(ask(&settled), Answer::Same);
    std::fs::write(&path, "two").unwrap();
    assert_eq!((ask(&settled), ask(&young)), (Answer::Other, Answer::Other));
    std::fs::write(&path, "one").unwrap();
    assert_eq!(ask(&settled), Answer::SameMoved);
    let renewed = later(settled.renewed(settled.began).unwrap());
    assert_eq!(ask(&renewed), Answer::Same);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(ask(&renewed), Answer::Other);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(ask(&renewed), Answer::Other);
}

#[test]
fn a_young_file_that_changes_without_another_stamp_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "one").unwrap();
    let mut witness = witness_of(|| drop(read(&path)));
    std::fs::write(&path, "two").unwrap();
    // As on a file system whose clock did not move on between the two.
    witness.facts[0].own = stamp::look(path.as_path());
    assert_eq!(ask(&witness), Answer::Other);
}

#[test]
fn what_was_missing_or_listed_is_asked_again() {
    let directory = tempfile::tempdir().unwrap();
    let root: PathBuf = directory.path().to_owned();
    std::fs::create_dir(root.join("d")).unwrap();
    let missing = later(witness_of(|| assert!(!exists(&root.join("x")) && read(&root.join("y")).is_err())));
    let listed = later(witness_of(|| drop(list(&root.join("d")))));
    let walked = later(witness_of(|| drop(walk().through(&root))));
    assert_eq!((ask(&missing), ask(&listed), ask(&walked)), (Answer::Same, Answer::Same, Answer::Same));
    std::fs::write(root.join("z"), "").unwrap();
    assert_eq!((ask(&missing), ask(&listed)), (Answer::Same, Answer::Same));
    assert_eq!(ask(&walked), Answer::Other);
    std::fs::write(root.join("d/new"), "").unwrap();
    assert_eq!(ask(&listed), Answer::Other);
    std::fs::remove_file(root.join("d/new")).unwrap();
    assert_eq!(ask(&listed), Answer::SameMoved);
    std::fs::write(root.join("x"), "").unwrap();
    assert_eq!(ask(&missing), Answer::Other);
}

#[test]
fn a_directory_that_becomes_a_link_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("d")).unwrap();
    std::fs::write(root.join("d/file"), "x").unwrap();
    let witness = later(witness_of(|| {
        canonicalize(&root.join("d/file")).unwrap();
        read(&root.join("d/file")).unwrap();
    }));
    std::fs::rename(root.join("d"), root.join("e")).unwrap();
    symlink("e", root.join("d")).unwrap();
    assert_eq!(ask(&witness), Answer::Other);
}

#[test]
fn digests_of_untouched_files_are_not_reckoned_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "content").unwrap();
    let mut first = later(witness_of(|| drop(sha256(&path))));
    // A false digest tells where it came from.
    first.facts[0].digest = Some(Digest([7; 32]));
    let known = || Known::from_witness(&first);
    assert_eq!(recording(known(), || digest(&path).unwrap().1).0, Digest([7; 32]));
    std::fs::write(&path, "CONTENT").unwrap();
    assert_eq!(recording(known(), || digest(&path).unwrap().1).0, Digest::of(b"CONTENT"));
}

#[test]
fn walks_follow_links_and_stop_at_loops() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    std::fs::write(root.join("a/b/file"), "x").unwrap();
    symlink("../..", root.join("a/b/up")).unwrap();
    symlink("a/b/file", root.join("link")).unwrap();
    let names = |found: Vec<Result<Found, WalkProblem>>| -> Vec<String> {
        found
            .into_iter()
            .map(|found| match found {
                Ok(found) => format!("{} {}", found.kind.letter(), found.path.strip_prefix(&root).unwrap().display()),
                Err(WalkProblem::Loop { .. }) => "loop".to_owned(),
                Err(error) => error.to_string(),
            })
            .collect()
    };
    assert_eq!(names(walk().following().through(&root)), ["d ", "d a", "d a/b", "f a/b/file", "loop", "f link"]);
    assert_eq!(names(walk().at_most(2).through(&root)), ["d ", "d a", "d a/b", "l link"]);
}

#[test]
fn a_memo_reads_back_only_whole_and_with_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_owned();
    std::fs::write(root.join("file"), "x").unwrap();
    symlink("file", root.join("link")).unwrap();
    let witness = witness_of(|| {
        let _ = (read(&root.join("link")), sha256(&root.join("file")), exists(&root.join("no")), list(&root));
        let _ = (variable("PATH"), variable("IMGBUILD_NO_SUCH_VARIABLE"));
    });
    assert!(!witness.torn);
    let sealed = Sealed { witness, payload: b"payload".to_vec() };
    let (key, other) = (Digest::of(b"key"), Digest::of(b"other"));
    let bytes = sealed.encode(&key).unwrap();
    assert_eq!(Sealed::decode(&bytes, &key).unwrap(), sealed);
    assert_eq!(Sealed::decode(&bytes, &other), Err(NotAMemo));
    for cut in 0..bytes.len() {
        assert_eq!(Sealed::decode(&bytes[..cut], &key), Err(NotAMemo));
        let mut changed = bytes.clone();
        changed[cut] ^= 1;
        assert_eq!(Sealed::decode(&changed, &key), Err(NotAMemo));
    }
}

//! Repositories that someone else wrote: whatever lies in their objects, reading them is an error or an answer, in bounded
//! time and memory. `IMGBUILD_FUZZ_CASES` says how many are tried.

use std::io::Write;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use witness::Need;

/// A repository whose HEAD is what the caller makes.
struct Made {
    directory: tempfile::TempDir,
}

impl Made {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for folder in ["objects", "refs/heads"] {
            std::fs::create_dir_all(directory.path().join(".git").join(folder)).unwrap();
        }
        let git = directory.path().join(".git");
        std::fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        std::fs::write(git.join("config"), "[core]\n\trepositoryformatversion = 0\n\tbare = false\n").unwrap();
        Self { directory }
    }

    fn object(&self, kind: &str, content: &[u8]) -> String {
        let mut whole = format!("{kind} {}\0", content.len()).into_bytes();
        whole.extend_from_slice(content);
        let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, kind_of(kind), content).unwrap().to_string();
        self.raw(&id, &whole);
        id
    }

    fn raw(&self, id: &str, whole: &[u8]) {
        let folder = self.directory.path().join(".git/objects").join(&id[..2]);
        std::fs::create_dir_all(&folder).unwrap();
        let file = std::fs::File::create(folder.join(&id[2..])).unwrap();
        let mut encoder = flate2::write::ZlibEncoder::new(file, flate2::Compression::fast());
        encoder.write_all(whole).unwrap();
        encoder.finish().unwrap();
    }

    fn head(&self, id: &str) {
        std::fs::write(self.directory.path().join(".git/refs/heads/main"), format!("{id}\n")).unwrap();
    }

    fn commit_of(&self, tree: &str) -> String {
        let text = format!("tree {tree}\nauthor a <a> 0 +0000\ncommitter a <a> 0 +0000\n\nm\n");
        self.object("commit", text.as_bytes())
    }

    fn read(&self) -> Result<(), GitError> {
        let repository = Repository::around(self.directory.path())?;
        let commit = repository.commit("HEAD")?;
        let to = tempfile::tempdir().unwrap();
        repository.names(&commit, Path::new(""))?;
        repository.file(&commit, Path::new("image.toml"))?;
        repository.directories_with(&commit, Path::new(""), &["image.toml"])?;
        let mut files = Files::new(&repository, &commit, Path::new(""), to.path());
        files.bring(Path::new(""), Need::List);
        files.bring(Path::new("image.toml"), Need::Content);
        files.trouble().map_or(Ok(()), Err)
    }
}

fn kind_of(kind: &str) -> gix::object::Kind {
    gix::object::Kind::from_bytes(kind.as_bytes()).unwrap()
}

fn tree_entry(mode: &str, name: &str, id: &str) -> Vec<u8> {
    let bytes = (0..40).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap());
    format!("{mode} {name}\0").into_bytes().into_iter().chain(bytes).collect()
}

#[test]
fn a_commit_that_is_none_or_too_large_is_an_error_with_its_name() {
    for text in ["", "tree", "tree x\n", "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904", "\n\n", "author a\n"] {
        let made = Made::new();
        let id = made.object("commit", text.as_bytes());
        made.head(&id);
        made.read().unwrap_err();
    }
    let made = Made::new();
    let id = made.object("commit", &vec![b' '; 8 << 20]);
    made.head(&id);
    let error = made.read().unwrap_err();
    assert!(matches!(&error, GitError::LargeObject { id: named, .. } if *named == id), "{error}");
}

#[test]
fn a_tree_in_ten_places_on_twenty_levels_is_searched_once_or_refused() {
    let began = std::time::Instant::now();
    for (name, is_refused) in [("f", false), ("image.toml", true)] {
        let made = Made::new();
        let mut tree = made.object("tree", &tree_entry("100644", name, &made.object("blob", b"x")));
        for _ in 0..20 {
            let entries: Vec<u8> =
                (0..10).flat_map(|number| tree_entry("40000", &format!("d{number}"), &tree)).collect();
            tree = made.object("tree", &entries);
        }
        made.head(&made.commit_of(&tree));
        let outcome = made.read();
        assert_eq!(matches!(outcome, Err(GitError::TooLarge { .. })), is_refused, "{outcome:?}");
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(120));
}

#[test]
fn only_what_is_looked_at_is_written_and_links_are_followed_within() {
    let made = Made::new();
    let blob = made.object("blob", b"text");
    let inner = [tree_entry("100644", "list", &blob), tree_entry("100644", "other", &blob)].concat();
    let inner = made.object("tree", &inner);
    let link = |to: &str| made.object("blob", to.as_bytes());
    let image = [
        tree_entry("120000", "away", &link("/etc")),
        tree_entry("120000", "circle", &link("circle")),
        tree_entry("120000", "lists", &link("../inner/../inner")),
        tree_entry("120000", "out", &link("../../../etc")),
    ];
    let image = made.object("tree", &image.concat());
    let root = [tree_entry("40000", "image", &image), tree_entry("40000", "inner", &inner)].concat();
    made.head(&made.commit_of(&made.object("tree", &root)));
    let repository = Repository::around(made.directory.path()).unwrap();
    let commit = repository.commit("HEAD").unwrap();
    let to = tempfile::tempdir().unwrap();
    let mut files = Files::new(&repository, &commit, Path::new(""), to.path());
    for path in ["image/away/passwd", "image/circle/x", "image/out/passwd", "none/x", "../x"] {
        files.bring(Path::new(path), Need::Content);
    }
    files.bring(Path::new("image/lists/list"), Need::Name);
    assert_eq!(std::fs::read(to.path().join("image/lists/list")).unwrap(), b"");
    files.bring(Path::new("image/lists/list"), Need::Content);
    files.bring(Path::new("image/lists/list"), Need::Name);
    assert!(files.trouble().is_none());
    let text = |path: &str| std::fs::read_to_string(to.path().join(path)).unwrap();
    assert_eq!(text("image/lists/list"), "text");
    assert!(!to.path().join("inner/other").exists());
    files.bring(Path::new("inner"), Need::List);
    assert_eq!((text("inner/list"), text("inner/other")), ("text".to_owned(), String::new()));
    // Only what is shown.
    let to = tempfile::tempdir().unwrap();
    let mut files = Files::new(&repository, &commit, Path::new("image"), to.path());
    files.bring(Path::new("inner/list"), Need::Content);
    files.bring(Path::new("image/lists/list"), Need::Content);
    files.bring(Path::new(""), Need::List);
    assert!(to.path().join("image").is_dir() && !to.path().join("inner").exists());
}

#[test]
fn one_name_twice_is_called_that_and_a_large_recipe_is_not_read() {
    let made = Made::new();
    let blob = made.object("blob", b"x");
    let twice = [tree_entry("100644", "f", &blob), tree_entry("100644", "f", &blob)].concat();
    made.head(&made.commit_of(&made.object("tree", &twice)));
    assert!(matches!(made.read().unwrap_err(), GitError::Twice { path, .. } if path == "f"));
    let made = Made::new();
    let large = made.object("blob", &vec![b'#'; 70 << 20]);
    made.head(&made.commit_of(&made.object("tree", &tree_entry("100644", "image.toml", &large))));
    assert!(matches!(made.read().unwrap_err(), GitError::LargeObject { path, .. } if path == "image.toml"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("IMGBUILD_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64)
    ))]
    #[test]
    fn no_repository_makes_the_reader_panic(
        commit in proptest::collection::vec(any::<u8>(), 0..120),
        tree in proptest::collection::vec(any::<u8>(), 0..120),
        blob in proptest::collection::vec(any::<u8>(), 0..60),
        which in 0u8..4,
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let made = Made::new();
        let good = tree_entry("100644", "image.toml", &made.object("blob", &blob));
        let mut text = format!("tree {}\nauthor a <a> 0 +0000\ncommitter a <a> 0 +0000\n\nm\n", made.object("tree", &good));
        match which {
            0 => made.head(&made.object("commit", &commit)),
            1 => made.head(&made.commit_of(&made.object("tree", &tree))),
            // One bit of a good commit, of a good tree.
            2 => {
                let mut bytes = std::mem::take(&mut text).into_bytes();
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
                made.head(&made.object("commit", &bytes));
            }
            _ => {
                let mut bytes = good.clone();
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
                made.head(&made.commit_of(&made.object("tree", &bytes)));
            }
        }
        let _ = made.read();
    }
}

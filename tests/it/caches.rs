//! Caches that are looked after: what is damaged there, and whether it can be removed.

use std::path::{Path, PathBuf};

use base::digest::Digest;
use cache::{Cache, Object, Saver, Settings};
use store::{ActionRecord, Outputs, Store};

use crate::oci::server::Registry;
use crate::support::{Ran, Space, imgbuild};

struct NoLayers;

impl Saver for NoLayers {
    fn save(&self, _: &Digest) -> Result<PathBuf, String> {
        Err("there are no layers".to_owned())
    }

    fn packages(&self, _: &str) -> Vec<(Object, PathBuf)> {
        Vec::new()
    }

    fn done(&self, _: &Path) {}
}

/// An action that made one file.
fn action(store: &Store, name: &str) -> ActionRecord {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("result of {name}")).unwrap();
    let blob = store.ensure_blob_of(file.path()).unwrap();
    let record = ActionRecord {
        format: 1,
        key: Digest::of(name.as_bytes()),
        action: name.to_owned(),
        inputs: Vec::new(),
        outputs: Outputs { blobs: [("file".to_owned(), blob)].into(), ..Outputs::default() },
        milliseconds: 1,
        differing: None,
        differs_in: None,
        believed: None,
        digest: None,
    };
    store.commit(record).unwrap()
}

/// Brings records to a cache that all may write to; how many.
fn filled(cache: &str, store: &Store, records: &[(ActionRecord, bool)]) -> usize {
    let settings = Settings { trust: vec!["unsigned".to_owned()], ..Settings::default() };
    let cache = Cache::of(&[cache.to_owned()], &settings).unwrap();
    cache.fill(store, records, &NoLayers, &|_| true, &|text| panic!("{text}")).unwrap().actions
}

#[test]
fn what_this_user_may_not_read_is_no_damage() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let space = Space::new();
    let set = |path: &Path, mode: u32| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    let (cache, store) = (space.path().join("cache"), space.path().join("filled"));
    std::fs::create_dir(&cache).unwrap();
    set(space.path(), 0o755);
    let ids = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let store = Store::open(&store, "uid 0 gid 0", ids).unwrap();
    let records: Vec<(ActionRecord, bool)> = ["a", "b"].map(|name| (action(&store, name), true)).into();
    assert_eq!(filled(cache.to_str().unwrap(), &store, &records), 2);
    for folder in walkdir::WalkDir::new(&cache).into_iter().flatten().filter(|one| one.file_type().is_dir()) {
        set(folder.path(), 0o777);
    }
    let object = |name: &str| {
        let digest = base::digest::Sha256::of(format!("result of {name}").as_bytes());
        let size = format!("result of {name}").len() as u64;
        cache.join(cache::object_name(&Object { size, sha256: digest }))
    };
    set(&object("a"), 0o600);
    let verify = || -> Ran {
        let mut command = imgbuild();
        command.args(["cache", "verify", cache.to_str().unwrap(), "--repair"]).current_dir("/");
        command.uid(65534).gid(65534).output().unwrap().into()
    };
    let ran = verify();
    assert!(ran.code == 3 && ran.err.contains("1 files could not be read"), "{} {}", ran.code, ran.err);
    assert!(object("a").exists() && !ran.err.contains("removed"), "{}", ran.err);
    // What it can read and is not what it should be goes, and what names it.
    std::fs::write(object("b"), "RESULT OF b").unwrap();
    let ran = verify();
    assert!(ran.code == 3 && ran.err.contains("removed 2 files"), "{} {}", ran.code, ran.err);
    assert!(object("a").exists() && !object("b").exists());
}

#[test]
fn what_is_damaged_in_a_registry_is_removed_where_it_lets_itself() {
    let space = Space::new();
    let registry = Registry::start();
    let url = registry.url("site/cache");
    let ids = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let store = Store::open(&space.path().join("filled"), "uid 0 gid 0", ids).unwrap();
    let records: Vec<(ActionRecord, bool)> = ["a", "b", "c"].map(|name| (action(&store, name), true)).into();
    let fill = || filled(&url, &store, &records);
    assert_eq!(fill(), 3);
    let verify = |more: &[&str]| -> Ran { space.run(&[&["cache", "verify", url.as_str()], more].concat()) };
    let ran = verify(&[]).good();
    assert!(ran.err.contains("3 actions are not signed") && ran.err.contains("all of it is"), "{}", ran.err);
    // One file is another, and one is gone; a manifest that is none is a tag of someone else's, but for its name.
    let digest = |name: &str| format!("sha256:{}", base::digest::Sha256::of(format!("result of {name}").as_bytes()));
    let damage = || {
        let mut state = registry.state.lock().unwrap();
        state.blobs.insert(digest("a"), b"RESULT OF a".to_vec());
        state.blobs.remove(&digest("b"));
        let own = format!("sha256:{}", base::digest::Sha256::of(b"{}"));
        for name in [Digest::of(b"d").to_string(), own] {
            state.manifests.insert(name, b"{}".to_vec());
        }
    };
    damage();
    let ran = verify(&[]);
    assert!(ran.code == 5 && ran.err.contains("5 files are damaged"), "{} {}", ran.code, ran.err);
    // Most remove nothing: that is said once, and it is no success.
    let ran = verify(&["--repair"]);
    assert!(ran.code == 5 && ran.err.contains("5 damaged files stay"), "{} {}", ran.code, ran.err);
    assert_eq!(ran.err.matches("storage.delete.enabled").count(), 1, "{}", ran.err);
    registry.state.lock().unwrap().removes = true;
    let ran = verify(&["--repair"]).good();
    assert!(ran.err.contains("removed 5 files"), "{}", ran.err);
    // What is left is whole; the others are written again.
    let ran = verify(&[]).good();
    assert!(ran.err.contains("1 actions are not signed"), "{}", ran.err);
    assert_eq!(fill(), 2);
    let ran = verify(&[]).good();
    assert!(ran.err.contains("3 actions are not signed"), "{}", ran.err);
}

/// Runs `cache verify --repair` in a mount namespace of its own, with a small file system that is full at `full`.
fn repaired_without_room(space: &Space, full: &Path, cache: &str) -> Ran {
    let script = "mount -t tmpfs -o size=1m none \"$FULL\" && { [ ! -d \"$FROM\" ] || cp -a \"$FROM/.\" \"$FULL\"; } \
        && { dd if=/dev/zero of=\"$FULL/full\" bs=4k 2>/dev/null; dd if=/dev/zero of=\"$FULL/full\" bs=1 oflag=append conv=notrunc \
        2>/dev/null; \"$@\"; code=$?; rm \"$FULL/full\"; [ ! -d \"$FROM\" ] || cp -a \"$FULL/.\" \"$FROM.seen\"; exit $code; }";
    let mut command = std::process::Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_imgbuild"), "--store"]);
    command.arg(full.join("none")).args(["cache", "verify", cache, "--repair"]).current_dir(space.path());
    command.env("FULL", full).env("FROM", space.path().join("from")).env("TMPDIR", full).env("NO_COLOR", "1");
    command.output().unwrap().into()
}

#[test]
fn without_room_a_repair_removes_nothing_that_is_whole() {
    let space = Space::new();
    let (full, from) = (space.path().join("full"), space.path().join("from"));
    std::fs::create_dir(&full).unwrap();
    let registry = Registry::start();
    registry.state.lock().unwrap().removes = true;
    let url = registry.url("site/cache");
    let ids = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let store = Store::open(&space.path().join("filled"), "uid 0 gid 0", ids).unwrap();
    let records: Vec<(ActionRecord, bool)> = ["a", "b", "c"].map(|name| (action(&store, name), true)).into();
    assert_eq!(filled(&url, &store, &records), 3);
    let names = || {
        let state = registry.state.lock().unwrap();
        (state.blobs.keys().cloned().collect::<Vec<_>>(), state.manifests.keys().cloned().collect::<Vec<_>>())
    };
    let digest = format!("sha256:{}", base::digest::Sha256::of(b"result of a"));
    registry.state.lock().unwrap().blobs.insert(digest, b"RESULT OF a".to_vec());
    let before = names();
    // What cannot be kept here may be as it should be there.
    let ran = repaired_without_room(&space, &full, &url);
    assert!(ran.code == 3 && ran.err.contains("no space left"), "{} {}", ran.code, ran.err);
    assert_eq!(names(), before, "{}", ran.err);
    let ran: Ran = space.run(&["cache", "verify", &url, "--repair"]).good();
    assert!(ran.err.contains("removed 2 files"), "{}", ran.err);

    // A directory on the full disk: what is damaged goes all the same, and makes room.
    std::fs::create_dir(&from).unwrap();
    assert_eq!(filled(from.to_str().unwrap(), &store, &records), 3);
    let object = |name: &str| {
        let text = format!("result of {name}");
        let object = Object { size: text.len() as u64, sha256: base::digest::Sha256::of(text.as_bytes()) };
        cache::object_name(&object)
    };
    std::fs::write(from.join(object("b")), "RESULT OF b").unwrap();
    let ran = repaired_without_room(&space, &full, full.to_str().unwrap());
    assert!(ran.code == 0 && ran.err.contains("removed 2 files"), "{} {}", ran.code, ran.err);
    let seen = space.path().join("from.seen");
    assert!(seen.join(object("a")).is_file() && seen.join(object("c")).is_file() && !seen.join(object("b")).exists());
}

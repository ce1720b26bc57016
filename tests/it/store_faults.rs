//! The store without a build: layers of two files, made, saved, loaded, taken out, by a process that is killed at each place where
//! it writes, and a store each of whose files is damaged in each way. What comes next is whole, or says what is not.
//!
//! A child of this test is the process: the same program, told by variables what to do. It works as the inside of a sandbox does,
//! with names relative to the store, but in no namespace. Whole builds are killed and damaged in `e2e/kills.rs` and `e2e/damage.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use base::digest::{Digest, Sha256};
use store::{
    ActionRecord, Carried, Collected, ItemKind, LoadRequest, Outputs, Policy, RemoveRequest, Root, SaveRequest,
    ScanRequest, Store, check_layers, load_layers, remove, remove_tree, save_layers, scan, sealed,
};

const DEED: &str = "IMGBUILD_TEST_DEED";
const PLACE: &str = "IMGBUILD_TEST_STORE";
const EPOCH: i64 = 1_700_000_000;

/// An action of the made-up image, the one below it, and its files with their content.
type Made = (&'static str, Option<&'static str>, [(&'static str, &'static str); 2]);

const LAYERS: [Made; 2] = [
    ("rootfs/base", None, [("etc/hostname", "node\n"), ("usr/bin/tool", "#!/bin/sh\n")]),
    ("rootfs/sync", Some("rootfs/base"), [("etc/motd", "a node\n"), ("etc/hostname", "another\n")]),
];

fn open(directory: &Path) -> Store {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    Store::open(directory, "uid 0:0:1 gid 0:0:1", (uid, gid)).unwrap()
}

fn key(action: &str) -> Digest {
    Digest::of(action.as_bytes())
}

fn record(action: &str, outputs: Outputs) -> ActionRecord {
    let (milliseconds, differing, differs_in, digest) = (1, None, None, None);
    let (format, inputs) = (1, Vec::new());
    ActionRecord {
        format,
        key: key(action),
        action: action.to_owned(),
        inputs,
        outputs,
        milliseconds,
        differing,
        differs_in,
        believed: None,
        digest,
    }
}

/// Makes what the image needs and the store lacks, as a build does.
fn make(store: &Store) {
    let mut actions = BTreeMap::new();
    for (action, below, files) in LAYERS {
        actions.insert(action.to_owned(), key(action));
        if store.record(&key(action)).is_some_and(|record| store.has_outputs(&record.outputs)) {
            continue;
        }
        let base: Vec<Digest> =
            below.map(|below| store.record(&key(below)).unwrap().outputs.layer.unwrap()).into_iter().collect();
        let scratch = store.scratch().unwrap();
        let tree = scratch.join("tree");
        for (path, text) in files {
            let path = Path::new(&tree).join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let layer = scan(&ScanRequest { tree, base, epoch: EPOCH, whole: false }).unwrap().layer;
        remove_tree(&scratch.name).unwrap();
        store.commit(record(action, Outputs { layer: Some(layer), ..Outputs::default() })).unwrap();
    }
    actions.insert("kernel/payload".to_owned(), key("kernel/payload"));
    let kernel = store.record(&key("kernel/payload"));
    if kernel.is_none_or(|record| !store.has_outputs(&record.outputs)) {
        let blob = store.ensure_blob(b"a kernel").unwrap();
        let blobs = BTreeMap::from([("kernel".to_owned(), blob)]);
        store.commit(record("kernel/payload", Outputs { blobs, ..Outputs::default() })).unwrap();
    }
    let root = Root { format: 1, image: "two".to_owned(), recipe: PathBuf::from("/"), actions, ..Root::default() };
    store.set_root(&root).unwrap();
    frame(store);
}

/// A frame and what describes it: stage/actions/pack/kept.rs writes them so.
fn frame(store: &Store) {
    let name = store.directory().join(Store::frame_name(&Digest::of(b"frame")));
    if !name.is_file() || !name.with_extension("info").is_file() {
        std::fs::create_dir_all(name.parent().unwrap()).unwrap();
        std::fs::write(&name, "a frame").unwrap();
        let info = format!("{{\"size\":7,\"sha256\":\"{}\"}}", Sha256::of(b"a frame"));
        std::fs::write(name.with_extension("info"), sealed(&info)).unwrap();
    }
}

/// All that is wrong with a store.
fn damages(store: &Store) -> BTreeSet<String> {
    let items = store.items();
    let unfinished = |item: &&store::Item| !store.is_unfinished(item);
    let mut found: BTreeSet<String> =
        items.iter().filter(unfinished).filter_map(|item| store.damage_of(item)).map(|damage| damage.path).collect();
    let layers: Vec<Digest> = items
        .iter()
        .filter(|item| item.kind == ItemKind::Manifest)
        .filter_map(|item| Digest::parse(item.path.rsplit('/').next().unwrap()).ok())
        .collect();
    // Whatever the time is, what is made is the same.
    let times = layers.iter().filter_map(|layer| store.manifest(layer).ok()).flat_map(|manifest| manifest.0);
    found.extend(times.filter(|(_, entry)| entry.mtime > EPOCH).map(|(path, _)| format!("{path} is of today")));
    found.extend(check_layers(&layers).unwrap().iter().map(|one| Store::tree_name(&one.layer)));
    found
}

fn take_out(store: &Store, gone: Collected) {
    store.remove(&gone.outside).unwrap();
    let scratch = store.scratch().unwrap();
    remove(&RemoveRequest { paths: gone.inside, scratch: scratch.name.clone(), only_damaged: false }).unwrap();
}

/// What killed processes left goes, as with each command that has the store for itself.
fn clear(store: &Store) {
    let left = store.leftovers();
    left.inside.iter().for_each(|path| remove_tree(path).unwrap());
    left.remove();
}

fn work(deed: &str, store: &Store) {
    match deed {
        "make" => make(store),
        "repair" => {
            let found = damages(store);
            take_out(store, Collected::with_kin(found.iter().map(String::as_str)));
        }
        "remove-layer" => {
            let layer = store.record(&key("rootfs/sync")).unwrap().outputs.layer.unwrap();
            take_out(store, Collected::with_kin([Store::tree_name(&layer).as_str()].into_iter()));
        }
        "gc" => {
            let survey = store.survey().unwrap();
            let policy = Policy { keep: 0, max_size: Some(0), ..Policy::default() };
            let surplus = survey.surplus(&survey.kept(&policy, SystemTime::now()), &policy);
            take_out(store, survey.collected(&surplus));
        }
        "save" => {
            let carried = Carried::of(store, store.roots().unwrap(), false);
            let scratch = store.scratch().unwrap();
            std::fs::create_dir_all(&scratch.name).unwrap();
            let (to, layers) = (scratch.join("layers"), carried.layers.iter().copied().collect());
            save_layers(&SaveRequest { layers, frames: Vec::new(), to: to.clone() }).unwrap();
            let mut out = std::fs::File::create("../../saved").unwrap();
            carried.write(store, Path::new(&to), &mut out).unwrap();
            remove_tree(&scratch.name).unwrap();
        }
        "load" => {
            let file = std::fs::File::open("../../saved").unwrap();
            let mut inside = |from: &str| {
                let scratch = store.scratch().unwrap();
                let request = LoadRequest { from: from.to_owned(), scratch: scratch.name.clone() };
                Ok::<_, store::StoreError>(load_layers(&request).unwrap())
            };
            store.load(Path::new("saved"), file, &mut inside).unwrap();
        }
        "clear" => clear(store),
        "verify" => assert_eq!(damages(store), BTreeSet::new()),
        other => panic!("{other}"),
    }
}

/// The child: does what its variables say, or nothing.
#[test]
fn a_child_works_in_a_store() {
    let (Ok(deed), Some(place)) = (std::env::var(DEED), std::env::var_os(PLACE)) else { return };
    let store = open(Path::new(&place));
    std::env::set_current_dir(store.directory()).unwrap();
    work(&deed, &store);
}

/// A store in a directory of its own.
struct Trial(tempfile::TempDir);

impl Trial {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn child(&self, deed: &str, fault: Option<(&str, &Path)>) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "store_faults::a_child_works_in_a_store", "--nocapture", "--test-threads", "1"]);
        command.env(DEED, deed).env(PLACE, self.store()).stdin(Stdio::null()).stdout(Stdio::null());
        if let Some((place, file)) = fault {
            command.env("IMGBUILD_FAULT", place).env("IMGBUILD_FAULT_FILE", file).stderr(Stdio::null());
        }
        command.spawn().unwrap()
    }

    #[track_caller]
    fn does(&self, deed: &str, after: &str) {
        assert!(self.child(deed, None).wait().unwrap().success(), "{deed} after {after}");
    }

    /// Kills a child at a place, which it must come to.
    #[track_caller]
    fn killed(&self, deed: &str, place: &str) {
        let reached = self.0.path().join("reached");
        let _ = std::fs::remove_file(&reached);
        let mut child = self.child(deed, Some((place, &reached)));
        let began = Instant::now();
        while !reached.exists() {
            let ended = child.try_wait().unwrap().is_some();
            assert!(!ended || reached.exists(), "{deed} ended before it came to {place}");
            assert!(began.elapsed() < Duration::from_secs(60), "{deed} did not come to {place}");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Even before anybody clears up: what has a name is what the name says.
        if deed != "repair" {
            self.does("verify", place);
        }
    }

    /// Layers by action, and the kernel; what is wrong in the store is nothing, and nothing lies about.
    #[track_caller]
    fn whole(&self, after: &str) -> Vec<Option<Outputs>> {
        self.does("make", after);
        self.does("clear", after);
        self.does("verify", after);
        let there = Store::existing(&self.store());
        for directory in ["scratch", "links", "handover", "aside"] {
            let left = std::fs::read_dir(there.directory().join(directory)).unwrap().count();
            assert_eq!(left, 0, "{directory} after {after}");
        }
        let outputs = ["rootfs/base", "rootfs/sync", "kernel/payload"]
            .map(|action| there.record(&key(action)).map(|record| record.outputs))
            .to_vec();
        // Read here, and not by the store, which may be blind.
        let layers = LAYERS.iter().zip(&outputs).filter_map(|(made, outputs)| Some((made, outputs.as_ref()?.layer?)));
        for ((action, _, files), layer) in layers {
            for (path, text) in files {
                let path = there.directory().join(Store::tree_name(&layer)).join(path);
                assert_eq!(std::fs::read_to_string(path).unwrap(), *text, "{action} after {after}");
            }
        }
        outputs
    }
}

const MADE: [&str; 10] = [
    "scan.listed",
    "scan.hashed",
    "scan.settled",
    "scan.before-rename",
    "scan.before-manifest",
    "scan.after-rename",
    "commit.before-sync",
    "commit.before-record",
    "store.before-rename",
    "commit.after-record",
];

#[test]
fn a_process_that_is_killed_anywhere_in_the_store_leaves_it_whole() {
    let clean = Trial::new();
    let expected = clean.whole("nothing");
    assert!(expected.iter().all(Option::is_some));
    let same = |trial: &Trial, after: &str| assert_eq!(trial.whole(after), expected, "after {after}");
    for place in MADE {
        // In an empty store, and where the first layer already exists.
        let trial = Trial::new();
        trial.killed("make", place);
        same(&trial, place);
        let inner = trial.store().join("v1");
        std::fs::remove_file(inner.join("actions").join(format!("{}.json", key("rootfs/sync")))).unwrap();
        let layer = expected[1].as_ref().unwrap().layer.unwrap();
        if place != "commit.after-record" {
            std::fs::remove_file(inner.join(Store::manifest_name(&layer))).unwrap();
        }
        trial.killed("make", place);
        same(&trial, place);
    }
    let trial = Trial::new();
    same(&trial, "making");
    for place in ["remove.own-renamed", "remove.own-out-of-place", "remove.renamed", "remove.out-of-place"] {
        trial.killed("gc", place);
        same(&trial, place);
    }
    // Of a layer the manifest goes first: its tree alone is nobody's.
    trial.killed("remove-layer", "remove.renamed");
    same(&trial, "remove-layer");
    for place in ["remove.renamed", "remove.out-of-place"] {
        let layer = expected[0].as_ref().unwrap().layer.unwrap();
        let file = trial.store().join("v1").join(Store::tree_name(&layer)).join("etc/hostname");
        std::fs::write(&file, "other\n").unwrap();
        trial.killed("repair", place);
        trial.does("repair", place);
        same(&trial, place);
    }
    trial.killed("save", "save.layer");
    same(&trial, "save.layer");
    trial.does("save", "all");
    for place in ["load.file", "load.layer", "scan.before-manifest", "commit.before-record", "store.before-rename"] {
        trial.does("gc", place);
        trial.killed("load", place);
        // What came is whole, and the rest comes with the next one.
        trial.does("load", place);
        same(&trial, place);
    }
}

/// What can become of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Missing,
    Empty,
    Half,
    /// Other content of the same size and time.
    Other,
    Directory,
}

impl Damage {
    fn is_done_to(self, path: &Path) {
        let bytes = std::fs::read(path).unwrap();
        match self {
            Self::Missing => std::fs::remove_file(path).unwrap(),
            Self::Empty => std::fs::write(path, "").unwrap(),
            Self::Half => std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap(),
            Self::Other => {
                let time = std::fs::metadata(path).unwrap().modified().unwrap();
                let mut bytes = bytes;
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(path, bytes).unwrap();
                std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
            }
            Self::Directory => {
                std::fs::remove_file(path).unwrap();
                std::fs::create_dir(path).unwrap();
            }
        }
    }
}

#[test]
fn each_damage_of_each_file_of_a_store_is_found_and_mended() {
    let trial = Trial::new();
    let expected = trial.whole("nothing");
    let inner = trial.store().join("v1");
    let files = || -> Vec<PathBuf> {
        ["actions", "manifests", "trees", "blobs", "frames", "roots"]
            .iter()
            .flat_map(|directory| walkdir::WalkDir::new(inner.join(directory)).sort_by_file_name())
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file())
            .map(walkdir::DirEntry::into_path)
            .collect()
    };
    let all = files();
    assert!(all.len() >= 13, "{all:#?}");
    for path in all {
        for damage in [Damage::Missing, Damage::Empty, Damage::Half, Damage::Other, Damage::Directory] {
            let what = format!("{} {damage:?}", path.strip_prefix(&inner).unwrap().display());
            damage.is_done_to(&path);
            // What `stat` says of a file is believed where it is older than the manifest; a disk that flips a bit tells nobody.
            if let Ok(below) = path.strip_prefix(inner.join("trees")) {
                let manifest = inner.join("manifests").join(below.iter().next().unwrap());
                // More than the kernel's clock for files needs to go on.
                std::thread::sleep(Duration::from_millis(20));
                std::fs::set_permissions(manifest, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
            }
            // A build that is remembered and cannot be read is in gc's way, and of one that is gone nothing is known.
            let of_build = path.starts_with(inner.join("roots"));
            if !of_build || damage != Damage::Missing {
                trial.does("repair", &what);
            }
            assert_eq!(trial.whole(&what), expected, "{what}");
        }
    }
}

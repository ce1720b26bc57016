//! Builds killed at named places, whole trees of processes and parents alone: nothing is left, and the next build's bytes
//! are those of a clean one. Each stage is a test of its own; what the store does by itself is killed in `store_faults.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::offline::{assert_same, fresh, vendored, warm};
use super::store;
use crate::support::{Space, copy_locked};

/// Places in the work of any action.
const STARTED: [&str; 1] = ["action.started"];
const COMMITTED: [&str; 5] =
    ["action.ran", "commit.before-sync", "commit.before-record", "store.before-rename", "commit.after-record"];
/// Places where a directory becomes a layer.
const SCANNED: [&str; 6] =
    ["scan.listed", "scan.hashed", "scan.settled", "scan.before-manifest", "scan.before-rename", "scan.after-rename"];
/// Places where a command runs in a sandbox; at the one with `+` it goes on running.
const COMMAND: [&str; 4] = ["command.before", "command.running", "command.running+", "command.ended"];

/// A process and when it started, in clock ticks.
type Process = (u32, u64);

/// All processes: parent and start time by pid. Source: proc_pid_stat(5).
fn processes() -> BTreeMap<u32, (u32, u64)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        // A zombie is gone but for its parent's asking.
        if fields[0] != "Z" {
            found.insert(pid, (fields[1].parse().unwrap(), fields[19].parse().unwrap()));
        }
    }
    found
}

fn tree(root: u32) -> Vec<Process> {
    let all = processes();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(all.iter().filter(|(_, (above, _))| *above == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.into_iter().filter_map(|pid| Some((pid, all.get(&pid)?.1))).collect()
}

fn kill(pid: u32) {
    let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Starts a build that stops at a place, and kills it there.
#[track_caller]
fn kill_at(space: &Space, place: &str, whole_tree: bool) {
    let sign = tempfile::tempdir().unwrap();
    // Root inside, who is nobody outside, writes it.
    std::fs::set_permissions(sign.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let reached = sign.path().join("reached");
    let mut child: Child = Command::new(env!("CARGO_BIN_EXE_imgbuild"))
        .arg("-C")
        .arg(space.path())
        .arg("--store")
        .arg(space.store())
        .args(["-j1", "build", "--vendor", vendored().to_str().unwrap()])
        .env("IMGBUILD_FAULT", place)
        .env("IMGBUILD_FAULT_FILE", &reached)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !reached.exists() {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none() || reached.exists(), "the build ended before it came to {place}");
        assert!(began.elapsed() < Duration::from_secs(120), "the build did not come to {place}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let victims = tree(child.id());
    assert!(!victims.is_empty());
    if whole_tree {
        victims.iter().for_each(|(pid, _)| kill(*pid));
    } else {
        kill(child.id());
    }
    child.wait().unwrap();
    let began = Instant::now();
    loop {
        let alive = processes();
        let left: Vec<&Process> =
            victims.iter().filter(|(pid, start)| alive.get(pid).is_some_and(|(_, now)| now == start)).collect();
        if left.is_empty() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{left:?} live on after a kill at {place}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(space.store().to_str().unwrap()), "a mount is left after a kill at {place}:\n{mounts}");
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// Builds to the end, and looks whether everything is as if nobody had been killed.
#[track_caller]
fn whole_again(space: &Space, clean: &Space, after: &str) {
    let ran = space.run(&["build", "--vendor", vendored().to_str().unwrap()]);
    assert_eq!(ran.code, 0, "after {after}: {}", ran.err);
    assert_same(clean, space, "tiny");
    assert_eq!(
        std::fs::read_to_string(space.path().join("image.lock")).unwrap(),
        std::fs::read_to_string(clean.path().join("image.lock")).unwrap(),
        "after {after}"
    );
    let inner = space.store().join("v1");
    for directory in ["scratch", "links", "handover", "aside"] {
        assert_eq!(names(&inner.join(directory)), BTreeSet::new(), "{directory} after {after}");
    }
    // These two stay for good.
    let locks: BTreeSet<String> = names(&inner.join("locks")).into_iter().filter(|name| name != "turn").collect();
    assert_eq!(locks, BTreeSet::from(["use".to_owned()]), "after {after}");
    for directory in ["blobs", "frames", "packages"] {
        for folder in names(&inner.join(directory)) {
            let strange: Vec<String> =
                names(&inner.join(directory).join(&folder)).into_iter().filter(|name| name.len() < 64).collect();
            assert!(strange.is_empty() && folder.len() == 2, "{directory}/{folder} {strange:?} after {after}");
        }
    }
    assert!(names(&inner.join("manifests")).iter().all(|name| name.len() == 64), "after {after}");
    let beside: Vec<String> = names(space.path()).into_iter().filter(|name| name.starts_with(".image.lock")).collect();
    assert!(beside.is_empty(), "{beside:?} after {after}");
    let builds = names(&space.path().join("out/.builds/tiny"));
    assert!(builds.iter().all(|name| !name.starts_with(".new")), "{builds:?} after {after}");
    assert!(!names(&space.path().join("out")).contains(".tiny.new"), "after {after}");
}

/// Removes the records of an action whose inputs contain all these words (with `!`: do not contain it), and every record based on their layers: a store that
/// outlives the tests has them from an earlier run.
pub fn forget_with(space: &Space, action: &str, words: &[&str]) {
    let actions = space.store().join("v1/actions");
    let is_asked = |text: &str| {
        let record: Option<serde_json::Value> = serde_json::from_str(text).ok();
        let has = |word: &&str| match word.strip_prefix('!') {
            Some(other) => !text.contains(other),
            None => text.contains(*word),
        };
        record.is_some_and(|record| record["action"] == action) && words.iter().all(has)
    };
    let mut layers: Vec<String> = Vec::new();
    let mut is_first = true;
    loop {
        let mut found = Vec::new();
        for name in names(&actions) {
            let path = actions.join(name);
            // Another test may remove it.
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let is_based = layers.iter().any(|layer| text.contains(layer.as_str()));
            if (is_first && is_asked(&text)) || is_based {
                let record: serde_json::Value = serde_json::from_str(&text).unwrap();
                found.extend(record["outputs"]["layer"].as_str().map(str::to_owned));
                let _ = std::fs::remove_file(path);
            }
        }
        is_first = false;
        if found.is_empty() {
            return;
        }
        layers = found;
    }
}

/// Takes the record of an action out of the store, and the frames for the pack stage: it runs again, with the same inputs.
pub fn forget(space: &Space, action: &str) {
    assert!(forget_if_there(space, action), "no longer has a record of {action}");
}

/// The same where there may be no record; whether there was one.
pub fn forget_if_there(space: &Space, action: &str) -> bool {
    let inner = space.store().join("v1");
    let mut found = 0;
    for name in names(&inner.join("actions")) {
        let path = inner.join("actions").join(name);
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        if record["action"] == action {
            std::fs::remove_file(path).unwrap();
            // The layer too: else it is only found to be there already.
            if let Some(layer) = record["outputs"]["layer"].as_str() {
                std::fs::remove_file(inner.join("manifests").join(layer)).unwrap();
                std::fs::remove_dir_all(inner.join("trees").join(layer)).unwrap();
            }
            found += 1;
        }
    }
    if action == "pack/rootimg" {
        std::fs::remove_dir_all(inner.join("frames")).unwrap();
        std::fs::create_dir(inner.join("frames")).unwrap();
        let metadata = std::fs::metadata(inner.join("trees")).unwrap();
        use std::os::unix::fs::MetadataExt;
        std::os::unix::fs::chown(inner.join("frames"), Some(metadata.uid()), Some(metadata.gid())).unwrap();
    }
    found > 0
}

#[derive(Clone)]
struct Round<'a> {
    stage: &'a str,
    action: Option<&'a str>,
    places: Vec<&'a str>,
    /// Whether each kill is followed by a whole build, or only the last one.
    each: bool,
    times: usize,
}

fn all_of<'a>(parts: &[&[&'a str]]) -> Vec<&'a str> {
    parts.iter().flat_map(|part| part.iter().copied()).collect()
}

/// Removes what apt answered before: else it is not started.
fn forget_answers(space: &Space) {
    let solving = space.store().join("v1/solving");
    for name in names(&solving) {
        let path = solving.join(name);
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
}

const UNPACKED: [&str; 4] = ["plain.writing", "plain.keeping", "helper.before", "unpack.package"];

fn cold() -> Vec<Round<'static>> {
    vec![
        Round {
            stage: "rootfs (tools)",
            action: None,
            places: all_of(&[
                &["download.before-rename"],
                &STARTED,
                &UNPACKED,
                &SCANNED,
                &["helper.after"],
                &COMMITTED,
            ]),
            each: false,
            times: 1,
        },
        Round {
            stage: "rootfs (base)",
            action: None,
            places: all_of(&[&STARTED, &["unpack.package", "unpack.done"], &COMMAND, &SCANNED, &COMMITTED]),
            each: false,
            times: 1,
        },
    ]
}

fn kernel() -> Vec<Round<'static>> {
    vec![
        Round {
            stage: "kernel",
            action: Some("kernel/payload"),
            places: all_of(&[
                &STARTED,
                &["plain.writing", "kernel.unpacked"],
                &COMMAND,
                &["kernel.handed-over"],
                &SCANNED,
                &COMMITTED,
            ]),
            each: false,
            times: 1,
        },
        Round {
            stage: "rootfs (kernel)",
            action: Some("rootfs/kernel"),
            places: all_of(&[&STARTED, &["plain.writing"], &COMMAND, &["install.done"], &SCANNED, &COMMITTED]),
            each: false,
            times: 1,
        },
    ]
}

fn layers() -> Vec<Round<'static>> {
    vec![
        Round {
            stage: "rootfs (system)",
            action: Some("rootfs/system"),
            places: all_of(&[&STARTED, &["helper.before", "edit.mounted", "edit.done"], &SCANNED, &COMMITTED]),
            each: true,
            times: 1,
        },
        Round {
            stage: "rootfs (gate)",
            action: Some("rootfs/gate"),
            places: all_of(&[&STARTED, &COMMITTED]),
            each: true,
            times: 2,
        },
        Round {
            stage: "rootfs (sync)",
            action: Some("rootfs/sync"),
            places: all_of(&[&STARTED, &["edit.mounted", "edit.done"], &SCANNED, &COMMITTED]),
            each: true,
            times: 2,
        },
    ]
}

fn script() -> Vec<Round<'static>> {
    vec![Round {
        stage: "rootfs (postinstall)",
        action: Some("rootfs/postinstall"),
        places: all_of(&[&STARTED, &COMMAND, &SCANNED, &COMMITTED]),
        each: true,
        times: 1,
    }]
}

fn files() -> Vec<Round<'static>> {
    vec![
        Round {
            stage: "initrd",
            action: Some("initrd/stateless"),
            places: all_of(&[&STARTED, &["helper.before", "initrd.writing", "helper.after"], &COMMITTED]),
            each: true,
            times: 2,
        },
        Round {
            stage: "pack",
            action: Some("pack/rootimg"),
            places: all_of(&[&STARTED, &["pack.frame", "pack.before-rename", "pack.done", "helper.after"], &COMMITTED]),
            each: true,
            times: 2,
        },
    ]
}

fn publish() -> Vec<Round<'static>> {
    vec![Round {
        stage: "publish",
        action: None,
        places: vec![
            "build.before-publish",
            "publish.made",
            "publish.assembled",
            "publish.written",
            "publish.renamed",
            "publish.link-made",
            "publish.linked",
            "build.before-root",
            "store.before-rename",
        ],
        each: true,
        times: 2,
    }]
}

/// While the lock is resolved again from the vendored indices.
const LOCKING: [&str; 6] = [
    "lock.before-resolve",
    "lock.resolved",
    "lock.before-rename",
    "command.before",
    "command.running",
    "command.running+",
];

/// The tiny image with synced files, so that every kind of layer is there: built, and a copy that is killed.
fn trial(in_store: Space) -> (Space, Space) {
    let clean = fresh().with_store(&store());
    clean.write("site/motd", "a node\n").write("a.synclist", "site/motd -> /etc/motd\n");
    clean.edit("image.toml", "[exclude]", "[sync]\nlists = [\"a.synclist\"]\n\n[exclude]");
    clean.run(&["build", "--vendor", vendored().to_str().unwrap()]).good();
    copy_locked(clean.path(), in_store.path());
    (clean, in_store)
}

/// Whether an image is where a server of files looks for it, and all of it is what its sums say.
fn is_published(space: &Space) -> bool {
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--quiet", "SHA256SUMS"]).current_dir(space.path().join("out/tiny"));
    check.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn kill_all(rounds: &[Round<'_>], (clean, space): &(Space, Space)) {
    let mut whole_tree = false;
    for round in rounds {
        for _ in 0..round.times {
            for (number, place) in round.places.iter().enumerate() {
                if let Some(action) = round.action.filter(|_| round.each || number == 0) {
                    forget(space, action);
                }
                whole_tree = !whole_tree;
                let published = is_published(space);
                kill_at(space, place, whole_tree);
                assert!(!published || is_published(space), "what was published is not whole after a kill at {place}");
                if round.each {
                    whole_again(space, clean, place);
                }
            }
            if !round.each && round.stage != "rootfs (tools)" {
                whole_again(space, clean, round.stage);
            }
        }
    }
}

/// One whose store has all.
fn built() -> (Space, Space) {
    let trial = trial(warm());
    trial.1.run(&["build", "--locked", "--vendor", vendored().to_str().unwrap()]).good();
    trial
}

#[test]
fn there_are_two_hundred_places_and_ten_of_each_stage() {
    let mut histogram: BTreeMap<&str, usize> = BTreeMap::from([("lock", 2 * LOCKING.len())]);
    for round in [cold(), kernel(), layers(), script(), files(), publish()].concat() {
        *histogram.entry(round.stage).or_default() += round.times * round.places.len();
    }
    let all: usize = histogram.values().sum();
    assert!(all >= 200 && histogram.values().all(|count| *count >= 10), "{histogram:?}: {all}");
}

#[test]
fn kills_in_an_empty_store_leave_nothing_and_change_nothing() {
    kill_all(&cold(), &trial(Space::new()));
}

#[test]
fn kills_of_kernel_and_its_layer_leave_nothing_and_change_nothing() {
    kill_all(&kernel(), &built());
}

#[test]
fn kills_of_layers_that_imgbuild_writes_leave_nothing_and_change_nothing() {
    kill_all(&layers(), &built());
}

#[test]
fn kills_of_a_script_leave_nothing_and_change_nothing() {
    kill_all(&script(), &built());
}

#[test]
fn kills_of_initrd_and_pack_leave_nothing_and_change_nothing() {
    kill_all(&files(), &built());
}

#[test]
fn kills_while_publishing_leave_nothing_and_change_nothing() {
    kill_all(&publish(), &built());
}

#[test]
fn kills_while_resolving_leave_nothing_and_change_nothing() {
    let (clean, space) = built();
    for (number, place) in LOCKING.iter().enumerate() {
        for whole_tree in [number % 2 == 0, number % 2 == 1] {
            let _ = std::fs::remove_file(space.path().join("image.lock"));
            forget_answers(&space);
            kill_at(&space, place, whole_tree);
        }
    }
    std::fs::copy(clean.path().join("image.lock"), space.path().join("image.lock")).unwrap();
    whole_again(&space, &clean, "lock");
}

//! A store whose entries are gone, cut off or changed, and the commands that take things out of it killed on the way: the next
//! build gives a clean one's bytes, or ends with 5 and says what to do.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use super::offline::{assert_same, build, vendored, warm};
use super::tiny;
use crate::support::Space;

/// What can become of a file or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Missing,
    Empty,
    Half,
    /// Other content, with the same size and time.
    Other,
    /// A directory in a file's place, a file in a directory's.
    Kind,
    Unreadable,
}

const ALL: [Damage; 6] =
    [Damage::Missing, Damage::Empty, Damage::Half, Damage::Other, Damage::Kind, Damage::Unreadable];

fn remove(path: &Path) {
    if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
}

/// Gives what a damaged disk would not have given to somebody else its owner again.
fn keep_owner(path: &Path, of: &std::fs::Metadata) {
    use std::os::unix::fs::MetadataExt;
    for entry in walkdir::WalkDir::new(path).into_iter().flatten() {
        std::os::unix::fs::lchown(entry.path(), Some(of.uid()), Some(of.gid())).unwrap();
    }
}

impl Damage {
    fn is_done_to(self, path: &Path) {
        let was = std::fs::symlink_metadata(path).unwrap();
        self.does(path);
        if matches!(self, Self::Empty | Self::Kind) {
            keep_owner(path, &was);
        }
    }

    fn does(self, path: &Path) {
        let directory = path.is_dir();
        match self {
            Self::Missing => remove(path),
            Self::Empty if directory => {
                remove(path);
                std::fs::create_dir(path).unwrap();
            }
            Self::Empty => std::fs::write(path, b"").unwrap(),
            Self::Half if directory => {
                let names: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
                names.iter().step_by(2).for_each(|path| remove(path));
            }
            Self::Half => {
                let bytes = std::fs::read(path).unwrap();
                std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
            }
            Self::Other if directory => std::fs::write(path.join("etc/planted"), "x").unwrap(),
            Self::Other => {
                let time = std::fs::metadata(path).unwrap().modified().unwrap();
                let mut bytes = std::fs::read(path).unwrap();
                let middle = bytes.len() / 2;
                // What is empty has no other content of its size.
                if let Some(byte) = bytes.get_mut(middle) {
                    *byte ^= 1;
                }
                std::fs::write(path, bytes).unwrap();
                std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
            }
            Self::Kind => {
                remove(path);
                if directory {
                    std::fs::write(path, "x").unwrap();
                } else {
                    std::fs::create_dir(path).unwrap();
                    std::fs::write(path.join("x"), "x").unwrap();
                }
            }
            Self::Unreadable => std::fs::set_permissions(path, PermissionsExt::from_mode(0o000)).unwrap(),
        }
    }
}

/// The tiny image in a store of its own, whose script can be made to run again without another result.
struct Trial {
    space: Space,
    number: usize,
}

impl Trial {
    fn new() -> Self {
        let space = warm();
        build(&space).good();
        space.run(&["store", "pin", "kept"]).good();
        Self { space, number: 0 }
    }

    fn inner(&self) -> PathBuf {
        self.space.store().join("v1")
    }

    fn record(&self, action: &str) -> (PathBuf, serde_json::Value) {
        let records = std::fs::read_dir(self.inner().join("actions")).unwrap().map(|entry| entry.unwrap().path());
        let read = |path: PathBuf| {
            let record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
            Some((path, record))
        };
        let mut found: Vec<_> = records.filter_map(read).filter(|(_, record)| record["action"] == action).collect();
        found.sort_by_key(|(path, _)| std::fs::metadata(path).unwrap().modified().unwrap());
        found.pop().unwrap_or_else(|| panic!("no longer has a record of {action}"))
    }

    fn layer(&self, action: &str) -> String {
        self.record(action).1["outputs"]["layer"].as_str().unwrap().to_owned()
    }

    fn sharded(&self, kind: &str, name: &str) -> PathBuf {
        self.inner().join(kind).join(&name[..2]).join(name)
    }

    fn blob(&self, action: &str, name: &str) -> PathBuf {
        self.sharded("blobs", self.record(action).1["outputs"]["blobs"][name]["digest"].as_str().unwrap())
    }

    /// Lets the script, the packer and the initrd run again, and everything be published anew.
    fn use_everything(&mut self) {
        self.number += 1;
        let script = self.space.path().join("tiny.postinstall");
        let text = std::fs::read_to_string(&script).unwrap();
        let text = text.split("\n# trial").next().unwrap();
        std::fs::write(&script, format!("{text}\n# trial {}\n", self.number)).unwrap();
        let _ = std::fs::remove_dir_all(self.space.path().join("out"));
    }

    /// Builds; says whether it ended with 5 first.
    fn judge(&mut self, what: &str) -> bool {
        self.use_everything();
        let ran = build(&self.space);
        let refused = ran.code == 5;
        if refused {
            let said = ran.err.contains("store verify --repair") && ran.err.contains("damaged");
            assert!(said && !self.space.path().join("out/tiny").exists(), "{what}: {}", ran.err);
            self.space.run(&["store", "verify", "--repair"]).good();
            let ran = build(&self.space);
            assert_eq!(ran.code, 0, "{what}, repaired: {}", ran.err);
        } else {
            assert_eq!(ran.code, 0, "{what}: {}", ran.err);
        }
        assert_same(&tiny().space, &self.space, "tiny");
        refused
    }
}

#[test]
fn no_entry_of_the_store_that_is_damaged_gets_other_bytes_published() {
    let mut trial = Trial::new();
    let mut refused: BTreeMap<String, Vec<Damage>> = BTreeMap::new();
    // Layers one by one: one that is packed and soon made again, and of the base and a tools root, which is not packed, what
    // shows that they are looked at in the same way.
    let layers: [(&str, &[Damage], &[&str]); 3] = [
        ("rootfs/system", &ALL, &["tree", "file", "manifest"]),
        ("rootfs/base", &[Damage::Other], &["file"]),
        ("rootfs/tools", &[Damage::Half], &["tree"]),
    ];
    for (action, damages, parts) in layers {
        for (damage, part) in damages.iter().flat_map(|damage| parts.iter().map(move |part| (*damage, *part))) {
            let layer = trial.layer(action);
            let tree = trial.inner().join("trees").join(&layer);
            let path = match part {
                "tree" => tree,
                "manifest" => trial.inner().join("manifests").join(&layer),
                _ => {
                    let mut files = walkdir::WalkDir::new(tree.join("etc")).sort_by_file_name().into_iter().flatten();
                    let is_file = |entry: &walkdir::DirEntry| {
                        entry.file_type().is_file() && entry.metadata().is_ok_and(|found| found.len() > 1)
                    };
                    files.find(is_file).unwrap().into_path()
                }
            };
            damage.is_done_to(&path);
            if action == "rootfs/tools" {
                // depmod runs in it.
                std::fs::remove_file(trial.record("kernel/payload").0).unwrap();
            }
            if trial.judge(&format!("{part} of {action} {damage:?}")) {
                refused.entry(format!("{part} of {action}")).or_default().push(damage);
            }
        }
    }
    // What names other things, and what is only used to publish, together: each must be seen.
    for damage in ALL {
        let pack = trial.record("pack/rootimg").1;
        let frames: Vec<String> = serde_json::from_value(pack["outputs"]["frames"].clone()).unwrap();
        let mut paths = vec![
            trial.sharded("frames", &frames[1]),
            trial.sharded("frames", &frames[2]).with_extension("info"),
            trial.blob("kernel/payload", "kernel"),
            trial.blob("initrd/stateless", "initrd"),
            trial.blob("pack/rootimg", "index"),
            trial.record("rootfs/system").0,
        ];
        for directory in ["roots", "earlier", "memos", "history"] {
            let files = walkdir::WalkDir::new(trial.inner().join(directory)).into_iter().flatten();
            paths.extend(files.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path));
        }
        paths.push(trial.inner().join("assembly"));
        if damage != Damage::Other {
            paths.push(trial.inner().join("id-map"));
        }
        // The packer looks for its frames again.
        let packed = trial.record("pack/rootimg").0;
        std::fs::remove_file(packed).unwrap();
        paths.iter().for_each(|path| damage.is_done_to(path));
        if trial.judge(&format!("everything else {damage:?}")) {
            refused.entry("everything else".to_owned()).or_default().push(damage);
        }
    }
    eprintln!("ended with 5: {refused:#?}");
    // A package that is installed again.
    for damage in [Damage::Half, Damage::Kind] {
        let lock = std::fs::read_to_string(trial.space.path().join("image.lock")).unwrap();
        let digest = lock.lines().find_map(|line| line.split("sha256 = \"").nth(1)).unwrap()[..64].to_owned();
        damage.is_done_to(&trial.sharded("packages", &digest));
        for action in ["rootfs/base", "kernel/payload"] {
            std::fs::remove_file(trial.record(action).0).unwrap();
        }
        trial.judge(&format!("a package {damage:?}"));
    }
    // Of builds that are remembered and cannot be read gc does not know what they need.
    let ran = trial.space.run(&["gc"]);
    assert!(ran.code == 5 && ran.err.contains("store verify --repair"), "{} {}", ran.code, ran.err);
    trial.space.run(&["store", "verify", "--repair"]).good();
    trial.space.run(&["gc"]).good();
    trial.space.run(&["store", "verify"]).good();
}

/// Starts a command, in a process group of its own, that is killed where it says so or after some time.
fn killed(space: &Space, arguments: &[&str], place: Option<&str>, after: Duration) -> bool {
    use std::os::unix::process::CommandExt;
    let sign = tempfile::tempdir().unwrap();
    std::fs::set_permissions(sign.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let reached = sign.path().join("reached");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
    command.arg("-C").arg(space.path()).arg("--store").arg(space.store()).args(arguments);
    if let Some(place) = place {
        command.env("IMGBUILD_FAULT", place).env("IMGBUILD_FAULT_FILE", &reached);
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap();
    let began = Instant::now();
    let limit = if place.is_some() { Duration::from_secs(60) } else { after };
    while child.try_wait().unwrap().is_none() && !reached.exists() && began.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(1));
    }
    let ended = child.try_wait().unwrap().is_some() && !reached.exists();
    let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).stderr(Stdio::null()).status();
    // Helpers are in sessions of their own; they die with the command.
    let _ = child.wait();
    let store = space.store().join("v1");
    let began = Instant::now();
    loop {
        let in_store = |pid: &str| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|at| at == store);
        let left =
            std::fs::read_dir("/proc").unwrap().flatten().any(|one| in_store(&one.file_name().to_string_lossy()));
        if !left || began.elapsed() > Duration::from_secs(10) {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    !ended
}

/// Builds to the end, and looks whether everything is as if nobody had been killed.
#[track_caller]
fn whole(space: &Space, after: &str) {
    let _ = std::fs::remove_dir_all(space.path().join("out"));
    let ran = build(space);
    assert_eq!(ran.code, 0, "after {after}: {}", ran.err);
    assert_same(&tiny().space, space, "tiny");
    let ran = space.run(&["store", "verify"]);
    assert_eq!(ran.code, 0, "after {after}: {}{}", ran.out, ran.err);
    for directory in ["scratch", "links", "handover", "aside"] {
        let left = std::fs::read_dir(space.store().join("v1").join(directory)).unwrap().count();
        assert_eq!(left, 0, "{directory} after {after}");
    }
}

/// Makes another build the last one, so that what only the first one needs can go, and back again.
fn turn_to(space: &Space, other: bool) {
    let (plain, named) = ("[system]\n", "[system]\nhostname = \"other\"\n");
    let text = std::fs::read_to_string(space.path().join("image.toml")).unwrap().replace(named, plain);
    std::fs::write(space.path().join("image.toml"), if other { text.replace(plain, named) } else { text }).unwrap();
    if other {
        build(space).good();
    }
}

/// Repairs what a killed repair left damaged; a build mends only what it needs, and refuses to pack what is damaged.
fn repair(space: &Space, command: &[&str]) {
    if command.starts_with(&["store", "verify"]) {
        let ran = build(space);
        let refused = ran.code == 5 && ran.err.contains("store verify --repair");
        assert!(ran.code == 0 || refused, "{} {}", ran.code, ran.err);
        space.run(&["store", "verify", "--repair"]).good();
    }
}

/// Brings the store to where a command has something to do.
fn prepare(space: &Space, command: &[&str]) {
    match command {
        ["gc", ..] => turn_to(space, true),
        ["store", "load", ..] => {
            turn_to(space, true);
            space.run(&["gc", "--keep", "1"]).good();
        }
        ["store", "verify", ..] => {
            let trial = |action: &str| -> serde_json::Value {
                let records = std::fs::read_dir(space.store().join("v1/actions")).unwrap();
                let read =
                    |entry: std::fs::DirEntry| serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap();
                // Of several the one whose outputs are there: the other build's went with gc.
                let inner = space.store().join("v1");
                let is_there = |record: &serde_json::Value| {
                    let layer = record["outputs"]["layer"].as_str();
                    let index = record["outputs"]["blobs"]["index"]["digest"].as_str();
                    layer.is_none_or(|layer| inner.join("trees").join(layer).is_dir())
                        && index.is_none_or(|index| inner.join("blobs").join(&index[..2]).join(index).is_file())
                };
                let all: Vec<serde_json::Value> = records.map(|entry| read(entry.unwrap())).collect();
                all.into_iter().find(|record| record["action"] == action && is_there(record)).unwrap()
            };
            let layer = trial("rootfs/system")["outputs"]["layer"].as_str().unwrap().to_owned();
            Damage::Empty.is_done_to(&space.store().join("v1/trees").join(layer));
            let index = trial("pack/rootimg")["outputs"]["blobs"]["index"]["digest"].as_str().unwrap().to_owned();
            Damage::Half.is_done_to(&space.store().join("v1/blobs").join(&index[..2]).join(&index));
        }
        ["build", ..] => drop(std::fs::remove_dir_all(space.path().join("out"))),
        _ => {}
    }
}

#[test]
fn a_command_that_takes_things_out_of_the_store_may_be_killed_anywhere() {
    let space = warm();
    build(&space).good();
    let saved = tempfile::tempdir().unwrap();
    let file = saved.path().join("saved.tar");
    let file = file.to_str().unwrap();
    space.run(&["store", "save", "--without-packages", file]).good();
    let vendor = vendored().to_str().unwrap();
    let publish = format!("xcat:{}", saved.path().join("xcat").display());
    let removed = ["remove.renamed", "remove.out-of-place", "remove.out-of-place+"];
    let own = ["remove.own-renamed", "remove.own-out-of-place", "gc.outside"];
    let places: [(&[&str], Vec<&str>); 6] = [
        (&["gc", "--keep", "1"], [&own[..], &removed, &["gc.inside"]].concat()),
        (
            &["store", "load", file],
            vec!["load.layer", "scan.before-rename", "scan.before-manifest", "load.frame", "commit.before-record"],
        ),
        (&["store", "save", "--without-packages", file], vec!["save.layer", "save.written"]),
        (&["store", "verify", "--repair"], [&removed[..2], &["gc.outside", "gc.inside"]].concat()),
        (&["store", "pin", "a-label", "tiny"], vec!["store.before-rename"]),
        (
            &["build", "--locked", "--vendor", vendor, "--publish", &publish],
            vec!["publish.renamed", "publish.link-made", "xcat.written", "xcat.swapping", "xcat.swapped"],
        ),
    ];
    let mut kills = 0;
    for (command, names) in places {
        for place in names {
            prepare(&space, command);
            assert!(killed(&space, command, Some(place), Duration::ZERO), "{command:?} did not come to {place}");
            kills += 1;
            turn_to(&space, false);
            repair(&space, command);
            whole(&space, &format!("{command:?} at {place}"));
            let _ = space.run(&["store", "pin", "a-label", "--remove"]);
        }
    }
    eprintln!("{kills} kills at named places");
    // At random moments: 200 with IMGBUILD_LONG_TESTS, some without.
    let times = if std::env::var_os("IMGBUILD_LONG_TESTS").is_some() { 200 } else { 6 };
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    eprintln!("{times} kills at random moments, seed {seed}");
    let mut random = seed;
    for number in 0..times {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let commands: [&[&str]; 3] =
            [&["gc", "--keep", "1"], &["store", "load", file], &["store", "verify", "--repair"]];
        let command = commands[number % commands.len()];
        let after = Duration::from_micros((random >> 33) % 100_000);
        prepare(&space, command);
        killed(&space, command, None, after);
        turn_to(&space, false);
        repair(&space, command);
        whole(&space, &format!("{command:?} after {after:?}, number {number} of seed {seed}"));
    }
}

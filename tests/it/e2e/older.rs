//! The imgbuild from before entries of caches had further signatures, compiled from this repository's history: it takes what today's
//! writes, signatures of several keys and all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use base::digest::Digest;
use cache::{Cache, Entry, Object, Saver, Settings, object_name};
use store::{ActionRecord, Store};

use super::offline::{assert_same, fresh, vendored};
use crate::support::{Ran, Space, project, skip};

/// The last commit whose program knows one signature, in the entry.
const BEFORE: &str = "7fbe822a0961794de5228527c9b8dd3f92ae41d5";

/// Compiles that program, in a directory of its own below `target`; crates that were compiled for this one serve it, too. None where the
/// clone has no such commit.
fn older() -> Option<PathBuf> {
    let place = project().join("target/older");
    let script = "set -e
        git -c safe.directory='*' -C \"$1\" cat-file -e \"$3^{commit}\" || exit 9
        mkdir -p \"$2/source\" \"$2/target/debug\"
        git -c safe.directory='*' -C \"$1\" archive \"$3\" | tar -x -C \"$2/source\"
        [ -e \"$2/target/debug/deps\" ] || cp -al \"$1/target/debug/deps\" \"$1/target/debug/build\" \"$1/target/debug/.fingerprint\" \"$2/target/debug\"
        cd \"$2/source\"
        CARGO_INCREMENTAL=0 cargo build --locked --bin imgbuild --target-dir \"$2/target\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).args([&project(), &place]).arg(BEFORE);
    // What cargo said to this test is not for that one.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_") && name != "CARGO_HOME") {
        shell.env_remove(name);
    }
    let output = shell.output().unwrap();
    if output.status.code() == Some(9) {
        skip("this clone has no commit of the older program: git fetch --unshallow");
        return None;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(place.join("target/debug/imgbuild"))
}

/// Layers as they are saved, from a cache that has them.
struct Saved(BTreeMap<Digest, PathBuf>);

impl Saver for Saved {
    fn save(&self, layer: &Digest) -> Result<PathBuf, String> {
        self.0.get(layer).cloned().ok_or_else(|| format!("there is no {layer}"))
    }

    fn packages(&self, _: &str) -> Vec<(Object, PathBuf)> {
        Vec::new()
    }

    fn done(&self, _: &Path) {}
}

fn below(cache: &Path, folder: &str) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(cache.join("v1").join(folder)).into_iter().flatten();
    walk.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

#[test]
fn network_the_program_before_signatures_beside_entries_takes_what_todays_writes() {
    let Some(program) = older() else { return };
    let old = |space: &Space, words: &[&str]| -> Ran {
        let mut command = Command::new("unshare");
        command.arg("-n").arg(&program).arg("-C").arg(space.path()).arg("--store").arg(space.store());
        command.args(words).env("NO_COLOR", "1").env("COLUMNS", "1000").output().unwrap().into()
    };
    let first = fresh();
    let place = |name: &str| {
        let path = first.path().canonicalize().unwrap().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let (own, shared) = (place("own"), place("shared"));
    let key = |name: &str| {
        let file = first.path().join(name);
        (file.clone(), first.run(&["cache", "key", file.to_str().unwrap()]).good().out.trim().to_owned())
    };
    let (keys, publics): (Vec<_>, Vec<_>) = ["a.key", "b.key"].map(key).into_iter().unzip();
    // Its own keys of actions, which are others than today's.
    let vendored = vendored().to_str().unwrap();
    old(&first, &["build", "--locked", "--vendor", vendored, "--cache", own.to_str().unwrap()]).good();
    let store = Store::existing(&first.store());
    let records: Vec<ActionRecord> = store.records().collect();
    let mut layers = BTreeMap::new();
    for record in &records {
        let name = format!("v1/actions/{}/{}.json", &record.key.to_string()[..2], record.key);
        let Ok(text) = std::fs::read(own.join(name)) else { continue };
        let (entry, _) = Entry::parse(&text, &record.key, &[]).unwrap();
        layers.extend(
            record.outputs.layer.zip(entry.layer).map(|(layer, object)| (layer, own.join(object_name(&object)))),
        );
    }
    assert!(records.len() > 5 && layers.len() > 3, "{} {}", records.len(), layers.len());

    // Today's writes entries that one key signs, and signs them by another beside.
    let both: Vec<(ActionRecord, bool)> = records.iter().map(|record| (record.clone(), false)).collect();
    for (key, trust) in [(&keys[0], vec![]), (&keys[1], vec![publics[0].clone()])] {
        let settings = Settings { key: Some(key.clone()), trust, ..Settings::default() };
        let cache = Cache::of(&[shared.display().to_string()], &settings).unwrap();
        let said = std::sync::Mutex::new(Vec::new());
        let say = |text: String| said.lock().unwrap().push(text);
        cache.fill(&store, &both, &Saved(layers.clone()), &|_| true, &say).unwrap();
        assert!(said.lock().unwrap().is_empty(), "{said:?}");
    }
    let entries = below(&shared, "actions");
    assert_eq!((entries.len(), below(&shared, "signatures").len()), (records.len(), records.len()));
    let named = shared.to_str().unwrap();
    first.run(&["cache", "verify", named]).good();

    let taken = || {
        let second = fresh();
        let ran = old(&second, &["build", "--locked", "--cache", named, "--cache-trust", &publics[0]]).good();
        assert!(ran.err.contains("are from the cache") && ran.err.contains("ran nothing"), "{}", ran.err);
        assert_same(&first, &second, "tiny");
        let ran = old(&second, &["store", "verify"]).good();
        assert!(ran.err.contains(", 0 damaged"), "{}", ran.err);
    };
    taken();
    old(&first, &["cache", "verify", named]).good();
    old(&first, &["cache", "stats", named]).good();

    // Today's program fills the same cache, with entries of its own: both find theirs.
    let today = fresh();
    let second_key = keys[1].to_str().unwrap();
    today.run(&["build", "--locked", "--vendor", vendored, "--cache", named, "--cache-key", second_key]).good();
    assert!(below(&shared, "actions").len() > entries.len());
    taken();
    // What it removes as halves or by age is no signature that today's needs for an entry that stays.
    old(&first, &["cache", "gc", named, "--size", "100G"]).good();
    first.run(&["cache", "verify", named]).good();
    let third = fresh();
    let ran = third.run(&["build", "--locked", "--cache", named, "--cache-trust", &publics[1]]).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);
    assert_same(&today, &third, "tiny");
}

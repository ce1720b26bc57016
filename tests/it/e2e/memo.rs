//! What plans remember: the answer must never be another one than that of a plan that looks at everything anew.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::store;
use crate::support::{Space, imgbuild, project};

/// The tiny image with synced files of all kinds: by a pattern, by a folder, through a link.
fn space() -> Space {
    let space = Space::new().with_store(&store());
    crate::support::copy_tree(&project().join("tests/fixtures/tiny"), space.path());
    space.write(
        "keys/admin.pub",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty memo\n",
    );
    space.edit(
        "image.toml",
        "[exclude]",
        "[sync]\nlists = [\"memo.synclist\"]\n\n[environment]\nSITE = \"one\"\n\n[exclude]",
    );
    space.edit("image.toml", "script = \"tiny.postinstall\"", "script = \"tiny.postinstall\"\ninputs = [\"site/**\"]");
    space.write(
        "memo.synclist",
        "site/*.conf -> /etc/site.d/\nfolder -> /etc/folder\nlinked -> /etc/linked\n#ENV:SITE#.txt -> /etc/site.txt\n",
    );
    space.write("one.txt", "one\n").write("two.txt", "two\n");
    space
        .write("site/a.conf", "a\n")
        .write("folder/below/deep", "deep\n")
        .write("target-1", "1\n")
        .write("target-2", "2\n");
    symlink("target-1", space.path().join("linked")).unwrap();
    space
}

/// The memos of the store, by path; not what others are writing just now.
fn memos(space: &Space) -> BTreeMap<PathBuf, Vec<u8>> {
    walkdir::WalkDir::new(space.store().join("v1/memos"))
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file() && !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| (entry.path().to_owned(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

/// The memo and its texts that a plan of the space writes, after all that it is of has settled. Tests beside this one write
/// their own into the same store; this one's names the space. They use records that it shares with them, too, and what was
/// changed just now is in no memo.
fn settled_memo(space: &Space) -> BTreeMap<PathBuf, Vec<u8>> {
    let name = space.path().file_name().unwrap().to_str().unwrap();
    // Of a path, a memo holds only what the path before it does not begin with.
    let random = &name.as_bytes()[name.len() - 6..];
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(2_200));
        let others: BTreeSet<PathBuf> = memos(space).into_keys().collect();
        space.run(&["plan"]).good();
        let mut new: BTreeMap<_, _> = memos(space).into_iter().filter(|(path, _)| !others.contains(path)).collect();
        let own = new.iter().find(|(path, bytes)| {
            path.extension().is_none() && bytes.windows(random.len()).any(|window| window == random)
        });
        if let Some(own) = own.map(|(path, _)| path.clone()) {
            new.retain(|path, _| path.with_extension("") == own);
            assert_eq!(new.len(), 2, "a plan writes a memo and its texts");
            return new;
        }
    }
    panic!("no plan of {} wrote a memo", space.path().display());
}

fn put_all(files: &BTreeMap<PathBuf, Vec<u8>>) {
    for (path, bytes) in files {
        put(path, bytes);
    }
}

fn put(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// An edit and what takes it back.
type Edit = (&'static str, Box<dyn Fn(&Space)>, Box<dyn Fn(&Space)>);

fn edited(what: &'static str, there: impl Fn(&Space) + 'static, back: impl Fn(&Space) + 'static) -> Edit {
    (what, Box::new(there), Box::new(back))
}

fn text(what: &'static str, name: &'static str, was: &'static str, now: &'static str) -> Edit {
    let replace = |space: &Space, name: &str, from: &str, to: &str| {
        space.edit(name, from, to);
    };
    edited(what, move |space| replace(space, name, was, now), move |space| replace(space, name, now, was))
}

fn renamed(what: &'static str, from: &'static str, to: &'static str) -> Edit {
    let rename =
        |space: &Space, from: &str, to: &str| std::fs::rename(space.path().join(from), space.path().join(to)).unwrap();
    edited(what, move |space| rename(space, from, to), move |space| rename(space, to, from))
}

fn added(what: &'static str, name: &'static str) -> Edit {
    edited(
        what,
        move |space| {
            space.write(name, "new\n");
        },
        move |space| std::fs::remove_file(space.path().join(name)).unwrap(),
    )
}

fn link_to(space: &Space, target: &str, name: &str) {
    let _ = std::fs::remove_file(space.path().join(name));
    symlink(target, space.path().join(name)).unwrap();
}

fn mode_of(space: &Space, name: &str, mode: u32) {
    std::fs::set_permissions(space.path().join(name), PermissionsExt::from_mode(mode)).unwrap();
}

fn edits(record: PathBuf) -> Vec<Edit> {
    let aside = record.with_extension("aside");
    let (record_2, aside_2) = (record.clone(), aside.clone());
    vec![
        text("content of the same length", "site/a.conf", "a", "b"),
        added("a new file in a pattern's folder", "site/new.conf"),
        edited("mode", |space| mode_of(space, "site/a.conf", 0o600), |space| mode_of(space, "site/a.conf", 0o644)),
        renamed("a file of a folder removed", "folder/below/deep", "deep"),
        added("a file deep in a folder added", "folder/below/more"),
        edited(
            "a link that escapes its root",
            |space| link_to(space, "target-2", "linked"),
            |space| link_to(space, "target-1", "linked"),
        ),
        text("what a link leads to", "target-1", "1", "7"),
        renamed("a folder of another name", "folder/below", "folder/beneath"),
        edited(
            "a folder that became a link to where it is now",
            |space| {
                std::fs::rename(space.path().join("site"), space.path().join("moved")).unwrap();
                link_to(space, "moved", "site");
            },
            |space| {
                std::fs::remove_file(space.path().join("site")).unwrap();
                std::fs::rename(space.path().join("moved"), space.path().join("site")).unwrap();
            },
        ),
        text("the variable of a #ENV", "image.toml", "SITE = \"one\"", "SITE = \"two\""),
        text("the lock", "image.lock", "epoch = 1", "epoch = 2"),
        renamed("the lock removed", "image.lock", "aside.lock"),
        added("a note beside the recipe", "notes.txt"),
        edited(
            "a record of the store removed",
            move |_| std::fs::rename(&record, &aside).unwrap(),
            move |_| std::fs::rename(&aside_2, &record_2).unwrap(),
        ),
        text("a published file", "out/tiny/SHA256SUMS", "  kernel", "  KERNEL"),
        renamed("the link to what is published", "out/tiny", "out/other"),
    ]
}

/// A plan without what is guessed of times and sizes: other tests build in the same store, and their runs count.
fn without_guesses(plan: &str) -> String {
    fn strip(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(fields) => {
                fields.retain(|name, _| name != "milliseconds" && name != "written_bytes");
                fields.values_mut().for_each(strip);
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    // What is wrong is told without a plan.
    let Ok(mut value) = serde_json::from_str(plan) else { return plan.to_owned() };
    strip(&mut value);
    format!("{value:#}")
}

#[test]
fn after_each_kind_of_edit_the_memo_gives_the_plan_that_is_made_without_it() {
    let space = space();
    space.run(&["build", "--progress", "plain"]).good();
    let settled = settled_memo(&space);
    let plan = |more: &[&str]| space.run(&[&["plan", "--json", "--detailed-exitcode"], more].concat());
    let before = plan(&["--no-memo"]);
    assert_eq!((before.code, plan(&[]).out), (0, before.out.clone()), "{}", before.out);
    // The record of the layer with the synced files.
    let build: serde_json::Value =
        serde_json::from_slice(&std::fs::read(space.artefact("tiny", "build.json")).unwrap()).unwrap();
    let layers = build["layers"].as_array().unwrap();
    let layer = layers.iter().find(|layer| layer[0] == "rootfs/sync").unwrap()[1].as_str().unwrap().to_owned();
    let record = std::fs::read_dir(space.store().join("v1/actions"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            text.contains(&layer) && text.contains("\"action\": \"rootfs/sync\"")
        })
        .unwrap();
    for (what, there, back) in edits(record) {
        put_all(&settled);
        there(&space);
        let [told, again, anew] = [&[][..], &[], &["--no-memo"]].map(plan).map(|mut ran| {
            ran.out = without_guesses(&ran.out);
            ran
        });
        assert_eq!((told.code, &told.out, &told.err), (anew.code, &anew.out, &anew.err), "{what}");
        assert_eq!((again.code, &again.out, &again.err), (anew.code, &anew.out, &anew.err), "{what}, asked twice");
        let changes = what != "a note beside the recipe";
        assert_eq!(anew.code != 0, changes, "{what}: {}", anew.out);
        back(&space);
        put_all(&settled);
        let told = plan(&[]);
        assert_eq!((told.code, &told.out), (0, &before.out), "{what}, taken back");
    }
}

#[test]
fn a_memo_that_is_damaged_or_somebody_elses_is_not_read() {
    let (one, two) = (space(), space());
    let store = tempfile::tempdir().unwrap();
    // A store need not have been built in.
    let plan = |space: &Space, more: &[&str]| {
        let mut command = imgbuild();
        command.arg("-C").arg(space.path()).arg("--store").arg(store.path()).args(["plan", "--json"]).args(more);
        crate::support::Ran::from(command.output().unwrap()).good().out
    };
    let expected = plan(&one, &[]);
    assert_eq!(std::fs::read_dir(store.path()).unwrap().count(), 0, "a plan makes no store");
    std::fs::create_dir(store.path().join("v1")).unwrap();
    std::thread::sleep(Duration::from_millis(2_200));
    plan(&one, &[]);
    let files = || {
        let walk = walkdir::WalkDir::new(store.path()).into_iter().flatten();
        walk.filter(|entry| entry.file_type().is_file()).map(|entry| entry.into_path()).collect::<Vec<_>>()
    };
    let of_texts = |path: &Path| path.extension().is_some();
    let first = files();
    plan(&two, &[]);
    for is_texts in [true, false] {
        let own = first.iter().find(|path| of_texts(path) == is_texts).unwrap();
        let good = std::fs::read(own).unwrap();
        let other = files().into_iter().find(|path| !first.contains(path) && of_texts(path) == is_texts).unwrap();
        let mut flipped = good.clone();
        // A word of what would be shown, or the image's name.
        let word: &[u8] = if is_texts { b"\"run\"" } else { b"tiny" };
        let at = flipped.windows(word.len()).position(|bytes| bytes == word).unwrap();
        flipped[at + 1] = b'X';
        for (what, bytes) in [
            ("empty", Vec::new()),
            ("cut off", good[..good.len() / 2].to_vec()),
            ("without its last byte", good[..good.len() - 1].to_vec()),
            ("with more behind", [good.as_slice(), b"x"].concat()),
            ("changed", flipped),
            ("another image's", std::fs::read(other).unwrap()),
            ("no memo", vec![0xff; 4096]),
        ] {
            put(own, &bytes);
            assert_eq!(plan(&one, &[]), expected, "{what}, texts: {is_texts}");
            assert_eq!(std::fs::read(own).unwrap().len(), good.len(), "{what}: it is written anew");
        }
    }
    let own = first.iter().find(|path| !of_texts(path)).unwrap().clone();
    let good = std::fs::read(&own).unwrap();
    // One that others may write is not read: this one is right, and written anew all the same.
    put(&own, &good);
    std::fs::set_permissions(&own, PermissionsExt::from_mode(0o666)).unwrap();
    assert_eq!(plan(&one, &[]), expected);
    assert_eq!(std::fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::remove_file(&own).unwrap();
    assert_eq!(plan(&one, &["--no-memo"]), expected);
    assert!(!own.exists(), "--no-memo writes none");
}

/// What a run asked the kernel for: paths that were opened or whose link was read, and paths that were looked at.
fn traced(space: &Space, log: &Path) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
    let ran = Command::new("strace")
        .args(["-f", "-qq", "-y", "-s", "4096", "-e", "trace=%file", "-e", "signal=none", "-o"])
        .arg(log)
        .arg(env!("CARGO_BIN_EXE_imgbuild"))
        .arg("-C")
        .arg(space.path())
        .arg("--store")
        .arg(space.store())
        .arg("plan")
        .output()
        .expect("strace is there: apt-get install strace");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let (mut opened, mut looked) = (BTreeSet::new(), BTreeSet::new());
    for line in std::fs::read_to_string(log).unwrap().lines() {
        let Some((call, rest)) = line.split_once('(') else { continue };
        let call = call.rsplit(' ').next().unwrap();
        let Some((from, path)) = rest.split('"').next().zip(rest.split('"').nth(1)) else { continue };
        // Relative to a directory, which -y shows as number<path>.
        let from = from.split(['<', '>']).nth(1).unwrap_or_default();
        let path = Path::new(from).join(path);
        if !path.is_absolute() {
            continue;
        }
        // No name of these tests holds what would have to be unescaped.
        let path: PathBuf = path.components().collect();
        match call {
            // A directory that is only a place to look from.
            "open" | "openat" if rest.contains("O_PATH") => looked.insert(path),
            // Whether a part of a path is a link is asked for by reading it as one.
            "readlink" | "readlinkat" if rest.contains("EINVAL") => looked.insert(path),
            "open" | "openat" | "openat2" | "readlink" | "readlinkat" => opened.insert(path),
            _ => looked.insert(path),
        };
    }
    (opened, looked)
}

#[test]
fn all_that_planning_looked_at_below_recipe_and_store_is_looked_at_again_by_the_memo() {
    let space = space();
    space.run(&["build", "--progress", "plain"]).good();
    let log = tempfile::NamedTempFile::new().unwrap();
    let ours = |path: &&PathBuf| {
        // But for the memo itself, and whether the store in which it is to be written is one's own.
        // Whether a later imgbuild made the store is asked each time, before any memo.
        let of_memo = path.starts_with(space.store().join("v1/memos"))
            || [space.store().join("v1"), space.store().join("v1/format")].contains(path);
        (path.starts_with(space.path()) || path.starts_with(space.store())) && !of_memo
    };
    // The second run reads nothing: it answers from the memo. Tests beside this one use records that it shares with them, and
    // what was changed just now is in no memo.
    let mut tries = 0;
    let (opened, looked, looked_again) = loop {
        let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
        space.write("image.toml", &format!("# {tries}\n{recipe}"));
        std::thread::sleep(Duration::from_millis(2_200));
        let (opened, looked) = traced(&space, log.path());
        let (read_again, looked_again) = traced(&space, log.path());
        let read: Vec<_> = read_again.iter().filter(ours).collect();
        if read.is_empty() {
            break (opened, looked, looked_again);
        }
        tries += 1;
        assert!(tries < 5, "{read:#?}");
    };
    let expected =
        ["image.toml", "memo.synclist", "image.lock", "site", "site/a.conf", "target-1", "folder/below", "linked"];
    for name in expected {
        assert!(opened.contains(&space.path().join(name)), "the first run does not open {name}: {opened:#?}");
    }
    let again = |path: &Path| looked_again.contains(path);
    let forgotten: Vec<_> = opened
        .iter()
        .filter(ours)
        .filter(|path| !again(path))
        .chain(looked.iter().filter(ours).filter(|path| !again(path) && !path.parent().is_some_and(again)))
        .collect();
    assert!(forgotten.is_empty(), "{forgotten:#?}");
}

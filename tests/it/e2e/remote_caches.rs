//! Caches in a registry and on a server of Bazel's remote cache, and caches that are believed by what they have.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::oci::Registry;
use super::offline::{assert_same, fresh, run_through, vendored, warm};
use crate::support::{Space, needed, project};

/// A key for filling a cache, and its public half.
fn key(space: &Space) -> (String, String) {
    let file = space.path().join("site.key").to_str().unwrap().to_owned();
    let public = space.run(&["cache", "key", &file]).good().out.trim().to_owned();
    (file, public)
}

/// A script's beginning that gives other bytes each time.
const UNLIKE: &str = "set -e\nhead -c 8 /dev/urandom >\"$1/etc/unlike\"\n";

fn largest(directory: &Path) -> PathBuf {
    let entries = walkdir::WalkDir::new(directory).into_iter().flatten();
    let files = entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
    files.max_by_key(|path| path.metadata().unwrap().len()).expect("files are there")
}

fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::write(file, bytes).unwrap();
}

/// Fills a cache and takes all of it on another machine; then one file is damaged there, which `verify --repair` mends or says to stay, and
/// then no one answers.
fn used(url: &str, files: &Path, repaired: &str, stop: impl FnOnce()) {
    let first = warm();
    let ran = first.run(&["build", "--cache", url]);
    assert!(ran.code == 1 && ran.err.contains("cache::no_key"), "{}", ran.err);
    let (key, public) = key(&first);
    let filling = ["build", "--cache", url, "--cache-key", &key];
    let ran = first.run(&filling).good();
    assert!(ran.err.contains("were written to the cache") && !ran.err.contains("warning"), "{}", ran.err);
    let ran = first.run(&filling).good();
    assert!(!ran.err.contains("were written") && !ran.err.contains("warning"), "{}", ran.err);
    let trusting = ["build", "--locked", "--cache", url, "--cache-trust", &public];
    let second = fresh();
    let ran = second.run(&trusting).good();
    assert!(ran.err.contains("ran nothing") && ran.err.contains("are from the cache"), "{}", ran.err);
    assert_same(&first, &second, "tiny");
    second.run(&["store", "verify"]).good();

    // A damaged file is found by its digest, and what needs it is built.
    damage(&largest(files));
    let third = fresh();
    let vendor = ["--vendor", vendored().to_str().unwrap()];
    let ran = third.run(&[&trusting[..], &vendor].concat()).good();
    assert!(
        ran.err.contains("are missing or damaged in the cache") && ran.err.contains("are from the cache"),
        "{}",
        ran.err
    );
    assert_same(&first, &third, "tiny");

    let verify = ["cache", "verify", url];
    let ran = first.run(&verify);
    assert!(ran.code == 5 && ran.err.contains("files are damaged"), "{} {}", ran.code, ran.err);
    let ran = first.run(&[&verify[..], &["--repair"]].concat()).good();
    assert!(ran.err.contains(repaired) && !ran.err.contains(" stays"), "{}", ran.err);
    let ran = first.run(&filling).good();
    assert!(ran.err.contains("were written to the cache") && !ran.err.contains("warning"), "{}", ran.err);

    // What another signed is not used.
    let other = key_of_other();
    let ran = fresh().run(&["build", "--locked", "--until", "rootfs", "--cache", url, "--cache-trust", &other]);
    assert_eq!(ran.err.matches("not signed with a trusted key").count(), 1, "{}", ran.err);

    stop();
    let began = std::time::Instant::now();
    let ran = first.run(&filling).good();
    assert_eq!(ran.err.matches("is not used").count(), 1, "{}", ran.err);
    assert!(began.elapsed().as_secs() < 120, "{:?}", began.elapsed());
}

fn key_of_other() -> String {
    key(&Space::new()).1
}

#[test]
fn a_registry_is_a_cache_whose_tags_are_actions() {
    let space = Space::new();
    let place = space.path().join("registry");
    let registry = Registry::start(&place, "");
    let url = registry.url("site/cache");
    let ran = fresh().run(&["build", "--cache", &format!("{url}:latest")]);
    assert!(ran.code == 1 && ran.err.contains("name the repository alone"), "{} {}", ran.code, ran.err);
    used(&url, &place.join("data"), "removed", || drop(registry));
}

#[test]
fn a_registry_that_does_not_let_us_in_is_said_once() {
    let space = Space::new();
    let place = space.path().join("registry");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("users"), super::oci::USER).unwrap();
    let users = place.join("users");
    let plain = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display());
    let registry = Registry::start_plain(&place, &plain);
    let first = warm();
    let (key, _) = key(&first);
    let ran = first.run(&["build", "--cache", &registry.url("site/cache"), "--cache-key", &key]).good();
    assert_eq!(ran.err.matches("is not used").count(), 1, "{}", ran.err);
    assert!(ran.err.contains("none is known"), "{}", ran.err);
}

/// BuildGrid on loopback, with a cache and nothing that runs anything.
struct BuildGrid {
    child: Child,
    address: String,
}

impl BuildGrid {
    /// Starts it; none where it is not there.
    fn start(directory: &Path) -> Option<Self> {
        let program = needed(project().join("target/buildgrid/bin/bgd"), "tests/run installs it")?;
        std::fs::create_dir_all(directory).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let settings = directory.join("settings.yml");
        let text = format!(
            "server:\n  - !channel\n    address: {address}\n    insecure-mode: true\nauthorization:\n  method: none\n\
             monitoring:\n  enabled: false\ninstances:\n  - name: main\n    storages:\n      - !disk-storage &files\n        path: {}/cas\n    \
             caches:\n      - !lru-action-cache &actions\n        storage: *files\n        max-cached-refs: 10000\n        \
             allow-updates: true\n        cache-failed-actions: true\n    services:\n      - !action-cache\n        cache: *actions\n      \
             - !cas\n        storage: *files\n      - !bytestream\n        storage: *files\nthread-pool-size: 20\n",
            directory.display()
        );
        std::fs::write(&settings, text).unwrap();
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let child = Command::new(program)
            .args(["server", "start"])
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        for _ in 0..1200 {
            if TcpStream::connect(&address).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Some(Self { child, address })
    }
}

impl Drop for BuildGrid {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_of_bazels_remote_cache_is_a_cache() {
    let space = Space::new();
    let Some(server) = BuildGrid::start(&space.path().join("grid")) else { return };
    let url = format!("grpc://{}/main", server.address);
    // Another instance, another protocol, no server of this kind: each is said once.
    let first = warm();
    let (key, _) = key(&first);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("grpc://{}", silent.local_addr().unwrap());
    for (odd, said) in [
        (format!("grpc://{}/other", server.address), "instance"),
        (url.replace("grpc:", "grpcs:"), ""),
        (silent, "within 2 s"),
    ] {
        let ran = first.run(&["build", "--cache", &odd, "--cache-key", &key]).good();
        assert_eq!(ran.err.matches("is not used").count(), 1, "{odd}: {}", ran.err);
        assert!(ran.err.replace("\n  │ ", " ").contains(said), "{odd}: {}", ran.err);
    }
    used(&url, &space.path().join("grid/cas"), "sends them again", || drop(server));
}

/// A server of ours that refuses what it may, with files below a directory; what it refused is a line of a file there.
struct Strict {
    child: Child,
    directory: PathBuf,
    url: String,
}

impl Strict {
    /// Starts it with the most bytes of a message with several files, the most of one file, and what else it is to do (its file says);
    /// none where BuildGrid's Python is not there.
    fn start(directory: &Path, (batch, largest): (u64, u64), words: &[&str]) -> Option<Self> {
        let python = needed(project().join("target/buildgrid/bin/python"), "tests/run installs it")?;
        std::fs::create_dir_all(directory).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(python)
            .arg(project().join("tests/fixtures/reapi/strict.py"))
            .arg(port.to_string())
            .arg(directory)
            .args([batch, largest].map(|number| number.to_string()))
            .args(words)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..1200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Some(Self { child, directory: directory.to_owned(), url: format!("grpc://127.0.0.1:{port}") })
    }

    fn file(&self, sha256: &str) -> PathBuf {
        self.directory.join("cas").join(sha256)
    }

    fn refused(&self) -> String {
        std::fs::read_to_string(self.directory.join("refused")).unwrap_or_default()
    }
}

impl Drop for Strict {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_strict_server_of_the_remote_cache_refuses_nothing_and_one_refusal_costs_one_action() {
    let space = Space::new();
    let whole = (64 << 10, u64::MAX >> 1);
    let Some(server) = Strict::start(&space.path().join("strict"), whole, &[]) else { return };
    let first = warm();
    let (key, public) = key(&first);
    let filling = |url: &str| ["build", "--cache", url, "--cache-key", &key].map(str::to_owned);
    let fill = |url: &str| first.run(&filling(url).each_ref().map(String::as_str)).good();
    let url = server.url.as_str();
    let ran = fill(url);
    assert!(ran.err.contains("were written to the cache") && !ran.err.contains("warning"), "{}", ran.err);
    let ran = fill(url);
    assert!(!ran.err.contains("were written") && !ran.err.contains("warning"), "{}", ran.err);
    let trusting = ["build", "--locked", "--cache", url, "--cache-trust", &public];
    let second = fresh();
    let ran = second.run(&trusting).good();
    assert!(ran.err.contains("ran nothing") && ran.err.contains("are from the cache"), "{}", ran.err);
    assert_same(&first, &second, "tiny");

    // Nothing can be removed there: the action is withdrawn, and the file sent again by who has it.
    let verify = ["cache", "verify", url];
    first.run(&verify).good();
    let largest = largest(&server.directory.join("cas"));
    let most = largest.metadata().unwrap().len();
    damage(&largest);
    let ran = first.run(&verify);
    assert!(ran.code == 5 && ran.err.contains("does not match its digest"), "{} {}", ran.code, ran.err);
    let ran = first.run(&[&verify[..], &["--repair"]].concat()).good();
    assert!(ran.err.contains("sends them again"), "{}", ran.err);
    let ran = fill(url);
    assert!(ran.err.contains("were written to the cache"), "{}", ran.err);
    let ran = first.run(&verify).good();
    assert!(ran.err.contains("all of it is as it was written"), "{}", ran.err);
    let third = fresh();
    let ran = third.run(&trusting).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);
    assert_eq!(server.refused(), "");

    // One that takes no file of that size takes all others.
    let Some(small) = Strict::start(&space.path().join("small"), (64 << 10, most - 1), &[]) else { return };
    let ran = fill(&small.url);
    assert!(ran.err.contains("is not written to the cache") && ran.err.contains("were written"), "{}", ran.err);
    assert!(!ran.err.contains("nothing more is written"), "{}", ran.err);
    assert!(small.refused().lines().all(|line| line == format!("a file of {most} bytes")), "{}", small.refused());
}

struct Quiet;

impl packages::Progress for Quiet {
    fn downloaded(&self, _: usize, _: usize, _: u64, _: u64) {}
}

#[test]
fn a_file_that_a_remote_cache_lost_costs_no_other_that_is_asked_for_with_it() {
    use cache::{Object, Place, Rate, Wanted};
    let space = Space::new();
    for words in [&["forgetful"][..], &["forgetful", "one-by-one"]] {
        let directory = space.path().join(words.join("-"));
        let Some(server) = Strict::start(&directory, (64 << 10, 100 << 10), words) else { return };
        let place = Place::of(&server.url, true, Rate::default()).unwrap();
        let file = space.path().join("file");
        let put = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let object = Object { size: text.len() as u64, sha256: base::digest::Sha256::of(text.as_bytes()) };
            (place.put(&object, &file), object)
        };
        let wanted: Vec<Wanted> = (0..6)
            .map(|number| {
                let (put, object) = put(&format!("file {number}"));
                assert_eq!(put, Ok(true));
                let destination = directory.join(format!("here-{number}"));
                Wanted { object, destination, within: std::time::Duration::from_secs(60) }
            })
            .collect();
        let at = |which: usize| server.file(&wanted[which].object.sha256.to_string());
        std::fs::remove_file(at(1)).unwrap();
        std::fs::write(at(4), "FILE 4").unwrap();
        let problems = place.bring(&wanted, &Quiet).unwrap();
        assert!(problems.lost.is_none() && problems.unread.is_empty(), "{problems:?}");
        let bad: Vec<bool> = wanted.iter().map(|one| problems.of.contains_key(&one.object.sha256)).collect();
        assert_eq!(bad, [false, true, false, false, true, false]);
        for (one, bad) in wanted.iter().zip(bad) {
            assert_eq!(one.destination.is_file(), !bad, "{words:?}");
        }
        // What it does not take is one file.
        let (unsent, _) = put(&"x".repeat(200 << 10));
        assert!(unsent.unwrap_err().is_of_one);
        assert_eq!(put("the next").0, Ok(true));
    }
}

#[test]
fn what_a_cache_has_is_compared_with_a_share_that_is_built() {
    let first = warm();
    let cache = first.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    let cache = cache.to_str().unwrap().to_owned();
    first.run(&["build", "--cache", &cache]).good();
    let vendor = vendored().to_str().unwrap();
    let all = ["build", "--locked", "--vendor", vendor, "--cache", &cache, "--cache-trust", "outputs-only"];
    // None of it, and then all of it, also what the first build believed: the same image.
    let second = fresh();
    for (share, said) in [("0%", "ran nothing"), ("100%", "is built to compare it with the cache")] {
        let ran = second.run(&[&all[..], &["--cache-sample", share]].concat()).good();
        assert!(ran.err.contains(said), "{share}: {}", ran.err);
        assert_same(&first, &second, "tiny");
    }
    for odd in ["5", "x%", "101%"] {
        let ran = fresh().run(&[&all[..], &["--cache-sample", odd]].concat());
        assert!(ran.code == 1 && ran.err.contains("5%"), "{} {}", ran.code, ran.err);
    }

    // What does not give the same bytes elsewhere is named, with what differs, and nothing is published.
    first.edit("tiny.postinstall", "set -e\n", UNLIKE);
    first.run(&["build", "--vendor", vendor, "--cache", &cache]).good();
    let third = fresh();
    third.edit("tiny.postinstall", "set -e\n", UNLIKE);
    let ran = third.run(&[&all[..], &["--cache-sample", "100%"]].concat());
    assert!(ran.code == 4 && ran.err.contains("cache::differs") && ran.err.contains("the layer"), "{}", ran.err);
    assert!(ran.err.contains("rootfs/postinstall") && !third.artefact("tiny", "kernel").exists(), "{}", ran.err);

    // One action alone is compared, too.
    let alone = fresh();
    alone.edit("tiny.postinstall", "set -e\n", UNLIKE);
    let ran = alone.run(&[&all[..], &["--cache-sample", "100%", "--only", "rootfs/postinstall"]].concat());
    assert!(ran.code == 4 && ran.err.contains("cache::differs"), "{} {}", ran.code, ran.err);

    // What such a cache gave before that was noticed is not used by the next build either. Which actions are compared is chance.
    let half = [&all[..], &["--cache-sample", "50%", "--until", "rootfs"]].concat();
    for _ in 0..30 {
        let fourth = fresh();
        fourth.edit("tiny.postinstall", "set -e\n", UNLIKE);
        let ran = fourth.run(&half);
        if ran.code == 0 || !ran.err.contains("are from the cache") {
            continue;
        }
        assert!(ran.code == 4 && ran.err.contains("cache::differs"), "{}", ran.err);
        let done = ran.err.matches(": done in ").count();
        let ran = fourth.run(&["build", "--locked", "--vendor", vendor, "--until", "rootfs"]).good();
        let kept = ran.err.split("kept ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
        assert!(kept.is_some_and(|kept| kept <= done), "{done} were done here: {}", ran.err);
        return;
    }
    panic!("in thirty builds no half of the actions was compared");
}

#[test]
fn a_build_that_fails_leaves_in_the_cache_what_it_finished() {
    let space = warm();
    let cache = space.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    let vendor = vendored().to_str().unwrap();
    let filling = ["build", "--vendor", vendor, "--cache", cache.to_str().unwrap(), "--cache-rate", "500M"];
    let entries = || std::fs::read_dir(cache.join("v1/actions")).map_or(0, Iterator::count);
    // The script's layer is above that of the essential packages, which is new in this store.
    let _ = std::fs::remove_dir_all(space.store());
    space.edit("tiny.postinstall", "set -e\n", "set -e\nexit 3\n");
    assert_eq!(space.run(&filling).code, 4);
    assert!(entries() > 0);
    space.edit("tiny.postinstall", "set -e\nexit 3\n", "set -e\n");
    let ran = space.run(&filling).good();
    assert!(ran.err.contains("were written to the cache"), "{}", ran.err);
    space.run(&["cache", "verify", cache.to_str().unwrap()]).good();

    // Packages are there too: another machine builds from them, without a mirror, what no one has built.
    std::fs::remove_dir_all(cache.join("v1/actions")).unwrap();
    let other = fresh();
    let named = cache.to_str().unwrap();
    let ran =
        run_through(&["unshare", "-n"], &other, &["build", "--locked", "--cache", named, "--until", "rootfs"]).good();
    assert!(ran.err.contains("rootfs/base") && !ran.err.contains("are from the cache"), "{}", ran.err);
}

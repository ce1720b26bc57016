//! What one machine built comes to others from a cache, which may fail and lie.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::offline::{assert_same, fresh, run_through, vendored, warm};
use crate::support::{Ran, Space};

fn cached(space: &Space, more: &[&str]) -> Ran {
    run_through(&["unshare", "-n"], space, &[&["build", "--locked"], more].concat())
}

fn files(cache: &Path, below: &str) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(cache.join("v1").join(below)).into_iter().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

#[test]
fn what_one_machine_built_nobody_builds_again() {
    let first = warm();
    let cache = first.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    let cache = cache.as_path();
    let named = cache.to_str().unwrap();
    let ran = first.run(&["build", "--cache", named]).good();
    assert!(ran.err.contains("were written to the cache"), "{}", ran.err);
    // Again nothing is written.
    let written = files(cache, "");
    let ran = first.run(&["build", "--cache", named]).good();
    assert!(!ran.err.contains("were written"), "{}", ran.err);
    // An empty store, without a network: all comes from there.
    let second = fresh();
    let ran = cached(&second, &["--cache", named]).good();
    assert!(ran.err.contains("are from the cache") && ran.err.contains("ran nothing"), "{}", ran.err);
    assert_same(&first, &second, "tiny");
    assert_eq!(files(cache, ""), written);
    let ran = second.run(&["store", "verify"]).good();
    assert!(ran.err.contains(", 0 damaged"), "{}", ran.err);
    let stats = first.run(&["cache", "stats", named, "--json"]).good().out;
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    assert!(stats["actions"].as_u64() > Some(3) && stats["unnamed_bytes"] == 0, "{stats}");

    // One whose largest file is damaged: said, and that action runs here, with the same bytes.
    let largest = files(cache, "objects").into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let good = std::fs::read(&largest).unwrap();
    let mut bytes = good.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::write(&largest, &bytes).unwrap();
    let ran = first.run(&["cache", "verify", named]);
    assert!(ran.code == 5 && ran.err.contains("does not match the digest in its name"), "{} {}", ran.code, ran.err);
    let third = fresh();
    let vendor = vendored().to_str().unwrap();
    let ran = third.run(&["build", "--locked", "--vendor", vendor, "--cache", named]).good();
    // One file is damaged: what needs it is built, and all else is taken.
    assert!(ran.err.contains("are missing or damaged in the cache"), "{}", ran.err);
    assert!(ran.err.contains("ran ") && ran.err.contains("are from the cache"), "{}", ran.err);
    assert!(!ran.err.contains("is not used"), "{}", ran.err);
    assert_same(&first, &third, "tiny");
    // Who may write there mends it.
    assert!(ran.err.contains("were written to the cache"), "{}", ran.err);
    assert_eq!(std::fs::read(&largest).unwrap(), good);
    first.run(&["cache", "verify", named]).good();
    std::fs::write(&largest, &bytes[..middle]).unwrap();
    first.run(&["cache", "verify", named, "--repair"]).good();
    let ran = first.run(&["build", "--cache", named]).good();
    assert!(ran.err.contains("were written"), "{}", ran.err);
    first.run(&["cache", "verify", named]).good();

    // Nothing but what a trusted key signed.
    let key = first.path().join("site.key");
    let public = first.run(&["cache", "key", key.to_str().unwrap()]).good().out;
    let public = public.trim();
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&key).unwrap()) & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(first.run(&["cache", "key", key.to_str().unwrap()]).code, 3);
    let fourth = fresh();
    let ran = cached(&fourth, &["--cache", named, "--cache-trust", public]);
    // Packages need no signature: the lock has their digests.
    assert!(ran.code == 0 && !ran.err.contains("are from the cache"), "{} {}", ran.code, ran.err);
    assert_eq!(ran.err.matches("not signed with a trusted key").count(), 1, "{}", ran.err);
    assert_same(&first, &fourth, "tiny");
    let fourth = fresh();
    first.run(&["build", "--cache", named, "--cache-key", key.to_str().unwrap()]).good();
    let ran = cached(&fourth, &["--cache", named, "--cache-trust", public]).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);
    assert_same(&first, &fourth, "tiny");

    // A size to stay within: what was used longest ago goes, and what is left is whole.
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    for path in files(cache, "") {
        std::fs::File::options().append(true).open(path).unwrap().set_modified(old).unwrap();
    }
    first.run(&["cache", "gc", named, "--size", "1M"]).good();
    let left: u64 = files(cache, "").iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(left <= 1 << 20, "{left}");
    first.run(&["cache", "verify", named]).good();
}

/// Apache's WebDAV on loopback: it wants folders to be made before files.
struct WebDav {
    child: Child,
    address: String,
}

impl WebDav {
    fn start(space: &Space) -> Self {
        let root = space.path().join("dav");
        std::fs::create_dir_all(&root).unwrap();
        // What is served is written by the user who serves.
        std::os::unix::fs::chown(&root, Some(33), Some(33)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let modules: String = ["mpm_event", "authz_core", "dav", "dav_fs"]
            .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
            .concat();
        let conf = format!(
            "{modules}ServerName localhost\nListen 127.0.0.1:{port}\nUser www-data\nGroup www-data\nPidFile {0}/../pid\n\
             ErrorLog {0}/../error.log\nDavLockDB {0}/.lock\nDocumentRoot {0}\n<Directory {0}>\nDav On\nRequire all granted\n\
             </Directory>\nLimitRequestBody 0\nLimitXMLRequestBody 0\n",
            root.display()
        );
        space.write("apache.conf", &conf);
        let child = Command::new("apache2")
            .args(["-D", "FOREGROUND", "-d", "/", "-f"])
            .arg(space.path().join("apache.conf"))
            .stdin(Stdio::null())
            .spawn()
            .expect("apache2 is there");
        let address = format!("127.0.0.1:{port}");
        for _ in 0..200 {
            if std::net::TcpStream::connect(&address).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Self { child, address }
    }
}

impl Drop for WebDav {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_that_takes_files_is_a_cache_and_one_that_fails_costs_nothing() {
    let first = warm();
    let server = WebDav::start(&first);
    let url = format!("http://{}/images", server.address);
    // Anyone may write there: a key is needed, and said before anything is done.
    let ran = first.run(&["build", "--cache", &url]);
    assert!(ran.code == 1 && ran.err.contains("cache::no_key") && ran.err.contains("cache key"), "{}", ran.err);
    for (odd, said) in [("ftp://x/y", "neither a directory nor"), ("/nowhere/at/all", "mkdir -p")] {
        let ran = first.run(&["build", "--cache", odd]);
        assert!(ran.code == 1 && ran.err.contains(said), "{} {}", ran.code, ran.err);
    }
    let key = first.path().join("site.key");
    let public = first.run(&["cache", "key", key.to_str().unwrap()]).good().out;
    let ran = first.run(&["build", "--cache", &url, "--cache-key", key.to_str().unwrap()]).good();
    assert!(ran.err.contains("were written to the cache"), "{}", ran.err);
    let second = fresh();
    let trusted = ["--cache", url.as_str(), "--cache-trust", public.trim()];
    let ran = second.run(&[&["build", "--locked"], &trusted[..]].concat()).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);
    assert_same(&first, &second, "tiny");
    // What is damaged there is found by the server's lists and removed; who has it writes it again.
    let verify = ["cache", "verify", url.as_str()];
    let ran = first.run(&verify).good();
    assert!(ran.err.contains("all of it is as it was written") && !ran.err.contains("\n0 actions"), "{}", ran.err);
    let all = files(&first.path().join("dav/images"), "objects");
    let largest = all.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    std::fs::write(&largest, "short").unwrap();
    let ran = first.run(&verify);
    assert!(ran.code == 5 && ran.err.contains("files are damaged"), "{} {}", ran.code, ran.err);
    let ran = first.run(&[&verify[..], &["--repair"]].concat()).good();
    assert!(ran.err.contains("removed") && !largest.exists(), "{}", ran.err);
    let ran = first.run(&["build", "--cache", &url, "--cache-key", key.to_str().unwrap()]).good();
    assert!(ran.err.contains("were written to the cache") && largest.exists(), "{}", ran.err);
    first.run(&verify).good();
    // Nobody listens; somebody listens and says nothing: said once each, and the build is what it is without.
    let address = server.address.clone();
    drop(server);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}/x", silent.local_addr().unwrap());
    let began = std::time::Instant::now();
    let third = fresh();
    let two =
        [&trusted[..], &["--cache", &silent, "--until", "kernel", "--vendor", vendored().to_str().unwrap()]].concat();
    let ran = third.run(&[&["build", "--locked"], &two[..]].concat()).good();
    assert_eq!(ran.err.matches("is not used").count(), 2, "{}", ran.err);
    assert!(ran.err.contains(&address), "{}", ran.err);
    // The aim is two seconds for each that says nothing; the rest is the build.
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}

/// A file system in memory, unmounted at the end.
struct Small(PathBuf);

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn privileged_a_full_cache_and_a_killed_upload_leave_nothing_that_is_believed() {
    let first = warm();
    // Named by the workspace, from its root.
    first.write("imgbuild.toml", "[cache]\nurls = [\"of-all\"]\n");
    std::fs::create_dir(first.path().join("of-all")).unwrap();
    let ran = first.run(&["build", "--locked"]).good();
    assert!(
        ran.err.contains("were written to the cache") && first.path().join("of-all/v1/actions").is_dir(),
        "{}",
        ran.err
    );

    for place in ["cache.object", "cache.before-entry"] {
        let cache = first.path().join(place);
        std::fs::create_dir(&cache).unwrap();
        let named = cache.to_str().unwrap();
        let reached = first.path().join("reached");
        let mut child = Command::new(env!("CARGO_BIN_EXE_imgbuild"))
            .arg("-C")
            .arg(first.path())
            .arg("--store")
            .arg(first.store())
            .args(["build", "--locked", "--cache", named])
            .env("IMGBUILD_FAULT", place)
            .env("IMGBUILD_FAULT_FILE", &reached)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..600 {
            if reached.exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        assert!(reached.exists(), "{place} is not reached");
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_file(&reached).unwrap();
        assert!(!files(&cache, "objects").is_empty(), "{place}");
        assert!(!cache.join("v1/actions").exists() || files(&cache, "actions").is_empty(), "{place}");
        first.run(&["cache", "verify", named]).good();
        let ran = first.run(&["build", "--locked", "--cache", named]).good();
        assert!(ran.err.contains("were written"), "{place}: {}", ran.err);
        let second = fresh();
        let ran = cached(&second, &["--cache", named]).good();
        assert!(ran.err.contains("ran nothing"), "{place}: {}", ran.err);
        assert_same(&first, &second, "tiny");
    }

    let full = Small(first.path().join("full"));
    std::fs::create_dir(&full.0).unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m,mode=0755", "imgbuild-test"]).arg(&full.0).status();
    assert!(mounted.unwrap().success(), "this test mounts a file system: run it as root");
    let named = full.0.to_str().unwrap();
    let ran = first.run(&["build", "--locked", "--cache", named]).good();
    assert_eq!(ran.err.matches("nothing more is written to the cache").count(), 1, "{}", ran.err);
    first.run(&["cache", "verify", named]).good();

    // Entries that someone else wrote: said once, and what they name runs.
    let cache = first.path().join("cache.object");
    for path in files(&cache, "actions") {
        std::fs::write(path, "{}\n").unwrap();
    }
    let ran = fresh().run(&["plan", "--cache", cache.to_str().unwrap()]).good();
    assert_eq!(ran.err.matches("entries that are not used").count(), 1, "{}", ran.err);
    assert!(!ran.out.contains("in the cache"), "{}", ran.out);
    // A plan says what would come, and changes nothing there.
    let cache = first.path().join("cache.before-entry");
    let times = || -> Vec<_> {
        files(&cache, "actions").iter().map(|path| path.metadata().unwrap().modified().unwrap()).collect()
    };
    let before = times();
    let ran = fresh().run(&["plan", "--cache", cache.to_str().unwrap()]).good();
    assert!(ran.out.contains("in the cache") && ran.out.contains("rootfs/base"), "{}", ran.out);
    assert_eq!(times(), before);
}

//! `imgbuild fetch`: the same bytes as at the server, only what is missing is moved, and nothing half made.

mod statements;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base::digest::Sha256;

use crate::support::{Ran, Space, files, imgbuild};

/// What a server does with the ranges that it is asked for.
#[derive(Clone, Copy, PartialEq)]
enum Ranges {
    Given,
    /// It gives whole files.
    Ignored,
    /// It gives so many, and none after them.
    Until(usize),
}

/// A plain HTTP server for a directory.
struct Server {
    url: String,
    ranges: Arc<Mutex<Ranges>>,
    sent: Arc<AtomicU64>,
}

impl Server {
    fn of(directory: &Path) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Ranges::Given));
        let sent = Arc::new(AtomicU64::new(0));
        let (mode, count, directory) = (Arc::clone(&ranges), Arc::clone(&sent), directory.to_owned());
        let parts = Arc::new(AtomicUsize::new(0));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mode, count, directory) = (*mode.lock().unwrap(), Arc::clone(&count), directory.clone());
                let parts = Arc::clone(&parts);
                std::thread::spawn(move || answer(stream, &directory, mode, &count, &parts));
            }
        });
        Self { url, ranges, sent }
    }

    /// Bytes of bodies since the last question.
    fn sent(&self) -> u64 {
        self.sent.swap(0, Ordering::SeqCst)
    }
}

fn answer(stream: TcpStream, directory: &Path, mode: Ranges, sent: &AtomicU64, parts: &AtomicUsize) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let name = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let mut range = None;
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        if let Some(text) = line.to_lowercase().strip_prefix("range: bytes=") {
            let (from, last) = text.split_once('-').unwrap();
            range = Some((from.parse::<usize>().unwrap(), last.parse::<usize>().ok()));
        }
    }
    let mut stream = stream;
    let Ok(bytes) = std::fs::read(directory.join(name)) else {
        // A server that lets no one see what there is.
        let code = if directory.join("forbidden").exists() { "403 Forbidden" } else { "404 Not Found" };
        let _ = write!(stream, "HTTP/1.1 {code}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    };
    let (head, body) = match range {
        Some((from, last)) if mode != Ranges::Ignored => {
            let last = last.unwrap_or(bytes.len() - 1).min(bytes.len() - 1);
            if matches!(mode, Ranges::Until(count) if parts.fetch_add(1, Ordering::SeqCst) >= count) {
                let _ = write!(stream, "HTTP/1.1 400 Enough\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                return;
            }
            let head = format!("HTTP/1.1 206 Part\r\nContent-Range: bytes {from}-{last}/{}\r\n", bytes.len());
            (head, &bytes[from..=last])
        }
        _ => ("HTTP/1.1 200 OK\r\n".to_owned(), &bytes[..]),
    };
    sent.fetch_add(body.len() as u64, Ordering::SeqCst);
    let _ = write!(stream, "{head}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(body);
}

/// Frames of one byte each repeated, as many bytes as told: content that tells one frame from another.
fn frames(kinds: &[u8]) -> Vec<Vec<u8>> {
    kinds.iter().map(|kind| (0..100_000u32).map(|at| (at % 251) as u8 ^ kind).collect()).collect()
}

/// Publishes a made-up image into a directory, as `build` writes it.
fn publish(directory: &Path, frames: &[Vec<u8>]) {
    std::fs::create_dir_all(directory).unwrap();
    let mut offset = 0;
    let listed: Vec<serde_json::Value> = frames
        .iter()
        .map(|frame| {
            offset += frame.len();
            let sha256 = Sha256::of(frame).to_string();
            let at = offset - frame.len();
            serde_json::json!({"offset": at, "size": frame.len(), "unpacked": frame.len(), "sha256": sha256})
        })
        .collect();
    let index =
        serde_json::json!({"format": 1, "archive": "cpio", "compress": "zstd", "size": offset, "frames": listed});
    let files = [
        ("kernel", b"a kernel".repeat(1000)),
        ("initrd-stateless", b"an initrd".repeat(1000)),
        ("rootimg.cpio.zst", frames.concat()),
        ("rootimg.cpio.zst.index", index.to_string().into_bytes()),
    ];
    let mut artefacts = Vec::new();
    let mut sums = String::new();
    for (name, bytes) in &files {
        std::fs::write(directory.join(name), bytes).unwrap();
        let sha256 = Sha256::of(bytes).to_string();
        artefacts.push(serde_json::json!({"name": name, "size": bytes.len(), "sha256": sha256}));
        sums.push_str(&format!("{sha256}  {name}\n"));
    }
    std::fs::write(directory.join("SHA256SUMS"), sums).unwrap();
    let build = serde_json::json!({
        "format_version": "1.0", "name": "made-up", "target": "debian 12 x86_64", "epoch": 1, "kernel_release": "6.1",
        "cmdline": [], "memory": 1, "artefacts": artefacts, "layers": [], "not_reproducible": [],
    });
    std::fs::write(directory.join("build.json"), build.to_string()).unwrap();
}

fn fetch(url: &str, to: &Path, more: &[&str]) -> Ran {
    imgbuild().args(["fetch", url]).arg(to).args(more).output().unwrap().into()
}

/// What is in the directory that holds the copies, hidden names too.
fn beside(to: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(to.parent().unwrap()).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn only_what_is_missing_is_moved_and_the_files_are_those_of_the_origin() {
    let place = tempfile::tempdir().unwrap();
    let (origin, to) = (place.path().join("origin"), place.path().join("copies/compute"));
    publish(&origin, &frames(b"abcdefgh"));
    let server = Server::of(&origin);
    let ran = fetch(&server.url, &to, &[]).good();
    assert!(ran.err.contains("8 of 8 frames"), "{}", ran.err);
    assert_eq!(files(&to), files(&origin));
    assert!(server.sent() > 800_000);
    // Nothing changed: a question, and no more.
    let ran = fetch(&format!("{}/build.json", server.url), &to, &[]).good();
    assert!(ran.err.contains("already has the image"), "{}", ran.err);
    assert!(server.sent() < 10_000);
    // One frame changed, one moved, one is gone.
    publish(&origin, &frames(b"bXacdefg"));
    let delta = |more: &[&str]| -> Ran {
        imgbuild().arg("delta").arg(&to).arg(&server.url).args(more).output().unwrap().into()
    };
    let said: serde_json::Value = serde_json::from_str(&delta(&["--json"]).good().out).unwrap();
    assert_eq!(said["format_version"], "1.0");
    let of = |name: &str| said["files"].as_array().unwrap().iter().find(|file| file["name"] == name).unwrap();
    assert_eq!(
        (&of("rootimg.cpio.zst")["moved"], &of("rootimg.cpio.zst")["frames_moved"]),
        (&100_000.into(), &1.into())
    );
    assert_eq!(
        (&of("kernel")["moved"], &of("rootimg.cpio.zst.index")["moved"]),
        (&0.into(), &of("rootimg.cpio.zst.index")["size"])
    );
    let text = delta(&[]).good().out;
    assert!(text.contains("0.1 of       0.8 MB  rootimg.cpio.zst  1 of 8 frames"), "{text}");
    server.sent();
    let ran = fetch(&server.url, &to, &["--json"]).good();
    let brought: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&brought["frames_moved"], &brought["frames"]), (&1.into(), &8.into()));
    assert_eq!(files(&to), files(&origin));
    let sent = server.sent();
    assert!((100_000..110_000).contains(&sent), "{sent}");
    // By a link, which stays one.
    let link = place.path().join("link");
    std::os::unix::fs::symlink(&to, &link).unwrap();
    publish(&origin, &frames(b"bYacdefg"));
    fetch(&server.url, &link, &[]).good();
    assert!(link.is_symlink() && files(&to) == files(&origin));
    server.sent();
    // What is damaged here is brought again.
    let mut image = std::fs::read(to.join("rootimg.cpio.zst")).unwrap();
    image[250_000] ^= 1;
    std::fs::write(to.join("rootimg.cpio.zst"), image).unwrap();
    fetch(&server.url, &to, &[]).good();
    assert_eq!(files(&to), files(&origin));
    let sent = server.sent();
    assert!((100_000..110_000).contains(&sent), "{sent}");
    assert_eq!(beside(&to), [".compute.lock", "compute"]);
}

#[test]
fn an_interrupted_fetch_goes_on_and_a_server_without_ranges_serves_too() {
    let place = tempfile::tempdir().unwrap();
    let (origin, to) = (place.path().join("origin"), place.path().join("copies/compute"));
    let two: Vec<Vec<u8>> = (0..3u8).map(|kind| vec![kind; 9 << 20]).collect();
    publish(&origin, &two);
    let server = Server::of(&origin);
    // Kernel, initrd and index are a part each; then some parts of the image come, and no more.
    *server.ranges.lock().unwrap() = Ranges::Until(6);
    let ran = fetch(&server.url, &to, &[]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(!to.exists());
    let first = server.sent();
    assert!(first > 16 << 20, "{first}");
    *server.ranges.lock().unwrap() = Ranges::Given;
    fetch(&server.url, &to, &[]).good();
    assert_eq!(files(&to), files(&origin));
    let second = server.sent();
    assert!(second < 20 << 20, "{second}");
    *server.ranges.lock().unwrap() = Ranges::Ignored;
    publish(&origin, &frames(b"xyz"));
    fetch(&server.url, &to, &[]).good();
    assert_eq!(files(&to), files(&origin));
}

#[test]
fn what_is_wrong_is_refused_and_the_copy_stays() {
    let place = tempfile::tempdir().unwrap();
    let (origin, to) = (place.path().join("origin"), place.path().join("copies/compute"));
    publish(&origin, &frames(b"abcd"));
    let server = Server::of(&origin);
    fetch(&server.url, &to, &[]).good();
    let before = files(&to);
    let refused = |code: i32, words: &[&str], more: &[&str]| {
        let ran = fetch(&server.url, &to, more);
        assert_eq!(ran.code, code, "{}", ran.err);
        let text: String = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert_eq!(files(&to), before);
    };
    let change = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(origin.join(name)).unwrap();
        change(&mut bytes);
        std::fs::write(origin.join(name), bytes).unwrap();
    };
    // A flipped byte in a new frame, in the kernel, in the index; another build.json than was asked for.
    publish(&origin, &frames(b"abcX"));
    change("rootimg.cpio.zst", &|bytes| bytes[350_000] ^= 1);
    refused(1, &["`rootimg.cpio.zst` of", "was expected", "run the command again"], &[]);
    publish(&origin, &frames(b"abcY"));
    change("rootimg.cpio.zst.index", &|bytes| bytes[3] ^= 1);
    refused(1, &["`rootimg.cpio.zst.index` of"], &[]);
    refused(1, &["`build.json` of"], &["--digest", &"0".repeat(64)]);
    // Names that lead out of the directory, or hide in it.
    for name in ["../kernel", "a/b", ".hidden", "build.json", ""] {
        publish(&origin, &frames(b"abcX"));
        change("build.json", &|bytes| {
            let text = String::from_utf8(bytes.clone())
                .unwrap()
                .replace("\"name\":\"kernel\"", &format!("\"name\":\"{name}\""));
            *bytes = text.into_bytes();
        });
        refused(1, &["names the unknown artefact"], &[]);
    }
    change("build.json", &|bytes| *bytes = b"<html>".to_vec());
    refused(1, &["has a build.json that cannot be read", "give the address of a directory"], &[]);
    std::fs::remove_file(origin.join("build.json")).unwrap();
    refused(1, &["`build.json` is not at", "out/NAME"], &[]);
    // A file of the site's own is not taken away.
    publish(&origin, &frames(b"abcX"));
    std::fs::write(to.join("notes.txt"), "ours").unwrap();
    let ran = fetch(&server.url, &to, &[]).good();
    assert!(ran.err.contains("left alone, not part of the image: notes.txt"), "{}", ran.err);
    assert_eq!(std::fs::read_to_string(to.join("notes.txt")).unwrap(), "ours");
    std::fs::remove_file(to.join("notes.txt")).unwrap();
    let digest = Sha256::of(&std::fs::read(origin.join("build.json")).unwrap()).to_string();
    fetch(&server.url, &to, &["--digest", &digest]).good();
    assert_eq!(files(&to), files(&origin));
}

#[test]
fn a_server_that_is_not_there_and_an_address_that_is_none() {
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("copy");
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let ran = fetch(&format!("http://{nobody}/compute"), &to, &[]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("that the server can be reached") && !ran.err.contains("mirror"), "{}", ran.err);
    assert!(!to.exists());
    let ran = fetch("/srv/images/compute", &to, &[]);
    assert_eq!(ran.code, 64);
    assert!(ran.err.contains("http://, https:// or file://"), "{}", ran.err);
    let ran: Ran = imgbuild().arg("delta").arg(&to).arg(&to).output().unwrap().into();
    assert_eq!(ran.code, 1, "{}", ran.err);
    // A directory of this machine is an address too.
    publish(&place.path().join("origin"), &frames(b"ab"));
    fetch(&format!("file://{}", place.path().join("origin").display()), &to, &[]).good();
    assert_eq!(files(&to), files(&place.path().join("origin")));
    // A file is no place for it; what went wrong is said once.
    let ran = fetch(&format!("file://{}", place.path().join("origin").display()), &to.join("kernel"), &[]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("is a file") && !ran.err.contains("╰─▶"), "{}", ran.err);
}

#[test]
fn what_another_user_put_beside_the_directory_is_not_written_through() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let (origin, to) = (at("origin"), at("copies/compute"));
    publish(&origin, &frames(b"ab"));
    let server = Server::of(&origin);
    std::fs::write(at("victim"), "precious").unwrap();
    let half = at("copies/.compute.fetching");
    std::fs::create_dir_all(&half).unwrap();
    for name in ["kernel", "SHA256SUMS", "build.json", "rootimg.cpio.zst", "rootimg.cpio.zst.index"] {
        std::os::unix::fs::symlink(at("victim"), half.join(name)).unwrap();
    }
    std::fs::hard_link(at("victim"), half.join("initrd-stateless")).unwrap();
    fetch(&server.url, &to, &[]).good();
    assert_eq!(std::fs::read(at("victim")).unwrap(), b"precious");
    assert!(files(&to) == files(&origin) && to.join("kernel").symlink_metadata().unwrap().is_file());
    // The half itself is a link; the lock is one.
    publish(&origin, &frames(b"abc"));
    let before = files(&to);
    std::fs::create_dir(at("elsewhere")).unwrap();
    std::os::unix::fs::symlink(at("elsewhere"), &half).unwrap();
    let ran = fetch(&server.url, &to, &[]);
    assert!(ran.code == 1 && ran.err.contains("is a link"), "{} {}", ran.code, ran.err);
    assert!(files(&to) == before && files(&at("elsewhere")).is_empty());
    std::fs::remove_file(&half).unwrap();
    std::fs::remove_file(at("copies/.compute.lock")).unwrap();
    std::os::unix::fs::symlink(at("created"), at("copies/.compute.lock")).unwrap();
    let ran = fetch(&server.url, &to, &[]);
    assert!(ran.code == 3 && ran.err.contains("is a link"), "{} {}", ran.code, ran.err);
    assert!(files(&to) == before && !at("created").exists());
    std::fs::remove_file(at("copies/.compute.lock")).unwrap();
    // Of another user: only root can make one.
    if rustix::process::geteuid().is_root() {
        std::fs::create_dir(&half).unwrap();
        std::os::unix::fs::chown(&half, Some(1234), Some(1234)).unwrap();
        let ran = fetch(&server.url, &to, &[]);
        assert!(ran.code == 1 && ran.err.contains("another user"), "{} {}", ran.code, ran.err);
        assert_eq!(files(&to), before);
        std::fs::remove_dir(&half).unwrap();
        // A file of another user does not get into the new directory by a second name.
        std::os::unix::fs::chown(to.join("kernel"), Some(1234), Some(1234)).unwrap();
        fetch(&server.url, &to, &[]).good();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(to.join("kernel")).unwrap()), 0);
    }
    fetch(&server.url, &to, &[]).good();
    assert_eq!(files(&to), files(&origin));
}

#[test]
fn sizes_and_names_of_a_server_that_lies_are_refused_by_what_they_are() {
    let place = tempfile::tempdir().unwrap();
    let (origin, to) = (place.path().join("origin"), place.path().join("copy"));
    let server = Server::of(&origin);
    let build = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut build: serde_json::Value =
            serde_json::from_slice(&std::fs::read(origin.join("build.json")).unwrap()).unwrap();
        change(&mut build);
        std::fs::write(origin.join("build.json"), build.to_string()).unwrap();
    };
    let refused = |words: &str| {
        for command in [&["fetch", &server.url, to.to_str().unwrap()][..], &["delta", &server.url, &server.url]] {
            let ran: Ran = imgbuild().args(command).output().unwrap().into();
            let text: String = ran.err.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(ran.code == 1 && text.contains(words) && !text.contains("memory"), "{}: {text}", ran.code);
            assert!(!(ran.out + &ran.err).contains('\u{202e}') && !to.exists());
        }
    };
    // An index of a frame more than the image has, by its own digest.
    for size in [1u64 << 45, 1 << 62] {
        publish(&origin, &frames(b"a"));
        let index = serde_json::json!({"size": size + 100_000, "frames": [
            {"offset": 0, "size": 100_000, "sha256": "0".repeat(64)},
            {"offset": 100_000, "size": size, "sha256": "1".repeat(64)}]});
        std::fs::write(origin.join("rootimg.cpio.zst.index"), index.to_string()).unwrap();
        build(&|build| {
            let all = build["artefacts"].as_array_mut().unwrap();
            let own = all.iter_mut().find(|one| one["name"] == "rootimg.cpio.zst.index").unwrap();
            own["size"] = index.to_string().len().into();
            own["sha256"] = Sha256::of(index.to_string().as_bytes()).to_string().into();
        });
        refused("build.json says that `rootimg.cpio.zst` has 100000");
    }
    for name in ["ker\nnel", "ker\u{202e}nel", "ker\u{1b}[2Jnel"] {
        publish(&origin, &frames(b"a"));
        build(&|build| build["artefacts"][0]["name"] = name.into());
        refused("names the unknown artefact");
    }
    publish(&origin, &frames(b"a"));
    build(&|build| build["artefacts"][0]["size"] = (1u64 << 62).into());
    let ran = fetch(&server.url, &to, &[]);
    assert!(ran.code == 1 && ran.err.contains("can hold") && !to.exists(), "{} {}", ran.code, ran.err);
}

#[test]
fn the_example_of_a_service_node_copies_builds_under_the_names_that_nodes_are_given() {
    let space = Space::example("service");
    let run = |command: &mut Command| Ran::from(command.output().unwrap());
    run(Command::new(space.path().join("make-packages")).args(["site-mirror", "1.0"])).good();
    let package = space.path().join("otherpkgs/xcat-core/site-mirror_1.0_all.deb");
    let root = space.path().join("root");
    run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&root)).good();
    let origin = space.path().join("origin/compute");
    let server = Server::of(&space.path().join("origin"));
    let site = space.path().join("site");
    space.write("mirror", &format!("ORIGIN={}\nIMAGES=compute\nSITE={}\nLISTEN=x\n", server.url, site.display()));
    let program = Path::new(env!("CARGO_BIN_EXE_imgbuild")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mirror = || {
        let mut command = Command::new("sh");
        command.arg(root.join("usr/sbin/site-mirror")).arg(space.path().join("mirror")).env("PATH", &path);
        run(&mut command)
    };
    let name = || Sha256::of(&std::fs::read(origin.join("build.json")).unwrap()).short();
    let now = || std::fs::read_link(site.join("out/compute")).unwrap().display().to_string();
    publish(&origin, &frames(b"abcd"));
    let (first, before) = (name(), files(&origin));
    mirror().good();
    assert_eq!(now(), format!(".builds/compute/{first}"));
    publish(&origin, &frames(b"abXd"));
    server.sent();
    mirror().good();
    assert_eq!(now(), format!(".builds/compute/{}", name()));
    assert_eq!(files(&site.join("out/compute")), files(&origin));
    assert!(server.sent() < 200_000, "a frame that is there was fetched again");
    // Nodes that were given the first one find it still.
    assert_eq!(files(&site.join("out/.builds/compute").join(first)), before);
    // An origin that is damaged changes nothing.
    let last = now();
    publish(&origin, &frames(b"aYXd"));
    std::fs::write(origin.join("rootimg.cpio.zst.index"), "{}").unwrap();
    assert_ne!(mirror().code, 0);
    assert_eq!(now(), last);
}

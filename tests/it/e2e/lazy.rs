//! A root that is read over the network: what is fetched until the node is up, what happens when servers go away or give something wrong.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::machine::{cmdline_of, expect, start};
use super::offline::vendored;
use super::{Built, store, tiny};
use crate::support::{Space, copy_locked};

const ROOTIMG: &str = "rootimg.sfs";

/// A server of files that counts what it sends of the image, and that can go away or send something wrong.
#[derive(Clone)]
struct Files {
    port: u16,
    sent: Arc<AtomicU64>,
    is_away: Arc<AtomicBool>,
    is_wrong: Arc<AtomicBool>,
}

impl Files {
    fn start(directory: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let files = Self { port, sent: Arc::default(), is_away: Arc::default(), is_wrong: Arc::default() };
        let (own, directory) = (files.clone(), directory.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (own, directory) = (own.clone(), directory.clone());
                std::thread::spawn(move || drop(own.answer(stream, &directory)));
            }
        });
        files
    }

    fn url(&self) -> String {
        format!("http://10.0.2.2:{}", self.port)
    }

    fn set(flag: &AtomicBool, to: bool) {
        flag.store(to, Ordering::SeqCst);
    }

    fn answer(&self, mut stream: TcpStream, directory: &Path) -> std::io::Result<()> {
        if self.is_away.load(Ordering::SeqCst) {
            return Ok(());
        }
        let (mut name, mut range) = (String::new(), None);
        let mut input = BufReader::new(stream.try_clone()?);
        loop {
            let mut line = String::new();
            input.read_line(&mut line)?;
            if let Some(rest) = line.strip_prefix("GET /") {
                name = rest.split(' ').next().unwrap_or_default().to_owned();
            }
            if let Some(bytes) = line.to_lowercase().trim().strip_prefix("range: bytes=") {
                range = bytes.split_once('-').and_then(|(from, to)| Some((from.parse().ok()?, to.parse::<u64>().ok())));
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let Ok(mut file) = std::fs::File::open(directory.join(&name)) else {
            return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        };
        let size = file.metadata()?.len();
        let (status, from, to) = match range {
            Some((from, to)) => ("206 Partial Content", from, to.map_or(size, |to| to + 1)),
            None => ("200 OK", 0, size),
        };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from))?;
        file.take(to - from).read_to_end(&mut bytes)?;
        if name == ROOTIMG {
            self.sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
            if self.is_wrong.load(Ordering::SeqCst) {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
        }
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(&bytes)
    }
}

/// The tiny image with such a root; its init reads all programs and libraries again and again, once the root is there or part of it is kept.
fn image() -> Built {
    let space = Space::new().with_store(&store());
    copy_locked(tiny().space.path(), space.path());
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let recipe = recipe.replace("[boot]\n", "[boot]\nroot = \"lazy\"\n");
    space.write("image.toml", &format!("{recipe}\n[pack]\narchive = \"squashfs\"\n"));
    space.edit(
        "tiny.postinstall",
        "while :; do sleep 3600; done",
        "until dmesg | grep -q 'frames of the root are in memory' || grep -q keep= /proc/cmdline; do sleep 1; done\n\
         round=0\n\
         while :; do\n\
         echo 3 >/proc/sys/vm/drop_caches\n\
         cat /usr/bin/* /usr/lib/*/*.so* >/dev/null && round=$((round + 1)) && echo \"ROUND $round IS WHOLE\"\n\
         sleep 1\n\
         done",
    );
    space.run(&["build", "--locked", "--vendor", vendored().to_str().unwrap()]).good();
    Built { space, key: tiny().key.clone() }
}

fn published(built: &Built) -> PathBuf {
    built.space.artefact("tiny", ".").canonicalize().unwrap()
}

fn rounds(console: &str) -> usize {
    console.matches("IS WHOLE").count()
}

#[test]
fn boot_a_lazy_root_fetches_what_it_reads_then_the_rest_and_then_needs_no_server() {
    let built = image();
    let directory = published(&built);
    let server = Files::start(&directory);
    let words = cmdline_of(&built, "tiny", ROOTIMG, &server.url());
    assert!(words.contains(" imgbuild.root=lazy"), "{words}");
    let running = start(&built, "tiny", words, |_| {});
    expect(&running, "NODE IS UP: node-525400123456");
    let (sent, size) = (server.sent.load(Ordering::SeqCst), directory.join(ROOTIMG).metadata().unwrap().len());
    assert!(sent > 0 && sent < size / 10 * 9, "{sent} of {size} bytes were fetched until the node was up");
    expect(&running, "frames of the root are in memory");
    // Each byte once.
    assert_eq!(server.sent.load(Ordering::SeqCst), size);
    Files::set(&server.is_away, true);
    let before = rounds(&running.console());
    expect(&running, &format!("ROUND {} IS WHOLE", before + 3));
    let console = running.console();
    assert!(!console.contains("I/O error") && !console.contains("wrong digest"), "{console}");
    // What it means is said where sizes are.
    let shown = built.space.run(&["size", "tiny"]).good().out;
    assert!(shown.contains("nodes read their root over the network"), "{shown}");
}

#[test]
fn boot_a_node_that_keeps_less_waits_for_its_servers_and_takes_nothing_wrong() {
    let built = image();
    let directory = published(&built);
    let (one, other) = (Files::start(&directory), Files::start(&directory));
    let words = cmdline_of(&built, "tiny", ROOTIMG, &one.url());
    let words = words.replace(&format!("/{ROOTIMG} "), &format!("/{ROOTIMG},{} ", other.url()));
    let running = start(&built, "tiny", format!("{words} imgbuild.root=lazy,keep=12M"), |_| {});
    expect(&running, "ROUND 1 IS WHOLE");
    Files::set(&one.is_wrong, true);
    expect(&running, &format!("of {}/{ROOTIMG} have the SHA-256", one.url()));
    let before = rounds(&running.console());
    expect(&running, &format!("ROUND {} IS WHOLE", before + 2));
    Files::set(&other.is_away, true);
    expect(&running, &format!("{}/{ROOTIMG}: ", other.url()));
    let before = rounds(&running.console());
    Files::set(&other.is_away, false);
    expect(&running, &format!("ROUND {} IS WHOLE", before + 2));
    let console = running.console();
    assert!(!console.contains("I/O error"), "{console}");
    let sent = one.sent.load(Ordering::SeqCst) + other.sent.load(Ordering::SeqCst);
    assert!(sent > directory.join(ROOTIMG).metadata().unwrap().len(), "{sent} bytes: frames were fetched again");
}

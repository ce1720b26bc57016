//! What a node says and does when something is wrong, on the smallest root. Where a kernel has no part in it, the node is one in
//! namespaces.

use std::sync::Arc;
use std::time::Duration;

use super::machine::{Misdeed, Server, cmdline, expect, start};
use super::namespaced::{Lan, Node};
use super::tiny;

fn directory() -> std::path::PathBuf {
    tiny().space.artefact("tiny", ".").canonicalize().unwrap()
}

/// A server that does nothing wrong.
fn good() -> Arc<Misdeed> {
    Arc::new(|_: &str, _, bytes| Some(bytes))
}

/// Starts a node with words that begin as build.json has them, for a server on a cable.
fn node(lan: &Lan, server: &Server, memory_mib: u64) -> Node {
    let words = cmdline(tiny(), "tiny", &format!("http://10.0.2.2:{}", server.port));
    lan.start(&directory().join("initrd-stateless"), &words, memory_mib)
}

#[test]
fn boot_the_tiny_root_comes_up_from_a_server_without_ranges() {
    let server = Server::start(&directory(), 0, good());
    let words = cmdline(tiny(), "tiny", &format!("http://10.0.2.2:{}", server.port));
    let running = start(tiny(), "tiny", words, |_| {});
    expect(&running, "NODE IS UP: node-525400123456");
    expect(&running, "ROOT IS TMPFS");
    // Nothing in this image runs a network, so the lease is kept for it.
    assert!(running.console().contains("imgbuild-init keeps the lease"), "{}", running.console());
}

#[test]
fn privileged_a_wrong_digest_is_said_and_never_started() {
    let lan = Lan::new();
    let server = Server::start_in(&lan, &directory(), 0, good());
    let words = cmdline(tiny(), "tiny", &format!("http://10.0.2.2:{}", server.port));
    let at = words.find("sha256:").unwrap() + 7;
    let wrong = format!("{}{}{}", &words[..at], "0".repeat(64), &words[at + 64..]);
    let mut node = lan.start(&directory().join("initrd-stateless"), &wrong, 1024);
    // Patience: it goes on asking.
    node.expect_times("wrong digest:", 3);
    assert!(!node.console().contains("NODE IS UP"), "{}", node.console());
}

#[test]
fn privileged_a_corrupt_frame_and_a_broken_stream_are_noticed_and_mended() {
    let misdeed = |name: &str, number: usize, mut bytes: Vec<u8>| {
        if name.ends_with(".zst") {
            match number {
                0 => bytes.truncate(bytes.len() / 2),
                1 => {
                    let last = bytes.len() - 2000;
                    bytes[last] ^= 1;
                }
                _ => {}
            }
        }
        Some(bytes)
    };
    let lan = Lan::new();
    let server = Server::start_in(&lan, &directory(), 0, Arc::new(misdeed));
    let mut node = node(&lan, &server, 1024);
    node.expect("NODE IS UP: node-525400123456");
    node.expect("ROOT IS TMPFS");
    let console = node.console();
    assert!(console.contains("resuming at"), "{console}");
    assert!(console.contains("wrong digest: bytes"), "{console}");
}

#[test]
fn privileged_an_image_that_stays_truncated_is_never_started() {
    let misdeed = |name: &str, _: usize, mut bytes: Vec<u8>| {
        if name.ends_with(".zst") {
            bytes.truncate(bytes.len() - 5000);
        }
        Some(bytes)
    };
    let lan = Lan::new();
    let server = Server::start_in(&lan, &directory(), 0, Arc::new(misdeed));
    let mut node = node(&lan, &server, 1024);
    node.expect_times("truncated, or the connection broke", 2);
    assert!(!node.console().contains("NODE IS UP"), "{}", node.console());
}

#[test]
fn privileged_a_server_that_comes_up_late_is_waited_for() {
    let lan = Lan::new();
    let words = cmdline(tiny(), "tiny", "http://10.0.2.2:8080");
    let mut node = lan.start(&directory().join("initrd-stateless"), &words, 1024);
    node.expect("rootimg.cpio.zst.index:");
    assert!(!node.console().contains("NODE IS UP"));
    let _server = Server::start_in(&lan, &directory(), 8080, good());
    node.expect("NODE IS UP");
}

#[test]
fn privileged_too_little_memory_is_said_before_the_download() {
    let lan = Lan::new();
    let server = Server::start_in(&lan, &directory(), 0, good());
    let mut node = node(&lan, &server, 100);
    node.expect("too little memory: the image needs");
    let console = node.console();
    assert!(console.contains(" and 100 MiB are free"), "{console}");
    assert!(!console.contains("fetching") && !console.contains("NODE IS UP"), "{console}");
}

#[test]
fn boot_a_card_without_driver_is_named() {
    let server = Server::start(&directory(), 0, good());
    let words = cmdline(tiny(), "tiny", &format!("http://10.0.2.2:{}", server.port));
    let running = start(tiny(), "tiny", words, |machine| {
        machine.network = vec![("user,id=net0".to_owned(), "e1000,netdev=net0".to_owned())];
    });
    // The cloud kernel has no e1000.
    expect(&running, "the initrd has no driver for 8086:100e");
    expect(&running, "drivers = [\"+NAME\"]");
}

#[test]
fn boot_rescue_prints_what_is_known() {
    let running = start(tiny(), "tiny", "console=ttyS0 imgbuild.rescue imgurl=http://10.0.2.2/x".to_owned(), |_| {});
    expect(&running, "== end ==");
    let console = running.console();
    for text in [
        "interface     eth0 52:54:00:12:34:56 driver virtio_net",
        "image         http://10.0.2.2/x",
        "lease         10.0.2.15/24",
        "modules       ",
    ] {
        assert!(console.contains(text), "{text}\n{console}");
    }
}

#[test]
fn privileged_without_an_image_the_node_starts_again_after_its_bound() {
    let lan = Lan::new();
    let mut node = lan.start(&directory().join("initrd-stateless"), "imgbuild.reboot_after=2", 1024);
    node.expect("has no imgurl=");
    node.expect("rebooting");
    node.expect_restart();
}

#[test]
fn privileged_a_lease_is_renewed_where_the_image_has_nothing_that_does() {
    let lan = Lan::with_leases(8);
    let server = Server::start_in(&lan, &directory(), 0, good());
    let mut node = node(&lan, &server, 1024);
    node.expect("NODE IS UP");
    assert!(node.console().contains("imgbuild-init keeps the lease"), "{}", node.console());
    // The first one, and two renewals, after half of its time each.
    let began = std::time::Instant::now();
    while lan.acknowledged() < 3 {
        assert!(began.elapsed() < Duration::from_secs(60), "{} leases\n{}", lan.acknowledged(), node.console());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(lan.answers(), "{}", node.console());
}

#[test]
fn privileged_whatever_ends_an_attempt_the_node_tries_again() {
    let lan = Lan::new();
    let index = std::sync::Mutex::new(0u32);
    let misdeed = move |name: &str, _: usize, bytes: Vec<u8>| {
        if !name.ends_with(".index") {
            return Some(bytes);
        }
        let mut lie: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let mut asked = index.lock().unwrap();
        *asked += 1;
        // Frames, memory and sizes that no machine has.
        let (size, memory) = match *asked {
            1 => (1u64 << 62, 0),
            2 => (1, u64::MAX),
            // None comes at all: the attempt waits, and is struck.
            3 => {
                drop(asked);
                std::thread::sleep(Duration::from_secs(60));
                return None;
            }
            _ => return Some(bytes),
        };
        lie["frames"] = serde_json::json!([{"offset": 0, "size": size, "unpacked": 1, "sha256": "0".repeat(64)}]);
        (lie["size"], lie["memory"], lie["xattrs"]) = (size.into(), memory.into(), serde_json::json!([]));
        // As long as the server says that it is.
        Some(format!("{:<width$}", lie.to_string(), width = bytes.len()).into_bytes())
    };
    let server = Server::start_in(&lan, &directory(), 0, Arc::new(misdeed));
    let url = format!("http://10.0.2.2:{}/rootimg.cpio.zst", server.port);
    let words = format!("imgurl={url} console=ttyS0");
    let mut node = lan.start(&directory().join("initrd-stateless"), &words, 1024);
    node.expect_times("too little memory", 2);
    node.expect_times("has 10.0.2.15/24", 3);
    node.strike(rustix::process::Signal::ABORT);
    node.expect("the attempt ended early, with signal 6: it found an error of its own");
    node.expect("NODE IS UP: node-525400123456");
    node.expect("ROOT IS TMPFS");
}

#[test]
fn privileged_a_server_that_drips_is_left_after_the_bound() {
    let lan = Lan::new();
    let words = cmdline(tiny(), "tiny", "http://10.0.2.2:8080");
    lan.enter(|| {
        let listener = std::net::TcpListener::bind(("0.0.0.0", 8080)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    use std::io::Write;
                    let mut stream = stream;
                    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
                    while stream.write_all(b" ").is_ok() {
                        std::thread::sleep(Duration::from_millis(500));
                    }
                });
            }
        });
    });
    let words = format!("{words} imgbuild.reboot_after=6");
    let mut node = lan.start(&directory().join("initrd-stateless"), &words, 1024);
    node.expect("this attempt is given up");
    node.expect("6 seconds without progress: rebooting");
    node.expect_restart();
}

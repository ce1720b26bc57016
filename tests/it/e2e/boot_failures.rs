//! What a node says and does when something is wrong, on the smallest root.

use std::sync::Arc;
use std::time::Duration;

use super::machine::{PATIENCE, Server, cmdline, expect, free_port, start};
use super::tiny;

fn directory() -> std::path::PathBuf {
    tiny().space.artefact("tiny", ".").canonicalize().unwrap()
}

/// A server that does nothing wrong.
fn good(port: u16) -> Server {
    Server::start(&directory(), port, Arc::new(|_: &str, _, bytes| Some(bytes)))
}

fn url(server: &Server) -> String {
    format!("http://10.0.2.2:{}", server.port)
}

#[test]
fn boot_the_tiny_root_comes_up_from_a_server_without_ranges() {
    let server = good(0);
    let running = start(tiny(), "tiny", cmdline(tiny(), "tiny", &url(&server)), |_| {});
    expect(&running, "NODE IS UP: node-525400123456");
    expect(&running, "ROOT IS TMPFS");
    // Nothing in this image runs a network, so the lease is kept for it.
    assert!(running.console().contains("this program keeps the lease"), "{}", running.console());
}

#[test]
fn boot_a_wrong_digest_is_said_and_never_started() {
    let server = good(0);
    let words = cmdline(tiny(), "tiny", &url(&server));
    let at = words.find("sha256:").unwrap() + 7;
    let wrong = format!("{}{}{}", &words[..at], "0".repeat(64), &words[at + 64..]);
    let running = start(tiny(), "tiny", wrong, |_| {});
    expect(&running, "wrong digest:");
    // Patience: it goes on asking.
    let began = std::time::Instant::now();
    while running.console().matches("wrong digest:").count() < 3 {
        assert!(began.elapsed() < PATIENCE, "{}", running.console());
        std::thread::sleep(Duration::from_millis(500));
    }
    let console = running.console();
    assert!(!console.contains("NODE IS UP"), "{console}");
}

#[test]
fn boot_a_corrupt_frame_and_a_broken_stream_are_noticed_and_mended() {
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
    let server = Server::start(&directory(), 0, Arc::new(misdeed));
    let running = start(tiny(), "tiny", cmdline(tiny(), "tiny", &url(&server)), |_| {});
    expect(&running, "NODE IS UP");
    let console = running.console();
    assert!(console.contains("going on at"), "{console}");
    assert!(console.contains("wrong digest: bytes"), "{console}");
}

#[test]
fn boot_an_image_that_stays_truncated_is_never_started() {
    let misdeed = |name: &str, _: usize, mut bytes: Vec<u8>| {
        if name.ends_with(".zst") {
            bytes.truncate(bytes.len() - 5000);
        }
        Some(bytes)
    };
    let server = Server::start(&directory(), 0, Arc::new(misdeed));
    let running = start(tiny(), "tiny", cmdline(tiny(), "tiny", &url(&server)), |_| {});
    expect(&running, "truncated, or the connection broke");
    std::thread::sleep(Duration::from_secs(10));
    assert!(!running.console().contains("NODE IS UP"), "{}", running.console());
}

#[test]
fn boot_a_server_that_comes_up_late_is_waited_for() {
    let port = free_port();
    let words = cmdline(tiny(), "tiny", &format!("http://10.0.2.2:{port}"));
    let running = start(tiny(), "tiny", words, |_| {});
    expect(&running, "rootimg.cpio.zst.index:");
    assert!(!running.console().contains("NODE IS UP"));
    let _server = good(port);
    expect(&running, "NODE IS UP");
}

#[test]
fn boot_too_little_memory_is_said_before_the_download() {
    let server = good(0);
    let running = start(tiny(), "tiny", cmdline(tiny(), "tiny", &url(&server)), |machine| machine.memory_mib = 160);
    expect(&running, "too little memory: the image needs");
    let console = running.console();
    assert!(!console.contains("fetching") && !console.contains("NODE IS UP"), "{console}");
}

#[test]
fn boot_a_card_without_driver_is_named() {
    let server = good(0);
    let running = start(tiny(), "tiny", cmdline(tiny(), "tiny", &url(&server)), |machine| {
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
fn boot_without_an_image_the_node_starts_again_after_its_bound() {
    let running = start(tiny(), "tiny", "console=ttyS0 imgbuild.reboot_after=5".to_owned(), |_| {});
    expect(&running, "has no imgurl=");
    expect(&running, "starting again");
}

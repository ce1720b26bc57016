//! A node with several servers: those that are gone, lack the image, have another one, or go away half way; and who hears of it.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::machine::Server;
use super::namespaced::{Lan, MAC};
use super::tiny;
use crate::support::Space;
use crate::support::server::started;

const BUILD: &str = ".builds/tiny/0123456789ab";

#[test]
fn privileged_a_node_goes_to_another_server_and_reports_to_the_one_that_answered() {
    let built = tiny().space.artefact("tiny", ".").canonicalize().unwrap();
    let space = Space::new();
    let build = space.path().join("out").join(BUILD);
    let other = space.path().join("other");
    std::fs::create_dir_all(&build).unwrap();
    std::fs::create_dir(&other).unwrap();
    for entry in std::fs::read_dir(&built).unwrap().flatten() {
        std::fs::copy(entry.path(), build.join(entry.file_name())).unwrap();
        std::fs::copy(entry.path(), other.join(entry.file_name())).unwrap();
    }
    std::os::unix::fs::symlink(BUILD, space.path().join("out/tiny")).unwrap();
    // A mirror of another build.
    let index = std::fs::read_to_string(other.join("rootimg.cpio.zst.index")).unwrap();
    std::fs::write(other.join("rootimg.cpio.zst.index"), format!("{index}\n")).unwrap();
    let lan = Lan::new();
    let good = || Arc::new(|_: &str, _: usize, bytes: Vec<u8>| Some(bytes));
    let empty = Server::start_in(&lan, space.path(), 0, good());
    let mistaken = Server::start_in(&lan, &other, 0, good());
    // It answers the index, breaks off in the middle of the image, and gives nothing from then on.
    let is_gone = Arc::new(AtomicBool::new(false));
    let gone = Arc::clone(&is_gone);
    let breaks = move |name: &str, _: usize, mut bytes: Vec<u8>| {
        if gone.load(Ordering::Relaxed) {
            return None;
        }
        if name.ends_with(".zst") {
            gone.store(true, Ordering::Relaxed);
            bytes.truncate(bytes.len() / 2);
        }
        Some(bytes)
    };
    let breaking = Server::start_in(&lan, &built, 0, Arc::new(breaks));
    let servers: Vec<String> =
        [1, empty.port, mistaken.port, breaking.port].iter().map(|port| format!("http://10.0.2.2:{port}")).collect();
    space.write("imgbuild.toml", "out = \"out\"\nimages = []\n");
    space.write(
        "nodes.toml",
        &format!("[nodeset]\nservers = {servers:?}\n[node.cn1]\nmac = \"{MAC}\"\nimage = \"tiny\"\n"),
    );
    let mut command = lan.command(env!("CARGO_BIN_EXE_imgbuild"));
    command.args(["serve", "--listen", "0.0.0.0:80"]).current_dir(space.path());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let _server = started(command);
    let script = lan.enter(|| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", 80)).unwrap();
        write!(stream, "GET /-/boot/ipxe?mac={MAC} HTTP/1.1\r\nHost: 10.0.2.2\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let line = script.lines().find_map(|line| line.strip_prefix("kernel ")).unwrap_or_else(|| panic!("{script}"));
    let words: Vec<&str> = line.split(' ').skip(2).filter(|word| !word.contains("${")).collect();
    let image = words.iter().find_map(|word| word.strip_prefix("imgurl=")).unwrap();
    let own = format!("http://10.0.2.2/{BUILD}/rootimg.cpio.zst");
    let named: Vec<&str> = image.split(',').collect();
    let expected: Vec<String> = servers.iter().map(|one| format!("{one}/{BUILD}/rootimg.cpio.zst")).collect();
    assert_eq!(named[0], own);
    assert_eq!(named[1..], expected);
    // The node's own is the first that is gone; the others have the image at their root.
    let plain: Vec<String> = servers.iter().map(|one| format!("{one}/rootimg.cpio.zst")).collect();
    let words: Vec<String> = words
        .iter()
        .map(|word| match word.split_once('=') {
            Some(("imgurl", _)) => format!("imgurl={},{own}", plain.join(",")),
            Some(("imgbuild.report", _)) => word.replace("http://10.0.2.2/", &format!("{}/", servers[0])),
            _ => (*word).to_owned(),
        })
        .collect();
    let mut node = lan.start(&built.join("initrd-stateless"), &format!("{} console=ttyS0", words.join(" ")), 1024);
    node.expect("NODE IS UP: cn1");
    let console = node.console();
    let [first, second, third, fourth] = servers.as_slice() else { panic!() };
    let at = |text: &str| console.find(text).unwrap_or_else(|| panic!("no `{text}`: {console}"));
    let order = [
        at(&format!("; asking {second}")),
        at(&format!("{second}/rootimg.cpio.zst.index: the server answers 404 Not Found; asking {third}")),
        at(&format!("wrong digest: {third}/rootimg.cpio.zst.index")),
        at(&format!("; asking {fourth}")),
        at(&format!("fetching {fourth}/rootimg.cpio.zst")),
        at(" MiB from http://10.0.2.2"),
    ];
    assert!(order.is_sorted(), "{order:?} {console}");
    assert!(console.contains(first) && is_gone.load(Ordering::Relaxed), "{console}");
    // The report went to the server that answered, though the command line names the first one.
    let report = || std::fs::read_to_string(space.path().join(".imgbuild/nodes/reports/cn1.json")).unwrap_or_default();
    let began = Instant::now();
    while !report().contains("\"image\"") {
        assert!(began.elapsed() < Duration::from_secs(90), "{}\n{}", report(), node.console());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn privileged_servers_that_are_all_gone_are_asked_again_until_one_comes_up() {
    let built = tiny().space.artefact("tiny", ".").canonicalize().unwrap();
    let lan = Lan::new();
    let words = super::machine::cmdline(tiny(), "tiny", "http://10.0.2.2:1");
    let words = words.replace("http://10.0.2.2:1/", "http://10.0.2.2:1/x/");
    // The second one has the path of the first.
    let words = words.replace("rootimg.cpio.zst ", "rootimg.cpio.zst,http://10.0.2.2:8080 ");
    let mut node = lan.start(&built.join("initrd-stateless"), &words, 1024);
    node.expect_times("; asking http://10.0.2.2:8080", 2);
    assert!(!node.console().contains("NODE IS UP"));
    let space = Space::new();
    std::os::unix::fs::symlink(&built, space.path().join("x")).unwrap();
    let good = |_: &str, _: usize, bytes: Vec<u8>| Some(bytes);
    let _server = Server::start_in(&lan, space.path(), 8080, Arc::new(good));
    node.expect("NODE IS UP");
}

//! `imgbuild serve` where it needs root, or a node.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use super::machine::cmdline;
use super::namespaced::{Lan, MAC};
use super::tiny;
use crate::support::Space;
use crate::support::server::{Running, published, serving, site, started};

#[test]
fn as_root_it_becomes_an_account_without_capabilities() {
    let space = Space::new();
    published(&space);
    for directory in ["", "out", "out/.builds"] {
        std::fs::set_permissions(space.path().join(directory), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::write(space.path().join("out/private"), "x").unwrap();
    std::fs::set_permissions(space.path().join("out/private"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let server = serving(&space.path().join("out"), &["--user", "nobody"]);
    let status = server.status();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(field("Uid:"), "65534\t65534\t65534\t65534");
    assert_eq!((field("CapEff:"), field("CapPrm:")), ("0".repeat(16), "0".repeat(16)));
    assert_eq!(field("NoNewPrivs:"), "1");
    assert!(server.get("/compute/kernel", "").0.starts_with("http/1.1 200"));
    assert!(server.get("/private", "").0.starts_with("http/1.1 403"));
}

/// What a client says and hears from an address of the server's own network: Python, for it has to bind there.
fn talk(server: &Running, from: &str, port: u16, words: &str) -> String {
    let script = "import socket, sys\n\
                  s = socket.create_connection(('10.9.0.1', int(sys.argv[2])), 20, (sys.argv[1], 0))\n\
                  s.sendall(sys.argv[3].encode().decode('unicode_escape').encode())\n\
                  heard = b''\n\
                  while piece := s.recv(4096): heard += piece\n\
                  print(heard.decode(), end='')\n";
    let output = Command::new("nsenter")
        .args(["-n", "-t", &server.child.id().to_string(), "python3", "-c", script, from, &port.to_string(), words])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_node_is_known_by_its_address_and_the_words_of_xcats_port_are_heard() {
    let space = Space::new();
    site(&space);
    let mut command = Command::new("unshare");
    let script = "ip link set lo up\nfor one in 1 11 12 99; do ip address add 10.9.0.$one/32 dev lo; done\nexec \"$@\"";
    command.args(["-n", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_imgbuild"), "serve", "--listen", "10.9.0.1:80"]);
    command.args(["--xcat", "10.9.0.1:3002"]).current_dir(space.path());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let server = started(command);
    let grub =
        talk(&server, "10.9.0.12", 80, "GET /-/boot/grub HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n");
    assert!(grub.contains("menuentry \"compute\"") && grub.contains("/-/report/cn2/"), "{grub}");
    assert_eq!(talk(&server, "10.9.0.11", 3002, "installstatus booted\\n"), "ready\ndone\n");
    let began = Instant::now();
    while !space.run(&["nodes", "cn1"]).out.contains("up") {
        assert!(began.elapsed() < Duration::from_secs(90), "{}", space.run(&["nodes", "cn1"]).out);
        std::thread::sleep(Duration::from_millis(50));
    }
    // Who is no node is closed without a word.
    assert_eq!(talk(&server, "10.9.0.99", 3002, ""), "");
}

#[test]
fn privileged_a_node_boots_from_its_script_and_tells_how_far_it_is() {
    let space = Space::new();
    let built = tiny().space.artefact("tiny", ".").canonicalize().unwrap();
    let build = space.path().join("out/.builds/tiny/0123456789ab");
    std::fs::create_dir_all(&build).unwrap();
    for entry in std::fs::read_dir(&built).unwrap().flatten() {
        std::fs::copy(entry.path(), build.join(entry.file_name())).unwrap();
    }
    std::os::unix::fs::symlink(".builds/tiny/0123456789ab", space.path().join("out/tiny")).unwrap();
    space.write("imgbuild.toml", "out = \"out\"\nimages = []\n");
    space.write("nodes.toml", &format!("[node.cn1]\nmac = \"{MAC}\"\nimage = \"tiny\"\n"));
    let lan = Lan::new();
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
    // All that the image asks for, of this build.
    let url = "http://10.0.2.2/.builds/tiny/0123456789ab";
    for word in cmdline(tiny(), "tiny", url).split(' ') {
        assert!(words.contains(&word), "{word}: {line}");
    }
    let state = || {
        let text = std::fs::read_to_string(space.path().join(".imgbuild/nodes/reports/cn1.json")).unwrap_or_default();
        serde_json::from_str::<serde_json::Value>(&text).unwrap_or_default()
    };
    assert!(state().is_null() && space.run(&["nodes"]).out.contains("? (asked for its script"), "{}", state());
    // The index is not there at first.
    let (index, aside) = (build.join("rootimg.cpio.zst.index"), space.path().join("aside"));
    std::fs::rename(&index, &aside).unwrap();
    let mut node = lan.start(&built.join("initrd-stateless"), &format!("{} console=ttyS0", words.join(" ")), 1024);
    let began = Instant::now();
    while state()["state"] != "failed" {
        assert!(began.elapsed() < Duration::from_secs(60), "{}\n{}", state(), node.console());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(state()["reason"].as_str().unwrap().contains("404 Not Found"), "{}", state());
    assert_eq!(space.run(&["nodes"]).code, 2);
    std::fs::rename(&aside, &index).unwrap();
    node.expect("NODE IS UP: cn1");
    // Its services would say `up`; the init of this image is a script.
    assert_eq!(state()["state"], "image", "{}", node.console());
    assert!(!node.console().contains("/-/report/"), "the token is on the console:\n{}", node.console());
}

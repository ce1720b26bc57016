//! `imgbuild serve` where it needs root, or a node.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

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
        assert!(began.elapsed() < Duration::from_secs(20), "{}", space.run(&["nodes", "cn1"]).out);
        std::thread::sleep(Duration::from_millis(50));
    }
    // Who is no node is closed without a word.
    assert_eq!(talk(&server, "10.9.0.99", 3002, ""), "");
}

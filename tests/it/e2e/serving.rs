//! `imgbuild serve` where it needs root, or a node.

use std::os::unix::fs::PermissionsExt;

use crate::support::Space;
use crate::support::server::{published, serving};

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

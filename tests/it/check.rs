//! `imgbuild check --as KIND FILE`: what a list means.

use serde_json::Value;

use crate::support::{Ran, Space};

fn check(kind: &str, text: &str) -> (Ran, Value) {
    let space = Space::new();
    space.write("list", text);
    space.write("leaf", "leaf-package\n");
    let path = space.path().join("list");
    let ran = space.run(&["check", "--as", kind, path.to_str().unwrap(), "--json"]);
    let json = serde_json::from_str(&ran.out).unwrap();
    (ran, json)
}

#[test]
fn a_pkglist_shows_its_passes() {
    let (ran, json) = check("pkglist", "bash\n#INCLUDE:leaf#\n#NEW_INSTALL_LIST#\n#ENV:A=1#\nvim\n");
    assert_eq!(ran.code, 0);
    assert_eq!(json["passes"][0]["install"][0]["name"], "bash");
    assert_eq!(json["passes"][0]["install"][1]["name"], "leaf-package");
    assert_eq!(json["passes"][1]["environment"][0]["name"], "A");
    assert_eq!(json["passes"][1]["install"][0]["at"]["line"], 5);
}

#[test]
fn an_error_has_file_and_line_and_exit_code_one() {
    let (ran, json) = check("pkglist", "bash\na;b\n");
    assert_eq!(ran.code, 1);
    assert_eq!(json["findings"][0]["severity"], "error");
    assert_eq!(json["findings"][0]["line"], 2);
    assert_eq!(json["findings"][0]["code"], "pkglist::character");
}

#[test]
fn the_other_kinds_are_understood() {
    let (ran, json) = check("otherpkgs", "sub/dir/pkg\n-old\n--tools\n");
    assert_eq!(ran.code, 0);
    assert_eq!(json["passes"][0]["install"][0]["subdir"], "sub/dir");
    assert_eq!(json["passes"][0]["remove_after"][0]["name"], "tools");
    let (ran, json) = check("exlist", "./usr/share/doc*\n+./usr/share/doc/keep\n");
    assert_eq!(ran.code, 0);
    assert_eq!(json["include"][0]["pattern"], "./usr/share/doc/keep");
    let (ran, json) = check("synclist", "/etc/hosts -> /etc/hosts\nAPPEND:\n/a -> /b\n");
    assert_eq!(ran.code, 0);
    assert_eq!(json["entries"][1]["clause"], "append");
}

#[test]
fn a_list_that_cannot_be_read_is_an_error() {
    let space = Space::new();
    let ran = space.run(&["check", "--as", "exlist", "/nonexistent/list"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("/nonexistent/list"), "{}", ran.err);
}

#[test]
fn words_of_networks_that_the_initrd_does_not_make_are_told() {
    let space = Space::new();
    let image = |words: &str| {
        space.write(
            "image.toml",
            &format!("[image]\nname = \"x\"\nrelease = \"bookworm\"\n\n[boot]\ncmdline = [{words}]\n"),
        );
        space.run(&["check"])
    };
    for good in ["ip=dhcp", "ip=eth0:dhcp", "ip=10.0.0.1::10.0.0.254:255.255.255.0:n1:eth0:none", "ip=:::::eth1:dhcp"] {
        let ran = image(&format!("\"{good}\"")).good();
        assert!(!ran.err.contains("boot::network"), "{good}: {}", ran.err);
    }
    let ran = image("\"ip=eth0.20:dhcp\", \"vlan=eth0.20:eth0\"");
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("the initrd cannot read `ip=eth0.20:dhcp`"), "{}", ran.err);
    assert!(ran.err.contains("does not read `vlan=eth0.20:eth0`"), "{}", ran.err);
    image("\"bond=bond0:eth0,eth1:mode=802.3ad\"").good();
}

//! `imgbuild serve --dnsmasq` without a network: its configuration, which dnsmasq itself checks, and what is refused.

use std::process::Command;

use super::cluster;
use crate::support::{Ran, Space, imgbuild};

fn serve(space: &Space, more: &[&str]) -> Ran {
    space.run(&[&["serve"], more].concat())
}

/// Nodes and loaders' files; the card is this machine's loopback, which each machine has.
fn site() -> Space {
    let space = cluster();
    for name in ["undionly.kpxe", "snponly.efi", "grubnetx64.efi", "lpxelinux.0", "ldlinux.c32"] {
        space.write(&format!("files/{name}"), "x");
    }
    space
}

#[test]
fn its_configuration_is_printed_and_dnsmasq_takes_it() {
    let space = site();
    let files = space.path().join("files");
    let files = files.to_str().unwrap();
    for answers in ["--dnsmasq", "--dnsmasq=proxy", "--dnsmasq=127.0.0.100,127.0.0.199"] {
        let ran = serve(&space, &[answers, "--listen", "127.0.0.1:8080", "--loaders", files, "--print-dnsmasq"]).good();
        assert!(
            ran.out.contains("\ninterface=lo\n") && ran.out.contains("http://127.0.0.1:8080/-/boot/ipxe?mac=${mac}\n"),
            "{}",
            ran.out
        );
        assert!(
            ran.out.contains("dhcp-host=52:54:00:00:00:01,set:imgbuild,set:for-ipxe,cn001,10.0.0.11\n"),
            "{}",
            ran.out
        );
        space.write("printed.conf", &ran.out);
        let file = format!("--conf-file={}", space.path().join("printed.conf").display());
        let Ok(output) = Command::new("dnsmasq").args(["--test", &file]).output() else { continue };
        let _ = std::fs::create_dir_all(space.path().join(".imgbuild/nodes/dnsmasq"));
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), ran.out);
    }
    // Nothing was started, and nothing written.
    assert!(!space.path().join(".imgbuild/nodes/dnsmasq/dnsmasq.conf").exists());
}

#[test]
fn what_cannot_be_answered_is_refused() {
    let space = site();
    let files = space.path().join("files");
    let files = files.to_str().unwrap();
    let told = |more: &[&str], code: i32, words: &[&str]| {
        let ran = serve(&space, &[&["--listen", "127.0.0.1:0", "--loaders", files], more].concat());
        assert_eq!(ran.code, code, "{more:?}: {}", ran.err);
        let said = ran.err.replace(['\n', '│'], " ").split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(said.contains(word), "{more:?} does not say `{word}`: {}", ran.err);
        }
    };
    told(&["--dnsmasq=10.0.0.1", "--print-dnsmasq"], 64, &["expected `proxy`, or the first and the last address"]);
    told(&["--dnsmasq=10.0.0.9,10.0.0.1"], 64, &["the range counts backwards"]);
    told(
        &["--dnsmasq=10.0.0.1,10.0.0.9", "--print-dnsmasq"],
        1,
        &["10.0.0.1 is not in the network of lo, 127.0.0.0/8"],
    );
    told(&["--dnsmasq", "--interface", "eth77", "--print-dnsmasq"], 1, &["there is no network card `eth77`"]);
    told(&["--print-dnsmasq"], 64, &["--dnsmasq"]);
    told(&["--dnsmasq", "--tls-certificate", "x", "--tls-key", "y"], 64, &["cannot be used with"]);
    space.edit("nodes.toml", "loader = \"ipxe\"", "loader = \"pxelinux\"");
    told(&["--dnsmasq=proxy", "--print-dnsmasq"], 1, &["pxelinux cannot be answered beside another DHCP server"]);
    std::fs::remove_file(space.path().join("nodes.toml")).unwrap();
    told(&["--dnsmasq", "--print-dnsmasq"], 1, &["has no nodes.toml", "[node.cn001]"]);
    // A machine without dnsmasq.
    let space = site();
    std::fs::create_dir_all(space.path().join("images/compute/out")).unwrap();
    let mut command = imgbuild();
    command.env("PATH", "/nonexistent").arg("-C").arg(space.path());
    command.args(["serve", "--dnsmasq", "--listen", "127.0.0.1:0", "--loaders", files]);
    let ran: Ran = command.output().unwrap().into();
    assert!(
        ran.code == 3 && ran.err.contains("dnsmasq cannot be run") && ran.err.contains("dnsmasq-base"),
        "{}",
        ran.err
    );
}

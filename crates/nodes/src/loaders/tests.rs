//! Each loader's words, for each processor that it runs on.

use super::*;
use crate::Nodes;

const NODES: &str = "[defaults]\nkernel_args = [\"quiet\"]\n[node.cn001]\nmac = \"52:54:00:00:00:01\"\nip = \"10.0.0.11\"\nconsole = [\"ttyS0\"]\nvariables = { rack = \"r1\" }\n\
    [node.cn002]\nnic = \"eno1\"\nkernel_args = [\"a='b$c'\"]\n";

fn nodes() -> Nodes {
    Nodes::of_file(&SourceFile::new("nodes.toml", "/nodes.toml", NODES)).unwrap()
}

fn bootable() -> Bootable {
    let words = ["imgurl={url}/rootimg.cpio.zst", "imgdigest=sha256:00", "rw"];
    let cmdline = words.iter().map(|word| (*word).to_owned()).collect();
    Bootable { image: "compute".to_owned(), build: "0123456789ab".to_owned(), cmdline, device_trees: Vec::new() }
}

#[test]
fn loaders_with_a_word_for_a_device_tree_load_the_nodes_own() {
    let directory = tempfile::tempdir().unwrap();
    let templates = Templates::read(directory.path(), Loader::ALL).unwrap();
    let text = "[node.a]\nmac = \"52:54:00:00:00:01\"\n[node.b]\nmac = \"52:54:00:00:00:02\"\nvariables = { device_tree = \"two.dtb\" }\n";
    let nodes = Nodes::of_file(&SourceFile::new("nodes.toml", "/nodes.toml", text)).unwrap();
    let of = |trees: &[&str], node: &str, loader: Loader| {
        let device_trees = trees.iter().map(|name| (*name).to_owned()).collect();
        let (bootable, node) = (Bootable { device_trees, ..bootable() }, nodes.get(node).unwrap());
        let boot = Boot {
            node: &node,
            loader,
            bootable: Some(&bootable),
            url: "http://10.0.0.1/i",
            servers: &[],
            report: None,
        };
        boot.files(&templates).unwrap().plain
    };
    let build = "10.0.0.1/i/.builds/compute/0123456789ab";
    let host = build.replacen("10.0.0.1", "(http,10.0.0.1)", 1);
    let grub = of(&["one.dtb"], "a", Loader::Grub);
    assert!(grub.contains(&format!("\n    devicetree {host}/one.dtb\n}}\n")), "{grub}");
    let pxelinux = of(&["one.dtb"], "a", Loader::Pxelinux);
    assert!(pxelinux.contains(&format!("\n    FDT http://{build}/one.dtb\n    APPEND ")), "{pxelinux}");
    // If there are several: the one that the node's variable names, and no other.
    let two = ["one.dtb", "two.dtb"];
    assert!(of(&two, "b", Loader::Grub).contains("/two.dtb\n") && !of(&two, "a", Loader::Grub).contains(".dtb"));
    for loader in [Loader::Ipxe, Loader::Petitboot, Loader::Xnba] {
        assert!(!of(&["one.dtb"], "a", loader).contains(".dtb"));
    }
}

#[test]
fn each_loader_gets_its_own_words() {
    let directory = tempfile::tempdir().unwrap();
    let templates = Templates::read(directory.path(), Loader::ALL).unwrap();
    let (nodes, bootable) = (nodes(), bootable());
    for loader in Loader::ALL {
        let mut text = String::new();
        for (node, bootable) in [("cn001", Some(&bootable)), ("cn002", Some(&bootable)), ("cn001", None)] {
            let node = nodes.get(node).unwrap();
            let url = loader.own_url().unwrap_or("http://10.0.0.1/images");
            let files =
                Boot { node: &node, loader, bootable, url, servers: &[], report: None }.files(&templates).unwrap();
            text.push_str(&format!("== {}\n{}", files.paths.join(" "), files.plain));
            text.extend(files.uefi.filter(|_| bootable.is_some()).map(|uefi| format!("-- uefi\n{uefi}")));
        }
        insta::assert_snapshot!(loader.name(), text);
    }
}

#[test]
fn a_site_has_templates_of_its_own_and_mistakes_have_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let (nodes, bootable) = (nodes(), bootable());
    let node = nodes.get("cn001").unwrap();
    let render = |text: &str| {
        std::fs::create_dir_all(directory.path().join(TEMPLATES)).unwrap();
        std::fs::write(directory.path().join(TEMPLATES).join("ipxe.j2"), text).unwrap();
        let templates = Templates::read(directory.path(), [Loader::Ipxe])?;
        let boot = Boot {
            node: &node,
            loader: Loader::Ipxe,
            bootable: Some(&bootable),
            url: "http://s/{image}",
            servers: &["http://s/compute".to_owned(), "http://[fd00::2]:81/{image}/".to_owned()],
            report: None,
        };
        boot.files(&templates).map(|files| files.plain)
    };
    assert_eq!(
        render("{{ node }} {{ vars.rack }} {{ kernel }}\n").unwrap(),
        "cn001 r1 http://s/compute/.builds/compute/0123456789ab/kernel\n"
    );
    // The server that it came from is not named again.
    assert_eq!(
        render("{{ words[0] }}\n").unwrap(),
        "imgurl=http://s/compute/.builds/compute/0123456789ab/rootimg.cpio.zst,http://[fd00::2]:81/compute/.builds/compute/0123456789ab/rootimg.cpio.zst\n"
    );
    for (text, line) in [
        ("#!ipxe\n{{ kernal }}\n", 2),
        ("#!ipxe\n\n{% if x\n", 3),
        ("a\n{{ vars.none }}", 2),
        ("{{ mac | nosuch }}", 1),
    ] {
        let finding = render(text).unwrap_err();
        assert_eq!(
            finding.span.as_ref().map(|span| (span.file.name.as_str(), span.line())),
            Some(("loaders/ipxe.j2", line)),
            "{text}: {finding:?}"
        );
    }
}

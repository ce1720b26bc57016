//! `nodes`: who they are, each value with its place, and what other programs take of them.

mod dhcp;
mod lists;
pub(crate) mod needs;
pub mod nodeset;
mod page;
mod reports;
mod restarts;
mod roll;
mod site;

use std::process::Command;

use crate::support::{Space, without_paths};

/// A workspace with the images `compute` and `gpu`, and three nodes with a login node.
pub fn cluster() -> Space {
    let space = Space::new();
    space.write("imgbuild.toml", "images = [\"images/*\"]\n");
    for name in ["compute", "gpu"] {
        let text = format!("[image]\nname = \"{name}\"\nrelease = \"bookworm\"\n");
        space.write(&format!("images/{name}/image.toml"), &text);
    }
    space.write("nodes.toml", NODES);
    space
}

pub const NODES: &str = r#"# Our cluster.
[defaults]
loader = "ipxe"
kernel_args = ["console=ttyS0,115200"]

[group.compute]
nodes = "cn[001-003]"
image = "compute"

[group.login]
nodes = "login1"
image = "gpu"

[node."cn[001-003]"]       # the rack
ip = "10.0.0.[11-13]"

[node.cn001]
mac = "52:54:00:00:00:01"
[node.cn002]
mac = "52:54:00:00:00:02"  # moved in May
kernel_args = ["nosmt"]
[node.cn003]
mac = "52:54:00:00:00:03"
[node.login1]
mac = "52:54:00:00:00:04"
ip = "10.0.0.4"
"#;

#[test]
fn nodes_are_listed_and_each_value_has_its_line() {
    let space = cluster();
    insta::assert_snapshot!("list", space.run(&["nodes"]).good().out);
    assert_eq!(space.run(&["nodes", "@compute!cn002", "--fold"]).good().out, "cn[001,003]\n");
    insta::assert_snapshot!("effective", space.run(&["nodes", "cn002", "--effective"]).good().out);
    let json: serde_json::Value =
        serde_json::from_str(&space.run(&["nodes", "cn00*", "--json", "--effective"]).good().out).unwrap();
    crate::schemas::assert_valid("nodelist", &json);
    assert_eq!(json["nodes"].as_array().unwrap().len(), 3);
    let values = json["nodes"][1]["values"].as_array().unwrap();
    let image = values.iter().find(|one| one["key"] == "image").unwrap();
    assert_eq!((image["file"].as_str(), image["line"].as_u64()), (Some("nodes.toml"), Some(8)));
    // The file fits its own schema.
    crate::schemas::assert_valid("nodes", &toml::from_str(NODES).unwrap());
}

#[test]
fn what_is_wrong_with_nodes_is_told_with_its_place() {
    let space = cluster();
    let told = |arguments: &[&str]| {
        let ran = space.run(arguments);
        assert_eq!(ran.code, 1, "{}", ran.err);
        without_paths(&ran.err, &space)
    };
    insta::assert_snapshot!("unknown", told(&["nodes", "cn[001-004]"]));
    insta::assert_snapshot!("backwards", told(&["nodes", "cn[3-1]"]));
    space.write("nodes.toml", &NODES.replace("image = \"gpu\"", "image = \"gpuu\""));
    insta::assert_snapshot!("no_image", told(&["nodes"]));
    // `check` says the same.
    assert!(told(&["check"]).contains("the workspace has no image `gpuu`"));
    space.write("nodes.toml", &NODES.replace("00:00:02", "00:00:01"));
    insta::assert_snapshot!("two_macs", told(&["nodes"]));
    std::fs::remove_file(space.path().join("nodes.toml")).unwrap();
    assert!(told(&["nodes"]).contains("has no nodes.toml"));
    space.run(&["check"]).good();
}

#[test]
fn a_failed_node_ends_with_code_2() {
    let space = cluster();
    let report = |node: &str, state: &str| {
        let text = format!(
            "{{\"format_version\": \"1.0\", \"state\": \"{state}\", \"reason\": \"no\\u001b[2J disk\", \"time\": 1}}"
        );
        space.write(&format!(".imgbuild/nodes/reports/{node}.json"), &text);
    };
    report("cn001", "up");
    assert_eq!(space.run(&["nodes"]).code, 0);
    report("cn002", "failed");
    let ran = space.run(&["nodes"]);
    assert_eq!(ran.code, 2);
    assert!(ran.out.contains("failed: no\\u{1b}[2J disk"), "{}", ran.out);
    assert!(ran.err.contains("4 nodes: 2 without a report, 1 up, 1 failed"), "{}", ran.err);
    assert_eq!(space.run(&["nodes", "cn001", "--json"]).code, 0);
    // All have reported: there is nothing to wait for.
    report("cn003", "up");
    report("login1", "up");
    let ran = space.run(&["nodes", "--watch"]);
    assert_eq!((ran.code, ran.out.lines().count()), (2, 4), "{}", ran.out);
    assert_eq!(space.run(&["nodes", "--watch", "cn00[1,3]"]).code, 0);
}

#[test]
fn dnsmasq_takes_its_words() {
    let space = cluster();
    let hosts = space.run(&["nodes", "--format", "dnsmasq"]).good().out;
    assert!(hosts.contains("dhcp-host=52:54:00:00:00:01,set:imgbuild,cn001,10.0.0.11\n"), "{hosts}");
    space.write("dnsmasq.conf", &format!("dhcp-range=10.0.0.100,10.0.0.199,12h\n{hosts}"));
    let file = format!("--conf-file={}", space.path().join("dnsmasq.conf").display());
    let Ok(output) = Command::new("dnsmasq").args(["--test", &file]).output() else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

//! Nodes that their file pins, and addresses.

use std::path::Path;

use crate::facts::tests::{image, node};
use crate::kinds::{Consent, Request, apply, plan};
use crate::{Destination, Error, Image, Node, Report};

const PINNED: &str = "nodes/01-aa-bb-cc-00-00-02.ipxe";

fn publish(to: &Path, image: &Image, nodes: &[Node]) -> Report {
    let destination: Destination = format!("tree:{}", to.display()).parse().unwrap();
    let request = Request { image, nodes, destination: &destination, consent: Consent::KeepForeign };
    let planned = plan(&request).unwrap();
    let done = apply(&request).unwrap();
    assert_eq!((&planned.items, &planned.warnings), (&done.items, &done.warnings));
    done
}

#[test]
fn a_pinned_node_boots_its_build_however_often_others_are_published() {
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("to");
    let builds = ["one", "two", "three", "four"].map(|seed| image(&place.path().join(seed), seed));
    let mut nodes = [node("n01", "aa:bb:cc:00:00:01"), node("n02", "aa:bb:cc:00:00:02")];
    publish(&to, &builds[0], &nodes);
    let script = std::fs::read_to_string(to.join(PINNED)).unwrap();
    // A pin may be shorter than the name of a build.
    nodes[1].build = Some(builds[0].build[..8].to_owned());
    for build in &builds[1..] {
        let report = publish(&to, build, &nodes);
        assert!(report.warnings.iter().any(|text| text.starts_with("n02 stays with build ")), "{:?}", report.warnings);
        assert_eq!(std::fs::read_to_string(to.join(PINNED)).unwrap(), script);
        assert_eq!(std::fs::read(to.join(format!("builds/{}/kernel", builds[0].build))).unwrap(), b"one");
        assert!(std::fs::read_to_string(to.join("boot.ipxe")).unwrap().contains("chain "));
    }
    assert_eq!(std::fs::read_dir(to.join("builds")).unwrap().count(), 3);
    // Without the pin it gets the newest one, and the old build goes with the next.
    nodes[1].build = None;
    publish(&to, &builds[3], &nodes);
    assert!(std::fs::read_to_string(to.join(PINNED)).unwrap().contains(&builds[3].build));
    publish(&to, &builds[1], &nodes);
    publish(&to, &builds[2], &nodes);
    assert!(!to.join("builds").join(&builds[0].build).exists());
}

#[test]
fn a_node_whose_build_is_not_there_boots_no_other_one() {
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("to");
    let image = image(&place.path().join("out"), "one");
    let mut nodes = [node("n01", "aa:bb:cc:00:00:01"), node("n02", "aa:bb:cc:00:00:02")];
    publish(&to, &image, &nodes);
    nodes[1].build = Some("0123456789abcdef".to_owned());
    let report = publish(&to, &image, &nodes);
    assert!(report.warnings[0].starts_with("n02 is pinned to build 0123456789abcdef, which was not"), "{report:?}");
    let script = std::fs::read_to_string(to.join(PINNED)).unwrap();
    assert!(script.ends_with("reboot\n") && !script.contains("kernel "), "{script}");
    assert!(!publish(&to, &image, &nodes).changes());
    // Where all nodes are pinned the first script leads to theirs too.
    publish(&to, &image, &nodes[1..]);
    assert!(std::fs::read_to_string(to.join("boot.ipxe")).unwrap().contains("chain "));
}

#[test]
fn nodes_that_lose_their_own_words_are_a_warning() {
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("to");
    let builds = ["one", "two"].map(|seed| image(&place.path().join(seed), seed));
    assert_eq!(publish(&to, &builds[0], &[]).warnings, [""; 0]);
    publish(&to, &builds[0], &[node("n01", "aa:bb:cc:00:00:01")]);
    let report = publish(&to, &builds[1], &[]);
    assert!(report.warnings[0].contains("no node of nodes.toml boots this image"), "{:?}", report.warnings);
}

#[test]
fn words_that_end_a_command_of_the_script_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let image = image(&place.path().join("out"), "one");
    let mut nodes = [node("n01", "aa:bb:cc:00:00:01")];
    nodes[0].kernel_args.extend(["||".to_owned(), "shell".to_owned()]);
    let destination: Destination = format!("tree:{}", place.path().join("to").display()).parse().unwrap();
    let request = Request { image: &image, nodes: &nodes, destination: &destination, consent: Consent::KeepForeign };
    assert!(matches!(plan(&request), Err(Error::Unfit { .. })));
    assert!(matches!(apply(&request), Err(Error::Unfit { .. })));
    assert!(!place.path().join("to").exists());
}

#[test]
fn an_address_of_the_destination_is_in_the_scripts() {
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("to");
    let image = image(&place.path().join("out"), "one");
    let destination: Destination = format!("tree:{}?files=https://10.0.0.5/c", to.display()).parse().unwrap();
    let request = Request { image: &image, nodes: &[], destination: &destination, consent: Consent::KeepForeign };
    apply(&request).unwrap();
    let script = std::fs::read_to_string(to.join("boot.ipxe")).unwrap();
    assert!(
        script.contains("|| set imgbuild-base https://10.0.0.5/c\n") && !script.contains("next-server"),
        "{script}"
    );
}

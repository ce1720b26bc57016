//! `update --security` and `plan --against --db` where nothing is resolved: names that are not known, what has no mend, which advisories a
//! lock brings.

use serde_json::{Value, json};

use crate::schemas::assert_valid;
use crate::support::cluster::{PASSES, cluster, lock};
use crate::support::{Ran, Space};

/// A record of OSV on a source package of Debian 12.
fn record(space: &Space, id: &str, source: &str, events: Value) -> String {
    let record = json!({
        "id": format!("DEBIAN-{id}"),
        "modified": "2026-01-01T00:00:00Z",
        "affected": [{
            "package": { "ecosystem": "Debian:12", "name": source },
            "ranges": [{ "type": "ECOSYSTEM", "events": events }],
        }],
    });
    let name = format!("{id}.json");
    space.write(&name, &record.to_string());
    space.path().join(name).display().to_string()
}

fn image_lock(space: &Space) -> String {
    std::fs::read_to_string(space.path().join("image.lock")).unwrap()
}

#[test]
fn an_id_that_no_source_knows_names_the_option_for_files() {
    let space = cluster();
    let file = record(&space, "CVE-2026-0001", "elsewhere", json!([{ "introduced": "0" }]));
    let before = image_lock(&space);
    let security = |ids: &[&str]| -> Ran { space.run(&[&["update", "--security"], ids, &["--db", &file]].concat()) };
    let ran = security(&["CVE-2026-9999", "CVE-2026-0001"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
    assert!(
        ran.err.contains("no source of advisories knows `CVE-2026-9999`") && ran.err.contains("--db FILE"),
        "{}",
        ran.err
    );
    // An image in the place of a name.
    let ran = security(&["compute"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("imgbuild update compute --security"), "{}", ran.err);
    // Known by its own name and by that of the vulnerability, about packages that are not here.
    for id in ["CVE-2026-0001", "debian-cve-2026-0001"] {
        let ran = security(&[id]);
        assert!(ran.err.contains("no package of these images is affected"), "{}", ran.err);
    }
    assert_eq!(image_lock(&space), before);
    for words in [&["update", "--db", &file][..], &["update", "--json"], &["update", "--security", "--package", "udev"]]
    {
        assert_eq!(space.run(words).code, 64, "{words:?}");
    }
}

#[test]
fn what_has_no_mend_is_left_and_nothing_is_written() {
    let space = cluster();
    let file = record(&space, "CVE-2026-0001", "htop", json!([{ "introduced": "0" }]));
    let before = image_lock(&space);
    let ran = space.run(&["update", "--security", "--db", &file]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.out.contains("CVE-2026-0001") && ran.out.contains("no fixed version is published yet"), "{}", ran.out);
    assert!(ran.err.contains("image.lock is unchanged"), "{}", ran.err);
    let ran = space.run(&["update", "--security", "CVE-2026-0001", "--json", "--db", &file]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_valid("update", &document);
    let image = &document["images"][0];
    assert_eq!((&image["updated"], &image["open"][0]["reason"]), (&Value::from(false), &Value::from("no_fix")));
    assert_eq!(image_lock(&space), before);
}

#[test]
fn a_merge_request_shows_which_advisories_go_and_come() {
    let space = cluster();
    let goes = record(&space, "CVE-2026-0001", "less", json!([{ "introduced": "0" }, { "fixed": "590-3" }]));
    let comes = record(&space, "CVE-2026-0002", "less", json!([{ "introduced": "590-3" }]));
    let stays = record(&space, "CVE-2026-0003", "htop", json!([{ "introduced": "0" }]));
    let files = ["--db", goes.as_str(), "--db", &comes, "--db", &stays];
    let plan = |more: &[&str]| space.run(&[&["plan", "--against", "HEAD"], &files[..], more].concat()).good().out;
    assert!(!plan(&[]).contains("advisories that"), "nothing differs");
    space.write("image.lock", &lock(&PASSES).replace("590-2", "590-3"));
    let text = plan(&[]);
    assert!(text.contains("note: advisories that go: CVE-2026-0001 (less)"), "{text}");
    assert!(text.contains("note: advisories that come: CVE-2026-0002 (less)"), "{text}");
    let document: Value = serde_json::from_str(&plan(&["--json"])).unwrap();
    let change = &document["images"][0]["advisories"];
    assert_eq!((&change["gone"][0]["version"], &change["come"][0]["version"]), (&json!("590-2"), &json!("590-3")));
    assert_eq!(change["left"], 1);
    assert!(plan(&["--format", "markdown"]).contains("CVE-2026-0001"));
    assert_eq!(space.run(&["plan", "--db", &goes]).code, 64);
}

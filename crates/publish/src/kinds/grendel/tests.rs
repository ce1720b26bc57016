//! Against a server made from the rules of Grendel; each rule names its source.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{apply, plan};
use crate::kinds::servers::fake::{Asked, Said, Server, image, node, request};
use crate::{Change, Consent, Destination, Report, Request};

#[derive(Default)]
struct Kept {
    images: Vec<Value>,
    hosts: Vec<Value>,
}

fn refused(detail: &str) -> Said {
    (500, json!({"title": "Error", "status": 500, "detail": detail}).to_string())
}

/// Source: ubccr/grendel, internal/api/bootimg.go and node.go, internal/store/sqlstore/sqlstore.go.
fn grendel(kept: &Mutex<Kept>, asked: &Asked) -> Said {
    let mut kept = kept.lock().unwrap();
    let body = asked.json();
    match (asked.method.as_str(), asked.path.split('?').next().unwrap()) {
        ("GET", "/v1/images") => (200, json!(kept.images).to_string()),
        ("GET", "/v1/nodes") => (200, json!(kept.hosts).to_string()),
        ("POST", "/v1/images") => {
            for one in body["boot_images"].as_array().unwrap() {
                // `KernelUpsert` goes by the id: a second one of a name breaks the table's rule.
                let at = kept.images.iter().position(|old| old["id"] == one["id"] && !one["id"].is_null());
                if at.is_none() && kept.images.iter().any(|old| old["name"] == one["name"]) {
                    return refused("failed to add image(s)");
                }
                let mut one = one.clone();
                match at {
                    Some(at) => kept.images[at] = one,
                    None => {
                        one["id"] = json!(kept.images.len() + 1);
                        kept.images.push(one);
                    }
                }
            }
            (200, json!({"title": "Success", "detail": "", "changed": 1}).to_string())
        }
        ("PATCH", "/v1/nodes/image") => {
            // `SetBootImage`: an image that is not there is refused.
            if !kept.images.iter().any(|one| one["name"] == body["image"]) {
                return refused("failed to update boot images");
            }
            let names: Vec<&str> = asked.path.split("nodeset=").nth(1).unwrap().split(',').collect();
            let hosts = kept.hosts.iter_mut().filter(|host| names.contains(&host["name"].as_str().unwrap()));
            hosts.for_each(|host| host["boot_image"] = body["image"].clone());
            (200, json!({"title": "Success", "detail": "", "changed": names.len()}).to_string())
        }
        _ => (404, String::new()),
    }
}

fn site(hosts: Value) -> (Arc<Mutex<Kept>>, Server) {
    let kept = Arc::new(Mutex::new(Kept { images: Vec::new(), hosts: hosts.as_array().unwrap().clone() }));
    let for_server = Arc::clone(&kept);
    (kept, Server::start(move |asked| grendel(&for_server, asked)))
}

fn host(name: &str, tags: &[&str]) -> Value {
    json!({"name": name, "provision": true, "boot_image": "", "tags": tags, "interfaces": [{"mac": "aa:bb:cc:00:00:01"}]})
}

fn changes(report: &Report) -> Vec<Change> {
    report.items.iter().map(|item| item.change).filter(|change| *change != Change::Unchanged).collect()
}

#[test]
fn images_of_builds_come_first_and_hosts_last() {
    let (kept, server) = site(json!([host("n01", &["imgbuild"]), host("n02", &["imgbuild", "rack1"])]));
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("srv");
    let destination: Destination = format!("grendel:{}?dir={}", server.url, directory.display()).parse().unwrap();
    let first = image(&place.path().join("1"), "b1");
    let nodes = [node("n01", "aa:bb:cc:00:00:01", &[], None), node("n02", "aa:bb:cc:00:00:02", &["debug"], None)];
    let report = plan(&request(&first, &nodes, &destination)).unwrap();
    assert!(report.changes() && server.writes().is_empty() && !directory.exists());
    apply(&request(&first, &nodes, &destination)).unwrap();
    let at = directory.join("compute/b1");
    assert!(at.join("kernel").is_file() && at.join("rootimg.sfs.index").is_file());
    {
        let kept = kept.lock().unwrap();
        let names: Vec<&str> = kept.images.iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert!(names[0] == "compute-b1" && names[1].starts_with("compute-b1-") && names[2] == "compute", "{names:?}");
        let line = kept.images[1]["cmdline"].as_str().unwrap();
        let start = "imgurl={{$.endpoints.RepoURL}}/compute/b1/rootimg.sfs imgdigest=sha256:ab console=tty0 quiet debug imgbuild.published=";
        assert!(line.starts_with(start), "{line}");
        assert_eq!(kept.images[0]["kernel"], json!(at.join("kernel").display().to_string()));
        assert_eq!(
            (&kept.hosts[0]["boot_image"], &kept.hosts[1]["boot_image"]),
            (&json!("compute-b1"), &json!(names[1]))
        );
        assert_eq!(kept.hosts[1]["tags"], json!(["imgbuild", "rack1"]));
    }
    assert_eq!(server.writes()[..3], ["POST /v1/images"; 3]);
    assert!(server.writes()[3..].iter().all(|one| one.starts_with("PATCH /v1/nodes/image?nodeset=")));
    assert!(!apply(&request(&first, &nodes, &destination)).unwrap().changes());

    // The next build, with a node that stays.
    let second = image(&place.path().join("2"), "b2");
    let nodes = [node("n01", "aa:bb:cc:00:00:01", &[], Some("b1")), nodes[1].clone()];
    apply(&request(&second, &nodes, &destination)).unwrap();
    {
        let mut kept = kept.lock().unwrap();
        assert_eq!(kept.hosts[0]["boot_image"], json!("compute-b1"));
        assert!(kept.hosts[1]["boot_image"].as_str().unwrap().starts_with("compute-b2-"));
        let plain = kept.images.iter_mut().find(|one| one["name"] == "compute").unwrap();
        assert!(plain["kernel"].as_str().unwrap().contains("/b2/") && plain["id"] == json!(3));
        plain["cmdline"] = json!(format!("{} debug", plain["cmdline"].as_str().unwrap()));
    }
    let report = plan(&request(&second, &nodes, &destination)).unwrap();
    assert_eq!(changes(&report), [Change::Drift]);
    assert!(report.warnings.iter().any(|text| text.contains("image compute` was changed by hand")), "{report:?}");
}

#[test]
fn images_and_hosts_of_the_site_are_refused_with_the_remedy() {
    let (kept, server) = site(json!([host("n01", &[])]));
    let place = tempfile::tempdir().unwrap();
    let destination: Destination =
        format!("grendel:{}?dir={}", server.url, place.path().join("srv").display()).parse().unwrap();
    let image = image(&place.path().join("1"), "b1");
    let nodes = [node("n01", "aa:bb:cc:00:00:01", &[], None), node("n09", "aa:bb:cc:00:00:09", &[], None)];
    let error = apply(&request(&image, &nodes, &destination)).unwrap_err();
    assert!(format!("{error:?}").contains("grendel node tag n01 imgbuild"), "{error:?}");
    assert!(server.writes().is_empty() && !place.path().join("srv").exists());
    kept.lock()
        .unwrap()
        .images
        .push(json!({"id": 1, "name": "compute", "kernel": "/k", "initrd": [], "cmdline": "quiet"}));
    let error = apply(&request(&image, &[], &destination)).unwrap_err();
    assert!(error.to_string().contains("the image `compute` was not written by imgbuild"), "{error}");
    let replacing = Request { consent: Consent::ReplaceForeign, ..request(&image, &nodes, &destination) };
    let report = apply(&replacing).unwrap();
    assert!(report.warnings.iter().any(|text| text.contains("no host n09")), "{report:?}");
    assert_eq!(kept.lock().unwrap().images[0]["id"], json!(1));
}

#[test]
fn a_file_of_images_keeps_what_the_site_wrote() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("srv/images.json");
    let destination: Destination = format!("grendel:{}", path.display()).parse().unwrap();
    let image = image(&place.path().join("1"), "b1");
    std::fs::create_dir(place.path().join("srv")).unwrap();
    std::fs::write(&path, r#"[{"name": "rescue", "kernel": "/k", "verify": true}]"#).unwrap();
    let nodes = [node("n01", "aa:bb:cc:00:00:01", &[], None)];
    let report = apply(&request(&image, &nodes, &destination)).unwrap();
    let all: Vec<Value> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(all[0], json!({"name": "rescue", "kernel": "/k", "verify": true}));
    assert_eq!(all[1..].iter().map(|one| one["name"].as_str().unwrap()).collect::<Vec<_>>(), ["compute-b1", "compute"]);
    assert_eq!(
        report.next,
        [format!("grendel image import {}", path.display()), "grendel node image n01 compute-b1".to_owned()]
    );
    assert!(!apply(&request(&image, &nodes, &destination)).unwrap().changes());
    std::fs::write(&path, "- name: x").unwrap();
    assert!(apply(&request(&image, &nodes, &destination)).unwrap_err().to_string().contains("not a list in JSON"));
}

#[test]
fn what_grendel_would_read_otherwise_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let destination: Destination = format!("grendel:{}", place.path().join("images.json").display()).parse().unwrap();
    let image = image(&place.path().join("1"), "b1");
    let error = |word: &str| {
        let nodes = [node("n01", "aa:bb:cc:00:00:01", &[word], None)];
        apply(&request(&image, &nodes, &destination)).unwrap_err().to_string()
    };
    assert!(error("a={{.x}}").contains("part of a template"));
    assert!(error("a=b c").contains("has spaces"));
    assert!(error(&format!("a={}", "b".repeat(2048))).contains("the limit is 2047"));
    let url: Destination = "grendel:http://127.0.0.1:1".parse().unwrap();
    assert!(apply(&request(&image, &[], &url)).unwrap_err().to_string().contains("names no directory there"));
}

#[test]
fn a_file_of_images_is_changed_by_one_at_a_time_and_never_through_a_link() {
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("srv");
    let destination: Destination = format!("grendel:{}", to.join("images.json").display()).parse().unwrap();
    let images: Vec<_> = (0..6)
        .map(|number| {
            let mut one = image(&place.path().join(format!("out{number}")), "b1");
            one.name = format!("image{number}");
            one
        })
        .collect();
    std::thread::scope(|scope| {
        for one in &images {
            let destination = &destination;
            scope.spawn(move || apply(&request(one, &[], destination)).unwrap());
        }
    });
    let text = std::fs::read_to_string(to.join("images.json")).unwrap();
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(all.len(), 2 * images.len(), "{text}");
    let outside = place.path().join("outside");
    std::fs::rename(to.join("images.json"), &outside).unwrap();
    std::os::unix::fs::symlink(&outside, to.join("images.json")).unwrap();
    assert!(apply(&request(&images[0], &[], &destination)).is_err());
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), text);
}

//! Against servers made from the rules of BSS, SMD and boot-service; each rule names its source.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{apply, plan};
use crate::kinds::servers::fake::{Asked, Said, Server, image, node, request};
use crate::{Change, Destination, Error, Node, Report};

const MAC1: &str = "aa:bb:cc:00:00:01";
const MAC2: &str = "aa:bb:cc:00:00:02";

type Kept<T> = Arc<Mutex<T>>;

/// Files by PUT, as any server of files has them.
fn files(kept: &Kept<BTreeMap<String, Vec<u8>>>, asked: &Asked) -> Said {
    let mut kept = kept.lock().unwrap();
    match asked.method.as_str() {
        "PUT" => {
            kept.insert(asked.path.clone(), asked.body.clone());
            (201, String::new())
        }
        "GET" => match kept.get(&asked.path) {
            Some(bytes) => (200, String::from_utf8_lossy(bytes).into_owned()),
            None => (404, String::new()),
        },
        _ => (405, String::new()),
    }
}

/// BSS with etcd. Source: bss, cmd/boot-script-service/default_api.go and boot_data.go.
fn bss(kept: &Kept<BTreeMap<String, Value>>, asked: &Asked) -> Said {
    let mut kept = kept.lock().unwrap();
    let body = asked.json();
    let list = |field: &str| -> Vec<String> {
        body[field].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    // The first kind of selector alone counts (`Store`); what SMD does not know is kept under its MAC address.
    let keys = if list("hosts").is_empty() { list("macs") } else { list("hosts") };
    match asked.method.as_str() {
        // `BootparametersGetAll`: the key is the host; nothing at all is `null`.
        "GET" if kept.is_empty() => (200, "null".to_owned()),
        "GET" => {
            let all: Vec<Value> = kept
                .iter()
                .map(|(key, one)| json!({"hosts": [key], "params": one["params"], "kernel": one["kernel"], "initrd": one["initrd"]}))
                .collect();
            (200, json!(all).to_string())
        }
        // `StoreNew`: what is there is refused. `CheckXnames`: hosts of POST are nodes.
        "POST" if keys.iter().any(|key| kept.contains_key(key)) => (400, "Bad Request: Already exists".to_owned()),
        "POST" if list("hosts").iter().any(|host| !host.starts_with('x')) => {
            (400, "Bad Request: invalid xname".to_owned())
        }
        "POST" => {
            keys.into_iter().for_each(|key| drop(kept.insert(key, body.clone())));
            (201, String::new())
        }
        // `Update`: 404 where one is missing; fields that are not in it stay.
        "PATCH" if keys.iter().any(|key| !kept.contains_key(key)) => (404, "Not Found".to_owned()),
        "PATCH" => {
            for key in keys {
                for field in ["params", "kernel", "initrd"] {
                    kept.entry(key.clone()).or_default()[field] = body[field].clone();
                }
            }
            (200, String::new())
        }
        _ => (405, String::new()),
    }
}

struct Site {
    bss: Kept<BTreeMap<String, Value>>,
    files: Kept<BTreeMap<String, Vec<u8>>>,
    server: Server,
}

fn site() -> Site {
    let documents: Kept<BTreeMap<String, Value>> = Kept::default();
    let kept: Kept<BTreeMap<String, Vec<u8>>> = Kept::default();
    let (for_server, files_there) = (Arc::clone(&documents), Arc::clone(&kept));
    let server = Server::start(move |asked| {
        match asked.path.as_str() {
        "/boot/v1/bootparameters" => bss(&for_server, asked),
        // smd, doCompEthInterfacesGetV2: all, boards among them.
        "/hsm/v2/Inventory/EthernetInterfaces" => (
            200,
            json!([{"MACAddress": MAC1.to_uppercase(), "ComponentID": "x1000c0s0b0n0"}, {"MACAddress": "", "ComponentID": "x1000c0s0b0"}])
                .to_string(),
        ),
        _ => files(&files_there, asked),
    }
    });
    Site { bss: documents, files: kept, server }
}

impl Site {
    fn destination(&self) -> Destination {
        format!("openchami:{0}/images?bss={0}", self.server.url).parse().unwrap()
    }
}

fn changes(report: &Report) -> Vec<Change> {
    report.items.iter().map(|item| item.change).filter(|change| *change != Change::Unchanged).collect()
}

fn two() -> [Node; 2] {
    [node("n01", MAC1, &[], None), node("n02", MAC2, &["console=ttyS1"], None)]
}

#[test]
fn files_come_first_and_documents_lead_to_them() {
    let (site, place) = (site(), tempfile::tempdir().unwrap());
    let (image, nodes, destination) = (image(place.path(), "b1"), two(), site.destination());
    let report = plan(&request(&image, &nodes, &destination)).unwrap();
    assert_eq!(changes(&report).len(), 6, "{report:?}");
    assert!(site.server.writes().is_empty(), "{:?}", site.server.writes());
    let report = apply(&request(&image, &nodes, &destination)).unwrap();
    let writes = site.server.writes();
    let folder = "/images/compute/b1/x86_64";
    let names = ["vmlinuz", "initramfs.img", "rootfs.squashfs", "rootfs.squashfs.index", "imgbuild.json"];
    let expected: Vec<String> = names.map(|name| format!("PUT {folder}/{name}")).into();
    assert_eq!(writes[..5], expected);
    assert_eq!(writes[5..], ["POST /boot/v1/bootparameters", "POST /boot/v1/bootparameters"]);
    let kept = site.bss.lock().unwrap().clone();
    assert_eq!(kept.keys().collect::<Vec<_>>(), [MAC2, "x1000c0s0b0n0"]);
    let line = kept["x1000c0s0b0n0"]["params"].as_str().unwrap();
    let url = format!("{}{folder}", site.server.url);
    assert!(
        line.starts_with(&format!(
            "imgurl={url}/rootfs.squashfs imgdigest=sha256:ab console=tty0 quiet imgbuild.published="
        )),
        "{line}"
    );
    assert!(kept[MAC2]["params"].as_str().unwrap().contains(" quiet console=ttyS1 imgbuild.published="));
    assert_eq!(kept[MAC2]["kernel"], json!(format!("{url}/vmlinuz")));
    assert!(report.warnings.iter().any(|text| text.contains("SMD does not know n02")), "{report:?}");
    // Again: nothing.
    let report = apply(&request(&image, &nodes, &destination)).unwrap();
    assert!(!report.changes(), "{report:?}");
}

#[test]
fn the_next_build_keeps_pins_and_what_is_not_imgbuilds() {
    let (site, place) = (site(), tempfile::tempdir().unwrap());
    let destination = site.destination();
    let first = image(&place.path().join("1"), "b1");
    apply(&request(&first, &two(), &destination)).unwrap();
    site.bss.lock().unwrap().get_mut(MAC2).unwrap()["cloud-init"] = json!({"user-data": "site"});
    let second = image(&place.path().join("2"), "b2");
    let nodes = [node("n01", MAC1, &[], Some("b1")), two()[1].clone()];
    let report = apply(&request(&second, &nodes, &destination)).unwrap();
    let kept = site.bss.lock().unwrap().clone();
    assert!(kept["x1000c0s0b0n0"]["kernel"].as_str().unwrap().contains("/b1/"));
    assert!(kept[MAC2]["kernel"].as_str().unwrap().contains("/b2/"));
    assert_eq!(kept[MAC2]["cloud-init"], json!({"user-data": "site"}));
    assert!(report.warnings.iter().any(|text| text.contains("n01 stays with build b1")), "{report:?}");
    // By hand: it is said, and written again.
    site.bss.lock().unwrap().get_mut(MAC2).unwrap()["params"] = json!("imgurl=x imgbuild.published=0000000000000000");
    let report = plan(&request(&second, &nodes, &destination)).unwrap();
    assert_eq!(changes(&report), [Change::Drift]);
    // The site's own.
    site.bss.lock().unwrap().get_mut(MAC2).unwrap()["params"] = json!("root=live:http://h/x");
    let error = apply(&request(&second, &nodes, &destination)).unwrap_err();
    assert!(error.to_string().contains("n02 was not written by imgbuild"), "{error}");
    assert!(site.bss.lock().unwrap()[MAC2]["params"] == json!("root=live:http://h/x"));
}

#[test]
fn without_nodes_no_document_is_touched() {
    let (site, place) = (site(), tempfile::tempdir().unwrap());
    let report = apply(&request(&image(place.path(), "b1"), &[], &site.destination())).unwrap();
    assert!(site.bss.lock().unwrap().is_empty() && site.files.lock().unwrap().len() == 5);
    assert!(report.next[0].starts_with("ochami bss boot params set -d '{"), "{report:?}");
}

#[test]
fn what_was_sent_by_half_is_sent_again() {
    let (site, place) = (site(), tempfile::tempdir().unwrap());
    let (image, destination) = (image(place.path(), "b1"), site.destination());
    apply(&request(&image, &[], &destination)).unwrap();
    site.files.lock().unwrap().remove("/images/compute/b1/x86_64/imgbuild.json").unwrap();
    assert_eq!(changes(&plan(&request(&image, &[], &destination)).unwrap()), [Change::New; 4]);
    // A file of the build that is not as it was built goes nowhere.
    std::fs::write(&image.kernel.path, "other!").unwrap();
    let error = apply(&request(&image, &[], &destination)).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[test]
fn words_that_the_boot_script_service_would_cut_are_refused() {
    let (site, place) = (site(), tempfile::tempdir().unwrap());
    let nodes = [node("n01", MAC1, &["rd.initrd=x"], None)];
    let error = apply(&request(&image(place.path(), "b1"), &nodes, &site.destination())).unwrap_err();
    assert!(error.to_string().contains("`rd.initrd=x` of n01"), "{error}");
    assert!(site.server.writes().is_empty());
}

/// boot-service. Source: cmd/server/bootconfiguration_handlers_generated.go; apis/.../bootconfiguration_types.go, `Validate`.
fn boot_service(kept: &Kept<Vec<Value>>, asked: &Asked) -> Said {
    let mut kept = kept.lock().unwrap();
    let mut body = asked.json();
    let uid = asked.path.strip_prefix("/bootconfigurations/");
    let at = uid.and_then(|uid| kept.iter().position(|one| one["metadata"]["uid"] == json!(uid)));
    match (asked.method.as_str(), at) {
        ("GET", _) if kept.is_empty() => (200, "null".to_owned()),
        ("GET", _) => (200, json!(*kept).to_string()),
        ("POST" | "PUT", _) if body["spec"]["kernel"].as_str().is_none_or(|kernel| !kernel.starts_with("http")) => {
            (400, json!({"error": "validation failed: kernel field is required", "code": 400}).to_string())
        }
        ("POST", _) => {
            body["metadata"]["uid"] = json!(format!("boo-{}", kept.len()));
            kept.push(body.clone());
            (201, body.to_string())
        }
        ("PUT", Some(at)) => {
            kept[at]["spec"] = body["spec"].clone();
            (200, kept[at].to_string())
        }
        ("DELETE", Some(at)) => {
            kept.remove(at);
            (200, "{}".to_owned())
        }
        _ => (404, json!({"error": "BootConfiguration not found", "code": 404}).to_string()),
    }
}

#[test]
fn configurations_of_the_boot_service_follow_their_nodes() {
    let documents: Kept<Vec<Value>> = Kept::default();
    let kept: Kept<BTreeMap<String, Vec<u8>>> = Kept::default();
    let (there, files_there) = (Arc::clone(&documents), Arc::clone(&kept));
    let server = Server::start(move |asked| match asked.path.starts_with("/bootconfigurations") {
        true => boot_service(&there, asked),
        false => files(&files_there, asked),
    });
    let destination: Destination = format!("openchami:{0}/images?boot-service={0}", server.url).parse().unwrap();
    let place = tempfile::tempdir().unwrap();
    let first = image(&place.path().join("1"), "b1");
    apply(&request(&first, &two(), &destination)).unwrap();
    let names = || -> Vec<(String, Value, bool)> {
        let kept = documents.lock().unwrap();
        let of = |one: &Value| {
            let is_old = one["spec"]["kernel"].as_str().unwrap().contains("/b1/");
            (one["metadata"]["name"].as_str().unwrap().to_owned(), one["spec"]["macs"].clone(), is_old)
        };
        kept.iter().map(of).collect()
    };
    let all = names();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0], ("compute".to_owned(), json!([MAC1]), true));
    assert!(all[1].0.starts_with("compute-") && all[1].1 == json!([MAC2]));
    documents.lock().unwrap()[0]["spec"]["priority"] = json!(7);
    // One is pinned, and the other loses its words: its configuration has no node then, and goes.
    let second = image(&place.path().join("2"), "b2");
    let nodes = [node("n01", MAC1, &[], Some("b1")), node("n02", MAC2, &[], None)];
    apply(&request(&second, &nodes, &destination)).unwrap();
    let all = names();
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all[0], ("compute".to_owned(), json!([MAC2]), false));
    assert!(all[1].0.starts_with("compute-pinned-") && all[1].1 == json!([MAC1]) && all[1].2, "{all:?}");
    assert_eq!(documents.lock().unwrap()[0]["spec"]["priority"], json!(7));
    assert!(!apply(&request(&second, &nodes, &destination)).unwrap().changes());
}

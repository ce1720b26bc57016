//! Against a server made from the rules of Cobbler 3.3; each rule names its source. The real one: tests/it/e2e/publish_servers.rs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::xmlrpc::Value;
use super::{apply, plan};
use crate::kinds::servers::fake::{Asked, Said, Server, image, node, request};
use crate::{Change, Destination, Node, Report};

type Items = BTreeMap<(String, String), BTreeMap<String, Value>>;

fn fault(text: &str) -> Said {
    let value = format!(
        "<value><struct><member><name>faultCode</name><value><int>1</int></value></member><member><name>faultString</name><value><string>{text}</string></value></member></struct></value>"
    );
    (200, format!("<?xml version='1.0'?><methodResponse><fault>{value}</fault></methodResponse>"))
}

fn good(value: &Value) -> Said {
    // A call has its values as an answer has them.
    let text = super::xmlrpc::call("m", std::slice::from_ref(value));
    let params = &text[text.find("<params>").unwrap()..text.rfind("</methodCall>").unwrap()];
    (200, format!("<?xml version='1.0'?><methodResponse>{params}</methodResponse>"))
}

/// Method and arguments of a call.
fn read(asked: &Asked) -> (String, Vec<Value>) {
    let text = String::from_utf8(asked.body.clone()).unwrap();
    let method = text.split("<methodName>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let params = &text[text.find("<params>").unwrap() + 8..text.rfind("</params>").unwrap()];
    let one = |param: &str| {
        let whole = format!("<methodResponse><params><param>{param}</param></params></methodResponse>");
        match super::xmlrpc::answer(whole.as_bytes()).unwrap() {
            super::xmlrpc::Answer::Value(value) => value,
            super::xmlrpc::Answer::Fault(text) => panic!("{text}"),
        }
    };
    let params = params.split("<param>").skip(1).map(|param| one(param.strip_suffix("</param>").unwrap()));
    (method, params.collect())
}

/// Words as utils.py, `input_string_or_dict` cuts them; of shlex only what plain words need.
fn options(text: &str) -> Value {
    let mut all: BTreeMap<String, Value> = BTreeMap::new();
    for word in text.split(' ').map(|word| word.trim_matches('\'')) {
        let (name, value) =
            word.split_once('=').map_or((word, Value::text("~")), |(name, value)| (name, Value::text(value)));
        let value = match all.remove(name) {
            None => value,
            Some(Value::List(mut values)) => {
                values.push(value);
                Value::List(values)
            }
            Some(old) => Value::List(vec![old, value]),
        };
        all.insert(name.to_owned(), value);
    }
    Value::Map(all)
}

/// Source: cobbler 3.3, cobbler/remote.py, `xapi_object_edit`; items/distro.py, items/system.py.
fn edit(items: &mut Items, arguments: &[Value]) -> Said {
    let text = |at: usize| arguments[at].as_text().unwrap().to_owned();
    let (what, name, how) = (text(0), text(1), text(2));
    let Value::Map(fields) = &arguments[3] else { return fault("attributes") };
    if arguments[4].as_text() != Some("token") {
        return fault("invalid token");
    }
    let key = (what.clone(), name);
    match (how.as_str(), items.contains_key(&key)) {
        ("add", true) => return fault("It seems unwise to overwrite the object"),
        ("edit", false) => return fault("internal error, unknown name"),
        _ => {}
    }
    let mut item = items.get(&key).cloned().unwrap_or_default();
    for (field, value) in fields {
        let plain = value.as_text().unwrap_or_default();
        let is_there = |what: &str| items.contains_key(&(what.to_owned(), plain.to_owned()));
        match field.as_str() {
            "kernel" | "initrd" if !std::path::Path::new(plain).is_file() => return fault("kernel not found"),
            "distro" if !is_there("distro") => return fault("distro does not exist"),
            "profile" if !is_there("profile") => return fault("Profile is not existing"),
            "kernel_options" => drop(item.insert(field.clone(), options(plain))),
            "modify_interface" => {
                let Value::Map(all) = value else { return fault("modify_interface") };
                let mut cards = BTreeMap::new();
                for (key, value) in all {
                    let (field, card) = key.split_once('-').unwrap();
                    let field = field.replace("address", "_address");
                    let Value::Map(known) = cards.entry(card.to_owned()).or_insert_with(|| Value::Map(BTreeMap::new()))
                    else {
                        continue;
                    };
                    known.insert(field, value.clone());
                }
                item.insert("interfaces".to_owned(), Value::Map(cards));
            }
            _ => drop(item.insert(field.clone(), value.clone())),
        }
    }
    items.insert(key, item);
    good(&Value::Bool(true))
}

fn cobbler(items: &Mutex<Items>, asked: &Asked) -> Said {
    let (method, arguments) = read(asked);
    let mut items = items.lock().unwrap();
    let text = |at: usize| arguments[at].as_text().unwrap().to_owned();
    match method.as_str() {
        "extended_version" => good(&Value::Map([("version".to_owned(), Value::text("3.3.10"))].into())),
        // `get_item`: nothing is `~`.
        "get_item" => match items.get(&(text(0), text(1))) {
            Some(item) => good(&Value::Map(item.clone())),
            None => good(&Value::text("~")),
        },
        "login" if text(0) == "user" && text(1) == "pass" => good(&Value::text("token")),
        "login" => fault("login failed"),
        "xapi_object_edit" => edit(&mut items, &arguments),
        "background_syncsystems" => good(&Value::text("2026_sync")),
        "get_task_status" => good(&Value::List(vec![
            Value::Number(1.5),
            Value::text("Sync"),
            Value::text("complete"),
            Value::List(Vec::new()),
        ])),
        _ => fault("unknown remote method"),
    }
}

fn site(with_user: bool) -> (Arc<Mutex<Items>>, Server) {
    let items = Arc::new(Mutex::new(Items::new()));
    let for_server = Arc::clone(&items);
    let server = Server::start(move |asked| cobbler(&for_server, asked));
    if with_user {
        // As a file of credentials would say it.
        packages::without_password(&server.url.replace("http://", "http://user:pass@"));
    }
    (items, server)
}

fn get(items: &Mutex<Items>, what: &str, name: &str) -> Value {
    Value::Map(items.lock().unwrap().get(&(what.to_owned(), name.to_owned())).cloned().unwrap_or_default())
}

fn changes(report: &Report) -> Vec<Change> {
    report.items.iter().map(|item| item.change).filter(|change| *change != Change::Unchanged).collect()
}

fn two(pin: Option<&str>) -> [Node; 2] {
    [
        node("n01", "aa:bb:cc:00:00:01", &[], pin),
        Node { ip: None, ..node("n02", "aa:bb:cc:00:00:02", &["console=ttyS1"], None) },
    ]
}

#[test]
fn a_profile_leads_to_the_newest_build_and_systems_boot_it() {
    let (items, server) = site(true);
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("srv");
    let destination: Destination =
        format!("cobbler:{}?dir={}&files=http://h/images", server.url, directory.display()).parse().unwrap();
    let first = image(&place.path().join("1"), "b1");
    let report = plan(&request(&first, &two(None), &destination)).unwrap();
    assert!(report.changes() && items.lock().unwrap().is_empty() && !directory.exists());
    apply(&request(&first, &two(None), &destination)).unwrap();
    let distro = get(&items, "distro", "compute-b1");
    assert_eq!(distro.field("kernel"), directory.join("compute/b1/vmlinuz").display().to_string());
    assert_eq!((distro.field("breed"), distro.field("arch")), ("generic", "x86_64"));
    let words = distro.get("kernel_options").unwrap();
    assert_eq!(words.field("imgurl"), "http://h/images/compute/b1/rootimg.sfs");
    assert_eq!(get(&items, "profile", "compute").field("distro"), "compute-b1");
    let system = get(&items, "system", "n02");
    assert_eq!(system.get("netboot_enabled"), Some(&Value::Bool(true)));
    let words = system.get("kernel_options").unwrap();
    assert_eq!(words.get("console"), Some(&Value::List(vec![Value::text("tty0"), Value::text("ttyS1")])));
    assert_eq!(words.field("BOOTIF"), "01-aa-bb-cc-00-00-02");
    assert!(!apply(&request(&first, &two(None), &destination)).unwrap().changes());

    // Cobbler's own `disable_netboot`, and the site: said, and mended.
    let key = ("system".to_owned(), "n02".to_owned());
    items.lock().unwrap().get_mut(&key).unwrap().insert("netboot_enabled".to_owned(), Value::Bool(false));
    assert_eq!(changes(&plan(&request(&first, &two(None), &destination)).unwrap()), [Change::Drift]);

    let second = image(&place.path().join("2"), "b2");
    apply(&request(&second, &two(Some("b1")), &destination)).unwrap();
    assert_eq!(get(&items, "profile", "compute").field("distro"), "compute-b2");
    assert_eq!(get(&items, "system", "n01").field("profile"), "compute-b1");
    assert_eq!(get(&items, "profile", "compute-b1").field("distro"), "compute-b1");
    assert_eq!(get(&items, "system", "n02").get("netboot_enabled"), Some(&Value::Bool(true)));
    assert!(!apply(&request(&second, &two(Some("b1")), &destination)).unwrap().changes());
}

#[test]
fn what_is_the_sites_is_refused_and_nothing_is_written() {
    let (items, server) = site(true);
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("srv");
    let destination: Destination =
        format!("cobbler:{}?dir={}&files=http://h/images", server.url, directory.display()).parse().unwrap();
    let image = image(&place.path().join("1"), "b1");
    for (what, name) in [("system", "n01"), ("profile", "compute")] {
        let site: BTreeMap<String, Value> =
            [("comment".to_owned(), Value::text("ours")), ("distro".to_owned(), Value::text("d"))].into();
        items.lock().unwrap().clear();
        items.lock().unwrap().insert((what.to_owned(), name.to_owned()), site);
        let error = apply(&request(&image, &two(None), &destination)).unwrap_err();
        assert!(error.to_string().contains(&format!("the {what} `{name}` was not written by imgbuild")), "{error}");
        assert!(format!("{error:?}").contains(&format!("cobbler {what} rename --name={name}")), "{error:?}");
        assert!(items.lock().unwrap().len() == 1 && !directory.exists());
    }
}

#[test]
fn who_is_not_let_in_is_told_where_passwords_go() {
    let (items, server) = site(false);
    let place = tempfile::tempdir().unwrap();
    let destination: Destination =
        format!("cobbler:{}?dir={}&files=http://h/i", server.url, place.path().join("srv").display()).parse().unwrap();
    let image = image(&place.path().join("1"), "b1");
    // What is only asked needs no password.
    assert!(plan(&request(&image, &[], &destination)).unwrap().changes());
    let error = apply(&request(&image, &[], &destination)).unwrap_err();
    assert!(format!("{error:?}").contains("credentials.toml"), "{error:?}");
    assert!(items.lock().unwrap().is_empty());
    for (text, said) in
        [("?files=http://h", ""), ("?dir=/srv/a", "how nodes get files of /srv/a"), ("?user=a", "no option `user`")]
    {
        let destination: Destination = format!("cobbler:{}{text}", server.url).parse().unwrap();
        let answer = plan(&request(&image, &[], &destination));
        assert!(
            said.is_empty() && answer.is_ok() || answer.is_err_and(|error| error.to_string().contains(said)),
            "{text}"
        );
    }
    let nodes = [node("n01", "aa:bb:cc:00:00:01", &["a=$b"], None)];
    assert!(plan(&request(&image, &nodes, &destination)).unwrap_err().to_string().contains("`a=$b` of n01"));
}

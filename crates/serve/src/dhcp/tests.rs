//! Plans and their texts, without a machine.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::loaders::{Firmware, Offer};
use super::own::OwnLines;
use super::{Answers, Places, Plan, conf, interface, loaders, notes};
use crate::Say;
use crate::site::desk::Desk;
use crate::sockets::system::Address;
use base::source::SourceFile;
use nodes::loaders::Loader;
use nodes::{Effective, Nodes, State};

const OWN: &str = "/srv/images/loaders/dnsmasq.conf";
const NODES: &str = "[node.cn001]\nmac = \"52:54:00:00:00:01\"\nip = \"10.0.0.11\"\n\
    [node.\"cn002.site\"]\nmac = \"52:54:00:00:00:02\"\nmacs = [\"52:54:00:00:01:02\"]\nip = \"10.1.0.12\"\nloader = \"grub\"\n\
    [node.cn003]\nmac = \"52:54:00:00:00:03\"\nloader = \"pxelinux\"\n[node.cn004]\nip = \"fd00::4\"\n";

fn nodes() -> Nodes {
    Nodes::of_file(&SourceFile::new("nodes.toml", "/nodes.toml", NODES)).unwrap()
}

fn all() -> Vec<Effective> {
    let nodes = nodes();
    nodes.names().filter_map(|name| nodes.get(name)).collect()
}

fn plan(answers: Answers, port: u16) -> Plan {
    let address = Ipv4Addr::new(10, 0, 0, 1);
    let offer = |loader, firmware, name| Offer {
        loader,
        firmware,
        name,
        from: PathBuf::from("/usr/lib").join(name),
        beside: Vec::new(),
        speaks_http: loader != Loader::Grub,
    };
    Plan {
        answers,
        interface: "eth1".to_owned(),
        address,
        mask: Ipv4Addr::new(255, 255, 255, 0),
        server: SocketAddrV4::new(address, port),
        offers: vec![
            offer(Loader::Ipxe, Firmware::Bios, "undionly.kpxe"),
            offer(Loader::Ipxe, Firmware::Efi64, "snponly.efi"),
            offer(Loader::Grub, Firmware::Efi64, "grubnetx64.efi"),
            offer(Loader::Pxelinux, Firmware::Bios, "lpxelinux.0"),
            offer(Loader::Shim, Firmware::Efi64, "shimx64.efi"),
        ],
    }
}

fn places() -> Places {
    Places { home: PathBuf::from("/srv/images/.imgbuild/nodes/dnsmasq"), readable: PathBuf::from("/run/x") }
}

#[test]
fn each_way_of_answering_has_its_configuration() {
    let hosts = conf::hosts(&nodes());
    insta::assert_snapshot!("hosts", hosts);
    insta::assert_snapshot!("nodes", plan(Answers::Nodes, 80).text(&places(), None, Some(Path::new(OWN))));
    let range = Answers::Range(Ipv4Addr::new(10, 0, 0, 100), Ipv4Addr::new(10, 0, 0, 199));
    let host = "dhcp-host=52:54:00:00:00:01,set:imgbuild,set:ipxe,cn001\n";
    let text = plan(range, 8080).text(&places(), Some(host), None);
    assert!(!text.contains("conf-file"), "{text}");
    assert!(text.contains("\ndhcp-range=10.0.0.100,10.0.0.199,255.255.255.0,12h\ndhcp-host=52:"), "{text}");
    assert!(text.contains(",tag:ipxe,http://10.0.0.1:8080/-/boot/ipxe?mac=${mac}\n"), "{text}");
    insta::assert_snapshot!("grub", plan(range, 80).grub());
    assert!(plan(range, 8080).grub().contains("(http,10.0.0.1,8080)/-/boot/grub/$net_default_mac"));
    insta::assert_snapshot!("proxy", plan(Answers::Proxy, 80).text(&places(), None, Some(Path::new(OWN))));
}

#[test]
fn what_firmware_would_refuse_for_nodes_behind_shim_is_refused_here() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let from = file("shimx64.efi", "#!ipxe\n");
    let beside = vec![("grubx64.efi", file("grubx64.efi", ""))];
    let offers = [Offer {
        loader: Loader::Shim,
        firmware: Firmware::Efi64,
        name: "shimx64.efi",
        from,
        beside,
        speaks_http: false,
    }];
    // No node is behind it.
    assert!(super::signed::check(&offers, &all()).unwrap().is_empty());
    let text = "[node.cn001]\nmac = \"52:54:00:00:00:01\"\nip = \"10.0.0.11\"\nloader = \"shim\"\n";
    let nodes = Nodes::of_file(&SourceFile::new("nodes.toml", "/nodes.toml", text)).unwrap();
    let one = [nodes.get("cn001").unwrap()];
    let said = super::signed::check(&offers, &one).unwrap_err().to_string();
    assert!(said.contains("shimx64.efi` is not a UEFI program"), "{said}");
    // A GRUB behind a good shim.
    std::fs::write(&offers[0].from, include_bytes!("../../../../tests/fixtures/efi/signed.efi")).unwrap();
    let said = super::signed::check(&offers, &one).unwrap_err().to_string();
    assert!(said.contains("grubx64.efi` is not a UEFI program"), "{said}");
}

#[test]
fn who_is_not_answered_is_told() {
    let card = card("eth1", 1);
    let said = |answers, own| conf::left_out(&all(), &card, answers, own).join("\n");
    insta::assert_snapshot!("left_out", said(Answers::Nodes, false));
    assert!(!said(Answers::Nodes, true).contains("outside"));
    assert!(!said(Answers::Proxy, false).contains("IPv6"));
}

#[test]
fn nodes_of_a_loader_without_a_file_are_refused_at_the_start_and_told_afterwards() {
    let place = tempfile::tempdir().unwrap();
    let own = OwnLines::read(place.path().join("dnsmasq.conf")).unwrap();
    let of = |loader: &str| {
        let text = format!(
            "[node.cn1]\nmac = \"52:54:00:00:00:01\"\nip = \"10.0.0.11\"\n[node.cn2]\nmac = \"52:54:00:00:00:02\"\nip = \"10.0.0.12\"\nloader = \"{loader}\"\n"
        );
        Nodes::of_file(&SourceFile::new("nodes.toml", "/nodes.toml", &text)).unwrap()
    };
    let mut plan = plan(Answers::Nodes, 80);
    plan.offers.retain(|offer| !matches!(offer.loader, Loader::Shim | Loader::Grub));
    for (answers, loader, said) in [
        (
            Answers::Nodes,
            "shim",
            "there is no file of the loader shim for nodes to fetch: install Debian's packages `shim-signed`",
        ),
        (
            Answers::Nodes,
            "grub",
            "there is no file of the loader grub for nodes to fetch: install Debian's package `grub-efi",
        ),
        (Answers::Proxy, "pxelinux", "nodes with the loader pxelinux cannot be answered beside another DHCP server"),
    ] {
        plan.answers = answers;
        let nodes = of(loader);
        let all: Vec<Effective> = nodes.names().filter_map(|name| nodes.get(name)).collect();
        assert!(loaders::lacks(&plan.offers, &all, answers).iter().any(Result::is_err), "{loader}");
        let found = notes(&plan, &nodes, &own);
        let [.., other] = found.as_slice() else { panic!("{found:?}") };
        assert!(found[0].starts_with(said), "{found:?}");
        assert!(found.len() == 2 && other.starts_with("no file of ipxe is there for UEFI on arm64"), "{found:?}");
        assert_eq!(found[0].ends_with("; then start the server again"), answers != Answers::Proxy, "{found:?}");
        let before = notes(&plan, &of("ipxe"), &own);
        assert_eq!(before, found[1..]);
    }
}

fn card(name: &str, net: u8) -> Address {
    Address {
        interface: name.to_owned(),
        address: Ipv4Addr::new(10, net - 1, 0, 1),
        mask: Ipv4Addr::new(255, 255, 255, 0),
        is_up: true,
    }
}

#[test]
fn the_card_is_the_named_one_or_the_one_of_the_nodes() {
    let lo = Address { address: Ipv4Addr::LOCALHOST, mask: Ipv4Addr::new(255, 0, 0, 0), ..card("lo", 1) };
    let (one, two, far) = (card("eth1", 1), card("eth2", 2), card("eth3", 9));
    let bare = Address { address: Ipv4Addr::UNSPECIFIED, mask: Ipv4Addr::BROADCAST, ..card("eth4", 1) };
    let cards = [lo, one, two, far, bare];
    let any: [SocketAddr; 1] = ["0.0.0.0:80".parse().unwrap()];
    let own: [SocketAddr; 1] = ["10.8.0.1:8080".parse().unwrap()];
    let nodes = all();
    let chosen = |named, listened: &[SocketAddr]| match interface::choose(&cards, named, listened, &nodes) {
        Ok(card) => card.interface,
        Err(error) => error.to_string(),
    };
    assert_eq!(chosen(Some("eth2"), &any), "eth2");
    assert_eq!(chosen(None, &own), "eth3");
    assert!(chosen(None, &any).contains("any of the network cards eth1, eth2"));
    assert!(chosen(Some("eth7"), &any).contains("there is no network card `eth7`"));
    assert!(chosen(Some("eth4"), &any).contains("has no IPv4 address"));
    let one_card = |card: Address| interface::choose(&[card], None, &any, &nodes).map_err(|error| error.to_string());
    assert_eq!(one_card(cards[1].clone()).unwrap().interface, "eth1");
    assert!(one_card(cards[3].clone()).unwrap_err().contains("no network card of this machine"));
    assert!(one_card(Address { is_up: false, ..cards[1].clone() }).unwrap_err().contains("`eth1` is down"));
    // Who is sent to an address has to find the server there.
    assert_eq!(interface::port(&own, Ipv4Addr::new(10, 8, 0, 1)).unwrap(), 8080);
    assert_eq!(interface::port(&["[::]:80".parse().unwrap()], Ipv4Addr::new(10, 8, 0, 1)).unwrap(), 80);
    assert!(interface::port(&own, Ipv4Addr::new(10, 0, 0, 1)).unwrap_err().to_string().contains("does not listen"));
}

#[test]
fn ranges_are_read() {
    let read = |text: &str| text.parse::<Answers>();
    assert_eq!(read("proxy"), Ok(Answers::Proxy));
    let range = Answers::Range(Ipv4Addr::new(10, 0, 0, 100), Ipv4Addr::new(10, 0, 0, 199));
    assert_eq!(read("10.0.0.100, 10.0.0.199"), Ok(range));
    for (text, said) in [
        ("10.0.0.199,10.0.0.100", "write 10.0.0.100,10.0.0.199"),
        ("10.0.0.100", "expected `proxy`"),
        ("10.0.0.0/24", "expected `proxy`"),
        ("a,b", "expected `proxy`"),
        ("", "expected `proxy`"),
    ] {
        assert!(read(text).unwrap_err().contains(said), "{text}");
    }
}

#[test]
fn addresses_that_no_node_can_have_are_not_taken_over_by_a_running_server() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("nodes.toml");
    let changes = std::cell::Cell::new(0);
    // Each at a time of its own, however quick the test is.
    let write = |text: &str| {
        std::fs::write(&path, text).unwrap();
        changes.set(changes.get() + 1);
        let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 + changes.get());
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
    };
    let node = |ip: &str| format!("[node.cn1]\nmac = \"52:54:00:00:00:01\"\nip = \"{ip}\"\n");
    write(&node("10.0.0.11"));
    let desk = Desk::open(place.path().to_owned(), State::at(place.path().join("state"))).unwrap().unwrap();
    desk.answers_in(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(255, 255, 255, 0));
    let lines = Arc::new(Mutex::new(Vec::new()));
    let say: Say = {
        let lines = Arc::clone(&lines);
        Arc::new(move |line: &str| lines.lock().unwrap().push(line.to_owned()))
    };
    let ip = || desk.nodes().get("cn1").unwrap().ip().unwrap().to_string();
    let said = || {
        desk.say_errors(&say);
        std::mem::take(&mut *lines.lock().unwrap())
    };
    for (taken, what) in [
        ("10.0.0.1", "that of this server, 10.0.0.1"),
        ("10.0.0.0", "that of the network 10.0.0.0/24 itself"),
        ("10.0.0.255", "the broadcast address of the network 10.0.0.0"),
    ] {
        write(&node(taken));
        assert_eq!(ip(), "10.0.0.11");
        let found = said();
        assert!(found.len() == 2 && found[0].starts_with("nodes.toml:3:"), "{found:?}");
        assert!(found[0].ends_with(&format!("`{taken}` of `cn1` is {what}")), "{found:?}");
        // It is read again when it changes, and what is wrong is said once.
        assert_eq!((ip().as_str(), said().len()), ("10.0.0.11", 0));
    }
    write(&node("10.0.0.12"));
    assert_eq!((ip().as_str(), said().len()), ("10.0.0.12", 0));
    // As other errors, whatever noticed them first.
    write("[node.cn1]\nip = \"x\"\n");
    assert_eq!(ip(), "10.0.0.12");
    assert!(said()[0].starts_with("nodes.toml:2:"));
    // One that is mended before anyone says it is not said.
    write(&node("10.0.0.1"));
    assert_eq!(ip(), "10.0.0.12");
    write(&node("10.0.0.13"));
    assert_eq!((ip().as_str(), said().len()), ("10.0.0.13", 0));
}

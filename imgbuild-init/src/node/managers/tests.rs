use std::net::IpAddr;

use super::ifupdown::stanza as ifupdown;
use super::network_manager::connections as network_manager;
use super::networkd::below;
use crate::network::lease::{Interface, Lease, Made, Source};
use crate::words::{Bond, Vlan};

fn networkd(lease: &Lease) -> String {
    super::networkd::network(lease, false)
}

fn card(number: u8) -> Interface {
    Interface { name: format!("eth{number}"), mac: format!("52:54:00:00:00:0{number}") }
}

fn lease(source: Source, address: &str, made: Option<Made>) -> Lease {
    let interface = match &made {
        Some(Made { vlan: Some((vlan, _)), .. }) => Interface { name: vlan.name.clone(), ..card(1) },
        Some(Made { bond: Some((bond, _)), .. }) => Interface { name: bond.name.clone(), ..card(1) },
        _ => card(1),
    };
    let address: IpAddr = address.parse().unwrap();
    let gateway = (source == Source::Given).then_some(address);
    let (domain, hostname, mtu) = (None, None, None);
    Lease { interface, address, prefix: 24, gateway, dns: vec![address], domain, hostname, source, mtu, made }
}

fn bond() -> Option<(Bond, Vec<Interface>)> {
    Some((Bond::read("bond0:eth0,eth1:mode=802.3ad,lacp_rate=fast").unwrap(), vec![card(0), card(1)]))
}

const BY_DHCP: Source = Source::Dhcp { server: std::net::Ipv4Addr::LOCALHOST, seconds: 60 };

#[test]
fn a_card_is_known_by_its_address_and_what_is_made_by_its_name() {
    let plain = lease(BY_DHCP, "10.0.0.5", None);
    assert!(networkd(&plain).starts_with("[Match]\nMACAddress=52:54:00:00:00:01\n"));
    assert_eq!(ifupdown(&plain), "auto eth1\niface eth1 inet dhcp\n");
    let [(name, text)] = &network_manager(&plain)[..] else { panic!() };
    assert_eq!(name, "imgbuild");
    assert!(
        text.contains("type=ethernet\n")
            && text.ends_with("mac-address=52:54:00:00:00:01\n\n[ipv4]\nmethod=auto\ndhcp-client-id=mac\n"),
        "{text}"
    );
    let made = lease(BY_DHCP, "10.0.0.5", Some(Made { bond: bond(), vlan: None }));
    assert!(networkd(&made).starts_with("[Match]\nName=bond0\n"));
    assert_eq!(ifupdown(&made), "auto bond0\niface bond0 inet dhcp\n");
    assert_eq!(below(&plain), None);
    assert_eq!(below(&made).unwrap(), "[Match]\nName=eth0 eth1\n\n[Link]\nUnmanaged=yes\n");
    for source in [BY_DHCP, Source::Dhcp6, Source::Announced, Source::Given] {
        let needed = super::networkd::network(&lease(source, "10.0.0.5", None), true);
        let network = needed.split("[Network]\n").nth(1).and_then(|rest| rest.split("\n[").next());
        assert!(network.is_some_and(|text| text.contains("KeepConfiguration=yes\n")), "{needed}");
    }
}

#[test]
fn networkmanager_is_told_of_the_bond_its_cards_and_the_vlan() {
    let found = network_manager(&lease(BY_DHCP, "10.0.0.5", Some(Made { bond: bond(), vlan: None })));
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["imgbuild", "imgbuild-eth0", "imgbuild-eth1"]);
    assert!(
        found[0].1.contains("[bond]\nmode=802.3ad\nlacp_rate=fast\nmiimon=100\n\n[ipv4]\nmethod=auto\n"),
        "{}",
        found[0].1
    );
    assert!(
        found[1].1.contains("master=bond0\nslave-type=bond\n") && found[1].1.contains("00:00:00\n"),
        "{}",
        found[1].1
    );
    let vlan = |card: &str, below| Some((Vlan::read(&format!("vlan20:{card}")).unwrap(), below));
    let both = Made { bond: bond(), vlan: vlan("bond0", Interface { name: "bond0".to_owned(), ..card(0) }) };
    let found = network_manager(&lease(BY_DHCP, "10.0.0.5", Some(both)));
    assert!(
        found[0].1.contains("id=imgbuild-bond\n") && found[0].1.ends_with("[ipv6]\nmethod=disabled\n"),
        "{}",
        found[0].1
    );
    assert!(
        found[3].1.contains("type=vlan\ninterface-name=vlan20\n")
            && found[3].1.contains("[vlan]\nid=20\nparent=bond0\n"),
        "{}",
        found[3].1
    );
    let found = network_manager(&lease(BY_DHCP, "10.0.0.5", Some(Made { bond: None, vlan: vlan("eth0", card(0)) })));
    assert!(
        found.len() == 2 && found[1].1.contains("[vlan]\nid=20\n\n[ethernet]\nmac-address=52:54:00:00:00:00\n"),
        "{found:?}"
    );
}

#[test]
fn addresses_of_ipv6_come_as_the_node_got_them() {
    let of = |source, address: &str| {
        let lease = lease(source, address, None);
        (networkd(&lease), ifupdown(&lease), network_manager(&lease).remove(0).1)
    };
    let (networkd, ifupdown, manager) = of(Source::Announced, "fd00::5");
    assert!(networkd.ends_with("[Network]\nIPv6AcceptRA=yes\n") && ifupdown.ends_with("inet6 auto\n"));
    assert!(manager.contains("[ipv4]\nmethod=disabled\n\n[ipv6]\nmethod=auto\n"), "{manager}");
    let (networkd, ifupdown, manager) = of(Source::Dhcp6, "fd00::5");
    assert!(
        networkd.contains("DHCPv6Client=always") && networkd.contains("IAID=1\n") && ifupdown.ends_with("inet6 dhcp\n")
    );
    assert!(manager.contains("[ipv6]\nmethod=dhcp\n"), "{manager}");
    let (networkd, ifupdown, manager) = of(Source::Given, "fd00::5");
    assert!(networkd.ends_with("Address=fd00::5/24\nGateway=fd00::5\nDNS=fd00::5\n"), "{networkd}");
    assert!(ifupdown.contains("inet6 manual\n") && ifupdown.contains("ip -6 address replace fd00::5/24 dev eth1\n"));
    assert!(ifupdown.contains("up ip -6 route replace default via fd00::5 dev eth1\n"), "{ifupdown}");
    assert!(manager.ends_with("[ipv6]\nmethod=manual\naddress1=fd00::5/24,fd00::5\ndns=fd00::5;\n"), "{manager}");
}

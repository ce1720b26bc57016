//! What the image's own network service makes of the bond or VLAN that a node booted over: each is one that the image has from its
//! own packages, without a configuration, and one with its administrator's.

use super::links::Site;
use super::machine::{Node, PATIENCE, expect};
use super::{Built, built, example};
use crate::support::Space;
use boot::Running;

const BOND: &str = "bond=bond0:eth0,eth1:mode=802.3ad,lacp_rate=fast";

/// `examples/mini` with further packages, and files that a sync list names.
fn image(packages: &str, files: &[(&str, &str, &str)]) -> Built {
    let space = Space::new();
    example("mini", &space);
    space.edit("image.toml", "\"openssh-server\"", &format!("\"openssh-server\", \"iproute2\", {packages}"));
    if !files.is_empty() {
        space.edit("image.toml", "[exclude]", "[sync]\nlists = [\"a.synclist\"]\n\n[exclude]");
    }
    let mut list = String::new();
    for (name, place, text) in files {
        space.write(name, text);
        list.push_str(&format!("{name} -> {place}\n"));
    }
    space.write("a.synclist", &list);
    built(space)
}

/// Boots it until it lets its administrator in; its first address.
fn boot(site: &Site, built: &Built, words: &str) -> (Running, Node, String) {
    let running = site.boot(built, "mini", words);
    expect(&running, "the image is complete");
    let console = running.console();
    let address = console.split(" has 10.0.9.").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
    let address = format!("10.0.9.{address}");
    let node = log_in(site, built, &running, &address);
    (running, node, address)
}

fn log_in(site: &Site, built: &Built, running: &Running, address: &str) -> Node {
    let node = Node::new(&["ip", "netns", "exec", &site.net.name], address, 22, &built.key);
    node.wait(running);
    node
}

/// What is to be so with any of them: all started, one address, both cards in the bond, one router, a name server.
fn is_whole(node: &Node, interface: &str, address: &str) {
    let patience = PATIENCE.as_secs();
    let state = format!("timeout {patience} systemctl is-system-running --wait");
    assert_eq!(node.run(&format!("{state} || systemctl --failed --plain --no-legend")), "running");
    assert_eq!(
        node.run("ip -o -4 address show scope global | awk '{print $2, $4}'"),
        format!("{interface} {address}/24")
    );
    assert_eq!(node.run("cat /sys/class/net/bond0/bonding/slaves"), "eth0 eth1");
    assert_eq!(node.run("cat /sys/class/net/bond0/bonding/ad_num_ports"), "2");
    // NetworkManager's is next to that of the initrd, with a metric.
    assert_eq!(node.run("ip -4 route show default | cut -d' ' -f3 | sort -u"), "10.0.9.1");
    assert_eq!(node.run("grep ^nameserver /etc/resolv.conf"), "nameserver 10.0.9.53");
}

#[test]
fn privileged_boot_networkmanager_goes_on_with_a_bond() {
    let built = image("\"network-manager\"", &[]);
    let mut site = Site::new(&built, "mini", &["lacp"]);
    site.serve();
    let (_running, node, address) = boot(&site, &built, BOND);
    is_whole(&node, "bond0", &address);
    // It is the one that renews the lease.
    assert_eq!(node.run("nm-online -s -q && nmcli -g GENERAL.CONNECTION device show bond0"), "imgbuild");
    assert!(node.run("nmcli -g DHCP4.OPTION device show bond0").contains(&format!("ip_address = {address}")));
    assert_eq!(node.run("nmcli -g GENERAL.CONNECTION device show eth1"), "imgbuild-eth1");
}

#[test]
fn privileged_boot_ifupdown_goes_on_with_a_bond_unless_its_administrator_says_what_to_do() {
    let packages = "\"ifupdown\", \"ifenslave\", \"isc-dhcp-client\"";
    // Its file ends without a line's end, and reads no others: both stay as they are, and ours is read.
    let plain = "auto lo\niface lo inet loopback";
    let image_without = image(packages, &[("interfaces", "/etc/network/interfaces", plain)]);
    let mut site = Site::new(&image_without, "mini", &["lacp"]);
    site.serve();
    let (running, node, address) = boot(&site, &image_without, BOND);
    // One address: to the server dhclient is the client that asked before.
    is_whole(&node, "bond0", &address);
    let leases = node.run("grep fixed-address /var/lib/dhcp/dhclient.bond0.leases");
    assert_eq!(leases.lines().next().unwrap().trim(), format!("fixed-address {address};"));
    assert_eq!(node.run("ifquery --state bond0 lo"), "bond0=bond0\nlo=lo");
    assert_eq!(node.run("head -n 2 /etc/network/interfaces"), plain);
    drop(running);

    // It names cards as the kernel does, and udev would call them otherwise: they keep these names. ifenslave takes down the cards of a bond that is there, and does not bring them up.
    let own = "auto lo\niface lo inet loopback\n\nauto bond0\niface bond0 inet static\n    address 10.0.9.20/24\n    \
               gateway 10.0.9.1\n    bond-slaves eth0 eth1\n    bond-mode 802.3ad\n    bond-miimon 100\n";
    let image_with = image(packages, &[("interfaces", "/etc/network/interfaces", own)]);
    let mut site = Site::new(&image_with, "mini", &["lacp"]);
    site.serve();
    let running = site.boot(&image_with, "mini", BOND);
    expect(&running, "/etc/network/interfaces of the image says what becomes of bond0");
    let node = log_in(&site, &image_with, &running, "10.0.9.20");
    is_whole(&node, "bond0", "10.0.9.20");
}

#[test]
fn privileged_boot_networkd_leaves_the_cards_of_a_bond_alone() {
    // As many images have it: any card.
    let any = "[Match]\nName=e*\n\n[Network]\nDHCP=yes\n";
    let built = image("\"iputils-ping\"", &[("any.network", "/etc/systemd/network/80-any.network", any)]);
    let mut site = Site::new(&built, "mini", &["lacp", "vlan=20"]);
    site.serve();
    let (_running, node, address) = boot(&site, &built, &format!("{BOND} vlan=vlan20:bond0"));
    // What waits for the network waits for nothing else.
    assert_eq!(node.run("/usr/lib/systemd/systemd-networkd-wait-online --timeout=60 && echo online"), "online");
    for (name, state) in [("eth0", "unmanaged"), ("eth1", "unmanaged"), ("vlan20", "configured")] {
        let asked = format!("grep ^ADMIN_STATE= /run/systemd/netif/links/$(cat /sys/class/net/{name}/ifindex)");
        assert_eq!(node.run(&asked), format!("ADMIN_STATE={state}"), "{name}");
    }
    is_whole(&node, "vlan20", &address);
}

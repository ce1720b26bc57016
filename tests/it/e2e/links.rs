//! What a node boots over that is not a plain card of an IPv4 network: bonds and VLANs on machines, IPv6 in namespaces.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boot::Running;

use super::machine::{Node, PATIENCE, Server, cmdline, expect, start};
use super::namespaced::{Lan, MAC};
use super::net::Net;
use super::{Built, mini, tiny};
use crate::support::project;

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A network behind a managed switch: addresses by DHCP, and an image's files.
pub struct Site {
    pub net: Net,
    sockets: tempfile::TempDir,
    port: u16,
    files: PathBuf,
    programs: Vec<Program>,
}

impl Site {
    /// A switch of two ports that does what its words say; the cards' addresses are for DHCP.
    pub fn new(built: &Built, image: &str, words: &[&str]) -> Self {
        let net = Net::new("10.0.8.1/24");
        let sockets = tempfile::tempdir().unwrap();
        let mut command = net.command("python3");
        command.arg(project().join("tests/fixtures/switch.py")).arg("switch").args(words);
        command.args([sockets.path().join("0"), sockets.path().join("1")]);
        let mut switch = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(switch.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        net.ip("address add 10.0.9.1/24 dev switch");
        net.ip("link set switch up");
        let mut command = net.command("dnsmasq");
        command.args(["--no-daemon", "--port=0", "--interface=switch", "--bind-interfaces", "--leasefile-ro"]);
        command.args(["--conf-file=/dev/null", "--user=root", "--dhcp-range=10.0.9.50,10.0.9.90,1h"]);
        command.args(["--dhcp-host=52:54:00:00:08:02,10.0.9.12,linked", "--dhcp-option=6,10.0.9.53"]);
        let dnsmasq = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let directory = built.space.artefact(image, ".").canonicalize().unwrap();
        Self { net, sockets, port: 8080, files: directory, programs: vec![Program(switch), Program(dnsmasq)] }
    }

    /// Starts what serves the image's files.
    pub fn serve(&mut self) {
        let mut command = self.net.command("python3");
        command.args(["-m", "http.server", &self.port.to_string(), "--directory"]).arg(&self.files);
        self.programs.push(Program(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()));
    }

    /// Boots a machine whose two cards are at the switch.
    pub fn boot(&self, built: &Built, image: &str, words: &str) -> Running {
        let given = cmdline(built, image, &format!("http://10.0.9.1:{}", self.port));
        start(built, image, format!("{given} {words}"), |machine| {
            let card = |number: usize| {
                let path: PathBuf = self.sockets.path().join(number.to_string());
                (
                    format!("stream,id=n{number},server=off,addr.type=unix,addr.path={}", path.display()),
                    format!(
                        "virtio-net-pci,netdev=n{number},mac=52:54:00:00:08:0{},speed=1000,duplex=full,romfile=",
                        number + 1
                    ),
                )
            };
            machine.network = vec![card(0), card(1)];
        })
    }
}

#[test]
fn privileged_boot_over_a_tagged_network_on_a_bundle_of_two_cards_as_far_as_a_login() {
    let built = mini();
    let mut site = Site::new(built, "mini", &["vlan=20", "lacp"]);
    // The loader came from the second card: its address is the bond's, by which DHCP knows the node.
    let words = "ifname=one:52:54:00:00:08:01 ifname=two:52:54:00:00:08:02 bond=bond0:one,two:mode=802.3ad,lacp_rate=fast vlan=vlan20:bond0 ip=vlan20:dhcp BOOTIF=01-52-54-00-00-08-02";
    let running = site.boot(built, "mini", words);
    expect(&running, "bond0 is made of eth1, eth0 (802.3ad)");
    expect(&running, "vlan20 is VLAN 20 on bond0");
    expect(&running, "vlan20 (52:54:00:00:08:02) has 10.0.9.12/24");
    // The attempts that follow find what the first one made, in which all cards have one address.
    expect(&running, "Connection refused");
    site.serve();
    let node = Node::new(&["ip", "netns", "exec", &site.net.name], "10.0.9.12", 22, &built.key);
    let began = Instant::now();
    while !node.connect() {
        assert!(began.elapsed() < PATIENCE, "{}", running.console());
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(node.run("hostname"), "linked");
    // Both cards are in it, and the switch agreed.
    assert_eq!(node.run("cat /sys/class/net/bond0/bonding/ad_num_ports"), "2");
    assert_eq!(node.run("cat /sys/class/net/bond0/bonding/ad_partner_mac"), "02:00:00:00:00:01");
    // The image's own network service has it, and waits for nothing else.
    assert_eq!(node.run("systemctl is-system-running --wait || systemctl --failed --plain --no-legend"), "running");
    assert_eq!(node.run("systemctl is-active systemd-networkd"), "active");
    let asked = "grep ^ADMIN_STATE= /run/systemd/netif/links/$(cat /sys/class/net/vlan20/ifindex)";
    assert_eq!(node.run(asked), "ADMIN_STATE=configured");
}

#[test]
fn privileged_boot_over_a_bond_goes_on_when_the_card_in_use_goes_silent() {
    let built = tiny();
    let mut site = Site::new(built, "tiny", &["dies=3000000"]);
    site.serve();
    let words =
        "bond=bond0:eth0,eth1:mode=active-backup,arp_interval=300,arp_ip_target=10.0.9.1,primary=eth0 ip=bond0:dhcp";
    let running = site.boot(built, "tiny", words);
    expect(&running, "bond0 is made of eth0, eth1 (active-backup)");
    expect(&running, "NODE IS UP");
    let console = running.console();
    assert!(console.contains("bond0: (slave eth1): making interface the new active one"), "{console}");
}

#[test]
fn privileged_boot_says_which_cards_there_are_when_a_name_is_not_among_them() {
    let built = tiny();
    let site = Site::new(built, "tiny", &["vlan=7"]);
    let running = site.boot(built, "tiny", "vlan=vlan7:eno9");
    expect(&running, "vlan7 is to be on eno9, and no card has this name; there are: eth0 (en");
    expect(&running, "ifname=eno9:MAC says which one is meant");
}

/// dnsmasq as an IPv6 router and DHCPv6 server of a cable, which exists once its node is plugged in.
fn router(lan: &Lan, words: &[&str]) -> Program {
    lan.ip(&["address", "add", "fd00:9::1/64", "dev", "served", "nodad"]);
    let mut command = lan.command("dnsmasq");
    command.args([
        "--no-daemon",
        "--port=0",
        "--interface=served",
        "--bind-interfaces",
        "--leasefile-ro",
        "--user=root",
    ]);
    command.args(["--conf-file=/dev/null", "--dhcp-option=option6:dns-server,[fd00:9::53]"]).args(words);
    Program(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// A node with a way to get its address, and what the other end of its cable has; its console when it is up.
fn comes_up(ip: &str, words: &[&str], address: &str) -> String {
    let lan = Lan::new();
    let directory: PathBuf = tiny().space.artefact("tiny", ".").canonicalize().unwrap();
    let server = Server::start_in(&lan, Path::new(&directory), 0, Arc::new(|_: &str, _, bytes| Some(bytes)));
    let given = cmdline(tiny(), "tiny", &format!("http://[fd00:9::1]:{}", server.port));
    let mut node = lan.start(&directory.join("initrd-stateless"), &format!("{given} {ip} NODE=six"), 1024);
    let _router = router(&lan, words);
    node.expect("NODE IS UP: six");
    let console = node.console();
    assert!(console.contains(&format!("eth0 ({MAC}) has {address}")), "{console}");
    assert_eq!(lan.acknowledged(), 0, "{console}");
    console
}

#[test]
fn privileged_a_node_of_an_ipv6_network_gets_its_address_from_routers_by_dhcp_or_the_command_line() {
    let announced = ["--enable-ra", "--dhcp-range=fd00:9::,ra-stateless", "--ra-param=served,high,4,60"];
    let by_card = "fd00:9::5054:ff:fe12:3456/64";
    comes_up("ip=auto6", &announced, by_card);
    // The client's identifier is of the card, so that a site can know it before.
    let host = format!("--dhcp-host=id:00:03:00:01:{MAC},[fd00:9::105],six");
    let managed = ["--enable-ra", "--dhcp-range=fd00:9::100,fd00:9::1ff,64,1h", &host];
    comes_up("ip=auto6", &managed, "fd00:9::105/128");
    comes_up("ip=eth0:dhcp6", &["--dhcp-range=fd00:9::100,fd00:9::1ff,64,1h", &host], "fd00:9::105/64");
    comes_up("ip=[fd00:9::7]::[fd00:9::1]:64::eth0:none:[fd00:9::53]", &[], "fd00:9::7/64");
}

#[test]
fn privileged_a_node_without_an_ipv6_router_says_so() {
    let lan = Lan::new();
    let directory = tiny().space.artefact("tiny", ".").canonicalize().unwrap();
    let given = cmdline(tiny(), "tiny", "http://[fd00:9::1]:1");
    let mut node = lan.start(&directory.join("initrd-stateless"), &format!("{given} ip=auto6"), 1024);
    node.expect("no IPv6 router announces itself on eth0; a network with DHCPv6 alone: ip=dhcp6");
}

//! The text of dnsmasq's configuration. Source: dnsmasq(8).
//!
//! A host's line sets two tags: that it is a node, and which loader it is for (`for-ipxe`; `ipxe` is a machine that runs iPXE now). What a machine is sent depends on these, on its firmware, which
//! it says in option 93 or at the end of its vendor class, and on whether it is iPXE already: so that no loader loads itself.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use super::loaders::{Firmware, fetched, of_node};
use super::{Answers, Places, Plan};
use crate::sockets::system::Address;
use nodes::loaders::Loader;
use nodes::{Effective, NodeSet, Nodes};

/// The tag of nodes, as `imgbuild nodes --format dnsmasq` has it.
const NODE: &str = "imgbuild";

/// What firmware says of itself: tag, and architecture in option 93. Source: IANA, "Processor Architecture Types"; 9 is what RFC 4578
/// says for x86-64, 7 what firmware says.
const ARCHITECTURES: [(&str, u16); 7] =
    [("bios", 0), ("efi64", 7), ("efi64", 9), ("arm64", 11), ("opal", 14), ("http64", 16), ("httparm64", 19)];

/// How long an address is a node's.
const LEASE: &str = "12h";

impl Plan {
    pub(super) fn url(&self) -> String {
        match self.server.port() {
            80 => format!("http://{}", self.address),
            port => format!("http://{}:{port}", self.address),
        }
    }

    /// GRUB's own configuration, which loads that of the node: behind shim from where GRUB came from, else from this server.
    pub(super) fn grub(&self) -> String {
        let plain = self.plain_grub();
        if !self.offers.iter().any(|offer| offer.loader == Loader::Shim) {
            return plain;
        }
        // `-e` lists the directory, which no network does: it is never true there.
        let own = "/grub/mac/$net_default_mac";
        format!(
            "if [ -s {own} ]; then\n    configfile {own}\nelse\n    {}\nfi\n",
            plain.trim_end().replace('\n', "\n    ")
        )
    }

    fn plain_grub(&self) -> String {
        let host = match self.server.port() {
            80 => self.address.to_string(),
            port => format!("{},{port}", self.address),
        };
        format!("insmod http\nset timeout=0\nconfigfile (http,{host})/-/boot/grub/$net_default_mac\n")
    }

    /// The configuration; `hosts` stand in it where they are not in a file of their own. `own`: where the site's own lines are.
    pub(super) fn text(&self, places: &Places, hosts: Option<&str>, own: Option<&Path>) -> String {
        let url = self.url();
        let mut text = format!(
            "# Written by `imgbuild serve --dnsmasq` for {}, and again whenever it starts.\n\
             # No name server: DHCP and TFTP alone.\n\
             port=0\n\
             interface={}\n",
            self.address, self.interface
        );
        if self.interface != "lo" {
            text.push_str("except-interface=lo\n");
        }
        let _ = write!(text, "bind-interfaces\ndhcp-leasefile={}\n", places.leases().display());
        let _ = match self.answers {
            Answers::Nodes => writeln!(text, "dhcp-range={},static,{},{LEASE}", self.address & self.mask, self.mask),
            Answers::Range(first, last) => writeln!(text, "dhcp-range={first},{last},{},{LEASE}", self.mask),
            Answers::Proxy if fault::planted("dhcp-answers-all") => {
                writeln!(text, "dhcp-range={},proxy,{}", self.address, self.mask)
            }
            Answers::Proxy => writeln!(
                text,
                "# Another server gives addresses, and others may serve machines that are no nodes.\n\
                 dhcp-range={},proxy,{}\ndhcp-ignore=tag:!{NODE}",
                self.address, self.mask
            ),
        };
        match hosts {
            Some(hosts) => text.push_str(hosts),
            None => text.push_str(&format!("dhcp-hostsfile={}\n", places.hosts().display())),
        }
        let _ = writeln!(text, "enable-tftp\ntftp-root={}", places.tftp().display());
        if self.offers.iter().any(|offer| offer.loader == Loader::Shim) {
            // Kernels and initrds come by TFTP then, each for half a minute; dnsmasq serves 50 at once unless this says otherwise.
            text.push_str("tftp-max=1000\n");
        }
        text.push_str("# The firmware: by option 93, or at the end of its vendor class where it has none.\n");
        for (tag, number) in ARCHITECTURES {
            let class = if tag.starts_with("http") { "HTTPClient" } else { "PXEClient" };
            let _ = writeln!(text, "dhcp-match=set:{tag},option:client-arch,{number}");
            let _ = writeln!(text, "dhcp-vendorclass=set:{tag},{class}:Arch:{number:05}");
        }
        text.push_str(
            "# iPXE gets a script and never itself.\ndhcp-match=set:ipxe,175\ndhcp-userclass=set:ipxe,iPXE\n",
        );
        if self.answers != Answers::Proxy {
            // It waits for no other server.
            text.push_str("dhcp-option=tag:ipxe,encap:175,176,1b\n");
            // UEFI takes an address of HTTP from no one who does not say this.
            for tag in Firmware::ALL.into_iter().filter_map(Firmware::http_tag) {
                let _ = writeln!(text, "dhcp-option-force=tag:{NODE},tag:{tag},60,HTTPClient");
            }
        }
        for loader in Loader::ALL {
            self.of_loader(loader, &url, &mut text);
        }
        if let Some(own) = own {
            let _ = writeln!(text, "# The site's own lines.\nconf-file={}", own.display());
        }
        text
    }

    fn of_loader(&self, loader: Loader, url: &str, text: &mut String) {
        let tags = format!("tag:{NODE},tag:for-{}", loader.name());
        let name = loader.name();
        let is_proxy = self.answers == Answers::Proxy;
        match loader {
            Loader::Petitboot => {
                if !is_proxy {
                    let _ = writeln!(text, "dhcp-option-force={tags},tag:opal,209,{url}/-/boot/petitboot");
                }
                return;
            }
            Loader::Ipxe => text.push_str(&format!("dhcp-boot={tags},tag:ipxe,{url}/-/boot/{name}?mac=${{mac}}\n")),
            Loader::Xnba => {
                for (is_efi, more) in [("tag:!efi64", ""), ("tag:efi64", "&uefi=1")] {
                    let _ = writeln!(text, "dhcp-boot={tags},tag:ipxe,{is_efi},{url}/-/boot/{name}?mac=${{mac}}{more}");
                }
            }
            Loader::Pxelinux => {
                // The prefix of all that it asks for: by HTTP.
                let _ = writeln!(text, "dhcp-option-force={tags},210,{url}/");
            }
            Loader::Grub | Loader::Shim => {}
        }
        let first = if matches!(loader, Loader::Ipxe | Loader::Xnba) { ",tag:!ipxe" } else { "" };
        for offer in self.offers.iter().filter(|offer| offer.loader == fetched(loader)) {
            let file = offer.name;
            if is_proxy {
                let kinds: &[&str] = match offer.firmware {
                    Firmware::Bios => &["x86PC"],
                    Firmware::Efi64 => &["BC_EFI", "X86-64_EFI"],
                    Firmware::Arm64 => &["ARM64_EFI"],
                };
                for kind in kinds {
                    let _ = writeln!(text, "pxe-service={tags}{first},{kind},imgbuild,{file}");
                }
                continue;
            }
            let _ = writeln!(text, "dhcp-boot={tags}{first},tag:{},{file}", offer.firmware.tag());
            if let Some(tag) = offer.firmware.http_tag().filter(|_| offer.speaks_http) {
                let _ = writeln!(text, "dhcp-boot={tags}{first},tag:{tag},{url}/{file}");
            }
        }
    }
}

pub(super) fn hosts(nodes: &Nodes) -> String {
    nodes.names().filter_map(|name| host(&nodes.get(name)?)).collect()
}

fn host(node: &Effective) -> Option<String> {
    let macs: Vec<String> = node.macs().iter().map(ToString::to_string).collect();
    if macs.is_empty() {
        return None;
    }
    let address = match node.ip() {
        Some(IpAddr::V4(ip)) => format!(",{ip}"),
        _ => String::new(),
    };
    // dnsmasq takes a name without its domain.
    let short = node.name.split('.').next().unwrap_or_default();
    Some(format!("{},set:{NODE},set:for-{},{short}{address}\n", macs.join(","), of_node(node).name()))
}

/// Nodes that are not answered, or only in part: a sentence each.
pub(super) fn left_out(nodes: &[Effective], card: &Address, answers: Answers, may_have_ranges: bool) -> Vec<String> {
    let named = |which: &dyn Fn(&Effective) -> bool| {
        let found: Vec<&str> = nodes.iter().filter(|node| which(node)).map(|node| node.name.as_str()).collect();
        (!found.is_empty()).then(|| NodeSet::of(found).folded())
    };
    let mut said = Vec::new();
    let mut note = |names: Option<String>, text: &str| {
        if let Some(names) = names {
            said.push(format!("{names}: {text}"));
        }
    };
    note(named(&|node| node.macs().is_empty()), "no MAC address (‹mac = \"...\"›): they are not answered");
    if answers != Answers::Proxy {
        let has_v6 = |node: &Effective| matches!(node.ip(), Some(IpAddr::V6(_)));
        note(named(&has_v6), "an IPv6 address, which DHCPv4 does not give");
    }
    if answers == Answers::Nodes {
        let without = |node: &Effective| !node.macs().is_empty() && node.ip().is_none();
        note(
            named(&without),
            "no address (‹ip = \"...\"›): they are not answered; --dnsmasq=FIRST,LAST gives addresses of a range",
        );
    }
    if answers != Answers::Proxy && !may_have_ranges {
        let outside = |node: &Effective| matches!(node.ip(), Some(IpAddr::V4(ip)) if !card.has(ip));
        let text = format!(
            "addresses outside {}, the network of {}: they are not answered; for networks behind a relay put a dhcp-range line into loaders/dnsmasq.conf",
            card.network(),
            card.interface
        );
        note(named(&outside), &text);
    }
    said
}

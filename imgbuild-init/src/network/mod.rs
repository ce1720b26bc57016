//! Interfaces: found, brought up, given an address.

pub mod dhcp;
pub mod lease;
mod message;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cmdline::Parameters;
use crate::modules::{Modules, device_aliases};
use crate::{say, sys};
use lease::{Interface, Lease};

/// How long a link may take to come up: spanning tree needs about 30 seconds, some optics more.
const CARRIER_WAIT: Duration = Duration::from_secs(60);

/// Interfaces with a MAC address, but for the loopback.
pub fn interfaces() -> Vec<Interface> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir("/sys/class/net") else { return found };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let mac = std::fs::read_to_string(entry.path().join("address")).unwrap_or_default().trim().to_lowercase();
        // Kind 1 is Ethernet. Source: linux/if_arp.h.
        let kind = std::fs::read_to_string(entry.path().join("type")).unwrap_or_default();
        if kind.trim() == "1" && mac != "00:00:00:00:00:00" && !mac.is_empty() {
            found.push(Interface { name, mac });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn has_carrier(name: &str) -> bool {
    std::fs::read_to_string(PathBuf::from("/sys/class/net").join(name).join("carrier"))
        .is_ok_and(|text| text.trim() == "1")
}

/// Devices of the network class that no driver took. Source: PCI class 02, linux/pci_ids.h.
fn devices_without_driver() -> Vec<String> {
    let mut found = Vec::new();
    let Ok(devices) = std::fs::read_dir("/sys/bus/pci/devices") else { return found };
    for device in devices.flatten() {
        let class = std::fs::read_to_string(device.path().join("class")).unwrap_or_default();
        if class.starts_with("0x02") && !device.path().join("driver").exists() {
            let id = |name: &str| {
                std::fs::read_to_string(device.path().join(name))
                    .unwrap_or_default()
                    .trim()
                    .trim_start_matches("0x")
                    .to_owned()
            };
            found.push(format!("{}:{}", id("vendor"), id("device")));
        }
    }
    found
}

/// Says why there is no interface, and what to do.
fn no_interface() -> String {
    let without = devices_without_driver();
    if without.is_empty() {
        return format!(
            "there is no network interface, and no network device among the {} devices of this machine; is the card seated, and enabled in the firmware's setup?",
            device_aliases().len()
        );
    }
    format!(
        "there is no network interface: the initrd has no driver for {}; find the driver's name (lspci -nnk on a machine that runs) and add it to the recipe: [kernel] drivers = [\"+NAME\"]",
        without.join(", ")
    )
}

/// The interface of a name, or all where none has it.
fn by_name(all: Vec<Interface>, name: Option<&str>) -> Vec<Interface> {
    match all.iter().find(|one| Some(one.name.as_str()) == name) {
        Some(one) => vec![one.clone()],
        None => all,
    }
}

/// Brings up the network: a given address, the interface that BOOTIF names, or the first that gets a lease.
pub fn bring_up(parameters: &Parameters, modules: &Modules) -> Result<Lease, String> {
    let wanted = |all: Vec<Interface>| -> Vec<Interface> {
        match (&parameters.boot_mac, parameters.fixed.as_ref().filter(|fixed| !fixed.device.is_empty())) {
            (Some(mac), _) => all.into_iter().filter(|one| one.mac == *mac).collect(),
            (None, Some(fixed)) => all.into_iter().filter(|one| one.name == fixed.device).collect(),
            (None, None) => by_name(all, parameters.boot_device.as_deref()),
        }
    };
    // Drivers may need a moment after they are loaded.
    let began = Instant::now();
    let mut chosen = wanted(interfaces());
    while chosen.is_empty() && began.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(200));
        modules.load_for_devices();
        chosen = wanted(interfaces());
    }
    if chosen.is_empty() {
        let all = interfaces();
        if all.is_empty() {
            return Err(no_interface());
        }
        let names: Vec<String> = all.iter().map(|one| format!("{} {}", one.name, one.mac)).collect();
        let wanted = parameters
            .boot_mac
            .clone()
            .or_else(|| parameters.fixed.as_ref().map(|fixed| fixed.device.clone()))
            .unwrap_or_default();
        return Err(format!(
            "no interface is {wanted}, which the command line asks for; there are: {}",
            names.join(", ")
        ));
    }
    if let Some(device) =
        parameters.boot_device.as_ref().filter(|device| !chosen.iter().any(|one| one.name == **device))
        && parameters.boot_mac.is_none()
        && parameters.fixed.as_ref().is_none_or(|fixed| fixed.device.is_empty())
    {
        // The image's own names, such as eno1, are given later, by its udev.
        say!(
            "no interface is named {device} (netdev=): all are tried; ifname={device}:MAC or BOOTIF=MAC names one for sure"
        );
    }
    sys::set_up("lo").map_err(|error| format!("lo cannot be brought up: {error}"))?;
    let mut problems = Vec::new();
    // One broken card must not keep the others from working.
    chosen.retain(|interface| match sys::set_up(&interface.name) {
        Ok(()) => true,
        Err(error) => {
            say!("{} cannot be brought up: {error}", interface.name);
            problems.push(format!("{} cannot be brought up: {error}", interface.name));
            false
        }
    });
    if chosen.is_empty() {
        return Err(problems.join("; "));
    }
    let began = Instant::now();
    while !chosen.iter().any(|one| has_carrier(&one.name)) {
        if began.elapsed() > CARRIER_WAIT {
            let names: Vec<&str> = chosen.iter().map(|one| one.name.as_str()).collect();
            return Err(format!(
                "no link on {} after {} seconds; is the cable in?",
                names.join(", "),
                CARRIER_WAIT.as_secs()
            ));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut lease = match &parameters.fixed {
        Some(fixed) => {
            let linked = chosen.iter().find(|one| has_carrier(&one.name)).or(chosen.first());
            given(fixed, linked.ok_or("no interface")?)?
        }
        None => dhcp::ask(&chosen)?,
    };
    lease.hostname = lease.hostname.or_else(|| parameters.node.clone());
    configure(&lease)?;
    Ok(lease)
}

fn given(fixed: &crate::cmdline::Fixed, interface: &Interface) -> Result<Lease, String> {
    let parse = |text: &str| text.parse::<Ipv4Addr>().map_err(|_| format!("`{text}` in ip= is not an address"));
    let mask = u32::from(parse(&fixed.netmask)?);
    Ok(Lease {
        interface: interface.clone(),
        address: parse(&fixed.address)?,
        prefix: mask.leading_ones() as u8,
        gateway: if fixed.gateway.is_empty() { None } else { Some(parse(&fixed.gateway)?) },
        dns: fixed.dns.iter().map(|text| parse(text)).collect::<Result<_, _>>()?,
        domain: None,
        hostname: (!fixed.hostname.is_empty()).then(|| fixed.hostname.clone()),
        dhcp: None,
        mtu: None,
    })
}

/// Sets address, route and name servers for this program's own use.
pub fn configure(lease: &Lease) -> Result<(), String> {
    let name = &lease.interface.name;
    let said = |what: &str, error: std::io::Error| format!("{what} of {name} cannot be set: {error}");
    if let Some(mtu) = lease.mtu.filter(|mtu| (576..=9216).contains(mtu))
        && let Err(error) = sys::set_mtu(name, mtu)
    {
        say!("the MTU {mtu} that the server asks for is refused by {name}: {error}");
    }
    sys::set_address(name, lease.address, lease.prefix).map_err(|error| said("the address", error))?;
    if let Some(gateway) = lease.gateway {
        match sys::add_default_route(gateway) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(said("the default route", error)),
            _ => {}
        }
    }
    let _ = std::fs::create_dir_all("/etc");
    if let Err(error) = std::fs::write("/etc/resolv.conf", resolv_conf(lease)) {
        say!("/etc/resolv.conf cannot be written, so host names cannot be looked up: {error}");
    }
    say!("{name} ({}) has {}/{}", lease.interface.mac, lease.address, lease.prefix);
    Ok(())
}

/// Text of resolv.conf.
pub fn resolv_conf(lease: &Lease) -> String {
    let mut text = String::new();
    if let Some(domain) = &lease.domain {
        text.push_str(&format!("search {domain}\n"));
    }
    for server in &lease.dns {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text
}

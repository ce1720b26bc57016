//! Interfaces: found, brought up, given an address.

mod cards;
pub(crate) mod dhcp;
pub(crate) mod lease;
mod links;
mod message;
mod v6;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::cmdline::Parameters;
use crate::modules::Modules;
use crate::words::{Fixed, Method};
use crate::{say, sys};
use cards::has_carrier;
pub(crate) use cards::{interfaces, names_of_udev};
use lease::{Interface, Lease, Source};
pub(crate) use links::unmake;

/// Where the C library looks for name servers.
pub(crate) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How long a link may take to come up: spanning tree needs about 30 seconds, some optics more.
const CARRIER_WAIT: Duration = Duration::from_secs(60);

/// The cards that the command line asks for: what it makes itself, the one that BOOTIF names, that of a name, or all.
fn wanted(parameters: &Parameters, all: Vec<Interface>) -> Vec<Interface> {
    let of_name = |name: &str| cards::called(&all, name, &parameters.card_names);
    match (&parameters.boot_mac, &parameters.boot_device) {
        (Some(mac), _) => all.into_iter().filter(|one| one.mac == *mac).collect(),
        (None, Some(device)) => match (of_name(device), &parameters.method) {
            (Some(one), _) => vec![one],
            // A given address is for this card alone.
            (None, Method::Fixed(_)) => Vec::new(),
            (None, _) => all,
        },
        (None, None) => all,
    }
}

/// Brings up the network: a bond or a VLAN, the interface that BOOTIF names, or the first that gets a lease.
pub(crate) fn bring_up(parameters: &Parameters, modules: &Modules) -> Result<Lease, String> {
    // Drivers may need a moment after they are loaded.
    let began = Instant::now();
    let plan = links::plan(parameters);
    let is_there = || match &plan {
        Some(plan) => plan.are_all_there(parameters),
        None => !wanted(parameters, interfaces()).is_empty(),
    };
    while !is_there() && began.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(200));
        modules.load_for_devices();
    }
    sys::set_up("lo").map_err(|error| format!("lo cannot be brought up: {error}"))?;
    if interfaces().is_empty() {
        return Err(cards::no_interface());
    }
    let (mut chosen, made) = match plan {
        Some(plan) => {
            let (top, made) = plan.make(parameters, modules)?;
            (vec![top], Some(made))
        }
        None => (wanted(parameters, interfaces()), None),
    };
    if chosen.is_empty() {
        let device = parameters.boot_mac.as_ref().or(parameters.boot_device.as_ref()).cloned().unwrap_or_default();
        return Err(format!(
            "no interface is {device}, which the command line asks for; there are: {}",
            cards::list(&interfaces())
        ));
    }
    if made.is_none()
        && parameters.boot_mac.is_none()
        && let Some(device) = &parameters.boot_device
        && cards::called(&chosen, device, &parameters.card_names).is_none()
    {
        say!("no interface is named {device}: all are tried; ifname={device}:MAC or BOOTIF=MAC names one for sure");
    }
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
    let mut lease = match &parameters.method {
        Method::Fixed(fixed) => {
            let linked = chosen.iter().find(|one| has_carrier(&one.name)).or(chosen.first());
            given(fixed, linked.ok_or("no interface")?)
        }
        Method::Dhcp => dhcp::ask(&chosen)?,
        Method::Auto6 => v6::ask(&chosen, false)?,
        Method::Dhcp6 => v6::ask(&chosen, true)?,
    };
    lease.made = made;
    lease.hostname = lease.hostname.or_else(|| parameters.node.clone());
    configure(&lease)?;
    Ok(lease)
}

fn given(fixed: &Fixed, interface: &Interface) -> Lease {
    Lease {
        interface: interface.clone(),
        address: fixed.address,
        prefix: fixed.prefix,
        gateway: fixed.gateway,
        dns: fixed.dns.clone(),
        domain: None,
        hostname: fixed.hostname.clone(),
        source: Source::Given,
        mtu: None,
        made: None,
    }
}

/// Sets address, route and name servers for this program's own use.
pub(crate) fn configure(lease: &Lease) -> Result<(), String> {
    let name = &lease.interface.name;
    let said = |what: &str, error: std::io::Error| format!("{what} of {name} cannot be set: {error}");
    if let Some(mtu) = lease.mtu.filter(|mtu| (576..=9216).contains(mtu))
        && let Err(error) = sys::set_mtu(name, mtu)
    {
        say!("the MTU {mtu} that the server asks for is refused by {name}: {error}");
    }
    match lease.address {
        IpAddr::V4(address) => {
            sys::set_address(name, address, lease.prefix).map_err(|error| said("the address", error))?
        }
        // What routers announce is the kernel's own work.
        IpAddr::V6(_) if lease.source == Source::Announced => {}
        IpAddr::V6(address) => match sys::set_address6(name, address, lease.prefix) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(said("the address", error)),
            _ => v6::wait_until_usable(name, address)?,
        },
    }
    let route = match lease.gateway {
        Some(IpAddr::V4(gateway)) => sys::add_default_route(gateway),
        Some(IpAddr::V6(gateway)) => sys::add_default_route6(name, gateway),
        None => Ok(()),
    };
    if let Err(error) = route
        && error.raw_os_error() != Some(libc::EEXIST)
    {
        return Err(said("the default route", error));
    }
    let _ = std::fs::create_dir_all("/etc");
    if let Err(error) = std::fs::write(RESOLV_CONF, resolv_conf(lease)) {
        say!("{RESOLV_CONF} cannot be written, so host names cannot be looked up: {error}");
    }
    say!("{name} ({}) has {}/{}", lease.interface.mac, lease.address, lease.prefix);
    Ok(())
}

/// Text of resolv.conf.
pub(crate) fn resolv_conf(lease: &Lease) -> String {
    let mut text = String::new();
    if let Some(domain) = &lease.domain {
        text.push_str(&format!("search {domain}\n"));
    }
    for server in &lease.dns {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text
}

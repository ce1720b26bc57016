//! The program of the image that runs its network: which one it is, and its settings for what the node booted over.

mod ifupdown;
mod network_manager;
mod networkd;
mod own;
#[cfg(test)]
mod tests;

use std::path::Path;

pub(super) use own::Own;

use super::new_root::{has, write};
use crate::network::lease::{Lease, Source};
use crate::sys;

/// Who runs the image's network.
pub(super) enum Manager {
    /// One that knows interfaces by their MAC addresses.
    ByMac,
    /// One that knows them by their names.
    ByName,
    /// The image has a configuration of its own for what the node booted over.
    Own(Own),
    /// No one.
    None,
}

/// What runs the image's network, and which file of it has priority over what the node booted with.
enum Chosen {
    /// A configuration of the image's own.
    Own(Own),
    NetworkManager,
    Ifupdown,
    /// With the image's own configuration for what the node booted over, if it has one.
    Networkd(Option<Own>),
    None,
}

impl Chosen {
    fn of(lease: &Lease, boot: &own::Boot) -> Self {
        // Where its administrator has switched it on, its files count whatever else is installed.
        if has("etc/systemd/system/multi-user.target.wants/systemd-networkd.service")
            && let Some(file) = own::of_networkd(boot)
        {
            return Self::Own(file);
        }
        let has_ifupdown = has("usr/sbin/ifup");
        if has_ifupdown && let Some(file) = own::of_ifupdown(boot) {
            return Self::Own(file);
        }
        if has("usr/sbin/netplan")
            && let Some(file) = own::of_netplan(boot)
        {
            return Self::Own(file);
        }
        if has("usr/sbin/NetworkManager") {
            return own::of_network_manager(boot).map_or(Self::NetworkManager, Self::Own);
        }
        let asks = match lease.source {
            Source::Given | Source::Announced => true,
            Source::Dhcp { .. } | Source::Dhcp6 => has("usr/sbin/dhclient"),
        };
        if has_ifupdown && asks {
            return Self::Ifupdown;
        }
        match has("usr/lib/systemd/systemd-networkd") {
            true => Self::Networkd(own::of_networkd(boot)),
            false => Self::None,
        }
    }
}

/// What runs the new root's network, as [`configure`] would have it. It names a file of the image that has priority.
pub(super) fn name(lease: &Lease) -> String {
    match Chosen::of(lease, &own::Boot::of(lease, false)) {
        Chosen::Own(own) | Chosen::Networkd(Some(own)) => own.file,
        Chosen::NetworkManager => "NetworkManager".to_owned(),
        Chosen::Ifupdown => "ifupdown".to_owned(),
        Chosen::Networkd(None) => "systemd-networkd".to_owned(),
        Chosen::None => NONE.to_owned(),
    }
}

/// What [`name`] gives where nothing runs it.
pub(super) const NONE: &str = "nothing";

/// Writes into the new root alone what its network needs; what is in /run and runs stays as it is, which the same service reads again.
///
/// # Errors
/// A text.
pub(super) fn configure_again(lease: &Lease) -> Result<(), String> {
    match Chosen::of(lease, &own::Boot::of(lease, false)) {
        Chosen::Ifupdown => ifupdown::write_files(lease),
        _ => Ok(()),
    }
}

/// Configures it, by what the image has; with `is_needed` the root or other files of the node come over the network.
pub(super) fn configure(lease: &Lease, is_needed: bool) -> Result<Manager, String> {
    match Chosen::of(lease, &own::Boot::of(lease, is_needed)) {
        Chosen::Own(file) => Ok(Manager::Own(file)),
        Chosen::NetworkManager => {
            let has_card = own::Boot::below(lease).is_some_and(|card| own::of_network_manager(&card).is_some());
            let is_given = |id: &str| !has_card || id == network_manager::MAIN;
            for (name, text) in network_manager::connections(lease).into_iter().filter(|(id, _)| is_given(id)) {
                let file = format!("/run/NetworkManager/system-connections/{name}.nmconnection");
                write(Path::new(&file), &text, 0o600)?;
            }
            if is_needed || lease.made.is_some() && !fault::planted("node-nothing-assumed") {
                for (name, id) in network_manager::parts(lease).into_iter().filter(|(_, id)| is_given(id)) {
                    let Ok(number) = sys::interface_index(name) else { continue };
                    let text = network_manager::state(&id);
                    write(Path::new(&format!("/run/NetworkManager/devices/{number}")), &text, 0o644)?;
                }
            }
            Ok(Manager::ByMac)
        }
        Chosen::Ifupdown => {
            ifupdown::write_files(lease)?;
            Ok(Manager::ByName)
        }
        Chosen::Networkd(own) => {
            networkd::enable().map_err(|error| error.to_string())?;
            if let Some(file) = own {
                return Ok(Manager::Own(file));
            }
            write(Path::new("/run/systemd/network/10-imgbuild.network"), &networkd::network(lease, is_needed), 0o644)?;
            let has_card = own::Boot::below(lease).is_some_and(|card| own::of_networkd(&card).is_some());
            if let Some(text) = networkd::below(lease).filter(|_| !has_card) {
                write(Path::new("/run/systemd/network/10-imgbuild-cards.network"), &text, 0o644)?;
            }
            Ok(Manager::ByMac)
        }
        Chosen::None => Ok(Manager::None),
    }
}

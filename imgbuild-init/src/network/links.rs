//! Bonds and VLANs: interfaces that the command line makes of cards.
//!
//! Source: kernel, Documentation/networking/bonding.rst (sysfs), and linux/if_vlan.h.

use std::path::{Path, PathBuf};

use super::cards;
use super::lease::{Interface, Made};
use crate::cmdline::Parameters;
use crate::modules::Modules;
use crate::words::{Bond, Vlan};
use crate::{say, sys};

/// How often a bond looks at the links of its cards, in milliseconds. Without it a dead card goes on getting its share.
const MIIMON: &str = "100";

/// What is to be made.
pub(super) struct Plan {
    bond: Option<Bond>,
    vlan: Option<Vlan>,
}

/// What the network to boot from is made of: the VLAN or bond that `ip=` or `netdev=` names, else the first one.
pub(super) fn plan(parameters: &Parameters) -> Option<Plan> {
    let named = |name: &str| parameters.boot_device.as_deref() == Some(name);
    let bond_of = |name: &str| parameters.bonds.iter().find(|bond| bond.name == name).cloned();
    if let Some(bond) = parameters.bonds.iter().find(|bond| named(&bond.name)) {
        return Some(Plan { bond: Some(bond.clone()), vlan: None });
    }
    let vlan = parameters.vlans.iter().find(|vlan| named(&vlan.name)).or(parameters.vlans.first());
    if let Some(vlan) = vlan {
        return Some(Plan { bond: bond_of(&vlan.card), vlan: Some(vlan.clone()) });
    }
    parameters.bonds.first().map(|bond| Plan { bond: Some(bond.clone()), vlan: None })
}

impl Plan {
    /// Names of the cards that it needs.
    fn cards(&self) -> Vec<&str> {
        match (&self.bond, &self.vlan) {
            (Some(bond), _) => bond.cards.iter().map(String::as_str).collect(),
            (None, Some(vlan)) => vec![&vlan.card],
            (None, None) => Vec::new(),
        }
    }

    /// Whether all its cards are there.
    pub(super) fn are_all_there(&self, parameters: &Parameters) -> bool {
        let all = cards::cards();
        self.cards().iter().all(|name| cards::called(&all, name, &parameters.card_names).is_some())
    }

    /// Makes it; what the network is on, and what that is made of.
    pub(super) fn make(&self, parameters: &Parameters, modules: &Modules) -> Result<(Interface, Made), String> {
        let bond = match &self.bond {
            Some(bond) => {
                let cards = bond_cards(bond, parameters)?;
                make_bond(bond, &cards, modules)?;
                Some((bond.clone(), cards))
            }
            None => None,
        };
        let below = match (&bond, &self.vlan) {
            (Some((bond, _)), _) => interface(&bond.name)?,
            (None, Some(vlan)) => card_of(vlan, parameters)?,
            (None, None) => return Err("there is nothing to make".to_owned()),
        };
        let Some(vlan) = &self.vlan else { return Ok((below, Made { bond, vlan: None })) };
        sys::set_up(&below.name).map_err(|error| format!("{} cannot be brought up: {error}", below.name))?;
        make_vlan(vlan, &below, modules)?;
        Ok((interface(&vlan.name)?, Made { bond, vlan: Some((vlan.clone(), below)) }))
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new("/sys/class/net").join(name)
}

fn interface(name: &str) -> Result<Interface, String> {
    let mac = std::fs::read_to_string(folder(name).join("address"));
    let mac = mac.map_err(|error| format!("{name} cannot be read: {error}"))?;
    Ok(Interface { name: name.to_owned(), mac: mac.trim().to_lowercase() })
}

/// The cards of a bond that are there; that of BOOTIF is the first one, because the bond gets its MAC address.
fn bond_cards(bond: &Bond, parameters: &Parameters) -> Result<Vec<Interface>, String> {
    let all = cards::cards();
    let mut found: Vec<Interface> = Vec::new();
    let mut missing = Vec::new();
    for name in &bond.cards {
        match cards::called(&all, name, &parameters.card_names) {
            Some(card) if !found.contains(&card) => found.push(card),
            Some(_) => {}
            None => missing.push(name.as_str()),
        }
    }
    let why = || {
        format!(
            "{} has no card {}; there are: {}. ifname={}:MAC says which one is meant",
            bond.name,
            missing.join(", "),
            cards::list(&all),
            missing.first().unwrap_or(&"NAME")
        )
    };
    if found.is_empty() {
        return Err(why());
    }
    if !missing.is_empty() {
        say!("{}", why());
    }
    found.sort_by_key(|card| Some(&card.mac) != parameters.boot_mac.as_ref());
    Ok(found)
}

/// What a VLAN lies on: its card, or that of BOOTIF where no card has the name.
fn card_of(vlan: &Vlan, parameters: &Parameters) -> Result<Interface, String> {
    let all = cards::cards();
    if let Some(card) = cards::called(&all, &vlan.card, &parameters.card_names) {
        return Ok(card);
    }
    let why =
        format!("{} is to be on {}, and no card has this name; there are: {}", vlan.name, vlan.card, cards::list(&all));
    match all.iter().find(|one| Some(&one.mac) == parameters.boot_mac.as_ref()) {
        Some(card) => {
            say!("{why}; it is made on {}, which BOOTIF= names", card.name);
            Ok(card.clone())
        }
        None => Err(format!("{why}. ifname={}:MAC says which one is meant", vlan.card)),
    }
}

fn make_bond(bond: &Bond, cards: &[Interface], modules: &Modules) -> Result<(), String> {
    let name = &bond.name;
    let masters = Path::new("/sys/class/net/bonding_masters");
    if !masters.exists() {
        modules.load("bonding");
        if !masters.exists() {
            return Err(format!("{name} cannot be made: the kernel of this image has no module bonding"));
        }
        // The module makes one by itself.
        if name != "bond0" {
            let _ = std::fs::write(masters, "-bond0");
        }
    }
    let said = |what: &str, error: std::io::Error| format!("{what} of {name} cannot be set: {error}");
    if !folder(name).exists() {
        std::fs::write(masters, format!("+{name}")).map_err(|error| format!("{name} cannot be made: {error}"))?;
    }
    let set = |key: &str, value: &str| {
        std::fs::write(folder(name).join("bonding").join(key), value)
            .map_err(|error| said(&format!("{key}={value}"), error))
    };
    let members = std::fs::read_to_string(folder(name).join("bonding/slaves")).unwrap_or_default();
    if members.trim().is_empty() {
        // The mode first: the other options depend on it, and it can only be set while the bond is down and empty.
        let _ = sys::set_down(name);
        let of_members = |key: &str| key == "primary" || key == "active_slave";
        set("mode", bond.option("mode").unwrap_or("balance-rr"))?;
        if bond.option("miimon").is_none() && bond.option("arp_interval").is_none() {
            set("miimon", MIIMON)?;
        }
        for (key, value) in
            bond.options.iter().filter(|(key, _)| key != "mode" && key != "max_bonds" && !of_members(key))
        {
            match key.as_str() {
                // Addresses are added one by one.
                "arp_ip_target" => value.split(',').try_for_each(|one| set(key, &format!("+{one}")))?,
                _ => set(key, value)?,
            }
        }
        for card in cards {
            // A card that is up is refused.
            let _ = sys::set_down(&card.name);
            if let Err(error) = std::fs::write(folder(name).join("bonding/slaves"), format!("+{}", card.name)) {
                say!("{} cannot be a card of {name}: {error}", card.name);
            }
        }
        for (key, value) in bond.options.iter().filter(|(key, _)| of_members(key)) {
            let own = cards::called(cards, value, &[]).map_or(value.clone(), |card| card.name);
            if let Err(problem) = set(key, &own) {
                say!("{problem}");
            }
        }
    }
    let members = std::fs::read_to_string(folder(name).join("bonding/slaves")).unwrap_or_default();
    if members.trim().is_empty() {
        return Err(format!("{name} has no card that works"));
    }
    if let Some(mtu) = bond.mtu {
        sys::set_mtu(name, mtu).map_err(|error| said("the MTU", error))?;
    }
    sys::set_up(name).map_err(|error| format!("{name} cannot be brought up: {error}"))?;
    say!("{name} is made of {} ({})", members.trim().replace(' ', ", "), bond.option("mode").unwrap_or("balance-rr"));
    Ok(())
}

fn make_vlan(vlan: &Vlan, below: &Interface, modules: &Modules) -> Result<(), String> {
    if folder(&vlan.name).exists() {
        return Ok(());
    }
    modules.load("8021q");
    sys::add_vlan(&below.name, vlan.id, &vlan.name).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOPKG | libc::EOPNOTSUPP) => {
            format!("{} cannot be made: the kernel of this image has no module 8021q", vlan.name)
        }
        _ => format!("{} cannot be made on {}: {error}", vlan.name, below.name),
    })?;
    say!("{} is VLAN {} on {}", vlan.name, vlan.id, below.name);
    Ok(())
}

/// Undoes it: the cards are as they were, so that the image can make of them what it says.
pub(crate) fn unmake(made: &Made) {
    let said = |name: &str, outcome: std::io::Result<()>| {
        if let Err(error) = outcome {
            say!("{name} cannot be removed: {error}");
        }
    };
    if let Some((vlan, _)) = &made.vlan {
        said(&vlan.name, sys::remove_vlan(&vlan.name));
    }
    if let Some((bond, _)) = &made.bond {
        said(&bond.name, std::fs::write("/sys/class/net/bonding_masters", format!("-{}", bond.name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_carries_the_boot_network_is_made_and_nothing_else() {
        let of = |text: &str| {
            plan(&Parameters::parse(text)).map(|plan| {
                let cards = plan.cards().join(",");
                (plan.bond.map(|bond| bond.name), plan.vlan.map(|vlan| vlan.id), cards)
            })
        };
        let bond = Some("bond0".to_owned());
        assert_eq!(of("ip=eth0:dhcp"), None);
        assert_eq!(of("bond=bond0:a,b:mode=1"), Some((bond.clone(), None, "a,b".to_owned())));
        assert_eq!(of("bond=bond0:a,b vlan=vlan7:bond0"), Some((bond.clone(), Some(7), "a,b".to_owned())));
        assert_eq!(of("bond=bond0:a,b vlan=vlan7:bond0 ip=bond0:dhcp"), Some((bond, None, "a,b".to_owned())));
        assert_eq!(of("vlan=vlan7:a vlan=vlan8:c ip=vlan8:dhcp"), Some((None, Some(8), "c".to_owned())));
    }
}

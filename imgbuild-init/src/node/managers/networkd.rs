//! What systemd-networkd is given. Source: systemd.network(5).

use std::path::PathBuf;

use crate::network::lease::{Lease, Source};
use crate::node::new_root::has;

/// For this boot, whatever the image says.
pub(super) fn enable() -> std::io::Result<()> {
    let wanted = |target: &str, unit: &str| {
        let wants = PathBuf::from(format!("/run/systemd/system/{target}.wants"));
        std::fs::create_dir_all(&wants)?;
        let _ = std::os::unix::fs::symlink(format!("/usr/lib/systemd/system/{unit}"), wants.join(unit));
        Ok(())
    };
    wanted("multi-user.target", "systemd-networkd.service")?;
    // Without it network-online.target waits for nothing, and what comes after it (mounts, munge) starts without an address.
    let waits = "systemd-networkd-wait-online.service";
    if has(&format!("usr/lib/systemd/system/{waits}")) { wanted("network-online.target", waits) } else { Ok(()) }
}

/// Number of the association of a card's addresses: the last four bytes of its own, as `network::v6` and NetworkManager have it.
fn association(mac: &str) -> u32 {
    mac.split(':')
        .skip(2)
        .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
        .fold(0, |number, byte| number << 8 | u32::from(byte))
}

/// A file for what has the address.
pub(super) fn network(lease: &Lease, is_needed: bool) -> String {
    let matched = match &lease.made {
        Some(_) => format!("Name={}", lease.interface.name),
        None => format!("MACAddress={}", lease.interface.mac),
    };
    // What it did not make it removes when it starts, and without the root there is no one who could ask again.
    let kept = match lease.source {
        _ if is_needed => "KeepConfiguration=yes\n",
        Source::Dhcp { .. } => "KeepConfiguration=dhcp-on-stop\n",
        Source::Announced | Source::Dhcp6 | Source::Given => "",
    };
    let method = match lease.source {
        Source::Dhcp { .. } => format!("DHCP=ipv4\n{kept}\n[DHCPv4]\nClientIdentifier=mac\n"),
        Source::Announced => format!("IPv6AcceptRA=yes\n{kept}"),
        // The identifiers are those by which the node asked before: else it would be given another address.
        Source::Dhcp6 => format!(
            "DHCP=ipv6\nIPv6AcceptRA=yes\n{kept}\n[DHCPv6]\nDUIDType=link-layer\nIAID={}\nWithoutRA=solicit\n\n[IPv6AcceptRA]\nDHCPv6Client=always\n",
            association(&lease.interface.mac)
        ),
        Source::Given => {
            let gateway = lease.gateway.map(|gateway| format!("Gateway={gateway}\n")).unwrap_or_default();
            let dns: String = lease.dns.iter().map(|server| format!("DNS={server}\n")).collect();
            format!("Address={}/{}\n{gateway}{dns}{kept}", lease.address, lease.prefix)
        }
    };
    format!("[Match]\n{matched}\n\n[Network]\n{method}")
}

/// A file that keeps it away from what a bond or a VLAN lies on: a file of the image for any card, as many images have one, would
/// take the cards out of the bond, ask for addresses on them, and `network-online.target` would wait for these.
pub(super) fn below(lease: &Lease) -> Option<String> {
    let names: Vec<&str> =
        lease.made.as_ref()?.names().into_iter().filter(|name| *name != lease.interface.name).collect();
    Some(format!("[Match]\nName={}\n\n[Link]\nUnmanaged=yes\n", names.join(" ")))
}

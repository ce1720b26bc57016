//! What ifupdown is given. Source: interfaces(5), dhclient.conf(5).

use std::net::IpAddr;

use crate::network::lease::{Lease, Source};
use crate::node::new_root::{inside, write};
use crate::say;

/// A file of /etc/network/interfaces.d. All that it does can be done to an interface that has the address already, and without a
/// moment in which it has none.
pub fn stanza(lease: &Lease) -> String {
    let name = &lease.interface.name;
    let family = if lease.address.is_ipv4() { "inet" } else { "inet6" };
    let method = match lease.source {
        Source::Dhcp { .. } | Source::Dhcp6 => "dhcp\n".to_owned(),
        Source::Announced => "auto\n".to_owned(),
        Source::Given => {
            let program = if lease.address.is_ipv4() { "ip" } else { "ip -6" };
            let address = format!("{}/{} dev {name}", lease.address, lease.prefix);
            let route = |gateway: IpAddr| format!("    up {program} route replace default via {gateway} dev {name}\n");
            let dns: String = lease.dns.iter().map(|server| format!(" {server}")).collect();
            // For resolvconf and systemd-resolved, where /etc/resolv.conf is theirs.
            let dns = if dns.is_empty() { dns } else { format!("    dns-nameservers{dns}\n") };
            format!(
                "manual\n    up ip link set dev {name} up\n    up {program} address replace {address}\n{}    down {program} address delete {address}\n{dns}",
                lease.gateway.map(route).unwrap_or_default()
            )
        }
    };
    format!("auto {name}\niface {name} {family} {method}")
}

/// Whether one of its files has the others read, or ours.
fn reads_ours(interfaces: &str) -> bool {
    interfaces.lines().map(str::trim).any(|line| {
        matches!(line.split_whitespace().next(), Some("source" | "source-directory")) && line.contains("interfaces.d")
    })
}

/// What is added for dhclient, so that it is the client that asked before. By another identifier a server gives another address, and
/// the one that the node booted with is no longer renewed.
fn identifier(name: &str) -> String {
    format!("\ninterface \"{name}\" {{\n    send dhcp-client-identifier = hardware;\n}}\n")
}

/// Whether its administrator says how the client is called; Debian's file has that as a comment.
fn names_the_client(configuration: &str) -> bool {
    configuration.lines().map(str::trim).any(|line| !line.starts_with('#') && line.contains("dhcp-client-identifier"))
}

/// Writes its files into the new root.
pub fn write_files(lease: &Lease) -> Result<(), String> {
    write(&inside("etc/network/interfaces.d/imgbuild"), &stanza(lease), 0o644)?;
    add("etc/network/interfaces", "source /etc/network/interfaces.d/imgbuild\n", reads_ours)?;
    if lease.dhcp().is_some() {
        add("etc/dhcp/dhclient.conf", &identifier(&lease.interface.name), names_the_client)?;
    }
    Ok(())
}

/// Adds lines to a file of the new root, unless it has what they are for.
fn add(path: &str, lines: &str, is_there: fn(&str) -> bool) -> Result<(), String> {
    let place = inside(path);
    if place.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
        say!("/{path} is a link and stays as it is: {}", lines.trim());
        return Ok(());
    }
    let text = std::fs::read_to_string(&place).unwrap_or_default();
    if is_there(&text) { Ok(()) } else { write(&place, &format!("{text}{lines}"), 0o644) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_name_in_a_comment_is_none() {
        assert!(!names_the_client("#send dhcp-client-identifier 1:0:a0:24:ab:fb:9c;\n"));
        assert!(names_the_client("send dhcp-client-identifier = hardware;\n"));
    }

    #[test]
    fn what_reads_no_other_files_is_told_of_ours() {
        assert!(reads_ours("auto lo\nsource /etc/network/interfaces.d/*\n"));
        assert!(reads_ours("source-directory interfaces.d\n"));
        assert!(!reads_ours("# source /etc/network/interfaces.d/*\nsource /etc/other\n"));
    }
}

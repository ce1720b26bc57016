//! What ifupdown is given. Source: interfaces(5), dhclient.conf(5).

use std::io::Write;
use std::net::IpAddr;

use crate::network::lease::{Lease, Source};
use crate::node::new_root::{beneath, inside, text_of, write};
use crate::say;

/// A file of /etc/network/interfaces.d. All that it does can be done to an interface that has the address already, and without a
/// moment in which it has none.
pub(super) fn stanza(lease: &Lease) -> String {
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

/// Whether one of its files has ours read: by the name of the folder, or a pattern that it fits.
fn reads_ours(interfaces: &str) -> bool {
    let of_ours = |words: &[&str]| match words {
        ["source", paths @ ..] => {
            paths.iter().any(|path| path.ends_with("interfaces.d/*") || path.ends_with("interfaces.d/imgbuild"))
        }
        ["source-directory", paths @ ..] => {
            paths.iter().any(|path| path.trim_end_matches('/').ends_with("interfaces.d"))
        }
        _ => false,
    };
    interfaces.lines().any(|line| of_ours(&line.split_whitespace().collect::<Vec<&str>>()))
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
pub(super) fn write_files(lease: &Lease) -> Result<(), String> {
    write(&inside("etc/network/interfaces.d/imgbuild"), &stanza(lease), 0o644)?;
    add("etc/network/interfaces", "source /etc/network/interfaces.d/imgbuild\n", reads_ours)?;
    if lease.dhcp().is_some()
        && let Err(problem) = add("etc/dhcp/dhclient.conf", &identifier(&lease.interface.name), names_the_client)
    {
        // The address may be another one then; that is no reason not to start.
        say!("{problem}");
    }
    Ok(())
}

/// Adds lines to a file of the new root, unless it has what they are for. What is there stays, to the byte, with its mode and owner.
fn add(path: &str, lines: &str, is_there: fn(&str) -> bool) -> Result<(), String> {
    let said = |error: std::io::Error| format!("/{path} cannot be added to: {error}");
    let place = beneath(path).map_err(said)?;
    let found = match place.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return write(&place, lines, 0o644),
        Err(error) => return Err(said(error)),
    };
    if !found.is_file() {
        say!("/{path} is not a plain file and stays as it is: {}", lines.trim());
        return Ok(());
    }
    let Some(text) = text_of(&place) else { return Err(said(std::io::Error::other("it cannot be read"))) };
    if is_there(&text) {
        return Ok(());
    }
    let mut file = std::fs::OpenOptions::new().append(true).open(&place).map_err(said)?;
    let break_before = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    file.write_all(format!("{break_before}{lines}").as_bytes()).map_err(said)
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
        assert!(!reads_ours("source /etc/network/interfaces.d/*.cfg\nsource /etc/network/interfaces.d/storage\n"));
        assert!(!reads_ours("# source /etc/network/interfaces.d/*\nsource /etc/other\n"));
    }
}

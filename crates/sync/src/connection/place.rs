//! Where ssh finds a node: where the site's own configuration says, else at the address that nodes.toml gives it; and what it knows it by.

use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

/// Options of ssh for a node of an address, and a list of host keys besides those that the site has. A command that is not ssh finds nodes
/// in its own way.
pub(crate) fn options(ssh: &[String], node: &str, address: Option<IpAddr>, known_hosts: Option<&Path>) -> Vec<String> {
    let program = ssh.first().map_or("ssh", String::as_str);
    let is_ssh = Path::new(program).file_name().is_some_and(|name| name == "ssh");
    if !is_ssh || address.is_none() && known_hosts.is_none() {
        return Vec::new();
    }
    // What ssh would do; nothing is connected.
    let asked = Command::new(program)
        .args(ssh.iter().skip(1))
        .args(["-G", "--", node])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let Some(said) = asked.ok().filter(|output| output.status.success()) else { return Vec::new() };
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let value = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ').map(str::to_owned));
    let mut options = Vec::new();
    if let Some(file) = known_hosts {
        let others = value("globalknownhostsfile").filter(|files| files != "none").unwrap_or_default();
        options.extend(["-o".to_owned(), format!("GlobalKnownHostsFile=\"{}\" {others}", file.display())]);
    }
    let is_here = value("hostname").is_some_and(|name| name.eq_ignore_ascii_case(node));
    let Some(address) = address.filter(|_| is_here) else { return options };
    options.extend(["-o".to_owned(), format!("HostName={address}")]);
    // Keys are known by the name, as without the address.
    if value("hostkeyalias").is_none() {
        options.extend(["-o".to_owned(), format!("HostKeyAlias={node}")]);
    }
    options
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_node_is_found_by_its_address_unless_the_site_says_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let run = |name: &str, said: &str, known_hosts: Option<&str>| {
            let program = folder.path().join(name);
            std::fs::write(&program, format!("#!/bin/sh\necho '{said}'\n")).unwrap();
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
            let words = [program.display().to_string(), "-F".to_owned(), "none".to_owned()];
            options(&words, "cn1", "10.0.0.11".parse().ok(), known_hosts.map(Path::new)).join(" ")
        };
        let options = |name: &str, said: &str| run(name, said, None);
        assert_eq!(options("ssh", "user root\nhostname cn1"), "-o HostName=10.0.0.11 -o HostKeyAlias=cn1");
        assert_eq!(options("ssh", "hostname CN1\nhostkeyalias all"), "-o HostName=10.0.0.11");
        assert_eq!(options("ssh", "hostname 192.0.2.1"), "");
        assert_eq!(options("ssh", ""), "");
        assert_eq!(options("wrapper", "hostname cn1"), "");
        // Lists of the site stay beside ours, also where the site says where the node is.
        let with_keys = |said: &str| run("ssh", said, Some("/tmp/a b"));
        let site = "hostname 192.0.2.1\nglobalknownhostsfile /etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2";
        let lists = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2";
        assert_eq!(with_keys(site), format!("-o GlobalKnownHostsFile=\"/tmp/a b\" {lists}"));
        assert_eq!(
            with_keys("hostname cn1\nglobalknownhostsfile none"),
            "-o GlobalKnownHostsFile=\"/tmp/a b\"  -o HostName=10.0.0.11 -o HostKeyAlias=cn1"
        );
        assert_eq!(run("wrapper", site, Some("/tmp/a b")), "");
    }
}

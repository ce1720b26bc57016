//! `ip=`: how the node gets its address. Source: kernel, Documentation/admin-guide/nfs/nfsroot.rst, and dracut.cmdline(7).

use std::net::{IpAddr, Ipv4Addr};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Method {
    /// DHCP for IPv4.
    #[default]
    Dhcp,
    /// IPv6: what routers announce, and DHCPv6 where they say so.
    Auto6,
    Dhcp6,
    Fixed(Fixed),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    pub address: IpAddr,
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
    pub hostname: Option<String>,
    pub dns: Vec<IpAddr>,
}

fn method(word: &str) -> Option<Method> {
    match word {
        "dhcp" | "on" | "any" | "both" | "bootp" | "dhcp4" | "single-dhcp" => Some(Method::Dhcp),
        "auto6" | "either6" => Some(Method::Auto6),
        "dhcp6" => Some(Method::Dhcp6),
        _ => None,
    }
}

/// Whether a text can be a card's name. Source: dev_valid_name() of Linux, and what the separators leave.
fn is_device(text: &str) -> bool {
    (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// The parts between colons; those of an address stand in brackets.
fn parts(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut is_inside) = (0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '[' => is_inside = true,
            ']' => is_inside = false,
            ':' if !is_inside => {
                found.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&text[start..]);
    found
}

fn parse(text: &str) -> Result<IpAddr, String> {
    let plain = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    plain.parse().map_err(|_| format!("`{text}` is not an address"))
}

/// Reads a method, `INTERFACE:METHOD`, or an address with all that belongs to it; the interface beside it.
pub fn read(value: &str) -> Result<(Method, Option<String>), String> {
    if value.is_empty() {
        return Ok((Method::Dhcp, None));
    }
    let parts = parts(value);
    let part = |index: usize| parts.get(index).copied().filter(|text| !text.is_empty());
    let device = |index: usize| match part(index) {
        Some(name) if !is_device(name) => Err(format!("`{name}` cannot be the name of a card")),
        name => Ok(name.map(str::to_owned)),
    };
    if let (1, Some(method)) = (parts.len(), method(value)) {
        return Ok((method, None));
    }
    if let Some(method) = part(1).and_then(method) {
        return Ok((method, device(0)?));
    }
    if parts[0].is_empty() {
        // The kernel's own.
        let method = part(6).and_then(method).ok_or("it names no method, such as dhcp or auto6")?;
        return Ok((method, device(5)?));
    }
    let address = parse(parts[0])?;
    if parts.len() < 4 {
        return Err("write ADDRESS::GATEWAY:NETMASK, and behind it :HOSTNAME:INTERFACE:none:NAMESERVER".to_owned());
    }
    let prefix = match (part(3), address) {
        (None, IpAddr::V4(_)) => 24,
        (None, IpAddr::V6(_)) => 64,
        (Some(text), IpAddr::V4(_)) if text.contains('.') => {
            let mask: u32 = text.parse::<Ipv4Addr>().map_err(|_| format!("`{text}` is not a netmask"))?.into();
            if mask.leading_ones() + mask.trailing_zeros() < 32 {
                return Err(format!("`{text}` is not a netmask"));
            }
            mask.leading_ones() as u8
        }
        (Some(text), address) => {
            let most = if address.is_ipv4() { 32 } else { 128 };
            text.parse()
                .ok()
                .filter(|bits| *bits <= most)
                .ok_or(format!("`{text}` is not the length of a network's prefix"))?
        }
    };
    let gateway = part(2).map(parse).transpose()?;
    if gateway.is_some_and(|gateway| gateway.is_ipv4() != address.is_ipv4()) && !fault::planted("gateway-of-other-kind")
    {
        return Err("the gateway's address is of the other kind".to_owned());
    }
    let dns = [7, 8].into_iter().filter_map(part).map(parse).collect::<Result<_, _>>()?;
    let fixed = Fixed { address, prefix, gateway, hostname: part(4).map(str::to_owned), dns };
    Ok((Method::Fixed(fixed), device(5)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_the_card_that_they_are_for() {
        for (text, method, device) in [
            ("", Method::Dhcp, None),
            ("dhcp", Method::Dhcp, None),
            ("eth1:dhcp", Method::Dhcp, Some("eth1")),
            ("eth0.20:dhcp", Method::Dhcp, Some("eth0.20")),
            (":::::eth1:dhcp", Method::Dhcp, Some("eth1")),
            ("auto6", Method::Auto6, None),
            ("eno1:either6", Method::Auto6, Some("eno1")),
            ("bond0:dhcp6", Method::Dhcp6, Some("bond0")),
        ] {
            assert_eq!(read(text), Ok((method, device.map(str::to_owned))), "{text}");
        }
        for text in [
            "none",
            "link6",
            "10.1.2",
            "10.1.2.3",
            "a/b:dhcp",
            ":::::eth1:none",
            "10.1.2.3:::255.0.255.0",
            "10.1.2.3:::33",
            "é:dhcp",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn given_addresses_are_of_both_kinds() {
        let fixed = |text: &str| match read(text).unwrap() {
            (Method::Fixed(fixed), device) => (fixed, device),
            other => panic!("{other:?}"),
        };
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let (found, device) = fixed("10.1.2.3::10.1.2.1:255.255.0.0:node7:eth1:none:10.1.2.2");
        assert_eq!((found.address, found.gateway, found.prefix), (ip("10.1.2.3"), Some(ip("10.1.2.1")), 16));
        assert_eq!((found.hostname.as_deref(), device.as_deref()), (Some("node7"), Some("eth1")));
        assert_eq!(found.dns, [ip("10.1.2.2")]);
        let (found, device) = fixed("[fd00::5]::[fd00::1]:64:node7:eth1:none:[fd00::2]");
        assert_eq!((found.address, found.gateway, found.prefix), (ip("fd00::5"), Some(ip("fd00::1")), 64));
        assert_eq!((found.dns.as_slice(), device.as_deref()), (&[ip("fd00::2")][..], Some("eth1")));
        assert!(read("[fd00::5]::10.0.0.1:64").is_err());
    }
}

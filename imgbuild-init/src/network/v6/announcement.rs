//! What routers announce of themselves, as far as the kernel keeps it to itself. Source: RFC 4861, section 4.2; RFC 8106.

use std::net::Ipv6Addr;

use super::message::{addresses, domain};

const ADVERTISEMENT: u8 = 134;
const NAME_SERVERS: u8 = 25;
const SEARCH_LIST: u8 = 31;

/// What a router says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Announcement {
    /// Addresses come by DHCPv6.
    pub is_managed: bool,
    /// Other things come by DHCPv6, such as name servers.
    pub has_other: bool,
    /// Name servers.
    pub dns: Vec<Ipv6Addr>,
    /// Domain.
    pub domain: Option<String>,
}

impl Announcement {
    /// Reads the message.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 16 || bytes[0] != ADVERTISEMENT || bytes[1] != 0 {
            return None;
        }
        let mut found = Self { is_managed: bytes[5] & 0x80 != 0, has_other: bytes[5] & 0x40 != 0, ..Self::default() };
        let mut rest = &bytes[16..];
        while let [kind, length, ..] = *rest {
            let length = usize::from(length) * 8;
            if length == 0 || length > rest.len() {
                return None;
            }
            let (option, behind) = rest.split_at(length);
            // Kind, length, two reserved bytes, and for how long.
            match kind {
                NAME_SERVERS => found.dns.extend(addresses(option.get(8..)?)),
                SEARCH_LIST => found.domain = found.domain.or(domain(option.get(8..)?)),
                _ => {}
            }
            rest = behind;
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_router_says_is_read_and_damage_is_none() {
        let mut bytes = vec![ADVERTISEMENT, 0, 0, 0, 64, 0xc0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([1, 1, 0x52, 0x54, 0, 0, 0, 1]);
        bytes.extend([NAME_SERVERS, 3, 0, 0, 0, 0, 7, 8]);
        bytes.extend("fd00::53".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend([SEARCH_LIST, 3, 0, 0, 0, 0, 7, 8]);
        bytes.extend(b"\x07cluster\x04site\0\0\0");
        let found = Announcement::read(&bytes).unwrap();
        assert!(found.is_managed && found.has_other);
        assert_eq!(found.dns, ["fd00::53".parse::<Ipv6Addr>().unwrap()]);
        assert_eq!(found.domain.as_deref(), Some("cluster.site"));
        for end in 0..bytes.len() {
            let _ = Announcement::read(&bytes[..end]);
        }
        bytes[17] = 0;
        assert_eq!(Announcement::read(&bytes), None);
    }
}

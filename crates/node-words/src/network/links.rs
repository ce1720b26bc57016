//! `bond=` and `vlan=`. Source: dracut.cmdline(7).

/// Cards that work as one: `bond=NAME[:CARDS[:OPTIONS[:MTU]]]`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bond {
    pub name: String,
    pub cards: Vec<String>,
    /// Options of the bonding driver, in their order.
    pub options: Vec<(String, String)>,
    pub mtu: Option<u16>,
}

/// A network with a number on a card or a bond: `vlan=NAME:CARD`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Vlan {
    /// Its name, which ends in the number.
    pub name: String,
    pub card: String,
    pub id: u16,
}

/// Whether a text can be the name of a network device. Source: dev_valid_name() of Linux.
fn is_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

fn name(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(format!("`{text}` cannot be the name of a network device")) }
}

/// The driver's modes, and their numbers. Source: kernel, Documentation/networking/bonding.rst.
const MODES: [&str; 7] =
    ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"];

fn is_mode(text: &str) -> bool {
    MODES.contains(&text) || text.parse().is_ok_and(|number: usize| number < MODES.len())
}

impl Bond {
    pub fn read(value: &str) -> Result<Self, String> {
        let mut parts = value.splitn(4, ':');
        let mut next = |default: &'static str| match parts.next() {
            Some(text) if !text.is_empty() => text,
            _ => default,
        };
        let own = match value {
            "" => "bond0",
            _ => value.split(':').next().unwrap_or_default(),
        };
        next("");
        let cards = next("eth0,eth1").split(',').map(name).collect::<Result<Vec<_>, _>>()?;
        let mut options = Vec::new();
        // An option's own list has semicolons, as dracut writes it.
        for option in next("mode=balance-rr").split(',') {
            let Some((key, text)) = option.split_once('=') else {
                return Err(format!("`{option}` is not an option, such as mode=802.3ad"));
            };
            if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err(format!("`{option}` is not an option, such as mode=802.3ad"));
            }
            if key == "mode" && !is_mode(text) {
                return Err(format!("`{text}` is not a mode; the modes are {}", MODES.join(", ")));
            }
            options.push((key.to_owned(), text.replace(';', ",")));
        }
        let mtu = match next("") {
            "" => None,
            text => Some(text.parse().map_err(|_| format!("`{text}` is not an MTU"))?),
        };
        Ok(Self { name: name(own)?, cards, options, mtu })
    }

    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

impl Vlan {
    /// Reads what `vlan=` says. The number is what the name ends in: `vlan20`, `vlan0020`, `eth0.20`, `eth0.0020`.
    pub fn read(value: &str) -> Result<Self, String> {
        let (own, card) = value.split_once(':').ok_or("write vlan=NAME:CARD, for instance vlan=vlan20:eth0")?;
        let (own, card) = (name(own)?, name(card)?);
        let digits = match own.rsplit_once('.') {
            Some((_, digits)) => digits,
            None => own.trim_start_matches(|letter: char| !letter.is_ascii_digit()),
        };
        let id = digits.parse::<u16>().ok().filter(|id| (1..=4094).contains(id) || fault::planted("vlan-any-number"));
        let id = id.ok_or_else(|| format!("`{own}` does not end in a VLAN's number, 1 to 4094"))?;
        Ok(Self { name: own, card, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bond_is_read_as_dracut_reads_it() {
        let whole =
            Bond::read("bond1:eno1,eno2:mode=active-backup,arp_interval=100,arp_ip_target=10.0.0.1;10.0.0.2:9000")
                .unwrap();
        assert_eq!(
            (whole.name.as_str(), whole.cards.join(" ").as_str(), whole.mtu),
            ("bond1", "eno1 eno2", Some(9000))
        );
        assert_eq!(whole.option("mode"), Some("active-backup"));
        assert_eq!(whole.option("arp_ip_target"), Some("10.0.0.1,10.0.0.2"));
        for text in ["", "bond0", "bond0:", "bond0:eth0,eth1:", "bond0:eth0,eth1:mode=balance-rr"] {
            let bond = Bond::read(text).unwrap();
            assert_eq!((bond.name.as_str(), bond.cards.join(" ").as_str()), ("bond0", "eth0 eth1"), "{text}");
            assert_eq!((bond.option("mode"), bond.mtu), (Some("balance-rr"), None), "{text}");
        }
        for text in [
            ":eth0",
            "bond0:a/b",
            "bond0:eth0:lacp",
            "bond0:eth0:../mode=1",
            "bond0:eth0:mode=1:big",
            "bond0:eth0:mode=lacp",
            "bond0:eth0:mode=7",
            "bond0:,",
        ] {
            assert!(Bond::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_vlan_has_its_number_in_its_name() {
        for (text, id) in [("vlan20:eth0", 20), ("vlan0005:bond0", 5), ("eth0.20:eth0", 20), ("eno1.0020:eno1", 20)] {
            assert_eq!(Vlan::read(text).map(|vlan| vlan.id), Ok(id), "{text}");
        }
        for text in ["vlan20", "storage:eth0", "vlan0:eth0", "vlan4095:eth0", "vlan20:", "eth0.x20:eth0", "a b1:eth0"] {
            assert!(Vlan::read(text).is_err(), "{text}");
        }
    }
}

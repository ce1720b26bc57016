//! The kernel's command line.

/// What it says to this program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// URL of the packed image.
    pub url: Option<String>,
    /// Hexadecimal SHA-256 of the index.
    pub digest: Option<String>,
    /// MAC address of the interface to use, with colons, lower case.
    pub boot_mac: Option<String>,
    /// `ip=`, unless it is `dhcp`.
    pub fixed: Option<Fixed>,
    /// Size of the root file system.
    pub root_limit: Option<String>,
    /// Print what is known and stop.
    pub rescue: bool,
    /// Seconds after which a node without image starts again; 0: never.
    pub reboot_after: u64,
    /// The whole text.
    pub text: String,
}

/// An address that is given. Source: kernel, Documentation/admin-guide/nfs/nfsroot.rst, `ip=`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fixed {
    /// Address.
    pub address: String,
    /// Gateway; may be empty.
    pub gateway: String,
    /// Netmask.
    pub netmask: String,
    /// Host name; may be empty.
    pub hostname: String,
    /// Interface; may be empty.
    pub device: String,
    /// Name servers.
    pub dns: Vec<String>,
}

impl Parameters {
    /// Reads /proc/cmdline.
    pub fn read() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default())
    }

    /// Reads a command line; of a parameter that stands twice the last one counts.
    pub fn parse(text: &str) -> Self {
        let mut found = Self { reboot_after: 1800, text: text.trim().to_owned(), ..Self::default() };
        for word in text.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name {
                "imgurl" => found.url = Some(value.to_owned()),
                "imgdigest" => found.digest = Some(value.strip_prefix("sha256:").unwrap_or(value).to_lowercase()),
                "BOOTIF" => found.boot_mac = mac(value),
                "ip" => found.fixed = fixed(value),
                "rootlimit" if !value.is_empty() => found.root_limit = Some(value.to_owned()),
                "imgbuild.rescue" => found.rescue = true,
                "imgbuild.reboot_after" => found.reboot_after = value.parse().unwrap_or(found.reboot_after),
                _ => {}
            }
        }
        found
    }
}

/// `01-aa-bb-cc-dd-ee-ff` (the hardware type in front) or a MAC address with colons.
fn mac(value: &str) -> Option<String> {
    let parts: Vec<&str> = value.split(['-', ':']).collect();
    let bytes = match parts.len() {
        7 => &parts[1..],
        6 => &parts[..],
        _ => return None,
    };
    let good = bytes.iter().all(|byte| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit()));
    good.then(|| bytes.join(":").to_lowercase())
}

fn fixed(value: &str) -> Option<Fixed> {
    let parts: Vec<&str> = value.split(':').collect();
    if parts.len() < 4 || parts[0].parse::<std::net::Ipv4Addr>().is_err() {
        return None;
    }
    let part = |index: usize| parts.get(index).copied().unwrap_or_default().to_owned();
    let dns = [7, 8].iter().map(|index| part(*index)).filter(|text| !text.is_empty()).collect();
    let netmask = if part(3).is_empty() { "255.255.255.0".to_owned() } else { part(3) };
    Some(Fixed { address: part(0), gateway: part(2), netmask, hostname: part(4), device: part(5), dns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read() {
        let found = Parameters::parse(
            "quiet imgurl=http://10.0.0.1:80//i/rootimg.cpio.zst imgdigest=sha256:AB BOOTIF=01-52-54-00-AA-bb-cc rootlimit=2g imgbuild.reboot_after=5\n",
        );
        assert_eq!(found.url.as_deref(), Some("http://10.0.0.1:80//i/rootimg.cpio.zst"));
        assert_eq!(found.digest.as_deref(), Some("ab"));
        assert_eq!(found.boot_mac.as_deref(), Some("52:54:00:aa:bb:cc"));
        assert_eq!((found.root_limit.as_deref(), found.reboot_after, found.rescue), (Some("2g"), 5, false));
        assert!(Parameters::parse("imgbuild.rescue").rescue);
    }

    #[test]
    fn a_given_address_is_read_and_dhcp_is_none() {
        assert_eq!(Parameters::parse("ip=dhcp").fixed, None);
        let fixed = Parameters::parse("ip=10.1.2.3::10.1.2.1:255.255.0.0:node7:eth1:none:10.1.2.2").fixed.unwrap();
        assert_eq!(
            (fixed.address.as_str(), fixed.gateway.as_str(), fixed.hostname.as_str()),
            ("10.1.2.3", "10.1.2.1", "node7")
        );
        assert_eq!(fixed.dns, ["10.1.2.2"]);
    }
}

//! The kernel's command line.

use std::collections::BTreeMap;

use crate::words::{self, Bond, Method, Vlan};

/// How an image that stays packed comes to be the root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Root {
    /// It is fetched whole before it is the root.
    #[default]
    Whole,
    /// It is read from servers while the node runs.
    Lazy {
        /// Most bytes that are kept in memory; all where it says nothing.
        keep: Option<u64>,
    },
}

impl Root {
    /// Reads `memory`, `lazy`, `lazy,keep=300M`; none where it is something else.
    fn read(text: &str) -> Option<Self> {
        match text.split_once(',') {
            None if text == "memory" => Some(Self::Whole),
            None if text == "lazy" => Some(Self::Lazy { keep: None }),
            Some(("lazy", rest)) => Some(Self::Lazy { keep: Some(bytes(rest.strip_prefix("keep=")?)?) }),
            _ => None,
        }
    }

    /// Whether it is read while the node runs.
    pub(crate) fn is_lazy(self) -> bool {
        self != Self::Whole
    }

    /// Most bytes that are kept in memory.
    pub(crate) fn keep(self) -> Option<u64> {
        match self {
            Self::Whole => None,
            Self::Lazy { keep } => keep,
        }
    }
}

/// A number of bytes, with `K`, `M` or `G` behind it.
fn bytes(text: &str) -> Option<u64> {
    let (number, shift) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 10),
        (at, 'm' | 'M') => (&text[..at], 20),
        (at, 'g' | 'G') => (&text[..at], 30),
        _ => (text, 0),
    };
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    number.checked_mul(1 << shift)
}

/// What it says to this program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// URL of the packed image.
    pub url: Option<String>,
    /// Where else it is.
    pub other_urls: Vec<String>,
    /// `imgbuild.report=`: where this node reports how far it is.
    pub report: Option<String>,
    /// Hexadecimal SHA-256 of the index.
    pub digest: Option<String>,
    /// MAC address of the interface to use, with colons, lower case.
    pub boot_mac: Option<String>,
    /// `netdev=`: name of the interface to use; counts where no MAC address is given.
    pub boot_device: Option<String>,
    /// `ip=`: how the node gets its address.
    pub method: Method,
    /// `bond=`: cards that work as one.
    pub bonds: Vec<Bond>,
    /// `vlan=`: networks with a number on a card or a bond.
    pub vlans: Vec<Vlan>,
    /// `ifname=`: names and MAC addresses of cards.
    pub card_names: Vec<(String, String)>,
    /// Size of the root file system.
    pub root_limit: Option<String>,
    /// `rootflags=`: further options of the root tmpfs, for instance `mpol=interleave`.
    pub root_flags: Option<String>,
    /// `NODE=`: the node's name, for where the DHCP server gives none.
    pub node: Option<String>,
    /// `imgcache=`: a disk of the node that keeps frames.
    pub cache: Option<String>,
    /// `imgbuild.image=cache`: what stays packed lies on that disk, and not in memory.
    pub image_in_cache: bool,
    /// `imgbuild.writes=cache`: what the node writes beside such an image lies there too.
    pub writes_in_cache: bool,
    /// `imgbuild.root=`: how a squashfs or erofs image comes to be the root.
    pub root: Root,
    /// `imgbuild.statelite=`: hexadecimal SHA-256 of the list of this node's own paths.
    pub statelite: Option<String>,
    /// `STATEMNT=`: where what persists lies; empty where the list says it.
    pub state: Option<String>,
    /// `MNTOPTS=`: how that is mounted.
    pub state_options: Option<String>,
    /// `statelite.localdisk=`: the disk for what is `localdisk`.
    pub local_disk: Option<String>,
    /// `statelite.NAME=`: values of variables in the list's directories.
    pub variables: BTreeMap<String, String>,
    /// `root=nfs:SERVER:/DIRECTORY:OPTIONS`: the directory, and options.
    pub nfs_root: Option<(String, String)>,
    /// `imgbuild.kdump=`: hexadecimal SHA-256 of what the kernel is made of that writes a dump.
    pub kdump: Option<String>,
    /// `imgbuild.dump=`: this is that kernel; the host that the image came from.
    pub dump: Option<String>,
    /// Print what is known and stop.
    pub rescue: bool,
    /// What is not done as it says, a sentence each.
    pub unread: Vec<String>,
    /// Seconds after which a node without image starts again; 0: never.
    pub reboot_after: u64,
    /// The whole text.
    pub text: String,
}

impl Parameters {
    /// Reads /proc/cmdline.
    pub(crate) fn read() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default())
    }

    /// Reads a command line; of a parameter that stands twice the last one counts.
    pub(crate) fn parse(text: &str) -> Self {
        let mut found = Self { reboot_after: 1800, text: text.trim().to_owned(), ..Self::default() };
        let mut boot_mac = None;
        for word in text.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name {
                "imgurl" => {
                    let mut all = addresses(value).into_iter();
                    found.url = all.next();
                    found.other_urls = all.collect();
                }
                "imgbuild.report" => found.report = (!value.is_empty()).then(|| value.to_owned()),
                "imgdigest" => found.digest = Some(value.strip_prefix("sha256:").unwrap_or(value).to_lowercase()),
                // A boot loader may add its own behind one that already exists.
                "BOOTIF" => boot_mac = mac(value).or(boot_mac),
                "netdev" if !value.is_empty() => found.boot_device = Some(value.to_owned()),
                "ifname" => {
                    let pair = value.split_once(':').and_then(|(name, text)| Some((name.to_owned(), mac(text)?)));
                    found.card_names.extend(pair);
                }
                "NODE" if is_host_name(value) => found.node = Some(value.to_owned()),
                "ip" => match words::read(value) {
                    Ok((method, device)) => {
                        found.method = if fault::planted("node-address-not-taken") { Method::Dhcp } else { method };
                        found.boot_device = device.or(found.boot_device);
                    }
                    Err(why) => found.unread.push(format!("`{word}` cannot be read: {why}; the address comes by DHCP")),
                },
                "bond" => match Bond::read(value) {
                    Ok(bond) => found.bonds.push(bond),
                    Err(why) => found.unread.push(format!("`{word}` cannot be read: {why}")),
                },
                "vlan" => match Vlan::read(value) {
                    Ok(vlan) => found.vlans.push(vlan),
                    Err(why) => found.unread.push(format!("`{word}` cannot be read: {why}")),
                },
                "bridge" | "team" => found.unread.push(format!(
                    "`{word}` is not supported by this initrd: it knows bond= and vlan=, and makes no bridges and no teams"
                )),
                "rootlimit" if !value.is_empty() => found.root_limit = Some(value.to_owned()),
                "rootflags" if !value.is_empty() => found.root_flags = Some(value.to_owned()),
                "imgcache" => found.cache = (!value.is_empty()).then(|| value.to_owned()),
                "imgbuild.image" => found.image_in_cache = value == "cache",
                "imgbuild.writes" => found.writes_in_cache = value == "cache",
                "imgbuild.root" => match Root::read(value) {
                    Some(root) => found.root = root,
                    None => found.unread.push(format!(
                        "`{word}` cannot be read: write imgbuild.root=lazy, imgbuild.root=lazy,keep=300M or imgbuild.root=memory"
                    )),
                },
                "imgbuild.statelite" => {
                    found.statelite = Some(value.strip_prefix("sha256:").unwrap_or(value).to_lowercase());
                }
                "imgbuild.kdump" => {
                    found.kdump = Some(value.strip_prefix("sha256:").unwrap_or(value).to_lowercase());
                }
                "imgbuild.dump" => found.dump = Some(value.to_owned()),
                "STATEMNT" => found.state = Some(value.to_owned()),
                "MNTOPTS" => found.state_options = Some(value.to_owned()),
                "statelite.localdisk" => found.local_disk = (!value.is_empty()).then(|| value.to_owned()),
                "root" | "NFSROOT" => match nfs_root(name, value) {
                    Some(Ok(root)) => found.nfs_root = Some(root),
                    Some(Err(())) => found.unread.push(format!(
                        "`{word}` cannot be read: write root=nfs:SERVER:/DIRECTORY; the root is the image of imgurl="
                    )),
                    None => {}
                },
                "imgbuild.rescue" => found.rescue = true,
                "imgbuild.reboot_after" => found.reboot_after = value.parse().unwrap_or(found.reboot_after),
                _ => {
                    if let Some(variable) = name.strip_prefix("statelite.") {
                        found.variables.insert(variable.to_owned(), value.to_owned());
                    }
                }
            }
        }
        // `ifname=NIC:MAC` says which card netdev= means; alone, it names the one to boot from.
        let named = &found.card_names;
        let of_name = |device: &String| named.iter().find(|(name, _)| name == device).map(|(_, mac)| mac.clone());
        // With a bond or a VLAN, `ifname=` says which card is meant there.
        let is_plain = found.bonds.is_empty() && found.vlans.is_empty();
        found.boot_mac = boot_mac.or_else(|| match &found.boot_device {
            Some(device) => of_name(device),
            None => named.first().filter(|_| is_plain).map(|(_, mac)| mac.clone()),
        });
        found
    }
}

/// What `root=` and `NFSROOT=` say of a root over NFS; none where they are of something else. Source: dracut.cmdline(7), `root=nfs:`.
fn nfs_root(name: &str, value: &str) -> Option<Result<(String, String), ()>> {
    let text = match name {
        "NFSROOT" => value,
        _ => value.strip_prefix("nfs:").or_else(|| value.strip_prefix("nfs4:"))?,
    };
    let Some((server, rest)) = text.split_once(":/").filter(|(server, _)| !server.is_empty()) else {
        return Some(Err(()));
    };
    let (directory, options) = rest.split_once(':').unwrap_or((rest, ""));
    Some(Ok((format!("{server}:/{directory}"), options.to_owned())))
}

/// Scheme, host and port of an address.
pub(crate) fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    &url[..end]
}

/// Host of an address, without port and brackets.
pub(crate) fn host_of(url: &str) -> &str {
    let place = origin(url).split_once("://").map_or("", |(_, place)| place);
    match place.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => place.split(':').next().unwrap_or_default(),
    }
}

/// The addresses of `imgurl=`, separated by commas. A comma is a letter of an address unless the next address begins behind it.
/// One without a path has that of the first.
pub(crate) fn addresses(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for part in text.split(',') {
        match all.last_mut() {
            Some(last) if !(part.starts_with("http://") || part.starts_with("https://")) => {
                last.push(',');
                last.push_str(part);
            }
            _ => all.push(part.to_owned()),
        }
    }
    all.iter_mut().for_each(|one| one.truncate(one.trim_end_matches(',').len()));
    let path = all.first().map(|first| first[origin(first).len()..].to_owned()).unwrap_or_default();
    for one in &mut all {
        if origin(one).len() == one.trim_end_matches('/').len() {
            *one = format!("{}{path}", origin(one));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|one| !one.is_empty() && seen.insert(one.clone()));
    all
}

/// Letters, digits, hyphens and dots, as in a host name (RFC 1123, 2.1).
pub(crate) fn is_host_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    (1..=64).contains(&text.len()) && text.bytes().all(good) && text.as_bytes()[0].is_ascii_alphanumeric()
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
        assert!(matches!(Parameters::parse("ip=10.1.2.3::10.1.2.1:24").method, Method::Fixed(_)));
        let found = Parameters::parse("imgcache=LABEL=nodecache imgbuild.image=cache imgbuild.writes=memory");
        assert_eq!(found.cache.as_deref(), Some("LABEL=nodecache"));
        assert!(found.image_in_cache && !found.writes_in_cache && Parameters::parse("imgcache=").cache.is_none());
    }

    #[test]
    fn the_words_of_xcat_are_understood_or_passed_over() {
        let found = Parameters::parse(
            "imgurl=http://10.0.0.1:80//install/netboot/debian12/x86_64/compute/rootimg.cpio.gz XCAT=10.0.0.1:3001 NODE=node1 FC=0 nonodestatus XCATHTTPPORT=80 netdev=eth0 console=tty0 console=ttyS0,115200n8r selinux=0 PARTITION_DOMOUNT_RH rootlimit=3g rootflags=mpol=interleave",
        );
        assert_eq!(
            found.url.as_deref(),
            Some("http://10.0.0.1:80//install/netboot/debian12/x86_64/compute/rootimg.cpio.gz")
        );
        assert_eq!((found.node.as_deref(), found.boot_device.as_deref()), (Some("node1"), Some("eth0")));
        assert_eq!((found.digest, found.boot_mac, found.root_limit.as_deref()), (None, None, Some("3g")));
        assert_eq!(found.root_flags.as_deref(), Some("mpol=interleave"));
        assert_eq!(Parameters::parse("NODE=a/../b NODE=").node, None);
    }

    #[test]
    fn a_root_is_fetched_whole_or_read() {
        let root = |text: &str| Parameters::parse(text).root;
        for (text, expected) in [
            ("quiet", Root::Whole),
            ("imgbuild.root=lazy", Root::Lazy { keep: None }),
            ("imgbuild.root=lazy imgbuild.root=memory", Root::Whole),
            ("imgbuild.root=lazy imgbuild.root=lazy,keep=300M", Root::Lazy { keep: Some(300 << 20) }),
            ("imgbuild.root=lazy,keep=1g", Root::Lazy { keep: Some(1 << 30) }),
            ("imgbuild.root=lazy,keep=4096", Root::Lazy { keep: Some(4096) }),
        ] {
            assert_eq!(root(text), expected, "{text}");
        }
        for bad in [
            "lazy,",
            "lazy,keep=",
            "lazy,keep=M",
            "lazy,keep=0",
            "lazy,keep=99999999999G",
            "lazy,keep=1\u{e9}",
            "nbd",
            "",
        ] {
            let found = Parameters::parse(&format!("imgbuild.root={bad}"));
            assert_eq!((found.root, found.unread.len()), (Root::Whole, 1), "{bad}");
        }
    }

    #[test]
    fn words_of_statelite_are_those_of_xcat_and_its_own() {
        let found = Parameters::parse(
            "root=nfs:10.0.0.1:/install/x/rootimg:ro,nfsvers=3 STATEMNT=10.0.0.5:/state XCAT=10.0.0.1:3001 NODE=n01 MNTOPTS=nfsvers=3 imgbuild.statelite=sha256:AB statelite.noderes.nfsserver=10.0.0.9 statelite.localdisk=LABEL=local",
        );
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(found.nfs_root, Some(("10.0.0.1:/install/x/rootimg".to_owned(), "ro,nfsvers=3".to_owned())));
        assert_eq!((found.state, found.state_options), (text("10.0.0.5:/state"), text("nfsvers=3")));
        assert_eq!((found.statelite, found.local_disk), (text("ab"), text("LABEL=local")));
        assert_eq!(found.variables["noderes.nfsserver"], "10.0.0.9");
        assert_eq!(Parameters::parse("root=/dev/sda1").nfs_root, None);
        assert_eq!(Parameters::parse("NFSROOT=h:/a").nfs_root, Some(("h:/a".to_owned(), String::new())));
        assert_eq!(Parameters::parse("root=nfs:/a").unread.len(), 1);
        assert_eq!(Parameters::parse("STATEMNT=").state, text(""));
    }

    #[test]
    fn the_card_is_named_by_its_address_before_its_name() {
        let mac = |text: &str| Parameters::parse(text).boot_mac;
        let (one, other) = (Some("52:54:00:00:00:01".to_owned()), Some("52:54:00:00:00:02".to_owned()));
        assert_eq!(mac("ifname=eno1:52:54:00:00:00:01"), one);
        assert_eq!(mac("ifname=eno1:52:54:00:00:00:01 ifname=eno2:52:54:00:00:00:02 netdev=eno2"), other);
        assert_eq!(mac("ifname=eno1:52:54:00:00:00:01 netdev=eno9"), None);
        assert_eq!(mac("ifname=eno1:52:54:00:00:00:01 BOOTIF=01-52-54-00-00-00-02"), other);
        assert_eq!(mac("BOOTIF=52:54:00:00:00:02 BOOTIF=!mac!"), other);
    }

    #[test]
    fn the_host_of_an_address_has_no_port() {
        for (url, host) in [("http://10.0.0.1:80/x", "10.0.0.1"), ("https://[fd00::1]:81/x", "fd00::1"), ("", "")] {
            assert_eq!(host_of(url), host);
        }
        let found = Parameters::parse("imgbuild.kdump=sha256:AB");
        assert_eq!((found.kdump.as_deref(), found.dump), (Some("ab"), None));
        assert_eq!(Parameters::parse("imgbuild.dump=").dump.as_deref(), Some(""));
    }

    #[test]
    fn addresses_are_separated_where_the_next_one_begins() {
        let of = |text: &str| addresses(text).join(" ");
        for (text, all) in [
            ("http://a/x/rootimg", "http://a/x/rootimg"),
            ("http://a/x,http://b/y", "http://a/x http://b/y"),
            ("http://[fd00::1]:81/x,https://[fd00::2]/y", "http://[fd00::1]:81/x https://[fd00::2]/y"),
            ("http://a/x,http://b,http://c:81/", "http://a/x http://b/x http://c:81/x"),
            ("http://a/x,y/z,http://b", "http://a/x,y/z http://b/x,y/z"),
            ("http://a/x,", "http://a/x"),
            ("http://a/x,http://a/x,http://a", "http://a/x"),
            ("", ""),
            ("tftp://a/x", "tftp://a/x"),
        ] {
            assert_eq!(of(text), all, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let unread = |text: &str| Parameters::parse(text).unread;
        for good in ["ip=dhcp", "ip=eth0.20:dhcp vlan=eth0.20:eth0", "bond=bond0:eth0,eth1:mode=802.3ad", "ip=auto6"] {
            assert_eq!(unread(good), Vec::<String>::new(), "{good}");
        }
        for bad in ["ip=10.1.2", "vlan=storage:eth0", "bond=:eth0", "bridge=br0:eth0", "team=team0:eth0"] {
            assert_eq!(unread(bad).len(), 1, "{bad}");
        }
        let found =
            Parameters::parse("ip=vlan20:dhcp bond=bond0:eno1,eno2 vlan=vlan20:bond0 ifname=eno1:52:54:00:00:00:01");
        assert_eq!((found.boot_device.as_deref(), found.boot_mac), (Some("vlan20"), None));
        assert_eq!((found.bonds.len(), found.vlans[0].id, found.card_names.len()), (1, 20, 1));
    }
}

//! Which files of a node are no part of its image, and why.

use std::fmt;
use std::sync::LazyLock;

use serde::Serialize;

use xcat::matches;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// It is recreated at each boot, or is no file of the system.
    Volatile,
    /// Packages, the build or programs make it again.
    Made,
    Database,
    Kernel,
    Node,
    Secret,
    /// Fields of the recipe say it.
    Recipe,
    /// The administrator's own list says so.
    Listed,
    /// A socket or a device, which no image has.
    Special,
}

impl Why {
    pub const ALL: [Self; 9] = [
        Self::Volatile,
        Self::Made,
        Self::Database,
        Self::Kernel,
        Self::Node,
        Self::Secret,
        Self::Recipe,
        Self::Listed,
        Self::Special,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Volatile => "volatile",
            Self::Made => "made",
            Self::Database => "database",
            Self::Kernel => "kernel",
            Self::Node => "node",
            Self::Secret => "secret",
            Self::Recipe => "recipe",
            Self::Listed => "listed",
            Self::Special => "special",
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Self::Volatile => "recreated at each boot",
            Self::Made => "recreated by packages and programs",
            Self::Database => "the package database: a rebuild writes its own",
            Self::Kernel => "kernel and initrd are built by their own stages",
            Self::Node => "the node's identity: each node makes its own",
            Self::Secret => {
                "secrets, which anyone who can fetch the image could read: sync them, or capture with --secrets"
            }
            Self::Recipe => "set by fields of the recipe",
            Self::Listed => "in the exclude list",
            Self::Special => "sockets and devices",
        }
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.name() == word)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

static TABLE: LazyLock<Vec<(Why, &'static str)>> = LazyLock::new(|| {
    let lines = include_str!("left_out.txt").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ').and_then(|(why, at)| Some((Why::of(why)?, at.trim_start())))).collect()
});

/// What genimage and packimage of xCAT put into a tree themselves, whatever its definition says. Source: section 6.2 and 7 of the
/// reference.
const OF_XCAT: [&str; 24] = [
    "./opt/xcat/*",
    "./opt/xcat",
    "./xcatpost",
    "./.statelite*",
    "./.default*",
    "./.sllocal*",
    "./etc/init.d/xcatpostinit*",
    "./etc/init.d/statelite",
    "./etc/init.d/localdisk",
    "./etc/rc?.d/*xcatpostinit*",
    "./etc/systemd/system/xcatpostinit*",
    "./etc/systemd/system/*.wants/xcatpostinit*",
    "./usr/lib/systemd/system/xcatpostinit*",
    "./lib/systemd/system/xcatpostinit*",
    "./sbin/fsck.nfs",
    "./usr/sbin/fsck.nfs",
    "./etc/resolv.conf",
    "./etc/securetty",
    "./etc/sysconfig/network",
    "./etc/sysconfig/network-scripts/ifcfg-*",
    "./etc/yum.repos.d/*.repo",
    "./bin/uname-binary",
    "./usr/bin/uname-binary",
    "./root/.bash*",
];

#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Patterns of the administrator's list, instead of those that are volatile.
    pub listed: Option<Vec<String>>,
    pub keep_secrets: bool,
    /// Whether the tree is one of genimage's, so that its own files are no one's changes.
    pub is_of_xcat: bool,
}

impl Rules {
    /// Reads a list of xCAT's imgcapture: a pattern of find a line, blanks at its beginning cut, `#` comments at its beginning
    /// only.
    pub fn read_list(text: &str) -> Vec<String> {
        let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    }

    /// Why a path, without a slash in front, is left out; none where it is kept.
    pub fn why(&self, path: &str) -> Option<Why> {
        let path = format!("./{path}");
        if let Some(listed) = &self.listed
            && listed.iter().any(|pattern| matches(pattern, &path))
        {
            return Some(Why::Listed);
        }
        // Lines of these may be a person's: they are compared with what genimage and the recipe write.
        if self.is_of_xcat && ["./etc/fstab", "./root/.ssh/authorized_keys"].contains(&path.as_str()) {
            return None;
        }
        if self.is_of_xcat && OF_XCAT.iter().any(|pattern| matches(pattern, &path)) {
            return Some(Why::Made);
        }
        let found = TABLE.iter().find(|(why, pattern)| {
            let is_off = match why {
                Why::Volatile => self.listed.is_some(),
                Why::Secret => self.keep_secrets || fault::planted("capture-keeps-secrets"),
                _ => false,
            };
            !is_off && matches(pattern, &path)
        });
        found.map(|(why, _)| *why)
    }
}

/// Whether a part of a file has a private key. Source: RFC 7468, OpenSSH's PROTOCOL.key, RFC 9580 6.2, PuTTY's manual C.3; keytabs by
/// the first two bytes of MIT's format.
pub(super) fn is_private_key(part: &[u8], is_start: bool) -> bool {
    const PUTTY: &[u8] = b"PuTTY-User-Key-File";
    if is_start && (part.starts_with(PUTTY) || part.starts_with(&[5, 2, 0, 0]) || part.starts_with(b"openssh-key-v1\0"))
    {
        return true;
    }
    let finder = |text: &[u8], what: &[u8]| memchr::memmem::find(text, what);
    let mut rest = part;
    while let Some(at) = finder(rest, b"-----BEGIN ") {
        let head = &rest[at + 11..rest.len().min(at + 75)];
        if finder(head, b"PRIVATE KEY").is_some_and(|end| finder(head, b"-----").is_none_or(|stop| end < stop)) {
            return true;
        }
        rest = &rest[at + 11..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_table_is_a_rule() {
        let lines = include_str!("left_out.txt").lines().filter(|line| !line.starts_with('#'));
        assert_eq!(TABLE.len(), lines.count());
        assert!(TABLE.iter().all(|(_, pattern)| pattern.starts_with("./") && !pattern.ends_with(' ')));
    }

    #[test]
    fn a_list_of_xcat_takes_the_place_of_what_is_volatile() {
        let rules = Rules { listed: Some(Rules::read_list("# x\n\n  ./opt/big/*\n./a b*\n")), ..Rules::default() };
        assert_eq!(rules.why("opt/big/x"), Some(Why::Listed));
        assert_eq!(rules.why("a bc"), Some(Why::Listed));
        assert_eq!((rules.why("tmp/x"), Rules::default().why("tmp/x")), (None, Some(Why::Volatile)));
        assert_eq!(rules.why("etc/machine-id"), Some(Why::Node));
        let secrets = Rules { keep_secrets: true, ..Rules::default() };
        assert_eq!((Rules::default().why("etc/shadow"), secrets.why("etc/shadow")), (Some(Why::Secret), None));
        assert_eq!(secrets.why("etc/ssh/ssh_host_rsa_key"), Some(Why::Node));
    }

    #[test]
    fn private_keys_are_known_wherever_they_stand() {
        for text in [
            &b"# mine\n-----BEGIN OPENSSH PRIVATE KEY-----\nx"[..],
            b"-----BEGIN PRIVATE KEY-----\r\n",
            b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n  -----BEGIN EC PRIVATE KEY-----\n",
            b"{\"key\": \"-----BEGIN RSA PRIVATE KEY-----\\nx\"}",
            b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n",
            b"PuTTY-User-Key-File-3: ssh-ed25519\n",
            &[5, 2, 0, 0, 0, 60],
        ] {
            assert!(is_private_key(text, true), "{}", text.escape_ascii());
        }
        assert!(!is_private_key(b"-----BEGIN CERTIFICATE-----\nPRIVATE KEY-----", true));
        assert!(!is_private_key(b"-----BEGIN PUBLIC KEY-----\n", true));
    }
}

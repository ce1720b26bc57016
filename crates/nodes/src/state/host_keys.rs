//! The public halves of a node's ssh host keys, as it reported them when it was up: one small file a node, of its last start alone.

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use super::per_node::KEYS;
use super::{STATE_FORMAT, State, StateError, now};

/// Most keys of a node that are kept, and bytes of each; imgbuild-init reports no more.
const MOST: usize = 8;
const LONGEST: usize = 4 << 10;
/// Types of keys that hosts have. Source: ssh_config(5), HostKeyAlgorithms.
const TYPES: [&str; 5] =
    ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"];

/// A key: `TYPE BASE64`, and nothing that a list of keys would read as something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostKey(String);

impl HostKey {
    /// The key of a line as `.pub` files have it; its comment is left out. Nothing where it is no key.
    pub fn of(line: &str) -> Option<Self> {
        if line.len() > LONGEST || line.chars().any(char::is_control) {
            return None;
        }
        let mut words = line.split(' ');
        let (kind, key) = (words.next()?, words.next()?);
        // The key says its type once more, behind the length of it. Source: RFC 4253, 6.6.
        let bytes = Base64::decode_vec(key).ok()?;
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let named = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let is_key = TYPES.contains(&kind) && named == kind.as_bytes() && rest.len() > named.len();
        is_key.then(|| Self(format!("{kind} {key}")))
    }

    /// The keys of lines, and how many lines were none or too many.
    pub fn all_of(text: &str) -> (Vec<Self>, usize) {
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Vec<Self> = lines().filter_map(Self::of).take(MOST).collect();
        let surplus = lines().count() - keys.len();
        (keys, surplus)
    }
}

impl TryFrom<String> for HostKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::of(&text).ok_or("this is no host key")
    }
}

impl From<HostKey> for String {
    fn from(key: HostKey) -> Self {
        key.0
    }
}

/// What is in a node's file.
#[derive(Serialize, Deserialize)]
struct Kept {
    format_version: String,
    /// When they came, in milliseconds since 1970.
    time: u64,
    keys: Vec<HostKey>,
}

/// A list of keys as ssh reads it. Source: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT. Names of nodes have no character that means something there.
pub fn known_hosts<'a>(nodes: impl IntoIterator<Item = (&'a str, &'a [HostKey])>) -> String {
    let mut text = String::new();
    for (name, keys) in nodes {
        keys.iter().for_each(|key| text.push_str(&format!("{name} {}\n", key.0)));
    }
    text
}

impl State {
    /// Keeps the keys that a node reported.
    /// Errors: They cannot be written. No node can have such a name.
    pub fn write_host_keys(&self, node: &str, keys: &[HostKey]) -> Result<(), StateError> {
        let keys = keys.iter().take(MOST).cloned().collect();
        self.keep(KEYS, node, &Kept { format_version: STATE_FORMAT.to_string(), time: now(), keys }, 0o644)
    }

    /// The keys that a node reported since it was started; none where it has not.
    pub fn host_keys(&self, node: &str) -> Vec<HostKey> {
        let mut keys = self.kept(KEYS, node).map_or_else(Vec::new, |kept: Kept| kept.keys);
        keys.truncate(MOST);
        keys
    }

    /// The same of many nodes; those without keys are left out.
    pub fn host_keys_of<'a>(&self, nodes: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, Vec<HostKey>> {
        let all = nodes.into_iter().map(|node| (node.to_owned(), self.host_keys(node)));
        all.filter(|(_, keys)| !keys.is_empty()).collect()
    }

    pub fn forget_host_keys(&self, node: &str) {
        self.forget_kept(KEYS, node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line with a key of a type, as a `.pub` file has it.
    fn line(kind: &str, named: &str, size: usize) -> String {
        let length = u32::try_from(named.len()).unwrap().to_be_bytes();
        let bytes = [length.as_slice(), named.as_bytes(), &vec![7; size]].concat();
        format!("{kind} {}", Base64::encode_string(&bytes))
    }

    #[test]
    fn a_key_is_a_type_and_its_bytes_and_nothing_that_lists_read_otherwise() {
        for kind in TYPES {
            let line = line(kind, kind, 32);
            assert_eq!(HostKey::of(&format!("{line} root@cn1 @cert-authority *")), Some(HostKey(line)));
        }
        let good = line("ssh-ed25519", "ssh-ed25519", 36);
        let key = good.split_once(' ').unwrap().1;
        for bad in [
            String::new(),
            "ssh-ed25519".to_owned(),
            "ssh-ed25519 ".to_owned(),
            key.to_owned(),
            format!("cn2 {good}"),
            format!("* {good}"),
            format!("@cert-authority * {good}"),
            format!("@revoked * {good}"),
            format!("|1|salt|hash {good}"),
            format!("{good}\n* {good}"),
            format!("ssh-ed25519\n{key}"),
            format!("{good}\r* {good}"),
            format!("{good}\0"),
            format!("ssh-ed25519\t{key}"),
            format!("ssh-ed25519  {key}"),
            format!("ssh-ed25519 {key}*"),
            format!("ssh-ed25519 {key}\u{e9}"),
            format!("ssh-rsa {key}"),
            format!("ssh-ed25519,ssh-rsa {key}"),
            format!("ssh-ed25519 {}", Base64::encode_string(&[0xff; 40])),
            line("ssh-dss", "ssh-dss", 36),
            line("ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519-cert-v01@openssh.com", 36),
            line("ssh-ed25519", "ssh-ed25519", 0),
            line("ssh-rsa", "ssh-rsa", LONGEST),
        ] {
            assert_eq!(HostKey::of(&bad), None, "{bad:?}");
            assert!(serde_json::from_value::<HostKey>(bad.into()).is_err());
        }
        // What is refused is counted, and takes no place.
        let text = format!("@cert-authority * {good}\n\n{good} root@cn1\r\n* {good}\n");
        assert_eq!(HostKey::all_of(&text), (vec![HostKey(good.clone())], 2));
        let (keys, surplus) = HostKey::all_of(&format!("{good}\n").repeat(50));
        assert_eq!((keys.len(), surplus), (MOST, 50 - MOST));
        assert_eq!(HostKey::all_of(""), (Vec::new(), 0));
    }

    #[test]
    fn keys_are_kept_of_each_node_and_written_as_a_list() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(directory.path().join("state"));
        let key = |kind: &str| HostKey::of(&line(kind, kind, 32)).unwrap();
        let (one, other) = (key("ssh-rsa"), key("ssh-ed25519"));
        assert!(state.host_keys("cn1").is_empty());
        state.write_host_keys("cn1", std::slice::from_ref(&other)).unwrap();
        state.write_host_keys("cn1", &[one.clone(), other.clone()]).unwrap();
        state.write_host_keys("cn2.site", std::slice::from_ref(&one)).unwrap();
        assert!(state.write_host_keys("../cn1", std::slice::from_ref(&one)).is_err());
        let all = state.host_keys_of(["cn2.site", "cn1", "cn3", "../cn1"]);
        let text = known_hosts(all.iter().map(|(name, keys)| (name.as_str(), keys.as_slice())));
        assert_eq!(text, format!("cn1 {}\ncn1 {}\ncn2.site {}\n", one.0, other.0, one.0));
        // However it comes, what is kept of a node is small.
        state.write_host_keys("cn3", &vec![key("ssh-rsa"); 100]).unwrap();
        assert_eq!(state.host_keys("cn3").len(), MOST);
        // A file that someone edited has no line of its own.
        let path = directory.path().join("state/keys/cn3.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("ssh-rsa", "* ssh-rsa", 1)).unwrap();
        assert!(state.host_keys("cn3").is_empty());
        state.forget_host_keys("cn1");
        assert!(state.host_keys("cn1").is_empty());
        state.forget_all("cn2.site");
        assert!(state.host_keys("cn2.site").is_empty());
    }
}

//! Files that are secrets, by their names and by what they hold.

use recipe::owners::private::{PRIVATE, fits};
use site::capture::{Rules, Why};

use super::{HASH, KEY, is_private_key, of_line};

/// Files that are secrets or one machine's identity, besides those of [`PRIVATE`] and of captures; a star stands for no slash.
const PATHS: [&str; 7] = [
    "etc/gshadow-",
    "etc/slurm-llnl/*.key",
    "root/.aws/credentials",
    "etc/machine-id",
    "etc/confluent/*.apikey",
    "var/lib/dbus/machine-id",
    "root/.gnupg/*",
];

/// What a file at this path of an image is, if it is a secret by its name.
pub(crate) fn of_path(path: &str) -> Option<&'static str> {
    let path = path.trim_start_matches('/');
    if path.ends_with(".pub") || path.ends_with("/.ssh/authorized_keys") {
        return None;
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_key =
        ["id_rsa", "id_ed25519", "id_ecdsa", "id_dsa", "munge.key"].contains(&name) || name.ends_with(".keytab");
    // Others there are files that no one but their owner may change.
    let is_private = |(pattern, bits, _): &(&str, u32, &str)| bits & 0o004 != 0 && fits(pattern, path);
    let is_secret = is_key
        || PATHS.iter().any(|pattern| fits(pattern, path))
        || PRIVATE.iter().any(is_private)
        || Rules::default().why(path) == Some(Why::Secret);
    let is_of_key = is_key || ["key", "/.ssh/id_", "/private/", ".gnupg"].iter().any(|word| path.contains(word));
    match path {
        _ if !is_secret => None,
        _ if path.ends_with("machine-id") => Some("the identity of one machine"),
        _ if path.contains("shadow") || path.ends_with("opasswd") => Some(HASH),
        _ if is_of_key => Some(KEY),
        _ => Some("a secret"),
    }
}

/// What a file has; none for one without secrets.
pub(crate) fn of_content(bytes: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(bytes);
    // Keytabs, and keys of OpenSSH in its own form.
    if bytes.starts_with(&[5, 2, 0, 0]) || bytes.starts_with(b"openssh-key-v1\0") {
        return Some(KEY);
    }
    if text.contains('\0') {
        // Keys are text also in a file of something else.
        return is_private_key(&text).then_some(KEY);
    }
    text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])).find_map(of_line)
}

//! Files of keys that a recipe names: those that sign repositories, and those that open a login.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::Reader;
use base::digest::Digest;
use base::source::{Finding, SourceFile, Span};
use pgp::Keyring;

/// Keyrings that were looked at, by their content: many images name the same.
static KNOWN: LazyLock<Mutex<HashMap<Digest, Option<String>>>> = LazyLock::new(Mutex::default);

/// Bytes of a file of keys: in memory they take many times as much.
const LARGEST: u64 = 4 << 20;

fn too_large() -> String {
    format!("it is larger than {} MiB", LARGEST >> 20)
}

/// Why no signature could be checked with a keyring.
fn problem_of(bytes: &[u8]) -> Option<String> {
    let digest = Digest::of(bytes);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(problem) = known().get(&digest) {
        return problem.clone();
    }
    let problem = Keyring::parse(bytes).err();
    known().insert(digest, problem.clone());
    problem
}

impl Reader<'_> {
    pub(super) fn keys(&mut self, at: &str, name: &str) -> Option<PathBuf> {
        let path = self.file(at, name)?;
        let problem = match witness::read_at_most(&path, LARGEST) {
            Ok(Some(bytes)) => problem_of(&bytes),
            Ok(None) => Some(too_large()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem {
            let message = format!("`{name}` contains no usable keys: {problem}");
            let help = "name a file of OpenPGP certificates, binary or ASCII-armored, as the repository's owner publishes it, not an HTML page or a list of links";
            self.findings.push(Finding::error("repo::keys", &self.span(at), message).label("named here").help(help));
        }
        Some(path)
    }

    /// Each line of a file of authorized keys has to be one that sshd reads; it passes over others in silence.
    pub(super) fn check_authorized_keys(&mut self, index: usize, path: &std::path::Path, name: &str) {
        let span = self.span(&format!("system.authorized_keys[{index}]"));
        let text = match witness::read_at_most(path, LARGEST).map(|read| read.map(String::from_utf8)) {
            Ok(Some(Ok(text))) => text,
            Ok(None) => {
                let message = format!("`{name}` cannot be read: {}", too_large());
                self.findings.push(Finding::error("recipe::too_large", &span, message).label("named here"));
                return;
            }
            Ok(Some(Err(_))) => {
                let finding =
                    Finding::error("system::no_key", &span, format!("`{name}` is not text, so it is not a public key"));
                self.findings.push(finding.label("named here").help(PUBLIC));
                return;
            }
            Err(error) => {
                let message = format!("`{name}` cannot be read: {error}");
                self.findings.push(Finding::error("recipe::no_file", &span, message).label("named here"));
                return;
            }
        };
        if text.contains("PRIVATE KEY") || text.starts_with("PuTTY-User-Key-File") {
            let finding = Finding::error("system::private_key", &span, format!("`{name}` is a private key"));
            self.findings.push(finding.label("named here").help("name the public one, which ends in .pub"));
            return;
        }
        if text.contains("---- BEGIN SSH2 PUBLIC KEY ----") {
            let message = format!("`{name}` is a key in SSH2 format, which sshd does not read in authorized_keys");
            let finding = Finding::error("system::no_key", &span, message).label("named here");
            self.findings.push(finding.help(format!("convert it: ssh-keygen -i -f {name} >NAME.pub")));
            return;
        }
        let file: Arc<SourceFile> = SourceFile::new(name, path, text.as_str());
        let (mut start, mut keys) = (0, 0);
        for line in text.split_inclusive('\n') {
            let at = start..start + line.trim_end().len();
            start += line.len();
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            keys += 1;
            if let Err(problem) = one_key(line) {
                let finding = Finding::error(
                    "system::no_key",
                    &Span::new(&file, at),
                    format!("this is not a public key: {problem}"),
                );
                self.findings.push(finding.label("sshd silently ignores it").help(PUBLIC));
            }
        }
        if keys == 0 {
            let finding = Finding::error("system::no_key", &span, format!("`{name}` contains no key"));
            self.findings.push(finding.label("named here").help(PUBLIC));
        }
    }
}

const PUBLIC: &str = "a line has a public key as ssh-keygen writes it into NAME.pub: ssh-ed25519 AAAA... comment";

/// Starts of the names of kinds of keys.
const KINDS: [&str; 5] = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "webauthn-sk-"];

const KNOWN_KINDS: [&str; 8] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ssh-dss",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// What stands behind the options of a line: these end at the first blank outside quotes.
fn behind_options(line: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    let end = line.find(|c: char| {
        let is_end = c.is_ascii_whitespace() && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        is_end
    });
    line[end.unwrap_or(line.len())..].trim_start()
}

/// Whether sshd reads a line of authorized_keys.
pub fn is_authorized_key(line: &str) -> bool {
    one_key(line).is_ok()
}

/// A line of authorized_keys. Source: sshd(8), "AUTHORIZED_KEYS FILE FORMAT".
fn one_key(line: &str) -> Result<(), String> {
    let is_kind = |text: &str| KINDS.iter().any(|start| text.starts_with(start));
    let key = if is_kind(line) { line } else { behind_options(line) };
    if !is_kind(key) {
        let first = line.split_ascii_whitespace().next().unwrap_or_default();
        return Err(format!("it names no key type (it starts with `{}`)", cut(first)));
    }
    let mut words = key.split_ascii_whitespace();
    let kind = words.next().unwrap_or_default();
    let Some(body) = words.next() else { return Err(format!("nothing follows {kind}")) };
    if !body.starts_with("AAAA") {
        return Err(format!("`{}` is not a key in base64", cut(body)));
    }
    match ssh_key::PublicKey::from_openssh(&format!("{kind} {body}")) {
        Ok(key) if key.algorithm().as_str() == kind => Ok(()),
        Ok(_) => Err(format!("the key after {kind} is truncated or damaged (it has another type)")),
        // A kind that sshd may know and the library does not.
        Err(ssh_key::Error::AlgorithmUnknown) if !KNOWN_KINDS.contains(&kind) => Ok(()),
        Err(error) => Err(format!("the key after {kind} is truncated or damaged ({error})")),
    }
}

/// The start of what may be long.
fn cut(word: &str) -> String {
    let start: String = word.chars().take(24).collect();
    let dots = if start.len() < word.len() { "..." } else { "" };
    format!("{}{dots}", start.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::{one_key, problem_of};

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty admin@site";

    #[test]
    fn lines_that_sshd_reads_are_keys_and_others_are_told_apart() {
        one_key(KEY).unwrap();
        one_key(&format!("from=\"10.0.0.0/8\",command=\"echo a b\" {KEY}")).unwrap();
        one_key(&format!("cert-authority,principals=\"a,b\" {KEY}")).unwrap();
        for (line, said) in [
            ("hello world", "names no key type (it starts with `hello`)"),
            ("ssh-ed25519", "nothing follows ssh-ed25519"),
            ("ssh-ed25519 keys/admin.pub", "`keys/admin.pub` is not a key in base64"),
            (&KEY[..60], "truncated or damaged"),
            (&KEY.replace("ssh-ed25519 ", "ssh-rsa "), "truncated or damaged"),
            ("<html><body>404", "names no key type"),
        ] {
            let problem = one_key(line).unwrap_err();
            assert!(problem.contains(said), "{line}: {problem}");
        }
    }

    #[test]
    fn what_holds_no_certificate_is_no_keyring() {
        for bytes in [&b""[..], b"<html>404</html>", KEY.as_bytes(), b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nzzzz\n"]
        {
            assert!(problem_of(bytes).is_some());
        }
    }
}

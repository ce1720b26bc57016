//! What a recipe says of dumps.

use std::path::PathBuf;

use base64ct::{Base64, Encoding};

use crate::{CacheFilesystem, Kdump, Model, SecretsRule, Spans};
use base::source::{Finding, Span};
use node_words::kdump::{Reserve, ReserveProblem, Target, TargetProblem};

/// Files that a dump over ssh needs: path and name.
#[derive(Debug, Clone, Default)]
pub struct KdumpFiles {
    pub key: Option<(PathBuf, String)>,
    pub known_hosts: Option<(PathBuf, String)>,
}

/// Where dumps go; a recipe that was checked has one.
pub fn target_of(model: &Model) -> Option<Target> {
    Target::parse(&model.kdump.as_ref()?.to).ok()
}

const PLACES: &str =
    "write nfs://SERVER/DIRECTORY, ssh://USER@HOST/DIRECTORY, or a disk of the node: LABEL=crash:/DIRECTORY";

/// What keeps a key from being used by a node, where no one types a passphrase.
fn key_problem(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let text = String::from_utf8_lossy(bytes);
    if !text.contains("PRIVATE KEY-----") {
        return Some(("is not a private key", "create one: ssh-keygen -t ed25519 -N \'\' -f keys/kdump"));
    }
    // The name of a cipher follows the first words. Source: OpenSSH, PROTOCOL.key.
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let is_openssh = text.contains("BEGIN OPENSSH PRIVATE KEY");
    let start = b"openssh-key-v1\0\0\0\0\x04none";
    let is_locked = match Base64::decode_vec(&body) {
        Ok(decoded) if is_openssh => !decoded.starts_with(start),
        _ => text.contains("ENCRYPTED"),
    };
    is_locked.then_some((
        "has a passphrase, which no one can type after a crash",
        "remove it from a copy: ssh-keygen -p -N \'\' -f KEY",
    ))
}

pub(crate) fn check(model: &Model, files: &KdumpFiles, spans: &Spans, whole: &Span) -> Vec<Finding> {
    let Some(table) = &model.kdump else { return Vec::new() };
    let span = |path: &str| spans.nearest(path).unwrap_or(whole).clone();
    let mut findings = Vec::new();
    if let Err(problem) = Reserve::parse(&table.reserve) {
        let message = format!("`{}` is not what a node can reserve: {}", table.reserve, problem.text());
        let help = match problem {
            ReserveProblem::Large | ReserveProblem::Small | ReserveProblem::Form | ReserveProblem::Auto => {
                "write ‹[kdump] reserve = \"256M\"›, or by the size of memory: \"1G-64G:256M,64G-:512M\""
            }
            ReserveProblem::Order => "write ranges from small to large, for instance \"1G-64G:256M,64G-:512M\"",
        };
        findings.push(Finding::error("kdump::reserve", &span("kdump.reserve"), message).label("here").help(help));
    }
    for (index, word) in model.boot.cmdline.iter().enumerate().filter(|(_, word)| word.starts_with("crashkernel=")) {
        let value = word.split_once('=').map_or("", |(_, value)| value);
        let message = format!("imgbuild sets `crashkernel={}` itself, from ‹[kdump]›", table.reserve);
        let finding =
            Finding::error("kdump::reserve", &span(&format!("boot.cmdline[{index}]")), message).label("here too");
        let help = match Reserve::parse(value) {
            Ok(_) => format!("remove the word, and write ‹[kdump] reserve = \"{value}\"›"),
            Err(_) => "remove the word".to_owned(),
        };
        findings.push(finding.help(help));
    }
    for (index, word) in table.cmdline.iter().enumerate() {
        if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let at = span(&format!("kdump.cmdline[{index}]"));
            let message = "each word of the command line is an item of its own";
            findings.push(Finding::error("kdump::cmdline", &at, message).help("split it at the spaces"));
        }
    }
    match Target::parse(&table.to) {
        Ok(target) => check_target(model, table, &target, files, &span, &mut findings),
        Err(problem) => {
            let help = match problem {
                TargetProblem::Port => {
                    "write ssh://USER@HOST:PORT/DIRECTORY; NFS has its port in ‹[kdump] options = \"port=2049\"›"
                }
                TargetProblem::User => "write ssh://USER@HOST/DIRECTORY",
                _ => PLACES,
            };
            let message = format!("no dump can be written to `{}`: {}", table.to, problem.text());
            findings.push(Finding::error("kdump::to", &span("kdump.to"), message).label("here").help(help));
        }
    }
    findings
}

/// What belongs to a kind of place, and what does not.
fn check_target(
    model: &Model,
    table: &Kdump,
    target: &Target,
    files: &KdumpFiles,
    span: &impl Fn(&str) -> Span,
    findings: &mut Vec<Finding>,
) {
    let is_ssh = matches!(target, Target::Ssh { .. });
    for (field, is_set, belongs) in [
        ("options", table.options.is_some(), !is_ssh),
        ("filesystem", table.filesystem != CacheFilesystem::default(), target.is_disk()),
        ("ssh_key", table.ssh_key.is_some(), is_ssh),
        ("known_hosts", table.known_hosts.is_some(), is_ssh),
    ] {
        if is_set && !belongs {
            let message = format!("`{field}` has no effect here: dumps go to {target}");
            let finding = Finding::error("kdump::field", &span(&format!("kdump.{field}")), message).label("here");
            findings.push(finding.help("remove the line, or correct ‹[kdump]› to"));
        }
    }
    if let Some(options) = table.options.as_ref().filter(|text| text.contains(char::is_whitespace)) {
        let message = format!("`{options}` is not a list of options: it contains a space");
        let finding = Finding::error("kdump::options", &span("kdump.options"), message).label("here");
        findings.push(finding.help("separate options by commas: ‹[kdump] options = \"nfsvers=3,soft\"›"));
    }
    if !is_ssh {
        return;
    }
    for (is_set, field, help) in [
        (
            table.ssh_key.is_some(),
            "ssh_key",
            "create one, ssh-keygen -t ed25519 -N \'\' -f keys/kdump, and write ‹[kdump] ssh_key = \"keys/kdump\"›",
        ),
        (
            table.known_hosts.is_some(),
            "known_hosts",
            "take it from the server, ssh-keyscan HOST >keys/kdump.hosts, compare it with the server, and write ‹[kdump] known_hosts = \"keys/kdump.hosts\"›",
        ),
    ] {
        if !is_set {
            let message = format!("a dump over ssh needs `{field}`: no one can answer a question after a crash");
            findings.push(Finding::error("kdump::ssh", &span("kdump.to"), message).label("ssh").help(help));
        }
    }
    let read = |file: &Option<(PathBuf, String)>| {
        let (path, name) = file.as_ref()?;
        Some((name.clone(), witness::read(path).ok()?))
    };
    if let Some((name, bytes)) = read(&files.key) {
        let at = span("kdump.ssh_key");
        match key_problem(&bytes) {
            Some((problem, help)) => {
                let message = format!("`{name}` {problem}");
                findings.push(Finding::error("kdump::key", &at, message).label("named here").help(help));
            }
            None if model.image.secrets != SecretsRule::Allowed => {
                let message = format!("anyone who can fetch the image can read `{name}`: it is in initrd-kdump");
                let help = "give that account access only to the directory of dumps; if this is intended, write ‹[image] secrets = \"allowed\"›";
                findings.push(Finding::note("kdump::key", &at, message).label("named here").help(help));
            }
            None => {}
        }
    }
    if let Some((name, bytes)) = read(&files.known_hosts) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let is_key = |line: &str| {
            let line = line.trim();
            !line.starts_with('#') && line.split_whitespace().filter(|word| !word.starts_with('@')).count() >= 3
        };
        let keys: Vec<&str> = text.lines().filter(|line| is_key(line)).collect();
        let (host, port) = match &target {
            Target::Ssh { host, port, .. } => (host.as_str(), *port),
            _ => return,
        };
        let missing = match keys.is_empty() {
            true => Some(format!("`{name}` contains no host key")),
            false if keys.iter().any(|line| is_of_host(line, host, port)) => None,
            false => Some(format!("`{name}` contains no key of {}", known_as(host, port))),
        };
        if let Some(message) = missing {
            let finding = Finding::error("kdump::known_hosts", &span("kdump.known_hosts"), message);
            let help = format!("take it from the server: ssh-keyscan -p {port} {host}");
            findings.push(finding.label("named here").help(help));
        }
    }
}

/// How ssh looks a host up in a list of keys. Source: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT.
fn known_as(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// Whether a line of a list of keys may be one of a host's: patterns and hashed names are not looked into.
fn is_of_host(line: &str, host: &str, port: u16) -> bool {
    let names = line.split_whitespace().find(|word| !word.starts_with('@')).unwrap_or_default();
    let wanted = known_as(host, port);
    names
        .split(',')
        .any(|name| name.eq_ignore_ascii_case(&wanted) || name.contains(['*', '?']) || name.starts_with("|1|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_of_a_host_and_its_port() {
        assert!(is_of_host("Head,10.0.0.1 ssh-ed25519 AAAA", "head", 22));
        assert!(is_of_host("[head]:2222 ssh-ed25519 AAAA", "head", 2222));
        assert!(is_of_host("@cert-authority *.cluster ssh-ed25519 AAAA", "head.cluster", 22));
        assert!(is_of_host("|1|abc=|def= ssh-ed25519 AAAA", "head", 22));
        assert!(
            !is_of_host("head ssh-ed25519 AAAA", "head", 2222) && !is_of_host("other ssh-ed25519 AAAA", "head", 22)
        );
    }

    #[test]
    fn a_key_with_a_passphrase_is_known() {
        let key = |start: &[u8]| {
            let body = Base64::encode_string(start);
            format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n")
        };
        assert_eq!(key_problem(key(b"openssh-key-v1\0\0\0\0\x04none\0\0\0\x04none").as_bytes()), None);
        let locked = key_problem(key(b"openssh-key-v1\0\0\0\0\x0aaes256-ctr").as_bytes());
        assert!(locked.unwrap().0.contains("passphrase"));
        let locked = key_problem(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
        assert!(locked.unwrap().0.contains("passphrase"));
        assert!(key_problem(b"ssh-ed25519 AAAA x\n").unwrap().0.contains("not a private key"));
    }
}

//! Secrets in what is packed: those that no one brought, and those that anybody who can fetch the image can read. Runs inside.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use base::source::{Finding, Severity};
use packages::{Maker, SECRETS};
use recipe::owners::private::fits;
use store::{Kind, LayerReader};

/// Largest file that is looked into, in bytes: keys and tokens are small.
pub(crate) const LARGEST: u64 = 64 << 10;
/// Smallest file of which its bytes tell that they are random.
const SMALLEST: u64 = 24;
/// How much of the most that so many bytes can tell makes a file look random: English has half, base64 three quarters.
const RANDOM: f64 = 0.9;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Secrets {
    /// Secrets that a unit of the image wants and that the recipe does not bring: unit, path, package.
    pub wanted: Vec<(String, String, String)>,
    /// Files that package scripts made and that look like secrets.
    pub made: Vec<String>,
    pub brought: Vec<String>,
}

/// Looks for secrets. `own` says of each layer whether the recipe's own files made it, and not packages.
pub(crate) fn secrets(reader: &LayerReader, excluded: &BTreeSet<String>, own: &[bool]) -> Result<Secrets, String> {
    let there = |path: &str| reader.tree.0.contains_key(path) && !excluded.contains(path);
    // What is enabled has a link in a directory of what wants it.
    let is_link = |path: &str, unit: &str| {
        path.strip_prefix("etc/systemd/system/")
            .and_then(|path| path.strip_suffix(unit))
            .is_some_and(|directory| directory.trim_end_matches('/').ends_with(".wants") && directory.ends_with('/'))
    };
    let starts = |unit: &str| reader.tree.0.keys().any(|path| is_link(path, unit) && there(path));
    let mut found = Secrets::default();
    for secret in SECRETS.iter().filter(|secret| secret.maker == Maker::Site) {
        let Some(unit) = secret.unit.filter(|unit| starts(unit)) else { continue };
        if !reader.tree.0.keys().any(|path| fits(secret.pattern, path) && there(path)) {
            found.wanted.push((unit.to_owned(), secret.pattern.to_owned(), secret.package.to_owned()));
        }
    }
    let mut packaged: Option<BTreeSet<String>> = None;
    for (path, entry) in &reader.tree.0 {
        let Kind::File { size, .. } = entry.entry.kind else { continue };
        // Others than root may read it anyway.
        let is_hidden = entry.entry.mode & 0o004 == 0;
        if !is_hidden || size == 0 || size > LARGEST || excluded.contains(path) {
            continue;
        }
        let Some(bytes) = reader.read(path)? else { continue };
        let is_known = SECRETS.iter().any(|secret| fits(secret.pattern, path));
        let is_own = own.get(entry.layer).copied().unwrap_or_default();
        let is_secret = match is_own {
            true => is_private_key(&bytes) || is_random(&bytes),
            false => looks_secret(entry.entry.mode, &bytes),
        };
        if !is_known && !is_secret {
            continue;
        }
        if is_own {
            found.brought.push(path.clone());
            continue;
        }
        if packaged.is_none() {
            packaged = Some(paths_of_packages(reader)?);
        }
        // What a package has in it everyone has already.
        if packaged.as_ref().is_some_and(|all| !all.is_empty() && !all.contains(path)) {
            found.made.push(path.clone());
        }
    }
    Ok(found)
}

/// Paths that dpkg's database names; none without a database. Source: dpkg-query(1), the files `info/*.list`.
fn paths_of_packages(reader: &LayerReader) -> Result<BTreeSet<String>, String> {
    let start = "var/lib/dpkg/info/";
    let lists: Vec<&String> = reader
        .tree
        .0
        .range(start.to_owned()..)
        .map(|(path, _)| path)
        .take_while(|path| path.starts_with(start))
        .filter(|path| path.ends_with(".list"))
        .collect();
    let mut all = BTreeSet::new();
    for list in lists {
        let bytes = reader.read(list)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        for path in text.lines().map(|line| line.trim_start_matches('/')) {
            // The tree has files of /lib below /usr/lib.
            let merged = ["bin/", "sbin/", "lib/", "lib64/"].iter().any(|top| path.starts_with(top));
            all.insert(if merged { format!("usr/{path}") } else { path.to_owned() });
        }
    }
    Ok(all)
}

/// Whether a file that others cannot read has the form of a secret.
pub(crate) fn looks_secret(mode: u32, bytes: &[u8]) -> bool {
    is_private_key(bytes) || is_random(bytes) || is_token(mode, bytes)
}

/// How many characters a token has.
const TOKEN: std::ops::RangeInclusive<usize> = 20..=200;
/// So many of them differ at least.
const DISTINCT: usize = 8;

/// Whether a file of its owner alone is one token in base64 or hexadecimal, with a name in front of it or without: `TOKEN`, `name = "TOKEN"`.
fn is_token(mode: u32, bytes: &[u8]) -> bool {
    let Some(text) = std::str::from_utf8(bytes).ok().filter(|_| matches!(mode & 0o777, 0o600 | 0o400)) else {
        return false;
    };
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let line = line.trim_end_matches(['"', '\'']).trim_end_matches('=');
    let token = line.rsplit([' ', '\t', ':', '=', '"', '\'']).next().unwrap_or(line);
    let has = |is: &dyn Fn(u8) -> bool| token.bytes().any(is);
    let is_hex =
        has(&|byte| byte.is_ascii_digit()) && token.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let is_mixed = has(&|byte| byte.is_ascii_digit())
        && has(&|byte| byte.is_ascii_lowercase())
        && has(&|byte| byte.is_ascii_uppercase());
    // A path or a name of several words has their signs, too.
    let is_base64 = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || (is_mixed && b"+/-_".contains(&byte)));
    let distinct: BTreeSet<u8> = token.bytes().collect();
    TOKEN.contains(&token.len()) && distinct.len() >= DISTINCT && (is_hex || is_base64)
}

/// Source: RFC 7468, sections 10 and 11; the form of OpenSSH and of OpenSSL; MIT Kerberos, keytab file format.
fn is_private_key(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]);
    let armored = text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains("PRIVATE KEY"));
    armored || bytes.starts_with(&[5, 2, 0, 0])
}

/// Whether bytes look like those of a random generator: each value about as often as any other.
fn is_random(bytes: &[u8]) -> bool {
    if (bytes.len() as u64) < SMALLEST || bytes.iter().all(u8::is_ascii_whitespace) {
        return false;
    }
    let mut counts = [0_u32; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let length = bytes.len() as f64;
    let entropy: f64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / length)
        .map(|share| -share * share.log2())
        .sum();
    // Text of few letters, however mixed, is a token only where nothing separates its words.
    let is_binary = bytes.iter().any(|byte| !byte.is_ascii());
    let is_token = bytes.trim_ascii().iter().all(u8::is_ascii_graphic) && bytes.len() < 256;
    (is_binary || is_token) && entropy / length.min(256.0).log2() > RANDOM
}

impl Secrets {
    /// What is to be said; secrets of the recipe only where these are not meant to be readable, and not what it keeps.
    pub(crate) fn findings(&self, are_allowed: bool, keep: &[String]) -> Vec<Finding> {
        let say = |severity, code, text: String, help: String| Finding::nowhere(severity, code, text).help(help);
        let mut all = Vec::new();
        for (unit, path, package) in &self.wanted {
            let text = format!(
                "{unit} is enabled but has no /{path}: the random one from the package `{package}` was removed"
            );
            let name = path.rsplit('/').next().unwrap_or_default();
            let help = format!(
                "add the site's own, the same for all nodes: a line `secrets/{name} -> /{path}` in a synclist; or disable it: ‹[services] disable = [\"{}\"]›",
                unit.trim_end_matches(".service")
            );
            all.push(say(Severity::Warning, "secrets::wanted", text, help));
        }
        let is_kept = |path: &&String| keep.iter().any(|pattern| fits(pattern.trim_start_matches('/'), path));
        let made: Vec<String> = self.made.iter().filter(|path| !is_kept(path)).cloned().collect();
        if let Some(first) = made.first() {
            let text = format!("package scripts created what look like secrets: {}", listed(&made));
            let help = format!(
                "they differ per image, all its nodes share them, and anyone who can fetch the image can read them: remove them in the postinstall script, and add the site's own; if they are intended: ‹[image] keep = [\"{first}\"]›"
            );
            all.push(say(Severity::Warning, "secrets::made", text, help));
        }
        if !self.brought.is_empty() && !are_allowed {
            // The help of notes is shown with -v only.
            let text = format!(
                "anyone who can fetch the image can read {}; if this is intended, say so: ‹[image] secrets = \"allowed\"›",
                listed(&self.brought)
            );
            let help = "let only nodes fetch it, or deliver secrets at boot";
            all.push(say(Severity::Note, "secrets::readable", text, help.to_owned()));
        }
        all
    }
}

fn listed(paths: &[String]) -> String {
    const SHOWN: usize = 5;
    let names: Vec<String> = paths.iter().take(SHOWN).map(|path| format!("/{path}")).collect();
    match paths.len() - names.len() {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_random_bytes_are_told_from_text() {
        let mut seed = 1_u64;
        let mut random = |count: usize| -> Vec<u8> {
            (0..count)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (seed >> 56) as u8
                })
                .collect()
        };
        assert!(is_random(&random(1024)) && is_random(&random(32)) && is_random(&random(128)));
        assert!(is_random(b"q8Zr1vT0xKp5WmYc3LdJ7uHbEa9G\n"));
        for text in [
            "root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n",
            "# This file is read by sudo. Do not edit it by hand.\nDefaults env_reset\n",
            "0000000000000000000000000000",
            "",
            "short",
        ] {
            assert!(!is_random(text.as_bytes()), "{text}");
        }
        for head in
            ["-----BEGIN OPENSSH PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----"]
        {
            assert!(is_private_key(format!("Comment\n{head}\nAAAA\n").as_bytes()));
        }
        assert!(!is_private_key(b"-----BEGIN CERTIFICATE-----\n") && is_private_key(&[5, 2, 0, 0, 0, 70]));
    }

    #[test]
    fn a_token_is_told_from_words_and_settings() {
        let token = |text: &str| is_token(0o100_600, text.as_bytes());
        for text in [
            "KQWZXVBNMASDFGHJKLPO",
            "5f4dcc3b5aa765d61d8327deb882cf99\n",
            "q8Zr1vT0xKp5WmYc3LdJ7uHbEa9G==\n",
            "# made by the package\nMY_TOKEN=\"q8Zr1vT0+xKp5WmYc/3LdJ7uHbEa9G=\"\n",
            "550e8400-e29b-41d4-a716-446655440000",
            "secret: 0123456789abcdef0123",
        ] {
            assert!(token(text), "{text}");
        }
        for text in [
            "",
            "short1",
            "0123456789abcdef012",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "/usr/share/site/program/files",
            "this-is-a-name-of-some-words",
            "two lines of 5f4dcc3b5aa765d61d8327deb882cf99\nand another",
            "password that somebody has to fill in",
        ] {
            assert!(!token(text), "{text}");
        }
        assert!(!is_token(0o100_640, b"5f4dcc3b5aa765d61d8327deb882cf99"), "others may read it anyway");
        assert!(!token(&"a1B2c3D4".repeat(26)), "too long");
    }

    #[test]
    fn patterns_do_not_cross_directories() {
        assert!(fits("etc/ssh/ssh_host_*", "etc/ssh/ssh_host_rsa_key"));
        assert!(
            !fits("etc/ssh/ssh_host_*", "etc/ssh/ssh_host_x/y") && !fits("etc/munge/munge.key", "etc/munge/munge.key2")
        );
    }
}

//! Keys and identities that packages make when they are installed: a table, and those that are lines of files.

use std::io::{Read, Seek, Write};
use std::sync::LazyLock;

use base::digest::Digest;
use recipe::owners::private::fits;
use store::TreeEditor;

/// Who makes a secret that no image may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// The node, at boot or when it is needed.
    Node,
    Site,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secret {
    /// Path without a slash in front; `*` stands for any text without a slash.
    pub pattern: &'static str,
    pub maker: Maker,
    pub unit: Option<&'static str>,
    pub package: &'static str,
}

pub static SECRETS: LazyLock<Vec<Secret>> =
    LazyLock::new(|| include_str!("secrets.txt").lines().filter_map(read).collect());

fn read(line: &'static str) -> Option<Secret> {
    let mut words = line.split_whitespace().filter(|_| !line.starts_with('#'));
    let (pattern, maker, unit, package) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let maker = if maker == "site" { Maker::Site } else { Maker::Node };
    Some(Secret { pattern, maker, unit: Some(unit).filter(|unit| *unit != "-"), package })
}

/// The file of popularity-contest's settings, and the variables that its package makes by chance: the id under which a machine reports,
/// and the day. It makes those that are empty when it is configured again.
const POPULARITY: &str = "etc/popularity-contest.conf";
const POPULARITY_MADE: [&str; 2] = ["MY_HOSTID=", "DAY="];
/// Its job, with a minute and an hour by chance, and those of Debian's other daily jobs (the package cron, /etc/crontab).
const POPULARITY_JOB: &str = "etc/cron.d/popularity-contest";
const DAILY: &str = "25 6";

/// Where ucf keeps copies of what it installed, by path with `:` for each slash, and beside it their digests, `MD5 PATH` on each line.
/// Source: ucf(1).
const UCF: &str = "var/lib/ucf";
const UCF_CACHE: &str = "var/lib/ucf/cache";

/// Where slapd keeps its configuration, as one LDIF file for each entry (slapd-config(5)).
const SLAPD: [&str; 2] = ["etc/ldap/slapd.d", "etc/openldap/slapd.d"];
/// How deep entries lie below each other.
const SLAPD_DEPTH: usize = 8;
/// Attributes of an entry that say when it was made, and the time that takes their place.
const SLAPD_TIMES: [(&str, &str); 3] = [
    ("createTimestamp: ", "19700101000000Z"),
    ("modifyTimestamp: ", "19700101000000Z"),
    ("entryCSN: ", "19700101000000.000000Z#000000#000#000000"),
];

/// The password of a database's administrator, as a hash with a salt; in base64 after two colons.
const SLAPD_PASSWORD: &str = "olcRootPW:";

/// Takes ids and times that differ per image out of files that stay.
/// Errors: A text with the path of a file that cannot be read or written.
pub(crate) fn settle_ids(editor: &TreeEditor) -> Result<(), String> {
    change(editor, POPULARITY, &|text| {
        let line = |line: &str| match POPULARITY_MADE.iter().find(|name| line.starts_with(**name)) {
            Some(name) => format!("{name}\"\"\n"),
            None => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    })?;
    change(editor, POPULARITY_JOB, &|text| {
        let line = |line: &str| match line.splitn(3, ' ').collect::<Vec<_>>()[..] {
            [minute, hour, job] if [minute, hour].iter().all(|time| time.parse::<u8>().is_ok()) => {
                format!("{DAILY} {job}\n")
            }
            _ => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    })?;
    settle_ucf(editor)?;
    SLAPD.iter().try_for_each(|directory| settle_slapd(editor, directory, SLAPD_DEPTH))
}

/// Takes what ucf keeps of secrets out: a copy is as secret, and its digest as random.
fn settle_ucf(editor: &TreeEditor) -> Result<(), String> {
    let is_secret = |path: &str| SECRETS.iter().any(|secret| fits(secret.pattern, path.trim_start_matches('/')));
    for name in editor.names(UCF_CACHE).iter().filter(|name| is_secret(&name.replace(':', "/"))) {
        editor.remove(&format!("{UCF_CACHE}/{name}"))?;
    }
    let is_kept = |line: &&str| !line.split_whitespace().nth(1).is_some_and(is_secret);
    for name in editor.names(UCF).iter().filter(|name| name.starts_with("hashfile")) {
        change(editor, &format!("{UCF}/{name}"), &|text| {
            text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect()
        })?;
    }
    Ok(())
}

fn settle_slapd(editor: &TreeEditor, directory: &str, depth: usize) -> Result<(), String> {
    for name in editor.names(directory) {
        let path = format!("{directory}/{name}");
        match editor.has_file(&path) {
            true if name.ends_with(".ldif") => change(editor, &path, &|text| ldif(&path, text))?,
            true => {}
            false if depth > 0 => settle_slapd(editor, &path, depth - 1)?,
            false => {}
        }
    }
    Ok(())
}

/// An entry of slapd's configuration with an id that follows from its path, no times, and without the password that slapd's package
/// makes by chance and tells no one; one that was set later stays. The second line is the CRC-32 of what follows it. Source: OpenLDAP,
/// servers/slapd/back-ldif/ldif.c, `ldif_write_entry`.
fn ldif(path: &str, text: &str) -> String {
    let id: String = Digest::of(path.as_bytes()).to_string().chars().take(32).collect();
    let id = format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
    let line = |line: &str| {
        let settled = SLAPD_TIMES.iter().find(|(name, _)| line.starts_with(name));
        match settled {
            Some((name, value)) => format!("{name}{value}\n"),
            None if line.starts_with("entryUUID: ") => format!("entryUUID: {id}\n"),
            None => format!("{line}\n"),
        }
    };
    let is_head = |line: &&str| line.starts_with("# ");
    let time = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let is_first = time(SLAPD_TIMES[0].0) == time(SLAPD_TIMES[1].0);
    // A value may go on in lines that begin with a space (RFC 2849).
    let mut is_password = false;
    let is_kept = |line: &&str| {
        is_password = line.starts_with(SLAPD_PASSWORD) || is_password && line.starts_with(' ');
        !(is_password && is_first)
    };
    let body: String = text.lines().skip_while(is_head).filter(is_kept).map(line).collect();
    let mut crc = flate2::Crc::new();
    crc.update(body.as_bytes());
    let head = |line: &str| match line.starts_with("# CRC32 ") {
        true => format!("# CRC32 {:08x}\n", crc.sum()),
        false => format!("{line}\n"),
    };
    text.lines().take_while(is_head).map(head).chain([body]).collect()
}

/// Longest file that is changed, in bytes.
const LONGEST: u64 = 1 << 20;

/// Changes the text of a file where it is; owner and mode stay. One that is longer, is not text, or is not there, is left alone.
fn change(editor: &TreeEditor, path: &str, changed: &dyn Fn(&str) -> String) -> Result<(), String> {
    let Some(mut file) = editor.open_to_change(path) else { return Ok(()) };
    let mut text = String::new();
    let is_long = file.metadata().map_or(true, |found| found.len() > LONGEST);
    if is_long || (&file).take(LONGEST).read_to_string(&mut text).is_err() {
        return Ok(());
    }
    let new = changed(&text);
    if new == text {
        return Ok(());
    }
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(new.as_bytes()));
    written.map_err(|error| format!("cannot write /{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_table_is_one_entry() {
        let lines = include_str!("secrets.txt").lines().filter(|line| !line.starts_with('#'));
        assert_eq!(SECRETS.len(), lines.clone().count());
        for (secret, line) in SECRETS.iter().zip(lines) {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(words.len() == 4 && ["node", "site"].contains(&words[1]), "{line}");
            assert!(!secret.pattern.starts_with('/') && secret.pattern.matches('*').count() <= 1, "{line}");
        }
        let munge = SECRETS.iter().find(|secret| secret.package == "munge").unwrap();
        assert_eq!((munge.maker, munge.unit), (Maker::Site, Some("munge.service")));
    }

    #[test]
    fn the_name_of_an_initiator_is_made_by_the_node() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        let name = root.join("etc/iscsi/initiatorname.iscsi");
        let write = |path: &std::path::Path| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "InitiatorName=iqn.1993-08.org.debian:01:5a5a\n").unwrap();
        };
        let normalise = || crate::inside::common::normalise(root.to_str().unwrap(), &[]).unwrap();
        write(&name);
        normalise();
        assert!(!name.exists(), "a unit makes it where it is missing");
        write(&name);
        write(&root.join("usr/lib/open-iscsi/startup-checks.sh"));
        normalise();
        assert!(std::fs::read_to_string(&name).unwrap().ends_with("\nGenerateName=yes\n"));
    }

    #[test]
    fn ids_and_times_in_files_that_stay_are_the_same_each_time() {
        let tree = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = tree.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        let popularity = path(POPULARITY);
        let entry = path("etc/ldap/slapd.d/cn=config/cn={0}x.ldif");
        let text = |id: &str, time: &str, crc: &str| {
            format!(
                "# AUTO-GENERATED FILE - DO NOT EDIT!! Use ldapmodify.\n# CRC32 {crc}\ndn: cn={{0}}x\nentryUUID: {id}\ncreateTimestamp: {time}Z\nolcRootPW:: e1NTSEF9{id}\n {id}\nentryCSN: {time}.123456Z#000000#000#000000\nmodifyTimestamp: {time}Z\ncn: x\n"
            )
        };
        let made = |host: &str, id: &str, time: &str| {
            let day = &id[..1];
            std::fs::write(&popularity, format!("PARTICIPATE=\"no\"\nMY_HOSTID=\"{host}\"\nDAY=\"{day}\"\n")).unwrap();
            std::fs::write(&entry, text(id, time, "00000000")).unwrap();
            crate::inside::common::normalise(tree.path().to_str().unwrap(), &[]).unwrap();
            [&popularity, &entry].map(|path| std::fs::read_to_string(path).unwrap())
        };
        let first = made("5f4dcc3b5aa765d61d8327deb882cf99", "11111111-1111-1111-1111-111111111111", "20261129101112");
        let second = made("00000000000000000000000000000000", "22222222-2222-2222-2222-222222222222", "20271129101112");
        assert_eq!(first, second);
        assert_eq!(first[0], "PARTICIPATE=\"no\"\nMY_HOSTID=\"\"\nDAY=\"\"\n");
        assert!(!first[1].contains("olcRootPW") && !first[1].contains("\n 1111"), "{}", first[1]);
        let body = first[1].split_once("\ndn: ").map(|(_, body)| format!("dn: {body}")).unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(body.as_bytes());
        assert!(
            first[1].contains(&format!("# CRC32 {:08x}\n", crc.sum())) && body.ends_with("cn: x\n"),
            "{}",
            first[1]
        );
    }

    #[test]
    fn a_password_that_was_set_later_stays_in_slapds_configuration() {
        let text = |modified: &str| {
            format!("# CRC32 0\ndn: x\ncreateTimestamp: 1Z\nolcRootPW: {{SSHA}}a\nmodifyTimestamp: {modified}\ncn: x\n")
        };
        assert!(ldif("x", &text("2Z")).contains("\nolcRootPW: {SSHA}a\n"));
        let made = ldif("x", &text("1Z"));
        assert!(!made.contains("olcRootPW") && made.ends_with("\ncn: x\n"), "{made}");
    }

    /// As the packages popularity-contest and bacula-fd of Debian 12 make them.
    #[test]
    fn the_time_of_a_job_and_what_ucf_keeps_of_secrets_are_the_same_each_time() {
        let tree = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = tree.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let read = |name: &str| std::fs::read_to_string(tree.path().join(name)).unwrap();
        let rest =
            "* * *   root    test -x /etc/cron.daily/popularity-contest && /etc/cron.daily/popularity-contest --crond";
        write(POPULARITY_JOB, &format!("SHELL=/bin/sh\n7 23 {rest}\n"));
        write("var/lib/ucf/cache/:etc:bacula:bacula-fd.conf", "Password = \"x\"\n");
        write("var/lib/ucf/cache/:etc:default:bacula-fd", "ENABLED=\"yes\"\n");
        for name in ["hashfile", "hashfile.0"] {
            write(&format!("{UCF}/{name}"), "0a  /etc/bacula/bacula-fd.conf\n0b  /etc/default/bacula-fd\n");
        }
        crate::inside::common::normalise(tree.path().to_str().unwrap(), &[]).unwrap();
        assert_eq!(read(POPULARITY_JOB), format!("SHELL=/bin/sh\n25 6 {rest}\n"));
        assert!(!tree.path().join("var/lib/ucf/cache/:etc:bacula:bacula-fd.conf").exists());
        assert_eq!(read("var/lib/ucf/cache/:etc:default:bacula-fd"), "ENABLED=\"yes\"\n");
        for name in ["hashfile", "hashfile.0"] {
            assert_eq!(read(&format!("{UCF}/{name}")), "0b  /etc/default/bacula-fd\n");
        }
    }

    /// Each pattern is taken out of a tree that has it, and what lies beside it stays.
    #[test]
    fn each_entry_is_taken_out_of_a_layer() {
        for secret in SECRETS.iter() {
            let tree = tempfile::tempdir().unwrap();
            let path = tree.path().join(secret.pattern.replace('*', "some"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "made at random").unwrap();
            let beside = path.parent().unwrap().join("stays");
            std::fs::write(&beside, "x").unwrap();
            crate::inside::common::normalise(tree.path().to_str().unwrap(), &[]).unwrap();
            assert!(!path.exists(), "{secret:?}");
            assert_eq!(beside.exists(), !secret.pattern.ends_with("/*"), "{secret:?}");
        }
    }
}

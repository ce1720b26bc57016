//! What dpkg's database does not say: modes, and where links lead. What a person changed of these is guessed by what packages do.

use std::collections::BTreeMap;

use packages::installed::InstalledFile;

use super::Difference;
use crate::capture::census::{Census, Seen};

const SET_ID: u32 = 0o6000;

/// Programs that Debian's and Ubuntu's packages ship with one of these bits, in some release at least.
const PROGRAMS: [&str; 60] = [
    "Xorg.wrap",
    "at",
    "bsd-write",
    "chage",
    "chfn",
    "chrome-sandbox",
    "chromium-sandbox",
    "chsh",
    "crontab",
    "dbus-daemon-launch-helper",
    "dma",
    "dma-mbox-create",
    "doas",
    "dotlockfile",
    "exim4",
    "expiry",
    "firejail",
    "fping",
    "fusermount",
    "fusermount3",
    "gpasswd",
    "kismet_capture",
    "ksu",
    "lockfile",
    "locate",
    "lppasswd",
    "mail-lock",
    "mail-touchlock",
    "mail-unlock",
    "mlocate",
    "mount",
    "mount.cifs",
    "mount.ecryptfs_private",
    "mount.nfs",
    "mtr-packet",
    "munge",
    "newgidmap",
    "newgrp",
    "newuidmap",
    "ntfs-3g",
    "pam_extrausers_chkpwd",
    "passwd",
    "ping",
    "ping6",
    "pkexec",
    "plocate",
    "polkit-agent-helper-1",
    "postdrop",
    "postqueue",
    "pppd",
    "procmail",
    "screen",
    "snap-confine",
    "ssh-agent",
    "ssh-keysign",
    "su",
    "sudo",
    "umount",
    "unix_chkpwd",
    "utempter",
];

/// Those of them that some release ships without one: with a capability, which not every copy of a tree keeps, or with neither.
const VARYING: [&str; 10] =
    ["bsd-write", "fping", "mtr-packet", "munge", "newgidmap", "newuidmap", "ping", "ping6", "screen", "ssh-agent"];

/// Folders that packages ship with the group's bit.
const FOLDERS: [&str; 4] = ["var/mail", "var/local", "var/log/journal", "var/cache/man"];

/// Folders of the system: where a package's link may lead though no package has what is there.
const SYSTEM: [&str; 17] = [
    "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "media", "mnt", "proc", "run", "sbin", "sys",
    "tmp", "usr", "var",
];

/// Paths with the packages that claim them.
type Owners<'a> = BTreeMap<String, Vec<(&'a str, &'a InstalledFile)>>;

/// What is otherwise of a file of a package that the database has no mode and no link of. `has_digests`: whether the package
/// has digests of its files at all.
pub(super) fn differences(
    path: &str,
    seen: &Seen,
    (package, own): (&str, &InstalledFile),
    has_digests: bool,
    owners: &Owners<'_>,
    census: &Census,
) -> Vec<Difference> {
    let mut found = Vec::new();
    if own.mode.is_some() || own.link.is_some() || own.ghost {
        return found;
    }
    if is_set_id_changed(path, seen) {
        found.push(Difference::SetId(seen.listed.mode & 0o7777));
    }
    if own.digest.is_none() {
        // All regular files of such a package have one: this was none.
        // States below /var are files that packages leave out of their digests, because programs write to them.
        if seen.is_file() && has_digests && !path.starts_with("var/") {
            found.push(Difference::NoLink);
        }
        if let Some(target) = seen.listed.target.as_deref().filter(|_| seen.is_link())
            && is_relinked(path, target, package, owners, census)
        {
            found.push(Difference::Relinked(target.to_owned()));
        }
    }
    found
}

fn is_set_id_changed(path: &str, seen: &Seen) -> bool {
    let bits = seen.listed.mode & SET_ID;
    let name = path.rsplit('/').next().unwrap_or(path);
    if seen.is_directory() {
        let is_known = FOLDERS.contains(&path) || path.starts_with("usr/local");
        return bits != 0 && !is_known;
    }
    let is_known = PROGRAMS.contains(&name);
    // A newer release may have given the program a capability instead.
    let is_capable = seen.listed.xattrs.iter().any(|(name, _)| name == "security.capability");
    let is_program = path.contains("bin/") || path.contains("lib/") || path.contains("libexec/");
    seen.is_file()
        && if bits != 0 { !is_known } else { is_known && is_program && !is_capable && !VARYING.contains(&name) }
}

fn is_program(path: &str) -> bool {
    ["bin/", "sbin/", "usr/bin/", "usr/sbin/"]
        .iter()
        .any(|folder| path.strip_prefix(folder).is_some_and(|name| !name.contains('/')))
}

/// Whether a person turned a package's link: it leads to what is the site's own, or a program to another package's of no kin.
fn is_relinked(path: &str, target: &str, package: &str, owners: &Owners<'_>, census: &Census) -> bool {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let whole = if target.starts_with('/') { target.to_owned() } else { format!("{folder}/{target}") };
    let real = census.resolved_folder(&whole);
    let first = real.split('/').next().unwrap_or_default();
    match owners.get(&real) {
        Some(claims) => {
            let (name, other) = (base(path), base(&real));
            let is_kin = other.starts_with(name) || other.ends_with(&format!("-{name}")) || stem(name) == stem(other);
            let is_init = ["systemd", "systemctl"].contains(&other);
            is_program(path) && !claims.iter().any(|(owner, _)| *owner == package) && !is_kin && !is_init
        }
        None if first.is_empty() => false,
        None => {
            let is_sites = !SYSTEM.contains(&first) || real.starts_with("usr/local/");
            is_sites || is_program(&real) && census.seen.contains_key(&real)
        }
    }
}

/// What programs of several versions have in common: `pdb` of `pdb3.11` and of `pdb.py`.
fn stem(name: &str) -> &str {
    name.split(|c: char| c.is_ascii_digit() || c == '.').next().unwrap_or(name)
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

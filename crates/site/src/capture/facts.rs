//! Recipe fields read from a node: release, accounts, time zone, fstab, kernel.

use std::collections::BTreeSet;

use crate::osimage::{Release, release_of};
use ::packages::installed::{DatabaseKind, Installed};
use recipe::{Arch, Distro, Family, NOBODY, STATIC_IDS, is_account_name, is_authorized_key, is_nobodys};

use super::census::Census;
use super::{CaptureError, packages, services};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
    pub shell: String,
}

#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub release: Release,
    pub arch: Arch,
    /// As xCAT writes it: `debian12`.
    pub osvers: String,
    /// Packages of the list: name, version, whether only others needed it.
    pub packages: Vec<(String, String, bool)>,
    /// Packages that are not in the list: of other CPUs, of boot loaders, of kernels.
    pub without: BTreeSet<String>,
    /// Streams of modules that are enabled: `name:stream`.
    pub modules: Vec<String>,
    pub kernel: Option<String>,
    pub users: Vec<User>,
    pub groups: Vec<(String, u32)>,
    /// What users' entries say of them (GECOS): name and text.
    pub gecos: Vec<(String, String)>,
    pub members: Vec<(String, Vec<String>)>,
    pub timezone: Option<String>,
    pub locale: Option<String>,
    /// Lines of fstab that a node without a disk can use.
    pub fstab: Vec<String>,
    pub fstab_of_disks: Vec<String>,
    pub keys: Vec<String>,
    pub root_hash: Option<String>,
    /// Units that packages would start and the node does not.
    pub disabled: Vec<String>,
    /// Words of the node's kernel command line that are no disk's.
    pub cmdline: Vec<String>,
    pub notes: Vec<String>,
}

impl Facts {
    /// Takes out what an overlay alone has no place for, with a note of what is a person's work.
    pub(super) fn only_of_tree(&mut self, found: &mut super::classify::Classified) {
        // Source: login.defs(5), UID_MIN of all distributions.
        let people: Vec<&str> =
            self.users.iter().filter(|user| user.uid >= 1000).map(|user| user.name.as_str()).collect();
        if !people.is_empty() {
            self.notes.push(format!("accounts are not in the overlay: name them in [users]: {}", people.join(", ")));
        }
        if !found.modules.is_empty() {
            let first = found.modules.iter().take(3).map(|path| format!("/{path}")).collect::<Vec<_>>().join(", ");
            self.notes.push(format!(
                "{} modules that no package owns are not in the overlay: name them in [kernel] updates: {first}",
                found.modules.len()
            ));
            found.modules.clear();
        }
        if !self.disabled.is_empty() {
            self.notes.push(format!("units that are not started: [services] disable: {}", self.disabled.join(", ")));
        }
        // An exclude list of the definition has these, or the recipe is to have one.
        found.emptied.clear();
    }
}

/// A value of a file of shell assignments.
pub(super) fn value(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix('='))?;
    let line = line.trim().trim_matches(['"', '\'']);
    (!line.is_empty()).then(|| line.to_owned())
}

fn release(census: &Census) -> Result<(Release, String), CaptureError> {
    let text = census.text("etc/os-release").filter(|text| !text.is_empty());
    // The file in /etc is a link as a rule.
    let text = text.or_else(|| census.text("usr/lib/os-release")).unwrap_or_default();
    let (id, version) = (value(&text, "ID"), value(&text, "VERSION_ID"));
    let Some(id) = id else {
        return Err(CaptureError::Unknown {
            problem: "it has no os-release file that names its distribution".to_owned(),
        });
    };
    let codename = value(&text, "VERSION_CODENAME").unwrap_or_default();
    let word = match id.as_str() {
        "almalinux" => "alma",
        "opensuse-leap" => "leap",
        "sles" | "sled" => "sle",
        id => id,
    };
    let osvers = format!("{word}{}", version.unwrap_or_default());
    let found = release_of(&osvers).or_else(|problem| match word {
        "debian" if xcat::definitions::is_word(&codename) => {
            Ok(Release { distro: Distro::Debian, release: codename.clone() })
        }
        _ => Err(problem),
    });
    found.map(|release| (release, osvers)).map_err(|problem| CaptureError::Unknown { problem })
}

fn accounts(facts: &mut Facts, census: &Census) {
    // Above 2^31 old software goes wrong, and no recipe takes them.
    let is_none = |id: u32| is_nobodys(id) || id > i32::MAX as u32;
    let is_own = |id: u32| !STATIC_IDS.contains(&id) && !is_none(id);
    let text = census.text("etc/group").unwrap_or_default();
    let (mut numbers, mut uids) = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, members] = fields[..] else { continue };
        let Ok(gid) = gid.parse::<u32>() else { continue };
        if !is_account_name(name) {
            continue;
        }
        if is_none(gid) && gid != NOBODY || is_own(gid) && facts.groups.iter().any(|(known, _)| known == name) {
            facts.notes.push(format!(
                "the group {name} ({gid}) is left out: its number is that of `nobody`, or it appears twice"
            ));
            continue;
        }
        if is_own(gid) {
            if numbers.insert(gid) {
                facts.groups.push((name.to_owned(), gid));
            } else {
                facts.notes.push(format!("the group {name} is left out: another one has its number {gid}"));
                continue;
            }
        }
        let members: Vec<String> =
            members.split(',').filter(|member| is_account_name(member)).map(str::to_owned).collect();
        if !members.is_empty() {
            facts.members.push((name.to_owned(), members));
        }
    }
    let text = census.text("etc/passwd").unwrap_or_default();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, gecos, home, shell] = fields[..] else { continue };
        let (Ok(uid), Ok(gid)) = (uid.parse::<u32>(), gid.parse::<u32>()) else { continue };
        let is_twice = facts.users.iter().any(|user| user.name == name);
        if is_none(uid) && uid != NOBODY || is_own(uid) && (is_twice || !is_account_name(name)) {
            let name = name.escape_default();
            facts.notes.push(format!(
                "the user {name} ({uid}) is left out: its number is that of `nobody`, its name is invalid, or it appears twice"
            ));
            continue;
        }
        // What every system says of root is nothing.
        let is_said = match uid {
            0 => !["", "root"].contains(&gecos),
            uid => !gecos.is_empty() && is_own(uid),
        };
        if is_account_name(name) && is_said {
            match gecos.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
                false => facts.gecos.push((name.to_owned(), gecos.to_owned())),
                true => facts.notes.push(format!("the comment of the user {name} is left out: it is not text")),
            }
        }
        if !is_account_name(name) || !is_own(uid) {
            continue;
        }
        if !uids.insert(uid) {
            facts.notes.push(format!("the user {name} is left out: another one has its number {uid}"));
            continue;
        }
        let own = facts.groups.iter().find(|(group, _)| group == name);
        if own.is_some_and(|(_, own)| *own != gid)
            && !facts.groups.iter().any(|(_, known)| *known == gid)
            && is_own(gid)
        {
            facts.notes.push(format!("the user {name} is left out: its group {gid} has no name"));
            continue;
        }
        let path = |text: &str, other: &str| if text.starts_with('/') { text.to_owned() } else { other.to_owned() };
        let (home, shell) = (path(home, "/nonexistent"), path(shell, "/usr/sbin/nologin"));
        facts.users.push(User { name: name.to_owned(), uid, gid, home, shell });
    }
    let is_there = |name: &String| name == "root" || facts.users.iter().any(|user| user.name == *name);
    facts.gecos.retain(|(name, _)| is_there(name));
    facts.gecos.sort();
    facts.users.sort_by(|a, b| a.name.cmp(&b.name));
    facts.groups.sort();
}

/// Kinds of file systems that need no disk of the node's.
const WITHOUT_DISK: [&str; 16] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "lustre",
    "beegfs",
    "ceph",
    "glusterfs",
    "gpfs",
    "9p",
    "virtiofs",
    "tmpfs",
    "ramfs",
    "hugetlbfs",
    "fuse.sshfs",
    "afs",
];

fn fstab(facts: &mut Facts, census: &Census) {
    let text = census.text("etc/fstab").unwrap_or_default();
    let mut points = BTreeSet::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, point, kind, ..] = fields[..] else { continue };
        // A password in a recipe would be one in git.
        if fields.get(3).is_some_and(|options| options.split(',').any(|one| one.starts_with("pass"))) {
            facts.notes.push(format!("the fstab line of {point} is left out: it has a password"));
            continue;
        }
        let is_bind =
            fields.get(3).is_some_and(|options| options.split(',').any(|one| one == "bind" || one == "rbind"));
        let is_usable = (WITHOUT_DISK.contains(&kind) || is_bind)
            && (4..=6).contains(&fields.len())
            && fields[4..].iter().all(|field| field.bytes().all(|byte| byte.is_ascii_digit()))
            && point.starts_with('/')
            && point != "/"
            && !point.split('/').any(|part| part == "." || part == "..");
        if is_usable && points.insert(point.trim_end_matches('/').to_owned()) {
            facts.fstab.push(fields.join(" "));
        } else {
            facts.fstab_of_disks.push(fields.join(" "));
        }
    }
}

/// Words of a command line that name a disk of the node, or what its boot loader adds.
fn is_of_disk(word: &str) -> bool {
    const STARTS: [&str; 12] = [
        "root=",
        "resume=",
        "rd.",
        "rootflags=",
        "rootfstype=",
        "BOOT_IMAGE=",
        "initrd=",
        "crashkernel=",
        "imgurl=",
        "imgdigest=",
        "LABEL=",
        "UUID=",
    ];
    ["ro", "rw", "quiet", "splash", "rhgb"].contains(&word) || STARTS.iter().any(|start| word.starts_with(start))
}

fn system(facts: &mut Facts, census: &Census) {
    let is_zone = |zone: &str| {
        !zone.is_empty()
            && zone.chars().all(|c| c.is_ascii_alphanumeric() || "_+/-".contains(c))
            && !zone.starts_with('/')
    };
    let link = census.localtime.as_deref().and_then(|target| Some(target.split_once("zoneinfo/")?.1.to_owned()));
    let zone = link.or_else(|| census.text("etc/timezone").map(|text| text.trim().to_owned()));
    let has_zones = facts.packages.iter().any(|(name, ..)| name == "tzdata" || name == "timezone");
    facts.timezone = zone.filter(|zone| is_zone(zone) && (has_zones || zone == "UTC" || zone == "Etc/UTC"));
    if !has_zones && facts.timezone.as_deref().is_some_and(|zone| zone == "Etc/UTC") {
        facts.timezone = Some("UTC".to_owned());
    }
    let texts = ["etc/locale.conf", "etc/default/locale"];
    let locale = texts.iter().find_map(|path| value(&census.text(path)?, "LANG"));
    facts.locale = locale.filter(|locale| locale.chars().all(|c| c.is_ascii_alphanumeric() || "_.@-".contains(c)));
    for line in census.text("root/.ssh/authorized_keys").unwrap_or_default().lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match is_authorized_key(line) {
            true => facts.keys.push(line.to_owned()),
            false => {
                facts.notes.push("a line of root's authorized_keys that sshd does not read is left out".to_owned())
            }
        }
    }
    let shadow = census.text("etc/shadow").unwrap_or_default();
    let hash = shadow.lines().find_map(|line| line.strip_prefix("root:")?.split(':').next());
    facts.root_hash = hash.filter(|hash| hash.starts_with('$')).map(str::to_owned);
    let grub = ["etc/default/grub", "etc/sysconfig/grub"].iter().find_map(|path| census.text(path)).unwrap_or_default();
    let own = value(&grub, "GRUB_CMDLINE_LINUX").unwrap_or_default();
    let more = value(&grub, "GRUB_CMDLINE_LINUX_DEFAULT").unwrap_or_default();
    let is_plain =
        |word: &&str| word.chars().all(|c| c.is_ascii_graphic()) && !word.contains(['"', '\'', '\\', '$', '`']);
    facts.cmdline = own
        .split_whitespace()
        .chain(more.split_whitespace())
        .filter(|word| !is_of_disk(word))
        .filter(is_plain)
        .map(str::to_owned)
        .collect();
}

/// Finds out of which distribution it is; all else comes later.
/// Errors: [`CaptureError::Unknown`] for a node whose images are not built here.
pub(super) fn begin(census: &Census, installed: &Installed) -> Result<Facts, CaptureError> {
    let (release, osvers) = release(census)?;
    let is_fitting = (installed.kind == DatabaseKind::Dpkg) == (release.distro.family() == Family::Debian);
    if !is_fitting {
        let problem = format!("it claims to be {osvers} but has the package database of another distribution");
        return Err(CaptureError::Unknown { problem });
    }
    let arch = packages::arch_of(installed)?;
    Ok(Facts {
        release,
        arch,
        osvers,
        packages: Vec::new(),
        without: BTreeSet::new(),
        modules: Vec::new(),
        kernel: None,
        users: Vec::new(),
        groups: Vec::new(),
        gecos: Vec::new(),
        members: Vec::new(),
        timezone: None,
        locale: None,
        fstab: Vec::new(),
        fstab_of_disks: Vec::new(),
        keys: Vec::new(),
        root_hash: None,
        disabled: Vec::new(),
        cmdline: Vec::new(),
        notes: Vec::new(),
    })
}

/// Finds out what its packages do not say; they are known.
pub(super) fn complete(facts: &mut Facts, census: &Census, installed: &Installed) {
    accounts(facts, census);
    fstab(facts, census);
    system(facts, census);
    facts.disabled = services::disabled(census, installed.kind);
}

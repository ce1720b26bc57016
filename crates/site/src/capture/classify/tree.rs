//! What a person changed in a tree that xCAT's genimage made: without what scripts and triggers of packages write, in the order in
//! which people edit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::bundle::sha256_of;
use crate::capture::census::{Census, Seen, UCF};
use crate::capture::services;
use packages::SECRETS;
use packages::installed::{DatabaseKind, Installed};
use recipe::owners::private::fits;
use xcat::matches;

use super::scripts::Scripts;
use super::{Classified, Difference, NOT_IN_PACKAGE, OverlayFile, Reason};

/// What a recipe puts into its image besides packages and synced files.
#[derive(Debug, Clone, Default)]
pub struct OfRecipe {
    /// Lines of fstab, and mount points of `[boot] tmpfs`.
    pub fstab: Vec<String>,
    pub points: Vec<String>,
    /// Lines of root's authorized_keys.
    pub keys: Vec<String>,
    /// Units that it enables or disables.
    pub units: Vec<String>,
    /// Texts of its scripts, and files that they are given.
    pub scripts: Vec<String>,
    pub inputs: Vec<PathBuf>,
    /// Patterns of its exclude lists.
    pub excluded: Vec<String>,
}

/// Files that scripts and triggers of packages write without a package's owning them, as find's -path reads patterns.
const BY_SCRIPTS: [&str; 61] = [
    "./etc/alternatives",
    "./etc/alternatives/*",
    "./etc/apt/sources.list*",
    "./etc/apt/trusted.gpg.d",
    "./etc/ca-certificates.conf",
    "./etc/console-setup/*",
    "./etc/cron.d/popularity-contest",
    "./etc/crypto-policies/*",
    "./etc/default/keyboard",
    "./etc/default/console-setup",
    "./etc/dnf/modules.d/*.module",
    "./etc/dpkg/origins/default",
    "./etc/init.d/.*",
    "./etc/iscsi/initiatorname*",
    "./etc/ld.so.conf.d/00-*",
    "./etc/mailcap",
    "./etc/machine-id",
    "./etc/modules",
    "./etc/networks",
    "./etc/pam.d/common-*",
    "./etc/pki/ca-trust/extracted/*",
    "./etc/pki/ca-trust/source/ca-bundle.legacy.crt",
    "./etc/pki/tls/cert.pem",
    "./etc/rc[0-6S].d/*",
    "./etc/rc.d/rc[0-6].d/*",
    "./etc/rmt",
    "./etc/rpm/platform",
    "./etc/selinux/*/contexts/files/*.bin",
    "./etc/selinux/*/policy/*",
    "./etc/shells",
    "./etc/ssl/certs/*",
    "./etc/systemd/system/*.wants",
    "./etc/systemd/system/*.requires",
    "./usr/lib/*/gdk-pixbuf-2.0/*/loaders.cache",
    "./usr/lib/*/gio/modules/giomodule.cache",
    "./usr/lib/fontconfig/cache/*",
    "./usr/lib/locale/*",
    "./usr/lib64/gio/modules/giomodule.cache",
    "./usr/lib64/gconv/gconv-modules.cache",
    "./usr/local/*/dist-packages",
    "./usr/local/man",
    "./usr/share/applications/mimeinfo.cache",
    "./usr/share/fonts/*.uuid",
    "./usr/share/glib-2.0/schemas/gschemas.compiled",
    "./usr/share/perl/*/perllocal.pod",
    "./usr/share/zsh/*.zwc",
    "./etc/runit/runsvdir/*",
    "./etc/systemd/system/*.wants/getty@tty1.service",
    "./etc/systemd/system/*.wants/remote-fs.target",
    "./etc/systemd/system/*.wants/systemd-*",
    "./usr/bin/ld.so",
    "./usr/lib/klibc/*",
    "./usr/lib/terminfo/*",
    "./usr/share/terminfo/*",
    "./usr/share/info/*",
    "./var/lock",
    "./var/run",
    "./var/spool/mail",
    "./var/mail",
    "./var/lib/*/.initialized",
    "./var/lib/xkb/*",
];

/// Takes out what no person did.
pub(crate) fn only_of_people(found: &mut Classified, census: &Census, installed: &Installed, own: &OfRecipe) {
    let digests = packaged(installed, census);
    let links = services::Links::of(census, installed.kind);
    let scripts = Scripts::of(installed, &own.scripts);
    // What a person did is newer than the last package, and has its name from no script.
    let is_of_script = |path: &str, seen: &Seen| {
        let is_old = census.packaged.is_some_and(|at| seen.listed.mtime <= at);
        let is_made = || scripts.name(path, seen) || scripts.name_folder(path, installed) || is_secret(path);
        is_old && (is_of_ldconfig(path, seen) || !is_edited(path) && is_made())
    };
    let is_unit = |path: &str| {
        let unit = path.rsplit('/').next().unwrap_or_default();
        path.starts_with("etc/systemd/") && own.units.iter().any(|one| one == unit || format!("{one}.service") == unit)
    };
    found.overlay.retain(|file| {
        let Some(seen) = census.seen.get(&file.path) else {
            // An exclude list left it out.
            let each = ["./usr/share/info/*", "./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*"];
            let mut patterns = each.into_iter().chain(own.excluded.iter().map(String::as_str));
            return !patterns.any(|pattern| matches(pattern, &format!("./{}", file.path)));
        };
        match file.path.as_str() {
            "etc/fstab" => !lines_of_fstab(census, own).is_empty(),
            "root/.ssh/authorized_keys" => has_key(census, own),
            _ if fault::planted("tree-of-scripts") => true,
            // Scripts of packages give their own files modes and owners by dpkg-statoverride.
            path if file.detail == Difference::Override.to_string() => !scripts.name(path, seen),
            _ if is_input(seen, own) => false,
            // A ghost of rpm: its package's script makes it.
            path if file.detail == NOT_IN_PACKAGE && is_of_script(path, seen) => false,
            path if file.reason == Reason::Unpackaged || file.detail.starts_with("points to") => {
                !(is_by_script(path, seen)
                    || is_unit(path)
                    || links.are_of_packages(census, path)
                    || is_plain_folder(census, path, seen)
                    || says_nothing(census, path)
                    || is_of_script(path, seen)
                    || file.reason == Reason::Unpackaged && is_copy(installed.kind, path, seen, &digests))
            }
            path => !is_by_script(path, seen),
        }
    });
}

/// Whether a file is a copy of one that the recipe gives its scripts.
fn is_input(seen: &Seen, own: &OfRecipe) -> bool {
    let is_same = |input: &PathBuf| {
        let size = input.metadata().map_or(0, |found| found.len());
        size > 0 && size == seen.listed.size && sha256_of(input).is_some_and(|digest| digest == seen.sha256)
    };
    seen.is_file() && own.inputs.iter().any(is_same)
}

/// Whether a link is one of those that ldconfig makes: in a folder of libraries, by the library's own name for itself, to a file beside it.
fn is_of_ldconfig(path: &str, seen: &Seen) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap_or_default();
    let is_library = |name: &str| name.ends_with(".so") || name.contains(".so.");
    let target = seen.listed.target.as_deref().filter(|target| seen.is_link() && !target.contains('/'));
    let is_of_system = ["lib", "lib64", "usr/lib", "usr/lib64"].contains(&folder) || folder.ends_with("-linux-gnu");
    is_of_system && is_library(name) && target.is_some_and(is_library)
}

/// Whether a folder is an empty one of those that scripts make: people's are elsewhere.
fn is_plain_folder(census: &Census, path: &str, seen: &Seen) -> bool {
    let below = format!("{path}/");
    let is_empty = census.seen.range(below.clone()..).next().is_none_or(|(path, _)| !path.starts_with(&below));
    let is_of_system = ["etc/", "usr/", "var/"].iter().any(|folder| path.starts_with(folder))
        || ["media", "mnt", "srv", "opt", "home"].contains(&path);
    seen.is_directory() && is_empty && is_of_system
}

/// Whether a text has comments alone, or names of this machine alone, as scripts make it.
fn says_nothing(census: &Census, path: &str) -> bool {
    let is_of_machine = |line: &str| {
        let mut names = line.split_whitespace().skip(1);
        path == "etc/hosts" && names.all(|name| name == "localhost" || name.starts_with("ip6-"))
    };
    let is_comment = |line: &str| line.is_empty() || line.starts_with('#');
    path != "etc/fstab"
        && census
            .text(path)
            .is_some_and(|text| text.lines().map(str::trim).all(|line| is_comment(line) || is_of_machine(line)))
}

fn is_by_script(path: &str, seen: &Seen) -> bool {
    let shown = format!("./{path}");
    let is_alternative =
        seen.is_link() && seen.listed.target.as_deref().is_some_and(|target| target.contains("etc/alternatives/"));
    is_alternative || BY_SCRIPTS.iter().any(|pattern| matches(pattern, &shown))
}

/// Digests of what packages bring, of the kind that their database has, and of what their scripts install by ucf (ucf(1): `MD5 PATH`).
fn packaged(installed: &Installed, census: &Census) -> BTreeSet<String> {
    let files = installed.packages.iter().flat_map(|package| &package.files);
    let by_ucf = census.text(UCF).unwrap_or_default();
    let by_ucf = by_ucf.lines().filter_map(|line| line.split_whitespace().next());
    files.filter_map(|file| file.digest.as_deref()).chain(by_ucf).map(str::to_ascii_lowercase).collect()
}

/// Whether a file is a secret that a package makes when it is installed.
fn is_secret(path: &str) -> bool {
    SECRETS.iter().any(|secret| fits(secret.pattern, path))
}

/// Whether a file is a copy of a package's, as scripts make configuration from examples, or empty, as they make it with `touch`.
fn is_copy(kind: DatabaseKind, path: &str, seen: &Seen, digests: &BTreeSet<String>) -> bool {
    let is_of_scripts =
        ["etc/", "root/", "home/", "usr/share/", "usr/lib", "var/"].iter().any(|folder| path.starts_with(folder));
    let digest = if kind == DatabaseKind::Dpkg { &seen.md5 } else { &seen.sha256 };
    seen.is_file() && is_of_scripts && (seen.listed.size == 0 || digests.contains(digest.as_str()))
}

/// Lines of a tree's fstab that neither genimage writes nor the recipe has. Source: xCAT's genimage, which mounts the kernel's file
/// systems, and memory at places that each image has.
pub(crate) fn lines_of_fstab(census: &Census, own: &OfRecipe) -> Vec<String> {
    const KERNELS: [&str; 8] = ["proc", "sysfs", "devpts", "devtmpfs", "rootfs", "cgroup", "debugfs", "selinuxfs"];
    const MEMORY: [&str; 6] = ["/", "/dev/shm", "/tmp", "/var/tmp", "/run", "/dev"];
    let plain = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_own = |line: &&String| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, point, kind, ..] = fields[..] else { return true };
        let in_memory = kind == "tmpfs" && (MEMORY.contains(&point) || own.points.iter().any(|one| one == point));
        !(KERNELS.contains(&kind) || in_memory || own.fstab.iter().any(|one| plain(one) == **line))
    };
    let text = census.text("etc/fstab").unwrap_or_default();
    let lines: Vec<String> =
        text.lines().map(plain).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    lines.iter().filter(is_own).cloned().collect()
}

fn has_key(census: &Census, own: &OfRecipe) -> bool {
    let text = census.text("root/.ssh/authorized_keys").unwrap_or_default();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.any(|line| !own.keys.iter().any(|key| key.trim() == line))
}

/// What people edit first when a node does not do what they want.
const EDITED: [&str; 22] = [
    "./etc/fstab",
    "./root/.ssh/*",
    "./etc/exports",
    "./etc/hosts",
    "./etc/rc.local",
    "./etc/rc.d/rc.local",
    "./etc/ssh/*",
    "./etc/sysctl*",
    "./etc/security/*",
    "./etc/profile*",
    "./etc/bash*",
    "./etc/modprobe.d/*",
    "./etc/modules-load.d/*",
    "./etc/udev/rules.d/*",
    "./etc/sudoers*",
    "./etc/chrony*",
    "./etc/ntp*",
    "./etc/slurm*",
    "./etc/munge*",
    "./etc/ld.so.conf.d/*",
    "./etc/cron*",
    "./etc/systemd/*",
];

fn is_edited(path: &str) -> bool {
    let path = format!("./{path}");
    EDITED.iter().any(|pattern| matches(pattern, &path))
}

/// How likely a person did it: the lowest first.
fn rank(file: &OverlayFile, is_link: bool) -> u8 {
    let is_in = |folders: &[&str]| folders.iter().any(|folder| file.path.starts_with(folder));
    if is_link {
        return 4;
    }
    match file.reason {
        Reason::Changed | Reason::Unpackaged if is_edited(&file.path) => 0,
        Reason::Changed if file.path.starts_with("etc/") && file.attributes.is_none() => 1,
        Reason::Unpackaged if is_in(&["etc/", "root/", "opt/", "srv/", "home/", "usr/local/"]) => 2,
        Reason::Unpackaged if is_in(&["var/"]) => 5,
        _ => 3,
    }
}

/// Most files of one folder that are named before those of others.
const OF_FOLDER: usize = 2;

/// Sorts files so that the first ones tell most: by what people edit, and not all of one folder.
pub(crate) fn ranked(files: Vec<OverlayFile>, census: &Census) -> Vec<OverlayFile> {
    let is_link = |file: &OverlayFile| census.seen.get(&file.path).is_some_and(Seen::is_link);
    let mut files = files;
    files.sort_by_cached_key(|file| (rank(file, is_link(file)), file.path.clone()));
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let (first, more): (Vec<OverlayFile>, Vec<OverlayFile>) = files.into_iter().partition(|file| {
        if rank(file, is_link(file)) < 2 {
            return true;
        }
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let count = counts.entry(folder.to_owned()).or_default();
        *count += 1;
        *count <= OF_FOLDER
    });
    first.into_iter().chain(more).collect()
}

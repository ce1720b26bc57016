//! What the image's own fstab needs to be mounted: the kernel's module, and the program that mounts. Runs inside.

use std::collections::BTreeSet;

use super::{Obstacle, View};

/// Types that every kernel has, or that need nothing. Source: mount(8), and the configurations of distributions' kernels.
const EVERYWHERE: [&str; 19] = [
    "auto",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "hugetlbfs",
    "mqueue",
    "none",
    "proc",
    "pstore",
    "ramfs",
    "securityfs",
    "swap",
    "sysfs",
    "tmpfs",
];

/// Types that a program of their own mounts: type, and the package that provides it, Debian's and that of RPM distributions.
const HELPERS: [(&str, &str, &str); 9] = [
    ("ceph", "ceph-common", "ceph-common"),
    ("cifs", "cifs-utils", "cifs-utils"),
    ("fuse.glusterfs", "glusterfs-client", "glusterfs-fuse"),
    ("glusterfs", "glusterfs-client", "glusterfs-fuse"),
    ("gpfs", "gpfs.base", "gpfs.base"),
    ("lustre", "lustre-client-utils", "lustre-client"),
    ("nfs", "nfs-common", "nfs-utils"),
    ("nfs4", "nfs-common", "nfs-utils"),
    ("ntfs-3g", "ntfs-3g", "ntfs-3g"),
];

struct Lacking {
    point: String,
    kind: String,
    needs: String,
    left_out: Option<String>,
    /// Whether the node starts all the same.
    is_optional: bool,
}

/// Mounts that keep a node from starting as it should, and those that it can do without.
pub(crate) fn mounts(view: &View<'_>, modules: &Modules) -> Result<(Option<Obstacle>, Vec<Obstacle>), String> {
    let Ok((path, _)) = view.resolve("etc/fstab") else { return Ok((None, Vec::new())) };
    let text = String::from_utf8_lossy(&view.read(&path)?.unwrap_or_default()).into_owned();
    let (mut needed, mut optional) = (None, Vec::new());
    for line in text.lines() {
        let Some(lacking) = lacking(view, modules, line) else { continue };
        let is_optional = lacking.is_optional;
        let obstacle = Obstacle::Mount {
            package: HELPERS
                .iter()
                .find(|(kind, ..)| *kind == lacking.kind)
                .map(|(_, deb, rpm)| ((*deb).to_owned(), (*rpm).to_owned())),
            point: lacking.point,
            kind: lacking.kind,
            needs: lacking.needs,
            left_out: lacking.left_out,
        };
        match is_optional {
            true => optional.push(obstacle),
            false => needed = needed.or(Some(obstacle)),
        }
    }
    Ok((needed, optional))
}

/// What one line of fstab(5) lacks.
fn lacking(view: &View<'_>, modules: &Modules, line: &str) -> Option<Lacking> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [source, point, kind, options, ..] = words[..] else { return None };
    let has = |word: &str| options.split(',').any(|option| option == word || option.starts_with(&format!("{word}=")));
    if source.starts_with('#') || EVERYWHERE.contains(&kind) || ["bind", "rbind", "move"].into_iter().any(has) {
        return None;
    }
    let found = |needs: String, left_out: Option<String>| {
        let is_optional = ["nofail", "noauto", "x-systemd.automount"].into_iter().any(has);
        Some(Lacking { point: point.to_owned(), kind: kind.to_owned(), needs, left_out, is_optional })
    };
    if HELPERS.iter().any(|(known, ..)| *known == kind) {
        let helper = format!("mount.{kind}");
        let places = ["sbin", "usr/sbin", "bin", "usr/bin"].map(|folder| format!("{folder}/{helper}"));
        if !places.iter().any(|place| view.executable(place).is_ok()) {
            let gone = places.iter().find_map(|place| view.left_out(place));
            return found(format!("/sbin/{helper}"), gone);
        }
    }
    let name = match kind {
        "nfs4" => "nfs",
        "ntfs-3g" | "gpfs" => return None,
        kind if kind.starts_with("fuse") || kind.ends_with("glusterfs") => "fuse",
        kind => kind,
    };
    if modules.has(name) {
        return None;
    }
    found(format!("the kernel's module `{name}`"), modules.left_out(name))
}

pub(crate) struct Modules {
    names: BTreeSet<String>,
    left_out: Vec<String>,
    /// Without the list of what is built in, nothing can be said of a module that is not there.
    is_known: bool,
}

impl Modules {
    /// Reads their names.
    pub(crate) fn of(view: &View<'_>) -> Result<Self, String> {
        let mut modules = Self { names: BTreeSet::new(), left_out: Vec::new(), is_known: false };
        let normal = |path: &str| {
            let base = path.rsplit('/').next().unwrap_or(path);
            Some(base.split_once(".ko")?.0.replace('-', "_"))
        };
        for (path, is_left_out) in view.below("usr/lib/modules/") {
            if path.ends_with("/modules.builtin") && !is_left_out {
                modules.is_known = true;
                let text = view.read(path)?.unwrap_or_default();
                modules.names.extend(String::from_utf8_lossy(&text).lines().filter_map(normal));
            } else if path.contains(".ko") {
                match is_left_out {
                    true => modules.left_out.push(path.to_owned()),
                    false => modules.names.extend(normal(path)),
                }
            }
        }
        Ok(modules)
    }

    /// Whether a kernel has a module, or has it built in; also where that cannot be determined.
    pub(crate) fn has(&self, name: &str) -> bool {
        !self.is_known || self.names.contains(&name.replace('-', "_"))
    }

    /// A module's file that the exclude lists leave out.
    pub(crate) fn left_out(&self, name: &str) -> Option<String> {
        let file = format!("/{name}.ko");
        self.left_out.iter().find(|path| path.contains(&file)).cloned()
    }
}

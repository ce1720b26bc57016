//! The texts of a captured recipe.

use std::fmt::Write;

use packages::installed::{DatabaseKind, Installed};
use recipe::Family;

use super::classify::{Attributes, Classified, OverlayFile, Reason};
use super::facts::Facts;
use super::packages::is_sane;

pub(super) const PKGLIST: &str = "captured.pkglist";
pub(super) const PACKAGES: &str = "captured.packages";
pub(super) const LIST: &str = "overlay.list";
pub(super) const ARCHIVE: &str = "overlay.tar";
/// Files that packages bring and the node has not.
pub(super) const REMOVED: &str = "overlay.removed";
/// Files of which only mode and owner differ.
pub(super) const MODES: &str = "overlay.modes";
/// Folders that are left out of the packed image.
pub(super) const EXLIST: &str = "captured.exlist";
pub(super) const SCRIPT: &str = "overlay.postinstall";
pub(super) const KEYS: &str = "keys/root.pub";
pub(super) const HASH: &str = "keys/root.hash";

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A list of texts, one a line where they are many.
fn list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    let line = items.join(", ");
    if line.len() < 90 { format!("[{line}]") } else { format!("[\n    {},\n]", items.join(",\n    ")) }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Named {
    pub sources: Vec<String>,
    pub variables: std::collections::BTreeMap<String, String>,
    pub overlay: bool,
    /// Whether there are members of groups, or comments of users, to be set.
    pub accounts: bool,
    /// Whether modes or owners differ.
    pub modes: bool,
    /// Whether packages are missing from it.
    pub removed: bool,
    /// Whether folders are left out.
    pub emptied: bool,
    pub updates: Vec<String>,
    /// Whether root's hash was written.
    pub hash: bool,
}

impl Named {
    pub(super) fn has_script(&self) -> bool {
        self.overlay || self.accounts || self.modes || self.removed
    }
}

pub(super) fn recipe(name: &str, source: &str, facts: &Facts, named: &Named) -> String {
    let mut text = format!(
        "# Captured from {} by `imgbuild capture`. {LIST} says why each file of the overlay is there; files that a package\n\
         # provides again can be removed from it.\n[image]\nname = {}\ndistro = {}\nrelease = {}\narch = {}\n\n",
        source.replace(|c: char| c.is_control(), " "),
        quoted(name),
        quoted(facts.release.distro.name()),
        quoted(&facts.release.release),
        quoted(facts.arch.machine()),
    );
    let _ = write!(text, "[capture]\npackages = \"{PACKAGES}\"   # plan compares image.lock with it\n\n");
    if named.sources.is_empty() {
        text.push_str("[[repo]]\nsource = \"host\"\n\n");
    }
    for source in &named.sources {
        let _ = write!(text, "[[repo]]\nfile = {}   # as the node has it\n\n", quoted(source));
    }
    if !named.variables.is_empty() {
        text.push_str("[repo_variables]\n");
        for (name, value) in &named.variables {
            let _ = writeln!(text, "{name} = {}", quoted(value));
        }
        text.push('\n');
    }
    // The list has all of them: nothing that the node has not.
    let base = if facts.release.distro.family() == Family::Debian { "base = \"essential\"\n" } else { "" };
    let _ = write!(text, "[packages]\n{base}lists = [\"{PKGLIST}\"]\n\n");
    if facts.kernel.is_some() || !named.updates.is_empty() {
        text.push_str("[kernel]\n");
        if let Some(kernel) = &facts.kernel {
            let _ = writeln!(text, "package = {}", quoted(kernel));
        }
        if !named.updates.is_empty() {
            let _ = writeln!(text, "updates = {}   # modules of the node that no package owns", list(&named.updates));
        }
        text.push('\n');
    }
    let mut system = String::new();
    if let Some(zone) = &facts.timezone {
        let _ = writeln!(system, "timezone = {}", quoted(zone));
    }
    if let Some(locale) = &facts.locale {
        let _ = writeln!(system, "locale = {}", quoted(locale));
    }
    system.push_str("hostname = \"dhcp\"\n");
    if facts.keys.is_empty() {
        system.push_str("# authorized_keys = [\"keys/admin.pub\"]   # root of the node had none\n");
    } else {
        let _ = writeln!(system, "authorized_keys = [{}]", quoted(KEYS));
    }
    match (named.hash, &facts.root_hash) {
        (true, _) => {
            let _ = writeln!(system, "root_password_hash_file = {}", quoted(HASH));
        }
        (false, Some(_)) => {
            system.push_str("# root_password_hash_file: root's password was left out; capture --secrets keeps it\n")
        }
        (false, None) => {}
    }
    if !facts.fstab.is_empty() {
        let _ = writeln!(system, "fstab = {}", list(&facts.fstab));
    }
    for line in &facts.fstab_of_disks {
        let _ = writeln!(system, "# of the node's disks: {}", line.replace(|c: char| c.is_control(), " "));
    }
    let _ = write!(text, "[system]\n{system}\n");
    if !facts.groups.is_empty() {
        text.push_str("[groups]\n");
        for (name, gid) in &facts.groups {
            let _ = writeln!(text, "{} = {gid}", quoted(name));
        }
        text.push('\n');
    }
    if !facts.users.is_empty() {
        text.push_str("[users]\n");
        for user in &facts.users {
            let (home, shell) = (quoted(&user.home), quoted(&user.shell));
            let _ = writeln!(
                text,
                "{} = {{ uid = {}, gid = {}, home = {home}, shell = {shell} }}",
                quoted(&user.name),
                user.uid,
                user.gid
            );
        }
        text.push('\n');
    }
    if !facts.disabled.is_empty() {
        let _ = write!(text, "[services]\ndisable = {}\n\n", list(&facts.disabled));
    }
    if named.has_script() {
        let mut inputs = Vec::new();
        if named.overlay {
            inputs.push(ARCHIVE.to_owned());
        }
        if named.removed {
            inputs.push(REMOVED.to_owned());
        }
        if named.modes {
            inputs.push(MODES.to_owned());
        }
        let _ = writeln!(text, "[postinstall]\nscript = \"{SCRIPT}\"\ninputs = {}", list(&inputs));
        if named.overlay && facts.release.distro.family() != Family::Debian {
            text.push_str("tools = [\"tar\"]\n");
        }
        text.push('\n');
    }
    if named.emptied {
        let _ = write!(text, "[exclude]\nlists = [\"{EXLIST}\"]\n\n");
    }
    if !facts.cmdline.is_empty() {
        let _ = write!(
            text,
            "# The node's kernel command line.\n# [boot]\n# cmdline = {}\n\n",
            list(&facts.cmdline).replace('\n', "\n# ")
        );
    }
    let _ = write!(text, "[xcat]\nosvers = {}\nprofile = {}\n", quoted(&facts.osvers), quoted(name));
    text
}

/// The list of packages; with versions where they are to be the node's own.
pub(super) fn pkglist(facts: &Facts, pinned: bool) -> String {
    let mut text = "# The node's packages, except its kernel.\n".to_owned();
    for stream in &facts.modules {
        let _ = writeln!(text, "@{stream}");
    }
    let line = |(name, version, _): &(String, String, bool)| match pinned {
        true => format!("{name}={version}\n"),
        false => format!("{name}\n"),
    };
    let (others, own): (Vec<_>, Vec<_>) = facts.packages.iter().partition(|(.., automatic)| *automatic);
    own.iter().for_each(|one| text.push_str(&line(one)));
    if !others.is_empty() {
        text.push_str("\n# Installed as dependencies or recommendations.\n");
        others.iter().for_each(|one| text.push_str(&line(one)));
    }
    text
}

/// The packages with their versions, as the lock has them.
pub(super) fn packages(installed: &Installed) -> String {
    let manager = match installed.kind {
        DatabaseKind::Dpkg => "dpkg",
        DatabaseKind::Rpm => "rpm",
    };
    let mut text = format!("# Packages of the captured node by its {manager} database: name, version, architecture.\n");
    for package in installed.packages.iter().filter(|package| is_sane(package)) {
        let _ = writeln!(text, "{} {} {}", package.name, package.version, package.arch);
    }
    text
}

/// Why each file is there, or gone.
pub(super) fn overlay_list(found: &Classified) -> String {
    let mut text = format!(
        "# How the node differs from its packages: why, bytes, path, package and what differs.\n\
         # {ARCHIVE} has the files; {REMOVED} names the removed ones. This list is for reading only.\n"
    );
    for file in &found.overlay {
        let OverlayFile { path, reason, detail, package, size, .. } = file;
        let shown = path.escape_default().to_string();
        let shown = if path.chars().any(|c| c.is_control()) { shown } else { path.clone() };
        let _ = write!(text, "{:<10} {size:>10} /{shown}", reason.name());
        if !package.is_empty() {
            let _ = write!(text, "   {}", package.escape_default());
        }
        if !detail.is_empty() {
            let _ = write!(text, ": {}", detail.replace(|c: char| c.is_control(), "?"));
        }
        text.push('\n');
    }
    text
}

/// The exclude list: folders that the node has empty.
pub(super) fn exlist(found: &Classified) -> String {
    let mut text =
        "# Folders that packages fill and that were empty on the node, as an exclude list leaves them.\n".to_owned();
    for (folder, count) in found.emptied.iter().filter(|(folder, _)| !folder.contains(['\n', '\r', '#'])) {
        let quoted: String =
            folder.chars().flat_map(|c| "*?[\\".contains(c).then_some('\\').into_iter().chain([c])).collect();
        let _ = write!(text, "# {count} files\n./{quoted}/*\n");
    }
    text
}

/// Paths that are taken away, one a line; a name with a line end cannot stand there.
pub(super) fn removed(found: &Classified) -> String {
    let paths = found.overlay.iter().filter(|file| file.reason == Reason::Removed && !file.path.contains('\n'));
    paths.fold(String::new(), |text, file| text + &file.path + "\n")
}

/// Modes and owners, with the path at the end of the line.
pub(super) fn modes(found: &Classified) -> String {
    let lines = found.overlay.iter().filter(|file| !file.path.contains('\n'));
    let line = |file: &OverlayFile| {
        let Attributes { mode, owner } = file.attributes?;
        let owner = owner.map_or_else(|| "-".to_owned(), |(uid, gid)| format!("{uid}:{gid}"));
        Some(format!("{mode:o} {owner} {}\n", file.path))
    };
    lines.filter_map(line).collect()
}

/// The script that makes of an image of packages the node's.
pub(super) fn script(facts: &Facts, found: &Classified, named: &Named) -> String {
    let mut text = "#!/bin/sh\n# Turns the packages' files into those of the captured node. Written by `imgbuild capture`; it may be edited.\nset -e\nroot=$1\n".to_owned();
    if named.removed {
        let _ = write!(
            text,
            "\n# Files that packages provide and the node did not have.\nwhile IFS= read -r path; do\n    # A folder of another package may be there now.\n    if [ ! -d \"$root/$path\" ] || [ -L \"$root/$path\" ]; then\n        rm -f -- \"$root/$path\"\n    fi\ndone < {REMOVED}\n"
        );
    }
    let is_plain = |path: &String| path.chars().all(|c| c.is_ascii_alphanumeric() || "._+/-@".contains(c));
    let folders: Vec<_> = found.folders.iter().filter(|(from, to)| is_plain(from) && is_plain(to)).collect();
    if !folders.is_empty() {
        text.push_str("\n# Folders that were links on the node: what packages put there moves to where the link points.\nmove_folder() {\n    [ -d \"$root/$1\" ] && [ ! -L \"$root/$1\" ] || return 0\n    mkdir -p \"$root/$2\"\n    cp -a \"$root/$1/.\" \"$root/$2/\"\n    rm -rf -- \"$root/$1\"\n}\n");
        for (from, to) in folders {
            let _ = writeln!(text, "move_folder '{from}' '{to}'");
        }
    }
    if named.overlay {
        let _ = write!(
            text,
            "\n# Changed and unpackaged files: {LIST} names them.\n\
             tar --numeric-owner --same-permissions --same-owner --keep-directory-symlink --xattrs '--xattrs-include=*' \\\n    -C \"$root\" -xf {ARCHIVE}\n"
        );
    }
    if named.modes {
        let _ = write!(
            text,
            "\n# Files of packages of which only mode or owner was changed.\nwhile IFS= read -r line; do\n    \
             mode=${{line%% *}} line=${{line#* }}\n    owner=${{line%% *}} path=$root/${{line#* }}\n    \
             [ -e \"$path\" ] || [ -L \"$path\" ] || continue\n    [ \"$owner\" = - ] || chown -h \"$owner\" \"$path\"\n    \
             [ -L \"$path\" ] || chmod \"$mode\" \"$path\"\ndone < {MODES}\n"
        );
    }
    if !facts.members.is_empty() {
        text.push_str(
            "\n# Members of groups.\nmembers() {\n    for file in group gshadow; do\n        [ -f \"$root/etc/$file\" ] || continue\n        \
             sed -i \"s/^\\($1:[^:]*:[^:]*:\\).*/\\1$2/\" \"$root/etc/$file\"\n    done\n}\n",
        );
        for (group, members) in &facts.members {
            let _ = writeln!(text, "members {group} {}", members.join(","));
        }
    }
    if !facts.gecos.is_empty() {
        text.push_str(
            "\n# Comments of users. In shell only: not every base has sed.\ngecos() {\n    text=\n    \
             while IFS=: read -r name password uid gid said home shell || [ -n \"$name\" ]; do\n        \
             [ \"$name\" != \"$1\" ] || said=$2\n        \
             text=\"$text$name:$password:$uid:$gid:$said:$home:$shell\n\"\n    \
             done <\"$root/etc/passwd\"\n    printf %s \"$text\" >\"$root/etc/passwd\"\n}\n",
        );
        for (name, said) in &facts.gecos {
            let _ = writeln!(text, "gecos {name} '{}'", said.replace('\'', "'\\''"));
        }
    }
    text.push_str("\n# Libraries that came with the overlay are found by this.\nif [ -x \"$root/sbin/ldconfig\" ]; then\n    chroot \"$root\" /sbin/ldconfig\nfi\n");
    text
}

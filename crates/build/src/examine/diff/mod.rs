//! `imgbuild diff`: what two builds, bundles, locks or trees have differently.

mod side;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

pub use crate::lock::packages::{
    MovedPackage, Package, PackageDifference, Packages, compare as compare_packages, compare_versions,
};
pub use side::{BuildPlace, Side, SideError, as_synced, matched};
pub use tree::{Node, Tree};

/// What `diff --json` prints. Readers ignore fields that they do not know; a null section could not be compared, and
/// `not_compared` says why.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(title = "imgbuild diff")]
pub struct Difference {
    /// Version of this form.
    pub format_version: String,
    /// The first side.
    pub a: Compared,
    /// The second side.
    pub b: Compared,
    /// Whether nothing differs in what was compared.
    pub same: bool,
    /// What was not compared, and why.
    pub not_compared: Vec<String>,
    /// Packages.
    pub packages: Option<PackageDifference>,
    /// Files of the image, sorted by path. Times are not compared.
    pub files: Option<FileDifference>,
    /// Release of the kernel.
    pub kernel_release: Option<Values>,
    /// Words for the kernel's command line, of two builds; those that name the image's own files are left out.
    pub cmdline: Option<Values>,
    /// Kernel modules, of the image and of the initrd.
    pub modules: Option<ModuleDifference>,
    /// Files of the artefacts whose size or content differs.
    pub artefacts: Option<Vec<ArtefactDifference>>,
    /// Units and init scripts whose state differs.
    pub services: Option<Vec<ServiceDifference>>,
}

/// What was compared.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Compared {
    /// As the command line named it.
    pub name: String,
    /// `build`, `bundle`, `archive`, `lock` or `directory`.
    pub kind: String,
    /// Where its files were read: `layers` of the store, `archive`, `directory`; null where it has none.
    pub files_from: Option<String>,
}

/// A value of each side; null where a side has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Values {
    /// The first one's.
    pub was: Option<String>,
    /// The second one's.
    pub now: Option<String>,
}

/// A file of one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ListedFile {
    /// Path without a slash in front.
    pub path: String,
    /// `directory`, `file`, `link`, `character device`, `block device`, `pipe` or `socket`.
    pub kind: String,
    /// Bytes of a file.
    pub size: u64,
    /// Permission bits in octal.
    pub mode: String,
    /// Owner and group: `0:0`.
    pub owner: String,
}

/// A file of both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ChangedFile {
    /// Path without a slash in front.
    pub path: String,
    /// What differs, by name: `kind`, `content` (BLAKE3), `target`, `device`, `size`, `mode`, `owner`, `xattr NAME` (in
    /// hexadecimal).
    pub changes: BTreeMap<String, Values>,
}

/// What differs in two trees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FileDifference {
    /// Only in the second.
    pub added: Vec<ListedFile>,
    /// Only in the first.
    pub removed: Vec<ListedFile>,
    /// In both.
    pub changed: Vec<ChangedFile>,
    /// Bytes of all files of the first.
    pub bytes_was: u64,
    /// Bytes of all files of the second.
    pub bytes_now: u64,
}

/// What differs in kernel modules; names are paths below `lib/modules/RELEASE`, behind `initrd:` those of the initrd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ModuleDifference {
    /// Only in the second.
    pub added: Vec<String>,
    /// Only in the first.
    pub removed: Vec<String>,
    /// With different content.
    pub changed: Vec<String>,
}

/// A file of the artefacts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ArtefactDifference {
    /// Its name.
    pub name: String,
    /// Bytes of the first; null where it has none.
    pub was: Option<u64>,
    /// Bytes of the second; null where it has none.
    pub now: Option<u64>,
}

/// A unit or init script: `enabled`, `masked`, or null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ServiceDifference {
    /// Its name.
    pub service: String,
    /// In the first.
    pub was: Option<String>,
    /// In the second.
    pub now: Option<String>,
}

fn listed(path: &str, node: &Node) -> ListedFile {
    ListedFile {
        path: path.to_owned(),
        kind: node.kind.to_owned(),
        size: node.size,
        mode: format!("{:04o}", node.mode),
        owner: format!("{}:{}", node.owner.0, node.owner.1),
    }
}

fn values(was: Option<String>, now: Option<String>) -> Option<Values> {
    (was != now).then_some(Values { was, now })
}

fn changes(was: &Node, now: &Node, with_xattrs: bool) -> BTreeMap<String, Values> {
    let mut all = BTreeMap::new();
    let mut say = |name: &str, was: String, now: String| {
        all.extend(values(Some(was), Some(now)).map(|values| (name.to_owned(), values)));
    };
    say("kind", was.kind.to_owned(), now.kind.to_owned());
    if was.kind == now.kind {
        let content = match now.kind {
            "link" => "target",
            "character device" | "block device" => "device",
            _ => "content",
        };
        say(content, was.content.clone(), now.content.clone());
        say("size", was.size.to_string(), now.size.to_string());
    }
    // A link's own mode means nothing.
    if was.kind != "link" && now.kind != "link" {
        say("mode", format!("{:04o}", was.mode), format!("{:04o}", now.mode));
    }
    let owner = |node: &Node| format!("{}:{}", node.owner.0, node.owner.1);
    say("owner", owner(was), owner(now));
    if with_xattrs {
        let names: BTreeSet<&String> = was.xattrs.keys().chain(now.xattrs.keys()).collect();
        for name in names {
            let found = values(was.xattrs.get(name).cloned(), now.xattrs.get(name).cloned());
            all.extend(found.map(|values| (format!("xattr {name}"), values)));
        }
    }
    all
}

pub fn compare_trees(was: &Tree, now: &Tree) -> FileDifference {
    let bytes = |tree: &Tree| tree.nodes.values().map(|node| node.size).sum();
    let mut found = FileDifference { bytes_was: bytes(was), bytes_now: bytes(now), ..FileDifference::default() };
    let with_xattrs = was.has_xattrs && now.has_xattrs;
    for (path, node) in &now.nodes {
        match was.nodes.get(path) {
            None => found.added.push(listed(path, node)),
            Some(before) => {
                let changes = changes(before, node, with_xattrs);
                if !changes.is_empty() {
                    found.changed.push(ChangedFile { path: path.clone(), changes });
                }
            }
        }
    }
    let gone = was.nodes.iter().filter(|(path, _)| !now.nodes.contains_key(*path));
    found.removed = gone.map(|(path, node)| listed(path, node)).collect();
    found
}

/// Modules of a tree by their path below the release's directory.
fn modules(tree: &Tree, place: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (path, node) in tree.nodes.iter().filter(|(_, node)| node.kind == "file") {
        let below = path.strip_prefix("usr/lib/modules/").or_else(|| path.strip_prefix("lib/modules/"));
        let Some((_, name)) = below.and_then(|below| below.split_once('/')) else { continue };
        let file = name.rsplit('/').next().unwrap_or(name);
        if file.ends_with(".ko") || [".ko.xz", ".ko.gz", ".ko.zst"].iter().any(|end| file.ends_with(end)) {
            all.insert(format!("{place}{name}"), node.content.clone());
        }
    }
    all
}

fn releases(tree: &Tree) -> BTreeSet<String> {
    let below = |path: &String| -> Option<String> {
        let rest = path.strip_prefix("usr/lib/modules/").or_else(|| path.strip_prefix("lib/modules/"))?;
        Some(rest.split('/').next()?.to_owned())
    };
    tree.nodes.keys().filter_map(below).collect()
}

/// Units and init scripts that a tree starts or forbids. Sources: systemd.unit(5), update-rc.d(8).
fn services(tree: &Tree) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (path, node) in tree.nodes.iter().filter(|(_, node)| node.kind == "link") {
        let mut parts = path.rsplit('/');
        let (name, folder) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if path.starts_with("etc/systemd/system/") {
            if folder.ends_with(".wants") || folder.ends_with(".requires") {
                all.entry(name.to_owned()).or_insert_with(|| "enabled".to_owned());
            } else if folder == "system" && node.content == "/dev/null" {
                all.insert(name.to_owned(), "masked".to_owned());
            }
        }
        let runlevel = folder.strip_prefix("rc").and_then(|rest| rest.strip_suffix(".d"));
        if let (Some("2" | "3" | "4" | "5"), Some(rest)) = (runlevel, name.strip_prefix('S')) {
            let script = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            all.entry(format!("{script} (init script)")).or_insert_with(|| "enabled".to_owned());
        }
    }
    all
}

/// Compares maps by name: `(name, was, now)` of those that differ.
fn differing<V: Clone + PartialEq>(
    was: &BTreeMap<String, V>,
    now: &BTreeMap<String, V>,
) -> Vec<(String, Option<V>, Option<V>)> {
    let names: BTreeSet<&String> = was.keys().chain(now.keys()).collect();
    let both = names.into_iter().map(|name| (name.clone(), was.get(name).cloned(), now.get(name).cloned()));
    both.filter(|(_, was, now)| was != now).collect()
}

pub fn compare(a: &Side, b: &Side) -> Difference {
    let mut not_compared = Vec::new();
    let mut lacking = |what: &str, has_a: bool, has_b: bool| {
        let who = match (has_a, has_b) {
            (true, true) => return,
            (false, false) => "neither side".to_owned(),
            (false, true) => format!("`{}`", a.name),
            (true, false) => format!("`{}`", b.name),
        };
        let only = if has_a || has_b { "has none" } else { "has any" };
        not_compared.push(format!("{what}: {who} {only}"));
    };
    lacking("packages", a.packages.is_some(), b.packages.is_some());
    lacking("files, modules and services", a.tree.is_some(), b.tree.is_some());
    lacking("artefacts", a.artefacts.is_some(), b.artefacts.is_some());
    let damaged = [a, b].into_iter().filter_map(|side| Some(format!("`{}`: {}", side.name, side.damaged.as_ref()?)));
    not_compared.extend(damaged);
    let packages = a.packages.as_ref().zip(b.packages.as_ref()).map(|(was, now)| compare_packages(was, now));
    let trees = a.tree.as_ref().zip(b.tree.as_ref());
    let files = trees.map(|(was, now)| compare_trees(was, now));
    if trees.is_some_and(|(was, now)| !(was.has_xattrs && now.has_xattrs)) {
        not_compared.push("extended attributes: a packed image without an index does not list them".to_owned());
    }
    let release = |side: &Side| {
        let found = || side.tree.as_ref().map(releases).filter(|all| !all.is_empty());
        side.release.clone().or_else(|| Some(found()?.into_iter().collect::<Vec<_>>().join(", ")))
    };
    let kernel_release = match (release(a), release(b)) {
        (Some(was), Some(now)) => values(Some(was), Some(now)),
        (None, None) => None,
        // A lock names no release.
        (was, now) => values(was, now).filter(|_| trees.is_some()),
    };
    let words = a.cmdline.as_ref().zip(b.cmdline.as_ref());
    let cmdline = words.and_then(|(was, now)| values(Some(was.join(" ")), Some(now.join(" "))));
    let all_modules = |side: &Side| {
        let mut all = side.all_files.as_ref().or(side.tree.as_ref()).map(|tree| modules(tree, "")).unwrap_or_default();
        all.extend(side.initrd.iter().flat_map(|tree| modules(tree, "initrd:")));
        all
    };
    let module_difference = trees.map(|_| {
        let mut found = ModuleDifference::default();
        for (name, was, now) in differing(&all_modules(a), &all_modules(b)) {
            match (was, now) {
                (None, _) => found.added.push(name),
                (_, None) => found.removed.push(name),
                _ => found.changed.push(name),
            }
        }
        found
    });
    let artefacts = a.artefacts.as_ref().zip(b.artefacts.as_ref()).map(|(was, now)| {
        let size = |one: Option<(u64, String)>| one.map(|(size, _)| size);
        let one = |(name, was, now)| ArtefactDifference { name, was: size(was), now: size(now) };
        differing(was, now).into_iter().map(one).collect::<Vec<_>>()
    });
    let services = trees.map(|(was, now)| {
        let one = |(service, was, now)| ServiceDifference { service, was, now };
        differing(&services(was), &services(now)).into_iter().map(one).collect::<Vec<_>>()
    });
    let same = packages.as_ref().is_none_or(PackageDifference::is_empty)
        && files.as_ref().is_none_or(|one| one.added.is_empty() && one.removed.is_empty() && one.changed.is_empty())
        && kernel_release.is_none()
        && cmdline.is_none()
        && module_difference.as_ref().is_none_or(|one| *one == ModuleDifference::default())
        && artefacts.as_ref().is_none_or(Vec::is_empty)
        && services.as_ref().is_none_or(Vec::is_empty);
    let compared = |side: &Side| Compared {
        name: side.name.clone(),
        kind: side.kind.to_owned(),
        files_from: side.files_from.map(str::to_owned),
    };
    Difference {
        format_version: "1.0".to_owned(),
        a: compared(a),
        b: compared(b),
        same,
        not_compared,
        packages,
        files,
        kernel_release,
        cmdline,
        modules: module_difference,
        artefacts,
        services,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(nodes: &[(&str, Node)]) -> Tree {
        let nodes = nodes.iter().map(|(path, node)| ((*path).to_owned(), node.clone())).collect();
        Tree { nodes, has_xattrs: true, ..Tree::default() }
    }

    fn file(text: &str) -> Node {
        Node { kind: "file", size: text.len() as u64, mode: 0o644, content: text.to_owned(), ..Node::default() }
    }

    #[test]
    fn every_property_of_a_file_is_compared() {
        let was = tree(&[("a", file("x")), ("gone", file("x"))]);
        let node = |change: &dyn Fn(&mut Node)| {
            let mut node = file("x");
            change(&mut node);
            tree(&[("a", node), ("gone", file("x"))])
        };
        for (name, now) in [
            ("content", node(&|node| node.content = "y".into())),
            ("size", node(&|node| node.size = 9)),
            ("mode", node(&|node| node.mode = 0o600)),
            ("owner", node(&|node| node.owner = (0, 7))),
            ("xattr user.x", node(&|node| drop(node.xattrs.insert("user.x".into(), "00".into())))),
            ("kind", node(&|node| node.kind = "link")),
        ] {
            let found = compare_trees(&was, &now);
            assert_eq!(found.changed.len(), 1, "{name}");
            assert!(found.changed[0].changes.contains_key(name), "{name}: {found:?}");
        }
        let found = compare_trees(&was, &tree(&[("a", file("x")), ("new", file("xy"))]));
        assert_eq!((found.added[0].path.as_str(), found.removed[0].path.as_str()), ("new", "gone"));
        assert_eq!((found.bytes_was, found.bytes_now, found.changed.len()), (2, 3, 0));
    }

    #[test]
    fn units_and_scripts_are_found_by_their_links() {
        let link = |target: &str| Node { kind: "link", content: target.to_owned(), ..Node::default() };
        let found = services(&tree(&[
            ("etc/systemd/system/multi-user.target.wants/ssh.service", link("/lib/systemd/system/ssh.service")),
            ("etc/systemd/system/apt.timer", link("/dev/null")),
            ("etc/systemd/system/sshd.service", link("/lib/systemd/system/ssh.service")),
            ("etc/rc3.d/S01munge", link("../init.d/munge")),
            ("etc/rc3.d/K01rsync", link("../init.d/rsync")),
        ]));
        let names: Vec<String> = found.iter().map(|(name, state)| format!("{name} {state}")).collect();
        assert_eq!(names, ["apt.timer masked", "munge (init script) enabled", "ssh.service enabled"]);
    }

    #[test]
    fn modules_keep_their_name_when_the_release_moves() {
        let was =
            tree(&[("usr/lib/modules/6.1/kernel/a.ko", file("x")), ("usr/lib/modules/6.1/modules.dep", file("x"))]);
        let now = tree(&[("lib/modules/6.2/kernel/a.ko", file("x")), ("lib/modules/6.2/kernel/b.ko.xz", file("x"))]);
        let found = differing(&modules(&was, ""), &modules(&now, ""));
        assert_eq!(found.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), ["kernel/b.ko.xz"]);
        assert_eq!(releases(&now).into_iter().collect::<Vec<_>>(), ["6.2"]);
    }
}

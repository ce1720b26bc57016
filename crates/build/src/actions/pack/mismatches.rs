//! What a node does not have as the recipe, the lock or its programs want it, although it starts. Runs inside, on the merged tree
//! less what the exclude lists leave out.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::startable::View;
use base::source::{Finding, Severity};
use recipe::Recipe;
use recipe::owners::private;
use store::Kind;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mismatch {
    /// An account has another number than the one that packages were installed with.
    Number {
        /// `etc/passwd` or `etc/group`.
        file: Accounts,
        name: String,
        locked: u32,
        found: u32,
        /// A path that belongs to the locked number, if there is one.
        owned: Option<String>,
    },
    Lacks {
        file: Accounts,
        names: Vec<String>,
    },
    /// A user of the recipe has a shell that the image does not have.
    NoShell {
        name: String,
        /// As `/etc/passwd` has it.
        shell: String,
    },
    /// More may read or write a file than its program takes.
    Open {
        path: String,
        mode: u32,
        consequence: String,
    },
    /// A file belongs to an account with which its program refuses it, or cannot read it.
    Belongs {
        path: String,
        /// User and group, as numbers.
        found: String,
        /// Permission bits.
        mode: u32,
        /// As `[sync.owner]` says it.
        wanted: String,
        consequence: String,
    },
    /// A tmpfs covers what the image has there, and nothing makes it again when a node starts.
    Covered {
        point: String,
        first: String,
        count: usize,
    },
    /// A directory that is exported and that is not there.
    NotExported(String),
    /// A file that the recipe brings, and that an exclude list leaves out.
    LeftOut(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Accounts {
    Passwd,
    Group,
}

impl Accounts {
    const fn path(self) -> &'static str {
        match self {
            Self::Passwd => "etc/passwd",
            Self::Group => "etc/group",
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Wanted {
    pub users: BTreeMap<String, u32>,
    pub groups: BTreeMap<String, u32>,
    pub named: BTreeSet<String>,
    /// For each layer, whether its files are wanted by name: the system's settings and what is synced.
    pub brought: Vec<bool>,
}

/// Directories of tmpfiles.d(5).
const TMPFILES: [&str; 2] = ["usr/lib/tmpfiles.d/", "etc/tmpfiles.d/"];

pub(crate) fn mismatches(view: &View<'_>, wanted: &Wanted) -> Result<Vec<Mismatch>, String> {
    let mut found = Vec::new();
    accounts(view, wanted, &mut found)?;
    let tree = view.tree();
    for (path, entry) in &tree.0 {
        let is_link = matches!(entry.entry.kind, Kind::Symlink(_));
        if let Some((_, consequence)) = private::open(path, entry.entry.mode).filter(|_| !is_link)
            && !view.is_left_out(path)
            && !fault::planted("open-file-not-reported")
        {
            let (path, consequence) = (path.clone(), consequence.to_owned());
            found.push(Mismatch::Open { path, mode: entry.entry.mode & 0o7777, consequence });
        }
    }
    found.extend(super::belongings::belongings(view, &wanted.named)?);
    covered(view, &mut found)?;
    exports(view, &mut found)?;
    let is_brought = |layer: usize| wanted.brought.get(layer).copied().unwrap_or_default();
    let left_out = tree
        .0
        .iter()
        .filter(|(path, entry)| !entry.entry.is_directory() && is_brought(entry.layer) && view.is_left_out(path));
    found.extend(left_out.map(|(path, _)| Mismatch::LeftOut(path.clone())));
    Ok(found)
}

/// The text of a file of the tree; empty if it is missing.
pub(crate) fn text(view: &View<'_>, path: &str) -> Result<String, String> {
    let Ok((path, _)) = view.resolve(path) else { return Ok(String::new()) };
    Ok(String::from_utf8_lossy(&view.read(&path)?.unwrap_or_default()).into_owned())
}

fn accounts(view: &View<'_>, wanted: &Wanted, found: &mut Vec<Mismatch>) -> Result<(), String> {
    for (file, locked) in [(Accounts::Passwd, &wanted.users), (Accounts::Group, &wanted.groups)] {
        let text = text(view, file.path())?;
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, number, ..] = fields[..] else { continue };
            // The first line of a name counts, as for getpwnam(3).
            if !seen.insert(name) {
                continue;
            }
            if let (Some(locked), Ok(number)) = (locked.get(name), number.parse::<u32>())
                && *locked != number
            {
                let owner = |entry: &store::Entry| match file {
                    Accounts::Passwd => entry.uid,
                    Accounts::Group => entry.gid,
                };
                let owned =
                    view.tree().0.iter().find(|(path, one)| owner(&one.entry) == *locked && !view.is_left_out(path));
                found.push(Mismatch::Number {
                    file,
                    name: name.to_owned(),
                    locked: *locked,
                    found: number,
                    owned: owned.map(|(path, _)| path.clone()),
                });
            }
            if file == Accounts::Passwd
                && wanted.named.contains(name)
                && let Some(shell) = fields.get(6).map(|shell| shell.trim()).filter(|shell| !shell.is_empty())
                && !["/nologin", "/false", "/sync"].iter().any(|end| shell.ends_with(end))
                && view.executable(shell).is_err()
            {
                found.push(Mismatch::NoShell { name: name.to_owned(), shell: shell.to_owned() });
            }
        }
        let lacking = locked.keys().filter(|name| !seen.contains(name.as_str()) && !seen.is_empty());
        let names: Vec<String> = lacking.cloned().collect();
        if !names.is_empty() {
            found.push(Mismatch::Lacks { file, names });
        }
    }
    Ok(())
}

/// Mount points of tmpfs below which the image has something that a node would miss.
fn covered(view: &View<'_>, found: &mut Vec<Mismatch>) -> Result<(), String> {
    let fstab = text(view, "etc/fstab")?;
    let points = fstab.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [source, point, "tmpfs", options, ..] = words[..] else { return None };
        let is_mounted = !source.starts_with('#') && !options.split(',').any(|option| option == "noauto");
        // What is in /run and /tmp is recreated by everyone.
        let below = point.strip_prefix('/')?.trim_end_matches('/');
        (is_mounted && !below.is_empty() && !["tmp", "run", "dev/shm", "var/tmp"].contains(&below)).then_some(below)
    });
    let points: BTreeSet<&str> = points.collect();
    if points.is_empty() {
        return Ok(());
    }
    let made = made_at_start(view)?;
    for point in points {
        let folder = format!("{point}/");
        let is_missed = |path: &str| !view.is_left_out(path) && !made.contains(path);
        let mut missed = view.below(&folder).map(|(path, _)| path).filter(|path| is_missed(path));
        if let Some(first) = missed.next() {
            let count = 1 + missed.count();
            found.push(Mismatch::Covered { point: point.to_owned(), first: first.to_owned(), count });
        }
    }
    Ok(())
}

/// Paths that systemd-tmpfiles makes when a node starts. Source: tmpfiles.d(5).
fn made_at_start(view: &View<'_>) -> Result<BTreeSet<String>, String> {
    let mut made = BTreeSet::new();
    for folder in TMPFILES {
        let files: Vec<String> =
            view.below(folder).filter(|(_, is_left_out)| !is_left_out).map(|(path, _)| path.to_owned()).collect();
        for file in files {
            for line in text(view, &file)?.lines() {
                let mut words = line.split_whitespace();
                let kind = words.next().unwrap_or_default();
                let is_made = kind.starts_with(['f', 'F', 'w', 'd', 'D', 'v', 'q', 'Q', 'p', 'L', 'c', 'b', 'C']);
                if let Some(path) = words.next().filter(|_| is_made) {
                    made.insert(path.trim_start_matches('/').trim_end_matches('/').to_owned());
                }
            }
        }
    }
    Ok(made)
}

/// Directories of /etc/exports that are neither in the image nor on something that is mounted.
fn exports(view: &View<'_>, found: &mut Vec<Mismatch>) -> Result<(), String> {
    let fstab = text(view, "etc/fstab")?;
    let mounted: Vec<&str> = fstab.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    for line in text(view, "etc/exports")?.lines() {
        let Some(path) = line.split_whitespace().next().filter(|path| path.starts_with('/')) else { continue };
        let is_mounted = mounted.iter().any(|point| {
            path == *point || path.strip_prefix(point.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
        });
        if path != "/" && !is_mounted && view.resolve(path).is_err() {
            found.push(Mismatch::NotExported(path.to_owned()));
        }
    }
    Ok(())
}

/// How many are named of a kind; of the rest the number is said.
const NAMED: usize = 5;

pub(crate) fn findings(all: &[Mismatch], recipe: &Recipe) -> Vec<Finding> {
    let mut findings = Vec::new();
    let kind = std::mem::discriminant::<Mismatch>;
    let mut shown: Vec<(std::mem::Discriminant<Mismatch>, usize)> = Vec::new();
    for one in all {
        let count = all.iter().filter(|other| kind(other) == kind(one)).count();
        let at = shown.iter().position(|(known, _)| *known == kind(one)).unwrap_or_else(|| {
            shown.push((kind(one), 0));
            shown.len() - 1
        });
        shown[at].1 += 1;
        if shown[at].1 > NAMED {
            continue;
        }
        let more = (shown[at].1 == NAMED && count > NAMED).then(|| count - NAMED);
        findings.push(finding(one, recipe, more));
    }
    findings
}

/// The line of a list that syncs a file to a path.
fn synced(recipe: &Recipe, path: &str) -> Option<base::source::Span> {
    let is_it = |one: &&recipe::SyncedFile| {
        let below = one.name_in_folder.as_ref().map(|name| format!("{}/{name}", one.destination.trim_end_matches('/')));
        [Some(one.destination.clone()), below].into_iter().flatten().any(|place| place.trim_start_matches('/') == path)
    };
    recipe.sync.iter().rev().find(is_it).map(|one| one.span.clone())
}

fn finding(one: &Mismatch, recipe: &Recipe, more: Option<usize>) -> Finding {
    let more = more.map_or_else(String::new, |more| format!("; {more} more like it"));
    let (code, text, help, span) = match one {
        Mismatch::Number { file, name, locked, found, owned } => {
            let owned = owned.as_ref().map_or_else(String::new, |path| format!("; /{path} belongs to {locked}"));
            (
                "pack::accounts",
                format!(
                    "/{} gives `{name}` the id {found}, but the packages were installed with {locked} ({}){owned}",
                    file.path(),
                    recipe.lock_name()
                ),
                match file {
                    Accounts::Passwd => format!(
                        "make both agree: set ‹users.{name}.uid = {found}› in the recipe to install the packages with that id, or change the file"
                    ),
                    Accounts::Group => format!(
                        "make both agree: set ‹groups.{name} = {found}› in the recipe to install the packages with that id, or change the file"
                    ),
                },
                synced(recipe, file.path()),
            )
        }
        Mismatch::Lacks { file, names } => (
            "pack::accounts",
            format!(
                "/{} is missing accounts that the image's packages created ({}): {}",
                file.path(),
                recipe.lock_name(),
                names.join(", ")
            ),
            "sync the file with `MERGE:`, which adds its lines to those of the image, or add the missing lines: services that run as these accounts do not start otherwise".to_owned(),
            synced(recipe, file.path()),
        ),
        Mismatch::NoShell { name, shell } => (
            "pack::shell",
            format!("the login shell of `{name}`, {shell}, does not exist in the image"),
            "add its package to the list, or set another shell".to_owned(),
            recipe.spans.nearest(&format!("users.{name}")).cloned(),
        ),
        Mismatch::Open { path, mode, consequence } => {
            let span = synced(recipe, path);
            let right = private::right(path, *mode, recipe.model.image.distro.family());
            let bits = right.rsplit(' ').next().unwrap_or_default();
            let help = match &span {
                Some(_) => format!(
                    "say owner and mode in the recipe: ‹[sync.owner] \"/{path}\" = \"{right}\"›; or, where git does not track the source, run `chmod {bits}` on it"
                ),
                None => format!("add to the script that creates it: chmod {bits} \"$1/{path}\""),
            };
            ("pack::mode", format!("/{path} has mode {mode:04o}: {consequence}"), help, span)
        }
        Mismatch::Belongs { path, found, mode, wanted, consequence } => {
            let span = synced(recipe, path);
            let (owner, bits) = wanted.split_once(' ').map_or((wanted.as_str(), None), |(owner, bits)| (owner, Some(bits)));
            let help = match &span {
                Some(_) => {
                    let chmod = bits.map_or_else(String::new, |bits| format!(" and `chmod {bits}`"));
                    format!(
                        "say it in the recipe: ‹[sync.owner] \"/{path}\" = \"{wanted}\"›; or, where git does not track the source and this host has the account, run `chown {owner}`{chmod} on it"
                    )
                }
                // The image has the account, and not what runs the script.
                None => {
                    let chmod = bits.map_or_else(String::new, |bits| format!(" && chmod {bits} \"$1/{path}\""));
                    format!("add to the script that creates it: chroot \"$1\" chown {owner} /{path}{chmod}")
                }
            };
            ("pack::owner", format!("/{path} belongs to {found} and has mode {mode:04o}: {consequence}"), help, span)
        }
        Mismatch::Covered { point, first, count } => {
            let size = if *count == 1 {
                format!("/{first}")
            } else {
                format!("{count} entries of the image (first: /{first})")
            };
            (
                "pack::covered",
                format!("the tmpfs on /{point} hides {size}: nodes start without them"),
                format!(
                    "create what services need there with a file in /etc/tmpfiles.d (tmpfiles.d(5)), mount the tmpfs on an empty directory below /{point}, or exclude the files if nothing needs them"
                ),
                tmpfs(recipe, point),
            )
        }
        Mismatch::NotExported(path) => (
            "pack::exports",
            format!("/etc/exports exports {path}, which does not exist in the image and is not mounted"),
            format!("create it in the postinstall script: mkdir -p \"$1{path}\"; or mount it with ‹[system]› fstab"),
            recipe
                .exports
                .iter()
                .find(|export| export.line.split_whitespace().next() == Some(path))
                .map(|export| export.span.clone()),
        ),
        Mismatch::LeftOut(path) => {
            let name = format!("./{path}");
            let pattern = recipe.exclude.exclude.iter().find(|pattern| xcat::matches(&pattern.text, &name));
            let by = pattern.map_or_else(String::new, |pattern| format!(" by `{}`", pattern.text));
            (
                "pack::left_out",
                format!("/{path} comes from the recipe but is excluded{by}"),
                format!("narrow the pattern, or keep the file with a line `+./{path}` in the exclude list"),
                pattern.map(|pattern| pattern.span.clone()),
            )
        }
    };
    let finding = Finding::nowhere(Severity::Warning, code, format!("{text}{more}")).help(help);
    Finding { span, ..finding }
}

fn tmpfs(recipe: &Recipe, point: &str) -> Option<base::source::Span> {
    let own = recipe.model.boot.tmpfs.keys().find(|key| key.trim_matches('/') == point);
    let own = own.and_then(|key| recipe.spans.nearest(&format!("boot.tmpfs.{key}")).cloned());
    own.or_else(|| {
        let is_it = |line: &String| line.split_whitespace().nth(1).is_some_and(|one| one.trim_matches('/') == point);
        let at = recipe.model.system.fstab.iter().position(is_it)?;
        recipe.spans.nearest(&format!("system.fstab[{at}]")).cloned()
    })
}

//! The answer for two builds: each thing that differs asks for a restart, and the largest counts.

use std::collections::{BTreeMap, BTreeSet};

use super::answer::{Answer, PackageMove, Reason, Restart};
use super::bring::{Bring, By, Change, ChangeKind, Means};
use super::facts::{Facts, UNIT_FOLDERS};
use super::places::{Place, place};
use super::services::{Concern, Services};
use super::starts::{alone, is_of_sessions, runs, shown, template};
use super::unit::KINDS;
use build::diff::{Difference, FileDifference, PackageDifference, Values};

/// The first systemd that can start user space again without the kernel. Source: its NEWS, "soft-reboot".
pub const FIRST_SOFT_REBOOT: u32 = 254;

/// Files besides the image that the loader or the initrd takes; what else is published no node takes unasked.
const LOADED: [&str; 2] = ["kernel", "initrd-stateless"];
const LOADED_STATELITE: &str = "initrd-statelite";

/// What the paths of one reason have in common.
type Shared = (Restart, bool, String, Option<String>, Vec<String>);

/// The smallest restart that surely brings a node from one build to another, by what differs, what both trees say, and what `sync` brings.
pub fn answer(difference: &Difference, was: &Facts, now: &Facts, means: &Means) -> Answer {
    let mut reasons = kernel(difference, now);
    let bring = Bring::new(difference, (was, now), means);
    let mut sync: BTreeSet<By> = BTreeSet::new();
    match &difference.files {
        Some(files) => {
            let is_new_kernel = difference.kernel_release.is_some();
            let trees = Trees { was, now, services: Services::of(was), bring: &bring, is_new_kernel };
            reasons.extend(trees.reasons(files, difference.packages.as_ref(), &mut sync));
        }
        None => reasons.push(Reason::unsure(Restart::Reboot, "which files differ: they cannot be compared")),
    }
    reasons.extend(packages_alone(difference, &bring, &reasons, &mut sync));
    if reasons.iter().map(|reason| reason.restart).max() == Some(Restart::SoftReboot) {
        reasons.extend(no_soft_reboot(was, now));
    }
    let mut answer = Answer::of(reasons);
    if [Restart::Sync, Restart::Services].contains(&answer.restart) {
        let name = |by: &By| if *by == By::Files { "files" } else { "packages" };
        answer.sync = sync.iter().map(|by| name(by).to_owned()).collect();
    }
    answer
}

/// Kernel, initrd and words.
fn kernel(difference: &Difference, now: &Facts) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    if let Some(Values { was, now }) = &difference.kernel_release {
        reasons.push(Reason::sure(Restart::Reboot, format!("kernel {} -> {}", shown(was), shown(now))));
    }
    let initrd = if now.cmdline.iter().any(|word| is_statelite(word)) { LOADED_STATELITE } else { LOADED[1] };
    for file in difference.artefacts.iter().flatten() {
        let is_loaded = [LOADED[0], initrd].contains(&file.name.as_str()) || file.name.ends_with(".dtb");
        // A kernel of another release has an initrd of its own.
        if is_loaded && difference.kernel_release.is_none() && !fault::planted("restart-initrd-passed-over") {
            let text = format!("{} has other content, and is loaded when the machine starts", file.name);
            reasons.push(Reason { paths: vec![file.name.clone()], ..Reason::sure(Restart::Reboot, text) });
        }
    }
    if let Some(Values { was, now }) = &difference.cmdline {
        reasons.extend(words(was.as_deref().unwrap_or_default(), now.as_deref().unwrap_or_default()));
    }
    reasons
}

fn is_statelite(word: &str) -> bool {
    word.starts_with("imgbuild.statelite=") || word.starts_with("root=nfs")
}

/// What a word of the command line is for, where its change has a meaning of its own.
fn meaning(word: &str) -> &'static str {
    match word {
        _ if is_statelite(word) => ": the initrd mounts statelite paths",
        _ if word.starts_with("crashkernel=") => ": memory for a crash kernel is reserved when the kernel starts",
        _ if word.starts_with("imgbuild.kdump=") => {
            ": the crash kernel is loaded by the word that the node booted with"
        }
        _ => "",
    }
}

fn words(was: &str, now: &str) -> Vec<Reason> {
    let without = |from: &str, of: &str| {
        let mut left: Vec<&str> = of.split_whitespace().collect();
        let is_new = |word: &&str| match left.iter().position(|other| other == word) {
            Some(at) => {
                left.remove(at);
                false
            }
            None => true,
        };
        from.split_whitespace().filter(is_new).map(str::to_owned).collect::<Vec<_>>()
    };
    let reason = |word: String, what: &str| {
        let text = format!("kernel command line: `{word}` {what}{}", meaning(&word));
        Reason { word: Some(word), ..Reason::sure(Restart::Reboot, text) }
    };
    let mut reasons: Vec<Reason> = without(now, was).into_iter().map(|word| reason(word, "is new")).collect();
    reasons.extend(without(was, now).into_iter().map(|word| reason(word, "is no longer there")));
    if reasons.is_empty() {
        reasons.push(Reason::sure(Restart::Reboot, "kernel command line: the words have another order"));
    }
    reasons
}

/// Why user space alone cannot start again between two builds.
fn no_soft_reboot(was: &Facts, now: &Facts) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for facts in [was, now] {
        match facts.systemd {
            Some(version) if version >= FIRST_SOFT_REBOOT || fault::planted("restart-any-systemd") => {
                if !facts.has_soft_reboot || facts.masked.contains("soft-reboot.target") {
                    let text = format!("{} has no soft-reboot.target, or masks it", facts.name);
                    reasons.push(Reason::sure(Restart::Reboot, text));
                }
            }
            Some(version) => reasons.push(Reason::sure(
                Restart::Reboot,
                format!(
                    "systemd {version} of {} has no soft reboot: {FIRST_SOFT_REBOOT} is the first that has",
                    facts.name
                ),
            )),
            None => reasons.push(Reason::sure(
                Restart::Reboot,
                format!("{} has no systemd, which a soft reboot needs", facts.name),
            )),
        }
        if facts.cmdline.iter().any(|word| is_statelite(word)) {
            let text = format!("{} has statelite paths or a root over NFS, which only the initrd mounts", facts.name);
            reasons.push(Reason::sure(Restart::Reboot, text));
        }
        if facts.cmdline.iter().any(|word| word.starts_with("imgbuild.root=lazy")) {
            let text = format!("nodes read the root of {} over the network, which only the initrd starts", facts.name);
            reasons.push(Reason::sure(Restart::Reboot, text));
        }
    }
    let rootimg =
        |facts: &Facts| facts.cmdline.iter().find_map(|word| word.strip_prefix("imgurl={url}/").map(str::to_owned));
    let stays_packed =
        |name: &Option<String>| name.as_ref().is_some_and(|name| name.ends_with(".sfs") || name.ends_with(".erofs"));
    let shown = |name: Option<String>| name.unwrap_or_else(|| "root file system".to_owned());
    let (first, second) = (rootimg(was), rootimg(now));
    let what = match (stays_packed(&first), stays_packed(&second)) {
        (true, true) => return reasons,
        (_, false) => format!("the running image and {} MiB of the unpacked {}", now.memory >> 20, shown(second)),
        (false, true) => format!("the new image and the running unpacked {}", shown(first)),
    };
    let text = format!("whether the nodes have memory for {what}; a squashfs or erofs stays packed");
    reasons.push(Reason::unsure(Restart::Reboot, &text));
    reasons
}

/// The versions of a package on both sides, if they differ.
fn moved(packages: Option<&PackageDifference>, name: &str) -> Option<PackageMove> {
    let packages = packages?;
    let of = |was: Option<&String>, now: Option<&String>| {
        Some(PackageMove { name: name.to_owned(), was: was.cloned(), now: now.cloned() })
    };
    if let Some(one) = packages.upgraded.iter().chain(&packages.downgraded).find(|one| one.name == name) {
        return of(Some(&one.was), Some(&one.now));
    }
    let find = |all: &[build::diff::Package]| all.iter().find(|one| one.name == name).map(|one| one.version.clone());
    let (was, now) = (find(&packages.removed), find(&packages.added));
    (was.is_some() || now.is_some()).then_some(PackageMove { name: name.to_owned(), was, now })
}

/// Packages of which no file differs that counts.
fn packages_alone(
    difference: &Difference,
    bring: &Bring<'_>,
    reasons: &[Reason],
    sync: &mut BTreeSet<By>,
) -> Vec<Reason> {
    let Some(packages) = &difference.packages else { return Vec::new() };
    let named: BTreeSet<&str> =
        reasons.iter().filter_map(|one| one.package.as_ref()).map(|one| one.name.as_str()).collect();
    let whole = packages.added.iter().chain(&packages.removed).map(|one| &one.name);
    let all = whole.chain(packages.upgraded.iter().chain(&packages.downgraded).map(|one| &one.name));
    let all: BTreeSet<&String> = all.filter(|name| !named.contains(name.as_str())).collect();
    let mut alone = Vec::new();
    for name in all {
        let package = moved(Some(packages), name);
        let reason = match bring.packages().1 {
            None => {
                sync.insert(By::Packages);
                Reason::sure(Restart::Sync, "no file of it that a program has open differs")
            }
            Some(why) => Reason::sure(Restart::SoftReboot, why),
        };
        alone.push(Reason { package, ..reason });
    }
    alone
}

struct Trees<'a> {
    was: &'a Facts,
    now: &'a Facts,
    services: Services,
    bring: &'a Bring<'a>,
    is_new_kernel: bool,
}

impl Trees<'_> {
    /// A reason for each group of paths that ask for the same by the same.
    fn reasons(
        &self,
        files: &FileDifference,
        packages: Option<&PackageDifference>,
        sync: &mut BTreeSet<By>,
    ) -> Vec<Reason> {
        let mut groups: BTreeMap<Shared, Vec<String>> = BTreeMap::new();
        let listed = files.added.iter().map(|file| (file, ChangeKind::Added));
        let listed = listed.chain(files.removed.iter().map(|file| (file, ChangeKind::Removed)));
        let listed =
            listed.map(|(file, kind)| Change { path: &file.path, kind, is_directory: file.kind == "directory" });
        let changed = files.changed.iter().map(|file| {
            let is_whole = ["kind", "content", "target", "device"].iter().any(|name| file.changes.contains_key(*name));
            let kind = if is_whole { ChangeKind::Changed } else { ChangeKind::Attributes };
            Change { path: &file.path, kind, is_directory: false }
        });
        for change in listed.chain(changed) {
            for shared in self.of_change(change, sync) {
                groups.entry(shared).or_default().push(change.path.to_owned());
            }
        }
        let reason = |((restart, known, text, package, services), paths): (Shared, Vec<String>)| {
            let package = package.and_then(|name| moved(packages, &name));
            Reason { restart, known, text, package, word: None, services, paths }
        };
        groups.into_iter().map(reason).collect()
    }

    /// What one path asks for: by what brings it, and by who has it open.
    fn of_change(&self, change: Change<'_>, sync: &mut BTreeSet<By>) -> Vec<Shared> {
        let path = change.path;
        let package = self.now.owner(path).or_else(|| self.was.owner(path));
        let shared = |restart, text: String| (restart, true, text, package.map(str::to_owned), Vec::new());
        let at = place(path);
        match at {
            Place::State if !self.bring.lists(path) => return Vec::new(),
            // A kernel of another release has drivers of its own.
            Place::Boot(_) if self.is_new_kernel => return Vec::new(),
            Place::Boot(why) => return vec![shared(Restart::Reboot, why.to_owned())],
            Place::BootUnlessNew(why, _) if change.kind != ChangeKind::Added || self.hides(path) => {
                return vec![shared(Restart::Reboot, why.to_owned())];
            }
            _ => {}
        }
        let by = match self.bring.of(change, package, at).or_else(|why| self.enabled_with_package(path).ok_or(why)) {
            Ok(by) => by,
            Err(why) => {
                let known = !why.starts_with("not known: ");
                return vec![(Restart::SoftReboot, known, why, package.map(str::to_owned), Vec::new())];
            }
        };
        let concern = || self.services.concern(path, package, change.kind != ChangeKind::Added);
        let effect = match (at, change.kind) {
            _ if change.is_directory => Concern::No,
            (_, ChangeKind::Attributes) | (Place::Inert | Place::Derived, _) => Concern::No,
            (Place::BootUnlessNew(_, unit), _) => Concern::Services(vec![unit.to_owned()], "applies it"),
            (Place::Soft(why), _) => Concern::All(why.to_owned()),
            (Place::SoftByList(why), _) if by == Some(By::Files) => Concern::All(why.to_owned()),
            (Place::State | Place::OfPackages, _) => self.unit(change, by).unwrap_or_else(concern),
            _ => self.unit(change, by).unwrap_or_else(|| match concern() {
                Concern::No if by == Some(By::Files) => Concern::Unknown("which running programs read it"),
                other => other,
            }),
        };
        let package = package.map(str::to_owned);
        match effect {
            Concern::No => {
                let Some(by) = by else { return Vec::new() };
                sync.insert(by);
                let text = if by == By::Files { "a sync list has it" } else { "the package comes by `sync`" };
                vec![shared(Restart::Sync, format!("{text}, and no service has it open"))]
            }
            Concern::Services(services, why) => {
                sync.extend(by);
                vec![(Restart::Services, true, why.to_owned(), package, services)]
            }
            Concern::All(why) => vec![shared(Restart::SoftReboot, why)],
            Concern::Unknown(what) => {
                vec![(Restart::SoftReboot, false, format!("not known: {what}"), package, Vec::new())]
            }
        }
    }

    /// Whether a new file of settings takes the place of one of the same name in another folder.
    fn hides(&self, path: &str) -> bool {
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        self.was.settings.iter().any(|other| other != path && name(other) == name(path))
    }

    /// Scripts of a package enable its units: who brings such a link, if its package is among those that come.
    fn enabled_with_package(&self, path: &str) -> Option<Option<By>> {
        let (folder, name) = path.strip_prefix(UNIT_FOLDERS[0])?.split_once('/')?;
        let is_enabling = folder.ends_with(".wants") || folder.ends_with(".requires");
        let names = [Some(name.to_owned()), template(name)];
        let unit = names.into_iter().flatten().find_map(|name| self.now.units.get(&name))?;
        let package = self.now.owner(&self.now.real(&unit.path))?;
        let comes = is_enabling && !self.was.units.contains_key(name) && self.bring.packages().1.is_none();
        (comes && self.bring.is_moved(package)).then_some(Some(By::Packages))
    }

    /// What a path means that is a unit's file or drop-in.
    fn unit(&self, change: Change<'_>, by: Option<By>) -> Option<Concern> {
        let rest = UNIT_FOLDERS.iter().find_map(|folder| change.path.strip_prefix(folder))?;
        let (first, below) = rest.split_once('/').map_or((rest, None), |(first, below)| (first, Some(below)));
        let name = if below.is_some() { first.strip_suffix(".d").unwrap_or(first) } else { first };
        if first.ends_with(".wants") || first.ends_with(".requires") {
            // Debian's packages start their services; RPM's leave that to the administrator.
            let unit = below.unwrap_or_default();
            return Some(match self.bring.starts_new_services() && by == Some(By::Packages) {
                true => self.again(unit, unit.to_owned(), "is enabled or disabled by it"),
                false => Concern::All("units that are enabled start with user space".to_owned()),
            });
        }
        if !KINDS.iter().any(|kind| name.ends_with(kind)) {
            return Some(Concern::All("a unit of this kind does not start again alone".to_owned()));
        }
        let both = [self.was, self.now];
        let [was_masked, is_masked] = both.map(|facts| facts.masked.contains(name));
        if was_masked != is_masked {
            return Some(Concern::All(format!("{name} is masked in one of the builds, but not in the other")));
        }
        if is_masked {
            return Some(Concern::No);
        }
        // A drop-in may be for one instance of a template.
        let of_template = template(name).filter(|_| !both.iter().any(|facts| facts.units.contains_key(name)));
        let known = of_template.as_deref().unwrap_or(name);
        let [was_there, is_there] = both.map(|facts| runs(facts, known));
        Some(match (was_there, is_there) {
            (false, false) => Concern::Unknown("which unit it belongs to"),
            (true, false) => Concern::All(format!("the unit {known} is no longer there")),
            (false, true) if by == Some(By::Files) => {
                Concern::All(format!("{known} is new, and `systemctl try-restart` does not start it"))
            }
            _ if self.services.do_all_depend(known) => {
                Concern::All(format!("services lose one another when {known} starts again"))
            }
            _ => self.again(known, shown(name), "has it as its unit"),
        })
    }

    /// What follows of a unit that starts again, if it can do so alone.
    fn again(&self, known: &str, unit: String, why: &'static str) -> Concern {
        if let Some(alone) = [self.was, self.now].into_iter().find_map(|facts| alone(facts, known)) {
            return Concern::All(format!("{known} {why}, and {alone}"));
        }
        let runs_at_times =
            [self.was, self.now].iter().filter_map(|facts| facts.units.get(known)).any(|unit| unit.one_shot);
        match runs_at_times || is_of_sessions(known) {
            // Its next start takes what systemd has read.
            true => Concern::Services(Vec::new(), "systemd reads units again by `systemctl daemon-reload`"),
            false => Concern::Services(vec![unit], why),
        }
    }
}

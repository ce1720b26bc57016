//! A plan in a file: what a build is to do, with all that this rests on, so that it can be said later what moved.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Action, ActionGraph, Decision, InputKind, InputName, Known, Place, Verdict, key_and_trace};
use base::digest::Digest;
use recipe::Lock;

/// Version of the file's form: another number before the dot is refused, fields that are not known are not read.
pub const PLAN_FILE_FORMAT: &str = "1.0";

/// A plan that a build can be held to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "imgbuild plan file")]
pub struct PlanFile {
    /// Version of this form.
    pub format_version: String,
    /// The imgbuild that planned.
    pub imgbuild: String,
    /// Directory of the artefacts, as `--out` gave it; null: `out` next to the recipe.
    pub out: Option<String>,
    /// Layouts of other tools, as `--publish` gave them.
    pub publish: Vec<String>,
    /// One entry an image.
    pub images: Vec<FileImage>,
}

/// The plan of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileImage {
    /// Its name.
    pub name: String,
    /// Directory of its recipe, relative to the directory that the plan was made in.
    pub recipe: String,
    /// What its lock says.
    pub lock: LockPicture,
    /// What someone had changed behind imgbuild's back: place, name and problem in one text.
    pub drift: Vec<String>,
    /// Its actions, in order.
    pub actions: Vec<FileAction>,
}

/// A lock, as far as the actions' inputs do not tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LockPicture {
    /// Digest of its text.
    pub blake3: String,
    /// What it says: name and value.
    pub entries: Vec<(String, String)>,
}

/// What is to become of one action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileAction {
    /// Stage and layer.
    pub action: String,
    /// What kind of work it is.
    pub kind: String,
    /// What is to be done: `keep`, `run` or `depends`.
    #[schemars(with = "String")]
    pub verdict: Verdict,
    /// Its key; null where that depends on what others give.
    #[schemars(with = "Option<String>")]
    pub key: Option<Digest>,
    /// All that its key is made of, as far as it is known.
    pub inputs: Vec<FileInput>,
    /// Other actions whose results it uses.
    pub uses: Vec<String>,
}

/// One input of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileInput {
    /// Kind and name.
    pub name: String,
    /// Value.
    pub value: String,
    /// File that asks for it, relative to the recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

/// Something that is not as it was when the plan was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    pub image: String,
    /// The action; empty for what concerns all of them.
    pub action: String,
    /// What, in words, with the value it had and the value it has.
    pub what: String,
    /// Where a person asked for it.
    pub place: Option<String>,
}

impl std::fmt::Display for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.image)?;
        if !self.action.is_empty() {
            write!(f, "{}: ", self.action)?;
        }
        f.write_str(&self.what)?;
        self.place.iter().try_for_each(|place| write!(f, " ({place})"))
    }
}

/// Digests are cut for people, unless two of them would look the same.
fn shown(value: &str) -> String {
    let cut = |word: &str| {
        let is_digest = word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_digest { word[..12].to_owned() } else { word.to_owned() }
    };
    value.split(' ').map(cut).collect::<Vec<_>>().join(" ")
}

/// Names that differ between two lists of names and values: `(name, was, now)`.
fn differing<'a>(
    was: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    now: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Vec<(&'a str, Option<&'a str>, Option<&'a str>)> {
    // A name may stand for several inputs, such as a driver that is named and in the default list as well.
    let mut by_name: BTreeMap<&str, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    was.clone().for_each(|(name, value)| by_name.entry(name).or_default().0.push(value));
    now.clone().for_each(|(name, value)| by_name.entry(name).or_default().1.push(value));
    for (old, new) in by_name.values_mut() {
        new.retain(|value| match old.iter().position(|other| other == value) {
            Some(at) => {
                old.remove(at);
                false
            }
            None => true,
        });
    }
    let mut all = Vec::new();
    for (name, _) in now.chain(was) {
        let Some((old, new)) = by_name.remove(name) else { continue };
        let pairs = old.len().max(new.len());
        all.extend((0..pairs).map(|at| (name, old.get(at).copied(), new.get(at).copied())));
    }
    all
}

fn in_words(name: &str, was: Option<&str>, now: Option<&str>) -> String {
    match (was, now) {
        (Some(was), Some(now)) => format!("{name}: {} -> {}", shown(was), shown(now)),
        (None, Some(now)) => format!("{name} added: {}", shown(now)),
        (Some(was), None) => format!("{name} removed; it was {}", shown(was)),
        (None, None) => name.to_owned(),
    }
}

impl LockPicture {
    pub fn of(lock: &Lock) -> Self {
        let mut entries = vec![
            ("format".to_owned(), lock.format.to_string()),
            ("epoch".to_owned(), lock.epoch.to_string()),
            ("target".to_owned(), lock.target.clone()),
        ];
        for (name, digest) in [("otherpkgs", &lock.otherpkgs), ("kernels", &lock.kernels)] {
            entries.extend(digest.as_ref().map(|digest| (name.to_owned(), digest.to_string())));
        }
        entries.extend(lock.suite.iter().map(|one| (format!("suite {}", one.name), one.release.to_string())));
        for (at, repo) in lock.repo.iter().flatten().enumerate() {
            let fields: Vec<String> = repo.iter().map(|(name, value)| format!("{name} {value}")).collect();
            entries.push((format!("repository {}", at + 1), fields.join(", ")));
        }
        for pass in &lock.pass {
            entries.push((format!("transaction {}", pass.name), pass.install.join(" ")));
            for package in &pass.packages {
                let name = format!("package {}:{} of {}", package.name, package.architecture, pass.name);
                let automatic = if package.automatic { " automatic" } else { "" };
                entries.push((name, format!("{} {}{automatic}", package.version, package.sha256)));
            }
        }
        for user in &lock.users {
            entries.push((format!("user {} of {}", user.name, user.pass), format!("{}:{}", user.uid, user.gid)));
        }
        for group in &lock.groups {
            entries.push((format!("group {} of {}", group.name, group.pass), group.gid.to_string()));
        }
        Self { blake3: Digest::of(lock.to_text().as_bytes()).to_string(), entries }
    }
}

impl FileAction {
    /// What is decided of an action, and all that this rests on.
    pub fn of(action: &Action, decision: &Decision, known: &dyn Known) -> Self {
        let (_, trace) = key_and_trace(action, known);
        let places: BTreeMap<&str, &Place> =
            action.inputs.iter().filter_map(|input| Some((input.name.as_str(), input.place.as_ref()?))).collect();
        let input = |(name, value): (String, String)| {
            let place = places.get(name.as_str());
            FileInput { file: place.map(|one| one.file.clone()), line: place.map(|one| one.line), name, value }
        };
        let mut uses: Vec<String> =
            action.upstream.iter().map(|one| one.action.clone()).chain(action.needs.clone()).collect();
        uses.sort();
        uses.dedup();
        Self {
            action: action.id.clone(),
            kind: action.kind.name().to_owned(),
            verdict: decision.verdict,
            key: decision.key,
            inputs: trace.into_iter().map(input).collect(),
            uses,
        }
    }

    pub fn all(graph: &ActionGraph, decisions: &[Decision], known: &dyn Known) -> Vec<Self> {
        graph.in_order().zip(decisions).map(|(action, decision)| Self::of(action, decision, known)).collect()
    }
}

/// What moved in one image since its plan was made; nothing: a build does what the plan says.
///
/// An action that depends may turn out to be kept or to run; all else is reported. `lock`: the name of the image's lock.
pub fn moved(was: &FileImage, now: &FileImage, lock: &str) -> Vec<Moved> {
    let said = |action: &str, what: String, place: Option<String>| Moved {
        image: was.name.clone(),
        action: action.to_owned(),
        what,
        place,
    };
    let mut all = Vec::new();
    let then: BTreeMap<&str, &FileAction> = was.actions.iter().map(|one| (one.action.as_str(), one)).collect();
    let today: BTreeMap<&str, &FileAction> = now.actions.iter().map(|one| (one.action.as_str(), one)).collect();
    let mut reported = std::collections::BTreeSet::new();
    // What was to be kept and depends now does so on something that is reported.
    let mut follows = Vec::new();
    for action in &now.actions {
        let Some(before) = then.get(action.action.as_str()) else {
            all.push(said(&action.action, "is new".to_owned(), None));
            continue;
        };
        let pairs = |action: &'_ FileAction| -> Vec<(String, String)> {
            action.inputs.iter().map(|input| (input.name.clone(), input.value.clone())).collect()
        };
        let (old, new) = (pairs(before), pairs(action));
        fn borrowed(list: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> + Clone {
            list.iter().map(|(name, value)| (name.as_str(), value.as_str()))
        }
        let mut found = differing(borrowed(&old), borrowed(&new));
        // What an action above gives is reported there; where it depends, it may be known now or no longer be known.
        found.retain(|(name, was, now)| {
            let of_above = InputName::of(name).is_of_above();
            !(of_above && (was.is_none() || now.is_none()))
        });
        let nothing_found = found.is_empty();
        for (name, was, now) in found {
            let place =
                action.inputs.iter().chain(&before.inputs).find(|input| input.name == name && input.file.is_some());
            let place = place.and_then(|input| Some(format!("{}:{}", input.file.as_ref()?, input.line?)));
            let read = InputName::of(name);
            let is_package = read.kind == InputKind::Package;
            let package = is_package.then(|| format!("{} of {}", read.bare, layer_of(&action.action)));
            let place = place.or_else(|| package.as_ref().map(|_| lock.to_owned()));
            reported.extend(package);
            let name = if read.kind == InputKind::Action { "imgbuild's work" } else { name };
            all.push(said(&action.action, in_words(name, was, now), place));
        }
        if nothing_found && old != new && old.len() == new.len() {
            all.push(said(&action.action, "its inputs are in a different order".to_owned(), None));
        } else if old == new && before.key != action.key && before.key.is_some() && action.key.is_some() {
            all.push(said(&action.action, "imgbuild computes a different key from the same inputs".to_owned(), None));
        }
        if before.uses != action.uses {
            let (was, now) = (before.uses.join(", "), action.uses.join(", "));
            all.push(said(&action.action, format!("uses other results: {was} -> {now}"), None));
        }
        let within = before.verdict == action.verdict || before.verdict == Verdict::Depends;
        if nothing_found && !within {
            let what = match (before.verdict, action.verdict) {
                (Verdict::Keep, Verdict::Run) => "was to be kept, but its result is missing from the store".to_owned(),
                (Verdict::Run, Verdict::Keep) => "was to run, but the store has its result now".to_owned(),
                (was, now) => format!("was `{}` and is `{}` now", was, now),
            };
            let list = if action.verdict == Verdict::Depends { &mut follows } else { &mut all };
            list.push(said(&action.action, what, None));
        }
    }
    for action in was.actions.iter().filter(|action| !today.contains_key(action.action.as_str())) {
        all.push(said(&action.action, "is no longer part of the image".to_owned(), None));
    }
    all.extend(lock_moved(was, now, lock, &reported));
    for drift in now.drift.iter().filter(|drift| !was.drift.contains(drift)) {
        all.push(said("", format!("{drift} since"), None));
    }
    if all.is_empty() { follows } else { all }
}

fn layer_of(action: &str) -> &str {
    action.split_once('/').map_or(action, |(_, layer)| layer)
}

/// What moved in the lock and was not reported as an action's input: `NAME:ARCH of TRANSACTION`.
fn lock_moved(
    was: &FileImage,
    now: &FileImage,
    lock: &str,
    reported: &std::collections::BTreeSet<String>,
) -> Vec<Moved> {
    if was.lock.blake3 == now.lock.blake3 {
        return Vec::new();
    }
    fn borrowed(lock: &LockPicture) -> impl Iterator<Item = (&str, &str)> + Clone {
        lock.entries.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
    let found = differing(borrowed(&was.lock), borrowed(&now.lock));
    let is_reported = |name: &str| {
        let name = InputName::of(name);
        name.kind == InputKind::Package && reported.contains(name.bare)
    };
    let said = |what: String| Moved { image: was.name.clone(), action: String::new(), what, place: None };
    let mut all: Vec<Moved> = found
        .iter()
        .filter(|(name, ..)| !is_reported(name))
        .map(|(name, was, now)| said(format!("{lock}: {}", in_words(name, *was, *now))))
        .collect();
    if all.is_empty() && found.is_empty() {
        all.push(said(format!("{lock} lists its content in a different order, or has different package settings")));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, value: &str) -> FileInput {
        FileInput { name: name.into(), value: value.into(), file: Some("image.toml".into()), line: Some(7) }
    }

    fn image() -> FileImage {
        let action = |id: &str, verdict, inputs| FileAction {
            action: id.to_owned(),
            kind: "test".to_owned(),
            verdict,
            key: None,
            inputs,
            uses: Vec::new(),
        };
        FileImage {
            name: "compute".into(),
            recipe: ".".into(),
            lock: LockPicture { blake3: "a".into(), entries: vec![("epoch".into(), "1".into())] },
            drift: Vec::new(),
            actions: vec![
                action("rootfs/base", Verdict::Keep, vec![input("package bash:amd64", "5.2-1 x")]),
                action("rootfs/sync", Verdict::Run, vec![input("file site/motd", "0644 a")]),
                action("pack/rootimg", Verdict::Depends, Vec::new()),
            ],
        }
    }

    #[test]
    fn a_driver_that_is_named_and_in_the_default_list_is_compared_as_both() {
        let twice = |how: &[&str]| {
            let mut image = image();
            image.actions[1].inputs = how.iter().map(|how| input("driver ice", how)).collect();
            image
        };
        let both = twice(&["named", "default"]);
        assert_eq!(moved(&both, &both, "image.lock"), []);
        let said: Vec<String> =
            moved(&both, &twice(&["named"]), "image.lock").iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("driver ice removed; it was default"), "{said:?}");
    }

    fn messages(now: &FileImage) -> Vec<String> {
        moved(&image(), now, "image.lock").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_depends_may_turn_out_either_way() {
        for verdict in [Verdict::Keep, Verdict::Run, Verdict::Depends] {
            let mut now = image();
            now.actions[2].verdict = verdict;
            now.actions[2].inputs.push(input("layer rootfs/sync", "b"));
            assert!(messages(&now).is_empty(), "{verdict:?}");
        }
    }

    #[test]
    fn every_other_change_is_told_with_both_values_and_its_place() {
        let mut now = image();
        now.actions[1].inputs[0].value = "0600 a".into();
        assert_eq!(messages(&now), ["compute: rootfs/sync: file site/motd: 0644 a -> 0600 a (image.toml:7)"]);
        let mut now = image();
        now.actions[0].verdict = Verdict::Run;
        assert_eq!(messages(&now), ["compute: rootfs/base: was to be kept, but its result is missing from the store"]);
        let mut now = image();
        now.actions[1].verdict = Verdict::Keep;
        assert_eq!(messages(&now), ["compute: rootfs/sync: was to run, but the store has its result now"]);
        let mut now = image();
        now.actions.remove(1);
        assert_eq!(messages(&now), ["compute: rootfs/sync: is no longer part of the image"]);
        let mut now = image();
        now.lock = LockPicture { blake3: "b".into(), entries: vec![("epoch".into(), "2".into())] };
        assert_eq!(messages(&now), ["compute: image.lock: epoch: 1 -> 2"]);
        let mut now = image();
        now.drift = vec!["the published kernel was changed".into()];
        assert_eq!(messages(&now), ["compute: the published kernel was changed since"]);
        let mut now = image();
        now.actions[1].inputs.clear();
        assert_eq!(messages(&now), ["compute: rootfs/sync: file site/motd removed; it was 0644 a (image.toml:7)"]);
    }

    #[test]
    fn a_package_that_moved_is_told_once() {
        let mut now = image();
        now.actions[0].inputs[0].value = "5.2-2 y".into();
        let name = "package bash:amd64 of base".to_owned();
        let mut was = image();
        was.lock.entries.push((name.clone(), "5.2-1 x".into()));
        now.lock =
            LockPicture { blake3: "b".into(), entries: vec![was.lock.entries[0].clone(), (name, "5.2-2 y".into())] };
        let messages: Vec<String> = moved(&was, &now, "image.gpu.lock").iter().map(ToString::to_string).collect();
        assert_eq!(messages, ["compute: rootfs/base: package bash:amd64: 5.2-1 x -> 5.2-2 y (image.toml:7)"]);
        now.actions = was.actions.clone();
        let messages: Vec<String> = moved(&was, &now, "image.gpu.lock").iter().map(ToString::to_string).collect();
        assert_eq!(messages, ["compute: image.gpu.lock: package bash:amd64 of base: 5.2-1 x -> 5.2-2 y"]);
    }
}

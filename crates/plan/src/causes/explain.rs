//! Why an action runs: causes, found by comparing traces.

use std::collections::{BTreeMap, BTreeSet};

use super::cause::{Cause, Reason};
use super::lists;
use super::removals::RECIPE;
use super::words::{Change, Subject};
use crate::{Action, History, InputKind, InputName, Origin, Removals};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Difference {
    Own(Cause),
    /// An output of another action: the action, the output's name, the value it had.
    Above(String, String, Option<String>),
    /// Those of tools roots, by the actions that make them.
    Roots(Vec<String>),
}

/// `layer rootfs/sync` is an output of another action; inputs of an action's own begin otherwise.
pub(crate) fn output_of(name: &str) -> Option<(String, String)> {
    InputName::of(name).output().map(|(action, output)| (action.to_owned(), output))
}

/// Compares an action's inputs with those of an earlier run.
pub(crate) fn differences(
    action: &Action,
    now: &[(String, String)],
    was: &[(String, String)],
    history: &dyn History,
    absences: &Removals,
) -> Vec<Difference> {
    let lists::Taken { now, was, found } = lists::take(action, now, was, history, absences);
    let mut found: Vec<Difference> = found.into_iter().map(Difference::Own).collect();
    let (now, was) = (now.as_slice(), was.as_slice());
    let inputs: BTreeMap<&str, &crate::Input> =
        action.inputs.iter().map(|input| (input.name.as_str(), input)).collect();
    // A name may stand for several inputs, such as a driver that is named and in the default list as well.
    let by_name = |trace: &'_ [(String, String)]| -> BTreeMap<String, Vec<String>> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        trace.iter().for_each(|(name, value)| all.entry(name.clone()).or_default().push(value.clone()));
        all
    };
    let (old, new) = (by_name(was), by_name(now));
    let said = |what: &str| history.place(RECIPE, what);
    let unknown = Origin::Unknown;
    let mut unless_said = Vec::new();
    let mut note = |name: &str, change: Change<'_>| {
        if let Some((action, output)) = output_of(name) {
            let was = match change {
                Change::Changed(was, _) | Change::Removed(was) => Some(was.to_owned()),
                Change::Added(_) => None,
            };
            return found.push(Difference::Above(action, output, was));
        }
        let input = inputs.get(name);
        if let Some(Origin::Roots(actions)) = input.map(|input| &input.origin) {
            return found.push(Difference::Roots(actions.clone()));
        }
        if let (Change::Removed(was), Some((words, place, origin))) = (change, absences.taken.get(name)) {
            let subject = Subject { name: words, origin, place: place.as_ref(), was_place: None, lock: &absences.lock };
            return found.push(Difference::Own(subject.cause(Change::Added(was))));
        }
        let mut remembered = history.place(&action.id, name);
        if matches!(change, Change::Removed(_)) && absences.asks(name) {
            remembered = remembered.map(|(place, _)| (place, Origin::Lock));
        }
        let origin = input.map(|input| &input.origin).or(remembered.as_ref().map(|(_, origin)| origin));
        // What was removed no longer has a place, but a pattern that named it may still exist.
        let is_pattern =
            |one: &&crate::Input| matches!(origin, Some(Origin::Glob { .. })) && Some(&one.origin) == origin;
        let stands = match change {
            Change::Removed(_) => action.inputs.iter().find(is_pattern),
            _ => input.copied(),
        };
        let (origin, was_place) = (origin.unwrap_or(&unknown), remembered.as_ref().map(|(place, _)| place));
        let mut place = stands.and_then(|input| input.place.clone());
        if let (None, Change::Removed(_), Origin::Glob { pattern, .. }) = (&place, change, origin) {
            place = absences.sayings.get(&format!("pattern {pattern}")).map(|(place, _)| place.clone());
        }
        if let Some((was_place, origin)) = remembered.as_ref().filter(|_| place.is_none()) {
            // A value that is not inherited has another now, its default; a package may stay because others need it.
            if matches!(change, Change::Changed(..)) && InputName::of(name).kind != InputKind::Package {
                place = absences.place(name, origin, was_place);
            }
            if place.is_none()
                && let Some(cause) = absences.cause(name, origin, was_place, &said)
            {
                return found.push(Difference::Own(cause));
            }
        }
        for (one, change) in parts(name, change, absences) {
            let change = change.as_change();
            // Each value of a table that several recipes make up has its own place; so has each item of a list.
            let place = place_of_part(origin, one, change, absences).or_else(|| place.clone());
            let subject = Subject { name, origin, place: place.as_ref(), was_place, lock: &absences.lock };
            let cause = subject.cause(change);
            let unhidden = absences.unhidden(&cause, origin, &said);
            let is_still_named = matches!(change, Change::Removed(_))
                && was_place.is_some_and(|was| absences.still_names_kernel(name, was));
            let all = if is_still_named { &mut unless_said } else { &mut found };
            all.push(Difference::Own(unhidden.unwrap_or(cause)));
        }
    };
    for (name, value) in now {
        match (old.get(name).map(Vec::as_slice), new.get(name).map(Vec::as_slice)) {
            (Some(before), _) if before.contains(value) => {}
            (Some([before]), Some([_])) => note(name, Change::Changed(before, value)),
            _ => note(name, Change::Added(value)),
        }
    }
    for (name, value) in was {
        match (old.get(name).map(Vec::as_slice), new.get(name).map(Vec::as_slice)) {
            (_, Some(after)) if after.contains(value) => {}
            (Some([_]), Some([_])) => {}
            _ => note(name, Change::Removed(value)),
        }
    }
    if found.is_empty() {
        found = unless_said;
    }
    pair_kernels(&mut found, &absences.lock);
    drop_echoes(&mut found, absences);
    // What stays may come in another order as well.
    let written = |one: &&(String, String)| inputs.get(one.0.as_str()).is_some_and(|input| is_written(input));
    let both = |trace: &[(String, String)], other: &[(String, String)]| -> Vec<(String, String)> {
        let stays = trace.iter().filter(|one| other.contains(one));
        if found.is_empty() { stays.cloned().collect() } else { stays.filter(written).cloned().collect() }
    };
    let (now, was) = (both(now, was), both(was, now));
    if now != was {
        found.extend(reordered(action, &now, &was, history, absences).into_iter().map(Difference::Own));
    }
    found
}

/// Whether an input is a line or an item of a list, whose order a person decides on.
fn is_written(input: &crate::Input) -> bool {
    input.place.is_some() && matches!(input.origin, Origin::Line | Origin::Item(_))
}

/// Inputs that come in another order: those that stand elsewhere now, or else the one that moved to the front.
fn reordered(
    action: &Action,
    now: &[(String, String)],
    was: &[(String, String)],
    history: &dyn History,
    absences: &Removals,
) -> Vec<Cause> {
    let elsewhere = action.inputs.iter().filter_map(|input| {
        let place = input.place.as_ref()?;
        let (was, _) = history.place(&action.id, &input.name)?;
        // A list with another name has all of its lines elsewhere.
        (was.file != place.file && absences.has_file(&was.file)).then(|| {
            let name = InputName::of(&input.name).bare_or_all().split(':').next().unwrap_or_default().to_owned();
            let text = format!("\"{name}\" was in {} before", was.file);
            let line = |place: &crate::Place| format!("{}:{}", place.file, place.line);
            let reason = Reason::Changed { what: format!("place of {name}"), was: line(&was), now: line(place) };
            Cause { message: format!("{}{text}", super::words::here(place)), ..reason.cause(Some(place)) }
        })
    });
    let elsewhere: Vec<Cause> = elsewhere.collect();
    if !elsewhere.is_empty() {
        return elsewhere;
    }
    let first = now.iter().zip(was).find(|(now, was)| now != was);
    let (what, before) = first.map_or(("", ""), |(now, was)| (now.0.as_str(), was.0.as_str()));
    let place = action.inputs.iter().find(|input| input.name == what).and_then(|input| input.place.as_ref());
    let bare = |name| InputName::of(name).bare_or_all().to_owned();
    vec![Reason::Reordered { what: bare(what), before: bare(before) }.cause(place)]
}

/// A change whose values are made here.
enum Owned {
    Added(String),
    Removed(String),
    Changed(String, String),
}

impl Owned {
    fn of(change: Change<'_>) -> Self {
        match change {
            Change::Added(now) => Self::Added(now.to_owned()),
            Change::Removed(was) => Self::Removed(was.to_owned()),
            Change::Changed(was, now) => Self::Changed(was.to_owned(), now.to_owned()),
        }
    }

    fn as_change(&self) -> Change<'_> {
        match self {
            Self::Added(now) => Change::Added(now),
            Self::Removed(was) => Change::Removed(was),
            Self::Changed(was, now) => Change::Changed(was, now),
        }
    }
}

/// Parts of a user's value that the recipe can say, as accounts are written into the key: uid, gid, what no one sets, home,
/// shell.
const OF_USER: [(usize, &str); 4] = [(0, "uid"), (1, "gid"), (3, "home"), (4, "shell")];

/// The changes of one input: of a user each of the values that differ; with the value's name.
fn parts(name: &str, change: Change<'_>, absences: &Removals) -> Vec<(&'static str, Owned)> {
    let (Some(user), Change::Changed(was, now)) = (name.strip_prefix("user "), change) else {
        return vec![("", Owned::of(change))];
    };
    let (old, new): (Vec<&str>, Vec<&str>) = (was.split(':').collect(), now.split(':').collect());
    let mut all = Vec::new();
    for (at, part) in OF_USER {
        let (Some(before), Some(after)) = (old.get(at), new.get(at)) else { continue };
        // The group that comes with a user has its number.
        let follows = part == "gid" && old[0] != new[0] && !absences.stands(&format!("users.{user}.gid"));
        if before != after && !follows {
            let mut then: Vec<&str> = new.clone();
            then[at] = before;
            all.push((part, Owned::Changed(then.join(":"), now.to_owned())));
        }
    }
    if all.is_empty() { vec![("", Owned::of(change))] } else { all }
}

/// Where the part of an input stands that changed, if it has a place of its own.
fn place_of_part(origin: &Origin, part: &str, change: Change<'_>, absences: &Removals) -> Option<crate::Place> {
    let Origin::Field(field) = origin else { return None };
    if !part.is_empty() {
        return absences.place_of(&format!("{field}.{part}"));
    }
    // A list that is one value, for instance the names of all lists.
    let Change::Changed(was, now) = change else { return None };
    absences.place_of(&format!("{field}[0]"))?;
    let (old, new): (Vec<&str>, Vec<&str>) = (was.split(',').collect(), now.split(',').collect());
    let at = new.iter().enumerate().position(|(at, one)| old.get(at) != Some(one))?;
    absences.place_of(&format!("{field}[{at}]"))
}

/// A Debian kernel carries its release in its name: one kernel goes and another comes, and a person reads one change.
fn pair_kernels(found: &mut Vec<Difference>, lock: &str) {
    let release = |cause: &Cause, gone: bool| {
        let what = match &cause.reason {
            Reason::Added { what, .. } if !gone => what,
            Reason::Removed { what, .. } if gone => what,
            _ => return None,
        };
        let release = what.strip_prefix("linux-image-")?;
        (cause.is_of_lock && release.starts_with(|one: char| one.is_ascii_digit())).then(|| release.to_owned())
    };
    let own = |one: &Difference, gone: bool| match one {
        Difference::Own(cause) => release(cause, gone),
        _ => None,
    };
    let Some((old_at, old)) = found.iter().enumerate().find_map(|(at, one)| Some((at, own(one, true)?))) else {
        return;
    };
    let Some((new_at, new)) = found.iter().enumerate().find_map(|(at, one)| Some((at, own(one, false)?))) else {
        return;
    };
    // `-cloud-amd64` on both says nothing.
    let flavour = |release: &str| {
        let at =
            release.match_indices('-').find(|(at, _)| !release[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
        at.map_or(release.len(), |(at, _)| at)
    };
    let (was, now) = if old[flavour(&old)..] == new[flavour(&new)..] {
        (old[..flavour(&old)].to_owned(), new[..flavour(&new)].to_owned())
    } else {
        (old, new)
    };
    let message = format!("kernel {was} -> {now} ({lock})");
    let reason = Reason::Changed { what: "kernel".to_owned(), was, now };
    if let Difference::Own(cause) = &mut found[new_at] {
        *cause = Cause { message, reason, ..cause.clone() };
    }
    found.remove(old_at);
}

/// One line of a list makes two inputs, the file and its place in the image: a person reads one change.
fn drop_echoes(found: &mut Vec<Difference>, absences: &Removals) {
    let mut lines = BTreeSet::new();
    for one in found.iter() {
        if let Difference::Own(Cause {
            reason: Reason::Added { what, .. } | Reason::Removed { what, .. },
            file: Some(file),
            line,
            was_line,
            ..
        }) = one
            && InputName::of(what).file().is_none()
        {
            lines.insert((file.clone(), *line, *was_line));
        }
    }
    // A pattern of a synclist gains a file and its place in the image: the file is what someone made.
    let gains = |one: &Difference| match one {
        Difference::Own(Cause {
            reason: Reason::Gained { field, pattern, path } | Reason::Lost { field, pattern, path },
            ..
        }) if field == "sync.lists" => Some((pattern.clone(), path.clone())),
        _ => None,
    };
    let files: BTreeSet<String> =
        found.iter().filter_map(gains).filter(|(_, file)| !file.starts_with('/')).map(|(pattern, _)| pattern).collect();
    found.retain(|one| gains(one).is_none_or(|(pattern, file)| !(file.starts_with('/') && files.contains(&pattern))));
    // A user of the recipe has a group, which no line names: the user's id is what someone wrote.
    let field = |one: &Difference| match one {
        Difference::Own(Cause {
            reason: Reason::Added { what, .. } | Reason::Removed { what, .. } | Reason::Changed { what, .. },
            ..
        }) if what.starts_with("users.") => Some(what.clone()),
        _ => None,
    };
    let fields: BTreeSet<String> = found.iter().filter_map(field).collect();
    let is_changed = |one: &Difference| matches!(one, Difference::Own(Cause { reason: Reason::Changed { .. }, .. }));
    found.retain(|one| {
        let user = field(one).and_then(|what| Some(what.strip_suffix(".gid")?.to_owned()));
        // Another group of a user that was there is another change, if the recipe names it.
        let is_own = |user: &str| is_changed(one) && absences.stands(&format!("{user}.gid"));
        user.is_none_or(|user| is_own(&user) || !fields.contains(&format!("{user}.uid")))
    });
    // Another compressor has another library.
    let compresses = |one: &Difference| {
        matches!(one, Difference::Own(Cause { reason: Reason::Changed { what, .. } | Reason::Added { what, .. }
            | Reason::Removed { what, .. }, .. }) if what.ends_with(".compress"))
    };
    if found.iter().any(compresses) {
        found.retain(|one| {
            !matches!(one, Difference::Own(Cause { reason: Reason::Implementation { what, .. }, .. })
                if what.ends_with(" library"))
        });
    }
    // Another archive has a writer, frames and blocks of its own.
    let has_archive = |one: &Difference| {
        matches!(one, Difference::Own(Cause { reason: Reason::Changed { what, .. }, line: Some(_), .. })
            if what.ends_with(".archive"))
    };
    if found.iter().any(has_archive) {
        let is_of_archive = |what: &str| {
            let what = what.rsplit('.').next().unwrap_or(what);
            what == "frames" || what == "block_size" || what.ends_with(" writer")
        };
        found.retain(|one| match one {
            Difference::Own(Cause { reason, line: None, .. }) => !matches!(reason, Reason::Implementation { what, .. }
                | Reason::Added { what, .. } | Reason::Removed { what, .. } if is_of_archive(what)),
            _ => true,
        });
    }
    let mut seen = BTreeSet::new();
    found.retain(|one| match one {
        Difference::Own(cause) => {
            let is_echo = matches!(&cause.reason, Reason::Added { what, .. } | Reason::Removed { what, .. }
                if InputName::of(what).file().is_some()
                    && cause.file.as_ref().is_some_and(|file| lines.contains(&(file.clone(), cause.line, cause.was_line))));
            !is_echo && seen.insert(cause.message.clone())
        }
        _ => true,
    });
}

/// In the order in which a person reads them: what someone wrote, then what image.lock and imgbuild brought, then what
/// came from other actions; the same twice is said once.
pub fn in_reading_order(causes: Vec<Cause>) -> Vec<Cause> {
    let mut seen = BTreeSet::new();
    let rank = |cause: &Cause| match &cause.reason {
        Reason::Upstream { .. } | Reason::NotReproducible { .. } | Reason::Gone { .. } => 2,
        _ if cause.file.is_some() && !cause.is_of_lock => 0,
        _ => 1,
    };
    let mut causes = causes;
    causes.sort_by_key(rank);
    causes.retain(|cause| seen.insert(cause.leaf().message.clone()));
    causes
}

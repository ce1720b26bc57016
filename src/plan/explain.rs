//! Why an action runs: typed reasons, found by comparing traces.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::words::{Change, LOCK, Subject};
use super::{Action, Origin, Past, Place, Taken};

/// Every reason there is. A reason that cannot be named has no variant: a test goes through all inputs of all actions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum Reason {
    /// The image was never built here.
    FirstBuild,
    /// The revision that it is compared with does not have the image.
    NewImage {
        /// The revision.
        revision: String,
    },
    /// The recipe had errors at the revision that it is compared with, so that nothing can be compared.
    Unreadable {
        /// The revision.
        revision: String,
        /// The first of the errors.
        problem: String,
    },
    /// The image was built, but never had this action.
    New {
        /// The action.
        action: String,
    },
    /// The image has this action no more.
    Gone {
        /// The action.
        action: String,
    },
    /// The recipe asks for packages that image.lock lacks.
    NotLocked {
        /// What is asked for.
        what: String,
    },
    /// image.lock was made for a name that nobody asks for any more.
    NotAsked {
        /// The transaction.
        pass: String,
        /// The name.
        what: String,
    },
    /// Something new is used.
    Added {
        /// The field, or kind and name.
        what: String,
        /// Its value.
        now: String,
    },
    /// Something is used no more.
    Removed {
        /// The field, or kind and name.
        what: String,
        /// The value it had.
        was: String,
    },
    /// Something has another value.
    Changed {
        /// The field, or kind and name.
        what: String,
        /// The value it had.
        was: String,
        /// The value it has.
        now: String,
    },
    /// A pattern or a directory of the recipe names a file that it did not name.
    Gained {
        /// The field with the pattern.
        field: String,
        /// The pattern.
        pattern: String,
        /// The file.
        file: String,
    },
    /// A pattern or a directory of the recipe names a file no more.
    Lost {
        /// The field with the pattern.
        field: String,
        /// The pattern.
        pattern: String,
        /// The file.
        file: String,
    },
    /// imgbuild does it in another way.
    Implementation {
        /// Which part of imgbuild.
        what: String,
        /// Its version, or its digest.
        #[serde(skip_serializing_if = "Option::is_none")]
        was: Option<String>,
        /// The same, now.
        #[serde(skip_serializing_if = "Option::is_none")]
        now: Option<String>,
    },
    /// The same things come in another order.
    Reordered {
        /// What comes earlier than it did.
        what: String,
        /// What it stands before now.
        before: String,
    },
    /// Another action runs, or gave something else.
    Upstream {
        /// The action where it began.
        action: String,
        /// Why that one runs.
        #[serde(skip_serializing_if = "Option::is_none")]
        leaf: Option<Box<Cause>>,
    },
    /// Another action gave something else, from the same inputs.
    NotReproducible {
        /// The other action.
        action: String,
    },
    /// What an earlier run gave is gone from the store.
    OutputMissing {
        /// Its outputs that are gone.
        outputs: Vec<String>,
    },
    /// The published files are gone or were changed.
    Drift {
        /// The file.
        file: String,
    },
    /// The record of an earlier run is gone, so that nothing can be compared with it.
    RecordMissing {
        /// The action.
        action: String,
    },
}

/// A reason, with its place where a person wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Cause {
    /// The reason in words, with its place.
    pub message: String,
    /// The file that somebody changed, relative to the recipe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Line in the file as it was, for what is gone from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was_line: Option<usize>,
    /// Who asks for the file that changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<Place>,
    /// The reason, typed.
    #[serde(flatten)]
    pub reason: Reason,
}

impl Cause {
    /// The cause at the end of the chain: what a person did.
    pub fn leaf(&self) -> &Self {
        match &self.reason {
            Reason::Upstream { leaf: Some(leaf), .. } => leaf.leaf(),
            _ => self,
        }
    }

    /// The same as a cause of what uses the action.
    pub fn through(&self, action: &str) -> Self {
        if matches!(self.reason, Reason::Upstream { .. } | Reason::NotReproducible { .. } | Reason::Gone { .. }) {
            return self.clone();
        }
        Self {
            message: format!("{} (through {action})", self.message),
            reason: Reason::Upstream { action: action.to_owned(), leaf: Some(Box::new(self.clone())) },
            ..self.clone()
        }
    }
}

impl Reason {
    fn message(&self) -> String {
        match self {
            Self::FirstBuild => "first build".to_owned(),
            Self::NewImage { revision } => format!("{revision} does not have this image"),
            Self::Unreadable { revision, problem } => format!("the recipe of {revision} has errors: {problem}"),
            Self::New { action } => format!("the image had no {action}"),
            Self::Gone { action } => format!("the image has no {action} any more"),
            Self::NotLocked { what } => format!("{what} not in {LOCK}"),
            Self::NotAsked { what, .. } => format!("{LOCK} was made for \"{what}\", which no list names any more"),
            Self::Added { what, now } => format!("{what} = {now}"),
            Self::Removed { what, .. } => format!("{what} removed"),
            Self::Changed { what, was, now } => format!("{what} {was} -> {now}"),
            Self::Gained { pattern, file, .. } => format!("{pattern} gained {file}"),
            Self::Lost { pattern, file, .. } => format!("{pattern} lost {file}"),
            Self::Implementation { what, .. } => format!("imgbuild's {what} is another one"),
            Self::Reordered { what, before } => format!("\"{what}\" stands before \"{before}\" now"),
            Self::Upstream { action, .. } => format!("depends on {action}"),
            Self::NotReproducible { action } => {
                format!("{action} gave another result from the same inputs: it is not reproducible")
            }
            Self::OutputMissing { outputs } => format!("gone from the store: {}", outputs.join(", ")),
            Self::Drift { file } => format!("the published {file} is gone or was changed"),
            Self::RecordMissing { action } => {
                format!("the store has no record of the last run of {action} any more")
            }
        }
    }

    /// A cause with this reason.
    pub fn cause(self, place: Option<&Place>) -> Cause {
        let place_text = place.map_or_else(String::new, |place| format!("{}:{} ", place.file, place.line));
        Cause {
            message: format!("{place_text}{}", self.message()),
            file: place.map(|place| place.file.clone()),
            line: place.map(|place| place.line),
            was_line: None,
            asked_at: None,
            reason: self,
        }
    }
}

/// One difference of two traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Of an input of the action's own.
    Own(Cause),
    /// Of an output of another action: the action, the output's name, the value it had.
    Above(String, String, Option<String>),
    /// Of tools roots, by the actions that make them.
    Roots(Vec<String>),
}

/// `layer rootfs/sync` is an output of another action; inputs of an action's own begin otherwise.
fn output_of(name: &str) -> Option<(String, String)> {
    if let Some(action) = name.strip_prefix("layer ") {
        return Some((action.to_owned(), "layer".to_owned()));
    }
    let (output, action) = name.strip_prefix("value ")?.rsplit_once(' ')?;
    Some((action.to_owned(), format!("value {output}")))
}

/// Compares an action's inputs with those of an earlier run.
pub fn differences(
    action: &Action,
    now: &[(String, String)],
    was: &[(String, String)],
    past: &dyn Past,
    taken: &BTreeMap<String, Taken>,
) -> Vec<Difference> {
    let inputs: BTreeMap<&str, &super::Input> =
        action.inputs.iter().map(|input| (input.name.as_str(), input)).collect();
    // A name may stand for several inputs, such as a driver that is named and in the default list as well.
    let by_name = |trace: &'_ [(String, String)]| -> BTreeMap<String, Vec<String>> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        trace.iter().for_each(|(name, value)| all.entry(name.clone()).or_default().push(value.clone()));
        all
    };
    let (old, new) = (by_name(was), by_name(now));
    let mut found = Vec::new();
    let unknown = Origin::Unknown;
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
        if let (Change::Removed(was), Some((words, place, origin))) = (change, taken.get(name)) {
            let subject = Subject { name: words, origin, place: place.as_ref(), was_place: None };
            return found.push(Difference::Own(subject.cause(Change::Added(was))));
        }
        let remembered = past.place(&action.id, name);
        let origin = input.map(|input| &input.origin).or(remembered.as_ref().map(|(_, origin)| origin));
        // What is gone has no place any more, but a pattern that named it may still stand.
        let is_pattern =
            |one: &&super::Input| matches!(origin, Some(Origin::Glob { .. })) && Some(&one.origin) == origin;
        let stands = match change {
            Change::Removed(_) => action.inputs.iter().find(is_pattern),
            _ => input.copied(),
        };
        let subject = Subject {
            name,
            origin: origin.unwrap_or(&unknown),
            place: stands.and_then(|input| input.place.as_ref()),
            was_place: remembered.as_ref().map(|(place, _)| place),
        };
        found.push(Difference::Own(subject.cause(change)));
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
    pair_kernels(&mut found);
    drop_echoes(&mut found);
    if found.is_empty() && now != was {
        found.push(Difference::Own(reordered(action, now, was)));
    }
    found
}

/// Which input moved to the front.
fn reordered(action: &Action, now: &[(String, String)], was: &[(String, String)]) -> Cause {
    let first = now.iter().zip(was).find(|(now, was)| now != was);
    let (what, before) = first.map_or(("", ""), |(now, was)| (now.0.as_str(), was.0.as_str()));
    let place = action.inputs.iter().find(|input| input.name == what).and_then(|input| input.place.as_ref());
    let bare = |name: &str| name.split_once(' ').map_or(name, |(_, bare)| bare).to_owned();
    Reason::Reordered { what: bare(what), before: bare(before) }.cause(place)
}

/// A Debian kernel carries its release in its name: one kernel goes and another comes, and a person reads one change.
fn pair_kernels(found: &mut Vec<Difference>) {
    let release = |cause: &Cause, gone: bool| {
        let what = match &cause.reason {
            Reason::Added { what, .. } if !gone => what,
            Reason::Removed { what, .. } if gone => what,
            _ => return None,
        };
        let release = what.strip_prefix("linux-image-")?;
        (cause.file.as_deref() == Some(LOCK) && release.starts_with(|one: char| one.is_ascii_digit()))
            .then(|| release.to_owned())
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
    let message = format!("kernel {was} -> {now} ({LOCK})");
    let reason = Reason::Changed { what: "kernel".to_owned(), was, now };
    if let Difference::Own(cause) = &mut found[new_at] {
        *cause = Cause { message, reason, ..cause.clone() };
    }
    found.remove(old_at);
}

/// One line of a list makes two inputs, the file and its place in the image: a person reads one change.
fn drop_echoes(found: &mut Vec<Difference>) {
    let mut lines = BTreeSet::new();
    for one in found.iter() {
        if let Difference::Own(Cause {
            reason: Reason::Added { what, .. } | Reason::Removed { what, .. },
            file: Some(file),
            line,
            was_line,
            ..
        }) = one
            && !what.starts_with("file ")
        {
            lines.insert((file.clone(), *line, *was_line));
        }
    }
    // A pattern of a synclist gains a file and its place in the image: the file is what somebody made.
    let gains = |one: &Difference| match one {
        Difference::Own(Cause {
            reason: Reason::Gained { field, pattern, file } | Reason::Lost { field, pattern, file },
            ..
        }) if field == "sync.lists" => Some((pattern.clone(), file.clone())),
        _ => None,
    };
    let files: BTreeSet<String> =
        found.iter().filter_map(gains).filter(|(_, file)| !file.starts_with('/')).map(|(pattern, _)| pattern).collect();
    found.retain(|one| gains(one).is_none_or(|(pattern, file)| !(file.starts_with('/') && files.contains(&pattern))));
    let mut seen = BTreeSet::new();
    found.retain(|one| match one {
        Difference::Own(cause) => {
            let is_echo = matches!(&cause.reason, Reason::Added { what, .. } | Reason::Removed { what, .. }
                if what.starts_with("file ")
                    && cause.file.as_ref().is_some_and(|file| lines.contains(&(file.clone(), cause.line, cause.was_line))));
            !is_echo && seen.insert(cause.message.clone())
        }
        _ => true,
    });
}

/// In the order in which a person reads them: what somebody wrote, then what image.lock and imgbuild brought, then what
/// came from other actions; the same twice is said once.
pub fn in_reading_order(causes: Vec<Cause>) -> Vec<Cause> {
    let mut seen = BTreeSet::new();
    let rank = |cause: &Cause| match &cause.reason {
        Reason::Upstream { .. } | Reason::NotReproducible { .. } | Reason::Gone { .. } => 2,
        _ if cause.file.as_deref().is_some_and(|file| file != LOCK) => 0,
        _ => 1,
    };
    let mut causes = causes;
    causes.sort_by_key(rank);
    causes.retain(|cause| seen.insert(cause.leaf().message.clone()));
    causes
}

//! Why an action runs: typed reasons, found by comparing traces.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Action, Place};

/// Every reason there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum Reason {
    /// The image was never built here.
    FirstBuild,
    /// The recipe asks for packages that image.lock lacks.
    NotLocked {
        /// What is asked for.
        what: String,
    },
    /// Something new is used.
    Added {
        /// Kind and name.
        what: String,
        /// Its value.
        now: String,
    },
    /// Something is used no more.
    Removed {
        /// Kind and name.
        what: String,
        /// The value it had.
        was: String,
    },
    /// Something has another value.
    Changed {
        /// Kind and name.
        what: String,
        /// The value it had.
        was: String,
        /// The value it has.
        now: String,
    },
    /// The same things come in another order.
    Reordered,
    /// Another action gives something that is not known before it ran.
    Upstream {
        /// The other action.
        action: String,
    },
    /// What an earlier run gave is gone from the store.
    OutputMissing,
    /// The published files are gone or were changed.
    Drift {
        /// The file.
        file: String,
    },
    /// An earlier run had these very inputs, but its record is gone.
    RecordMissing,
}

/// A reason, with its place where a person wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Cause {
    /// The reason in words.
    pub message: String,
    /// File, relative to the recipe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The reason, typed.
    #[serde(flatten)]
    pub reason: Reason,
}

/// Digests are cut for people.
fn shown(value: &str) -> String {
    value
        .split(' ')
        .map(
            |word| {
                if word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) { &word[..12] } else { word }
            },
        )
        .collect::<Vec<_>>()
        .join(" ")
}

fn bare(what: &str) -> &str {
    what.split_once(' ').map_or(what, |(_, name)| name)
}

impl Reason {
    fn message(&self) -> String {
        match self {
            Self::FirstBuild => "first build".to_owned(),
            Self::NotLocked { what } => format!("{what} not in image.lock"),
            Self::Added { what, .. } => format!("{} added", plain(what)),
            Self::Removed { what, .. } => format!("{} removed", plain(what)),
            Self::Changed { what, was, now } => changed(what, was, now),
            Self::Reordered => "the order changed".to_owned(),
            Self::Upstream { action } => format!("depends on {action}"),
            Self::OutputMissing => "its result is gone from the store".to_owned(),
            Self::Drift { file } => format!("the published {file} is gone or was changed"),
            Self::RecordMissing => "its record is gone from the store".to_owned(),
        }
    }

    /// A cause with this reason.
    pub fn cause(self, place: Option<&Place>) -> Cause {
        Cause {
            message: self.message(),
            file: place.map(|place| place.file.clone()),
            line: place.map(|place| place.line),
            reason: self,
        }
    }
}

fn plain(what: &str) -> String {
    match what.split_once(' ') {
        Some(("package", name)) => format!("package {}", name.split(':').next().unwrap_or(name)),
        Some(("file", name)) => name.to_owned(),
        _ => what.to_owned(),
    }
}

fn changed(what: &str, was: &str, now: &str) -> String {
    match what.split_once(' ') {
        Some(("file", name)) => {
            let (old_mode, old_digest) = was.split_once(' ').unwrap_or((was, ""));
            let (new_mode, new_digest) = now.split_once(' ').unwrap_or((now, ""));
            let mut parts = Vec::new();
            if old_digest != new_digest {
                parts.push("content changed".to_owned());
            }
            if old_mode != new_mode {
                parts.push(format!("mode {old_mode} -> {new_mode}"));
            }
            format!("{name} {}", parts.join(", "))
        }
        Some(("package", name)) => {
            let version = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
            let name = name.split(':').next().unwrap_or(name);
            let (old, new) = (version(was), version(now));
            if old == new {
                format!("package {name} {new} has other content")
            } else {
                format!("package {name} {old} -> {new}")
            }
        }
        Some(("layer", action)) => format!("{action} gives another layer"),
        Some(("value", _)) => format!("{} changed", bare(what)),
        _ if what == "action" => format!("imgbuild's {was} -> {now}"),
        _ => format!("{what}: {} -> {}", shown(was), shown(now)),
    }
}

/// Compares an action's inputs with those of an earlier run.
pub fn causes(action: &Action, now: &[(String, String)], was: &[(String, String)]) -> Vec<Cause> {
    let places: BTreeMap<&str, &Place> =
        action.inputs.iter().filter_map(|input| Some((input.name.as_str(), input.place.as_ref()?))).collect();
    let old: BTreeMap<&str, &str> = was.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let new: BTreeMap<&str, &str> = now.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut found = Vec::new();
    for (name, value) in now {
        let reason = match old.get(name.as_str()) {
            None => Reason::Added { what: name.clone(), now: value.clone() },
            Some(before) if before != value => {
                Reason::Changed { what: name.clone(), was: (*before).to_owned(), now: value.clone() }
            }
            Some(_) => continue,
        };
        found.push(reason.cause(places.get(name.as_str()).copied()));
    }
    for (name, value) in was.iter().filter(|(name, _)| !new.contains_key(name.as_str())) {
        found.push(Reason::Removed { what: name.clone(), was: value.clone() }.cause(None));
    }
    if found.is_empty() && now != was {
        found.push(Reason::Reordered.cause(None));
    }
    found
}

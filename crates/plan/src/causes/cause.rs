//! Causes: why an action runs, as values.

use schemars::JsonSchema;
use serde::Serialize;

use crate::Place;

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
    /// The image no longer has this action.
    Gone {
        /// The action.
        action: String,
    },
    /// The recipe asks for packages that the lock lacks.
    NotLocked {
        /// File name of the lock; for the message alone.
        #[serde(skip)]
        lock: String,
        /// What is asked for.
        what: String,
    },
    /// The lock was made for a name that is no longer requested.
    NotAsked {
        /// File name of the lock; for the message alone.
        #[serde(skip)]
        lock: String,
        /// The transaction.
        pass: String,
        /// The name.
        what: String,
    },
    /// An option of the command asks for it.
    Asked {
        /// The option.
        option: String,
        /// What it asks for.
        what: String,
    },
    /// Something new is used.
    Added {
        /// The field, or kind and name.
        what: String,
        /// Its value.
        now: String,
    },
    /// Something is no longer used.
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
        path: String,
    },
    /// A pattern or a directory of the recipe no longer names a file.
    Lost {
        /// The field with the pattern.
        field: String,
        /// The pattern.
        pattern: String,
        /// The file.
        path: String,
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
        path: String,
    },
    /// What was built last was published in another directory, or nowhere.
    Elsewhere {
        /// Directory that is asked for.
        out: String,
        /// Directory of the last build's artefacts; none where it published nothing.
        #[serde(skip_serializing_if = "Option::is_none")]
        was: Option<String>,
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
    /// The file that someone changed, relative to the recipe.
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
    /// Whether `file` is the lock, which the image's variant gives another name.
    #[serde(skip)]
    pub is_of_lock: bool,
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
            Self::Gone { action } => format!("the image no longer has {action}"),
            Self::NotLocked { lock, what } => format!("{what} not in {lock}"),
            Self::NotAsked { lock, what, .. } => {
                format!("{lock} was made for \"{what}\", which is no longer in any list")
            }
            Self::Asked { option, what } => format!("{option} asks for {what}"),
            Self::Added { what, now } => format!("{what} = {now}"),
            Self::Removed { what, .. } => format!("{what} removed"),
            Self::Changed { what, was, now } => format!("{what} {was} -> {now}"),
            Self::Gained { pattern, path, .. } => format!("{pattern} gained {path}"),
            Self::Lost { pattern, path, .. } => format!("{pattern} lost {path}"),
            Self::Implementation { what, .. } => format!("imgbuild's {what} changed"),
            Self::Reordered { what, before } => format!("\"{what}\" now comes before \"{before}\""),
            Self::Upstream { action, .. } => format!("depends on {action}"),
            Self::NotReproducible { action } => {
                format!("{action} produced a different result from the same inputs: it is not reproducible")
            }
            Self::OutputMissing { outputs } => format!("missing from the store: {}", outputs.join(", ")),
            Self::Drift { path } => format!("the published {path} is missing or was modified"),
            Self::Elsewhere { out, was: Some(was) } => format!("the last build was published in {was}, not in {out}"),
            Self::Elsewhere { was: None, .. } => "nothing was published yet".to_owned(),
            Self::RecordMissing { action } => {
                format!("the store no longer has a record of the last run of {action}")
            }
        }
    }

    pub fn cause(self, place: Option<&Place>) -> Cause {
        let place_text = place.map_or_else(String::new, |place| format!("{}:{} ", place.file, place.line));
        Cause {
            message: format!("{place_text}{}", self.message()),
            file: place.map(|place| place.file.clone()),
            line: place.map(|place| place.line),
            was_line: None,
            asked_at: None,
            is_of_lock: false,
            reason: self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each reason; a new one does not compile until it is here.
    fn all() -> Vec<Reason> {
        let text = || "x".to_owned();
        let leaf = || Some(Box::new(Reason::FirstBuild.cause(None)));
        let all = vec![
            Reason::FirstBuild,
            Reason::NewImage { revision: text() },
            Reason::Unreadable { revision: text(), problem: text() },
            Reason::New { action: text() },
            Reason::Gone { action: text() },
            Reason::NotLocked { lock: text(), what: text() },
            Reason::NotAsked { lock: text(), pass: text(), what: text() },
            Reason::Asked { option: text(), what: text() },
            Reason::Added { what: text(), now: text() },
            Reason::Removed { what: text(), was: text() },
            Reason::Changed { what: text(), was: text(), now: text() },
            Reason::Gained { field: text(), pattern: text(), path: text() },
            Reason::Lost { field: text(), pattern: text(), path: text() },
            Reason::Implementation { what: text(), was: Some(text()), now: Some(text()) },
            Reason::Reordered { what: text(), before: text() },
            Reason::Upstream { action: text(), leaf: leaf() },
            Reason::NotReproducible { action: text() },
            Reason::OutputMissing { outputs: vec![text()] },
            Reason::Drift { path: text() },
            Reason::Elsewhere { out: text(), was: Some(text()) },
            Reason::RecordMissing { action: text() },
        ];
        for one in &all {
            match one {
                Reason::FirstBuild
                | Reason::NewImage { .. }
                | Reason::Unreadable { .. }
                | Reason::New { .. }
                | Reason::Gone { .. }
                | Reason::NotLocked { .. }
                | Reason::NotAsked { .. }
                | Reason::Asked { .. }
                | Reason::Added { .. }
                | Reason::Removed { .. }
                | Reason::Changed { .. }
                | Reason::Gained { .. }
                | Reason::Lost { .. }
                | Reason::Implementation { .. }
                | Reason::Reordered { .. }
                | Reason::Upstream { .. }
                | Reason::NotReproducible { .. }
                | Reason::OutputMissing { .. }
                | Reason::Drift { .. }
                | Reason::Elsewhere { .. }
                | Reason::RecordMissing { .. } => {}
            }
        }
        all
    }

    #[test]
    fn no_key_of_a_cause_stands_twice_in_its_json() {
        let place = Place { file: "image.toml".to_owned(), line: 3 };
        for reason in all() {
            let whole = Cause { was_line: Some(2), asked_at: Some(place.clone()), ..reason.cause(Some(&place)) };
            // A value has each key once: a text that is longer than its own value's has one twice.
            let text = serde_json::to_string(&whole).unwrap();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(text.len(), value.to_string().len(), "{text}");
        }
    }
}

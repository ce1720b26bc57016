//! Causes: why an action runs, as values.

use schemars::JsonSchema;
use serde::Serialize;

use super::Place;

/// Name of the lock in causes.
pub const LOCK: &str = "image.lock";

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

//! What an import reports: of each key of the input, what became of it.

use schemars::JsonSchema;
use serde::Serialize;

pub use site::osimage::Verdict;

/// Version of what `import KIND --json` prints.
pub const REPORT_FORMAT: &str = "1.0";

/// What became of a key of the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Row {
    /// The file, as it was named, or from the directory that was.
    pub file: String,
    /// The line in it; 0 for the file itself.
    pub line: usize,
    /// The key: `packages[2]`, `users/user`.
    pub key: String,
    /// What the input says; never a secret.
    pub value: String,
    /// What became of it.
    pub verdict: Verdict,
    /// The recipe's field, or the file next to it, if it has one: `packages.lists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Why; empty where nothing is to be said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Row {
    /// `FILE:LINE`, or the file alone.
    pub fn place(&self) -> String {
        if self.line > 0 { format!("{}:{}", self.file, self.line) } else { self.file.clone() }
    }
}

/// What became of an image of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A recipe was written.
    New,
    /// There is no recipe of it; `reason` says why.
    Skipped,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MovedImage {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub state: State,
    /// The recipe's file, from the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// Why it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Files of the image, from its directory.
    pub files: Vec<String>,
    /// What became of each key of the input.
    pub keys: Vec<Row>,
}

/// What an import did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(title = "imgbuild import warewulf, openchami, confluent, kiwi")]
pub struct MoveReport {
    /// Version of this form.
    pub format_version: String,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// What was read: `kiwi`, `openchami`, `warewulf`, `confluent`.
    pub source: String,
    /// The images, in the order of the input.
    pub images: Vec<MovedImage>,
}

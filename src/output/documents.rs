//! JSON that programs read: the types that it is written from, and their schemas. docs/formats.md lists them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use base::format::Version;
use base::source::{Finding, Severity};
use build::{BuildInfo, Drift, Estimate, Facts, Total, XcatPublished};
use plan::Cause;
use recipe::{lock_schema_text, schema_of, schema_text, workspace_schema_text};
use store::ActionRecord;

pub(crate) const FORMATS: [&str; 22] = [
    "image",
    "workspace",
    "lock",
    "plan",
    "planfile",
    "log",
    "diff",
    "build",
    "record",
    "list",
    "check",
    "audit",
    "update",
    "progress",
    "import",
    "movein",
    "capture",
    "nodes",
    "nodelist",
    "needs",
    "sync",
    "roll",
];

/// The schema of a format, as text; none for a name that is not in [`FORMATS`].
pub(crate) fn schema(format: &str) -> Option<String> {
    let id = format!("{format}.schema.json");
    Some(match format {
        "image" => schema_text(),
        "workspace" => workspace_schema_text(),
        "lock" => lock_schema_text(),
        "plan" => schema_of::<crate::plans::planned::PlanDocument>(&id),
        "build" => schema_of::<BuildInfo>(&id),
        "planfile" => schema_of::<plan::PlanFile>(&id),
        "log" => schema_of::<crate::verbs::building::log::LogDocument>(&id),
        "diff" => schema_of::<build::diff::Difference>(&id),
        "record" => schema_of::<ActionRecord>(&id),
        "list" => schema_of::<ListDocument>(&id),
        "check" => schema_of::<CheckDocument>(&id),
        "audit" => schema_of::<crate::verbs::keeping::audit::document::AuditDocument>(&id),
        "update" => schema_of::<crate::verbs::building::update::document::UpdateDocument>(&id),
        "progress" => schema_of::<ProgressEvent>(&id),
        "nodes" => nodes::nodes_schema_text(),
        "nodelist" => schema_of::<crate::verbs::nodes::list::NodesDocument>(&id),
        "needs" => schema_of::<crate::verbs::nodes::needs::NeedsDocument>(&id),
        "sync" => schema_of::<crate::verbs::nodes::sync::shown::SyncDocument>(&id),
        "roll" => schema_of::<crate::verbs::nodes::roll::RollDocument>(&id),
        "capture" => schema_of::<site::capture::CaptureReport>(&id),
        "import" => schema_of::<site::workspace::ImportReport>(&id),
        "movein" => schema_of::<movein::MoveReport>(&id),
        _ => return None,
    })
}

pub(crate) const LIST_FORMAT: Version = Version::new(1, 0);

/// What `list --json` prints. Readers ignore fields that they do not know.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "imgbuild list")]
pub(crate) struct ListDocument {
    /// Version of this form.
    pub format_version: String,
    /// One entry an image.
    pub images: Vec<ListedImage>,
}

/// What is published of an image.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ListedImage {
    /// Its name.
    pub name: String,
    /// Directory of its recipe.
    pub recipe: PathBuf,
    /// Which variant of that recipe it is, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Where its files are; left out when it is not built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Its build.json.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildInfo>,
    /// What someone changed or removed behind imgbuild's back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<Vec<Drift>>,
}

/// What `check --json` prints. `check --as KIND --json` has what the list means besides. Readers ignore fields that they do not know.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "imgbuild check")]
pub(crate) struct CheckDocument {
    /// Version of this form.
    pub format_version: String,
    /// The images, by name; left out for a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<CheckedImage>>,
    /// What is to be said of the recipe or the list.
    pub findings: Vec<ReportedFinding>,
}

/// Whether an image can be built, as far as its recipe goes.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CheckedImage {
    /// Its name.
    pub name: String,
    /// Whether its recipe has no error.
    pub good: bool,
}

/// How bad a finding is.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReportedSeverity {
    /// Nothing is built while it stands.
    Error,
    /// Probably not what was meant.
    Warning,
    /// Worth knowing; nothing to do.
    Note,
}

impl From<Severity> for ReportedSeverity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Error => Self::Error,
            Severity::Warning => Self::Warning,
            Severity::Note => Self::Note,
        }
    }
}

/// Something to say about a place in a file.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReportedFinding {
    /// How bad it is.
    pub severity: ReportedSeverity,
    /// Stable identifier, `room::problem`.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// File, relative to the recipe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line in it, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column in it, in characters from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl From<&Finding> for ReportedFinding {
    fn from(finding: &Finding) -> Self {
        let finding = &super::render::worded(finding);
        let position = finding.span.as_ref().map(|span| span.file.position(span.start));
        Self {
            severity: finding.severity.into(),
            code: finding.code.to_owned(),
            message: finding.message.clone(),
            file: finding.span.as_ref().map(|span| span.file.name.clone()),
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
            help: finding.help.clone(),
        }
    }
}

/// A line of `--progress=json`. Readers ignore events and fields that they do not know.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "lowercase")]
#[schemars(title = "imgbuild progress")]
pub(crate) enum ProgressEvent {
    /// An action starts.
    Started {
        /// The image, where there are several.
        #[serde(skip_serializing_if = "Option::is_none")]
        image: Option<String>,
        /// Stage and layer, for instance `rootfs/sync`.
        action: String,
        /// Why it runs.
        causes: Vec<Cause>,
    },
    /// An action or a download goes on.
    Progress {
        /// The image, where there are several.
        #[serde(skip_serializing_if = "Option::is_none")]
        image: Option<String>,
        /// What it does.
        text: String,
    },
    /// An action ended.
    Finished {
        /// The image, where there are several.
        #[serde(skip_serializing_if = "Option::is_none")]
        image: Option<String>,
        /// Stage and layer.
        action: String,
        /// How long it took.
        milliseconds: u64,
    },
    /// `sync` is done with a node.
    Node {
        /// Its name.
        node: String,
        /// What did not work.
        #[serde(skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
    /// Something is to be said.
    Finding {
        /// The image, where there are several.
        #[serde(skip_serializing_if = "Option::is_none")]
        image: Option<String>,
        /// How bad it is.
        severity: ReportedSeverity,
        /// Stable identifier, `room::problem`.
        code: String,
        /// What is wrong.
        message: String,
        /// File, line and column, separated by colons.
        place: Option<String>,
        /// What to do about it.
        help: Option<String>,
    },
    /// A build ended well.
    Summary {
        /// The image, where there are several.
        #[serde(skip_serializing_if = "Option::is_none")]
        image: Option<String>,
        /// What was published; none with `--until`.
        published: Option<Box<PublishedBuild>>,
        /// What was published for xCAT.
        xcat: Vec<XcatPublished>,
        /// What was expected, where the history knows.
        estimate: Option<Box<Estimate>>,
        /// What it was.
        facts: Facts,
        /// The build's number in `imgbuild log`.
        number: Option<u64>,
    },
    /// A build of several images is over.
    End {
        /// What became of each, by name.
        images: Vec<EndedImage>,
        /// What they were expected to take together, where several had work.
        #[serde(skip_serializing_if = "Option::is_none")]
        estimate: Option<Box<Total>>,
        /// What those took that were built.
        facts: Facts,
    },
    /// The build was asked to stop; the last line.
    Interrupted,
}

/// What became of an image.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EndedImage {
    /// Its name.
    pub image: String,
    /// `built`, `failed`, `stopped` or `not tried`.
    pub state: String,
    /// Why it was not built.
    pub failures: Vec<EndedFailure>,
}

/// An action that failed, or what kept an image from being built.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EndedFailure {
    /// The action.
    pub action: Option<String>,
    /// What went wrong.
    pub problem: String,
    /// Where the command's log is.
    pub log: Option<String>,
}

/// A published build.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PublishedBuild {
    /// Where its files are.
    pub directory: PathBuf,
    /// Its build.json.
    pub build: BuildInfo,
}

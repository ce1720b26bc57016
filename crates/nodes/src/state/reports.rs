//! What nodes report while they boot: one small file a node, the last report alone.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::per_node::REPORTS;
use super::{STATE_FORMAT, State, StateError, now};

/// Longest reason that is kept, in characters.
const LONGEST_REASON: usize = 400;

/// How far a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReportState {
    /// Its initrd runs.
    Booting,
    /// It fetches or unpacks the image.
    Image,
    /// Its services are up.
    Up,
    /// It gave up.
    Failed,
}

impl ReportState {
    pub const ALL: [Self; 4] = [Self::Booting, Self::Image, Self::Up, Self::Failed];

    pub fn name(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Image => "image",
            Self::Up => "up",
            Self::Failed => "failed",
        }
    }

    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == text)
    }
}

/// How much of a root that a node reads over the network is on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RootState {
    /// It needs its servers, and on them the build that it runs.
    Lazy,
    /// All of it.
    Hydrated,
}

impl RootState {
    pub const ALL: [Self; 2] = [Self::Lazy, Self::Hydrated];

    pub fn name(self) -> &'static str {
        match self {
            Self::Lazy => "lazy",
            Self::Hydrated => "hydrated",
        }
    }

    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == text)
    }
}

/// A node's last report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Version of this form.
    pub format_version: String,
    /// How far it is.
    pub state: ReportState,
    /// Why, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The image that it booted, as its token says; missing where that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The build of it, as its directory is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// How much of its root is on the node, where it reads that over the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RootState>,
    /// When it came, in milliseconds since 1970.
    pub time: u64,
}

impl Report {
    /// A report that comes now. What a node says is cut and made harmless: anybody may hold its token.
    pub fn new(state: ReportState, reason: Option<&str>, image: Option<&str>, build: Option<&str>) -> Self {
        let tame = |text: &str| -> String {
            let shown = text.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter });
            shown.take(LONGEST_REASON).collect()
        };
        let tame = |text: Option<&str>| text.map(tame).filter(|text| !text.is_empty());
        Self {
            format_version: STATE_FORMAT.to_string(),
            state,
            reason: tame(reason),
            image: tame(image),
            build: tame(build),
            root: None,
            time: now(),
        }
    }

    /// The same, with what it says or said before of its root: that holds as long as the node runs the same build and does not start again.
    pub fn with_root(self, root: Option<RootState>, last: Option<&Self>) -> Self {
        let is_same = |last: &&Self| (&last.image, &last.build) == (&self.image, &self.build);
        let before = last.filter(is_same).filter(|_| self.state != ReportState::Booting).and_then(|last| last.root);
        Self { root: root.or(before), ..self }
    }

    /// The build that this node reads its root from, as long as it runs: its image and its name.
    pub fn reads_root_from(&self) -> Option<(&str, &str)> {
        (self.root == Some(RootState::Lazy)).then_some((self.image.as_deref()?, self.build.as_deref()?))
    }
}

impl State {
    /// Keeps a node's report in the place of the one before; what goes with it is changed when it is written, and not yet there.
    /// Errors: It cannot be written, and nothing is changed. The change failed: the one before is still there then. No node can have such
    /// a name.
    pub fn write_report(
        &self,
        node: &str,
        report: &Report,
        change: &mut dyn FnMut() -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        self.keep_after((REPORTS, node), report, 0o644, change)
    }

    /// A node's last report, if it has one that can be read.
    pub fn report(&self, node: &str) -> Option<Report> {
        self.kept(REPORTS, node)
    }

    /// The last reports of all nodes that have one.
    pub fn reports(&self) -> BTreeMap<String, Report> {
        self.all_kept(REPORTS)
    }

    pub fn forget_report(&self, node: &str) {
        self.forget_kept(REPORTS, node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_root_is_holds_as_long_as_the_node_runs_the_same_build() {
        let report = |state, build| Report::new(state, None, Some("compute"), Some(build));
        let lazy = report(ReportState::Image, "b").with_root(Some(RootState::Lazy), None);
        assert_eq!(lazy.reads_root_from(), Some(("compute", "b")));
        let up = report(ReportState::Up, "b").with_root(None, Some(&lazy));
        assert_eq!(up.reads_root_from(), Some(("compute", "b")));
        let hydrated = up.clone().with_root(Some(RootState::Hydrated), Some(&up));
        assert_eq!((hydrated.root, hydrated.reads_root_from()), (Some(RootState::Hydrated), None));
        assert_eq!(report(ReportState::Up, "c").with_root(None, Some(&lazy)).root, None);
        assert_eq!(report(ReportState::Booting, "b").with_root(None, Some(&up)).root, None);
        let text = serde_json::to_string(&hydrated).unwrap();
        assert!(text.contains(r#""root":"hydrated""#), "{text}");
        assert!(!serde_json::to_string(&report(ReportState::Up, "b")).unwrap().contains("root"));
        assert_eq!(RootState::named("up"), None);
    }

    #[test]
    fn the_last_report_of_each_node_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(directory.path().join("state"));
        assert!(state.reports().is_empty());
        let report = |state, reason| Report::new(state, reason, Some("compute"), Some("0123456789ab"));
        let keep = |node, report| state.write_report(node, &report, &mut || Ok(()));
        keep("cn1", report(ReportState::Booting, None)).unwrap();
        keep("cn2.site", report(ReportState::Failed, Some("no\x1b[2J disk\nleft"))).unwrap();
        keep("cn1", report(ReportState::Up, None)).unwrap();
        let reports = state.reports();
        assert_eq!(reports.len(), 2);
        assert_eq!(reports["cn1"].state, ReportState::Up);
        assert_eq!(reports["cn2.site"].reason.as_deref(), Some("no [2J disk left"));
        for bad in ["../cn1", "", ".cn1", "a/b", "cn\n1"] {
            assert!(keep(bad, report(ReportState::Up, None)).is_err() && state.report(bad).is_none());
        }
        // What a killed writer left, and what no one can read, is no one's report.
        std::fs::write(directory.path().join("state/reports/.new-x"), "{").unwrap();
        std::fs::write(directory.path().join("state/reports/cn3.json"), "{").unwrap();
        assert_eq!(state.reports().len(), 2);
        let long = "x".repeat(10_000);
        assert_eq!(report(ReportState::Failed, Some(&long)).reason.unwrap().len(), LONGEST_REASON);
        state.forget_report("cn1");
        assert_eq!(state.reports().len(), 1);
    }
}

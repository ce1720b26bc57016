//! How long a build will take, what it writes and what it downloads, from what earlier builds in this store took.
//!
//! Time and bytes written are guesses and are called so wherever they are shown. The download is no guess: it is the
//! sizes in image.lock of the packages that the store lacks. What nothing is known of is named, and never counted as zero.

pub(crate) mod cost;
mod experience;
pub(crate) mod room;
mod simulate;
mod total;
mod work;

use serde::{Deserialize, Serialize};

pub(crate) use experience::Experience;
pub use total::{PathStep, Total};
pub use work::Workload;
pub(crate) use work::{work_before_lock, work_of};

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Earlier runs of this action of this image.
    Same,
    /// Runs of the same kind, of the same distribution where there are any; scaled by the bytes of the packages.
    Like,
    /// Nothing: the figures are null.
    Unknown,
}

/// What is expected of one action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ActionEstimate {
    /// The action.
    pub action: String,
    /// Whether it surely runs; otherwise it depends.
    pub surely: bool,
    /// Time in milliseconds, estimated.
    pub milliseconds: Option<u64>,
    /// Bytes that it writes to the store, estimated.
    pub written_bytes: Option<u64>,
    /// Where the figures come from.
    pub from: Source,
}

/// From the least, where nothing runs that depends, to the most, where all of that runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Range {
    /// Without what depends.
    pub least: u64,
    /// With it.
    pub most: u64,
}

/// What a build is expected to take. All but the download is estimated from earlier builds in the same store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Estimate {
    /// Time in milliseconds along the critical path, without the actions in `unknown`; null where nothing is known.
    pub milliseconds: Option<Range>,
    /// Bytes written to the store and to the artefacts, without the actions in `unknown`; null where nothing is known.
    pub written_bytes: Option<Range>,
    /// Bytes of packages that the store lacks. Exact: the sizes in image.lock; null before the packages are resolved.
    pub download_bytes: Option<Range>,
    /// How many packages that are.
    pub download_packages: Option<Range>,
    /// Time in milliseconds that the whole download takes at the speed of earlier ones; null where there were none.
    pub download_milliseconds: Option<u64>,
    /// How many actions run at once.
    pub workers: usize,
    /// Actions that decide how long it takes, one after another; where all runs that depends.
    pub critical_path: Vec<String>,
    /// Actions of which nothing is known.
    pub unknown: Vec<String>,
    /// Each action that runs or may run.
    pub actions: Vec<ActionEstimate>,
}

/// What a build took, in the units of [`Estimate`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Facts {
    /// Time in milliseconds.
    pub milliseconds: u64,
    /// Bytes written to the store and to the artefacts.
    pub written_bytes: u64,
    /// Bytes of packages that were fetched.
    pub downloaded_bytes: u64,
}

impl Estimate {
    /// What is expected of one image's build where so many actions run at once.
    pub fn of(work: &Workload, workers: usize) -> Self {
        let all = [("", work)];
        let (total, actions) = total::reckon(&all, workers);
        let is_unknown = |one: &&ActionEstimate| one.from == Source::Unknown;
        Self {
            milliseconds: total.milliseconds,
            written_bytes: total.written_bytes,
            download_bytes: total.download_bytes,
            download_packages: total.download_packages,
            download_milliseconds: total.download_milliseconds,
            workers,
            critical_path: total.critical_path.into_iter().map(|step| step.action).collect(),
            unknown: actions.iter().filter(is_unknown).map(|one| one.action.clone()).collect(),
            actions,
        }
    }
}

//! What `update --security --json` prints.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::mend;
use super::open::Reason;
use super::security::Outcome;
use super::shown::kernel;
use crate::verbs::keeping::audit::document::{AuditFinding, of_finding};
use base::format::Version;

const UPDATE_FORMAT: Version = Version::new(1, 0);

/// What `update --security --json` prints. Readers ignore fields that they do not know.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "imgbuild update")]
pub(crate) struct UpdateDocument {
    /// Version of this form.
    pub format_version: String,
    /// What became of each image.
    pub images: Vec<ImageDocument>,
    /// Vulnerabilities that were named, and that no package of the images has.
    pub not_affected: Vec<String>,
    /// What could not be looked at, in words.
    pub unknown: Vec<String>,
}

/// An image.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ImageDocument {
    /// Its name.
    pub image: String,
    /// Whether image.lock was written.
    pub updated: bool,
    /// What is mended in the lock as it is now.
    pub mended: Vec<Mended>,
    /// What is left in it.
    pub open: Vec<Open>,
    /// Other packages that moved.
    pub also: Vec<AlsoMoved>,
    /// The kernel's versions before and after, where it moves: drivers from source are compiled for it by the next build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelMove>,
}

/// A vulnerability that is mended.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Mended {
    /// The vulnerability; left out where only a newer version in a suite of security updates is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Advisories that name it.
    pub advisories: Vec<String>,
    /// The source package.
    pub source: String,
    /// Packages of it.
    pub packages: Vec<String>,
    /// Their version before.
    pub from: String,
    /// Their version now; left out where the image no longer has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// A vulnerability that is left.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Open {
    /// What is found in the lock as it is now.
    pub finding: AuditFinding,
    /// What keeps the version.
    pub reason: Reason,
    /// The same in words, with what to do.
    pub why: String,
}

/// A package that moved with others.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AlsoMoved {
    /// Its name.
    pub package: String,
    /// Its version before; left out where it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its version now; left out where it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Whether the version that the lock had is no longer in any repository.
    pub lost: bool,
}

/// Versions of a kernel.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct KernelMove {
    /// Before.
    pub from: String,
    /// Now.
    pub to: String,
}

pub(super) fn document(images: Vec<ImageDocument>, not_affected: Vec<String>, unknown: &[String]) -> UpdateDocument {
    UpdateDocument { format_version: UPDATE_FORMAT.to_string(), images, not_affected, unknown: unknown.to_vec() }
}

pub(super) fn of(outcome: &Outcome<'_>, files: &[PathBuf]) -> ImageDocument {
    let after = outcome.after.as_ref();
    let mended = mend::mended(&outcome.found, &outcome.left).map(|finding| Mended {
        id: finding.id.clone(),
        advisories: finding.advisories.clone(),
        source: finding.source.clone(),
        packages: finding.packages.clone(),
        from: finding.installed.clone(),
        to: after.and_then(|after| mend::version_of(after, finding)).map(str::to_owned),
    });
    let open = outcome.left.iter().zip(&outcome.why).map(|(finding, held)| Open {
        finding: AuditFinding { update: None, ..of_finding(after.unwrap_or(outcome.before), files, finding) },
        reason: held.reason,
        why: held.why.clone(),
    });
    let also = outcome.also.iter().map(|one| AlsoMoved {
        package: one.name.clone(),
        from: one.from.clone(),
        to: one.to.clone(),
        lost: one.is_lost,
    });
    ImageDocument {
        image: outcome.before.subject.image.clone(),
        updated: after.is_some(),
        mended: mended.collect(),
        open: open.collect(),
        also: also.collect(),
        kernel: kernel(outcome).map(|(from, to)| KernelMove { from, to }),
    }
}

//! What `audit --json` prints.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::shown::remedy;
use super::subjects::Audited;
use advisories::{Epss, Expired, Exploited, Finding, Kind, Loaded, Report, Severity};
use base::format::Version;
use recipe::{LockItem, LockPlaces};

const AUDIT_FORMAT: Version = Version::new(1, 0);

/// What `audit --json` prints. Readers ignore fields that they do not know.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "imgbuild audit")]
pub(crate) struct AuditDocument {
    /// Version of this form.
    pub format_version: String,
    /// What was looked at.
    pub images: Vec<AuditedImage>,
    /// What counts: exploited ones first, then the worst.
    pub findings: Vec<AuditFinding>,
    /// What does not count, because a statement says so.
    pub not_affected: Vec<NotAffected>,
    /// Statements that have ended, each of a finding that counts again.
    pub expired: Vec<ExpiredStatement>,
    /// The files and suites that it was compared with.
    pub databases: Vec<Loaded>,
    /// What could not be looked at, in words.
    pub unknown: Vec<String>,
}

/// An image by its lock, or a build of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AuditedImage {
    /// Its name.
    pub image: String,
    /// The build, with `--nodes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Distribution, release and CPU.
    pub target: String,
    /// Nodes that boot it the next time, as a node set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boots: Option<String>,
    /// Nodes that run it, by their last reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<String>,
    /// Where its packages were read: `lock`, `records` of the store, or the packed `image`.
    pub packages_from: String,
    /// How many components were compared: packages, those of tools roots, drivers, parts of files that no package provides.
    pub components: usize,
    /// How many files that no package provides are compared with nothing.
    pub silent_files: usize,
    /// How many of them have a source version that is taken from their own.
    pub guessed_sources: usize,
    /// Drivers from source, which files of advisories seldom name.
    pub drivers: Vec<String>,
}

/// A vulnerability of a source package in an image.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AuditFinding {
    /// The image.
    pub image: String,
    /// The build, with `--nodes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// The vulnerability; left out where only a newer version in a suite of security updates is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Advisories that name it.
    pub advisories: Vec<String>,
    /// What it is about.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// What the component is.
    pub kind: Kind,
    /// The transaction of image.lock.
    pub pass: String,
    /// The source package.
    pub source: String,
    /// Packages of it.
    pub packages: Vec<String>,
    /// Files that they are parts of, where no package provides these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Their version.
    pub installed: String,
    /// The version that mends it, if there is one yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed: Option<String>,
    /// The files that say so.
    pub databases: Vec<String>,
    /// What the catalogue of exploited vulnerabilities says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exploited: Option<Exploited>,
    /// What EPSS says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epss: Option<Epss>,
    /// The command that updates image.lock, word by word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update: Option<Vec<String>>,
    /// The line of image.lock with the first of the packages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

/// A finding that does not count.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NotAffected {
    /// What was found.
    pub finding: AuditFinding,
    /// Why it does not count.
    pub reason: String,
    /// Who says so.
    pub author: String,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The file with the statement.
    pub file: String,
}

/// A statement that has ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ExpiredStatement {
    /// The vulnerability.
    pub id: String,
    /// The source package.
    pub source: String,
    /// Who made it.
    pub author: String,
    /// When it ended.
    pub until: String,
    /// The file with the statement.
    pub file: String,
}

/// The line of the lock with the first package of a finding.
pub(crate) fn line(audited: &Audited, finding: &Finding) -> Option<usize> {
    let (_, text) = audited.lock.as_ref().filter(|_| finding.kind != Kind::File)?;
    let name = finding.packages.first()?;
    LockPlaces::of(text).line(LockItem::Package { pass: &finding.pass, name })
}

/// The document; files are those that it was compared with, which the commands name.
pub(crate) fn document(
    (audited, files): (&[Audited], &[PathBuf]),
    report: &Report,
    unknown: &[String],
) -> AuditDocument {
    let images = audited.iter().map(|one| AuditedImage {
        image: one.subject.image.clone(),
        build: one.build.clone(),
        target: one.target.clone(),
        boots: one.boots.as_ref().map(ToString::to_string),
        runs: one.runs.as_ref().map(ToString::to_string),
        packages_from: one.from.to_owned(),
        components: one.subject.components.len(),
        silent_files: one.files.silent.len(),
        guessed_sources: one.by_path() + one.without_source().len(),
        drivers: one
            .subject
            .components
            .iter()
            .filter(|one| one.kind == Kind::Driver)
            .map(|one| one.name.clone())
            .collect(),
    });
    let finding = |finding: &Finding| of_finding(&audited[finding.subject], files, finding);
    let silenced = report.silenced.iter().map(|one| NotAffected {
        finding: finding(&one.finding),
        reason: one.reason.clone(),
        author: one.author.clone(),
        until: one.until.map(|until| until.to_string()),
        file: one.file.clone(),
    });
    let expired = report.expired.iter().map(|Expired { id, source, author, until, file }| ExpiredStatement {
        id: id.clone(),
        source: source.clone(),
        author: author.clone(),
        until: until.to_string(),
        file: file.clone(),
    });
    AuditDocument {
        format_version: AUDIT_FORMAT.to_string(),
        images: images.collect(),
        findings: report.findings.iter().map(finding).collect(),
        not_affected: silenced.collect(),
        expired: expired.collect(),
        databases: report.databases.clone(),
        unknown: unknown.to_vec(),
    }
}

pub(crate) fn of_finding(audited: &Audited, files: &[PathBuf], finding: &Finding) -> AuditFinding {
    AuditFinding {
        image: audited.subject.image.clone(),
        build: audited.build.clone(),
        id: finding.id.clone(),
        advisories: finding.advisories.clone(),
        title: finding.title.clone(),
        severity: finding.severity,
        kind: finding.kind,
        pass: finding.pass.clone(),
        source: finding.source.clone(),
        packages: finding.packages.clone(),
        files: finding.files.clone(),
        installed: finding.installed.clone(),
        fixed: finding.fixed.clone(),
        databases: finding.databases.clone(),
        exploited: finding.exploited.clone(),
        epss: finding.epss,
        update: remedy(audited, files, &[finding]),
        line: line(audited, finding),
    }
}

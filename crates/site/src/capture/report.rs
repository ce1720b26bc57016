//! What a capture says of what it found.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::CaptureRequest;
use super::classify::{Classified, OverlayFile, Reason};
use super::facts::Facts;
use super::left_out::Why;

pub(super) const CAPTURE_FORMAT: &str = "1.0";

/// What a capture found and wrote.
#[derive(Debug, Clone, Default, Serialize, schemars::JsonSchema)]
#[schemars(title = "imgbuild capture")]
pub struct CaptureReport {
    /// Version of this form.
    pub format_version: String,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Name of the image.
    pub name: String,
    /// Directory of the recipe, from the workspace.
    pub directory: String,
    /// Distribution and release, as xCAT writes them.
    pub osvers: String,
    /// How many packages the node has.
    pub packages: usize,
    /// Files that are as their packages bring them.
    pub as_packaged: usize,
    /// Files of packages of which the database knows the name alone; they are taken from the packages.
    pub unknown: usize,
    /// Files of the overlay by reason: how many, and their bytes.
    pub overlay: BTreeMap<String, (usize, u64)>,
    /// Folders that the node has empty and its packages would fill: an exclude list leaves them out.
    pub emptied: Vec<(String, usize)>,
    /// The folders of the overlay with the most bytes.
    pub largest: Vec<(String, u64)>,
    /// What was left out, by reason: how many files, and some of them.
    pub left_out: BTreeMap<String, (usize, Vec<String>)>,
    /// Units that are disabled.
    pub disabled: Vec<String>,
    /// What was written, from the directory.
    pub files: Vec<String>,
    /// What the administrator has to know.
    pub notes: Vec<String>,
    /// The overlay's files one by one; overlay.list has them.
    #[serde(skip)]
    pub overlay_files: Vec<OverlayFile>,
}

pub(super) fn report(
    request: &CaptureRequest,
    facts: &Facts,
    found: &Classified,
    large_owners: &BTreeSet<String>,
    packages: usize,
) -> CaptureReport {
    let mut report = CaptureReport {
        format_version: CAPTURE_FORMAT.to_owned(),
        dry_run: request.dry_run,
        name: request.name.clone(),
        directory: format!("images/{}", request.name),
        osvers: facts.osvers.clone(),
        packages,
        as_packaged: found.as_packaged,
        unknown: found.unknown,
        emptied: found.emptied.iter().map(|(folder, count)| (format!("/{folder}"), *count)).collect(),
        disabled: facts.disabled.clone(),
        notes: facts.notes.clone(),
        ..CaptureReport::default()
    };
    let mut folders: BTreeMap<String, u64> = BTreeMap::new();
    for file in &found.overlay {
        let of_reason = report.overlay.entry(file.reason.name().to_owned()).or_default();
        of_reason.0 += 1;
        of_reason.1 += file.size;
        let mut parts = file.path.split('/');
        let folder: Vec<&str> = parts.by_ref().take(2).collect();
        *folders.entry(format!("/{}", folder.join("/"))).or_default() += file.size;
    }
    let mut largest: Vec<(String, u64)> = folders.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
    largest.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    largest.truncate(10);
    report.largest = largest;
    for (path, why) in &found.left_out {
        let of_reason = report.left_out.entry(why.name().to_owned()).or_default();
        of_reason.0 += 1;
        // Each secret is named: someone has to bring it.
        let is_told = matches!(why, Why::Secret | Why::Node | Why::Listed);
        if (is_told && of_reason.1.len() < 50) || of_reason.1.len() < 3 {
            of_reason.1.push(format!("/{path}"));
        }
    }
    if request.rules.keep_secrets {
        report.notes.push(
            "overlay.tar contains the node's secrets, and builds must read it: keep the workspace in a folder only you can enter, and out of shared repositories".to_owned(),
        );
    }
    if !facts.fstab_of_disks.is_empty() {
        report.notes.push(format!(
            "{} fstab lines are for disks: they are in the recipe as comments",
            facts.fstab_of_disks.len()
        ));
    }
    let is_mapped = |file: &&OverlayFile| file.reason != Reason::Removed;
    let large = found.overlay.iter().filter(is_mapped).filter(|file| large_owners.contains(&file.path)).count();
    if large > 0 {
        report.notes.push(format!("{large} files have owners with numbers above 65535: builds by root support them; an ordinary user needs a longer range in /etc/subuid and /etc/subgid"));
    }
    let bytes: u64 = found.overlay.iter().map(|file| file.size).sum();
    if bytes > 50 << 20 {
        report.notes.push("the overlay is large for git: leave out what packages or shared file systems provide (--exclude-list), or keep it with Git LFS".to_owned());
    }
    report
}

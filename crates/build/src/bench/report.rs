//! `Report`: progress and findings of a build.

use std::path::Path;
use std::time::Duration;

use crate::StageError;
use base::source::{Finding, Severity, Span};
use packages::{News, Progress};
use plan::Cause;
use recipe::Recipe;

/// Takes news of a build; the command line shows them.
pub trait Report: Sync {
    /// How many actions an image will run, and the milliseconds that they are expected to take, where that is known.
    fn steps(&self, _actions: usize, _milliseconds: Option<u64>) {}
    /// One of those turned out to be as before, so it does not run.
    fn step_kept(&self) {}
    fn started(&self, action: &str, causes: &[Cause]);
    fn progress(&self, text: &str);
    fn finished(&self, action: &str, took: Duration);
    fn finding(&self, finding: &Finding);
    /// What a script of the recipe printed is in this file; it succeeded.
    fn printed(&self, _action: &str, _log: &Path) {}
}

/// Refuses what a field of the recipe asks for: reported at its place now, so that the error need not be reported again.
pub(crate) fn refuse(report: &dyn Report, recipe: &Recipe, field: &str, problem: String, help: String) -> StageError {
    refuse_at(report, recipe.spans.nearest(field).cloned(), problem, help)
}

/// The same at any place.
pub(crate) fn refuse_at(report: &dyn Report, span: Option<Span>, problem: String, help: String) -> StageError {
    let mut finding = Finding::nowhere(Severity::Error, "recipe::refused", problem.clone()).help(help.clone());
    finding.span = span;
    report.finding(&finding);
    StageError::Refused { problem, help }
}

pub struct DownloadNews<'a>(pub &'a dyn Report, pub &'static str);

impl Progress for DownloadNews<'_> {
    fn downloaded(&self, files: usize, all_files: usize, bytes: u64, all_bytes: u64) {
        let mega = |bytes: u64| bytes as f64 / 1e6;
        self.0.progress(&format!(
            "downloading {}: {files} of {all_files}, {:.1} of {:.1} MB",
            self.1,
            mega(bytes),
            mega(all_bytes)
        ));
    }
}

pub struct UploadNews<'a>(pub &'a dyn Report);

impl Progress for UploadNews<'_> {
    fn downloaded(&self, blobs: usize, all_blobs: usize, bytes: u64, all_bytes: u64) {
        let mega = |bytes: u64| bytes as f64 / 1e6;
        let (bytes, all_bytes) = (mega(bytes), mega(all_bytes));
        self.0.progress(&format!("pushing: {blobs} of {all_blobs} blobs, {bytes:.1} of {all_bytes:.1} MB are there"));
    }
}

pub(crate) struct ReportedNews<'a>(pub &'a dyn Report);

impl News for ReportedNews<'_> {
    fn progress(&self, text: &str) {
        self.0.progress(text);
    }

    fn finding(&self, finding: &Finding) {
        self.0.finding(finding);
    }

    fn downloads<'a>(&'a self, what: &'static str) -> Box<dyn Progress + 'a> {
        Box::new(DownloadNews(self.0, what))
    }
}

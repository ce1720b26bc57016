//! What `check` says of repositories: what a build would say before it resolves packages.

use std::cell::LazyCell;
use std::sync::Mutex;

use miette::Diagnostic;

use super::state::{LockState, lock_state};
use crate::distro::{Fetcher, Gathering, News, PackageSources, Progress, Unusable, manager};
use crate::recipe::{Family, Recipe};
use crate::source::{Finding, Severity};
use crate::store::Store;
use crate::sweep::Held;

#[derive(Default)]
struct Heard(Mutex<Vec<Finding>>);

/// Takes no notice of downloads.
struct Nothing;

impl Progress for Nothing {
    fn downloaded(&self, _: usize, _: usize, _: u64, _: u64) {}
}

impl News for Heard {
    fn progress(&self, _: &str) {}

    fn finding(&self, finding: &Finding) {
        if let Ok(mut all) = self.0.lock() {
            all.push(finding.clone());
        }
    }

    fn downloads<'a>(&'a self, _: &'static str) -> Box<dyn Progress + 'a> {
        Box::new(Nothing)
    }
}

/// Looks at the repositories of a recipe: at files that name them, and at those that are directories of this machine; with `online` at all of them.
/// What is not there is a warning where an up-to-date lock answers, because a build need not ask for it.
pub fn check_repositories(recipe: &Recipe, mirror: Option<&str>, online: bool) -> Vec<Finding> {
    // Nothing is kept: a recipe is checked without a store.
    let scratch = match Held::below(&std::env::temp_dir(), "imgbuild-check-") {
        Ok(scratch) => scratch,
        Err(error) => {
            let message = format!("cannot create a temporary directory: {error}");
            return vec![Finding::nowhere(Severity::Error, "repo::unusable", message)];
        }
    };
    let (store, heard) = (Store::existing(scratch.path()), Heard::default());
    let fetcher = match recipe.model.image.distro.family() {
        Family::Debian => Fetcher::new().as_apt(),
        Family::RedHat | Family::Suse => Fetcher::new(),
    };
    let places = PackageSources { mirror: mirror.map(str::to_owned), ..PackageSources::default() };
    let gathering = Gathering { recipe, places: &places, fetcher: &fetcher, store: &store, news: &heard };
    let wrong = manager(recipe).check(&gathering, online);
    let mut findings = heard.0.into_inner().unwrap_or_default();
    let is_locked = LazyCell::new(|| {
        let lock = recipe.lock().ok().flatten();
        lock.is_some() && lock_state(recipe, lock.as_ref()) == LockState::Fresh
    });
    let was_told = findings.iter().any(|finding| finding.severity == Severity::Error);
    for Unusable { repo, error, is_of_place } in wrong {
        let message = error.to_string();
        // Each line of the file was reported by itself.
        if was_told && message.ends_with("cannot be used") {
            continue;
        }
        let severity = if is_of_place && !online && *is_locked { Severity::Warning } else { Severity::Error };
        let fields = ["uri", "file", "mirrorlist", "metalink", "source"].into_iter().map(|field| format!(".{field}"));
        let at = |index: usize| {
            let mut paths = fields.clone().chain([String::new()]).map(|field| format!("repo[{index}]{field}"));
            paths.find_map(|path| recipe.spans.get(&path))
        };
        let finding = match (repo.and_then(at), severity) {
            (Some(span), Severity::Error) => Finding::error("repo::unusable", span, message).label("named here"),
            (Some(span), _) => Finding::warning("repo::unusable", span, message).label("named here"),
            (None, severity) => Finding::nowhere(severity, "repo::unusable", message),
        };
        let help = error.help().map(|help| help.to_string());
        findings.push(match (help, severity) {
            (Some(help), Severity::Error) => finding.help(help),
            (None, Severity::Error) => finding,
            (_, _) => finding.help(format!(
                "{} is enough as long as nothing is updated and the packages are in the store",
                recipe.lock_shown()
            )),
        });
    }
    findings
}

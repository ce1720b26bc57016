//! What `check` says of repositories: what a build would say before it resolves packages.

use std::cell::LazyCell;
use std::path::Path;
use std::sync::Mutex;

use miette::Diagnostic;

use super::state::{LockState, lock_state};
use super::words::{driver_words, is_solved, with_chosen_kernel, with_place};
use crate::StageError;
use crate::actions::packages::requests::{PackageRequest, package_requests};
use base::source::{Finding, Severity};
use files::sweep::Held;
use packages::{Fetcher, Gathering, News, PackageArchive, PackageSources, Progress, Unusable, manager};
use recipe::{Family, PassRole, Recipe};
use store::Store;

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

/// Says what a build would say of packages before any is downloaded: files that are not packages, words that nothing means, kernels that are
/// not there, packages of this machine that their index describes otherwise. Without `reads_all` the recipe's own directories are read alone.
fn check_packages(gathering: &Gathering<'_>, reads_all: bool) {
    let (recipe, manager) = (gathering.recipe, manager(gathering.recipe));
    let say = |finding: &Finding| gathering.news.finding(finding);
    let failed = |error: &dyn Diagnostic| {
        let finding = Finding::nowhere(Severity::Error, "repo::unusable", error.to_string());
        say(&match error.help() {
            Some(help) => finding.help(help.to_string()),
            None => finding,
        });
    };
    let archive = match if reads_all { manager.archive(gathering) } else { manager.local(gathering) } {
        Ok(archive) => archive,
        Err(error) if error.is_reported() => return,
        Err(error) => return failed(&error),
    };
    let requests = package_requests(recipe);
    let asked: Vec<&PackageRequest> = requests.iter().filter(|request| is_solved(request)).collect();
    let passes = match with_chosen_kernel(recipe, archive.as_ref(), &asked) {
        Ok((passes, _)) => passes,
        Err(StageError::Gate { problem, help }) => {
            let finding = Finding::nowhere(Severity::Error, "recipe::refused", problem).help(help);
            return say(&Finding { span: recipe.spans.nearest("kernel.dir").cloned(), ..finding });
        }
        Err(error) => return failed(&error),
    };
    // One without any package was reported as such.
    let reads_all = reads_all && !archive.names().is_empty();
    let words = if reads_all && recipe.model.image.from.is_none() {
        archive.check_passes(&[&passes[..], &driver_words(&requests)].concat(), &|_| false)
    } else {
        let of_folders = asked.iter().filter(|request| request.role() == PassRole::Otherpkgs);
        archive.check_folders(&of_folders.map(|request| request.pass.clone()).collect::<Vec<_>>())
    };
    if let Err(error) = words {
        let error = with_place(&mut |finding| say(finding), error, &requests);
        if !error.is_reported() {
            failed(&error);
        }
    }
    check_files(gathering, archive.as_ref(), &asked);
}

/// Says which packages of this machine's directories are not what their index says, of those that lists name.
fn check_files(gathering: &Gathering<'_>, archive: &dyn PackageArchive, asked: &[&PackageRequest]) {
    let is_local = |uri: &Option<String>| uri.as_ref().is_some_and(|uri| uri.starts_with("file:"));
    if !gathering.recipe.model.repo.iter().any(|repo| is_local(&repo.uri)) {
        return;
    }
    let manager = manager(gathering.recipe);
    let roots = manager.roots(gathering).unwrap_or_default();
    for (name, span) in asked.iter().flat_map(|request| &request.spans) {
        let Ok(Some(package)) = archive.find(manager.plain_name(name), None) else { continue };
        let root = roots.get(&package.origin).and_then(|all| all.first()).and_then(|root| root.strip_prefix("file:"));
        let Some(root) = root else { continue };
        let path = Path::new("/").join(root.trim_start_matches('/')).join(&package.file);
        let problem = match std::fs::metadata(&path) {
            Err(error) => error.to_string(),
            Ok(found) if found.len() != package.size => {
                format!("it has {} bytes, and its index says {}", found.len(), package.size)
            }
            Ok(_) => match witness::sha256(&path) {
                Ok(found) if found == package.sha256 => continue,
                Ok(found) => format!("it has the SHA-256 {found}, and its index says {}", package.sha256),
                Err(error) => error.to_string(),
            },
        };
        let text = format!("`{}` is not the package that its repository describes: {problem}", path.display());
        let help = "copy it again, or create the repository's metadata again";
        gathering.news.finding(&Finding::error("distro::package_file", span, text).label("requested here").help(help));
    }
}

/// Looks at the repositories of a recipe: at files that name them, and at those that are directories of this machine; with `online` at all of them.
/// What is not there is a warning where an up-to-date lock answers, because a build need not ask for it.
/// With `packages` the words of lists and package files are compared with them, too.
pub fn check_repositories(recipe: &Recipe, mirror: Option<&str>, online: bool, packages: bool) -> Vec<Finding> {
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
    let is_locked = LazyCell::new(|| {
        let lock = recipe.lock().ok().flatten();
        lock.is_some() && lock_state(recipe, lock.as_ref()) == LockState::Fresh
    });
    // A build with such a lock reads no archive.
    if packages && !*is_locked {
        let reads_all = wrong.is_empty() && (online || manager(recipe).is_local(&gathering));
        check_packages(&gathering, reads_all);
    }
    let mut findings = heard.0.into_inner().unwrap_or_default();
    let was_told = findings.iter().any(|finding| finding.severity == Severity::Error);
    for Unusable { repo, error, is_of_place } in wrong {
        let message = error.to_string();
        // Each line of the file was reported by itself.
        if error.is_reported() || was_told && message.ends_with("cannot be used") {
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

//! What a [[repo]] may say: one form for Debian's archives, one for RPM repositories.

use super::{Family, Image, Model, Repo};
use crate::source::{Finding, Span};

/// Problems of one repository.
pub fn check(repo: &Repo, image: &Image, span: &Span) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut complain = |message: &str, help: &str| {
        findings.push(Finding::error("repo::incomplete", span, message).help(help));
    };
    for uri in [&repo.uri, &repo.mirrorlist, &repo.metalink].into_iter().flatten() {
        if !["http://", "https://", "file:/"].iter().any(|scheme| uri.starts_with(scheme)) {
            complain("the address of a [[repo]] must start with http://, https:// or file:/", "correct it");
        }
    }
    match image.distro.family() {
        Family::Debian => debian(repo, &image.release, &mut complain),
        Family::RedHat | Family::Suse => rpm(repo, &mut complain),
    }
    findings
}

fn debian(repo: &Repo, release: &str, complain: &mut dyn FnMut(&str, &str)) {
    let of_rpm = repo.mirrorlist.is_some()
        || repo.metalink.is_some()
        || repo.file.is_some()
        || repo.id.is_some()
        || repo.priority.is_some()
        || repo.module_hotfixes
        || repo.check_index
        || !repo.check_packages
        || !repo.exclude.is_empty()
        || !repo.include.is_empty();
    if of_rpm {
        complain(
            "a Debian archive has no id, mirrorlist, metalink, file, priority, exclude, include, module-hotfixes, check-packages and check-index",
            "write source = \"host\", or uri, suites and components",
        );
    }
    match (&repo.source, &repo.uri) {
        (Some(_), Some(_)) => complain("a [[repo]] has either `source` or `uri`", "remove one of them"),
        (None, None) => {
            complain("a [[repo]] needs `source` or `uri`", "write source = \"host\", or uri, suites and components");
        }
        (None, Some(_)) => {
            if repo.suites.is_empty() || repo.components.is_empty() {
                complain(
                    "a [[repo]] with `uri` needs `suites` and `components`",
                    &format!("for instance suites = [\"{release}\"], components = [\"main\"]"),
                );
            }
        }
        (Some(_), None) => {
            let of_release = |suite: &String| suite.split('-').next() == Some(release);
            if let Some(suite) = repo.suites.iter().find(|suite| !of_release(suite)) {
                complain(
                    &format!("`{suite}` is no suite of the release `{release}`"),
                    "with source = \"host\", `suites` names some of the release, its -updates and its -security; for others give an archive with `uri`",
                );
            }
        }
    }
}

fn rpm(repo: &Repo, complain: &mut dyn FnMut(&str, &str)) {
    if !repo.suites.is_empty() || !repo.components.is_empty() {
        complain("an RPM repository has no `suites` and no `components`", "remove them");
    }
    let places = [repo.source.is_some(), repo.uri.is_some(), repo.mirrorlist.is_some(), repo.metalink.is_some()];
    if places.into_iter().chain([repo.file.is_some()]).filter(|named| *named).count() != 1 {
        complain(
            "an RPM [[repo]] needs one of `uri`, `mirrorlist`, `metalink`, `file` and `source`",
            "for instance uri = \"https://mirror.example/rocky/$releasever/BaseOS/$basearch/os\"",
        );
    }
    if repo.check_index && repo.signed_by.is_none() && repo.file.is_none() {
        complain("`check-index` needs keys", "name them: signed-by = \"keys/RPM-GPG-KEY\"");
    }
    let own = repo.file.is_some() || repo.source.is_some();
    if repo.check_packages && repo.signed_by.is_none() && !own {
        complain(
            "packages of this [[repo]] are to be checked, but no keys are given",
            "name them: signed-by = \"keys/RPM-GPG-KEY-...\"; where nobody signed the packages: check-packages = false",
        );
    }
}

/// Problems of all repositories together.
pub fn check_all(model: &Model, whole: &Span) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_debian = model.image.distro.family() == Family::Debian;
    if model.repo.is_empty() && !is_debian {
        let message = format!("{} has no repositories of its own here: [[repo]] is missing", model.image.distro.name());
        let help = "name them: [[repo]] uri = \"...\", signed-by = \"keys/RPM-GPG-KEY-...\", or file = \"site.repo\"";
        findings.push(Finding::error("repo::missing", whole, message).help(help));
    }
    let names: Vec<String> = model
        .repo
        .iter()
        .enumerate()
        .filter(|(_, repo)| repo.file.is_none())
        .map(|(at, repo)| id_of(repo, at))
        .collect();
    if !is_debian && let Some(twice) = names.iter().enumerate().find(|(at, id)| names[..*at].contains(id)) {
        let message = format!("two repositories have the id `{}`", twice.1);
        findings.push(Finding::error("repo::twice", whole, message).help("give each an id of its own"));
    }
    if is_debian && !model.repo_variables.is_empty() {
        let message = "[repo_variables] are for RPM repositories";
        findings.push(Finding::error("repo::variables", whole, message).help("remove the table"));
    }
    if is_debian && !model.packages.failing_scripts.is_empty() {
        let message = "dpkg never goes on after a script that failed: `failing_scripts` is for RPM distributions";
        findings.push(Finding::error("packages::failing_scripts", whole, message).help("remove it"));
    }
    findings
}

/// The short name of a repository: its own, or by its place.
pub fn id_of(repo: &Repo, index: usize) -> String {
    repo.id.clone().unwrap_or_else(|| format!("repo{}", index + 1))
}

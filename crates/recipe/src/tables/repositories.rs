//! What a [[repo]] may say: one form for Debian's archives, one for RPM repositories.

use crate::{
    Distro, Family, Image, Model, Repo, RepoSource, chosen_repositories, official_releases, official_repositories,
};
use base::source::{Finding, Severity, Span};

pub(crate) fn check(repo: &Repo, image: &Image, span: &Span) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut complain = |message: &str, help: &str| {
        findings.push(Finding::error("repo::incomplete", span, message).help(help));
    };
    for uri in [&repo.uri, &repo.mirrorlist, &repo.metalink].into_iter().flatten() {
        if !["http://", "https://", "file:/"].iter().any(|scheme| uri.starts_with(scheme)) {
            complain("the address of a ‹[[repo]]› must start with http://, https:// or file:/", "correct it");
        }
    }
    for uri in [&repo.uri, &repo.mirrorlist, &repo.metalink].into_iter().flatten() {
        let authority = uri.split('/').nth(2).filter(|_| uri.contains("://")).unwrap_or_default();
        if authority.contains('@') {
            // Without an excerpt, which would show it.
            let message =
                format!("{span}: the recipe contains a password that anyone with access to the repository can read");
            let help = "keep it outside: in ~/.netrc, apt's auth.conf.d or imgbuild's own file (docs/security.md, Credentials)";
            findings.push(Finding::nowhere(Severity::Warning, "repo::password", message).help(help));
        }
    }
    if repo.trusted && image.distro.family() == Family::Debian {
        let message = "the packages of this archive are accepted unsigned";
        findings.push(Finding::note("repo::trusted", span, message).label("‹trusted = true› is set here"));
    }
    let mut complain = |message: &str, help: &str| {
        findings.push(Finding::error("repo::incomplete", span, message).help(help));
    };
    match image.distro.family() {
        Family::Debian => debian(repo, &image.release, &mut complain),
        Family::RedHat | Family::Suse => rpm(repo, image, &mut complain),
    }
    findings
}

fn debian(repo: &Repo, release: &str, complain: &mut dyn FnMut(&str, &str)) {
    let of_rpm = repo.mirrorlist.is_some()
        || repo.metalink.is_some()
        || repo.priority.is_some()
        || repo.module_hotfixes
        || repo.check_index
        || repo.weak_signatures
        || !repo.check_packages
        || !repo.exclude.is_empty()
        || !repo.include.is_empty();
    if of_rpm {
        // What pins are for elsewhere.
        let prefers = repo.priority.is_some() || !repo.exclude.is_empty() || !repo.include.is_empty();
        complain(
            "a Debian archive has no mirrorlist, metalink, priority, exclude, include, module-hotfixes, check-packages, check-index and weak-signatures",
            match prefers {
                true => {
                    "remove it; to choose a different version than apt would, write it in the list: `name/suite`, `name=version`, `name=1.2*`"
                }
                false => "write ‹source = \"host\"›, or uri, suites and components, or ‹file = \"site.sources\"›",
            },
        );
    }
    if repo.source == Some(RepoSource::Distribution) {
        complain(
            "`distribution` is for RPM distributions",
            "write ‹source = \"host\"›; on a host of another distribution name the archive with uri, or with --mirror",
        );
        return;
    }
    let places = [repo.source.is_some(), repo.uri.is_some(), repo.file.is_some()];
    match places.into_iter().filter(|named| *named).count() {
        0 => complain(
            "a ‹[[repo]]› needs `source`, `uri` or `file`",
            "write ‹source = \"host\"›, or uri, suites and components, or ‹file = \"site.sources\"›",
        ),
        1 => {}
        _ => complain("a ‹[[repo]]› has one of `source`, `uri` and `file`", "remove the others"),
    }
    if repo.trusted && repo.source.is_some() {
        complain("`trusted` is not for the distribution's own archives", "remove it, or give your archive with `uri`");
    }
    for word in repo.suites.iter().chain(&repo.components) {
        let is_safe = word.bytes().all(|byte| byte.is_ascii_graphic()) && !word.split('/').any(|part| part == "..");
        if !is_safe || word.is_empty() || (word.starts_with('/') && word != "/") {
            let said = format!("`{}` is not a suite or component", word.escape_debug());
            complain(&said, &format!("write them as apt has them, for instance {release} and main"));
        }
    }
    if repo.file.is_some() && !(repo.suites.is_empty() && repo.components.is_empty()) {
        complain("the file sets the suites and components", "remove `suites` and `components`");
    }
    if repo.uri.is_some() {
        let flat = repo.suites.iter().filter(|suite| suite.ends_with('/')).count();
        if repo.suites.is_empty() || (flat == 0 && repo.components.is_empty()) {
            complain(
                "a ‹[[repo]]› with `uri` needs `suites` and `components`",
                &format!(
                    "for instance ‹suites = [\"{release}\"], components = [\"main\"]›; for a flat archive ‹suites = [\"./\"]› alone"
                ),
            );
        }
        if flat > 0 && (flat < repo.suites.len() || !repo.components.is_empty()) {
            complain(
                "a suite that ends in a slash is a flat archive: it has no components and must be the only suite",
                "give each archive a ‹[[repo]]› of its own",
            );
        }
    }
    if repo.source.is_some() {
        let of_release = |suite: &String| suite.split('-').next() == Some(release);
        if let Some(suite) = repo.suites.iter().find(|suite| !of_release(suite)) {
            complain(
                &format!("`{suite}` is not a suite of the release `{release}`"),
                "with ‹source = \"host\"›, `suites` names some of the release, its -updates and its -security; for others give an archive with `uri`",
            );
        }
    }
}

fn rpm(repo: &Repo, image: &Image, complain: &mut dyn FnMut(&str, &str)) {
    if repo.trusted {
        complain("`trusted` is for Debian archives", "write ‹check-packages = false› if the packages are unsigned");
    }
    let is_official = repo.source == Some(RepoSource::Distribution);
    if !repo.suites.is_empty() || !(repo.components.is_empty() || is_official) {
        complain("an RPM repository has no `suites` and no `components`", "remove them");
    }
    if is_official {
        official(repo, image, complain);
    }
    let places =
        [repo.source.is_some(), repo.uri.is_some() && !is_official, repo.mirrorlist.is_some(), repo.metalink.is_some()];
    if places.into_iter().chain([repo.file.is_some()]).filter(|named| *named).count() != 1 {
        complain(
            "an RPM ‹[[repo]]› needs one of `uri`, `mirrorlist`, `metalink`, `file` and `source`",
            "for instance ‹uri = \"https://mirror.example/rocky/$releasever/BaseOS/$basearch/os\"›",
        );
    }
    if repo.check_index && repo.signed_by.is_none() && repo.file.is_none() {
        complain("`check-index` needs keys", "name them: ‹signed-by = \"keys/RPM-GPG-KEY\"›");
    }
    let own = repo.file.is_some() || repo.source.is_some();
    if repo.check_packages && repo.signed_by.is_none() && !own {
        complain(
            "packages of this ‹[[repo]]› must be checked, but no keys are given",
            "name them: ‹signed-by = \"keys/RPM-GPG-KEY-...\"›; if the packages are unsigned: ‹check-packages = false›",
        );
    }
}

/// `source = "distribution"`.
fn official(repo: &Repo, image: &Image, complain: &mut dyn FnMut(&str, &str)) {
    let (distro, release) = (image.distro, image.release.as_str());
    let all = official_repositories(distro, release);
    if all.iter().all(|one| !one.is_default) {
        let known = official_releases(distro);
        let help = match (distro, known.is_empty()) {
            (Distro::Rhel | Distro::Sles, _) => {
                "its repositories belong to a subscription: ‹source = \"host\"› on a registered host, or uri of the site's own mirror (Satellite, RMT, reposync)".to_owned()
            }
            (_, true) => "name them: ‹[[repo]] uri = \"...\", signed-by = \"keys/RPM-GPG-KEY-...\"›".to_owned(),
            (_, false) => format!("known releases: {}; for another one, name its repositories with uri", known.join(", ")),
        };
        complain(&format!("the official repositories of {} {release} are not known here", distro.title()), &help);
        return;
    }
    if let Err(name) = chosen_repositories(&all, &repo.components) {
        let names: Vec<&str> = all.iter().map(|one| one.id).collect();
        let help = format!("it has {}; `+{}` adds one to the usual ones", names.join(", "), names[names.len() - 1]);
        complain(&format!("{} {release} has no repository `{}`", distro.title(), name.escape_debug()), &help);
    }
}

/// Problems of all repositories together.
pub(crate) fn check_all(model: &Model, whole: &Span) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_debian = model.image.distro.family() == Family::Debian;
    if model.repo.is_empty() && !is_debian {
        let message =
            format!("{} has no repositories of its own here: ‹[[repo]]› is missing", model.image.distro.name());
        let own =
            "the site's own: ‹[[repo]] uri = \"...\", signed-by = \"keys/RPM-GPG-KEY-...\"›, or ‹file = \"site.repo\"›";
        let help = match model.image.distro {
            Distro::Rhel | Distro::Sles => format!("on a registered host ‹[[repo]] source = \"host\"›; or {own}"),
            distro if official_releases(distro).is_empty() => format!("name {own}"),
            _ => format!("the distribution's own: ‹[[repo]] source = \"distribution\"›; or {own}"),
        };
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
        let message = "‹[repo_variables]› are for RPM repositories";
        findings.push(Finding::error("repo::variables", whole, message).help("remove the table"));
    }
    if is_debian && !model.packages.failing_scripts.is_empty() {
        let message = "dpkg always stops at a script that failed: `failing_scripts` is for RPM distributions";
        findings.push(Finding::error("packages::failing_scripts", whole, message).help("remove it"));
    }
    findings
}

/// The short name of a repository: its own, or by its place.
pub fn id_of(repo: &Repo, index: usize) -> String {
    repo.id.clone().unwrap_or_else(|| format!("repo{}", index + 1))
}

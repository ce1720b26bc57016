//! Names of releases of the distributions whose archives are known by them: to recognise a host's own archives, and what a
//! recipe got wrong.

use crate::{Distro, Model};
use base::source::{Finding, Severity, Span, nearest};

/// Lines of distribution, number and name.
const RELEASES: &str = include_str!("releases.txt");

/// Distribution, number and name of all known releases.
fn all() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    RELEASES.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.next()?, words.next()?))
    })
}

/// Names by which a distribution's archive knows its releases.
pub fn known_releases(distro: Distro) -> Vec<&'static str> {
    all().filter(|(of, ..)| *of == distro.name()).map(|(.., name)| name).collect()
}

/// The name of the release with a number: `12`, `12.5`, `24.04.1`.
pub fn named(distro: Distro, number: &str) -> Option<&'static str> {
    let is = |known: &str| number.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    all().find(|(of, known, _)| *of == distro.name() && is(known)).map(|(.., name)| name)
}

/// What an archive would not find: a number, another distribution's release, a name that is nearly one.
pub fn check_release(model: &Model, span: Option<&Span>) -> Option<Finding> {
    // Suites that the recipe names itself are asked for by their own names.
    let asks_by_release = model.repo.is_empty() || model.repo.iter().any(|repo| repo.source.is_some());
    if !asks_by_release {
        // Debian's names are no release of any other family, whatever its repositories are called.
        let is_debian = model.image.distro.family() == crate::Family::Debian;
        let other = if is_debian { None } else { release_of_another(model.image.distro, &model.image.release) };
        return other.map(|finding| Finding { span: span.cloned(), ..finding });
    }
    check_release_name(model.image.distro, &model.image.release, span)
}

pub fn check_release_name(distro: Distro, release: &str, span: Option<&Span>) -> Option<Finding> {
    let known = known_releases(distro);
    let at = |finding: Finding| Finding { span: span.cloned(), ..finding };
    let error = |message: String| at(Finding::nowhere(Severity::Error, "recipe::release", message));
    if let Some(name) = named(distro, release).filter(|_| !known.contains(&release)) {
        let message = format!("`{release}` is a version: {}'s archive calls that release `{name}`", distro.title());
        return Some(error(message).help(format!("write it so: ‹release = \"{name}\"›")));
    }
    if let Some(other) = release_of_another(distro, release).filter(|_| !known.contains(&release)) {
        return Some(at(other));
    }
    if known.is_empty() || known.contains(&release) {
        return None;
    }
    let near = nearest(release, known);
    let near = near.first()?;
    let message = format!("`{release}` is not a release of {} that imgbuild knows", distro.title());
    let finding = Finding::nowhere(Severity::Warning, "recipe::release", message);
    Some(at(finding.help(format!("did you mean `{near}`? Where the archive has a suite of this name, leave it"))))
}

/// Says that a release is one of Debian or Ubuntu, for another distribution: by its name, and for those two by its number.
fn release_of_another(distro: Distro, release: &str) -> Option<Finding> {
    let both = [Distro::Debian, Distro::Ubuntu];
    let name = |other: Distro| {
        let number = named(other, release).filter(|_| both.contains(&distro));
        number.or_else(|| known_releases(other).into_iter().find(|name| *name == release))
    };
    let (other, name) =
        both.into_iter().filter(|other| *other != distro).find_map(|other| Some((other, name(other)?)))?;
    let message = format!("`{release}` is a release of {}, and distro is {}", other.title(), distro.name());
    let finding = Finding::nowhere(Severity::Error, "recipe::release", message);
    Some(finding.help(format!("write: ‹distro = \"{}\", release = \"{name}\"›", other.name())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding_of(distro: &str, release: &str) -> Option<(Severity, String, String)> {
        let text = serde_json::json!({ "image": { "name": "a", "distro": distro, "release": release } });
        let finding = check_release(&serde_json::from_value(text).unwrap(), None)?;
        Some((finding.severity, finding.message, finding.help.unwrap_or_default()))
    }

    #[test]
    fn numbers_other_distributions_and_near_names_are_told() {
        for (distro, release) in
            [("debian", "bookworm"), ("debian", "sid"), ("ubuntu", "noble"), ("rocky", "9"), ("debian", "site")]
        {
            assert_eq!(finding_of(distro, release), None, "{distro} {release}");
        }
        for (distro, release, severity, help) in [
            ("debian", "12", Severity::Error, "release = \"bookworm\""),
            ("debian", "12.5", Severity::Error, "release = \"bookworm\""),
            ("ubuntu", "24.04.1", Severity::Error, "release = \"noble\""),
            ("debian", "noble", Severity::Error, "distro = \"ubuntu\", release = \"noble\""),
            ("ubuntu", "trixie", Severity::Error, "distro = \"debian\", release = \"trixie\""),
            ("debian", "bookwrm", Severity::Warning, "did you mean `bookworm`"),
            ("ubuntu", "nobel", Severity::Warning, "did you mean `noble`"),
        ] {
            let (found, message, said) = finding_of(distro, release).unwrap();
            assert!(found == severity && said.contains(help), "{distro} {release}: {message} {said}");
        }
    }
}

//! `osvers`: a distribution and its release in one word.

use recipe::{Distro, Family, release_named};

/// A distribution's release, as a recipe says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    pub distro: Distro,
    /// Its release, as its archive calls it.
    pub release: String,
}

/// How `osvers` begins for each distribution; longer words first.
const WORDS: [(&str, Distro); 15] = [
    ("centos-stream", Distro::Centos),
    ("rhelhpc", Distro::Rhel),
    ("rhels", Distro::Rhel),
    ("rhelc", Distro::Rhel),
    ("rhel", Distro::Rhel),
    ("rocky", Distro::Rocky),
    ("alma", Distro::Alma),
    ("centos", Distro::Centos),
    ("fedora", Distro::Fedora),
    ("sles", Distro::Sles),
    ("sle", Distro::Sles),
    ("leap", Distro::Opensuse),
    ("ubuntu", Distro::Ubuntu),
    ("debian", Distro::Debian),
    ("ol", Distro::Oracle),
];

/// Reads `rocky9.4`, `sle15.4`, `ubuntu24.04.1`.
/// Errors: Why there is no such release here.
pub fn release_of(osvers: &str) -> Result<Release, String> {
    let number_of =
        |word: &str| osvers.strip_prefix(word).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let found = WORDS.iter().find_map(|(word, distro)| Some((*distro, number_of(word)?)));
    let Some((distro, number)) = found else {
        return Err(format!("`{osvers}` is not a distribution whose images imgbuild builds"));
    };
    let number = number.split('-').next().unwrap_or(number);
    if !number.chars().all(|c| c.is_ascii_digit() || c == '.') && !fault::planted("osimage-release-any") {
        return Err(format!("`{osvers}` has no release number"));
    }
    let release = match (distro.family(), distro) {
        (Family::Debian, _) => match release_named(distro, number) {
            Some(name) => name.to_owned(),
            None => return Err(format!("`{osvers}` is a release of {} that imgbuild does not know", distro.title())),
        },
        // dnf's $releasever; genimage gives it the major number too.
        (Family::RedHat, _) => number.split('.').next().unwrap_or(number).to_owned(),
        (Family::Suse, _) => number.to_owned(),
    };
    Ok(Release { distro, release })
}

/// The word that xCAT has for a distribution's release; the exact minor number is not known of all.
pub fn osvers_of(distro: Distro, release: &str, number: Option<&str>) -> String {
    let word = match distro {
        Distro::Rhel => "rhels",
        Distro::Oracle => "ol",
        Distro::Sles => "sle",
        Distro::Opensuse => "leap",
        other => other.name(),
    };
    format!("{word}{}", number.unwrap_or(release))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_xcat() {
        for (osvers, distro, release) in [
            ("rhels9.4", Distro::Rhel, "9"),
            ("rhels7.6-alternate", Distro::Rhel, "7"),
            ("rocky9.4", Distro::Rocky, "9"),
            ("centos-stream9", Distro::Centos, "9"),
            ("ol8.9", Distro::Oracle, "8"),
            ("fedora40", Distro::Fedora, "40"),
            ("sle15.4", Distro::Sles, "15.4"),
            ("sles12.5", Distro::Sles, "12.5"),
            ("leap15.6", Distro::Opensuse, "15.6"),
            ("ubuntu24.04.1", Distro::Ubuntu, "noble"),
            ("debian12.5", Distro::Debian, "bookworm"),
        ] {
            assert_eq!(release_of(osvers), Ok(Release { distro, release: release.to_owned() }), "{osvers}");
        }
        for osvers in ["", "SL7", "windows", "rhels", "ubuntu1.1", "rockyx", "rocky9/../x"] {
            assert!(release_of(osvers).is_err(), "{osvers}");
        }
        assert_eq!(osvers_of(Distro::Rhel, "9", None), "rhels9");
    }
}

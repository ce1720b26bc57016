//! Which release something is of, by the names that people give it.

use recipe::{Arch, Distro, known_releases};
use site::osimage::{Release, release_of};

/// Words of names, and how xCAT's `osvers` begins for them; longer ones first.
const WORDS: [(&str, &str); 19] = [
    ("rockylinux", "rocky"),
    ("rocky", "rocky"),
    ("almalinux", "alma"),
    ("alma", "alma"),
    ("centos", "centos"),
    ("stream", "centos"),
    ("fedora", "fedora"),
    ("leap", "leap"),
    ("opensuse", "leap"),
    ("sles", "sles"),
    ("sle", "sles"),
    ("bci", "sles"),
    ("ubuntu", "ubuntu"),
    ("debian", "debian"),
    ("oraclelinux", "ol"),
    ("oracle", "ol"),
    ("ol", "ol"),
    ("ubi", "rhel"),
    ("rhel", "rhel"),
];

/// Words of a name: letters and digits apart, dots within numbers.
fn words(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut current = String::new();
    for c in text.to_lowercase().chars() {
        let is_digit = |c: char| c.is_ascii_digit() || c == '.';
        let changes = current.chars().next_back().is_some_and(|last| is_digit(last) != is_digit(c));
        if !c.is_ascii_alphanumeric() && c != '.' || changes {
            found.push(std::mem::take(&mut current));
        }
        if c.is_ascii_alphanumeric() || c == '.' {
            current.push(c);
        }
    }
    found.push(current);
    found.into_iter().map(|word| word.trim_matches('.').to_owned()).filter(|word| !word.is_empty()).collect()
}

/// The release in a name: `docker.io/rockylinux/rockylinux:9`, `rocky-9.4-x86_64-diskless`, `Leap-15.6_appliance`,
/// `SUSE Linux Enterprise 15 SP4`.
pub(crate) fn named_in(text: &str) -> Option<Release> {
    let mut text = text.split('@').next().unwrap_or(text).to_lowercase();
    for arch in Arch::ALL {
        text = text.replace(arch.machine(), " ");
    }
    let words: Vec<String> = words(&text).into_iter().filter(|word| word != "64").collect();
    if words.iter().any(|word| word == "tumbleweed") {
        return Some(Release { distro: Distro::Opensuse, release: "tumbleweed".to_owned() });
    }
    // What is named last is nearest to the number: `opensuse/leap:15.6`.
    for (at, word) in words.iter().enumerate().rev() {
        let Some((_, osvers)) = WORDS.iter().find(|(name, _)| name == word) else { continue };
        for (next, one) in words.iter().enumerate().skip(at + 1).take(6) {
            if one.starts_with(|c: char| c.is_ascii_digit()) {
                let pack = match (words.get(next + 1).map(String::as_str), words.get(next + 2)) {
                    (Some("sp"), Some(number)) if *osvers == "sles" => format!(".{number}"),
                    _ => String::new(),
                };
                let found = release_of(&format!("{osvers}{one}{pack}")).ok();
                if let Some(found) = found.filter(is_plausible) {
                    return Some(found);
                }
                break;
            }
            for distro in [Distro::Debian, Distro::Ubuntu].into_iter().filter(|distro| distro.name() == *osvers) {
                if known_releases(distro).contains(&one.as_str()) {
                    return Some(Release { distro, release: one.clone() });
                }
            }
        }
    }
    None
}

/// Whether a number is of a release, and not of the one who made something: `alma-base:v0.0.1`.
fn is_plausible(found: &Release) -> bool {
    let number: Option<u32> = found.release.split('.').next().and_then(|major| major.parse().ok());
    number.is_none_or(|major| match found.distro {
        Distro::Rocky | Distro::Alma | Distro::Centos | Distro::Oracle | Distro::Rhel => (6..20).contains(&major),
        Distro::Sles | Distro::Opensuse => (11..50).contains(&major),
        Distro::Fedora => major > 20,
        Distro::Debian | Distro::Ubuntu => true,
    })
}

/// The release that an apt archive's suite belongs to: `bookworm-updates` to `bookworm`.
pub(crate) fn of_suite(suite: &str) -> Option<Release> {
    let name = suite.split(['-', '/']).next().unwrap_or(suite);
    let of =
        |distro: Distro| known_releases(distro).contains(&name).then(|| Release { distro, release: name.to_owned() });
    of(Distro::Ubuntu).or_else(|| of(Distro::Debian))
}

/// The release of an os-release(5) file.
pub(crate) fn of_os_release(text: &str) -> Option<Release> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
    };
    let id = value("ID")?;
    let id = id.replace("opensuse-leap", "leap").replace("opensuse-tumbleweed", "tumbleweed");
    named_in(&format!("{id} {}", value("VERSION_ID").or_else(|| value("VERSION_CODENAME")).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_releases_are_known() {
        for (text, expected) in [
            ("docker.io/rockylinux/rockylinux:9", "rocky 9"),
            ("rocky-9.4-x86_64-diskless", "rocky 9"),
            ("registry.example/site/rocky8-base:8.9", "rocky 8"),
            ("docker://opensuse/leap:15.6", "opensuse 15.6"),
            ("registry.example/bci/bci-base:15.7", "sles 15.7"),
            ("SLES 15 SP4", "sles 15.4"),
            ("quay.example/centos/centos:stream9", "centos 9"),
            ("debian:12", "debian bookworm"),
            ("debian:bookworm-slim", "debian bookworm"),
            ("ubuntu:22.04", "ubuntu jammy"),
            ("Leap-15.3_appliance", "opensuse 15.3"),
            ("suse-tumbleweed", "opensuse tumbleweed"),
            ("registry.example/ubi9/ubi:9.4@sha256:00", "rhel 9"),
            ("https://mirror.example/pub/rocky/9/BaseOS/x86_64/os", "rocky 9"),
            ("Rocky Linux 9.4 (Blue Onyx) (Diskless Boot)", "rocky 9"),
        ] {
            let found = named_in(text).map(|found| format!("{} {}", found.distro.name(), found.release));
            assert_eq!(found.as_deref(), Some(expected), "{text}");
        }
        assert_eq!((named_in("alma-base:v0.0.1"), named_in("rocky2-base")), (None, None));
        assert_eq!((named_in("compute"), named_in("registry.example/base:9")), (None, None));
        assert_eq!(of_suite("bookworm-updates").unwrap().release, "bookworm");
        assert_eq!(of_os_release("NAME=x\nID=\"debian\"\nVERSION_ID=\"12\"\n").unwrap().release, "bookworm");
    }
}

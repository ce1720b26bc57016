//! The distributions' own repositories: a table.

use std::sync::LazyLock;

use crate::Distro;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfficialAddress {
    Base(&'static str),
    MirrorList(&'static str),
    MetaLink(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfficialRepository {
    distros: Vec<&'static str>,
    releases: Vec<&'static str>,
    pub id: &'static str,
    /// Whether it is used where the recipe names none.
    pub is_default: bool,
    /// Where it is found; with variables.
    pub address: OfficialAddress,
    /// Its path below a mirror's directory of the distribution, with variables; none where it is no part of it.
    pub path: Option<&'static str>,
    /// Name of the built-in keys that have those of its packages.
    pub keys: &'static str,
    /// Fingerprints of the keys that count.
    pub fingerprints: Vec<&'static str>,
}

static TABLE: LazyLock<Vec<OfficialRepository>> =
    LazyLock::new(|| include_str!("official.txt").lines().filter_map(read).collect());

fn read(line: &'static str) -> Option<OfficialRepository> {
    let mut words = line.split_whitespace().filter(|_| !line.starts_with('#'));
    let (distros, releases, id, usual) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let (address, path, keys) = (words.next()?, words.next()?, words.next()?);
    let (keys, fingerprints) = keys.split_once(':')?;
    let address = match (address.strip_prefix("mirrorlist:"), address.strip_prefix("metalink:")) {
        (Some(list), _) => OfficialAddress::MirrorList(list),
        (None, Some(list)) => OfficialAddress::MetaLink(list),
        (None, None) => OfficialAddress::Base(address),
    };
    Some(OfficialRepository {
        distros: distros.split(',').collect(),
        releases: releases.split(',').collect(),
        id,
        is_default: usual == "on",
        address,
        path: Some(path).filter(|path| *path != "-"),
        keys,
        fingerprints: fingerprints.split(',').collect(),
    })
}

/// The repositories of a release; empty for one that has none here. `9.4` is a release of `9`.
pub fn official_repositories(distro: Distro, release: &str) -> Vec<&'static OfficialRepository> {
    let major = release.split('.').next().unwrap_or(release);
    let is_of = |one: &&OfficialRepository| {
        let is_release = |known: &&str| *known == release || !known.contains('.') && *known == major;
        one.distros.contains(&distro.name()) && one.releases.iter().any(is_release)
    };
    TABLE.iter().filter(is_of).collect()
}

/// Releases that have repositories here, the newest last.
pub fn official_releases(distro: Distro) -> Vec<&'static str> {
    let own = TABLE.iter().filter(|one| one.is_default && one.distros.contains(&distro.name()));
    let mut found: Vec<&str> = Vec::new();
    for release in own.flat_map(|one| &one.releases) {
        if !found.contains(release) {
            found.push(release);
        }
    }
    found
}

/// Those of a release's repositories that `components` asks for: all that are usual where it is empty; `+name` adds one.
/// Errors: The first name that the release does not have.
pub fn chosen<'a>(
    all: &[&'static OfficialRepository],
    components: &'a [String],
) -> Result<Vec<&'static OfficialRepository>, &'a str> {
    let plain = |name: &'a String| name.strip_prefix('+').unwrap_or(name);
    if let Some(unknown) = components.iter().map(plain).find(|name| all.iter().all(|one| one.id != *name)) {
        return Err(unknown);
    }
    let adds = components.iter().all(|name| name.starts_with('+'));
    let is_asked =
        |one: &&&OfficialRepository| components.iter().any(|name| plain(name) == one.id) || adds && one.is_default;
    Ok(all.iter().filter(is_asked).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgp::Keyring;

    #[test]
    fn each_line_is_a_repository_whose_keys_are_built_in() {
        let lines = include_str!("official.txt").lines().filter(|line| !line.starts_with('#'));
        assert_eq!(TABLE.len(), lines.count());
        for one in TABLE.iter() {
            let keys = Keyring::built_in(one.keys, &one.fingerprints);
            assert_eq!(keys.map(|keys| keys.len()), Ok(one.fingerprints.len()), "{one:?}");
            for distro in &one.distros {
                let distro: Distro = serde_json::from_value((*distro).into()).unwrap();
                assert!(official_repositories(distro, one.releases[0]).contains(&one));
            }
        }
        assert!(Keyring::built_in("rocky", &["0000000000000000000000000000000000000000"]).is_err());
    }

    #[test]
    fn releases_and_components_choose() {
        let ids = |distro: Distro, release: &str, components: &[&str]| -> Vec<&str> {
            let components: Vec<String> = components.iter().map(|name| (*name).to_owned()).collect();
            let found = chosen(&official_repositories(distro, release), &components).map_err(str::to_owned);
            found.unwrap().iter().map(|one| one.id).collect()
        };
        assert_eq!(ids(Distro::Rocky, "9.4", &[]), ["baseos", "appstream", "extras"]);
        assert_eq!(ids(Distro::Rocky, "9", &["+crb", "+epel"]), ["baseos", "appstream", "extras", "crb", "epel"]);
        assert_eq!(ids(Distro::Alma, "8", &["baseos"]), ["baseos"]);
        assert_eq!(ids(Distro::Centos, "7", &[]), ["base", "updates", "extras"]);
        assert_eq!(ids(Distro::Opensuse, "tumbleweed", &[]), ["oss"]);
        assert!(official_repositories(Distro::Opensuse, "15.5").is_empty());
        assert!(official_repositories(Distro::Sles, "15.6").is_empty());
        let nothing = ["crbx".to_owned()];
        assert_eq!(chosen(&official_repositories(Distro::Rocky, "9"), &nothing).unwrap_err(), "crbx");
        assert_eq!(official_releases(Distro::Rocky), ["8", "9", "10"]);
        assert!(official_releases(Distro::Rhel).is_empty());
    }
}

//! Where the packages of a release come from: the recipe's own words, or the host's apt configuration.

use std::path::{Path, PathBuf};

use super::sources_file::{SignedBy, is_flat, read_sources_file};
use crate::{DistroError, without_password};
use base::source::SourceFile;
use recipe::{Distro, Image, known_releases};

/// One archive: its root and the suites and components to take from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Root of the archive, without a slash at the end.
    pub uri: String,
    /// Suites, for instance `bookworm` and `bookworm-updates`; `./` of a flat archive.
    pub suites: Vec<String>,
    /// Those of the suites that no one named, so that the archive need not have them.
    pub optional: Vec<String>,
    /// Components, for instance `main`.
    pub components: Vec<String>,
    /// Whose signatures count; none means the built-in keys of the distribution.
    pub signed_by: Option<SignedBy>,
    /// Whether it need not be signed.
    pub trusted: bool,
    /// What image.lock calls its packages' origin in place of the suite, where that is no name of its own.
    pub called: Option<String>,
    /// Whether a Release file past its `Valid-Until` is refused.
    pub check_valid_until: bool,
}

/// Debian's name of a CPU architecture; the recipe uses the kernel's (`uname -m`).
pub fn architecture(machine: &str) -> Option<&'static str> {
    Some(match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "ppc64le" => "ppc64el",
        "riscv64" => "riscv64",
        "s390x" => "s390x",
        _ => return None,
    })
}

#[derive(Debug, Clone, Default)]
pub struct HostSources {
    entries: Vec<Source>,
}

impl HostSources {
    /// Reads `/etc/apt/sources.list` and `/etc/apt/sources.list.d`.
    pub fn read(root: &Path) -> Self {
        let mut files = vec![root.join("sources.list")];
        if let Ok(entries) = std::fs::read_dir(root.join("sources.list.d")) {
            let mut more: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            more.sort();
            files.extend(more);
        }
        let mut entries = Vec::new();
        for file in files {
            let is_one = file.extension().is_some_and(|ending| ending == "list" || ending == "sources");
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            if is_one {
                entries.extend(read(&file, &text));
            }
        }
        Self { entries }
    }

    /// Files in which the host pins packages: what they say does not count for images.
    pub fn pins(root: &Path) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(root.join("preferences.d"))
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        files.push(root.join("preferences"));
        files.sort();
        let pins = |path: &PathBuf| {
            std::fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line.starts_with("Pin:")))
        };
        files.into_iter().filter(pins).collect()
    }

    /// Sources for a release: those of the host, with the suites of the release that is wanted.
    ///
    /// An archive that the host uses for any suite serves the same kind of suite (main, updates or security) of
    /// every release, so a Debian 12 host can build Debian 13.
    fn for_release(&self, archive: &Known, release: &str) -> Vec<Source> {
        let mut found: Vec<Source> = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.is_of(archive)) {
            for suite in &entry.suites {
                let (base, ending) = match suite.split_once('-') {
                    None => (suite.as_str(), ""),
                    Some((base, "updates")) => (base, "-updates"),
                    Some((base, "security")) => (base, "-security"),
                    _ => continue,
                };
                if !archive.suites.contains(&base) {
                    continue;
                }
                let wanted = format!("{release}{ending}");
                let same =
                    found.iter_mut().find(|known| known.uri == entry.uri && known.components == entry.components);
                match same {
                    Some(known) if known.suites.contains(&wanted) => {}
                    Some(known) => known.suites.push(wanted),
                    None => found.push(Source { suites: vec![wanted], ..entry.clone() }),
                }
            }
        }
        for source in &mut found {
            source.optional = optional(release, &source.suites);
        }
        found
    }
}

/// The directory of a flat archive below its root; none for other suites.
pub(crate) fn below(suite: &str) -> Option<&str> {
    let directory = suite.strip_suffix('/')?;
    Some(directory.strip_prefix("./").unwrap_or(if directory == "." { "" } else { directory }).trim_matches('/'))
}

/// What a distribution's own archives look like; hosts have others too.
struct Known {
    distro: Distro,
    suites: Vec<&'static str>,
    components: &'static [&'static str],
    /// How the file with its keys is called on hosts.
    keyring: &'static str,
    /// The components that a mirror is asked for.
    usual: &'static [&'static str],
}

impl Known {
    fn of(distro: Distro) -> Self {
        let suites = known_releases(distro);
        match distro {
            Distro::Ubuntu => Self {
                distro,
                suites,
                components: &["main", "restricted", "universe", "multiverse"],
                keyring: "ubuntu-archive",
                // As Ubuntu's own hosts have it: what clusters install stands in `universe`, NVIDIA's drivers in `restricted`.
                usual: &["main", "restricted", "universe", "multiverse"],
            },
            _ => Self {
                distro,
                suites,
                components: &["main", "contrib", "non-free", "non-free-firmware"],
                keyring: "debian-archive",
                usual: &["main"],
            },
        }
    }
}

/// An archive that has a release need not have its updates, or no longer.
fn optional(release: &str, suites: &[String]) -> Vec<String> {
    suites.iter().filter(|suite| *suite != release).cloned().collect()
}

/// Keeps only the suites that the recipe names; these have to be there.
/// Errors: [`DistroError::NoSource`] for one that the sources do not have.
pub fn only_suites(sources: Vec<Source>, named: &[String]) -> Result<Vec<Source>, DistroError> {
    let known: Vec<String> = sources.iter().flat_map(|source| source.suites.clone()).collect();
    if let Some(name) = named.iter().find(|name| !known.contains(name)) {
        return Err(DistroError::NoSource {
            problem: format!("‹[[repo]]› asks this host's archives for the suite `{name}`"),
            help: format!("they serve {}; give another archive with `uri`", known.join(", ")),
        });
    }
    let kept = sources.into_iter().map(|source| {
        let suites = source.suites.iter().filter(|suite| named.contains(suite)).cloned().collect();
        Source { suites, optional: Vec::new(), ..source }
    });
    Ok(kept.filter(|source| !source.suites.is_empty()).collect())
}

impl Source {
    /// What image.lock calls the origin of a suite's packages.
    pub fn origin(&self, suite: &str) -> String {
        self.called.as_ref().map_or_else(|| suite.to_owned(), |called| format!("{called}:{suite}"))
    }

    pub fn base(&self, suite: &str) -> String {
        match below(suite) {
            None => format!("{}/dists/{suite}", self.uri),
            Some("") => self.uri.clone(),
            Some(directory) => format!("{}/{directory}", self.uri),
        }
    }

    /// Whether an entry of a host's configuration looks like a distribution's own archive.
    fn is_of(&self, archive: &Known) -> bool {
        let components = self.components.iter().all(|name| archive.components.contains(&name.as_str()));
        // A key may also stand in the file itself; the built-in ones do for the distribution.
        let keyring = match &self.signed_by {
            Some(SignedBy::File(path)) => path.file_name().and_then(|name| name.to_str()),
            _ => None,
        };
        components && keyring.is_none_or(|name| name.starts_with(archive.keyring))
    }
}

/// The archives of one of the host's files that could be the distribution's.
fn read(path: &Path, text: &str) -> Vec<Source> {
    let (entries, _) = read_sources_file(&SourceFile::new(path.display().to_string(), path, text));
    let usable = entries.into_iter().filter(|entry| !entry.trusted && !entry.suites.iter().any(|suite| is_flat(suite)));
    usable
        .map(|entry| Source {
            uri: entry.uri,
            suites: entry.suites,
            optional: Vec::new(),
            components: entry.components,
            signed_by: entry.signed_by,
            trusted: false,
            called: None,
            check_valid_until: true,
        })
        .collect()
}

/// The sources of a release from the host's configuration, or from one mirror given by the user.
///
/// With a mirror, `main` and updates come from it, and security from its sibling `debian-security`, which is how
/// Debian's mirrors are laid out; Ubuntu's have security updates in the same archive, and other CPUs than the PC's in the
/// sibling `ubuntu-ports`.
/// Errors: [`DistroError::NoSource`] when the host has none.
pub fn sources_for(image: &Image, host: &HostSources, mirror: Option<&str>) -> Result<Vec<Source>, DistroError> {
    let (release, archive) = (image.release.as_str(), Known::of(image.distro));
    // The archive's own name for the two kinds of CPUs.
    let is_port = image.distro == Distro::Ubuntu && image.arch.machine() != "x86_64";
    if let Some(mirror) = mirror {
        let uri = without_password(mirror.trim_end_matches('/'));
        let source = |uri: String, suites: Vec<String>| Source {
            uri,
            optional: optional(release, &suites),
            suites,
            components: archive.usual.iter().map(|name| (*name).to_owned()).collect(),
            signed_by: None,
            trusted: false,
            called: None,
            check_valid_until: true,
        };
        let mut suites = vec![release.to_owned(), format!("{release}-updates")];
        if archive.distro == Distro::Ubuntu {
            suites.push(format!("{release}-security"));
            let ports = if is_port && uri.ends_with("/ubuntu") { "-ports" } else { "" };
            return Ok(vec![source(format!("{uri}{ports}"), suites)]);
        }
        let mut found = vec![source(uri.clone(), suites)];
        if uri.ends_with("/debian") {
            found.push(source(format!("{uri}-security"), vec![format!("{release}-security")]));
        }
        return Ok(found);
    }
    let mut found = host.for_release(&archive, release);
    if archive.distro == Distro::Ubuntu {
        found.retain(|source| source.uri.ends_with("-ports") == is_port);
    }
    if found.is_empty() {
        let title = archive.distro.title();
        let what = if is_port { format!("{title} archive of ports") } else { format!("{title} archive") };
        return Err(DistroError::NoSource {
            problem: format!("this host's apt configuration names no {what}"),
            help: "give one in the recipe (‹[[repo]] uri = \"...\", suites = [\"...\"], components = [\"...\"]›), with `--mirror URL`, or in IMGBUILD_MIRROR".to_owned(),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(distro: &str, release: &str) -> Image {
        let text = serde_json::json!({ "name": "a", "distro": distro, "release": release });
        serde_json::from_value(text).unwrap()
    }

    fn parse_stanzas(text: &str) -> Vec<Source> {
        read(Path::new("debian.sources"), text)
    }

    #[test]
    fn another_release_comes_from_the_same_archives() {
        let text = "Types: deb\nURIs: http://m/debian\nSuites: bookworm bookworm-updates bookworm-backports\nComponents: main\n\n\
                    Types: deb\nURIs: http://m/debian-security\nSuites: bookworm-security\nComponents: main\n";
        let host = HostSources { entries: parse_stanzas(text) };
        let found = sources_for(&image("debian", "trixie"), &host, None).unwrap();
        assert_eq!(found[0].suites, ["trixie", "trixie-updates"]);
        assert_eq!(found[1].suites, ["trixie-security"]);
        assert!(sources_for(&image("debian", "trixie"), &HostSources::default(), None).is_err());
    }

    #[test]
    fn pins_of_a_host_are_found() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::create_dir_all(root.path().join("preferences.d")).unwrap();
            std::fs::write(root.path().join(name), text).unwrap();
        };
        write("preferences.d/empty", "# Pin: release a=x\n");
        assert!(HostSources::pins(root.path()).is_empty());
        write("preferences.d/backports", "Package: *\nPin: release n=bookworm-backports\nPin-Priority: 600\n");
        assert_eq!(HostSources::pins(root.path()), [root.path().join("preferences.d/backports")]);
    }

    #[test]
    fn a_host_may_have_archives_of_both() {
        let text = "Types: deb\nURIs: http://m/debian\nSuites: bookworm\nComponents: main\n\n\
                    Types: deb\nURIs: http://u/ubuntu\nSuites: jammy jammy-updates jammy-security\nComponents: main universe\n\
                    Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n\n\
                    Types: deb\nURIs: http://p/ubuntu-ports\nSuites: jammy\nComponents: main\n";
        let host = HostSources { entries: parse_stanzas(text) };
        let debian = sources_for(&image("debian", "trixie"), &host, None).unwrap();
        assert_eq!(debian.iter().map(|one| one.uri.as_str()).collect::<Vec<_>>(), ["http://m/debian"]);
        let ubuntu = sources_for(&image("ubuntu", "noble"), &host, None).unwrap();
        assert_eq!(ubuntu.len(), 1);
        assert_eq!(ubuntu[0].suites, ["noble", "noble-updates", "noble-security"]);
        let mirror = sources_for(&image("ubuntu", "noble"), &host, Some("http://m/ubuntu/")).unwrap();
        assert_eq!((mirror.len(), mirror[0].uri.as_str()), (1, "http://m/ubuntu"));
        assert_eq!(mirror[0].suites, ["noble", "noble-updates", "noble-security"]);
        assert!(mirror[0].components.iter().any(|name| name == "universe"));
        let only = HostSources { entries: parse_stanzas(text.split("\n\n").next().unwrap()) };
        let error = sources_for(&image("ubuntu", "noble"), &only, None).unwrap_err();
        assert!(error.to_string().contains("names no Ubuntu archive"), "{error}");
    }

    #[test]
    fn suites_that_nobody_named_may_be_missing_and_named_ones_may_not() {
        let found = sources_for(&image("debian", "trixie"), &HostSources::default(), Some("http://m/debian")).unwrap();
        assert_eq!(found[0].optional, ["trixie-updates"]);
        assert_eq!(found[1].optional, ["trixie-security"]);
        let named = ["trixie", "trixie-updates"].map(str::to_owned);
        let kept = only_suites(found.clone(), &named).unwrap();
        assert_eq!((kept.len(), &kept[0].suites[..], &kept[0].optional[..]), (1, &named[..], &[][..]));
        let error = only_suites(found, &["bookworm".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("`bookworm`"), "{error}");
    }
}

//! Media of SUSE up to SLES 12: `content`, which may be signed, names `packages.gz` with its digest, and that has the packages in
//! susetags. Source: libzypp and libsolv (repo_susetags.c), <https://en.opensuse.org/openSUSE:Standards_YaST2_Repository_Metadata>.

use std::io::{BufRead, BufReader, Read};

use super::primary::check_words;
use super::repomd::is_below;
use crate::rpm::decompress::{Limited, decompressed};
use crate::rpm::relations::candidate::PRIORITY;
use crate::rpm::{Candidate, Capability, Checksum, Evr, Repository, RepositorySource, Requirement};
use crate::{DistroError, Fetcher, verify_package};

/// Largest `content`, in bytes.
const CONTENT_LIMIT: u64 = 16 << 20;
/// Largest `packages`, in bytes, packed and unpacked; that of SLES 12 SP5 has 12 MB.
const PACKAGES_LIMIT: u64 = 512 << 20;

#[derive(Debug, Default, PartialEq, Eq)]
struct Content {
    /// Below which packages lie, by architecture.
    data: String,
    descriptions: String,
    /// The description of packages: its name, and its digest or why that is not believed.
    packages: Option<(String, Result<Checksum, String>)>,
}

impl Content {
    fn parse(text: &str) -> Result<Self, String> {
        let mut content = Self { data: "suse".to_owned(), descriptions: "suse/setup/descr".to_owned(), packages: None };
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["DATADIR", path] => path.trim_end_matches('/').clone_into(&mut content.data),
                ["DESCRDIR", path] => path.trim_end_matches('/').clone_into(&mut content.descriptions),
                ["META", kind, digits, name] if name == "packages" || name == "packages.gz" => {
                    let is_packed = content.packages.as_ref().is_some_and(|(known, _)| known.ends_with(".gz"));
                    if !is_packed {
                        let checksum = Checksum::parse(&kind.to_ascii_lowercase(), digits);
                        content.packages = Some((name.to_owned(), checksum));
                    }
                }
                _ => {}
            }
        }
        for path in [&content.data, &content.descriptions] {
            if !is_below(path) || path.contains(['?', '#']) {
                return Err(format!("names a directory outside the medium: `{}`", path.escape_default()));
            }
        }
        Ok(content)
    }
}

#[derive(Clone, Copy)]
enum List {
    Provides,
    Requires,
    /// What scripts need before or while the package is installed.
    Before,
    Conflicts,
    Obsoletes,
    Recommends,
    Suggests,
    Supplements,
    Enhances,
    /// Not used here.
    Other,
}

/// A package as far as it is read.
struct Begun {
    candidate: Candidate,
    checksum: Option<Checksum>,
    before: Vec<Capability>,
    /// Number of its disc, from 1.
    disc: usize,
}

/// Reads `packages`; source packages are passed over. Each with the number of its disc.
/// Errors: A text that says what is wrong and in which line.
fn packages(data: impl BufRead, directory: &str) -> Result<Vec<(Candidate, usize)>, String> {
    let mut found = Vec::new();
    let mut begun: Option<Begun> = None;
    let mut list: Option<(String, List)> = None;
    for (number, line) in data.lines().enumerate() {
        let said = |problem: String| format!("{problem} (line {})", number + 1);
        let line = line.map_err(|error| said(format!("cannot be read: {error}")))?;
        let line = line.trim_end();
        if let Some((end, kind)) = &list {
            if line == end {
                list = None;
            } else if let Some(one) = begun.as_mut() {
                one.add(*kind, line);
            }
            continue;
        }
        let Some((tag, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match (tag.get(..1), tag.get(1..)) {
            (Some("+"), Some(name)) => {
                let kind = match name {
                    "Prv" => List::Provides,
                    "Req" => List::Requires,
                    "Prq" => List::Before,
                    "Con" => List::Conflicts,
                    "Obs" => List::Obsoletes,
                    "Rec" => List::Recommends,
                    "Sug" => List::Suggests,
                    "Sup" => List::Supplements,
                    "Enh" => List::Enhances,
                    _ => List::Other,
                };
                list = Some((format!("-{name}:"), kind));
            }
            (Some("="), Some("Pkg")) => {
                found.extend(begun.take().map(|one| one.finish(directory)).transpose().map_err(said)?.flatten());
                begun = Some(Begun::of(value).map_err(said)?);
            }
            (Some("="), Some(name)) => {
                if let Some(one) = begun.as_mut() {
                    one.set(name, value).map_err(said)?;
                }
            }
            _ => {}
        }
    }
    if list.is_some() {
        return Err("ends in the middle of a package".to_owned());
    }
    found.extend(begun.map(|one| one.finish(directory)).transpose()?.flatten());
    Ok(found)
}

impl Begun {
    fn of(value: &str) -> Result<Self, String> {
        let words: Vec<&str> = value.split_whitespace().collect();
        let [name, version, release, arch] = words[..] else {
            return Err(format!("`=Pkg: {}` is not name, version, release and architecture", value.escape_default()));
        };
        let evr = Evr::parse(&format!("{version}-{release}"));
        let candidate = Candidate { name: name.to_owned(), arch: arch.to_owned(), evr, ..Candidate::nothing() };
        Ok(Self { candidate, checksum: None, before: Vec::new(), disc: 1 })
    }

    fn set(&mut self, tag: &str, value: &str) -> Result<(), String> {
        let words: Vec<&str> = value.split_whitespace().collect();
        let name = self.candidate.name.escape_default();
        match (tag, &words[..]) {
            ("Cks", [kind, digits]) => {
                let parsed = Checksum::parse(&kind.to_ascii_lowercase(), digits);
                self.checksum = Some(parsed.map_err(|problem| format!("{problem} for the package `{name}`"))?);
            }
            ("Loc", [disc, file, directory @ ..]) => {
                self.disc = disc.parse().ok().filter(|disc| (1..100).contains(disc)).unwrap_or(1);
                let directory = directory.first().copied().unwrap_or(&self.candidate.arch);
                self.candidate.location = format!("{directory}/{file}");
            }
            ("Siz", [packed, installed, ..]) => {
                self.candidate.size = packed.parse().map_err(|_| format!("has a package `{name}` without a size"))?;
                self.candidate.installed_size = installed.parse().unwrap_or(0);
            }
            ("Src", [name, version, release, arch]) => {
                self.candidate.source = Some(format!("{name}-{version}-{release}.{arch}.rpm"));
            }
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, list: List, line: &str) {
        let capability = Capability::parse(line);
        let candidate = &mut self.candidate;
        match list {
            // Paths among what is provided are files.
            List::Provides if line.starts_with('/') => candidate.files.push(line.to_owned()),
            List::Provides => candidate.provides.push(capability),
            List::Requires => candidate.requires.push(Requirement { capability, pre: false }),
            List::Before => self.before.push(capability),
            List::Conflicts => candidate.conflicts.push(capability),
            List::Obsoletes => candidate.obsoletes.push(capability),
            List::Recommends => candidate.weak.recommends.push(capability),
            List::Suggests => candidate.weak.suggests.push(capability),
            List::Supplements => candidate.weak.supplements.push(capability),
            List::Enhances => candidate.weak.enhances.push(capability),
            List::Other => {}
        }
    }

    fn finish(mut self, directory: &str) -> Result<Option<(Candidate, usize)>, String> {
        if matches!(self.candidate.arch.as_str(), "src" | "nosrc") {
            return Ok(None);
        }
        for capability in self.before {
            match self.candidate.requires.iter_mut().find(|one| one.capability == capability) {
                Some(known) => known.pre = true,
                None => self.candidate.requires.push(Requirement { capability, pre: true }),
            }
        }
        let name = self.candidate.name.escape_default();
        self.candidate.checksum = self.checksum.ok_or_else(|| format!("has a package `{name}` without a digest"))?;
        if self.candidate.location.is_empty() || self.candidate.size == 0 {
            return Err(format!("has a package `{name}` without a path or a size"));
        }
        self.candidate.location = format!("{directory}/{}", self.candidate.location);
        check_words(&self.candidate)?;
        Ok(Some((self.candidate, self.disc)))
    }
}

/// Address of another disc beside that of the first: `.../1`, `.../DVD1` and `.../sdk1` lie beside `.../2` and so on; none where the
/// first is not called so, and all are one. Source: libzypp's media sets.
fn disc(base: &str, number: usize) -> Option<String> {
    let (place, name) = base.rsplit_once('/')?;
    let word = name.strip_suffix('1').filter(|_| number > 1)?;
    let is_disc = ["", "cd", "dvd", "disc", "media", "sdk"].iter().any(|known| word.eq_ignore_ascii_case(known));
    is_disc.then(|| format!("{place}/{word}{number}"))
}

/// Fetches and reads a medium.
/// Errors: [`DistroError`]; `NotThere` where there is no `content` either.
pub(crate) fn fetch_medium(
    fetcher: &Fetcher,
    source: &RepositorySource,
    base: &str,
) -> Result<Repository, DistroError> {
    let url = format!("{base}/content");
    let bytes = fetcher.read(&url, CONTENT_LIMIT)?;
    let wrong = |file: &str, problem: String| DistroError::Format { file: file.to_owned(), problem };
    if source.repo_gpgcheck {
        let bad = |problem: String| {
            DistroError::Signature {
            file: "content".to_owned(),
            place: base.to_owned(),
            problem,
            help: "name the keys that sign this medium: ‹[[repo]] signed-by = \"keys/RPM-GPG-KEY-...\"›; if only its packages are signed: ‹check-index = false›".to_owned(),
        }
        };
        let keys = source.keys.as_ref().ok_or_else(|| bad("no key is given for it".to_owned()))?;
        let signature = fetcher.read(&format!("{url}.asc"), CONTENT_LIMIT).map_err(|error| match error {
            DistroError::NotThere { .. } => bad("there is no content.asc next to it".to_owned()),
            other => other,
        })?;
        verify_package(&bytes, &signature, keys).map_err(bad)?;
    }
    let content = Content::parse(&String::from_utf8_lossy(&bytes)).map_err(|problem| wrong(&url, problem))?;
    let Some((name, checksum)) = content.packages else {
        return Err(wrong(&url, "names no `packages.gz`, which describes the packages".to_owned()));
    };
    let checksum = checksum.map_err(|problem| wrong(&url, format!("{problem} for `{name}`")))?;
    let place = format!("{base}/{}/{name}", content.descriptions);
    let packed = fetcher.read(&place, PACKAGES_LIMIT)?;
    if !checksum.fits(&packed) {
        return Err(wrong(&place, format!("does not match the expected digest {checksum}")));
    }
    let plain = decompressed(&packed[..]).map_err(|error| wrong(&place, format!("cannot be unpacked: {error}")))?;
    let plain: BufReader<Limited<Box<dyn Read + '_>>> = BufReader::new(Limited::new(plain, PACKAGES_LIMIT));
    let found = packages(plain, &content.data).map_err(|problem| wrong(&place, problem))?;
    let candidates = found.into_iter().map(|(candidate, number)| Candidate { base: disc(base, number), ..candidate });
    Ok(Repository {
        id: source.id.clone(),
        bases: vec![base.to_owned()],
        repomd: bytes,
        candidates: candidates.collect(),
        priority: source.priority.unwrap_or(PRIORITY),
        module_hotfixes: source.module_hotfixes,
        exclude: source.exclude.clone(),
        include: source.include.clone(),
        ..Repository::default()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = "=Ver: 2.0\n##---\n=Pkg: one 1:2.0 3.1 x86_64\n=Cks: SHA256 e011028fab79f62f5cae06547908e034ad17d5f1828433aa6816ed9fde429849\n\
        +Req:\nlibc.so.6()(64bit)\nbash >= 4\n-Req:\n+Prq:\nbash >= 4\n/bin/sh\n-Prq:\n+Prv:\none = 1:2.0-3.1\n/usr/bin/one\n-Prv:\n\
        +Sup:\nmodalias(pci:v1d*)\n-Sup:\n=Loc: 2 one-2.0-3.1.x86_64.rpm\n=Siz: 100 200\n=Pkg: one 1:2.0 3.1 src\n";

    #[test]
    fn packages_are_read() {
        let found = packages(ONE.as_bytes(), "suse").unwrap();
        let [(one, 2)] = &found[..] else { panic!("{found:?}") };
        assert_eq!(one.nevra(), "one-1:2.0-3.1.x86_64");
        assert_eq!((one.location.as_str(), one.size), ("suse/x86_64/one-2.0-3.1.x86_64.rpm", 100));
        let requires: Vec<(String, bool)> =
            one.requires.iter().map(|one| (one.capability.to_string(), one.pre)).collect();
        let expected = [("libc.so.6()(64bit)", false), ("bash >= 4", true), ("/bin/sh", true)];
        assert_eq!(requires, expected.map(|(name, pre)| (name.to_owned(), pre)));
        assert_eq!((one.files.as_slice(), one.provides.len()), (&["/usr/bin/one".to_owned()][..], 1));
        assert_eq!(disc("http://h/x86_64/1", 2).as_deref(), Some("http://h/x86_64/2"));
        assert!(disc("http://h/x86_64/1", 1).is_none() && disc("http://h/SLES-SP1", 2).is_none());
        assert_eq!(
            disc("file:/install/sles11.4/x86_64/sdk1", 2).as_deref(),
            Some("file:/install/sles11.4/x86_64/sdk2")
        );
        assert_eq!(disc("http://h/DVD1", 3).as_deref(), Some("http://h/DVD3"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (from, to, problem) in [
            ("=Pkg: one 1:2.0 3.1 x86_64", "=Pkg: one", "is not name, version, release and architecture (line 3)"),
            ("SHA256 e0", "SHA1 e0", "too weak"),
            ("SHA256 e0", "SHA256 xx", "an invalid sha256 digest"),
            ("=Siz: 100 200\n", "", "without a path or a size"),
            ("one-2.0-3.1.x86_64.rpm", "../..", "outside the repository"),
            ("=Pkg: one", "=Pkg: -one", "a bad name"),
            ("-Sup:\n", "", "middle of a package"),
        ] {
            let text = ONE.replacen(from, to, 1);
            assert_ne!(text, ONE);
            let said = packages(text.as_bytes(), "suse").unwrap_err();
            assert!(said.contains(problem), "{said}");
        }
        assert!(Content::parse("DATADIR ../x\n").unwrap_err().contains("outside"));
        let content = Content::parse("META SHA1 00 packages.gz\n").unwrap();
        assert!(content.packages.unwrap().1.unwrap_err().contains("too weak"));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "([=+-](Pkg|Req|Prv|Loc|Siz|Cks)?: ?[a-z0-9/ .-]{0,20}\n?|\\PC|\n){0,30}") {
            let _ = packages(text.as_bytes(), "suse");
            let _ = Content::parse(&text);
        }
    }
}

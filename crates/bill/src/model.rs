//! The bill of an image, before it has a form.

use std::collections::{BTreeMap, BTreeSet};

use base::digest::Sha256;
use recipe::{Family, Lock, family_of, plain_version};

use crate::contents::{Contents, OwnFile};
use crate::image::Image;
use crate::purl::{Kind, purl};

/// A source package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    pub name: String,
    /// Empty where only the name is known.
    pub version: String,
}

impl Source {
    /// Reads the field `Source` of a Debian package: a name, and in brackets a version unlike that of the package. Source:
    /// deb-control(5).
    pub(crate) fn of_debian(field: &str, version: &str) -> Self {
        let (name, own) = field.split_once(' ').unwrap_or((field, ""));
        let own = own.trim().trim_start_matches('(').trim_end_matches(')');
        Self { name: name.to_owned(), version: if own.is_empty() { version } else { own }.to_owned() }
    }
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    /// As the package manager writes it.
    pub version: String,
    pub architecture: String,
    pub source: Option<Source>,
    /// Who maintains it.
    pub supplier: Option<String>,
    /// The package's file, where image.lock pins it.
    pub sha256: Option<Sha256>,
}

/// A form of bills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// SPDX 2.3, JSON.
    Spdx,
    /// CycloneDX 1.6, JSON.
    CycloneDx,
}

/// The bill of an image.
#[derive(Debug)]
pub struct Bill {
    pub(crate) image: Image,
    kind: Kind,
    /// Package URLs' namespace: the distribution.
    namespace: String,
    /// Their qualifier `distro`.
    distro: String,
    /// By name, architecture and version.
    pub packages: Vec<Package>,
    pub files: Vec<OwnFile>,
    /// Whether the package database was read, so that files of no package are known.
    pub has_database: bool,
    /// The lock that the image was built by.
    pub(crate) lock: Option<Sha256>,
}

/// The namespace in package URLs of a distribution that calls itself so in os-release, where it is another word. Source: the
/// purl-spec's types, and the package URLs of Red Hat's and SUSE's own data.
fn namespace(id: &str) -> &str {
    match id {
        "rhel" => "redhat",
        "sles" | "sled" | "sle-micro" => "suse",
        "opensuse-leap" | "opensuse-tumbleweed" => "opensuse",
        other => other,
    }
}

/// Whether a lock is the one that an image was built by, as far as the image shows: epoch and target are the image's, it installs
/// something, and all of that is there.
pub fn is_lock_of(lock: &Lock, image: &Image, contents: &Contents) -> bool {
    let installs = lock.in_image();
    if installs.is_empty() {
        return false;
    }
    let Some(packages) = &contents.packages else { return is_lock_like(lock, image) };
    let there: BTreeSet<(&str, &str, &str)> = packages
        .iter()
        .map(|one| (one.name.as_str(), plain_version(&one.version), one.architecture.as_str()))
        .collect();
    let is_there = |one: recipe::InImage<'_>| there.contains(&(one.name, plain_version(one.version), one.architecture));
    is_lock_like(lock, image) && (installs.into_iter().all(is_there) || fault::planted("bill-any-lock"))
}

fn is_lock_like(lock: &Lock, image: &Image) -> bool {
    lock.epoch == image.epoch && lock.target == image.target
}

impl Bill {
    /// The bill of a published image; `lock` is a lock beside it with the digest of its text, which counts where it is that of the build.
    pub fn of(image: Image, contents: Contents, lock: Option<(&Lock, Sha256)>) -> Self {
        let lock = lock.filter(|(lock, _)| is_lock_like(lock, &image));
        let is_whole = lock.is_some_and(|(lock, _)| is_lock_of(lock, &image, &contents));
        let mut words = image.target.split(' ');
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let field = |name: &str| contents.release.get(name).filter(|text| !text.is_empty());
        let id = field("ID").map_or(first, String::as_str);
        let version = field("VERSION_ID").or(field("VERSION_CODENAME")).map_or(second, String::as_str);
        let (namespace, distro) = (namespace(id).to_owned(), format!("{id}-{version}"));
        let kind = contents.kind.unwrap_or(match family_of(&image.target) {
            Family::Debian => Kind::Deb,
            _ => Kind::Rpm,
        });
        let has_database = contents.packages.is_some();
        let of_lock = || {
            let all = lock.iter().flat_map(|(lock, _)| lock.in_image());
            all.map(|one| Package {
                name: one.name.to_owned(),
                version: plain_version(one.version).to_owned(),
                architecture: one.architecture.to_owned(),
                source: None,
                supplier: None,
                sha256: None,
            })
            .collect()
        };
        let mut packages = contents.packages.unwrap_or_else(of_lock);
        let pinned: BTreeMap<(&str, &str, &str), Sha256> = lock
            .iter()
            .flat_map(|(lock, _)| lock.in_image())
            .filter_map(|one| Some(((one.name, one.architecture, plain_version(one.version)), one.brought?.1.sha256)))
            .collect();
        for one in &mut packages {
            let key = (one.name.as_str(), one.architecture.as_str(), plain_version(&one.version));
            one.sha256 = pinned.get(&key).copied();
        }
        packages.sort_by(|a, b| (&a.name, &a.architecture, &a.version).cmp(&(&b.name, &b.architecture, &b.version)));
        packages.dedup_by(|a, b| (&a.name, &a.architecture, &a.version) == (&b.name, &b.architecture, &b.version));
        let lock = lock.filter(|_| is_whole).map(|(_, digest)| digest);
        Self { image, kind, namespace, distro, packages, files: contents.files.unwrap_or_default(), has_database, lock }
    }

    /// Whether the lock is that of the build.
    pub fn has_lock(&self) -> bool {
        self.lock.is_some()
    }

    /// Package URL of a package, with its source where that is another name or version.
    pub(crate) fn purl(&self, one: &Package) -> String {
        let upstream = match &one.source {
            Some(source)
                if source.name == one.name && [one.version.as_str(), ""].contains(&source.version.as_str()) =>
            {
                String::new()
            }
            Some(source) if [one.version.as_str(), ""].contains(&source.version.as_str()) => source.name.clone(),
            Some(source) => format!("{}@{}", source.name, source.version),
            None => String::new(),
        };
        let qualifiers = [("arch", one.architecture.as_str()), ("distro", &self.distro), ("upstream", &upstream)];
        purl(self.kind, &self.namespace, &one.name, &one.version, &qualifiers)
    }

    /// Package URL of a source package.
    pub(crate) fn source_purl(&self, source: &Source) -> String {
        let qualifiers = [("arch", self.kind.source_architecture()), ("distro", self.distro.as_str())];
        purl(self.kind, &self.namespace, &source.name, &source.version, &qualifiers)
    }

    /// The document, with a newline at its end: the same bytes for the same image.
    pub fn document(&self, format: Format) -> String {
        let document = match format {
            Format::Spdx => crate::forms::spdx::document(self),
            Format::CycloneDx => crate::forms::cyclonedx::document(self),
        };
        format!("{document:#}\n")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::contents::tests::contents;
    use crate::image::tests::{read, sample};

    /// The lock of the sample image, with some packages.
    pub(crate) fn lock(packages: &[(&str, &str)]) -> Lock {
        let rows: String = packages
            .iter()
            .map(|(name, version)| {
                let sha256 = Sha256::of(name.as_bytes());
                format!("{{ name = \"{name}\", version = \"{version}\", arch = \"amd64\", size = 1, sha256 = \"{sha256}\", origin = \"main\", file = \"{name}.deb\" }},")
            })
            .collect();
        let text = format!(
            "format = 1\nminor = 7\nepoch = 1793491200\ntarget = \"debian 12 x86_64\"\nsuite = []\n[[pass]]\nname = \"tools\"\ninstall = []\npackages = [\n\
             {{ name = \"apt\", version = \"2\", arch = \"amd64\", size = 1, sha256 = \"{}\", origin = \"main\", file = \"apt.deb\" }},\n]\n\
             [[pass]]\nname = \"base\"\ninstall = []\npackages = [{rows}]\n",
            Sha256::of(b"apt")
        );
        Lock::parse(&text).unwrap()
    }

    pub(crate) const INSTALLED: [(&str, &str); 2] = [("libc6", "2.36-9+deb12u9"), ("python3", "3.11.2-1+b1")];

    pub(crate) fn bill(lock: Option<&Lock>) -> Bill {
        let lock = lock.map(|lock| (lock, Sha256::of(lock.to_text().as_bytes())));
        Bill::of(read(&sample()).unwrap(), contents(), lock)
    }

    #[test]
    fn package_urls_have_the_source_where_it_is_another() {
        let bill = bill(None);
        let urls: Vec<String> = bill.packages.iter().map(|one| bill.purl(one)).collect();
        assert_eq!(
            urls,
            [
                "pkg:deb/debian/libc6@2.36-9%2Bdeb12u9?arch=amd64&distro=debian-12&upstream=glibc",
                "pkg:deb/debian/python3@3.11.2-1%2Bb1?arch=amd64&distro=debian-12&upstream=python3-defaults%403.11.2-1",
            ]
        );
    }

    #[test]
    fn a_source_package_has_the_architecture_that_its_kind_has() {
        let mut bill = bill(None);
        let source = Source { name: "bash".to_owned(), version: "5.1-1".to_owned() };
        assert_eq!(bill.source_purl(&source), "pkg:deb/debian/bash@5.1-1?arch=source&distro=debian-12");
        bill.kind = Kind::Rpm;
        assert_eq!(bill.source_purl(&source), "pkg:rpm/debian/bash@5.1-1?arch=src&distro=debian-12");
    }

    #[test]
    fn digests_are_those_of_the_build_s_own_lock() {
        let whole = lock(&INSTALLED);
        let own = bill(Some(&whole));
        assert!(own.lock.is_some());
        assert_eq!(own.packages[0].sha256, Some(Sha256::of(b"libc6")));
        // A package of it is not in the image: it was updated since, but what is the same is pinned all the same.
        let later = bill(Some(&lock(&[INSTALLED[0], ("python3", "3.11.2-2")])));
        assert_eq!((later.lock, later.packages[1].sha256), (None, None));
        assert_eq!(later.packages[0].sha256, Some(Sha256::of(b"libc6")));
        // One that installs nothing says nothing of the image.
        let empty = lock(&[]);
        assert_eq!(bill(Some(&empty)).lock, None);
        assert!(!is_lock_of(&empty, &read(&sample()).unwrap(), &Contents::default()));
        let mut other = whole.clone();
        other.epoch += 86_400;
        assert!(bill(Some(&other)).packages.iter().all(|one| one.sha256.is_none()));
    }

    #[test]
    fn without_a_database_the_lock_says_what_is_installed() {
        let lock = lock(&INSTALLED);
        let bill = Bill::of(read(&sample()).unwrap(), Contents::default(), Some((&lock, Sha256::of(b""))));
        let names: Vec<&str> = bill.packages.iter().map(|one| one.name.as_str()).collect();
        assert!(names == ["libc6", "python3"] && !bill.has_database && bill.files.is_empty());
        assert_eq!(bill.purl(&bill.packages[0]), "pkg:deb/debian/libc6@2.36-9%2Bdeb12u9?arch=amd64&distro=debian-12");
    }
}

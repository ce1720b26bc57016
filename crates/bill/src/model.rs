//! The bill of an image, before it has a form.

use std::collections::{BTreeMap, BTreeSet};

use advisories::Part;
use base::digest::Sha256;
use recipe::{Family, Lock, family_of, plain_version};

use crate::contents::{Contents, OwnFile};
use crate::image::Image;
use crate::purl::{Kind, purl, purl_of_type};

/// A source package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    pub name: String,
    /// Empty where only the name is known.
    pub version: String,
    /// The source package's file, which is what RPM packages name; empty of others.
    pub file: String,
}

impl Source {
    /// Reads the field `Source` of a Debian package: a name, and in brackets a version unlike that of the package. Source:
    /// deb-control(5).
    pub(crate) fn of_debian(field: &str, version: &str) -> Self {
        let (name, own) = field.split_once(' ').unwrap_or((field, ""));
        let own = own.trim().trim_start_matches('(').trim_end_matches(')');
        Self {
            name: name.to_owned(),
            version: if own.is_empty() { version } else { own }.to_owned(),
            file: String::new(),
        }
    }

    /// Reads the name of a source package's file as RPM packages have it: `bash-5.1.8-9.el9.src.rpm`. It has no epoch. None for another
    /// text. Source: rpm's tag SOURCERPM.
    pub(crate) fn of_rpm(file: &str) -> Option<Self> {
        let stem = file.strip_suffix(".rpm")?;
        let stem = stem.strip_suffix(".src").or(stem.strip_suffix(".nosrc"))?;
        let (rest, release) = stem.rsplit_once('-')?;
        let (name, version) = rest.rsplit_once('-')?;
        let is_plain = !name.is_empty() && !file.contains(|one: char| one.is_control() || one == '/');
        is_plain.then(|| Self { name: name.to_owned(), version: format!("{version}-{release}"), file: file.to_owned() })
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

    /// Package URL of a package, with its source: of RPM packages by its file, of others where that is another name or version.
    /// Source: what syft writes and grype reads.
    pub(crate) fn purl(&self, one: &Package) -> String {
        let upstream = match &one.source {
            Some(source) if !source.file.is_empty() => source.file.clone(),
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

    /// What files of no package are made of, each once: by package URL, with the files. What is also installed as a package is left out.
    pub(crate) fn parts(&self) -> BTreeMap<String, (&Part, Vec<&str>)> {
        let installed: BTreeSet<String> = self.packages.iter().map(|one| self.purl(one)).collect();
        let mut all: BTreeMap<String, (&Part, Vec<&str>)> = BTreeMap::new();
        for (file, part) in self.files.iter().flat_map(|file| file.parts.iter().map(move |part| (file, part))) {
            let url = self.purl_of_part(part);
            if !installed.contains(&url) {
                all.entry(url).or_insert((part, Vec::new())).1.push(&file.path);
            }
        }
        all
    }

    fn purl_of_part(&self, part: &Part) -> String {
        if let Some(kind) = part.ecosystem.purl_type() {
            return purl_of_type(kind, &part.name, &part.version);
        }
        let (name, version) = part.source.clone().unwrap_or_default();
        self.purl(&Package {
            name: part.name.clone(),
            version: part.version.clone(),
            architecture: part.arch.clone(),
            source: (!name.is_empty()).then(|| Source { name, version, file: String::new() }),
            supplier: None,
            sha256: None,
        })
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
    fn the_source_of_an_rpm_package_is_the_file_that_it_names() {
        let mut bill = bill(None);
        bill.kind = Kind::Rpm;
        let of = |file: &str| Package {
            name: "bash-doc".to_owned(),
            version: "5.1.8-9.el9".to_owned(),
            architecture: "noarch".to_owned(),
            source: Source::of_rpm(file),
            supplier: None,
            sha256: None,
        };
        // As syft writes it.
        assert_eq!(
            bill.purl(&of("bash-5.1.8-9.el9.src.rpm")),
            "pkg:rpm/debian/bash-doc@5.1.8-9.el9?arch=noarch&distro=debian-12&upstream=bash-5.1.8-9.el9.src.rpm"
        );
        let source = Source::of_rpm("kernel-rt-5.14.0-427.el9.nosrc.rpm").unwrap();
        assert_eq!((source.name.as_str(), source.version.as_str()), ("kernel-rt", "5.14.0-427.el9"));
        assert_eq!(bill.source_purl(&source), "pkg:rpm/debian/kernel-rt@5.14.0-427.el9?arch=src&distro=debian-12");
        for odd in
            ["", "(none)", "bash", "bash-1.src.rpm", "-1-2.src.rpm", "a/b-1-2.src.rpm", "bash-1-2.x86_64.rpm", ".rpm"]
        {
            assert_eq!(Source::of_rpm(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_source_package_has_the_architecture_that_its_kind_has() {
        let mut bill = bill(None);
        let source = Source { name: "bash".to_owned(), version: "5.1-1".to_owned(), file: String::new() };
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

    #[test]
    fn a_part_of_several_files_is_listed_once_with_all_of_them() {
        let bill = Bill::of(read(&sample()).unwrap(), crate::contents::tests::packed(), None);
        let url = "pkg:pypi/jinja2@3.1.2";
        for format in [Format::Spdx, Format::CycloneDx] {
            let text = bill.document(format);
            let document: serde_json::Value = serde_json::from_str(&text).unwrap();
            let (list, place) = match format {
                Format::Spdx => ("packages", "/externalRefs/0/referenceLocator"),
                Format::CycloneDx => ("components", "/purl"),
            };
            let all = document[list].as_array().unwrap();
            let parts: Vec<_> = all.iter().filter(|one| one.pointer(place).is_some_and(|one| one == url)).collect();
            assert_eq!((parts.len(), parts[0]["name"].as_str()), (1, Some("jinja2")));
            let files = match format {
                Format::Spdx => {
                    let of_part = |one: &&serde_json::Value| one["spdxElementId"] == parts[0]["SPDXID"];
                    document["relationships"].as_array().unwrap().iter().filter(of_part).count()
                }
                Format::CycloneDx => parts[0]["properties"].as_array().unwrap().len(),
            };
            assert_eq!(files, 2);
            assert_eq!(bill.unlike(text.as_bytes()).unwrap(), Vec::<String>::new());
            // A part that is not in the image.
            assert_eq!(bill.unlike(text.replace("jinja2@3.1.2", "jinja2@3.1.3").as_bytes()).unwrap().len(), 2);
        }
    }
}

//! Components of images, and what files of advisories say.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::platform::Scope;
use crate::purl::Purl;
use crate::version::Versions;
use crate::{AdvisoryError, Ecosystem, Platform, Severity};

/// What a component of an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A package of the root file system.
    Package,
    /// A package of the kernel: in the root file system, the initrd or beside them.
    Kernel,
    /// A driver that the recipe compiles from source.
    Driver,
    /// A package of a root in which builds run; it is in no image.
    Tools,
    /// A part of a file that no package brings: synced, or an input of scripts.
    File,
}

/// How the source package of a component is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceFrom {
    /// The package itself says so.
    Package,
    /// Name by the package's place in its archive, version by its own: they differ for few packages.
    Path,
    /// Not known: its own name and version count.
    Name,
}

/// A part of an image that advisories can be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// What it is.
    pub kind: Kind,
    /// Who names it and numbers its versions.
    pub ecosystem: Ecosystem,
    /// The file that it is a part of, where no package brings it; empty for all others.
    pub file: String,
    /// The transaction of image.lock that has it; empty where it is in none.
    pub pass: String,
    /// Its name.
    pub name: String,
    /// Its version, as the package manager writes it; empty where that is not known.
    pub version: String,
    /// Its architecture, as the package manager writes it.
    pub arch: String,
    /// Name and version of its source package.
    pub source: (String, String),
    /// How that is known.
    pub source_from: SourceFrom,
}

/// The source package of a Debian package, by the `Source` field of its control file and its own name and version. What is signed
/// again under another name is its original: that is what advisories name.
pub fn source_of_deb(name: &str, version: &str, field: Option<&str>) -> (String, String) {
    let (source, given) = match field.map(str::trim).filter(|field| !field.is_empty()) {
        Some(field) => match field.split_once('(') {
            Some((source, version)) => (source.trim(), Some(version.trim_end_matches(')').trim())),
            None => (field, None),
        },
        None => (name, None),
    };
    // Rebuilds without a change of the source. Source: Debian's developers' reference, 5.10.2.1.
    let plain = match version.rsplit_once("+b") {
        Some((plain, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => plain,
        _ => version,
    };
    let version = given.unwrap_or(plain);
    if fault::planted("audit-signed-is-another-source") {
        return (source.to_owned(), version.to_owned());
    }
    // Debian's kernels: linux-signed-amd64 6.1.128+1 has the files of linux 6.1.128-1, and its packages have that version. Those of other
    // sources are called after them: linux-signed-aws, linux-signed-hwe-6.11, linux-signed-6.1-amd64.
    if let Some(rest) = source.strip_prefix("linux-signed").filter(|rest| rest.is_empty() || rest.starts_with('-')) {
        const CPUS: [&str; 3] = ["-amd64", "-arm64", "-i386"];
        let rest = CPUS.iter().find_map(|cpu| rest.strip_suffix(cpu)).unwrap_or(rest);
        return (format!("linux{rest}"), plain.to_owned());
    }
    // `1+2.06-13+deb12u1` of Debian's grub-efi-amd64-signed and of Ubuntu's grub2-signed is 2.06-13+deb12u1 of grub2.
    if source == "grub2-signed" || source.starts_with("grub-efi-") && source.ends_with("-signed") {
        let own = plain.split_once('+').map_or(plain, |(_, own)| own);
        return ("grub2".to_owned(), own.to_owned());
    }
    (source.to_owned(), version.to_owned())
}

/// The source package of an RPM package by the name of that file: `openssl-3.0.7-27.el9.src.rpm`. The epoch is the package's own.
pub fn source_of_rpm(file: &str, version: &str) -> Option<(String, String)> {
    let name = file.strip_suffix(".src.rpm").or_else(|| file.strip_suffix(".nosrc.rpm"))?;
    let (rest, release) = name.rsplit_once('-')?;
    let (name, number) = rest.rsplit_once('-')?;
    let epoch = version.split_once(':').map_or(String::new(), |(epoch, _)| format!("{epoch}:"));
    Some((name.to_owned(), format!("{epoch}{number}-{release}")))
}

/// Whose name an advisory has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Source,
    Binary,
    /// One or the other: those who publish it do not say, or not always the same.
    Either,
}

/// A package that an advisory is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Affected {
    pub(crate) name: String,
    pub(crate) names: Names,
    pub(crate) scope: Scope,
    pub(crate) versions: Versions,
    pub(crate) severity: Severity,
    /// The architecture that it counts for; none: all.
    pub(crate) arch: Option<String>,
    /// The stream that it counts for: `nodejs:20`.
    pub(crate) module: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advisory {
    /// Its own name; empty where no one gave it one.
    pub(crate) id: String,
    /// Vulnerabilities that it is about: its own name where it names no other.
    pub(crate) vulnerabilities: Vec<String>,
    pub(crate) title: String,
    pub(crate) affected: Vec<Affected>,
    /// Where it was read: an index of [`Database::loaded`].
    pub(crate) database: usize,
}

/// What a statement of VEX says of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    NotAffected,
    Fixed,
    /// Affected, or not yet known.
    Other,
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Product {
    /// A package: by its name, perhaps of one version, where the scope is.
    Package {
        names: Names,
        name: String,
        version: Option<String>,
        arch: Option<String>,
        scope: Scope,
        /// The stream of a module that it is of; empty: of none; none: of any.
        module: Option<String>,
    },
    /// An image by its name, or packages of it.
    Image { name: String, packages: Vec<Product> },
}

/// What someone says of a vulnerability in some products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) vulnerabilities: Vec<String>,
    pub(crate) products: Vec<Product>,
    pub(crate) status: Status,
    pub(crate) reason: String,
    pub(crate) author: String,
    pub(crate) time: Option<Timestamp>,
    /// When it ends to count.
    pub(crate) until: Option<Timestamp>,
    pub(crate) database: usize,
}

/// What CISA's catalogue says of a vulnerability that is exploited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exploited {
    /// Since when it is in the catalogue: `2024-05-30`.
    pub since: String,
    /// Until when American agencies have to mend it.
    pub due: String,
    /// Whether blackmailers use it.
    pub ransomware: bool,
}

/// What EPSS expects of a vulnerability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Epss {
    /// Probability that it is exploited in the next 30 days, 0 to 1.
    pub score: f64,
    /// Share of all vulnerabilities with this score or less, 0 to 1.
    pub percentile: f64,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Loaded {
    /// As messages call it.
    pub name: String,
    /// What it is: `osv`, `debian`, `csaf`, `openvex`, `updateinfo`, `kev`, `epss`, `suite`.
    pub kind: String,
    /// How many records it has, those about packages that no image has among them.
    pub records: usize,
    /// How many of them are about the release of an image that was looked at, and a package of it.
    pub about: usize,
}

/// All that was read.
#[derive(Debug, Clone, Default)]
pub struct Database {
    pub(crate) loaded: Vec<Loaded>,
    pub(crate) wanted: BTreeSet<String>,
    /// What was kept, in names: of versions, and [`WEIGHT`] for each package and each vulnerability but the first.
    pub(crate) kept: usize,
    /// Languages of which a file of OSV has records.
    pub(crate) languages: BTreeSet<Ecosystem>,
    /// Whether any file has records about a distribution's packages.
    pub(crate) has_distribution: bool,
    /// The release of the repository whose file is read.
    pub(crate) repository: Option<Platform>,
    pub(crate) advisories: Vec<Advisory>,
    pub(crate) statements: Vec<Statement>,
    pub(crate) exploited: BTreeMap<String, Exploited>,
    pub(crate) epss: BTreeMap<String, Epss>,
    /// Names that someone asks for, in upper case: which of them were met is noted, whatever package they are about.
    pub(crate) asked: BTreeMap<String, bool>,
}

impl Database {
    /// An empty one, which keeps of what it reads only what is about packages with the names of these components.
    pub fn about<'a>(components: impl IntoIterator<Item = &'a Component>) -> Self {
        let names = components.into_iter().flat_map(|one| [one.name.clone(), one.source.0.clone()]);
        Self { wanted: names.collect(), ..Self::default() }
    }

    /// Notes of these vulnerabilities and advisories whether they are met, for [`Database::knows`].
    pub fn asking<'a>(mut self, ids: impl IntoIterator<Item = &'a String>) -> Self {
        self.asked = ids.into_iter().map(|id| (id.to_ascii_uppercase(), false)).collect();
        self
    }

    /// Whether a file that was read names a vulnerability or an advisory that was asked for, about any package.
    pub fn knows(&self, id: &str) -> bool {
        self.asked.get(&id.to_ascii_uppercase()).copied().unwrap_or_default()
    }

    /// Whether what was kept is all that is said about these components, too.
    pub fn is_about<'a>(&self, components: impl IntoIterator<Item = &'a Component>) -> bool {
        components.into_iter().all(|one| self.wants(&one.name) && self.wants(&one.source.0))
    }

    /// Notes that a name was met.
    pub(crate) fn meet(&mut self, name: &str) {
        if self.asked.is_empty() {
            return;
        }
        if let Some(met) = self.asked.get_mut(&name.to_ascii_uppercase()) {
            *met = true;
        }
    }

    /// Whether any file says which versions of a distribution's packages have vulnerabilities; others only add to that, a site's own
    /// statements too.
    pub fn has_advisories(&self) -> bool {
        self.has_distribution || self.loaded.iter().any(|one| one.kind == "suite")
    }

    /// Whether any file says which versions of a language's packages have vulnerabilities, and these can be compared.
    pub fn has_language(&self, ecosystem: Ecosystem) -> bool {
        self.languages.contains(&ecosystem)
    }

    /// Whether any file names source packages: packages whose source is not known cannot be compared with it.
    pub fn names_sources(&self) -> bool {
        self.has_distribution && self.loaded.iter().any(|one| matches!(one.kind.as_str(), "osv" | "debian" | "csaf"))
    }

    /// Notes that a suite of security updates was looked at, whatever it has.
    pub fn add_suite(&mut self, suite: &str) -> usize {
        let known = self.loaded.iter().position(|one| one.kind == "suite" && one.name == suite);
        known.unwrap_or_else(|| {
            let (name, kind) = (suite.to_owned(), "suite".to_owned());
            self.loaded.push(Loaded { name, kind, records: 0, about: 0 });
            self.loaded.len() - 1
        })
    }

    /// Adds what a suite of a release offers: a version of a package that is newer than that of an image.
    pub fn add_of_suite(&mut self, platform: &Platform, suite: &str, package: &str, version: &str) {
        let database = self.add_suite(suite);
        self.loaded[database].records += 1;
        self.keep(Advisory {
            id: String::new(),
            vulnerabilities: vec![String::new()],
            title: format!("{suite} has a newer version"),
            affected: vec![Affected {
                name: package.to_owned(),
                names: Names::Binary,
                scope: platform.scope(),
                versions: Versions::before(version),
                severity: Severity::Unknown,
                arch: None,
                module: None,
            }],
            database,
        });
    }

    /// Reads updateinfo.xml of a repository, which is about images of its release alone.
    /// Errors: As [`Database::read`].
    pub fn read_of_repository(
        &mut self,
        platform: &Platform,
        name: &str,
        file: impl Read + Seek,
    ) -> Result<(), AdvisoryError> {
        self.repository = Some(platform.clone());
        let read = self.read(name, file);
        self.repository = None;
        read
    }

    pub(crate) fn keep(&mut self, advisory: Advisory) {
        let affected: usize = advisory.affected.iter().map(Affected::weight).sum();
        self.kept += affected + WEIGHT * advisory.vulnerabilities.len().saturating_sub(1);
        self.advisories.push(advisory);
    }

    pub(crate) fn keep_statement(&mut self, statement: Statement) {
        let products: usize = statement.products.iter().map(Product::count).sum();
        self.kept += WEIGHT * (products + statement.vulnerabilities.len().saturating_sub(1));
        self.statements.push(statement);
    }

    /// Whether a package's name is one of a component.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.wanted.contains(name)
    }
}

/// What a package or a vulnerability takes, compared with a version.
pub(crate) const WEIGHT: usize = 4;

/// Whether a kind of file says which versions have vulnerabilities.
pub(crate) fn has_versions(kind: &str) -> bool {
    !matches!(kind, "kev" | "epss" | "openvex")
}

impl Affected {
    /// What it takes.
    pub(crate) fn weight(&self) -> usize {
        let events: usize = self.versions.ranges.iter().map(|range| 1 + range.len()).sum();
        WEIGHT + events + self.versions.single.len()
    }
}

impl Product {
    /// How many packages and images it names.
    fn count(&self) -> usize {
        match self {
            Self::Package { .. } => 1,
            Self::Image { packages, .. } => 1 + packages.iter().map(Self::count).sum::<usize>(),
        }
    }

    /// Whether all that it names is of one version.
    pub(crate) fn has_version(&self) -> bool {
        match self {
            Self::Package { version, .. } => version.is_some(),
            Self::Image { packages, .. } => !packages.is_empty() && packages.iter().all(Self::has_version),
        }
    }

    /// A package by its URL.
    pub(crate) fn of_purl(purl: &Purl) -> Self {
        let release = purl.qualifier("distro").map(str::to_owned);
        let is_package = matches!(purl.kind.as_str(), "deb" | "rpm" | "rpmmod");
        let language = Ecosystem::LANGUAGES.into_iter().find(|one| one.purl_type() == Some(purl.kind.as_str()));
        // A stream of a module stands behind the vendor's name.
        let namespace = purl.namespace.split('/').next().unwrap_or_default();
        Self::Package {
            names: if purl.is_source() { Names::Source } else { Names::Either },
            name: match language {
                Some(Ecosystem::Maven) => format!("{}:{}", purl.namespace, purl.name),
                Some(Ecosystem::Go) if !purl.namespace.is_empty() => format!("{}/{}", purl.namespace, purl.name),
                Some(language) => language.normal(&purl.name),
                None => purl.name.clone(),
            },
            // Go's versions begin with a `v`, but not everyone writes it.
            version: purl.full_version().map(|version| match language {
                Some(Ecosystem::Go) => version.trim_start_matches('v').to_owned(),
                _ => version,
            }),
            arch: purl.qualifier("arch").filter(|arch| !matches!(*arch, "source" | "src")).map(str::to_owned),
            // What has the same name elsewhere is another thing.
            scope: match is_package && !namespace.is_empty() {
                true => Scope::Purl { namespace: namespace.to_owned(), release },
                false => Scope::Kind(purl.kind.clone()),
            },
            module: purl.stream(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_what_advisories_name() {
        for (name, version, field, source) in [
            ("bash", "5.2.15-2+b7", None, ("bash", "5.2.15-2")),
            ("libssl3", "3.0.11-1~deb12u2", Some("openssl"), ("openssl", "3.0.11-1~deb12u2")),
            (
                "libldb2",
                "2:2.6.2+samba4.17.12+dfsg-0+deb12u1",
                Some("samba (2:4.17.12+dfsg-0+deb12u1)"),
                ("samba", "2:4.17.12+dfsg-0+deb12u1"),
            ),
            ("linux-image-6.1.0-31-amd64", "6.1.128-1", Some("linux-signed-amd64 (6.1.128+1)"), ("linux", "6.1.128-1")),
            ("linux-image-6.8.0-50-generic", "6.8.0-50.51", Some("linux-signed"), ("linux", "6.8.0-50.51")),
            (
                "linux-image-6.11.0-1-generic",
                "6.11.0-1.1",
                Some("linux-signed-hwe-6.11"),
                ("linux-hwe-6.11", "6.11.0-1.1"),
            ),
            (
                "grub-efi-amd64-signed",
                "1+2.06-13+deb12u1",
                Some("grub2-signed (1+2.06+13+deb12u1)"),
                ("grub2", "2.06-13+deb12u1"),
            ),
            ("grub-efi-amd64-signed", "1+2.06-13+deb12u1", None, ("grub2", "2.06-13+deb12u1")),
            ("linux-image-6.8.0-1020-aws", "6.8.0-1020.22", Some("linux-signed-aws"), ("linux-aws", "6.8.0-1020.22")),
            (
                "linux-image-6.8.0-50-lowlatency",
                "6.8.0-50.51.1",
                Some("linux-signed-lowlatency"),
                ("linux-lowlatency", "6.8.0-50.51.1"),
            ),
            (
                "linux-image-6.1.0-0.deb11.7-amd64",
                "6.1.20-2~deb11u1",
                Some("linux-signed-6.1-amd64 (6.1.20+2~deb11u1)"),
                ("linux-6.1", "6.1.20-2~deb11u1"),
            ),
            ("linux-image-6.1.0-31-arm64", "6.1.128-1", Some("linux-signed-arm64 (6.1.128+1)"), ("linux", "6.1.128-1")),
            ("linux-signedness", "1", None, ("linux-signedness", "1")),
        ] {
            let found = source_of_deb(name, version, field);
            assert_eq!((found.0.as_str(), found.1.as_str()), source, "{name}");
        }
        let found = source_of_rpm("bind-9.16.23-18.el9.src.rpm", "32:9.16.23-18.el9").unwrap();
        assert_eq!(found, ("bind".to_owned(), "32:9.16.23-18.el9".to_owned()));
        assert_eq!(source_of_rpm("(none)", "1-1"), None);
    }
}

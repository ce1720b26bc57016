//! Packages and repositories as the solver and the package managers' rooms see them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::Keyring;
use crate::fetch::address::{Escapes, UP, below, places};
use crate::fetch::credentials::access::Access;
use crate::rpm::metadata::repomd::plainly;
use crate::rpm::{Checksum, Comps, Evr, Modules, Relation};
use base::digest::Sha256;
use base::source::Span;

/// A name with or without versions: what a package provides, conflicts with or obsoletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// A package name, a path, a soname, `rpmlib(…)`, or a whole boolean dependency in parentheses.
    pub name: Arc<str>,
    /// The versions meant; none: all. 18,000 packages name some thousands of them hundreds of thousands of times.
    pub version: Option<Arc<(Relation, Evr)>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub capability: Capability,
    /// Whether scripts that run before or while it is installed need it.
    pub pre: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weak {
    pub recommends: Vec<Capability>,
    pub suggests: Vec<Capability>,
    pub supplements: Vec<Capability>,
    pub enhances: Vec<Capability>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub name: String,
    /// `x86_64`, `noarch` …; `src` and `nosrc` are never here.
    pub arch: String,
    pub evr: Evr,
    pub checksum: Checksum,
    /// Bytes of the package file.
    pub size: u64,
    /// Bytes of its files once installed.
    pub installed_size: u64,
    /// Path of the file below [`Candidate::base`] or else the repository.
    pub location: String,
    /// `xml:base`: another place for this package.
    pub base: Option<String>,
    /// Bytes of the file that hold its header: first, one past the last.
    pub header_range: Option<(u64, u64)>,
    pub source: Option<String>,
    /// What it provides; its own name and version are among them.
    pub provides: Vec<Capability>,
    pub requires: Vec<Requirement>,
    pub conflicts: Vec<Capability>,
    pub obsoletes: Vec<Capability>,
    pub weak: Weak,
    /// Those of its files that `primary` names; all, if it was read from a package.
    pub files: Vec<String>,
}

impl Candidate {
    /// One that says nothing.
    pub(crate) fn nothing() -> Self {
        Self {
            name: String::new(),
            arch: String::new(),
            evr: Evr::default(),
            checksum: Checksum::Sha256(Sha256([0; 32])),
            size: 0,
            installed_size: 0,
            location: String::new(),
            base: None,
            header_range: None,
            source: None,
            provides: Vec::new(),
            requires: Vec::new(),
            conflicts: Vec::new(),
            obsoletes: Vec::new(),
            weak: Weak::default(),
            files: Vec::new(),
        }
    }

    /// `name-[epoch:]version-release.arch`.
    pub fn nevra(&self) -> String {
        format!("{}-{}.{}", self.name, self.evr, self.arch)
    }

    /// The name under which the file is kept: without the epoch, as rpm names packages.
    pub fn file_name(&self) -> String {
        format!("{}-{}-{}.{}.rpm", self.name, self.evr.version, self.evr.release, self.arch)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataFile {
    /// `primary`, `filelists`, `group`, `modules`, `updateinfo` …
    pub kind: String,
    /// Where it is in the repository, relative to its base.
    pub location: String,
    /// Digest; `store.index(&sha256)` is the file.
    pub sha256: Sha256,
    pub file: PathBuf,
    /// As repomd.xml names it.
    pub checksum: Checksum,
    /// Bytes.
    pub size: u64,
    /// Bytes without compression, where repomd.xml says it.
    pub open_size: Option<u64>,
}

/// The priority of a repository that gives none. Source: dnf.conf(5), zypper(8).
pub(in crate::rpm) const PRIORITY: u32 = 99;

/// Where a repository is and how far it is trusted.
#[derive(Debug, Clone, Default)]
pub struct RepositorySource {
    pub id: String,
    /// Whole URLs of the directory that holds `repodata`, best first.
    pub base: Vec<String>,
    /// URL of a list of such URLs.
    pub mirrorlist: Option<String>,
    pub metalink: Option<String>,
    pub keys: Option<Keyring>,
    pub repo_gpgcheck: bool,
    pub gpgcheck: bool,
    /// The lower, the more it is preferred; none: 99.
    pub priority: Option<u32>,
    /// Globs of names or NEVRAs that must not be used.
    pub exclude: Vec<String>,
    /// Globs of names or NEVRAs that alone may be used; empty: all.
    pub include: Vec<String>,
    /// Whether modular filtering leaves its packages alone.
    pub module_hotfixes: bool,
    /// How the mirrors of a list are asked.
    pub access: Access,
    /// Where a file says that it is done without, where it cannot be reached.
    pub skip_if_unavailable: Option<Span>,
}

#[derive(Debug, Clone, Default)]
pub struct Repository {
    pub id: String,
    /// Where its files are, best first; each without a slash at its end.
    pub bases: Vec<String>,
    /// `repomd.xml` as it came, and its digest (what a lock keeps).
    pub repomd: Vec<u8>,
    /// `repomd.xml.asc`, where the signature was checked.
    pub signature: Option<Vec<u8>>,
    /// Why its list of mirrors was done without.
    pub without_list: Option<String>,
    /// The metadata files that were fetched, in the order of repomd.xml.
    pub metadata: Vec<MetadataFile>,
    /// Its packages, in the order of `primary`.
    pub candidates: Vec<Candidate>,
    pub comps: Option<Comps>,
    pub modules: Option<Modules>,
    /// The lower, the more it is preferred, as dnf and zypper have it; 99 where none is given.
    pub priority: u32,
    /// Whether modular filtering leaves its packages alone.
    pub module_hotfixes: bool,
    /// Globs of names or NEVRAs that must not be used.
    pub exclude: Vec<String>,
    /// Globs of names or NEVRAs that alone may be used; empty: all.
    pub include: Vec<String>,
    /// Candidates that modular filtering hides; see [`crate::rpm::hide_modular`].
    pub hidden: BTreeSet<usize>,
}

impl Repository {
    /// Whole URLs of a package, best first.
    pub fn urls(&self, candidate: &Candidate) -> Vec<String> {
        match (self.place(candidate), &candidate.base) {
            (Ok(place), _) => self.bases.iter().flat_map(|root| places(root, &place, Escapes::StandForOne)).collect(),
            (Err(_), Some(base)) => {
                vec![below(base.trim_end_matches('/'), &candidate.location, Escapes::StandForOne)]
            }
            (Err(_), None) => Vec::new(),
        }
    }

    /// The path of a package from the repository on, with [`UP`] for each step out of it: what its location means, below `xml:base` where it
    /// has one, as dnf takes them.
    /// Errors: The place, where it is on another server or cannot be one.
    pub fn place(&self, candidate: &Candidate) -> Result<String, String> {
        let location = &candidate.location;
        let outside = || format!("{}{location}", candidate.base.as_deref().unwrap_or_default());
        let whole = match &candidate.base {
            Some(base) if base.contains(':') => {
                let from = self.bases.iter().find_map(|own| between(own, base));
                format!("{}/{location}", from.ok_or_else(outside)?)
            }
            Some(base) => format!("{}/{location}", base.trim_matches('/')),
            None => location.clone(),
        };
        let (ups, path) = plainly(&whole).ok_or_else(outside)?;
        let place = format!("{}{path}", UP.repeat(ups));
        let leads = |own: &String| !places(own, &place, Escapes::StandForOne).is_empty();
        if ups == 0 || self.bases.iter().any(leads) { Ok(place) } else { Err(outside()) }
    }
}

/// The path from one address to another of the same server, or of this machine.
fn between(from: &str, to: &str) -> Option<String> {
    let parted = |address: &'_ str| -> Option<(String, Vec<String>)> {
        let (scheme, rest) = address.split_once(':')?;
        let (server, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
            None => ("", rest),
        };
        let parts = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Some((format!("{}:{}", scheme.to_ascii_lowercase(), server.to_ascii_lowercase()), parts))
    };
    let ((own, from), (other, to)) = (parted(from)?, parted(to)?);
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    (own == other).then(|| format!("{}{}", "../".repeat(from.len() - common), to[common..].join("/")))
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.version.as_deref() {
            Some((relation, evr)) => write!(f, " {relation} {evr}"),
            None => Ok(()),
        }
    }
}

impl Capability {
    /// Reads `name`, `name = version` or a boolean dependency in parentheses.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        if text.starts_with('(') {
            return Self { name: text.into(), version: None };
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        if let [name, relation, evr] = words[..]
            && let Some(relation) = Relation::parse(relation)
        {
            return Self { name: name.into(), version: Some(Arc::new((relation, Evr::parse(evr)))) };
        }
        Self { name: text.into(), version: None }
    }

    /// Whether a provided capability meets this one: the names are the same and the versions meet.
    pub fn met_by(&self, provided: &Self) -> bool {
        self.name == provided.name && versions_meet(self.version.as_deref(), provided.version.as_deref())
    }
}

/// Whether two ranges of versions have one in common: what names no version meets all.
///
/// As libsolv reckons it (pool.c, `pool_intersect_evrs`), which is what dnf and zypper use: where only one side has a
/// release and all else is equal, the side without one counts as all of its releases.
pub(in crate::rpm) fn versions_meet(wanted: Option<&(Relation, Evr)>, provided: Option<&(Relation, Evr)>) -> bool {
    let (Some((wanted, wanted_evr)), Some((given, given_evr))) = (wanted, provided) else { return true };
    if (wanted.less && given.less) || (wanted.greater && given.greater) {
        return true;
    }
    match given_evr.compare_as_dependency(wanted_evr) {
        std::cmp::Ordering::Greater => given.less || wanted.greater,
        std::cmp::Ordering::Less => given.greater || wanted.less,
        std::cmp::Ordering::Equal => match (given_evr.release.is_empty(), wanted_evr.release.is_empty()) {
            (true, false) => given.equal,
            (false, true) => wanted.equal,
            _ => given.equal && wanted.equal,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::Capability;

    #[test]
    fn versions_meet_as_the_package_managers_have_it() {
        for (wanted, provided, met) in [
            ("a", "a = 1", true),
            ("a >= 2", "a", true),
            ("a >= 2", "a = 2-1", true),
            ("a > 2", "a = 2-1", false),
            ("a < 2", "a = 2~rc1-1", true),
            ("a = 2-1", "a = 2", true),
            ("a < 2-1", "a = 2", true),
            ("a = 2-1", "a = 2-2", false),
            ("a >= 3", "a <= 3", true),
            ("a > 3", "a <= 3", false),
            ("a = 1:2", "a = 2", false),
            ("a", "b", false),
        ] {
            assert_eq!(Capability::parse(wanted).met_by(&Capability::parse(provided)), met, "{wanted} by {provided}");
        }
    }
}

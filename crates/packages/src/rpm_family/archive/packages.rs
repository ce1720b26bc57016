//! Repositories that were read: their packages by name, and what the words of lists mean in them.

use std::collections::{BTreeMap, BTreeSet};

use super::local::{OTHERPKGS, means};
use crate::damaged::DamagedFile;
use crate::rpm::{Candidate, Checksum, Evr, Package, Repository, paths_of};
use crate::rpm_family::resolve::solver::{Picked, Shown, Solver, shown_id};
use crate::{DistroError, Keyring, Pass};
use base::source::nearest;
use recipe::PinnedPackage;
use store::Store;

/// Repositories whose metadata were read and checked.
pub(crate) struct RpmArchive {
    pub(in crate::rpm_family) solver: &'static dyn Solver,
    pub(in crate::rpm_family) repositories: Vec<Repository>,
    /// Keys by which a repository's packages are checked, where they are.
    pub(in crate::rpm_family) keys: BTreeMap<String, Keyring>,
    pub(in crate::rpm_family) release: String,
    pub(in crate::rpm_family) platform: String,
    pub(in crate::rpm_family) arch: &'static str,
    /// Files of directories of the recipe that are not packages, with the directory's origin.
    pub(in crate::rpm_family) damaged: Vec<(&'static str, DamagedFile)>,
}

/// How lists may call a package besides its name, for dnf and for zypper.
pub(super) fn spellings(candidate: &Candidate) -> [String; 9] {
    let (name, evr, arch) = (&candidate.name, &candidate.evr, &candidate.arch);
    let plain = format!("{}-{}", evr.version, evr.release);
    [
        format!("{name}.{arch}"),
        format!("{name}-{}", evr.version),
        format!("{name}-{plain}"),
        format!("{name}-{evr}"),
        format!("{name}-{plain}.{arch}"),
        format!("{name}-{evr}.{arch}"),
        format!("{name}={}", evr.version),
        format!("{name}={plain}"),
        format!("{name}={evr}"),
    ]
}

impl RpmArchive {
    pub(in crate::rpm_family) fn candidates(&self) -> impl Iterator<Item = (&Repository, &Candidate)> {
        self.repositories.iter().flat_map(|repository| {
            repository.candidates.iter().enumerate().filter_map(move |(index, candidate)| {
                (!repository.hidden.contains(&index)).then_some((repository, candidate))
            })
        })
    }

    pub(in crate::rpm_family) fn exact(
        &self,
        repository: &str,
        name: &str,
        arch: &str,
        evr: &Evr,
    ) -> Option<(&Repository, &Candidate)> {
        let fits = |one: &Repository, candidate: &Candidate| {
            (repository.is_empty() || one.id == repository)
                && candidate.name == name
                && candidate.arch == arch
                && candidate.evr == *evr
        };
        self.repositories
            .iter()
            .flat_map(|one| one.candidates.iter().enumerate().map(move |(index, candidate)| (one, index, candidate)))
            .filter(|(one, _, candidate)| fits(one, candidate))
            // Where several have the same version: the one that the solver was shown.
            .min_by_key(|(one, index, _)| one.hidden.contains(index))
            .map(|(one, _, candidate)| (one, candidate))
    }

    /// Pins a package.
    /// Errors: [`DistroError::Format`] for a digest or names that cannot stand in a lock.
    pub(in crate::rpm_family) fn pin(
        &self,
        repository: &Repository,
        candidate: &Candidate,
        automatic: bool,
    ) -> Result<PinnedPackage, DistroError> {
        let wrong =
            |problem: String| DistroError::Format { file: format!("the metadata of {}", repository.id), problem };
        let Checksum::Sha256(sha256) = candidate.checksum else {
            let kind = candidate.checksum.kind();
            return Err(wrong(format!(
                "give `{}` a {kind} digest but no SHA-256, which image.lock needs to pin it: recreate the metadata with `createrepo_c --checksum sha256 DIR`, or name a directory with only the packages (‹[[repo]] uri = \"file:...\"›), which needs no metadata",
                candidate.name
            )));
        };
        let below = repository.place(candidate).map_err(|place| {
            wrong(format!(
                "put `{}` elsewhere, at {}, where this repository's address does not lead: mirror both into one directory, or add a [[repo]] for the repository there, if it has one",
                candidate.name,
                place.escape_default()
            ))
        })?;
        let plain = |text: &str, more: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        let version = candidate.evr.to_string();
        // A version may begin with a dot.
        let is_version = plain(version.trim_start_matches('.'), ".+-:~^_");
        if !plain(&candidate.name, "-+._") || !is_version || !plain(&candidate.arch, "_") {
            return Err(wrong(format!(
                "have a package with an invalid name: `{}`",
                candidate.nevra().escape_default()
            )));
        }
        Ok(PinnedPackage {
            name: candidate.name.clone(),
            version,
            architecture: candidate.arch.clone(),
            size: candidate.size,
            sha256,
            origin: repository.id.clone(),
            file: below,
            automatic,
            beside: candidate.provides.iter().any(|one| self.solver.install_only().contains(&&*one.name)),
        })
    }

    /// Whether a list's word means anything here.
    fn knows(&self, item: &str, provided: &BTreeSet<&str>) -> bool {
        if item.starts_with('@') {
            // Groups, environments, modules: the solver knows best.
            return true;
        }
        if provided.contains(item) || item.contains(['*', '?', '[', ' ', '(']) {
            return true;
        }
        self.candidates().any(|(_, candidate)| {
            (item.starts_with(candidate.name.as_str()) && spellings(candidate).iter().any(|one| one == item))
                || (item.starts_with('/') && candidate.files.iter().any(|file| file == item))
        }) || item.starts_with('/')
    }

    /// Words of which nothing is known, reported all at once before the solver is asked.
    pub(in crate::rpm_family) fn check_words(&self, items: &[String]) -> Result<(), DistroError> {
        let provided: BTreeSet<&str> = self
            .candidates()
            .flat_map(|(_, candidate)| candidate.provides.iter().map(|one| &*one.name).chain([candidate.name.as_str()]))
            .collect();
        let unknown: Vec<String> = items.iter().filter(|item| !self.knows(item, &provided)).cloned().collect();
        if unknown.is_empty() { Ok(()) } else { Err(self.unknown(unknown)) }
    }

    pub(in crate::rpm_family) fn unknown(&self, unknown: Vec<String>) -> DistroError {
        let names: BTreeSet<&str> = self.candidates().map(|(_, candidate)| candidate.name.as_str()).collect();
        let groups: BTreeSet<&str> = self
            .repositories
            .iter()
            .filter_map(|repository| repository.comps.as_ref())
            .flat_map(|comps| {
                let groups = comps.groups.iter().map(|group| group.id.as_str());
                groups.chain(comps.environments.iter().map(|one| one.id.as_str()))
            })
            .collect();
        let hint = |name: &str| {
            if name.contains('/') && !name.starts_with(['/', '@']) {
                return self.near_in_folders(name);
            }
            let (sign, plain) = match name.strip_prefix('@') {
                Some(group) if group.starts_with('^') => ("@^", group.trim_start_matches('^')),
                Some(group) => ("@", group),
                None => ("", name),
            };
            if sign.is_empty() && names.contains(plain) {
                return Some(format!(
                    "`{name}` exists but is left out: by `exclude` or `include` of its ‹[[repo]]›, or by the streams of modules"
                ));
            }
            if let Some(there) = self.versions(&names, plain).filter(|_| sign.is_empty()) {
                return Some(there);
            }
            let near = if sign.is_empty() {
                nearest(plain, names.iter().copied())
            } else {
                nearest(plain, groups.iter().copied())
            };
            let near: Vec<String> = near.iter().map(|name| format!("{sign}{name}")).collect();
            (!near.is_empty()).then(|| format!("instead of `{name}`, did you mean {}?", near.join(", ")))
        };
        let packages = unknown.into_iter().map(|name| {
            let hint = hint(&name);
            (name, hint)
        });
        DistroError::unknown_packages(packages.collect(), "check the repositories of ‹[[repo]]›")
    }

    /// What of the recipe's own directories is like `folder/name`.
    fn near_in_folders(&self, item: &str) -> Option<String> {
        let local = self
            .candidates()
            .filter_map(|(repository, one)| Some(format!("{}/{}", repository.id.strip_prefix(OTHERPKGS)?, one.name)));
        let words: BTreeSet<String> = local.collect();
        let name = item.rsplit('/').next();
        let of_name: Vec<&str> =
            words.iter().map(String::as_str).filter(|word| word.rsplit('/').next() == name).collect();
        let near = if of_name.is_empty() { nearest(item, words.iter().map(String::as_str)) } else { of_name };
        let near: Vec<&str> = near.into_iter().take(3).map(|word| word.trim_start_matches("./")).collect();
        (!near.is_empty()).then(|| format!("instead of `{item}`, did you mean {}?", near.join(", ")))
    }

    /// The versions that exist for `name-version`, newest first; none if it is not a name with a version.
    fn versions(&self, names: &BTreeSet<&str>, item: &str) -> Option<String> {
        let is_version =
            |rest: &str| rest.starts_with(['-', '=']) && rest[1..].starts_with(|c: char| c.is_ascii_digit());
        let of_it = names.iter().filter(|name| item.strip_prefix(**name).is_some_and(is_version));
        let name = of_it.max_by_key(|name| name.len())?;
        let own = self.candidates().filter(|(_, one)| one.name == **name);
        let mut found: Vec<(&Evr, &str)> = own.map(|(repository, one)| (&one.evr, repository.id.as_str())).collect();
        found.sort_by(|a, b| b.cmp(a));
        found.dedup();
        let shown: Vec<String> = found.iter().take(8).map(|(evr, id)| format!("{evr} ({id})")).collect();
        Some(format!("available versions of `{name}`: {}", shown.join(", ")))
    }

    /// The package with what makes accounts for rpm, where the release's rpm makes those that packages declare: since 4.19, unless the
    /// distribution left it out.
    pub(in crate::rpm_family) fn makes_accounts(&self) -> Option<String> {
        let name = self.solver.makes_accounts()?;
        let has = |wanted: &dyn Fn(&Candidate) -> bool| self.candidates().any(|(_, candidate)| wanted(candidate));
        let since = Evr::parse("4.19-0");
        let declares = |one: &Candidate| one.provides.iter().any(|one| one.name.starts_with("user("));
        let makes = has(&|one| one.name == "rpm" && one.evr >= since) && has(&declares) && has(&|one| one.name == name);
        makes.then(|| name.to_owned())
    }

    /// `a|b` is the first that a repository has, `a|` may be missing.
    pub(in crate::rpm_family) fn pick(&self, item: &str) -> Option<String> {
        if !item.contains('|') {
            return Some(item.to_owned());
        }
        let has = |name: &&str| self.candidates().any(|(_, candidate)| candidate.name == **name);
        let mut names = item.split('|').filter(|name| !name.is_empty());
        match names.clone().find(has) {
            Some(name) => Some(name.to_owned()),
            None if item.ends_with('|') => None,
            None => names.next().map(str::to_owned),
        }
    }

    /// `folder/name`, `folder/name*` or `folder/name.arch` of an otherpkgs list: the newest of each name that this folder has, exactly. Another
    /// CPU's are meant where they are named, and those that the image's runs as well where there is no other.
    fn in_folder(&self, item: &str) -> Vec<(&Repository, &Candidate)> {
        let Some((folder, word)) = item.rsplit_once('/').filter(|(folder, _)| !folder.is_empty()) else {
            return Vec::new();
        };
        let origin = format!("{OTHERPKGS}{folder}");
        let is_own = |one: &Candidate| one.arch == self.arch || one.arch == "noarch";
        let runs = |one: &Candidate| self.arch == "x86_64" && one.arch.len() == 4 && one.arch.ends_with("86");
        let named = |one: &Candidate| word.ends_with(&format!(".{}", one.arch));
        let meant = self.candidates().filter(|(repository, one)| {
            repository.id == origin && means(word, one) && (is_own(one) || runs(one) || named(one))
        });
        let mut newest: BTreeMap<&str, (&Repository, &Candidate)> = BTreeMap::new();
        for (repository, one) in meant {
            let rank = |one: &Candidate| (is_own(one), one.evr.clone());
            if newest.get(one.name.as_str()).is_none_or(|(_, known)| rank(known) < rank(one)) {
                newest.insert(&one.name, (repository, one));
            }
        }
        newest.into_values().collect()
    }

    /// What a pass names by folder, as the solver picks it.
    pub(in crate::rpm_family) fn named_in_folders(&self, pass: &Pass) -> Vec<Picked> {
        let found = pass.install.iter().flat_map(|item| self.in_folder(item));
        let picked = |(repository, one): (&Repository, &Candidate)| Picked {
            name: one.name.clone(),
            arch: one.arch.clone(),
            evr: one.evr.clone(),
            repository: shown_id(&repository.id),
            automatic: false,
        };
        found.map(picked).collect()
    }

    /// `name=version`, or before a `*` how it begins, as apt's lists have it: the newest of the most preferred repository, exactly.
    fn of_version(&self, item: &str) -> Option<String> {
        let (name, wanted) = item.split_once('=')?;
        let fits = |evr: &Evr| {
            let plain = format!("{}-{}", evr.version, evr.release);
            [evr.version.clone(), plain, evr.to_string()].iter().any(|version| match wanted.strip_suffix('*') {
                Some(start) => version.starts_with(start),
                None => version == wanted,
            })
        };
        let is_own = |one: &Candidate| one.name == name && (one.arch == self.arch || one.arch == "noarch");
        let found = self.candidates().filter(|(_, one)| is_own(one) && fits(&one.evr));
        let best = found.max_by(|a, b| b.0.priority.cmp(&a.0.priority).then_with(|| a.1.evr.cmp(&b.1.evr)))?;
        Some(self.solver.exactly(&best.1.name, &best.1.evr.to_string(), &best.1.arch))
    }

    /// The package that has a file: of several the one in the most preferred repository, then the first by name.
    fn having(&self, path: &str) -> Result<Option<String>, DistroError> {
        let in_primary = |candidate: &Candidate| candidate.files.iter().any(|file| file == path);
        let mut found: BTreeSet<(u32, &str)> = self
            .candidates()
            .filter(|(_, candidate)| in_primary(candidate))
            .map(|(repository, candidate)| (repository.priority, candidate.name.as_str()))
            .collect();
        if found.is_empty() {
            for repository in &self.repositories {
                let all = (0..repository.candidates.len()).filter(|index| !repository.hidden.contains(index)).collect();
                let own = paths_of(repository, &all, &|one| one == path)?;
                let names = own.keys().map(|index| repository.candidates[*index].name.as_str());
                found.extend(names.map(|name| (repository.priority, name)));
            }
        }
        Ok(found.first().map(|(_, name)| (*name).to_owned()))
    }

    /// What a list says, in the solver's words.
    pub(in crate::rpm_family) fn items(&self, pass: &Pass) -> Result<Vec<String>, DistroError> {
        let mut unknown = Vec::new();
        let mut items = Vec::new();
        for item in &pass.install {
            let Some(item) = self.pick(item) else { continue };
            let is_in_folder = item.contains('/') && !item.starts_with(['/', '@']);
            let of_folder = self.in_folder(&item);
            if !of_folder.is_empty() {
                let exactly =
                    |(_, one): &(_, &Candidate)| self.solver.exactly(&one.name, &one.evr.to_string(), &one.arch);
                items.extend(of_folder.iter().map(exactly));
                continue;
            }
            match () {
                () if item.starts_with('/') && !self.solver.finds_files() => match self.having(&item)? {
                    Some(name) => items.push(name),
                    None => unknown.push(item),
                },
                () if is_in_folder => unknown.push(item),
                () if item.contains('=') && !item.starts_with(['/', '@']) && !item.contains(['(', ' ']) => {
                    match self.of_version(&item) {
                        Some(exact) => items.push(exact),
                        None => unknown.push(item),
                    }
                }
                () => items.push(item),
            }
        }
        if !unknown.is_empty() {
            return Err(self.unknown(unknown));
        }
        Ok(items)
    }

    pub(in crate::rpm_family) fn shown(&self) -> Vec<Shown> {
        self.repositories
            .iter()
            .map(|repository| Shown {
                id: shown_id(&repository.id),
                priority: repository.priority,
                exclude: repository.exclude.clone(),
                include: repository.include.clone(),
                module_hotfixes: repository.module_hotfixes,
            })
            .collect()
    }

    /// Checks packages against the keys of those who sign them, where no one signs the index; `have` brings them.
    /// Errors: [`DistroError::Signature`] for a package that is not signed well.
    pub(in crate::rpm_family) fn verify(
        &self,
        store: &Store,
        have: &dyn Fn(&[PinnedPackage]) -> Result<(), DistroError>,
        packages: &[PinnedPackage],
    ) -> Result<(), DistroError> {
        let signed = packages.iter().filter(|package| self.keys.contains_key(&package.origin));
        let signed: Vec<PinnedPackage> = signed.cloned().collect();
        if !signed.is_empty() {
            have(&signed)?;
        }
        for package in &signed {
            let Some(keys) = self.keys.get(&package.origin) else { continue };
            Package::verify(&store.package(&package.sha256), keys).map_err(|problem| DistroError::Signature {
                file: package.file.clone(),
                place: package.origin.clone(),
                problem,
                help: "name the key that signs this repository's packages: ‹[[repo]] signed-by = \"keys/RPM-GPG-KEY-...\"›; if the packages are unsigned: ‹check-packages = false›".to_owned(),
            })?;
        }
        Ok(())
    }
}

//! The release's own apt decides what a list of packages means (D12).

mod ask;
mod own;

use std::collections::BTreeMap;

pub(super) use ask::in_the_way;

use self::ask::Repositories;
use super::archive::words::{is_apt_pattern, is_named, unknown_names, unknown_words};
use super::{Archive, PinnedPackage, SuiteRelease};
use crate::inside::common::quoted;
use crate::{ContainerPackage, DistroError, Pass, Resolution, Solving};
use base::digest::Sha256;
use recipe::{is_meant, is_pattern};

/// Runs apt in a tools root against repositories whose indices were checked.
pub(super) struct Resolver<'a> {
    pub solving: &'a Solving<'a>,
    pub architecture: &'a str,
    pub suites: &'a [SuiteRelease],
    /// All indices, local ones too.
    pub archive: &'a Archive,
}

/// What is installed, by name.
type Known<'a> = BTreeMap<String, Installed<'a>>;

#[derive(Debug, Clone)]
struct Installed<'a> {
    version: String,
    automatic: bool,
    /// What the container image has of it; none: a pass brought it.
    of_base: Option<&'a ContainerPackage>,
}

/// How often apt is asked once more because something else came that a pattern removes.
const WITHOUT_LIMIT: usize = 4;

impl Resolver<'_> {
    /// Resolves passes one after another; each sees what the earlier ones installed.
    ///
    /// `held` are packages that keep their version where they are wanted (D13).
    /// Errors: [`DistroError::UnknownPackages`] or [`DistroError::Unsatisfiable`] with the solver's own words.
    pub(super) fn resolve(&self, passes: &[Pass], held: &[PinnedPackage]) -> Result<Vec<Resolution>, DistroError> {
        let of_base = self.solving.base.into_iter().flat_map(|base| base.packages);
        let mut installed: Known<'_> = of_base
            .map(|(name, one)| {
                let (version, automatic) = (one.version.clone(), one.automatic);
                (name.clone(), Installed { version, automatic, of_base: Some(one) })
            })
            .collect();
        let mut first = None;
        let mut digests: BTreeMap<String, Sha256> = BTreeMap::new();
        let mut answers = Vec::new();
        let repositories = self.repositories();
        for (number, pass) in passes.iter().enumerate() {
            let over = if pass.aside { first.as_ref().unwrap_or(&installed) } else { &installed };
            let patterns: Vec<&String> = pass.remove.iter().filter(|name| is_pattern(name)).collect();
            let pass = &Pass { remove: expanded(&pass.remove, over), ..pass.clone() };
            // What needs them goes with them, unless what is installed takes their place.
            let with = self.gone(number, &pass.remove, over, &repositories)?;
            let mut answer = if pass.install.is_empty() && pass.remove.is_empty() {
                Resolution::default()
            } else {
                self.resolve_pass(number, (pass, &patterns), over, held, &repositories)?
            };
            if pass.aside {
                answers.push(answer);
                continue;
            }
            let again = self.rebuilt(pass, &installed, &digests)?;
            let is_new = |one: &PinnedPackage| answer.packages.iter().all(|other| other.name != one.name);
            let again: Vec<PinnedPackage> = again.into_iter().filter(is_new).collect();
            answer.packages.extend(again);
            digests.extend(answer.packages.iter().map(|one| (one.name.clone(), one.sha256)));
            let comes = |name: &String| answer.packages.iter().any(|one| one.name == *name);
            answer.remove_with =
                with.into_iter().filter(|name| answer.removed.contains(name) && !comes(name)).collect();
            for name in &answer.removed {
                installed.remove(name);
            }
            come(&mut installed, &answer.packages);
            let after = expanded(&pass.remove_after, &installed);
            let with = self.gone(number, &after, &installed, &repositories)?;
            after.iter().chain(&with).for_each(|name| drop(installed.remove(name)));
            answer.remove_with.extend(with);
            answer.remove_with.sort();
            answer.remove_with.dedup();
            answers.push(answer);
            first.get_or_insert_with(|| installed.clone());
        }
        Ok(answers)
    }

    fn resolve_pass(
        &self,
        number: usize,
        (pass, patterns): (&Pass, &[&String]),
        installed: &Known<'_>,
        held: &[PinnedPackage],
        repositories: &Repositories<'_>,
    ) -> Result<Resolution, DistroError> {
        let all = (self.archive, self.suites, self.architecture);
        let unknown = unknown_words(all, &pass.install, &|name| installed.contains_key(name));
        if !unknown.is_empty() {
            return Err(unknown_names(self.archive, unknown));
        }
        let mut install: Vec<String> = Vec::new();
        for item in &pass.install {
            match self.in_folder(item) {
                own if own.is_empty() => install.push(item.clone()),
                own => install.extend(
                    own.iter().filter_map(|one| Some(format!("{}={}", one.field("Package")?, one.field("Version")?))),
                ),
            }
        }
        // A package of which there is one version needs no word: what is asked is the same then, whatever else is held.
        let has_others = |package: &&PinnedPackage| {
            let versions = self.archive.candidates(&package.name);
            let of_others = |candidate: &super::Candidate<'_>| candidate.field("Version") != Some(&package.version);
            versions.iter().any(of_others) && !versions.iter().all(of_others)
        };
        let preferences: String = held
            .iter()
            .filter(has_others)
            .map(|package| {
                format!("Package: {}\nPin: version {}\nPin-Priority: 1001\n\n", package.name, package.version)
            })
            .collect();
        let known = |name: &&String| installed.contains_key(*name) || !self.archive.candidates(name).is_empty();
        let words = install.iter().map(|item| quoted(item));
        let removals = pass.remove.iter().filter(known).map(|name| quoted(&format!("{name}-")));
        let command = format!("install -q -s {}", words.chain(removals).collect::<Vec<_>>().join(" "));
        let ask = |left_out: &[String]| {
            // apt installs what a pattern or a task means even where `name-` stands beside it.
            let stanza = |name: &String| format!("Package: {name}\nPin: version *\nPin-Priority: -1\n\n");
            let preferences = left_out.iter().map(stanza).collect::<String>() + &preferences;
            let sources = (repositories.sources.as_str(), preferences);
            self.read_simulation(&self.simulate(number, installed, sources, &command, repositories)?, pass)
        };
        let mut answer = ask(&[])?;
        let (mut left_out, mut needed): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for _ in 0..WITHOUT_LIMIT {
            let is_unwanted = |one: &&PinnedPackage| {
                let is_asked = || {
                    pass.install
                        .iter()
                        .any(|item| !is_pattern(item) && !is_apt_pattern(item) && is_named(&one.name, item))
                };
                let goes = |word: &String| is_meant(word, &one.name);
                (pass.remove.iter().any(goes) || patterns.iter().any(|word| goes(word)))
                    && !needed.contains(&one.name)
                    && !is_asked()
            };
            let names: Vec<String> = answer.packages.iter().filter(is_unwanted).map(|one| one.name.clone()).collect();
            if names.is_empty() {
                break;
            }
            match ask(&[&left_out[..], &names].concat()) {
                Ok(found) => {
                    left_out.extend(names);
                    answer = found;
                }
                Err(DistroError::Unsatisfiable { .. }) => needed.extend(names),
                Err(other) => return Err(other),
            }
        }
        if !pass.aside {
            self.add_own(number, pass, installed, repositories, &mut answer)?;
        }
        Ok(Resolution { needed, ..answer })
    }

    /// What goes with packages that are removed, because it needs one of them: as the inside asks apt, which knows no repository there.
    fn gone(
        &self,
        number: usize,
        names: &[String],
        installed: &Known<'_>,
        repositories: &Repositories<'_>,
    ) -> Result<Vec<String>, DistroError> {
        let here: Vec<String> =
            names.iter().filter(|name| installed.contains_key(*name)).map(|name| quoted(name)).collect();
        if here.is_empty() {
            return Ok(Vec::new());
        }
        let command = format!("remove -q -s {}", here.join(" "));
        let said = self.simulate(number, installed, ("", String::new()), &command, repositories)?;
        let gone = said.lines().filter_map(|line| line.strip_prefix("Remv ")?.split_whitespace().next());
        let gone = gone.map(str::to_owned);
        Ok(gone.filter(|name| !names.contains(name)).collect())
    }
}

/// Notes that packages are installed.
fn come(installed: &mut Known<'_>, packages: &[PinnedPackage]) {
    for package in packages {
        let (version, automatic) = (package.version.clone(), package.automatic);
        installed.insert(package.name.clone(), Installed { version, automatic, of_base: None });
    }
}

/// Names of installed packages for patterns, as dpkg-query finds them inside; other names as they are.
fn expanded(names: &[String], installed: &Known<'_>) -> Vec<String> {
    let found = |name: &String| match is_pattern(name) {
        true => installed.keys().filter(|one| is_meant(name, one)).cloned().collect(),
        false => vec![name.clone()],
    };
    names.iter().flat_map(found).collect()
}

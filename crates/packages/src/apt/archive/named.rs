//! The archives that a recipe names itself, and the keys of the distribution's own.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::source::below;
use super::sources_file::{Entry, SignedBy, read_sources_file};
use crate::apt::{Source, architecture};
use crate::{DistroError, Gathering, Keyring, keyring, without_password};
use base::source::{Severity, SourceFile};
use recipe::{Distro, Recipe, id_of};
use sandbox::emulator::HostCpu;

/// Debian's name of the image's architecture.
pub(crate) fn architecture_of(recipe: &Recipe) -> &'static str {
    architecture(recipe.model.image.arch.machine()).unwrap_or("amd64")
}

/// Debian's names of the CPUs whose packages a recipe needs.
#[derive(Debug, Clone, Copy)]
pub struct Architectures {
    pub image: &'static str,
    /// This host's, where it is another one: tools run as they are.
    pub tools: Option<&'static str>,
}

impl Architectures {
    pub fn of(recipe: &Recipe) -> Self {
        let (image, here) = (architecture_of(recipe), architecture(HostCpu::here().machine()));
        Self { image, tools: here.filter(|here| *here != image) }
    }
}

/// The keys of the distribution's own archive.
/// Errors: [`DistroError::Keyring`], if the built-in data were damaged.
pub(crate) fn built_in(recipe: &Recipe) -> Result<Keyring, DistroError> {
    let keys = match recipe.model.image.distro {
        Distro::Ubuntu => Keyring::ubuntu(),
        _ => Keyring::debian(),
    };
    keys.map_err(|problem| DistroError::Keyring { path: "(built in)".into(), problem })
}

pub(crate) struct Named {
    pub repo: usize,
    pub source: Source,
    pub keyring: Keyring,
}

/// The archives that the recipe names by address or in files; what the lock calls them is each one's own.
/// Errors: [`DistroError`] for files or keyrings that cannot be used.
pub(crate) fn named(gathering: &Gathering<'_>) -> Result<Vec<Named>, DistroError> {
    let mut all: Vec<Named> = Vec::new();
    for index in 0..gathering.recipe.model.repo.len() {
        all.extend(of_one(gathering, index)?);
    }
    call(gathering.recipe, &mut all);
    Ok(all)
}

/// The archives of one [[repo]], before they get names of their own.
/// Errors: As [`named`].
pub(crate) fn of_one(gathering: &Gathering<'_>, index: usize) -> Result<Vec<Named>, DistroError> {
    let recipe = gathering.recipe;
    let mut all: Vec<Named> = Vec::new();
    if let Some(repo) = recipe.model.repo.get(index) {
        let own = match recipe.keyrings.get(index).and_then(Option::as_ref) {
            Some(path) => Some(keyring(path)?),
            None => None,
        };
        let built_in = || built_in(recipe);
        if let Some(file) = recipe.repo_files.get(index).and_then(Option::as_ref) {
            for entry in entries_of(gathering, file)? {
                let keyring = match (&own, &entry.signed_by) {
                    (Some(own), _) => own.clone(),
                    (None, None) => built_in()?,
                    (None, Some(SignedBy::Text(text))) => Keyring::parse(text.as_bytes())
                        .map_err(|problem| DistroError::Keyring { path: file.path.clone(), problem })?,
                    (None, Some(SignedBy::File(path))) => {
                        let folder = file.path.parent().unwrap_or(&recipe.directory);
                        keyring(&folder.join(path))?
                    }
                };
                let source = Source {
                    uri: entry.uri,
                    suites: entry.suites,
                    optional: Vec::new(),
                    components: entry.components,
                    signed_by: None,
                    trusted: entry.trusted || repo.trusted,
                    called: None,
                    check_valid_until: entry.check_valid_until && repo.check_valid_until,
                };
                all.push(Named { repo: index, source, keyring });
            }
        } else if let Some(uri) = &repo.uri {
            let source = Source {
                uri: without_password(uri.trim_end_matches('/')),
                suites: repo.suites.clone(),
                optional: Vec::new(),
                components: repo.components.clone(),
                signed_by: None,
                trusted: repo.trusted,
                called: None,
                check_valid_until: repo.check_valid_until,
            };
            let keyring = match own {
                Some(own) => own,
                None => built_in()?,
            };
            all.push(Named { repo: index, source, keyring });
        }
    }
    Ok(all)
}

fn call(recipe: &Recipe, all: &mut [Named]) {
    // `./` and `stable` are names that many archives have; those of the release are the host's, where it is asked, too.
    let mut seen = BTreeSet::new();
    if recipe.model.repo.iter().any(|repo| repo.source.is_some()) {
        let release = &recipe.model.image.release;
        seen.extend(["", "-updates", "-security", "-backports"].map(|ending| format!("{release}{ending}")));
    }
    for one in all {
        let id = id_of(&recipe.model.repo[one.repo], one.repo);
        let is_taken = |source: &Source, seen: &BTreeSet<String>| {
            source
                .suites
                .iter()
                .any(|suite| below(suite).is_some() && source.called.is_none() || seen.contains(&source.origin(suite)))
        };
        let mut number = 1;
        while is_taken(&one.source, &seen) {
            one.source.called = Some(if number == 1 { id.clone() } else { format!("{id}-{number}") });
            number += 1;
        }
        seen.extend(one.source.suites.iter().map(|suite| one.source.origin(suite)));
    }
}

/// The archives of a file of the recipe, for the image's architecture.
fn entries_of(gathering: &Gathering<'_>, file: &Arc<SourceFile>) -> Result<Vec<Entry>, DistroError> {
    let (entries, findings) = read_sources_file(file);
    let mut broken = false;
    for finding in &findings {
        broken |= finding.severity == Severity::Error;
        gathering.news.finding(finding);
    }
    if broken {
        return Err(DistroError::NoSource {
            problem: format!("{} cannot be used", file.name),
            help: "correct the lines above".to_owned(),
        });
    }
    let architecture = architecture_of(gathering.recipe);
    let fits =
        |entry: &Entry| entry.architectures.is_empty() || entry.architectures.iter().any(|one| one == architecture);
    Ok(entries.into_iter().filter(fits).collect())
}

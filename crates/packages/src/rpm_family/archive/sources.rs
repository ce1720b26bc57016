//! The repositories of a recipe: which they are and how far they are trusted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::repo_files::{Host, Said, counting, of_repo_file};
use crate::rpm::{RepositorySource, Variables};
use crate::{Access, DistroError, Gathering, Keyring, keyring, of_directory, of_list, without_password};
use recipe::{OfficialAddress, Recipe, Repo, RepoSource, chosen_repositories, id_of, official_repositories};

pub(crate) enum Place {
    Repository(RepositorySource),
    /// A directory of packages without metadata.
    Directory {
        /// Its short name, how far it is trusted and what of it is used; its base is the directory.
        source: RepositorySource,
        directory: PathBuf,
    },
}

/// What stands for `$releasever` and the like: the image's own, those of `others`, those of the recipe.
fn variables(recipe: &Recipe, others: &BTreeMap<String, String>) -> Variables {
    let image = &recipe.model.image;
    Variables::of_image(&image.release, image.arch.machine(), others, &recipe.model.repo_variables)
}

/// The repositories that the recipe names, before directories are looked into.
pub(crate) fn named(gathering: &Gathering<'_>) -> Result<Vec<RepositorySource>, DistroError> {
    let mut all = Vec::new();
    for index in 0..gathering.recipe.model.repo.len() {
        all.extend(of_one(gathering, index)?);
    }
    Ok(all)
}

/// The repositories of one [[repo]].
/// Errors: As [`named`].
pub(crate) fn of_one(gathering: &Gathering<'_>, index: usize) -> Result<Vec<RepositorySource>, DistroError> {
    let recipe = gathering.recipe;
    let variables = variables(recipe, &BTreeMap::new());
    let mut all = Vec::new();
    if let Some(repo) = recipe.model.repo.get(index) {
        // What the recipe says itself goes before what a file says.
        let said = recipe.spans.get(&format!("repo[{index}].check-packages")).is_some();
        let packages = said.then_some(repo.check_packages);
        let keys = match recipe.keyrings.get(index).and_then(Option::as_ref) {
            Some(path) => Some(counting(keyring(path)?, repo)),
            None => None,
        };
        let of_file = recipe.repo_files.get(index).and_then(Option::as_ref);
        if let Some(file) = of_file {
            let base = recipe.directory.join(repo.file.as_deref().unwrap_or_default());
            let base = base.parent().unwrap_or(&recipe.directory).to_owned();
            let said = Said { repo, packages, keys: keys.as_ref(), host: None };
            all.extend(of_repo_file(gathering, file, &said, &base, &variables)?);
        } else if repo.source == Some(RepoSource::Distribution) {
            all.extend(of_distribution(gathering, repo, keys.as_ref(), &variables)?);
        } else if repo.source.is_some() {
            let host = Host::read();
            if host.files.is_empty() {
                return Err(DistroError::NoSource {
                    problem:
                        "this host's own package manager has no RPM repositories (/etc/yum.repos.d, /etc/zypp/repos.d)"
                            .to_owned(),
                    help: "name them: ‹[[repo]] uri = \"...\"›, or ‹file = \"site.repo\"›".to_owned(),
                });
            }
            let variables = self::variables(recipe, &host.variables);
            let said = Said { repo, packages, keys: keys.as_ref(), host: Some(&host) };
            for file in &host.files {
                all.extend(of_repo_file(gathering, file, &said, Path::new("/"), &variables)?);
            }
        } else {
            let text = |text: &Option<String>| -> Result<Option<String>, DistroError> {
                let unknown = |name: String| DistroError::NoSource {
                    problem: format!(
                        "the address of the repository `{}` has the unknown variable `${name}`",
                        id_of(repo, index)
                    ),
                    help: format!("give it a value: ‹[repo_variables] {name} = \"...\"›"),
                };
                text.as_ref().map(|text| variables.expand(text).map_err(unknown)).transpose()
            };
            let plain = Access::default();
            let mirror = gathering.places.mirror.as_ref().filter(|_| repo.uri.is_none());
            all.push(RepositorySource {
                base: text(&repo.uri)?
                    .or_else(|| mirror.cloned())
                    .map(|base| of_directory(&base, &plain))
                    .into_iter()
                    .collect(),
                mirrorlist: text(&repo.mirrorlist)?.map(|list| of_list(&list, &plain)),
                metalink: text(&repo.metalink)?.map(|list| of_list(&list, &plain)),
                ..of_repo(repo, id_of(repo, index), keys)
            });
        }
    }
    Ok(all)
}

/// A repository without its address, as the recipe's [[repo]] says.
fn of_repo(repo: &Repo, id: String, keys: Option<Keyring>) -> RepositorySource {
    RepositorySource {
        id,
        keys,
        repo_gpgcheck: repo.check_index,
        gpgcheck: repo.check_packages && !repo.check_index,
        priority: repo.priority,
        exclude: repo.exclude.clone(),
        include: repo.include.clone(),
        module_hotfixes: repo.module_hotfixes,
        ..RepositorySource::default()
    }
}

/// The distribution's own repositories, or those of a mirror of them.
fn of_distribution(
    gathering: &Gathering<'_>,
    repo: &Repo,
    keys: Option<&Keyring>,
    variables: &Variables,
) -> Result<Vec<RepositorySource>, DistroError> {
    let image = &gathering.recipe.model.image;
    let no_source = |problem: String, help: &str| DistroError::NoSource { problem, help: help.to_owned() };
    let all = official_repositories(image.distro, &image.release);
    let chosen = chosen_repositories(&all, &repo.components).map_err(|name| {
        no_source(
            format!("{} {} has no repository `{name}`", image.distro.title(), image.release),
            "see `imgbuild check`",
        )
    })?;
    let mirror = repo.uri.as_ref().or(gathering.places.mirror.as_ref());
    let mirror = mirror.map(|mirror| of_directory(mirror, &Access::default()));
    let expanded = |text: &str| {
        let unknown = |name: String| {
            no_source(
                format!("the address of the distribution's mirror has the unknown variable `${name}`"),
                "give it a value in ‹[repo_variables]›",
            )
        };
        variables.expand(text).map(|text| without_password(&text)).map_err(unknown)
    };
    let mut found = Vec::new();
    for one in chosen {
        let built_in = || {
            let damaged = |problem| no_source(problem, "this is a bug in imgbuild");
            Keyring::built_in(one.keys, &one.fingerprints).map(|keys| counting(keys, repo)).map_err(damaged)
        };
        let keys = keys.map_or_else(built_in, |keys| Ok(keys.clone()))?;
        let mut source = of_repo(repo, one.id.to_owned(), Some(keys));
        match (mirror.as_ref().zip(one.path), one.address) {
            (Some((mirror, path)), _) => source.base = vec![expanded(&format!("{mirror}/{path}"))?],
            (None, OfficialAddress::Base(base)) => source.base = vec![expanded(base)?],
            (None, OfficialAddress::MirrorList(list)) => source.mirrorlist = Some(expanded(list)?),
            (None, OfficialAddress::MetaLink(list)) => source.metalink = Some(expanded(list)?),
        }
        found.push(source);
    }
    Ok(found)
}

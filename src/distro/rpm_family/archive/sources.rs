//! The repositories of a recipe: which they are and how far they are trusted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::distro::rpm::{RepoEntry, RepositorySource, Variables, read_repo_file};
use crate::distro::{DistroError, Gathering, Keyring, keyring, without_password};
use crate::recipe::{OfficialAddress, Recipe, Repo, RepoSource, chosen_repositories, id_of, official_repositories};
use crate::source::{Finding, Severity, SourceFile};

/// A repository of a recipe.
pub enum Place {
    /// One with metadata, anywhere.
    Repository(RepositorySource),
    /// A directory of packages without metadata.
    Directory {
        /// Its short name, how far it is trusted and what of it is used; its base is the directory.
        source: RepositorySource,
        /// Where it is.
        directory: PathBuf,
    },
}

/// What stands for `$releasever` and the like.
pub fn variables(recipe: &Recipe) -> Variables {
    let image = &recipe.model.image;
    let mut all: BTreeMap<String, String> = BTreeMap::from([
        ("releasever".to_owned(), image.release.clone()),
        ("basearch".to_owned(), image.arch.machine().to_owned()),
        ("arch".to_owned(), image.arch.machine().to_owned()),
    ]);
    let major = image.release.split('.').next().unwrap_or_default();
    all.insert("releasever_major".to_owned(), major.to_owned());
    all.extend(recipe.model.repo_variables.clone());
    Variables(all)
}

/// The repositories that the recipe names, before directories are looked into.
///
/// # Errors
/// [`DistroError`] for what cannot be read.
pub fn named(gathering: &Gathering<'_>) -> Result<Vec<RepositorySource>, DistroError> {
    let recipe = gathering.recipe;
    let variables = variables(recipe);
    let mut all = Vec::new();
    for (index, repo) in recipe.model.repo.iter().enumerate() {
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
            all.extend(of_repo_file(gathering, file, (repo, packages), keys.as_ref(), &base, &variables)?);
        } else if repo.source == Some(RepoSource::Distribution) {
            all.extend(of_distribution(gathering, repo, keys.as_ref(), &variables)?);
        } else if repo.source.is_some() {
            let files = host_files();
            if files.is_empty() {
                return Err(DistroError::NoSource {
                    problem:
                        "this host's own package manager has no RPM repositories (/etc/yum.repos.d, /etc/zypp/repos.d)"
                            .to_owned(),
                    help: "name them: [[repo]] uri = \"...\", or file = \"site.repo\"".to_owned(),
                });
            }
            for file in files {
                all.extend(of_repo_file(
                    gathering,
                    &file,
                    (repo, packages),
                    keys.as_ref(),
                    Path::new("/"),
                    &variables,
                )?);
            }
        } else {
            let text = |text: &Option<String>| -> Result<Option<String>, DistroError> {
                let unknown = |name: String| DistroError::NoSource {
                    problem: format!(
                        "the address of the repository `{}` has the unknown variable `${name}`",
                        id_of(repo, index)
                    ),
                    help: format!("give it a value: [repo_variables] {name} = \"...\""),
                };
                let text = text.as_ref().map(|text| variables.expand(text).map_err(unknown)).transpose()?;
                Ok(text.map(|text| without_password(&text)))
            };
            let mirror = gathering.places.mirror.as_ref().filter(|_| repo.uri.is_none());
            all.push(RepositorySource {
                base: text(&repo.uri)?.or_else(|| mirror.map(|mirror| without_password(mirror))).into_iter().collect(),
                mirrorlist: text(&repo.mirrorlist)?,
                metalink: text(&repo.metalink)?,
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
    let mirror = repo.uri.as_ref().or(gathering.places.mirror.as_ref()).map(|mirror| mirror.trim_end_matches('/'));
    let expanded = |text: &str| {
        let unknown = |name: String| {
            no_source(
                format!("the address of the distribution's mirror has the unknown variable `${name}`"),
                "give it a value in [repo_variables]",
            )
        };
        variables.expand(text).map(|text| without_password(&text)).map_err(unknown)
    };
    let mut found = Vec::new();
    for one in chosen {
        let built_in = || {
            let damaged = |problem| no_source(problem, "this is a mistake of imgbuild's");
            Keyring::built_in(one.keys, &one.fingerprints).map(|keys| counting(keys, repo)).map_err(damaged)
        };
        let keys = keys.map_or_else(built_in, |keys| Ok(keys.clone()))?;
        let mut source = of_repo(repo, one.id.to_owned(), Some(keys));
        match (mirror.zip(one.path), one.address) {
            (Some((mirror, path)), _) => source.base = vec![expanded(&format!("{mirror}/{path}"))?],
            (None, OfficialAddress::Base(base)) => source.base = vec![expanded(base)?],
            (None, OfficialAddress::MirrorList(list)) => source.mirrorlist = Some(expanded(list)?),
            (None, OfficialAddress::MetaLink(list)) => source.metalink = Some(expanded(list)?),
        }
        found.push(source);
    }
    Ok(found)
}

/// The keys of a repository, as its [[repo]] wants them to count.
fn counting(keys: Keyring, repo: &Repo) -> Keyring {
    if repo.weak_signatures { keys.accepting_weak() } else { keys }
}

/// The host's own `.repo` files.
fn host_files() -> Vec<std::sync::Arc<SourceFile>> {
    let mut paths: Vec<PathBuf> = ["/etc/yum.repos.d", "/etc/zypp/repos.d"]
        .into_iter()
        .flat_map(|directory| std::fs::read_dir(directory).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "repo"))
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).ok()?;
        Some(SourceFile::new(path.display().to_string(), &path, text))
    };
    paths.into_iter().filter_map(read).collect()
}

fn of_repo_file(
    gathering: &Gathering<'_>,
    file: &std::sync::Arc<SourceFile>,
    (repo, packages): (&Repo, Option<bool>),
    keys: Option<&Keyring>,
    base: &Path,
    variables: &Variables,
) -> Result<Vec<RepositorySource>, DistroError> {
    let (entries, findings) = read_repo_file(file, variables);
    let mut broken = false;
    for finding in &findings {
        broken |= finding.severity == Severity::Error;
        gathering.news.finding(finding);
    }
    if broken {
        return Err(DistroError::Format { file: file.name.clone(), problem: "cannot be used".to_owned() });
    }
    let mut all = Vec::new();
    for entry in entries.into_iter().filter(|entry| entry.enabled) {
        let keys = match keys {
            Some(keys) => Some(keys.clone()),
            None => keys_of(&entry, base)?.map(|keys| counting(keys, repo)),
        };
        let (repo_gpgcheck, gpgcheck) = checks((repo.check_index, packages), (entry.repo_gpgcheck, entry.gpgcheck));
        if let Some(span) = entry.unsigned.as_ref().filter(|_| packages.is_none() && !repo_gpgcheck) {
            let message = format!("the packages of the repository `{}` are taken unsigned", entry.id.escape_default());
            let finding = Finding::warning("repo_file::unsigned", span, message).help(
                "where that is meant, say so beside `file` in the [[repo]]: check-packages = false; otherwise check-packages = true, or check-index = true",
            );
            gathering.news.finding(&finding);
        }
        if (gpgcheck || repo_gpgcheck) && keys.is_none() {
            return Err(DistroError::NoSource {
                problem: format!("the repository `{}` of {} is to be checked and names no keys that are here", entry.id, file.name),
                help: "name them: [[repo]] signed-by = \"keys/RPM-GPG-KEY-...\" beside `file`; where nobody signed the packages: check-packages = false".to_owned(),
            });
        }
        all.push(RepositorySource {
            id: entry.id,
            base: entry.baseurl.iter().map(|url| without_password(url)).collect(),
            mirrorlist: entry.mirrorlist.map(|url| without_password(&url)),
            metalink: entry.metalink.map(|url| without_password(&url)),
            keys,
            repo_gpgcheck,
            gpgcheck,
            priority: entry.priority.or(repo.priority),
            exclude: entry.exclude.into_iter().chain(repo.exclude.clone()).collect(),
            include: entry.include.into_iter().chain(repo.include.clone()).collect(),
            module_hotfixes: entry.module_hotfixes || repo.module_hotfixes,
        });
    }
    Ok(all)
}

/// Whether the index and whether the packages must be signed, by recipe and `.repo` file: no file takes back what the
/// recipe wants signed, and where the recipe says nothing of the packages the file decides.
fn checks(recipe: (bool, Option<bool>), file: (Option<bool>, Option<bool>)) -> (bool, bool) {
    let index = recipe.0 || file.0.unwrap_or(false);
    (index, recipe.1.or(file.1).unwrap_or(true) && !index)
}

/// Keys that a `.repo` file names by files; those on the network are not trusted unseen.
fn keys_of(entry: &RepoEntry, base: &Path) -> Result<Option<Keyring>, DistroError> {
    let files: Vec<PathBuf> = entry
        .gpgkey
        .iter()
        .filter_map(|key| match key.strip_prefix("file:") {
            Some(path) => Some(PathBuf::from(format!("/{}", path.trim_start_matches('/')))),
            None => (!key.contains("://")).then(|| base.join(key)),
        })
        .filter(|path| path.is_file())
        .collect();
    let mut all: Option<Keyring> = None;
    for file in files {
        let found = keyring(&file)?;
        all = Some(match all {
            None => found,
            Some(mut known) => {
                known.extend(found);
                known
            }
        });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::checks;

    #[test]
    fn a_repo_file_cannot_take_back_what_the_recipe_wants_signed() {
        assert_eq!(checks((true, None), (Some(false), Some(false))), (true, false));
        assert_eq!(checks((false, None), (Some(true), None)), (true, false));
        assert_eq!(checks((false, None), (None, None)), (false, true));
        assert_eq!(checks((false, None), (None, Some(false))), (false, false));
        assert_eq!(checks((false, Some(true)), (None, Some(false))), (false, true));
        assert_eq!(checks((false, Some(false)), (None, Some(true))), (false, false));
    }
}

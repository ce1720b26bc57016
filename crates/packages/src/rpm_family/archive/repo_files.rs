//! Repositories of `.repo` files: the recipe's, and those of this host with what its package manager knows besides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::rpm::{RepoEntry, RepositorySource, Variables, read_main, read_repo_file, without_zypp, zypp_credentials};
use crate::{Access, DistroError, Gathering, Keyring, News, keyring, of_directory, of_list};
use base::source::{Finding, Severity, SourceFile};
use recipe::Repo;

/// Where zypper keeps users and passwords of registered hosts.
const ZYPP_CREDENTIALS: &str = "/etc/zypp/credentials.d";

/// Largest file of a variable, in bytes.
const VARIABLE_LIMIT: u64 = 4096;

/// What this host's own package manager knows.
pub(super) struct Host {
    pub files: Vec<Arc<SourceFile>>,
    pub variables: BTreeMap<String, String>,
    /// How servers are asked where their repository says nothing.
    access: Access,
}

impl Host {
    pub(super) fn read() -> Self {
        let below = |directories: &[&str], is_wanted: &dyn Fn(&Path) -> bool| {
            let mut paths: Vec<PathBuf> = directories
                .iter()
                .flat_map(|directory| std::fs::read_dir(directory).into_iter().flatten().flatten())
                .map(|entry| entry.path())
                .filter(|path| is_wanted(path))
                .collect();
            paths.sort();
            paths
        };
        let read = |path: PathBuf| {
            let text = std::fs::read_to_string(&path).ok()?;
            Some(SourceFile::new(path.display().to_string(), &path, text))
        };
        let is_repo = |path: &Path| path.extension().is_some_and(|ending| ending == "repo");
        let files = below(&["/etc/yum.repos.d", "/etc/zypp/repos.d"], &is_repo);
        // Source: dnf.conf(5), varsdir; dnf5's vars of the distribution itself come first.
        let is_small =
            |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= VARIABLE_LIMIT);
        let mut variables = BTreeMap::new();
        for directory in ["/usr/share/dnf5/vars.d", "/etc/yum/vars", "/etc/dnf/vars"] {
            for path in below(&[directory], &is_small) {
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                variables.insert(name.to_owned(), text.lines().next().unwrap_or_default().trim().to_owned());
            }
        }
        // Those of this host's own release are not the image's.
        for name in ["releasever", "releasever_major", "releasever_minor", "basearch", "arch"] {
            variables.remove(name);
        }
        let main = ["/etc/dnf/dnf.conf", "/etc/yum.conf"].into_iter().map(PathBuf::from).find_map(read);
        let known = Variables(variables.clone());
        let access = main.map(|file| read_main(&file, &known)).unwrap_or_default();
        Self { files: files.into_iter().filter_map(read).collect(), variables, access }
    }
}

pub(super) struct Said<'a> {
    pub repo: &'a Repo,
    /// Whether packages are to be signed; none where it does not say so.
    pub packages: Option<bool>,
    pub keys: Option<&'a Keyring>,
    /// The host, where the file is the host's own.
    pub host: Option<&'a Host>,
}

impl Said<'_> {
    /// Takes out of addresses what zypper reads there itself: how each of them is asked; none where the repository cannot be asked.
    fn ask_as_zypper(&self, entry: &mut RepoEntry, news: &dyn News) -> Result<Option<Vec<Access>>, DistroError> {
        let is_askable = |url: &String| {
            let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
            ["http", "https", "file", "dir"].contains(&scheme) || url.starts_with('/')
        };
        if let Some(url) = entry.baseurl.iter().find(|url| !is_askable(url)) {
            // What stands without a scheme may be anything, also a secret.
            let is_scheme = |text: &&str| text.len() < 16 && text.chars().all(|c| c.is_ascii_lowercase());
            let place = match url.split_once(':').map(|(scheme, _)| scheme).filter(is_scheme) {
                Some(scheme) => format!("on `{scheme}:`"),
                None => "at an address without a scheme".to_owned(),
            };
            let id = entry.id.escape_default();
            let message = format!("the repository `{id}` is {place}, which is not supported: it is left out");
            let finding = Finding::warning("repo_file::scheme", &entry.span, message)
                .help("http:, https: and file: are supported; set `enabled=0` or another address to silence this");
            news.finding(&finding);
            return Ok(None);
        }
        let mut ways = Vec::new();
        for url in &mut entry.baseurl {
            ways.push(entry.access.clone());
            if let Some(path) = url.strip_prefix("dir:") {
                *url = format!("file:{path}");
            }
            let (plain, credentials) = without_zypp(url);
            *url = plain;
            let Some(name) = credentials else { continue };
            if self.host.is_none() {
                // A file that came from elsewhere must not send this host's passwords to its own server.
                let message = "`credentials=` has an effect only in this host's own files and is ignored";
                let finding = Finding::warning("repo_file::credentials", &entry.span, message)
                    .help("give user and password to imgbuild: docs/security.md, Credentials");
                news.finding(&finding);
                continue;
            }
            let found = zypp_credentials(Path::new(ZYPP_CREDENTIALS), &name);
            let user = found.map_err(|problem| DistroError::NoSource {
                problem: format!("the repository `{}` asks for credentials: {problem}", entry.id),
                help: "register the host (SUSEConnect), build as a user who may read the file, or name a mirror: ‹[[repo]] uri = \"...\"›".to_owned(),
            })?;
            // They are for this address alone.
            ways.iter_mut().last().into_iter().for_each(|way| way.user = Some(user.clone()));
        }
        Ok(Some(ways))
    }
}

/// The keys of a repository, as its [[repo]] wants them to count.
pub(super) fn counting(keys: Keyring, repo: &Repo) -> Keyring {
    if repo.weak_signatures { keys.accepting_weak() } else { keys }
}

/// The repositories of a file; paths of keys begin at `base`.
pub(super) fn of_repo_file(
    gathering: &Gathering<'_>,
    file: &Arc<SourceFile>,
    said: &Said<'_>,
    base: &Path,
    variables: &Variables,
) -> Result<Vec<RepositorySource>, DistroError> {
    let Said { repo, packages, keys, host } = *said;
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
    for mut entry in entries.into_iter().filter(|entry| entry.enabled) {
        match host {
            Some(host) => entry.access = std::mem::take(&mut entry.access).or(&host.access),
            None => entry.access.is_of_recipe = true,
        }
        let Some(ways) = said.ask_as_zypper(&mut entry, gathering.news)? else { continue };
        let keys = match keys {
            Some(keys) => Some(keys.clone()),
            None => keys_of(&entry, base)?.map(|keys| counting(keys, repo)),
        };
        let (repo_gpgcheck, gpgcheck) = checks((repo.check_index, packages), (entry.repo_gpgcheck, entry.gpgcheck));
        if let Some(span) = entry.unsigned.as_ref().filter(|_| packages.is_none() && !repo_gpgcheck) {
            let message =
                format!("the packages of the repository `{}` are accepted unsigned", entry.id.escape_default());
            let finding = Finding::warning("repo_file::unsigned", span, message).help(
                "if that is intended, say so next to `file` in the ‹[[repo]]›: ‹check-packages = false›; otherwise ‹check-packages = true›, or ‹check-index = true›",
            );
            gathering.news.finding(&finding);
        }
        if (gpgcheck || repo_gpgcheck) && keys.is_none() {
            return Err(DistroError::NoSource {
                problem: format!("the repository `{}` of {} must be checked, but names no keys available here", entry.id, file.name),
                help: "name them: ‹[[repo]] signed-by = \"keys/RPM-GPG-KEY-...\"› next to `file`; if the packages are unsigned: ‹check-packages = false›".to_owned(),
            });
        }
        if entry.access.tls.unverified == Some(true) {
            // The package manager's own settings may say so for all.
            let span = entry.unverified.as_ref().unwrap_or(&entry.span);
            let id = entry.id.escape_default();
            let message = format!("the server certificate of `{id}` is not verified");
            let finding = match gpgcheck || repo_gpgcheck {
                true => Finding::warning("repo_file::unverified", span, message)
                    .help("its content is signed and the signatures are checked; `sslcacert = FILE` names the certificate"),
                false => Finding::error("repo_file::unverified", span, format!("{message}, and nothing in it is signed")).help(
                    "anyone on the path could inject packages: set sslcacert = FILE and remove sslverify=0, or have signatures checked",
                ),
            };
            gathering.news.finding(&finding);
            if finding.severity == Severity::Error {
                return Err(DistroError::Format { file: file.name.clone(), problem: "cannot be used".to_owned() });
            }
        }
        let access = &entry.access;
        all.push(RepositorySource {
            id: entry.id,
            base: entry.baseurl.iter().zip(&ways).map(|(url, way)| of_directory(url, way)).collect(),
            mirrorlist: entry.mirrorlist.map(|url| of_list(&url, access)),
            metalink: entry.metalink.map(|url| of_list(&url, access)),
            access: access.of_mirrors(),
            keys,
            repo_gpgcheck,
            gpgcheck,
            priority: entry.priority.or(repo.priority),
            exclude: entry.exclude.into_iter().chain(repo.exclude.clone()).collect(),
            include: entry.include.into_iter().chain(repo.include.clone()).collect(),
            module_hotfixes: entry.module_hotfixes || repo.module_hotfixes,
            skip_if_unavailable: entry.skip_if_unavailable,
        });
    }
    Ok(all)
}

/// Whether the index and whether the packages must be signed, by recipe and `.repo` file: no file takes back what the
/// recipe wants signed, and where the recipe says nothing of the packages the file decides.
fn checks(recipe: (bool, Option<bool>), file: (Option<bool>, Option<bool>)) -> (bool, bool) {
    let index = recipe.0 && !fault::planted("repo-file-takes-back") || file.0.unwrap_or(false);
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

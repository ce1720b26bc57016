//! Repositories of the input, as entries of `[[repo]]`.

use std::collections::BTreeSet;

use recipe::{Family, OfficialAddress, official_repositories};

use super::{Key, Plan, Verdict};
use crate::input::roots::Roots;
use crate::input::secrets;

/// An entry of `[[repo]]`: keys and values as TOML, and whether it is only a comment, for the administrator to complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) is_comment: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum RpmKind {
    #[default]
    Base,
    MirrorList,
    MetaLink,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RpmRepository {
    pub(crate) id: String,
    pub(crate) kind: RpmKind,
    pub(crate) address: String,
    pub(crate) priority: Option<String>,
    /// Globs of packages that are not used, and of those that alone are.
    pub(crate) exclude: Vec<String>,
    pub(crate) include: Vec<String>,
    pub(crate) module_hotfixes: bool,
    /// Addresses and paths of the keys that sign its packages.
    pub(crate) keys: Vec<String>,
    /// Whether the other tool checks packages.
    pub(crate) is_checked: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AptArchive {
    pub(crate) address: String,
    pub(crate) suites: Vec<String>,
    pub(crate) components: Vec<String>,
    pub(crate) keys: Vec<String>,
    pub(crate) is_checked: bool,
}

pub(super) fn toml(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A list of texts as TOML, on one line.
fn toml_list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| toml(item)).collect::<Vec<_>>().join(", "))
}

/// Whether an address is one of `$releasever/BaseOS/$basearch/os`: the mirror's directory in front of it.
fn mirror_of(address: &str, template: &str, release: &str, arch: &str) -> Option<String> {
    let parts: Vec<&str> = address.trim_end_matches('/').split('/').collect();
    let wanted: Vec<&str> = template.split('/').collect();
    let start = parts.len().checked_sub(wanted.len()).filter(|start| *start > 2)?;
    let is_same = |part: &str, wanted: &str| {
        part == wanted || part.eq_ignore_ascii_case(&wanted.replace("$releasever", release).replace("$basearch", arch))
    };
    parts[start..].iter().zip(&wanted).all(|(part, wanted)| is_same(part, wanted)).then(|| parts[..start].join("/"))
}

impl Plan {
    pub(super) fn official(&self) -> &[(Option<String>, Vec<String>)] {
        &self.distribution
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.repositories
    }

    pub(crate) fn has_repositories(&self) -> bool {
        !self.distribution.is_empty() || self.repositories.iter().any(|entry| !entry.is_comment)
    }

    /// Uses repositories of the distribution, whose keys are built in.
    pub(crate) fn component(&mut self, mirror: Option<String>, id: &str) {
        let at = self.distribution.iter().position(|(known, _)| *known == mirror).unwrap_or_else(|| {
            self.distribution.push((mirror, Vec::new()));
            self.distribution.len() - 1
        });
        let components = &mut self.distribution[at].1;
        if !components.iter().any(|one| one == id) {
            components.push(id.to_owned());
        }
    }

    /// Turns on a repository of the distribution that is usually off: `crb`, `epel`.
    pub(crate) fn extra_component(&mut self, key: &Key, name: &str) {
        let official = official_repositories(self.distro, &self.release);
        let name = name.to_ascii_lowercase();
        let same = |id: &str| {
            id == name || ["crb", "powertools"].contains(&id) && ["crb", "powertools"].contains(&name.as_str())
        };
        let Some(found) = official.iter().find(|one| same(one.id)) else {
            return self
                .decide(key, format!("a repository that the image's own files name: add `{name}` as a [[repo]]"));
        };
        match self.distribution.first_mut() {
            Some((_, components))
                if components.iter().any(|one| one == found.id || one[..] == format!("+{}", found.id)) => {}
            Some((_, components)) if components.iter().any(|one| one.starts_with('+')) => {
                components.push(format!("+{}", found.id))
            }
            Some((_, components)) => components.push(found.id.to_owned()),
            None => self.component(None, &format!("+{}", found.id)),
        }
        self.exact(key, "repo.components", "");
    }

    /// The distribution's own repositories where the input names none.
    pub(crate) fn usual_repositories(&mut self, key: &Key) {
        if self.family() == Family::Debian || self.has_repositories() || !self.extends.is_empty() {
            return;
        }
        if official_repositories(self.distro, &self.release).is_empty() {
            return self.decide(key, "no repository is named: add the site's own as [[repo]], docs/rpm.md");
        }
        self.distribution.push((None, Vec::new()));
        self.exact(key, "repo.source", "none is named: the distribution's own");
    }

    /// An RPM repository. Keys in files are copied; those on the network are to be fetched by the administrator.
    pub(crate) fn rpm_repository(&mut self, key: &Key, repository: &RpmRepository, roots: Option<(&Roots, &str)>) {
        let Some(address) = self.address(key, &repository.address) else { return };
        let (release, arch) = (self.release.clone(), self.arch.machine());
        for one in official_repositories(self.distro, &release) {
            let is_epel = one.path.is_none() && repository.kind == RpmKind::Base && {
                let tail = format!("{}/$releasever/Everything/$basearch", one.id);
                mirror_of(&address, &tail, release.split('.').next().unwrap_or(&release), arch).is_some()
            };
            let list = match one.address {
                OfficialAddress::MirrorList(list) if repository.kind == RpmKind::MirrorList => Some(list),
                OfficialAddress::MetaLink(list) if repository.kind == RpmKind::MetaLink => Some(list),
                _ => None,
            };
            let filled = |text: &str| text.replace("$releasever", &release).replace("$basearch", arch);
            if is_epel || list.is_some_and(|list| filled(list) == filled(&address)) {
                self.component(None, one.id);
                self.without_settings(key, repository);
                let reason = if is_epel {
                    "by its official list of mirrors instead of this address; its keys are built in"
                } else {
                    ""
                };
                let verdict = if is_epel { Verdict::Differs } else { Verdict::Exact };
                return self.row(key, verdict, Some("repo.components"), reason);
            }
            let mirror = one
                .path
                .filter(|_| repository.kind == RpmKind::Base)
                .and_then(|path| mirror_of(&address, path, &release, arch));
            if let Some(mirror) = mirror {
                self.component(Some(mirror), one.id);
                self.without_settings(key, repository);
                let reason = if repository.is_checked { "" } else { "its packages are checked, with built-in keys" };
                return self.exact(key, "repo.components", reason);
            }
        }
        let field = match repository.kind {
            RpmKind::Base => "uri",
            RpmKind::MirrorList => "mirrorlist",
            RpmKind::MetaLink => "metalink",
        };
        let id = self.free_id(&repository.id);
        let mut fields = vec![("id", toml(&id)), (field, toml(&address))];
        match repository.priority.as_deref().map(str::parse::<u32>) {
            Some(Ok(priority)) if (1..=99).contains(&priority) => fields.push(("priority", priority.to_string())),
            Some(_) => self.differs(key, Some("repo.priority"), "the priority is not a number from 1 to 99: left out"),
            None => {}
        }
        for (name, globs) in [("exclude", &repository.exclude), ("include", &repository.include)] {
            if !globs.is_empty() {
                fields.push((name, toml_list(globs)));
            }
        }
        if repository.module_hotfixes {
            fields.push(("module-hotfixes", "true".to_owned()));
        }
        let (signed, missing) = self.keys(&id, &repository.keys, roots);
        if let Some(signed) = signed {
            fields.push(("signed-by", toml(&signed)));
            self.repositories.push(Entry { fields, is_comment: false });
            return self.exact(key, "repo", "");
        }
        if repository.is_checked {
            let wanted = match repository.keys.as_slice() {
                [] => format!("keys/{}", file_name(&id)),
                keys => self.key_name(&id, keys),
            };
            fields.push(("signed-by", toml(&wanted)));
            self.repositories.push(Entry { fields, is_comment: true });
            let from = if missing.is_empty() { "its keys".to_owned() } else { missing.join(", ") };
            let reason = format!(
                "keys are not fetched: save {from} as {wanted} in the image's directory, and remove the # before the [[repo]]"
            );
            return self.decide(key, reason);
        }
        fields.push(("check-packages", "false".to_owned()));
        self.repositories.push(Entry { fields, is_comment: false });
        let keys = match missing.is_empty() {
            true => "its keys".to_owned(),
            false => format!("its keys ({})", missing.join(", ")),
        };
        let reason = format!(
            "signatures of packages are not checked, as with {}: name {keys} with signed-by, and remove check-packages",
            self.tool
        );
        self.differs(key, Some("repo"), reason);
    }

    /// An archive of Debian's kind.
    pub(crate) fn apt_archive(&mut self, key: &Key, archive: &AptArchive, roots: Option<(&Roots, &str)>) {
        let Some(address) = self.address(key, &archive.address) else { return };
        let usual = ["main", "contrib", "non-free", "non-free-firmware", "restricted", "universe", "multiverse"];
        let mut fields = vec![("uri", toml(&address)), ("suites", toml_list(&archive.suites))];
        let is_flat = archive.suites.iter().all(|suite| suite.ends_with('/'));
        if !is_flat {
            fields.push(("components", toml_list(&archive.components)));
        }
        let host = file_name(address.split('/').nth(2).filter(|host| !host.is_empty()).unwrap_or("archive"));
        let (signed, missing) = self.keys(&host, &archive.keys, roots);
        let is_own = !is_flat
            && archive.components.iter().all(|one| usual.contains(&one.as_str()))
            && archive
                .suites
                .iter()
                .all(|suite| super::release::of_suite(suite).is_some_and(|found| found.release == self.release));
        if let Some(signed) = signed {
            fields.push(("signed-by", toml(&signed)));
            self.repositories.push(Entry { fields, is_comment: false });
            return self.exact(key, "repo", "");
        }
        if is_own && missing.is_empty() {
            self.repositories.push(Entry { fields, is_comment: false });
            return self.exact(
                key,
                "repo",
                if archive.is_checked { "" } else { "its index is checked, with built-in keys" },
            );
        }
        if !archive.is_checked {
            fields.push(("trusted", "true".to_owned()));
            self.repositories.push(Entry { fields, is_comment: false });
            let reason =
                format!("accepted unsigned, as with {}: name its keys with signed-by, and remove trusted", self.tool);
            return self.differs(key, Some("repo"), reason);
        }
        let wanted = match archive.keys.as_slice() {
            [] => self.key_name(&host, &[format!("{address}.gpg")]),
            keys => self.key_name(&host, keys),
        };
        fields.push(("signed-by", toml(&wanted)));
        self.repositories.push(Entry { fields, is_comment: true });
        let from = if missing.is_empty() { "its keys".to_owned() } else { missing.join(", ") };
        self.decide(key, format!("keys are not fetched: save {from} as {wanted} in the image's directory, and remove the # before the [[repo]]"));
    }

    /// An address that a recipe may have; others are named.
    fn address(&mut self, key: &Key, address: &str) -> Option<String> {
        let address = address.trim();
        if secrets::has_userinfo(address) || secrets::of_line(address).is_some() {
            self.decide(key, "its address has a password or a token: write the [[repo]] without it, and put it into ~/.netrc, docs/security.md");
            return None;
        }
        let local = address
            .strip_prefix("dir:")
            .or_else(|| address.strip_prefix("file:"))
            .or(address.starts_with('/').then_some(address));
        if let Some(path) = local {
            return Some(format!("file:/{}", path.trim_start_matches('/')));
        }
        let is_web = address.starts_with("http://") || address.starts_with("https://");
        let is_fine = is_web && !address.chars().any(|c| c.is_control() || c.is_whitespace() || "'\"<>".contains(c));
        if !is_fine {
            self.decide(key, "its address is not http, https or a directory: add a [[repo]] with the address where its packages are published");
            return None;
        }
        Some(address.replace("%arch", "$basearch"))
    }

    /// Names settings of a repository that is one of the distribution's own: these have none.
    fn without_settings(&mut self, key: &Key, repository: &RpmRepository) {
        let settings = [
            repository.priority.iter().map(|priority| format!("priority={priority}")).collect::<String>(),
            repository.exclude.iter().map(|glob| format!("exclude={glob} ")).collect(),
            repository.include.iter().map(|glob| format!("include={glob} ")).collect(),
            if repository.module_hotfixes { "module_hotfixes=1".to_owned() } else { String::new() },
        ];
        for setting in settings.into_iter().filter(|setting| !setting.is_empty()) {
            let of_setting = Key { value: setting.trim_end().to_owned(), ..key.clone() };
            self.decide(&of_setting, "the distribution's own repository is taken without it: write a [[repo]] with it and with the keys, if it is needed");
        }
    }

    fn free_id(&self, wanted: &str) -> String {
        let is_fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let id: String = wanted.chars().take(60).map(|c| if is_fine(c) { c } else { '-' }).collect();
        let id = if id.is_empty() { "repo".to_owned() } else { id };
        let taken: BTreeSet<String> = self
            .repositories
            .iter()
            .flat_map(|entry| &entry.fields)
            .filter(|(name, _)| *name == "id")
            .map(|(_, id)| id.clone())
            .collect();
        let mut ids = std::iter::once(id.clone()).chain((2..).map(|number| format!("{id}-{number}")));
        ids.find(|id| !taken.contains(&toml(id))).unwrap_or(id)
    }
}

/// The last part of a path or an address, as a file's name.
pub(super) fn file_name(text: &str) -> String {
    let name = text.trim_end_matches('/').rsplit('/').next().unwrap_or(text);
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = name.chars().take(80).map(|c| if is_fine(c) { c } else { '-' }).collect();
    let name = name.trim_start_matches(['.', '-']).to_owned();
    if name.is_empty() { "file".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_known_by_what_is_below_it() {
        let mirror = |address: &str| mirror_of(address, "$releasever/BaseOS/$basearch/os", "9", "x86_64");
        assert_eq!(
            mirror("https://mirror.example/pub/rocky/9/BaseOS/x86_64/os/").as_deref(),
            Some("https://mirror.example/pub/rocky")
        );
        assert_eq!(
            mirror("https://mirror.example/pub/rocky/$releasever/BaseOS/$basearch/os").as_deref(),
            Some("https://mirror.example/pub/rocky")
        );
        assert_eq!(mirror("https://mirror.example/pub/rocky/8/BaseOS/x86_64/os"), None);
        assert_eq!(mirror("https://mirror.example/pub/rocky/9/AppStream/x86_64/os"), None);
        assert_eq!(mirror("9/BaseOS/x86_64/os"), None);
    }
    #[test]
    fn keys_of_one_name_do_not_overwrite_each_other() {
        let release = site::osimage::Release { distro: recipe::Distro::Rocky, release: "9".to_owned() };
        let mut plan = Plan::new("test", "input", "image", release, recipe::Arch::default());
        for (id, host) in [("a", "a.example"), ("b", "b.example"), ("b", "c.example")] {
            let address = format!("https://{host}/el9");
            let keys = vec![format!("https://me:hunter2@{host}/k?token=hunter2"), format!("{address}/repomd.xml.key")];
            let repository = RpmRepository { id: id.to_owned(), address, keys, is_checked: true, ..Default::default() };
            plan.rpm_repository(&Key::new("input", 1, "repo", ""), &repository, None);
        }
        let signed: Vec<&str> = plan
            .entries()
            .iter()
            .flat_map(|entry| &entry.fields)
            .filter(|(name, _)| *name == "signed-by")
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(signed, [r#""keys/a-key""#, r#""keys/b-key""#, r#""keys/b-2-key""#]);
        assert!(!format!("{:?}{:?}", plan.rows, plan.entries()).contains("hunter2"));
    }
}

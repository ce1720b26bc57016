//! Files of repositories, as package managers read them: `.repo` of dnf and zypper, `.list` and `.sources` of apt.

use recipe::{Family, official_repositories};

use super::repositories::{Entry, file_name, toml};
use super::{AptArchive, Content, Key, Plan, RpmKind, RpmRepository};
use crate::input::roots::Roots;
use crate::input::secrets;

/// Options that say nothing about which packages there are, or how they are checked.
const PASSED_OVER: [&str; 12] = [
    "name",
    "type",
    "autorefresh",
    "skip_if_unavailable",
    "countme",
    "metadata_expire",
    "enabled_metadata",
    "enablegroups",
    "keepcache",
    "keeppackages",
    "failovermethod",
    "cost",
];

/// A section of a `.repo` file: its repository, none where it is off, settings that have no counterpart, and the line on which it begins.
type Section = (Option<RpmRepository>, Vec<String>, usize);

impl Plan {
    /// Whether the image's package manager reads a file at this path for repositories.
    pub(crate) fn reads_repositories(&self, path: &str) -> bool {
        let below = |folder: &str| path.strip_prefix(folder).is_some_and(|name| !name.contains('/'));
        match self.family() {
            Family::RedHat => path.ends_with(".repo") && below("/etc/yum.repos.d/"),
            Family::Suse => path.ends_with(".repo") && below("/etc/zypp/repos.d/"),
            Family::Debian => {
                let is_one = path.ends_with(".list") || path.ends_with(".sources");
                path == "/etc/apt/sources.list" || is_one && below("/etc/apt/sources.list.d/")
            }
        }
    }

    /// The repositories of a file. `key` is what names it, with the line before its first; `keys` sign where the file names none.
    pub(crate) fn repository_file(
        &mut self,
        key: &Key,
        path: &str,
        text: &str,
        keys: &[String],
        roots: Option<(&Roots, &str)>,
    ) {
        if self.family() == Family::Debian {
            return self.apt_file(key, path, text, keys);
        }
        for (repository, others, line) in parse_repo_file(text) {
            let key = Key { line: key.line + line, ..key.clone() };
            for other in &others {
                let (name, value) = other.split_once('=').unwrap_or((other, ""));
                let of_other = Key { key: format!("{} {name}", key.key), value: value.to_owned(), ..key.clone() };
                self.decide(
                    &of_other,
                    "a setting of a repository that is not translated: docs/rpm.md has those of [[repo]]",
                );
            }
            let Some(mut repository) = repository else {
                if others.is_empty() {
                    self.stays(&key, "it is off");
                }
                continue;
            };
            if repository.keys.is_empty() {
                repository.keys = keys.to_vec();
            }
            let address = repository.address.clone();
            self.rpm_repository(&Key { value: address, ..key }, &repository, roots);
        }
    }

    /// Lines `deb URI SUITE COMPONENTS`; other forms stay a file that imgbuild reads as apt does.
    fn apt_file(&mut self, key: &Key, path: &str, text: &str, keys: &[String]) {
        if secrets::is_in(text) {
            return self.decide(key, "it has a password or a token: write the [[repo]] without it, docs/security.md");
        }
        let lines = text.lines().map(str::trim).enumerate();
        let lines: Vec<(usize, &str)> = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
        if !lines.iter().all(|(_, line)| line.starts_with("deb ") || line.starts_with("deb-src ")) {
            if !keys.is_empty() {
                let reason = format!(
                    "save {} next to the recipe, name it in Signed-By of the file, and the file in [[repo]] file",
                    keys.join(", ")
                );
                return self.decide(key, reason);
            }
            let name = format!("repos/{}", file_name(path));
            self.repositories.push(Entry { fields: vec![("file", toml(&name))], is_comment: false });
            self.files.insert(name, (Content::Bytes(text.as_bytes().to_vec()), 0o644));
            return self.exact(key, "repo.file", "");
        }
        for (at, line) in lines {
            let key = Key { line: key.line + at + 1, value: line.to_owned(), ..key.clone() };
            let Some(line) = line.strip_prefix("deb ") else {
                self.stays(&key, "sources of packages are not used");
                continue;
            };
            let (options, rest) = match line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                Some((options, rest)) => (options, rest),
                None => ("", line),
            };
            let mut words = rest.split_whitespace().map(str::to_owned);
            let (Some(address), Some(suite)) = (words.next(), words.next()) else {
                self.decide(&key, "a line of it is not `deb URI SUITE COMPONENTS`");
                continue;
            };
            let (mut is_checked, mut signed) = (true, Vec::new());
            for option in options.split_whitespace() {
                match option.split_once('=').map(|(name, value)| (name.to_ascii_lowercase(), value)) {
                    Some((name, value)) if name == "trusted" => is_checked = !value.eq_ignore_ascii_case("yes"),
                    Some((name, value)) if name == "signed-by" => {
                        signed.extend(value.split(',').map(str::to_owned));
                    }
                    Some((name, value)) if name == "arch" && recipe::Arch::named(value) == Some(self.arch) => {}
                    _ => self.decide(
                        &Key { value: option.to_owned(), ..key.clone() },
                        "an option of an archive that is not translated",
                    ),
                }
            }
            let keys = if keys.is_empty() { signed } else { keys.to_vec() };
            let archive = AptArchive {
                address: address.clone(),
                suites: vec![suite],
                components: words.collect(),
                keys,
                is_checked,
            };
            self.apt_archive(&Key { value: address, ..key }, &archive, None);
        }
    }

    /// The repositories that a container image has of its own, next to those that its file adds.
    pub(crate) fn base_repositories(&mut self, key: &Key) {
        let has_own = !self.repositories.is_empty();
        if self.family() == Family::Debian && has_own {
            self.repositories.push(Entry { fields: vec![("source", toml("host"))], is_comment: false });
            let reason =
                "next to those that are added: the archives of this host's apt, in the place of the base image's";
            return self.differs(key, Some("repo.source"), reason);
        }
        // Those of official lists are next to the default ones, too.
        let of_lists = self.distribution.iter_mut().filter(|(mirror, _)| mirror.is_none());
        for one in of_lists.flat_map(|(_, components)| components).filter(|one| !one.starts_with('+')) {
            one.insert(0, '+');
        }
        let is_chosen = self.distribution.iter().any(|(mirror, _)| mirror.is_some());
        let is_known = !official_repositories(self.distro, &self.release).is_empty();
        match self.family() != Family::Debian && has_own && self.distribution.is_empty() && is_known {
            true => {
                self.distribution.push((None, Vec::new()));
                self.exact(key, "repo.source", "next to those that are added: the distribution's own");
            }
            false if is_chosen => self.differs(
                key,
                Some("repo.components"),
                "only those that are added are used, and not the others of the base image: add them to components",
            ),
            false => self.usual_repositories(key),
        }
    }
}

/// An option: its name in lower case, and its value with those of the lines that continue it.
type Setting = (String, String);

/// Sections as INI has them: a name, the line, the options. The first has those that come before any, if there are some.
/// Source: configparser of Python, as `packages` reads such files.
fn sections(text: &str) -> Vec<(String, usize, Vec<Setting>)> {
    let mut found: Vec<(String, usize, Vec<Setting>)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with(char::is_whitespace)
            && let Some((_, value)) = found.last_mut().and_then(|(_, _, settings)| settings.last_mut())
        {
            value.push('\n');
            value.push_str(trimmed);
            continue;
        }
        if let Some(id) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            found.push((id.trim().to_owned(), at + 1, Vec::new()));
            continue;
        }
        if found.is_empty() {
            found.push((String::new(), at + 1, Vec::new()));
        }
        let (name, value) = trimmed.split_once(['=', ':']).unwrap_or((trimmed, ""));
        if let Some((_, _, settings)) = found.last_mut() {
            settings.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    found
}

/// Sections of a `.repo` file. Source: dnf.conf(5), and `packages`, whose reader is for files of a recipe: it fills variables in.
fn parse_repo_file(text: &str) -> Vec<Section> {
    sections(text).into_iter().map(|(id, line, settings)| section(id, line, settings)).collect()
}

fn section(id: String, line: usize, settings: Vec<Setting>) -> Section {
    let is_no = |value: &str| matches!(value.to_ascii_lowercase().as_str(), "0" | "no" | "false" | "off");
    if id.is_empty() || id == "main" {
        let all = settings.into_iter().map(|(name, value)| format!("{name}={value}"));
        return (None, all.collect(), line);
    }
    let is_off = settings.iter().rev().find(|(name, _)| name == "enabled").is_some_and(|(_, value)| is_no(value));
    if is_off {
        return (None, Vec::new(), line);
    }
    let mut one = RpmRepository { id, is_checked: true, ..RpmRepository::default() };
    let mut others = Vec::new();
    let (mut addresses, mut lists): (Vec<String>, Vec<(RpmKind, String)>) = (Vec::new(), Vec::new());
    for (name, value) in settings {
        let words = value.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
        let words = words.map(str::to_owned);
        match name.as_str() {
            "baseurl" => addresses.extend(words),
            "mirrorlist" => lists.extend(words.map(|address| (RpmKind::MirrorList, address))),
            "metalink" => lists.extend(words.map(|address| (RpmKind::MetaLink, address))),
            "gpgkey" => one.keys.extend(words),
            "exclude" | "excludepkgs" => one.exclude.extend(words),
            "includepkgs" => one.include.extend(words),
            "module_hotfixes" => one.module_hotfixes = !is_no(&value),
            "gpgcheck" | "pkg_gpgcheck" => one.is_checked = !is_no(&value),
            "priority" => one.priority = Some(value.clone()),
            "repo_gpgcheck" if is_no(&value) => {}
            "enabled" => {}
            name if PASSED_OVER.contains(&name) => {}
            _ => others.push(format!("{name}={value}")),
        }
    }
    // An address is asked before a list.
    let mut all = addresses.into_iter().map(|address| (RpmKind::Base, address)).chain(lists);
    if let Some((kind, address)) = all.next() {
        (one.kind, one.address) = (kind, address);
    }
    others.extend(all.map(|(kind, address)| match kind {
        RpmKind::Base => format!("baseurl={address}"),
        RpmKind::MirrorList => format!("mirrorlist={address}"),
        RpmKind::MetaLink => format!("metalink={address}"),
    }));
    (Some(one), others, line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_of_a_repo_file_become_repositories() {
        let text = "[a]\nname=A\nbaseurl=https://x.example/a\n  https://y.example/a\ngpgkey = file:///k/1\n  https://x.example/K\n\
            excludepkgs=kernel*,foo\nincludepkgs=bar baz\nmetalink=https://x.example/m\n\n\
            [off]\nbaseurl=https://x.example/o\nenabled=0\n[c]\nmetalink: https://x.example/m\ngpgcheck=0\nsslverify=0\nrepo_gpgcheck=1\n";
        let found = parse_repo_file(text);
        assert_eq!(found.len(), 3);
        let first = found[0].0.as_ref().unwrap();
        assert_eq!((first.address.as_str(), first.kind), ("https://x.example/a", RpmKind::Base));
        assert_eq!(first.keys, ["file:///k/1", "https://x.example/K"]);
        assert_eq!((first.exclude.join(" "), first.include.join(" ")), ("kernel* foo".into(), "bar baz".into()));
        assert_eq!(found[0].1, ["baseurl=https://y.example/a", "metalink=https://x.example/m"]);
        assert_eq!((&found[1].0, found[1].2), (&None, 11));
        let last = found[2].0.as_ref().unwrap();
        assert_eq!((last.kind, last.is_checked), (RpmKind::MetaLink, false));
        assert_eq!(found[2].1, ["sslverify=0", "repo_gpgcheck=1"]);
        let found = parse_repo_file("proxy=http://x\n[main]\nkeepcache=1\n");
        assert!(found.iter().all(|section| section.0.is_none() && section.1.len() == 1), "{found:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\]a-c=: ,#\n]{0,80}|(baseurl|gpgkey|enabled|exclude)=[a-c ,\n]{0,20}") {
            let _ = parse_repo_file(&text);
        }
    }
}

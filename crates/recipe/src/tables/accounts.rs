//! Users and groups: pinned by the recipe, or recorded in the lock (D11).

use serde::{Deserialize, Serialize};

use crate::{Model, Spans, UserPin};
use base::source::{Finding, Span};

/// The ids that every Debian system has the same, from Debian Policy 9.2.2: never recorded.
pub const STATIC_IDS: std::ops::RangeInclusive<u32> = 0..=99;

/// `nobody` and `nogroup`, the same everywhere.
pub const NOBODY: u32 = 65_534;

/// A user that a package made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedUser {
    /// Name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Number of the primary group.
    pub gid: u32,
    /// Comment field.
    #[serde(default)]
    pub gecos: String,
    /// Home directory.
    pub home: String,
    /// Shell.
    pub shell: String,
    /// The transaction that made it.
    pub pass: String,
    /// The package that made it, where its scripts tell.
    #[serde(default)]
    pub package: String,
    /// Whether it is made before the transaction's packages, because its ids would have moved otherwise.
    #[serde(default)]
    pub fixed: bool,
}

/// A group that a package made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedGroup {
    /// Name.
    pub name: String,
    /// Number.
    pub gid: u32,
    /// The transaction that made it.
    pub pass: String,
    /// The package that made it, where its scripts tell.
    #[serde(default)]
    pub package: String,
    /// Whether it is made before the transaction's packages.
    #[serde(default)]
    pub fixed: bool,
}

/// Users and groups that a transaction made, or that are made before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    pub users: Vec<LockedUser>,
    pub groups: Vec<LockedGroup>,
}

impl Accounts {
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    /// The recipe's pins, as they are made before the first transaction.
    pub fn pinned(model: &Model) -> Self {
        let mut pins = Self::default();
        for (name, pin) in &model.users {
            let gid = pin.gid.or_else(|| model.groups.get(name).copied()).unwrap_or(pin.uid);
            pins.users.push(LockedUser {
                name: name.clone(),
                uid: pin.uid,
                gid,
                gecos: String::new(),
                home: pin.home.clone().unwrap_or_else(|| "/nonexistent".to_owned()),
                shell: pin.shell.clone().unwrap_or_else(|| "/usr/sbin/nologin".to_owned()),
                pass: String::new(),
                package: String::new(),
                fixed: true,
            });
            let has_group = model.groups.values().any(|known| *known == gid);
            if !has_group && !STATIC_IDS.contains(&gid) {
                pins.groups.push(group(name, gid));
            }
        }
        pins.groups.extend(model.groups.iter().map(|(name, gid)| group(name, *gid)));
        pins.groups.sort();
        pins.groups.dedup_by(|a, b| a.name == b.name);
        pins
    }

    /// Which accounts have other ids here than in a record; `name (package): was -> now`.
    pub fn moved_from(&self, record: &Self) -> Vec<(String, String)> {
        let by = |package: &str| if package.is_empty() { String::new() } else { format!(" of `{package}`") };
        let mut moved = Vec::new();
        for user in &self.users {
            if let Some(was) = record.users.iter().find(|was| was.name == user.name)
                && (was.uid, was.gid) != (user.uid, user.gid)
            {
                let text = format!(
                    "the user `{}`{} would move from {}:{} to {}:{}",
                    user.name,
                    by(&user.package),
                    was.uid,
                    was.gid,
                    user.uid,
                    user.gid
                );
                moved.push((user.name.clone(), text));
            }
        }
        for group in &self.groups {
            if let Some(was) = record.groups.iter().find(|was| was.name == group.name)
                && was.gid != group.gid
            {
                let text = format!(
                    "the group `{}`{} would move from {} to {}",
                    group.name,
                    by(&group.package),
                    was.gid,
                    group.gid
                );
                moved.push((group.name.clone(), text));
            }
        }
        moved
    }
}

fn group(name: &str, gid: u32) -> LockedGroup {
    LockedGroup { name: name.to_owned(), gid, pass: String::new(), package: String::new(), fixed: true }
}

/// Whether a name can stand in /etc/passwd. Source: useradd(8), with capitals.
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first && name.len() <= 32 && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Whether a number is that of `nobody`: 65534, or the one behind that, which 16-bit programs take for none.
pub fn is_nobodys(id: u32) -> bool {
    (NOBODY..=NOBODY + 1).contains(&id)
}

fn nobodys(span: &Span, id: u32) -> Finding {
    let finding = Finding::error("users::nobody", span, format!("{id} is the id of `nobody`")).label("given here");
    finding.help("choose another one: files of unknown owners would belong to this account")
}

pub(crate) fn check(model: &Model, spans: &Spans, whole: &Span) -> Vec<Finding> {
    let mut findings = Vec::new();
    let span = |path: String| spans.nearest(&path).unwrap_or(whole).clone();
    let mut users: std::collections::BTreeMap<u32, &str> = std::collections::BTreeMap::new();
    let mut groups: std::collections::BTreeMap<u32, &str> = std::collections::BTreeMap::new();
    let good_path = |path: &str| path.starts_with('/') && !path.contains([':', '\n']);
    for (name, UserPin { uid, gid, home, shell }) in &model.users {
        if let (Some(gid), Some(other)) = (gid, model.groups.get(name))
            && gid != other
            && !STATIC_IDS.contains(gid)
            && !model.groups.values().any(|known| known == gid)
        {
            // The user's own group would have both numbers.
            let at = span(format!("groups.{name}"));
            let text =
                format!("`{name}` has the primary group {gid}, but the group `{name}` has the gid {other} ({at})");
            let finding = Finding::error("users::gid", &span(format!("users.{name}.gid")), text);
            findings.push(finding.help(format!(
                "give both the same number, or leave `gid` out; if another group is intended, name it in ‹[groups]› with {gid}"
            )));
        }
        let span = span(format!("users.{name}"));
        if !is_name(name) {
            findings.push(Finding::error("users::name", &span, format!("`{name}` is not a valid user name")));
        }
        if is_nobodys(*uid) {
            findings.push(nobodys(&span, *uid));
        }
        if let Some(other) = users.insert(*uid, name) {
            let text = format!("`{name}` and `{other}` have the same uid {uid}");
            findings.push(Finding::error("users::twice", &span, text).help("give each a number of its own"));
        }
        for path in [home, shell].into_iter().flatten().filter(|path| !good_path(path)) {
            findings.push(Finding::error("users::path", &span, format!("`{path}` is not an absolute path")));
        }
    }
    for (name, gid) in &model.groups {
        let span = span(format!("groups.{name}"));
        if !is_name(name) {
            findings.push(Finding::error("users::name", &span, format!("`{name}` is not a valid group name")));
        }
        if is_nobodys(*gid) {
            findings.push(nobodys(&span, *gid));
        }
        if let Some(other) = groups.insert(*gid, name) {
            let text = format!("`{name}` and `{other}` have the same gid {gid}");
            findings.push(Finding::error("users::twice", &span, text).help("give each a number of its own"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(text: &str) -> Model {
        toml::from_str(&format!("[image]\nname = \"x\"\nrelease = \"y\"\n{text}")).unwrap()
    }

    #[test]
    fn a_pinned_user_brings_its_group() {
        let pins = Accounts::pinned(&model("[users]\nmunge = { uid = 900 }\nslurm = { uid = 901, gid = 100 }\n"));
        let users: Vec<_> = pins.users.iter().map(|user| (user.name.as_str(), user.uid, user.gid)).collect();
        assert_eq!(users, [("munge", 900, 900), ("slurm", 901, 100)]);
        let groups: Vec<_> = pins.groups.iter().map(|group| (group.name.as_str(), group.gid)).collect();
        assert_eq!(groups, [("munge", 900), ("slurm", 100)]);
        let pins = Accounts::pinned(&model("[users]\nmunge = { uid = 900 }\n[groups]\nmunge = 950\n"));
        assert_eq!((pins.users[0].gid, pins.groups.len()), (950, 1));
    }

    #[test]
    fn an_id_that_moves_names_its_package() {
        let mut record = Accounts::pinned(&model("[users]\nmunge = { uid = 900 }\n"));
        assert!(record.moved_from(&record.clone()).is_empty());
        let mut now = record.clone();
        now.users[0].uid = 901;
        now.users[0].package = "munge".to_owned();
        assert_eq!(now.moved_from(&record)[0].1, "the user `munge` of `munge` would move from 900:900 to 901:900");
        record.users.clear();
        assert!(now.moved_from(&record).is_empty());
    }
}

//! Repositories and packages of an osimage: pkgdir, pkglist, otherpkgdir, otherpkglist.

use super::{ListFile, ListKind, Mapper, RepoFields, Value, Verdict};
use recipe::Family;

/// What is said of repositories whose packages no one checks.
const UNCHECKED: &str =
    "signatures of packages are not checked, as with xCAT: name the keys with signed-by, and remove check-packages";

fn is_url(text: &str) -> bool {
    text.contains("://")
}

fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

impl Mapper<'_> {
    /// pkglist; where none is named, the one that xCAT finds.
    pub(super) fn packages(&mut self) {
        if self.definition.get("pkglist").is_some() {
            self.lists("pkglist", "packages", ListKind::Packages);
            return;
        }
        let Some((found, other)) = self.searched("pkglist") else {
            let reason = "no list is named, and xCAT would find none for this profile: name one in [packages] lists";
            self.remark("pkglist", Verdict::Decide, Some("packages.lists"), reason);
            return;
        };
        let reason = match other {
            None => format!("not set: {found} is what xCAT finds for the profile"),
            Some(other) => {
                format!(
                    "not set: {found} is what xCAT finds for the profile; genimage without a name would take {other}"
                )
            }
        };
        self.mapping.lists.push(ListFile { path: found.clone(), kind: ListKind::Packages });
        self.set("packages", "lists", Value::List(vec![found]), "pkglist");
        self.remark("pkglist", Verdict::Exact, Some("packages.lists"), reason);
    }

    /// pkgdir, and the addresses of otherpkgdir.
    pub(super) fn repositories(&mut self) {
        match self.family() {
            Family::Debian => self.debian(),
            Family::RedHat | Family::Suse => self.rpm(),
        }
    }

    fn add_repository(&mut self, attribute: &'static str, fields: Vec<(&'static str, Value)>) {
        let fields = fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.mapping.repositories.push(RepoFields { attribute: attribute.to_owned(), fields });
    }

    fn rpm(&mut self) {
        let mut items = self.definition.list("pkgdir");
        if items.is_empty() {
            items.push(format!("{}/{}/{}", self.places.installdir, self.osvers, self.arch));
        }
        let others = self.definition.list("otherpkgdir").into_iter().filter(|item| is_url(item));
        let all: Vec<(&'static str, String)> =
            items.into_iter().map(|one| ("pkgdir", one)).chain(others.map(|one| ("otherpkgdir", one))).collect();
        let mut problems: Vec<String> = Vec::new();
        let mut count = 0;
        for (attribute, item) in all {
            let uri = match is_url(&item) {
                true if item.starts_with("http://") || item.starts_with("https://") => item,
                true => {
                    problems.push(format!("{item} is neither http, https nor a directory: left out"));
                    continue;
                }
                false => {
                    let here = self.places.here(&item);
                    if !here.is_dir() {
                        problems.push(format!("{item} is not a directory of this host"));
                    }
                    format!("file:{}", self.places.named(&item).display())
                }
            };
            count += 1;
            let id = if count == 1 { "pkgdir".to_owned() } else { format!("pkgdir{count}") };
            let fields = vec![("id", text(id)), ("uri", text(uri)), ("check-packages", Value::Flag(false))];
            self.add_repository(attribute, fields);
        }
        match problems.is_empty() {
            true => self.remark("pkgdir", Verdict::Differs, Some("repo"), UNCHECKED),
            false => {
                self.remark("pkgdir", Verdict::Decide, Some("repo"), format!("{}; {UNCHECKED}", problems.join("; ")))
            }
        }
    }

    /// Of Debian's kin the first address is what debootstrap gets: `URL suite components`.
    fn debian(&mut self) {
        let release = self.release.release.clone();
        let items = self.definition.list("pkgdir");
        let (mut problems, mut unsigned): (Vec<String>, Vec<String>) = Default::default();
        for item in items
            .iter()
            .chain(&self.definition.list("otherpkgdir").into_iter().filter(|one| is_url(one)).collect::<Vec<_>>())
        {
            if is_url(item) {
                let mut words = item.split_whitespace();
                let uri = words.next().unwrap_or_default().to_owned();
                let suite = words.next().unwrap_or(&release).to_owned();
                let components: Vec<String> = words.map(str::to_owned).collect();
                let components = if components.is_empty() { vec!["main".to_owned()] } else { components };
                let mut fields = vec![("uri", text(uri)), ("suites", Value::List(vec![suite.clone()]))];
                if !suite.ends_with('/') {
                    fields.push(("components", Value::List(components)));
                }
                self.add_repository("pkgdir", fields);
                continue;
            }
            let here = self.places.here(item);
            let suite = here.join("dists").join(&release);
            if suite.is_dir() {
                let mut fields = vec![
                    ("uri", text(format!("file:{}", here.display()))),
                    ("suites", Value::List(vec![release.clone()])),
                    ("components", Value::List(vec!["main".to_owned()])),
                ];
                // As apt sees it: one of the two makes it signed.
                if !["InRelease", "Release.gpg"].iter().any(|name| suite.join(name).exists()) {
                    fields.push(("trusted", Value::Flag(true)));
                    unsigned.push(item.clone());
                }
                self.add_repository("pkgdir", fields);
            } else {
                problems.push(format!("{item} has no dists/{release} here: left out"));
            }
        }
        if self.mapping.repositories.is_empty() {
            self.add_repository("pkgdir", vec![("source", text("host"))]);
            let mut reason = problems.join("; ");
            if !reason.is_empty() {
                reason.push_str("; ");
            }
            reason.push_str("packages come from the archives of the host that builds, or from --mirror");
            self.remark("pkgdir", Verdict::Decide, Some("repo"), reason);
            return;
        }
        let mut checked = "archives must be signed; xCAT accepts unsigned ones".to_owned();
        if !unsigned.is_empty() {
            checked
                .push_str(&format!("; {} has no signature, and is believed as it is (`trusted`)", unsigned.join(", ")));
        }
        match problems.is_empty() {
            true => self.remark("pkgdir", Verdict::Differs, Some("repo"), checked),
            false => {
                self.remark("pkgdir", Verdict::Decide, Some("repo"), format!("{}; {checked}", problems.join("; ")))
            }
        }
    }

    /// An otherpkgdir of addresses alone: they are repositories like the others, so the lists are too.
    fn others_by_address(&mut self) {
        let (there, missing) = self.split(self.definition.list("otherpkglist"));
        self.mapping.lists.extend(there.iter().map(|path| ListFile { path: path.clone(), kind: ListKind::Packages }));
        let lists = self.mapping.fields.iter_mut().find(|field| field.table == "packages" && field.key == "lists");
        match lists.map(|field| &mut field.value) {
            Some(Value::List(items)) => items.extend(there),
            _ => self.set("packages", "lists", Value::List(there), "otherpkglist"),
        }
        let reason = "its addresses are [[repo]]s for all packages";
        self.remark("otherpkgdir", Verdict::Differs, Some("repo"), reason);
        let reason = "among [packages] lists, as otherpkgdir has only addresses; passes of both lists go together";
        match missing.is_empty() {
            true => self.remark("otherpkglist", Verdict::Differs, Some("packages.lists"), reason),
            false => {
                let reason = format!("not found here, left out: {}; {reason}", missing.join(", "));
                self.remark("otherpkglist", Verdict::Decide, Some("packages.lists"), reason);
            }
        }
    }

    /// otherpkglist, and the directory of otherpkgdir.
    pub(super) fn other_packages(&mut self) {
        let (urls, mut folders): (Vec<String>, Vec<String>) =
            self.definition.list("otherpkgdir").into_iter().partition(|item| is_url(item));
        let has_list = self.definition.get("otherpkglist").is_some();
        if folders.is_empty() {
            folders.push(format!("{}/post/otherpkgs/{}/{}", self.places.installdir, self.osvers, self.arch));
        }
        let is_set = self.definition.get("otherpkgdir").is_some();
        if !has_list {
            if is_set {
                let reason = match urls.is_empty() {
                    true => "there is no otherpkglist, so nothing is taken from it",
                    false => "its addresses are [[repo]]s; there is no otherpkglist",
                };
                self.remark("otherpkgdir", Verdict::Stays, None, reason);
            }
            return;
        }
        if is_set && !urls.is_empty() && self.definition.list("otherpkgdir").iter().all(|item| is_url(item)) {
            self.others_by_address();
            return;
        }
        let folder = folders.remove(0);
        if !self.places.here(&folder).is_dir() {
            let reason = format!(
                "{folder} is not a directory of this host: [otherpkgs] is left out, and its packages are NOT in the image"
            );
            self.remark("otherpkgdir", Verdict::Decide, Some("otherpkgs.dir"), reason.clone());
            self.remark("otherpkglist", Verdict::Decide, Some("otherpkgs.lists"), reason);
            return;
        }
        self.mapping.named.push(folder.clone());
        self.set("otherpkgs", "dir", text(folder), "otherpkgdir");
        let mut said: Vec<String> = Vec::new();
        if !urls.is_empty() {
            said.push("its addresses are [[repo]]s, for all passes".to_owned());
        }
        if !folders.is_empty() {
            said.push(format!("only the first directory is used; left out: {}", folders.join(", ")));
        }
        let verdict = match (folders.is_empty(), urls.is_empty()) {
            (false, _) => Verdict::Decide,
            (true, false) => Verdict::Differs,
            (true, true) => Verdict::Exact,
        };
        if is_set || verdict != Verdict::Exact {
            self.remark("otherpkgdir", verdict, Some("otherpkgs.dir"), said.join("; "));
        }
        self.lists("otherpkglist", "otherpkgs", ListKind::Packages);
    }
}

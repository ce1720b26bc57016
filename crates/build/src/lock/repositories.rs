//! Which repositories a lock answers for: what the recipe says of them, but for their addresses. Another mirror of the same
//! suites is the same repository (D14).

use std::collections::{BTreeMap, BTreeSet};

use base::digest::Sha256;
use packages::apt;
use packages::rpm::{RepoEntry, Variables, read_repo_file};
use plan::{Cause, Change, Origin, Place, Subject};
use recipe::{Family, Lock, LockedRepo, Recipe, Repo, RepoSource, id_of};

/// What a recipe says of each of its repositories: fields and values, as image.lock keeps them.
pub fn asked(recipe: &Recipe) -> Vec<LockedRepo> {
    let mut all: Vec<LockedRepo> =
        recipe.model.repo.iter().enumerate().map(|(index, repo)| of_repo(recipe, index, repo)).collect();
    if all.is_empty() {
        // What stands there when nothing is said.
        all.push(LockedRepo::from([("source".to_owned(), "host".to_owned())]));
    }
    all
}

fn variables(recipe: &Recipe) -> Variables {
    let image = &recipe.model.image;
    Variables::of_image(&image.release, image.arch.machine(), &BTreeMap::new(), &recipe.model.repo_variables)
}

fn of_repo(recipe: &Recipe, index: usize, repo: &Repo) -> LockedRepo {
    let mut said: BTreeMap<&str, String> = BTreeMap::new();
    match repo.source {
        Some(RepoSource::Host) => said.insert("source", "host".to_owned()),
        Some(RepoSource::Distribution) => said.insert("source", "distribution".to_owned()),
        None => None,
    };
    said.insert("suites", repo.suites.join(" "));
    said.insert("components", repo.components.join(" "));
    let digest = |path| witness::sha256(path).map_or_else(|error| error.to_string(), |digest| digest.to_string());
    if let Some(path) = recipe.keyrings.get(index).and_then(Option::as_ref) {
        said.insert("signed-by", digest(path));
    }
    if repo.trusted {
        said.insert("trusted", "true".to_owned());
    }
    if recipe.model.image.distro.family() == Family::Debian {
        if let Some(id) = &repo.id {
            said.insert("id", id.clone());
        }
        if let Some(file) = recipe.repo_files.get(index).and_then(Option::as_ref) {
            let (entries, _) = apt::read_sources_file(file);
            said.insert("file", entries.iter().map(of_archive).collect::<Vec<_>>().join("; "));
        }
    } else {
        if repo.file.is_none() {
            said.insert("id", id_of(repo, index));
        }
        said.insert("priority", repo.priority.map(|number| number.to_string()).unwrap_or_default());
        said.insert("exclude", repo.exclude.join(" "));
        said.insert("include", repo.include.join(" "));
        let truths = [
            ("module-hotfixes", repo.module_hotfixes, false),
            ("check-packages", repo.check_packages, true),
            ("check-index", repo.check_index, false),
            ("weak-signatures", repo.weak_signatures, false),
        ];
        for (name, value, usual) in truths {
            if value != usual {
                said.insert(name, value.to_string());
            }
        }
        if let Some(file) = recipe.repo_files.get(index).and_then(Option::as_ref) {
            let (entries, _) = read_repo_file(file, &variables(recipe));
            let enabled = entries.iter().filter(|entry| entry.enabled);
            said.insert("file", enabled.map(of_entry).collect::<Vec<_>>().join("; "));
        }
    }
    said.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What an archive of a `.sources` or `.list` file says, in its own words.
fn of_archive(entry: &apt::Entry) -> String {
    let mut text = entry.suites.iter().chain(&entry.components).cloned().collect::<Vec<_>>().join(" ");
    if entry.trusted {
        text.push_str(" trusted=yes");
    }
    match &entry.signed_by {
        Some(apt::SignedBy::File(path)) => text.push_str(&format!(" signed-by={}", path.display())),
        Some(apt::SignedBy::Text(key)) => text.push_str(&format!(" signed-by={}", Sha256::of(key.as_bytes()))),
        None => {}
    }
    text
}

/// What a section of a `.repo` file says, in its own words.
fn of_entry(entry: &RepoEntry) -> String {
    let mut text = entry.id.clone();
    let mut say = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            text.push_str(&format!(" {name}={value}"));
        }
    };
    let switch = |value: Option<bool>| value.map(|value| u8::from(value).to_string());
    say("gpgcheck", switch(entry.gpgcheck));
    say("repo_gpgcheck", switch(entry.repo_gpgcheck));
    // A key's address may have a password or a token.
    let key = |key: &String| {
        let plain = packages::without_password(key);
        plain.split('?').next().unwrap_or_default().to_owned()
    };
    say("gpgkey", Some(entry.gpgkey.iter().map(key).collect::<Vec<_>>().join(",")));
    say("priority", entry.priority.map(|number| number.to_string()));
    say("exclude", Some(entry.exclude.join(",")));
    say("includepkgs", Some(entry.include.join(",")));
    say("module_hotfixes", entry.module_hotfixes.then(|| "1".to_owned()));
    text
}

pub(crate) struct Address {
    pub digest: String,
    /// The address, without a password.
    pub shown: String,
    pub place: Option<Place>,
}

pub(crate) fn addresses(recipe: &Recipe) -> Vec<Address> {
    let mut all = Vec::new();
    for (index, repo) in recipe.model.repo.iter().enumerate() {
        let mut add = |text: &str, field: &str, is_directory: bool| {
            let place = recipe.spans.get(&format!("repo[{index}].{field}")).map(Place::from);
            let mut shown = packages::without_password(text.trim_end_matches('/'));
            if is_directory {
                // What follows `?` in a directory's address is a token.
                shown.truncate(shown.find('?').unwrap_or(shown.len()));
            }
            all.push(Address { digest: Sha256::of(shown.as_bytes()).to_string(), shown, place });
        };
        for (field, text) in [("uri", &repo.uri), ("mirrorlist", &repo.mirrorlist), ("metalink", &repo.metalink)] {
            if let Some(text) = text {
                add(text, field, field == "uri");
            }
        }
        if let Some(file) = recipe.repo_files.get(index).and_then(Option::as_ref) {
            if recipe.model.image.distro.family() == Family::Debian {
                apt::read_sources_file(file).0.iter().for_each(|entry| add(&entry.uri, "file", true));
            } else {
                let (entries, _) = read_repo_file(file, &variables(recipe));
                let enabled = entries.iter().filter(|entry| entry.enabled);
                for one in enabled {
                    one.baseurl.iter().for_each(|text| add(text, "file", true));
                    one.mirrorlist.iter().chain(&one.metalink).for_each(|text| add(text, "file", false));
                }
            }
        }
    }
    all
}

/// Notes on addresses that no one asked yet, while a lock answers: what they serve is not known.
pub(crate) fn not_asked(recipe: &Recipe, asked: &BTreeSet<String>) -> Vec<String> {
    if asked.is_empty() {
        return Vec::new();
    }
    let lock = recipe.lock_name();
    let new = addresses(recipe).into_iter().filter(|one| !asked.contains(&one.digest));
    new.map(|one| {
        let place = one.place.map(|place| format!("{}:{} ", place.file, place.line)).unwrap_or_default();
        format!("{place}{} was not queried yet: {lock} does not need it; `imgbuild update` queries it", one.shown)
    })
    .collect()
}

/// What of the repositories is not as it was when a lock was made; nothing for a lock that does not say.
pub(crate) fn causes(recipe: &Recipe, lock: &Lock) -> Vec<Cause> {
    let Some(was) = &lock.repo else { return Vec::new() };
    let now = asked(recipe);
    if *was == now {
        return Vec::new();
    }
    let said = |one: &LockedRepo| {
        let words: Vec<String> = one.iter().map(|(name, value)| format!("{name} {value}")).collect();
        words.join(", ")
    };
    let mut causes = Vec::new();
    let is_kept = |one: &LockedRepo, others: &[LockedRepo]| others.contains(one);
    let gone: Vec<&LockedRepo> = was.iter().filter(|one| !is_kept(one, &now)).collect();
    let come: Vec<(usize, &LockedRepo)> = now.iter().enumerate().filter(|(_, one)| !is_kept(one, was)).collect();
    for at in 0..gone.len().max(come.len()) {
        match (gone.get(at), come.get(at)) {
            (Some(was), Some((index, now))) => causes.extend(changes(recipe, *index, was, now)),
            (None, Some((index, now))) => causes.push(cause(recipe, *index, None, Change::Added(&said(now)))),
            (Some(was), None) => causes.push(cause(recipe, usize::MAX, None, Change::Removed(&said(was)))),
            (None, None) => {}
        }
    }
    if causes.is_empty() {
        let order = |all: &[LockedRepo]| all.iter().map(said).collect::<Vec<_>>().join("; ");
        causes.push(cause(recipe, 0, None, Change::Changed(&order(was), &order(&now))));
    }
    causes
}

/// Fields of one repository that differ.
fn changes(recipe: &Recipe, index: usize, was: &LockedRepo, now: &LockedRepo) -> Vec<Cause> {
    let names: BTreeSet<&String> = was.keys().chain(now.keys()).collect();
    let changed = names.into_iter().filter_map(|name| {
        let change = match (was.get(name), now.get(name)) {
            (Some(was), Some(now)) if was == now => return None,
            (Some(was), Some(now)) => Change::Changed(was, now),
            (None, Some(now)) => Change::Added(now),
            (Some(was), None) => Change::Removed(was),
            (None, None) => return None,
        };
        Some(cause(recipe, index, Some(name), change))
    });
    changed.collect()
}

fn cause(recipe: &Recipe, index: usize, field: Option<&str>, change: Change<'_>) -> Cause {
    let at = format!("repo[{index}]");
    let path = field.map_or_else(|| at.clone(), |field| format!("{at}.{field}"));
    let place = recipe.spans.get(&path).or_else(|| recipe.spans.get(&at)).map(Place::from);
    let origin = Origin::Field(field.map_or_else(|| "[[repo]]".to_owned(), |field| format!("repo.{field}")));
    let (place, lock) = (place.as_ref(), &recipe.lock_name());
    Subject { name: "parameter repo", origin: &origin, place, was_place: None, lock }.cause(change)
}

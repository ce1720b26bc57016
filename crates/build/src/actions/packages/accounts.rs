//! Users and groups of an image: kept where the lock has them, recorded where it lacks them (D11).

use std::collections::BTreeMap;

use crate::StageError;
use plan::{Action, ActionKind, Input, Origin};
use recipe::{Accounts, Lock, LockedPass, PassRole, Recipe};
use store::Outputs;

/// Name of the value that holds the accounts of a transaction.
pub(crate) const VALUE: &str = "accounts";

pub(crate) fn is_of_image(action: &Action) -> bool {
    matches!(action.kind, ActionKind::Bootstrap | ActionKind::Container | ActionKind::Install)
        && !PassRole::of(action.layer()).is_aside()
}

/// Accounts that are made before a transaction: those that the recipe pins before the first one, and those that the
/// lock had to fix before their own.
pub(crate) fn made_before(recipe: &Recipe, lock: &Lock, pass: &str, is_first: bool) -> Accounts {
    let pins = Accounts::pinned(&recipe.model);
    let mut made = lock.accounts();
    made.users.retain(|user| user.fixed && user.pass == pass && !pins.users.iter().any(|pin| pin.name == user.name));
    made.groups
        .retain(|group| group.fixed && group.pass == pass && !pins.groups.iter().any(|pin| pin.name == group.name));
    if is_first {
        made.users.extend(pins.users);
        made.groups.extend(pins.groups);
    }
    made
}

/// The same as inputs of the transaction.
pub(crate) fn inputs(recipe: &Recipe, made: &Accounts) -> Vec<Input> {
    let input = |kind: &str, name: &str, value: String| {
        let input = Input::new(format!("{kind} {name}"), value);
        // A user of the recipe has a group of its name, which stands in no line of its own.
        let fields = [format!("{kind}s.{name}"), format!("users.{name}")];
        match fields.iter().find(|field| recipe.spans.get(field).is_some()) {
            Some(field) => input.field(&recipe.spans, field),
            None => input.of(Origin::Lock),
        }
    };
    let users = made.users.iter().map(|user| {
        let value = format!("{}:{}:{}:{}:{}", user.uid, user.gid, user.gecos, user.home, user.shell);
        input("user", &user.name, value)
    });
    users.chain(made.groups.iter().map(|group| input("group", &group.name, group.gid.to_string()))).collect()
}

/// The accounts that a transaction's record tells.
pub(crate) fn of_record(action: &Action, outputs: &Outputs) -> Accounts {
    let mut found: Accounts =
        outputs.values.get(VALUE).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    for user in &mut found.users {
        action.layer().clone_into(&mut user.pass);
    }
    for group in &mut found.groups {
        action.layer().clone_into(&mut group.pass);
    }
    found
}

/// Compares what a transaction made with the recipe's pins and the lock's record.
/// Errors: [`StageError::Moved`] when an id is another one, [`StageError::Unrecorded`] when the lock may not be renewed and lacks
/// one.
pub(crate) fn compare(recipe: &Recipe, lock: &Lock, found: &Accounts, locked: bool) -> Result<(), StageError> {
    let pins = Accounts::pinned(&recipe.model);
    let mut record = lock.accounts();
    record.users.retain(|user| !pins.users.iter().any(|pin| pin.name == user.name));
    record.groups.retain(|group| !pins.groups.iter().any(|pin| pin.name == group.name));
    let refused = |name: &str| {
        pins.users.iter().any(|user| user.name == name)
            || pins.groups.iter().any(|group| group.name == name)
            || record.users.iter().any(|user| user.name == name && user.fixed)
            || record.groups.iter().any(|group| group.name == name && group.fixed)
    };
    let mut moved = found.moved_from(&pins);
    moved.extend(found.moved_from(&record));
    if !moved.is_empty() {
        let is_final = locked || moved.iter().any(|(name, _)| refused(name));
        let (names, texts): (Vec<_>, Vec<_>) = moved.into_iter().unzip();
        return Err(StageError::Moved { text: texts.join("; "), names, is_final });
    }
    if locked {
        let known = lock.accounts();
        let new = |name: &str| !known.users.iter().any(|user| user.name == name);
        let missing: Vec<&str> = found.users.iter().map(|user| user.name.as_str()).filter(|name| new(name)).collect();
        if !missing.is_empty() {
            return Err(StageError::Unrecorded { lock: recipe.lock_name(), names: missing.join(", ") });
        }
    }
    Ok(())
}

/// Fixes accounts of a lock by name: from now on they are made before the packages that would give them other ids.
pub(crate) fn fix(lock: &mut Lock, names: &[String]) {
    lock.users.iter_mut().filter(|user| names.contains(&user.name)).for_each(|user| user.fixed = true);
    lock.groups.iter_mut().filter(|group| names.contains(&group.name)).for_each(|group| group.fixed = true);
}

/// Lets a transaction's packages choose ids again: which ones have to be fixed follows from the packages, not from what was
/// installed before (D7).
pub(crate) fn free(recorded: &mut Accounts, pass: &str) {
    recorded.users.iter_mut().filter(|user| user.pass == pass).for_each(|user| user.fixed = false);
    recorded.groups.iter_mut().filter(|group| group.pass == pass).for_each(|group| group.fixed = false);
}

/// Accounts belong to the part of a transaction that now has their package; of one that is gone, to its first part.
pub(crate) fn follow(recorded: &mut Accounts, passes: &[LockedPass]) {
    let now = |pass: &str, package: &str| {
        let is_of_it = |one: &&LockedPass| PassRole::whole_name(&one.name) == PassRole::whole_name(pass);
        let has = |one: &&LockedPass| one.packages.iter().any(|own| own.name == package);
        let found = passes.iter().filter(is_of_it).find(has).map(|one| one.name.clone());
        let is_there = || passes.iter().any(|one| one.name == pass);
        found.unwrap_or_else(|| if is_there() { pass } else { PassRole::whole_name(pass) }.to_owned())
    };
    recorded
        .users
        .iter_mut()
        .filter(|_| !fault::planted("account-of-first-part"))
        .for_each(|user| user.pass = now(&user.pass, &user.package));
    recorded.groups.iter_mut().for_each(|group| group.pass = now(&group.pass, &group.package));
}

/// Has in what is recorded the users and groups that a container image brings: its files belong to their ids, which nothing made before them
/// can change. Gives what moves.
pub(crate) fn follow_container(recorded: &mut Accounts, found: &Accounts) -> Vec<String> {
    let moved = found.moved_from(recorded).into_iter().map(|(_, text)| text).collect();
    recorded.users.retain(|user| user.pass != PassRole::BASE && !found.users.iter().any(|one| one.name == user.name));
    recorded
        .groups
        .retain(|group| group.pass != PassRole::BASE && !found.groups.iter().any(|one| one.name == group.name));
    recorded.users.extend(found.users.iter().filter(|_| !fault::planted("container-ids-not-recorded")).cloned());
    recorded.groups.extend(found.groups.iter().cloned());
    recorded.users.sort();
    recorded.groups.sort();
    moved
}

/// Writes into a lock what was found, by transaction; transactions that were not looked at keep their entries.
pub(crate) fn record(lock: &mut Lock, found: &BTreeMap<String, Accounts>) {
    let was = lock.accounts();
    lock.users.retain(|user| !found.contains_key(&user.pass));
    lock.groups.retain(|group| !found.contains_key(&group.pass));
    for accounts in found.values() {
        for user in &accounts.users {
            let fixed = was.users.iter().any(|known| known.name == user.name && known.fixed);
            lock.users.push(recipe::LockedUser { fixed, ..user.clone() });
        }
        for group in &accounts.groups {
            let fixed = was.groups.iter().any(|known| known.name == group.name && known.fixed);
            lock.groups.push(recipe::LockedGroup { fixed, ..group.clone() });
        }
    }
    lock.users.sort();
    lock.groups.sort();
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::digest::Sha256;
    use recipe::{LockedGroup, LockedUser, PinnedPackage};

    fn user(name: &str, uid: u32, pass: &str, package: &str) -> LockedUser {
        LockedUser {
            name: name.to_owned(),
            uid,
            gid: uid,
            gecos: String::new(),
            home: "/nonexistent".to_owned(),
            shell: "/bin/sh".to_owned(),
            pass: pass.to_owned(),
            package: package.to_owned(),
            fixed: true,
        }
    }

    fn pass(name: &str, packages: &[&str]) -> LockedPass {
        let package = |name: &&str| PinnedPackage {
            name: (*name).to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            size: 1,
            sha256: Sha256::of(b""),
            origin: String::new(),
            file: String::new(),
            automatic: false,
            beside: false,
        };
        LockedPass { name: name.to_owned(), packages: packages.iter().map(package).collect(), ..LockedPass::default() }
    }

    #[test]
    fn ids_of_a_container_image_are_those_of_the_lock() {
        let group = |name: &str, gid: u32, pass: &str, fixed: bool| LockedGroup {
            name: name.to_owned(),
            gid,
            pass: pass.to_owned(),
            package: String::new(),
            fixed,
        };
        let mut recorded = Accounts {
            users: vec![user("app", 1000, "base", ""), user("own", 997, "packages-1", "own")],
            groups: vec![
                group("app", 1000, "base", true),
                group("gone", 999, "base", false),
                group("later", 998, "packages-1", true),
                group("own", 997, "packages-1", true),
            ],
        };
        let found = Accounts {
            users: vec![user("app", 1001, "base", "")],
            groups: vec![group("app", 1001, "base", false), group("later", 900, "base", false)],
        };
        let moved = follow_container(&mut recorded, &found);
        assert_eq!(moved.len(), 3, "{moved:?}");
        let users: Vec<_> = recorded.users.iter().map(|one| (one.name.as_str(), one.uid)).collect();
        assert_eq!(users, [("app", 1001), ("own", 997)]);
        let now: Vec<_> = recorded.groups.iter().map(|one| (one.name.as_str(), one.gid, one.fixed)).collect();
        assert_eq!(now, [("app", 1001, false), ("later", 900, false), ("own", 997, true)]);
    }

    #[test]
    fn accounts_go_where_their_package_goes() {
        let group = |name: &str, pass: &str, package: &str| LockedGroup {
            name: name.to_owned(),
            gid: 900,
            pass: pass.to_owned(),
            package: package.to_owned(),
            fixed: true,
        };
        let mut recorded = Accounts {
            users: vec![user("munge", 900, "packages-1", "munge")],
            groups: vec![
                group("moved", "packages-1", "munge"),
                group("back", "packages-1.3", "rpcbind"),
                group("gone", "packages-1.3", "was-there"),
                group("unsaid", "packages-1.2", ""),
                group("base", "base", "munge"),
            ],
        };
        let passes = [
            pass("base", &["base-files"]),
            pass("packages-1", &["rpcbind"]),
            pass("packages-1.2", &["munge"]),
            // A list of its own that has the package as well does not belong to it.
            pass("packages-12", &["was-there"]),
        ];
        follow(&mut recorded, &passes);
        assert_eq!(recorded.users[0].pass, "packages-1.2");
        let now: Vec<&str> = recorded.groups.iter().map(|group| group.pass.as_str()).collect();
        assert_eq!(now, ["packages-1.2", "packages-1", "packages-1", "packages-1.2", "base"]);
        assert!(recorded.groups.iter().all(|group| group.fixed));
    }
}

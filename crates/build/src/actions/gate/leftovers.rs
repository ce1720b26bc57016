//! What scripts leave without a word: homes that belong to another one, modules of a kernel that the image does not have.

use std::collections::{BTreeMap, BTreeSet};

use crate::StageError;
use crate::actions::gate::checks::MODULES;
use base::digest::Digest;
use base::source::{Finding, Severity};
use recipe::NOBODY;
use store::{Entry, Kind, Merged, Store};

/// The first number of accounts that are persons'. Source: login.defs(5), UID_MIN.
const FIRST_PERSON: u32 = 1000;

/// An account of /etc/passwd that is a person's: name, number, path of the home in the tree.
fn home_of(line: &str) -> Option<(&str, u32, &str)> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, _, _, home, _] = fields[..] else { return None };
    let uid = uid.parse().ok()?;
    let home = home.strip_prefix('/')?.trim_end_matches('/');
    let is_person = uid >= FIRST_PERSON
        && (!(NOBODY..=NOBODY + 1).contains(&uid) || fault::planted("home-of-nobody"))
        && home.contains('/');
    is_person.then_some((name, uid, home))
}

fn homes_of(passwd: &str) -> Vec<(&str, u32, &str)> {
    passwd.lines().filter_map(home_of).collect()
}

/// Homes of persons that another one owns: what came of a `useradd -m` whose number this machine does not have. `here` is how
/// many ids stand for an image's.
/// Errors: A manifest cannot be read.
pub(super) fn homes(store: &Store, layers: &[Digest], passwd: &str, here: u32) -> Result<Option<Finding>, StageError> {
    let homes = homes_of(passwd);
    let mut owners: BTreeMap<&str, u32> = BTreeMap::new();
    if !homes.is_empty() {
        let wanted: BTreeSet<&str> = homes.iter().map(|(_, _, home)| *home).collect();
        for layer in layers {
            store.each_entry(layer, &mut |path: String, entry: Entry| {
                let Some(home) = wanted.get(path.as_str()) else { return };
                match entry.kind {
                    Kind::Directory => drop(owners.insert(home, entry.uid)),
                    _ => drop(owners.remove(home)),
                }
            })?;
        }
    }
    let wrong: Vec<&(&str, u32, &str)> =
        homes.iter().filter(|(_, uid, home)| owners.get(home).is_some_and(|owner| owner != uid)).collect();
    let Some((name, uid, home)) = wrong.first() else { return Ok(None) };
    let owner = owners.get(home).copied().unwrap_or_default();
    let more = if wrong.len() > 1 { format!(", and {} more homes", wrong.len() - 1) } else { String::new() };
    let text = format!("/{home} belongs to {owner}, not to `{name}` ({uid}){more}");
    let help = if *uid >= here {
        format!(
            "this machine maps only {here} ids of an image, so nothing can belong to {uid}: give the building user a longer range in /etc/subuid and /etc/subgid"
        )
    } else {
        format!("add to the script that creates it: chown -R {name}: \"$1/{home}\"")
    };
    Ok(Some(Finding::nowhere(Severity::Warning, "gate::home", text).help(help)))
}

/// Modules below the folder of a release that is not the image's, where there is no kernel of that release either: built for
/// whatever `uname -r` said. What the image's own release links to stays: modules of a stable interface lie where they were built
/// (weak-modules(8) of RHEL).
/// Errors: [`StageError::Gate`] with the files.
pub(super) fn foreign_releases(modules: &Merged, release: &str) -> Result<(), StageError> {
    let below = |path: &str| -> Option<(String, String)> {
        let rest = path.strip_prefix(MODULES)?.strip_prefix('/')?;
        rest.split_once('/').map(|(release, rest)| (release.to_owned(), rest.to_owned()))
    };
    let has_kernel = |other: &str| modules.0.contains_key(&format!("{MODULES}/{other}/kernel"));
    let linked: Vec<&str> = modules
        .0
        .iter()
        .filter(|(path, _)| below(path).is_some_and(|(of, _)| of == release))
        .filter_map(|(_, found)| match &found.entry.kind {
            Kind::Symlink(target) => Some(target.as_str()),
            _ => None,
        })
        .collect();
    let is_linked = |other: &str, rest: &str| {
        let end = format!("/{other}/{rest}");
        linked.iter().any(|target| target.ends_with(&end))
    };
    let mut strange: Vec<&String> = Vec::new();
    for (path, found) in &modules.0 {
        let Some((other, rest)) = below(path) else { continue };
        let is_module = rest.contains(".ko") && matches!(found.entry.kind, Kind::File { .. });
        if is_module
            && !fault::planted("module-of-no-kernel")
            && other != release
            && !has_kernel(&other)
            && !is_linked(&other, &rest)
        {
            strange.push(path);
        }
    }
    let Some(first) = strange.first() else { return Ok(()) };
    let other = below(first).map_or_else(String::new, |(other, _)| other);
    let more = if strange.len() > 1 { format!(" and {} more", strange.len() - 1) } else { String::new() };
    Err(StageError::Gate {
        problem: format!(
            "the image has modules of the kernel {other}, which it does not have (its own is {release}): /{first}{more}"
        ),
        help: "no node would load them. Their build did not take the release from `uname -r`: pass it that of the image ($IMG_KERNELVERSION in postinstall scripts), or let imgbuild build the driver: ‹[[kernel.build]]›".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::MergedEntry;

    fn tree(files: &[(&str, Kind)]) -> Merged {
        let entry = |kind: &Kind| {
            let entry = Entry { kind: kind.clone(), mode: 0o644, ..Entry::whiteout() };
            MergedEntry { entry, layer: 0 }
        };
        Merged(files.iter().map(|(path, kind)| (format!("{MODULES}/{path}"), entry(kind))).collect())
    }

    #[test]
    fn persons_have_homes_of_their_own() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/nonexistent/x:/bin/sh\nu:x:150123:1:,:/home/u/:/bin/sh\nd:x:999:1::/var/lib/d:/bin/sh\n";
        assert_eq!(homes_of(passwd), [("u", 150_123, "home/u")]);
    }

    #[test]
    fn modules_of_no_kernel_are_refused_and_those_of_a_stable_interface_are_not() {
        let file = || Kind::File { size: 1, digest: Digest::of(b"") };
        let own = [("6.1/kernel", Kind::Directory), ("6.1/kernel/a.ko", file())];
        let with = |more: &[(&str, Kind)]| foreign_releases(&tree(&[&own[..], more].concat()), "6.1");
        assert!(with(&[]).is_ok());
        let error = with(&[("5.10/updates/x.ko.xz", file())]).unwrap_err().to_string();
        assert!(error.contains("5.10") && error.contains("x.ko.xz"), "{error}");
        assert!(
            with(&[
                ("5.10/extra/x.ko", file()),
                ("6.1/weak-updates/x.ko", Kind::Symlink("/lib/modules/5.10/extra/x.ko".to_owned()))
            ])
            .is_ok()
        );
        // Another kernel, whole.
        assert!(with(&[("5.10/kernel", Kind::Directory), ("5.10/kernel/x.ko", file())]).is_ok());
    }
}

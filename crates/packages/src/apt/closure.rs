//! The closure of a tools root, reckoned here because there is no apt yet.
//!
//! Only good enough for the packages that a tools root is made of: the newest version of each name, the first
//! alternative that is chosen already or else exists, no version relations. The images themselves are resolved by
//! the release's own apt.

use std::collections::{BTreeMap, VecDeque};

use super::{Archive, PinnedPackage};
use crate::DistroError;

/// The packages of a tools root, sorted by name.
/// Errors: [`DistroError::Closure`] for a dependency that nothing satisfies.
///
/// Packages in `held` keep their versions while the archive has them.
pub fn tools_closure(
    archive: &Archive,
    seed: &[String],
    held: &[PinnedPackage],
) -> Result<Vec<PinnedPackage>, DistroError> {
    let providers = archive.providers();
    let mut chosen: BTreeMap<String, PinnedPackage> = BTreeMap::new();
    let mut queue: VecDeque<(String, String)> = VecDeque::new();
    let me = || "the tools root".to_owned();
    // First, so that it is chosen where packages accept `usrmerge | usr-is-merged`: the other drags in all of perl.
    if archive.newest("usr-is-merged").is_some() {
        queue.push_back(("usr-is-merged".to_owned(), me()));
    }
    queue.extend(archive.names_with_line("Essential: yes").into_iter().map(|name| (name, me())));
    queue.extend(seed.iter().map(|name| (name.clone(), me())));
    while let Some((name, wanted_by)) = queue.pop_front() {
        if chosen.contains_key(&name) {
            continue;
        }
        let missing = || DistroError::Closure { name: name.clone(), wanted_by: wanted_by.clone() };
        let kept = held.iter().find(|package| package.name == name);
        let kept = kept.and_then(|package| archive.exact(&package.name, &package.version));
        let candidate = kept.or_else(|| archive.newest(&name)).ok_or_else(missing)?;
        chosen.insert(name.clone(), candidate.pin(false)?);
        for field in ["Pre-Depends", "Depends"] {
            let Some(value) = candidate.fields.get_field(field).map(|field| field.join()) else { continue };
            for group in value.split(',').map(str::trim).filter(|group| !group.is_empty()) {
                let alternatives: Vec<&str> = group
                    .split('|')
                    .filter_map(|item| item.split_whitespace().next())
                    .map(|item| item.split(':').next().unwrap_or(item))
                    .collect();
                let waiting = |name: &str| chosen.contains_key(name) || queue.iter().any(|(queued, _)| queued == name);
                let provided =
                    |name: &str| providers.get(name).into_iter().flatten().find(|package| waiting(package)).is_some();
                if alternatives.iter().any(|name| waiting(name) || provided(name)) {
                    continue;
                }
                let pick = alternatives.iter().find_map(|name| {
                    if archive.newest(name).is_some() {
                        return Some((*name).to_owned());
                    }
                    providers.get(*name).and_then(|packages| packages.iter().next()).cloned()
                });
                let pick =
                    pick.ok_or_else(|| DistroError::Closure { name: group.to_owned(), wanted_by: name.clone() })?;
                queue.push_back((pick, name.clone()));
            }
        }
    }
    Ok(chosen.into_values().collect())
}

//! What Debian's packages of one transaction need of each other.

use std::collections::{BTreeSet, HashMap};

use super::index::Archive;
use super::words::{is_asked, plain_name};
use crate::Relations;
use crate::apt::PinnedPackage;

/// Names in a field of relations, of all alternatives: without versions, architectures and build profiles.
fn names(field: &str) -> impl Iterator<Item = &str> {
    let words = field.split([',', '|']).filter_map(|item| item.split_whitespace().next());
    words.map(|word| word.split([':', '(']).next().unwrap_or(word))
}

/// The relations of packages to each other. All existing alternatives count: more than is needed does no harm.
pub(crate) fn relations(archive: &Archive, packages: &[PinnedPackage], install: &[String]) -> Option<Relations> {
    let candidates: Vec<_> =
        packages.iter().map(|package| archive.exact(&package.name, &package.version)).collect::<Option<_>>()?;
    let mut known: HashMap<String, Vec<usize>> = HashMap::new();
    let field = |at: usize, name: &str| candidates[at].fields.get_field(name).map(|field| field.join());
    for (at, package) in packages.iter().enumerate() {
        known.entry(package.name.clone()).or_default().push(at);
        for name in names(&field(at, "Provides").unwrap_or_default()) {
            known.entry(name.to_owned()).or_default().push(at);
        }
    }
    let all = |name: &str| known.get(name).cloned().unwrap_or_default();
    let needs = (0..packages.len()).map(|at| {
        let fields = ["Pre-Depends", "Depends"].map(|name| field(at, name).unwrap_or_default());
        let mut needed: Vec<usize> = fields.iter().flat_map(|field| names(field)).flat_map(all).collect();
        needed.retain(|other| *other != at);
        needed
    });
    let meant = |item: &String| {
        let of_it = |at: &usize| is_asked(&candidates[*at], item);
        let own: Vec<usize> = (0..packages.len()).filter(of_it).collect();
        if !own.is_empty() {
            return own;
        }
        let of_suite = item.split_once('/').map(|(name, _)| plain_name(name));
        all(plain_name(item)).into_iter().chain(of_suite.into_iter().flat_map(all)).collect()
    };
    Some(Relations { needs: needs.collect(), asked: install.iter().map(meant).collect() })
}

/// Which of some packages are asked for, are among the first ones, or are needed by such, by their places.
pub(crate) fn reached(
    archive: &Archive,
    packages: &[PinnedPackage],
    first: usize,
    install: &[String],
) -> BTreeSet<usize> {
    let Some(relations) = relations(archive, packages, install) else { return BTreeSet::new() };
    let mut queue: Vec<usize> = relations.asked.into_iter().flatten().chain(0..first).collect();
    let mut all = BTreeSet::new();
    while let Some(next) = queue.pop() {
        if all.insert(next) {
            queue.extend(&relations.needs[next]);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apt::SuiteIndex;
    use base::digest::Sha256;

    #[test]
    fn alternatives_virtual_names_and_patterns_are_followed() {
        let digest = Sha256::of(b"x");
        let stanza = |name: &str, more: &str| {
            format!(
                "Package: {name}\nVersion: 1\nArchitecture: all\nFilename: {name}.deb\nSize: 1\nSHA256: {digest}\n{more}\n"
            )
        };
        let text = [
            stanza("a", "Depends: b (>= 1) | gone, virtual:any, base-thing\n"),
            stanza("b", "Pre-Depends: c\n"),
            stanza("c", "Depends: b\n"),
            stanza("d", "Provides: other, virtual (= 2)\nPriority: required\n"),
        ]
        .concat();
        let archive = Archive { indices: vec![SuiteIndex::new("s".into(), "u".into(), text)] };
        let packages: Vec<PinnedPackage> =
            ["a", "b", "c", "d"].map(|name| archive.newest(name).unwrap().pin(false).unwrap()).into();
        let install = ["a", "folder/b=1", "virtual", "~prequired", "was-there", "[ab]*"].map(str::to_owned);
        let found = relations(&archive, &packages, &install).unwrap();
        assert_eq!(found.needs, [vec![1, 3], vec![2], vec![1], vec![]]);
        assert_eq!(found.asked, [vec![0], vec![1], vec![3], vec![3], vec![], vec![0, 1]]);
        // Nothing needs `d` but `a`, which is neither asked for nor comes.
        let of = |first: usize, install: &[&str]| {
            let install: Vec<String> = install.iter().map(|name| (*name).to_owned()).collect();
            reached(&archive, &packages, first, &install).into_iter().collect::<Vec<_>>()
        };
        assert_eq!((of(0, &["c"]), of(0, &["was-there"]), of(1, &[])), (vec![1, 2], vec![], vec![0, 1, 2, 3]));
        let strange = PinnedPackage { version: "2".into(), ..packages[0].clone() };
        assert_eq!(relations(&archive, &[strange], &[]), None);
    }
}

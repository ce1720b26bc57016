//! A long transaction is cut into parts, each a layer of its own: a line at the end of a list leaves the parts before it alone.
//!
//! Where it is cut follows from the names at the beginning of the list and what they need, so that nothing that comes later moves
//! a cut. A layer stays a function of its key alone (D7), and each part has all that its packages need in itself or below.

use packages::Relations;
use recipe::{LockedPass, PassRole, PinnedPackage};

/// A part has at least so many packages. A further transaction costs what some eight of them do, and a cold build is to get slower
/// by a twentieth at most (docs/performance.md).
const LEAST: usize = 64;

/// Cuts a transaction. What removes packages stays in one piece; streams of modules go to the last part with packages.
pub(crate) fn cut(pass: LockedPass, relations: Option<Relations>) -> Vec<LockedPass> {
    cut_at(pass, relations, LEAST)
}

/// Whether it removes nothing.
fn only_adds(pass: &LockedPass) -> bool {
    [&pass.remove, &pass.remove_after, &pass.remove_with, &pass.conflicting, &pass.replaced]
        .iter()
        .all(|list| list.is_empty())
}

fn cut_at(pass: LockedPass, relations: Option<Relations>, least: usize) -> Vec<LockedPass> {
    let is_list = matches!(pass.role(), PassRole::Packages | PassRole::Otherpkgs);
    let Some(relations) = relations.filter(|_| is_list && only_adds(&pass)) else { return vec![pass] };
    let mut part_of: Vec<Option<usize>> = vec![None; pass.packages.len()];
    let mut names: Vec<Vec<String>> = vec![Vec::new()];
    let (mut before, mut here) = (0, 0);
    for (name, asked) in pass.install.iter().zip(relations.asked) {
        // Later parts are longer: the number of transactions grows slower than the list.
        if here >= least.max(before / 2) {
            before += here;
            here = 0;
            names.push(Vec::new());
        }
        let number = names.len() - 1;
        let mut queue = asked;
        while let Some(next) = queue.pop() {
            if let Some(place @ None) = part_of.get_mut(next) {
                *place = Some(number);
                here += 1;
                queue.extend(&relations.needs[next]);
            }
        }
        names[number].push(name.clone());
    }
    // What no name leads to could belong anywhere.
    match part_of.iter().copied().collect::<Option<Vec<usize>>>() {
        Some(part_of) if names.len() > 1 => divided(pass, names, |at, _| part_of[at]),
        _ => vec![pass],
    }
}

/// A transaction that is supposed, cut where its lock has cut it before.
pub(crate) fn as_before(whole: LockedPass, parts: &[LockedPass], plain: impl Fn(&str) -> String) -> Vec<LockedPass> {
    // A part ends where its last name stands; one whose last name is gone is one with the next.
    let mut names: Vec<Vec<String>> = Vec::new();
    let mut number_of = Vec::new();
    let mut rest = whole.install.as_slice();
    for (number, part) in parts.iter().enumerate() {
        number_of.push(names.len());
        let end = part.install.last().and_then(|last| rest.iter().position(|name| name == last));
        let end = if number + 1 == parts.len() { rest.len() } else { end.map_or(0, |end| end + 1) };
        if end > 0 {
            names.push(rest[..end].to_vec());
            rest = &rest[end..];
        }
    }
    if names.len() < 2 || !only_adds(&whole) {
        return vec![whole];
    }
    let last = names.len() - 1;
    let asked = names.clone();
    let place = |_: usize, package: &PinnedPackage| {
        let known = parts.iter().position(|part| part.packages.iter().any(|one| one.name == package.name));
        let asked = || asked.iter().position(|names| names.iter().any(|name| plain(name) == package.name));
        known.map(|known| number_of[known]).or_else(asked).unwrap_or(last).min(last)
    };
    let mut supposed = divided(whole, names, place);
    for part in &mut supposed {
        part.asks_release = parts.iter().any(|known| known.name == part.name && known.asks_release);
    }
    supposed
}

fn divided(
    pass: LockedPass,
    names: Vec<Vec<String>>,
    part_of: impl Fn(usize, &PinnedPackage) -> usize,
) -> Vec<LockedPass> {
    let part = |(number, install): (usize, Vec<String>)| LockedPass {
        name: PassRole::part_name(&pass.name, number),
        install,
        ..LockedPass::default()
    };
    let mut parts: Vec<LockedPass> = names.into_iter().enumerate().map(part).collect();
    for (at, package) in pass.packages.iter().enumerate() {
        parts[part_of(at, package)].packages.push(package.clone());
    }
    // Packages are installed whatever streams are on: the node's own dnf asks. With the last ones they leave the parts before alone.
    let last = parts.iter().rposition(|part| !part.packages.is_empty()).unwrap_or_default();
    parts[last].modules = pass.modules;
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::digest::Sha256;

    fn package(name: &str) -> PinnedPackage {
        PinnedPackage {
            name: name.to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            size: 1,
            sha256: Sha256::of(name.as_bytes()),
            origin: String::new(),
            file: String::new(),
            automatic: false,
            beside: false,
        }
    }

    /// A transaction of packages that each need others, and of names that mean themselves.
    fn pass(install: &[&str], packages: &[(&str, &[&str])]) -> (LockedPass, Relations) {
        let at = |name: &str| packages.iter().position(|(one, _)| *one == name).into_iter().collect::<Vec<_>>();
        let relations = Relations {
            needs: packages.iter().map(|(_, needs)| needs.iter().flat_map(|name| at(name)).collect()).collect(),
            asked: install.iter().map(|name| at(name)).collect(),
        };
        let pass = LockedPass {
            name: "packages-1".to_owned(),
            install: install.iter().map(|name| (*name).to_owned()).collect(),
            packages: packages.iter().map(|(name, _)| package(name)).collect(),
            ..LockedPass::default()
        };
        (pass, relations)
    }

    fn shown(parts: &[LockedPass]) -> Vec<String> {
        let names = |part: &LockedPass| part.packages.iter().map(|one| one.name.clone()).collect::<Vec<_>>().join(" ");
        parts.iter().map(|part| format!("{}: {} = {}", part.name, part.install.join(" "), names(part))).collect()
    }

    const PACKAGES: [(&str, &[&str]); 6] =
        [("liba", &[]), ("a", &["liba", "z"]), ("b", &["liba"]), ("c", &["libc"]), ("libc", &["c"]), ("z", &[])];

    #[test]
    fn a_part_has_what_its_packages_need_in_itself_or_below() {
        let (one, relations) = pass(&["a", "b", "c", "z"], &PACKAGES);
        let parts = cut_at(one, Some(relations), 2);
        // `z` is asked for last and needed first; c and libc need each other.
        assert_eq!(shown(&parts), ["packages-1: a = liba a z", "packages-1.2: b c = b c libc", "packages-1.3: z = "]);
    }

    #[test]
    fn what_comes_later_moves_no_cut() {
        let all = ["a", "b", "c"];
        let mut earlier: Vec<String> = Vec::new();
        for count in 1..=all.len() {
            let needed: Vec<_> = PACKAGES.into_iter().filter(|(name, _)| count == 3 || !name.contains('c')).collect();
            let needed: Vec<_> = needed.into_iter().filter(|(name, _)| count > 1 || *name != "b").collect();
            let (one, relations) = pass(&all[..count], &needed);
            let now = shown(&cut_at(one, Some(relations), 2));
            let whole = earlier.len().saturating_sub(1);
            assert_eq!(now[..whole], earlier[..whole]);
            earlier = now;
        }
        assert_eq!(earlier.len(), 2);
    }

    #[test]
    fn what_removes_or_is_not_known_stays_in_one_piece() {
        let (one, relations) = pass(&["a", "b", "c"], &PACKAGES);
        assert_eq!(cut_at(one.clone(), None, 1), std::slice::from_ref(&one));
        let removing = LockedPass { remove: vec!["x".to_owned()], ..one.clone() };
        assert_eq!(cut_at(removing.clone(), Some(relations.clone()), 1), [removing]);
        let kernel = LockedPass { name: "kernel".to_owned(), ..one };
        assert_eq!(cut_at(kernel.clone(), Some(relations), 1), [kernel]);
        // No one asks for `c`.
        let (one, relations) = pass(&["a", "b"], &PACKAGES);
        assert_eq!(cut_at(one.clone(), Some(relations), 1), [one]);
    }

    #[test]
    fn streams_of_modules_go_to_the_last_part_with_packages() {
        let modules = vec!["greeting:1".to_owned()];
        let (one, relations) = pass(&["a", "b", "c", "z"], &PACKAGES);
        let one = LockedPass { modules: modules.clone(), ..one };
        let parts = cut_at(one.clone(), Some(relations), 2);
        let found: Vec<usize> = parts.iter().map(|part| part.modules.len()).collect();
        // The third has a name and no package.
        assert_eq!(found, [0, 1, 0]);
        assert_eq!(parts[1].modules, modules);
        assert_eq!(as_before(one, &parts, |name| name.to_owned()), parts);
    }

    #[test]
    fn parts_are_longer_the_more_there_was() {
        let names: Vec<String> = (0..100).map(|number| format!("p{number}")).collect();
        let packages: Vec<(&str, &[&str])> = names.iter().map(|name| (name.as_str(), &[][..])).collect();
        let (one, relations) = pass(&names.iter().map(String::as_str).collect::<Vec<_>>(), &packages);
        let sizes: Vec<usize> = cut_at(one, Some(relations), 10).iter().map(|part| part.packages.len()).collect();
        assert_eq!(sizes, [10, 10, 10, 15, 22, 33]);
    }

    #[test]
    fn a_supposed_transaction_keeps_its_cuts() {
        let (one, relations) = pass(&["a", "b", "c"], &PACKAGES);
        let parts = cut_at(one.clone(), Some(relations), 2);
        let plain = |name: &str| name.to_owned();
        assert_eq!(as_before(one.clone(), &parts, plain), parts);
        let mut more = one.clone();
        more.install.push("new".to_owned());
        more.packages.push(package("new"));
        let supposed = shown(&as_before(more, &parts, plain));
        assert_eq!(supposed, ["packages-1: a = liba a z", "packages-1.2: b c new = b c libc new"]);
        // Within the first part, and at its end.
        let mut more = one.clone();
        more.install.insert(0, "new".to_owned());
        more.packages.push(package("new"));
        assert!(as_before(more, &parts, plain)[0].packages.iter().any(|one| one.name == "new"));
        let removing = LockedPass { remove: vec!["x".to_owned()], ..one.clone() };
        assert_eq!(as_before(removing.clone(), &parts, plain), [removing]);
        let mut fewer = one;
        fewer.install.remove(0);
        assert_eq!(as_before(fewer, &parts, plain).len(), 1);
    }
}

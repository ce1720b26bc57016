use super::closure;
use crate::rpm::{Candidate, Capability, Evr, Relation, Repository, Requirement};

/// A package `name version`, then lines of `requires: …`, `provides: …` and so on.
pub(super) fn package(text: &str) -> Candidate {
    let mut lines = text.lines().map(str::trim);
    let mut words = lines.next().unwrap().split_whitespace();
    let (name, evr) = (words.next().unwrap(), words.next().unwrap());
    let mut candidate = Candidate::nothing();
    candidate.name = name.to_owned();
    candidate.evr = Evr::parse(evr);
    candidate.arch = words.next().unwrap_or("x86_64").to_owned();
    candidate.provides = vec![Capability {
        name: name.into(),
        version: Some(std::sync::Arc::new((Relation::EQUAL, candidate.evr.clone()))),
    }];
    for line in lines {
        let (kind, value) = line.split_once(": ").unwrap();
        let capability = Capability::parse(value);
        match kind {
            "requires" => candidate.requires.push(Requirement { capability, pre: false }),
            "provides" => candidate.provides.push(capability),
            "conflicts" => candidate.conflicts.push(capability),
            "obsoletes" => candidate.obsoletes.push(capability),
            "recommends" => candidate.weak.recommends.push(capability),
            "file" => candidate.files.push(value.to_owned()),
            other => panic!("{other}"),
        }
    }
    candidate
}

fn repository(packages: &[&str]) -> Repository {
    Repository {
        candidates: packages.iter().map(|text| package(text)).collect(),
        priority: 99,
        ..Repository::default()
    }
}

fn chosen(repositories: &[Repository], seeds: &[&str]) -> Result<Vec<String>, String> {
    let seeds: Vec<String> = seeds.iter().map(|seed| (*seed).to_owned()).collect();
    match closure(repositories, &seeds, "x86_64") {
        Ok(pairs) => {
            let mut names: Vec<String> =
                pairs.iter().map(|(one, two)| repositories[*one].candidates[*two].nevra()).collect();
            names.sort();
            Ok(names)
        }
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn the_newest_version_comes_with_what_it_needs() {
    let repository = repository(&[
        "a 1-1\nrequires: b",
        "a 2-1\nrequires: b >= 2\nrequires: /usr/bin/c\nrequires: rpmlib(RichDependencies)",
        "b 1-1",
        "b 2-1 noarch",
        "c 1-1\nfile: /usr/bin/c",
        "d 1-1",
        "a 9-1 i686",
    ]);
    assert_eq!(chosen(&[repository], &["a"]).unwrap(), ["a-2-1.x86_64", "b-2-1.noarch", "c-1-1.x86_64"]);
}

#[test]
fn a_choice_that_leads_nowhere_is_taken_back() {
    let repository = repository(&[
        "a 1-1\nrequires: virtual\nrequires: z",
        "p1 1-1\nprovides: virtual\nrequires: q",
        "p2 1-1\nprovides: virtual",
        "q 1-1\nconflicts: z",
        "z 1-1",
    ]);
    assert_eq!(chosen(&[repository], &["a"]).unwrap(), ["a-1-1.x86_64", "p2-1-1.x86_64", "z-1-1.x86_64"]);
}

#[test]
fn boolean_dependencies_are_understood() {
    let base = ["x 1-1", "y 1-1", "w 1-1\nprovides: w2", "v 1-1\nprovides: w2"];
    let with = |requires: &str| {
        let mut packages: Vec<String> = base.iter().map(|text| (*text).to_owned()).collect();
        packages.push(format!("a 1-1\nrequires: {requires}"));
        let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
        chosen(&[repository(&packages)], &["a"])
            .unwrap()
            .into_iter()
            .map(|name| name[..1].to_owned())
            .collect::<String>()
    };
    assert_eq!(with("(x and y)"), "axy");
    assert_eq!(with("(nothing or y)"), "ay");
    assert_eq!(with("(x if y)"), "a");
    assert_eq!(with("(x if a)"), "ax");
    assert_eq!(with("(x if nothing else y)"), "ay");
    assert_eq!(with("(x unless nothing)"), "ax");
    assert_eq!(with("(x unless a else y)"), "ay");
    assert_eq!(with("(w2 with w)"), "aw");
    assert_eq!(with("(w2 without w)"), "av");
    assert_eq!(with("((x or y) and (w2 without v))").len(), 3);
}

#[test]
fn priorities_excludes_and_hidden_packages_count() {
    let mut first = repository(&["a 1-1"]);
    first.priority = 10;
    let mut second = repository(&["a 2-1", "b 1-1"]);
    assert_eq!(chosen(&[first.clone(), second.clone()], &["a"]).unwrap(), ["a-1-1.x86_64"]);
    first.exclude = vec!["a*".to_owned()];
    assert_eq!(chosen(&[first.clone(), second.clone()], &["a"]).unwrap(), ["a-2-1.x86_64"]);
    second.hidden.insert(0);
    assert!(chosen(&[first, second], &["a"]).is_err());
}

#[test]
fn what_is_missing_is_named_with_names_like_it() {
    let packages = repository(&["a 1-1\nrequires: libfo", "libfoo 1-1", "b 1-1\nconflicts: libfoo"]);
    insta::assert_snapshot!(chosen(std::slice::from_ref(&packages), &["a"]).unwrap_err(), @r"
    the packages of the tools root cannot be resolved:
    a-1-1.x86_64 needs `libfo`, which no package provides; names like it: `libfoo`
    `a` is requested
    ");
    insta::assert_snapshot!(chosen(std::slice::from_ref(&packages), &["libfooo", "libfoo = 2"]).unwrap_err(), @r"
    the packages of the tools root cannot be resolved:
    no repository has `libfooo`; names like it: `libfoo`
    no repository has `libfoo = 2`: available is libfoo 1-1
    ");
    insta::assert_snapshot!(chosen(&[packages], &["b", "libfoo"]).unwrap_err(), @r"
    the packages of the tools root cannot be resolved:
    b-1-1.x86_64 conflicts with `libfoo`, provided by libfoo-1-1.x86_64
    `b` is requested
    `libfoo` is requested
    ");
}

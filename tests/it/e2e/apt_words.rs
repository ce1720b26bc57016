//! Words of lists that say which version of a package is meant, as apt has them.

use imgbuild::recipe::Lock;

use super::private_archive::{Archive, Deb, Flat, Mirror};
use super::repositories::with_repo;
use crate::support::Space;

fn version(space: &Space, name: &str) -> String {
    let lock = Lock::parse(&std::fs::read_to_string(space.path().join("image.lock")).unwrap()).unwrap();
    let found = lock.pass.iter().flat_map(|pass| &pass.packages).find(|package| package.name == name);
    found.map(|package| package.version.clone()).unwrap_or_default()
}

#[test]
fn suites_and_versions_of_packages_are_meant_as_apt_means_them() {
    let mirror = Mirror::start();
    let mut backports = Archive::empty();
    backports.codename = "bookworm-backports".to_owned();
    backports.suite = "bookworm-backports".to_owned();
    backports.fields = "Suite: stable-backports\nNotAutomatic: yes\nButAutomaticUpgrades: yes\n".to_owned();
    backports.add(&Deb::new("site-app").of_version("2.5").fields("Depends: site-lib (>= 2)\n"));
    backports.add(&Deb::new("site-lib").of_version("2.5"));
    mirror.publish(&backports);
    let mut own = Archive::empty();
    own.add(&Deb::new("site-app").of_version("1.0").fields("Depends: site-lib\n"));
    own.add(&Deb::new("site-lib").of_version("1.0"));
    own.publish_flat(&mirror, "own", Flat::InRelease);
    let repo = format!(
        "[[repo]]\nid = \"own\"\nuri = \"{0}/own\"\nsuites = [\"./\"]\nsigned-by = \"known.asc\"\n\n\
         [[repo]]\nuri = \"{0}\"\nsuites = [\"bookworm-backports\"]\ncomponents = [\"main\"]\nsigned-by = \"known.asc\"",
        mirror.url
    );
    let space = with_repo("WANTED", &repo);
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let want = |word: &str| {
        space.write("image.toml", &recipe.replace("WANTED", word));
        let _ = std::fs::remove_file(space.path().join("image.lock"));
    };
    for (word, app, lib) in [
        ("site-app", "1.0", "1.0"),
        ("site-app/bookworm-backports", "2.5", "2.5"),
        ("site-app/stable-backports", "2.5", "2.5"),
        ("site-app:amd64/bookworm-backports", "2.5", "2.5"),
        ("site-app:amd64", "1.0", "1.0"),
        ("site-lib=2*", "", "2.5"),
    ] {
        want(word);
        space.run(&["check"]).good();
        space.run(&["update"]).good();
        assert_eq!((version(&space, "site-app").as_str(), version(&space, "site-lib").as_str()), (app, lib), "{word}");
    }
    want("site-app/bookworm-backports");
    space.run(&["build", "--until", "rootfs"]).good();
    assert!(!space.to_do().iter().any(|one| one.starts_with("rootfs")), "{:?}", space.to_do());
    for (word, words) in [
        (
            "site-app=9.9",
            &[
                "no repository has `site-app=9.9`",
                "available versions of `site-app`: 2.5 (bookworm-backports), 1.0 (own:./)",
            ][..],
        ),
        ("site-app=9*", &["no repository has `site-app=9*`", "available versions of `site-app`: 2.5"]),
        ("site-app/sid", &["no repository has `site-app/sid`", "suites = [\"sid\"]"]),
        ("site-app/bookworm", &["available versions of `site-app`: 2.5"]),
    ] {
        want(word);
        let ran = space.run(&["update"]);
        let said = ran.err.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert_eq!(ran.code, 1, "{word}: {}", ran.err);
        for expected in words.iter().chain(&["image.toml:"]) {
            assert!(said.contains(expected), "{word}: `{expected}` is not in {}", ran.err);
        }
    }
}

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
        ("site-a*/bookworm-backports", "2.5", "2.5"),
        ("?name(^site-app$)", "1.0", "1.0"),
        ("?name(^site-app$)/bookworm-backports", "2.5", "2.5"),
        ("~n^site-lib$/stable-backports", "", "2.5"),
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
        // apt installs nothing for it, and says nothing.
        ("site-a*/sid", &["no repository has `site-a*/sid`", "suites = [\"sid\"]"]),
        ("?name(^site-app$)/sid", &["suites = [\"sid\"]"]),
        ("?section(libs/devel)", &["`?section(libs/devel)` is not a pattern that apt can read"]),
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

/// Packages of a pass by name, whether each was asked for.
fn asked(space: &Space, name: &str) -> Option<bool> {
    let lock = Lock::parse(&std::fs::read_to_string(space.path().join("image.lock")).unwrap()).unwrap();
    let found = lock.pass.iter().flat_map(|pass| &pass.packages).find(|package| package.name == name);
    found.map(|package| !package.automatic)
}

#[test]
fn a_task_comes_without_what_is_removed_from_it() {
    let mirror = Mirror::start();
    let mut own = Archive::empty();
    own.add(&Deb::new("site-app").fields("Task: site, site-desktop\nDepends: site-lib\n"));
    own.add(&Deb::new("site-game").fields("Task: site\n"));
    own.add(&Deb::new("site-lib"));
    own.publish_flat(&mirror, "own", Flat::InRelease);
    let repo = format!("[[repo]]\nuri = \"{}/own\"\nsuites = [\"./\"]\nsigned-by = \"known.asc\"", mirror.url);
    let space = with_repo("site^", &repo);
    let versions = |names: [&str; 3]| names.map(|name| version(&space, name));
    space.run(&["update"]).good();
    assert_eq!(versions(["site-app", "site-lib", "site-game"]), ["1.0", "1.0", "1.0"]);
    assert_eq!(
        ["site-app", "site-lib", "site-game"].map(|name| asked(&space, name)),
        [Some(true), Some(false), Some(true)]
    );
    space.edit("image.toml", "install = [\"site^\"]", "install = [\"site^\", \"-site-game\"]");
    space.run(&["update"]).good();
    assert_eq!(versions(["site-app", "site-lib", "site-game"]), ["1.0", "1.0", ""]);
    space.edit("image.toml", "site^", "sight^");
    let ran = space.run(&["update"]);
    assert!(ran.code == 1 && ran.err.contains("no package belongs to the task `sight`"), "{}", ran.err);
}

#[test]
fn what_a_list_names_by_folder_comes_from_that_folder() {
    let mirror = Mirror::start();
    let mut own = Archive::empty();
    for name in ["hello", "hello-doc", "hello-more"] {
        own.add(&Deb::new(name));
    }
    own.publish_flat(&mirror, "own", Flat::InRelease);
    let repo = format!("[[repo]]\nuri = \"{}/own\"\nsuites = [\"./\"]\nsigned-by = \"known.asc\"", mirror.url);
    let space = with_repo("base-files", &repo);
    let folder = space.path().join("otherpkgs/site");
    // The archive's versions, other bytes; one that only the folder has an older version of.
    for name in ["hello", "hello-doc"] {
        Deb::new(name).fields("Section: site\n").write(&folder);
    }
    Deb::new("hello-more").of_version("0.5").write(&folder);
    Deb::new("hello").fields("Section: other\n").write(&space.path().join("otherpkgs/other"));
    space.edit("image.toml", "[kernel]", "[otherpkgs]\ndir = \"otherpkgs\"\nlists = [\"o.pkglist\"]\n\n[kernel]");
    let origin = |name: &str| {
        let lock = Lock::parse(&std::fs::read_to_string(space.path().join("image.lock")).unwrap()).unwrap();
        let mut found = lock.pass.iter().flat_map(|pass| &pass.packages).filter(|package| package.name == name);
        found.next().map(|package| (package.origin.clone(), package.version.clone()))
    };
    let here = |version: &str| Some(("otherpkgs/site".to_owned(), version.to_owned()));
    for (list, hello, doc, more) in [
        ("site/hello", here("1.0"), None, None),
        ("site/hello=1.0", here("1.0"), None, None),
        ("site/hello*", here("1.0"), here("1.0"), here("0.5")),
        ("site/hello.all", here("1.0"), None, None),
        ("site/hello:amd64", here("1.0"), None, None),
        ("site/hello-more", None, None, here("0.5")),
    ] {
        space.write("o.pkglist", &format!("{list}\n"));
        space.run(&["update"]).good();
        assert_eq!((origin("hello"), origin("hello-doc"), origin("hello-more")), (hello, doc, more), "{list}");
    }
    space.write("o.pkglist", "site/hello*\n");
    space.run(&["build"]).good();
    let sections = "dpkg-query -W -f '${Package} ${Section} ${Version}\\n' hello hello-doc hello-more";
    let shown = space.run(&["shell", "--", "/bin/sh", "-c", sections]).good().out;
    assert_eq!(shown, "hello site 1.0\nhello-doc site 1.0\nhello-more  0.5\n");
    // Also where an earlier pass brought the archive's.
    space.edit("image.toml", "install = [\"base-files\"]", "install = [\"base-files\", \"hello\"]");
    space.write("o.pkglist", "site/hello\nother/hello-doc\n");
    Deb::new("hello-doc").of_version("0.7").write(&space.path().join("otherpkgs/other"));
    space.run(&["build"]).good();
    let shown = space.run(&["shell", "--", "/bin/sh", "-c", &sections.replace(" hello-more", "")]).good().out;
    assert_eq!(shown, "hello site 1.0\nhello-doc  0.7\n");
}

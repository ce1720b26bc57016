//! Packages that cannot be installed: which one, which script, what it said, and where the rest is.

use super::private_archive::{Archive, Deb, Mirror, copy, copy_from, fails_keeping_artefacts, fails_with};
use crate::support::Space;

/// A copy of the tiny image with packages of its own.
fn with_packages(packages: &[Deb], list: &str) -> Space {
    let space = copy();
    for package in packages {
        package.write(&space.path().join("otherpkgs"));
    }
    space.write("o.pkglist", list);
    space.edit("image.toml", "[kernel]", "[otherpkgs]\ndir = \"otherpkgs\"\nlists = [\"o.pkglist\"]\n\n[kernel]");
    space
}

/// The file that a message names after some words; lines are folded, also within the path.
pub(super) fn named_file(said: &str, words: &str) -> String {
    let flat: String = said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join("");
    let words: String = words.split_whitespace().collect();
    let rest = flat.split_once(&words).unwrap_or_else(|| panic!("`{words}` is not in {said}")).1;
    let end = rest.find(".log").unwrap() + 4;
    std::fs::read_to_string(&rest[..end]).unwrap()
}

#[test]
fn network_a_failing_package_script_is_named_with_its_status_and_its_last_lines() {
    let fail = "echo \"about to fail in $0\"\nprintf '\\033[31mred\\n'\nexit 3";
    for (script, list) in
        [("preinst", "site-bad\n"), ("postinst", "site-good\nsite-bad\n"), ("prerm", "site-bad\n--site-bad\n")]
    {
        let bad = Deb::new("site-bad").script(script, fail);
        let space = with_packages(&[bad, Deb::new("site-good")], list);
        let words = [
            &format!("the script `{script}` of the package `site-bad` failed: exit status 3"),
            "about to fail in",
            "full log:",
            "the previous artefacts are unchanged",
        ];
        let said = fails_keeping_artefacts(&space, &[], 4, &words);
        assert!(!said.contains('\u{1b}'), "{said:?}");
        assert!(named_file(&said, "full log:").contains("about to fail in"));
    }
}

#[test]
fn network_what_nothing_can_satisfy_has_the_solvers_words_and_their_file() {
    let needs = Deb::new("site-needs").fields("Depends: site-nothing (>= 2)\n");
    let space = with_packages(&[needs], "site-needs\n");
    let words =
        ["cannot be installed together", "site-needs : Depends: site-nothing (>= 2)", "full answer of the solver:"];
    let said = fails_with(&space, &[], 1, &words);
    assert!(named_file(&said, "full answer of the solver:").contains("site-nothing"));
}

#[test]
fn network_every_unknown_package_has_its_list_its_line_and_near_names() {
    let space =
        with_packages(&[Deb::new("site-tool"), Deb::new("site-lib")], "# ours\nsite-tol\n\nsite-libb\nsite-lib\n");
    let words = [
        "o.pkglist:2:1",
        "o.pkglist:4:1",
        "no repository has `site-tol`",
        "no repository has `site-libb`",
        "instead of `site-tol`, did you mean site-tool",
        "instead of `site-libb`, did you mean site-lib",
    ];
    fails_with(&space, &[], 1, &words);
}

#[test]
fn misspelt_packages_are_named_by_check_build_and_plan_all_at_once() {
    let mut archive = Archive::of_tiny();
    archive.add(&Deb::new("site-token"));
    archive.add(&Deb::new("site-tools"));
    let mirror = Mirror::start();
    mirror.publish(&archive);
    let space = copy_from(&mirror, &["site-toekn"]);
    // In two passes.
    space.write("more.pkglist", "site-tools\n#NEW_INSTALL_LIST#\nsite-tols\n");
    space.edit("image.toml", "base = \"essential\"", "base = \"essential\"\nlists = [\"more.pkglist\"]");
    space.run(&["check"]).good();
    let both =
        ["no repository has `site-toekn`", "did you mean site-token", "more.pkglist:3:1", "did you mean site-tools"];
    for words in [&["check", "--online"][..], &["build"]] {
        let ran = space.run(words);
        assert_eq!(ran.code, 1, "{}", ran.err);
        both.iter().for_each(|said| assert!(ran.err.contains(said), "{said}: {}", ran.err));
    }
    // Now it is known what there is.
    let plan = space.run(&["plan"]).good().out;
    for said in [
        "no repository had `site-toekn` when packages were last resolved; did you mean site-token",
        "more.pkglist:3 no repository had `site-tols`",
    ] {
        assert!(plan.contains(said), "{said}: {plan}");
    }
    space.edit("image.toml", "site-toekn", "site-token").write("more.pkglist", "site-tools\n");
    assert!(!space.run(&["plan"]).good().out.contains("no repository had"));
    space.run(&["check", "--online"]).good();
}

#[test]
fn network_a_damaged_file_that_no_list_wants_blocks_no_build() {
    let space = with_packages(&[Deb::new("site-good")], "site-good\n");
    space.write("otherpkgs/site-page_1.0_all.deb", "<html>404</html>\n");
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("site-page_1.0_all.deb` is not a package and is left out"), "{}", ran.err);
    space.run(&["shell", "--", "/bin/cat", "/opt/site-good"]).good();
    assert!(space.run(&["plan"]).good().out.contains("rootfs   keep"));
    space.write("o.pkglist", "site-good\nsite-page\n");
    fails_with(&space, &[], 1, &["o.pkglist:2:1", "it is a web page"]);
}

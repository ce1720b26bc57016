//! What cannot become an image of RPM packages, and how it is said: each with its exit code.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::package_failures::named_file;
use super::rpm_distro::distribution;
use super::rpm_node::{repository, write_keys, write_rpm};
use super::store;
use crate::support::{Space, copy_tree};

fn few(repositories: &[String], list: &str) -> Space {
    let space = Space::new().with_store(&store());
    write_keys(&space);
    space.write("few.pkglist", list);
    let text = format!(
        "[image]\nname = \"few\"\ndistro = \"rocky\"\nrelease = \"1\"\n\n{}\n[packages]\nlists = [\"few.pkglist\"]\n\n\
         [system]\nauthorized_keys = [\"keys/admin.pub\"]\n",
        repositories.join("\n")
    );
    space.write("image.toml", &text);
    space
}

fn broken(list: &str) -> Space {
    few(&[repository("distro"), repository("broken")], list)
}

/// Builds the root, which must fail with this code and these words; lines are folded, also within words.
#[track_caller]
fn fails_with(space: &Space, arguments: &[&str], code: i32, words: &[&str]) -> String {
    let mut all = vec!["build", "--progress", "plain"];
    all.extend(arguments);
    let ran = space.run(&all);
    assert_eq!(ran.code, code, "{}", ran.err);
    let flat = |text: &str| text.split_whitespace().filter(|word| *word != "│").collect::<String>();
    let said = flat(&ran.err);
    for word in words {
        assert!(said.contains(&flat(word)), "`{word}` is not in {}", ran.err);
    }
    assert!(!space.path().join("out").exists(), "{}", ran.err);
    ran.err
}

const UNTIL: [&str; 2] = ["--until", "rootfs"];

/// A copy of the small repository `broken` with other files in it; its packages are hard links.
struct Copy {
    directory: tempfile::TempDir,
}

impl Copy {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        copy_tree(&distribution().repository("broken"), directory.path());
        Self { directory }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn metadata(&self, kind: &str) -> PathBuf {
        let found = std::fs::read_dir(self.at("repodata")).unwrap().map(|entry| entry.unwrap().path());
        let mut found = found.filter(|path| path.to_str().unwrap().contains(kind));
        found.next().unwrap()
    }

    /// As a [[repo]] of which the index is not signed, with more settings.
    fn unsigned(&self, settings: &str) -> String {
        let place = self.directory.path().display();
        format!("[[repo]]\nid = \"copy\"\nuri = \"file:{place}\"\nsigned-by = \"keys/RPM-GPG-KEY-site\"\n{settings}\n")
    }

    fn signed(&self) -> String {
        self.unsigned("check-index = true")
    }

    /// Makes its metadata anew; nobody signs them.
    fn index(&self) {
        std::fs::remove_dir_all(self.at("repodata")).unwrap();
        let place = self.directory.path();
        let made = Command::new("createrepo_c").args(["--quiet", "--no-database"]).arg(place).status().unwrap();
        assert!(made.success());
    }
}

/// A key that signed nothing here.
fn other_key() -> String {
    let home = tempfile::tempdir().unwrap();
    let gpg = |arguments: &[&str]| {
        let ran = Command::new("gpg").arg("--homedir").arg(home.path()).args(arguments).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    };
    gpg(&["--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "Other <o@example.invalid>", "rsa2048", "sign"]);
    gpg(&["--armor", "--export"])
}

#[test]
fn names_that_no_repository_has_are_told_with_their_lines_and_near_names() {
    let space = few(&[repository("distro")], "# ours\nbahs\n\nfigletx\nbash\n");
    let words = [
        "few.pkglist:2:1",
        "few.pkglist:4:1",
        "no repository has `bahs`",
        "no repository has `figletx`",
        "instead of `bahs`, did you mean bash",
        "instead of `figletx`, did you mean figlet",
    ];
    fails_with(&space, &UNTIL, 1, &words);
    for (asked, near) in [("@coree", "@core"), ("@^minimal-enviroment", "@^minimal-environment")] {
        space.write("few.pkglist", &format!("bash\n{asked}\n"));
        let near = format!("instead of `{asked}`, did you mean {near}?");
        fails_with(&space, &UNTIL, 1, &["few.pkglist:2:1", &format!("no repository has `{asked}`"), &near]);
    }
    // What is there and left out is not a typing error.
    space.edit("image.toml", "check-index = true\n", "check-index = true\nexclude = [\"figlet\"]\n");
    space.write("few.pkglist", "figlet\n");
    fails_with(&space, &UNTIL, 1, &["no repository has `figlet`"]);
}

#[test]
fn what_cannot_be_had_together_has_the_solvers_words() {
    let space = broken("needs-needs-nothing\n");
    let words = [
        "the packages cannot be installed together",
        "nothing provides no-such-package >= 2.0 needed by needs-nothing-1.0-1.noarch",
        "full answer of the solver:",
    ];
    let said = fails_with(&space, &UNTIL, 1, &words);
    assert!(named_file(&said, "full answer of the solver:").contains("nothing provides no-such-package"));
    space.write("few.pkglist", "enemy-left\nenemy-right\n");
    fails_with(
        &space,
        &UNTIL,
        1,
        &["cannot be installed together", "enemy-left-1.0-1.noarch conflicts with enemy-right"],
    );
}

#[test]
fn files_of_two_packages_in_one_place_are_named_with_both() {
    let words =
        ["installing packages failed", "/usr/share/fixture/clash", "clash-one-1.0-1.noarch", "clash-two-1.0-1.noarch"];
    fails_with(&broken("clash-one\nclash-two\n"), &UNTIL, 4, &words);
}

#[test]
fn scripts_that_fail_are_named_with_their_package_and_their_last_words() {
    let space = broken("bad-pre\n");
    let words = [
        "the script `%prein` of the package `bad-pre` failed: exit status 4",
        "not on this machine",
        "the previous artefacts are unchanged",
    ];
    fails_with(&space, &UNTIL, 4, &words);
    space.write("few.pkglist", "bad-post\n");
    let words = ["the script `%post` of the package `bad-post` failed: exit status 3", "the disk of this node is full"];
    let said = fails_with(&space, &UNTIL, 4, &words);
    assert!(named_file(&said, "full log:").contains("the disk of this node is full"));
    // A recipe that lets it fail has it installed; this is another input of the action.
    space.edit("image.toml", "few.pkglist\"]", "few.pkglist\"]\nfailing_scripts = [\"bad-post\"]");
    space.run(&["build", "--until", "rootfs"]).good();
    space.edit("image.toml", "\nfailing_scripts = [\"bad-post\"]", "");
    assert!(space.to_do().contains(&"rootfs/packages-1 run".to_owned()), "{:?}", space.to_do());
    fails_with(&space, &UNTIL, 4, &["the script `%post` of the package `bad-post` failed"]);
    // %pre keeps the package away, whatever is allowed.
    space.write("few.pkglist", "bad-pre\n");
    space.edit("image.toml", "few.pkglist\"]", "few.pkglist\"]\nfailing_scripts = [\"bad-pre\"]");
    fails_with(&space, &UNTIL, 4, &["bad-pre"]);
}

#[test]
fn an_index_that_is_not_signed_or_signed_by_another_is_refused() {
    let copy = Copy::new();
    let space = few(&[repository("distro"), copy.signed()], "bash\n");
    std::fs::remove_file(copy.at("repodata/repomd.xml.asc")).unwrap();
    let remedy = "check-index = false";
    fails_with(&space, &UNTIL, 4, &["the signature of `repomd.xml`", "there is no repomd.xml.asc next to it", remedy]);
    let copy = Copy::new();
    let mut text = std::fs::read_to_string(copy.at("repodata/repomd.xml")).unwrap();
    text.push_str("<!-- -->\n");
    std::fs::write(copy.at("repodata/repomd.xml"), text).unwrap();
    let space = few(&[repository("distro"), copy.signed()], "bash\n");
    fails_with(&space, &UNTIL, 4, &["the signature of `repomd.xml`", "does not match the text: the file was altered"]);
    let space = few(&[repository("distro")], "bash\n");
    space.write("keys/RPM-GPG-KEY-site", &other_key());
    fails_with(&space, &UNTIL, 4, &["the signature of `repomd.xml`", "is not in the keyring", "signed-by"]);
}

#[test]
fn packages_are_checked_where_the_index_is_not() {
    // An index without a signature, packages with theirs: as several distributions have it.
    let copy = Copy::new();
    std::fs::remove_file(copy.at("repodata/repomd.xml.asc")).unwrap();
    let space = few(&[repository("distro"), copy.unsigned("")], "enemy-left\n");
    space.run(&["build", "--until", "rootfs"]).good();
    // A package that nobody signed, and one whose signature is another's.
    write_rpm(&copy.at("Packages"), "site-app", "1", "");
    copy.index();
    space.write("few.pkglist", "site-app\n");
    let said = fails_with(&space, &UNTIL, 4, &["the signature of `Packages/site-app-1.rpm`", "check-packages = false"]);
    assert!(!said.contains("rootfs/packages-1"), "{said}");
    space.edit("image.toml", &copy.unsigned(""), &copy.unsigned("check-packages = false\n"));
    space.run(&["build", "--until", "rootfs"]).good();
    // A directory without an index, too, whatever is said of its index.
    let place = tempfile::tempdir().unwrap();
    write_rpm(place.path(), "site-plain", "1", "");
    let site = format!(
        "[[repo]]\nid = \"site\"\nuri = \"file:{}\"\nsigned-by = \"keys/RPM-GPG-KEY-site\"\ncheck-index = true\n",
        place.path().display()
    );
    let space = few(&[repository("distro"), site], "site-plain\n");
    fails_with(&space, &UNTIL, 4, &["the signature of `site-plain-1.rpm`", "check-packages = false"]);
    // Who names no key is told so.
    let text =
        repository("distro").replace("signed-by = \"keys/RPM-GPG-KEY-site\"", "").replace("check-index = true", "");
    let space = few(&[text], "bash\n");
    fails_with(&space, &UNTIL, 1, &["signed-by"]);
    // Of the distribution itself: before a program of it runs.
    let space = few(&[repository("distro").replace("check-index = true", "")], "bash\n");
    space.write("keys/RPM-GPG-KEY-site", &other_key());
    let said = fails_with(&space, &UNTIL, 4, &["the signature of `Packages/", "is not in the keyring"]);
    assert!(!said.contains("resolving packages"), "{said}");
}

#[test]
fn a_repo_file_that_takes_unsigned_packages_is_told_with_its_line_unless_the_recipe_settles_it() {
    // Nothing is there: what is said before that counts.
    let space = few(&["[[repo]]\nfile = \"site.repo\"\n# settled\n".to_owned()], "bash\n");
    space.write("site.repo", "[site]\nbaseurl=file:/nonexistent/site\ngpgcheck=0\n");
    fails_with(&space, &UNTIL, 1, &["site.repo:3:1", "packages of the repository `site` are accepted unsigned"]);
    space.edit("image.toml", "# settled", "check-packages = false");
    let said = fails_with(&space, &UNTIL, 1, &["/nonexistent/site"]);
    assert!(!said.contains("unsigned"), "{said}");
    space.edit("image.toml", "check-packages = false", "check-packages = true");
    fails_with(&space, &UNTIL, 1, &["the repository `site` of site.repo must be checked, but names no keys"]);
    space.edit("image.toml", "check-packages = true", "signed-by = \"keys/RPM-GPG-KEY-site\"\ncheck-index = true");
    let said = fails_with(&space, &UNTIL, 1, &["/nonexistent/site"]);
    assert!(!said.contains("unsigned"), "{said}");
}

#[test]
fn metadata_that_are_cut_off_altered_or_no_metadata_are_refused() {
    let build = |copy: &Copy, words: &[&str], code: i32| {
        let space = few(&[repository("distro"), copy.unsigned("")], "enemy-left\n");
        fails_with(&space, &UNTIL, code, words);
    };
    // Other bytes than repomd.xml announces: an index that no store has yet.
    let copy = Copy::new();
    write_rpm(&copy.at("Packages"), "site-other", "7", "");
    copy.index();
    let primary = copy.metadata("-primary.xml");
    let whole = std::fs::read(&primary).unwrap();
    std::fs::write(&primary, &whole[..whole.len() / 2]).unwrap();
    build(&copy, &["-primary.xml"], 4);
    let mut altered = whole.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    std::fs::write(&primary, &altered).unwrap();
    build(&copy, &["-primary.xml", "SHA-256", "was expected"], 4);
    // Announced as they are, and yet no metadata.
    for (text, words) in [
        ("", "repodata/repomd.xml"),
        ("<html><body>404</body></html>", "repodata/repomd.xml"),
        ("<repomd></repomd>", "lists no `primary`"),
        ("<repomd><data type=\"primary\">", "repodata/repomd.xml"),
    ] {
        std::fs::write(copy.at("repodata/repomd.xml"), text).unwrap();
        build(&copy, &[words], 4);
    }
    std::fs::remove_file(copy.at("repodata/repomd.xml")).unwrap();
    std::fs::remove_dir_all(copy.at("repodata")).unwrap();
    let space = few(&[copy.unsigned("").replace("file:", "file:/nonexistent")], "bash\n");
    fails_with(&space, &UNTIL, 1, &["is not a directory", "correct the `uri`"]);
}

#[test]
fn a_package_that_is_not_what_the_index_says_is_refused() {
    let copy = Copy::new();
    write_rpm(&copy.at("Packages"), "site-late", "3", "");
    copy.index();
    let path = copy.at("Packages/site-late-3.rpm");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    // Not through the hard link of another.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let space = few(&[repository("distro"), copy.unsigned("check-packages = false\n")], "site-late\n");
    fails_with(&space, &UNTIL, 4, &["site-late-3.rpm", "SHA-256", "was expected"]);
    std::fs::write(&path, &bytes[..last - 20]).unwrap();
    fails_with(&space, &UNTIL, 4, &["site-late-3.rpm"]);
    remove(&path);
    fails_with(&space, &UNTIL, 4, &["site-late-3.rpm"]);
}

fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

//! Packages that a later list takes away by itself: they are said where they are asked for, and the lock knows what an image has.

use recipe::{Lock, LockedPass};

use super::private_archive::{Archive, Deb, Flat, Mirror};
use super::repositories::with_repo;
use super::rpm_node::write_rpm;
use super::rpm_words::{flat, with};
use crate::support::Space;

fn lock(space: &Space) -> Lock {
    Lock::parse(&std::fs::read_to_string(space.path().join("image.lock")).unwrap()).unwrap()
}

fn pass(space: &Space, name: &str) -> LockedPass {
    lock(space).pass(name).unwrap().clone()
}

fn in_image(space: &Space) -> Vec<String> {
    let lock = lock(space);
    let own = lock.in_image().into_iter().map(|one| one.name.to_owned()).filter(|name| name.starts_with("site-"));
    let mut own: Vec<String> = own.collect();
    own.sort();
    own
}

/// Reports: babushka 265, puppet 829, sonic-buildimage 126, vagga 46, void-mklive 399.
#[test]
fn what_a_later_list_takes_away_is_said_and_the_lock_tells_what_is_there() {
    let mirror = Mirror::start();
    let mut own = Archive::empty();
    own.add(&Deb::new("site-mail").of_version("1"));
    own.add(&Deb::new("site-reader").of_version("1").fields("Depends: site-mail\n"));
    own.add(&Deb::new("site-post").of_version("1").fields("Conflicts: site-mail\nReplaces: site-mail\n"));
    own.add(&Deb::new("site-lib").of_version("1"));
    own.add(&Deb::new("site-more").of_version("1"));
    own.add(&Deb::new("site-old").of_version("1"));
    // Where the first is removed inside, there is no repository that has the second.
    own.add(&Deb::new("site-agent-a").of_version("1"));
    own.add(&Deb::new("site-agent-b").of_version("1"));
    own.add(&Deb::new("site-mailx").of_version("1").fields("Depends: site-agent-a | site-agent-b\n"));
    own.add(&Deb::new("site-user").of_version("1").fields("Depends: site-lib\n"));
    own.publish_flat(&mirror, "own", Flat::InRelease);
    let repo =
        format!("[[repo]]\nid = \"own\"\nuri = \"{0}/own\"\nsuites = [\"./\"]\nsigned-by = \"known.asc\"", mirror.url);
    let space = with_repo("site-more", &repo);
    space.write(
        "a.pkglist",
        "# mail\nsite-reader\nsite-mail\nsite-user\nsite-agent-a\nsite-mailx\nsite-old\n#NEW_INSTALL_LIST#\n-site-old\nsite-post\n\
         #NEW_INSTALL_LIST#\n--site-l?b\n--site-agent-a\n",
    );
    space.edit("image.toml", "[packages]", "[packages]\nlists = [\"a.pkglist\"]");
    let ran = space.run(&["build", "--until", "rootfs"]).good();
    let said = flat(&ran);
    for text in ["removes `site-mail`, which this line asks for", "a.pkglist:3:1", "a.pkglist:2:1", "image.lock"] {
        assert!(said.contains(text), "`{text}` is not in {said}");
    }
    assert!(said.contains("removing it also removes what needs it: site-mailx, site-user"), "{said}");
    let posts = lock(&space).pass.into_iter().find(|pass| pass.install.iter().any(|name| name == "site-post")).unwrap();
    assert_eq!((posts.replaced, posts.remove_with), (vec!["site-mail".to_owned(), "site-reader".to_owned()], vec![]));
    let last = lock(&space).pass.into_iter().find(|pass| pass.remove_after == ["site-l?b", "site-agent-a"]).unwrap();
    assert_eq!(last.remove_with, ["site-mailx", "site-user"]);
    assert_eq!(in_image(&space), ["site-more", "site-post"]);
    // Nothing moves that is not asked to.
    assert!(!space.to_do().iter().any(|one| one.starts_with("rootfs")), "{:?}", space.to_do());

    // A lock of before does not tell it: what is not there is said, and no build fails.
    let text = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    let untold = text.replace("replaced = [\"site-mail\", \"site-reader\"]\n", "");
    assert_ne!(text, untold);
    space.write("image.lock", &untold.replacen("minor = 7\n", "minor = 5\n", 1));
    space.edit("image.toml", "[system]", "[system]\nlocale = \"C.UTF-8\"");
    let said = flat(&space.run(&["build", "--until", "rootfs"]).good());
    assert!(said.contains("`site-mail` is not in the image: `site-post` replaces all that it had"), "{said}");
    assert!(said.contains("lacks packages that image.lock lists: site-reader 1;"), "{said}");
    // One that tells all that goes, and is wrong, is not built.
    space.write("image.lock", &untold);
    space.edit("image.toml", "C.UTF-8", "en_US.UTF-8");
    let ran = space.run(&["build", "--until", "rootfs", "--locked"]);
    assert_ne!(ran.code, 0);
    assert!(flat(&ran).contains("lacks packages that image.lock lists: site-reader 1"), "{}", ran.err);
}

/// Reports: microdnf 80, initscripts 427.
#[test]
fn rpm_packages_that_a_later_one_obsoletes_are_said() {
    let site = tempfile::tempdir().unwrap();
    write_rpm(site.path(), "site-old", "1", "");
    write_rpm(site.path(), "site-new", "2", "Obsoletes: site-old < 2");
    let more = format!("[[repo]]\nid = \"site\"\nuri = \"file:{}\"\ncheck-packages = false\n", site.path().display());
    // dnf takes the new one at once.
    let space = with("opensuse", "1", &more, "rpm\nsite-old\n#NEW_INSTALL_LIST#\nsite-new\n");
    let said = flat(&space.run(&["build", "--until", "rootfs"]).good());
    assert!(said.contains("removes `site-old`, which this line asks for"), "{said}");
    assert_eq!(pass(&space, "packages-2").replaced, ["site-old"]);
    assert_eq!(in_image(&space), ["site-new"]);
}

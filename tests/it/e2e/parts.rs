//! A long list of RPM packages in parts, each a layer; tests/it/e2e/edits.rs has Debian's.

use super::compute::lock;
use super::rpm_node::{repository, write_keys};
use super::store;
use crate::support::Space;

/// Groups, and what comes after them, of the tests' RPM distribution.
fn rpm_node(list: &str) -> Space {
    let space = Space::new().with_store(&store());
    write_keys(&space);
    space.write("long.pkglist", list);
    let text = format!(
        "[image]\nname = \"long\"\ndistro = \"rocky\"\nrelease = \"1\"\n\n{}\n[packages]\nlists = [\"long.pkglist\"]\n\n\
         [kernel]\npackage = \"kernel\"\n\n[system]\nauthorized_keys = [\"keys/admin.pub\"]\n",
        repository("distro")
    );
    space.write("image.toml", &text);
    space
}

const LIST: &str = "@minimal-environment\n@compute-tools\nopenssh-server\nchrony\n";

/// The parts of the list, with their numbers of packages.
fn parts(space: &Space) -> Vec<(String, usize)> {
    let passes = lock(space).pass.into_iter().filter(|pass| pass.name.starts_with("packages-"));
    passes.map(|pass| (pass.name.clone(), pass.packages.len())).collect()
}

#[test]
fn a_package_more_leaves_the_parts_of_rpm_packages_before_it_alone() {
    let space = rpm_node(LIST);
    space.run(&["build", "--progress", "plain"]).good();
    let before = lock(&space);
    let sizes = parts(&space);
    assert!(sizes.len() > 1 && sizes[0].0 == "packages-1" && sizes[1].0 == "packages-1.2", "{sizes:?}");
    assert!(sizes[0].1 >= 64, "{sizes:?}");
    space.write("long.pkglist", &format!("{LIST}figlet\n"));
    let last = &sizes[sizes.len() - 1].0;
    assert_eq!(space.to_do()[..2], ["rootfs/lock run".to_owned(), format!("rootfs/{last} run")]);
    let ran = space.run(&["build", "--verify"]).good();
    // Before the second build, in which all of them run.
    let first = ran.err.lines().find(|line| line.starts_with("ran ")).unwrap();
    assert!(!first.contains("rootfs/packages-1,"), "{first}");
    assert!(lock(&space).pass(last).unwrap().packages.iter().any(|package| package.name == "figlet"));
    assert_eq!(lock(&space).pass("packages-1"), before.pass("packages-1"));
    let asked = space.run(&["shell", "--", "rpm", "-q", "--qf", "%{NAME}\\n", "figlet", "openssh-server"]);
    assert_eq!(asked.good().out, "figlet\nopenssh-server\n");
}

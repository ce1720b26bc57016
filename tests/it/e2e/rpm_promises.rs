//! What RPM lists ask for is in the image, and nothing else: scripts that fail, packages that stand beside others, groups without some
//! of their members, and a site's own packages.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::rpm_node::{add_init, repository, write_keys, write_rpm};
use super::rpm_words::flat;
use super::store;
use crate::support::Space;

/// A small image with a list of its own packages; its first pass has what their scripts need.
fn space(more: &str, list: &str) -> Space {
    let space = Space::new().with_store(&store());
    write_keys(&space);
    space.write("few.pkglist", "bash\ncoreutils\nrpm\n");
    space.write("own.pkglist", list);
    let text = format!(
        "[image]\nname = \"few\"\ndistro = \"rocky\"\nrelease = \"1\"\n\n{}\n{more}\n[packages]\nlists = [\"few.pkglist\"]\n\n\
         [otherpkgs]\ndir = \"own\"\nlists = [\"own.pkglist\"]\n\n[system]\nauthorized_keys = [\"keys/admin.pub\"]\n",
        repository("distro")
    );
    space.write("image.toml", &text);
    add_init(&space);
    space
}

const BUILD: [&str; 3] = ["build", "--progress", "plain"];

fn shell(space: &Space, script: &str) -> String {
    space.run(&["shell", "--", "/bin/sh", "-c", script]).good().out
}

#[test]
fn scripts_that_fail_anywhere_in_the_output_of_rpm_stop_the_build() {
    let space = space("", "t-lua\nt-middle\nt-trigger\nt-last\nt-owner\n");
    let own = space.path().join("own");
    let flood = |lines: usize| format!("yes 'rebuilding an index: {}' | head -n {lines}", ".".repeat(80));
    write_rpm(&own, "t-lua", "1", "%post -p <lua>\nposix.nosuch(\"x\")");
    // In front of more output than is kept, after as much.
    let middle = format!("%post\n{}\nprintf 'Configuring ... '\nexit 3", flood(180_000));
    write_rpm(&own, "t-middle", "1", &middle);
    write_rpm(&own, "t-trigger", "1", "%triggerin -- t-last\nprintf '50%%%% done\\r'\nexit 5");
    write_rpm(&own, "t-last", "1", &format!("%posttrans\n{}", flood(30_000)));
    let owner = "%install\nmkdir -p %{buildroot}/opt/t-owner\n%files\n%attr(0700,t-nobody,t-nobody) %dir /opt/t-owner";
    write_rpm(&own, "t-owner", "1", owner);
    let mut allowed = BTreeSet::new();
    while allowed.len() < 4 {
        let ran = space.run(&["build", "--progress", "plain", "--until", "rootfs"]);
        if ran.code == 0 {
            assert!(ran.err.contains("packages::no_account"), "{}", ran.err);
            assert!(flat(&ran).contains("the user `t-nobody` does not exist: rpm gave its files of `t-owner` to root"));
            break;
        }
        assert_eq!(ran.code, 4, "{}", ran.err);
        let said = flat(&ran);
        let named =
            said.split("of the package `").nth(1).unwrap_or_else(|| panic!("{said}")).split('`').next().unwrap();
        let before = format!("failing_scripts = {:?}", allowed.iter().collect::<Vec<_>>());
        assert!(allowed.insert(named.to_owned()), "{said}");
        let after = format!("failing_scripts = {:?}", allowed.iter().collect::<Vec<_>>());
        match allowed.len() {
            1 => space.edit("image.toml", "few.pkglist\"]", &format!("few.pkglist\"]\n{after}")),
            _ => space.edit("image.toml", &before, &after),
        };
    }
    assert_eq!(allowed.iter().map(String::as_str).collect::<Vec<_>>(), ["t-lua", "t-middle", "t-trigger"]);
}

#[test]
fn packages_stand_beside_others_by_what_they_provide_and_not_by_their_names() {
    let space = space("", "");
    let own = space.path().join("own");
    let mut list = String::new();
    for version in ["1", "2"] {
        for (name, provides) in [
            ("t-kmod", "Provides: installonlypkg(kernel-module)\n"),
            ("kernel-devel", "Provides: installonlypkg(kernel)\n"),
            ("kernel-firmware-t", ""),
            ("t-plain", ""),
        ] {
            let file = format!("/usr/share/{name}/{}", if provides.is_empty() { "file" } else { version });
            let spec = format!(
                "{provides}%install\nmkdir -p %{{buildroot}}/usr/share/{name}\necho {version} >%{{buildroot}}{file}\n%files\n{file}"
            );
            write_rpm(&own.join(version), name, version, &spec);
            list.push_str(&format!("{version}/{name}\n"));
        }
        list.push_str("#NEW_INSTALL_LIST#\n");
    }
    space.write("own.pkglist", &list);
    space.run(&BUILD).good();
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    assert!(lock.lines().any(|line| line.contains("name = \"t-kmod\"") && line.contains("beside = true")), "{lock}");
    assert!(!lock.lines().any(|line| line.contains("kernel-firmware-t") && line.contains("beside")), "{lock}");
    let said = shell(
        &space,
        "rpm -q t-kmod kernel-devel kernel-firmware-t t-plain | sort; cat /usr/share/t-plain/file; ls /usr/share/t-kmod",
    );
    let expected = "kernel-devel-1-1.noarch\nkernel-devel-2-1.noarch\nkernel-firmware-t-2-1.noarch\nt-kmod-1-1.noarch\n\
                    t-kmod-2-1.noarch\nt-plain-2-1.noarch\n2\n1\n2\n";
    assert_eq!(said, expected);
}

/// A repository with metadata that nobody signed, as a [[repo]].
fn indexed(directory: &Path, comps: &str) -> String {
    let groups = directory.join("comps.xml");
    std::fs::write(&groups, comps).unwrap();
    let made = Command::new("createrepo_c").args(["--quiet", "-g"]).arg(&groups).arg(directory).status().unwrap();
    assert!(made.success());
    let place = directory.display();
    format!("[[repo]]\nid = \"site\"\nuri = \"file:{place}\"\ncheck-packages = false\ncheck-index = false\n")
}

#[test]
fn a_group_comes_without_those_members_that_the_pass_removes() {
    let place = tempfile::tempdir().unwrap();
    write_rpm(place.path(), "t-a", "1", "Requires: t-needed");
    for name in ["t-b", "t-needed"] {
        write_rpm(place.path(), name, "1", "");
    }
    let member = |name: &str| format!("<packagereq type=\"mandatory\">{name}</packagereq>");
    let comps = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<comps><group><id>security-tools</id><name>Security Tools</name><description/>\
         <default>false</default><uservisible>true</uservisible><packagelist>{}{}{}</packagelist></group></comps>\n",
        member("t-a"),
        member("t-b"),
        member("t-needed")
    );
    let space = space(&indexed(place.path(), &comps), "");
    space.write("few.pkglist", "bash\ncoreutils\nrpm\n@security-tools\n-t-b\n-t-needed\n");
    std::fs::create_dir(space.path().join("own")).unwrap();
    let ran = space.run(&BUILD).good();
    let said = flat(&ran);
    assert!(said.contains("`t-needed` is installed although it is removed here"), "{said}");
    assert!(ran.err.contains("few.pkglist:6:"), "{}", ran.err);
    assert_eq!(shell(&space, "rpm -qa 't-*' | sort"), "t-a-1-1.noarch\nt-needed-1-1.noarch\n");
}

#[test]
fn a_sites_package_goes_before_one_of_the_same_version_and_what_gives_way_is_reported() {
    let place = tempfile::tempdir().unwrap();
    let spec = |from: &str, name: &str| {
        format!("%install\nmkdir -p %{{buildroot}}/opt\necho {from} >%{{buildroot}}/opt/{name}\n%files\n/opt/{name}")
    };
    let repo = format!("[[repo]]\nid = \"site\"\nuri = \"file:{}\"\ncheck-packages = false\n", place.path().display());
    let space = space(&repo, "own/t-own*\n");
    for (name, version) in [("t-own", "1"), ("t-old", "2")] {
        write_rpm(place.path(), name, version, &spec("archive", name));
    }
    for (name, folder) in [("t-own", "own/own"), ("t-old", "own/own"), ("t-own", "own/another")] {
        write_rpm(&space.path().join(folder), name, "1", &spec(folder, name));
    }
    space.write("few.pkglist", "bash\ncoreutils\nrpm\nt-own\nt-old\n");
    let ran = space.run(&BUILD).good();
    assert_eq!(shell(&space, "cat /opt/t-own /opt/t-old"), "own/own\narchive\n");
    let said = flat(&ran);
    assert!(said.contains("packages of otherpkgs give way to others of the same name: `t-old` 1-1"), "{said}");
    assert!(!said.contains("give way to others of the same name: `t-own`") && !said.contains("`t-own` 1-1"), "{said}");
}

/// Real kernels start `/bin/kernel-install` and `/usr/sbin/new-kernel-pkg`, drivers `/usr/bin/dracut`, weak-modules `/sbin/dracut`.
#[test]
fn what_stands_in_for_programs_of_kernels_does_so_by_any_path_of_rpm_too() {
    const NAMES: &str = "dracut grubby installkernel kernel-install mkinitrd new-kernel-pkg";
    let space = space("", "1/t-programs\nt-calls\n#NEW_INSTALL_LIST#\n2/t-programs\n");
    let own = space.path().join("own");
    for version in ["1", "2"] {
        let spec = format!(
            "%install\nmkdir -p %{{buildroot}}/usr/bin\nfor name in {NAMES}; do\n\
             printf '#!/bin/sh\\necho \"$0 $*\" >>/opt/ran\\nexit {version}\\n' >%{{buildroot}}/usr/bin/$name\n\
             chmod 755 %{{buildroot}}/usr/bin/$name\ndone\n%files\n/usr/bin/*"
        );
        write_rpm(&own.join(version), "t-programs", version, &spec);
    }
    let calls = format!(
        "set -e\nfor name in {NAMES}; do $name by-name; /usr/bin/$name by path; cd /usr/bin; ./$name; cd /; exec_it() {{ (exec /usr/bin/$name); }}; exec_it; done"
    );
    write_rpm(
        &own,
        "t-calls",
        "1",
        &format!("Requires: t-programs\n%post\n{calls}\n%posttrans\n{calls}\n%triggerin -- t-programs\n{calls}"),
    );
    space.run(&BUILD).good();
    let said = shell(
        &space,
        "mkdir -p /opt; rpm -q t-programs; rpm -V --nomtime t-programs; ls -A /opt; /usr/bin/dracut; echo $?; cat /opt/ran",
    );
    assert_eq!(said, "t-programs-2-1.noarch\n2\n/usr/bin/dracut \n");
}

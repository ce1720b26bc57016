//! dnf5 and rpm 6, as Debian's unstable has them: an RPM distribution made of its packages, with the kernels of the other one.

use std::path::{Path, PathBuf};

use super::compute::lock;
use super::rpm_distro::{Distribution, debs_of, distribution, vendor};
use super::rpm_words::flat;
use super::{shared, store};
use crate::support::Space;

/// Packages of a small image and of a tools root.
const SID: &str = "[image]\nname = \"rpm-distro\"\nrelease = \"sid\"\n\n[[repo]]\nsource = \"host\"\ncheck-valid-until = false\n\n\
[packages]\nbase = \"essential\"\ninstall = [@NAMES@]\n\n[kernel]\npackage = \"linux-image-cloud-amd64\"\n\n\
[boot]\ncmdline = [\"console=ttyS0\"]\n";

fn of_sid() -> Distribution {
    let root = shared::once("rpm-distro-sid", |directory| {
        // What makes accounts stands beside no systemd.
        for (place, names) in [
            (
                "system",
                "\"systemd\", \"systemd-sysv\", \"udev\", \"dbus\", \"kmod\", \"login\", \"passwd\", \"less\", \"cpio\", \"zstd\", \"xz-utils\",\n\
                 \"netbase\", \"hello\", \"figlet\", \"dnf5\", \"rpm\"",
            ),
            ("more", "\"systemd-standalone-sysusers\""),
        ] {
            vendor(&SID.replace("@NAMES@", names), &directory.join(place));
        }
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_kernels = |path: &PathBuf| name(path).starts_with("linux-");
        let own = rpm_distro::debs_below(&[&directory.join("system"), &directory.join("more")]).unwrap();
        let all: Vec<PathBuf> = own.into_iter().filter(|path| !is_kernels(path)).collect();
        let all: Vec<PathBuf> = all.into_iter().chain(debs_of().into_iter().filter(is_kernels)).collect();
        rpm_distro::make(&all, &directory.join("made"), rpm_distro::Cpu::X86_64).unwrap();
        for place in ["system", "more"] {
            std::fs::remove_dir_all(directory.join(place)).unwrap();
        }
    });
    let root = root.join("made");
    Distribution { key: root.join("RPM-GPG-KEY-fixture"), root }
}

fn space(distribution: &Distribution, store: &Path) -> Space {
    let space = Space::new().with_store(store);
    let text = format!(
        "[image]\nname = \"few\"\ndistro = \"fedora\"\nrelease = \"44\"\n\n[[repo]]\nid = \"distro\"\nuri = \"file:{}\"\n\
         signed-by = \"keys/site\"\nmodule-hotfixes = true\n\n[packages]\nlists = [\"few.pkglist\"]\n\n[boot]\ncmdline = [\"console=ttyS0\"]\n\n[system]\nauthorized_keys = [\"keys/admin.pub\"]\n",
        distribution.repository("distro").display()
    );
    super::rpm_node::write_keys(&space);
    std::fs::copy(&distribution.key, space.path().join("keys/site")).unwrap();
    space.write("image.toml", &text);
    space
}

/// Reports: buildah 6119, mkosi 4390, rpm 3186, rpm-ostree 5334, ci-dnf-stack 1921.
#[test]
fn network_dnf5_resolves_and_rpm_makes_the_accounts_that_packages_declare() {
    distribution();
    let distribution = of_sid();
    let first = space(&distribution, &store());
    first.write("few.pkglist", "rpm\n@core\nhello\nfiglet\n/usr/bin/less\n#NEW_INSTALL_LIST#\n-figlet\n");
    first.run(&["build"]).good();
    let locked = lock(&first);
    let names = |pass: &str| locked.pass(pass).unwrap().packages.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
    assert!(names("tools-solver").contains(&"dnf5".to_owned()), "{:?}", names("tools-solver"));
    assert!(names("tools").contains(&"systemd-standalone-sysusers".to_owned()), "{:?}", names("tools"));
    assert!(locked.users.iter().any(|user| user.name == "messagebus"), "{:?}", locked.users);
    let ran = first
        .run(&["shell", "--", "/bin/sh", "-c", "rpm -q hello figlet | sed 's/-[0-9].*//'; id -un messagebus"])
        .good();
    assert_eq!(ran.out, "hello\npackage figlet is not installed\nmessagebus\n");
    first.run(&["boot", "--timeout", "2400", "--until", "login:"]).good();
    // The same bytes in an empty store, by the lock.
    let other = tempfile::tempdir().unwrap();
    let again = space(&distribution, other.path());
    for name in ["few.pkglist", "image.lock", "keys/admin.pub"] {
        std::fs::copy(first.path().join(name), again.path().join(name)).unwrap();
    }
    again.run(&["build", "--locked"]).good();
    let image = |space: &Space| std::fs::read(space.artefact("few", "rootimg.cpio.zst")).unwrap();
    assert!(image(&first) == image(&again));
    for (word, said) in [("no-such", "no repository has `no-such`"), ("@no-group", "no repository has `@no-group`")] {
        first.write("few.pkglist", &format!("rpm\n{word}\n"));
        let ran = first.run(&["update"]);
        let words = flat(&ran);
        assert!(ran.code == 1 && words.contains(said) && words.contains("few.pkglist:2:1"), "{word}: {}", ran.err);
    }
}

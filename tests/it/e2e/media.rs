//! `import media`: media in the layout of each family, made with xorriso.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Space;

/// Makes an image of a directory.
fn iso(space: &Space, folder: &str, name: &str) -> PathBuf {
    let to = space.path().join(name);
    let ran = Command::new("xorriso")
        .args(["-as", "mkisofs", "-quiet", "-R", "-J", "-joliet-long", "-o"])
        .arg(&to)
        .arg(space.path().join(folder))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    to
}

/// Metadata without packages: repomd.xml, and what it names beside it.
const REPOMD: (&str, &str) = (
    "<repomd><data type=\"primary\"><checksum type=\"sha256\">34846f5e7ea4ff1c4524414973cca40494a2614a09c6bced722e51941e9ede41</checksum>\
     <location href=\"repodata/p.xml\"/><size>34</size></data></repomd><!--<repomd/>-->\n",
    "<metadata packages=\"0\"></metadata>",
);

/// A public key, made by gpg.
fn key() -> String {
    let home = tempfile::tempdir().unwrap();
    let gpg = |arguments: &[&str]| {
        let ran =
            Command::new("gpg").arg("--homedir").arg(home.path()).arg("--batch").args(arguments).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    };
    gpg(&["--passphrase", "", "--quick-gen-key", "site@localhost", "rsa2048", "sign", "never"]);
    let key = gpg(&["--armor", "--export"]);
    let _ = Command::new("gpgconf").arg("--homedir").arg(home.path()).args(["--kill", "all"]).output();
    key
}

fn rocky(space: &Space) {
    let key = &key();
    space
        .write("rocky/.discinfo", "1714000000.1\nRocky Linux 9.4\nx86_64\nALL\n")
        .write("rocky/RPM-GPG-KEY-Rocky-9", key)
        .write("rocky/RPM-GPG-KEY-Rocky-9-Testing", key)
        .write("rocky/BaseOS/repodata/repomd.xml", REPOMD.0)
        .write("rocky/BaseOS/repodata/p.xml", REPOMD.1)
        .write("rocky/BaseOS/Packages/b/bash-5.1.8-9.el9.x86_64.rpm", &"not a package\n".repeat(10_000))
        .write("rocky/AppStream/repodata/repomd.xml", &REPOMD.0.replace("<!--<repomd/>-->", ""))
        .write("rocky/AppStream/repodata/p.xml", REPOMD.1);
    std::os::unix::fs::symlink("BaseOS/repodata", space.path().join("rocky/repodata")).unwrap();
    let sum = Command::new("sha256sum").arg(space.path().join("rocky/BaseOS/repodata/repomd.xml")).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    let tree = format!(
        "[checksums]\nBaseOS/repodata/repomd.xml = sha256:{}\n[general]\nfamily = Rocky Linux\nversion = 9.4\n",
        &sum[..64]
    );
    space.write("rocky/.treeinfo", &tree);
}

fn tree(directory: &Path) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().flatten();
    walk.filter(|entry| !entry.file_type().is_dir())
        .map(|entry| entry.path().strip_prefix(directory).unwrap().to_owned())
        .collect()
}

#[test]
fn a_medium_becomes_a_repository_with_recipes_and_a_second_time_nothing_is_copied() {
    let space = Space::new();
    rocky(&space);
    iso(&space, "rocky", "rocky.iso");
    let dry = space.run(&["import", "media", "rocky.iso", "--into", "new", "--dry-run"]).good();
    assert!(dry.out.contains("rocky9.4 x86_64") && !space.path().join("new").exists(), "{}", dry.out);
    let ran = space.run(&["import", "media", "rocky.iso", "--into", "new", "--repository", "srv"]).good();
    assert!(
        ran.out.contains("9 files new") && ran.err.contains("finds no error in 2 images"),
        "{} {}",
        ran.out,
        ran.err
    );
    let repository = space.path().join("srv/rocky9.4/x86_64");
    assert_eq!(tree(&repository), tree(&space.path().join("rocky")));
    for file in tree(&repository).iter().filter(|file| file.as_os_str() != "repodata") {
        assert_eq!(
            std::fs::read(repository.join(file)).unwrap(),
            std::fs::read(space.path().join("rocky").join(file)).unwrap()
        );
    }
    let recipe =
        std::fs::read_to_string(space.path().join("new/images/rocky9.4-x86_64-netboot-compute/image.toml")).unwrap();
    assert!(
        recipe.contains("signed-by = ")
            && recipe.contains("RPM-GPG-KEY-Rocky-9\"")
            && recipe.contains("release = \"9\""),
        "{recipe}"
    );
    space.write("new/images/rocky9.4-x86_64-netboot-compute/compute.pkglist", "mine\n");
    let again = space.run(&["import", "media", "rocky.iso", "--into", "new", "--repository", "srv"]).good();
    assert!(
        again.out.contains("0 files new (0 B), 9 kept") && again.out.contains("netboot-compute already exists"),
        "{}",
        again.out
    );
    // A directory instead of an image is the same; files are linked or shared.
    space.run(&["import", "media", "rocky", "--into", "other"]).good();
    assert_eq!(tree(&space.path().join("other/repository/rocky9.4/x86_64")), tree(&repository));
    let ran = space.run(&["import", "media", "rocky.iso", "--into", "new", "--arch", "ppc64le"]);
    assert!(ran.code == 1 && ran.err.contains("is for x86_64"), "{}", ran.err);
}

#[test]
fn sets_of_discs_and_the_other_families_are_known() {
    let space = Space::new();
    space
        .write("one/media.1/media", "SUSE - SLE-15-SP6-Installer-x86_64-Build1-Media\n")
        .write("one/repodata/repomd.xml", REPOMD.0)
        .write("one/repodata/p.xml", REPOMD.1)
        .write("two/media.1/media", "SUSE - SLE-15-SP6-Packages-x86_64-Build1-Media\n")
        .write("two/Module-Basesystem/repodata/repomd.xml", REPOMD.0)
        .write("two/Module-Basesystem/repodata/p.xml", REPOMD.1)
        .write(
            "deb1/.disk/info",
            "Debian GNU/Linux 12.5.0 \"Bookworm\" - Official amd64 DVD Binary-1 with firmware 20240210-11:28",
        )
        .write("deb1/dists/bookworm/main/binary-amd64/Packages", "Package: a\n")
        .write(
            "deb1/dists/bookworm/Release",
            "Codename: bookworm\nSHA256:\n fa07db62b48a0f9848538c437cfa8aef500bd6570830a5c508d87eeb99d1a50d 11 main/binary-amd64/Packages\n",
        )
        .write("deb1/pool/main/a/a.deb", "a\n")
        .write(
            "deb2/.disk/info",
            "Debian GNU/Linux 12.5.0 \"Bookworm\" - Official amd64 DVD Binary-2 with firmware 20240210-11:28",
        )
        .write("deb2/dists/bookworm/Release", "Codename: bookworm, disc 2\n")
        .write("deb2/pool/main/b/b.deb", "b\n");
    for name in ["one", "two", "deb1", "deb2"] {
        iso(&space, name, &format!("{name}.iso"));
    }
    let ran = space.run(&["import", "media", "one.iso", "two.iso", "deb1.iso", "deb2.iso", "--into", "new"]).good();
    assert!(ran.out.contains("sle15.6 x86_64 disc 2") && ran.out.contains("debian12.5.0 x86_64 disc 2"), "{}", ran.out);
    // What differs is named, and the first disc's stays.
    assert!(ran.out.contains("1 files differ") && ran.out.contains("dists/bookworm/Release"), "{}", ran.out);
    for file in [
        "sle15.6/x86_64/1/repodata/repomd.xml",
        "sle15.6/x86_64/2/Module-Basesystem/repodata/repomd.xml",
        "debian12.5.0/x86_64/pool/main/a/a.deb",
        "debian12.5.0/x86_64/pool/main/b/b.deb",
    ] {
        assert!(space.path().join("new/repository").join(file).is_file(), "{file}");
    }
    let recipe =
        |name: &str| std::fs::read_to_string(space.path().join("new/images").join(name).join("image.toml")).unwrap();
    assert!(recipe("debian12.5.0-x86_64-netboot-compute").contains("components = [\"main\"]\ntrusted = true"));
    assert!(recipe("sle15.6-x86_64-netboot-service").contains("release = \"15.6\""));
    assert!(ran.err.contains("finds no error in 4 images"), "{}", ran.err);
}

#[test]
fn damaged_media_are_named_and_a_repeated_import_goes_on() {
    let space = Space::new();
    rocky(&space);
    let image = iso(&space, "rocky", "rocky.iso");
    let whole = std::fs::read(&image).unwrap();
    // A flipped byte in what the medium has a digest of.
    let at = whole.windows(9).position(|bytes| bytes == b"<repomd/>").unwrap();
    let mut wrong = whole.clone();
    wrong[at + 1] ^= 1;
    std::fs::write(&image, &wrong).unwrap();
    let import = || space.run(&["import", "media", "rocky.iso", "--into", "new"]);
    let ran = import();
    let said = ran.err.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(ran.code == 1 && said.contains("`BaseOS/repodata/repomd.xml` does not match"), "{said}");
    assert!(!space.path().join("new/images").exists() && !space.path().join("new/repository/rocky9.4/x86_64").exists());
    // Cut off.
    std::fs::write(&image, &whole[..whole.len() / 3]).unwrap();
    let ran = import();
    assert!(ran.code == 1 && ran.err.contains("rocky.iso"), "{}", ran.err);
    assert!(!space.path().join("new/repository/rocky9.4/x86_64").exists());
    std::fs::write(&image, &whole).unwrap();
    let ran = import().good();
    assert!(ran.out.contains(" kept"), "{}", ran.out);
    assert_eq!(tree(&space.path().join("new/repository/rocky9.4/x86_64")), tree(&space.path().join("rocky")));
    // Nothing that is known, and what says so itself.
    space.write("odd/x", "y\n");
    iso(&space, "odd", "odd.iso");
    let ran = space.run(&["import", "media", "odd.iso", "--into", "third"]);
    assert!(ran.code == 1 && ran.err.contains("--name and --arch"), "{}", ran.err);
    space.run(&["import", "media", "odd.iso", "--into", "third", "--name", "rocky9.9", "--arch", "x86_64"]).good();
    assert!(space.path().join("third/repository/rocky9.9/x86_64/x").is_file());
    let ran = space.run(&["import", "media", "rocky/.discinfo", "--into", "third"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    // A link that leads out.
    std::os::unix::fs::symlink("/etc", space.path().join("odd/etc")).unwrap();
    iso(&space, "odd", "odd.iso");
    let ran = space.run(&["import", "media", "odd.iso", "--into", "fourth", "-n", "rocky9.9", "-a", "x86_64"]).good();
    assert!(ran.out.contains("points outside the medium"), "{}", ran.out);
    assert!(space.path().join("fourth/repository/rocky9.9/x86_64/etc").symlink_metadata().is_err());
}

#[test]
fn a_killed_import_goes_on_and_a_full_disk_is_said_before() {
    let space = Space::new();
    rocky(&space);
    let mut seed = 7u64;
    let noise: Vec<u8> = (0..200 << 20 >> 3)
        .flat_map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_le_bytes()
        })
        .collect();
    std::fs::write(space.path().join("rocky/BaseOS/large.rpm"), &noise).unwrap();
    iso(&space, "rocky", "rocky.iso");
    let words = ["import", "media", "rocky.iso", "--into", "new"];
    let mut killed = 0;
    for wait in [5, 20, 60, 120] {
        let mut child = crate::support::imgbuild()
            .arg("-C")
            .arg(space.path())
            .args(words)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        // What appears under its name is whole.
        let place = space.path().join("new/repository/rocky9.4/x86_64");
        assert!(!place.exists() || tree(&place) == tree(&space.path().join("rocky")), "after {wait} ms");
    }
    assert!(killed > 0);
    space.run(&words).good();
    assert_eq!(tree(&space.path().join("new/repository/rocky9.4/x86_64")), tree(&space.path().join("rocky")));
    let left = std::fs::read_dir(space.path().join("new/repository/rocky9.4")).unwrap().count();
    assert_eq!(left, 1, "what killed imports left goes away");
    // A file system that is too small: nothing is begun.
    std::fs::create_dir(space.path().join("small")).unwrap();
    let script = "mount -t tmpfs -o size=50m none small && \"$0\" import media rocky.iso --into small; code=$?; ls -A small >&2; exit $code";
    let ran = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_imgbuild")])
        .current_dir(space.path())
        .env("COLUMNS", "200")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(
        ran.status.code() == Some(3) && said.contains("MB more; nothing was written") && !said.contains("images"),
        "{said}"
    );
}

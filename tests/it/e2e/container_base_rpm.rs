//! Images of RPM packages whose root file system begins with a container image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use base::digest::Sha256;

use super::compute::lock;
use super::container_base::{Image, archive, base_layers, entry, file, lowest, refused, unwrapped};
use super::offline::SAME;
use super::rpm_node::{add_init, assert_verified, listed, repository, write_keys, write_rpm};
use super::shared;
use crate::support::{Space, imgbuild};

const QUERY: &str = "%{NAME} %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE} %{ARCH}\n";

/// A program of the site, of which there is a small and a full form: one file of both, scripts that write what they get.
fn tool(name: &str, other: &str) -> String {
    format!(
        "Provides: site-tool = 1\nConflicts: {other}\n%description\nOf the site.\n%install\nmkdir -p %{{buildroot}}/usr/bin\n\
         for name in site-tool {name}; do echo {name} >%{{buildroot}}/usr/bin/$name; done\n\
         %preun\necho \"preun {name} $1\" >>/var/lib/site-log\n%post\necho \"post {name} $1\" >>/var/lib/site-log\n\
         %files\n/usr/bin/site-tool\n/usr/bin/{name}\n"
    )
}

/// Repositories of the site: what the container image is made of, and what nodes get later.
fn write_site(directory: &Path) {
    let rpm = |folder: &str, name: &str, version: &str, spec: &str| {
        write_rpm(&directory.join(folder), name, version, spec);
    };
    rpm("old", "site-small", "1", &tool("site-small", "site-full"));
    let own = "%description\nOf the site.\n%install\nmkdir -p %{buildroot}/usr/bin\necho x >%{buildroot}/usr/bin/site-own-file\n\
               %files\n/usr/bin/site-own-file\n";
    let unit = "Requires: site-tool\n%description\nOf the site.\n%install\nmkdir -p %{buildroot}/usr/lib/systemd/system\n\
                echo '[Service]' >%{buildroot}/usr/lib/systemd/system/site-agent.service\n\
                %files\n/usr/lib/systemd/system/site-agent.service\n";
    rpm("old", "site-agent", "1", unit);
    rpm("old", "site-old", "1", "");
    let set_id = "%description\nOf the site.\n%install\nmkdir -p %{buildroot}/usr/bin\necho x >%{buildroot}/usr/bin/site-suid\n\
                  %files\n%attr(4755,root,root) /usr/bin/site-suid\n";
    rpm("old", "site-suid", "1", set_id);
    rpm("old", "site-own", "1", own);
    rpm("new", "site-full", "1", &tool("site-full", "site-small"));
    rpm("new", "site-agent", "2", "Requires: site-tool");
    rpm("new", "site-new", "1", "Obsoletes: site-old < 2\nProvides: site-old = 2");
    // Files, conditions and versions of what the container image has.
    rpm(
        "new",
        "site-user",
        "1",
        "Requires: site-agent >= 2\nRequires: (site-own if bash)\nRequires: /usr/bin/site-own-file\nRequires: /usr/bin/site-tool",
    );
}

fn site(directory: &Path) -> String {
    format!("[[repo]]\nid = \"site\"\nuri = \"file:{}\"\ncheck-packages = false\n", directory.display())
}

fn recipe(space: &Space, distro: &str, from: &str, repositories: &[String], list: &str) {
    write_keys(space);
    space.write("few.pkglist", list);
    space.write(
        "image.toml",
        &format!(
            "[image]\nname = \"few\"\ndistro = \"{distro}\"\nrelease = \"1\"\n{from}\n{}\n[packages]\nlists = [\"few.pkglist\"]\n\n\
             [system]\nauthorized_keys = [\"keys/admin.pub\"]\n",
            repositories.join("\n")
        ),
    );
    add_init(space);
}

/// The layers of a container image with packages of the site, and where those are: made once.
fn made() -> (Vec<(Vec<u8>, Sha256)>, std::path::PathBuf) {
    let built = shared::space("container-rpm", |space| {
        let site_directory = space.path().join("site");
        write_site(&site_directory);
        let repositories = [repository("distro"), site(&site_directory.join("old"))];
        recipe(
            space,
            "rocky",
            "",
            &repositories,
            "site-small\nsite-agent\nsite-old\nsite-own\nsite-suid\nhello\nrpm\n",
        );
        space.run(&["build"]).good();
        base_layers(space);
    });
    (lowest(&built.path().join("pushed")), built.path().join("site"))
}

/// What makers of such images set, and what engines leave there.
fn upper(os_release: &str) -> Vec<u8> {
    use tar::EntryType as Kind;
    archive(|one| {
        for (path, text) in [
            (".dockerenv", ""),
            ("run/.containerenv", ""),
            ("etc/resolv.conf", ""),
            ("usr/lib/os-release", os_release),
            ("etc/dnf/dnf.conf", "[main]\ntsflags=nodocs\n"),
            ("etc/rpm/macros.image-language-conf", "%_install_langs C.utf8\n"),
            ("etc/dnf/plugins/versionlock.list", "site-agent-0:1-1.*\n"),
            ("etc/yum.repos.d/own.repo", "[own]\nname=own\nbaseurl=http://127.0.0.1:1/\n"),
            ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
            ("usr/lib/systemd/system/.wh.site-agent.service", ""),
        ] {
            file(one, path, text);
        }
        entry(one, Kind::Symlink, "etc/systemd/system/getty.target", (0o777, 0), "/dev/null");
        // As a builder that copies files leaves it.
        entry(one, Kind::Regular, "usr/bin/site-suid", (0o755, 0), "x\n");
    })
}

const ROCKY: &str = "ID=\"rocky\"\nVERSION_ID=\"1\"\n";
const LEAP: &str = "ID=\"opensuse-leap\"\nVERSION_ID=\"1\"\n";

/// What the lock says that the image has.
fn locked(space: &Space) -> BTreeSet<String> {
    let lock = lock(space);
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let line = |name: &str, version: &str, arch: &str| format!("{name} {version} {arch}");
    for one in &lock.base.as_ref().unwrap().packages {
        all.insert(one.name.clone(), line(&one.name, &one.version, &one.architecture));
    }
    for pass in lock.image_passes() {
        for gone in pass.remove.iter().chain(&pass.remove_with).chain(&pass.conflicting) {
            all.remove(gone);
        }
        for one in &pass.packages {
            all.insert(one.name.clone(), line(&one.name, &one.version, &one.architecture));
        }
    }
    all.into_values().collect()
}

/// The packages of the packed root file system, by this machine's own rpm.
fn packed(space: &Space) -> (tempfile::TempDir, BTreeSet<String>) {
    let directory = tempfile::tempdir().unwrap();
    let image = space.artefact("few", "rootimg.cpio.zst");
    let unpack = "zstd -dc \"$1\" | cpio -idm --quiet --no-absolute-filenames";
    let ran = Command::new("sh").args(["-c", unpack, "sh"]).arg(image).current_dir(directory.path()).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut rpm = Command::new("rpm");
    rpm.arg("--root").arg(directory.path()).args(["--dbpath", "/var/lib/rpm", "-qa", "--qf", QUERY]);
    let ran = rpm.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said = listed(&String::from_utf8(ran.stdout).unwrap());
    (directory, said)
}

const LIST: &str = "site-full\nsite-user\nsite-own\nsite-new\nfiglet\n#NEW_INSTALL_LIST#\n-hello\n";

/// A node over the container image, in a store of its own: what is said of a container image is said when it becomes a layer.
fn node(distro: &str, os_release: &str, repositories: &[String]) -> (Space, Sha256, String) {
    let (layers, site_directory) = made();
    let space = Space::new();
    let image = Image { layers, ..Image::new() }.with(&upper(os_release));
    let digest = image.write(&space.path().join("base"), "1");
    let mut all = repositories.to_vec();
    all.push(site(&site_directory.join("new")));
    recipe(&space, distro, "from = \"oci:./base:1\"\n", &all, LIST);
    let ran = space.run(&["build", "--progress", "plain"]).good();
    (space, digest, ran.err)
}

/// What is the same whoever resolves.
fn assert_over_the_container(space: &Space, digest: &Sha256, said: &str) {
    let locked_now = lock(space);
    let base = locked_now.base.clone().unwrap();
    assert_eq!((base.manifest.sha256, base.layers.len()), (*digest, 3));
    assert!(base.packages.iter().any(|one| one.name == "site-agent" && one.version == "1-1"));
    assert!(!base.packages.iter().any(|one| one.name == "gpg-pubkey" || one.name == "site-full"));
    assert!(locked_now.pass("base").unwrap().packages.is_empty());
    let first = locked_now.pass("packages-1").unwrap();
    let names: BTreeSet<&str> = first.packages.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["figlet", "site-agent", "site-full", "site-new", "site-user"]));
    assert_eq!(first.conflicting, ["site-old", "site-small"]);
    // What the container image has is not fetched.
    let kernel = locked_now.pass("kernel").unwrap();
    assert!(!kernel.packages.iter().any(|one| one.name == "bash" || one.name == "glibc"));
    let said = unwrapped(said);
    for words in [
        "removes packages of the container image that conflict or are replaced: site-old, site-small",
        "tsflags in /etc/dnf/dnf.conf, %_install_langs in /etc/rpm/macros.image-language-conf",
        "holds versions of packages back (/etc/dnf/plugins/versionlock.list)",
        "lacks 1 unit of its packages (site-agent.service), so nodes may not start: reinstall site-agent there",
        "masks units, which do not start on nodes: getty.target",
        "set-id bits (site-suid: /usr/bin/site-suid)",
        "dnf reinstall site-suid",
    ] {
        assert!(said.contains(&unwrapped(words)), "{words}\n{said}");
    }
    let (tree, packed) = packed(space);
    assert_eq!(packed, locked(space));
    for line in ["site-agent 2-1 noarch", "site-full 1-1 noarch", "site-own 1-1 noarch", "site-new 1-1 noarch"] {
        assert!(packed.contains(line), "{line}");
    }
    assert!(
        !packed.iter().any(|line| ["site-small ", "site-old ", "hello "].iter().any(|name| line.starts_with(name)))
    );
    let read = |path: &str| std::fs::read_to_string(tree.path().join(path)).unwrap();
    // The full form came before the small one went, as in one transaction, and its file is there.
    assert_eq!(read("var/lib/site-log"), "post site-small 1\npost site-full 1\npreun site-small 0\n");
    assert_eq!(read("usr/bin/site-tool"), "site-full\n");
    assert!(!tree.path().join("usr/bin/site-small").exists());
    // What is a container's is gone, what its maker set stays.
    for path in [".dockerenv", "run/.containerenv"] {
        assert!(!tree.path().join(path).exists(), "{path}");
    }
    assert_eq!(read("etc/machine-id"), "");
    assert!(read("etc/yum.repos.d/own.repo").contains("[own]") && read("etc/dnf/dnf.conf").contains("nodocs"));
    // Its settings are not those of the packages that come on top.
    assert!(tree.path().join("usr/share/doc/figlet").is_dir());
    let shell = |script: &str| space.run(&["shell", "--", "/bin/sh", "-c", script]).good().out;
    let verified = shell("rpm -Va; true");
    // What the upper layer replaced, and the times of what was made today.
    let is_known = |line: &&str| line.ends_with("/usr/lib/os-release") || line.contains("    /usr/bin/site-");
    let rest: Vec<&str> = verified.lines().filter(|line| !is_known(line)).collect();
    assert_verified(&rest.join("\n"));
    assert_eq!(space.to_do(), Vec::<String>::new());
}

#[test]
fn privileged_packages_that_dnf_chose_are_installed_over_a_container_image() {
    let (space, digest, said) = node("rocky", ROCKY, &[repository("distro")]);
    assert_over_the_container(&space, &digest, &said);
    let explained = space.run(&["explain", "rootfs/base", "--json"]).good().out;
    assert!(explained.contains("container manifest") && explained.contains(&digest.to_string()), "{explained}");
    let before: Vec<Vec<u8>> = SAME.iter().map(|name| std::fs::read(space.artefact("few", name)).unwrap()).collect();
    let same = |space: &Space| {
        for (name, bytes) in SAME.iter().zip(&before) {
            assert!(std::fs::read(space.artefact("few", name)).unwrap() == *bytes, "{name}");
        }
    };
    let text = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    assert!(text.contains("conflicting = ["), "{text}");

    // Vendored, without the layout and in an empty store: the same bytes.
    let vendored = space.path().join("vendored");
    space.run(&["vendor", vendored.to_str().unwrap()]).good();
    std::fs::rename(space.path().join("base"), space.path().join("away")).unwrap();
    let mut command = imgbuild();
    command.arg("-C").arg(space.path()).arg("--store").arg(space.path().join("store"));
    let ran: crate::support::Ran =
        command.args(["build", "--locked", "--vendor"]).arg(&vendored).output().unwrap().into();
    ran.good();
    same(&space);
    std::fs::rename(space.path().join("away"), space.path().join("base")).unwrap();

    // Resolved again nothing moves; with another container image the lock follows.
    space.write("few.pkglist", &LIST.replace("figlet\n", "figlet\nless\n"));
    space.run(&["build"]).good();
    let again = lock(&space);
    assert_eq!(again.pass("packages-1").unwrap().conflicting, ["site-old", "site-small"]);
    assert!(again.pass("packages-1").unwrap().packages.iter().any(|one| one.name == "less"));
    let (layers, _) = made();
    let moved = archive(|one| file(one, "opt/moved", "x"));
    let moved =
        Image { layers, ..Image::new() }.with(&upper(ROCKY)).with(&moved).write(&space.path().join("base"), "1");
    space.run(&["build", "--locked"]).good();
    let updated = space.run(&["update"]).good();
    let updated = format!("{} {}", updated.out, updated.err);
    assert!(updated.contains(&format!("the container image sha256:{digest} -> sha256:{moved}")), "{updated}");
    let earlier = space.path().join("earlier.lock");
    std::fs::write(&earlier, text.replace("conflicting = [\"site-old\", \"site-small\"]\n", "")).unwrap();
    let now = space.path().join("image.lock");
    let diff = space.run(&["diff", earlier.to_str().unwrap(), now.to_str().unwrap()]);
    for name in ["less", "site-old", "site-small"] {
        assert!(diff.out.contains(name) && !diff.out.contains("site-own"), "{name} {} {}", diff.out, diff.err);
    }

    // What dnf's files protect does not go.
    let (layers, _) = made();
    let guarded = archive(|one| file(one, "etc/dnf/protected.d/site.conf", "# of the site\nsite-small\n"));
    Image { layers, ..Image::new() }.with(&upper(ROCKY)).with(&guarded).write(&space.path().join("base"), "1");
    let ran = space.run(&["update"]);
    assert!(ran.code == 1 && ran.err.contains("recipe::refused"), "{} {}", ran.code, ran.err);
    assert!(unwrapped(&ran.err).contains("essentialpackagesofthecontainerimage:site-small"), "{}", ran.err);

    // A database where the release's rpm does not look: `dnf --installroot` of another distribution leaves it so.
    let (layers, _) = made();
    let elsewhere = space.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let small = write_rpm(&elsewhere, "site-lonely", "1", "");
    let database = database_of(&[small]);
    space.write("few.pkglist", "figlet\n");
    let hidden = archive(|one| {
        file(one, "var/lib/rpm/.wh.rpmdb.sqlite", "");
        bytes(one, "usr/lib/sysimage/rpm/rpmdb.sqlite", &database);
    });
    Image { layers, ..Image::new() }.with(&upper(ROCKY)).with(&hidden).write(&space.path().join("base"), "1");
    let ran = space.run(&["update"]);
    assert!(ran.code == 1 && ran.err.contains("distro::container_database"), "{} {}", ran.code, ran.err);
    assert!(unwrapped(&ran.err).contains("1package,buttherelease'srpmfinds0"), "{}", ran.err);
}

#[test]
fn privileged_packages_that_zypper_chose_are_installed_over_a_container_image() {
    let distro = format!("{}exclude = [\"kernel\", \"kernel-core\", \"kernel-modules*\"]\n", repository("distro"));
    let (space, digest, said) = node("opensuse", LEAP, &[distro, repository("suse")]);
    assert_over_the_container(&space, &digest, &said);
    // What the lists brought does not go for what comes later.
    space.write("few.pkglist", "site-full\n#NEW_INSTALL_LIST#\nsite-small\n");
    let (_, directory) = made();
    let text = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let old = site(&directory.join("old")).replace("\"site\"", "\"old\"");
    space.write("image.toml", &text.replace("[packages]", &format!("{old}\n[packages]")));
    let ran = space.run(&["build"]);
    assert!(ran.code == 1 && ran.err.contains("cannot be installed together"), "{} {}", ran.code, ran.err);
}

/// A package database as this machine's rpm writes it.
fn database_of(packages: &[PathBuf]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let mut rpm = Command::new("rpm");
    rpm.arg("--dbpath").arg(directory.path());
    rpm.args(["-i", "--justdb", "--nodeps", "--noscripts", "--nosignature", "--ignorearch", "--force"]);
    let ran = rpm.args(packages).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    std::fs::read(directory.path().join("rpmdb.sqlite")).unwrap()
}

fn bytes(builder: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(content.len() as u64);
    builder.append_data(&mut header, path, content).unwrap();
}

#[test]
fn a_container_image_of_rpm_packages_that_cannot_be_the_base_is_refused_with_the_reason() {
    let space = Space::new();
    space
        .write(
            "image.toml",
            "[image]\nname = \"tiny\"\ndistro = \"rocky\"\nrelease = \"9\"\nfrom = \"oci:./base\"\n\n\
             [[repo]]\nid = \"x\"\nuri = \"http://127.0.0.1:1\"\ncheck-packages = false\n\n[system]\nauthorized_keys = [\"admin.pub\"]\n",
        )
        .write("admin.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty x\n");
    let packages = space.path().join("packages");
    let package = |name: &str, version: &str| write_rpm(&packages, name, version, "");
    let good = database_of(&[package("some", "1")]);
    let small = |os_release: &str, database: &[u8]| {
        archive(|one| {
            file(one, "etc/os-release", os_release);
            bytes(one, "var/lib/rpm/rpmdb.sqlite", database);
        })
    };
    let try_it = |plain: &[u8], words: &[&str]| {
        let _ = std::fs::remove_dir_all(space.path().join("base"));
        Image::new().with(plain).write(&space.path().join("base"), "9");
        refused(&space, "recipe::refused", words);
    };
    const OF_9: &str = "ID=\"rocky\"\nVERSION_ID=\"9.4\"\n";
    try_it(&small("ID=\"almalinux\"\nVERSION_ID=\"9.4\"\n", &good), &["is almalinux 9.4, but", "rocky 9"]);
    try_it(&small("ID=\"rocky\"\nVERSION_ID=\"8.10\"\n", &good), &["is rocky 8.10, but"]);
    try_it(&archive(|one| file(one, "etc/os-release", OF_9)), &["no database of packages", "/var/lib/rpm"]);
    let ostree = archive(|one| {
        file(one, "etc/os-release", OF_9);
        bytes(one, "usr/share/rpm/rpmdb.sqlite", &good);
        entry(one, tar::EntryType::Directory, "var/lib", (0o755, 0), "");
        entry(one, tar::EntryType::Symlink, "var/lib/rpm", (0o777, 0), "../../usr/share/rpm");
    });
    try_it(&ostree, &["one for bootc or ostree"]);
    let half = &good[..good.len() / 2];
    try_it(&small(OF_9, half), &["the package database /var/lib/rpm/rpmdb.sqlite", "is damaged", "--rebuilddb"]);
    let of = |packages: &[PathBuf]| small(OF_9, &database_of(packages));
    try_it(&of(&[package("kernel-core", "5.14")]), &["has a kernel or firmware installed: kernel-core"]);
    try_it(&of(&[package("linux-firmware", "1")]), &["has a kernel or firmware installed: linux-firmware"]);
    try_it(&of(&[package("some", "1"), package("some", "2")]), &["`some` is there twice, as 1-1 and 2-1"]);
}

//! Ubuntu's forms: no archive of it can be had here, so Debian's packages are laid out, compressed and named as Ubuntu's are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use archive::control_stanza;
use base::digest::Sha256;

use super::private_archive::{Deb, Deed, Mirror, armored_key, clear_signed, stanza, xz};
use super::releases::boots;
use super::store;
use crate::support::Space;

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Unpacks a package, changes it, and packs it with zstd, as Ubuntu's builders do.
fn repacked(file: &Path, change: impl FnOnce(&Path)) -> Vec<u8> {
    let work = tempfile::tempdir().unwrap();
    let (tree, made) = (work.path().join("tree"), work.path().join("made.deb"));
    run("dpkg-deb", &["--raw-extract", file.to_str().unwrap(), tree.to_str().unwrap()]);
    change(&tree);
    run("dpkg-deb", &["-Zzstd", "-z1", "--build", tree.to_str().unwrap(), made.to_str().unwrap()]);
    let bytes = std::fs::read(made).unwrap();
    assert!(bytes.windows(12).any(|window| window == b"data.tar.zst"));
    bytes
}

fn debs_below(directory: &Path) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().flatten();
    let files = walk.map(walkdir::DirEntry::into_path);
    files.filter(|path| path.extension().is_some_and(|ending| ending == "deb")).collect()
}

/// Edits the control file of an unpacked package.
fn control(tree: &Path, edit: impl FnOnce(String) -> String) {
    let path = tree.join("DEBIAN/control");
    let text = edit(std::fs::read_to_string(&path).unwrap());
    std::fs::write(path, text).unwrap();
}

fn field<'a>(stanza: &'a str, name: &str) -> &'a str {
    stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap()
}

/// The kernel as Ubuntu cuts it: the image, its modules, more modules, and metapackages over them. Gives the packages, and a
/// module of the last.
fn cut_kernel(file: &Path, release: &str) -> Vec<(String, Vec<u8>)> {
    let modules = format!("lib/modules/{release}");
    let in_extra = |path: &Path| path.to_str().is_some_and(|path| path.contains("/drivers/net/"));
    let keep_modules = |tree: &Path, wanted: &dyn Fn(&Path) -> bool| {
        for entry in walkdir::WalkDir::new(tree.join("lib/modules")).into_iter().flatten() {
            if entry.file_type().is_file() && !wanted(entry.path()) {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    };
    let part = |name: &str, depends: &str, change: &dyn Fn(&Path)| {
        let bytes = repacked(file, |tree| {
            control(tree, |text| {
                let kept = text.lines().filter(|line| {
                    !["Package:", "Depends:", "Recommends:", "Suggests:", "Breaks:"]
                        .iter()
                        .any(|one| line.starts_with(one))
                });
                let depends = if depends.is_empty() { String::new() } else { format!("Depends: {depends}\n") };
                format!("Package: {name}\n{depends}{}\n", kept.collect::<Vec<_>>().join("\n"))
            });
            for name in std::fs::read_dir(tree.join("DEBIAN")).unwrap().flatten() {
                if name.file_name() != "control" {
                    std::fs::remove_file(name.path()).unwrap();
                }
            }
            change(tree);
        });
        (name.to_owned(), bytes)
    };
    let (image, base, extra) = (
        format!("linux-image-{release}"),
        format!("linux-modules-{release}"),
        format!("linux-modules-extra-{release}"),
    );
    let without = |tree: &Path, names: &[&str]| {
        for name in names {
            let _ = std::fs::remove_dir_all(tree.join(name));
        }
    };
    let meta = |name: &str, depends: &str| {
        let deb = Deb { name: name.to_owned(), fields: format!("Depends: {depends}\n"), ..Deb::default() };
        (name.to_owned(), deb.build())
    };
    vec![
        part(&image, &format!("kmod, {base}"), &|tree| without(tree, &["lib", "usr/share/doc"])),
        part(&base, "", &|tree| {
            without(tree, &["boot", "usr"]);
            keep_modules(tree, &|path| !in_extra(path));
        }),
        part(&extra, &base, &|tree| {
            without(tree, &["boot", "usr"]);
            keep_modules(tree, &|path| in_extra(path));
            assert!(tree.join(&modules).is_dir());
        }),
        meta("linux-image-generic", &format!("{image}, {extra}")),
        meta("linux-generic", "linux-image-generic"),
    ]
}

/// Writes a suite as Ubuntu's archive has it: the index of each component under its digest alone.
fn publish(mirror: &Mirror, suite: &str, components: &BTreeMap<&str, String>) {
    let mut listed = String::new();
    for component in ["main", "restricted", "universe", "multiverse"] {
        let text = components.get(component).map_or("", String::as_str).as_bytes();
        let index = xz(text);
        let digest = Sha256::of(&index);
        let directory = format!("{component}/binary-amd64");
        // Listed, and not there.
        listed.push_str(&format!(" {} {} {directory}/Packages\n", Sha256::of(text), text.len()));
        listed.push_str(&format!(" {digest} {} {directory}/Packages.xz\n", index.len()));
        mirror.put(&format!("ubuntu/dists/{suite}/{directory}/by-hash/SHA256/{digest}"), index);
    }
    let release = format!(
        "Origin: Ubuntu\nLabel: Ubuntu\nSuite: {suite}\nVersion: 24.04\nCodename: noble\nDate: Thu, 25 Apr 2024 15:10:33 UTC\n\
         Architectures: amd64 arm64 armhf i386 ppc64el riscv64 s390x\nComponents: main restricted universe multiverse\n\
         Description: Ubuntu Noble 24.04\nAcquire-By-Hash: yes\nSHA256:\n{listed}"
    );
    mirror.put(&format!("ubuntu/dists/{suite}/InRelease"), clear_signed(&release));
}

#[test]
fn network_boot_an_image_of_an_archive_with_ubuntus_forms_boots() {
    // The packages of a small node with netplan, from Debian.
    let debian = Space::example("mini").with_store(&store());
    let names = "install = [\"systemd-sysv\", \"udev\", \"openssh-server\"";
    debian.edit("image.toml", names, &format!("{names}, \"netplan.io\""));
    let vendored = debian.path().join("vendored");
    debian.run(&["update"]).good();
    debian.run(&["vendor", vendored.to_str().unwrap()]).good();
    // As Ubuntu's.
    let mirror = Mirror::start();
    let mut components: BTreeMap<&str, String> = BTreeMap::new();
    let mut zstd = 0;
    for file in debs_below(&vendored) {
        let bytes = std::fs::read(&file).unwrap();
        let stanza_text = control_stanza(&bytes[..]).unwrap();
        let name = field(&stanza_text, "Package").to_owned();
        let all = match name.strip_prefix("linux-image-") {
            Some(release) if release.starts_with(|c: char| c.is_ascii_digit()) => cut_kernel(&file, release),
            Some(_) => Vec::new(),
            // Enough of them to be sure: of the roots, of the base, and of what is installed over it.
            None if bytes.len() < 400_000 || name == "systemd" => {
                zstd += 1;
                vec![(name, repacked(&file, |_| {}))]
            }
            None => vec![(name, bytes)],
        };
        for (name, bytes) in all {
            let component = if name.starts_with("openssh") { "universe" } else { "main" };
            let path = format!("pool/{component}/{}/{name}.deb", &name[..1]);
            components.entry(component).or_default().push_str(&stanza(&path, &bytes));
            mirror.put(&format!("ubuntu/{path}"), bytes);
        }
    }
    assert!(zstd > 40, "{zstd}");
    publish(&mirror, "noble", &components);
    publish(&mirror, "noble-updates", &BTreeMap::new());
    // A security update, half of the hosts of which would not get it: an image does.
    let fixed = Deb::new("site-fixed").fields("Phased-Update-Percentage: 0\n").build();
    let text = stanza("pool/main/s/site-fixed.deb", &fixed);
    mirror.put("ubuntu/pool/main/s/site-fixed.deb", fixed);
    publish(&mirror, "noble-security", &BTreeMap::from([("main", text)]));
    mirror.rule(|_, _| Deed::Serve);

    let space = Space::example("mini");
    space.write("ubuntu.asc", &armored_key("known@example.invalid"));
    space.edit("image.toml", "release = \"bookworm\"", "distro = \"ubuntu\"\nrelease = \"noble\"");
    space.edit("image.toml", names, &format!("{names}, \"netplan.io\", \"site-fixed\", \"linux-generic\""));
    // The kernel is the distribution's own: linux-image-generic.
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let kernel = recipe.lines().find(|line| line.starts_with("package = \"linux-image")).unwrap().to_owned();
    space.edit("image.toml", &kernel, "");
    let repo = format!(
        "[[repo]]\nuri = \"{}/ubuntu\"\nsuites = [\"noble\", \"noble-updates\", \"noble-security\"]\n\
         components = [\"main\", \"universe\"]\nsigned-by = \"ubuntu.asc\"\n\n[packages]",
        mirror.url
    );
    space.edit("image.toml", "[packages]", &repo);
    let built = super::built(space);
    let space = &built.space;
    let lock = super::compute::lock(space);
    let packages = || lock.pass.iter().flat_map(|pass| &pass.packages);
    let origin = |name: &str| packages().find(|one| one.name == name).map(|one| one.origin.as_str());
    assert_eq!(
        (origin("site-fixed"), origin("systemd"), origin("openssh-server")),
        (Some("noble-security"), Some("noble"), Some("noble"))
    );
    assert!(packages().any(|one| one.name.starts_with("linux-modules-extra-")));
    assert_eq!(lock.suite.len(), 3);
    assert_eq!(space.to_do(), Vec::<String>::new());
    boots(&built, "12", |node| {
        // A module of linux-modules-extra; networkd runs the network, beside netplan.
        node.run(
            "test -d /sys/module/virtio_net && test -f /usr/lib/modules/$(uname -r)/kernel/drivers/net/virtio_net.ko",
        );
        assert!(node.run("cat /run/systemd/netif/state").contains("OPER_STATE=routable"));
        assert!(node.run("netplan get").contains("version: 2") || node.run("netplan get").is_empty());
    });
}

#[test]
fn a_host_without_ubuntus_archive_says_where_to_get_one() {
    let space = Space::example("mini");
    std::fs::write(space.path().join("keys/admin.pub"), armored_pub()).unwrap();
    space.edit("image.toml", "release = \"bookworm\"", "distro = \"ubuntu\"\nrelease = \"noble\"");
    let ran = space.run(&["build"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let said = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("names no Ubuntu archive") && said.contains("--mirror URL"), "{}", ran.err);
    // Its own keys are those that count, not Debian's.
    let mirror = Mirror::start();
    publish(&mirror, "noble", &BTreeMap::new());
    let ran = space.run(&["build", "--mirror", &format!("{}/ubuntu", mirror.url)]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("signature"), "{}", ran.err);
    let asked: Vec<String> = mirror.seen().into_iter().map(|request| request.path).collect();
    assert!(asked.iter().any(|path| path == "ubuntu/dists/noble-security/InRelease") || asked.len() == 1, "{asked:?}");
    // A release by its number, and one of the other distribution.
    space.edit("image.toml", "release = \"noble\"", "release = \"24.04\"");
    let ran = space.run(&["check"]);
    assert!(ran.code == 1 && ran.err.contains("release = \"noble\"") && ran.err.contains("image.toml:"), "{}", ran.err);
}

/// A key that is one, whoever has it.
fn armored_pub() -> &'static str {
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty a@b\n"
}

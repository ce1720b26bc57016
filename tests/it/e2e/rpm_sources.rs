//! Where RPM packages come from: newer ones, several repositories, servers, directories that `vendor` made; and one lock
//! that gives the same bytes everywhere.

use std::collections::BTreeMap;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use base::digest::Sha256;

use super::compute::lock;
use super::machine::Server;
use super::offline::{assert_same, run_through};
use super::rpm_distro::distribution;
use super::rpm_node::{add_init, node, repository, write_keys, write_rpm};
use super::same_bytes::Ordinary;
use super::{shared, store};
use crate::support::{Space, copy_locked, copy_tree};

/// A recipe with one list of packages and one directory of packages of the site.
fn with_site(distro: &str, settings: &str, list: &str) -> Space {
    let space = Space::new().with_store(&store());
    write_keys(&space);
    space.write("few.pkglist", list);
    space.write(
        "image.toml",
        &format!(
            "[image]\nname = \"few\"\ndistro = \"{distro}\"\nrelease = \"1\"\n\n{}\n[[repo]]\nid = \"site\"\n\
             uri = \"file:{}\"\ncheck-packages = false\n{settings}\n\n[packages]\nlists = [\"few.pkglist\"]\n\n\
             [system]\nauthorized_keys = [\"keys/admin.pub\"]\n",
            if distro == "rocky" { repository("distro") } else { repository("distro") + "\n" + &repository("suse") },
            site(&space).display()
        ),
    );
    add_init(&space);
    space
}

fn site(space: &Space) -> PathBuf {
    space.path().join("site")
}

/// The version of a package that the lock has for the image.
fn version(space: &Space, name: &str) -> String {
    let lock = lock(space);
    let passes = lock.pass.iter().filter(|pass| !pass.name.starts_with("tools"));
    let found = passes.flat_map(|pass| &pass.packages).find(|package| package.name == name);
    found.map(|package| package.version.clone()).unwrap_or_default()
}

#[test]
fn an_update_of_one_package_takes_the_newer_one_and_leaves_the_others() {
    let space = with_site("rocky", "", "rpm\nsite-app\nsite-lib\n");
    for name in ["site-app", "site-lib"] {
        write_rpm(&site(&space), name, "1", "Requires: bash");
    }
    space.run(&["build", "--until", "rootfs"]).good();
    for name in ["site-app", "site-lib"] {
        write_rpm(&site(&space), name, "1.10", "Requires: bash");
        write_rpm(&site(&space), name, "1.9", "Requires: bash");
    }
    // What is there makes no difference until somebody asks for it.
    let ran = space.run(&["build", "--until", "rootfs"]).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);
    let ran = space.run(&["update", "--package", "site-app"]).good();
    assert!(ran.out.contains("site-app 1-1 -> 1.10-1") && !ran.out.contains("site-lib"), "{}{}", ran.out, ran.err);
    assert_eq!((version(&space, "site-app"), version(&space, "site-lib")), ("1.10-1".into(), "1-1".into()));
    space.run(&["build"]).good();
    let ran = space.run(&["shell", "--", "/bin/sh", "-c", "rpm -q site-app site-lib"]).good();
    assert_eq!(ran.out, "site-app-1.10-1.noarch\nsite-lib-1-1.noarch\n");
    let said = space.run(&["update"]).good();
    assert!(said.out.contains("site-lib 1-1 -> 1.10-1"), "{}{}", said.out, said.err);
    let unknown = space.run(&["update", "--package", "site-apq"]);
    assert_eq!(unknown.code, 1, "{}", unknown.err);
    assert!(unknown.err.contains("site-apq") && unknown.err.contains("site-app"), "{}", unknown.err);
}

#[test]
fn priorities_excludes_and_includes_decide_in_dnf_and_zypper_alike() {
    for distro in ["rocky", "opensuse"] {
        let space = with_site(distro, "# settings", "bash\nsite-app\n");
        for version in ["1", "2", "3"] {
            write_rpm(&site(&space), "site-app", version, "");
        }
        let preferred = space.path().join("preferred");
        write_rpm(&preferred, "site-app", "2.5", "");
        let more = format!(
            "[[repo]]\nid = \"preferred\"\nuri = \"file:{}\"\ncheck-packages = false\npriority = 50\n\n[packages]",
            preferred.display()
        );
        space.edit("image.toml", "[packages]", &more);
        let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
        for (settings, chosen) in [
            // The preferred repository has an older one, and wins; unless another is preferred still more.
            ("", "2.5-1"),
            ("priority = 10\nexclude = [\"site-app-3*\"]", "2-1"),
            ("priority = 10\nexclude = [\"site-*\"]", "2.5-1"),
            ("priority = 10\ninclude = [\"site-app-1-*\"]", "1-1"),
        ] {
            space.write("image.toml", &recipe.replace("# settings", settings));
            space.run(&["update"]).good();
            assert_eq!(version(&space, "site-app"), chosen, "{distro}: {settings}");
        }
    }
}

#[test]
fn what_a_solver_answered_is_kept_and_asked_again_where_it_is_damaged() {
    for distro in ["rocky", "opensuse"] {
        let origin = with_site(distro, "", "rpm\nsite-app\n");
        write_rpm(&site(&origin), "site-app", "1", "Requires: bash");
        let space = Space::new();
        copy_tree(origin.path(), space.path());
        let resolve = || {
            let _ = std::fs::remove_file(space.path().join("image.lock"));
            space.run(&["update"]).good();
            std::fs::read_to_string(space.path().join("image.lock")).unwrap()
        };
        // By name: which file it is, and what is in it.
        let answers = || -> BTreeMap<PathBuf, (u64, Vec<u8>)> {
            let found = std::fs::read_dir(space.store().join("v1/solving")).unwrap().map(|entry| entry.unwrap());
            found.map(|one| (one.path(), (one.ino(), std::fs::read(one.path()).unwrap()))).collect()
        };
        let first = resolve();
        let told = answers();
        assert!(told.len() > 1, "{distro}: {}", told.len());
        assert_eq!(resolve(), first, "{distro}");
        assert_eq!(answers(), told, "{distro}: nothing was to be asked");
        // A damaged answer is none: that question alone is asked again, with all that was answered before it.
        for (path, (inode, whole)) in &told {
            let mut damaged = whole.clone();
            *damaged.last_mut().unwrap() ^= 1;
            std::fs::write(path, damaged).unwrap();
            assert_eq!(resolve(), first, "{distro}");
            let now = answers();
            assert_eq!(resolve(), first, "{distro}");
            assert_eq!(answers(), now, "{distro}: it is whole again");
            assert!(now.len() == told.len() && now[path].0 != *inode, "{distro}: it was not asked again");
        }
        // Other packages in a repository are another question.
        write_rpm(&site(&origin), "site-app", "2", "Requires: bash");
        assert!(resolve() != first && version(&space, "site-app") == "2-1", "{distro}");
    }
}

/// All packages of the node, as `imgbuild vendor` keeps them.
fn vendored() -> &'static Path {
    static VENDORED: OnceLock<PathBuf> = OnceLock::new();
    VENDORED.get_or_init(|| {
        shared::once("vendored-rpm", |directory| {
            let ran = node().space.run(&["vendor", directory.to_str().unwrap()]).good();
            assert!(ran.err.contains("needs no network"), "{}", ran.err);
        })
    })
}

/// A copy of the node and its lock, with an empty store of its own.
fn fresh() -> Space {
    let space = Space::new();
    copy_locked(node().space.path(), space.path());
    space
}

#[test]
fn an_empty_store_without_network_gives_rpm_images_the_same_bytes_and_verifies_them() {
    let space = fresh();
    let words = ["build", "--locked", "--verify", "--vendor", vendored().to_str().unwrap()];
    let ran = run_through(&["unshare", "-n"], &space, &words).good();
    assert!(ran.err.contains("rootfs/tools"), "{}", ran.err);
    assert_same(&node().space, &space, "node");
    // Resolving works too, with the indices that were kept.
    let before = std::fs::read(space.path().join("image.lock")).unwrap();
    let words = ["update", "--vendor", vendored().to_str().unwrap()];
    run_through(&["unshare", "-n"], &space, &words).good();
    let packages = |text: &[u8]| {
        let text = String::from_utf8(text.to_vec()).unwrap();
        text.lines().filter(|line| line.contains("sha256 = ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(packages(&std::fs::read(space.path().join("image.lock")).unwrap()), packages(&before));
}

#[test]
fn an_ordinary_user_builds_an_rpm_image_of_the_same_bytes() {
    let user = Ordinary::new("imgbuild-r1", Some(500_000_000));
    let packages = user.home.join("vendored");
    copy_tree(vendored(), &packages);
    let recipe = user.copy(&fresh());
    user.run(&[], &recipe, &["build", "--locked", "--vendor", packages.to_str().unwrap()]).good();
    for name in super::offline::SAME {
        let theirs = std::fs::read(recipe.join("out/node").join(name)).unwrap();
        assert!(theirs == std::fs::read(node().space.artefact("node", name)).unwrap(), "{name} differs");
    }
    let ran = user.run(&[], &recipe, &["shell", "--", "/bin/sh", "-c", "rpm -q bash; stat -c %a /etc/shadow"]);
    assert!(ran.code == 0 && ran.out.starts_with("bash-5"), "{}{}", ran.out, ran.err);
}

#[test]
fn mirror_lists_and_metalinks_lead_to_a_server() {
    let packages = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(distribution().repository("distro"), packages.path().join("distro")).unwrap();
    let site = packages.path().join("site");
    write_rpm(&site, "site-served", "4", "");
    // With `--zck` createrepo_c writes its metadata in zchunk too; those beside them are read.
    let made = Command::new("createrepo_c").args(["--quiet", "--no-database", "--zck"]).arg(&site).status().unwrap();
    assert!(made.success());
    let repomd = std::fs::read_to_string(site.join("repodata/repomd.xml")).unwrap();
    assert!(repomd.contains("\"primary_zck\"") && repomd.contains("\"primary\""), "{repomd}");
    let server = Server::start(packages.path(), 0, Arc::new(|_: &str, _, bytes| Some(bytes)));
    let url = format!("http://127.0.0.1:{}", server.port);
    let lists = tempfile::tempdir().unwrap();
    let metalink = |repomd: &[u8]| {
        format!(
            "<?xml version=\"1.0\"?>\n<metalink version=\"3.0\" xmlns=\"http://www.metalinker.org/\">\n<files>\n\
             <file name=\"repomd.xml\">\n<size>{}</size>\n<verification>\n<hash type=\"sha256\">{}</hash>\n</verification>\n\
             <resources>\n<url protocol=\"http\" type=\"http\" preference=\"100\">http://127.0.0.1:1/site/repodata/repomd.xml</url>\n\
             <url protocol=\"http\" type=\"http\" preference=\"99\">{url}/site/repodata/repomd.xml</url>\n</resources>\n\
             </file>\n</files>\n</metalink>\n",
            repomd.len(),
            Sha256::of(repomd)
        )
    };
    let repomd = std::fs::read(site.join("repodata/repomd.xml")).unwrap();
    std::fs::write(lists.path().join("metalink"), metalink(&repomd)).unwrap();
    std::fs::write(lists.path().join("stale"), metalink(b"something else")).unwrap();
    std::fs::write(lists.path().join("mirrors"), format!("# mirrors\n{url}/distro/\n")).unwrap();
    let other = Server::start(lists.path(), 0, Arc::new(|_: &str, _, bytes| Some(bytes)));
    let other = format!("http://127.0.0.1:{}", other.port);
    let space = with_site("rocky", "", "rpm\nsite-served\n");
    let base = format!("uri = \"file:{}\"", distribution().repository("distro").display());
    space.edit("image.toml", &base, &format!("mirrorlist = \"{other}/mirrors\""));
    let own = format!("uri = \"file:{}\"", self::site(&space).display());
    space.edit("image.toml", &own, &format!("metalink = \"{other}/metalink\""));
    space.run(&["build"]).good();
    assert_eq!(version(&space, "site-served"), "4-1");
    let ran = space.run(&["shell", "--", "/bin/sh", "-c", "rpm -q site-served"]).good();
    assert_eq!(ran.out, "site-served-4-1.noarch\n");
    space.edit("image.toml", "/metalink\"", "/stale\"");
    let ran = space.run(&["update"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("matches no digest in the metalink"), "{}", ran.err);
}

#[test]
fn the_distributions_own_repositories_come_from_a_mirror_of_them() {
    let space = Space::new().with_store(&store());
    write_keys(&space);
    // A mirror as the distribution lays it out; each repository answers at its own path.
    let mirror = space.path().join("mirror/9");
    for name in ["BaseOS", "AppStream", "extras", "CRB"] {
        std::fs::create_dir_all(mirror.join(name).join("x86_64")).unwrap();
        let to = mirror.join(name).join("x86_64/os");
        match name {
            "BaseOS" => {
                let made = Command::new("cp").arg("-r").arg(distribution().repository("distro")).arg(&to).status();
                assert!(made.unwrap().success());
            }
            _ => copy_tree(&empty_repository(&space), &to),
        }
    }
    let recipe = |source: &str| {
        space.write(
            "image.toml",
            &format!(
                "[image]\nname = \"few\"\ndistro = \"rocky\"\nrelease = \"9\"\n\n[[repo]]\nsource = \"distribution\"\n{source}\n\
                 signed-by = \"keys/RPM-GPG-KEY-site\"\n\n[packages]\ninstall = [\"bash\"]\n"
            ),
        );
    };
    let server = Server::start(&space.path().join("mirror"), 0, Arc::new(|_, _, bytes| Some(bytes)));
    let url = format!("http://127.0.0.1:{}", server.port);
    recipe(&format!("uri = \"{url}/\""));
    add_init(&space);
    space.run(&["check"]).good();
    space.run(&["build", "--until", "rootfs"]).good();
    let origins: std::collections::BTreeSet<String> =
        lock(&space).pass.iter().flat_map(|pass| &pass.packages).map(|one| one.origin.clone()).collect();
    assert_eq!(origins.into_iter().collect::<Vec<_>>(), ["baseos"]);
    let text = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    for id in ["baseos", "appstream", "extras"] {
        assert!(text.contains(&format!("\"{id}\"")), "{id}: {text}");
    }
    assert!(text.contains("source = \"distribution\"") && !text.contains("\"crb\""), "{text}");
    // A flag in the place of the line, and another of its repositories: the lock is renewed for it, nothing else changes.
    recipe("components = [\"+crb\"]");
    let init = "\n[postinstall]\nscript = \"init.postinstall\"\n";
    let own = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.write("image.toml", &format!("{own}{init}"));
    let ran = space.run(&["build", "--until", "rootfs", "--mirror", &url]).good();
    let text = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    assert!(text.contains("\"crb\"") && text.contains("components = \"+crb\""), "{text}");
    assert!(!ran.err.contains("rootfs/packages-1: started"), "{}", ran.err);
    // Without the site's key nothing of it is believed: the distribution's own is built in.
    let own = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.write("image.toml", &own.replace("signed-by = \"keys/RPM-GPG-KEY-site\"\n", ""));
    let ran = space.run(&["update", "--mirror", &url]);
    assert!(ran.code != 0 && ran.err.contains("is not in the keyring"), "{} {}", ran.code, ran.err);
}

fn empty_repository(space: &Space) -> PathBuf {
    let place = space.path().join("empty");
    std::fs::create_dir_all(&place).unwrap();
    let ran = Command::new("createrepo_c").arg("-q").arg(&place).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    place
}

/// Writes a medium as SUSE's were until SLES 12: `content`, and descriptions in susetags of what lies on it and on the disc `2`
/// beside it.
fn write_medium(place: &Path) {
    use std::fmt::Write as _;
    let mut text = String::from("=Ver: 2.0\n");
    let discs = [(1, place.to_owned()), (2, place.with_file_name("2"))];
    let entries = discs.iter().flat_map(|(number, disc)| {
        let entries = std::fs::read_dir(disc.join("suse/noarch")).into_iter().flatten();
        entries.map(move |entry| (*number, entry.unwrap().path()))
    });
    for (number, path) in entries {
        let one = packages::rpm::Package::read(&path).unwrap().candidate;
        let (evr, file) = (&one.evr, path.file_name().unwrap().to_str().unwrap());
        let bytes = std::fs::read(&path).unwrap();
        writeln!(text, "=Pkg: {} {} {} {}", one.name, evr.version, evr.release, one.arch).unwrap();
        writeln!(text, "=Cks: SHA256 {}", Sha256::of(&bytes)).unwrap();
        let lists = [
            ("Req", one.requires.iter().map(|one| one.capability.to_string()).collect::<Vec<_>>()),
            ("Prv", one.provides.iter().map(ToString::to_string).chain(one.files.clone()).collect()),
        ];
        for (name, lines) in lists {
            writeln!(text, "+{name}:\n{}\n-{name}:", lines.join("\n")).unwrap();
        }
        writeln!(text, "=Loc: {number} {file}\n=Siz: {} {}", bytes.len(), one.installed_size).unwrap();
    }
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut packer, text.as_bytes()).unwrap();
    let packed = packer.finish().unwrap();
    std::fs::create_dir_all(place.join("suse/setup/descr")).unwrap();
    std::fs::write(place.join("suse/setup/descr/packages.gz"), &packed).unwrap();
    let content = format!(
        "CONTENTSTYLE  11\nDATADIR       suse\nDESCRDIR      suse/setup/descr\nMETA SHA256 {}  packages.gz\n",
        Sha256::of(&packed)
    );
    std::fs::write(place.join("content"), content).unwrap();
}

/// As RHEL 8 and its kin lie on a disc: nothing at the root but what says which repositories there are.
#[test]
fn a_medium_of_several_repositories_on_a_server_is_all_of_them() {
    let served = tempfile::tempdir().unwrap();
    let disc = served.path().join("dvd");
    for (folder, name) in [("BaseOS", "site-floor"), ("AppStream", "site-app")] {
        let to = disc.join(folder);
        write_rpm(&to.join("Packages"), name, "1", if folder == "BaseOS" { "" } else { "Requires: site-floor" });
        let made = Command::new("createrepo_c").args(["--quiet", "--no-database"]).arg(&to).status().unwrap();
        assert!(made.success());
    }
    let server = Server::start(served.path(), 0, Arc::new(|_: &str, _, bytes| Some(bytes)));
    let space = with_site("rocky", "", "rpm\nsite-app\n");
    let own = format!("uri = \"file:{}\"", self::site(&space).display());
    space.edit("image.toml", &own, &format!("uri = \"http://127.0.0.1:{}/dvd\"", server.port));
    // What is no such medium is missing, as before.
    let ran = space.run(&["update"]);
    assert!(ran.code != 0 && ran.err.contains("repomd.xml"), "{} {}", ran.code, ran.err);
    let tree = "[tree]\nvariants = AppStream,BaseOS\n\n[variant-AppStream]\nrepository = AppStream\n\n[variant-BaseOS]\nrepository = BaseOS\n";
    std::fs::write(disc.join(".treeinfo"), tree).unwrap();
    space.run(&["check", "--online"]).good();
    space.run(&["build", "--until", "rootfs"]).good();
    let lock = lock(&space);
    let origin = |name: &str| {
        let found = lock.pass.iter().flat_map(|pass| &pass.packages).find(|one| one.name == name);
        found.map(|one| one.origin.clone()).unwrap_or_default()
    };
    assert_eq!((origin("site-floor"), origin("site-app")), ("site-BaseOS".to_owned(), "site-AppStream".to_owned()));
    // A part that must be signed is: the medium's own words do not count.
    space.edit("image.toml", "check-packages = false", "check-index = true\nsigned-by = \"keys/RPM-GPG-KEY-site\"");
    let ran = space.run(&["update"]);
    assert!(ran.code != 0 && ran.err.contains("repomd.xml.asc"), "{} {}", ran.code, ran.err);
}

#[test]
fn a_medium_in_susetags_on_a_server_is_a_repository() {
    let served = tempfile::tempdir().unwrap();
    let medium = served.path().join("sles/1");
    write_rpm(&served.path().join("sles/2/suse/noarch"), "site-needed", "2", "");
    write_rpm(&medium.join("suse/noarch"), "site-medium", "3", "Requires: site-needed >= 2");
    write_medium(&medium);
    let server = Server::start(served.path(), 0, Arc::new(|_: &str, _, bytes| Some(bytes)));
    let space = with_site("opensuse", "", "rpm\nsite-medium\n");
    let own = format!("uri = \"file:{}\"", self::site(&space).display());
    space.edit("image.toml", &own, &format!("uri = \"http://127.0.0.1:{}/sles/1\"", server.port));
    // On several discs: each package from its own.
    space.run(&["build", "--until", "rootfs"]).good();
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    assert!(lock.contains("%2e%2e/2/suse/noarch/site-needed"), "{lock}");
    assert_eq!((version(&space, "site-medium"), version(&space, "site-needed")), ("3-1".to_owned(), "2-1".to_owned()));
    // On one.
    let packages = |disc: &str| served.path().join("sles").join(disc).join("suse/noarch");
    for entry in std::fs::read_dir(packages("2")).unwrap() {
        let entry = entry.unwrap();
        std::fs::rename(entry.path(), packages("1").join(entry.file_name())).unwrap();
    }
    write_medium(&medium);
    space.run(&["build", "--until", "rootfs"]).good();
    assert_eq!((version(&space, "site-medium"), version(&space, "site-needed")), ("3-1".to_owned(), "2-1".to_owned()));
    // One that nobody signed, where it has to be; one whose packages are not those that it names.
    space.edit("image.toml", "check-packages = false", "check-index = true\nsigned-by = \"keys/RPM-GPG-KEY-site\"");
    let ran = space.run(&["update"]);
    assert!(ran.code != 0 && ran.err.contains("content.asc next to it"), "{}", ran.err);
    // One that somebody signed: with the key of another, with its own, and altered afterwards.
    let home = tempfile::tempdir().unwrap();
    let gpg = |arguments: &[&str]| {
        let mut command = Command::new("gpg");
        command.env("GNUPGHOME", home.path()).current_dir(&medium).args(["--batch", "--quiet", "--passphrase", ""]);
        let ran = command.args(arguments).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    };
    gpg(&["--quick-gen-key", "Medium <m@example.invalid>", "rsa2048", "sign"]);
    gpg(&["--armor", "--detach-sign", "content"]);
    space.write("keys/medium.asc", &gpg(&["--armor", "--export"]));
    let ran = space.run(&["update"]);
    assert!(ran.code != 0 && ran.err.contains("is not in the keyring"), "{}", ran.err);
    space.edit(
        "image.toml",
        "check-index = true\nsigned-by = \"keys/RPM-GPG-KEY-site\"",
        "check-index = true\nsigned-by = \"keys/medium.asc\"\ncheck-packages = false",
    );
    space.run(&["update"]).good();
    let content = std::fs::read_to_string(medium.join("content")).unwrap();
    std::fs::write(medium.join("content"), format!("{content}LABEL  other\n")).unwrap();
    let ran = space.run(&["update"]);
    assert!(ran.code != 0 && ran.err.contains("does not match the text"), "{}", ran.err);
    space.edit("image.toml", "check-index = true\nsigned-by = \"keys/medium.asc\"\n", "");
    std::fs::write(medium.join("suse/setup/descr/packages.gz"), "other").unwrap();
    let ran = space.run(&["update"]);
    assert!(ran.code == 4 && ran.err.contains("does not match the expected"), "{} {}", ran.code, ran.err);
}

//! image.lock: numbers of users, updates of a part and of all, what an update leaves alone.

use super::offline::{assert_same, fresh, vendored};
use super::{mini, store};
use crate::support::{Space, copy_locked, copy_tree};

/// A copy of the example `mini` with a synced file, and its lock.
fn copy() -> Space {
    let space = Space::new().with_store(&store());
    copy_tree(mini().space.path(), space.path());
    space.write("site/motd", "a node\n").write("a.synclist", "site/motd -> /etc/motd\n");
    space.edit("image.toml", "[exclude]", "[sync]\nlists = [\"a.synclist\"]\n\n[exclude]");
    std::fs::copy(mini().space.path().join("image.lock"), space.path().join("image.lock")).unwrap();
    space
}

fn lock_text(space: &Space) -> String {
    std::fs::read_to_string(space.path().join("image.lock")).unwrap()
}

/// A lock without the digests of Release files: the archive may publish anew while the tests run.
fn without_releases(lock: &str) -> String {
    lock.lines().filter(|line| !line.starts_with("release = ")).collect::<Vec<_>>().join("\n")
}

/// The uid of a user in the built image.
fn uid(space: &Space, name: &str) -> String {
    space.run(&["shell", "--", "id", "-u", name]).good().out.trim().to_owned()
}

fn layer(space: &Space, name: &str) -> String {
    let info: serde_json::Value =
        serde_json::from_slice(&std::fs::read(space.artefact("mini", "build.json")).unwrap()).unwrap();
    let layers = info["layers"].as_array().unwrap();
    layers.iter().find(|layer| layer[0] == name).unwrap()[1].as_str().unwrap().to_owned()
}

#[test]
fn the_lock_has_every_package_of_image_and_tools_and_all_users() {
    let lock: toml::Table = lock_text(&mini().space).parse().unwrap();
    assert_eq!(lock["format"].as_integer(), Some(1));
    let epoch = lock["epoch"].as_integer().unwrap();
    assert!(epoch > 1_700_000_000 && epoch % 86_400 == 0, "{epoch} is not a start of a day");
    for pass in lock["pass"].as_array().unwrap() {
        for package in pass["packages"].as_array().unwrap() {
            for key in ["name", "version", "arch", "sha256", "origin", "file"] {
                assert!(!package[key].as_str().unwrap().is_empty(), "{package}");
            }
            assert!(package["size"].as_integer().unwrap() > 0);
        }
    }
    let names: Vec<&str> = lock["pass"].as_array().unwrap().iter().map(|pass| pass["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["tools", "base", "packages-1", "kernel"]);
    let sshd = lock["users"].as_array().unwrap().iter().find(|user| user["name"].as_str() == Some("sshd")).unwrap();
    assert_eq!(sshd["package"].as_str(), Some("openssh-server"));
    assert_eq!(sshd["uid"].as_integer().unwrap().to_string(), uid(&mini().space, "sshd"));
    // A lock that lacks them is not good enough for a pipeline.
    let space = copy();
    space.run(&["build", "--locked"]).good();
    let text = lock_text(&space);
    let start = text.find("users = [").unwrap();
    let end = text[start..].find("]\n").unwrap() + start + 2;
    space.write("image.lock", &format!("{}{}", &text[..start], &text[end..]));
    let ran = space.run(&["build", "--locked"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("sshd") && ran.err.contains("without --locked"), "{}", ran.err);
    space.run(&["build"]).good();
    assert_eq!(lock_text(&space), text);
}

#[test]
fn what_apt_made_of_the_indices_is_kept_and_a_damaged_one_is_made_again() {
    let space = fresh();
    let vendored = vendored();
    let resolve = || {
        let _ = std::fs::remove_file(space.path().join("image.lock"));
        space.run(&["build", "--until", "rootfs", "--vendor", vendored.to_str().unwrap()]).good();
        lock_text(&space)
    };
    let first = resolve();
    let solving = space.store().join("v1/solving");
    let kept = || {
        let found: Vec<_> = std::fs::read_dir(&solving).unwrap().map(|entry| entry.unwrap().path()).collect();
        let found: Vec<_> = found.into_iter().filter(|path| path.is_dir()).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    };
    // What apt answered to each question is kept beside it.
    let answers = || -> std::collections::BTreeMap<_, _> {
        let found = std::fs::read_dir(&solving).unwrap().map(|entry| entry.unwrap().path());
        found.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    };
    let asked_anew = || {
        for path in answers().into_keys() {
            std::fs::remove_file(path).unwrap();
        }
        resolve()
    };
    let cache = kept().join("srcpkgcache.bin");
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&cache).unwrap());
    let (made, bytes) = (inode(), std::fs::read(&cache).unwrap());
    assert_eq!(asked_anew(), first);
    assert_eq!(inode(), made, "it was not used again");
    // Other bytes at the same place, size and time: apt would take them.
    let mut other = bytes.clone();
    let middle = other.len() / 2;
    other[middle..middle + 4096].iter_mut().for_each(|byte| *byte ^= 1);
    let modified = std::fs::metadata(&cache).unwrap().modified().unwrap();
    std::fs::write(&cache, &other).unwrap();
    std::fs::File::options().write(true).open(&cache).unwrap().set_modified(modified).unwrap();
    let told = answers();
    assert!(!told.is_empty());
    assert_eq!(resolve(), first);
    assert_eq!(std::fs::read(&cache).unwrap(), other, "nothing was to be asked");
    // A damaged answer is none.
    for (path, answer) in &told {
        std::fs::write(path, [answer.as_slice(), b"Inst more (1 site [all])\n"].concat()).unwrap();
    }
    assert_eq!(resolve(), first);
    assert_eq!(answers(), told);
    assert_ne!(std::fs::read(&cache).unwrap(), other, "the damaged one is still there");
    // A killed process leaves no half of one under its name; one without its digests is none.
    std::fs::remove_file(kept().join("sums")).unwrap();
    assert_eq!(asked_anew(), first);
    assert!(kept().join("sums").is_file());
    space.run(&["store", "verify"]).good();
    space.run(&["gc", "--max-size", "1"]).good();
    assert_eq!(std::fs::read_dir(&solving).unwrap().count(), 0);
}

#[test]
fn network_a_package_more_moves_no_users_number_and_taking_it_away_gives_the_first_bytes() {
    let space = copy();
    space.run(&["build", "--locked"]).good();
    let (before, lock) = (uid(&space, "sshd"), lock_text(&space));
    let first = std::fs::read(space.artefact("mini", "rootimg.cpio.zst")).unwrap();
    // dbus makes a user before openssh-server does.
    space.edit("image.toml", "\"openssh-server\"", "\"openssh-server\", \"dbus\"");
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("the user `sshd` of `openssh-server` would move"), "{}", ran.err);
    assert!(ran.err.contains("image.lock keeps the earlier ids"), "{}", ran.err);
    assert_eq!(uid(&space, "sshd"), before);
    assert!(uid(&space, "messagebus").parse::<u32>().is_ok());
    assert!(lock_text(&space).contains("fixed = true"));
    assert_eq!(space.to_do(), Vec::<String>::new());
    // Nothing is resolved or installed again where the lock is as it is now.
    let ran = space.run(&["build", "--locked"]).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);
    space.edit("image.toml", ", \"dbus\"", "");
    space.run(&["build"]).good();
    assert_eq!(without_releases(&lock_text(&space)), without_releases(&lock));
    assert!(std::fs::read(space.artefact("mini", "rootimg.cpio.zst")).unwrap() == first);
}

#[test]
fn a_recipe_fixes_numbers_before_any_package() {
    let space = copy();
    let text = "[users]\nsshd = { uid = 777, gid = 65534, home = \"/run/sshd\" }\nslurm = { uid = 901 }\n\n[groups]\n_ssh = 902\n\n[exclude]";
    space.edit("image.toml", "[exclude]", text);
    let ran = space.run(&["build", "--locked"]);
    assert_eq!(ran.code, 1, "the lock says otherwise: {}", ran.err);
    space.run(&["build"]).good();
    assert_eq!((uid(&space, "sshd").as_str(), uid(&space, "slurm").as_str()), ("777", "901"));
    let shown = space.run(&[
        "shell",
        "--",
        "sh",
        "-c",
        "getent group _ssh slurm; getent shadow slurm; stat -c %g /usr/bin/ssh-agent",
    ]);
    assert_eq!(shown.out, "_ssh:x:902:\nslurm:x:901:\nslurm:!*:1::::::\n902\n", "{}", shown.err);
    space.edit("image.toml", "_ssh = 902", "slurm = 901\nother = 901");
    let ran = space.run(&["check"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("have the same gid 901") && ran.err.contains("image.toml:"), "{}", ran.err);
}

#[test]
fn network_updating_one_package_changes_no_byte_of_kernel_initrd_or_synced_files() {
    // Without the security suite the lock has older versions of some packages.
    let space = copy();
    let host = packages::apt::HostSources::read(std::path::Path::new("/etc/apt"));
    let image = serde_json::json!({ "name": "tiny", "distro": "debian", "release": "bookworm" });
    let image = serde_json::from_value(image).unwrap();
    let sources = packages::apt::sources_for(&image, &host, None).unwrap();
    let main = sources.iter().find(|source| source.suites.iter().any(|suite| suite == "bookworm")).unwrap();
    let repo =
        format!("[[repo]]\nuri = \"{}\"\nsuites = [\"bookworm\"]\ncomponents = [\"main\"]\n\n[exclude]", main.uri);
    space.edit("image.toml", "[exclude]", &repo);
    std::fs::remove_file(space.path().join("image.lock")).unwrap();
    space.run(&["build"]).good();
    let old = lock_text(&space);
    let (kernel, initrd) = (
        std::fs::read(space.artefact("mini", "kernel")).unwrap(),
        std::fs::read(space.artefact("mini", "initrd-stateless")).unwrap(),
    );
    let sync = layer(&space, "rootfs/sync");
    space.edit("image.toml", &repo, "[exclude]");
    // Something that the security suite has a newer version of, and that makes no kernel.
    let probe = Space::new().with_store(&store());
    copy_locked(space.path(), probe.path());
    let all = probe.run(&["update"]).good();
    let newer: Vec<&str> =
        all.out.lines().filter(|line| line.contains(" -> ") && !line.starts_with("linux-")).collect();
    assert!(!newer.is_empty(), "the security suite has nothing newer: choose another pair of suites\n{}", all.out);
    let name = newer[0].split(' ').next().unwrap();
    let ran = space.run(&["update", "--package", name]).good();
    assert!(ran.out.lines().any(|line| line.starts_with(&format!("{name} ")) && line.contains(" -> ")), "{}", ran.out);
    assert!(ran.out.lines().count() <= newer.len(), "{}\n{}", ran.out, all.out);
    assert_ne!(lock_text(&space), old);
    let ran = space.run(&["build", "--locked"]).good();
    assert!(
        !ran.err.contains("initrd/stateless: started") && !ran.err.contains("kernel/payload: started"),
        "{}",
        ran.err
    );
    assert!(std::fs::read(space.artefact("mini", "kernel")).unwrap() == kernel);
    assert!(std::fs::read(space.artefact("mini", "initrd-stateless")).unwrap() == initrd);
    assert_eq!(layer(&space, "rootfs/sync"), sync);
    // What the lock does not have is told with near names, and nothing changes.
    let before = lock_text(&space);
    let ran = space.run(&["update", "--package", "openssh-sever"]);
    assert_eq!((ran.code, lock_text(&space) == before), (1, true), "{}", ran.err);
    assert!(ran.err.contains("openssh-sftp-server") && ran.err.contains("lock::no_package"), "{}", ran.err);
}

#[test]
fn an_update_without_news_says_so_and_the_epoch_moves_only_when_asked() {
    let space = fresh().with_store(&store());
    let vendored = vendored().to_str().unwrap();
    let lock = lock_text(&space);
    let ran = space.run(&["update", "--vendor", vendored]).good();
    assert_eq!((ran.out.as_str(), lock_text(&space) == lock), ("", true), "{}", ran.err);
    assert!(ran.err.contains("nothing in the image changed"), "{}", ran.err);
    let ran = space.run(&["update", "--epoch", "1700000000", "--vendor", vendored]).good();
    assert!(ran.out.contains("epoch ") && ran.out.contains(" -> 1700000000"), "{}", ran.out);
    assert_eq!(space.run(&["update", "--epoch", "99999999999"]).code, 64);
    space.run(&["build", "--locked", "--vendor", vendored]).good();
    let info = std::fs::read_to_string(space.artefact("tiny", "build.json")).unwrap();
    assert!(info.contains("\"epoch\": 1700000000"));
}

#[test]
fn a_second_build_beside_names_the_file_that_differs() {
    let space = fresh().with_store(&store());
    let vendored = vendored().to_str().unwrap();
    let ran = space.run(&["build", "--verify", "--locked", "--vendor", vendored]).good();
    assert!(ran.err.contains("a second build in an empty store gave the same bytes"), "{}", ran.err);
    assert_same(&super::tiny().space, &space, "tiny");
    space.edit("tiny.postinstall", "set -e\n", "set -e\ncat /proc/sys/kernel/random/uuid >\"$1/etc/built\"\n");
    let ran = space.run(&["build", "--verify", "--locked", "--vendor", vendored]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    let said = "rootfs/postinstall is not reproducible: `etc/built` has different content (37 bytes, then 37)";
    assert!(ran.err.contains(said), "{}", ran.err);
    // It is not forgotten, and nothing is left of the second build.
    let plan = space.run(&["plan"]).good().out;
    assert!(plan.contains("not reproducible: rootfs/postinstall: `etc/built` has different content"), "{plan}");
    space.run(&["build", "--locked"]).good();
    let info = std::fs::read_to_string(space.artefact("tiny", "build.json")).unwrap();
    assert!(info.contains("\"rootfs/postinstall\"\n  ]"), "{info}");
    let left: Vec<_> = std::fs::read_dir(store()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_str().unwrap().contains("verify-")), "{left:?}");
}

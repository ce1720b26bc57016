//! One lock gives the same bytes everywhere: file systems, directories, clocks, users, locales, ways to assemble trees.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::offline::{assert_same, build, copied_to, fresh, run_through, vendored};
use super::tiny;
use crate::support::Space;

/// A file system of its own in a file or in memory; unmounted when dropped.
pub struct Mounted {
    pub path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Mounted {
    /// Mounts with words for mount(8); `make` prepares an image file first.
    pub fn new(make: Option<&str>, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let Some(make) = make else { return Self::at(directory, "none", options) };
        let image = directory.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(3 << 30).unwrap();
        let mut program = make.split(' ');
        let made = Command::new(program.next().unwrap()).args(program).arg(&image).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self::at(directory, image.to_str().unwrap(), options)
    }

    pub fn of(image: &str, options: &[&str]) -> Self {
        Self::at(tempfile::tempdir().unwrap(), image, options)
    }

    fn at(directory: tempfile::TempDir, source: &str, options: &[&str]) -> Self {
        let path = directory.path().join("mounted");
        std::fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount").args(options).arg(source).arg(&path).output().unwrap();
        assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
        Self { path, _directory: directory }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

#[test]
fn in_memory_with_one_job_and_copied_trees() {
    let memory = Mounted::new(None, &["-t", "tmpfs", "-o", "size=4g"]);
    let space = fresh().with_store(&memory.path.join("store"));
    let vendored = vendored().to_str().unwrap();
    let ran = space.run(&["-j1", "--assemble", "copy", "build", "--locked", "--vendor", vendored]).good();
    assert!(ran.err.contains("ran rootfs/tools, rootfs/base"), "{}", ran.err);
    assert_same(&tiny().space, &space, "tiny");
}

#[test]
fn on_another_file_system_400_days_later_with_another_umask_locale_zone_and_host_name() {
    let disk = Mounted::new(Some("mkfs.btrfs -q"), &["-t", "btrfs", "-o", "loop"]);
    let space = copied_to(Space::below(&disk.path)).with_store(&disk.path.join("store"));
    let script = "umask 077; hostname another-host; export LANG=tr_TR.UTF-8 LC_ALL=tr_TR.UTF-8 TZ=Pacific/Chatham HOME=/nowhere \
                  SOURCE_DATE_EPOCH=7 MALLOC_PERTURB_=99; exec faketime -f +400d \"$@\"";
    let vendored = vendored().to_str().unwrap();
    let words = ["unshare", "--uts", "sh", "-c", script, "sh"];
    run_through(&words, &space, &["-j2", "build", "--locked", "--vendor", vendored]).good();
    assert_same(&tiny().space, &space, "tiny");
    // The store is on the same file system, which can share blocks: the image takes next to nothing besides its frames.
    let (all, own) = shared(&space.artefact("tiny", "rootimg.cpio.zst"));
    assert!(own * 20 < all, "{own} of {all} bytes are the image's own");
    let (all, own) = shared(&space.artefact("tiny", "initrd-stateless"));
    assert!(own == 0 && all > 1_000_000, "{own} of {all} bytes are the initrd's own");
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    for (archive, name) in [("squashfs", "rootimg.sfs"), ("erofs", "rootimg.erofs")] {
        space.write("image.toml", &format!("{recipe}\n[pack]\narchive = \"{archive}\"\n"));
        build(&space).good();
        let (all, own) = shared(&space.artefact("tiny", name));
        assert!(own * 10 < all, "{name}: {own} of {all} bytes are the image's own");
    }
}

/// Bytes of a file on btrfs, and those of them that no other file shares.
fn shared(file: &Path) -> (u64, u64) {
    let ran = Command::new("btrfs").args(["filesystem", "du", "--raw", "-s"]).arg(file).output().unwrap();
    let text = String::from_utf8(ran.stdout).unwrap();
    let numbers: Vec<u64> = text.lines().last().unwrap().split_whitespace().map_while(|one| one.parse().ok()).collect();
    let [all, own, ..] = numbers[..] else { panic!("{text}{}", String::from_utf8_lossy(&ran.stderr)) };
    (all, own)
}

/// An ordinary user with subordinate ids, made for the test and removed again.
pub struct Ordinary {
    pub name: String,
    pub home: PathBuf,
}

impl Ordinary {
    /// Makes a user whose range of ids starts at a number; none: it has no range.
    pub fn new(name: &str, range: Option<u32>) -> Self {
        let user = Self { name: name.to_owned(), home: PathBuf::from(format!("/var/tmp/imgbuild-test-{name}")) };
        user.remove();
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().unwrap();
            assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        };
        let home = user.home.to_str().unwrap();
        run("useradd", &["--no-log-init", "--create-home", "--home-dir", home, "--shell", "/bin/sh", name]);
        // useradd may give a range by itself.
        for file in ["/etc/subuid", "/etc/subgid"] {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let others: String = text
                .lines()
                .filter(|line| !line.starts_with(&format!("{name}:")))
                .map(|line| format!("{line}\n"))
                .collect();
            let own = range.map_or(String::new(), |start| format!("{name}:{start}:65536\n"));
            std::fs::write(file, others + &own).unwrap();
        }
        user
    }

    fn remove(&self) {
        let _ = Command::new("userdel").arg("--force").arg(&self.name).output();
        let _ = std::fs::remove_dir_all(&self.home);
    }

    /// A directory of the user's with a copy of a space's recipe, and the program under test.
    pub fn copy(&self, space: &Space) -> PathBuf {
        let recipe = self.home.join("recipe");
        crate::support::copy_locked(space.path(), &recipe);
        std::fs::copy(env!("CARGO_BIN_EXE_imgbuild"), self.home.join("imgbuild")).unwrap();
        let owned =
            Command::new("chown").arg("-R").arg(format!("{0}:{0}", self.name)).arg(&self.home).status().unwrap();
        assert!(owned.success());
        recipe
    }

    /// Runs the copied program as the user, with words in front of it.
    pub fn run(&self, prefix: &[&str], recipe: &Path, arguments: &[&str]) -> crate::support::Ran {
        let mut command = Command::new("setpriv");
        let words = ["--reuid", &self.name, "--regid", &self.name, "--init-groups", "--reset-env"];
        command.args(words).args(["env", "NO_COLOR=1"]).args(prefix).arg(self.home.join("imgbuild"));
        command.arg("-C").arg(recipe).arg("--store").arg(self.home.join("store")).args(arguments);
        command.current_dir(&self.home).output().unwrap().into()
    }
}

impl Drop for Ordinary {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A copy of the vendored packages that everybody may read, wherever this project lies.
pub fn readable_packages(home: &Path) -> PathBuf {
    let to = home.join("vendored");
    crate::support::copy_tree(vendored(), &to);
    to
}

#[test]
fn an_ordinary_user_does_all_that_root_does_and_gets_the_same_bytes() {
    let user = Ordinary::new("imgbuild-u1", Some(300_000_000));
    let packages = readable_packages(&user.home);
    let recipe = user.copy(&fresh());
    let packages = packages.to_str().unwrap();
    user.run(&[], &recipe, &["build", "--locked", "--vendor", packages]).good();
    for name in super::offline::SAME {
        let theirs = std::fs::read(recipe.join("out/tiny").join(name)).unwrap();
        assert!(theirs == std::fs::read(tiny().space.artefact("tiny", name)).unwrap(), "{name} differs");
    }
    let ran = user.run(&[], &recipe, &["shell", "--", "/bin/sh", "-c", "id -u; stat -c %u:%g /etc/shadow; touch /x"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "0\n0:42\n"), "{}", ran.err);
    let ran = user.run(&[], &recipe, &["plan", "--thorough", "--detailed-exitcode"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let ran = user.run(&[], &recipe, &["gc"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = user.run(&[], &recipe, &["boot", "--until", "NODE IS UP", "--timeout", "240"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    // Nothing of the user's is left that the user cannot remove through imgbuild: the store is all the user's own.
    let ran = user.run(&[], &recipe, &["build", "--locked", "--vendor", packages]).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);
}

#[test]
fn what_an_ordinary_user_lacks_is_said_with_its_remedy() {
    let user = Ordinary::new("imgbuild-u2", None);
    let recipe = user.copy(&fresh());
    let ran = user.run(&[], &recipe, &["build", "--locked"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("usermod --add-subuids") && ran.err.contains("imgbuild-u2"), "{}", ran.err);
    let user = Ordinary::new("imgbuild-u3", Some(400_000_000));
    let recipe = user.copy(&fresh());
    let ran = user.run(&["PATH=/nowhere"], &recipe, &["build", "--locked"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("newuidmap") && ran.err.contains("uidmap"), "{}", ran.err);
}

/// Runs the program as root of a user namespace with an id map, where a command was run before.
fn in_user_namespace(map: &str, before: &str, space: &Space, arguments: &[&str]) -> crate::support::Ran {
    let directory = tempfile::tempdir().unwrap();
    // A program that starts before there is a map has no capabilities: so another one is started after it.
    let (inside, after) = (directory.path().join("inside"), directory.path().join("after"));
    std::fs::write(
        &inside,
        format!("while ! grep -q . /proc/self/gid_map; do sleep 0.01; done; exec sh {} \"$@\"\n", after.display()),
    )
    .unwrap();
    std::fs::write(&after, format!("{before}\nexec \"$@\"\n")).unwrap();
    let script = format!(
        "unshare --user sh {} \"$@\" & child=$!\n\
         while test \"$(readlink /proc/$child/ns/user)\" = \"$(readlink /proc/self/ns/user)\"; do sleep 0.01; done\n\
         echo '{map}' >/proc/$child/uid_map; echo '{map}' >/proc/$child/gid_map; wait $child",
        inside.display()
    );
    run_through(&["sh", "-c", &script, "sh"], space, arguments)
}

#[test]
fn no_user_namespaces_is_said_with_the_settings_to_look_at() {
    let before = "echo 0 >/proc/sys/user/max_user_namespaces";
    let ran = in_user_namespace("0 0 4294967295", before, &fresh(), &["build", "--locked"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("max_user_namespaces"), "{}", ran.err);
}

#[test]
fn a_container_with_few_ids_is_told_which_range_it_lacks() {
    let ran = in_user_namespace("0 0 65536", "true", &fresh(), &["build", "--locked"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("do not exist here") && ran.err.contains("/etc/subuid"), "{}", ran.err);
}

#[test]
fn a_store_that_cannot_hold_images_is_refused_with_what_it_lacks() {
    let place = Mounted::new(None, &["-t", "tmpfs", "-o", "size=64m,noexec"]);
    let space = fresh().with_store(&place.path.join("store"));
    let ran = build(&space);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("noexec") && ran.err.contains("--store"), "{}", ran.err);
}

//! Full disks, interrupted builds, and two builds at once in one store.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::private_archive::{Archive, Deb, Deed, Mirror, copy, copy_from, nothing_is_left};
use super::{store, tiny};
use crate::support::{Ran, Space, imgbuild};

/// A file system in memory, unmounted at the end.
struct Disk(tempfile::TempDir);

impl Disk {
    fn of(mebibytes: u64) -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        let options = format!("size={mebibytes}m,mode=755");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "imgbuild-test"]).arg(disk.path()).status();
        assert!(mounted.unwrap().success(), "this test mounts a file system: run it as root");
        disk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn resize(&self, mebibytes: u64) {
        let options = format!("remount,size={mebibytes}m");
        assert!(Command::new("mount").args(["-o", &options]).arg(self.path()).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).output();
    }
}

/// A small store of its own with the packages of the shared one, and a recipe locked for it.
fn seeded(at: &Path) -> Space {
    let lock = recipe::Lock::parse(&std::fs::read_to_string(tiny().space.path().join("image.lock")).unwrap());
    for package in lock.unwrap().pass.iter().flat_map(|pass| &pass.packages) {
        let hex = package.sha256.to_string();
        let to = at.join("store/v1/packages").join(&hex[..2]);
        std::fs::create_dir_all(&to).unwrap();
        std::fs::copy(store().join("v1/packages").join(&hex[..2]).join(&hex), to.join(&hex)).unwrap();
    }
    copy().with_store(&at.join("store"))
}

#[test]
fn a_full_disk_is_named_in_each_stage_and_room_is_all_that_is_missing() {
    let disk = Disk::of(4096);
    let space = seeded(disk.path());
    let used = || -> u64 {
        let stat = rustix::fs::statvfs(disk.path()).unwrap();
        ((stat.f_blocks - stat.f_bfree) * stat.f_frsize) >> 20
    };
    let packages = used();
    let mut places = std::collections::BTreeSet::new();
    // Room for less than the tools, the base, the kernel and the archive take, one after another.
    for more in [1, 60, 250, 420, 560, 620, 650] {
        disk.resize(packages + more);
        let ran = space.run(&["build", "--locked", "--progress", "plain"]);
        if ran.code == 0 {
            break;
        }
        assert_eq!(ran.code, 3, "{more} MiB more: {}", ran.err);
        // Paths are folded where they are too long for a line.
        let said: String = ran.err.split_whitespace().filter(|word| *word != "│").collect();
        assert!(said.to_lowercase().contains("nospaceleft"), "{}", ran.err);
        assert!(said.contains(disk.path().to_str().unwrap()), "{}", ran.err);
        let started = ran.err.lines().filter(|line| line.ends_with(": started"));
        places.insert(started.map(str::to_owned).collect::<Vec<_>>());
        nothing_is_left(&space.store());
    }
    assert!(places.len() >= 3, "the disk was full in too few places: {places:?}");
    disk.resize(4096);
    space.run(&["build", "--locked"]).good();
    assert_eq!(space.to_do(), Vec::<String>::new());
}

#[test]
fn a_full_output_directory_leaves_what_was_published() {
    let space = copy();
    let disk = Disk::of(1024);
    let out = disk.path().join("out");
    let out = out.to_str().unwrap();
    space.run(&["build", "--out", out]).good();
    let sums = std::fs::read(disk.path().join("out/tiny/SHA256SUMS")).unwrap();
    space.edit("tiny.postinstall", "set -e\n", "set -e\necho changed >$1/etc/changed\n");
    let stat = rustix::fs::statvfs(disk.path()).unwrap();
    disk.resize((((stat.f_blocks - stat.f_bfree) * stat.f_frsize) >> 20) + 2);
    let ran = space.run(&["build", "--out", out]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("no space left while imgbuild tried to write"), "{}", ran.err);
    assert!(ran.err.contains("the previous artefacts are unchanged"), "{}", ran.err);
    assert_eq!(sums, std::fs::read(disk.path().join("out/tiny/SHA256SUMS")).unwrap());
    let left = std::fs::read_dir(disk.path().join("out/.builds/tiny")).unwrap().flatten();
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(".new-")));
    disk.resize(1024);
    space.run(&["build", "--out", out]).good();
    assert_ne!(sums, std::fs::read(disk.path().join("out/tiny/SHA256SUMS")).unwrap());
}

/// A build in a process group of its own, read until a line tells that it is where it is to be.
fn start(space: &Space, until: &str) -> (Child, BufReader<std::process::ChildStderr>, String) {
    let mut command = imgbuild();
    command.arg("-C").arg(space.path()).arg("--store").arg(space.store());
    command.args(["-vv", "build", "--progress", "plain"]).process_group(0).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains(until) {
        assert!(lines.read_line(&mut said).unwrap() > 0, "`{until}` did not come: {said}");
    }
    (child, lines, said)
}

/// What a process started, and what that started.
fn descendants(of: u32) -> Vec<u32> {
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let rest = stat.rsplit(')').next().unwrap_or_default().to_owned();
        parents.insert(pid, rest.split_whitespace().nth(1).and_then(|word| word.parse::<u32>().ok()).unwrap_or(0));
    }
    let mut found = vec![of];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, of)| **of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found[1..].to_vec()
}

/// Whether a process runs: a zombie that nobody has waited for yet does not.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|state| state != "Z")
}

/// Waits until a build is where it is to be, sends a signal to its process group, and looks at what is left.
#[track_caller]
fn interrupt(space: &Space, until: &str, signal: &str, code: i32) {
    let (mut child, mut lines, mut said) = start(space, until);
    // Scripts get time to start what they start; packing may be over soon.
    std::thread::sleep(Duration::from_millis(if until == "packing" { 20 } else { 700 }));
    let below = descendants(child.id());
    assert!(below.len() >= 2, "{until}: {below:?}");
    let began = Instant::now();
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args([signal, "--", &group]).status().unwrap().success());
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(code), None), "{until}");
    assert!(began.elapsed() < Duration::from_secs(15), "{until}: {:?}", began.elapsed());
    // The kernel takes its time with namespaces and mounts on a loaded machine.
    while below.iter().any(|pid| runs(*pid)) {
        assert!(began.elapsed() < Duration::from_secs(60), "{until}: {below:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    while lines.read_line(&mut said).unwrap() > 0 {}
    assert!(said.contains("interrupted: nothing was published"), "{said}");
    assert!(said.contains("run the same command to continue"), "{said}");
}

#[test]
fn network_an_interrupted_build_ends_at_once_leaves_nothing_running_and_is_taken_up_again() {
    let space = copy();
    let sums = std::fs::read(space.artefact("tiny", "SHA256SUMS")).unwrap();
    let sleeps = "(while :; do sleep 1; done) & sleep 120";
    Deb::new("site-sleeps").script("postinst", sleeps).write(&space.path().join("otherpkgs"));
    space.write("o.pkglist", "site-sleeps\n");
    space.edit("image.toml", "[kernel]", "[otherpkgs]\ndir = \"otherpkgs\"\nlists = [\"o.pkglist\"]\n\n[kernel]");
    interrupt(&space, "installing 1 package", "-INT", 130);
    Deb::new("site-sleeps").write(&space.path().join("otherpkgs"));
    space.edit("tiny.postinstall", "set -e\n", &format!("set -e\n{sleeps}\n"));
    interrupt(&space, "running the postinstall script", "-TERM", 143);
    // New content of some size, so that packing takes its time.
    let large = "set -e\nhead -c 300000000 /dev/urandom >$1/opt/large\n";
    space.edit("tiny.postinstall", &format!("set -e\n{sleeps}\n"), large);
    interrupt(&space, "packing", "-INT", 130);
    assert_eq!(sums, std::fs::read(space.artefact("tiny", "SHA256SUMS")).unwrap());
    space.edit("tiny.postinstall", large, "set -e\n");
    space.run(&["build"]).good();
    assert_ne!(sums, std::fs::read(space.artefact("tiny", "SHA256SUMS")).unwrap());
    nothing_is_left(&space.store());
}

#[test]
fn an_interrupted_download_is_taken_up_again() {
    let mut archive = Archive::of_tiny();
    let names = ["site-slow-1", "site-slow-2"];
    names.iter().for_each(|name| archive.add(&Deb::new(name)));
    let mirror = Mirror::start();
    mirror.publish(&archive);
    let space = copy_from(&mirror, &names);
    mirror.misbehave("site-slow-2_1.0_all.deb", Deed::Stall);
    let lock = std::fs::read(space.path().join("image.lock")).unwrap();
    let (mut child, ..) = start(&space, "downloading packages: 1 of 2");
    assert!(Command::new("kill").args(["-INT", "--", &format!("-{}", child.id())]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(lock, std::fs::read(space.path().join("image.lock")).unwrap());
    mirror.rule(|_, _| Deed::Serve);
    // What is left of the download is nobody's after a while; the next build removes it.
    std::thread::sleep(Duration::from_secs(6));
    space.run(&["build", "--until", "kernel"]).good();
    nothing_is_left(&space.store());
    let seen: Vec<_> = mirror.seen().into_iter().filter(|seen| seen.path.contains("site-slow")).collect();
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[test]
fn two_builds_at_once_in_one_store_share_their_work() {
    // Two spaces with the same recipe, and a third with another postinstall.
    let spaces = [copy(), copy(), copy()];
    let unique = format!("set -e\n: {} {}\n", std::process::id(), spaces[0].path().display());
    for space in &spaces {
        space.edit("tiny.postinstall", "set -e\n", &unique);
    }
    spaces[2].edit("tiny.postinstall", "set -e\n", "set -e\necho third >$1/etc/third\n");
    let ran: Vec<Ran> = std::thread::scope(|scope| {
        let all: Vec<_> =
            spaces.iter().map(|space| scope.spawn(|| space.run(&["build", "--progress", "plain"]).good())).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let sums = |space: &Space| std::fs::read(space.artefact("tiny", "SHA256SUMS")).unwrap();
    assert_eq!(sums(&spaces[0]), sums(&spaces[1]));
    assert_ne!(sums(&spaces[0]), sums(&spaces[2]));
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for line in ran[..2].iter().flat_map(|ran| ran.err.lines()).filter(|line| line.ends_with(": started")) {
        *times.entry(line).or_default() += 1;
    }
    assert!(times.contains_key("rootfs/postinstall: started"), "{times:?}");
    assert!(times.values().all(|count| *count == 1), "{times:?}");
    assert!(ran[2].err.contains("rootfs/postinstall: started"), "{}", ran[2].err);
    nothing_is_left(&store());
}

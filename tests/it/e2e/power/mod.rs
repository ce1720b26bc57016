//! The power goes while an image is built and published, while nodes are told what they boot, and while the store is cleaned: what was
//! published is whole, the store is good, and the next build gives what a clean one gives.
//!
//! One run on a disk whose writes are noted ([`disk`]); then the disk is made as it is after a cut at each of many moments, mounted,
//! and looked at. 60 cuts of each file system with `IMGBUILD_LONG_TESTS`, a few without. `IMGBUILD_POWER_SEED`: other moments.

mod disk;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::disk::{Chance, Disk, mounted, unmounted};
use super::offline::{SAME, vendored, warm};
use crate::support::Space;

const SIZE: u64 = 4 << 30;

/// The workspace, and the image in it, on a disk.
struct Site {
    workspace: Space,
    image: Space,
}

impl Site {
    fn on(files: &Path) -> Self {
        let store = files.join("store");
        let workspace = Space::kept(&files.join("site")).with_store(&store);
        let image = Space::kept(&files.join("site/images/tiny")).with_store(&store);
        Self { workspace, image }
    }

    fn build(&self) -> crate::support::Ran {
        let publish = format!("xcat:{}", self.workspace.path().join("rootimgdir").display());
        let vendored = vendored().to_str().unwrap();
        self.image.run(&["build", "--locked", "--vendor", vendored, "--publish", &publish])
    }

    fn nodeset(&self, words: &[&str]) -> crate::support::Ran {
        let out = self.workspace.path().join("tftpboot");
        let more = ["--out", out.to_str().unwrap(), "--url", "http://10.0.0.1"];
        self.workspace.run(&[&["nodeset"], words, &more].concat())
    }

    fn gc(&self) -> crate::support::Ran {
        self.workspace.run(&["gc", "--keep", "1"])
    }

    fn edit(&self) {
        self.image.write("site/motd", "after\n");
    }

    /// The files of a directory through its links, without what is the program's own.
    fn files(&self, below: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let folder = self.workspace.path().join(below);
        let walk = walkdir::WalkDir::new(&folder).follow_links(true).into_iter();
        let walk =
            walk.filter_entry(|entry| entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.'));
        let files = walk.flatten().filter(|entry| entry.file_type().is_file());
        files
            .map(|file| (file.path().strip_prefix(&folder).unwrap().into(), std::fs::read(file.path()).unwrap()))
            .collect()
    }
}

/// A node's site: the tiny image with a synced file, built on the disk, published, and booted by two nodes.
fn prepare(files: &Path) -> Site {
    let built = warm();
    std::fs::create_dir_all(files.join("site/images")).unwrap();
    let copied = Command::new("cp").arg("-a").arg(built.store()).arg(files.join("store")).status().unwrap();
    assert!(copied.success());
    let copied = Command::new("cp").arg("-a").arg(built.path()).arg(files.join("site/images/tiny")).status().unwrap();
    assert!(copied.success());
    let site = Site::on(files);
    std::fs::remove_dir_all(site.image.path().join(".store")).unwrap();
    let _ = std::fs::remove_dir_all(site.image.path().join("out"));
    site.image.write("site/motd", "before\n").write("a.synclist", "site/motd -> /etc/motd\n");
    site.image.edit("image.toml", "[exclude]", "[sync]\nlists = [\"a.synclist\"]\n\n[exclude]");
    site.workspace.write("imgbuild.toml", "images = [\"images/*\"]\n");
    site.workspace.write(
        "nodes.toml",
        "[node.\"cn[1-2]\"]\nimage = \"tiny\"\nloader = \"ipxe\"\nip = \"10.0.0.[11-12]\"\n\
         [node.cn1]\nmac = \"52:54:00:00:00:01\"\n[node.cn2]\nmac = \"52:54:00:00:00:02\"\n",
    );
    site.image.run(&["update", "--vendor", vendored().to_str().unwrap()]).good();
    site.build().good();
    site.nodeset(&["cn[1-2]", "tiny"]).good();
    site
}

/// What there is before and after a command, by the name of what it writes.
type States = BTreeMap<&'static str, [BTreeMap<PathBuf, Vec<u8>>; 2]>;

const PUBLISHED: &str = "images/tiny/out/tiny";
const XCAT: &str = "rootimgdir";
const LOADERS: &str = "tftpboot";

/// What each phase is cut in.
struct Phase {
    name: &'static str,
    events: Range<usize>,
}

/// Looks at the disk as it is after a cut.
fn look(files: &Path, states: &States, expected: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    let site = Site::on(files);
    let [before, after] = &states[PUBLISHED];
    let published = site.files(PUBLISHED);
    assert!(
        published == *before || published == *after,
        "{what}: what is published is neither the old build nor the new one: {:?}",
        published.keys()
    );
    // Each name has the old file or the new one.
    for below in [XCAT, LOADERS] {
        let [before, after] = &states[below];
        let now = site.files(below);
        for name in before.keys().filter(|name| after.contains_key(*name)) {
            let bytes = now.get(name).unwrap_or_else(|| panic!("{what}: {below} has no {}", name.display()));
            assert!(*bytes == before[name] || *bytes == after[name], "{what}: {below}/{} is not whole", name.display());
        }
    }
    let ran = site.workspace.run(&["store", "verify"]);
    assert_eq!(ran.code, 0, "{what}: {}{}", ran.out, ran.err);
    site.edit();
    let ran = site.build();
    assert_eq!(ran.code, 0, "{what}: {}", ran.err);
    let built = site.files(PUBLISHED);
    for name in SAME {
        assert!(built[Path::new(name)] == expected[Path::new(name)], "{what}: the next build's {name} differs");
    }
    site.nodeset(&["cn[1-2]", "tiny"]).good();
    site.gc().good();
    // What was put aside is removed beside the work.
    let left = || -> Vec<PathBuf> {
        let folders = ["scratch", "links", "handover", "aside"].map(|folder| files.join("store/v1").join(folder));
        let entries = folders.into_iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
        entries.map(|entry| entry.path()).collect()
    };
    let began = std::time::Instant::now();
    while !left().is_empty() {
        assert!(began.elapsed().as_secs() < 20, "{what}: {:?} is left", left());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn cuts(maker: &[&str]) {
    let place = tempfile::tempdir().unwrap();
    let disk = Disk::make(place.path(), SIZE, maker);
    let site = prepare(&disk.files());
    let mut states: States = [PUBLISHED, XCAT, LOADERS].map(|name| (name, [site.files(name), BTreeMap::new()])).into();
    site.edit();
    disk.note();
    let mut phases = Vec::new();
    let mut phase = |name, run: &dyn Fn() -> crate::support::Ran| {
        let began = disk.count();
        run().good();
        phases.push(Phase { name, events: began..disk.count() });
    };
    phase("build", &|| site.build());
    phase("nodeset", &|| site.nodeset(&["cn[1-2]", "tiny"]));
    phase("gc", &|| site.gc());
    for (name, state) in &mut states {
        state[1] = site.files(name);
    }
    let expected = site.files(PUBLISHED);
    disk.unmount();
    assert_ne!(expected, states[PUBLISHED][0]);
    let long = std::env::var_os("IMGBUILD_LONG_TESTS").is_some();
    let times = if long { 60 } else { 6 };
    let seed = std::env::var("IMGBUILD_POWER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let shown: Vec<String> = phases.iter().map(|phase| format!("{} {:?}", phase.name, phase.events)).collect();
    eprintln!("{}: seed {seed}, {times} cuts; {}; {} flushes", maker[0], shown.join(", "), disk.flushes());
    let mut chance = Chance(seed);
    let image = place.path().join("cut");
    // Where it was: the store knows recipes by their paths.
    let at = disk.files();
    let mut look_after = |moment: usize, lies: bool, what: &str| {
        disk.cut(moment, lies, &mut chance, &image);
        let looked = std::panic::catch_unwind(|| {
            mounted(&image, &at);
            look(&at, &states, &expected, what);
        });
        unmounted(&at);
        std::fs::remove_file(&image).unwrap();
        looked
    };
    let mut moments = Chance(seed);
    for number in 0..times {
        let phase = &phases[number % phases.len()];
        let length = (phase.events.end - phase.events.start + 1) as u64;
        let moment = phase.events.start + moments.below(length) as usize;
        let what = format!("{} of seed {seed}, cut {number}: {} after {moment}", maker[0], phase.name);
        if let Err(problem) = look_after(moment, false, &what) {
            std::panic::resume_unwind(problem);
        }
        eprintln!("{what}: whole");
    }
    // What a disk loses that lies is noticed.
    let all = phases.iter().map(|phase| phase.events.end).max().unwrap_or(0);
    assert!((0..12).any(|_| look_after(all, true, "a disk that lies").is_err()), "a disk that lies is not noticed");
}

#[test]
fn privileged_power_cuts_on_ext4_lose_nothing_that_was_published() {
    cuts(&["mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"]);
}

#[test]
fn privileged_power_cuts_on_btrfs_lose_nothing_that_was_published() {
    cuts(&["mkfs.btrfs", "-q", "-f", "--nodiscard"]);
}

//! Commands that write, where nothing can be written: files may have no bytes, or the disk is full. What was there is there whole,
//! nothing empty is there, and the same command does its work once there is room.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::nodes::nodeset::published;
use crate::support::{Ran, Space};

/// All below a directory but what no one misses: the store, locks that hold nothing, and folders that only these are in.
pub fn tree(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let walk = walkdir::WalkDir::new(directory).into_iter();
    let walk = walk.filter_entry(|entry| entry.file_name() != ".store").flatten();
    let is_lock = |path: &Path| path.file_name().is_some_and(|name| name == ".lock" || name == ".imgbuild.lock");
    let content = |path: &Path| match std::fs::read_link(path) {
        Ok(to) => to.into_os_string().into_encoded_bytes(),
        Err(_) => std::fs::read(path).unwrap_or_default(),
    };
    let all = walk.map(walkdir::DirEntry::into_path).filter(|path| !is_lock(path));
    let all = all.filter(|path| {
        path.is_symlink() || !path.is_dir() || path.read_dir().is_ok_and(|mut in_it| in_it.next().is_none())
    });
    all.map(|path| (path.strip_prefix(directory).unwrap().to_owned(), content(&path))).collect()
}

/// Runs a command of the space in a shell, after words that take its room.
fn without_room(space: &Space, before: &str, command: &[&str]) -> Ran {
    let script = format!("{before}exec \"$0\" \"$@\"");
    let ran = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_imgbuild"), "-C"])
        .arg(space.path())
        .arg("--store")
        .arg(space.store())
        .args(command)
        .envs([("NO_COLOR", "1"), ("COLUMNS", "100")])
        .output()
        .unwrap();
    ran.into()
}

/// A workspace with all that the commands want.
pub fn space() -> Space {
    let (space, _) = published();
    space
        .write("alone/image.toml", "[image]\nname = \"alone\"\nrelease = \"bookworm\"\n")
        .write("hosts", "10.0.0.1 cn900\n")
        .write("tftpboot/ipxe/node/cn001.ipxe", "of the site\n");
    space.run(&["store", "stats"]);
    space
}

const NODESET: [&str; 7] = ["nodeset", "cn[001-003]", "compute", "--url", "http://10.0.0.1", "--out", "tftpboot"];

/// Each verb that writes with a command of its own, what it makes or changes, and words for its directory.
pub fn verbs() -> Vec<Vec<&'static str>> {
    vec![
        vec!["convert", "alone/image.toml"],
        vec!["convert", "alone/image.toml", "--replace"],
        vec!["init", "images/new"],
        vec!["copy", "compute", "copied"],
        vec!["set", "compute", "image.release=trixie"],
        vec!["set", "cn001", "loader=grub"],
        vec!["cache", "key", "a.key"],
        vec!["cache", "key", "keys/deep/a.key"],
        vec!["install-xcat-names", "links/deep"],
        vec!["import", "nodes", "hosts", "--into", "imported"],
        NODESET.to_vec(),
        [&NODESET[..], &["--force"]].concat(),
    ]
}

/// Paths of the command that are the space's.
pub fn placed(space: &Space, command: &[&str]) -> Vec<String> {
    let below = |word: &&str| match *word {
        "a.key" | "keys/deep/a.key" | "hosts" | "imported" | "tftpboot" | "links/deep" => {
            space.path().join(word).display().to_string()
        }
        word if word.starts_with("alone/") => space.path().join(word).display().to_string(),
        word => word.to_owned(),
    };
    command.iter().map(below).collect()
}

#[test]
fn where_no_byte_can_be_written_nothing_is_changed() {
    for command in verbs() {
        let space = space();
        let words = placed(&space, &command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let before = tree(space.path());
        let ran = without_room(&space, "ulimit -f 0; ", &words);
        let is_refused = command.first() == Some(&"nodeset") && !command.contains(&"--force");
        assert!(ran.code == 3 || is_refused && ran.code != 0, "{command:?}: {} {} {}", ran.code, ran.out, ran.err);
        assert_eq!(tree(space.path()), before, "{command:?}");
        if !is_refused {
            space.run(&words).good();
            assert_ne!(tree(space.path()), before, "{command:?}");
        }
    }
}

/// In a mount namespace of its own, the space is copied to a small file system, which is then filled.
#[test]
fn on_a_full_disk_nothing_is_changed() {
    for command in verbs() {
        let space = space();
        let words = placed(&space, &command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let before = tree(space.path());
        let aside = tempfile::tempdir().unwrap();
        let script = "mount -t tmpfs -o size=2m none \"$ASIDE\" && cp -a \"$SPACE/.\" \"$ASIDE\" && mount --bind \"$ASIDE\" \"$SPACE\" \
            && { dd if=/dev/zero of=\"$ASIDE/.store/full\" bs=64k 2>/dev/null; dd if=/dev/zero of=\"$ASIDE/.store/full2\" bs=1 2>/dev/null; \
            cd \"$SPACE\"; \"$@\"; code=$?; rm -rf \"$OUT/seen\"; cp -a \"$SPACE/.\" \"$OUT/seen\"; exit $code; }";
        let out = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(space.store()).unwrap();
        let ran: Ran = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_imgbuild"), "-C"])
            .arg(space.path())
            .arg("--store")
            .arg(space.store())
            .args(&words)
            .env("ASIDE", aside.path())
            .env("SPACE", space.path())
            .env("OUT", out.path())
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
            .into();
        let seen = tree(&out.path().join("seen"));
        assert!(ran.code != 0 || seen != before, "{command:?}: {} {}", ran.out, ran.err);
        if ran.code != 0 {
            assert_eq!(seen, before, "{command:?}: {}", ran.err);
        }
    }
}

/// Killed anywhere while it takes the places of files of the site, each node boots its own file or all boot the new one, and the
/// next run ends as one that was never killed.
#[cfg(feature = "e2e")]
#[test]
fn a_killed_force_leaves_all_files_of_the_site_or_all_new_ones() {
    let forced = || {
        let space = space();
        for number in 1..=3 {
            space.write(&format!("tftpboot/ipxe/node/cn00{number}.ipxe"), &format!("of the site {number}\n"));
        }
        let words = placed(&space, &[&NODESET[..], &["--force"]].concat());
        (space, words)
    };
    let (clean, words) = forced();
    clean.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).good();
    let names = |space: &Space| tree(&space.path().join("tftpboot")).into_keys().collect::<Vec<_>>();
    for place in ["nodeset.written", "nodeset.announced", "nodeset.taking", "nodeset.linked", "nodeset.turned"] {
        let (space, words) = forced();
        let file = space.path().join("reached");
        let mut child = crate::support::imgbuild()
            .arg("-C")
            .arg(space.path())
            .args(&words)
            .env("IMGBUILD_FAULT", place)
            .env("IMGBUILD_FAULT_FILE", &file)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while !file.exists() {
            assert!(child.try_wait().unwrap().is_none(), "{place} was not reached");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_file(&file).unwrap();
        let is_own = |number: usize| {
            let path = space.path().join(format!("tftpboot/ipxe/node/cn00{number}.ipxe"));
            let text = std::fs::read_to_string(path).unwrap();
            text == format!("of the site {number}\n")
        };
        let own: Vec<bool> = (1..=3).map(is_own).collect();
        assert_eq!(own, [place != "nodeset.turned"; 3], "{place}");
        space.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).good();
        assert_eq!((1..=3).map(is_own).collect::<Vec<_>>(), [false; 3], "{place}");
        let generation = |names: Vec<PathBuf>| -> Vec<String> {
            let shown = |path: PathBuf| path.display().to_string().replace("/2/", "/1/");
            names.into_iter().map(shown).collect()
        };
        assert_eq!(generation(names(&space)), generation(names(&clean)), "{place}");
    }
}

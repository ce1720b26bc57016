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
    let locks = [".lock", ".imgbuild.lock", ".imgbuild-publish.lock"];
    let is_lock = |path: &Path| path.file_name().is_some_and(|name| locks.iter().any(|lock| name == *lock));
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
pub fn without_room(space: &Space, before: &str, command: &[&str]) -> Ran {
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
        .write("tftpboot/ipxe/node/cn001.ipxe", "of the site\n")
        .write("defs/all.stanza", "debian12-x86_64-netboot-x:\n    objtype=osimage\n    imagetype=linux\n    osarch=x86_64\n    osname=Linux\n    osvers=debian12\n    profile=x\n    provmethod=netboot\n");
    for name in ["kernel", "initrd-stateless.gz", "rootimg.cpio.gz", "rootimg.cpio.gz.index"] {
        space.write(&format!("boot/{name}"), &format!("made up: {name}\n"));
    }
    crate::planted_links::node(&space, "node");
    crate::oci::publish(&space.path().join("made"), &crate::oci::frames(b"ab"));
    for (words, name) in [
        (&["push", "oci-layout:./layout:a", "made-up", "--out", "./made"][..], "layout"),
        (&["export", "bundle", "compute", "--from", "./boot", "-o", "./of.tgz"], "of.tgz"),
    ] {
        run(&space, words).good();
        assert!(space.path().join(name).exists());
    }
    space.run(&["store", "stats"]);
    space
}

/// Runs a command of the space, whose paths are its.
fn run(space: &Space, command: &[&str]) -> Ran {
    space.run(&placed(space, command).iter().map(String::as_str).collect::<Vec<_>>())
}

const NODESET: [&str; 7] = ["nodeset", "cn[001-003]", "compute", "--url", "http://10.0.0.1", "--out", "./tftpboot"];

/// Each verb that writes outside of the store, and needs no build, with a command of its own. Paths that begin with `./` are the space's.
pub fn verbs() -> Vec<Vec<&'static str>> {
    vec![
        vec!["convert", "./alone/image.toml"],
        vec!["convert", "./alone/image.toml", "--replace"],
        vec!["init", "images/new"],
        vec!["copy", "compute", "copied"],
        vec!["set", "compute", "image.release=trixie"],
        vec!["set", "cn001", "loader=grub"],
        vec!["cache", "key", "./a.key"],
        vec!["cache", "key", "./keys/deep/a.key"],
        vec!["install-xcat-names", "./links/deep"],
        vec!["import", "nodes", "./hosts", "--into", "./imported"],
        vec!["import", "xcat", "./defs", "--into", "./imported"],
        vec!["import", "bundle", "./of.tgz", "--into", "./imported"],
        vec!["export", "bundle", "compute", "--from", "./boot", "-o", "./b.tgz"],
        vec!["capture", "./node", "--into", "./captured", "--name", "n"],
        vec!["push", "oci-layout:./pushed:a", "made-up", "--out", "./made"],
        vec!["push", "oci-layout:./layout:b", "made-up", "--out", "./made"],
        vec!["store", "save", "./saved"],
        NODESET.to_vec(),
        [&NODESET[..], &["--force"]].concat(),
    ]
}

/// Commands that are not among them, and why.
const OTHERS: [(&str, &str); 45] = [
    ("audit", "it prints"),
    ("boot", "it writes where a disk is named, as the node that it boots"),
    ("boot-entry", "it prints"),
    ("build", "e2e::no_room"),
    ("cache gc", "it removes"),
    ("cache stats", "it prints"),
    ("cache verify", "it prints, and removes: caches"),
    ("check", "it prints"),
    ("completions", "it prints"),
    ("delta", "it prints"),
    ("diff", "it prints"),
    ("explain", "it prints"),
    ("export nodes", "it prints"),
    ("export xcat", "it prints"),
    ("fetch", "what was downloaded is kept for the next run: fetch"),
    ("gc", "it removes"),
    ("graph", "it prints"),
    ("help", "it prints"),
    ("import confluent", "movein::what_is_written_is_written_whole_or_not_at_all"),
    ("import kiwi", "movein::what_is_written_is_written_whole_or_not_at_all"),
    ("import media", "what was copied whole is kept for the next run: ended"),
    ("import openchami", "movein::what_is_written_is_written_whole_or_not_at_all"),
    ("import warewulf", "movein::what_is_written_is_written_whole_or_not_at_all"),
    ("list", "it prints"),
    ("log", "it prints"),
    ("nodes", "it prints"),
    ("plan", "plans_are_written_whole_or_not_at_all"),
    ("provenance", "sbom::documents_are_written_whole_or_not_at_all"),
    ("publish", "e2e::no_room"),
    ("pull", "what was downloaded is kept for the next run: oci"),
    ("roll", "it writes in the state of the nodes and on nodes: e2e::roll"),
    ("sbom", "sbom::documents_are_written_whole_or_not_at_all"),
    ("schema", "it prints"),
    ("serve", "a_report_that_cannot_be_kept_changes_nothing"),
    ("shell", "it writes in the store"),
    ("show", "it prints"),
    ("size", "it prints"),
    ("store load", "it writes in the store"),
    ("store pin", "it writes in the store"),
    ("store stats", "it prints"),
    ("store verify", "it prints, and removes"),
    ("sync", "it writes on nodes: e2e::sync"),
    ("update", "e2e::no_room"),
    ("vendor", "e2e::no_room"),
    ("verify", "it prints"),
];

/// Words of a command, with paths that are the space's.
pub fn placed(space: &Space, command: &[&str]) -> Vec<String> {
    let root = format!("{}/", space.path().display());
    command.iter().map(|word| word.replace("./", &root)).collect()
}

#[test]
fn each_verb_is_among_those_that_write_or_says_why_not() {
    let root = imgbuild::help::command();
    let mut all = Vec::new();
    for one in root.get_subcommands().filter(|one| !one.is_hide_set()) {
        let below: Vec<_> =
            one.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help").collect();
        let below = below.iter().map(|more| format!("{} {}", one.get_name(), more.get_name()));
        all.extend(below.clone());
        if below.len() == 0 {
            all.push(one.get_name().to_owned());
        }
    }
    let rows: Vec<String> = verbs().iter().map(|words| format!("{} ", words.join(" "))).collect();
    let is_row = |name: &String| rows.iter().any(|row| row.starts_with(&format!("{name} ")));
    let other = |name: &String| OTHERS.iter().any(|(known, _)| known == name);
    let lacking: Vec<_> = all.iter().filter(|name| !is_row(name) && !other(name)).collect();
    assert!(lacking.is_empty(), "no test takes the room from {lacking:?}");
    let both: Vec<_> = all.iter().filter(|name| is_row(name) && other(name)).collect();
    let gone: Vec<_> =
        OTHERS.iter().filter(|(name, _)| *name != "help" && !all.iter().any(|one| one == name)).collect();
    assert!(both.is_empty() && gone.is_empty(), "{both:?} {gone:?}");
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

#[test]
fn plans_are_written_whole_or_not_at_all() {
    for command in [&["plan", "-o", "./p.plan"][..], &["plan", "--emit", "ninja", "-o", "./build.ninja"]] {
        let space = crate::support::cluster::cluster();
        let words = placed(&space, command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let before = tree(space.path());
        let ran = without_room(&space, "ulimit -f 0; ", &words);
        assert_eq!(ran.code, 3, "{command:?}: {} {}", ran.out, ran.err);
        assert_eq!(tree(space.path()), before, "{command:?}");
        space.run(&words).good();
        assert_ne!(tree(space.path()), before, "{command:?}");
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
        let script = "mount -t tmpfs -o size=6m none \"$ASIDE\" && cp -a \"$SPACE/.\" \"$ASIDE\" && mount --bind \"$ASIDE\" \"$SPACE\" \
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

/// What a node reports is kept whole, with its keys, or nothing of what was known of it is changed.
#[test]
fn a_report_that_cannot_be_kept_changes_nothing() {
    use crate::support::server::{Running, site, started};
    let space = Space::new();
    site(&space);
    let serve = |before: &str| {
        let mut command = Command::new("sh");
        let script = format!("{before}exec \"$0\" serve --listen 127.0.0.1:0");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_imgbuild")]).current_dir(space.path());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        started(command)
    };
    let said = |server: &Running, state: &str, keys: &str| {
        let token = nodes::State::at(space.path().join(".imgbuild/nodes")).tokens().unwrap().of("cn1");
        let keys: String = keys.bytes().map(|byte| format!("%{byte:02X}")).collect();
        server.get(&format!("/-/report/cn1/{token}?state={state}&host_keys={keys}"), "").0
    };
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEoNXlh/Gz8i0sz/YqU4GFLKauvK6uUwfX2IaF60/DNV";
    let state = space.path().join(".imgbuild/nodes");
    let answer = said(&serve(""), "up", key);
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    let before = tree(&state);
    assert!(before.contains_key(Path::new("keys/cn1.json")) && before.contains_key(Path::new("reports/cn1.json")));
    let server = serve("ulimit -f 0; ");
    // The last one forgets keys, where it is kept.
    for (report, keys) in [("up", ""), ("up", key), ("failed", ""), ("booting", "")] {
        let answer = said(&server, report, keys);
        assert!(answer.starts_with("http/1.1 500"), "{report}: {answer}");
        assert_eq!(tree(&state), before, "{report}");
    }
    drop(server);
    let answer = said(&serve(""), "booting", "");
    assert!(answer.starts_with("http/1.1 200") && !tree(&state).contains_key(Path::new("keys/cn1.json")), "{answer}");
}

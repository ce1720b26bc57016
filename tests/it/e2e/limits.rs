//! Too little of everything: threads, stack, memory, room; names that no text holds; logs without end; packages that are cut off.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::offline::{build, fresh, run_through, vendored, warm};
use super::same_bytes::{Mounted, Ordinary, readable_packages};
use crate::support::Space;

#[test]
fn what_cannot_be_started_ends_a_build_with_its_remedy_and_nobody_waits() {
    let user = Ordinary::new("imgbuild-u8", Some(800_000_000));
    let vendor = readable_packages(&user.home);
    let recipe = user.copy(&fresh());
    let mut refused = 0;
    for most in ["6", "10", "14", "19", "25"] {
        let script = format!("ulimit -u {most}; exec timeout -k 5 100 \"$@\"");
        let ran = user.run(
            &["bash", "-c", &script, "bash"],
            &recipe,
            &["-j2", "build", "--locked", "--vendor", vendor.to_str().unwrap()],
        );
        assert!([0, 3].contains(&ran.code), "{most}: {} {}", ran.code, ran.err);
        if ran.code == 3 {
            refused += 1;
            assert!(ran.err.contains("ulimit -u") && !ran.err.contains("panicked"), "{most}: {}", ran.err);
        }
    }
    assert!(refused >= 2, "{refused}");
    let ran = user.run(&[], &recipe, &["build", "--locked", "--vendor", vendor.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn a_small_stack_and_little_memory_are_errors() {
    let space = fresh();
    let with = |limit: &str, arguments: &[&str]| {
        let script = format!("{limit}; exec \"$@\"");
        run_through(&["bash", "-c", &script, "bash"], &space, arguments)
    };
    let ran = with("ulimit -s 64", &["check"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("ulimit -s 8192"), "{}", ran.err);
    let vendored = vendored().to_str().unwrap();
    // The program of the tests is not optimised: its own code takes more than what it does.
    let starts = |kilobytes: &u32| with(&format!("ulimit -v {kilobytes}"), &["--version"]).code == 0;
    let least = (50_000..400_000).step_by(2_000).find(starts).expect("400 MB are enough to start");
    for kilobytes in [20_000, 50_000, 90_000].map(|more| least + more) {
        let ran = with(&format!("ulimit -v {kilobytes}"), &["-j1", "build", "--locked", "--vendor", vendored]);
        let known = ["out of memory", "another thread or process", "Cannot allocate memory"];
        assert!(ran.code == 0 || known.iter().any(|words| ran.err.contains(words)), "{kilobytes}: {}", ran.err);
        assert!([0, 3, 4].contains(&ran.code), "{kilobytes}: {} {}", ran.code, ran.err);
    }
}

/// A small package whose members are not compressed.
fn package(directory: &Path) -> PathBuf {
    let tree = directory.join("tree");
    std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    std::fs::create_dir_all(tree.join("opt/site")).unwrap();
    std::fs::set_permissions(tree.join("DEBIAN"), PermissionsExt::from_mode(0o755)).unwrap();
    let control = "Package: site-cut\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: x\n";
    std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
    for number in 0..40 {
        std::fs::write(tree.join(format!("opt/site/file{number:02}")), vec![b'x'; 700]).unwrap();
    }
    let file = directory.join("site-cut_1_all.deb");
    let made = Command::new("dpkg-deb").args(["-Znone", "--root-owner-group", "-b"]).arg(&tree).arg(&file).output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    file
}

#[test]
fn what_dpkg_refuses_of_a_package_imgbuild_refuses_with_the_files_name() {
    let directory = tempfile::tempdir().unwrap();
    let whole = std::fs::read(package(directory.path())).unwrap();
    let space = warm();
    space.edit("image.toml", "[kernel]", "[otherpkgs]\ndir = \"other\"\ninstall = [\"site-cut\"]\n\n[kernel]");
    std::fs::create_dir(space.path().join("other")).unwrap();
    let file = space.path().join("other/site-cut_1_all.deb");
    let find = |text: &[u8]| whole.windows(text.len()).position(|bytes| bytes == text).unwrap();
    let data = find(b"data.tar        ");
    // Between two entries of the archive: a multiple of 512 from its beginning.
    let between = data + 60 + 512 * 2 * 14;
    let changed = |at: usize, text: &[u8]| {
        let mut bytes = whole.clone();
        bytes[at..at + text.len()].copy_from_slice(text);
        bytes
    };
    let mut control = find(b"Architecture: all\n");
    control += "Architecture: all".len();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("cut between two entries", whole[..between].to_vec()),
        ("cut in an entry", whole[..between + 100].to_vec()),
        ("cut in the last member's header", whole[..data + 30].to_vec()),
        ("without its last member", whole[..data].to_vec()),
        ("a member that claims more", changed(data + 48, b"999999999 ")),
        ("a size that is not a number", changed(data + 48, b"+123      ")),
        ("another first member", changed(8, b"debian-binarx")),
        ("another name of the data", changed(data, b"date.tar")),
        ("a second stanza", changed(control, b"\n\nPa")),
        ("an empty file", Vec::new()),
        ("no package", b"text\n".repeat(100)),
    ];
    for (what, bytes) in cases {
        std::fs::write(&file, bytes).unwrap();
        let dpkg = Command::new("dpkg-deb").arg("--vextract").arg(&file).arg(directory.path().join("out")).output();
        let info = Command::new("dpkg-deb").arg("--field").arg(&file).output().unwrap();
        let dpkg_refuses = !dpkg.unwrap().status.success() || !info.status.success();
        let ran = build_unlocked(&space);
        assert!(ran.code == 1 || ran.code == 4, "{what}: {} {}", ran.code, ran.err);
        assert!(ran.err.contains("site-cut"), "{what}: {}", ran.err);
        assert!(
            dpkg_refuses || what == "a second stanza" || what == "a size that is not a number",
            "{what}: dpkg takes it"
        );
        assert!(!space.path().join("out/tiny").exists(), "{what}");
    }
    std::fs::write(&file, &whole).unwrap();
    build_unlocked(&space).good();
}

fn build_unlocked(space: &Space) -> crate::support::Ran {
    space.run(&["build", "--vendor", vendored().to_str().unwrap()])
}

fn script(space: &Space, text: &str) {
    let path = space.path().join("tiny.postinstall");
    let plain = std::fs::read_to_string(&path).unwrap();
    let plain = plain.split("\n# more\n").next().unwrap();
    std::fs::write(&path, format!("{plain}\n# more\n{text}\n")).unwrap();
}

#[test]
fn names_that_are_no_utf8_are_in_the_image() {
    let space = warm();
    let odd = "cd \"$1\"; d=$(printf 'opt/caf\\351'); mkdir -p \"$d\"; echo kept >\"$d/$(printf 'f\\377')\"; \
               ln -s \"$(printf 'caf\\351')\" opt/link; ln \"$d/$(printf 'f\\377')\" \"$d/second\"";
    script(&space, odd);
    build(&space).good();
    let unpacked = tempfile::tempdir().unwrap();
    let read = format!(
        "cd {} && zstd -dc {} | cpio -idm --quiet 2>&1",
        unpacked.path().display(),
        space.artefact("tiny", "rootimg.cpio.zst").display()
    );
    let ran = Command::new("sh").arg("-c").arg(&read).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    let at = |name: &[u8]| unpacked.path().join(std::ffi::OsStr::from_bytes(name));
    assert_eq!(std::fs::read(at(b"opt/caf\xe9/f\xff")).unwrap(), b"kept\n");
    assert_eq!(std::fs::read(at(b"opt/link/second")).unwrap(), b"kept\n");
    space.run(&["store", "verify"]).good();
    let ran = space.run(&["size", "--by", "directory"]).good();
    assert!(!ran.out.contains('\u{10fee9}'), "{}", ran.out);
    let saved = space.path().join("saved.tar");
    space.run(&["store", "save", "--without-packages", saved.to_str().unwrap()]).good();
    let other = fresh();
    other.run(&["store", "load", saved.to_str().unwrap()]).good();
    other.run(&["store", "verify"]).good();
}

/// Directories in one another, more than any path can name: pieces that can be named, put into one another.
const DEEP: &str = "cd \"$1/opt\"; long=$(printf 'd/%.0s' $(seq 1000)); for one in a b c; do mkdir -p $one/$long; done; \
                    mv b a/$long; mv a c/$long";

#[test]
fn a_tree_deeper_than_any_path_is_refused_and_leaves_nothing_behind() {
    let space = warm();
    let left = || std::fs::read_dir(space.store().join("v1/scratch")).unwrap().count();
    script(&space, DEEP);
    let ran = build(&space);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("4095"), "{}", ran.err);
    assert_eq!(left(), 0, "{}", ran.err);
    // A script's own failure is told, whatever it left.
    script(&space, &format!("({DEEP}); mkdir \"$1/opt/$(printf 'caf\\351')\"; echo no licence server >&2; exit 7"));
    let ran = build(&space);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("status 7") && ran.err.contains("no licence server"), "{}", ran.err);
    assert_eq!(left(), 0, "{}", ran.err);
}

#[test]
fn a_log_without_end_keeps_its_head_and_tail_and_leftovers_are_counted() {
    let space = warm();
    script(&space, "yes 'a line that says nothing' | head -c 80000000; echo the last words; exit 3");
    let ran = build(&space);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("the last words"), "{}", ran.err);
    let logs = std::fs::read_dir(space.store().join("v1/logs")).unwrap().map(|entry| entry.unwrap().path());
    let log = logs.max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let bytes = std::fs::read(&log).unwrap();
    assert!(bytes.len() < 20 << 20, "{}", bytes.len());
    assert!(String::from_utf8_lossy(&bytes).contains("bytes are left out here]"));
    let left = space.store().join("v1/scratch/1-1-1");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("big"), vec![0; 3_000_000]).unwrap();
    let stats: serde_json::Value = serde_json::from_str(&space.run(&["store", "stats", "--json"]).good().out).unwrap();
    assert!(stats["gc_would_free_bytes"].as_u64().unwrap() >= 3_000_000, "{stats:#}");
    let kinds = stats["kinds"].as_array().unwrap();
    assert!(kinds.iter().any(|kind| kind["kind"] == "scratch" && kind["bytes"] == 3_000_000), "{stats:#}");
}

#[test]
fn a_full_place_for_artefacts_a_store_to_read_only_and_a_lock_that_lies_are_told() {
    let space = warm();
    build(&space).good();
    let small = Mounted::new(None, &["-t", "tmpfs", "-o", "size=8m"]);
    let ran = space.run(&["build", "--locked", "--out", small.path.to_str().unwrap()]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("--out DIR") && ran.err.contains("no space left"), "{}", ran.err);

    let store = space.store();
    let bound = tempfile::tempdir().unwrap();
    let mount = |words: &[&str]| {
        let done = Command::new("mount").args(words).arg(bound.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    mount(&["--bind", store.to_str().unwrap()]);
    mount(&["-o", "remount,ro,bind"]);
    let read_only = Space::new().with_store(bound.path());
    let verified = read_only.run(&["store", "verify"]);
    let repaired = read_only.run(&["store", "verify", "--repair"]);
    let unmounted = Command::new("umount").arg(bound.path()).status().unwrap();
    assert!(unmounted.success());
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
    assert_eq!(repaired.code, 3, "{}", repaired.err);

    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    let size = lock.lines().find_map(|line| line.split("size = ").nth(1)).unwrap();
    let size: String = size.chars().take_while(char::is_ascii_digit).collect();
    std::fs::write(space.path().join("image.lock"), lock.replace(&format!("size = {size},"), "size = 7,")).unwrap();
    std::fs::remove_dir_all(store.join("v1/actions")).unwrap();
    std::fs::create_dir(store.join("v1/actions")).unwrap();
    let ran = build(&space);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("7 bytes") && ran.err.contains(&size), "{}", ran.err);
}

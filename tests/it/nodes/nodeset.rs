//! `nodeset`: what nodes boot, for a whole range or not at all.

use std::path::{Path, PathBuf};

use super::{NODES, cluster};
use crate::support::{Ran, Space, without_paths};

/// Publishes a build as `build` does, with a word of its own; its name.
pub fn publish(space: &Space, image: &str, word: &str) -> String {
    publish_with(space, image, word, b"k", &[])
}

/// The same with a kernel, and drivers of the recipe.
fn publish_with(space: &Space, image: &str, word: &str, kernel: &[u8], own_drivers: &[&str]) -> String {
    let file = |name: &str| serde_json::json!({"name": name, "size": 1, "sha256": "0".repeat(64)});
    let mut info = serde_json::json!({
        "format_version": "1.0", "name": image, "target": "debian bookworm amd64", "epoch": 0, "kernel_release": "6.1",
        "cmdline": ["imgurl={url}/rootimg.cpio.zst", "imgdigest=sha256:00", word], "memory": 1,
        "artefacts": [file("initrd-stateless"), file("kernel"), file("rootimg.cpio.zst")], "layers": [], "not_reproducible": [],
    });
    if !own_drivers.is_empty() {
        info["own_drivers"] = own_drivers.into();
    }
    let text = format!("{info:#}\n");
    let digest = base::digest::Sha256::of(text.as_bytes()).short();
    let out = format!("images/{image}/out");
    for (name, text) in
        [("build.json", text.as_str()), ("kernel", "k"), ("initrd-stateless", "i"), ("rootimg.cpio.zst", "r")]
    {
        space.write(&format!("{out}/.builds/{image}/{digest}/{name}"), text);
    }
    std::fs::write(space.path().join(format!("{out}/.builds/{image}/{digest}/kernel")), kernel).unwrap();
    let link = space.path().join(&out).join(image);
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(format!(".builds/{image}/{digest}"), link).unwrap();
    digest
}

/// The cluster with two published images.
pub fn published() -> (Space, String) {
    let space = cluster();
    let first = publish(&space, "compute", "first");
    publish(&space, "gpu", "gpu");
    (space, first)
}

pub fn nodeset(space: &Space, arguments: &[&str]) -> Ran {
    let out = space.path().join("tftpboot");
    space.run(&[&["nodeset"], arguments, &["--out", out.to_str().unwrap(), "--url", "http://10.0.0.1"]].concat())
}

fn served(space: &Space, path: &str) -> Option<String> {
    std::fs::read_to_string(space.path().join("tftpboot").join(path)).ok()
}

/// All names in a directory with what is read through them; not the generations.
fn names(directory: &Path) -> Vec<(PathBuf, Option<String>)> {
    let entries = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter();
    let entries = entries.filter_entry(|entry| entry.file_name() != ".imgbuild-nodes").flatten();
    let entries = entries.filter(|entry| !entry.file_type().is_dir());
    entries.map(|entry| (entry.path().to_owned(), std::fs::read_to_string(entry.path()).ok())).collect()
}

#[test]
fn nodes_boot_the_build_that_was_published_then() {
    let (space, first) = published();
    space.write("tftpboot/ipxe/mac/other.ipxe", "others");
    let ran = nodeset(&space, &["@compute", "compute"]).good();
    insta::assert_snapshot!("done", ran.err.replace(&first, "BUILD"));
    let text = served(&space, "ipxe/mac/52-54-00-00-00-02.ipxe").unwrap();
    insta::assert_snapshot!("ipxe", text.replace(&first, "BUILD"));
    assert_eq!(served(&space, "ipxe/node/cn002.ipxe"), Some(text));
    // The next build changes nothing for them, and is not booted before `nodeset` says so.
    let second = publish(&space, "compute", "second");
    assert_ne!(first, second);
    assert!(served(&space, "ipxe/node/cn001.ipxe").unwrap().contains(&first));
    assert_eq!(space.run(&["nodeset", "cn001", "stat"]).good().out, format!("cn001: netboot compute@{first}\n"));
    let pins = |space: &Space| {
        let builds = space.path().join("images/compute/out/.builds/compute");
        let files = std::fs::read_dir(builds)
            .unwrap()
            .flatten()
            .filter(|one| one.file_name().to_string_lossy().starts_with(".pins-"));
        files.map(|file| std::fs::read_to_string(file.path()).unwrap()).collect::<String>()
    };
    assert!(pins(&space).contains(&first) && !pins(&space).contains(&second));
    // One of them, by the first digits of the build; then back, and what others have is as it was.
    let differs = first.bytes().zip(second.bytes()).position(|(a, b)| a != b).unwrap();
    let diff = nodeset(&space, &["cn001", &format!("compute@{}", &second[..=differs]), "--diff"]).good();
    insta::assert_snapshot!("diff", diff.out.replace(&first, "FIRST").replace(&second, "SECOND"));
    assert!(served(&space, "ipxe/node/cn001.ipxe").unwrap().contains(&first), "--diff changes nothing");
    nodeset(&space, &["cn001", &format!("compute@{second}")]).good();
    assert!(served(&space, "ipxe/node/cn001.ipxe").unwrap().contains(&second));
    assert!(served(&space, "ipxe/node/cn002.ipxe").unwrap().contains(&first));
    assert!(pins(&space).contains(&first) && pins(&space).contains(&second));
    nodeset(&space, &["cn001", "--rollback"]).good();
    assert!(served(&space, "ipxe/node/cn001.ipxe").unwrap().contains(&first));
    // The same again does nothing.
    let before = names(&space.path().join("tftpboot"));
    let ran = nodeset(&space, &["cn001", &format!("compute@{first}")]).good();
    assert!(ran.err.contains("0 files written, 0 names new, 0 removed"), "{}", ran.err);
    assert_eq!(names(&space.path().join("tftpboot")), before);
    // Disks, and nothing at all.
    nodeset(&space, &["cn002", "boot"]).good();
    assert!(served(&space, "ipxe/node/cn002.ipxe").unwrap().starts_with("#!ipxe\n#boot\n"));
    nodeset(&space, &["@compute", "offline"]).good();
    assert_eq!(names(&space.path().join("tftpboot")).len(), 1);
    assert_eq!(served(&space, "ipxe/mac/other.ipxe").as_deref(), Some("others"));
    assert!(space.run(&["nodes", "cn001"]).good().out.contains("offline"));
}

#[test]
fn a_build_that_nodes_read_their_root_from_stays_whatever_they_boot_next() {
    let (space, first) = published();
    let reports = |root: &str| {
        let report = format!(
            r#"{{"format_version":"1.0","state":"up","image":"compute","build":"{first}","root":"{root}","time":1}}"#
        );
        space.write(".imgbuild/nodes/reports/cn001.json", &report);
    };
    let pins = || {
        let builds = std::fs::read_dir(space.path().join("images/compute/out/.builds/compute")).unwrap().flatten();
        let notes = builds.filter(|one| one.file_name().to_string_lossy().starts_with(".pins-"));
        notes.map(|note| std::fs::read_to_string(note.path()).unwrap()).collect::<String>()
    };
    nodeset(&space, &["@compute", "compute"]).good();
    reports("lazy");
    let second = publish(&space, "compute", "second");
    nodeset(&space, &["@compute", "compute"]).good();
    assert!(pins().contains(&first) && pins().contains(&second), "{}", pins());
    let shown = space.run(&["nodes", "cn001"]).good().out;
    assert!(shown.contains(&format!("up, reads its root from compute@{first}")), "{shown}");
    // What they had before is kept for a rollback, but nothing older.
    nodeset(&space, &["@compute", "offline"]).good();
    assert!(pins().contains(&first), "{}", pins());
    // A node that has all of it needs no server.
    reports("hydrated");
    nodeset(&space, &["@compute", "compute"]).good();
    assert!(!pins().contains(&first) && pins().contains(&second), "{}", pins());
    let shown = space.run(&["nodes", "cn001"]).good().out;
    assert!(shown.contains("up, hydrated"), "{shown}");
    // One that is no longer in the file may run all the same.
    reports("lazy");
    space.edit("nodes.toml", "nodes = \"cn[001-003]\"", "nodes = \"cn[002-003]\"");
    space.edit(
        "nodes.toml",
        "[node.\"cn[001-003]\"]       # the rack\nip = \"10.0.0.[11-13]\"",
        "[node.\"cn[002-003]\"]\nip = \"10.0.0.[12-13]\"",
    );
    space.edit("nodes.toml", "[node.cn001]\nmac = \"52:54:00:00:00:01\"\n", "");
    let ran = nodeset(&space, &["--clear"]);
    assert!(ran.code == 1 && ran.err.contains("cn001") && ran.err.contains("--force"), "{} {}", ran.code, ran.err);
    nodeset(&space, &["--clear", "--force"]).good();
    assert!(!space.path().join(".imgbuild/nodes/reports/cn001.json").exists());
}

#[test]
fn nodes_behind_shim_get_no_kernel_that_it_would_refuse() {
    let (space, first) = published();
    let ran = nodeset(&space, &["@compute", "compute", "--loader", "shim"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(names(&space.path().join("tftpboot")).is_empty());
    insta::assert_snapshot!("shim", without_paths(&ran.err, &space).replace(&first, "BUILD"));
    let signed = std::fs::read(crate::support::project().join("tests/fixtures/efi/signed.efi")).unwrap();
    let changed: Vec<u8> = signed.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 600)).collect();
    publish_with(&space, "compute", "changed", &changed, &[]);
    let ran = nodeset(&space, &["@compute", "compute", "--loader", "shim"]);
    assert!(ran.code == 1 && ran.err.contains("was changed after it was signed, but these nodes"), "{}", ran.err);
    // Who signed is said, and a warning of what the kernel will not load.
    let build = publish_with(&space, "compute", "signed", &signed, &["drivers/site.ko"]);
    let ran = nodeset(&space, &["@compute", "compute", "--loader", "shim"]).good();
    assert!(
        ran.err.contains(&format!("the kernel of compute@{build} is signed by `Example Boot Signer`")),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("has drivers of its own (`drivers/site.ko`)"), "{}", ran.err);
    let text = served(&space, "grub/mac/52:54:00:00:00:02").unwrap();
    assert!(
        text.contains(&format!("    linux /.builds/compute/{build}/kernel imgurl=http://10.0.0.1/.builds/")),
        "{text}"
    );
    // Their disks need none.
    nodeset(&space, &["cn001", "boot", "--loader", "shim"]).good();
    assert!(served(&space, "grub/mac/52:54:00:00:00:01").unwrap().contains("exit 1"));
}

#[test]
fn what_cannot_be_given_is_refused_and_nothing_changes() {
    let (space, first) = published();
    nodeset(&space, &["@compute", "compute"]).good();
    let before = names(&space.path().join("tftpboot"));
    let refused = |arguments: &[&str]| {
        let ran = nodeset(&space, arguments);
        assert_ne!(ran.code, 0, "{}", ran.err);
        assert_eq!(names(&space.path().join("tftpboot")), before);
        without_paths(&ran.err, &space).replace(&first, "BUILD")
    };
    let mut said = vec![
        refused(&["cn009", "compute"]),
        refused(&["cn001!cn001", "compute"]),
        refused(&["cn001", "compote"]),
        refused(&["cn001", "compute@ffffffffffff"]),
        refused(&["cn001", "compute", "--loader", "petitboot"]),
        refused(&["login1", "--rollback"]),
        refused(&["@compute", "compute", "--canary", "0%"]),
        refused(&["--continue"]),
    ];
    space.write(
        "nodes.toml",
        &NODES.replace("mac = \"52:54:00:00:00:01\"\n", "").replace("[defaults]", "[defaults]\narch = \"aarch64\""),
    );
    said.push(refused(&["cn001", "compute"]));
    space.write(
        "nodes.toml",
        &NODES
            .replace("loader = \"ipxe\"", "loader = \"pxelinux\"")
            .replace("ip = \"10.0.0.4\"\n", "")
            .replace("mac = \"52:54:00:00:00:04\"\n", ""),
    );
    said.push(refused(&["login1", "gpu"]));
    space.write("nodes.toml", NODES);
    space.write("loaders/ipxe.j2", "#!ipxe\nkernel {{ kernal }}\n");
    said.push(refused(&["cn001", "compute"]));
    std::fs::remove_file(space.path().join("loaders/ipxe.j2")).unwrap();
    // An image that was never published, and a build that somebody changed.
    std::fs::remove_file(space.path().join("images/gpu/out/gpu")).unwrap();
    said.push(refused(&["cn001", "gpu"]));
    space.edit(&format!("images/compute/out/.builds/compute/{first}/build.json"), "first", "worst");
    said.push(refused(&["cn001", "compute"]));
    insta::assert_snapshot!("refused", said.join("----\n"));
    // What somebody else wrote.
    std::fs::remove_file(space.path().join("tftpboot/ipxe/node/cn001.ipxe")).unwrap();
    publish(&space, "compute", "third");
    space.write("tftpboot/ipxe/node/cn001.ipxe", "by hand");
    let ran = nodeset(&space, &["cn001", "compute"]);
    assert!(ran.code == 1 && ran.err.contains("was not written by imgbuild"), "{}", ran.err);
    assert_eq!(served(&space, "ipxe/node/cn001.ipxe").as_deref(), Some("by hand"));
    nodeset(&space, &["cn001", "compute", "--force"]).good();
    assert_eq!(served(&space, "ipxe/node/cn001.ipxe.ORIG").as_deref(), Some("by hand"));
    assert!(served(&space, "ipxe/node/cn001.ipxe").unwrap().contains("third"));
}

#[test]
fn a_published_build_is_given_out_while_its_recipe_has_an_error() {
    let (space, first) = published();
    let second = publish(&space, "compute", "second");
    let recipe = std::fs::read_to_string(space.path().join("images/compute/image.toml")).unwrap();
    // Its form is wrong, and so what it says.
    for broken in ["[image\n".to_owned(), format!("{recipe}nonsense = 1\n"), recipe.replace("compute", "com pute")] {
        space.write("images/compute/image.toml", &broken);
        let ran = nodeset(&space, &["@compute", &format!("compute@{first}")]).good();
        assert!(served(&space, "ipxe/node/cn001.ipxe").unwrap().contains(&first), "{}", ran.err);
        nodeset(&space, &["@compute", "compute"]).good();
        assert!(served(&space, "ipxe/node/cn001.ipxe").unwrap().contains(&second));
        let ran = space.run(&["boot-entry", "compute", "--url", "http://10.0.0.1"]).good();
        assert!(
            ran.out.contains("http://10.0.0.1/kernel") && ran.err.contains("what was published before"),
            "{}",
            ran.err
        );
        // What is not published is refused as before, and so is what needs the recipe.
        assert_eq!(nodeset(&space, &["@compute", "compote"]).code, 1);
        assert_eq!(space.run(&["boot-entry", "compote", "--url", "http://10.0.0.1"]).code, 1);
        assert_eq!(space.run(&["plan", "compute"]).code, 1);
        for command in [
            vec!["diff", "compute@previous", "compute"],
            vec!["boot", "compute", "--disk", "/nowhere"],
            vec!["shell", "compute"],
            vec!["size", "compute"],
        ] {
            // They go on to what this build of a few bytes lacks.
            let ran = space.run(&command);
            assert!(ran.err.contains("what was published before is used of `compute`"), "{command:?}: {}", ran.err);
        }
    }
    std::fs::remove_dir_all(space.path().join("images/compute/out")).unwrap();
    assert_eq!(space.run(&["boot-entry", "compute", "--url", "http://10.0.0.1"]).code, 1);
}

#[test]
fn files_of_another_loader_and_of_another_card_go() {
    let (space, _) = published();
    nodeset(&space, &["cn001", "compute", "--loader", "grub"]).good();
    assert!(served(&space, "boot/grub2/grub.cfg-0A00000B").unwrap().contains("menuentry \"compute\""));
    assert_eq!(served(&space, "boot/grub2/grub.cfg-01-52-54-00-00-00-01"), served(&space, "boot/grub2/cn001"));
    nodeset(&space, &["cn001", "boot", "--loader", "xnba"]).good();
    let root = space.path().join("tftpboot");
    let left: Vec<String> =
        names(&root).iter().map(|(path, _)| path.strip_prefix(&root).unwrap().display().to_string()).collect();
    assert_eq!(left, ["xcat/xnba/nodes/cn001", "xcat/xnba/nodes/cn001.uefi"]);
    // `boot` is said to UEFI, too.
    assert_eq!(served(&space, "xcat/xnba/nodes/cn001.uefi").as_deref(), Some("#!gpxe\n#boot\nexit\n"));
    nodeset(&space, &["cn001", "compute"]).good();
    space.edit("nodes.toml", "52:54:00:00:00:01", "52:54:00:00:00:91");
    nodeset(&space, &["cn001", "compute"]).good();
    assert!(served(&space, "ipxe/mac/52-54-00-00-00-01.ipxe").is_none());
    assert!(served(&space, "ipxe/mac/52-54-00-00-00-91.ipxe").is_some());
}

#[test]
fn a_canary_moves_a_few_and_the_rest_when_they_are_up() {
    let (space, first) = published();
    nodeset(&space, &["@compute", "compute"]).good();
    let second = publish(&space, "compute", "second");
    let has = |node: &str| {
        let text = served(&space, &format!("ipxe/node/{node}.ipxe")).unwrap();
        if text.contains(&second) { 2 } else { usize::from(text.contains(&first)) }
    };
    let report = |node: &str, state: &str, build: &str| {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let text = format!(
            "{{\"format_version\": \"1.0\", \"state\": \"{state}\", \"build\": \"{build}\", \"time\": {time}}}"
        );
        space.write(&format!(".imgbuild/nodes/reports/{node}.json"), &text);
    };
    nodeset(&space, &["@compute", "compute", "--canary", "5%"]).good();
    assert_eq!([has("cn001"), has("cn002"), has("cn003")], [2, 1, 1]);
    let ran = nodeset(&space, &["--continue"]);
    assert!(ran.code == 2 && ran.err.contains("cn001 (not reported since)"), "{}", ran.err);
    assert!(nodeset(&space, &["@compute", "compute", "--canary", "1"]).err.contains("is under way on cn001"));
    report("cn001", "failed", &second);
    assert!(nodeset(&space, &["--continue"]).err.contains("cn001 (failed)"));
    report("cn001", "up", &first);
    assert!(nodeset(&space, &["--continue"]).err.contains("cn001 (booted another build)"));
    nodeset(&space, &["--abort"]).good();
    assert_eq!([has("cn001"), has("cn002"), has("cn003")], [1, 1, 1]);
    // Again, and this time it is good; a third build in the meantime is not what the rest gets.
    nodeset(&space, &["@compute", "compute", "--canary", "1"]).good();
    report("cn001", "up", &second);
    publish(&space, "compute", "third");
    nodeset(&space, &["--continue"]).good();
    assert_eq!([has("cn001"), has("cn002"), has("cn003")], [2, 2, 2]);
    assert_eq!(nodeset(&space, &["--continue"]).code, 1);
}

#[test]
fn a_canary_that_is_given_up_leaves_its_nodes_what_they_had() {
    let (space, first) = published();
    nodeset(&space, &["@compute", "compute"]).good();
    let booted = |node: &str| space.run(&["nodeset", node, "stat"]).good().out;
    let has = |node: &str, build: &str| {
        assert_eq!(booted(node), format!("{node}: netboot compute@{build}\n"));
        assert!(served(&space, &format!("ipxe/node/{node}.ipxe")).unwrap().contains(build), "{node}");
    };
    // Nothing was built since: they have the build of the canary already.
    nodeset(&space, &["@compute", "compute", "--canary", "1"]).good();
    nodeset(&space, &["--abort"]).good();
    ["cn001", "cn002", "cn003"].iter().for_each(|node| has(node, &first));
    // One has it, one had another image, one nothing at all.
    let second = publish(&space, "compute", "second");
    nodeset(&space, &["cn001", "compute"]).good();
    nodeset(&space, &["cn002", "gpu"]).good();
    nodeset(&space, &["login1", "offline"]).good();
    nodeset(&space, &["cn00[1-3],login1", "compute", "--canary", "4"]).good();
    ["cn001", "cn002", "cn003", "login1"].iter().for_each(|node| has(node, &second));
    // What a node is given meanwhile stays.
    nodeset(&space, &["cn003", "boot"]).good();
    nodeset(&space, &["--abort"]).good();
    has("cn001", &second);
    assert!(booted("cn002").starts_with("cn002: netboot gpu@"), "{}", booted("cn002"));
    assert_eq!((booted("cn003").as_str(), booted("login1").as_str()), ("cn003: boot\n", "login1: offline\n"));
}

#[test]
fn nodes_that_are_renamed_or_removed_leave_nothing_that_cannot_be_mended() {
    let (space, first) = published();
    nodeset(&space, &["@compute", "compute"]).good();
    let second = publish(&space, "compute", "second");
    nodeset(&space, &["@compute", "compute", "--canary", "1"]).good();
    let pins = || {
        let builds = std::fs::read_dir(space.path().join("images/compute/out/.builds/compute")).unwrap().flatten();
        let notes = builds.filter(|one| one.file_name().to_string_lossy().starts_with(".pins-"));
        notes.map(|note| std::fs::read_to_string(note.path()).unwrap()).collect::<String>()
    };
    // The node that the canary is on gets another name. Nothing is known of the new build then.
    let renamed = |from: &str, to: &str| {
        let text = std::fs::read_to_string(space.path().join("nodes.toml")).unwrap();
        space.write(
            "nodes.toml",
            &text.replace(&format!("[node.{from}]"), &format!("[node.{to}]\nimage = \"compute\"")),
        );
    };
    space.edit("nodes.toml", "nodes = \"cn[001-003]\"", "nodes = \"cn[002-003]\"");
    space.edit(
        "nodes.toml",
        "[node.\"cn[001-003]\"]       # the rack\nip = \"10.0.0.[11-13]\"",
        "[node.\"cn[002-003]\"]\nip = \"10.0.0.[12-13]\"",
    );
    renamed("cn001", "new001");
    let ran = nodeset(&space, &["--continue"]);
    assert!(ran.code == 2 && ran.err.contains("cn001 no longer in nodes.toml"), "{}", ran.err);
    assert!(ran.err.contains("no node of the canary is left") && ran.err.contains("--abort"), "{}", ran.err);
    let ran = nodeset(&space, &["--abort"]).good();
    assert!(ran.err.contains("cn001 no longer in nodes.toml") && ran.err.contains("--clear"), "{}", ran.err);
    assert_eq!(nodeset(&space, &["--abort"]).code, 1, "it is over");
    // The new name takes the files of the old one, and what that booted is where it goes back to.
    let ran = nodeset(&space, &["new001", &format!("compute@{first}")]).good();
    assert!(ran.err.contains("cn001 is no longer in nodes.toml: new001 takes its files"), "{}", ran.err);
    assert!(served(&space, "ipxe/mac/52-54-00-00-00-01.ipxe").unwrap().contains("NODE=new001 "));
    assert!(served(&space, "ipxe/node/cn001.ipxe").is_none());
    nodeset(&space, &["new001", "--rollback"]).good();
    assert!(served(&space, "ipxe/node/new001.ipxe").unwrap().contains(&second));
    nodeset(&space, &["new001", &format!("compute@{first}")]).good();
    // A canary of which the rest is renamed goes on with those that are there.
    nodeset(&space, &["cn00[2-3]", "compute", "--canary", "1"]).good();
    space.edit("nodes.toml", "nodes = \"cn[002-003]\"", "nodes = \"cn002\"");
    space.edit("nodes.toml", "[node.\"cn[002-003]\"]\nip = \"10.0.0.[12-13]\"\n", "");
    renamed("cn003", "new003");
    let time = nodes::state::now();
    let report = format!(r#"{{"format_version": "1.0", "state": "up", "build": "{second}", "time": {time}}}"#);
    space.write(".imgbuild/nodes/reports/cn002.json", &report).write(".imgbuild/nodes/reports/cn003.json", &report);
    let ran = nodeset(&space, &["--continue"]).good();
    assert!(ran.err.contains("cn003 no longer in nodes.toml") && ran.err.contains("the canary is over"), "{}", ran.err);
    // A removed one: its files and pins stay until they are cleared, and every command says so.
    assert!(served(&space, "ipxe/node/cn003.ipxe").unwrap().contains(&first));
    let ran = nodeset(&space, &["cn002", "boot"]).good();
    assert!(
        ran.err.contains("cn003 no longer in nodes.toml, but loader files or pinned builds are left"),
        "{}",
        ran.err
    );
    nodeset(&space, &["new001,cn002", "gpu"]).good();
    nodeset(&space, &["new001,cn002", "boot"]).good();
    let before = names(&space.path().join("tftpboot"));
    let ran = nodeset(&space, &["--clear", "--dry-run"]).good();
    assert!(ran.err.contains("2 names of cn003") && pins().contains(&first), "{}", ran.err);
    assert_eq!(names(&space.path().join("tftpboot")), before);
    let ran = nodeset(&space, &["--clear"]).good();
    assert!(ran.err.contains("2 names of cn003") && ran.err.contains("forgot cn003"), "{}", ran.err);
    assert!(
        served(&space, "ipxe/node/cn003.ipxe").is_none() && served(&space, "ipxe/mac/52-54-00-00-00-03.ipxe").is_none()
    );
    assert!(!pins().contains(&first), "{}", pins());
    assert!(!space.path().join(".imgbuild/nodes/reports/cn003.json").exists());
    assert!(space.path().join(".imgbuild/nodes/reports/cn002.json").exists());
    assert!(nodeset(&space, &["--clear"]).good().err.contains("nothing is left"));
    nodeset(&space, &["new003", "compute"]).good();
}

/// Killed anywhere, a run leaves all nodes of the range at the old build or all at the new, and the state says the same.
#[cfg(feature = "e2e")]
#[test]
fn a_killed_nodeset_leaves_the_old_or_the_new() {
    for (place, is_new) in
        [("nodeset.written", false), ("nodeset.announced", false), ("nodeset.linked", false), ("nodeset.turned", true)]
    {
        let (space, first) = published();
        nodeset(&space, &["@compute", "compute"]).good();
        let second = publish(&space, "compute", "second");
        let file = space.path().join("fault");
        let out = space.path().join("tftpboot");
        let mut child = crate::support::imgbuild()
            .arg("-C")
            .arg(space.path())
            .args(["nodeset", "@compute", "compute", "--url", "http://10.0.0.1", "--out"])
            .arg(&out)
            .env("IMGBUILD_FAULT", place)
            .env("IMGBUILD_FAULT_FILE", &file)
            .spawn()
            .unwrap();
        while !file.exists() {
            assert!(child.try_wait().unwrap().is_none(), "{place} was not reached");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let wanted = if is_new { &second } else { &first };
        for node in ["cn001", "cn002", "cn003"] {
            assert!(
                served(&space, &format!("ipxe/node/{node}.ipxe")).unwrap().contains(wanted.as_str()),
                "{place}: {node}"
            );
            let stat = space.run(&["nodeset", node, "stat"]).good().out;
            assert_eq!(stat, format!("{node}: netboot compute@{wanted}\n"), "{place}");
        }
        // The next one ends it.
        nodeset(&space, &["@compute", "compute"]).good();
        assert!(served(&space, "ipxe/node/cn003.ipxe").unwrap().contains(&second));
        assert_eq!(std::fs::read_dir(out.join(".imgbuild-nodes")).unwrap().count(), 2, "{place}");
    }
}

/// Killed anywhere, `--clear` leaves to the nodes that are there what they have, and the next one removes all of the others.
#[cfg(feature = "e2e")]
#[test]
fn a_killed_clear_is_ended_by_the_next() {
    for place in [
        "nodeset.written",
        "nodeset.announced",
        "nodeset.linked",
        "nodeset.turned",
        "clear.settled",
        "clear.assigned",
        "clear.pinned",
    ] {
        let (space, first) = published();
        nodeset(&space, &["cn003", "compute"]).good();
        nodeset(&space, &["login1", "gpu"]).good();
        for name in ["reports", "asked", "scripts"] {
            space.write(&format!(".imgbuild/nodes/{name}/cn003.json"), "{}");
        }
        // The only node of its image.
        space.edit("nodes.toml", "nodes = \"cn[001-003]\"", "nodes = \"cn[001-002]\"");
        space.edit("nodes.toml", "[node.\"cn[001-003]\"]       # the rack\nip = \"10.0.0.[11-13]\"\n", "");
        space.edit("nodes.toml", "[node.cn003]\nmac = \"52:54:00:00:00:03\"\n", "");
        let before = served(&space, "ipxe/node/login1.ipxe").unwrap();
        let file = space.path().join("fault");
        let out = space.path().join("tftpboot");
        let mut command = crate::support::imgbuild();
        command.arg("-C").arg(space.path()).args(["nodeset", "--clear", "--url", "http://10.0.0.1", "--out"]).arg(&out);
        let mut child = command.env("IMGBUILD_FAULT", place).env("IMGBUILD_FAULT_FILE", &file).spawn().unwrap();
        while !file.exists() {
            assert!(child.try_wait().unwrap().is_none(), "{place} was not reached");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(served(&space, "ipxe/node/login1.ipxe").unwrap(), before, "{place}");
        assert_eq!(space.run(&["nodeset", "login1", "stat"]).good().out.split('@').next(), Some("login1: netboot gpu"));
        nodeset(&space, &["--clear"]).good();
        assert!(nodeset(&space, &["--clear"]).good().err.contains("nothing is left"), "{place}");
        assert_eq!(served(&space, "ipxe/node/login1.ipxe").unwrap(), before, "{place}");
        let left: Vec<PathBuf> = [out, space.path().join(".imgbuild/nodes")]
            .iter()
            .flat_map(|folder| walkdir::WalkDir::new(folder).into_iter().flatten())
            .map(|entry| entry.into_path())
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy();
                name.contains("cn003") || name.contains("00-00-00-03") || name == "assigned.next.json"
            })
            .collect();
        assert_eq!(left, Vec::<PathBuf>::new(), "{place}");
        assert!(!std::fs::read_to_string(space.path().join(".imgbuild/nodes/assigned.json")).unwrap().contains(&first));
        let notes = std::fs::read_dir(space.path().join("images/compute/out/.builds/compute")).unwrap().flatten();
        let notes: Vec<_> = notes.filter(|one| one.file_name().to_string_lossy().starts_with(".pins-")).collect();
        assert!(notes.is_empty(), "{place}: {notes:?}");
    }
}

/// A file system that is full while the files of many nodes are written.
#[cfg(feature = "e2e")]
#[test]
fn a_full_disk_changes_nothing() {
    let (space, first) = published();
    space.write(
        "nodes.toml",
        &format!(
            "[defaults]\nloader = \"ipxe\"\nimage = \"compute\"\n{}",
            (0..500)
                .map(|number| format!(
                    "[node.cn{number:03}]\nmac = \"52:54:00:00:{:02x}:{:02x}\"\n",
                    number / 250,
                    number % 250
                ))
                .collect::<String>()
        ),
    );
    let script = "mount -t tmpfs -o nr_inodes=200 none \"$OUT\" && mkdir \"$OUT/ipxe\" && \"$IMGBUILD\" -C \"$SPACE\" nodeset cn000 --out \"$OUT\" && \
        \"$IMGBUILD\" -C \"$SPACE\" nodeset 'cn*' --out \"$OUT\"; echo \"ended $?\"; find \"$OUT\" -type l | wc -l; ls \"$OUT/.imgbuild-nodes\"; cat \"$OUT/ipxe/node/cn000.ipxe\"";
    let out = space.path().join("tftpboot");
    std::fs::create_dir(&out).unwrap();
    let ran = std::process::Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .env("OUT", &out)
        .env("SPACE", space.path())
        .env("IMGBUILD", env!("CARGO_BIN_EXE_imgbuild"))
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let (text, said) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    // Three links of the one node and of the generation, and nothing of the others.
    assert!(text.starts_with("ended 3\n3\n1\ncurrent\n") && text.contains(&first), "{text}\n{said}");
    assert!(said.contains("no space left while imgbuild tried to"), "{said}");
    let stat = space.run(&["nodeset", "cn001", "stat"]).good().out;
    assert_eq!(stat, "cn001: unset\n");
}

#[test]
fn links_of_others_lead_nothing_out_of_the_directory() {
    use std::os::unix::fs::{lchown, symlink};
    let (space, _) = published();
    space.write("outside/kept", "kept").write("outside/7/kept", "kept");
    let out = space.path().join("tftpboot");
    std::fs::create_dir(&out).unwrap();
    let outside = || names(&space.path().join("outside"));
    let before = outside();
    symlink("../outside", out.join(".imgbuild-nodes")).unwrap();
    let ran = nodeset(&space, &["@compute", "compute"]);
    assert!(ran.code != 0 && ran.err.contains("is a link"), "{} {}", ran.code, ran.err);
    assert_eq!(outside(), before);
    std::fs::remove_file(out.join(".imgbuild-nodes")).unwrap();
    if !rustix::process::geteuid().is_root() {
        return;
    }
    symlink("../outside", out.join("ipxe")).unwrap();
    lchown(out.join("ipxe"), Some(1234), Some(1234)).unwrap();
    let ran = nodeset(&space, &["@compute", "compute"]);
    assert!(ran.code != 0 && ran.err.contains("link of another user"), "{} {}", ran.code, ran.err);
    assert_eq!(outside(), before);
    // A site's own link is followed.
    lchown(out.join("ipxe"), Some(0), Some(0)).unwrap();
    nodeset(&space, &["@compute", "compute"]).good();
    assert!(space.path().join("outside/mac/52-54-00-00-00-02.ipxe").symlink_metadata().is_ok());
}

//! Labels of an installed SELinux policy: reckoned by imgbuild, compared with libselinux, and seen on a node.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use boot::FileServer;

use super::machine::{cmdline, expect, start};
use super::{Built, build, shared, store};
use crate::support::{Space, copy_locked, copy_tree, project};

/// Packages with a policy, and a unit that says what the node has.
fn labelled() -> &'static Built {
    static LABELLED: OnceLock<Built> = OnceLock::new();
    LABELLED.get_or_init(|| {
        shared::built("labelled", |space| {
            copy_tree(&project().join("tests/fixtures/selinux"), space.path());
            std::fs::create_dir_all(space.path().join("keys")).unwrap();
            build(space);
        })
    })
}

fn index(space: &Space) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(space.artefact("labelled", "rootimg.cpio.zst.index")).unwrap()).unwrap()
}

fn named(index: &serde_json::Value) -> BTreeMap<String, String> {
    let mut named = BTreeMap::new();
    for (label, paths) in index["labels"].as_object().expect("the index has labels") {
        for path in paths.as_array().unwrap() {
            named.insert(path.as_str().unwrap().to_owned(), label.clone());
        }
    }
    named
}

/// A path's label: its own, or that of the nearest folder that is named.
fn label_of<'a>(named: &'a BTreeMap<String, String>, path: &str) -> &'a str {
    let mut path = path.trim_start_matches('/');
    loop {
        if let Some(label) = named.get(path) {
            return label;
        }
        match path.rsplit_once('/') {
            Some((folder, _)) => path = folder,
            None => return &named["."],
        }
    }
}

/// Paths of the packed image, the root's empty.
fn packed(built: &Built) -> BTreeSet<String> {
    let image = std::fs::File::open(built.space.artefact("labelled", "rootimg.cpio.zst")).unwrap();
    let mut unpack = Command::new("zstd").args(["-d", "-c"]).stdin(image).stdout(Stdio::piped()).spawn().unwrap();
    let list =
        Command::new("cpio").args(["-it", "--quiet"]).stdin(unpack.stdout.take().unwrap()).output().unwrap().stdout;
    assert!(unpack.wait().unwrap().success());
    String::from_utf8(list)
        .unwrap()
        .lines()
        .map(|path| if path == "." { String::new() } else { path.to_owned() })
        .collect()
}

#[test]
fn network_each_label_is_the_one_that_libselinux_says() {
    let built = labelled();
    let index = index(&built.space);
    assert_eq!(index["format"], 2);
    let named = named(&index);
    // The image's own libselinux, over every path of the image; of a file with several names only the first counts.
    let script = "cd / && find . -xdev \\( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -path ./tmp \\) \
         -prune -o \\( -type d -o -links 1 \\) -print0 | sed -z 's,^\\.,,; s,^$,/,' | xargs -0 matchpathcon";
    let answers = built.space.run(&["shell", "--", "sh", "-c", script]).good().out;
    let packed = packed(built);
    let mut compared = 0;
    let mut wrong = Vec::new();
    for line in answers.lines() {
        let (path, expected) = line.split_once('\t').unwrap();
        if !packed.contains(path.trim_start_matches('/')) {
            continue;
        }
        let ours = label_of(&named, path);
        compared += 1;
        if ours != expected {
            wrong.push(format!("{path}: {ours}, but libselinux says {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 5000, "only {compared} paths were compared");
    assert_eq!(label_of(&named, "/etc/shadow"), "system_u:object_r:shadow_t:s0");
    // Thousands of labels, and a small index.
    let named_size = serde_json::to_vec(&index["labels"]).unwrap().len();
    assert!(named.len() * 10 < compared && named_size < 64 << 10, "{} named, {named_size} bytes", named.len());
}

#[test]
fn network_labels_are_the_same_twice_and_follow_the_recipe() {
    let built = labelled();
    let space = Space::new().with_store(&store());
    copy_locked(built.space.path(), space.path());
    // The same bytes, also of what the policy's packages compile.
    space.run(&["build", "--locked", "--verify"]).good();
    assert_eq!(index(&space), index(&built.space));
    let info = std::fs::read(space.artefact("labelled", "build.json")).unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info).unwrap();
    assert_eq!(info["not_reproducible"], serde_json::json!([]));
    // One synced file: packed anew, and labelled.
    space.write("motd", "hello\n");
    space.write("files.synclist", "motd -> /srv/data/motd\n");
    space.edit("image.toml", "[boot]", "[sync]\nlists = [\"files.synclist\"]\n\n[boot]");
    assert_eq!(space.to_do(), ["rootfs/sync run", "pack/rootimg depends"]);
    space.run(&["build", "--locked"]).good();
    let now = named(&index(&space));
    assert_eq!(label_of(&now, "/srv/data/motd"), "system_u:object_r:var_t:s0");
    // Without a policy to load there is nothing that labels could mean.
    let excluded = std::fs::read_to_string(space.path().join("labelled.exlist")).unwrap();
    space.write("labelled.exlist", &format!("{excluded}./etc/selinux/default/policy/*\n"));
    let ran = space.run(&["build", "--locked"]).good();
    assert!(ran.err.contains("nodes get no SELinux labels"), "{}", ran.err);
    assert_eq!(index(&space)["format"], 1);
    space.write("labelled.exlist", &excluded);
    // None at all.
    space.edit("image.toml", "[system]", "[system]\nselinux = \"off\"");
    assert_eq!(space.to_do(), ["pack/rootimg run"]);
    space.run(&["build", "--locked"]).good();
    let index = index(&space);
    assert_eq!((&index["format"], index.get("labels")), (&serde_json::json!(1), None));
}

#[test]
fn boot_a_node_has_the_labels_of_the_policy_and_its_mode() {
    let built = labelled();
    let server = FileServer::start(&built.space.artefact("labelled", ".").canonicalize().unwrap()).unwrap();
    let words = cmdline(built, "labelled", &format!("http://10.0.2.2:{}", server.port()));
    let running = start(built, "labelled", words, |_| ());
    expect(&running, "imgbuild: SELinux: policy `default`");
    expect(&running, "REPORT ENDS");
    let console = running.console();
    let said = |line: &str| assert!(console.contains(line), "no `{line}`:\n{console}");
    // As the image's config says; and what would have a wrong label could not start now.
    said("REPORT enforce 1");
    said("REPORT init system_u:system_r:init_t:s0");
    // libselinux on the node compares each file with the policy.
    said("REPORT differ 0");
    let compared = console.lines().find_map(|line| line.trim().strip_prefix("REPORT compared ")?.parse::<u32>().ok());
    assert!(compared.is_some_and(|count| count > 100), "{compared:?}");
    // A file, a program, a link, and a file that imgbuild-init wrote.
    for (path, kind) in [
        ("/etc/shadow", "shadow_t"),
        ("/usr/lib/systemd/systemd", "init_exec_t"),
        ("/usr/sbin/init", "bin_t"),
        ("/etc/resolv.conf", "net_conf_t"),
    ] {
        said(&format!("REPORT label system_u:object_r:{kind}:s0 {path}"));
    }
}

#[test]
fn boot_a_kernel_with_selinux_off_starts_the_labelled_image() {
    let built = labelled();
    let server = FileServer::start(&built.space.artefact("labelled", ".").canonicalize().unwrap()).unwrap();
    let words = cmdline(built, "labelled", &format!("http://10.0.2.2:{}", server.port()));
    let running = start(built, "labelled", words.replace("security=selinux", "selinux=0"), |_| ());
    expect(&running, "imgbuild: SELinux is not enabled in this kernel: the image's labels are not set");
    expect(&running, "imgbuild: starting /sbin/init");
}

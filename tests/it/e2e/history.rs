//! The log, estimates, plan files, one action again, and what two builds have differently, on real builds.

use std::path::Path;
use std::process::Command;

use super::built_copy as copy;
use super::{store, tiny};
use crate::history::assert_valid;
use crate::support::{Ran, Space, copy_tree};

/// Adds a line to the script that makes the image's last layer.
fn edit(space: &Space, line: &str) {
    space.edit("tiny.postinstall", "set -e\n", &format!("set -e\n{line}\n"));
}

fn words(ran: &Ran) -> String {
    ran.err.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

fn log(space: &Space) -> serde_json::Value {
    let document = assert_valid("log", &space.run(&["log", "--json"]).good().out);
    document["images"][0]["builds"].clone()
}

fn summary(ran: &Ran) -> serde_json::Value {
    let mut events = ran.err.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    events.find(|event| event["event"] == "summary").unwrap()
}

#[test]
fn a_build_is_estimated_before_and_logged_after_with_the_fact_beside() {
    let space = copy();
    edit(&space, ": estimated");
    let plan = space.plan();
    let estimate = &plan["images"][0]["estimate"];
    let script =
        estimate["actions"].as_array().unwrap().iter().find(|one| one["action"] == "rootfs/postinstall").unwrap();
    // Another directory's builds of the same kind are known to this store.
    assert_eq!(script["from"], "like", "{estimate}");
    assert!(script["milliseconds"].as_u64().is_some());
    assert_eq!(estimate["download_bytes"], serde_json::json!({"least": 0, "most": 0}));
    let (least, most) = (&estimate["milliseconds"]["least"], &estimate["milliseconds"]["most"]);
    assert!(least.as_u64() < most.as_u64(), "the pack depends: {estimate}");
    let text = space.run(&["plan"]).good().out;
    assert!(text.contains("estimate: ") && text.contains("downloads nothing"), "{text}");
    let ran = space.run(&["--progress", "json", "build"]).good();
    let summary = summary(&ran);
    // Others build in this store, too: how long their actions took may have been learned between the two.
    let without_times = |actions: &serde_json::Value| -> Vec<serde_json::Value> {
        let mut actions = actions.as_array().unwrap().clone();
        actions.iter_mut().for_each(|one| assert!(one.as_object_mut().unwrap().remove("milliseconds").is_some()));
        actions
    };
    assert_eq!(without_times(&summary["estimate"]["actions"]), without_times(&estimate["actions"]));
    assert!(summary["facts"]["milliseconds"].as_u64().unwrap() > 0);
    let build = &log(&space)[0];
    assert_eq!((&build["number"], &build["state"]), (&summary["number"], &serde_json::json!("built")));
    let ran: Vec<&str> = build["ran"].as_array().unwrap().iter().map(|one| one["action"].as_str().unwrap()).collect();
    assert!(ran.contains(&"rootfs/postinstall") && ran.contains(&"publish"), "{ran:?}");
    assert_eq!(build["estimate"], summary["estimate"]);
    // D17: the time is in the log alone.
    let info = std::fs::read_to_string(space.artefact("tiny", "build.json")).unwrap();
    let year = build["began"].as_str().unwrap()[..4].to_owned();
    assert!(!info.contains(&format!("{year}-")), "{info}");
    assert!(space.plan()["images"][0]["estimate"].is_null());
    edit(&space, ": again");
    let plan = space.plan();
    let actions = plan["images"][0]["estimate"]["actions"].as_array().unwrap().clone();
    assert_eq!(actions.iter().find(|one| one["action"] == "rootfs/postinstall").unwrap()["from"], "same");
}

#[test]
fn the_download_in_a_plan_is_what_the_store_lacks() {
    let space = copy();
    let empty = space.path().join("empty-store");
    let mut command = crate::support::imgbuild();
    command.arg("-C").arg(space.path()).arg("--store").arg(&empty).args(["plan", "--json"]);
    let plan: serde_json::Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let lock: toml::Value = toml::from_str(&std::fs::read_to_string(space.path().join("image.lock")).unwrap()).unwrap();
    let packages = lock["pass"].as_array().unwrap().iter().flat_map(|pass| pass["packages"].as_array().unwrap());
    let sizes: std::collections::BTreeMap<&str, i64> =
        packages.map(|one| (one["sha256"].as_str().unwrap(), one["size"].as_integer().unwrap())).collect();
    let estimate = &plan["images"][0]["estimate"];
    assert_eq!(estimate["download_bytes"]["most"].as_i64().unwrap(), sizes.values().sum::<i64>());
    assert_eq!(estimate["download_packages"]["most"].as_u64().unwrap(), sizes.len() as u64);
    // Nothing ever ran with that store: no time is made up.
    assert!(estimate["milliseconds"].is_null() && estimate["download_milliseconds"].is_null(), "{estimate}");
}

#[test]
fn failed_and_killed_builds_are_logged_with_the_failed_commands_log() {
    let space = copy();
    edit(&space, "echo this-is-said >&2; exit 9");
    assert_eq!(space.run(&["build"]).code, 4);
    let build = &log(&space)[0];
    assert_eq!(build["state"], "failed");
    let failed = build["ran"].as_array().unwrap().iter().find(|one| !one["failed"].is_null()).unwrap().clone();
    assert_eq!(failed["action"], "rootfs/postinstall");
    assert!(failed["failed"].as_str().unwrap().contains("status 9"), "{failed}");
    let path = failed["log"].as_str().unwrap();
    assert!(std::fs::read_to_string(path).unwrap().contains("this-is-said"));
    let text = space.run(&["log"]).good().out;
    assert!(text.contains("rootfs/postinstall failed after") && text.contains(path), "{text}");
    // What failed can be gone through again, and mended by hand in the same root.
    let again = space.run(&["shell", "--action", "rootfs/postinstall", "--run"]);
    assert_eq!(again.code, 4, "{}", again.err);
    space.edit("tiny.postinstall", "exit 9", "sleep 600");
    let mut command = crate::support::imgbuild();
    command.arg("-C").arg(space.path()).arg("--store").arg(space.store()).arg("build");
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let began = std::time::Instant::now();
    while log(&space)[0]["state"] != "running" {
        assert!(began.elapsed().as_secs() < 60, "{}", log(&space));
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(log(&space)[0]["state"], "interrupted");
}

#[test]
fn the_command_that_the_log_prints_gives_the_same_layer_and_stands_in_the_same_root() {
    let space = copy();
    edit(&space, "env | sort >$1/etc/seen; pwd >>$1/etc/seen; uname -r >>$1/etc/seen");
    space.run(&["build"]).good();
    let printed = space.run(&["log", "--what-ran", "rootfs/postinstall"]).good().out;
    let command = printed.lines().find(|line| !line.starts_with('#')).unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_imgbuild")).parent().unwrap();
    let shell = |script: &str| -> Ran {
        let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
        Command::new("sh").args(["-c", script]).env("PATH", path).output().unwrap().into()
    };
    let info: serde_json::Value =
        serde_json::from_slice(&std::fs::read(space.artefact("tiny", "build.json")).unwrap()).unwrap();
    let layers = info["layers"].as_array().unwrap();
    let layer = layers.iter().find(|layer| layer[0] == "rootfs/postinstall").unwrap()[1].as_str().unwrap().to_owned();
    let ran = shell(command).good();
    assert!(words(&ran).contains(&format!("produced the layer {layer}, same as in the store")), "{}", ran.err);
    // By hand: the same environment, and the same command does the same there.
    let by_hand = command.strip_suffix(" --run").unwrap();
    let script = format!(
        "{by_hand} -- /bin/sh -c 'test ! -e /target/etc/seen && eval \"$IMGBUILD_COMMAND\" && cat /target/etc/seen; exit 7'"
    );
    let ran = shell(&script);
    assert_eq!(ran.code, 7, "{}", ran.err);
    let seen = space.run(&["shell", "--", "/bin/cat", "/etc/seen"]).good().out;
    // Only what a shell on a terminal has besides.
    let own = |text: &str| -> Vec<String> {
        let more = |line: &&str| {
            !line.starts_with("TERM=") && !line.starts_with("IMGBUILD_COMMAND=") && !line.starts_with("OLDPWD=")
        };
        text.lines().filter(more).map(str::to_owned).collect()
    };
    assert_eq!(own(&ran.out), own(&seen));
    // A transaction's root, with the packages and the script that installs them.
    let ran = space
        .run(&["shell", "--action", "rootfs/kernel", "--", "/bin/sh", "-c", "echo $IMGBUILD_COMMAND; ls /debs"])
        .good();
    assert!(ran.out.contains("/imgbuild/run") && ran.out.contains("linux-image-"), "{}", ran.out);
    // What imgbuild does itself has no command: the tree that it works on.
    assert!(space.run(&["shell", "--action", "pack/rootimg", "--", "/bin/ls", "/"]).good().out.contains("etc"));
    edit(&space, ": moved");
    let ran = shell(command);
    assert_eq!(ran.code, 1);
    assert!(words(&ran).contains("changed since it ran: tiny.postinstall"), "{}", ran.err);
    let ran = space.run(&["shell", "--action", "rootfs/nothing", "--run"]);
    assert_eq!(ran.code, 1);
    assert!(words(&ran).contains("there are rootfs/tools"), "{}", ran.err);
}

#[test]
fn a_build_does_what_its_plan_says_or_tells_what_moved() {
    use std::os::unix::fs::PermissionsExt;
    let space = copy();
    let file = space.path().join("plan.json");
    let file = file.to_str().unwrap();
    let build = || space.run(&["build", "--plan", file]);
    let refused = |said: &[&str]| {
        let published = std::fs::read_link(space.path().join("out/tiny")).unwrap();
        let count = log(&space).as_array().unwrap().len();
        let ran = build();
        assert_eq!(ran.code, 1, "{}", ran.err);
        let words = words(&ran);
        for said in said.iter().chain(&["nothing was built", "imgbuild plan -o"]) {
            assert!(words.contains(said), "{said}\n{words}");
        }
        assert_eq!(published, std::fs::read_link(space.path().join("out/tiny")).unwrap());
        assert_eq!(count, log(&space).as_array().unwrap().len(), "a build began");
    };
    edit(&space, ": planned");
    space.run(&["plan", "-o", file]).good();
    assert_valid("planfile", &std::fs::read_to_string(file).unwrap());
    // A file's content, with its name, both digests and the line that asks for it.
    let script = space.path().join("tiny.postinstall");
    let text = std::fs::read_to_string(&script).unwrap();
    space.edit("tiny.postinstall", ": planned", ": other");
    refused(&["1 difference", "tiny: rootfs/postinstall: file tiny.postinstall: 0755", "->", "(image.toml:"]);
    std::fs::write(&script, &text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    refused(&["tiny.postinstall: 0755", "-> 0700"]);
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    // The recipe: a setting, and a whole action more.
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.edit("image.toml", "[system]\n", "[system]\ntimezone = \"Europe/Vienna\"\n");
    refused(&["rootfs/system: parameter timezone: unset -> Europe/Vienna (image.toml:"]);
    space.write("image.toml", &recipe).write("image.toml", &format!("{recipe}\n[services]\nmask = [\"x.service\"]\n"));
    refused(&["rootfs/services: is new"]);
    space.write("image.toml", &recipe);
    // The lock.
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    let epoch = lock.lines().find(|line| line.starts_with("epoch = ")).unwrap().to_owned();
    space.write("image.lock", &lock.replace(&epoch, "epoch = 1700000000"));
    refused(&["parameter epoch:", "-> 1700000000", "image.lock: epoch:"]);
    let digest = "11".repeat(32);
    let at = lock.find("name = \"adduser\"").unwrap();
    let start = at + lock[at..].find("sha256 = \"").unwrap() + 10;
    space.write("image.lock", &format!("{}{digest}{}", &lock[..start], &lock[start + 64..]));
    refused(&["package adduser:all:", "-> ", "111111111111"]);
    space.write("image.lock", &lock);
    // Published files that somebody changed, and a result that the store lost.
    let kernel = space.artefact("tiny", "kernel");
    let bytes = std::fs::read(&kernel).unwrap();
    std::fs::write(&kernel, b"x").unwrap();
    refused(&["the published kernel was modified since"]);
    std::fs::write(&kernel, bytes).unwrap();
    let plan: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let actions = plan["images"][0]["actions"].as_array().unwrap();
    let initrd = actions.iter().find(|one| one["action"] == "initrd/stateless").unwrap();
    assert_eq!(initrd["verdict"], "keep");
    let record = space.store().join(format!("v1/actions/{}.json", initrd["key"].as_str().unwrap()));
    let aside = record.with_extension("aside");
    std::fs::rename(&record, &aside).unwrap();
    let ran = build();
    std::fs::rename(&aside, &record).unwrap();
    assert_eq!(ran.code, 1);
    assert!(
        words(&ran).contains("initrd/stateless: was to be kept, but its result is missing from the store"),
        "{}",
        ran.err
    );
    // All is as it was: the plan holds, and what depended turns out either way.
    let ran = build().good();
    assert!(ran.err.contains("ran rootfs/postinstall"), "{}", ran.err);
    refused(&["rootfs/postinstall: was to run, but the store has its result now"]);
}

#[test]
fn images_of_one_plan_may_share_what_the_first_of_them_makes() {
    let space = Space::new().with_store(&store());
    let lock = tiny().space.path().join("image.lock");
    for name in ["one", "two"] {
        let directory = space.path().join(name);
        copy_tree(tiny().space.path(), &directory);
        std::fs::copy(&lock, directory.join("image.lock")).unwrap();
        let recipe = format!("{name}/image.toml");
        space.edit(&recipe, "name = \"tiny\"", &format!("name = \"{name}\""));
        space.edit(&recipe, "[system]\n", "[system]\nhostname = \"shared-name\"\n");
    }
    space.write("imgbuild.toml", "images = [\"*\"]\n");
    let file = space.path().join("plan.json");
    let file = file.to_str().unwrap();
    space.run(&["plan", "-o", file]).good();
    let plan = assert_valid("planfile", &std::fs::read_to_string(file).unwrap());
    let verdict = |image: usize| {
        let actions = plan["images"][image]["actions"].as_array().unwrap().iter();
        actions.filter(|one| one["action"] == "rootfs/system").map(|one| one["verdict"].clone()).next().unwrap()
    };
    assert_eq!((verdict(0), verdict(1)), ("run".into(), "run".into()));
    space.edit("two/tiny.postinstall", "set -e\n", "set -e\n: moved\n");
    let ran = space.run(&["build", "--plan", file]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(words(&ran).contains("two: rootfs/postinstall: file tiny.postinstall"), "{}", ran.err);
    assert!(!space.path().join("one/out").exists(), "the first image was built before the second was looked at");
    space.edit("two/tiny.postinstall", ": moved\n", "");
    let ran = space.run(&["build", "--plan", file]).good();
    assert_eq!(ran.err.matches("rootfs/system: done").count(), 1, "{}", ran.err);
    assert!(space.path().join("one/out/one").exists() && space.path().join("two/out/two").exists());
}

/// Unpacks a build's image with cpio(1).
fn unpacked(image: &Path) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let script = format!("zstd -dc {} | cpio --quiet -idm --no-absolute-filenames", image.display());
    let output = Command::new("sh").args(["-c", &script]).current_dir(directory.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    directory
}

/// What find(1) says of each path: kind, mode, owner, size, link, name.
fn found(directory: &Path) -> std::collections::BTreeMap<String, String> {
    let output = Command::new("find")
        .args([".", "-mindepth", "1", "(", "-type", "d", "-printf", "%P\\t%y %#m %U:%G\\n", ")", "-o"])
        .args(["-printf", "%P\\t%y %#m %U:%G %s %l\\n"])
        .current_dir(directory)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(path, what)| (path.to_owned(), what.to_owned()))
        .collect()
}

#[test]
fn two_builds_differ_in_what_diff_and_find_say_of_the_unpacked_trees() {
    let space = copy();
    edit(
        &space,
        "cd $1; echo new >etc/new; mkdir -p srv/new/deep; rm etc/issue.net; chmod 600 etc/issue; chown 7:9 etc/hosts; \
         echo more >>etc/motd; ln -sfn elsewhere etc/alternatives/awk; mkdir -p etc/systemd/system/multi-user.target.wants; \
         ln -s /lib/x.service etc/systemd/system/multi-user.target.wants/x.service; cd /recipe",
    );
    space.run(&["build"]).good();
    let differ =
        |arguments: &[&str]| assert_valid("diff", &space.run(&[&["diff", "--json"], arguments].concat()).good().out);
    let by_layers = differ(&["tiny@previous", "tiny"]);
    assert_eq!(by_layers["a"]["files_from"], "layers");
    let names = |list: &serde_json::Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap().to_owned()).collect()
    };
    let files = &by_layers["files"];
    // The independent words: cpio(1), find(1), diff(1).
    let now = space.path().join("out/tiny").canonicalize().unwrap();
    let was = std::fs::read_dir(now.parent().unwrap()).unwrap().flatten().map(|entry| entry.path());
    let was = was.filter(|path| *path != now && path.join("build.json").is_file()).last().unwrap();
    let (tree_was, tree_now) = (unpacked(&was.join("rootimg.cpio.zst")), unpacked(&now.join("rootimg.cpio.zst")));
    let (old, new) = (found(tree_was.path()), found(tree_now.path()));
    let only = |one: &std::collections::BTreeMap<String, String>,
                other: &std::collections::BTreeMap<String, String>| {
        one.keys().filter(|path| !other.contains_key(*path)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(&files["added"]), only(&new, &old));
    assert_eq!(names(&files["removed"]), only(&old, &new));
    let output = Command::new("diff")
        .env("LC_ALL", "C")
        .args(["-rq", "--no-dereference"])
        .args([tree_was.path(), tree_now.path()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let prefix = tree_was.path().to_str().unwrap();
    let content = text.lines().filter(|line| !line.starts_with("Only in ")).map(|line| {
        let path = line.split_whitespace().find(|word| word.starts_with(prefix)).unwrap();
        path[prefix.len() + 1..].to_owned()
    });
    let shared =
        new.iter().filter(|(path, what)| old.get(*path).is_some_and(|was| was != *what)).map(|(path, _)| path.clone());
    let mut expected: Vec<String> = content.chain(shared).collect();
    expected.sort();
    expected.dedup();
    assert_eq!(names(&files["changed"]), expected);
    assert!(
        expected.iter().any(|path| path == "etc/issue") && expected.iter().any(|path| path == "etc/hosts"),
        "{expected:?}"
    );
    let of = |path: &str| {
        files["changed"].as_array().unwrap().iter().find(|one| one["path"] == path).unwrap()["changes"].clone()
    };
    assert_eq!(of("etc/issue")["mode"]["now"], "0600");
    assert_eq!(of("etc/hosts")["owner"]["now"], "7:9");
    assert_eq!(of("etc/alternatives/awk")["target"]["now"], "elsewhere");
    assert_eq!(by_layers["services"][0]["service"], "x.service");
    assert_eq!(
        by_layers["packages"],
        serde_json::json!({"added": [], "removed": [], "upgraded": [], "downgraded": [], "changed": []})
    );
    assert!(by_layers["artefacts"].as_array().unwrap().iter().any(|one| one["name"] == "rootimg.cpio.zst"));
    // Read from the packed images, by a store that knows nothing of them, all is the same.
    let elsewhere = space.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let (a, b) = (was.to_str().unwrap(), now.to_str().unwrap());
    let output = crate::support::imgbuild()
        .arg("-C")
        .arg(&elsewhere)
        .arg("--store")
        .arg(elsewhere.join("store"))
        .args(["diff", a, b, "--json"])
        .output()
        .unwrap();
    let by_archive = assert_valid("diff", &String::from_utf8(output.stdout).unwrap());
    assert_eq!(by_archive["a"]["files_from"], "archive");
    for part in ["files", "services", "artefacts", "packages", "kernel_release"] {
        assert_eq!(by_archive[part], by_layers[part], "{part}");
    }
    // The unpacked tree has the packages of the lock, and the files of the image.
    let tree = tree_now.path().to_str().unwrap();
    let locked = differ(&[space.path().join("image.lock").to_str().unwrap(), tree]);
    let mut packages = locked["packages"].clone();
    packages.as_object_mut().unwrap().remove("changed");
    assert_eq!(packages, serde_json::json!({"added": [], "removed": [], "upgraded": [], "downgraded": []}));
    let unpacked = differ(&[b, tree]);
    let paths = |kind: &str| names(&unpacked["files"][kind]);
    assert_eq!((paths("added"), paths("removed")), (Vec::new(), Vec::new()));
    let query = Command::new("dpkg-query")
        .args(["--admindir", &format!("{tree}/var/lib/dpkg"), "-W", "-f", "${db:Status-Status}\\n"])
        .output()
        .unwrap();
    let count = String::from_utf8(query.stdout).unwrap().lines().filter(|line| *line == "installed").count();
    let lock: toml::Value = toml::from_str(&std::fs::read_to_string(space.path().join("image.lock")).unwrap()).unwrap();
    let passes = lock["pass"].as_array().unwrap().iter();
    let of_image = passes.filter(|pass| !pass["name"].as_str().unwrap().starts_with("tools"));
    assert_eq!(count, of_image.map(|pass| pass["packages"].as_array().unwrap().len()).sum::<usize>());
    // The number of the log names a build too, and one that is gone says so.
    let number = log(&space)[0]["number"].as_u64().unwrap();
    assert_eq!(differ(&[&format!("tiny@{number}"), "tiny"])["same"], true);
    let ran = space.run(&["diff", "tiny@999", "tiny"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("there is no build `999` of `tiny`"), "{}", ran.err);
}

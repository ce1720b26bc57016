//! Plan files, the log and differences, as far as they need no build.

use std::path::Path;
use std::process::Command;

use crate::support::{Space, imgbuild, project};

const FORMATS: [&str; 3] = ["planfile", "log", "diff"];

fn schema(format: &str) -> String {
    String::from_utf8(imgbuild().args(["schema", format]).output().unwrap().stdout).unwrap()
}

#[track_caller]
pub fn assert_valid(format: &str, text: &str) -> serde_json::Value {
    let value = serde_json::from_str(text).unwrap();
    crate::schemas::assert_valid(format, &value);
    value
}

#[test]
fn the_schemas_of_plan_files_logs_and_differences_are_current() {
    for format in FORMATS {
        let path = project().join(format!("schemas/{format}.schema.json"));
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(committed, schema(format), "renew it: imgbuild schema {format} >schemas/{format}.schema.json");
    }
}

#[test]
fn a_plan_file_needs_a_lock_and_writes_nothing_without() {
    let space = Space::example("mini");
    let file = space.path().join("plan.json");
    let ran = space.run(&["plan", "-o", file.to_str().unwrap()]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("image.lock is missing or out of date with the recipe") && ran.err.contains("imgbuild build"),
        "{}",
        ran.err
    );
    assert!(!file.exists());
}

#[test]
fn what_is_no_plan_or_of_another_imgbuild_is_refused() {
    let space = Space::example("mini");
    for (text, said) in [
        ("{", "is not a plan"),
        ("{\"format_version\": \"2.0\"}", "has format 2.0, but this imgbuild supports 1.0"),
        (
            "{\"format_version\": \"1.7\", \"imgbuild\": \"9.9.9\", \"publish\": [], \"images\": []}",
            "was made by imgbuild 9.9.9",
        ),
        ("{\"format_version\": \"1.0\"}", "missing field"),
    ] {
        space.write("plan.json", text);
        let file = space.path().join("plan.json");
        let ran = space.run(&["build", "--plan", file.to_str().unwrap()]);
        let words = ran.err.split_whitespace().collect::<Vec<_>>().join(" ").replace("│ ", "");
        assert_eq!(ran.code, 1, "{words}");
        assert!(words.contains(said) && words.contains("imgbuild plan -o"), "{said}\n{words}");
        assert!(!space.path().join("out").exists());
    }
    assert_eq!(space.run(&["build", "--plan", "x", "--out", "y"]).code, 64);
}

#[test]
fn before_anything_was_built_the_log_says_so_and_nothing_is_guessed() {
    let space = Space::example("mini");
    let ran = space.run(&["log"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("nothing was built"), "{}", ran.err);
    assert!(assert_valid("log", &space.run(&["log", "--json"]).good().out)["images"].as_array().unwrap().is_empty());
    let plan = space.plan();
    let estimate = &plan["images"][0]["estimate"];
    for unknown in ["milliseconds", "written_bytes", "download_bytes"] {
        assert!(estimate[unknown].is_null(), "{estimate}");
    }
    assert!(!estimate["unknown"].as_array().unwrap().is_empty());
    assert!(space.run(&["plan"]).good().out.contains("estimate: none yet"));
}

#[test]
fn images_that_share_work_are_estimated_together() {
    let space = Space::new();
    space.write("imgbuild.toml", "images = [\"images/*\"]\n");
    for name in ["a", "b"] {
        crate::support::cluster::write_cluster(&space, &format!("images/{name}"));
        space.edit(&format!("images/{name}/image.toml"), "\"compute\"", &format!("\"{name}\""));
    }
    space.edit("images/b/compute.exlist", "./usr/share/doc*\n", "");
    let plan = assert_valid("plan", &space.run(&["plan", "--json"]).good().out);
    let total = &plan["estimate"];
    let of_one = |field: &str| plan["images"][0]["estimate"][field]["most"].as_u64().unwrap();
    // Both have the same lock: what one lacks, the other lacks too.
    for field in ["download_bytes", "download_packages"] {
        assert_eq!(total[field]["most"].as_u64().unwrap(), of_one(field), "{total}");
    }
    // The script sees the image's name, so that it and what comes after it are each image's own.
    let shared = total["shared"].as_u64().unwrap();
    let actions = plan["images"][0]["estimate"]["actions"].as_array().unwrap().len() as u64;
    assert!(shared > 3 && shared < actions, "{total}");
    assert_eq!(total["actions"].as_u64().unwrap(), 2 * actions - shared);
    assert_eq!(total["unknown"], total["actions"]);
    let text = space.run(&["plan"]).good().out;
    let words = format!(
        "2 images together: estimate: none yet; downloads 10 B in 10 packages (exact, speed unknown); {shared} actions are shared and count once"
    );
    assert_eq!(text.lines().last().unwrap(), words);
    // As a memo remembers it.
    std::fs::create_dir_all(space.store()).unwrap();
    assert_eq!([space.run(&["plan"]).good().out, space.run(&["plan"]).good().out], [text.clone(), text]);
}

fn status(packages: &[(&str, &str)]) -> String {
    let stanza = |(name, version): &(&str, &str)| {
        format!(
            "Package: {name}\nStatus: install ok installed\nMaintainer: x\nArchitecture: all\nVersion: {version}\nDescription: x\n\n"
        )
    };
    packages.iter().map(stanza).collect()
}

/// Two trees with every kind of difference.
fn trees() -> (Space, String, String) {
    use std::os::unix::fs::PermissionsExt;
    let space = Space::new();
    for side in ["a", "b"] {
        space.write(&format!("{side}/same"), "same");
        space.write(&format!("{side}/content"), if side == "a" { "one" } else { "two" });
        space.write(&format!("{side}/size"), if side == "a" { "one" } else { "longer" });
        space.write(&format!("{side}/mode"), "x");
        space.write(&format!("{side}/etc/systemd/system/x"), "");
        let mode = if side == "a" { 0o644 } else { 0o600 };
        std::fs::set_permissions(space.path().join(side).join("mode"), std::fs::Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::symlink(format!("to-{side}"), space.path().join(side).join("link")).unwrap();
    }
    space.write("a/only-a/x", "1").write("b/only-b", "1");
    space.write("a/kind", "x").write("b/kind/x", "x");
    space.write("a/lib/modules/6.1/kernel/old.ko", "x").write("b/lib/modules/6.2/kernel/new.ko.xz", "x");
    let wants = space.path().join("b/etc/systemd/system/multi-user.target.wants");
    std::fs::create_dir_all(&wants).unwrap();
    std::os::unix::fs::symlink("/lib/systemd/system/munge.service", wants.join("munge.service")).unwrap();
    space.write("a/var/lib/dpkg/status", &status(&[("bash", "5.2-1"), ("gone", "1"), ("newer", "2:1"), ("same", "1")]));
    space.write(
        "b/var/lib/dpkg/status",
        &status(&[("bash", "5.2-1+b1"), ("came", "1"), ("newer", "1:9"), ("same", "1")]),
    );
    let path = |side: &str| space.path().join(side).to_str().unwrap().to_owned();
    let (a, b) = (path("a"), path("b"));
    (space, a, b)
}

fn paths(list: &serde_json::Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap().to_owned()).collect()
}

/// What diff(1) says: paths that differ in content, and those that one side lacks (the topmost only).
fn said_by_diff(a: &str, b: &str) -> (Vec<String>, Vec<String>) {
    let output = Command::new("diff").env("LC_ALL", "C").args(["-rq", "--no-dereference", a, b]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let below = |path: &str| {
        let path = path.strip_prefix(a).or_else(|| path.strip_prefix(b)).unwrap_or(path);
        path.trim_start_matches('/').to_owned()
    };
    let (mut differ, mut only) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("Only in ") {
            let (directory, name) = rest.split_once(": ").unwrap();
            only.push(format!("{}/{name}", below(directory)).trim_start_matches('/').to_owned());
        } else if let Some(rest) = line.strip_prefix("Files ").or_else(|| line.strip_prefix("Symbolic links ")) {
            differ.push(below(rest.split(" and ").next().unwrap()));
        } else if let Some(rest) = line.strip_prefix("File ") {
            differ.push(below(rest.split(" is a ").next().unwrap()));
        }
    }
    differ.sort();
    only.sort();
    (differ, only)
}

#[test]
fn directories_differ_as_diff_and_dpkg_query_say() {
    let (space, a, b) = trees();
    let found = assert_valid("diff", &space.run(&["diff", &a, &b, "--json"]).good().out);
    let (differ, only) = said_by_diff(&a, &b);
    // diff(1) does not look at modes; only what it looks at is compared with it.
    let changed = found["files"]["changed"].as_array().unwrap();
    let by_content =
        |one: &&serde_json::Value| ["content", "target", "kind"].iter().any(|name| !one["changes"][name].is_null());
    let ours: Vec<String> =
        changed.iter().filter(by_content).map(|one| one["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ours, differ);
    let topmost = |list: &[String]| -> Vec<String> {
        list.iter().filter(|path| !list.iter().any(|other| path.starts_with(&format!("{other}/")))).cloned().collect()
    };
    let mut ours = [topmost(&paths(&found["files"]["added"])), topmost(&paths(&found["files"]["removed"]))].concat();
    ours.retain(|path| path != "kind/x");
    ours.sort();
    assert_eq!(ours, only);
    let mode = changed.iter().find(|one| one["path"] == "mode").unwrap();
    assert_eq!(mode["changes"]["mode"], serde_json::json!({"was": "0644", "now": "0600"}));
    let names = |kind: &str| -> Vec<String> {
        let list = found["packages"][kind].as_array().unwrap();
        list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        [names("added"), names("removed"), names("upgraded"), names("downgraded")],
        [vec!["came".to_owned()], vec!["gone".to_owned()], vec!["bash".to_owned()], vec!["newer".to_owned()]]
    );
    for (name, was, now) in [("bash", "5.2-1", "5.2-1+b1"), ("newer", "1:9", "2:1")] {
        let order = Command::new("dpkg").args(["--compare-versions", was, "lt", now]).status().unwrap();
        assert!(order.success(), "{name}");
    }
    let query = |side: &str| {
        let directory = format!("{side}/var/lib/dpkg");
        let output =
            Command::new("dpkg-query").args(["--admindir", &directory, "-W", "-f", "${Package} "]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!((query(&a).as_str(), query(&b).as_str()), ("bash gone newer same ", "bash came newer same "));
    assert_eq!(found["kernel_release"], serde_json::json!({"was": "6.1", "now": "6.2"}));
    assert_eq!(found["modules"]["added"], serde_json::json!(["kernel/new.ko.xz"]));
    assert_eq!(found["modules"]["removed"], serde_json::json!(["kernel/old.ko"]));
    assert_eq!(found["services"], serde_json::json!([{"service": "munge.service", "was": null, "now": "enabled"}]));
}

#[test]
fn extended_attributes_are_compared_where_the_file_system_has_them() {
    let (space, a, b) = trees();
    let file = space.path().join("b/same");
    if let Err(error) = rustix::fs::setxattr(&file, "user.imgbuild", b"x", rustix::fs::XattrFlags::CREATE) {
        assert_eq!(error, rustix::io::Errno::NOTSUP);
        return;
    }
    let found = assert_valid("diff", &space.run(&["diff", &a, &b, "--json"]).good().out);
    let same = found["files"]["changed"].as_array().unwrap().iter().find(|one| one["path"] == "same").unwrap();
    assert_eq!(same["changes"], serde_json::json!({"xattr user.imgbuild": {"was": null, "now": "78"}}));
    // cpio without an index does not tell them: that is said, and they count for nothing.
    let script = "cd b && find . | cpio --quiet -o -H newc >../b.cpio";
    assert!(Command::new("sh").args(["-ec", script]).current_dir(space.path()).status().unwrap().success());
    let packed = space.path().join("b.cpio");
    let ran = space.run(&["diff", &b, packed.to_str().unwrap(), "--detailed-exitcode"]).good();
    assert!(ran.out.contains("not compared: extended attributes"), "{}", ran.out);
}

#[test]
fn a_difference_is_told_by_the_exit_code_only_where_that_is_asked() {
    let (space, a, b) = trees();
    assert_eq!(space.run(&["diff", &a, &b]).code, 0);
    assert_eq!(space.run(&["diff", &a, &b, "--detailed-exitcode"]).code, 2);
    let same = space.run(&["diff", &a, &a, "--detailed-exitcode"]).good();
    assert!(same.out.contains("no differences in what was compared"), "{}", same.out);
    let gone = space.run(&["diff", &a, "/nowhere/at-all"]);
    assert_eq!(gone.code, 1);
    assert!(gone.err.contains("is neither a file, a directory, an image nor a git revision"), "{}", gone.err);
    space.write("gibberish", "gibberish");
    let ran = space.run(&["diff", &a, space.path().join("gibberish").to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("is neither an archive in cpio, tar, squashfs or erofs"), "{}", ran.err);
}

#[test]
fn text_and_markdown_fold_long_lists_and_hide_nothing_else() {
    let (space, a, b) = trees();
    for number in 0..30 {
        space.write(&format!("b/many/{number}_*"), "x");
    }
    let text = space.run(&["diff", &a, &b]).good().out;
    assert!(text.contains("bash 5.2-1 -> 5.2-1+b1") && text.contains("more (-v and --json show all)"), "{text}");
    assert!(
        text.contains("mode  mode 0644 -> 0600") && text.contains("munge.service: not enabled -> enabled"),
        "{text}"
    );
    assert!(space.run(&["-v", "diff", &a, &b]).good().out.contains("many/29_*"));
    let markdown = space.run(&["diff", &a, &b, "--format", "markdown"]).good().out;
    assert!(markdown.contains("<details><summary>files added"), "{markdown}");
    assert!(markdown.contains("many/29\\_\\*"), "{markdown}");
    // Every line of a folded list is there.
    assert_eq!(markdown.matches("- many/").count(), 30);
}

fn lock(version: &str, more: &str) -> String {
    let digest = "00".repeat(32);
    let package = |name: &str, version: &str| {
        format!(
            "    {{ name = \"{name}\", version = \"{version}\", arch = \"amd64\", size = 1, sha256 = \"{digest}\", origin = \"x\", file = \"{name}.deb\" }},\n"
        )
    };
    format!(
        "format = 1\nepoch = 1\ntarget = \"debian bookworm x86_64\"\nsuite = []\n[[pass]]\nname = \"base\"\ninstall = []\npackages = [\n{}{}]\n",
        package("bash", version),
        if more.is_empty() { String::new() } else { package(more, "1") }
    )
}

fn git(directory: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn locks_are_compared_as_files_and_at_git_revisions() {
    let space = Space::new();
    space.write("recipe/image.lock", &lock("5.2~rc1-1", "zsh"));
    git(space.path(), &["init", "-q"]);
    git(space.path(), &["add", "."]);
    git(space.path(), &["commit", "-qm", "one"]);
    let old = lock("5.2-1", "");
    space.write("recipe/image.lock", &old).write("old/image.lock", &old);
    let path = |name: &str| space.path().join(name).to_str().unwrap().to_owned();
    let same = space.run(&["diff", &path("recipe"), &path("old/image.lock"), "--detailed-exitcode"]).good();
    assert!(same.out.contains("not compared: files, modules and services: neither side has any"), "{}", same.out);
    let text = space.run(&["diff", "HEAD:recipe", &path("recipe/image.lock"), "--json"]).good().out;
    let found = assert_valid("diff", &text);
    assert_eq!(found["packages"]["upgraded"][0]["now"], "5.2-1");
    assert_eq!(found["packages"]["removed"][0]["name"], "zsh");
    assert!(found["files"].is_null());
    let ran = space.run(&["diff", "no-such-revision:recipe", &path("old")]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("no-such-revision"), "{}", ran.err);
    space.write("bad/image.lock", "format = 99\n");
    assert_eq!(space.run(&["diff", &path("bad"), &path("old")]).code, 1);
}

#[test]
fn bundles_of_another_tool_are_read_packed_and_in_an_archive() {
    let (space, a, b) = trees();
    for side in ["a", "b"] {
        let bundle = space.path().join(format!("bundle-{side}"));
        std::fs::create_dir(&bundle).unwrap();
        let script = format!(
            "cd {side} && find . | sort | cpio --quiet -o -H newc | gzip -n >{0}/rootimg.cpio.gz && echo {side} >{0}/kernel && tar -C {0} -cf {0}.tar . && tar -czf {0}.tree.tar.gz .",
            bundle.display()
        );
        let made = Command::new("sh").args(["-ec", &script]).current_dir(space.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let path = |name: &str| space.path().join(name).to_str().unwrap().to_owned();
    let compared = |a: &str, b: &str| assert_valid("diff", &space.run(&["diff", a, b, "--json"]).good().out);
    let plain = compared(&a, &b);
    for (one, two) in
        [("bundle-a", "bundle-b"), ("bundle-a.tar", "bundle-b.tar"), ("bundle-a.tree.tar.gz", "bundle-b.tree.tar.gz")]
    {
        let found = compared(&path(one), &path(two));
        for part in ["packages", "files", "modules", "services", "kernel_release"] {
            assert_eq!(found[part], plain[part], "{one} {part}");
        }
        if !one.contains("tree") {
            let names: Vec<&str> =
                found["artefacts"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["kernel", "rootimg.cpio.gz"]);
        }
    }
    // A tree and its own packed form are the same.
    let found = compared(&a, &path("bundle-a"));
    assert_eq!(found["files"]["changed"], serde_json::json!([]), "{found}");
    assert_eq!(
        (&found["files"]["added"], &found["files"]["removed"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
}

#[test]
fn a_pin_is_moved_by_nobody_who_does_not_say_so() {
    let space = Space::new();
    space.write("imgbuild.toml", "images = [\"*\"]\n");
    for name in ["one", "two"] {
        space.write(&format!("{name}/image.toml"), &format!("[image]\nname = \"{name}\"\nrelease = \"bookworm\"\n"));
    }
    let pin = |arguments: &[&str]| space.run(&[&["store", "pin"], arguments].concat());
    let ran = pin(&["golden", "one"]);
    assert!(ran.code == 1 && ran.err.contains("was not built here"), "{}", ran.err);
    // The last builds, as the end of a build remembers them.
    let store = store::Store::existing(&space.store());
    let built = |name: &str, key: u8| {
        let root = store::Root {
            format: 1,
            image: name.to_owned(),
            recipe: space.path().canonicalize().unwrap().join(name),
            actions: [("rootfs/base".to_owned(), base::digest::Digest([key; 32]))].into(),
            ..Default::default()
        };
        store.set_root(&root).unwrap();
    };
    built("one", 1);
    built("two", 2);
    pin(&["golden", "one"]).good();
    pin(&["golden", "one"]).good();
    let refused = |arguments: &[&str], what: &str| {
        let before = pin(&["--json"]).good().out;
        let ran = pin(arguments);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains(what) && ran.err.contains("store pin golden --remove"), "{}", ran.err);
        assert_eq!(pin(&["--json"]).good().out, before);
    };
    refused(&["golden", "two"], "golden already pins one (");
    built("one", 3);
    refused(&["golden", "one"], "golden already pins another build of one");
    pin(&["golden", "--remove"]).good();
    pin(&["golden", "two"]).good();
    for label in ["../x", "", "a b", ".x", &"x".repeat(65)] {
        for more in [&["one"][..], &["--remove"]] {
            let ran = pin(&[&[label], more].concat());
            assert_eq!(ran.code, 64, "{label}: {}", ran.err);
            assert!(ran.err.contains("a label has letters, digits"), "{}", ran.err);
        }
    }
}

#[test]
fn why_a_script_failed_does_not_end_in_lines_that_are_not_there() {
    let space = Space::new();
    space.write("image.toml", "[image]\nname = \"beta\"\nrelease = \"bookworm\"\n");
    // The store is made by a command that needs it.
    assert_eq!(space.run(&["store", "pin", "x"]).code, 1);
    let store = store::Store::existing(&space.store());
    let trace = store.begin_build("beta", &space.path().canonicalize().unwrap(), "debian bookworm x86_64").unwrap();
    let why = "the postinstall script `fail` ended with status 7; its last lines:\nline one\nline two";
    let run = store::Run {
        action: "rootfs/postinstall".to_owned(),
        key: Some(base::digest::Digest([1; 32])),
        failed: Some(why.to_owned()),
        ..Default::default()
    };
    trace.ran(run).unwrap();
    trace.ended(store::End { failed: Some(why.to_owned()), ..Default::default() }).unwrap();
    for arguments in [&["log", "beta"][..], &["log"], &["log", "--what-ran", "rootfs"]] {
        let text = space.run(arguments).good().out;
        assert!(text.contains("ended with status 7\n"), "{text}");
        assert!(!text.contains("last lines"), "{text}");
    }
}

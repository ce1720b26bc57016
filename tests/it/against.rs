//! `plan --against REV`, through the built binary in a real git repository: what each edit rebuilds, and why.

use std::fmt::Write;

use crate::support::cluster::{PASSES, chmod, cluster, commit_all, git, lock, write_cluster};
use crate::support::{Ran, Space, copy_locked, imgbuild, without_paths};

pub type Edit = (&'static str, fn(&Space));

/// A lock with other packages in its transactions.
fn relock(space: &Space, edit: impl Fn(&str) -> String) {
    space.write("image.lock", &edit(&lock(&PASSES)));
}

fn package(name: &str, version: &str) -> String {
    let whole = lock(&[("x", &[], &[(name, version)])]);
    whole.lines().find(|line| line.contains("{ name")).unwrap().to_owned() + "\n"
}

const EDITS: &[Edit] = &[
    ("nothing", |_| ()),
    ("a comment", |space| {
        space.edit("compute.pkglist", "# what", "# all that");
    }),
    ("a package in the list, not locked", |space| {
        space.edit("compute.pkglist", "udev\n", "udev\njq\n");
    }),
    ("a package in the list, locked", |space| {
        space.edit("compute.pkglist", "udev\n", "udev\njq\n");
        relock(space, |text| {
            text.replace("\"udev\", \"less\"", "\"udev\", \"jq\", \"less\"").replace(
                &package("less", "590-2"),
                &(package("less", "590-2") + &package("jq", "1.6-2") + &package("libjq1", "1.6-2")),
            )
        });
    }),
    ("a package leaves the list, not locked", |space| {
        space.edit("compute.pkglist", "htop\n", "");
    }),
    ("a package leaves the list, locked", |space| {
        space.edit("compute.pkglist", "htop\n", "");
        relock(space, |text| text.replace(&package("htop", "3.2.1-1"), "").replace("[\"htop\", ", "["));
    }),
    ("a package in the recipe, not locked", |space| {
        space.edit("image.toml", "[\"less\"]", "[\"less\", \"jq\"]");
    }),
    ("a package leaves the lock, and the list has it", |space| {
        relock(space, |text| text.replace(&package("htop", "3.2.1-1"), ""));
    }),
    ("a package in a pass of its own", |space| {
        space.edit("compute.pkglist", "htop\nudev\n", "htop\n#NEW_INSTALL_LIST#\nudev\n");
        relock(space, |text| {
            let udev = package("udev", "252.1");
            let second = format!("\n[[pass]]\nname = \"packages-2\"\ninstall = [\"udev\"]\npackages = [\n{udev}]\n");
            text.replace("\"htop\", \"udev\", ", "\"htop\", ")
                .replace(&udev, "")
                .replace("\n[[pass]]\nname = \"kernel\"", &(second + "\n[[pass]]\nname = \"kernel\""))
        });
    }),
    ("a package that the recipe names itself", |space| {
        space.edit("compute.pkglist", "htop\n", "").edit("image.toml", "[\"less\"]", "[\"less\", \"htop\"]");
        relock(space, |text| {
            let htop = package("htop", "3.2.1-1");
            text.replace("\"htop\", \"udev\", \"less\"", "\"udev\", \"less\", \"htop\"")
                .replace(&htop, "")
                .replace(&package("less", "590-2"), &(package("less", "590-2") + &htop))
        });
    }),
    ("a driver list of its own", |space| {
        space.edit("image.toml", "    \"+ice\",\n", "    \"ice\",\n");
    }),
    ("a user's group and home", |space| {
        space.edit("image.toml", "gid = 901, home = \"/srv/slurm\"", "gid = 905, home = \"/srv/sl\"");
    }),
    ("a synclist without its pattern", |space| {
        space.edit("compute.synclist", "conf/*.conf -> /etc/conf/\n", "");
    }),
    ("a synced file without its last line", |space| {
        space.edit("motd", "of the cluster\n", "");
    }),
    ("an update", |space| {
        relock(space, |text| text.replace(&package("htop", "3.2.1-1"), &package("htop", "3.2.2-2")));
    }),
    ("a kernel", |space| {
        relock(space, |text| {
            text.replace(
                &package("linux-image-6.1.0-30-cloud-amd64", "6.1.124-1"),
                &package("linux-image-6.1.0-31-cloud-amd64", "6.1.128-1"),
            )
            .replace(&package("linux-image-cloud-amd64", "6.1.124-1"), &package("linux-image-cloud-amd64", "6.1.128-1"))
        });
    }),
    ("tools", |space| {
        relock(space, |text| text.replace(&package("apt", "2.6.1"), &package("apt", "2.6.2")));
    }),
    ("the epoch", |space| relock(space, |text| text.replace("epoch = 1700000000", "epoch = 1800000000"))),
    ("a driver", |space| {
        space.edit("image.toml", "    \"+ice\",\n", "    \"+ice\",\n    \"+loop\",\n");
    }),
    ("a driver less", |space| {
        space.edit("image.toml", "    \"+ice\",\n", "");
    }),
    ("a default driver less", |space| {
        space.edit("image.toml", "    \"+ice\",\n", "    \"+ice\",\n    \"-be2net\",\n");
    }),
    ("the level", |space| {
        space.edit("image.toml", "level = 3", "level = 9");
    }),
    ("the compressor", |space| {
        space.edit("image.toml", "compress = \"zstd\"\nlevel = 3\n", "compress = \"gzip\"\n");
    }),
    ("the time zone", |space| {
        space.edit("image.toml", "Etc/UTC", "Europe/Berlin");
    }),
    ("no time zone", |space| {
        space.edit("image.toml", "timezone = \"Etc/UTC\"\n", "");
    }),
    ("a key", |space| {
        space.write(
            "keys/second.pub",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty second\n",
        );
        space.edit("image.toml", "[\"keys/admin.pub\"]", "[\"keys/admin.pub\", \"keys/second.pub\"]");
    }),
    ("a mount", |space| {
        space.edit("image.toml", "defaults 0 0\"]", "defaults 0 0\", \"none /tmp tmpfs defaults 0 0\"]");
    }),
    ("a unit", |space| {
        space.edit("image.toml", "[\"ssh\"]", "[\"ssh\", \"cron\"]");
    }),
    ("no units any more", |space| {
        space.edit("image.toml", "[services]\nenable = [\"ssh\"]\n", "");
    }),
    ("a user's id", |space| {
        space.edit("image.toml", "uid = 901", "uid = 902");
    }),
    ("an argument", |space| {
        space.edit("image.toml", "[\"one\"]", "[\"one\", \"two\"]");
    }),
    ("a variable", |space| {
        space.edit("image.toml", "SITE = \"a\"", "SITE = \"b\"");
    }),
    ("the script", |space| {
        space.edit("compute.postinstall", "etc/made", "etc/other");
    }),
    ("a file for the script's pattern", |space| {
        space.write("site/new.conf", "new\n");
        chmod(&space.path().join("site/new.conf"), 0o644);
    }),
    ("a file less for the script's pattern", |space| std::fs::remove_file(space.path().join("site/old.conf")).unwrap()),
    ("a line of the synclist", |space| {
        space.edit("compute.synclist", "motd -> /etc/motd\n", "motd -> /etc/motd\nmotd -> /etc/issue\n");
    }),
    ("a line less of the synclist", |space| {
        space.edit("compute.synclist", "motd -> /etc/motd\n", "");
    }),
    ("a synced file's second line", |space| {
        space.edit("motd", "of the cluster", "of this cluster");
    }),
    ("a synced file may be executed", |space| {
        git(space.path(), &["update-index", "--chmod=+x", "motd"]);
    }),
    ("a file for the synclist's pattern", |space| {
        space.write("conf/b.conf", "b\n");
        chmod(&space.path().join("conf/b.conf"), 0o644);
    }),
    ("a pattern of the exclude list", |space| {
        space.edit("compute.exlist", "./usr/share/man*\n", "./usr/share/man*\n./usr/share/info*\n");
    }),
    ("a pattern less of the exclude list", |space| {
        space.edit("compute.exlist", "./usr/share/doc*\n", "");
    }),
    ("the order of the exclude list", |space| {
        space.write("compute.exlist", "./usr/share/man*\n./usr/share/doc*\n");
    }),
    ("another release", |space| {
        space.edit("image.toml", "bookworm", "trixie");
    }),
    ("several at once", |space| {
        space.edit("image.toml", "level = 3", "level = 9").edit("motd", "a node", "one node");
        relock(space, |text| text.replace(&package("htop", "3.2.1-1"), &package("htop", "3.2.2-2")));
    }),
    ("another name", |space| {
        space.edit("image.toml", "\"compute\"", "\"login\"");
    }),
    ("an initrd by dracut", |space| {
        space.edit("image.toml", "[system]", "[initrd]\ngenerator = \"dracut\"\n\n[system]");
    }),
    ("packages in another order, and one more", |space| {
        space.edit("compute.pkglist", "htop\nudev\n", "udev\nhtop\njq\n");
    }),
    ("another order of the exclude list, and a pattern more", |space| {
        space.write("compute.exlist", "./usr/share/man*\n./usr/share/info*\n./usr/share/doc*\n");
    }),
    ("another archive, and one beside it", |space| {
        let pack = "archive = \"squashfs\"\nalso = [{ archive = \"cpio\" }]\ncompress = \"zstd\"";
        space.edit("image.toml", "compress = \"zstd\"", pack);
    }),
    ("no list any more", |space| {
        space.edit("image.toml", "lists = [\"compute.pkglist\"]\n", "");
    }),
];

#[test]
fn each_edit_says_what_it_rebuilds_and_why() {
    let space = cluster();
    let clean = Space::new();
    copy_locked(space.path(), clean.path());
    let mut table = String::new();
    for (name, make) in EDITS {
        let space = Space::new();
        copy_locked(clean.path(), space.path());
        make(&space);
        let status = git(space.path(), &["status", "--porcelain"]);
        let ran = space.run(&["plan", "--against", "main"]).good();
        let plan: Vec<&str> = ran.out.lines().skip(1).collect();
        let _ = writeln!(table, "== {name}\n{}", plan.join("\n"));
        assert_eq!(git(space.path(), &["status", "--porcelain"]), status, "the checkout is as it was");
        assert!(!space.store().exists(), "nothing is written");
    }
    insta::assert_snapshot!(table);
}

/// Two images below a workspace, of which one is edited.
fn edited_workspace() -> Space {
    let space = Space::new();
    space.write("images/imgbuild.toml", "");
    write_cluster(&space, "images/compute");
    commit_all(space.path());
    space.edit("images/compute/motd", "a node", "one node").edit(
        "images/compute/compute.pkglist",
        "udev\n",
        "udev\njq\n",
    );
    space
}

/// Runs a command where the image `compute` of a workspace is.
pub fn in_images(space: &Space, arguments: &[&str]) -> Ran {
    let mut command = imgbuild();
    command.arg("-C").arg(space.path().join("images/compute")).arg("--store").arg(space.store()).args(arguments);
    command.output().unwrap().into()
}

/// The commit's name is another one in each run.
fn steady(space: &Space, text: &str) -> String {
    let commit = git(space.path(), &["rev-parse", "HEAD"]);
    text.replace(&commit, "[COMMIT]").replace(&commit[..12], "[COMMIT]")
}

#[test]
fn annotations_stand_on_the_lines_of_the_repository() {
    let space = edited_workspace();
    let github = in_images(&space, &["plan", "--against", "HEAD", "--format", "github"]).good().out;
    insta::assert_snapshot!("github", github);
    let gitlab = in_images(&space, &["plan", "--against", "HEAD", "--format", "gitlab"]).good().out;
    let report: Vec<serde_json::Value> = serde_json::from_str(&gitlab).unwrap();
    let mut fingerprints = std::collections::BTreeSet::new();
    for issue in &report {
        assert!(issue["description"].is_string() && issue["check_name"].is_string() && issue["severity"] == "info");
        assert!(issue["location"]["lines"]["begin"].as_u64().unwrap() >= 1);
        let path = issue["location"]["path"].as_str().unwrap();
        assert!(space.path().join(path).is_file(), "{path}");
        assert!(fingerprints.insert(issue["fingerprint"].as_str().unwrap().to_owned()));
    }
    insta::assert_snapshot!("gitlab", gitlab,);
}

#[test]
fn a_comment_for_a_merge_request_has_a_table_and_folded_causes() {
    let space = edited_workspace();
    let text = in_images(&space, &["plan", "--against", "HEAD", "--format", "markdown"]).good().out;
    insta::assert_snapshot!("markdown", steady(&space, &text));
}

#[test]
fn json_says_what_was_compared_and_types_each_cause() {
    let space = cluster();
    space.edit("image.toml", "level = 3", "level = 9").edit("motd", "a node", "one node");
    let text = space.run(&["plan", "--against", "HEAD", "--json"]).good().out;
    let plan: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(plan["against"]["revision"], "HEAD");
    assert_eq!(plan["against"]["commit"], git(space.path(), &["rev-parse", "HEAD"]));
    let stages = plan["images"][0]["stages"].as_array().unwrap();
    let pack = stages.iter().find(|stage| stage["stage"] == "pack").unwrap();
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&pack["causes"]).unwrap());
    assert_eq!(space.run(&["plan", "--against", "HEAD", "--detailed-exitcode"]).code, 2);
    git(space.path(), &["commit", "-q", "-a", "-m", "second"]);
    assert_eq!(space.run(&["plan", "--against", "HEAD", "--detailed-exitcode"]).code, 0);
    assert_eq!(space.run(&["plan", "--against", "HEAD~1", "--detailed-exitcode"]).code, 2);
}

#[test]
fn new_removed_and_broken_images_are_said_as_such() {
    let space = Space::new();
    write_cluster(&space, "old");
    write_cluster(&space, "broken");
    space.edit("broken/image.toml", "level = 3", "levle = 3");
    commit_all(space.path());
    std::fs::remove_dir_all(space.path().join("old")).unwrap();
    write_cluster(&space, "new");
    space.edit("new/image.toml", "\"compute\"", "\"login\"");
    write_cluster(&space, "broken");
    let plan = |directory: &str| {
        let mut command = imgbuild();
        command.arg("-C").arg(space.path().join(directory)).arg("--store").arg(space.store());
        let ran: Ran = command.args(["plan", "--against", "HEAD"]).output().unwrap().into();
        ran.good().out.lines().skip(1).take(6).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(plan("new"), @r"
    login  new
      rootfs   run
        tools          run
          HEAD does not have this image
        base           run
          HEAD does not have this image
    ");
    insta::assert_snapshot!("broken", plan("broken"));
    let mut command = imgbuild();
    command.arg("-C").arg(space.path().join("new")).args(["plan", "--against", "HEAD", "--json"]);
    let plan: serde_json::Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert_eq!(
        (plan["images"][0]["change"].as_str(), plan["images"][0]["recipe"].as_str()),
        (Some("new"), Some("new"))
    );
}

#[test]
fn each_variant_is_compared_with_what_it_was() {
    let space = Space::new();
    write_cluster(&space, "");
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let variants = "\n[variant.gpu.pack]\nlevel = 4\n\n[variant.old.pack]\nlevel = 5\n";
    space.write("image.toml", &(recipe.clone() + variants));
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    for name in ["gpu", "old", "more"] {
        space.write(&format!("image.{name}.lock"), &lock);
    }
    commit_all(space.path());
    let variants = "\n[variant.gpu.pack]\nlevel = 6\n\n[variant.more.pack]\nlevel = 5\n";
    space.write("image.toml", &(recipe + variants));
    let plan = |more: &[&str]| {
        let ran = space.run(&[&["plan", "--against", "HEAD", "--json"], more].concat()).good();
        let plan: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        let of_image = |image: &serde_json::Value| {
            let runs = image["stages"].as_array().unwrap().iter().filter(|stage| stage["action"] != "keep");
            let runs: Vec<String> = runs.map(|stage| stage["stage"].as_str().unwrap().to_owned()).collect();
            format!(
                "{} {} {}",
                image["name"].as_str().unwrap(),
                image["change"].as_str().unwrap_or("-"),
                runs.join(",")
            )
        };
        plan["images"].as_array().unwrap().iter().map(of_image).collect::<Vec<_>>()
    };
    let new = "compute-more new rootfs,kernel,initrd,pack";
    assert_eq!(plan(&[]), ["compute-gpu - pack", new, "compute-old removed "]);
    assert_eq!(plan(&["compute-gpu"]), ["compute-gpu - pack"], "what was not asked for is not told");
}

#[test]
fn a_recipe_below_that_went_is_an_image_that_was_removed() {
    let space = Space::new();
    write_cluster(&space, "");
    write_cluster(&space, "more/login");
    commit_all(space.path());
    std::fs::remove_dir_all(space.path().join("more")).unwrap();
    let plan = space.run(&["plan", "--against", "HEAD"]).good().out;
    assert!(plan.ends_with("\ncompute  removed: its recipe no longer exists\n"), "{plan}");
    assert_eq!(space.run(&["plan", "--against", "HEAD", "--detailed-exitcode"]).code, 0);
}

#[test]
fn what_cannot_be_compared_says_what_to_do() {
    let space = cluster();
    let ran = space.run(&["plan", "--against", "release/9"]);
    assert_eq!(ran.code, 1);
    insta::assert_snapshot!("unknown_revision", without_paths(&ran.err, &space));
    // A shallow clone of a history of two commits.
    space.edit("motd", "a node", "one node");
    git(space.path(), &["commit", "-q", "-a", "-m", "second"]);
    let shallow = Space::new();
    let from = format!("file://{}", space.path().display());
    git(shallow.path(), &["clone", "-q", "--depth=1", &from, "clone"]);
    let mut command = imgbuild();
    command.arg("-C").arg(shallow.path().join("clone")).args(["plan", "--against", "HEAD~1"]);
    let ran: Ran = command.output().unwrap().into();
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("git fetch --depth="), "{}", ran.err);
    // No repository.
    let alone = Space::new();
    write_cluster(&alone, "");
    let ran = alone.run(&["plan", "--against", "HEAD"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("is not in a git repository"), "{}", ran.err);
}

#[test]
fn packed_objects_tags_and_merge_bases_are_read() {
    let space = cluster();
    git(space.path(), &["tag", "-a", "v1", "-m", "first"]);
    git(space.path(), &["checkout", "-q", "-b", "topic"]);
    space.edit("motd", "a node", "one node");
    git(space.path(), &["commit", "-q", "-a", "-m", "topic"]);
    git(space.path(), &["checkout", "-q", "main"]);
    space.edit("compute.exlist", "man*", "info*");
    git(space.path(), &["commit", "-q", "-a", "-m", "main goes on"]);
    git(space.path(), &["checkout", "-q", "topic"]);
    git(space.path(), &["gc", "-q", "--aggressive", "--prune=now"]);
    git(space.path(), &["pack-refs", "--all"]);
    let why = |revision: &str| {
        let plan = space.run(&["plan", "--json", "--against", revision]).good().out;
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
        let stages = plan["images"][0]["stages"].as_array().unwrap().clone();
        let causes = stages.iter().flat_map(|stage| stage["causes"].as_array().unwrap().clone());
        let mut said: Vec<String> = causes.map(|cause| cause["file"].as_str().unwrap().to_owned()).collect();
        said.sort();
        said.dedup();
        said
    };
    assert_eq!(why("v1"), ["motd"]);
    assert_eq!(why("main..."), ["motd"], "only what the branch did");
    assert_eq!(why("main"), ["compute.exlist", "motd"]);
    // From another work tree of the same repository.
    git(space.path(), &["worktree", "add", "-q", "other", "v1"]);
    let mut command = imgbuild();
    command.arg("-C").arg(space.path().join("other")).args(["plan", "--against", "topic", "--detailed-exitcode"]);
    assert_eq!(command.output().unwrap().status.code(), Some(2));
}

#[test]
fn a_tree_that_leads_elsewhere_is_refused() {
    let space = cluster();
    // git itself makes no such tree: its object is written by hand.
    let blob = git(space.path(), &["hash-object", "-w", "motd"]);
    let mut tree = b"100644 ..\0".to_vec();
    tree.extend((0..blob.len()).step_by(2).map(|at| u8::from_str_radix(&blob[at..at + 2], 16).unwrap()));
    std::fs::write(space.path().join("tree"), tree).unwrap();
    let tree = git(space.path(), &["hash-object", "-t", "tree", "--literally", "-w", "tree"]);
    let commit = git(space.path(), &["commit-tree", &tree, "-m", "bad"]);
    let ran = space.run(&["plan", "--against", &commit]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.err.contains("which escapes the"), "{}", ran.err);
}

#[test]
fn a_revision_that_is_not_named_is_not_head() {
    let space = cluster();
    for revision in ["", " ", "...", "...HEAD"] {
        let ran = space.run(&["plan", "--against", revision]);
        assert_eq!((ran.code, ran.out.as_str()), (64, ""), "`{revision}`: {}", ran.err);
        assert!(ran.err.contains("is not a revision: is the variable it comes from set?"), "{}", ran.err);
    }
    let ran = space.run(&["diff", ":image.lock", "image.lock"]);
    assert_eq!(ran.code, 64, "{}", ran.err);
    assert!(ran.err.contains("is the variable it comes from set?"), "{}", ran.err);
    space.run(&["plan", "--against", "HEAD..."]).good();
}

#[test]
fn a_plan_file_is_of_the_last_build_and_goes_where_it_is_sent() {
    let space = cluster();
    let file = space.path().join("plan.json");
    let ran = space.run(&["plan", "--against", "HEAD", "-o", file.to_str().unwrap()]);
    assert_eq!(ran.code, 64, "{}", ran.err);
    assert!(ran.err.contains("cannot be used with"), "{}", ran.err);
    space.run(&["plan", "-o", file.to_str().unwrap()]).good();
    let printed = space.run(&["plan", "-o", "-"]).good().out;
    assert_eq!(printed, std::fs::read_to_string(&file).unwrap(), "the plan file, and nothing else");
    assert!(!space.path().join("-").exists());
    // What a terminal would obey is data of a program here: as an escape it would be no JSON.
    space.edit("image.toml", "SITE = \"a\"", "SITE = \"a\u{202e}\u{9b}b\"");
    let printed = space.run(&["plan", "-o", "-"]).good().out;
    assert!(printed.contains("a\u{202e}\u{9b}b"), "{printed}");
    serde_json::from_str::<serde_json::Value>(&printed).unwrap();
    let folder = space.path().join("no/such");
    let ran = space.run(&["plan", "-o", folder.join("plan.json").to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let said = ran.err.split_whitespace().collect::<String>();
    assert!(said.contains("thereisnodirectory`") && said.contains("no/such`"), "{}", ran.err);
    assert!(!space.path().join("no").exists());
}

#[test]
fn an_image_whose_directory_moved_is_compared_with_what_it_was() {
    let space = Space::new();
    space.write("imgbuild.toml", "images = [\"images/*\"]\n");
    for name in ["alpha", "beta"] {
        write_cluster(&space, &format!("images/{name}"));
        space.edit(&format!("images/{name}/image.toml"), "\"compute\"", &format!("\"{name}\""));
    }
    commit_all(space.path());
    git(space.path(), &["mv", "images/beta", "images/betx"]);
    let plan = |more: &[&str]| space.run(&[&["plan", "--against", "HEAD"], more].concat()).good().out;
    let same = plan(&["--detailed-exitcode"]);
    assert!(same.contains("\nbeta\n") && same.contains("note: it was in images/beta at HEAD"), "{same}");
    assert!(!same.contains("new") && !same.contains("removed"), "{same}");
    space.edit("images/betx/image.toml", "level = 3", "level = 9");
    for text in [plan(&[]), plan(&["beta"])] {
        assert!(text.contains("images/betx/image.toml") || text.contains("pack.level 3 -> 9"), "{text}");
        assert!(text.contains("rootfs   keep") && !text.contains("new"), "{text}");
    }
    // An image that the revision has nowhere is new.
    write_cluster(&space, "images/gamma");
    assert!(plan(&["compute"]).contains("compute  new"));
}

#[test]
fn an_image_that_its_recipe_makes_no_more_is_gone_though_the_recipe_is_there() {
    let space = Space::new();
    write_cluster(&space, "");
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.write("image.toml", &format!("plain = true\n{recipe}\n[variant.big.pack]\nlevel = 9\n"));
    space.write("image.big.lock", &lock(&PASSES));
    commit_all(space.path());
    space.edit("image.toml", "plain = true\n", "");
    let text = space.run(&["plan", "--against", "HEAD"]).good().out;
    assert!(
        text.ends_with(
            "compute  removed\n  note: HEAD has it; the recipe is still here but no longer makes an image of that name\n"
        ),
        "{text}"
    );
    // Which lock a directory with several stands for nobody can say.
    space.edit("image.big.lock", "590-2", "590-3");
    let diff = |a: &str, b: &str| {
        let mut command = imgbuild();
        let ran: Ran = command
            .current_dir(space.path())
            .arg("--store")
            .arg(space.store())
            .args(["diff", a, b])
            .output()
            .unwrap()
            .into();
        ran
    };
    for (a, b) in [("HEAD:.", "image.lock"), ("image.lock", "./")] {
        let ran = diff(a, b);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
        assert!(ran.err.contains("/image.big.lock") && ran.err.contains("/image.lock"), "{}", ran.err);
    }
    assert!(diff("HEAD:image.big.lock", "image.big.lock").good().out.contains("less 590-2 -> 590-3"));
}

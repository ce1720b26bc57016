//! `show`, `set` and `copy`: what a recipe says, from where, and changes of it that keep what its author wrote.

use crate::support::{Ran, Space, without_paths};
use crate::workspace::run_in;

const BASE: &str = "[image]\nrelease = \"bookworm\"\n\n[packages]\nlists = [\"base.pkglist\"]\ninstall = [\"chrony\", \"vim\"]\n\n[kernel]\nversion = \"6.1.0-30-amd64\"\n\n[system]\nauthorized_keys = [\"keys/admin.pub\"]\n";

const CHILD: &str = "# The compute node.\nextends = \"../../base/image.toml\"\n\n[image]\nname = \"compute\"   # as xCAT calls it\n\n[packages]\ninstall = [\n    \"htop\",   # for the night shift\n]\n\n[boot]\ntmpfs = { \"/tmp\" = \"50m\" }\n\n[remove]\npackages.install = [\"vim\"]\n\n[variant.gpu.kernel]\ndrivers = [\"+nvme\"]\n";

fn family() -> Space {
    let space = Space::new();
    space.write("imgbuild.toml", "images = [\"images/*\"]\n");
    space.write("base/image.toml", BASE).write("base/base.pkglist", "less\n");
    space.write(
        "base/keys/admin.pub",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty x\n",
    );
    space.write("images/compute/image.toml", &format!("plain = true\n{CHILD}"));
    space
}

fn own(space: &Space) -> String {
    std::fs::read_to_string(space.path().join("images/compute/image.toml")).unwrap()
}

/// What is said when a change is refused; the file must stay as it was.
#[track_caller]
fn refused(space: &Space, arguments: &[&str]) -> String {
    let before = own(space);
    let ran = space.run(&[&["set"], arguments].concat());
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert_eq!(own(space), before);
    without_paths(&ran.err, space)
}

#[test]
fn each_value_is_shown_with_the_file_and_line_that_it_comes_from() {
    let space = family();
    insta::assert_snapshot!("show", space.run(&["show", "compute"]).good().out);
    insta::assert_snapshot!("show_variant", space.run(&["show", "compute-gpu"]).good().out);
    let all = space.run(&["show", "compute", "--effective"]).good().out;
    assert!(all.contains("compress = \"zstd\"") && all.contains("# default"), "{all}");
    // What is shown is TOML that says the same.
    let shown: toml::Table = space.run(&["show", "compute"]).good().out.parse().unwrap();
    assert_eq!(shown["boot"]["tmpfs"]["/tmp"].as_str(), Some("50m"));
    let json = space.run(&["show", "compute", "--json"]).good().out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let version = json["values"].as_array().unwrap().iter().find(|one| one["path"] == "kernel.version").unwrap();
    assert_eq!((version["file"].as_str(), version["line"].as_u64()), (Some("../../base/image.toml"), Some(9)));
}

#[test]
fn one_value_is_printed_alone() {
    let space = family();
    let one = |path: &str| space.run(&["show", "compute", path]);
    assert_eq!(one("kernel.version").good().out, "6.1.0-30-amd64\n");
    assert_eq!(one("packages.install").good().out, "chrony\nhtop\n");
    assert_eq!(one("packages.install[1]").good().out, "htop\n");
    assert_eq!(one("boot.tmpfs.\"/tmp\"").good().out, "50m\n");
    assert_eq!(run_in(&space, "images/compute", &["show", ".", "image.name"]).good().out, "compute\n");
    assert_eq!(space.run(&["show", "compute", "pack.archive", "--effective"]).good().out, "cpio\n");
    let ran = one("pack.archive");
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("`pack.archive` is not set; the default is \"cpio\""), "{}", ran.err);
    assert!(one("kernel.package").err.contains("None: the distribution's default"));
    assert!(one("kernel.versoin").err.contains("did you mean `version`?"));
    assert_eq!(space.run(&["show", "nobody"]).code, 1);
    assert_eq!(space.run(&["show", "compute*"]).code, 64);
}

#[test]
fn values_are_set_in_place_and_the_rest_stays() {
    let space = family();
    let set = |arguments: &[&str]| space.run(&[&["set", "compute"], arguments].concat()).good();
    set(&["image.name=login", "packages.install+=strace", "pack.level=7"]);
    let wanted = format!("plain = true\n{CHILD}")
        .replace("\"compute\"   #", "\"login\"   #")
        .replace("shift\n", "shift\n    \"strace\",\n");
    assert_eq!(own(&space), format!("{wanted}\n[pack]\nlevel = 7\n"));
    space.run(&["set", "login", "packages.install-=strace", "--unset", "pack.level", "image.name=compute"]).good();
    assert_eq!(own(&space), format!("plain = true\n{CHILD}\n[pack]\n"));
    // A variant's values are its own.
    space.run(&["set", "compute-gpu", "kernel.drivers+=+ice", "pack.level=1"]).good();
    assert!(own(&space).contains("[variant.gpu.kernel]\ndrivers = [\"+nvme\", \"+ice\"]\n"), "{}", own(&space));
    assert!(own(&space).contains("[variant.gpu.pack]\nlevel = 1\n"), "{}", own(&space));
}

#[test]
fn an_inherited_value_is_changed_where_one_says() {
    let space = family();
    insta::assert_snapshot!("set_inherited", refused(&space, &["compute", "kernel.version=6.1.0-31-amd64"]));
    insta::assert_snapshot!("set_inherited_item", refused(&space, &["compute", "packages.install-=chrony"]));
    insta::assert_snapshot!("set_of_all_variants", refused(&space, &["compute-gpu", "packages.install-=htop"]));
    let version = |image: &str| space.run(&["show", image, "kernel.version"]).good().out;
    space.run(&["set", "compute", "kernel.version=6.1.0-31-amd64", "--override"]).good();
    assert_eq!(version("compute"), "6.1.0-31-amd64\n");
    space.run(&["set", "compute", "--unset", "kernel.version"]).good();
    space.run(&["set", "compute", "kernel.version=6.1.0-32-amd64", "--in", "../../base/image.toml"]).good();
    assert_eq!(version("compute-gpu"), "6.1.0-32-amd64\n");
    space.run(&["set", "compute", "packages.install-=chrony", "--unset", "kernel.version", "--override"]).good();
    assert_eq!(space.run(&["show", "compute", "packages.install"]).good().out, "htop\n");
    assert_eq!(space.run(&["show", "compute", "kernel.version"]).code, 1);
    assert!(own(&space).contains("packages.install = [\"vim\", \"chrony\"]\n"), "{}", own(&space));
    space.run(&["set", "compute-gpu", "packages.install-=htop", "--override"]).good();
    assert_eq!(space.run(&["show", "compute-gpu", "packages.install"]).good().out, "");
}

#[test]
fn a_change_that_makes_a_recipe_wrong_is_refused() {
    let space = family();
    insta::assert_snapshot!("set_wrong", refused(&space, &["compute", "exclude.lists+=no.exlist"]));
    assert!(refused(&space, &["compute", "kernel.versoin=1"]).contains("did you mean `version`?"));
    assert!(refused(&space, &["compute", "pack.level=high"]).contains("whole number"));
    // Of another image, which inherits from the file.
    space.write(
        "images/other/image.toml",
        "extends = \"../../base/image.toml\"\n[image]\nname = \"other\"\n[kernel]\ndrivers = [\"+ice\"]\n",
    );
    let said = refused(&space, &["compute", "kernel.drivers+=igb", "--in", "../../base/image.toml"]);
    assert!(said.contains("mixes edits and plain names"), "{said}");
    assert_eq!(space.run(&["set", "compute", "kernel.version"]).code, 64);
}

#[test]
fn an_image_is_copied_with_the_files_that_it_names() {
    let space = family();
    space.write("images/compute/site/motd", "x\n").write("images/compute/a.synclist", "site/* -> /etc/\n");
    space
        .write("images/compute/inner.pkglist", "strace\n")
        .write("images/compute/own.pkglist", "#INCLUDE:inner.pkglist#\n");
    space
        .write("images/compute/notes", "not named\n")
        .write("images/compute/image.lock", "format = 1\nepoch = 0\ntarget = \"x\"\nsuite = []\npass = []\n");
    space.run(&["set", "compute", "sync.lists+=a.synclist", "packages.lists+=own.pkglist"]).good();
    let ran: Ran = space.run(&["copy", "compute", "login"]).good();
    assert!(!ran.err.contains("imgbuild.toml"), "{}", ran.err);
    let there = |name: &str| space.path().join("images/login").join(name).exists();
    for name in ["site/motd", "a.synclist", "own.pkglist", "inner.pkglist", "image.lock"] {
        assert!(there(name), "{name}: {}", ran.err);
    }
    assert!(!there("notes"));
    assert_eq!(space.run(&["show", "login", "image.name"]).good().out, "login\n");
    let copied = std::fs::read_to_string(space.path().join("images/login/image.toml")).unwrap();
    assert_eq!(copied, own(&space).replace("\"compute\"", "\"login\""));
    space.run(&["check", "login*"]).good();
    for (arguments, said) in
        [(["compute", "login"], "the image `login` already"), (["compute-gpu", "x"], "is the variant `gpu`")]
    {
        let ran = space.run(&["copy", arguments[0], arguments[1]]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains(said), "{}", ran.err);
    }
    std::fs::create_dir(space.path().join("images/taken")).unwrap();
    assert!(space.run(&["copy", "compute", "taken"]).err.contains("already exists"));
    // A path says where; what leads out of the directory is not right from everywhere.
    let elsewhere = space.path().join("deep/er/x");
    assert!(space.run(&["copy", "compute", elsewhere.to_str().unwrap()]).err.contains("mkdir -p"));
    std::fs::create_dir_all(space.path().join("deep/er")).unwrap();
    let ran = space.run(&["copy", "compute", elsewhere.to_str().unwrap()]);
    assert!(ran.code == 1 && ran.err.contains("deep/er/x") && !elsewhere.exists(), "{}", ran.err);
    assert_eq!(space.run(&["copy", "compute", "../x y"]).code, 64);
    space.write("imgbuild.toml", "images = [\"images/compute\"]\n");
    let ran = space.run(&["copy", "compute", "third"]).good();
    assert!(ran.err.contains("add \"images/third\" to its `images`"), "{}", ran.err);
}

#[test]
fn a_new_recipe_goes_where_the_workspace_looks_for_images() {
    let space = family();
    space.run(&["init", "storage"]).good();
    assert!(space.path().join("images/storage/image.toml").is_file());
    assert!(space.run(&["list", "storage"]).good().out.starts_with("storage  not built"));
    assert_eq!(space.run(&["init"]).code, 64);
    space.write("imgbuild.toml", "images = [\"images/compute\"]\n");
    assert_eq!(space.run(&["init", "more"]).code, 1);
}

#[test]
fn a_recipe_in_kdl_is_changed_and_copied_as_one_in_toml() {
    let space = Space::new();
    space.write("imgbuild.toml", "images = [\"images/*\"]\n");
    space.run(&["init", "compute", "--format", "kdl"]).good();
    let file = "images/compute/image.kdl";
    let text = |file: &str| std::fs::read_to_string(space.path().join(file)).unwrap();
    let before = text(file);
    let changes = ["image.release=trixie", "kernel.drivers+=+ice", "pack.level=5", "boot.tmpfs./var/tmp=9m"];
    let changes = changes.map(|change| change.replace("./var/tmp", ".\"/var/tmp\""));
    let words: Vec<&str> = ["set", "compute"].into_iter().chain(changes.iter().map(String::as_str)).collect();
    space.run(&words).good();
    let after = text(file);
    let new: Vec<&str> = after.lines().filter(|line| !before.contains(line)).collect();
    insta::assert_snapshot!(new.join("\n").replace("bookworm", "[RELEASE]"), @r#"
    image name="compute" distro="debian" release="trixie" arch="x86_64"
        drivers "+ice"                      // edits of the default list of network drivers: "+ice" "-be2net"; or a whole list
        tmpfs { "/tmp" "50m"; "/var/tmp" "9m" }
    pack {
        level 5
    "#);
    assert_eq!(space.run(&["show", "compute", "kernel.drivers"]).good().out.trim(), "+ice");
    space.run(&["check"]).good();
    let refused = space.run(&["set", "compute", "image.arch=mips"]);
    assert_eq!((refused.code, text(file) == after), (1, true), "{}", refused.err);
    space.run(&["copy", "compute", "login"]).good();
    assert_eq!(space.run(&["show", "login", "image.name"]).good().out.trim(), "login");
    assert_eq!(text("images/login/image.kdl"), after.replace("name=\"compute\"", "name=\"login\""));
}

#[test]
fn graphs_are_drawn_of_the_images_that_are_named() {
    let space = family();
    for form in ["--dot", "--mermaid", "--svg"] {
        let drawn = space.run(&["graph", form, "compute-gpu"]).good().out;
        assert!(drawn.contains("compute-gpu"), "{form}: {drawn}");
        assert_eq!(space.run(&["graph", "compute-g*", form, "--out", "elsewhere"]).good().out, drawn);
    }
    assert_eq!(space.run(&["graph", "compute", "--dot", "--svg"]).code, 64);
    assert_eq!(space.run(&["graph", "--mermaid", "--svg"]).code, 64);
}

#[test]
fn changes_at_one_time_are_all_made() {
    let space = family();
    let names: Vec<String> = (0..12).map(|number| format!("package-{number}")).collect();
    let change = |name: &String| space.run(&["set", "compute", &format!("packages.install+={name}")]).good();
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(move || change(name));
        }
    });
    let installed = space.run(&["show", "compute", "packages.install"]).good().out;
    for name in &names {
        assert!(installed.lines().any(|line| line == name), "{name} is lost: {installed}");
    }
    let left: Vec<_> = std::fs::read_dir(space.path().join("images/compute")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn line_ends_marks_and_comments_at_the_end_stay() {
    let space = Space::new();
    let text = "\u{feff}# head\r\n[image]\r\nname = \"one\"\r\nrelease = \"bookworm\" # why\r\n\r\n[packages]\r\ninstall = [\r\n    \"a\",\r\n]\r\n\r\n# The end.\r\n";
    let read = |name: &str| std::fs::read_to_string(space.path().join(name)).unwrap();
    space.write("image.toml", text);
    space.run(&["set", ".", "packages.install+=b", "pack.level=5"]).good();
    let wanted = text.replace("\"a\",\r\n", "\"a\",\r\n    \"b\",\r\n") + "\r\n[pack]\r\nlevel = 5\r\n";
    assert_eq!(read("image.toml"), wanted);
    // Lines that end in different ways keep their ends.
    space.write("image.toml", "# head\r\n[image]\nname = \"one\"\r\nrelease = \"bookworm\"\n# end");
    space.run(&["set", ".", "image.name=two", "system.hostname=node"]).good();
    assert_eq!(
        read("image.toml"),
        "# head\r\n[image]\nname = \"two\"\nrelease = \"bookworm\"\n# end\n\n[system]\nhostname = \"node\"\n"
    );
    std::fs::remove_file(space.path().join("image.toml")).unwrap();
    space.write("image.kdl", "\u{feff}image \"one\" release=\"bookworm\"\r\n// the end\r\n");
    space.run(&["set", ".", "image.name=two", "pack.level=5"]).good();
    let after = read("image.kdl");
    assert!(after.starts_with('\u{feff}') && after.contains("\"two\" release"), "{after:?}");
    assert_eq!(after.matches('\n').count(), after.matches("\r\n").count(), "{after:?}");
}

#[test]
fn what_is_to_be_written_by_hand_in_kdl_can_be_written_so() {
    let space = Space::new();
    space.write("imgbuild.toml", "images = [\"images/*\"]\n");
    space.write(
        "base/image.kdl",
        "image release=bookworm\nboot { cmdline \"console=ttyS0\" quiet; tmpfs { \"/tmp\" \"5m\" } }\n",
    );
    let file = "images/alpha/image.kdl";
    let text = "extends \"../../base/image.kdl\"\nimage alpha\n";
    for (change, path, wanted) in [
        ("boot.cmdline-=console=ttyS0", "boot.cmdline", "quiet\n"),
        ("boot.cmdline-=quiet", "boot.cmdline", "console=ttyS0\n"),
    ] {
        space.write(file, text);
        let ran = space.run(&["set", "alpha", "--override", change]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        let line = ran.err.split("not inherited: ").nth(1).unwrap().trim();
        space.write(file, &format!("{text}{line}\n"));
        assert_eq!(space.run(&["show", "alpha", path]).good().out, wanted, "{line}");
    }
    space.write(file, text);
    let ran = space.run(&["set", "alpha", "--override", "--unset", "boot.tmpfs.\"/tmp\""]);
    assert!(ran.err.contains("remove { boot { tmpfs { \"/tmp\" #true } } }"), "{}", ran.err);
}

#[test]
fn what_files_say_of_files_is_shown_too() {
    let space = family();
    let one = |arguments: &[&str]| space.run(&[&["show"], arguments].concat()).good().out;
    assert_eq!(one(&["compute", "extends"]), "../../base/image.toml\n");
    assert_eq!(one(&["compute-gpu", "extends", "--effective"]), "../../base/image.toml\n");
    assert_eq!(one(&["compute", "plain"]), "true\n");
    assert_eq!(one(&["compute", "variant.gpu.kernel.drivers"]), "+nvme\n");
    for path in ["variant", "variant.gpu"] {
        let shown = one(&["compute", path]);
        assert!(
            shown.contains("[variant.gpu.kernel]") && shown.contains("\"+nvme\",") && shown.contains("# image.toml:"),
            "{shown}"
        );
    }
    assert!(one(&["compute", "remove"]).contains("\"vim\","));
    let ran = space.run(&["show", "compute", "variant.none"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
}

#[test]
fn effective_values_have_the_defaults_that_depend_on_others() {
    let space = family();
    let one = |path: &str| space.run(&["show", "compute", path, "--effective"]).good().out;
    assert_eq!(one("pack.level"), "3\n");
    assert_eq!(one("system.hostname"), "dhcp\n");
    assert_eq!(one("boot.root_size"), "90%\n");
    assert_eq!(one("xcat.osimage"), "compute\n");
    assert!(one("kernel.drivers").lines().any(|driver| driver == "igb"));
    let edits = space.run(&["show", "compute-gpu", "kernel.drivers", "--effective"]).good().out;
    assert_eq!(edits, "+nvme\n");
    space.run(&["set", "compute", "pack.compress=gzip"]).good();
    assert_eq!(one("pack.level"), "6\n");
    let all = space.run(&["show", "compute", "--effective"]).good().out;
    assert!(all.lines().any(|line| line.starts_with("level = 6") && line.ends_with("# default")), "{all}");
}

#[test]
fn a_copy_makes_no_second_image_of_one_name() {
    let space = family();
    space.edit(
        "images/compute/image.toml",
        "[variant.gpu.kernel]",
        "[variant.gpu.image]\nname = \"special\"\n\n[variant.gpu.kernel]",
    );
    let ran = space.run(&["copy", "compute", "zz"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("the variant `gpu` of the copy would be called `special`"), "{}", ran.err);
    let left: Vec<_> = std::fs::read_dir(space.path().join("images")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    space.run(&["list"]).good();
}

#[test]
fn a_file_that_others_extend_is_not_replaced_by_one_of_another_name() {
    let space = family();
    for (directory, file) in [("", "base/image.toml"), ("base", "image.toml")] {
        let ran = run_in(&space, directory, &["convert", file, "--replace"]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains("images/compute/image.toml extends"), "{}", ran.err);
        assert!(!space.path().join("base/image.kdl").exists() && space.path().join("base/image.toml").exists());
    }
    run_in(&space, "images/compute", &["convert", "--replace"]).good();
    space.run(&["check"]).good();
    space.edit("images/compute/image.kdl", "extends \"../../base/image.toml\"", "");
    run_in(&space, "base", &["convert", "--replace"]).good();
}

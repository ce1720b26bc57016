//! `import xcat` and `export xcat`: a made-up site's whole tree, and what a site's files may hold.

use std::path::{Path, PathBuf};

use crate::support::{Ran, Space, copy_tree, imgbuild, without_paths};

const COMPUTE: &str = "debian12-x86_64-netboot-compute";

/// A copy of the example's tree, as a management node's.
fn site() -> Space {
    let space = Space::example("xcat-site");
    let packages = space.path().join("install/post/otherpkgs/debian12/x86_64/local");
    std::fs::create_dir_all(packages).unwrap();
    std::fs::create_dir_all(space.path().join("install/rocky9.4/x86_64")).unwrap();
    space
}

fn import(space: &Space, more: &[&str]) -> Ran {
    space.run(&[&["import", "xcat", ".", "--into", "new"], more].concat())
}

/// Runs the program in a workspace below.
fn inside(space: &Space, into: &str, arguments: &[&str]) -> Ran {
    imgbuild().arg("-C").arg(space.path().join(into)).args(arguments).output().unwrap().into()
}

fn recipe(space: &Space, into: &str, image: &str) -> PathBuf {
    space.path().join(into).join("images").join(image).join("image.toml")
}

fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// All files below a directory with their texts.
fn tree(directory: &Path) -> Vec<(PathBuf, String)> {
    let walk = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().flatten();
    let files = walk.filter(|entry| entry.file_type().is_file());
    files.map(|entry| (entry.path().strip_prefix(directory).unwrap().to_owned(), text(entry.path()))).collect()
}

#[test]
fn a_sites_tree_becomes_a_workspace_without_errors() {
    let space = site();
    let ran = import(&space, &[]).good();
    insta::assert_snapshot!("import_report", without_paths(&ran.out, &space));
    assert!(ran.err.contains("imgbuild check finds no error in 2 images"), "{}", ran.err);
    insta::assert_snapshot!("imported_recipe", without_paths(&text(recipe(&space, "new", COMPUTE)), &space));
    let checked = inside(&space, "new", &["check"]).good();
    assert!(checked.err.contains("2 images are good"), "{}", checked.err);
    // Those that cannot be built leave nothing that says otherwise.
    let mut images: Vec<_> =
        std::fs::read_dir(space.path().join("new/images")).unwrap().map(|one| one.unwrap().file_name()).collect();
    images.sort();
    assert_eq!(images, [COMPUTE, "rocky9.4-x86_64-netboot-compute"]);
    let document: serde_json::Value = serde_json::from_str(&import(&space, &["--json"]).good().out).unwrap();
    crate::schemas::assert_valid("import", &document);
    assert_eq!((&document["format_version"], &document["osimages"][0]["state"]), (&"1.0".into(), &"same".into()));
    // Media that this machine does not have are said, and the images that need them cannot be built here.
    std::fs::remove_dir(space.path().join("install/rocky9.4/x86_64")).unwrap();
    let ran = space.run(&["import", "xcat", ".", "--into", "other"]).good();
    assert!(ran.out.contains("install/rocky9.4/x86_64 is not a directory of this host"), "{}", ran.out);
    assert!(ran.err.contains("imgbuild check finds errors in rocky9.4-x86_64-netboot-compute"), "{}", ran.err);
    assert_eq!(inside(&space, "other", &["check"]).code, 1);
}

#[test]
fn files_of_the_importing_machine_are_never_taken_for_the_management_nodes() {
    let space = site();
    let list = synclist(&space);
    let mut lines = text(&list);
    lines.push_str("/etc/hosts -> /etc/hosts\n/etc/passwd -> /etc/passwd\n/usr/lib/os-release -> /etc/mn-release\n");
    std::fs::write(&list, lines).unwrap();
    // The tree has one of them.
    space.write("etc/passwd", "root:x:0:0:the management node's:/root:/bin/sh\n");
    let ran = import(&space, &["--copy"]);
    assert!(ran.out.contains("/etc/hosts is in a synclist but not in the given tree"), "{}{}", ran.out, ran.err);
    assert!(!space.path().join("new/site/etc/hosts").exists());
    // Nor has the tree a folder that it would be in.
    assert!(!space.path().join("new/site/usr/lib/os-release").exists());
    assert!(text(space.path().join("new/site/etc/passwd")).contains("the management node's"));
    // What is brought is found.
    space.write("etc/hosts", "10.0.0.1 mn\n").write("usr/lib/os-release", "ID=mn\n");
    let ran = import(&space, &["--copy"]).good();
    assert!(!ran.out.contains("not in the given tree"), "{}", ran.out);
    assert_eq!(text(space.path().join("new/site/etc/hosts")), "10.0.0.1 mn\n");
    inside(&space, "new", &["check"]).good();
}

fn synclist(space: &Space) -> PathBuf {
    let walk = walkdir::WalkDir::new(space.path().join("install")).sort_by_file_name().into_iter().flatten();
    let mut lists = walk.filter(|entry| entry.path().extension().is_some_and(|one| one == "synclist"));
    lists.next().expect("the example has a synclist").into_path()
}

#[test]
fn a_dry_run_writes_nothing_and_says_the_same() {
    let space = site();
    let dry = import(&space, &["--dry-run"]).good();
    assert!(!space.path().join("new").exists());
    let wet = import(&space, &[]).good();
    assert_eq!(dry.out.replace("would write", "wrote"), wet.out);
}

#[test]
fn a_later_import_changes_what_changed_in_xcat_and_keeps_the_sites_edits() {
    let space = site();
    import(&space, &[]).good();
    let path = recipe(&space, "new", COMPUTE);
    let own = text(&path)
        .replace("[kernel]", "# ours\n[packages.own]\n")
        .replace("[packages.own]\n", "[kernel]\nversion = \"6.1.0-9-amd64\"");
    std::fs::write(&path, own.replace("\"ena\"", "\"ena\", \"igb\"")).unwrap();
    let before = text(&path);
    let same = import(&space, &[]).good();
    assert!(same.out.contains("image.toml is as imported") && text(&path) == before, "{}", same.out);

    space.write("install/custom/netboot/debian/more.pkglist", "vim\n");
    let pkglist = "/install/custom/netboot/debian/compute.pkglist";
    space.edit(
        "linuximage.csv",
        &format!("\"{pkglist}\","),
        &format!("\"{pkglist},/install/custom/netboot/debian/more.pkglist\","),
    );
    space.edit("linuximage.csv", "\"virtio_net,ena\",,", "\"virtio_net,ice\",\"6.1.0-31-amd64\",");
    space.edit("linuximage.csv", "\"console=ttyS0 R::quiet\"", "");
    let ran = import(&space, &[]).good();
    for said in [
        "packages.lists = /install/custom/netboot/debian/compute.pkglist, /install/custom/netboot/debian/more.pkglist",
        "kernel.drivers -= ena",
        "kernel.drivers += ice",
        "boot.cmdline is no longer set",
        "kernel.version is kept: in the recipe it was edited to \"6.1.0-9-amd64\"; in xCAT it is 6.1.0-31-amd64 now",
    ] {
        assert!(ran.out.contains(said), "{said}\n{}", ran.out);
    }
    let after = text(&path);
    assert!(after.contains("# ours") && after.contains("\"igb\"") && after.contains("6.1.0-9-amd64"), "{after}");
    assert!(after.contains("more.pkglist") && !after.contains("\"ena\""), "{after}");
    let again = import(&space, &[]).good();
    assert!(again.out.contains("image.toml is as imported") && text(&path) == after, "{}", again.out);
    for table in ["osimage.csv", "linuximage.csv"] {
        space.edit(table, "\"rocky9.4-x86_64-netboot-compute\"", "\"other-netboot-compute\"");
    }
    assert!(import(&space, &[]).good().out.contains("rocky9.4-x86_64-netboot-compute: no longer in xCAT"));
}

#[test]
fn out_and_in_again_is_the_same_recipe() {
    let space = site();
    import(&space, &[]).good();
    let images = |into: &str| tree(&space.path().join(into).join("images"));
    let stanzas = inside(&space, "new", &["export", "xcat"]).good().out;
    assert!(
        stanzas
            .starts_with("# <xCAT data object stanza file>\n\ndebian12-x86_64-netboot-compute:\n    objtype=osimage\n")
    );
    // Each definition as it came: also what the recipe has no word for.
    for attribute in [
        "    groups=batch\n",
        "    usercomment=asked for by \"chem\"; see ticket 12\n",
        "    addkcmdline=console=ttyS0 R::quiet\n",
    ] {
        assert!(stanzas.contains(attribute), "{attribute} {stanzas}");
    }
    let fresh = |name: &str| {
        for table in ["osimage.csv", "linuximage.csv", "all.stanza"] {
            let _ = std::fs::remove_file(space.path().join(table));
        }
        space.run(&["import", "xcat", ".", "--into", name])
    };
    space.write("all.def", &stanzas);
    fresh("second").good();
    assert_eq!(images("new"), images("second"));
    std::fs::remove_file(space.path().join("all.def")).unwrap();
    for table in ["osimage", "linuximage"] {
        let csv = inside(&space, "second", &["export", "xcat", "--csv", table]).good().out;
        space.write(&format!("tables/{table}.csv"), &csv);
    }
    space.run(&["import", "xcat", ".", "tables", "--into", "third"]).good();
    assert_eq!(images("new"), images("third"));
}

#[test]
fn what_the_recipe_says_now_is_exported() {
    let space = site();
    import(&space, &[]).good();
    let set = ["set", COMPUTE, "kernel.version=6.1.0-9-amd64", "packages.lists+=own.pkglist", "services.disable+=cron"];
    std::fs::write(recipe(&space, "new", COMPUTE).with_file_name("own.pkglist"), "vim\n").unwrap();
    inside(&space, "new", &set).good();
    let ran = inside(&space, "new", &["export", "xcat", COMPUTE]).good();
    let own = recipe(&space, "new", COMPUTE).with_file_name("own.pkglist");
    for line in [
        "    kernelver=6.1.0-9-amd64\n".to_owned(),
        format!("    pkglist=/install/custom/netboot/debian/compute.pkglist,{}\n", own.display()),
        "    exlist=/install/custom/netboot/debian/compute.exlist\n".to_owned(),
    ] {
        assert!(ran.out.contains(&line), "{line} {}", ran.out);
    }
    assert!(ran.err.contains("xCAT has no attribute for services.disable"), "{}", ran.err);
    let shown = inside(&space, "new", &["show", COMPUTE, "-i", "osvers,kernelver"]).good().out;
    assert_eq!(shown, format!("Object name: {COMPUTE}\n    kernelver=6.1.0-9-amd64\n    osvers=debian12\n"));
    assert_eq!(inside(&space, "new", &["show", COMPUTE, "-i", "osver"]).code, 64);
    let listed = inside(&space, "new", &["list", "-l"]).good().out;
    assert!(listed.contains("Object name: rocky9.4-x86_64-netboot-compute\n"), "{listed}");
    // One with errors does not hide the others.
    std::fs::remove_file(own.as_path()).unwrap();
    let ran = inside(&space, "new", &["list", "-l"]);
    assert!(
        ran.code == 1 && ran.out.starts_with("Object name: rocky9.4-x86_64-netboot-compute\n"),
        "{} {}",
        ran.out,
        ran.err
    );
    assert!(ran.err.contains(&format!("{COMPUTE} has errors and is left out")), "{}", ran.err);
    // An image that xCAT never had.
    let plain = Space::new();
    plain.write("image.toml", "[image]\nname = \"c\"\nrelease = \"bookworm\"\n");
    let out = plain.run(&["export", "xcat"]).good().out;
    assert!(out.contains("    osvers=debian12\n") && out.contains("    provmethod=netboot\n"), "{out}");
}

#[test]
fn databases_and_printed_definitions_are_read() {
    let space = site();
    import(&space, &[]).good();
    let from_tables = tree(&space.path().join("new/images"));
    for table in ["osimage", "linuximage"] {
        let csv = text(space.path().join(format!("{table}.csv")));
        let columns: Vec<&str> = csv.lines().next().unwrap()[1..].split(',').collect();
        std::fs::create_dir_all(space.path().join("etc/xcat")).unwrap();
        let database = rusqlite::Connection::open(space.path().join(format!("etc/xcat/{table}.sqlite"))).unwrap();
        let declared: Vec<String> = columns.iter().map(|name| format!("\"{name}\" text")).collect();
        database.execute_batch(&format!("create table {table} ({})", declared.join(","))).unwrap();
        let rows = xcat::definitions::parse_tables(&base::source::SourceFile::new("t", "/t", csv)).0;
        for row in &rows[0].rows {
            let names: Vec<&String> = row.values.keys().collect();
            let marks: Vec<String> = (1..=names.len()).map(|at| format!("?{at}")).collect();
            let named: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
            let query = format!("insert into {table} ({}) values ({})", named.join(","), marks.join(","));
            database.execute(&query, rusqlite::params_from_iter(row.values.values())).unwrap();
        }
        std::fs::remove_file(space.path().join(format!("{table}.csv"))).unwrap();
    }
    space.run(&["import", "xcat", ".", "--into", "second"]).good();
    assert_eq!(from_tables, tree(&space.path().join("second/images")));
    let long = inside(&space, "new", &["list", "-l"]).good().out;
    space.write("lsdef.txt", &long);
    space.run(&["import", "xcat", "lsdef.txt", ".", "--into", "third"]).good();
    assert_eq!(from_tables, tree(&space.path().join("third/images")));
}

#[test]
fn copied_lists_need_the_management_node_no_more() {
    let space = site();
    let ran = import(&space, &["--copy"]).good();
    assert!(ran.out.contains("files copied to site/"), "{}", ran.out);
    let away = space.path().join("away");
    std::fs::create_dir(&away).unwrap();
    copy_tree(&space.path().join("install/custom"), &away);
    std::fs::remove_dir_all(space.path().join("install/custom")).unwrap();
    let checked = inside(&space, "new", &["check"]).good();
    assert!(checked.err.contains("2 images are good"), "{}", checked.err);
    copy_tree(&away, &space.path().join("install/custom"));
    // Changed there, edited here, and both.
    let here = |name: &str| space.path().join("new/site/install/custom/netboot/debian").join(name);
    space.write("install/custom/netboot/debian/base.pkglist", "systemd-sysv\n");
    std::fs::write(here("compute.exlist"), "./boot/*\n").unwrap();
    space.write("install/custom/netboot/debian/compute.pkglist", "#INCLUDE:base.pkglist#\nbash\n");
    std::fs::write(here("compute.pkglist"), "dash\n").unwrap();
    let ran = import(&space, &["--copy"]).good();
    assert!(ran.out.contains("1 files copied"), "{}", ran.out);
    assert!(
        ran.out.contains("compute.pkglist was edited here and changed on the management node: yours is kept"),
        "{}",
        ran.out
    );
    let texts: Vec<String> =
        ["base.pkglist", "compute.exlist", "compute.pkglist"].iter().map(|name| text(here(name))).collect();
    assert_eq!(texts, ["systemd-sysv\n", "./boot/*\n", "dash\n"]);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(here("compute.postinstall")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o755);
}

#[test]
fn definitions_with_errors_write_nothing() {
    for (file, content, said) in [
        ("a.stanza", "i:\n    objtype=osimage\ngarbage\n    osvers=rocky9\n", "a.stanza:3"),
        ("a.stanza", "i:\n    objtype=osimage\ni:\n    objtype=osimage\n", "`i` is defined twice"),
        ("a.stanza", "i: objtype=osimage\n", "neither a header nor an attribute"),
        ("a.csv", "#imagename,imagetype,provmetod\n\"i\",\"linux\",\"netboot\"\n", "has no column `provmetod`"),
        ("a.csv", "#imagename,imagetype\n\"i\",\"linux\n", "a quote that is not closed"),
        ("a.stanza", "n:\n    objtype=node\n    arch=x86_64\n", "no definition of an osimage"),
        ("a.stanza", "\u{0}\u{1}", "neither a header"),
    ] {
        let space = Space::new();
        space.write(file, content);
        let ran = space.run(&["import", "xcat", file, "--into", "new"]);
        assert_eq!(ran.code, 1, "{content}: {}", ran.err);
        assert!(ran.err.contains(said), "{content}: {}", ran.err);
        assert!(!space.path().join("new").exists(), "{content}");
    }
    let space = Space::new();
    let ran = space.run(&["import", "xcat", "nothing", "--into", "new"]);
    assert!(ran.code == 1 && ran.err.contains("lsdef -t osimage -z"), "{}", ran.err);
    // A recipe of the site's own stays, and the others come in.
    let space = site();
    let own = "[image]\nname = \"x\"\nrelease = \"bookworm\"\n";
    space.write(&format!("new/images/{COMPUTE}/image.toml"), own);
    let ran = import(&space, &[]).good();
    assert!(ran.out.contains("was not imported from xCAT, so it is kept"), "{}", ran.out);
    assert_eq!(text(recipe(&space, "new", COMPUTE)), own);
    assert!(recipe(&space, "new", "rocky9.4-x86_64-netboot-compute").is_file());
}

#[test]
fn what_is_not_there_is_said_and_left_out() {
    let space = Space::new();
    let stanza = "i:\n    objtype=osimage\n    imagetype=linux\n    provmethod=netboot\n    osvers=rocky9.4\n    osarch=x86_64\n    \
                  profile=compute\n    pkglist=/install/none.pkglist\n    exlist=/install/none.exlist\n    postinstall=/install/none.sh a b\n    \
                  netdrivers=ice,tg3,ice.ko\n    kernelver=5.14.0-427.el9.x86_64\n    addkcmdline=quiet R::selinux=0 mitigations=off\n    \
                  driverupdatesrc=dud:/a.img,RPM:/b.rpm\n    environvar=A=1,broken\n    strange=1\n";
    space.write("i.stanza", stanza);
    let ran = space.run(&["import", "xcat", "i.stanza", "--into", "new"]).good();
    for said in [
        "decide   pkglist: not found here, left out: /install/none.pkglist",
        "decide   exlist: not found here",
        "decide   postinstall: not found here",
        "decide   driverupdatesrc: not found here, left out: dud:/a.img, RPM:/b.rpm",
        "decide   environvar: left out: broken, which is not NAME=value",
        "decide   strange: xCAT 2.19 has no such attribute",
    ] {
        assert!(ran.out.contains(said), "{said}\n{}", ran.out);
    }
    let recipe = text(recipe(&space, "new", "i"));
    assert!(
        recipe.contains("drivers = [\"+ice\", \"+tg3\"]")
            && recipe.contains("cmdline = [\"quiet\", \"mitigations=off\"]"),
        "{recipe}"
    );
    assert!(recipe.contains("# strange=1\n") && recipe.contains("release = \"9\""), "{recipe}");
}

#[test]
fn a_workspace_may_be_where_one_stands() {
    let space = site();
    std::fs::create_dir(space.path().join("ws")).unwrap();
    let mut command = imgbuild();
    command.current_dir(space.path().join("ws")).args(["import", "xcat", "..", "--into", "."]);
    let ran: Ran = command.output().unwrap().into();
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("imgbuild check finds no error in 2 images"), "{}", ran.err);
}

#[test]
fn what_scripts_read_of_the_sites_trees_becomes_inputs() {
    let space = site();
    let script = "install/custom/netboot/debian/compute.postinstall";
    let more = "cat /install/custom/files/issue >\"$1/etc/issue\"\nFROM=/install/custom/files/$SITE\n\
                cp -a \"$FROM\"/. \"$1\"/opt\n. /install/custom/lib.sh\ncat /etc/hosts /install/gone\n";
    let old = text(space.path().join(script));
    space.write(script, &format!("{old}{more}"));
    space
        .write("install/custom/files/issue", "ours\n")
        .write("install/custom/files/blue/a", "a\n")
        .write("install/custom/lib.sh", "cat /install/custom/files/keys/*.pub\n")
        .write("install/custom/files/keys/one.pub", "key\n");
    let inputs = [
        "/install/custom/files/blue/**",
        "/install/custom/files/issue",
        "/install/custom/files/keys/*.pub",
        "/install/custom/lib.sh",
    ];
    for more in [&[][..], &["--copy"]] {
        let into = if more.is_empty() { "new" } else { "copied" };
        let ran = space.run(&[&["import", "xcat", ".", "--into", into], more].concat()).good();
        assert!(ran.out.contains("not found here: /install/gone; packages with their commands"), "{}", ran.out);
        let said = text(recipe(&space, into, COMPUTE)).parse::<toml::Table>().unwrap();
        let found: Vec<&str> =
            said["postinstall"]["inputs"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
        assert_eq!(found, inputs);
        // All of them are found.
        let checked = inside(&space, into, &["check"]).good();
        assert!(!checked.err.contains("matches no file"), "{}", checked.err);
    }
    assert_eq!(text(space.path().join("copied/site/install/custom/files/blue/a")), "a\n");
    // A later import brings what a script reads since.
    space.write(script, &format!("{old}{more}cat /install/custom/files/motd\n"));
    let ran = import(&space, &[]).good();
    let said = ran.out.lines().find(|line| line.starts_with("  postinstall.inputs = ")).unwrap();
    assert!(said.contains("/install/custom/files/motd") && said.contains("/install/custom/lib.sh"), "{said}");
    assert!(!import(&space, &["--json"]).good().out.contains("\"changed\""));
}

#[test]
fn absolute_inputs_are_allowed_and_have_a_place() {
    let space = site();
    import(&space, &[]).good();
    let set = |value: &str| inside(&space, "new", &["set", COMPUTE, &format!("postinstall.inputs=[\"{value}\"]")]);
    for (value, said) in [
        ("/etc/hostname", "is outside the workspace"),
        ("/etc/passwd", "/etc/passwd belongs to the root that they run in"),
        ("/run/x", "cannot be shown to scripts at its path"),
        ("/lib/modules/*", "/lib belongs to the root that they run in"),
        ("/install/../x", "contains no `.`, `..` or `//`"),
        ("/*", "starts with a folder"),
    ] {
        let ran = set(value);
        assert!(ran.code == 1 && ran.err.contains(said), "{value}: {}", ran.err);
    }
    set("/install/custom/nothing").good();
    let checked = inside(&space, "new", &["check", COMPUTE]);
    assert!(checked.err.contains("`/install/custom/nothing` matches no file"), "{}", checked.err);
}

/// Root's hash comes along for its owner alone: no recipe, no report and no commit has it.
#[test]
fn roots_hash_of_the_passwd_table_is_offered_and_stays_private() {
    use std::os::unix::fs::PermissionsExt;
    let space = site();
    let hash = "$6$made.up$0123456789abcdef";
    space.write("passwd.csv", &format!("#key,username,password,cryptmethod,authdomain,comments,disable\n\"system\",\"root\",\"{hash}\",,,,\n\"ipmi\",\"ADMIN\",\"secret-of-bmc\",,,,\n"));
    let ran = import(&space, &[]).good();
    assert!(ran.out.contains("keys/root.hash"), "{}", ran.out);
    let path = space.path().join("new/keys/root.hash");
    assert_eq!(text(&path), format!("{hash}\n"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let ignored = text(space.path().join("new/.gitignore"));
    assert!(ignored.lines().any(|line| line == "/keys/root.hash"), "{ignored}");
    for said in [&ran.out, &ran.err] {
        assert!(!said.contains("$6$") && !said.contains("secret-of-bmc"), "{said}");
    }
    for (path, text) in tree(&space.path().join("new")) {
        assert!(path.ends_with("keys/root.hash") || !text.contains("$6$"), "{}", path.display());
        assert!(!text.contains("secret-of-bmc"), "{}", path.display());
    }
    // A site that has its own keeps it, and the recipe can name it.
    std::fs::write(&path, "$6$mine$0123\n").unwrap();
    import(&space, &[]).good();
    assert_eq!(text(&path), "$6$mine$0123\n");
    let recipe = recipe(&space, "new", COMPUTE);
    let more = "\n[system]\nroot_password_hash_file = \"../../keys/root.hash\"\n";
    std::fs::write(&recipe, text(&recipe) + more).unwrap();
    inside(&space, "new", &["check"]).good();
}

/// A copy of an archive that is signed is checked as any other; one that is not is believed, and the report says so.
#[test]
fn a_local_archive_of_debian_is_believed_only_where_it_has_no_signature() {
    for (file, is_trusted) in [("InRelease", false), ("Release.gpg", false), ("Release", true)] {
        let space = site();
        space.write(&format!("install/debian12/x86_64/dists/bookworm/{file}"), "made up\n");
        space.edit("linuximage.csv", "compute.pkglist\",,", "compute.pkglist\",\"/install/debian12/x86_64\",");
        let ran = import(&space, &[]).good();
        let recipe = text(recipe(&space, "new", COMPUTE));
        assert!(recipe.contains("install/debian12/x86_64"), "{recipe}");
        assert_eq!(recipe.contains("trusted = true"), is_trusted, "{recipe}");
        assert_eq!(ran.out.contains("has no signature"), is_trusted, "{}", ran.out);
    }
}

/// What several images have is reported once, with the paths that each has.
#[test]
fn what_several_images_have_is_reported_once() {
    let space = Space::new();
    let mut text = String::new();
    for number in 1..6 {
        text.push_str(&format!(
            "i{number}:\n    objtype=osimage\n    imagetype=linux\n    provmethod=netboot\n    osvers=rocky9.{number}\n    osarch=x86_64\n    profile=compute\n    pkgdir=/install/rocky9.{number}/x86_64\n    nodebootif=eth0\n"
        ));
    }
    space.write("i.stanza", &text);
    let ran = space.run(&["import", "xcat", "i.stanza", "--into", "new"]).good();
    for said in [
        "signatures of packages are not checked",
        "root's password is in xCAT's passwd table",
        "is not a directory of this host",
        "the boot entry names the card",
    ] {
        assert_eq!(ran.out.matches(said).count(), 1, "{said}: {}", ran.out);
    }
    assert_eq!(ran.out.matches("decide   pkgdir").count(), 2, "{}", ran.out);
    for number in 1..6 {
        assert_eq!(ran.out.matches(&format!("/install/rocky9.{number}/x86_64")).count(), 1, "{}", ran.out);
    }
    assert!(ran.out.contains("i1, i2, i3, i4, i5:\n"), "{}", ran.out);
    // An answer of xCAT's names has no warnings about the recipe before it.
    let shown = inside(&space, "new", &["show", "i1", "-i", "osvers"]);
    assert!(!shown.err.contains("warning"), "{}", shown.err);
}

//! What becomes of an imported workspace later: files that come, definitions that change, edits, copies, hostile values.

use std::path::PathBuf;

use crate::support::{Ran, Space, imgbuild};

/// A definition with more lines, in a file of its own.
fn stanza(more: &str) -> String {
    format!(
        "i:\n    objtype=osimage\n    imagetype=linux\n    provmethod=netboot\n    osvers=rocky9.4\n    osarch=x86_64\n    profile=compute\n{more}"
    )
}

fn site(more: &str) -> Space {
    let space = Space::new();
    for name in ["a.pkglist", "b.pkglist", "c.pkglist", "other.pkglist"] {
        space.write(&format!("L/{name}"), "bash\n");
    }
    space.write("L/script", "#!/bin/sh\ntrue\n").write("other/x/placeholder", "");
    std::fs::set_permissions(space.path().join("L/script"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    write(&space, more);
    space
}

fn write(space: &Space, more: &str) {
    let media = space.path().join("install/rocky9.4/x86_64");
    std::fs::create_dir_all(&media).unwrap();
    let more = format!("    pkgdir={}\n{more}", media.display());
    space.write("i.stanza", &stanza(&more.replace("/L/", &format!("{}/L/", space.path().display()))));
}

fn import(space: &Space) -> Ran {
    space.run(&["import", "xcat", "i.stanza", "--into", "w"]).good()
}

fn inside(space: &Space, arguments: &[&str]) -> Ran {
    imgbuild().arg("-C").arg(space.path().join("w")).args(arguments).output().unwrap().into()
}

fn recipe(space: &Space) -> String {
    std::fs::read_to_string(path(space)).unwrap()
}

fn path(space: &Space) -> PathBuf {
    space.path().join("w/images/i/image.toml")
}

#[test]
fn a_file_that_comes_later_comes_in_and_the_definition_goes_out_as_it_was() {
    let space = site("    pkglist=/L/a.pkglist,/L/late.pkglist\n    exlist=/L/late.exlist\n");
    import(&space);
    assert!(
        recipe(&space).contains("decide: not found here, left out") && recipe(&space).contains("L/a.pkglist\"]\n"),
        "{}",
        recipe(&space)
    );
    let exported = inside(&space, &["export", "xcat"]).good().out;
    space.write("L/late.pkglist", "vim\n").write("L/late.exlist", "./boot/*\n");
    // Neither what is there now nor the import moves what nobody changed.
    assert_eq!(inside(&space, &["export", "xcat"]).good().out, exported);
    let ran = import(&space);
    assert!(ran.out.contains("late.pkglist") && ran.out.contains("exclude.lists ="), "{}", ran.out);
    assert!(
        recipe(&space).contains("late.pkglist\"") && recipe(&space).contains("late.exlist\""),
        "{}",
        recipe(&space)
    );
    assert!(!recipe(&space).contains("left out"), "{}", recipe(&space));
    assert_eq!(inside(&space, &["export", "xcat"]).good().out, exported);
    assert!(import(&space).out.contains("is as imported"));
}

#[test]
fn what_is_cleared_or_put_in_another_order_in_xcat_leaves_a_good_recipe() {
    let all = "    pkglist=/L/a.pkglist,/L/b.pkglist\n    postinstall=/L/script one two\n    otherpkgdir=OTHER\n    otherpkglist=/L/other.pkglist\n    environvar=A=1,B.C=2\n";
    let space = Space::new();
    drop(space);
    let space = site("");
    let other = space.path().join("other").display().to_string();
    write(&space, &all.replace("OTHER", &other));
    import(&space);
    write(&space, "    pkglist=/L/b.pkglist,/L/c.pkglist,/L/a.pkglist\n");
    let ran = import(&space);
    for said in ["[postinstall] is no longer in xCAT: removed", "[otherpkgs] is no longer in xCAT: removed"] {
        assert!(ran.out.contains(said), "{said} {}", ran.out);
    }
    let order: Vec<usize> =
        ["b.pkglist", "c.pkglist", "a.pkglist"].iter().map(|name| recipe(&space).find(name).unwrap()).collect();
    assert!(order.is_sorted(), "{}", recipe(&space));
    inside(&space, &["check"]).good();
    // Edited here, and only the order changed there: said, not done, and not said to be exact.
    inside(&space, &["set", "i", &format!("packages.lists-={}/L/c.pkglist", space.path().display())]).good();
    write(&space, "    pkglist=/L/a.pkglist,/L/b.pkglist,/L/c.pkglist\n");
    let ran = import(&space);
    assert!(
        ran.out.contains("packages.lists is kept: it was edited") && ran.out.contains("decide   pkglist"),
        "{}",
        ran.out
    );
}

#[test]
fn values_that_a_stanza_cannot_hold_as_they_are_survive() {
    let space = site("");
    let header = "#imagename,profile,imagetype,description,provmethod,osvers,osarch,comments\n";
    let row = "\"i\",\"compute\",\"linux\",\"first\nsecond, \"\"quoted\"\"\",\"netboot\",\"rocky9.4\",\"x86_64\",\"see http://x/y:\"\n";
    space.write("osimage.csv", &format!("{header}{row}"));
    let half = space.run(&["import", "xcat", "osimage.csv", "--into", "w"]);
    assert!(half.code == 0 && half.err.contains("tabdump linuximage"), "{}", half.err);
    std::fs::remove_dir_all(space.path().join("w")).unwrap();
    let list = space.path().join("L/a.pkglist");
    space.write(
        "linuximage.csv",
        &format!("#imagename,pkglist,addkcmdline\n\"i\",\"{}\",\"quiet dyndbg=\"\"file x +p\"\"\"\n", list.display()),
    );
    std::fs::remove_file(space.path().join("i.stanza")).unwrap();
    let both = ["import", "xcat", "osimage.csv", "linuximage.csv", "--into", "w"];
    space.run(&both).good();
    let again = space.run(&both).good();
    assert!(again.out.contains("is as imported"), "{}", again.out);
    let exported = inside(&space, &["export", "xcat"]).good().out;
    assert!(exported.contains("    description=\"first second, \"quoted\"\"\n"), "{exported}");
    assert!(exported.contains("    usercomment=\"see http://x/y:\"\n"), "{exported}");
    space.write("out.stanza", &exported);
    space.run(&["import", "xcat", "out.stanza", "--into", "again"]).good();
    let images = |into: &str| std::fs::read_to_string(space.path().join(into).join("images/i/image.toml")).unwrap();
    assert_eq!(images("w"), images("again"));
    // A record that somebody broke is told, and nothing is made up.
    space.write("w/images/i/xcat.stanza", "broken\n");
    let ran = inside(&space, &["export", "xcat"]).good();
    assert!(ran.err.contains("xcat.stanza"), "{}", ran.err);
}

#[test]
fn values_that_would_be_something_else_in_a_recipe_are_refused() {
    for (value, said) in
        [("    rootimgdir=/i/../../etc\n", "rootimgdir is"), ("    rootimgdir=relative\n", "rootimgdir is")]
    {
        let space = site(&format!("    pkglist=/L/a.pkglist\n{value}"));
        let ran = space.run(&["import", "xcat", "i.stanza", "--into", "w"]);
        assert!(ran.code == 1 && ran.out.contains(said), "{} {}", ran.out, ran.err);
        assert!(!path(&space).exists());
    }
    let space = site("    pkglist=/L/a.pkglist\n");
    let odd = stanza("").replace("osvers=rocky9.4", &format!("osvers=rocky9{}", ".999".repeat(200)));
    space.write("i.stanza", &odd);
    assert_eq!(space.run(&["import", "xcat", "i.stanza", "--into", "w"]).code, 1);
    // One variable twice, a return in a comment.
    let space = site("    pkglist=/L/a.pkglist\n    environvar=A=1,A=2\n    description=first\rsecond\n");
    let ran = import(&space);
    assert!(ran.out.contains("decide   environvar") && ran.err.contains("finds no error"), "{} {}", ran.out, ran.err);
    // Paths that lead out of the copies.
    let space = site("");
    write(&space, "    pkglist=/../../L/a.pkglist\n");
    let ran = space.run(&["import", "xcat", "i.stanza", "--into", "w", "--copy"]).good();
    assert!(ran.out.contains("decide   pkglist") && !space.path().join("w/site").exists(), "{}", ran.out);
}

#[test]
fn lists_of_an_otherpkgdir_of_addresses_are_kept() {
    let space =
        site("    pkglist=/L/a.pkglist\n    otherpkgdir=http://o/1,https://o/2\n    otherpkglist=/L/other.pkglist\n");
    let ran = import(&space);
    assert!(ran.out.contains("differs  otherpkglist"), "{}", ran.out);
    assert!(
        recipe(&space).contains("other.pkglist") && recipe(&space).contains("uri = \"https://o/2\""),
        "{}",
        recipe(&space)
    );
    let exported = inside(&space, &["export", "xcat"]).good().out;
    assert!(
        exported.contains("    otherpkgdir=http://o/1,https://o/2\n") && exported.contains("/L/other.pkglist\n"),
        "{exported}"
    );
}

#[test]
fn a_copy_has_a_definition_of_its_own() {
    let space = site(
        "    pkglist=/L/a.pkglist\n    rootimgdir=/install/netboot/site/prod\n    postscripts=syslog\n    addkcmdline=quiet R::foo\n",
    );
    import(&space);
    let ran = inside(&space, &["copy", "i", "test"]).good();
    assert!(ran.err.contains("rootimgdir is /install/netboot/site/test"), "{}", ran.err);
    let out = inside(&space, &["export", "xcat", "test"]).good().out;
    for line in [
        "test:\n",
        "    rootimgdir=/install/netboot/site/test\n",
        "    postscripts=syslog\n",
        "    addkcmdline=quiet R::foo\n",
    ] {
        assert!(out.contains(line), "{line} {out}");
    }
    let text = std::fs::read_to_string(space.path().join("w/images/test/image.toml")).unwrap();
    assert!(text.contains("imgbuild build test ") && text.contains("xcat:/install/netboot/site/test\n"), "{text}");
    // The original goes on as it was, and so does the import.
    assert!(import(&space).out.contains("i: images/i/image.toml is as imported"));
}

#[test]
fn a_bundle_reads_and_writes_nothing_of_this_host() {
    let manifest = |more: &str, osvers: &str| {
        format!(
            "<xcatimage><osimage><imagename>img</imagename><provmethod>netboot</provmethod><profile>compute</profile>\
             <osvers>{osvers}</osvers><osarch>x86_64</osarch></osimage><linuximage>{more}</linuximage>\
             <kernel>/i/kernel</kernel><ramdisk>/i/initrd-stateless.gz</ramdisk><rootimg>/i/rootimg.cpio.gz</rootimg></xcatimage>"
        )
    };
    let bundle = |space: &Space, text: &str| {
        space.write("x/img/manifest.xml", text);
        for name in ["kernel", "initrd-stateless.gz", "rootimg.cpio.gz"] {
            space.write(&format!("x/img/{name}"), name);
        }
        let made = std::process::Command::new("tar")
            .args(["-C", "x", "-czf", "b.tgz", "img"])
            .current_dir(space.path())
            .status();
        assert!(made.unwrap().success());
    };
    let space = Space::new();
    bundle(&space, &manifest("<synclists>/dev/zero</synclists><exlist>/etc/hostname</exlist>", "rocky9.4"));
    let ran = space.run(&["import", "bundle", "b.tgz", "--into", "w"]).good();
    assert!(
        ran.out.contains("decide   synclists: not found here") && ran.out.contains("decide   exlist"),
        "{}",
        ran.out
    );
    let space = Space::new();
    bundle(&space, &manifest("", "rocky9/../../../tmp"));
    let ran = space.run(&["import", "bundle", "b.tgz", "--into", "w", "-p", "new"]);
    assert!(ran.code == 1 && !space.path().join("w").exists(), "{} {}", ran.out, ran.err);
    let space = Space::new();
    bundle(&space, &manifest("<rootimgdir>/i\n[workspace]\nallow = [\"/**\"]</rootimgdir>", "rocky9.4"));
    space.run(&["import", "bundle", "b.tgz", "--into", "w"]);
    let recipe = std::fs::read_to_string(path_of(&space, "image.toml")).unwrap_or_default();
    assert!(!recipe.lines().any(|line| line.starts_with("[workspace]") || line.starts_with("allow")), "{recipe}");
    // A recipe that brings a workspace of its own.
    let space = Space::new();
    space
        .write("x/img/imgbuild/recipe/image.toml", "[image]\nname = \"img\"\ndistro = \"rocky\"\nrelease = \"9\"\n[[repo]]\nuri = \"file:/none\"\ncheck-packages = false\n")
        .write("x/img/imgbuild/recipe/imgbuild.toml", "[workspace]\nallow = [\"/**\"]\n")
        .write("x/img/imgbuild/recipe/sub/image.toml", "[image]\nname = \"other\"\nrelease = \"9\"\n");
    bundle(&space, &manifest("", "rocky9.4"));
    space.run(&["import", "bundle", "b.tgz", "--into", "w"]).good();
    assert!(path_of(&space, "image.toml").is_file());
    assert!(!path_of(&space, "imgbuild.toml").exists() && !path_of(&space, "sub/image.toml").exists());
    // Two bundles with one list of other content: the first one's stays.
    let first = Space::new();
    let list = "<pkglist>/data/c.pkglist</pkglist>";
    first.write("x/img/c.pkglist", "one\n");
    bundle(&first, &manifest(list, "rocky9.4"));
    first.run(&["import", "bundle", "b.tgz", "--into", "w"]).good();
    first.write("x/img/c.pkglist", "two\n");
    bundle(&first, &manifest(list, "rocky9.4").replace("img<", "second<"));
    let ran = first.run(&["import", "bundle", "b.tgz", "--into", "w"]);
    assert!(ran.code == 1 && ran.err.contains("c.pkglist"), "{}", ran.err);
    assert_eq!(std::fs::read_to_string(first.path().join("w/site/data/c.pkglist")).unwrap(), "one\n");
    first.run(&["import", "bundle", "b.tgz", "--into", "w", "--force"]).good();
    assert_eq!(std::fs::read_to_string(first.path().join("w/site/data/c.pkglist.ORIG")).unwrap(), "one\n");
}

fn path_of(space: &Space, name: &str) -> PathBuf {
    space.path().join("w/images/img").join(name)
}

#[test]
fn wildcards_of_a_synclist_outside_say_what_to_allow() {
    let space = Space::new();
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("a"), "a").unwrap();
    space
        .write("image.toml", "[image]\nname = \"i\"\nrelease = \"bookworm\"\n[sync]\nlists = [\"l\"]\n")
        .write("l", &format!("{}/* -> /etc/x/\n", files.path().display()));
    let said = space.run(&["check"]).err.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
    let rule = format!("[workspace] allow = [\"{}/**\"]", files.path().canonicalize().unwrap().display());
    assert!(
        said.contains("is outside the workspace") && said.replace(' ', "").contains(&rule.replace(' ', "")),
        "{said}"
    );
    space.edit("image.toml", "[sync]", &format!("{rule}\n[sync]").replace("[workspace] ", "[workspace]\n"));
    space.run(&["check"]).good();
}

#[test]
fn what_statelite_tables_the_site_table_and_shipped_lists_say_is_kept_and_found() {
    let space = Space::new();
    space
        .write("share/xcat/netboot/rocky/compute.rocky9.x86_64.pkglist", "bash\n")
        .write("share/xcat/netboot/rocky/compute.pkglist", "dash\n")
        .write("media/notes", "")
        .write("i.stanza", &stanza(&format!("    exlist=\n    pkgdir={}\n", space.path().join("media").display())).replace("provmethod=netboot", "provmethod=statelite"))
        .write("litefile.csv", "#image,file,options,comments,disable\n\"ALL\",\"/etc/ssh/\",\"\",,\n\"other\",\"/x\",\"tmpfs\",,\n\"i\",\"/var/\",\"tmpfs\",,\"yes\"\n")
        .write("site.csv", "#key,value,comments,disable\n\"timezone\",\"Europe/Berlin\",,\n");
    let ran = space.run(&["import", "xcat", ".", "--into", "w"]).good();
    assert!(ran.out.contains("decide   rootfstype: nodes of xCAT mount their root over NFS"), "{}", ran.out);
    assert!(
        recipe(&space).contains("[statelite]\n") && recipe(&space).contains("litefile = [\"litefile.csv\"]"),
        "{}",
        recipe(&space)
    );
    assert!(ran.out.contains("[system] timezone = \"Europe/Berlin\""), "{}", ran.out);
    // Shipped lists are found by their release before the plain one, and the report says so.
    assert!(ran.out.contains("compute.rocky9.x86_64.pkglist is what xCAT finds for the profile"), "{}", ran.out);
    assert!(
        recipe(&space).contains("lists = [\"/opt/xcat/share/xcat/netboot/rocky/compute.rocky9.x86_64.pkglist\"]"),
        "{}",
        recipe(&space)
    );
    inside(&space, &["check"]).good();
    // Rows of this image and of all, without those that xCAT passes over.
    let rows = std::fs::read_to_string(space.path().join("w/images/i/litefile.csv")).unwrap();
    assert_eq!(rows, "#image,file,options,comments,disable\n\"ALL\",\"/etc/ssh/\",,,\n");
}

#[test]
fn rows_of_osimage_alone_make_recipes_and_take_nothing_away() {
    let space = Space::new();
    // As a document of xCAT 2.8 shows what tabdump prints, and one of another CPU.
    let rows = r#""rhels7.1-ppc64le-install-compute",,"compute","linux",,"install",,"rhels7.1-ppc64le",,,"Linux","rhels7.1","ppc64le",,,,,,,,
"rhels7.1-ppc64le-netboot-compute",,"compute","linux",,"netboot",,"rhels7.1-ppc64le",,,"Linux","rhels7.1","ppc64le",,,,,,,,
"rhels7.9-x86_64-netboot-compute",,"compute","linux",,"netboot",,"rhels7.9-x86_64",,,"Linux","rhels7.9","x86_64",,,,,,,,
"#;
    space.write("osimage.csv", rows);
    let ran = space.run(&["import", "xcat", "osimage.csv", "--into", "new"]).good();
    assert!(ran.err.contains("no header line") && ran.err.contains("tabdump linuximage"), "{}", ran.err);
    for said in
        ["rhels7.1-ppc64le-netboot-compute: wrote", "provmethod is install", "rhels7.9-x86_64-netboot-compute: wrote"]
    {
        assert!(ran.out.contains(said), "{said}: {}", ran.out);
    }
    let recipe = std::fs::read_to_string(space.path().join("new/images/rhels7.1-ppc64le-netboot-compute/image.toml"));
    assert!(recipe.unwrap().contains("arch = \"ppc64le\""));
    // With the other table it has all; without it nothing of that is lost.
    let both =
        "#imagename,pkglist,kernelver,rootimgdir\n\"rhels7.9-x86_64-netboot-compute\",,\"3.10.0-1160.el7.x86_64\",\n";
    space.write("linuximage.csv", both);
    let all = space.run(&["import", "xcat", "osimage.csv", "linuximage.csv", "--into", "new"]).good();
    assert!(all.out.contains("kernel.version = 3.10.0-1160.el7.x86_64"), "{}", all.out);
    let path = space.path().join("new/images/rhels7.9-x86_64-netboot-compute/image.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    let ran = space.run(&["import", "xcat", "osimage.csv", "--into", "new"]);
    assert!(ran.out.contains("linuximage, which is missing here: it is kept"), "{}{}", ran.out, ran.err);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    // linuximage alone says of no image what it is.
    let ran = space.run(&["import", "xcat", "linuximage.csv", "--into", "other"]);
    assert!(
        ran.code == 1 && ran.err.contains("tabdump osimage") && !space.path().join("other").exists(),
        "{}",
        ran.err
    );
}

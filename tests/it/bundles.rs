//! `export bundle` and `import bundle`: what imgbuild writes, what xCAT wrote, and what nobody should believe.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Ran, Space, imgbuild};

const COMPUTE: &str = "debian12-x86_64-netboot-compute";

fn inside(space: &Space, into: &str, arguments: &[&str]) -> Ran {
    imgbuild().arg("-C").arg(space.path().join(into)).args(arguments).output().unwrap().into()
}

fn tar(arguments: &[&str], directory: &Path) -> String {
    let ran = Command::new("tar").args(arguments).current_dir(directory).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

/// Paths of all files below a directory, with their contents.
fn tree(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let walk = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().flatten();
    let files = walk.filter(|entry| !entry.file_type().is_dir());
    files
        .map(|entry| {
            (entry.path().strip_prefix(directory).unwrap().to_owned(), std::fs::read(entry.path()).unwrap_or_default())
        })
        .collect()
}

/// The example's site as a workspace of copies, and a directory with what nodes boot.
fn workspace() -> Space {
    let space = Space::example("xcat-site");
    std::fs::create_dir_all(space.path().join("install/post/otherpkgs/debian12/x86_64")).unwrap();
    std::fs::create_dir_all(space.path().join("install/rocky9.4/x86_64")).unwrap();
    space.run(&["import", "xcat", ".", "--into", "new", "--copy"]).good();
    for name in ["kernel", "initrd-stateless.gz", "rootimg.cpio.gz", "rootimg.cpio.gz.index", "rootimg.gz"] {
        space.write(&format!("boot/{name}"), &format!("made up: {name}\n"));
    }
    space
}

fn export(space: &Space, file: &str, more: &[&str]) -> Ran {
    let from = space.path().join("boot");
    let to = space.path().join(file);
    inside(
        space,
        "new",
        &[&["export", "bundle", COMPUTE, "--from", from.to_str().unwrap(), "-o", to.to_str().unwrap()], more].concat(),
    )
}

#[test]
fn a_bundle_has_xcats_layout_and_comes_back_as_the_same_recipe() {
    let space = workspace();
    space.write("postscripts.csv", "#node,postscripts,postbootscripts,comments,disable\n\"xcatdefaults\",\"syslog\",\"otherpkgs\",,\n\"n01\",\"mine,syslog\",,,\n");
    let tables = space.path().join("postscripts.csv");
    let extra = space.path().join("install/postscripts/xcatdsklspost");
    let folder = format!("{}:/install/files", space.path().join("install/custom/files").display());
    let more = [
        "--postscripts",
        "n01",
        "--tables",
        tables.to_str().unwrap(),
        "--extra",
        extra.to_str().unwrap(),
        "--extra",
        &folder,
    ];
    export(&space, "b.tgz", &more).good();
    let mut listed: Vec<String> = tar(&["-tzf", "b.tgz"], space.path())
        .lines()
        .map(|line| line.trim_start_matches(&format!("{COMPUTE}/")).to_owned())
        .collect();
    listed.retain(|line| !line.contains("/files/") && !line.contains("imgbuild/site/") && !line.is_empty());
    listed.sort();
    let expected = [
        "compute.exlist",
        "compute.otherpkgs.pkglist",
        "compute.pkglist",
        "compute.postinstall",
        "compute.synclist",
        "extra/base.pkglist",
        "extra/xcatdsklspost",
        "imgbuild.json",
        "imgbuild/recipe/image.toml",
        "imgbuild/recipe/xcat.stanza",
        "initrd-stateless.gz",
        "kernel",
        "manifest.xml",
        "rootimg.cpio.gz",
        "rootimg.cpio.gz.index",
    ];
    assert_eq!(listed, expected);
    let manifest = tar(&["-xzOf", "b.tgz", &format!("{COMPUTE}/manifest.xml")], space.path());
    insta::assert_snapshot!("manifest", manifest.replace(&space.path().display().to_string(), "SITE"));
    // The same again is the same file.
    export(&space, "again.tgz", &more).good();
    assert_eq!(
        std::fs::read(space.path().join("b.tgz")).unwrap(),
        std::fs::read(space.path().join("again.tgz")).unwrap()
    );

    let dry = space.run(&["import", "bundle", "b.tgz", "--into", "other", "--dry-run"]).good();
    assert!(dry.out.contains("would be written") && !space.path().join("other").exists(), "{}", dry.out);
    let ran = space.run(&["import", "bundle", "b.tgz", "--into", "other"]).good();
    assert!(
        ran.out.contains("the packed image is site/install/netboot/debian12/x86_64/compute/rootimg.cpio.gz"),
        "{}",
        ran.out
    );
    // The same recipe, with where its files are now; all that it reads came along.
    let recipe = |into: &str| {
        std::fs::read_to_string(space.path().join(into).join("images").join(COMPUTE).join("image.toml")).unwrap()
    };
    let before = recipe("new");
    assert!(recipe("other").starts_with(before.trim_end()), "{}", recipe("other"));
    assert!(
        recipe("other").contains("\"/install/postscripts\" = \"../../site/install/postscripts\""),
        "{}",
        recipe("other")
    );
    assert!(inside(&space, "other", &["check"]).good().err.contains("the recipe is good"));
    assert!(!std::fs::read_to_string(space.path().join("other/imgbuild.toml")).unwrap().contains("path_map"));
    let there = |path: &str| std::fs::read_to_string(space.path().join("other/site").join(path)).unwrap();
    assert_eq!(there("install/netboot/debian12/x86_64/compute/kernel"), "made up: kernel\n");
    assert_eq!(there("install/files/motd"), "Batch partition of the made-up site.\n");
    assert!(there("install/custom/netboot/debian/compute.pkglist").contains("linux-image-cloud-amd64"));

    // A second time: taken, unless forced; then what was there stays beside it.
    let before = tree(&space.path().join("other"));
    let ran = space.run(&["import", "bundle", "b.tgz", "--into", "other"]);
    assert!(ran.code == 1 && ran.err.contains("already exists"), "{}", ran.err);
    assert_eq!(tree(&space.path().join("other")), before);
    let kernel = "other/site/install/netboot/debian12/x86_64/compute/kernel";
    space.write(kernel, "mine\n");
    space.run(&["import", "bundle", "b.tgz", "--into", "other", "--force"]).good();
    let kept = std::fs::read_to_string(space.path().join(format!("{kernel}.ORIG"))).unwrap();
    assert_eq!(
        (kept.as_str(), there("install/netboot/debian12/x86_64/compute/kernel").as_str()),
        ("mine\n", "made up: kernel\n")
    );

    // Another profile lies beside it.
    let ran = space.run(&["import", "bundle", "b.tgz", "--into", "other", "-p", "gpu"]).good();
    assert!(ran.out.contains("debian12-x86_64-netboot-gpu: wrote"), "{}", ran.out);
    assert!(there("install/custom/netboot/debian/gpu.pkglist").contains("linux-image-cloud-amd64"));
    assert_eq!(there("install/netboot/debian12/x86_64/gpu/kernel"), "made up: kernel\n");
}

#[test]
fn what_a_bundle_lacks_is_said_before_it_is_written() {
    let space = workspace();
    let to = space.path().join("b.tgz");
    let ran = inside(&space, "new", &["export", "bundle", COMPUTE, "-o", to.to_str().unwrap()]);
    assert!(ran.code == 1 && ran.err.contains("--publish xcat:DIR"), "{}", ran.err);
    let ran = export(&space, "b.tgz", &["--postscripts", "n01", "--tables", "osimage.csv"]);
    assert!(ran.code == 1 && ran.err.contains("tabdump postscripts"), "{}", ran.err);
    space.write("new/other/compute.pkglist", "vim\n");
    inside(&space, "new", &["set", COMPUTE, "packages.lists+=../../other/compute.pkglist"]).good();
    let ran = export(&space, "b.tgz", &[]);
    assert!(
        ran.code == 1 && ran.err.split_whitespace().collect::<Vec<_>>().join(" ").contains("have the same name"),
        "{}",
        ran.err
    );
    assert!(!to.exists());
}

/// A bundle as imgexport writes it, by tar itself.
fn of_xcat(space: &Space, manifest: &str, files: &[&str]) {
    space.write("x/my_image/manifest.xml", manifest);
    for file in files {
        space.write(&format!("x/my_image/{file}"), &format!("{file}\n"));
    }
    tar(&["-C", "x", "-czf", "b.tgz", "./my_image"], space.path());
}

const NESTED: &str = r#"<?xml version="1.0"?>
<xcatimage>
  <extra>
    <dest>/install/postscripts</dest>
    <src>/install/postscripts/setlimits</src>
  </extra>
  <kernel>/install/netboot/rocky9.4/x86_64/render/kernel</kernel>
  <linuximage>
    <exlist>/install/custom/netboot/rocky/render.exlist</exlist>
    <imagename>rocky9.4-x86_64-netboot-render</imagename>
    <netdrivers>ice,mlx5_core</netdrivers>
    <pkgdir>/install/rocky9.4/x86_64</pkgdir>
    <pkglist>/install/custom/netboot/rocky/render.pkglist,/install/custom/netboot/rocky/site.pkglist</pkglist>
    <rootimgdir>/install/netboot/rocky9.4/x86_64/render</rootimgdir>
  </linuximage>
  <osimage>
    <description>a &amp; b</description>
    <imagename>rocky9.4-x86_64-netboot-render</imagename>
    <imagetype>linux</imagetype>
    <osarch>x86_64</osarch>
    <osvers>rocky9.4</osvers>
    <profile>render</profile>
    <provmethod>netboot</provmethod>
    <synclists></synclists>
  </osimage>
  <postscripts>syslog,remoteshell,syncfiles</postscripts>
  <ramdisk>/install/netboot/rocky9.4/x86_64/render/initrd-stateless.gz</ramdisk>
  <rootimg>/install/netboot/rocky9.4/x86_64/render/rootimg.cpio.gz</rootimg>
</xcatimage>
"#;

const FILES: [&str; 7] = [
    "kernel",
    "initrd-stateless.gz",
    "rootimg.cpio.gz",
    "render.exlist",
    "render.pkglist",
    "site.pkglist",
    "extra/setlimits",
];

#[test]
fn bundles_of_xcat_are_read_nested_and_flat() {
    let space = Space::new();
    of_xcat(&space, NESTED, &FILES);
    space.run(&["import", "bundle", "b.tgz", "--into", "new"]).good();
    let recipe =
        std::fs::read_to_string(space.path().join("new/images/rocky9.4-x86_64-netboot-render/image.toml")).unwrap();
    assert!(
        recipe.contains("distro = \"rocky\"") && recipe.contains("# a & b\n") && recipe.contains("site.pkglist"),
        "{recipe}"
    );
    assert!(space.path().join("new/site/install/postscripts/setlimits").is_file());
    // Plain tar, as `imgimport -n` takes it; and the old names of the seed.
    let seed = std::fs::read_to_string(crate::support::project().join("../shared/seeds/002_528206412deaaf85.txt"));
    let flat = match &seed {
        Ok(text) => {
            let start = text.find("<?xml").unwrap();
            text[start..text.find("</xcatimage>").unwrap() + 12].to_owned()
        }
        Err(_) => NESTED
            .replace("<linuximage>", "")
            .replace("</linuximage>", "")
            .replace("<osimage>", "")
            .replace("</osimage>", ""),
    };
    let flat = flat.replace("ppc64le", "x86_64").replace("ppc64", "x86_64");
    let names = [
        "kernel",
        "initrd-diskless.gz",
        "rootimg.gz",
        "extra/myscript1",
        "compute1.pkglist",
        "compute1.exlist",
        "compute1.synclist",
        "compute1.list",
        "compute1.otherpkgs.pkglist",
        "compute1.postinstall",
    ];
    of_xcat(&space, &flat, &[&FILES[..], &names[..]].concat());
    tar(&["-C", "x", "-cf", "plain.tar", "./my_image"], space.path());
    let ran = space.run(&["import", "bundle", "plain.tar", "--into", "flat"]).good();
    assert!(ran.err.contains("an old release of xCAT"), "{}", ran.err);
    assert_eq!(std::fs::read_dir(space.path().join("flat/images")).unwrap().count(), 1);
}

#[test]
fn a_bundle_without_a_folder_is_read_too() {
    let space = Space::new();
    of_xcat(&space, NESTED, &FILES);
    space.run(&["import", "bundle", "b.tgz", "--into", "new"]).good();
    tar(&["-C", "x/my_image", "-czf", "top.tgz", "."], space.path());
    tar(
        &[
            "-C",
            "x/my_image",
            "-cf",
            "names.tar",
            "manifest.xml",
            "kernel",
            "extra",
            "initrd-stateless.gz",
            "rootimg.cpio.gz",
            "render.exlist",
            "render.pkglist",
            "site.pkglist",
        ],
        space.path(),
    );
    for (bundle, into) in [("top.tgz", "top"), ("names.tar", "names")] {
        space.run(&["import", "bundle", bundle, "--into", into]).good();
        assert_eq!(tree(&space.path().join(into)), tree(&space.path().join("new")), "{bundle}");
    }
    // As imgbuild writes it, but for the folder: its own recipe counts.
    let own = workspace();
    export(&own, "b.tgz", &[]).good();
    std::fs::create_dir(own.path().join("y")).unwrap();
    tar(&["-C", "y", "-xzf", "b.tgz"], own.path());
    tar(&["-C", &format!("y/{COMPUTE}"), "-czf", "top.tgz", "."], own.path());
    for (bundle, into) in [("b.tgz", "one"), ("top.tgz", "two")] {
        own.run(&["import", "bundle", bundle, "--into", into]).good();
    }
    assert_eq!(tree(&own.path().join("two")), tree(&own.path().join("one")));
    // Errors name the file as it lies there.
    of_xcat(&space, "<xcatimage><osimage></xcatimage>", &[]);
    tar(&["-C", "x/my_image", "-cf", "bad.tar", "manifest.xml"], space.path());
    let ran = space.run(&["import", "bundle", "bad.tar", "--into", "bad"]);
    assert!(ran.code == 1 && ran.err.contains("[manifest.xml:1:") && !ran.err.contains("top"), "{}", ran.err);
}

#[test]
fn included_lists_and_what_scripts_read_come_with_a_bundle() {
    let space = workspace();
    let lists = space.path().join("new/site/install/custom/netboot/debian");
    assert!(std::fs::read_to_string(lists.join("compute.pkglist")).unwrap().contains("/debian/base.pkglist#"));
    std::fs::create_dir_all(space.path().join("new/site/install/custom/common")).unwrap();
    space.write("new/site/install/custom/common/more.pkglist", "htop\n");
    let list = std::fs::read_to_string(lists.join("base.pkglist")).unwrap();
    std::fs::write(lists.join("base.pkglist"), format!("{list}#INCLUDE:/install/custom/common/more.pkglist#\n"))
        .unwrap();
    let toml = std::fs::read_to_string(space.path().join("new/imgbuild.toml")).unwrap();
    std::fs::write(
        space.path().join("new/imgbuild.toml"),
        format!("{toml}\"/install/custom/common\" = \"site/install/custom/common\"\n"),
    )
    .unwrap();
    inside(&space, "new", &["check"]).good();
    let script = lists.join("compute.postinstall");
    let text = std::fs::read_to_string(&script).unwrap();
    std::fs::write(&script, format!("{text}cat /install/custom/files/motd >\"$1/etc/motd\"\n")).unwrap();
    // What the synclist and the script read: a folder.
    let read = space.path().join("new/site/install/custom/files").display().to_string();
    export(&space, "b.tgz", &["--extra", &format!("{read}:/install/custom/files")]).good();
    // As xCAT has it: without imgbuild's own recipe.
    std::fs::create_dir(space.path().join("y")).unwrap();
    tar(&["-C", "y", "-xzf", "b.tgz"], space.path());
    let folder = space.path().join("y").join(COMPUTE);
    std::fs::remove_dir_all(folder.join("imgbuild")).unwrap();
    std::fs::remove_file(folder.join("imgbuild.json")).unwrap();
    let manifest = std::fs::read_to_string(folder.join("manifest.xml")).unwrap();
    assert_eq!(manifest.matches("<extra>").count(), 3, "{manifest}");
    for name in ["base.pkglist", "more.pkglist"] {
        assert!(folder.join("extra").join(name).is_file(), "{name}");
    }
    tar(&["-C", "y", "-czf", "plain.tgz", "."], space.path());
    let recipe = |into: &str, name: &str| {
        let path = space.path().join(into).join("images").join(name).join("image.toml");
        std::fs::read_to_string(path).unwrap()
    };
    for (words, into, image) in
        [(&["plain.tgz"][..], "plain", COMPUTE), (&["b.tgz", "-p", "gpu"], "renamed", "debian12-x86_64-netboot-gpu")]
    {
        space.run(&[&["import", "bundle"], words, &["--into", into]].concat()).good();
        let shown = inside(&space, into, &["plan", image]);
        assert_eq!(shown.code, 0, "{}", shown.err);
        let more = space.path().join(into).join("site/install/custom/common/more.pkglist").display().to_string();
        let listed = inside(&space, into, &["check", "--as", "pkglist", &more]);
        assert!(listed.out.contains("htop"), "{}{}", listed.out, listed.err);
        let text = recipe(into, image);
        assert!(text.contains("inputs = [\"/install/custom/files/motd\"]"), "{text}");
        let checked = inside(&space, into, &["check", image]);
        assert!(!checked.err.contains("matches no file") && !checked.err.contains("cannot be read"), "{}", checked.err);
    }
}

#[test]
fn packed_images_of_every_form_come_with_a_bundle() {
    for (name, provmethod, good) in [
        ("rootimg.sfs", "netboot", true),
        ("rootimg.tar.gz", "netboot", true),
        ("rootimg.tar.xz", "netboot", true),
        ("rootimg.cpio.xz", "netboot", true),
        ("rootimg.cpio.gz", "netboot2", false),
    ] {
        let space = Space::new();
        let old = FILES.iter().find(|file| file.starts_with("rootimg")).unwrap();
        let manifest = NESTED.replace(old, name).replace(">netboot<", &format!(">{provmethod}<"));
        assert_ne!((manifest.as_str(), name), (NESTED, "rootimg.sfs"));
        let files: Vec<&str> = FILES.iter().map(|file| if file == old { name } else { *file }).collect();
        of_xcat(&space, &manifest, &files);
        let ran = space.run(&["import", "bundle", "b.tgz", "--into", "new"]);
        let image = "rocky9.4-x86_64-netboot-render";
        assert_eq!(
            (ran.code == 0, space.path().join("new/images").join(image).exists()),
            (good, good),
            "{name} {provmethod}: {}{}",
            ran.out,
            ran.err
        );
        if good {
            assert!(
                ran.out.contains(&format!("{image}: the packed image is ")) && ran.out.contains(name),
                "{}",
                ran.out
            );
        }
    }
}

#[test]
fn an_image_that_is_installed_on_disks_gets_no_recipe_and_says_so() {
    let space = Space::new();
    of_xcat(&space, &NESTED.replace(">netboot<", ">install<"), &FILES);
    let ran = space.run(&["import", "bundle", "b.tgz", "--into", "new"]).good();
    assert!(
        ran.out.contains("provmethod is install: only diskless images (netboot, statelite) are built"),
        "{}",
        ran.out
    );
    assert!(!space.path().join("new/images").exists());
}

#[test]
fn hostile_bundles_are_refused_and_write_nothing() {
    let refused = |manifest: &str, files: &[&str], said: &str| {
        let space = Space::new();
        of_xcat(&space, manifest, files);
        let before = tree(space.path());
        let ran = space.run(&["import", "bundle", "b.tgz", "--into", "new"]);
        let err = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(ran.code == 1 && err.contains(said), "{said}: {err}");
        assert_eq!(tree(space.path()), before, "{said}");
    };
    refused(
        &NESTED.replace("/install/custom/netboot/rocky/site.pkglist", "../../etc/cron.d/x"),
        &FILES,
        "is not a valid path for `pkglist`",
    );
    refused(
        &NESTED.replace("<dest>/install/postscripts", "<dest>/install/../etc"),
        &FILES,
        "is not a valid path for `extra`",
    );
    refused(
        &NESTED.replace("<xcatimage>", "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><xcatimage>"),
        &FILES,
        "DOCTYPE",
    );
    refused(
        &NESTED.replace("netboot</provmethod>", "netboot2</provmethod>"),
        &FILES,
        "provmethod `netboot2` is not supported",
    );
    refused(NESTED, &FILES[1..], "its manifest names `kernel`, which is not in it");
    refused("<xcatimage>", &FILES, "ends within");
    refused("not XML", &FILES, "no element `xcatimage`");
    let lying = r#"{"format_version": "1.0", "members": [{"name": "kernel", "size": 7, "sha256": "00"}]}"#;
    let space = Space::new();
    of_xcat(&space, NESTED, &FILES);
    space.write("x/my_image/imgbuild.json", lying);
    tar(&["-C", "x", "-czf", "b.tgz", "./my_image"], space.path());
    let ran = space.run(&["import", "bundle", "b.tgz", "--into", "new"]);
    assert!(ran.code == 1 && ran.err.contains("SHA-256"), "{}", ran.err);
    // A synclist and a recipe of the bundle get nothing of this host.
    space.write("secret", "of the host\n");
    let secret = space.path().join("secret");
    std::fs::remove_file(space.path().join("x/my_image/imgbuild.json")).unwrap();
    of_xcat(
        &space,
        &NESTED.replace("<synclists></synclists>", "<synclists>/install/custom/a.synclist</synclists>"),
        &FILES,
    );
    space.write("x/my_image/a.synclist", &format!("{} -> /srv/x\n", secret.display()));
    space.write(
        "x/my_image/imgbuild/recipe/image.toml",
        &format!(
            "[image]\nname = \"rocky9.4-x86_64-netboot-render\"\nrelease = \"9\"\n[workspace]\nallow = [\"{}\"]\n",
            secret.display()
        ),
    );
    std::fs::rename(space.path().join("x/my_image"), space.path().join("x/rocky9.4-x86_64-netboot-render")).unwrap();
    tar(&["-C", "x", "-czf", "b.tgz", "./rocky9.4-x86_64-netboot-render"], space.path());
    let ran = space.run(&["import", "bundle", "b.tgz", "--into", "new"]).good();
    assert!(ran.out.contains("would read files of this host"), "{}", ran.out);
    let written = tree(&space.path().join("new"));
    assert!(written.iter().all(|(_, text)| !String::from_utf8_lossy(text).contains("of the host")));
    assert!(written.iter().all(|(_, text)| !String::from_utf8_lossy(text).contains("allow = ")));
    assert_eq!(inside(&space, "new", &["check"]).code, 1);
}

/// Accounts and keys go along: nobody else reads the bundle, and what was private here is private where it is unpacked.
#[test]
fn what_only_its_owner_reads_stays_so_in_a_bundle_and_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let space = workspace();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let key = space.path().join("install/munge.key");
    space.write("install/munge.key", "made up\n");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o400)).unwrap();
    let extra = format!("{}:/install/keys", key.display());
    let ran = export(&space, "b.tgz", &["--extra", &extra]).good();
    let said = format!("{}{}", ran.out, ran.err);
    assert!(said.contains("munge.key") && said.contains("its mode is 0600"), "{said}");
    assert_eq!(mode(&space.path().join("b.tgz")), 0o600);
    let listed = tar(&["-tvzf", "b.tgz"], space.path());
    let line = listed.lines().find(|line| line.ends_with("munge.key")).unwrap();
    assert!(line.starts_with("-rw------- ") || line.starts_with("-rw-------\t"), "{line}");
    space.run(&["import", "bundle", "b.tgz", "--into", "other"]).good();
    let found: Vec<_> = walkdir::WalkDir::new(space.path().join("other"))
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_name() == "munge.key")
        .collect();
    assert!(!found.is_empty() && found.iter().all(|entry| mode(entry.path()) & 0o077 == 0), "{found:?}");
}

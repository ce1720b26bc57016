//! What chdef makes of a recipe is what an import of the changed definition makes, and everything else stays as it is.

use std::path::Path;

use crate::support::{Ran, Space, imgbuild};
use crate::xcat_defs::{COMPUTE, recipe, site, typed};

const LISTS: &str = "/install/custom/netboot/debian";

fn chdef(space: &Space, words: &str) -> Ran {
    typed(space, &format!("chdef -t osimage -o {COMPUTE} {words}"), "", false)
}

fn show(space: &Space, attribute: &str) -> String {
    let shown = typed(space, &format!("lsdef -t osimage -o {COMPUTE} -i {attribute}"), "", false).good().out;
    shown.lines().find_map(|line| line.trim().strip_prefix(&format!("{attribute}="))).unwrap().to_owned()
}

fn check(space: &Space) {
    let ran: Ran = imgbuild().arg("-C").arg(space.path().join("new")).args(["check", COMPUTE]).output().unwrap().into();
    ran.good();
}

fn values(text: &str) -> toml::Table {
    let mut table: toml::Table = text.parse().unwrap();
    // What a recipe may read has no attribute.
    table.remove("workspace");
    // lsdef names what the recipe leaves to its default.
    if let Some(kdump) = table.get_mut("kdump").and_then(toml::Value::as_table_mut)
        && kdump.get("reserve").and_then(toml::Value::as_str) == Some("256M")
    {
        kdump.remove("reserve");
    }
    table.retain(|_, value| value.as_table().is_none_or(|table| !table.is_empty()));
    table
}

/// What an import of the workspace's definition, as `lsdef -z` prints it, gives.
fn imported(space: &Space, into: &str) -> String {
    let stanza = typed(space, &format!("lsdef -t osimage -z {COMPUTE}"), "", false).good().out;
    space.write("tables/now.stanza", &stanza);
    for table in ["osimage.csv", "linuximage.csv"] {
        let _ = std::fs::remove_file(space.path().join(table));
    }
    space.run(&["import", "xcat", ".", "tables/now.stanza", "--into", into]).good();
    std::fs::read_to_string(space.path().join(into).join("images").join(COMPUTE).join("image.toml")).unwrap()
}

fn write_script(space: &Space, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    space.write(name, text);
    std::fs::set_permissions(space.path().join(name), PermissionsExt::from_mode(0o755)).unwrap();
}

/// A site with a recipe that a person edited, and files for each attribute.
fn edited() -> Space {
    let space = site(&[]);
    write_script(&space, "install/custom/reads", "#!/bin/sh\ncat /install/custom/files/motd >\"$1/etc/issue\"\n");
    space
        .write("install/custom/more/inner.pkglist", "vim-tiny\n")
        .write("install/custom/outer.pkglist", "#INCLUDE:more/inner.pkglist#\n")
        .write("install/custom/more.exlist", "./usr/share/doc*\n")
        .write("install/custom/more.synclist", "/install/custom/files/motd -> /etc/motd.more\n")
        .write("install/custom/update.ko", "no module\n");
    let path = space.path().join("new/images").join(COMPUTE).join("image.toml");
    let text = recipe(&space, COMPUTE);
    let text = text.replace("\n[", "\n# ours\n\n[") + "\n[services]\nenable = [\"cron\"]   # ours, too\n";
    std::fs::write(path, text).unwrap();
    space
}

#[test]
fn each_attribute_becomes_what_an_import_gives_and_all_else_stays() {
    let space = edited();
    let before = recipe(&space, COMPUTE);
    let files = |space: &Space| {
        ["image.toml", "xcat.stanza"].map(|name| {
            let path = space.path().join("new/images").join(COMPUTE).join(name);
            (path.clone(), std::fs::read_to_string(path).unwrap())
        })
    };
    let start = files(&space);
    let all = [
        format!("pkglist={LISTS}/base.pkglist"),
        "pkglist=/install/custom/outer.pkglist".to_owned(),
        format!("otherpkglist={LISTS}/base.pkglist"),
        "otherpkglist=".to_owned(),
        "otherpkgdir=/install/custom/more".to_owned(),
        "exlist=/install/custom/more.exlist".to_owned(),
        "exlist=".to_owned(),
        "synclists=/install/custom/more.synclist".to_owned(),
        "postinstall='/install/custom/reads one'".to_owned(),
        format!("postinstall='/install/custom/reads,{LISTS}/compute.postinstall x'"),
        "postinstall=".to_owned(),
        "netdrivers=ice,igb.ko".to_owned(),
        "netdrivers=".to_owned(),
        "driverupdatesrc=/install/custom/update.ko".to_owned(),
        "kernelver=6.1.0-9-amd64".to_owned(),
        "kernelver=6.1.0-9-amd64 kerneldir=/install/custom/more".to_owned(),
        "addkcmdline='quiet R::x console=ttyS1,115200'".to_owned(),
        "addkcmdline=".to_owned(),
        "environvar=SITE=red,B=1".to_owned(),
        "environvar=".to_owned(),
        "dump=nfs://10.0.0.1/dumps".to_owned(),
        "dump=nfs://10.0.0.1/dumps crashkernelsize=512M".to_owned(),
        "crashkernelsize=512M".to_owned(),
        "profile=login".to_owned(),
        "rootimgdir=/install/netboot/mine".to_owned(),
        "groups=batch,gpu nodebootif=eth1 usercomment='for physics' description='Another text'".to_owned(),
    ];
    for (at, words) in all.iter().map(String::as_str).enumerate() {
        chdef(&space, words).good();
        let now = recipe(&space, COMPUTE);
        // Of values with blanks the import says it.
        for pair in words.split(' ').filter(|_| !words.contains('\'')) {
            let (name, value) = pair.split_once('=').unwrap();
            assert_eq!(show(&space, name), value, "{words}");
        }
        let mut expected = values(&imported(&space, &format!("again{at}")));
        expected.insert("services".to_owned(), values(&before)["services"].clone());
        assert_eq!(values(&now), expected, "{words}\n{now}");
        let ours = |text: &str| {
            text.lines()
                .filter(|line| line.contains("ours") || line.starts_with("# Who may"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(ours(&now), ours(&before), "{words}\n{now}");
        // That directory has no kernel, which check says.
        if !words.contains("kerneldir=") {
            check(&space);
        }
        for (path, text) in &start {
            std::fs::write(path, text).unwrap();
        }
    }
}

#[test]
fn copycds_own_osimage_gets_other_packages() {
    let space = site(&[]);
    // As copycds makes it: a directory, and no list.
    space.write("a.stanza", &format!("plain:\n    objtype=osimage\n    imagetype=linux\n    osarch=x86_64\n    osname=Linux\n    osvers=debian12\n    otherpkgdir=/install/post/otherpkgs/debian12/x86_64\n    pkglist={LISTS}/compute.pkglist\n    profile=compute1\n    provmethod=netboot\n    rootimgdir=/install/netboot/debian12/x86_64/compute1\n"));
    let stanza = std::fs::read_to_string(space.path().join("a.stanza")).unwrap();
    typed(&space, "mkdef -z", &stanza, false).good();
    assert!(recipe(&space, "plain").contains("there is no otherpkglist"), "{}", recipe(&space, "plain"));
    typed(&space, &format!("chdef -t osimage plain otherpkglist={LISTS}/compute.otherpkgs.pkglist"), "", false).good();
    let text = recipe(&space, "plain");
    let table = values(&text)["otherpkgs"].clone();
    assert_eq!(table["dir"].as_str(), Some("/install/post/otherpkgs/debian12/x86_64"), "{text}");
    assert_eq!(table["lists"][0].as_str(), Some(format!("{LISTS}/compute.otherpkgs.pkglist").as_str()));
    // What the comment said is no longer so.
    assert!(!text.contains("there is no otherpkglist"), "{text}");
    typed(&space, "chdef -t osimage plain otherpkglist=", "", false).good();
    assert!(!values(&recipe(&space, "plain")).contains_key("otherpkgs"));
}

#[test]
fn what_new_lists_and_scripts_read_is_allowed_and_named() {
    let space = edited();
    // Outside of all folders that the import allowed, and of this host.
    let outside = tempfile::tempdir().unwrap();
    let at = |name: &str| outside.path().join(name).display().to_string();
    for folder in ["lists", "included", "files"] {
        std::fs::create_dir(outside.path().join(folder)).unwrap();
    }
    std::fs::write(at("included/in.pkglist"), "vim-tiny\n").unwrap();
    std::fs::write(at("lists/a.pkglist"), format!("#INCLUDE:{}#\n", at("included/in.pkglist"))).unwrap();
    std::fs::write(at("files/conf"), "x\n").unwrap();
    std::fs::write(at("lists/a.synclist"), format!("{} -> /etc/conf\n/etc/hostname -> /etc/mn\n", at("files/conf")))
        .unwrap();
    chdef(&space, &format!("-p pkglist={}", at("lists/a.pkglist"))).good();
    check(&space);
    chdef(&space, &format!("synclists={}", at("lists/a.synclist"))).good();
    check(&space);
    chdef(&space, "postinstall=/install/custom/reads").good();
    check(&space);
    let inputs = values(&recipe(&space, COMPUTE))["postinstall"]["inputs"].clone();
    assert_eq!(inputs[0].as_str(), Some("/install/custom/files/motd"));
    // What a person added stays when the arguments change.
    let set: Ran = imgbuild()
        .arg("-C")
        .arg(space.path().join("new"))
        .args(["set", COMPUTE, "postinstall.inputs+=/install/custom/files/profile/**", "postinstall.tools+=tar"])
        .output()
        .unwrap()
        .into();
    set.good();
    chdef(&space, "postinstall='/install/custom/reads again'").good();
    let table = values(&recipe(&space, COMPUTE))["postinstall"].clone();
    assert_eq!((table["inputs"].as_array().unwrap().len(), table["tools"][0].as_str()), (2, Some("tar")));
}

#[test]
fn lists_are_edited_item_by_item_where_a_person_edited_them() {
    let space = edited();
    let path = space.path().join("new/images").join(COMPUTE);
    std::fs::write(path.join("own.pkglist"), "vim-tiny\n").unwrap();
    let text = recipe(&space, COMPUTE);
    let was = format!("lists = [\"{LISTS}/compute.pkglist\"]");
    let is_now = format!("lists = [\n    \"{LISTS}/compute.pkglist\",  # theirs\n    \"own.pkglist\",  # ours\n]");
    assert!(text.contains(&was), "{text}");
    let text = text.replace(&was, &is_now);
    std::fs::write(path.join("image.toml"), &text).unwrap();
    chdef(&space, &format!("-p pkglist={LISTS}/base.pkglist")).good();
    let expected = text.replace("# ours\n]", &format!("# ours\n    \"{LISTS}/base.pkglist\",\n]"));
    assert_eq!(recipe(&space, COMPUTE), expected);
    let own = path.join("own.pkglist").canonicalize().unwrap();
    assert!(show(&space, "pkglist").contains("own.pkglist"));
    chdef(&space, &format!("-m pkglist={LISTS}/base.pkglist")).good();
    assert_eq!(recipe(&space, COMPUTE), text);
    // What is not there cannot be taken out, as in xCAT.
    let ran = chdef(&space, "-m pkglist=/install/none");
    assert!(ran.code == 1 && ran.err.contains("/install/none is not in pkglist"), "{}", ran.err);
    chdef(&space, &format!("-m pkglist={}", own.display())).good();
    assert!(!recipe(&space, COMPUTE).contains("own.pkglist"));
}

#[test]
fn comments_of_the_import_say_what_is_so() {
    let space = site(&[]);
    let rocky = "rocky9.4-x86_64-netboot-compute";
    let change = |words: &str| typed(&space, &format!("chdef -t osimage {rocky} {words}"), "", false).good();
    let comment = |value: &str| format!("# xCAT: netdrivers={value}\n");
    assert!(recipe(&space, rocky).contains(&comment("ice,mlx5_core")));
    change("netdrivers=igb");
    let text = recipe(&space, rocky);
    assert!(text.contains(&comment("igb")) && !text.contains("mlx5_core"), "{text}");
    change("-p netdrivers=ena");
    assert!(recipe(&space, rocky).contains(&comment("igb,ena")));
    change("netdrivers=");
    assert!(!recipe(&space, rocky).contains("netdrivers"), "{}", recipe(&space, rocky));
    // The only one without a counterpart, and what stands above it.
    assert!(recipe(&space, rocky).contains("# crashkernelsize=256M\n#   stays: xCAT reads it only with `dump`\n"));
    change("dump=nfs://10.0.0.1/d");
    let text = recipe(&space, rocky);
    assert!(
        text.contains("[kdump]\n") && text.contains("reserve = \"256M\"") && !text.contains("only with `dump`"),
        "{text}"
    );
    change("crashkernelsize=512M");
    assert!(recipe(&space, rocky).contains("reserve = \"512M\""));
    assert!(!recipe(&space, rocky).contains("# What has no counterpart here"), "{}", recipe(&space, rocky));
    change("dump=");
    assert!(!recipe(&space, rocky).contains("[kdump]"));
}

#[test]
fn an_empty_workspace_has_no_image_yet() {
    let space = site(&[]);
    let empty = space.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    std::fs::write(empty.join("imgbuild.toml"), "images = [\"images/*\"]\n").unwrap();
    let words = "provmethod=netboot osvers=debian12 osarch=x86_64 profile=x imagetype=linux";
    let line = format!("IMGBUILD_WORKSPACE={} mkdef -t osimage -o first {words}", empty.display());
    let ran = typed(&space, &line, "", false).good();
    assert!(!ran.err.contains("already exists"), "{}", ran.err);
    assert!(Path::new(&empty).join("images/first/image.toml").is_file());
    let again = typed(&space, &line, "", false);
    assert!(again.code == 1 && again.err.contains("the image first already exists"), "{}", again.err);
}

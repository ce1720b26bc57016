//! Definitions by xCAT's names: lsdef, mkdef and chdef of osimages.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Ran, Space, imgbuild};

pub const COMPUTE: &str = "debian12-x86_64-netboot-compute";

/// The example's site, imported with these words, with links in `bin` and an xCAT's own mkdef and chdef in `xcat`, which note
/// what they get.
pub fn site(more: &[&str]) -> Space {
    use std::os::unix::fs::PermissionsExt;
    let space = Space::example("xcat-site");
    std::fs::create_dir_all(space.path().join("install/post/otherpkgs/debian12/x86_64")).unwrap();
    std::fs::create_dir_all(space.path().join("install/rocky9.4/x86_64")).unwrap();
    space.run(&[&["import", "xcat", ".", "--into", "new"], more].concat()).good();
    let bin = space.path().join("bin");
    let made = imgbuild().arg("-C").arg(space.path().join("new")).arg("install-xcat-names").arg(bin).output().unwrap();
    assert!(made.status.success());
    // What xCAT's commands are links to.
    space.write("xcat/xcatclient", "");
    for name in ["mkdef", "chdef"] {
        let file = format!("xcat/{name}");
        space.write(&file, "#!/bin/sh\n(echo \"$(basename \"$0\") $*\"; cat) >>\"$(dirname \"$0\")/got\"\n");
        std::fs::set_permissions(space.path().join(&file), PermissionsExt::from_mode(0o755)).unwrap();
    }
    space
}

/// Runs a line of a shell with the links in front of all, and with xCAT's own commands after them if they are wanted.
pub fn typed(space: &Space, line: &str, input: &str, with_xcat: bool) -> Ran {
    let at = |name: &str| space.path().join(name).display().to_string();
    let mut path = format!("{}:{}", at("bin"), std::env::var("PATH").unwrap());
    if with_xcat {
        path.push_str(&format!(":{}", at("xcat")));
    }
    let mut command = Command::new("sh");
    command.arg("-c").arg(line).current_dir(space.path()).env("PATH", path).env("IMGBUILD_STORE", space.store());
    command.env_remove("IMGBUILD_WORKSPACE").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that is wrong reads nothing of it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap().into()
}

pub fn recipe(space: &Space, image: &str) -> String {
    std::fs::read_to_string(space.path().join("new/images").join(image).join("image.toml")).unwrap()
}

#[test]
fn the_way_to_copy_an_osimage_makes_an_image() {
    for more in [&[][..], &["--copy"]] {
        let space = site(more);
        let copy = format!("lsdef -t osimage -z {COMPUTE} | sed 's/^[^ ]\\+:/mycomputeimage:/' | mkdef -z");
        let ran = typed(&space, &copy, "", true).good();
        assert!(ran.out.contains("mycomputeimage: wrote images/mycomputeimage/image.toml"), "{}{}", ran.out, ran.err);
        // Files that the workspace has are found, though this host has no /install.
        assert!(!ran.out.contains("not found here"), "{}", ran.out);
        assert_eq!(recipe(&space, "mycomputeimage"), recipe(&space, COMPUTE).replace(COMPUTE, "mycomputeimage"));
        // xCAT's own table has it too: its nodeset looks there.
        let got = std::fs::read_to_string(space.path().join("xcat/got")).unwrap();
        assert!(got.starts_with("mkdef -z\n# <xCAT") && got.contains("\nmycomputeimage:\n"), "{got}");
        let again = typed(&space, &copy, "", false);
        assert!(again.code == 1 && again.err.contains("the image mycomputeimage already exists"), "{}", again.err);
    }
}

#[test]
fn mkdef_makes_what_it_can_and_leaves_the_rest_to_xcat() {
    let space = site(&[]);
    let words = "provmethod=netboot osvers=debian12 osarch=x86_64 profile=x imagetype=linux";
    typed(&space, &format!("mkdef -t osimage -o small {words}"), "", false).good();
    assert!(recipe(&space, "small").contains("release = \"bookworm\""));
    let installed =
        "disk:\n    objtype=osimage\n    provmethod=install\n    osvers=rocky9\n    osarch=x86_64\n    profile=x\n";
    let node = "n1:\n    objtype=node\n    groups=all\n";
    for (line, input, said) in [
        ("mkdef -z", node, "n1 is of the type node, and there is no `mkdef` of xCAT further down PATH"),
        ("mkdef -z", installed, "disk: provmethod is install: only diskless images"),
        ("mkdef -z", "", "there is no stanza on the standard input"),
        ("mkdef -z", "a=b\n", "the stanzas have errors"),
        ("mkdef -t osimage provmethod=netboot", "", "name the osimage"),
        ("mkdef -t osimage -o small", "", "give ATTRIBUTE=VALUE"),
        ("mkdef -t node -o n1 groups=all", "", "objects of the type node belong to xCAT"),
    ] {
        let ran = typed(&space, line, input, false);
        assert!(ran.code == 1 && ran.err.contains(said), "{line} {input}: {}{}", ran.out, ran.err);
    }
    for input in [node, installed] {
        typed(&space, "mkdef -z", input, true).good();
        assert!(std::fs::read_to_string(space.path().join("xcat/got")).unwrap().ends_with(input));
    }
    assert!(!space.path().join("new/images/disk").exists());
}

#[test]
fn chdef_changes_the_recipe_and_what_xcat_has() {
    let space = site(&[]);
    let chdef = |words: &str| typed(&space, &format!("chdef -t osimage {words}"), "", true);
    let show =
        |attribute: &str| typed(&space, &format!("lsdef -t osimage -o {COMPUTE} -i {attribute}"), "", false).good().out;
    let folder = "/install/custom/netboot/debian";
    for (words, attribute, shown) in [
        (
            format!("-o {COMPUTE} rootimgdir=/install/netboot/x/mine"),
            "rootimgdir",
            "/install/netboot/x/mine".to_owned(),
        ),
        (format!("{COMPUTE} exlist={folder}/base.pkglist"), "exlist", format!("{folder}/base.pkglist")),
        (
            format!("{COMPUTE} -p exlist={folder}/compute.exlist"),
            "exlist",
            format!("{folder}/base.pkglist,{folder}/compute.exlist"),
        ),
        (format!("{COMPUTE} -m exlist={folder}/base.pkglist"), "exlist", format!("{folder}/compute.exlist")),
        (format!("{COMPUTE} synclists="), "synclists", String::new()),
        (
            format!("{COMPUTE} postinstall='{folder}/compute.postinstall a,{folder}/compute.postinstall b'"),
            "postinstall",
            format!("{folder}/compute.postinstall a,{folder}/compute.postinstall b"),
        ),
        (
            format!("{COMPUTE} postinstall='{folder}/compute.postinstall c'"),
            "postinstall",
            format!("{folder}/compute.postinstall c"),
        ),
        (format!("{COMPUTE} -p netdrivers=ice"), "netdrivers", "virtio_net,ena,ice".to_owned()),
        (
            format!("{COMPUTE} addkcmdline='quiet console=tty0'"),
            "addkcmdline",
            "quiet console=tty0 R::quiet".to_owned(),
        ),
        (format!("{COMPUTE} environvar=A=b,SITE=red"), "environvar", "A=b,SITE=red".to_owned()),
        (format!("{COMPUTE} usercomment='for physics'"), "usercomment", "for physics".to_owned()),
        (format!("{COMPUTE} kernelver=6.1.0-9-amd64"), "kernelver", "6.1.0-9-amd64".to_owned()),
        (format!("{COMPUTE} kernelver="), "kernelver", String::new()),
    ] {
        let ran = chdef(&words);
        assert_eq!(ran.code, 0, "{words}: {}", ran.err);
        assert_eq!(show(attribute), format!("Object name: {COMPUTE}\n    {attribute}={shown}\n"), "{words}");
        let got = std::fs::read_to_string(space.path().join("xcat/got")).unwrap();
        assert!(got.lines().last().unwrap().starts_with("chdef -t osimage"), "{got}");
    }
    assert!(recipe(&space, COMPUTE).contains("--publish xcat:/install/netboot/x/mine\n"));
    let stanza = format!("{COMPUTE}:\n    objtype=osimage\n    exlist={folder}/base.pkglist\n");
    typed(&space, "chdef -z", &stanza, false).good();
    assert!(show("exlist").ends_with("/base.pkglist\n"));
    // What cannot be, or what is wrong, changes nothing.
    let before = recipe(&space, COMPUTE);
    for (words, said) in [
        (format!("{COMPUTE} exlst=/x"), "did you mean `exlist`?"),
        (format!("{COMPUTE} exlist=/install/custom/nothing"), "was not changed"),
        (format!("{COMPUTE} osvers=rocky9"), "image.distro and image.release set it"),
        (format!("{COMPUTE} pkgdir=/install/other"), "edit the recipe"),
        (format!("{COMPUTE} rootimgdir=netboot"), "has to be an absolute path"),
        (format!("{COMPUTE} environvar=A"), "is not NAME=value"),
    ] {
        let ran = chdef(&words);
        assert!(ran.code == 1 && ran.err.contains(said), "{words}: {}", ran.err);
        assert_eq!(recipe(&space, COMPUTE), before, "{words}");
    }
    // A list elsewhere on this host is allowed with it.
    space.write("lists/more.exlist", "./usr/share/doc*\n");
    let list = space.path().join("lists/more.exlist").display().to_string();
    chdef(&format!("{COMPUTE} exlist={list}")).good();
    assert!(recipe(&space, COMPUTE).contains(&format!("allow = [\"{}/lists/**\"]", space.path().display())));
    let checked = imgbuild().arg("-C").arg(space.path().join("new")).arg("check").output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn an_image_that_was_not_imported_keeps_attributes_too() {
    let space = site(&[]);
    space.write("new/images/own/image.toml", "[image]\nname = \"own\"\nrelease = \"bookworm\"\n");
    typed(&space, "chdef -t osimage own rootimgdir=/install/netboot/own groups=batch exlist=", "", false).good();
    let long = typed(&space, "lsdef -t osimage -l own", "", false).good().out;
    assert!(long.contains("    rootimgdir=/install/netboot/own\n") && long.contains("    groups=batch\n"), "{long}");
    // The recipe still says what it said.
    assert!(long.contains("    osvers=debian12\n"), "{long}");
}

#[test]
fn lsdef_selects_and_compresses() {
    let space = site(&[]);
    let lsdef = |words: &str| typed(&space, &format!("lsdef -t osimage {words}"), "", false);
    let rocky = "rocky9.4-x86_64-netboot-compute";
    for (words, out) in [
        ("-w osvers==debian12", format!("{COMPUTE}  (osimage)\n")),
        ("-w osvers=~^rocky -w profile==compute", format!("{rocky}  (osimage)\n")),
        ("-w 'osvers!~debian' -s", format!("{rocky}  (osimage)\n")),
        ("-w osvers!=x -i osvers -c", format!("{COMPUTE}: osvers=debian12\n{rocky}: osvers=rocky9.4\n")),
        ("-w osvers==none", String::new()),
        (&format!("-c -i profile {COMPUTE}"), format!("{COMPUTE}: profile=compute\n")),
        (&format!("-s {rocky}"), format!("{rocky}  (osimage)\n")),
        (&format!("-o {COMPUTE},{rocky} -s"), format!("{COMPUTE}  (osimage)\n{rocky}  (osimage)\n")),
    ] {
        assert_eq!(lsdef(words).good().out, out, "{words}");
    }
    let stanza = lsdef("-w osvers==debian12 -z").good().out;
    assert!(stanza.contains(&format!("\n{COMPUTE}:\n")) && !stanza.contains(rocky), "{stanza}");
    for (words, said) in [("-c", "-c needs -i"), ("-w osvers", "ATTRIBUTE==VALUE"), ("-i osvers", "needs the name")] {
        let ran = lsdef(words);
        assert!(ran.code == 1 && ran.err.contains(said), "{words}: {}", ran.err);
    }
}

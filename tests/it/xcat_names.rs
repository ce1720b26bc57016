//! xCAT's commands by their names, as links to the program.

use std::process::Command;

use crate::support::{Ran, Space};

const COMPUTE: &str = "debian12-x86_64-netboot-compute";

/// The example's site, imported, with links in `bin`.
fn site() -> Space {
    let space = Space::example("xcat-site");
    std::fs::create_dir_all(space.path().join("install/post/otherpkgs/debian12/x86_64")).unwrap();
    std::fs::create_dir_all(space.path().join("install/rocky9.4/x86_64")).unwrap();
    space.run(&["import", "xcat", ".", "--into", "new"]).good();
    let workspace = space.path().join("new");
    let ran: Ran = crate::support::imgbuild()
        .arg("-C")
        .arg(&workspace)
        .arg("install-xcat-names")
        .arg(space.path().join("bin"))
        .output()
        .unwrap()
        .into();
    ran.good();
    space
}

/// Runs a link, from a directory that is not the workspace.
fn run(space: &Space, words: &[&str]) -> Ran {
    let mut command = Command::new(space.path().join("bin").join(words[0]));
    command
        .args(&words[1..])
        .env("IMGBUILD_STORE", space.store())
        .env_remove("IMGBUILD_WORKSPACE")
        .current_dir(space.path());
    command.output().unwrap().into()
}

fn recipe(space: &Space) -> String {
    std::fs::read_to_string(space.path().join("new/images").join(COMPUTE).join("image.toml")).unwrap()
}

#[test]
fn links_are_made_and_never_in_the_place_of_xcats_own() {
    let space = site();
    let mut names: Vec<_> = std::fs::read_dir(space.path().join("bin"))
        .unwrap()
        .map(|one| one.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = [
        "chdef",
        "copycds",
        "genimage",
        "ilitefile",
        "imgbuild-workspace",
        "imgcapture",
        "imgexport",
        "imgimport",
        "litefile",
        "liteimg",
        "litetree",
        "lsdef",
        "mkdef",
        "nodeset",
        "packimage",
        "rmdef",
        "rmimage",
        "updatenode",
    ];
    assert_eq!(names, expected);
    let install = |directory: &str| -> Ran {
        let mut command = crate::support::imgbuild();
        command.arg("-C").arg(space.path().join("new")).arg("install-xcat-names").arg(space.path().join(directory));
        command.output().unwrap().into()
    };
    install("bin").good();
    let ran = space.run(&["install-xcat-names", "nowhere"]);
    assert!(ran.code == 1 && ran.err.contains("is not a workspace"), "{}", ran.err);
    space.write("other/lsdef", "#!/bin/sh\n");
    let ran = install("other");
    assert!(ran.code == 1 && ran.err.contains("already exists"), "{}", ran.err);
    assert_eq!(std::fs::read_dir(space.path().join("other")).unwrap().count(), 1);
}

#[test]
fn genimage_takes_xcats_flags_and_says_what_the_recipe_says() {
    let space = site();
    let before = recipe(&space);
    let ran = run(&space, &["genimage", "--dryrun", "--noupdate", "-i", "eth0", "-k", "6.1.0-9-amd64", COMPUTE]).good();
    assert!(ran.out.contains("rootfs") && ran.err.contains("--noupdate has no effect"), "{} {}", ran.out, ran.err);
    assert!(ran.err.contains("-i has no effect") && ran.err.contains("  kernel.version=6.1.0-9-amd64"), "{}", ran.err);
    assert_eq!(recipe(&space), before);
    // Without a name of an osimage, by release and profile.
    assert!(run(&space, &["genimage", "--dryrun", "-o", "debian12", "-p", "compute"]).good().out.contains(COMPUTE));
    for (words, said) in [
        (&["genimage"][..], "name the osimage"),
        (&["genimage", "-o", "debian12", COMPUTE], "cannot be combined"),
        (&["genimage", "-m", "statelite", COMPUTE], "only stateless images"),
        (&["genimage", "--frobnicate"], "--frobnicate"),
        (&["genimage", "--dryrun", "nothing"], "nothing"),
        (&["packimage", "-m", "zip", COMPUTE], "zip"),
        (&["packimage", "--nosyncfiles", COMPUTE], "sync.lists-=FILE"),
        (&["imgexport", COMPUTE], "--publish xcat:DIR"),
        (&["imgexport", "-R", "a@b", COMPUTE], "scp"),
        (&["liteimg", COMPUTE], "is a stateless image"),
        (&["ilitefile", COMPUTE], "is a stateless image"),
        (&["litefile"], "usage: litefile NODERANGE"),
        (&["imgcapture", "n01", "-t", "sysclone", "-o", COMPUTE], "no `imgcapture` of xCAT further down PATH"),
        (&["nodeset", "n01", &format!("osimage={COMPUTE}")], "imgbuild boot-entry debian12-x86_64-netboot-compute"),
        (&["updatenode", "n01", "-F"], "no `updatenode` of xCAT further down PATH"),
        (&["updatenode", "n01", "-P", "syslog"], "no `updatenode` of xCAT further down PATH"),
        (&["updatenode", "n01", "-P", "a,osimage-postscripts-start-here"], "-P alone runs those of all lists"),
        (&["updatenode", "n01", "-S", "-k"], "-k is not done by imgbuild"),
        (&["updatenode", "n01"], "no `updatenode` of xCAT further down PATH"),
        (&["updatenode"], "updatenode NODERANGE -F, -S or -P"),
        (&["lsdef", "n01"], "no `lsdef` of xCAT further down PATH"),
        (&["lsdef", "-t", "group"], "objects of the type group belong to xCAT"),
        (&["chdef", "-t", "group", "compute", "provmethod=x"], "no `chdef` of xCAT further down PATH"),
    ] {
        let ran = run(&space, words);
        assert!(ran.code == 1 && ran.err.contains(said), "{words:?}: {} {}", ran.code, ran.err);
    }
    assert_eq!(run(&space, &["genimage", "--help"]).code, 0);
    assert_eq!(recipe(&space), before);
}

#[test]
fn what_genimage_and_packimage_are_told_goes_back_where_the_build_fails() {
    let space = site();
    // No archive can be reached.
    let path = space.path().join("new/images").join(COMPUTE).join("image.toml");
    let text = recipe(&space)
        .replace("[packages]", "[[repo]]\nuri = \"file:/nothing\"\nsuites = [\"./\"]\ntrusted = true\n\n[packages]");
    std::fs::write(&path, &text).unwrap();
    std::fs::create_dir(space.path().join("kernels")).unwrap();
    let kernels = space.path().join("kernels").display().to_string();
    let files = || {
        let mut names: Vec<_> =
            std::fs::read_dir(path.parent().unwrap()).unwrap().map(|one| one.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = files();
    for (words, said) in [
        (
            &["genimage", "-n", "ice,mlx5_core.ko", "-k", "6.1.0-9-amd64", "-l", "2G", "-t", "80m", COMPUTE][..],
            &["kernel.drivers=[\"ice\", \"mlx5_core\"]", "kernel.version=6.1.0-9-amd64", "boot.root_size=2G", "80m"][..],
        ),
        (&["genimage", "--onlyinitrd", "-n", "nosuch", COMPUTE], &["kernel.drivers=[\"nosuch\"]"]),
        // A directory elsewhere is allowed with it.
        (&["genimage", "--kerneldir", &kernels, COMPUTE], &["kernel.dir=", &format!("workspace.allow+={kernels}/**")]),
        (&["packimage", "--method", "tar", "--compress", "xz", COMPUTE], &["pack.archive=tar", "pack.compress=xz"]),
    ] {
        let ran = run(&space, words);
        assert!(ran.code == 1 && ran.err.contains("is unchanged; to change it anyway"), "{words:?}: {}", ran.err);
        assert!(ran.err.contains("file:/nothing"), "the build itself failed: {}", ran.err);
        for line in said {
            assert!(ran.err.matches(line).count() > 1, "{line}: {}", ran.err);
        }
        assert_eq!((recipe(&space), files()), (text.clone(), before.clone()), "{words:?}");
    }
    let ran = run(&space, &["genimage", "-t", "wrong", COMPUTE]);
    assert!(ran.code == 1 && ran.err.contains("is not a size") && recipe(&space) == text, "{}", ran.err);
}

#[test]
fn genimage_prints_the_line_that_does_the_same_and_takes_it() {
    let space = site();
    let before = recipe(&space);
    let ran = run(&space, &["genimage", "--dryrun", COMPUTE]).good();
    let mut lines = ran.out.lines();
    assert_eq!(lines.next(), Some("Generating image:"));
    let line = lines.next().unwrap().to_owned();
    let bin = space.path().join("bin").canonicalize().unwrap();
    let expected = format!(
        "cd {}; ./genimage -a x86_64 -o debian12 -p compute --permission 755 --pkglist \
         /install/custom/netboot/debian/compute.pkglist --otherpkgdir /install/post/otherpkgs/debian12/x86_64 --otherpkglist \
         /install/custom/netboot/debian/compute.otherpkgs.pkglist --postinstall \
         '/install/custom/netboot/debian/compute.postinstall batch' --rootimgdir /install/netboot/debian12/x86_64/compute --env \
         SITE=blue {COMPUTE}",
        bin.display()
    );
    assert_eq!(line, expected);
    assert!(ran.out.contains("  rootfs   run"), "{}", ran.out);
    let typed = |line: &str| -> Ran {
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).env("IMGBUILD_STORE", space.store()).env_remove("IMGBUILD_WORKSPACE");
        command.output().unwrap().into()
    };
    let again = typed(&format!("{line} --dryrun")).good();
    assert!(!again.err.contains("same in the recipe") && again.out == ran.out, "{}{}", again.err, again.out);
    // What it says otherwise is told, and what a recipe cannot get this way is refused.
    let other =
        line.replace("/install/custom/netboot/debian/compute.pkglist", "/install/custom/netboot/debian/base.pkglist");
    let ran = typed(&format!("{other} --dryrun")).good();
    assert!(ran.err.contains("packages.lists=[\"/install/custom/netboot/debian/base.pkglist\"]"), "{}", ran.err);
    for (was, is, said) in [
        ("-o debian12", "-o rhels6.3", "osvers of debian12-x86_64-netboot-compute is debian12, not rhels6.3"),
        (
            "--pkglist",
            "--srcdir /install/rhels6.3/x86_64 --pkglist",
            "[[repo]]s, with keys and suites: edit the recipe",
        ),
    ] {
        let ran = typed(&line.replace(was, is));
        assert!(ran.code == 1 && ran.err.contains(said), "{is}: {}", ran.err);
    }
    assert_eq!(recipe(&space), before);
}

#[test]
fn what_imgbuild_does_not_know_is_handed_on_to_the_real_command() {
    use std::os::unix::fs::PermissionsExt;
    let space = site();
    for name in ["lsdef", "chdef", "mkdef", "nodeset", "genimage", "packimage", "imgexport", "imgcapture", "liteimg"] {
        let file = format!("xcat/{name}");
        space.write(&file, "#!/bin/sh\necho \"real $(basename \"$0\") $*\"\n[ -t 0 ] || cat\nexit 7\n");
        std::fs::set_permissions(space.path().join(&file), PermissionsExt::from_mode(0o755)).unwrap();
    }
    // What xCAT's commands are links to; without it a program is another package's, such as ClusterShell's `nodeset`.
    space.write("xcat/xcatclient", "").write("first/nodeset", "#!/bin/sh\necho ClusterShell\n");
    std::fs::set_permissions(space.path().join("first/nodeset"), PermissionsExt::from_mode(0o755)).unwrap();
    // A second directory of links is no real command.
    std::fs::create_dir(space.path().join("bin2")).unwrap();
    for name in ["lsdef", "nodeset"] {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_imgbuild"), space.path().join("bin2").join(name)).unwrap();
    }
    let path = |real: &str| {
        let own = std::env::var("PATH").unwrap();
        let at = |name: &str| space.path().join(name).display().to_string();
        format!("{}:{}:{}:{own}:{}", at("bin"), at("bin2"), at("first"), at(real))
    };
    let typed = |line: &str, real: &str| -> Ran {
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).env("PATH", path(real)).env("IMGBUILD_STORE", space.store());
        command.env_remove("IMGBUILD_WORKSPACE").stdin(std::process::Stdio::null()).output().unwrap().into()
    };
    for line in [
        "lsdef node1",
        "lsdef node1 --osimage",
        "lsdef -t group",
        "lsdef -t osimage,node -l",
        "lsdef -t osimage --template",
        "lsdef -t osimage rocky9.4-x86_64-install-compute -l",
        "chdef -t group compute provmethod=mycomputeimage",
        "chdef -t osimage -o elsewhere exlist=/x",
        "nodeset compute osimage=debian12-x86_64-netboot-compute",
        "genimage rocky9.4-x86_64-install-compute --noupdate",
        "packimage -m cpio elsewhere",
        "imgexport elsewhere",
        "imgcapture n01 -t sysclone -o img1",
        "liteimg statelite-image",
    ] {
        // Options and exit status are as they are.
        let ran = typed(line, "xcat");
        assert_eq!((ran.code, ran.out.as_str()), (7, format!("real {line}\n").as_str()), "{line}: {}", ran.err);
    }
    let ran = typed("lsdef -t osimage -o debian12-x86_64-netboot-compute -i osvers", "xcat").good();
    assert!(ran.out.contains("osvers=debian12") && !ran.out.contains("real"), "{}", ran.out);
    // Where there is none, two directories of links do not hand it to and fro.
    for line in ["lsdef node1", "nodeset compute osimage=x"] {
        let ran = typed(line, "nowhere");
        assert!(
            ran.code == 1 && ran.err.contains("further down PATH") && ran.err.contains("/opt/xcat/bin"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn imgcapture_captures_over_ssh() {
    use std::os::unix::fs::PermissionsExt;
    let space = site();
    let package = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n";
    space.write("node/var/lib/dpkg/status", package).write("node/etc/os-release", "ID=debian\nVERSION_ID=12\n");
    // What stands for ssh gives the tar stream that the node would.
    let fake = format!(
        "#!/bin/sh\necho \"$@\" >{0}/asked\ncat >{0}/script\nexec tar -C {0}/node -cf - .\n",
        space.path().display()
    );
    space.write("path/ssh", &fake);
    std::fs::set_permissions(space.path().join("path/ssh"), PermissionsExt::from_mode(0o755)).unwrap();
    let name = "debian12-x86_64-netboot-captured";
    let capture = |words: &[&str]| -> Ran {
        let mut command = Command::new(space.path().join("bin/imgcapture"));
        let path = format!("{}:{}", space.path().join("path").display(), std::env::var("PATH").unwrap());
        command
            .args(words)
            .env("PATH", path)
            .env("IMGBUILD_STORE", space.store())
            .current_dir(space.path())
            .output()
            .unwrap()
            .into()
    };
    let ran = capture(&["n01", "-t", "diskless", "-o", name, "-i", "eth0", "-d", "sda", "-n", "ice,igb.ko"]).good();
    assert!(
        ran.err.contains("-i has no effect")
            && ran.err.contains("-d has no effect")
            && ran.err.contains("[kernel] drivers = [\"+ice\", \"+igb\"]"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains(&format!("next: genimage {name}, packimage {name}")), "{}", ran.err);
    assert_eq!(std::fs::read_to_string(space.path().join("asked")).unwrap(), "-- root@n01 sh\n");
    let recipe = std::fs::read_to_string(space.path().join("new/images").join(name).join("image.toml")).unwrap();
    assert!(recipe.contains("drivers = [\"+ice\", \"+igb\"]") && recipe.contains("ssh://root@n01"), "{recipe}");
    let again = capture(&["n01", "-o", name]);
    assert!(again.code == 1 && again.err.contains("already exists"), "{}", again.err);
}

#[test]
fn lsdef_imgimport_and_copycds_answer_as_xcats() {
    let space = site();
    let listed = run(&space, &["lsdef", "-t", "osimage"]).good().out;
    assert_eq!(listed, format!("{COMPUTE}  (osimage)\nrocky9.4-x86_64-netboot-compute  (osimage)\n"));
    let one = run(&space, &["lsdef", "-t", "osimage", COMPUTE, "-i", "osvers,exlist"]).good().out;
    assert_eq!(
        one,
        format!(
            "Object name: {COMPUTE}\n    exlist=/install/custom/netboot/debian/compute.exlist\n    osvers=debian12\n"
        )
    );
    let stanza = run(&space, &["lsdef", "-t", "osimage", "-z", COMPUTE]).good().out;
    assert!(
        stanza.starts_with("# <xCAT data object stanza file>\n") && stanza.contains("    objtype=osimage\n"),
        "{stanza}"
    );
    assert!(run(&space, &["lsdef", "-t", "osimage", "-l", COMPUTE]).good().out.contains("    profile=compute\n"));

    for name in ["kernel", "initrd-stateless.gz", "rootimg.cpio.gz"] {
        space.write(&format!("boot/{name}"), name);
    }
    let from = space.path().join("boot");
    let exported = crate::support::imgbuild()
        .arg("-C")
        .arg(space.path().join("new"))
        .args(["export", "bundle", COMPUTE, "--from", from.to_str().unwrap(), "-o"])
        .arg(space.path().join("b.tgz"))
        .status()
        .unwrap();
    assert!(exported.success());
    let ran = run(&space, &["imgimport", "b.tgz", "-f", "gpu", "-p", "n01"]).good();
    assert!(
        ran.out.contains("debian12-x86_64-netboot-gpu: wrote") && ran.err.contains("chdef n01 postscripts="),
        "{} {}",
        ran.out,
        ran.err
    );

    space
        .write("dvd/.discinfo", "1.1\nRocky Linux 9.4\nx86_64\n1\n")
        .write("dvd/BaseOS/repodata/repomd.xml", "<repomd/>\n");
    let ran = run(&space, &["copycds", "-i", "dvd"]).good();
    assert_eq!(ran.out, "DISTNAME:rocky9.4\nARCH:x86_64\nDISCNO:1\n");
    let path = space.path().join("repo");
    run(&space, &["copycds", "-o", "-p", path.to_str().unwrap(), "dvd"]).good();
    assert!(path.join("BaseOS/repodata/repomd.xml").is_file());
    let ran = run(&space, &["copycds", "-w", "-p", path.to_str().unwrap(), "dvd"]);
    assert!(ran.code == 1 && ran.err.contains("was copied before"), "{}", ran.err);
}

#[test]
fn imgexport_takes_extra_files_and_a_nodes_postscripts() {
    let space = site();
    let boot = space.path().join("netboot");
    for name in ["kernel", "initrd-stateless.gz", "rootimg.cpio.gz"] {
        space.write(&format!("netboot/{name}"), name);
    }
    let at = format!("rootimgdir={}", boot.display());
    run(&space, &["chdef", "-t", "osimage", "-o", COMPUTE, &at]).good();
    space.write("scripts/myscript1", "#!/bin/sh\n").write("scripts/myscript2", "#!/bin/sh\n");
    let (one, two) = (space.path().join("scripts/myscript1"), space.path().join("scripts/myscript2"));
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    run(&space, &["imgexport", COMPUTE, "my.tgz", "-e", one, "-e", &format!("{two}:/install/postscripts")]).good();
    let listed = Command::new("tar").arg("-tzf").arg(space.path().join("my.tgz")).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for name in ["manifest.xml", "extra/myscript1", "extra/myscript2", "extra/base.pkglist"] {
        assert!(listed.contains(&format!("{COMPUTE}/{name}\n")), "{name}: {listed}");
    }
    // The names come from xCAT's tables, which this host has not.
    let ran = run(&space, &["imgexport", COMPUTE, "-p", "node1", "-e", one, "-e", two]);
    assert!(ran.code == 1 && ran.err.contains("is for the node `node1`"), "{}", ran.err);
}

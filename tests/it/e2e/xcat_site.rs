//! A made-up site moves in: its whole tree, imported, built, booted, published, and exported again.

use boot::FileServer;

use super::machine::{cmdline, expect, start};
use super::{Built, store};
use crate::support::Space;

const COMPUTE: &str = "debian12-x86_64-netboot-compute";

#[test]
fn boot_a_site_moves_in_and_its_node_runs_its_postscripts() {
    let space = Space::example("xcat-site").with_store(&store());
    let made = std::process::Command::new("sh").arg(space.path().join("make-packages")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // The media of the site's other image.
    std::fs::create_dir_all(space.path().join("install/rocky9.4/x86_64")).unwrap();
    let rootimgdir = space.path().join("netboot");
    space.edit("linuximage.csv", "/install/netboot/debian12/x86_64/compute", rootimgdir.to_str().unwrap());
    // A script that reads of the management node's tree, by its paths there.
    let script = "install/custom/netboot/debian/compute.postinstall";
    let text = std::fs::read_to_string(space.path().join(script)).unwrap();
    let reads = "cat /install/custom/files/issue >\"$1/etc/issue\"\ncp -a /install/custom/files/profile/. \"$1/opt/\"\n\
                 cat /etc/hosts >>\"$1/etc/issue\"\n";
    space.write(script, &format!("{text}{reads}")).write("install/custom/files/issue", "an issue of the site\n");
    let ran = space.run(&["import", "xcat", ".", "--into", "."]).good();
    assert!(ran.err.contains("imgbuild check finds no error in 2 images"), "{}", ran.err);
    // Of /etc an import takes nothing by itself; named, it is shown as any other.
    space.write("machine/hosts", "10.0.0.1 mn.site\n");
    let hosts = space.path().join("machine/hosts").display().to_string();
    let words = ["postinstall.inputs+=/etc/hosts".to_owned(), format!("xcat.path_map.\"/etc/hosts\"={hosts}")];
    space.run(&["set", COMPUTE, &words[0], &words[1]]).good();
    let key = space.path().join("key");
    // By the commands that hands know.
    space.run(&["install-xcat-names", "bin"]).good();
    let named = |words: &[&str]| {
        let mut command = std::process::Command::new(space.path().join("bin").join(words[0]));
        let ran = command.args(&words[1..]).env("IMGBUILD_STORE", space.store()).current_dir("/").output().unwrap();
        assert!(ran.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stderr).into_owned()
    };
    assert!(
        named(&["genimage", "-t", "80m", COMPUTE])
            .contains(&format!("imgbuild -C {} build {COMPUTE} --until initrd", space.path().display()))
    );
    assert!(!rootimgdir.exists());
    // What a build that ends well was told stays told.
    assert_eq!(space.run(&["show", COMPUTE, "boot.tmpfs"]).good().out.matches("80m").count(), 1);
    assert!(named(&["packimage", "-c", "pigz", COMPUTE]).contains("pack.compress=gzip"));
    let publish = format!("xcat:{}", rootimgdir.display());
    for name in ["kernel", "initrd-stateless.gz", "rootimg.cpio.gz"] {
        assert!(rootimgdir.join(name).is_file(), "{name}");
    }
    // Nothing is left to do, and an import that changes nothing leaves it so.
    space.run(&["import", "xcat", ".", "--into", "."]).good();
    assert_eq!(space.run(&["plan", COMPUTE, "--detailed-exitcode", "--publish", &publish]).code, 0);

    let server = FileServer::start(&space.artefact(COMPUTE, ".").canonicalize().unwrap()).unwrap();
    let built = Built { space, key };
    let words = cmdline(&built, COMPUTE, &format!("http://10.0.2.2:{}", server.port()));
    let running = start(&built, COMPUTE, words, |_| {});
    // What each part of the tree gave: the osimage's name, the postinstall script with environvar, otherpkgs, synclists.
    expect(&running, &format!("POSTSCRIPTS RUN: {COMPUTE} debian12 compute batch blue site tools 1.0"));
    drop(running);

    let motd = built
        .space
        .run(&["shell", COMPUTE, "--", "/bin/cat", "/etc/motd", "/etc/profile.d/site.sh", "/etc/issue", "/opt/site.sh"])
        .good()
        .out;
    assert!(
        motd.contains("an issue of the site")
            && motd.contains("10.0.0.1 mn.site")
            && motd.matches("SITE_SCRATCH").count() > 1,
        "{motd}"
    );
    assert!(motd.contains("made-up site") && motd.contains("SITE_SCRATCH"), "{motd}");
    let file = built.space.path().join("b.tgz");
    built.space.run(&["export", "bundle", COMPUTE, "-o", file.to_str().unwrap()]).good();
    let listed = std::process::Command::new("tar").arg("-tzf").arg(&file).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for member in
        ["kernel", "initrd-stateless.gz", "rootimg.cpio.gz", "rootimg.cpio.gz.index", "imgbuild/recipe/image.lock"]
    {
        assert!(listed.lines().any(|line| line == format!("{COMPUTE}/{member}")), "{member}: {listed}");
    }
    let stanza = built.space.run(&["export", "xcat", COMPUTE]).good().out;
    assert!(stanza.contains(&format!("    rootimgdir={}\n", rootimgdir.display())), "{stanza}");
}

#[test]
fn a_bundle_with_records_brings_a_built_image_to_a_host_that_builds_nothing() {
    let space = Space::example("xcat-site").with_store(&store());
    let made = std::process::Command::new("sh").arg(space.path().join("make-packages")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let at = |directory: &str, words: &[&str], store: &std::path::Path| -> crate::support::Ran {
        let mut command = crate::support::imgbuild();
        command
            .arg("-C")
            .arg(space.path().join(directory))
            .arg("--store")
            .arg(store)
            .args(words)
            .output()
            .unwrap()
            .into()
    };
    space.run(&["import", "xcat", ".", "--into", "here", "--copy"]).good();
    let netboot = space.path().join("netboot");
    let publish = format!("xcat:{}", netboot.display());
    at("here", &["build", COMPUTE, "--publish", &publish], &store()).good();
    let file = space.path().join("b.tgz");
    let words =
        ["export", "bundle", COMPUTE, "--from", netboot.to_str().unwrap(), "--records", "-o", file.to_str().unwrap()];
    at("here", &words, &store()).good();
    // Another host: another directory, an empty store.
    let other = space.path().join("store");
    std::fs::create_dir(space.path().join("there")).unwrap();
    at("there", &["import", "bundle", file.to_str().unwrap(), "--into", ".", "--records"], &other).good();
    let plan = at("there", &["plan", "--json"], &other).good().out;
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let stages = plan["images"][0]["stages"].as_array().unwrap();
    let kept: Vec<_> =
        stages.iter().map(|stage| (stage["stage"].as_str().unwrap(), stage["action"].as_str().unwrap())).collect();
    assert_eq!(kept, [("rootfs", "keep"), ("kernel", "keep"), ("initrd", "keep"), ("pack", "keep")], "{plan:#}");
}

//! A made-up site moves in: its whole tree, imported, built, booted, published, and exported again.

use imgbuild::boot::FileServer;

use super::machine::{cmdline, expect, start};
use super::{Built, store};
use crate::support::Space;

const COMPUTE: &str = "debian12-x86_64-netboot-compute";

#[test]
fn boot_a_site_moves_in_and_its_node_runs_its_postscripts() {
    let space = Space::example("xcat-site").with_store(&store());
    let made = std::process::Command::new(space.path().join("make-packages")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let ran = space.run(&["import", "xcat", ".", "--into", "."]).good();
    assert!(ran.err.contains("imgbuild check finds no error in 2 images"), "{}", ran.err);
    let key = space.path().join("key");
    let rootimgdir = space.path().join("netboot");
    let publish = format!("xcat:{}", rootimgdir.display());
    space.run(&["build", COMPUTE, "--progress", "plain", "--publish", &publish]).good();
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

    let motd = built.space.run(&["shell", COMPUTE, "--", "/bin/cat", "/etc/motd", "/etc/profile.d/site.sh"]).good().out;
    assert!(motd.contains("made-up site") && motd.contains("SITE_SCRATCH"), "{motd}");
    let stanza = built.space.run(&["export", "xcat", COMPUTE]).good().out;
    assert!(stanza.contains("    rootimgdir=/install/netboot/debian12/x86_64/compute\n"), "{stanza}");
}

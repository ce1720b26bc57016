//! xCAT's side of a node, with a site's directory that is made up but for its names.

use std::os::unix::fs::{PermissionsExt, symlink};

use boot::FileServer;

use super::machine::{cmdline, expect, start};
use super::{Built, mini, store, tiny};
use crate::support::{Space, copy_locked};

/// A site's postscripts: the names that nodes need, and what else such a directory holds.
fn site(space: &Space) {
    let runs =
        "#!/bin/sh\n. /opt/xcat/xcatinfo\necho \"POSTSCRIPTS RUN: $IMAGENAME $(ls /xcatpost/sub)\" >/dev/console\n";
    let unit = "[Unit]\nAfter=network.target\n\n[Service]\nType=oneshot\nExecStart=/opt/xcat/xcatpostinit1 start\n\n[Install]\nWantedBy=multi-user.target\n";
    space
        .write("site/xcatdsklspost", runs)
        .write("site/xcatpostinit1.netboot", "#!/bin/sh\ntest \"$1\" = start && exec /opt/xcat/xcatdsklspost\n")
        .write("site/xcatpostinit1.service", unit)
        .write("site/sub/own", "own\n");
    symlink("sub/own", space.path().join("site/linked")).unwrap();
    for name in ["xcatdsklspost", "sub/own"] {
        std::fs::set_permissions(space.path().join("site").join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
}

/// A copy of a built image, with its lock, whose recipe asks for node support.
fn copy(built: &Built, more: &str) -> Space {
    let space = Space::new().with_store(&store());
    copy_locked(built.space.path(), space.path());
    site(&space);
    let own =
        "#!/bin/sh\nprintf 'SCRIPT SAYS: %s\\n' \"$1 $NODESETSTATE $PROVMETHOD\" | tee /dev/console 2>/dev/null || :\n";
    space.write("scripts/own", own);
    std::fs::set_permissions(space.path().join("scripts/own"), PermissionsExt::from_mode(0o755)).unwrap();
    let table = format!("[xcat]\nnode_support = true\npostscripts = \"site\"\n{more}\n[boot]");
    space.edit("image.toml", "[boot]", &table);
    space
}

#[test]
fn node_support_puts_the_sites_files_into_the_image() {
    let space = copy(tiny(), "osimage = \"d12\"\n\n[node]\npostscripts = [\"scripts/own x\"]\n");
    let ran = space.run(&["build", "--locked"]).good();
    let said = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("scripts need programs that the image lacks: systemd-sysv"), "{said}");
    assert!(said.contains("has no systemd, and nothing starts the scripts of `[node]`"), "{said}");
    let script = "stat -c '%a %U %n' /xcatpost/* /opt/xcat/*; cat /xcatpost/linked; \
                  readlink /etc/systemd/system/multi-user.target.wants/xcatpostinit1.service; \
                  stat -c %a /etc/systemd/system/xcatpostinit1.service; cat /opt/xcat/xcatinfo; \
                  cd /usr/libexec/imgbuild; stat -c '%a %U %n' *; stat -c '%a %n' postscripts/*; \
                  ls -l /etc/systemd/system/multi-user.target.wants | sed -n 's/.* imgbuild/imgbuild/p'; \
                  ./imgbuild-init scripts postscripts; cat /var/log/imgbuild/postscripts/own.log";
    let shown = space.run(&["shell", "--", "/bin/sh", "-c", script]).good().out;
    let lines: Vec<&str> = shown.lines().collect();
    let expected = [
        "755 root /xcatpost/linked",
        "755 root /xcatpost/sub",
        "755 root /xcatpost/xcatdsklspost",
        "644 root /xcatpost/xcatpostinit1.netboot",
        "644 root /xcatpost/xcatpostinit1.service",
        "755 root /opt/xcat/xcatdsklspost",
        "644 root /opt/xcat/xcatinfo",
        "755 root /opt/xcat/xcatpostinit1",
        "own",
        "/etc/systemd/system/xcatpostinit1.service",
        "644",
        "IMAGENAME='d12'",
    ];
    assert_eq!(lines[..expected.len()], expected, "{shown}");
    assert!(lines[12].starts_with("IMAGEUUID='") && lines[13].starts_with("TIMESTAMP='"), "{shown}");
    let expected = [
        "755 root imgbuild-init",
        "755 root postscripts",
        "600 root postscripts.json",
        "755 postscripts/own",
        "imgbuild-postbootscripts.service -> /usr/lib/systemd/system/imgbuild-postbootscripts.service",
        "imgbuild-postscripts.service -> /usr/lib/systemd/system/imgbuild-postscripts.service",
        "imgbuild: postscripts: own: done",
        "SCRIPT SAYS: x netboot d12",
    ];
    assert_eq!(lines[14..], expected, "{shown}");
    // A changed postscript runs this layer again, and says which it was.
    space.write("site/sub/own", "changed\n");
    assert_eq!(space.to_do(), ["rootfs/xcat run", "rootfs/postscripts depends", "pack/rootimg depends"]);
    let plan = space.run(&["plan"]).good().out;
    assert!(plan.contains("site/sub/own content changed"), "{plan}");
}

#[test]
fn boot_node_support_runs_the_sites_postscripts() {
    let node = "\n[node]\npostscripts = [\"scripts/own early\"]\npostbootscripts = [\"scripts/own late\"]\n";
    let space = copy(mini(), node);
    space.run(&["build", "--locked"]).good();
    let server = FileServer::start(&space.artefact("mini", ".").canonicalize().unwrap()).unwrap();
    let built = Built { space, key: mini().key.clone() };
    let words = cmdline(&built, "mini", &format!("http://10.0.2.2:{}", server.port()));
    let running = start(&built, "mini", words, |_| {});
    expect(&running, "POSTSCRIPTS RUN: mini own");
    // imgbuild's runner, beside that.
    expect(&running, "SCRIPT SAYS: early netboot mini");
    expect(&running, "SCRIPT SAYS: late netboot mini");
}

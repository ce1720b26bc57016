//! A node whose files have owners and modes: what reads them runs, and who owns them can write.

use boot::{FileServer, Machine};

use super::machine::{Node, cmdline, expect, free_port, start};
use super::{Built, mini, store};
use crate::support::cluster::chmod;
use crate::support::{Space, copy_locked};

#[test]
fn network_boot_a_node_with_munges_key_a_home_and_a_closed_folder_by_sync_list() {
    let space = Space::new().with_store(&store());
    copy_locked(mini().space.path(), space.path());
    space.write("site/munge.key", &"0123456789abcdef".repeat(64)).write("site/home/.profile", "export SITE=1\n");
    space.write("site/closed/secret", "x\n").write(
        "node.synclist",
        "site/munge.key -> /etc/munge/munge.key\nsite/home -> /home/ann\nsite/closed -> /srv/closed\n",
    );
    // As an administrator has them: all are his, and closed where they are to be closed.
    for (path, mode) in [("munge.key", 0o400), ("home", 0o755), ("closed", 0o700), ("closed/secret", 0o600)] {
        chmod(&space.path().join("site").join(path), mode);
    }
    space.edit("image.toml", "\"openssh-server\"]", "\"openssh-server\", \"munge\"]");
    space.edit(
        "image.toml",
        "[exclude]",
        "[users]\nann = { uid = 2001, gid = 2001, home = \"/home/ann\", shell = \"/bin/sh\" }\n\n\
         [sync]\nlists = [\"node.synclist\"]\n\n[exclude]",
    );
    // Without the line for the key its program would refuse it: the build says so, with the line.
    let ran = space.run(&["build"]).good();
    let line = "[sync.owner] \"/etc/munge/munge.key\" = \"munge:munge 0400\"";
    assert!(ran.err.contains("munged does not start") && ran.err.contains(line), "{}", ran.err);
    space.edit("image.toml", "[exclude]", "[sync.owner]\n\"/etc/munge/munge.key\" = \"munge:munge 0400\"\n\n[exclude]");
    let ran = space.run(&["build"]).good();
    assert!(!ran.err.contains("munged does not start") && !ran.err.contains("pack::owner"), "{}", ran.err);

    let built = Built { space, key: mini().key.clone() };
    let server = FileServer::start(&built.space.artefact("mini", ".").canonicalize().unwrap()).unwrap();
    let port = free_port();
    let words = cmdline(&built, "mini", &format!("http://10.0.2.2:{}", server.port()));
    let running = start(&built, "mini", words, |machine| {
        machine.network = vec![Machine::user_network("52:54:00:00:00:18", Some(port))];
    });
    expect(&running, "imgbuild: the image is complete");
    let node = Node::forwarded(port, &built.key);
    node.wait(&running);
    assert_eq!(node.run("systemctl is-active munge"), "active", "{}", running.console());
    assert_eq!(node.run("stat -c '%U:%G %a' /etc/munge/munge.key"), "munge:munge 400");
    assert!(node.run("munge -n | unmunge").contains("Success"));
    // Its user writes into the home, and a login reads what is there.
    assert_eq!(
        node.run("su - ann -c 'echo x >new && mkdir deep && stat -c %U:%G new deep . && echo $SITE'"),
        "ann:ann\nann:ann\nann:ann\n1"
    );
    assert!(node.run("su - ann -c 'munge -n' | unmunge").contains("ann (2001)"));
    // And not where only root may look.
    assert_eq!(node.run("stat -c '%U:%G %a' /srv/closed"), "root:root 700");
    assert_eq!(node.run("su - ann -c 'ls /srv/closed 2>/dev/null || echo closed'"), "closed");
}

//! Packages that clusters install and that once failed: docs/packages.md has them all, this is a slice.

use crate::support::Space;

/// Each made other bytes in each build, or did not install: a hash with times (postfix), random keys (munge, cfengine3, ssl-cert),
/// a random name (open-iscsi), logs of the installation (munin-node), an initrd of its own for the machine at hand (kdump-tools).
const ONCE_FAILED: [&str; 7] = ["postfix", "munge", "cfengine3", "ssl-cert", "open-iscsi", "munin-node", "kdump-tools"];

#[test]
fn packages_that_once_failed_install_with_the_same_bytes() {
    let space = Space::new().with_store(&super::store());
    let listed = ONCE_FAILED.map(|name| format!(", \"{name}\"")).concat();
    space.write(
        "image.toml",
        &format!(
            "[image]\nname = \"packages\"\nrelease = \"bookworm\"\n\n\
             [packages]\nbase = \"essential\"\ninstall = [\"systemd-sysv\", \"udev\", \"openssh-server\"{listed}]\n\n\
             [kernel]\npackage = \"linux-image-cloud-amd64\"\n\n[postinstall]\nscript = \"audit\"\n"
        ),
    );
    space.write(
        "audit",
        "#!/bin/sh\nset -e\nsaid=$(dpkg --root=\"$1\" --audit)\n[ -z \"$said\" ] || { echo \"audit: $said\"; exit 1; }\n",
    );
    crate::support::cluster::chmod(&space.path().join("audit"), 0o755);
    let ran = space.run(&["build", "--verify", "--progress", "plain"]).good();
    assert!(ran.err.contains("building again in an empty store"), "{}", ran.err);
    for (path, text) in [("etc/aliases.db", "YP_LAST_MODIFIED"), ("etc/iscsi/initiatorname.iscsi", "GenerateName=yes")]
    {
        let script = format!("grep -q {text} /{path}");
        assert_eq!(space.run(&["shell", "--", "/bin/sh", "-c", &script]).code, 0, "{path}");
    }
    let keys =
        "ls /etc/munge/munge.key /etc/ssl/private/ssl-cert-snakeoil.key /var/lib/cfengine3/ppkeys/localhost.priv";
    assert_eq!(space.run(&["shell", "--", "/bin/sh", "-c", keys]).code, 2);
    // The node makes its own when kdump starts.
    let kdump = "test -x /usr/sbin/kdump-config && ! ls /var/lib/kdump/initrd*";
    assert_eq!(space.run(&["shell", "--", "/bin/sh", "-c", kdump]).code, 0);
}

//! What `import kiwi` writes, in a build: its script runs in the image, puts files and leaves nothing of itself.

use super::built_copy as copy;
use crate::support::copy_tree;

#[test]
fn the_script_of_an_imported_image_puts_files_and_runs_commands_in_it() {
    let space = copy();
    space.write("kiwi/config.xml", "<image name=\"appliance\"><preferences><packagemanager>apt</packagemanager></preferences>\
        <repository type=\"apt-deb\" distribution=\"bookworm\"><source path=\"http://mirror.example/debian\"/></repository>\
        <packages type=\"image\"><package name=\"bash\"/></packages></image>");
    space.write("kiwi/root/etc/site.conf", "a=1\n").write("kiwi/root/srv/a b", "spaced\n");
    std::os::unix::fs::symlink("site.conf", space.path().join("kiwi/root/etc/site.link")).unwrap();
    space.write(
        "kiwi/config.sh",
        "#!/bin/bash\nset -e\n. /.kconfig\nbaseUpdateSysConfig /etc/site.conf b 2\ntest \"$kiwi_iname\" = appliance\n",
    );
    // kconfig and profile are sourced together there.
    space.edit("kiwi/config.sh", ". /.kconfig", ". /.kconfig\n. /.profile");
    space.run(&["import", "kiwi", "kiwi", "--into", "new"]).good();
    copy_tree(&space.path().join("new/images/appliance"), &space.path().join("moved"));
    for name in ["appliance.postinstall", "appliance.d"] {
        std::fs::rename(space.path().join("moved").join(name), space.path().join(name)).unwrap();
    }
    space.write("check.sh", "#!/bin/sh\nset -e\ngrep -q '^b=\"2\"$' $1/etc/site.conf\ntest \"$(readlink $1/etc/site.link)\" = site.conf\n\
        test \"$(cat \"$1/srv/a b\")\" = spaced\ntest ! -e $1/.imgbuild-import\ntest ! -e $1/.kconfig\ntest ! -e $1/.profile\n");
    std::fs::set_permissions(
        space.path().join("check.sh"),
        <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755),
    )
    .unwrap();
    space.edit(
        "image.toml",
        "script = \"tiny.postinstall\"",
        "script = \"tiny.postinstall\"\nscripts = [\"appliance.postinstall\", \"check.sh\"]\ninputs = [\"appliance.d/**\"]",
    );
    space.run(&["build"]).good();
}

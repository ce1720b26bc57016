//! Every field of a recipe, every list, and edits without meaning, one at a time on a built image: what runs, why, and that
//! the result is that of a build which never saw the image before. A field of the schema without an edit fails the test.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{mini, shared, store};
use crate::support::{Space, copy_locked, copy_tree, project};

struct Edit {
    /// Fields of the schema that it is about.
    fields: &'static [&'static str],
    name: &'static str,
    make: fn(&Space),
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Build,
    /// Plan and build, with other packages: the comparison starts from the essential ones.
    Packages,
    /// Plan only: the build would need another distribution.
    Plan,
    /// It is for RPM distributions or another CPU, and the recipe is told so; rpm_node.rs and foreign.rs try it on one.
    Refused,
    OneValue,
}

const fn edit(fields: &'static [&'static str], name: &'static str, make: fn(&Space)) -> Edit {
    Edit { fields, name, make, how: How::Build }
}

const fn refused(fields: &'static [&'static str], name: &'static str, make: fn(&Space)) -> Edit {
    Edit { fields, name, make, how: How::Refused }
}

const fn packages(fields: &'static [&'static str], name: &'static str, make: fn(&Space)) -> Edit {
    Edit { fields, name, make, how: How::Packages }
}

fn add(space: &Space, table: &str, line: &str) {
    space.edit("image.toml", &format!("[{table}]\n"), &format!("[{table}]\n{line}\n"));
}

fn add_table(space: &Space, text: &str) {
    let path = space.path().join("image.toml");
    let old = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("{old}\n{text}\n")).unwrap();
}

fn chmod(space: &Space, name: &str, mode: u32) {
    std::fs::set_permissions(space.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
}

fn append(space: &Space, name: &str, text: &str) {
    let path = space.path().join(name);
    let old = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, old + text).unwrap();
}

/// A package of the test's own, made by dpkg-deb.
fn local_package(space: &Space) {
    let tree = space.path().join("pkg");
    std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    let control =
        "Package: site-thing\nVersion: 1\nArchitecture: all\nMaintainer: site <root@localhost>\nDescription: thing\n";
    std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
    std::fs::create_dir_all(space.path().join("other")).unwrap();
    let made = std::process::Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build"])
        .arg(&tree)
        .arg(space.path().join("other/site-thing_1_all.deb"))
        .env("SOURCE_DATE_EPOCH", "0")
        .output()
        .unwrap();
    assert!(made.status.success());
    std::fs::remove_dir_all(tree).unwrap();
}

fn firmware_package(space: &Space) {
    let tree = space.path().join("pkg");
    std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    std::fs::create_dir_all(tree.join("lib/firmware")).unwrap();
    std::fs::write(tree.join("lib/firmware/site.bin"), "firmware\n").unwrap();
    let control = "Package: site-firmware\nVersion: 1\nArchitecture: all\nMaintainer: site <root@localhost>\nDescription: thing\n";
    std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
    let made = std::process::Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build"])
        .arg(&tree)
        .arg(space.path().join("firmware.deb"))
        .env("SOURCE_DATE_EPOCH", "0")
        .output()
        .unwrap();
    assert!(made.status.success());
    std::fs::remove_dir_all(tree).unwrap();
}

const EDITS: &[Edit] = &[
    edit(&["extends"], "a parent that says something", |space| {
        space.write("parent.toml", "[boot]\ncmdline = [\"quiet\"]\n");
        space.edit("image.toml", "[image]\n", "extends = \"parent.toml\"\n\n[image]\n");
    }),
    edit(&["remove"], "a parent of which nothing is left", |space| {
        space.write("parent.toml", "[boot]\ncmdline = [\"quiet\"]\n");
        space.edit("image.toml", "[image]\n", "extends = \"parent.toml\"\n\n[image]\n");
        add_table(space, "[remove]\nboot.cmdline = [\"quiet\"]");
    }),
    edit(&["variant"], "a variant in its place, with its lock", |space| {
        std::fs::copy(space.path().join("image.lock"), space.path().join("image.quiet.lock")).unwrap();
        add_table(space, "[variant.quiet]\nimage.name = \"mini\"\nboot.cmdline = [\"quiet\"]");
    }),
    edit(&["plain"], "plain, where there are no variants", |space| {
        space.edit("image.toml", "[image]\n", "plain = true\n\n[image]\n");
    }),
    edit(&["image.name"], "the image's name", |space| {
        space.edit("image.toml", "name = \"mini\"", "name = \"maxi\"");
    }),
    refused(&["image.distro"], "another distribution", |space| add(space, "image", "distro = \"rocky\"")),
    Edit {
        fields: &["image.release"],
        name: "another release",
        make: |space| {
            space.edit("image.toml", "\"bookworm\"", "\"trixie\"");
        },
        how: How::Plan,
    },
    Edit {
        fields: &["image.from"],
        name: "a container image as the base",
        make: |space| {
            space.edit("image.toml", "base = \"essential\"\n", "");
            add(space, "image", "from = \"oci:registry.test/site/base:12\"");
        },
        how: How::Plan,
    },
    Edit { fields: &["image.arch"], name: "", make: |_| (), how: How::OneValue },
    edit(&["repo.source", "repo.check-valid-until"], "where packages come from", |space| {
        add_table(space, "[[repo]]\nsource = \"host\"\ncheck-valid-until = false");
    }),
    Edit {
        fields: &["repo.uri", "repo.suites", "repo.components", "repo.signed-by", "repo.trusted"],
        name: "another archive",
        make: |space| {
            space.write("site.gpg", include_str!("../../../crates/pgp/src/keys/debian-archive.asc"));
            add_table(
                space,
                "[[repo]]\nuri = \"http://127.0.0.1:9/debian\"\nsuites = [\"bookworm\"]\ncomponents = [\"main\"]\nsigned-by = \"site.gpg\"\n\n[[repo]]\nuri = \"http://127.0.0.1:9/x\"\nsuites = [\"./\"]\ntrusted = true",
            );
        },
        how: How::Plan,
    },
    refused(
        &[
            "repo.id",
            "repo.mirrorlist",
            "repo.metalink",
            "repo.file",
            "repo.priority",
            "repo.exclude",
            "repo.include",
            "repo.module-hotfixes",
            "repo.check-packages",
            "repo.check-index",
            "repo.weak-signatures",
        ],
        "what only RPM repositories have",
        |space| {
            space.write("site.repo", "");
            add_table(
                space,
                "[[repo]]\nid = \"site\"\nmirrorlist = \"http://127.0.0.1:9/m\"\nmetalink = \"http://127.0.0.1:9/l\"\nfile = \"site.repo\"\npriority = 1\nexclude = [\"a\"]\ninclude = [\"b\"]\nmodule-hotfixes = true\ncheck-packages = false\ncheck-index = true\nweak-signatures = true",
            );
        },
    ),
    refused(&["repo_variables"], "a variable of RPM repositories", |space| {
        add_table(space, "[repo_variables]\nsite = \"x\"");
    }),
    refused(&["packages.failing_scripts"], "scripts that may fail", |space| {
        add(space, "packages", "failing_scripts = [\"less\"]");
    }),
    packages(&["packages.base"], "minbase", |space| {
        space.edit("image.toml", "base = \"essential\"", "base = \"minbase\"");
    }),
    packages(&["packages.lists"], "a package in the list", |space| append(space, "a.pkglist", "less\n")),
    packages(&["packages.install"], "a package in the recipe", |space| {
        space.edit("image.toml", "\"udev\"]", "\"udev\", \"less\"]");
    }),
    packages(&["otherpkgs.dir", "otherpkgs.lists", "otherpkgs.install"], "a local package", |space| {
        local_package(space);
        space.write("o.pkglist", "# none\n");
        add_table(space, "[otherpkgs]\ndir = \"other\"\nlists = [\"o.pkglist\"]\ninstall = [\"site-thing\"]");
    }),
    packages(&["kernel.package"], "the kernel's package by its whole name", |space| {
        let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
        let at = lock.find("name = \"linux-image-6").unwrap();
        let name = lock[at + 8..].split('"').next().unwrap();
        space.edit("image.toml", "\"linux-image-cloud-amd64\"", &format!("\"{name}\""));
    }),
    edit(&["kernel.version"], "the kernel's release, which is the only one", |space| {
        let info = std::fs::read_to_string(space.path().join("out/mini/build.json")).unwrap();
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        add(space, "kernel", &format!("version = {}", info["kernel_release"]));
    }),
    packages(&["kernel.dir"], "a directory of kernels", |space| {
        let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
        let line = lock.lines().find(|line| line.contains("name = \"linux-image-6")).unwrap();
        let digest = line.split("sha256 = \"").nth(1).unwrap().split('"').next().unwrap();
        let package = space.store().join("v1/packages").join(&digest[..2]).join(digest);
        std::fs::create_dir_all(space.path().join("kernels")).unwrap();
        std::fs::copy(package, space.path().join("kernels/kernel.deb")).unwrap();
        space.edit("image.toml", "package = \"linux-image-cloud-amd64\"", "dir = \"kernels\"");
    }),
    edit(&["kernel.updates"], "a driver update", |space| {
        firmware_package(space);
        add(space, "kernel", "updates = [\"firmware.deb\"]");
    }),
    packages(&["kernel.build.source", "kernel.build.make", "kernel.build.tools"], "a driver from source", |space| {
        copy_tree(&project().join("tests/fixtures/driver"), &space.path().join("driver"));
        add_table(
            space,
            "[[kernel.build]]\nsource = \"driver\"\nmake = [\"-C\", \"{build}\", \"M={source}\", \"modules\"]\ntools = [\"bc\"]",
        );
    }),
    edit(&["kernel.drivers"], "a driver", |space| add(space, "kernel", "drivers = [\"+loop\"]")),
    packages(&["kernel.firmware_packages"], "firmware", |space| {
        add(space, "kernel", "firmware_packages = [\"firmware-linux-free\"]");
    }),
    refused(&["kernel.device_trees"], "device trees of a CPU without them", |space| {
        add(space, "kernel", "device_trees = [\"vendor/board.dtb\"]");
    }),
    edit(&["kernel.firmware"], "firmware is required", |space| add(space, "kernel", "firmware = \"require\"")),
    Edit { fields: &["initrd.modes"], name: "", make: |_| (), how: How::OneValue },
    edit(&["initrd.compress"], "the initrd's compression", |space| add_table(space, "[initrd]\ncompress = \"gzip\"")),
    packages(
        &["initrd.generator", "initrd.dracut_modules", "initrd.dracut_conf", "initrd.dracut_packages"],
        "an initrd by dracut",
        |space| {
            space.write("site.conf", "install_items+=\" /usr/bin/less \"\n");
            add_table(
                space,
                "[initrd]\ngenerator = \"dracut\"\ndracut_modules = [\"-debug\"]\ndracut_conf = [\"site.conf\"]\ndracut_packages = [\"less\"]",
            );
        },
    ),
    edit(&["initrd.modules_from"], "modules of the image", |space| {
        add_table(space, "[initrd]\nmodules_from = \"rootfs\"")
    }),
    edit(&["initrd.ca"], "a certificate", |space| {
        space.write("ca.pem", "# none\n");
        add_table(space, "[initrd]\nca = [\"ca.pem\"]");
    }),
    edit(&["system.timezone"], "the time zone", |space| add(space, "system", "timezone = \"Etc/UTC\"")),
    edit(&["system.locale"], "the locale", |space| add(space, "system", "locale = \"C.UTF-8\"")),
    edit(&["system.hostname"], "the host name", |space| add(space, "system", "hostname = \"node\"")),
    edit(&["system.authorized_keys"], "a key", |space| {
        space.write(
            "keys/second.pub",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty second\n",
        );
        space.edit("image.toml", "[\"keys/admin.pub\"]", "[\"keys/admin.pub\", \"keys/second.pub\"]");
    }),
    edit(&["system.root_password_hash_file"], "root's password", |space| {
        space.write("hash", "$6$x$y\n");
        add(space, "system", "root_password_hash_file = \"hash\"");
    }),
    edit(&["system.selinux"], "no SELinux labels", |space| add(space, "system", "selinux = \"off\"")),
    edit(&["system.fstab"], "a mount", |space| add(space, "system", "fstab = [\"none /scratch tmpfs defaults 0 0\"]")),
    edit(&["system.exports"], "an export", |space| add(space, "system", "exports = [\"/srv *(ro)\"]")),
    edit(&["users.*.uid", "users.*.gid", "users.*.home", "users.*.shell"], "a user", |space| {
        add_table(space, "[users]\nslurm = { uid = 901, gid = 901, home = \"/srv/slurm\", shell = \"/bin/sh\" }");
    }),
    edit(&["groups"], "a group", |space| add_table(space, "[groups]\nslurm = 901")),
    Edit {
        fields: &["role.tools"],
        name: "a role with a package of its own",
        make: |space| {
            space.write("play/site.yml", "- hosts: all\n  tasks: []\n");
            add_table(space, "[[role]]\nansible = \"play/site.yml\"\ntools = [\"python3-netaddr\"]");
        },
        how: How::Plan,
    },
    edit(&["postinstall.script"], "the script", |space| {
        append(space, "mini.postinstall", "echo more >>\"$1/etc/made\"\n")
    }),
    edit(&["postinstall.arguments"], "an argument", |space| add(space, "postinstall", "arguments = [\"x\"]")),
    edit(&["postinstall.inputs"], "a declared input", |space| append(space, "site/input", "more\n")),
    packages(&["postinstall.tools"], "a program for the script", |space| {
        add(space, "postinstall", "tools = [\"less\"]")
    }),
    edit(&["postinstall.packages"], "the packages for the script", |space| {
        add(space, "postinstall", "packages = \"locked\"")
    }),
    edit(&["services.enable"], "a service starts", |space| {
        add_table(space, "[services]\nenable = [\"systemd-networkd\"]")
    }),
    edit(&["services.disable"], "a service does not start", |space| {
        add_table(space, "[services]\ndisable = [\"systemd-pstore\"]")
    }),
    edit(&["services.mask"], "a service never starts", |space| {
        add_table(space, "[services]\nmask = [\"systemd-pstore\"]")
    }),
    edit(&["sync.lists"], "a line of a synclist", |space| append(space, "a.synclist", "site/motd -> /etc/issue.net\n")),
    edit(&[], "a synced file's content", |space| append(space, "site/motd", "more\n")),
    edit(&[], "a synced file's mode", |space| chmod(space, "site/motd", 0o755)),
    edit(&["exclude.lists"], "a line of an exclude list", |space| append(space, "mini.exlist", "./usr/share/bug*\n")),
    edit(&["pack.archive", "pack.block_size", "pack.profile"], "another form", |space| {
        add_table(space, "[pack]\narchive = \"squashfs\"\nblock_size = 65536\nprofile = \"fast\"");
    }),
    edit(
        &["pack.also.archive", "pack.also.compress", "pack.also.block_size", "pack.also.level"],
        "tar, erofs and a squashfs besides",
        |space| {
            add_table(
                space,
                "[[pack.also]]\narchive = \"tar\"\ncompress = \"gzip\"\nlevel = 1\n\n[[pack.also]]\narchive = \"erofs\"\n\n\
                 [[pack.also]]\narchive = \"squashfs\"\nblock_size = 65536",
            );
        },
    ),
    edit(&["pack.compress"], "the compressor", |space| add_table(space, "[pack]\ncompress = \"gzip\"\nlevel = 1")),
    edit(&["pack.level"], "the compressor's level", |space| add_table(space, "[pack]\nlevel = 1")),
    edit(&["pack.frames"], "one stream", |space| add_table(space, "[pack]\nframes = \"single\"\nlevel = 1")),
    edit(&["boot.cmdline"], "a word of the command line", |space| {
        space.edit("image.toml", "\"console=ttyS0\"", "\"console=ttyS0\", \"quiet\"");
    }),
    edit(&["boot.tmpfs"], "a tmpfs", |space| add(space, "boot", "tmpfs = { \"/tmp\" = \"50m\" }")),
    edit(&["boot.root_size"], "the root's size", |space| add(space, "boot", "root_size = \"80%\"")),
    edit(&["boot.cache.device", "boot.cache.filesystem"], "a disk of the node", |space| {
        add_table(space, "[boot.cache]\ndevice = \"LABEL=nodecache\"");
    }),
    edit(&["boot.cache.image", "boot.cache.writes"], "an image on a disk of the node", |space| {
        add_table(
            space,
            "[pack]\narchive = \"squashfs\"\nlevel = 1\n\n\
             [boot.cache]\ndevice = \"/dev/vda\"\nimage = \"cache\"\nwrites = \"cache\"",
        );
    }),
    edit(&["environment"], "a variable", |space| add_table(space, "[environment]\nSITE = \"a\"")),
    edit(&["workspace.allow"], "a path that may be read", |space| {
        add_table(space, "[workspace]\nallow = [\"/nothing\"]")
    }),
    edit(&["capture.packages"], "what it was captured from", |space| {
        space.write("node.packages", "gone 1 amd64\n");
        add_table(space, "[capture]\npackages = \"node.packages\"");
    }),
    // Planned only: a build would write there.
    Edit {
        fields: &["publish.to"],
        name: "another provisioner",
        make: |space| add_table(space, "[publish]\nto = [\"tree:/srv/www/mini\"]"),
        how: How::Plan,
    },
    Edit {
        fields: &["publish.sbom"],
        name: "bills beside the image",
        make: |space| add_table(space, "[publish]\nsbom = true"),
        how: How::Plan,
    },
    edit(&["image.secrets"], "secrets that are meant", |space| add(space, "image", "secrets = \"allowed\"")),
    edit(&["xcat.path_map"], "a path of the xCAT host", |space| {
        add_table(space, "[xcat]\npath_map = { \"/opt/xcat\" = \"vendor\" }");
    }),
    edit(&["xcat.osvers"], "osvers", |space| add_table(space, "[xcat]\nosvers = \"debian12\"")),
    edit(&["xcat.profile"], "profile", |space| add_table(space, "[xcat]\nprofile = \"compute\"")),
    edit(&["xcat.node_support", "xcat.postscripts", "xcat.osimage"], "the site's postscripts", |space| {
        for name in ["xcatdsklspost", "xcatpostinit1.netboot", "xcatpostinit1.service"] {
            space.write(&format!("post/{name}"), "#!/bin/sh\n");
            chmod(space, &format!("post/{name}"), 0o755);
        }
        add_table(space, "[xcat]\nnode_support = true\npostscripts = \"post\"\nosimage = \"x\"");
    }),
    // Without meaning.
    edit(&[], "comments and blank lines", |space| {
        space.edit("image.toml", "[exclude]", "\n# a comment\n\n[exclude]");
        append(space, "a.pkglist", "\n# a comment\n");
        append(space, "mini.exlist", "\n# a comment\n");
        append(space, "a.synclist", "\n# a comment\n");
    }),
    edit(&[], "the order of keys", |space| {
        space.edit("image.toml", "name = \"mini\"\nrelease = \"bookworm\"", "release = \"bookworm\"\nname = \"mini\"");
    }),
    edit(&[], "touch", |space| {
        for name in ["image.toml", "site/motd", "site/input", "mini.postinstall"] {
            let file = std::fs::File::options().append(true).open(space.path().join(name)).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }
    }),
    edit(&[], "a checkout with umask 002", |space| {
        for words in [&["init", "-q"][..], &["add", "site/motd", "mini.postinstall"]] {
            crate::support::cluster::git(space.path(), words);
        }
        chmod(space, "site/motd", 0o664);
        chmod(space, "mini.postinstall", 0o775);
    }),
    edit(&["postinstall.scripts"], "a second script", |space| {
        space.write("second.postinstall", "#!/bin/sh\necho second >>\"$1/etc/made\"\n");
        chmod(space, "second.postinstall", 0o755);
        add(space, "postinstall", "scripts = [\"second.postinstall\"]")
    }),
    edit(
        &[
            "statelite.files",
            "statelite.trees",
            "statelite.state",
            "statelite.state_options",
            "statelite.local_disk",
            "statelite.filesystem",
            "statelite.root",
            "statelite.variables",
            "statelite.litefile",
            "statelite.litetree",
            "statelite.statelite",
            "statelite.groups",
            "node.postscripts",
            "node.postbootscripts",
            "node.timeout",
            "node.on_failure",
        ],
        "paths that are a node's own, and scripts that it runs",
        |space| {
            space.write("mount-scratch", "#!/bin/sh\nmount /scratch\n").write("late", "#!/bin/sh\n");
            chmod(space, "mount-scratch", 0o755);
            chmod(space, "late", 0o755);
            add_table(
                space,
                "[node]\npostscripts = [\"mount-scratch\"]\npostbootscripts = [\"late x\"]\ntimeout = 60\non_failure = \"fail\"",
            );
            space.write("own.litefile", "tmpfs /etc/hosts\n").write("own.litetree", "10.0.0.5:/trees\n");
            space.write("own.statelite", "#node,image,statemnt\n\"n01\",,\"10.0.0.6:/state\"\n");
            add_table(
                space,
                "[statelite]\ntrees = [\"$tree.server:/trees\"]\nstate = \"10.0.0.5:/state\"\nstate_options = \"nfsvers=3\"\n\
                 local_disk = \"LABEL=local\"\nfilesystem = \"xfs\"\nroot = \"10.0.0.5:/install\"\nlitefile = [\"own.litefile\"]\n\
                 litetree = [\"own.litetree\"]\nstatelite = [\"own.statelite\"]\ngroups = \"one\"\n\n\
                 [statelite.files]\n\"/var/log/\" = \"persistent\"\n\"/var/cache/\" = \"localdisk\"\n\n\
                 [statelite.variables]\n\"tree.server\" = \"10.0.0.5\"",
            );
        },
    ),
    // kdump.rs builds such images.
    Edit {
        fields: &[
            "kdump.to",
            "kdump.reserve",
            "kdump.options",
            "kdump.level",
            "kdump.compress",
            "kdump.cmdline",
            "kdump.afterwards",
        ],
        name: "dumps over NFS",
        make: |space| {
            add_table(
                space,
                "[kdump]\nto = \"nfs://10.0.0.5/dumps\"\nreserve = \"192M\"\noptions = \"nfsvers=3\"\nlevel = 1\ncompress = \"zstd\"\n\
                 cmdline = [\"irqpoll\"]\nafterwards = \"poweroff\"",
            );
        },
        how: How::Plan,
    },
    Edit {
        fields: &["kdump.filesystem"],
        name: "dumps on a disk of the node",
        make: |space| add_table(space, "[kdump]\nto = \"LABEL=crash:/var/crash\"\nfilesystem = \"xfs\""),
        how: How::Plan,
    },
    Edit {
        fields: &["kdump.ssh_key", "kdump.known_hosts"],
        name: "dumps by ssh",
        make: |space| {
            let file = space.path().join("dump");
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&file).status();
            assert!(made.expect("ssh-keygen is there").success());
            let public = std::fs::read_to_string(file.with_extension("pub")).unwrap();
            space.write("hosts", &format!("head {public}"));
            add_table(space, "[kdump]\nto = \"ssh://kdump@head/srv\"\nssh_key = \"dump\"\nknown_hosts = \"hosts\"");
        },
        how: How::Plan,
    },
    Edit {
        fields: &["sync.owner"],
        name: "the owner of a synced file",
        make: |space| add_table(space, "[sync.owner]\n\"/etc/motd\" = \"daemon:daemon 0640\""),
        how: How::Plan,
    },
    Edit {
        fields: &["image.keep"],
        name: "a path that is kept",
        make: |space| add(space, "image", "keep = [\"/etc/site/token\"]"),
        how: How::Plan,
    },
    // What is built stands at the end: each part has every eighth of those.
    edit(&["boot.root"], "a root that is read over the network", |space| {
        add(space, "boot", "root = \"lazy\"");
        add_table(space, "[pack]\narchive = \"squashfs\"\nlevel = 1");
    }),
    packages(&["role.ansible", "role.groups", "role.vars", "role.vars_files", "role.inputs"], "a role", |space| {
        space.edit("image.toml", "install = [", "install = [\"python3\", ");
        space.write("play/vars.yml", "port: 80\n");
        let task = "{copy: {dest: /etc/role, content: '{{ port }} {{ name }} {{ lookup(\"file\", \"/recipe/site/input\") }}'}}";
        space.write("play/site.yml", &format!("- hosts: web\n  gather_facts: false\n  tasks:\n    - {task}\n"));
        let files = "vars_files = [\"play/vars.yml\"]\ninputs = [\"site/input\"]";
        let vars = "vars = { name = \"mini\" }";
        add_table(space, &format!("[[role]]\nansible = \"play/site.yml\"\ngroups = [\"web\"]\n{vars}\n{files}"));
    }),
];

/// The recipe that is edited, built in a store of its own, so that what runs does not depend on what other tests built; once for
/// all tests of the table. The store lies beside the recipe.
fn base() -> Space {
    let place = shared::once("edit-table", |place| {
        let table_store = place.join("store");
        std::fs::create_dir_all(table_store.join("v1")).unwrap();
        std::fs::set_permissions(&table_store, PermissionsExt::from_mode(0o700)).unwrap();
        // The shared store has packages as soon as this one was built.
        mini();
        let copied = Command::new("cp").arg("-a").arg(store().join("v1/packages")).arg(table_store.join("v1")).status();
        assert!(copied.unwrap().success());
        std::fs::create_dir(place.join("recipe")).unwrap();
        let space = Space::kept(&place.join("recipe")).with_store(&table_store);
        write_recipe(&space);
        space.run(&["build"]).good();
    });
    Space::kept(&place.join("recipe")).with_store(&place.join("store"))
}

/// Copies a directory; files get second names.
fn link(from: &Path, to: &Path) {
    let linked = std::process::Command::new("cp").args(["-a", "--link"]).arg(from).arg(to).status().unwrap();
    assert!(linked.success());
}

/// The recipe that is edited: the example `mini` without its sshd (each package is installed some thirty times) and with one of
/// each list.
fn write_recipe(space: &Space) {
    copy_tree(mini().space.path(), space.path());
    space.edit("image.toml", ", \"openssh-server\"]", "]");
    space.edit("image.toml", "install = [", "lists = [\"a.pkglist\"]\ninstall = [");
    space.write("a.pkglist", "udev\n").write("site/motd", "a node\n").write("site/input", "input\n");
    space.write("a.synclist", "site/motd -> /etc/motd\n");
    space.write("mini.postinstall", "#!/bin/sh\nset -e\ncp site/input \"$1/etc/made\"\n");
    chmod(space, "mini.postinstall", 0o755);
    chmod(space, "site/motd", 0o644);
    let tables =
        "[postinstall]\nscript = \"mini.postinstall\"\ninputs = [\"site/input\"]\n\n[sync]\nlists = [\"a.synclist\"]";
    add_table(space, tables);
}

/// Paths of all fields of a recipe: `table.key`, `table.*.key` for tables with names of the user's. What a variant says is
/// said by the same fields.
fn fields() -> BTreeSet<String> {
    fn walk(node: &serde_json::Value, root: &serde_json::Value, path: &str, found: &mut BTreeSet<String>) {
        let resolve = |node: &serde_json::Value| match node["$ref"].as_str() {
            Some(name) => root.pointer(name.trim_start_matches('#')).unwrap().clone(),
            None => node.clone(),
        };
        let mut node = resolve(node);
        if let Some(options) = node["anyOf"].as_array() {
            node = resolve(options.iter().find(|option| option["type"] != "null").unwrap());
        }
        if ["variant", "remove"].contains(&path) {
            found.insert(path.to_owned());
            return;
        }
        let inner = [resolve(&node["items"]), resolve(&node["additionalProperties"])];
        let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        if let Some(properties) = node["properties"].as_object() {
            properties.iter().for_each(|(key, value)| walk(value, root, &join(key), found));
        } else if inner[0]["properties"].is_object() {
            walk(&inner[0], root, path, found);
        } else if inner[1]["properties"].is_object() {
            walk(&inner[1], root, &join("*"), found);
        } else {
            found.insert(path.to_owned());
        }
    }
    let text = std::fs::read(project().join("schemas/image.schema.json")).unwrap();
    let root: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let mut found = BTreeSet::new();
    walk(&root, &root, "", &mut found);
    found
}

/// The problems of a recipe without their places.
fn problems(err: &str) -> String {
    err.lines().filter(|line| line.trim_start().starts_with('×')).collect::<Vec<_>>().join("\n")
}

/// What changes from day to day in a plan: digests and versions.
fn steady(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_inclusive([' ', '\n']) {
        let (bare, end) = word.split_at(word.trim_end_matches([' ', '\n', ',']).len());
        let is_digest = bare.len() >= 12 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_version = bare.starts_with(|letter: char| letter.is_ascii_digit()) && bare.contains('.');
        out.push_str(if is_digest {
            "[digest]"
        } else if is_version {
            "[version]"
        } else if bare.trim_start_matches(['`', '"']).starts_with("linux-image-6") {
            "[kernel]"
        } else {
            bare
        });
        out.push_str(end);
    }
    out
}

/// Removes records of a store but for those of some actions: what follows never saw the image.
fn forget_all_but(store: &Path, kept: &[&str]) {
    for entry in std::fs::read_dir(store.join("v1/actions")).unwrap().flatten() {
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap();
        if !kept.contains(&record["action"].as_str().unwrap()) {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    for entry in std::fs::read_dir(store.join("v1/roots")).unwrap().flatten() {
        std::fs::remove_file(entry.path()).unwrap();
    }
}

/// Records, trees and frames of a store.
fn kept_files(store: &Path) -> BTreeSet<PathBuf> {
    let below = |name: &str| {
        let directory = store.join("v1").join(name);
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let frames = below("frames").into_iter().flat_map(|part| std::fs::read_dir(part).into_iter().flatten().flatten());
    [below("actions"), below("trees")].concat().into_iter().chain(frames.map(|entry| entry.path())).collect()
}

/// Removes what a clean build of an edit left: the table of all would fill a disk.
fn shrink(store: &Path, kept: &BTreeSet<PathBuf>) {
    for path in kept_files(store).difference(kept) {
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
    }
}

/// Files of a published image, with their content.
fn artefacts(space: &Space, image: &str) -> Vec<(String, Vec<u8>)> {
    let directory = space.path().join("out").join(image);
    let mut found: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .flatten()
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    found.sort();
    found
}

fn copy_of(base: &Space, in_store: &Path) -> Space {
    let space = Space::new().with_store(in_store);
    copy_locked(base.path(), space.path());
    space
}

#[test]
fn network_each_edit_is_planned_with_its_cause() {
    let edited: BTreeSet<String> = EDITS.iter().flat_map(|edit| edit.fields).map(|field| (*field).to_owned()).collect();
    assert_eq!(edited, fields(), "each field of the schema has an edit, and each edit a field");
    let base = base();
    // Its own store: a copy is another recipe, whose builds others may not know.
    let own = tempfile::tempdir_in(base.store().parent().unwrap()).unwrap();
    link(&base.store(), &own.path().join("store"));
    let space = copy_of(&base, &own.path().join("store"));
    space.run(&["build", "--locked"]).good();
    assert_eq!(space.to_do(), Vec::<String>::new());
    let schema = std::fs::read_to_string(project().join("schemas/image.schema.json")).unwrap();
    let mut table = String::new();
    for edit in EDITS {
        if edit.how == How::OneValue {
            let key = edit.fields[0].rsplit('.').next().unwrap();
            // Of `arch` there are three, which tests of images for another CPU build (arm.rs).
            let (kind, count) = match key {
                "arch" => ("Arch", 3),
                _ => ("InitrdMode", 1),
            };
            let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
            assert_eq!(schema["$defs"][kind]["oneOf"].as_array().unwrap().len(), count, "{key} has more values now");
            continue;
        }
        // In place: what was built is known of this directory.
        (edit.make)(&space);
        let ran = space.run(&["plan"]);
        if edit.how == How::Refused {
            assert_eq!(ran.code, 1, "{}", ran.err);
            let _ = writeln!(table, "== {}\n{}", edit.name, problems(&ran.err));
        } else {
            let plan = ran.good().out;
            let plan = steady(&crate::support::without_estimate(&plan));
            let _ = writeln!(table, "== {}\n{}", edit.name, plan.trim_end());
        }
        take_back(&space, &base);
    }
    insta::assert_snapshot!(table);
}

fn take_back(space: &Space, base: &Space) {
    for entry in std::fs::read_dir(space.path()).unwrap().flatten().filter(|entry| entry.file_name() != "out") {
        let path = entry.path();
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
    }
    copy_locked(base.path(), space.path());
}

/// Builds each edit of a part of the table on top of the recipe's own build, and from nothing but packages: the bytes are the same.
/// What ran is a line each.
fn build_part(part: usize) -> String {
    let base = base();
    let own = tempfile::tempdir_in(base.store().parent().unwrap()).unwrap();
    let table_store = own.path().join("store");
    link(&base.store(), &table_store);
    // A store of its own for the comparison; its trees are the same files.
    let control_store = own.path().join("control");
    link(&base.store(), &control_store);
    let linked = kept_files(&control_store);
    let mut table = String::new();
    let built = EDITS.iter().filter(|edit| matches!(edit.how, How::Build | How::Packages));
    for edit in built.skip(part).step_by(PARTS) {
        let space = copy_of(&base, &table_store);
        space.run(&["build", "--locked"]).good();
        (edit.make)(&space);
        let ran = space.run(&["build"]).good();
        let said = ran.err.lines().find(|line| line.starts_with("ran ")).unwrap();
        let _ = writeln!(table, "{}: {}", edit.name, said.split(';').next().unwrap());
        let name = if edit.fields == ["image.name"] { "maxi" } else { "mini" };
        let incremental = artefacts(&space, name);
        let control = copy_of(&space, &control_store);
        let kept: &[&str] = match edit.how {
            How::Packages => &["rootfs/tools", "rootfs/base"],
            _ => &[
                "rootfs/tools",
                "rootfs/base",
                "rootfs/packages-1",
                "kernel/payload",
                "rootfs/kernel",
                "rootfs/tools-postinstall",
            ],
        };
        forget_all_but(&control_store, kept);
        control.run(&["build", "--locked"]).good();
        assert!(incremental == artefacts(&control, name), "`{}` gives other bytes than a clean build", edit.name);
        shrink(&control_store, &linked);
    }
    table
}

/// Into how many parts the table is cut; each is a test of its own, and the gate runs some.
const PARTS: usize = 8;

/// A test for each part, whose snapshot is what ran.
macro_rules! parts {
    ($($name:ident $part:literal)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(stringify!($name), build_part($part));
        }
    )*};
}

parts! {
    network_edits_give_the_bytes_of_a_clean_build_0 0
    network_edits_give_the_bytes_of_a_clean_build_1 1
    network_edits_give_the_bytes_of_a_clean_build_2 2
    network_edits_give_the_bytes_of_a_clean_build_3 3
    network_edits_give_the_bytes_of_a_clean_build_4 4
    network_edits_give_the_bytes_of_a_clean_build_5 5
    network_edits_give_the_bytes_of_a_clean_build_6 6
    network_edits_give_the_bytes_of_a_clean_build_7 7
}

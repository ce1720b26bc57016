//! A compute node of RPM packages: built with the release's own dnf, booted, logged into; and what an edit rebuilds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use boot::{FileServer, Machine, Running};

use super::compute::lock;
use super::kills::forget_with;
use super::machine::{Node, cmdline, expect, free_port, start};
use super::rpm_distro::distribution;
use super::{Built, shared};
use crate::support::{Space, copy_locked, copy_tree, project};

/// Writes a package that nobody signed, made by rpmbuild: its name and version, and what its spec file has besides.
pub fn write_rpm(directory: &Path, name: &str, version: &str, spec: &str) -> PathBuf {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("a.spec");
    // `spec` begins with tags; %description and %files may come after them.
    let files = if spec.contains("%files") { "" } else { "%files\n" };
    let text = format!(
        "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: A package of the site\nLicense: MIT\nBuildArch: noarch\n{spec}\n{files}"
    );
    std::fs::write(
        &file,
        if spec.contains("%description") { text } else { text.replace("%files", "%description\nOf the site.\n%files") },
    )
    .unwrap();
    std::fs::create_dir_all(directory).unwrap();
    let ran = Command::new("rpmbuild")
        .args(["-bb", "--quiet", "--define", &format!("_topdir {}", scratch.path().display())])
        .args([
            "--define",
            &format!("_rpmdir {}", directory.display()),
            "--define",
            "_build_name_fmt %{NAME}-%{VERSION}.rpm",
        ])
        .env("SOURCE_DATE_EPOCH", "1748736000")
        .arg(&file)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    directory.join(format!("{name}-{version}.rpm"))
}

/// A [[repo]] of the test distribution whose index is checked.
pub fn repository(name: &str) -> String {
    let place = distribution().repository(name);
    format!(
        "[[repo]]\nid = \"{name}\"\nuri = \"file:{}\"\nsigned-by = \"keys/RPM-GPG-KEY-site\"\ncheck-index = true\n",
        place.display()
    )
}

/// Puts the keys of the distribution and of an administrator into a recipe's directory; gives the private one.
pub fn write_keys(space: &Space) -> PathBuf {
    let keys = space.path().join("keys");
    std::fs::create_dir_all(&keys).unwrap();
    std::fs::copy(&distribution().key, keys.join("RPM-GPG-KEY-site")).unwrap();
    let key = space.path().join("admin");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap();
    assert!(made.success());
    std::fs::copy(key.with_extension("pub"), keys.join("admin.pub")).unwrap();
    key
}

/// Lets a recipe's image have an init, without which none is packed: a script, so that no package is needed for it.
pub fn add_init(space: &Space) {
    // What it is told of the release is the image's own.
    let script = "#!/bin/sh\nset -e\ncase $2$IMG_OSVER in *debian*) exit 9;; esac\nmkdir -p \"$1/usr/sbin\"\nprintf '#!/bin/sh\\nexec sleep 1000000\\n' >\"$1/usr/sbin/init\"\n\
                  chmod 755 \"$1/usr/sbin/init\"\n";
    space.write("init.postinstall", script);
    let path = space.path().join("init.postinstall");
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.write("image.toml", &format!("{recipe}\n[postinstall]\nscript = \"init.postinstall\"\n"));
}

/// The node, built once for all tests.
pub fn node() -> &'static Built {
    static NODE: OnceLock<Built> = OnceLock::new();
    NODE.get_or_init(|| {
        shared::built("rpm-node", |space| {
            copy_tree(&project().join("tests/fixtures/rpm-node"), space.path());
            let place = distribution().root.to_str().unwrap();
            space.edit("image.toml", "@DISTRIBUTION@", place);
            write_keys(space);
            let other = space.path().join("otherpkgs");
            copy_tree(&distribution().repository("otherpkgs"), &other);
            std::fs::create_dir(other.join("tools")).unwrap();
            let old = "site-tool-2.0-9.noarch.rpm";
            std::fs::rename(other.join(old), other.join("tools").join(old)).unwrap();
            // What scripts of the second pass see of its #ENV:.
            let colour = "%post\necho \"$SITE_COLOUR\" >/etc/site-colour";
            write_rpm(&space.path().join("site-packages"), "site-colour", "1", colour);
            let text = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
            let site = format!(
                "[[repo]]\nid = \"site\"\nuri = \"file:{}/site-packages\"\ncheck-packages = false\n\n[packages]",
                space.path().display()
            );
            space.write("image.toml", &text.replacen("[packages]", &site, 1));
            space.run(&["build", "--progress", "plain"]).good();
        })
    })
}

/// A copy of a built recipe with its lock; everything is in the store.
pub fn copy_of(built: &Space) -> Space {
    let space = Space::new().with_store(&built.store());
    copy_locked(built.path(), space.path());
    space
}

pub fn information(space: &Space, image: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(space.artefact(image, "build.json")).unwrap()).unwrap()
}

/// All packages that a lock puts into the image, as `rpm -qa` with [`QUERY`] lists them.
pub fn locked(space: &Space) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for pass in lock(space).pass.iter().filter(|pass| !pass.name.starts_with("tools")) {
        all.extend(pass.packages.iter().map(|one| format!("{} {} {}", one.name, one.version, one.architecture)));
        for gone in pass.remove.iter().chain(&pass.remove_after).chain(&pass.remove_with) {
            all.retain(|line| line.split(' ').next() != Some(gone.as_str()));
        }
    }
    all
}

/// Name, version with its epoch, architecture.
pub const QUERY: &str = "rpm -qa --qf '%{NAME} %|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE} %{ARCH}\\n'";

/// The packages of a database, where an epoch of 0 is none.
pub fn listed(said: &str) -> BTreeSet<String> {
    said.lines().map(|line| line.replacen(" 0:", " ", 1)).collect()
}

/// What `rpm -Va` says beyond configuration files, files that may change, and what the image leaves out.
#[track_caller]
pub fn assert_verified(said: &str) {
    let allowed = |line: &&str| {
        let marked = ["  c /etc/", "  g /"].iter().any(|mark| line.contains(mark));
        let left_out = line.starts_with("missing") && ["/usr/share/doc/", "/boot/"].iter().any(|at| line.contains(at));
        // systemd-tmpfiles gives it to the group of the journal.
        marked || left_out || *line == "......G..    /var/log/journal"
    };
    let wrong: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty() && !allowed(line)).collect();
    assert!(wrong.is_empty() && said.contains("/etc/"), "{wrong:#?}\n{said}");
}

/// Boots an image, and waits until the node can be logged into.
pub fn boot(built: &Built, image: &str, mac: &str) -> (Running, Node) {
    let server = FileServer::start(&built.space.artefact(image, ".").canonicalize().unwrap()).unwrap();
    let port = free_port();
    let words = cmdline(built, image, &format!("http://10.0.2.2:{}", server.port()));
    let running = start(built, image, words, |machine| {
        machine.memory_mib = 1536;
        machine.network = vec![Machine::user_network(mac, Some(port))];
    });
    expect(&running, "imgbuild: the image is complete");
    let node = Node::forwarded(port, &built.key);
    node.wait(&running);
    (running, node)
}

#[test]
fn boot_an_rpm_node_is_what_its_recipe_says() {
    let built = node();
    let (running, node) = boot(built, "node", "52:54:00:00:00:18");
    assert!(node.run("cat /etc/os-release").contains("PLATFORM_ID=\"platform:fx1\""));
    let release = node.run("uname -r");
    assert_eq!(release, information(&built.space, "node")["kernel_release"].as_str().unwrap());
    assert_eq!(node.run("cat /etc/site-built"), format!("built for kernel {release}"));
    assert_eq!(node.run("cat /etc/motd"), "A node of RPM packages.");
    assert_eq!(node.run("cat /etc/site-colour"), "blue");
    // The package database is the lock, and the files are the packages'.
    assert_eq!(listed(&node.run(QUERY)), locked(&built.space));
    assert_verified(&node.run("rpm -Va; true"));
    let module = node.run("cat /etc/dnf/modules.d/greeting.module");
    assert!(module.contains("stream=1") && module.contains("state=enabled"), "{module}");
    assert!(node.run("rpm -q hello").starts_with("hello-1.3-"));
    // Folder and removals of otherpkgs; scriptlets and triggers ran.
    assert_eq!(node.run("rpm -q site-tool site-unsigned"), "site-tool-2.0-9.noarch\nsite-unsigned-1.0-1.noarch");
    assert!(node.try_run("rpm -q less").is_none() && node.try_run("rpm -q logrotate").is_none());
    assert_eq!(node.run("cat /var/lib/fixture/scriptlets"), "pre 1\npost 1\nposttrans 1");
    assert_eq!(node.run("cat /var/lib/fixture/triggerin"), "figlet 1 1");
    assert!(node.run("getcap /usr/bin/ping").contains("cap_net_raw"));
    // Modules of the distribution's package, which are compressed.
    assert!(node.run("modinfo -n veth").ends_with(".ko.xz"));
    node.run("modprobe veth");
    let state = node.run("systemctl is-system-running --wait; true");
    assert_eq!(state, "running", "{}\n{}", node.run("systemctl --failed --no-legend"), running.console());
}

#[test]
fn the_rpm_database_of_the_image_is_the_lock_and_nothing_is_altered() {
    let space = &node().space;
    let shell = |script: &str| space.run(&["shell", "--", "/bin/sh", "-c", script]).good().out;
    let listed = listed(&shell(QUERY));
    assert_eq!(listed, locked(space));
    assert!(listed.len() > 150 && listed.iter().any(|line| line.starts_with("kernel-core 6.1.0-")), "{listed:#?}");
    assert_verified(&shell("rpm -Va; true"));
    // No key of a host, no log, no cache, and no machine's identity.
    assert_eq!(
        shell("cat /etc/machine-id; ls /etc/ssh | grep host_; ls /var/cache/dnf /var/log/dnf.log 2>/dev/null; true"),
        ""
    );
}

#[test]
fn an_rpm_image_is_kept_and_each_edit_runs_its_own_stages() {
    assert_eq!(node().space.to_do(), Vec::<String>::new());
    let space = copy_of(&node().space);
    let again = space.run(&["build", "--locked"]).good();
    assert!(again.err.contains("ran nothing"), "{}", again.err);
    space.write("site/motd", &format!("another text of {}\n", std::process::id()));
    assert_eq!(space.to_do(), ["rootfs/sync run", "pack/rootimg depends"]);
    let plan = space.run(&["plan"]).good().out;
    assert!(plan.contains(" site/motd content changed\n"), "{plan}");
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("ran rootfs/sync, pack/rootimg;"), "{}", ran.err);
    space.write("site/motd", "A node of RPM packages.\n");
    space.edit("image.toml", "\"virtio_net\"", "\"virtio_net\", \"veth\"");
    forget_with(&space, "initrd/stateless", &["veth"]);
    assert_eq!(space.to_do(), ["initrd/stateless run"]);
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("ran initrd/stateless;"), "{}", ran.err);
    space.edit("image.toml", ", \"veth\"", "");
    space.edit("node.exlist", "./boot/*", "./usr/share/figlet/*\n./boot/*");
    forget_with(&space, "pack/rootimg", &["figlet"]);
    assert_eq!(space.to_do(), ["pack/rootimg run"]);
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("ran pack/rootimg;"), "{}", ran.err);
    space.edit("node.exlist", "./usr/share/figlet/*\n", "");
    space.edit("node.postinstall", "built for", &format!("made {} for", std::process::id()));
    let to_do = space.to_do();
    assert_eq!(to_do[..3], ["rootfs/postinstall run", "rootfs/gate depends", "rootfs/sync depends"]);
    assert!(to_do.len() == 4 && to_do[3].starts_with("pack/rootimg "), "{to_do:?}");
    space.edit("node.postinstall", &format!("made {} for", std::process::id()), "built for");
    space.edit("node.pkglist", "hello\n", "# a comment\nhello\n");
    // All edits are taken back, but what is published is of the last.
    assert_eq!(space.to_do(), ["publish/artefacts run"]);
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);
    assert_eq!(space.to_do(), Vec::<String>::new());
}

#[test]
fn a_package_more_runs_its_pass_and_taking_it_away_gives_the_first_bytes() {
    let space = copy_of(&node().space);
    space.edit("node.pkglist", "site-base\n", "site-base\nchrony\n");
    let plan = space.run(&["plan"]).good().out;
    assert!(plan.contains("node.pkglist:13 added \"chrony\""), "{plan}");
    let locked = space.run(&["build", "--locked"]);
    assert_eq!(locked.code, 1);
    assert!(locked.err.contains("added \"chrony\""), "{}", locked.err);
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("image.lock: chrony ") && ran.err.contains("ran rootfs/packages-2, "), "{}", ran.err);
    assert!(!ran.err.contains("rootfs/packages-1,") && !ran.err.contains("initrd/stateless"), "{}", ran.err);
    assert_eq!(space.to_do(), Vec::<String>::new());
    space.edit("node.pkglist", "chrony\n", "");
    space.run(&["build"]).good();
    super::offline::assert_same(&node().space, &space, "node");
    let text = |space: &Space| std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    assert_eq!(text(&node().space), text(&space));
}

#[test]
fn a_package_replaces_a_directory_of_an_earlier_pass_as_its_guidelines_say() {
    let space = copy_of(&node().space);
    // Fedora's packaging guidelines, "The %pretrans scriptlet": a script that spins where a rename fails for good.
    let spec = "%description\nOf the site.\n%pretrans -p <lua>\n\
                path = \"/usr/share/figlet\"\n\
                st = posix.stat(path)\n\
                if st and st.type == \"directory\" then\n\
                  status = os.rename(path, path .. \".rpmmoved\")\n\
                  if not status then\n\
                    suffix = 0\n\
                    while not status do\n\
                      suffix = suffix + 1\n\
                      status = os.rename(path .. \".rpmmoved\", path .. \".rpmmoved.\" .. suffix)\n\
                    end\n\
                    os.rename(path, path .. \".rpmmoved\")\n\
                  end\n\
                end\n\
                posix.symlink(\"figlet.rpmmoved\", path)\n";
    write_rpm(&space.path().join("otherpkgs/tools"), "site-pretrans", "1", spec);
    space.edit("node.otherpkgs", "tools/site-tool\n", "tools/site-tool\ntools/site-pretrans\n");
    space.run(&["build"]).good();
    let said = space.run(&[
        "shell",
        "--",
        "/bin/sh",
        "-c",
        "readlink /usr/share/figlet; ls -d /usr/share/figlet/standard.flf /usr/share/figlet.rpmmoved*",
    ]);
    assert_eq!(said.good().out, "figlet.rpmmoved\n/usr/share/figlet.rpmmoved\n/usr/share/figlet/standard.flf\n");
}

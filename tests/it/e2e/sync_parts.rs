//! Packages and scripts of running nodes: `sync --packages` by the node's own apt, dpkg, zypper, dnf and rpm, without a repository;
//! `sync --scripts` by the image's runner; and both under xCAT's name.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base::digest::Sha256;
use build::requested;
use recipe::{Lock, LockedSuite, PinnedPackage, load};

use super::private_archive::Deb;
use super::sync::{Node, make_keys, ssh_config};
use crate::support::{Ran, Space, imgbuild};

struct Site {
    space: Space,
    nodes: Vec<Node>,
}

impl Site {
    /// With what each node has besides the tools of all: files, and programs that it has not.
    fn new(nodes: &[(&str, &str)], image: impl Fn(&str, &Path)) -> Self {
        let space = Space::new();
        let directory = space.path().join("nodes");
        make_keys(&directory);
        let start = |(name, hidden): &(&str, &str)| {
            let files = directory.join(format!("{name}.image"));
            std::fs::create_dir(&files).unwrap();
            image(name, &files);
            std::fs::write(directory.join(format!("{name}.hidden")), hidden).unwrap();
            Node::start(&directory, name, &[])
        };
        let nodes: Vec<Node> = nodes.iter().map(start).collect();
        nodes.iter().for_each(|node| node.wait(&directory));
        space.write("ssh_config", &ssh_config(&directory, &nodes));
        space.write("imgbuild.toml", "images = [\"compute\"]\n");
        Self { space, nodes }
    }

    fn with_ssh(&self, command: &mut Command) -> Ran {
        command.env("IMGBUILD_SSH", format!("ssh -F {}", self.space.path().join("ssh_config").display()));
        command.env("IMGBUILD_STORE", self.space.store());
        command.output().unwrap().into()
    }

    fn sync(&self, words: &[&str]) -> Ran {
        self.with_ssh(imgbuild().arg("-C").arg(self.space.path()).arg("sync").args(words))
    }

    /// Under xCAT's name.
    fn updatenode(&self, words: &[&str]) -> Ran {
        let bin = self.space.path().join("bin");
        if !bin.exists() {
            let ran: Ran = imgbuild()
                .arg("-C")
                .arg(self.space.path())
                .arg("install-xcat-names")
                .arg(&bin)
                .output()
                .unwrap()
                .into();
            ran.good();
        }
        self.with_ssh(
            Command::new(bin.join("updatenode")).args(words).env("NO_COLOR", "1").env_remove("IMGBUILD_WORKSPACE"),
        )
    }

    fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).unwrap()
    }

    /// Writes a lock with packages for the transactions that the recipe asks for now; gives it for further changes.
    fn lock(&self, packages: &[(&str, PinnedPackage)]) {
        let loaded = load(&self.space.path().join("compute"));
        let recipe = loaded.recipe.unwrap_or_else(|| panic!("{:#?}", loaded.findings));
        let mut lock: Lock = requested(&recipe);
        for pass in &mut lock.pass {
            let own = packages.iter().filter(|(name, _)| *name == pass.name);
            pass.packages = own.map(|(_, package)| package.clone()).collect();
        }
        lock.suite = vec![LockedSuite { name: "bookworm".to_owned(), release: Sha256::of(b"x") }];
        let known: Vec<&str> = lock.pass.iter().map(|pass| pass.name.as_str()).collect();
        assert!(packages.iter().all(|(name, _)| known.contains(name)), "{known:?}");
        self.space.write("compute/image.lock", &lock.to_text());
    }
}

#[track_caller]
fn ended(ran: Ran, code: i32) -> Ran {
    assert_eq!(ran.code, code, "{}{}", ran.out, ran.err);
    ran
}

/// A package of a lock; one of otherpkgs has its file there.
fn pinned(name: &str, version: &str, file: Option<&Path>) -> PinnedPackage {
    let bytes = file.map(|file| std::fs::read(file).unwrap()).unwrap_or_default();
    let file = file.map_or_else(|| format!("{name}.deb").into(), |file| file.file_name().unwrap().to_owned());
    PinnedPackage {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: if file.as_encoded_bytes().ends_with(b".rpm") { "noarch" } else { "all" }.to_owned(),
        size: bytes.len() as u64,
        sha256: Sha256::of(&bytes),
        origin: "otherpkgs/.".to_owned(),
        file: file.into_string().unwrap(),
        automatic: name.starts_with("lib"),
        beside: false,
    }
}

const DEBIAN: &str = "[image]\nname = \"compute\"\nrelease = \"bookworm\"\n[packages]\nbase = \"essential\"\n\
    [otherpkgs]\ndir = \"otherpkgs\"\nlists = [\"o.pkglist\"]\n[node]\npostscripts = [\"scripts/own a\"]\ntimeout = 60\n";

/// What the image of a Debian node has: a database with two packages, and the program that runs scripts.
fn debian(name: &str, files: &Path) {
    let put = |path: &str, bytes: &[u8], mode: u32| {
        let path = files.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    let package = |name: &str, version: &str| {
        format!(
            "Package: {name}\nStatus: install ok installed\nVersion: {version}\nArchitecture: all\nMaintainer: x <x@example.invalid>\nDescription: x\n\n"
        )
    };
    put("var/lib/dpkg/status", (package("base", "1") + &package("linux-image", "6.1")).as_bytes(), 0o644);
    for directory in ["info", "updates", "triggers", "parts"] {
        std::fs::create_dir_all(files.join("var/lib/dpkg").join(directory)).unwrap();
    }
    for package in ["base", "linux-image"] {
        put(&format!("var/lib/dpkg/info/{package}.list"), b"/.\n", 0o644);
    }
    let plan = "{\"timeout\": 60, \"on_failure\": \"fail\", \"environment\": {\"OSVER\": \"debian12\", \"UPDATENODE\": \"0\", \"SITE\": \"image\"}}";
    put("usr/libexec/imgbuild/postscripts.json", plan.as_bytes(), 0o600);
    match name {
        "cn3" => put(
            "usr/libexec/imgbuild/imgbuild-init",
            b"#!/bin/sh\necho \"imgbuild: \\`$2\\` is no list of scripts\"; exit 2\n",
            0o755,
        ),
        "cn4" => {}
        _ => put("usr/libexec/imgbuild/imgbuild-init", build::init_program(), 0o755),
    }
}

#[test]
fn nodes_get_the_packages_of_the_lock_by_their_own_apt_and_run_their_scripts_again() {
    let site = Site::new(&[("cn1", ""), ("cn2", "../share/dpkg/cputable\n"), ("cn3", ""), ("cn4", "")], debian);
    site.space.write(
        "nodes.toml",
        "[defaults]\npostscripts = [\"site x\"]\n[group.compute]\nnodes = \"cn[1-4]\"\nimage = \"compute\"\n\
         postbootscripts = [\"late\"]\nvariables = { SITE = \"nodes\" }\n[node.\"cn[1-4]\"]\n",
    );
    site.space.write("compute/image.toml", DEBIAN).write("compute/o.pkglist", "site-tool\n");
    site.space.write("compute/scripts/own", "#!/bin/sh\necho \"own $1\" >>/root/ran\n");
    let own = site.space.path().join("compute/scripts/own");
    std::fs::set_permissions(own, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    packages_come_from_the_store_and_nothing_else_does(&site);
    what_only_a_boot_can_do_is_refused(&site);
    scripts_run_again_as_at_a_start(&site);
    what_goes_wrong_is_said_of_the_script(&site);
}

fn lock_debs(site: &Site, tool: Deb, kernel: &str) {
    let directory = site.space.path().join("compute/otherpkgs");
    let _ = std::fs::remove_dir_all(&directory);
    let library = Deb::new("libsite").of_version("1:1.0");
    let version = tool.version;
    let own = |deb: &Deb| -> PathBuf {
        deb.write(&directory);
        directory.join(format!("{}_1.0_all.deb", deb.name))
    };
    let (tool, library) = (own(&tool), own(&library));
    site.lock(&[
        ("base", pinned("base", "1", None)),
        ("otherpkgs-1", pinned("libsite", "1:1.0", Some(&library))),
        ("otherpkgs-1", pinned("site-tool", version, Some(&tool))),
        ("kernel", pinned("linux-image", kernel, None)),
    ]);
}

fn tool(version: &'static str) -> Deb {
    let script = "[ \"$1\" = configure ] && echo \"configured, umask $(umask)\" >>/root/configured";
    Deb::new("site-tool").of_version(version).fields("Depends: libsite\n").script("postinst", script)
}

fn packages_come_from_the_store_and_nothing_else_does(site: &Site) {
    lock_debs(site, tool("2.0"), "6.1");
    let ran = ended(site.sync(&["cn[1-2]", "--packages", "--plan"]), 0);
    assert!(ran.out.contains("cn[1-2]: would change") && ran.out.contains("site-tool 2.0"), "{}", ran.out);
    assert!(ran.out.contains("not installed") && ran.out.contains("# compute/image.lock: otherpkgs-1"), "{}", ran.out);
    assert!(!site.node("cn1").at("opt/site-tool").exists());
    ended(site.sync(&["cn[1-2]", "--packages", "--check"]), 2);
    let ran = ended(site.sync(&["cn[1-2]", "--packages"]), 0);
    assert!(ran.out.contains("cn[1-2]: changed") && ran.out.contains("libsite 1:1.0"), "{}", ran.out);
    for name in ["cn1", "cn2"] {
        let node = site.node(name);
        assert_eq!(node.read("opt/site-tool"), "site-tool\n");
        let status = node.read("var/lib/dpkg/status");
        assert!(status.contains("Package: libsite\nStatus: install ok installed"), "{status}");
        assert_eq!(node.read("root/configured"), "configured, umask 0022\n");
        assert!(node.left().is_empty(), "{:?}", node.left());
    }
    // apt knows which one came in only because another needs it.
    assert!(site.node("cn1").read("var/lib/apt/extended_states").contains("Package: libsite"));
    ended(site.sync(&["cn[1-2]", "--packages", "--check"]), 0);
    // Another version of the lock, under xCAT's name.
    lock_debs(site, tool("3.0"), "6.1");
    let ran = ended(site.updatenode(&["cn1,cn2", "-S"]), 0);
    assert!(ran.out.contains("site-tool 2.0 -> 3.0") && ran.out.contains("other version"), "{}", ran.out);
    assert!(site.node("cn2").read("var/lib/dpkg/status").contains("Version: 3.0"));
    // And back: the lock counts.
    lock_debs(site, tool("2.0"), "6.1");
    ended(site.sync(&["cn[1-2]", "--packages"]), 0);
    assert!(site.node("cn1").read("var/lib/dpkg/status").contains("Version: 2.0"));
    // What the package manager says is said; a file that is not the lock's goes nowhere.
    lock_debs(site, tool("4.0").script("preinst", "echo no licence >&2; exit 7"), "6.1");
    let ran = ended(site.sync(&["cn[1-2]", "--packages"]), 4);
    assert!(ran.out.contains("the node's package manager exited with 1: dpkg: error processing"), "{}", ran.out);
    assert!(ran.out.contains("| no licence"), "{}", ran.out);
    let file = site.space.path().join("compute/otherpkgs/site-tool_1.0_all.deb");
    lock_debs(site, tool("5.0"), "6.1");
    let mut bytes = std::fs::read(&file).unwrap();
    let text = std::fs::read_to_string(site.space.path().join("compute/image.lock")).unwrap();
    let digest = Sha256::of(&bytes).to_string();
    *bytes.last_mut().unwrap() ^= 1;
    // In the store, where nothing looks at it before it is sent.
    let store = store::Store::existing(&site.space.store()).package(&Sha256::of(&std::fs::read(&file).unwrap()));
    assert!(text.contains(&digest));
    std::fs::create_dir_all(store.parent().unwrap()).unwrap();
    std::fs::write(&store, &bytes).unwrap();
    let ran = ended(site.sync(&["cn1", "--packages"]), 4);
    assert!(ran.out.contains("did not arrive whole"), "{}", ran.out);
    assert!(site.node("cn1").left().is_empty(), "{:?}", site.node("cn1").left());
    std::fs::remove_file(store).unwrap();
}

fn what_only_a_boot_can_do_is_refused(site: &Site) {
    lock_debs(site, tool("6.0"), "6.2");
    let ran = ended(site.sync(&["cn1", "--packages", "--plan"]), 4);
    assert!(ran.out.contains("linux-image 6.1 -> 6.2: only a boot changes a kernel"), "{}", ran.out);
    let ran = ended(site.sync(&["cn1", "--packages"]), 4);
    assert!(
        ran.out.contains("only a boot changes a kernel") && ran.out.contains("kernel: needs a boot"),
        "{}",
        ran.out
    );
    assert!(site.node("cn1").read("var/lib/dpkg/status").contains("Version: 2.0"));
    // A lock that does not answer the recipe, and none: before any node is reached.
    lock_debs(site, tool("6.0"), "6.1");
    site.space.write("compute/o.pkglist", "site-tool\nanother\n");
    let ran = ended(site.sync(&["cn1", "--packages"]), 1);
    assert!(ran.err.contains("image.lock does not answer the recipe of `compute`"), "{}", ran.err);
    site.space.write("compute/o.pkglist", "site-tool\n");
    std::fs::rename(site.space.path().join("compute/image.lock"), site.space.path().join("compute/l")).unwrap();
    let ran = ended(site.sync(&["cn1", "--packages"]), 1);
    assert!(ran.err.contains("no one knows its packages' versions"), "{}", ran.err);
    std::fs::rename(site.space.path().join("compute/l"), site.space.path().join("compute/image.lock")).unwrap();
    // A package that is not in the store, and one that went out of the recipe.
    let directory = site.space.path().join("compute/otherpkgs");
    let base = pinned("base", "1", None);
    let kernel = pinned("linux-image", "6.1", None);
    let gone = PinnedPackage { origin: "bookworm".to_owned(), ..pinned("htop", "3", None) };
    let own = ["libsite", "site-tool"].map(|name| directory.join(format!("{name}_1.0_all.deb")));
    let (library, mut own) = (pinned("libsite", "1:1.0", Some(&own[0])), pinned("site-tool", "2.0", Some(&own[1])));
    site.lock(&[
        ("base", base.clone()),
        ("base", gone),
        ("otherpkgs-1", library.clone()),
        ("otherpkgs-1", own.clone()),
        ("kernel", kernel.clone()),
    ]);
    let ran = ended(site.sync(&["cn1", "--packages"]), 4);
    assert!(ran.out.contains("`htop` is not in the store: run `imgbuild build` first"), "{}", ran.out);
    own.version = "9".to_owned();
    site.lock(&[("base", base), ("otherpkgs-1", own), ("kernel", kernel)]);
    let ran = ended(site.sync(&["cn2", "--packages"]), 4);
    assert!(ran.out.contains("libsite 1:1.0: nothing is removed from running nodes"), "{}", ran.out);
}

fn scripts_run_again_as_at_a_start(site: &Site) {
    let space = &site.space;
    space.write("postscripts/site", "echo \"site $1 $NODE $GROUP $UPDATENODE $OSVER $SITE $PWD\" >>/root/ran\n");
    space.write("postscripts/late", "#!/bin/sh\necho late >>/root/ran\necho to the log\nsleep 600 &\n");
    let ran = ended(site.sync(&["cn[1-2]", "--scripts", "--plan"]), 0);
    assert!(ran.out.contains("own a") && ran.out.contains("would run") && ran.out.contains("late"), "{}", ran.out);
    assert!(!site.node("cn1").at("root/ran").exists());
    let began = Instant::now();
    let ran = ended(site.sync(&["cn[1-2]", "--scripts"]), 0);
    assert!(began.elapsed() < Duration::from_secs(300), "{:?}", began.elapsed());
    assert!(ran.out.contains("it left 1 process running: ended"), "{}", ran.out);
    let node = site.node("cn1");
    let text = node.read("root/ran");
    let lines: Vec<&str> = text.lines().collect();
    let [first, second, third] = lines.as_slice() else { panic!("{text}") };
    assert!(first.starts_with("site x cn1 compute 1 debian12 nodes /var/lib/imgbuild/sync/run."), "{first}");
    assert_eq!((*second, *third), ("own a", "late"));
    assert_eq!(node.read("var/log/imgbuild/postbootscripts/late.log"), "to the log\n");
    assert!(node.left().is_empty(), "{:?}", node.left());
    // Named ones, with arguments of their own, as they are now; under xCAT's name.
    space.write("compute/scripts/own", "#!/bin/sh\necho \"own now $*\" >>/root/ran\n");
    let ran = ended(site.updatenode(&["cn2", "-P", "own b c,late"]), 0);
    assert!(ran.out.contains("own b c") && !ran.out.contains("site"), "{}", ran.out);
    let text = site.node("cn2").read("root/ran");
    assert!(text.ends_with("own now b c\nlate\n"), "{text}");
}

fn what_goes_wrong_is_said_of_the_script(site: &Site) {
    let space = &site.space;
    space.write("postscripts/late", "#!/bin/sh\necho no such card >&2\nexit 3\n");
    let ran = ended(site.sync(&["cn1", "--scripts", "--json"]), 4);
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    crate::schemas::assert_valid("sync", &json);
    let node = &json["nodes"][0];
    assert_eq!(node["problem"], "late: exit status 3: no such card");
    let exits: Vec<_> = node["scripts"].as_array().unwrap().iter().map(|one| one["exit"].clone()).collect();
    assert_eq!(exits, [0, 0, 3]);
    // One that hangs is ended in time, with all that it started.
    space.write("postscripts/late", "#!/bin/sh\necho $$ >/root/hangs\nsleep 300\n");
    let ran = ended(site.sync(&["cn1", "--scripts=late,site", "--timeout", "8"]), 4);
    assert!(
        ran.out.contains("late: not done after") && ran.out.contains("the time for all scripts was over"),
        "{}",
        ran.out
    );
    let process = site.node("cn1").read("root/hangs");
    assert!(!Path::new("/proc").join(process.trim()).exists());
    // Nodes whose image is older, or has no runner; the others go on.
    space.write("postscripts/late", "#!/bin/sh\n");
    let ran = ended(site.sync(&["cn[2-4]", "--scripts"]), 4);
    assert!(ran.out.contains("cn3: failed: the node's image was built by an imgbuild that cannot"), "{}", ran.out);
    assert!(ran.out.contains("cn4: failed: the node has no /usr/libexec/imgbuild/imgbuild-init"), "{}", ran.out);
    assert!(ran.err.contains("1 up to date, 2 failed"), "{}", ran.err);
    // What is wrong here is said before any node is reached.
    let ran = ended(site.sync(&["cn1", "--scripts=nothing"]), 1);
    assert!(ran.err.contains("neither `postscripts/nothing` is there"), "{}", ran.err);
    let recipe = DEBIAN.split("[node]").next().unwrap();
    space.write("compute/image.toml", recipe);
    let ran = ended(site.sync(&["cn1", "--scripts"]), 1);
    assert!(ran.err.contains("its recipe has no `[node]`") && ran.err.contains("image.toml:2"), "{}", ran.err);
}

/// Makes a package with a file below /opt that has its version.
fn rpm(directory: &Path, name: &str, version: &str, tags: &str, scripts: &str) -> PathBuf {
    let scratch = tempfile::tempdir().unwrap();
    let spec = scratch.path().join("a.spec");
    let text = format!(
        "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: x\nLicense: MIT\nBuildArch: noarch\n{tags}%description\nx\n\
         %install\nmkdir -p %{{buildroot}}/opt\necho {version} >%{{buildroot}}/opt/{name}\n{scripts}%files\n/opt/{name}\n"
    );
    std::fs::write(&spec, text).unwrap();
    std::fs::create_dir_all(directory).unwrap();
    let define = |name: &str, value: &str| ["--define".to_owned(), format!("{name} {value}")];
    let ran: Ran = Command::new("rpmbuild")
        .args(["-bb", "--quiet"])
        .args(define("_topdir", scratch.path().to_str().unwrap()))
        .args(define("_rpmdir", directory.to_str().unwrap()))
        .args(define("_build_name_fmt", "%{NAME}.rpm"))
        .arg(&spec)
        .output()
        .unwrap()
        .into();
    ran.good();
    directory.join(format!("{name}.rpm"))
}

const ROCKY: &str = "[image]\nname = \"compute\"\ndistro = \"rocky\"\nrelease = \"9\"\n[[repo]]\nsource = \"distribution\"\n[packages]\nbase = \"minbase\"\n\
    [otherpkgs]\ndir = \"otherpkgs\"\nlists = [\"o.pkglist\"]\n";

#[test]
fn rpm_nodes_get_the_packages_of_the_lock_by_their_own_package_manager() {
    let hidden = [("cn1", ""), ("cn2", "zypper\n"), ("cn3", "zypper\ndnf\nyum\n")];
    let base = tempfile::tempdir().unwrap();
    let base_file = rpm(base.path(), "site-base", "1.0", "Provides: /bin/sh\n", "");
    let site = Site::new(&hidden, |_, files| {
        let database = files.join("var/lib/rpm");
        std::fs::create_dir_all(&database).unwrap();
        std::fs::create_dir_all(files.join("etc/rpm")).unwrap();
        // Debian's rpm has another place for it.
        std::fs::write(files.join("etc/rpm/macros"), "%_dbpath /var/lib/rpm\n").unwrap();
        std::fs::write(files.join("etc/os-release"), "ID=rocky\nVERSION_ID=9\n").unwrap();
        let ran: Ran = Command::new("rpm")
            .arg("--dbpath")
            .arg(&database)
            .args(["--justdb", "-i"])
            .arg(&base_file)
            .output()
            .unwrap()
            .into();
        ran.good();
    });
    site.space.write("nodes.toml", "[group.compute]\nnodes = \"cn[1-3]\"\nimage = \"compute\"\n[node.\"cn[1-3]\"]\n");
    site.space.write("compute/image.toml", ROCKY).write("compute/o.pkglist", "site-tool\n");
    let directory = site.space.path().join("compute/otherpkgs");
    let lock = |version: &str| {
        let _ = std::fs::remove_dir_all(&directory);
        let library = rpm(&directory, "libsite", version, "Epoch: 1\n", "");
        let tool =
            rpm(&directory, "site-tool", version, "Requires: libsite\n", "%post\necho post >>/root/configured\n");
        site.lock(&[
            ("base", pinned("site-base", "0:1.0-1", Some(&base_file))),
            ("otherpkgs-1", pinned("libsite", &format!("1:{version}-1"), Some(&library))),
            ("otherpkgs-1", pinned("site-tool", &format!("0:{version}-1"), Some(&tool))),
        ]);
    };
    lock("2.0");
    let ran = ended(site.sync(&["@compute", "--packages", "--plan"]), 0);
    assert!(ran.out.contains("cn[1-3]: would change") && ran.out.contains("libsite 1:2.0-1"), "{}", ran.out);
    for version in ["2.0", "3.0", "2.0"] {
        lock(version);
        let ran = ended(site.sync(&["@compute", "--packages"]), 0);
        assert!(ran.out.contains("cn[1-3]: changed"), "{}", ran.out);
        for node in &site.nodes {
            assert_eq!(node.read("opt/site-tool"), format!("{version}\n"), "{}", node.name);
            assert!(node.left().is_empty(), "{:?}", node.left());
        }
        ended(site.sync(&["@compute", "--packages", "--check"]), 0);
    }
    assert!(site.node("cn3").read("root/configured").starts_with("post\n"));
}

//! Drivers that are not the kernel's own: built from source and loaded on a node, from packages and update disks of every
//! form, and those that do not fit.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use super::locked_copy as copy;
use super::machine::{Server, cmdline, expect, start};
use super::{Built, shared, tiny};
use crate::support::cluster::chmod;
use crate::support::{Space, copy_locked, copy_tree, project};

fn copy_into(space: &Space) {
    copy_locked(tiny().space.path(), space.path());
}

fn source(space: &Space, name: &str) {
    copy_tree(&project().join("tests/fixtures/driver"), &space.path().join(name));
}

/// An image with a driver that is built from its source.
fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let space = shared::space("driver", |space| {
            copy_into(space);
            source(space, "drivers/site-1.0");
        space.edit("image.toml", "[kernel]", "[kernel]\ndrivers = [\"+site_greeter\"]");
        space.edit("image.toml", "[system]", "[[kernel.build]]\nsource = \"drivers/site-1.0\"\n\n[system]");
        space.edit(
            "tiny.postinstall",
            "grep -q",
            "mount -t sysfs sysfs /sys 2>/dev/null\ntest -d /sys/module/site_greeter && echo \"GREETER IS LOADED\"\ngrep -q",
        );
            space.run(&["build", "--progress", "plain"]).good();
        });
        Built { space, key: tiny().key.clone() }
    })
}

fn release(space: &Space) -> String {
    let text = std::fs::read(space.artefact("tiny", "build.json")).unwrap();
    let info: serde_json::Value = serde_json::from_slice(&text).unwrap();
    info["kernel_release"].as_str().unwrap().to_owned()
}

fn run(program: &str, arguments: &[&str], directory: &Path) {
    let output = Command::new(program).args(arguments).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

fn shell(space: &Space, script: &str) -> String {
    space.run(&["shell", "--", "/bin/sh", "-c", script]).good().out
}

/// A module of the image, taken out of it.
fn module(space: &Space, name: &str) -> Vec<u8> {
    let text = shell(space, &format!("base64 /usr/lib/modules/{}/updates/{name}.ko", release(space)));
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("text"), text.trim()).unwrap();
    run("sh", &["-c", "base64 -d text >bytes"], directory.path());
    std::fs::read(directory.path().join("bytes")).unwrap()
}

/// The same text for the same place in a file: other content of the same length.
fn patched(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    let mut out = bytes.to_vec();
    out[at..at + to.len()].copy_from_slice(to);
    out
}

fn initrd_modules(space: &Space) -> Vec<String> {
    let bytes = std::fs::read(space.artefact("tiny", "initrd-stateless")).unwrap();
    let plain = zstd::decode_all(&bytes[..]).unwrap();
    let mut names: Vec<String> = plain
        .split(|byte| *byte == 0)
        .filter_map(|text| std::str::from_utf8(text).ok())
        .filter(|text| text.contains("lib/modules/") && text.ends_with(".ko"))
        .filter_map(|text| text.rsplit('/').next().map(str::to_owned))
        .collect();
    names.sort();
    names
}

#[test]
fn boot_a_driver_built_from_source_is_loaded_on_a_node() {
    let built = built();
    let directory = built.space.artefact("tiny", ".").canonicalize().unwrap();
    let server = Server::start(&directory, 0, Arc::new(|_: &str, _, bytes| Some(bytes)));
    let url = format!("http://10.0.2.2:{}", server.port);
    let running = start(built, "tiny", cmdline(built, "tiny", &url), |_| {});
    expect(&running, "GREETER IS LOADED");
    // Its own words, with a path that is not a host's.
    assert!(running.console().contains("site_greeter: ./site_greeter.c 42"), "{}", running.console());
}

#[test]
fn an_edit_of_a_drivers_source_runs_its_build_and_what_lies_below() {
    let space = copy();
    copy_locked(built().space.path(), space.path());
    space.run(&["build", "--locked"]).good();
    assert_eq!(space.to_do(), Vec::<String>::new());
    let before = module(&space, "site_base");
    space.edit("drivers/site-1.0/site_base.c", "return 42", "return 43");
    let to_do = space.to_do();
    assert_eq!(to_do.iter().filter(|line| line.ends_with(" run")).collect::<Vec<_>>(), ["kernel/build-1 run"]);
    let above = ["rootfs/tools", "rootfs/base", "rootfs/packages", "rootfs/tools-driver"];
    assert!(!to_do.iter().any(|line| above.iter().any(|id| line.starts_with(&format!("{id} ")))), "{to_do:?}");
    let plan = space.run(&["plan"]).good().out;
    assert!(plan.contains("drivers/site-1.0/site_base.c"), "{plan}");
    let ran = space.run(&["build"]).good();
    for id in ["kernel/build-1", "kernel/payload", "initrd/stateless", "pack/rootimg"] {
        assert!(ran.err.contains(id), "{id}\n{}", ran.err);
    }
    assert!(!ran.err.contains("rootfs/base:"), "{}", ran.err);
    assert_ne!(module(&space, "site_base"), before);
    // A comment changes the key, not the bytes: what lies below is kept.
    space.edit("drivers/site-1.0/site_base.c", "#include", "/* a comment */ #include");
    let ran = space.run(&["build"]).good();
    let said = ran.err.lines().find(|line| line.starts_with("ran ")).unwrap();
    assert_eq!(said.split(';').next().unwrap(), "ran kernel/build-1", "{}", ran.err);
}

#[test]
fn a_source_in_an_archive_and_one_for_dkms_give_the_same_modules() {
    let space = copy();
    source(&space, "drivers/site-1.0");
    run("tar", &["-cJf", "../site.tar.xz", "site-1.0"], &space.path().join("drivers"));
    source(&space, "dkms");
    space.write(
        "dkms/dkms.conf",
        "PACKAGE_NAME=\"site\"\nPACKAGE_VERSION=\"1.0\"\nMAKE[0]=\"make -C ${kernel_source_dir} M=${dkms_tree}/${PACKAGE_NAME}/${PACKAGE_VERSION}/build modules\"\n\
         BUILT_MODULE_NAME[0]=\"site_base\"\nBUILT_MODULE_NAME[1]=\"site_greeter\"\nDEST_MODULE_LOCATION[0]=\"/kernel/drivers/misc\"\nDEST_MODULE_LOCATION[1]=\"/updates/dkms\"\nAUTOINSTALL=\"yes\"\n",
    );
    space.edit("image.toml", "[system]", "[[kernel.build]]\nsource = \"site.tar.xz\"\n\n[system]");
    space.run(&["build", "--until", "kernel"]).good();
    let of_archive = module_layers(&space);
    space.edit("image.toml", "site.tar.xz", "dkms");
    space.run(&["build", "--until", "kernel"]).good();
    let of_dkms = module_layers(&space);
    let digest = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.contains(name))?;
        // Path, kind, mode, owner, group, time, size, digest.
        line.split('\t').nth(7).filter(|digest| digest.len() == 64).map(str::to_owned)
    };
    assert!(of_dkms.contains("updates/site_base.ko") && of_dkms.contains("updates/dkms/site_greeter.ko"), "{of_dkms}");
    for name in ["site_base.ko", "site_greeter.ko"] {
        assert!(digest(&of_archive, name).is_some());
        assert_eq!(digest(&of_archive, name), digest(&of_dkms, name), "{of_archive}\n{of_dkms}");
    }
    // Another source is an action of its own that fails on its own.
    space.edit("dkms/site_base.c", "return 42;", "return fourty_two;");
    let ran = space.run(&["build", "--until", "kernel"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    for text in ["the build of the driver `dkms`", "site_base.c:7:", "fourty_two", "full log:"] {
        assert!(ran.err.contains(text), "{text}\n{}", ran.err);
    }
}

#[test]
fn make_runs_as_many_jobs_as_imgbuild_and_a_driver_cannot_see_how_many() {
    let space = copy();
    source(&space, "dkms");
    let modules = "BUILT_MODULE_NAME[0]=\"site_base\"\nBUILT_MODULE_NAME[1]=\"site_greeter\"\n";
    space.write(
        "dkms/dkms.conf",
        &format!("PACKAGE_NAME=\"site\"\nPACKAGE_VERSION=\"1.0\"\nPRE_BUILD=\"meet\"\n{modules}"),
    );
    // Three jobs that wait for one another, and what make and nproc say.
    space.write(
        "dkms/three.mk",
        "all: a b c\na b c:\n\ttouch here-$@; for i in $$(seq 100); do test -e here-a && test -e here-b && test -e here-c && exit 0; \
         sleep 0.1; done; exit 1\n",
    );
    let meet = "#!/bin/sh\nset -e\nmake -f three.mk\nprintf '#define SEEN \"%s, %s processors\"\\n' \"$MAKEFLAGS\" \"$(nproc)\" >seen.h\n";
    space.write("dkms/meet", meet);
    chmod(&space.path().join("dkms/meet"), 0o755);
    space.edit(
        "dkms/site_base.c",
        "int site_number(void);",
        "#include \"seen.h\"\nMODULE_INFO(seen, SEEN);\nint site_number(void);",
    );
    space.edit("image.toml", "[system]", "[[kernel.build]]\nsource = \"dkms\"\n\n[system]");
    space.run(&["build", "-j", "3"]).good();
    let module = module(&space, "site_base");
    let seen = b"seen=-j --jobserver-auth=19,19, 4 processors\0";
    assert!(module.windows(seen.len()).any(|window| window == seen));
}

#[test]
fn network_a_program_for_a_build_that_nothing_has_has_its_line_and_near_names() {
    let space = copy();
    source(&space, "site");
    space.edit("image.toml", "[system]", "[[kernel.build]]\nsource = \"site\"\ntools = [\"flexx\"]\n\n[system]");
    let ran = space.run(&["build"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    for text in ["image.toml:13:", "no repository has `flexx`", "did you mean flex"] {
        assert!(ran.err.contains(text), "{text}\n{}", ran.err);
    }
}

/// The manifest of the layer that the last build of a driver made.
fn module_layers(space: &Space) -> String {
    let explained = space.run(&["explain", "kernel/build-1"]).good().out;
    let key = explained.lines().find_map(|line| line.strip_prefix("  key ")).unwrap();
    let record = std::fs::read(space.store().join(format!("v1/actions/{key}.json"))).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let layer = record["outputs"]["layer"].as_str().unwrap();
    std::fs::read_to_string(space.store().join("v1/manifests").join(layer)).unwrap()
}

/// A Debian package of some files.
fn deb(to: &Path, name: &str, depends: &str, files: &[(&str, &[u8])]) {
    let root = tempfile::tempdir().unwrap();
    let control = format!(
        "Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody <n@example.invalid>\n{}Description: x\n",
        if depends.is_empty() { String::new() } else { format!("Depends: {depends}\n") }
    );
    let all = files.iter().copied().chain([("DEBIAN/control", control.as_bytes())]);
    for (path, content) in all {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    run(
        "dpkg-deb",
        &["--root-owner-group", "-Zgzip", "--build", root.path().to_str().unwrap(), to.to_str().unwrap()],
        root.path(),
    );
}

fn rpm(to: &Path, arch: &str, files: &[(&str, &[u8])], compression: rpm::CompressionType) {
    let mut builder = rpm::PackageBuilder::new("kmod-site", "1", "GPL", arch, "x");
    builder.using_config(rpm::BuildConfig::v4().compression(compression));
    for (path, content) in files {
        builder.with_file_contents(*content, rpm::FileOptions::new(format!("/{path}"))).unwrap();
    }
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    builder.build().unwrap().write_file(to).unwrap();
}

fn write(path: PathBuf, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn driver_packages_and_update_disks_of_every_form_reach_image_and_initrd() {
    let release = release(&built().space);
    let base = module(&built().space, "site_base");
    let space = copy();
    let at = |name: &str| space.path().join(name);
    let own = |folder: &str, name: &str| format!("lib/modules/{release}/{folder}/{name}.ko");
    let xz = |bytes: &[u8]| {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let cpio = |from: &str, to: &str| {
        let script =
            format!("find . -type f | LC_ALL=C sort | cpio -o -H newc --quiet | gzip -n >{}", at(to).display());
        run("sh", &["-c", &script], &at(from));
    };
    // Packages; one with a module for another kernel that fits this one.
    deb(
        &at("d/site.deb"),
        "site-driver",
        "",
        &[
            (&own("extra", "form_deb"), &base),
            ("etc/modprobe.d/site.conf", b"options form_deb x=1\n"),
            ("lib/firmware/site/fw.bin", b"firmware"),
            ("usr/bin/site-tool", b"a program"),
        ],
    );
    rpm(
        &at("d/site.rpm"),
        "x86_64",
        &[
            (&format!("{}.xz", own("extra", "form_rpm")), &xz(&base)),
            ("lib/modules/5.0.0-1-other/extra/deep/form_weak.ko", &with_release(&base, &release)),
        ],
        rpm::CompressionType::Xz,
    );
    // A disk of Red Hat's newer form, as an ISO; its package for another machine is not looked at.
    write(at("iso/rhdd3"), b"Driver Update Disk version 3\n");
    rpm(&at("iso/rpms/x86_64/a.rpm"), "x86_64", &[(&own("updates", "form_rhdd3"), &base)], rpm::CompressionType::Zstd);
    rpm(&at("iso/rpms/ppc64le/a.rpm"), "ppc64le", &[(&own("updates", "not"), &base)], rpm::CompressionType::Gzip);
    run("xorriso", &["-as", "mkisofs", "-quiet", "-R", "-o", "../rhdd3.iso", "."], &at("iso"));
    // Red Hat's older form, as a directory.
    write(at(&format!("cgz/{release}/x86_64/form_rhdd.ko")), &base);
    write(at("cgz/1.0.0-none/x86_64/not.ko"), &base);
    write(at("old/rhdd"), b"Site drivers\n");
    write(at("old/modinfo"), b"Version 0\nform_rhdd\n\teth\n\t\"Site card\"\n");
    write(at("old/modules.dep"), b"");
    cpio("cgz", "old/modules.cgz");
    // SUSE's form, as a cpio archive: a package, and a module that only the installer's folder has.
    let suse = "suse/linux/suse/x86_64-sles15";
    write(at(&format!("{suse}/dud.config")), b"UpdateName: site\n");
    write(at(&format!("{suse}/modules/form_suse.ko")), &base);
    write(at(&format!("{suse}/inst-sys/usr/lib/not.ko")), &base);
    rpm(
        &at(&format!("{suse}/install/a.rpm")),
        "x86_64",
        &[(&own("updates", "form_suse_rpm"), &base)],
        rpm::CompressionType::Gzip,
    );
    cpio("suse", "suse.dud");
    // A module by itself, and one of the kernel's own names.
    write(at("loose/form_loose.ko"), &base);
    write(at("loose/README"), b"what this is\n");
    write(at("loose/failover.ko"), &base);
    space.edit(
        "image.toml",
        "[kernel]",
        "[kernel]\nupdates = [\"d/site.deb,RPM:d/site.rpm\", \"Dud:rhdd3.iso\", \"dud:old\", \"suse.dud\", \"loose\"]",
    );
    let said = space.run(&["build"]).good().err.replace("\n  │ ", " ");
    for text in [
        "are in the image, but not in the initrd: failover, form_deb, form_loose,",
        "\"+allupdate\"",
        "`updates/failover.ko` of `loose/failover.ko` is used instead of `kernel/net/core/failover.ko`",
        "`updates/failover.ko` of `loose/failover.ko` lacks symbols that the kernel's own modules may need",
        "`weak-updates/deep/form_weak.ko` of `d/site.rpm` was built for 5.0.0-1-other",
    ] {
        assert!(said.contains(text), "{text}\n{said}");
    }
    let forms = ["deb", "loose", "rhdd", "rhdd3", "rpm", "suse", "suse_rpm", "weak"];
    let dep = shell(
        &space,
        &format!(
            "cut -d: -f1 /lib/modules/{release}/modules.dep; cat /etc/modprobe.d/site.conf /lib/firmware/site/fw.bin; test ! -e /usr/bin/site-tool"
        ),
    );
    for form in forms {
        assert!(dep.contains(&format!("form_{form}.ko")), "{form}\n{dep}");
    }
    assert!(dep.contains("options form_deb x=1\nfirmware") && !dep.contains("not.ko"), "{dep}");
    assert!(!initrd_modules(&space).iter().any(|name| name.starts_with("form_")));
    // allupdate: only the initrd is another one.
    space.edit("image.toml", "[kernel]", "[kernel]\ndrivers = [\"+allupdate\"]");
    assert_eq!(space.to_do(), ["initrd/stateless run"]);
    space.run(&["build"]).good();
    let modules = initrd_modules(&space);
    for form in forms {
        assert!(modules.contains(&format!("form_{form}.ko")), "{form}\n{modules:?}");
    }
}

/// A module as if it were built for another kernel: its vermagic's release is replaced, the rest moves not.
fn with_release(bytes: &[u8], release: &str) -> Vec<u8> {
    let from = format!("vermagic={release}");
    let to = format!("vermagic={:0<width$}", "5.0.0-1-other", width = release.len());
    patched(bytes, from.as_bytes(), to.as_bytes())
}

#[test]
fn a_driver_that_does_not_fit_the_kernel_is_refused_with_module_symbol_and_remedy() {
    let release = release(&built().space);
    let space = copy();
    let greeter = module(&built().space, "site_greeter");
    let base = module(&built().space, "site_base");
    let at = |name: &str| space.path().join(name);
    space.edit("image.toml", "[kernel]", "[kernel]\nupdates = [\"d\"]");
    let fails = |texts: &[&str]| {
        let ran = space.run(&["build", "--until", "kernel"]);
        assert_eq!(ran.code, 4, "{}", ran.err);
        for text in texts {
            assert!(ran.err.contains(text), "{text}\n{}", ran.err);
        }
    };
    // Built for another kernel.
    write(at("d/site_base.ko"), &with_release(&base, &release));
    fails(&[
        "`updates/site_base.ko` of `d/site_base.ko`",
        "it was built for `5.0.0-1-other",
        &release,
        "[[kernel.build]]",
    ]);
    // Needs a symbol that nothing has: the module that gives it is missing.
    std::fs::remove_file(at("d/site_base.ko")).unwrap();
    write(at("d/site_greeter.ko"), &greeter);
    fails(&["updates/site_greeter.ko", "have the symbol `site_number`"]);
    // Another version of a symbol of the kernel itself.
    let name = b"module_layout\0";
    let place = base.windows(name.len()).position(|window| window == name).unwrap() - 8;
    let mut other = base.clone();
    other[place] ^= 1;
    write(at("d/site_base.ko"), &other);
    std::fs::remove_file(at("d/site_greeter.ko")).unwrap();
    fails(&["its symbol `module_layout` has version 0x"]);
    // In a package for another kernel the same: it is not taken for the image's.
    std::fs::remove_file(at("d/site_base.ko")).unwrap();
    deb(
        &at("d/site.deb"),
        "site-driver",
        "",
        &[("lib/modules/5.0.0-1-other/extra/site_base.ko", &with_release(&other, &release))],
    );
    fails(&["`weak-updates/site_base.ko` of `d/site.deb`", "module_layout"]);
    // What holds no drivers.
    std::fs::remove_file(at("d/site.deb")).unwrap();
    write(at("d/README"), b"nothing\n");
    fails(&["`d` of [kernel] updates", "contains no module"]);
}

#[test]
fn a_script_that_brings_a_module_for_another_kernel_is_stopped() {
    let release = release(&built().space);
    let space = copy();
    write(space.path().join("m/site_base.ko"), &with_release(&module(&built().space, "site_base"), &release));
    space.edit("image.toml", "script = \"tiny.postinstall\"", "script = \"tiny.postinstall\"\ninputs = [\"m/*\"]");
    space.edit("image.toml", "[exclude]", "[initrd]\nmodules_from = \"rootfs\"\n\n[exclude]");
    space.edit(
        "tiny.postinstall",
        "set -e\n",
        "set -e\nmkdir -p $1/usr/lib/modules/$IMG_KERNELVERSION/extra\ncp m/site_base.ko $1/usr/lib/modules/$IMG_KERNELVERSION/extra/\n",
    );
    let ran = space.run(&["build"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("`extra/site_base.ko` of `the image`: it was built for `5.0.0-1-other"), "{}", ran.err);
}

/// A package that brings a kernel, by its looks; as on RHEL without a file in /boot where `boot` is false.
fn kernel(to: &Path, release: &str, boot: bool) {
    let image = if boot { format!("boot/vmlinuz-{release}") } else { format!("lib/modules/{release}/vmlinuz") };
    let order = format!("lib/modules/{release}/modules.order");
    deb(to, &format!("linux-image-{release}"), "", &[(&image, b"a kernel"), (&order, b"")]);
}

#[test]
fn network_kernels_that_dependencies_bring_are_listed_by_version() {
    let space = copy();
    let dir = space.path().join("other");
    kernel(&dir.join("k9.deb"), "6.1.0-9-site", true);
    kernel(&dir.join("k100.deb"), "6.1.0-100-site", true);
    deb(&dir.join("app.deb"), "site-app", "linux-image-6.1.0-100-site, linux-image-6.1.0-9-site", &[("opt/app", b"x")]);
    space.edit("image.toml", "[kernel]", "[otherpkgs]\ndir = \"other\"\ninstall = [\"site-app\"]\n\n[kernel]");
    let ran = space.run(&["build"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("the packages provide 3 kernels: 6.1.0-9-site, 6.1.0-"), "{}", ran.err);
    assert!(ran.err.contains(", 6.1.0-100-site") && ran.err.contains("[kernel] version = \""), "{}", ran.err);
    space.edit("image.toml", "[kernel]", "[kernel]\nversion = \"6.1.0-100\"");
    let ran = space.run(&["build"]);
    assert!(ran.err.contains("the packages provide no kernel `6.1.0-100`"), "{}", ran.err);
    space.edit("image.toml", "\"6.1.0-100\"", "\"6.1.0-100-site\"");
    space.run(&["build"]).good();
    assert_eq!(release(&space), "6.1.0-100-site");
}

#[test]
fn network_a_directory_of_kernels_goes_before_the_archives() {
    let space = copy();
    kernel(&space.path().join("kernels/a/k9.deb"), "6.1.0-9-site", false);
    kernel(&space.path().join("kernels/b/k100.deb"), "6.1.0-100-site", true);
    space.edit("image.toml", "package = \"linux-image-cloud-amd64\"", "dir = \"kernels\"");
    let ran = space.run(&["build"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("`kernels` has 2 kernels: 6.1.0-9-site, 6.1.0-100-site"), "{}", ran.err);
    assert!(ran.err.contains("[kernel] version = \"6.1.0-100-site\""), "{}", ran.err);
    space.edit("image.toml", "dir = \"kernels\"", "dir = \"kernels\"\nversion = \"6.1.0-9-site\"");
    space.run(&["build"]).good();
    assert_eq!(release(&space), "6.1.0-9-site");
    let shown = shell(&space, "dpkg-query -W -f '${Package}\\n' 'linux-image*'");
    assert_eq!(shown.trim(), "linux-image-6.1.0-9-site");
    assert_eq!(space.to_do(), Vec::<String>::new());
    // A package beside it that changes makes the lock stale, and nothing else.
    kernel(&space.path().join("kernels/b/k100.deb"), "6.1.0-101-site", true);
    let plan = space.run(&["plan"]).good().out;
    assert!(plan.contains("kernels"), "{plan}");
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);
}

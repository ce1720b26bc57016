//! Drivers for kernels of RPM packages: built from source in a tools root of that distribution, out of a directory of kernels,
//! and from driver update disks that hold the distribution's own driver packages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use archive::{MemberKind, read_cpio};

use super::compute::lock;
use super::kills::forget_with;
use super::rpm_distro::distribution;
use super::rpm_node::{add_init, copy_of, repository, write_keys};
use super::{shared, store};
use crate::support::{Space, collected, copy_tree, project};

/// An image with few packages, whose initrd may be built: nothing here boots.
fn few(distro: &str, kernel: &str) -> Space {
    let space = Space::new().with_store(&store());
    write_few(&space, distro, kernel);
    space
}

fn write_few(space: &Space, distro: &str, kernel: &str) {
    write_keys(space);
    let exclude = "exclude = [\"kernel\", \"kernel-core\", \"kernel-modules*\", \"kernel-devel\"]\n";
    let repositories = match distro {
        "opensuse" => format!("{}{exclude}\n{}", repository("distro"), repository("suse")),
        _ => repository("distro"),
    };
    space.write("few.pkglist", "bash\n");
    space.write(
        "image.toml",
        &format!(
            "[image]\nname = \"few\"\ndistro = \"{distro}\"\nrelease = \"1\"\n\n{repositories}\n[packages]\n\
             lists = [\"few.pkglist\"]\n\n[kernel]\n{kernel}\n[system]\nauthorized_keys = [\"keys/admin.pub\"]\n"
        ),
    );
    add_init(space);
}

/// What a package of the test distribution is called, whatever its version.
fn package(repository: &str, start: &str) -> PathBuf {
    let all = std::fs::read_dir(distribution().repository(repository).join("Packages")).unwrap();
    let mut found: Vec<PathBuf> = all
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(start))
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| panic!("{start}"))
}

/// The releases of the two kernels, the older one first.
fn releases() -> [String; 2] {
    let of = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        format!("{}-cloud-amd64", name.strip_prefix("kernel-core-").unwrap().split(".fx1").next().unwrap())
    };
    let all = std::fs::read_dir(distribution().repository("distro").join("Packages")).unwrap();
    let all = all.map(|entry| entry.unwrap().path());
    let mut found: Vec<String> =
        all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("kernel-core-")).map(of).collect();
    found.sort();
    found.try_into().unwrap()
}

fn run(program: &str, arguments: &[&str], directory: &Path) -> String {
    let output = Command::new(program).args(arguments).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The modules of the initrd, by their paths below /lib/modules.
fn modules(space: &Space) -> BTreeMap<String, Vec<u8>> {
    let packed = std::fs::read(space.artefact("few", "initrd-stateless")).unwrap();
    let plain = zstd::decode_all(&packed[..]).unwrap();
    let mut found = BTreeMap::new();
    read_cpio(&mut &plain[..], &mut |member| {
        let Some((_, below)) = member.path.split_once("lib/modules/") else { return Ok(()) };
        if let MemberKind::File(content) = member.kind {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
            found.insert(below.to_owned(), bytes);
        }
        Ok(())
    })
    .unwrap();
    found
}

fn module(space: &Space, name: &str) -> Option<(String, Vec<u8>)> {
    let end = format!("/{name}.ko");
    modules(space).into_iter().find(|(path, _)| path.ends_with(&end))
}

/// The CRC that a module has for a symbol: `struct modversion_info` has it before the name.
fn crc(module: &[u8], symbol: &str) -> u32 {
    let name = format!("{symbol}\0");
    let at = module.windows(name.len()).position(|window| window == name.as_bytes()).unwrap() - 8;
    u32::from_le_bytes(module[at..at + 4].try_into().unwrap())
}

/// A file of a package.
fn file_of(package: &Path, path: &str) -> Vec<u8> {
    let place = tempfile::tempdir().unwrap();
    let script = format!("rpm2cpio {} | cpio -id --quiet --no-absolute-filenames '*{path}'", package.display());
    run("sh", &["-c", &script], place.path());
    let found = walkdir::WalkDir::new(place.path()).into_iter().map(|entry| entry.unwrap());
    let found: Vec<PathBuf> = found.filter(|entry| entry.file_type().is_file()).map(|one| one.into_path()).collect();
    let [found] = found.as_slice() else { panic!("{path}: {found:?}") };
    std::fs::read(found).unwrap()
}

/// The lines of a build that say what ran.
fn ran(said: &str) -> String {
    said.lines().find(|line| line.starts_with("ran ")).unwrap_or_default().to_owned()
}

#[test]
fn a_driver_is_built_from_source_for_an_rpm_kernel_and_is_an_action_of_its_own() {
    let [_, release] = releases();
    let space = few(
        "rocky",
        "package = \"kernel-core\"\ndrivers = [\"site_greeter\"]\n\n[[kernel.build]]\nsource = \"site-1.0\"\n",
    );
    copy_tree(&project().join("tests/fixtures/driver"), &space.path().join("site-1.0"));
    space.run(&["build"]).good();
    let pass = lock(&space).pass("tools-driver").unwrap().clone();
    // What the version of the package would give is another text.
    assert_eq!(pass.kernel_releases, [release.as_str()]);
    let headers = pass.packages.iter().find(|one| one.name == "kernel-devel").unwrap();
    assert!(release.starts_with(headers.version.strip_suffix(".fx1").unwrap()), "{headers:?}");
    assert!(pass.packages.iter().any(|one| one.name == "gcc"));
    let (path, greeter) = module(&space, "site_greeter").unwrap();
    assert_eq!(path, format!("{release}/updates/site_greeter.ko"));
    let vermagic = format!("vermagic={release} SMP ");
    assert!(greeter.windows(vermagic.len()).any(|window| window == vermagic.as_bytes()));
    let symvers = file_of(&package("distro", &format!("kernel-devel-{}", headers.version)), "/Module.symvers");
    let symvers = String::from_utf8(symvers).unwrap();
    for symbol in ["module_layout", "_printk"] {
        let line = symvers.lines().find(|line| line.split('\t').nth(1) == Some(symbol)).unwrap();
        let known = u32::from_str_radix(line.split('\t').next().unwrap().trim_start_matches("0x"), 16).unwrap();
        assert_eq!(crc(&greeter, symbol), known, "{symbol}");
    }
    // No compiler and no headers get into the image.
    let script = "test -e /usr/bin/bash && test ! -e /usr/bin/gcc && test ! -e /usr/src/kernels";
    space.run(&["shell", "--", "/bin/sh", "-c", script]).good();
    assert_eq!(space.to_do(), Vec::<String>::new());
    // Another list: the driver is kept, and what it is made of too.
    space.write("few.pkglist", "bash\nhello\n");
    forget_with(&space, "rootfs/packages-1", &["package hello:", "!package systemd:"]);
    let said = ran(&space.run(&["build"]).good().err);
    assert!(said.contains("rootfs/packages-1") && !said.contains("kernel/build") && !said.contains("tools"), "{said}");
    // Its source: the build, and what uses the module.
    space.edit("site-1.0/site_base.c", "return 42", &format!("return {}", 43 + std::process::id()));
    let to_do = space.to_do();
    assert_eq!(to_do.iter().filter(|line| line.ends_with(" run")).collect::<Vec<_>>(), ["kernel/build-1 run"]);
    let said = ran(&space.run(&["build"]).good().err);
    assert!(said.contains("kernel/build-1, kernel/payload, "), "{said}");
    assert!(!said.contains("packages") && !said.contains("tools"), "{said}");
    // A source for dkms, where the same files give the same module.
    let (_, before) = module(&space, "site_greeter").unwrap();
    copy_tree(&space.path().join("site-1.0"), &space.path().join("dkms"));
    space.write(
        "dkms/dkms.conf",
        "PACKAGE_NAME=\"site\"\nPACKAGE_VERSION=\"1.0\"\nMAKE[0]=\"make -C ${kernel_source_dir} M=${dkms_tree}/${PACKAGE_NAME}/${PACKAGE_VERSION}/build modules\"\n\
         BUILT_MODULE_NAME[0]=\"site_base\"\nBUILT_MODULE_NAME[1]=\"site_greeter\"\nDEST_MODULE_LOCATION[0]=\"/extra\"\nDEST_MODULE_LOCATION[1]=\"/updates/dkms\"\nAUTOINSTALL=\"yes\"\n",
    );
    space.edit("image.toml", "\"site-1.0\"", "\"dkms\"");
    space.run(&["build"]).good();
    let (path, after) = module(&space, "site_greeter").unwrap();
    assert_eq!(path, format!("{release}/updates/dkms/site_greeter.ko"));
    assert!(before == after);
    assert_eq!(module(&space, "site_base").unwrap().0, format!("{release}/extra/site_base.ko"));
}

#[test]
fn headers_of_a_kernel_whose_release_no_provide_tells_are_found_by_their_files() {
    let [_, release] = releases();
    let space = few("opensuse", "package = \"kernel-default\"\n\n[[kernel.build]]\nsource = \"site-1.0\"\n");
    copy_tree(&project().join("tests/fixtures/driver"), &space.path().join("site-1.0"));
    forget_with(&space, "kernel/build-1", &["opensuse"]);
    let said = space.run(&["build", "--until", "kernel"]).good().err;
    assert!(ran(&said).contains("kernel/build-1"), "{said}");
    let pass = lock(&space).pass("tools-driver").unwrap().clone();
    assert_eq!(pass.kernel_releases, [release.as_str()]);
    let names: Vec<&str> = pass.packages.iter().map(|one| one.name.as_str()).collect();
    assert!(names.contains(&"kernel-default-devel") && names.contains(&"kernel-devel"), "{names:?}");
    assert!(!pass.packages.iter().any(|one| one.name.starts_with("kernel") && release.starts_with(&one.version)));
}

/// A package that brings a kernel by its looks, as Red Hat names such packages.
fn kernel(to: &Path, evr: &str) {
    let (version, rest) = evr.split_once('-').unwrap();
    let mut builder = rpm::PackageBuilder::new("kernel-core", version, "GPL", "x86_64", "A kernel");
    builder.release(rest);
    let release = format!("{evr}.x86_64");
    let path = format!("/lib/modules/{release}/vmlinuz");
    builder.with_file_contents("a kernel", rpm::FileOptions::new(path)).unwrap();
    std::fs::create_dir_all(to).unwrap();
    builder.build().unwrap().write_file(to.join(format!("kernel-core-{evr}.x86_64.rpm"))).unwrap();
}

#[test]
fn a_directory_of_rpm_kernels_gives_one_kernel_or_a_list_in_rpms_order() {
    let [old, new] = releases();
    let space = few("rocky", "dir = \"kernels\"\n");
    let dir = space.path().join("kernels");
    std::fs::create_dir(&dir).unwrap();
    let take = |release: &str| {
        let version = release.strip_suffix("-cloud-amd64").unwrap();
        for name in ["kernel-core", "kernel-modules"] {
            let package = package("distro", &format!("{name}-{version}.fx1"));
            std::fs::copy(&package, dir.join(package.file_name().unwrap())).unwrap();
        }
    };
    // One, older than the repository's, and in parts.
    take(&old);
    space.run(&["build", "--until", "kernel"]).good();
    let kernels = |space: &Space| {
        let lock = lock(space);
        let image = lock.pass.iter().filter(|pass| !pass.name.starts_with("tools")).flat_map(|pass| &pass.packages);
        let kernels = image.filter(|one| one.name.starts_with("kernel"));
        let mut found: Vec<String> =
            kernels.map(|one| format!("{} {} {}", one.name, one.version, one.origin)).collect();
        found.sort();
        found
    };
    let expected = |release: &str| {
        let version = release.strip_suffix("-cloud-amd64").unwrap();
        ["kernel-core", "kernel-modules"].map(|name| format!("{name} {version}.fx1 kernels/.")).to_vec()
    };
    assert_eq!(kernels(&space), expected(&old));
    // Several: in rpm's order, where 13.1 is more than el9, and 9 less than 13.
    take(&new);
    for evr in ["5.14.0-427.el9", "5.14.0-427.13.1.el9_4", "5.14.0-427.9.1.el9_4"] {
        kernel(&dir.join("more"), evr);
    }
    let ran = space.run(&["build", "--until", "kernel"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    // Lines are broken at hyphens too.
    let plain = |text: &str| text.replace("│", "").split_whitespace().collect::<String>();
    let said = plain(&ran.err);
    let listed = format!(
        "`kernels` has 5 kernels: 5.14.0-427.el9.x86_64, 5.14.0-427.9.1.el9_4.x86_64, 5.14.0-427.13.1.el9_4.x86_64, {old}, {new}"
    );
    assert!(said.contains(&plain(&listed)) && said.contains(&format!("[kernel]version=\"{new}\"")), "{said}");
    for release in [&new, &old] {
        space.edit("image.toml", "dir = \"kernels\"\n", &format!("dir = \"kernels\"\nversion = \"{release}\"\n"));
        space.run(&["build", "--until", "kernel"]).good();
        assert_eq!(kernels(&space), expected(release));
        space.edit("image.toml", &format!("version = \"{release}\"\n"), "");
    }
    space.edit("image.toml", "dir = \"kernels\"\n", "dir = \"kernels\"\nversion = \"5.14.0-427\"\n");
    let ran = space.run(&["build", "--until", "kernel"]);
    assert!(ran.code == 1 && plain(&ran.err).contains("hasnokernel`5.14.0-427`"), "{}", ran.err);
}

/// An image without drivers of its own, built once.
fn plain() -> &'static Space {
    static PLAIN: OnceLock<Space> = OnceLock::new();
    PLAIN.get_or_init(|| {
        shared::space("rpm-plain", |space| {
            write_few(space, "rocky", "package = \"kernel-core\"\n");
            space.run(&["build"]).good();
        })
    })
}

/// Red Hat's disk of some packages: what `ddiskit` and `mkisofs` make.
fn red_hat_disk(space: &Space, name: &str, packages: &[&Path]) {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("rhdd3"), "Driver Update Disk version 3\n").unwrap();
    let folder = place.path().join("rpms/x86_64");
    std::fs::create_dir_all(&folder).unwrap();
    for package in packages {
        std::fs::copy(package, folder.join(package.file_name().unwrap())).unwrap();
    }
    run("createrepo_c", &["--quiet", "."], &folder);
    let to = space.path().join(name);
    run("xorriso", &["-as", "mkisofs", "-quiet", "-V", "OEMDRV", "-R", "-o", to.to_str().unwrap(), "."], place.path());
}

/// SUSE's disk of some packages: what `mkdud` makes.
fn suse_disk(space: &Space, name: &str, packages: &[&Path]) {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("linux/suse/x86_64-sles15");
    std::fs::create_dir_all(folder.join("install")).unwrap();
    std::fs::write(folder.join("dud.config"), "UpdateName: drivers of the site\nUpdateID: 1\n").unwrap();
    for package in packages {
        std::fs::copy(package, folder.join("install").join(package.file_name().unwrap())).unwrap();
    }
    let to = space.path().join(name);
    let script = format!("find . | LC_ALL=C sort | cpio -o -H newc --quiet | gzip -n >{}", to.display());
    run("sh", &["-c", &script], place.path());
}

#[test]
fn driver_update_disks_with_the_distributions_own_packages_reach_the_initrd_of_their_kernel() {
    let [old, new] = releases();
    let (ifb, dummy) = (package("distro", "driver-ifb-"), package("distro", "kmod-dummy-"));
    let space = copy_of(plain());
    red_hat_disk(&space, "drivers.iso", &[&ifb]);
    suse_disk(&space, "drivers.dud", &[&ifb]);
    let driver = file_of(&ifb, "/ifb.ko");
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    for disk in ["dud:drivers.iso", "drivers.dud"] {
        let kernel = format!("[kernel]\nupdates = [\"{disk}\"]\ndrivers = [\"+ifb\"]\n");
        space.write("image.toml", &recipe.replacen("[kernel]\n", &kernel, 1));
        let said = ran(&space.run(&["build"]).good().err);
        assert!(!said.contains("rootfs/packages"), "{said}");
        let (path, found) = module(&space, "ifb").unwrap();
        assert!(path == format!("{new}/updates/ifb.ko") && found == driver, "{path}");
    }
    // A kmod for the older kernel: into the initrd of that, as it is.
    red_hat_disk(&space, "dummy.iso", &[&dummy]);
    let version = old.strip_suffix("-cloud-amd64").unwrap();
    let kernel = format!("[kernel]\nupdates = [\"dummy.iso\"]\ndrivers = [\"+dummy\"]\nversion = \"{old}\"\n");
    space.write("image.toml", &recipe.replacen("[kernel]\n", &kernel, 1));
    space.run(&["build"]).good();
    let (path, found) = module(&space, "dummy").unwrap();
    assert_eq!(path, format!("{old}/extra/dummy/dummy.ko"));
    assert!(found == file_of(&dummy, "/dummy.ko"));
    let pass = lock(&space).pass("kernel").unwrap().clone();
    assert!(pass.packages.iter().any(|one| one.name == "kernel-core" && one.version == format!("{version}.fx1")));
    // With the newer one it is refused, because what it needs is of another version there; as is a driver whose package
    // has it in the newer one's folder.
    let newer = recipe.replacen("[kernel]\n", &format!("[kernel]\nversion = \"{new}\"\n"), 1);
    let refused = |packages: &[&Path], texts: &[&str]| {
        red_hat_disk(&space, "refused.iso", packages);
        space.write("image.toml", &newer.replacen("[kernel]\n", "[kernel]\nupdates = [\"refused.iso\"]\n", 1));
        let ran = space.run(&["build", "--until", "kernel"]);
        assert_eq!(ran.code, 4, "{}", ran.err);
        let plain = |text: &str| text.replace("│", "").split_whitespace().collect::<String>();
        for text in texts {
            assert!(plain(&ran.err).contains(&plain(text)), "{text}\n{}", ran.err);
        }
    };
    let built_for = format!("built for `{old} SMP");
    refused(
        &[&dummy],
        &["`weak-updates/dummy/dummy.ko` of", "its symbol `__rtnl_link_register` has version 0x", &new, &built_for],
    );
    refused(&[&package("broken", "driver-nlmon-")], &["`updates/nlmon.ko` of", &built_for, &new]);
    let mut other = driver.clone();
    let name = b"module_layout\0";
    other[driver.windows(name.len()).position(|window| window == name).unwrap() - 8] ^= 1;
    let spoiled = kmod(&space, "spoiled", &format!("/lib/modules/{new}/updates/ifb.ko"), &other);
    refused(&[&spoiled], &["`updates/ifb.ko` of", "its symbol `module_layout` has version 0x"]);
    // One for the older kernel that fits the newer one goes into its weak-updates.
    let (from, to) = (format!("vermagic={new} "), format!("vermagic={old} "));
    let at = driver.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    let mut weak = driver;
    weak[at..at + to.len()].copy_from_slice(to.as_bytes());
    let weak_package = kmod(&space, "weak", &format!("/lib/modules/{old}/extra/ifb/ifb.ko"), &weak);
    suse_disk(&space, "weak.dud", &[&weak_package]);
    let kernel = "[kernel]\nupdates = [\"weak.dud\"]\ndrivers = [\"+ifb\"]\n";
    space.write("image.toml", &newer.replacen("[kernel]\n", kernel, 1));
    let said = space.run(&["build"]).good().err.replace("\n  │ ", " ");
    assert!(said.contains("all that it needs is the same in"), "{said}");
    let (path, found) = module(&space, "ifb").unwrap();
    assert!(path == format!("{new}/weak-updates/ifb/ifb.ko") && found == weak, "{path}");
}

fn kmod(space: &Space, name: &str, path: &str, module: &[u8]) -> PathBuf {
    let mut builder = rpm::PackageBuilder::new(&format!("kmod-{name}"), "1", "GPL", "x86_64", "x");
    builder.with_file_contents(module, rpm::FileOptions::new(path)).unwrap();
    let to = space.path().join(format!("kmod-{name}.rpm"));
    builder.build().unwrap().write_file(&to).unwrap();
    to
}

#[test]
fn real_kmods_and_kmps_of_other_kernels_are_refused_with_both_releases() {
    if collected("corpus/rpm").is_none() {
        return;
    }
    let [_, new] = releases();
    let space = copy_of(plain());
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let real = [
        ("el9-zfs-kmod", "kmod-zfs-5.14.0", "5.14.0-115.el9.x86_64"),
        ("opensuse-fedora-rpmlint", "xtables-addons-kmp-default", "4.12.14-lp151.16-default"),
    ];
    for (folder, start, built_for) in real {
        let all = std::fs::read_dir(crate::corpus_rpm::corpus().join("rpms").join(folder)).unwrap();
        let mut all = all.map(|entry| entry.unwrap().path());
        let package = all.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(start)).unwrap();
        std::fs::copy(&package, space.path().join("real.rpm")).unwrap();
        for updates in ["real.rpm", "real.dud"] {
            if updates == "real.dud" {
                suse_disk(&space, updates, &[&package]);
            }
            space.write(
                "image.toml",
                &recipe.replacen("[kernel]\n", &format!("[kernel]\nupdates = [\"{updates}\"]\n"), 1),
            );
            let ran = space.run(&["build", "--until", "kernel"]);
            let said = ran.err.replace('│', "").split_whitespace().collect::<String>();
            assert!(ran.code == 4 && said.contains(built_for) && said.contains(&new), "{updates}: {} {said}", ran.code);
        }
    }
}

//! The RPM distribution that tests use: made once, and judged by Debian's own dnf, rpm, zypper and libsolv.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use base::digest::Sha256;

use super::{shared, store};
use crate::support::{Space, project};

/// A distribution on disk. Its repositories are `distro` (also as `distro-xz` and `distro-zst`, which differ in the
/// metadata alone), `suse`, `broken`; `otherpkgs` is a directory of packages without metadata.
pub struct Distribution {
    pub root: PathBuf,
    /// The public key that signed the metadata and the packages.
    pub key: PathBuf,
}

impl Distribution {
    pub fn repository(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

/// The distribution; made of Debian's packages unless that was done before.
pub fn distribution() -> &'static Distribution {
    static MADE: OnceLock<Distribution> = OnceLock::new();
    MADE.get_or_init(|| {
        let place = store().with_file_name("rpm-distro");
        let name = digest_of(&fixture());
        let root = place.join(&name);
        std::fs::create_dir_all(&place).unwrap();
        let _lock = shared::lock(&place.join("lock"));
        if !root.exists() {
            let debs = debs(&place);
            let _ = std::fs::remove_dir_all(place.join("new"));
            rpm_distro::make(&debs, &place.join("new"), rpm_distro::Cpu::X86_64).unwrap();
            for entry in std::fs::read_dir(&place).unwrap() {
                let path = entry.unwrap().path();
                if path.file_name().is_some_and(|name| name.len() == 16) {
                    std::fs::remove_dir_all(path).unwrap();
                }
            }
            std::fs::rename(place.join("new"), &root).unwrap();
        }
        Distribution { key: root.join("RPM-GPG-KEY-fixture"), root }
    })
}

/// The Debian packages of the distribution for 64-bit Arm, which are installed once, emulated, as any lock is made: no more than a
/// small image and a tools root need.
const ARM: &str = "[image]\nname = \"rpm-distro\"\nrelease = \"bookworm\"\narch = \"aarch64\"\n\n[packages]\nbase = \"essential\"\n\
install = [\"systemd\", \"systemd-sysv\", \"udev\", \"dbus\", \"kmod\", \"login\", \"passwd\", \"less\", \"cpio\", \"zstd\", \"xz-utils\", \"netbase\",\n\
\"hello\", \"dnf\", \"rpm\"]\n\n[kernel]\npackage = \"linux-image-cloud-arm64\"\n\n[boot]\ncmdline = [\"console=ttyAMA0\"]\n";

/// The same for 64-bit Arm: one repository with one kernel, and the public key.
pub fn of_arm() -> Distribution {
    let root = shared::once(&format!("rpm-distro-arm-{}", digest_of(&fixture())), |directory| {
        let debs = directory.join("debs");
        vendor(ARM, &debs);
        let debs = rpm_distro::debs_below(&[&debs]).unwrap();
        rpm_distro::make(&debs, &directory.join("made"), rpm_distro::Cpu::Aarch64).unwrap();
        std::fs::remove_dir_all(directory.join("debs")).unwrap();
    });
    let root = root.join("made");
    Distribution { key: root.join("RPM-GPG-KEY-fixture"), root }
}

fn fixture() -> PathBuf {
    project().join("tests/fixtures/rpm-distro")
}

/// A name for what the files of a directory hold; the README makes no difference.
fn digest_of(directory: &Path) -> String {
    let mut all = Vec::new();
    for entry in walkdir::WalkDir::new(directory).sort_by_file_name() {
        let entry = entry.unwrap();
        if entry.file_type().is_file() && entry.file_name() != "README.md" {
            all.extend_from_slice(entry.path().strip_prefix(directory).unwrap().to_str().unwrap().as_bytes());
            all.extend(std::fs::read(entry.path()).unwrap());
        }
    }
    Sha256::of(&all).to_string()[..16].to_owned()
}

const OTHER_KERNEL: &str = "[image]\nname = \"kernel\"\nrelease = \"bookworm\"\n\n[packages]\nbase = \"essential\"\n\
install = [\"@HEADERS@\"]\n\n[kernel]\npackage = \"@KERNEL@\"\n";

/// Debian's packages that the distribution was made of.
pub fn debs_of() -> Vec<PathBuf> {
    debs(&store().with_file_name("rpm-distro"))
}

/// Debian's packages: those of the recipe, and one more kernel. Downloaded once for each recipe.
fn debs(place: &Path) -> Vec<PathBuf> {
    let recipe = std::fs::read_to_string(fixture().join("image.toml")).unwrap();
    let name = format!("debs-{}", &Sha256::of(format!("{recipe}{OTHER_KERNEL}").as_bytes()).to_string()[..8]);
    let (done, new) = (place.join(&name), place.join("debs"));
    if !done.exists() {
        let _ = std::fs::remove_dir_all(&new);
        std::fs::create_dir_all(&new).unwrap();
        vendor(&recipe, &new.join("packages"));
        let kernel = other_kernel(&new.join("packages"));
        vendor(
            &OTHER_KERNEL.replace("@HEADERS@", &kernel.replace("-image-", "-headers-")).replace("@KERNEL@", &kernel),
            &new.join("kernel"),
        );
        std::fs::rename(&new, &done).unwrap();
    }
    rpm_distro::debs_below(&[&done]).unwrap()
}

pub fn vendor(recipe: &str, to: &Path) {
    let space = Space::new().with_store(&store());
    space.write("image.toml", recipe);
    space.run(&["update", "--progress", "plain"]).good();
    space.run(&["vendor", to.to_str().unwrap()]).good();
}

/// The oldest kernel of the same flavour that the archive has beside the one that was taken.
fn other_kernel(vendored: &Path) -> String {
    let taken: BTreeSet<String> = rpm_distro::debs_below(&[vendored])
        .unwrap()
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.split('_').next().map(String::from))
        .collect();
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(vendored).into_iter().filter_map(Result::ok) {
        if entry.file_name() == "Packages.xz" {
            let mut text = String::new();
            let packed = std::fs::read(entry.path()).unwrap();
            liblzma::read::XzDecoder::new_multi_decoder(packed.as_slice()).read_to_string(&mut text).unwrap();
            found.extend(text.lines().filter_map(|line| {
                let name = line.strip_prefix("Package: ")?;
                let abi = name.strip_prefix("linux-image-6.1.0-")?.strip_suffix("-cloud-amd64")?;
                Some((abi.parse::<u32>().ok()?, name.to_owned()))
            }));
        }
    }
    found.sort();
    found.into_iter().map(|(_, name)| name).find(|name| !taken.contains(name)).expect("a second kernel")
}

/// A scratch directory in which Debian's tools keep an rpm database as RPM distributions do.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(".rpmmacros"), "%_dbpath /var/lib/rpm\n").unwrap();
        Self(directory)
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    /// A command, in a namespace of its own unless the test is root, and without network.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--map-root-user", "--map-auto"]);
        }
        command.args(["--net", "--mount", "--pid", "--fork", "--"]).arg(program);
        command.env("HOME", self.0.path()).env("LC_ALL", "C.UTF-8").env_remove("TMPDIR");
        command
    }

    fn dnf(&self, repositories: &[&str]) -> Command {
        let mut command = self.command("dnf");
        command.arg(format!("--installroot={}", self.root().display()));
        command.args(["-y", "--releasever=1", "--disablerepo=*", "--setopt=reposdir=/nonexistent"]);
        command.args(["--setopt=install_weak_deps=False", "--setopt=module_platform_id=platform:fx1"]);
        command.arg(format!("--setopt=cachedir={}", self.0.path().join("dnf").display()));
        for name in repositories {
            let from = distribution().repository(name);
            command.arg(format!("--repofrompath={name},{}", from.display()));
            command.arg(format!("--setopt={name}.gpgkey=file://{}", distribution().key.display()));
            command.args([format!("--setopt={name}.gpgcheck=1"), format!("--setopt={name}.repo_gpgcheck=1")]);
        }
        command
    }
}

#[track_caller]
fn good(command: &mut Command) -> String {
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{command:?}\n{}", both(&ran));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[track_caller]
fn bad(command: &mut Command) -> String {
    let ran = command.output().unwrap();
    assert!(!ran.status.success(), "{command:?}\n{}", both(&ran));
    both(&ran)
}

fn both(ran: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr))
}

fn packages(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|ending| ending == "rpm"));
    found.sort();
    found
}

#[test]
fn rpm_accepts_every_package_and_its_signature() {
    let home = Home::new();
    let database = home.0.path().join("keys");
    let rpm = || {
        let mut command = Command::new("rpm");
        command.arg("--dbpath").arg(&database);
        command
    };
    std::fs::create_dir(&database).unwrap();
    good(rpm().arg("--import").arg(&distribution().key));
    let mut all = packages(&distribution().repository("otherpkgs"));
    for name in ["distro", "suse", "broken"] {
        all.extend(packages(&distribution().repository(name).join("Packages")));
    }
    let said = good(rpm().arg("-K").args(&all));
    let unsigned: Vec<&str> = said.lines().filter(|line| !line.ends_with(": digests signatures OK")).collect();
    assert_eq!(said.lines().count(), all.len());
    assert!(unsigned.len() == 1 && unsigned[0].ends_with("site-unsigned-1.0-1.noarch.rpm: digests OK"), "{unsigned:?}");
    let mut compressors = BTreeSet::new();
    let said = good(rpm().args(["-qp", "--qf", "%{PAYLOADCOMPRESSOR} %{NAME}\n"]).args(&all));
    compressors.extend(said.lines().filter_map(|line| line.split(' ').next()));
    assert_eq!(compressors, BTreeSet::from(["(none)", "gzip", "lzma", "xz", "zstd"]));
}

#[test]
fn dnf_installs_a_compute_node_with_scriptlets_and_rpm_finds_it_whole() {
    let home = Home::new();
    good(home.dnf(&["distro"]).args(["install", "@minimal-environment", "@compute-tools", "kernel"]));
    // Files in one more transaction, so that triggers have somebody to watch.
    good(home.dnf(&["distro"]).args([
        "install",
        "scriptlets",
        "triggers",
        "weak-app",
        "rich-app",
        "kmod-dummy",
        "weak-modules",
    ]));
    good(home.dnf(&["distro"]).args(["install", "@letters", "payload-lzma", "payload-none"]));
    let root = home.root();
    let rpm = |arguments: &[&str]| {
        let mut command = home.command("rpm");
        command.arg("--root").arg(&root).args(arguments);
        both(&command.output().unwrap())
    };
    let verified = rpm(&["-Va"]);
    let changed: Vec<&str> =
        verified.lines().filter(|line| !line.contains("  c /etc/") && !line.contains(" g /")).collect();
    assert!(changed.is_empty(), "{changed:#?}");
    let names: BTreeSet<String> = rpm(&["-qa", "--qf", "%{NAME}\n"]).lines().map(String::from).collect();
    for name in ["systemd", "openssh-server", "chrony", "kernel-core", "figlet", "hello", "rich-one", "rich-hello"] {
        assert!(names.contains(name), "{name}");
    }
    for name in ["weak-extra", "weak-idea", "weak-supplement", "rich-two", "rich-cap-old", "kernel-modules-extra"] {
        assert!(!names.contains(name), "{name}");
    }
    assert_eq!(good(home.dnf(&["distro"]).args(["-q", "repoquery", "--unsatisfied"])), "");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(read("var/lib/fixture/scriptlets"), "pre 1\npost 1\nposttrans 1\n");
    assert!(root.join("var/lib/fixture-pretrans").is_dir() && root.join("var/lib/fixture-lua").is_dir());
    assert_eq!(read("var/lib/fixture/triggerin"), "figlet 1 1\n");
    assert!(read("var/lib/fixture/filetriggerin").contains("/usr/share/figlet/standard.flf\n"));
    assert!(read("var/lib/fixture/transfiletriggerin").contains("/usr/share/figlet/standard.flf\n"));
    assert!(read("etc/ssl/certs/ca-certificates.crt").contains("BEGIN CERTIFICATE"));
    assert!(root.join("etc/ld.so.cache").exists() && root.join("etc/udev/hwdb.bin").exists());
    assert!(root.join("etc/systemd/system/multi-user.target.wants/ssh.service").is_symlink());
    for user in ["messagebus:x:81:81:", "sshd:x:74:74:", "_chrony:x:", "systemd-network:x:"] {
        assert!(read("etc/passwd").contains(user), "{user}");
    }
    // One kernel, whose modules know of each other, and a driver for another that was linked into it.
    let kernels: Vec<_> = std::fs::read_dir(root.join("usr/lib/modules")).unwrap().map(|e| e.unwrap().path()).collect();
    let kernel = kernels.iter().find(|path| path.join("vmlinuz").exists()).unwrap();
    assert!(kernel.join("modules.dep").exists() && kernel.join("weak-updates/dummy/dummy.ko").is_symlink());
    let version =
        good(home.command("chroot").arg(&root).args(["rpm", "-q", "--qf", "%{VERSION}-%{RELEASE}", "kernel-core"]));
    assert!(version.starts_with("6.1.0-") && version.ends_with(".fx1"), "{version}");
}

/// What dnf would install; the packages are then in the directory `rpms`.
fn closure(home: &Home, repositories: &[&str], wanted: &[&str]) -> BTreeSet<String> {
    let format = "%{name}-%{version}-%{release}.%{arch}";
    let mut command = home.dnf(repositories);
    command.args(["-q", "install", "--downloadonly"]).arg("--downloaddir").arg(home.0.path().join("rpms"));
    good(command.args(wanted));
    let mut query = Command::new("rpm");
    query.args(["-qp", "--nosignature", "--qf", &format!("{format}\n")]).args(packages(&home.0.path().join("rpms")));
    good(&mut query).lines().map(String::from).collect()
}

#[test]
fn a_tools_root_that_is_only_unpacked_runs_its_own_dnf_rpm_zypper_and_dracut() {
    let home = Home::new();
    let wanted = ["dnf", "zypper", "rpm", "dracut", "dracut-network", "kmod", "fixture-release"];
    let count = closure(&home, &["distro"], &wanted).len();
    assert!((100..300).contains(&count), "{count}");
    let root = home.0.path().join("tools");
    std::fs::create_dir_all(&root).unwrap();
    let mut list = packages(&home.0.path().join("rpms"));
    // The one with the links /bin, /lib and their like comes first.
    list.sort_by_key(|path| !path.file_name().unwrap().to_str().unwrap().starts_with("filesystem-"));
    for package in &list {
        let script = format!("rpm2cpio {} | cpio -idmu --quiet --no-absolute-filenames", package.display());
        let said = home.command("sh").args(["-c", &script]).current_dir(&root).output().unwrap();
        assert!(said.status.success(), "{}: {}", package.display(), both(&said));
    }
    for (program, words) in [("dnf", "4.1"), ("rpm", "RPM version 4"), ("zypper", "zypper 1."), ("dracut", "dracut 0")]
    {
        // dracut ends with 1 after its version.
        let said = both(&home.command("chroot").arg(&root).args([program, "--version"]).output().unwrap());
        assert!(said.contains(words), "{program}: {said}");
    }
    let script = "rpm --initdb && rpm -qa && rpm --eval %_dbpath && test -e /var/lib/rpm/rpmdb.sqlite";
    let said = good(home.command("chroot").arg(&root).env_remove("HOME").args(["sh", "-c", script]));
    assert_eq!(said, "/var/lib/rpm\n");
}

#[test]
fn libsolv_finds_every_package_installable_but_those_that_are_not() {
    let home = Home::new();
    let unpacked = |name: &str| {
        let to = home.0.path().join(format!("{name}.solv"));
        let made = Command::new("repo2solv").arg("-F").arg(distribution().repository(name)).output().unwrap();
        assert!(made.status.success(), "{}", both(&made));
        std::fs::write(&to, made.stdout).unwrap();
    };
    let mut lines = "system x86_64 rpm\n".to_owned();
    for name in ["distro", "suse", "broken"] {
        unpacked(name);
        // Relative to the directory of the case.
        lines.push_str(&format!("repo {name} 0 solv {name}.solv\n"));
    }
    let mut jobs = Vec::new();
    for name in ["distro", "suse", "broken"] {
        for package in packages(&distribution().repository(name).join("Packages")) {
            let nevra = package.file_stem().unwrap().to_str().unwrap();
            let query = good(
                Command::new("rpm")
                    .args(["-qp", "--nosignature", "--qf", "%{NAME} = %|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}"])
                    .arg(&package),
            );
            jobs.push((nevra.to_owned(), format!("{lines}job install name {query}\nresult problems <inline>\n")));
        }
    }
    let failing: Vec<String> = jobs
        .iter()
        .filter(|(name, text)| {
            let case = home.0.path().join("case");
            std::fs::write(&case, text).unwrap();
            let ran = Command::new("testsolv").arg("-r").arg(&case).output().unwrap();
            assert!(ran.status.success() && ran.stderr.is_empty(), "{name}: {}", both(&ran));
            !ran.stdout.is_empty()
        })
        .map(|(name, _)| name.clone())
        .collect();
    assert_eq!(failing, ["needs-needs-nothing-1.0-1.noarch", "needs-nothing-1.0-1.noarch"]);
}

#[test]
fn packages_that_fail_fail_in_dnf_as_in_any_distribution() {
    let install = |home: &Home, names: &[&str]| {
        let mut command = home.dnf(&["distro", "broken"]);
        command.arg("install").args(names);
        command
    };
    for (names, words) in [
        (&["needs-needs-nothing"][..], "nothing provides no-such-package >= 2.0 needed by needs-nothing-1.0-1.noarch"),
        (&["enemy-left", "enemy-right"], "conflicts with enemy-right"),
        (&["clash-one", "clash-two"], "file /usr/share/fixture/clash conflicts between attempted installs"),
        (&["bad-pre"], "%prein(bad-pre-1.0-1.noarch) scriptlet failed, exit status 4"),
    ] {
        let said = bad(&mut install(&Home::new(), names));
        assert!(said.contains(words), "{names:?}: {said}");
    }
    // rpm itself takes a %post that fails for a warning, and dnf's exit code says nothing of it.
    let ran = install(&Home::new(), &["bad-post"]).output().unwrap();
    assert!(
        ran.status.success() && both(&ran).contains("%post(bad-post-1.0-1.noarch) scriptlet failed, exit status 3")
    );
}

#[test]
fn a_stream_of_a_module_decides_which_package_is_seen() {
    let home = Home::new();
    let hello = || {
        let said = good(home.dnf(&["distro"]).args(["-q", "repoquery", "--qf", "%{version}", "hello"]));
        said.trim().to_owned()
    };
    assert!(hello().starts_with("2."), "{}", hello());
    good(home.dnf(&["distro"]).args(["module", "enable", "greeting:1"]));
    assert_eq!(hello(), "1.3");
}

#[test]
fn all_forms_of_the_metadata_say_the_same() {
    let primary = |name: &str| {
        let data = distribution().repository(name).join("repodata");
        let mut list: Vec<PathBuf> = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).collect();
        list.retain(|path| path.to_str().unwrap().contains("-primary.xml."));
        let [path] = list.as_slice() else { panic!("{list:?}") };
        let packed = std::fs::read(path).unwrap();
        let mut text = String::new();
        match path.extension().unwrap().to_str().unwrap() {
            "gz" => flate2::read::MultiGzDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap(),
            "xz" => liblzma::read::XzDecoder::new_multi_decoder(packed.as_slice()).read_to_string(&mut text).unwrap(),
            _ => zstd::stream::read::Decoder::new(packed.as_slice()).unwrap().read_to_string(&mut text).unwrap(),
        };
        text
    };
    assert!(primary("distro") == primary("distro-xz") && primary("distro") == primary("distro-zst"));
    for name in ["distro-xz", "distro-zst"] {
        let home = Home::new();
        let said = good(home.dnf(&[name]).args(["-q", "repoquery", "--qf", "%{name}", "kernel*"]));
        assert!(said.contains("kernel-core"), "{name}: {said}");
    }
}

#[test]
fn zypper_installs_from_it() {
    let home = Home::new();
    let (root, repos) = (home.root(), home.0.path().join("repos"));
    std::fs::create_dir_all(&root).unwrap();
    let zypper = |arguments: &[&str]| {
        let mut command = home.command("zypper");
        command.args(["--non-interactive", "--releasever", "1", "--gpg-auto-import-keys", "--root"]).arg(&root);
        command.arg("--reposd-dir").arg(&repos).arg("--cache-dir").arg(home.0.path().join("cache")).args(arguments);
        good(&mut command)
    };
    for name in ["distro", "suse"] {
        zypper(&["addrepo", "--gpgcheck", distribution().repository(name).to_str().unwrap(), name]);
    }
    zypper(&["refresh"]);
    zypper(&["install", "--no-recommends", "bash", "passwd"]);
    let verified = both(&home.command("rpm").arg("--root").arg(&root).arg("-Va").output().unwrap());
    let changed: Vec<&str> = verified.lines().filter(|line| !line.contains("  c /etc/")).collect();
    assert!(changed.is_empty(), "{changed:#?}");
    let said = zypper(&["--no-refresh", "install", "--dry-run", "--no-recommends", "kernel-default", "openssh-server"]);
    assert!(said.contains("kernel-default") && !said.contains("kernel-core"), "{said}");
    // By the package's name: Debian's libsolv is built without SUSE's patterns.
    let said = zypper(&["--no-refresh", "install", "--dry-run", "--no-recommends", "patterns-base-minimal_base"]);
    assert!(said.contains("systemd"), "{said}");
}

#[test]
fn the_same_debian_packages_give_the_same_bytes_but_for_signatures() {
    let wanted = ["base-files_", "base-passwd_", "hello_", "figlet_", "bash_", "libc6_", "linux-image-6.1.0-"];
    distribution();
    let mut debs = debs(&store().with_file_name("rpm-distro"));
    debs.retain(|path| wanted.iter().any(|name| path.file_name().unwrap().to_str().unwrap().starts_with(name)));
    let made = [(); 2].map(|()| {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        rpm_distro::make(&debs, &directory.path().join("out"), rpm_distro::Cpu::X86_64).unwrap();
        directory
    });
    let mut count = 0;
    for name in ["distro", "suse", "broken"] {
        let [one, two] = made.each_ref().map(|made| packages(&made.path().join("out").join(name).join("Packages")));
        assert_eq!(one.len(), two.len());
        for (one, two) in one.iter().zip(&two) {
            assert!(after_signatures(one) == after_signatures(two), "{}", one.display());
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
}

/// A package from its main header on: lead and signature header have lengths of their own.
fn after_signatures(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let end = 96 + 16 + number(96 + 8) * 16 + number(96 + 12);
    bytes[end.next_multiple_of(8)..].to_vec()
}

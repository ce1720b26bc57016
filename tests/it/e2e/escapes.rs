//! Attempts to get out of the sandbox, by all that a package or a script may do, on canaries of this host.

use std::collections::BTreeSet;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::digest::Sha256;

use super::private_archive::{Archive, Deb, Mirror, copy, copy_from};
use super::{store, tiny};
use crate::support::{Ran, Space, copy_locked, copy_tree, project};

/// All attempts of tests/fixtures/escapes/attempts.c; each must have been made, and refused.
const ATTEMPTS: [&str; 47] = [
    "read_canary",
    "write_canary",
    "create_canary",
    "store_record",
    "store_through_init",
    "init_root",
    "init_cwd",
    "init_fds",
    "init_environ",
    "init_program",
    "init_getfd",
    "init_namespaces",
    "init_traced",
    "init_stopped",
    "init_killed",
    "init_memory",
    "ring",
    "ring_by_32",
    "other_families",
    "old_uname",
    "inherited_descriptors",
    "secret_variable",
    "kill_host",
    "host_process",
    "core_pattern",
    "sysrq",
    "core_pattern_uncovered",
    "kernel_memory",
    "kernel_log",
    "disks",
    "makes_nodes",
    "chmod_device",
    "mounts_kernel_trees",
    "cgroup",
    "nested_namespace",
    "file_handle",
    "chroot_and_up",
    "unmounted_root",
    "shown_files",
    "abstract_socket",
    "tcp",
    "interfaces",
    "vsock",
    "keyring",
    "sets_clock",
    "kernel_calls",
    "types",
];

/// The program with the attempts.
fn program() -> Vec<u8> {
    compiled("attempts.c")
}

/// A program linked statically: it runs in any image.
fn compiled(source: &str) -> Vec<u8> {
    let made = tempfile::tempdir().unwrap();
    let to = made.path().join("attempts");
    let source = project().join("tests/fixtures/escapes").join(source);
    let output = Command::new("gcc").args(["-static", "-O1", "-o"]).arg(&to).arg(source).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(to).unwrap()
}

/// Something that can be read and compared later.
fn look(path: &str) -> String {
    let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    let text =
        if path.starts_with("/dev/") { String::new() } else { std::fs::read_to_string(path).unwrap_or_default() };
    format!("{path} {mode:o} {text}")
}

/// What of this host must not change, open to everybody so that only the sandbox protects it.
struct Canaries {
    directory: tempfile::TempDir,
    host: Vec<String>,
    victim: Child,
    connections: Arc<AtomicUsize>,
    name: String,
    port: u16,
}

const WATCHED: [&str; 6] =
    ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/etc/hosts", "/etc/fstab", "/dev/null", "/dev/tty"];

impl Canaries {
    /// Sets them up; the process that is to be killed belongs to the user who builds.
    fn new(user: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let open = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        open(directory.path(), 0o777);
        for name in ["dir", "plain"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
            open(&directory.path().join(name), 0o777);
        }
        for name in ["file", "plain/kept"] {
            std::fs::write(directory.path().join(name), "canary\n").unwrap();
            open(&directory.path().join(name), 0o666);
        }
        let victim = as_user(user, "sleep").arg("600").spawn().unwrap();
        let name = format!("imgbuild-canary-{}-{}", std::process::id(), directory.path().display());
        let connections = Arc::new(AtomicUsize::new(0));
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let (one, two) = (Arc::clone(&connections), Arc::clone(&connections));
        std::thread::spawn(move || listener.incoming().for_each(|_| _ = one.fetch_add(1, Ordering::SeqCst)));
        std::thread::spawn(move || tcp.incoming().for_each(|_| _ = two.fetch_add(1, Ordering::SeqCst)));
        let host = WATCHED.iter().map(|path| look(path)).collect();
        Self { directory, host, victim, connections, name, port }
    }

    fn path(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    /// The command line of the attempts.
    fn arguments(&self, store: &Path) -> String {
        format!("{} {} {} {} {}", self.path(), self.victim.id(), self.name, self.port, store.display())
    }

    /// Fails when anything was touched.
    #[track_caller]
    fn unharmed(&mut self) {
        assert_eq!(std::fs::read_to_string(self.directory.path().join("file")).unwrap(), "canary\n");
        assert_eq!(std::fs::read_to_string(self.directory.path().join("plain/kept")).unwrap(), "canary\n");
        let names = |folder: &str| -> Vec<_> {
            let entries = std::fs::read_dir(self.directory.path().join(folder)).unwrap().flatten();
            entries.map(|entry| entry.file_name()).collect()
        };
        assert_eq!((names("").len(), names("plain").len()), (3, 1), "{:?} {:?}", names(""), names("plain"));
        assert!(names("dir").is_empty(), "{:?}", names("dir"));
        let mode = std::fs::metadata(self.directory.path().join("file")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o666);
        let now: Vec<String> = WATCHED.iter().map(|path| look(path)).collect();
        assert_eq!(now, self.host);
        assert!(self.victim.try_wait().unwrap().is_none(), "the process was killed");
        assert_eq!(self.connections.load(Ordering::SeqCst), 0, "somebody connected");
    }
}

impl Drop for Canaries {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
    }
}

fn as_user(user: Option<&str>, program: &str) -> Command {
    let Some(user) = user else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).arg(program);
    command
}

/// Runs a build with a secret in its environment, in its session keyring, and with a file that it inherits.
fn build(user: Option<&str>, space: &Space, canaries: &Canaries, store: &Path) -> Ran {
    // keyctl 1 joins a session keyring; the key goes into it. Both numbers are x86-64's.
    let script = "syscall(250, 1, 0) >= 0 or die qq(keyctl: $!);\
        my ($t, $d, $p) = (qq(user), qq(imgbuild-canary), qq(secret));\
        syscall(248, $t, $d, $p, 6, -3) > 0 or die qq(add_key: $!);\
        $^F = 20; open(my $file, qq(<), shift) or die; exec @ARGV or die;";
    let mut command = as_user(user, "perl");
    command.args(["-e", script]).arg(canaries.directory.path().join("file")).arg(env!("CARGO_BIN_EXE_imgbuild"));
    command.arg("-C").arg(space.path()).arg("--store").arg(store).args(["build", "--progress", "plain"]);
    command.env("IMGBUILD_CANARY", "canary-secret").env("NO_COLOR", "1").env("COLUMNS", "100");
    command.output().unwrap().into()
}

/// Reads one file of the built image.
fn read(user: Option<&str>, space: &Space, store: &Path, path: &str) -> String {
    let mut command = as_user(user, env!("CARGO_BIN_EXE_imgbuild"));
    command.arg("-C").arg(space.path()).arg("--store").arg(store).args(["shell", "--", "/bin/cat", path]);
    Ran::from(command.output().unwrap()).good().out
}

/// Each attempt was made, and refused.
#[track_caller]
fn all_refused(result: &str) {
    let lines: Vec<Vec<&str>> = result.lines().map(|line| line.split('\t').collect()).collect();
    let names: Vec<&str> = lines.iter().map(|line| line[0]).collect();
    assert_eq!(names, ATTEMPTS, "{result}");
    let bad: Vec<_> = lines.iter().filter(|line| line[1] != "refused").collect();
    assert!(bad.is_empty(), "{bad:?}\n{result}");
}

/// Each call of each ABI is known if and only if it is on the filter's list.
#[track_caller]
fn only_listed_calls(result: &str) {
    let list = std::fs::read_to_string(project().join("crates/sandbox/src/filter/calls.txt")).unwrap();
    let listed = |column: usize| -> BTreeSet<u32> {
        let lines = list.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.split(' ').nth(column)?.parse().ok()).collect()
    };
    let mut abis = Vec::new();
    for line in result.lines() {
        let (abi, numbers) = line.split_once(' ').unwrap_or((line, ""));
        let known: BTreeSet<u32> = numbers.split(' ').filter_map(|number| number.parse().ok()).collect();
        let listed = match abi {
            // Two are the kernel's own for its probes: it asks no filter about them, and ends anyone else who makes them.
            "x86-64" => listed(1).into_iter().chain([335, 336]).collect(),
            "i386" => listed(2),
            _ => BTreeSet::new(),
        };
        let more: Vec<_> = known.difference(&listed).collect();
        assert!(more.is_empty(), "{abi}: {more:?}");
        // Those that this kernel does not have, by its age or its configuration.
        let lacking: Vec<_> = listed.difference(&known).collect();
        assert!(lacking.len() < 25, "{abi}: {lacking:?}");
        abis.push(abi);
    }
    assert_eq!(abis, ["x86-64", "x32", "i386"]);
}

/// Everything of a store that its name or nobody may change.
#[track_caller]
fn store_is_whole(store: &Path, before: &[(PathBuf, Vec<u8>)]) {
    for (path, bytes) in before {
        assert_eq!(&std::fs::read(path).unwrap(), bytes, "{}", path.display());
    }
    for entry in walkdir::WalkDir::new(store.join("v1/packages")).into_iter().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().is_file() && !name.starts_with(".new-") {
            assert_eq!(Sha256::of(&std::fs::read(entry.path()).unwrap()).to_string(), name);
        }
    }
}

fn records(store: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(store.join("v1/actions")).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "json"));
    paths.filter_map(|path| std::fs::read(&path).ok().map(|bytes| (path, bytes))).collect()
}

/// Links that a package plants where imgbuild and its tools write, all to the canaries; dpkg makes them.
fn planted(canaries: &str) -> String {
    let mut script = String::new();
    for place in [
        "etc/fstab",
        "etc/machine-id",
        "etc/hosts",
        "etc/hostname",
        "etc/default/locale",
        "etc/localtime",
        "etc/timezone",
        "usr/sbin/policy-rc.d",
        "var/lib/dbus/machine-id",
        "var/log/planted.log",
        "etc/planted-file",
    ] {
        script.push_str(&format!(
            "mkdir -p \"$(dirname /{place})\"; rm -rf /{place}; ln -s {canaries}/file /{place}; test -h /{place} || exit 71\n"
        ));
    }
    for place in ["root/.ssh", "var/cache/ldconfig", "etc/ssh", "etc/planted-dir"] {
        script.push_str(&format!(
            "mkdir -p \"$(dirname /{place})\"; rm -rf /{place}; ln -s {canaries}/plain /{place}; test -h /{place} || exit 72\n"
        ));
    }
    script
}

/// The recipe of the vectors: package scripts, payload, postinstall and synced files.
fn hostile_recipe(space: &Space, canaries: &Canaries, store: &Path) {
    let program = program();
    let run = |at: &str, to: &str| format!("mkdir -p {to}; {at} {} >{to}/$1.txt 2>&1\n", canaries.arguments(store));
    let mut deb = Deb::new("site-hostile")
        .script("preinst", &format!("set -- preinst\n{}", run("/var/lib/dpkg/tmp.ci/attempts", "/opt")))
        .script("postinst", &format!("set -- postinst\n{}{}", run("/opt/attempts", "/opt"), planted(canaries.path())));
    deb.control_files.push(("attempts".to_owned(), program.clone()));
    deb.files.push(("opt/attempts".to_owned(), program));
    deb.files.push(("opt/calls".to_owned(), compiled("calls.c")));
    deb.write(&space.path().join("otherpkgs"));
    space.write("o.pkglist", "site-hostile\n");
    space.write("s/text", "synced\n");
    space.write(
        "a.synclist",
        "s/text -> /etc/planted-file\ns/text -> /proc/self/root/made\ns/text -> /proc/1/root/made\n",
    );
    space.edit(
        "image.toml",
        "[kernel]",
        "[otherpkgs]\ndir = \"otherpkgs\"\nlists = [\"o.pkglist\"]\n\n[sync]\nlists = [\"a.synclist\"]\n\n[kernel]",
    );
    space.edit("image.toml", "[system]", "[system]\ntimezone = \"Etc/UTC\"\nhostname = \"node\"\nlocale = \"C.UTF-8\"");
    let own = format!(
        "set -e\n/target/opt/attempts {} >/target/opt/postinstall.txt 2>&1\n/target/opt/calls >/target/opt/calls.txt\n\
         rm -rf /target/opt/mnt /target/opt/jail\nhostname canary-host || :\nkill -9 -1 || :\n",
        canaries.arguments(store)
    );
    space.edit("tiny.postinstall", "set -e\n", &own);
}

/// Builds the hostile recipe and looks at everything afterwards.
#[track_caller]
fn attempts_fail(user: Option<&str>, space: &Space, store: &Path) {
    let mut canaries = Canaries::new(user);
    hostile_recipe(space, &canaries, store);
    if let Some(user) = user {
        let owned = Command::new("chown").args(["-R", &format!("{user}:{user}")]).arg(space.path()).status().unwrap();
        assert!(owned.success());
    }
    let before = records(store);
    build(user, space, &canaries, store).good();
    for name in ["preinst", "postinst", "postinstall"] {
        all_refused(&read(user, space, store, &format!("/opt/{name}.txt")));
    }
    only_listed_calls(&read(user, space, store, "/opt/calls.txt"));
    // What imgbuild wrote is in the image, where the links were.
    assert!(read(user, space, store, "/etc/fstab").contains("imgbuild"));
    assert!(read(user, space, store, "/etc/hosts").contains("localhost"));
    assert_eq!(read(user, space, store, "/etc/hostname"), "node\n");
    canaries.unharmed();
    store_is_whole(store, &before);
}

#[test]
fn network_nothing_that_roots_build_runs_reaches_the_host() {
    attempts_fail(None, &copy(), &store());
}

/// A user of this host with a range of ids, for one test.
struct User {
    name: String,
}

impl User {
    fn new() -> Self {
        let name = format!("imgbuild-t{}", std::process::id());
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).arg(&name).output().unwrap();
            assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run("useradd", &["--no-create-home", "--shell", "/bin/sh"]);
        // useradd may give a range by itself; the first that is large enough counts.
        run("usermod", &["--add-subuids", "900000000-900065535", "--add-subgids", "900000000-900065535"]);
        Self { name }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = Command::new("userdel").arg(&self.name).output();
    }
}

#[test]
fn network_nothing_that_a_users_build_runs_reaches_the_host() {
    let user = User::new();
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let own_store = home.path().join("store");
    copy_tree(&store().join("v1/packages"), &own_store.join("v1/packages"));
    let space = Space::new();
    copy_locked(tiny().space.path(), space.path());
    let owner = format!("{0}:{0}", user.name);
    assert!(Command::new("chown").args(["-R", &owner]).arg(home.path()).status().unwrap().success());
    attempts_fail(Some(&user.name), &space, &own_store);
    // What the ids of the range own, their owner cannot remove.
    let _ = std::fs::remove_dir_all(&own_store);
}

/// A recipe without a lock, whose packages come from a mirror that has one hostile essential package more.
fn hostile_base(package: &Deb) -> (Mirror, Space) {
    let mut archive = Archive::of_tiny();
    archive.add(package);
    let mirror = Mirror::start();
    mirror.publish(&archive);
    let space = copy_from(&mirror, &[]);
    std::fs::remove_file(space.path().join("image.lock")).unwrap();
    (mirror, space)
}

#[test]
fn scripts_of_the_base_packages_do_not_reach_the_host_either() {
    let mut canaries = Canaries::new(None);
    let mut package = Deb::new("zz-hostile").fields("Essential: yes\n").script(
        "postinst",
        &format!("/opt/attempts {}\n{}exit 3", canaries.arguments(&store()), planted(canaries.path())),
    );
    package.files.push(("opt/attempts".to_owned(), program()));
    let (_mirror, space) = hostile_base(&package);
    let before = records(&store());
    let ran = build(None, &space, &canaries, &store());
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("the script `postinst` of the package `zz-hostile` failed: exit status 3"), "{}", ran.err);
    let log = super::package_failures::named_file(&ran.err, "full log:");
    let made = |line: &&str| ATTEMPTS.iter().any(|name| line.starts_with(&format!("{name}\t")));
    all_refused(&log.lines().filter(made).collect::<Vec<_>>().join("\n"));
    canaries.unharmed();
    store_is_whole(&store(), &before);
}

#[test]
fn a_base_package_cannot_lead_imgbuild_itself_out_of_the_tree() {
    let mut canaries = Canaries::new(None);
    let inside = canaries.directory.path().join("dir/lib/kept");
    // The link's target is a directory in the image as well, so that nothing replaces the link.
    let mut package = Deb::new("aaa-hostile").fields("Essential: yes\n");
    package.files.push((inside.strip_prefix("/").unwrap().to_str().unwrap().to_owned(), Vec::new()));
    package.links.push(("var".to_owned(), format!("{}/dir", canaries.path())));
    let (_mirror, space) = hostile_base(&package);
    let ran = build(None, &space, &canaries, &store());
    // Where the link comes after directories of that name it stays out of the tree; where it comes first, as in the tools
    // root, it is there, and whatever imgbuild makes below it is refused.
    assert!(ran.code == 0 || ran.err.contains("var/lib/dpkg"), "{}", ran.err);
    let planted = std::fs::read_dir(store().join("v1/trees")).unwrap().flatten().any(|tree| {
        std::fs::read_link(tree.path().join("var")).is_ok_and(|target| target.starts_with(canaries.path()))
    });
    assert!(planted, "no tree has the link: {}", ran.err);
    canaries.unharmed();
}
